"""One contender on one problem from one start, in a process of its own: ``python -m benchmarks.worker job.json``."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from benchmarks import contenders, objective
from benchmarks.contenders import Answer, Contender, Problem

WITHIN = 1.001  # of the peer's objective
MOST_ITERATIONS = 10_000
TRAJECTORY = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80, 120, 200)
ONCE = 20.0  # seconds: a peer's call that took longer is not repeated; what is cold about it no longer shows
REPEAT_FOR = 1.0  # seconds of warm calls, at least one and at most MOST_REPEATS
MOST_REPEATS = 7
PAUSE = 0.2  # seconds before a call: the threads of OpenBLAS, which the judge uses, spin for a while when they are done


def save(X: Any, folder: Path) -> None:
    if scipy.sparse.issparse(X):
        for name in ("data", "indices", "indptr"):
            np.save(folder / f"{name}.npy", getattr(X, name))
        np.save(folder / "shape.npy", X.shape)
    else:
        np.save(folder / "X.npy", X)


def load(folder: Path) -> Any:
    if (folder / "X.npy").exists():
        return np.load(folder / "X.npy")
    data, indices, indptr, shape = (np.load(folder / f"{n}.npy") for n in ("data", "indices", "indptr", "shape"))
    return scipy.sparse.csr_array((data, indices, indptr), shape=tuple(shape))


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    result = measure(job)
    Path(job["out"]).write_text(json.dumps(result))
    return 0


def measure(job: dict[str, Any]) -> dict[str, Any]:
    warnings.simplefilter("ignore")  # who ran into max_iter is seen from its iterations
    X = load(Path(job["data"]))
    problem = Problem(X, job["rank"], job["loss"], job["masked"], job["seed"])
    contender = contenders.find(job["contender"])
    W0, H0 = objective.start(X, problem.rank, problem.seed, problem.masked)
    begin = objective.objective(X, W0, H0, problem.loss, problem.masked)
    own_start = job["contender"] in {c.name for c in contenders.DEFAULTS}
    began = time.perf_counter()
    __import__(contender.package)
    if contender.package == "sklearn":
        __import__("sklearn.decomposition")
    result: dict[str, Any] = {
        "import_seconds": time.perf_counter() - began,
        "start": objective.fingerprint(W0, H0),
        "start_objective": begin,
        "load": os.getloadavg()[0],
    }
    call = Call(contender, problem, None if own_start else (W0, H0), job.get("target"), job.get("max_time"))
    if job.get("prime"):  # only fills Numba's cache on disk
        call()
        return result | {"status": "ok"}

    before = resident_mb()
    cold, answer = call()
    first = peak_mb()
    value, wrong = call.judge(answer, begin)
    result |= {"objective": value, "reported": answer.objective, "n_iter": answer.n_iter, "cold": cold}
    if wrong:
        return result | {"status": "failed", "reason": wrong}
    warm: list[float] = []
    quick = 0.2 if job.get("quick") else 1.0
    fits = contender.name == "nmfcore" or cold <= quick * ONCE
    while fits and len(warm) < MOST_REPEATS and (not warm or sum(warm) < quick * REPEAT_FOR):
        reset_peak()
        resident = resident_mb()
        seconds, answer = call()
        result["call_mb"] = peak_mb() - resident
        warm.append(seconds)
        value, wrong = call.judge(answer, begin)
        if wrong:
            return result | {"status": "failed", "reason": f"a later call: {wrong}"}
    result |= {
        "status": "ok",
        "repeats": warm,
        "warm": statistics.median(warm or [cold]),
        "peak_mb": first,
        "resident_mb": before,
    }
    result.setdefault("call_mb", first - before)
    if call.target is not None:
        result["reached"] = bool(value <= WITHIN * call.target * (1 + objective.tolerance(X.dtype)))
    if job.get("trace"):
        result["trajectory"] = trajectory(call, W0, H0, begin, job["trace"])
    return result


class Call:
    """The call that is timed; the factors are copied and judged outside the clock."""

    def __init__(
        self, contender: Contender, problem: Problem, start: Any, target: float | None, max_time: float | None
    ) -> None:
        self.contender, self.problem, self.start, self.target = contender, problem, start, target
        self.limits: dict[str, Any] = {}
        if target is not None:
            self.limits = {"tol": 0.0, "max_iter": MOST_ITERATIONS, "max_time": max_time, "callback": self._reached}

    def _reached(self, state: Any) -> None:
        if state.objective <= WITHIN * self.target:
            raise StopIteration

    def __call__(self, n_iter: int | None = None) -> tuple[float, Answer]:
        W, H = (None, None) if self.start is None else (A.copy() for A in self.start)
        time.sleep(PAUSE)
        began = time.perf_counter()
        answer = self.contender.run(self.problem, W, H, n_iter, **self.limits)
        return time.perf_counter() - began, answer

    def judge(self, answer: Answer, begin: float) -> tuple[float, str]:
        p, shared = self.problem, self.start is not None
        options = {"rank": p.rank, "loss": p.loss, "masked": p.masked, "shared_start": shared}
        return objective.gate(p.X, answer.W, answer.H, answer.objective, begin, **options)


def trajectory(call: Call, W0: Any, H0: Any, begin: float, most: int) -> dict[str, list[float]]:
    """Objective against seconds: from nmfcore's history, from scikit-learn and others by runs of growing length."""
    if call.contender.name == "nmfcore":
        import nmfcore

        p, options = call.problem, {"init": "compressed"}
        if p.masked:
            options["missing_values"] = "unstored"
        if p.loss != objective.FROBENIUS:
            options["loss"] = p.loss
        f = nmfcore.factorize(p.X, p.rank, W=W0, H=H0, **options)
        return {
            "seconds": [0.0, *f.history.seconds.tolist()],
            "objective": [begin, *f.history.objective.tolist()],
        }
    curve: dict[str, list[float]] = {"seconds": [0.0], "objective": [begin]}
    for n in (n for n in TRAJECTORY if call.contender.traced and n <= most):
        seconds, answer = call(n)
        curve["seconds"].append(seconds)
        curve["objective"].append(call.judge(answer, begin)[0])
        if seconds > ONCE:
            break
    return curve


def resident_mb() -> float:
    return _status("VmRSS") or float("nan")


def peak_mb() -> float:
    """This process's own peak. ``ru_maxrss`` would begin at the peak of the parent it was forked from."""
    return _status("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # the peak then is that of the process so far


def _status(key: str) -> float | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(key + ":")), None)


if __name__ == "__main__":
    sys.exit(main())
