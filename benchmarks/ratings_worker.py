"""One contender on one split of ratings, in a process of its own: ``python -m benchmarks.ratings_worker job.json``.

It runs in the interpreter of ``--python`` too, where there may be no nmfcore.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import statistics
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import ratings_contenders
from benchmarks.objective import HeldOut
from benchmarks.worker import load, peak_mb, save

REPEATS, REPEAT_FOR = 7, 3.0  # whole calls of ours to one target: at least two, until they took so many seconds


def write(folder: Path, train: Any, test: tuple[Any, Any, Any], clip: tuple[float, float]) -> None:
    save(train, folder)
    np.savez(folder / "test.npz", users=test[0], items=test[1], ratings=test[2], clip=clip)


def read(folder: Path) -> tuple[Any, HeldOut]:
    train = load(folder)
    with np.load(folder / "test.npz") as file:
        return train, HeldOut(train, (file["users"], file["items"], file["ratings"]), tuple(file["clip"]))


def main() -> int:
    job = json.loads(Path(sys.argv[1]).read_text())
    warnings.simplefilter("ignore")
    result = {"about": about, "peer": peer, "nmfcore": ours, "recommender": recommender}[job["do"]](job)
    Path(job["out"]).write_text(json.dumps(result))
    return 0


def about(job: dict[str, Any]) -> dict[str, Any]:
    """Whether it can be imported here, and its version."""
    contender = ratings_contenders.find(job["contender"])
    try:
        importlib.import_module(contender.package)
    except ModuleNotFoundError as error:
        return {"status": "not installed" if error.name == contender.package else f"not importable: {error}"}
    except Exception as error:  # an extension built for another NumPy raises what it likes
        return {"status": f"not importable: {error}"[:200]}
    try:
        version = importlib.metadata.version(contender.distribution)
    except importlib.metadata.PackageNotFoundError:
        version = "?"
    return {"status": "ok", "version": version, "python": sys.version.split()[0], "numpy": np.__version__}


def peer(job: dict[str, Any]) -> dict[str, Any]:
    """Whole calls of each number of iterations, after a short one that is not counted."""
    train, held_out = read(Path(job["data"]))
    contender = ratings_contenders.find(job["contender"])(train, job["threads"])
    rank, l2, seed = job["rank"], job["l2"], job["seed"]
    contender.fit(rank, l2, 1, seed)
    calls = []
    for n_iter in job["iterations"]:
        began = time.perf_counter()
        fitted = contender.fit(rank, l2, n_iter, seed)
        seconds = time.perf_counter() - began
        rmse, wrong = held_out.judge(rank, *contender.model(fitted))
        if wrong:
            return {"status": "failed", "reason": f"{n_iter} iterations: {wrong}"}
        calls.append({"l2": l2, "n_iter": n_iter, "seconds": seconds, "rmse": rmse})
    return {"status": "ok", "calls": calls, "peak_mb": peak_mb(), "load": os.getloadavg()[0]}


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """Which iterate is the first at each target, found in one run; then whole calls of so many iterations."""
    train, held_out = read(Path(job["data"]))
    contender = ratings_contenders.Nmfcore(train, job["threads"])
    rank, seed, targets = job["rank"], job["seed"], job["targets"]
    began = time.perf_counter()
    contender.fit(rank, 0.0, 1, seed)
    first = time.perf_counter() - began  # with the loading of compiled code
    if not targets:  # only fills Numba's cache on disk
        return {"status": "ok"}
    curve: dict[str, list[float]] = {"seconds": [], "rmse": []}
    aside, began = 0.0, time.perf_counter()

    def follow(state: Any) -> None:
        nonlocal aside
        here = time.perf_counter()
        if state.n_iter > 0:
            curve["seconds"].append(here - began - aside)
            curve["rmse"].append(held_out.rmse(state.W, state.H))
        aside += time.perf_counter() - here

    fitted = contender.fit(rank, 0.0, job["most"], seed, follow)
    rises = np.diff(fitted.history.objective)
    if (rises > 0).any():
        return {"status": "failed", "reason": f"the objective rises in iteration {1 + int(rises.argmax())}"}
    kkt = fitted.history.kkt.tolist()
    curve["kkt"] = kkt[-len(curve["rmse"]) :]
    result: dict[str, Any] = {"status": "ok", "first": first, "curve": curve, "to": {}, "load": os.getloadavg()[0]}
    for name, target in targets.items():
        n_iter = next((k for k, value in enumerate(curve["rmse"], 1) if value <= target), None)
        if n_iter is None:
            result["to"][name] = {"reached": False, "best": min(curve["rmse"])}
            continue
        times: list[float] = []
        while len(times) < 2 or (len(times) < REPEATS and sum(times) < REPEAT_FOR):
            began = time.perf_counter()
            fitted = contender.fit(rank, 0.0, n_iter, seed)
            times.append(time.perf_counter() - began)
        rmse, wrong = held_out.judge(rank, *contender.model(fitted))
        if wrong or rmse > target + 1e-9:  # the same bits again, whatever was recorded before
            return {"status": "failed", "reason": wrong or f"an RMSE of {rmse:.6f}, not {target:.6f}, the second time"}
        result["to"][name] = {
            "reached": True, "n_iter": n_iter, "rmse": rmse, "repeats": times, "seconds": statistics.median(times)
        }  # fmt: skip
    return result | {"peak_mb": peak_mb()}


def recommender(job: dict[str, Any]) -> dict[str, Any]:
    """`nmfcore.Recommender` with these settings, judged by what it predicts."""
    import nmfcore

    train, held_out = read(Path(job["data"]))
    users, items = map(np.arange, train.shape)
    ratings = nmfcore.Ratings(users, items, train.indptr, train.indices, train.data)
    began = time.perf_counter()
    model = nmfcore.Recommender(random_state=job["seed"], **job["settings"]).fit(ratings)
    seconds = time.perf_counter() - began
    predicted = model.predict(held_out.users, held_out.items)
    f = model.factorization_
    if not np.isfinite(predicted).all() or f.W.min() < 0 or f.H.min() < 0:
        return {"status": "failed", "reason": "predictions that are not finite, or negative factors"}
    result = {"status": "ok", "rmse": held_out.score(predicted), "seconds": seconds, "n_iter": f.n_iter}
    return result | {"peak_mb": peak_mb(), "load": os.getloadavg()[0]}


if __name__ == "__main__":
    sys.exit(main())
