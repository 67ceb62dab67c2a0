"""The kernels one by one, on one thread: ``make bench``; pytest-benchmark, grouped by shape.

``extra_info`` of each has GFLOP/s and GB/s (each input and output moved once, a gathered row at each entry) and
their shares of the peaks measured in the same run. Every kernel is called once before it is timed, so compilation
stays out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from benchmarks import datasets
from benchmarks.peak import peak
from nmfcore import losses
from nmfcore._parallel import Team
from nmfcore.data.dense import Dense
from nmfcore.data.normal import gram
from nmfcore.data.observed import Observed
from nmfcore.data.sparse import Sparse
from nmfcore.kernels import dense, observed, sparse
from nmfcore.loop.half_step import half_step
from nmfcore.solvers import HALS, MU, Penalty

SHAPES = [(1797, 64), (4096, 400), (142, 21025), (4000, 2000)]
RANKS = [5, 20, 50]
DTYPES = ["float64", "float32"]


@pytest.fixture
def timed(benchmark: Any) -> Callable[..., None]:
    def run(call: Callable[[], object], flop: float, moved: float, dtype: str) -> None:
        call()  # compiles
        benchmark(call)
        if benchmark.disabled:
            return
        best, most = benchmark.stats.stats.min, peak(dtype)
        benchmark.extra_info |= {
            "GFLOP/s": round(1e-9 * flop / best, 2),
            "GB/s": round(1e-9 * moved / best, 2),
            "of peak GFLOP/s": round(1e-9 * flop / best / most["gflops"], 3),
            "of peak GB/s": round(1e-9 * moved / best / most["gbytes"], 3),
            "peak": {k: v if isinstance(v, str) else round(v, 1) for k, v in most.items()},
        }

    return run


def label(benchmark: Any, what: str, m: int, n: int, dtype: str) -> None:
    benchmark.group = f"{what} {m}x{n} {dtype}"


def uniform(*shape: int, dtype: str) -> Any:
    return np.random.default_rng(0).random(shape).astype(dtype)


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("name", ["rows_times", "columns_times"])
def test_dense_product(benchmark: Any, timed: Any, name: str, m: int, n: int, r: int, dtype: str) -> None:
    label(benchmark, name, m, n, dtype)
    X = uniform(m, n, dtype=dtype)
    rows = name == "rows_times"
    B = uniform(n if rows else m, r, dtype=dtype)
    out = np.empty((m if rows else n, r), dtype)
    kernel = getattr(dense, name)
    step = m if rows else 512

    def call() -> None:
        for lo in range(0, len(out), step):
            hi = min(lo + step, len(out))
            kernel(X, B, lo, hi, out[lo:hi])

    timed(call, 2.0 * m * n * r, X.nbytes + B.nbytes + out.nbytes, dtype)


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_product(benchmark: Any, timed: Any, r: int, dtype: str) -> None:
    X = datasets.planted_words().astype(dtype)
    label(benchmark, f"sparse rows_times ({X.nnz} stored)", *X.shape, dtype)
    B = uniform(X.shape[1], r, dtype=dtype)
    out = np.empty((X.shape[0], r), dtype)
    moved = X.data.nbytes + X.indices.nbytes + X.nnz * r * out.itemsize + out.nbytes
    timed(lambda: sparse.rows_times(X.indptr, X.indices, X.data, B, 0, X.shape[0], out), 2.0 * X.nnz * r, moved, dtype)


def observed_entries(X: Any, B: Any) -> Any:
    """What the kernels read of observed entries."""
    none = np.empty(0, X.dtype)
    return Observed(X.indptr.astype(np.int64), X.indices, X.data, none, X.shape).normal(B).entries


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_row_systems(benchmark: Any, timed: Any, r: int, dtype: str) -> None:
    X = scipy.sparse.csr_array(datasets.planted_ratings().astype(dtype))
    label(benchmark, f"observed row_systems ({X.nnz} stored)", *X.shape, dtype)
    entries = observed_entries(X, uniform(X.shape[1], r, dtype=dtype))[:-1]
    rows = 128  # as many systems as stay in the cache
    C, G = np.empty((rows, r), dtype), np.empty((rows, r, r), dtype)

    def call() -> None:
        for lo in range(0, X.shape[0], rows):
            observed.row_systems(*entries, lo, min(lo + rows, X.shape[0]), C, G)

    moved = X.data.nbytes + X.indices.nbytes + X.nnz * r * C.itemsize
    timed(call, 2.0 * X.nnz * r * (r + 1), moved, dtype)


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_half_step(benchmark: Any, timed: Any, r: int, dtype: str) -> None:
    """A whole half-step over observed entries: errors, blocks of G, eight sweeps, loss and residuals."""
    X = scipy.sparse.csr_array(datasets.planted_ratings().astype(dtype))
    label(benchmark, f"observed hals_rows ({X.nnz} stored)", *X.shape, dtype)
    A, entries = uniform(X.shape[0], r, dtype=dtype), observed_entries(X, uniform(X.shape[1], r, dtype=dtype))
    penalty, out, tally = Penalty(l2=0.1, counts=np.diff(X.indptr).astype(float)), np.empty_like(A), np.zeros(2 * r + 2)
    call = lambda: HALS(sweeps=8).sweep_entries(entries, A, 0, len(A), penalty, 8, out, tally)  # noqa: E731
    moved = X.data.nbytes + X.indices.nbytes + X.nnz * r * A.itemsize
    width = min(r, observed.LANES)
    timed(call, 2.0 * X.nnz * r * (width + 6.0) + 16.0 * len(A) * r * width, moved, dtype)


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("solver", "sweeps"), [(HALS(sweeps=1), 1), (HALS(sweeps=4), 4), (MU(), 1)], ids=str)
def test_sweep(benchmark: Any, timed: Any, solver: Any, sweeps: int, r: int, dtype: str) -> None:
    """Rows that share a Gram matrix; nominally 2 r² flop a sweep, and for the gradient; a step of 0 costs less."""
    m = 4096
    label(benchmark, f"sweep {solver}", m, r, dtype)
    A, B = uniform(m, r, dtype=dtype), uniform(200, r, dtype=dtype)
    G = gram(B)[None].astype(dtype)
    C = np.ascontiguousarray((uniform(m, 200, dtype=dtype) @ B).astype(dtype))
    out, tally = np.empty_like(A), np.zeros(2 * r + 2)
    call = lambda: solver.update(A, C, G, Penalty(), sweeps, out, tally)  # noqa: E731
    timed(call, 2.0 * m * r * r * (sweeps + 1), A.nbytes + C.nbytes + out.nbytes, dtype)


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
@pytest.mark.parametrize("solver", [HALS(), MU()], ids=["newton", "multiply"])
def test_kullback_leibler(benchmark: Any, timed: Any, solver: Any, storage: str, r: int, dtype: str) -> None:
    """A half-step over all rows: 4 r flop an entry to multiply, and r (r + 1) more for Newton's Gram matrix."""
    words = datasets.planted_words().astype(dtype)
    X = Dense(uniform(2000, 784, dtype=dtype)) if storage == "dense" else Sparse(*_arrays(words), words.shape)
    label(benchmark, f"Kullback-Leibler {storage} ({X.values.size} stored)", *X.shape, dtype)
    A, B = uniform(X.shape[0], r, dtype=dtype), uniform(X.shape[1], r, dtype=dtype)
    loss = losses.make(1.0, X)
    flop = X.values.size * r * (4.0 + (r + 1.0 if isinstance(solver, HALS) else 0.0))
    with Team(1) as team:
        equations = loss.equations(X, B)
        timed(lambda: half_step(solver, equations, X, A, Penalty(), team), flop, X.values.nbytes + 2 * A.nbytes, dtype)


def _arrays(X: Any) -> tuple[Any, Any, Any]:
    return X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data


@pytest.mark.parametrize("r", RANKS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gram(benchmark: Any, timed: Any, r: int, dtype: str) -> None:
    B = uniform(20_000, r, dtype=dtype)
    label(benchmark, "gram", *B.shape, dtype)
    timed(lambda: gram(B), 1.0 * len(B) * r * (r + 1), B.nbytes, "float64")
