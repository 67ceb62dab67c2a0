"""``python -m benchmarks NAME [options]``."""

from __future__ import annotations

import importlib
import sys

NAMES = ("race", "report", "figures", "defaults", "scaling", "faults")


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(f"usage: python -m benchmarks {{{','.join(NAMES)}}} [--help]", file=sys.stderr)
        return 2
    return int(importlib.import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
