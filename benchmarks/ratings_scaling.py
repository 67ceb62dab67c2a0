"""Ratings by the million: an iteration, its growth, recommending for many, and a file of them; each in a process.

``python -m benchmarks scaling --only ratings [--size 2e6] [--tmp DIR]``. Sizes are those of issue 4, times SIZE / 1e8:
the growth goes up to SIZE ratings, the one iteration and the recommendations take SIZE / 4, the file has SIZE.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datasets import long_tailed_ratings
from benchmarks.launch import environment, launch
from benchmarks.worker import load, peak_mb, reset_peak, resident_mb, save
from nmfcore._parallel import default_threads

RANK, L2 = 32, 0.06
SIZE = 1e8  # ratings, where everything is done as asked
USERS, ITEMS, RATINGS = 162_541, 59_047, 25e6  # MovieLens-25M's
GROWTH = (0.01, 0.05, 0.25, 1.0)  # of the size
ITERATIONS = 5  # timed, after the first
ASKING, FILE_ITERATIONS = 100_000, 10
MOST_SECONDS = 3600.0
GOALS = {"iteration": 1.5, "exponent": 1.1, "gigabytes": 8.0, "recommend": 60.0}


def shape(ratings: float) -> tuple[int, int]:
    """Of MovieLens-25M, and for other sizes as many ratings a user and items by the square root."""
    scale = ratings / RATINGS
    return round(USERS * scale), max(200, round(ITEMS * math.sqrt(scale)))


def run(size: float = SIZE, folder: str | None = None) -> None:
    with tempfile.TemporaryDirectory(prefix="ratings-", dir=folder) as name:
        growth(size, Path(name))
        recommend(size, Path(name))
        from_file(size, Path(name))


def growth(size: float, folder: Path) -> None:
    print(
        f"{'ratings':>12}{'users x items':>18}{'an iteration':>14}{'MB of X':>9}{'MB added':>10}   r = {RANK}, float32"
    )
    entries, seconds = [], []
    for share in GROWTH:
        X = long_tailed_ratings(*shape(size * share), int(size * share))
        found = child("iterations", X, folder)
        if found["status"] != "ok":
            print(f"{X.nnz:12}  failed: {found['reason']}", flush=True)
            continue
        entries.append(X.nnz)
        seconds.append(found["seconds"])
        megabytes = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 2**20
        goal = f"   goal {GOALS['iteration']:g} s" if share == 0.25 and size == SIZE else ""
        print(f"{X.nnz:12}{'{}x{}'.format(*X.shape):>18}{seconds[-1]:14.4f}{megabytes:9.0f}{found['added_mb']:10.0f}{goal}",
              flush=True)  # fmt: skip
    if len(entries) > 1:
        exponent = np.polyfit(np.log(entries), np.log(seconds), 1)[0]
        print(f"{'':12}seconds grow with ratings to the power {exponent:.3f} (goal at most {GOALS['exponent']:g})")


def recommend(size: float, folder: Path) -> None:
    X = long_tailed_ratings(*shape(size / 4), int(size / 4))
    users = min(X.shape[0], max(1, round(ASKING * size / SIZE)))
    found = child("recommendations", X, folder, users=users)
    said = found.get("reason") or f"{found['seconds']:.2f} s, {found['added_mb']:.0f} MB added"
    print(f"\nrecommend for {users} users of {X.shape[1]} items, n = 10, seen left out: {said} "
          f"(goal {GOALS['recommend']:g} s for {ASKING} users of {ITEMS} items)", flush=True)  # fmt: skip


def from_file(size: float, folder: Path) -> None:
    X = long_tailed_ratings(*shape(size), int(size))
    path = folder / "ratings.csv"
    began = time.perf_counter()
    write_csv(X, path)
    print(
        f"\na file of {X.nnz} ratings: {path.stat().st_size / 1e6:.0f} MB, {time.perf_counter() - began:.0f} s to write"
    )
    del X
    found = child("file", None, folder, path=str(path))
    path.unlink()
    if found["status"] != "ok":
        print(f"failed: {found['reason']}")
        return
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["seconds"].items())
    print(f"{steps}; RMSE {found['rmse']:.4f}; peak {found['peak_mb'] / 1024:.2f} GB of the whole process "
          f"(goal {GOALS['gigabytes']:g} GB for 1e8)", flush=True)  # fmt: skip


def child(do: str, X: Any, folder: Path, **options: Any) -> dict[str, Any]:
    inner = folder / do
    inner.mkdir(exist_ok=True)
    if X is not None:
        save(X, inner)
    job = {"do": do, "data": str(inner), **options}
    try:
        return launch("benchmarks.ratings_scaling", job, inner, environment(default_threads()), MOST_SECONDS)
    finally:
        shutil.rmtree(inner)


def write_csv(X: Any, path: Path, rows: int = 20_000) -> None:
    """``user,item,rating`` with ids from 1, digits by arithmetic: some ten million lines a second."""
    with path.open("wb") as file:
        file.write(b"userId,movieId,rating\n")
        for lo in range(0, X.shape[0], rows):
            part = slice(X.indptr[lo], X.indptr[min(lo + rows, X.shape[0])])
            counts = np.diff(X.indptr[lo : lo + rows + 1])
            users = np.repeat(np.arange(lo + 1, lo + 1 + counts.size), counts)
            columns = [_digits(v.astype(np.int64)) for v in (users, X.indices[part] + 1, X.data[part])]
            ends = (np.full((users.size, 1), ord(c), np.uint8) for c in ",,\n")
            line = np.hstack([*itertools.chain(*zip(columns, ends, strict=True))])
            file.write(line[line > 0].tobytes())


def _digits(values: Any) -> Any:
    """ASCII digits, a row for each number, 0 where it has fewer than the longest."""
    width = len(str(values.max()))
    powers = 10 ** np.arange(width)[::-1]
    digits = (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)
    return np.where(values[:, None] >= powers, digits, np.uint8(0))


def iterations(job: dict[str, Any]) -> dict[str, Any]:
    """Seconds of one iteration of W and H, the median of a few after the first; what a fit adds to X in memory."""
    from benchmarks.ratings_contenders import nmfcore_fit

    X = load(Path(job["data"]))
    nmfcore_fit(X[:100], RANK, 0, 1)  # compiled code takes memory too
    reset_peak()
    before = resident_mb()
    stamps: list[float] = []
    nmfcore_fit(X, RANK, 0, ITERATIONS + 1, lambda state: stamps.append(time.perf_counter()))
    return {"seconds": statistics.median(np.diff(stamps).tolist()), "added_mb": peak_mb() - before}


def recommendations(job: dict[str, Any]) -> dict[str, Any]:
    import nmfcore

    X = load(Path(job["data"]))
    ratings = nmfcore.Ratings(*map(np.arange, X.shape), X.indptr, X.indices, X.data)
    model = nmfcore.Recommender(RANK, max_iter=2, random_state=0).fit(ratings)
    users = np.random.default_rng(0).permutation(X.shape[0])[: job["users"]]
    try:
        model.recommend(users[:2], n=10)  # compiled, and able to
    except (TypeError, ValueError, KeyError) as error:
        return {"reason": f"not available: recommend takes one user ({error})"}
    del ratings, X
    reset_peak()
    before, began = resident_mb(), time.perf_counter()
    model.recommend(users, n=10)
    return {"seconds": time.perf_counter() - began, "added_mb": peak_mb() - before}


def file(job: dict[str, Any]) -> dict[str, Any]:
    """Read, hold out a hundredth, fit, evaluate: what somebody with a file does."""
    import nmfcore
    from nmfcore.recommender.metrics import rmse

    seconds: dict[str, float] = {}

    def done(name: str) -> None:
        nonlocal began
        seconds[name], began = time.perf_counter() - began, time.perf_counter()

    began = time.perf_counter()
    ratings = nmfcore.Ratings.from_csv(job["path"])
    done("read")
    train, test = ratings.split(0.01, random_state=0)
    del ratings
    done("split")
    model = nmfcore.Recommender(RANK, max_iter=FILE_ITERATIONS, random_state=0).fit(train)
    done(f"fit ({FILE_ITERATIONS} iterations)")
    if hasattr(nmfcore, "evaluate"):
        value = nmfcore.evaluate(model, test).rmse
    else:
        users, items, values = test.triplets()
        value = rmse(values, model.predict(test.users[users], test.items[items], clip=True))
    done("evaluate")
    return {"seconds": seconds, "rmse": value, "peak_mb": peak_mb()}


def main() -> int:
    """The child."""
    job = json.loads(Path(sys.argv[1]).read_text())
    warnings.simplefilter("ignore")  # so few iterations do not converge
    result = {"iterations": iterations, "recommendations": recommendations, "file": file}[job["do"]](job)
    Path(job["out"]).write_text(json.dumps({"status": "ok"} | result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
