"""How much a test that draws its cases tries: little in the test suite, much in `make fuzz`."""

from __future__ import annotations

import os


def cases(quick: int, long: int) -> int:
    """Return how many cases to draw: ``long`` in ``make fuzz``, else ``quick``."""
    return long if os.environ.get("NMFCORE_FUZZ") == "long" else quick


def seed() -> int:
    """Return the seed of all cases, ``NMFCORE_FUZZ_SEED`` or 0."""
    return int(os.environ.get("NMFCORE_FUZZ_SEED", "0"))
