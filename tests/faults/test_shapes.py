"""Rows 60 to 68: no rows or columns, one of them, and more than there is memory for."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from catalogue import Case, case, each, holds, refused
from fits import SOLVERS, STORED, X, ask, fit, relative_error, sound

from nmfcore import Factorization

NO_SAMPLE = refused(ValueError, r"0 sample\(s\) \(shape=\(0, 5\)\).*X is empty")
NO_FEATURE = refused(ValueError, r"0 feature\(s\) \(shape=\(5, 0\)\).*X is empty")
WIDE = 3 * 10**12


def exactly(A: np.ndarray) -> Any:
    def check(f: Factorization) -> None:
        assert relative_error(A, f.W, f.H) < 1e-3

    return holds(check)


def beyond_memory(rank: int) -> Any:
    return refused(MemoryError, rf"rank={rank} needs [\d.e+]+ GiB .*choose a smaller rank")


def peer_of_rows(rows: np.ndarray) -> Any:
    from sklearn.decomposition import NMF

    return NMF(2, random_state=0).fit(X).transform(rows)


def _nine(f: Factorization) -> None:
    assert sound(f).W.shape == (6, 9)
    assert relative_error(X, f.W, f.H) < 0.01


def _no_rows(W: np.ndarray) -> None:
    assert W.shape == (0, 2)


CASES = [
    case(60, "no rows", np.zeros((0, 5)), NO_SAMPLE),
    case(61, "no columns", np.zeros((5, 0)), NO_FEATURE),
    *(
        case(60 + k, f"the same, {make.__name__}", make(shape), check, shown=False)
        for make in (sp.csr_array, sp.coo_array)
        for k, (shape, check) in enumerate([((0, 5), NO_SAMPLE), ((5, 0), NO_FEATURE)])
    ),
    case(62, "one entry", [[3.0]], exactly(np.array([[3.0]])), rank=1),
    case(62, "one row", X[:1], exactly(X[:1])),
    case(62, "one column", X[:, :1], exactly(X[:, :1])),
    case(63, "rank=9 of a 6 x 5 matrix", X, holds(_nine), rank=9, note="no warning: it is asked for, and random works"),
    Case(
        64,
        "`transform` of no rows",
        lambda: ask(X).transform(np.zeros((0, 5))),
        holds(_no_rows),
        lambda: peer_of_rows(np.zeros((0, 5))),
    ),
    Case(
        65,
        "`transform` of another number of columns",
        lambda: ask(X).transform(X[:, :4]),
        refused(ValueError, "X has 4 features, but the factorization expects 5"),
        lambda: peer_of_rows(X[:, :4]),
    ),
    case(
        66,
        "3e12 columns, three entries",
        lambda: sp.csr_array(([1.0, 2.0, 3.0], [0, WIDE - 1, 5], [0, 1, 2, 3]), shape=(3, WIDE)),
        beyond_memory(2),
    ),
    case(67, "rank=10**9", X, beyond_memory(10**9), rank=10**9),
    case(68, "rank=10**18, whose product with m overflows int64", X, beyond_memory(10**18), rank=10**18, theirs=None),
]


@each(CASES)
def test_shapes(case):
    case.hold()


@pytest.mark.row(62)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_one_row_or_column(shape, rank, kind, solver):
    A = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    f = sound(fit(STORED[kind](A), rank, solver=solver, max_iter=500))
    np.testing.assert_allclose(f.reconstruct(), A, rtol=1e-3)


@pytest.mark.row(63)
def test_more_components_than_rows_or_columns():
    f = sound(fit(X, 9, max_iter=200))
    assert f.W.shape == (6, 9)
    with pytest.raises(ValueError, match=r"init='nndsvd' needs rank <= min\(m, n\) = 5, .*Use init='random'"):
        fit(X, 9, init="nndsvd")


@pytest.mark.row(67)
@pytest.mark.parametrize("data", [X, sp.csr_array(X)])
@pytest.mark.parametrize("rank", [10**6, 10**9, 10**18])
def test_a_rank_beyond_memory_is_refused_before_computing(data, rank):
    began = time.perf_counter()
    with pytest.raises(MemoryError, match=rf"rank={rank} needs [\d.e+]+ GiB .*choose a smaller rank"):
        fit(data, rank)
    assert time.perf_counter() - began < 1.0
