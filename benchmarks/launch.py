"""A measurement in a process of its own: which threads it may use, how long it may take, and what came back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
THREAD_VARIABLES = (
    *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"),
    *("VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "NMFCORE_NUM_THREADS"),
)


def environment(threads: int) -> dict[str, str]:
    """This process's, with every library told the same number of threads, and this checkout importable."""
    path = os.environ.get("PYTHONPATH")
    found = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
    found["PYTHONPATH"] = f"{HERE}{os.pathsep}{path}" if path else str(HERE)
    return found


def launch(
    module: str, job: dict[str, Any], folder: Path, env: dict[str, str], timeout: float, python: str = sys.executable
) -> dict[str, Any]:
    """What ``python -m MODULE job.json`` wrote to ``job["out"]``, or how it failed."""
    out = folder / "out.json"
    out.unlink(missing_ok=True)
    (folder / "job.json").write_text(json.dumps(job | {"out": str(out)}))
    command = [python, "-m", module, str(folder / "job.json")]
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return {"status": "failed", "reason": f"still running after {timeout:g} s"}
    except OSError as error:  # an interpreter of --python that is not there
        return {"status": "failed", "reason": str(error)}
    if done.returncode or not out.exists():
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return {"status": "failed", "reason": last[:200]}
    return dict(json.loads(out.read_text()))
