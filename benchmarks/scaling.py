"""What an iteration costs as threads, precision and size change, and what memory a fit adds to its data."""

from __future__ import annotations

import argparse
import ctypes
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse

import nmfcore
from benchmarks import ratings_scaling, worker
from benchmarks.cases import Case, full
from benchmarks.datasets import planted_dense

ITERATIONS, ROUNDS = 10, 5
RANK = 10
WIDTH = 2000  # columns of the dense matrices of growing length
WORDS, LENGTH = 50_000, 100  # columns of the sparse ones, and entries in each of their rows
SIZES = (1e6, 1e7, 1e8, 2e8)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__)
    parser.add_argument("--only", choices=("threads", "precision", "size", "ratings"), nargs="+")
    parser.add_argument("--most", type=float, default=SIZES[-1], help="entries of the largest matrix")
    parser.add_argument(
        "--size", type=float, default=ratings_scaling.SIZE, help="ratings at most; 1e8 is what is asked"
    )
    parser.add_argument("--tmp", metavar="DIR", help="where ratings are written: 2 GB for 1e8")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # ten iterations do not converge
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, seconds for {ITERATIONS} iterations from the same start, in turns\n")
    parts = {"threads": threads, "precision": precision, "size": partial(size, args.most)}
    parts["ratings"] = partial(ratings_scaling.run, args.size, args.tmp)
    for name in args.only or parts:
        parts[name]()
        print()
    return 0


def threads() -> None:
    print(f"{'':24}{'1 thread':>10}{'2 threads':>11}{'ratio':>7}")
    for case, X in _cases():
        one, two = _in_turns(*(partial(_fit, X, case.rank, case.loss, n_threads=n) for n in (1, 2)))
        print(f"{case.name:24}{one:10.3f}{two:11.3f}{one / two:7.2f}", flush=True)


def precision() -> None:
    print(f"{'':24}{'float64':>10}{'float32':>11}{'ratio':>7}   objective at tol=1e-5, float32 against float64")
    for case, X in _cases():
        if case.group == "dense" and case.dtype == "float64":
            both = X, X.astype(np.float32)
            double, single = _in_turns(*(partial(_fit, Z, case.rank, case.loss) for Z in both))
            ends = [_end(Z, case.rank) for Z in both]
            print(f"{case.name:24}{double:10.3f}{single:11.3f}{double / single:7.2f}{ends[1] / ends[0] - 1:+13.1e}")


def _end(X: Any, rank: int) -> float:
    """The objective, judged in float64, of a fit in the precision of X from the same factors."""
    rng = np.random.default_rng(0)
    scale = math.sqrt(float(X.mean(dtype=np.float64)) / rank)
    W, H = scale * rng.random((X.shape[0], rank)), scale * rng.random((rank, X.shape[1]))
    f = nmfcore.factorize(X, rank, W=W, H=H, tol=1e-5, max_iter=1000)
    return nmfcore.factorize(X, rank, W=f.W, H=f.H, dtype=np.float64, max_iter=0).objective


def size(most: float) -> None:
    print(f"{'entries':>12}{'an iteration':>14}{'MB of X':>9}{'MB added':>10}{'bound':>7}")
    for make in (_dense, _counts):
        entries, seconds = [], []
        nmfcore.factorize(
            make(200_000), RANK, random_state=0, max_iter=2, tol=0, n_threads=2
        )  # compiled code is no data
        for count in (int(c) for c in SIZES if c <= most):
            X = None  # or the last one would be there while the next is made
            X = make(count)
            arrays = [getattr(X, name) for name in ("data", "indices", "indptr")] if hasattr(X, "nnz") else [X]
            megabytes = sum(a.nbytes for a in arrays) / 2**20
            _let_go()
            worker.reset_peak()
            before = worker.resident_mb()
            nmfcore.factorize(
                X, RANK, random_state=0, max_iter=4, tol=0, n_threads=2
            )  # with the start it has by default, and its first iterations in float32
            added = worker.peak_mb() - before
            entries.append(count)
            seconds.append(min(_fit(X, RANK) for _ in range(3)) / ITERATIONS)
            # Twice X when sparse, four copies of the factors for each of two threads, and 100 MB.
            bound = megabytes * (len(arrays) > 1) + 8 * sum(X.shape) * RANK * 8 / 2**20 + 100
            kind = make.__name__.strip("_")
            print(f"{count:12}{seconds[-1]:14.4f}{megabytes:9.0f}{added:10.0f}{bound:7.0f}  {kind}", flush=True)
        if len(entries) > 1:
            exponent = np.polyfit(np.log(entries), np.log(seconds), 1)[0]
            print(f"{'':12}seconds grow with entries to the power {exponent:.3f}", flush=True)


def _let_go() -> None:
    """Have freed memory given back, which would be counted as held before and not as added after."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):  # not glibc
        return


def _dense(entries: int) -> Any:
    return planted_dense(entries // WIDTH, WIDTH, RANK)


def _counts(entries: int) -> Any:
    """As many counts in every row, at random places, one in each stretch of columns."""
    rng = np.random.default_rng(0)
    m = entries // LENGTH
    indices = np.empty((m, LENGTH), np.int32)
    for rows in _in_pieces(m):
        indices[rows] = (np.arange(LENGTH) + rng.random((rows.stop - rows.start, LENGTH))) * (WORDS / LENGTH)
    values = np.empty((m, LENGTH))
    for rows in _in_pieces(m):
        values[rows] = 1.0 + rng.poisson(1.0, (rows.stop - rows.start, LENGTH))
    indptr = np.arange(0, entries + 1, LENGTH, dtype=np.int32)  # 64 bits here would make the indices 64 bits too
    return scipy.sparse.csr_array((values.ravel(), indices.ravel(), indptr), shape=(m, WORDS))


def _in_pieces(m: int) -> Iterator[slice]:
    """Rows in pieces: what is drawn for all of them at once would be larger than the matrix."""
    for start in range(0, m, 10_000):
        yield slice(start, min(start + 10_000, m))


def _cases() -> list[tuple[Case, Any]]:
    found = []
    for case in full():
        if case.group != "masked":
            try:
                found.append((case, case.load().astype(case.dtype)))
            except (OSError, ImportError) as error:
                print(f"{case.name:24} left out: {error}")
    return found


def _fit(X: Any, rank: int, loss: str = "frobenius", **options: Any) -> float:
    """Seconds of the iterations alone."""
    options |= {"init": "random", "random_state": 0, "tol": 0, "max_iter": ITERATIONS}
    options.setdefault("n_threads", 2)
    seconds = nmfcore.factorize(X, rank, loss=loss, **options).history.seconds
    return float(seconds[-1] - seconds[0])


def _in_turns(*calls: Callable[[], float]) -> list[float]:
    """The median time of each, after one call that is not counted."""
    times = np.array([[call() for call in calls] for _ in range(ROUNDS + 1)])[1:]
    return [statistics.median(column) for column in times.T.tolist()]
