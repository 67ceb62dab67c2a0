"""Python in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path


def python(code: str, *options: str, cwd: Path | None = None, **environment: str) -> str:
    """Return what a fresh interpreter prints; its error, if it fails, is that of the test."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
