"""Iterations in float32 on float64 data: counted and seen like others, and judged in float64."""

from __future__ import annotations

import importlib
import time
import warnings

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore
from benchmarks.datasets import planted_dense
from nmfcore.data.protocol import summary
from nmfcore.data.sparse import Sparse
from nmfcore.loop import mixed_precision as single
from nmfcore.loop.mixed_precision import FEWEST, LEAST_WORK, MOST_ENTRIES
from nmfcore.loop.stopping import Status
from nmfcore.reference import kkt, objective

SHAPE, RANK = (1500, 600), 12


X = planted_dense(*SHAPE, RANK, noise=0.7)
assert 4.0 * X.size * RANK >= LEAST_WORK


@pytest.fixture
def precisions(monkeypatch):
    """The dtypes of the data that the loop was given, in turn, the samples left out."""
    factorize = importlib.import_module("nmfcore.api.factorize")
    subsample = importlib.import_module("nmfcore.starts.subsample")

    seen, real = [], single.solve

    def solve(data, *args, **kwargs):
        seen.append(data.dtype)
        return real(data, *args, **kwargs)

    monkeypatch.setattr(subsample, "_samples", lambda data, r, plan: [])
    monkeypatch.setattr(single, "solve", solve)
    monkeypatch.setattr(factorize, "solve", solve)
    return seen


def counts():
    X = sp.random_array((4000, 3000), density=0.02, random_state=np.random.default_rng(1), format="csr")
    X.data = np.ceil(10 * X.data)
    return X


@pytest.mark.parametrize("init", ["auto", "compressed"])
def test_sparse_data(precisions, init):
    Z = counts()
    assert 4.0 * Z.nnz * RANK < LEAST_WORK < 4.0 * Z.nnz * 30
    fit(Z, max_iter=4)
    assert precisions == [np.float64]
    f = fit(Z, rank=30, init=init)
    assert precisions[1:] == [np.float32, np.float64]
    assert f.converged
    check(f, Z.toarray())
    exact = fit(Z, rank=30, init=init, precision="full")
    assert abs(f.n_iter - exact.n_iter) <= 3
    assert f.objective == pytest.approx(exact.objective, rel=1e-3)


def test_a_sparse_x_in_another_precision_has_its_columns_in_it_too():
    Z = counts()
    data = Sparse(Z.indptr.astype(np.int64), Z.indices, Z.data, Z.shape)
    alone = data.astype(np.dtype(np.float32))  # its transpose is made when somebody asks
    turned = data.T
    together = data.astype(np.dtype(np.float32))
    for copy in (alone, together):
        assert copy.dtype == copy.T.dtype == np.float32
        np.testing.assert_array_equal(copy.T.values, turned.values.astype(np.float32))
        np.testing.assert_array_equal(copy.T.indices, turned.indices)
    assert together.T.indices is turned.indices
    assert data.T.dtype == data.dtype == np.float64


def fit(X=X, rank=RANK, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        return nmfcore.factorize(X, rank, **{"random_state": 0, **options})


def check(f, X=X):
    """What is said of the factors is true to all digits of float64."""
    assert f.W.dtype == f.H.dtype == np.float64
    assert (f.W >= 0).all()
    assert (f.H >= 0).all()
    assert f.objective == pytest.approx(objective(X, f.W, f.H), rel=1e-11)
    assert f.kkt == pytest.approx(kkt(X, f.W, f.H), rel=1e-6)
    assert f.history.objective[-1] == f.objective
    assert f.history.kkt[-1] == f.kkt
    np.testing.assert_array_equal(f.history.iteration, np.arange(f.n_iter + 1))
    assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[1:]).all()
    assert (np.diff(f.history.seconds) >= 0).all()


def test_float64_says_when_it_ends(precisions):
    f = fit()
    assert precisions == [np.float32, np.float64]
    assert f.converged
    assert f.kkt <= 1e-3
    check(f)
    exact = fit(precision="full")
    assert precisions[2:] == [np.float64]
    check(exact)
    assert abs(f.n_iter - exact.n_iter) <= 3
    assert f.objective == pytest.approx(exact.objective, rel=1e-4)


def test_a_finer_end_is_reached_in_float64(precisions):
    f = fit(tol=1e-8, max_iter=3000)
    assert precisions == [np.float32, np.float64]
    assert f.converged
    assert f.kkt <= 1e-8
    check(f)


@pytest.mark.parametrize("n_iter", [0, 1, 3, 7])
def test_iterations_count(precisions, n_iter):
    f = fit(tol=0.0, max_iter=n_iter)
    assert f.n_iter == n_iter
    assert f.status is Status.MAX_ITER
    assert (np.float32 in precisions) == (n_iter >= FEWEST)
    check(f)
    exact = fit(tol=0.0, max_iter=n_iter, precision="full")
    assert f.history.objective[0] == pytest.approx(exact.history.objective[0], abs=1e-7 * np.sum(X**2))
    np.testing.assert_allclose(f.history.objective, exact.history.objective, rtol=1e-4)


def test_the_callback_sees_each_iterate_once(precisions):
    states = []
    f = fit(callback=states.append)
    assert precisions == [np.float32, np.float64]
    assert [state.n_iter for state in states] == list(range(1, f.n_iter + 1))
    assert all(state.W.dtype == state.H.dtype == np.float64 for state in states)
    for state in states[::5]:
        assert state.objective == pytest.approx(objective(X, state.W, state.H), abs=1e-7 * np.sum(X**2))
        assert not state.W.flags.writeable


def test_the_callback_ends_it(precisions):
    def stop(state):
        if state.n_iter == 4:
            raise StopIteration

    f = fit(callback=stop)
    assert f.status is Status.CALLBACK
    assert f.n_iter == 4
    assert precisions == [np.float32, np.float64]
    check(f)


def test_what_a_callback_raises_is_its_own(precisions):
    seen, states = [], []

    def fail(state):
        seen.append(np.geterr()["over"])
        states.append(state.n_iter)
        if state.n_iter == 2:
            raise FloatingPointError("mine")

    with np.errstate(over="raise"), pytest.raises(FloatingPointError, match="mine"):
        fit(callback=fail)
    assert states == [1, 2]
    assert seen == ["raise", "raise"]
    assert precisions == [np.float32]


def test_what_float32_rounds_away_is_no_error(precisions):
    H = np.random.default_rng(0).random((RANK, SHAPE[1]))
    H[3] = 1e-60
    with np.errstate(all="raise"):
        f = fit(H=H, tol=1e-6, max_iter=400)
    assert precisions == [np.float32, np.float64]
    check(f)


def test_entries_beyond_float32_are_left_to_float64(precisions):
    Z = X.copy()
    Z[1] *= 1e-50
    f = fit(Z)
    assert precisions == [np.float64]
    assert f.W[1].max() > 0
    assert f.W[1] @ f.H == pytest.approx(Z[1], rel=1.0)
    one, other = fit(Z, max_iter=5), fit(np.ldexp(Z, -6), max_iter=5)
    np.testing.assert_array_equal(np.ldexp(one.W, -3), other.W)


def test_time_ends_it(precisions):
    f = fit(tol=0.0, max_iter=100_000, max_time=0.05, callback=lambda state: time.sleep(0.02))
    assert f.status is Status.MAX_TIME
    assert f.n_iter <= 4
    check(f)


def test_an_interrupt_keeps_the_last_iterate(precisions):
    def interrupt(state):
        if state.n_iter == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        fit(callback=interrupt)
    f = caught.value.factorization
    assert f.n_iter == 3
    assert f.W.dtype == f.H.dtype == np.float64
    assert f.objective == pytest.approx(objective(X, f.W, f.H), abs=1e-7 * np.sum(X**2))
    assert f.status is Status.INTERRUPTED


def test_any_scale_and_any_number_of_threads_the_same_bits(precisions):
    one = fit(n_threads=1)
    np.testing.assert_array_equal(fit(n_threads=2).W, one.W)
    for j in (-150, -20, 20, 150):
        scaled = fit(np.ldexp(X, 2 * j))
        np.testing.assert_array_equal(scaled.W, np.ldexp(one.W, j))
        np.testing.assert_array_equal(scaled.history.objective, np.ldexp(one.history.objective, 4 * j))
    assert precisions == 6 * [np.float32, np.float64]


def test_penalties(precisions):
    penalties = {"l1": (0.3, 0.2), "l2": (0.1, 0.4)}
    f = fit(tol=1e-6, max_iter=500, **penalties)
    assert precisions == [np.float32, np.float64]
    of_factors = 0.3 * f.W.sum() + 0.2 * f.H.sum() + 0.05 * (f.W**2).sum() + 0.2 * (f.H**2).sum()
    assert f.objective == pytest.approx(objective(X, f.W, f.H) + of_factors, rel=1e-11)
    assert f.kkt <= 1e-6


@pytest.mark.parametrize("noise", [0.0, 1e-9])
def test_near_an_exact_fit_the_digits_are_those_of_float64(precisions, noise):
    rng = np.random.default_rng(3)
    Z = rng.random((SHAPE[0], 3)) @ rng.random((3, SHAPE[1])) + noise * rng.random(SHAPE)
    f = nmfcore.factorize(Z, 3, random_state=0, tol=1e-12, max_iter=500)
    assert precisions[-1] == np.float64
    assert f.objective == pytest.approx(objective(Z, f.W, f.H), rel=1e-6, abs=1e-26 * np.sum(Z**2))
    assert f.objective <= 1e-13 * np.sum(Z**2)


def test_a_start_that_float32_does_not_hold(precisions):
    rng = np.random.default_rng(0)
    W, H = 1e30 * rng.random((SHAPE[0], RANK)), rng.random((RANK, SHAPE[1]))
    f = fit(W=W, H=H, init="compressed", max_iter=40)
    assert precisions == [np.float32, np.float64]
    check(f)


@pytest.mark.parametrize(
    "case",
    [
        {"solver": "mu"},
        {"loss": "kullback-leibler"},
        {"init": "random"},
        {"W": np.ones((SHAPE[0], RANK)), "H": np.random.default_rng(0).random((RANK, SHAPE[1]))},
        {"X": X.astype(np.float32)},
        {"X": X[:100]},
        {"missing_values": 0, "X": np.where(X < 0.1, 0, X)},
        {"X": np.where(np.arange(SHAPE[0])[:, None] == 1, 1e-50 * X, X)},
    ],
)
def test_elsewhere_there_is_one_precision(precisions, case):
    fit(**{"max_iter": 3, **case})
    assert len(precisions) == 1


def test_large_data_are_not_copied(precisions, monkeypatch):
    monkeypatch.setattr(single, "MOST_ENTRIES", X.size - 1)
    fit(max_iter=4)
    assert precisions == [np.float64]
    assert MOST_ENTRIES * 4 <= 40e6
    Z = counts()  # stored by columns too
    for most, taken in ((2 * Z.nnz - 1, [np.float64]), (2 * Z.nnz, [np.float32, np.float64])):
        precisions.clear()
        monkeypatch.setattr(single, "MOST_ENTRIES", most)
        fit(Z, rank=30, max_iter=4)
        assert precisions == taken


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
def test_the_summary_of_entries(size, dtype):
    rng = np.random.default_rng(size)
    x = ((0.1 + rng.random(size)) * (rng.random(size) < 0.5)).astype(dtype)
    told, there = summary(x), x[x > 0]
    assert told.valid
    assert told.largest == there.max(initial=0.0)
    assert told.smallest == there.min(initial=np.inf)
    assert told.nonzero == there.size
    assert told.squares == pytest.approx(np.sum(there.astype(np.float64) ** 2), rel=1e-14)
    for p in {0, size - 1} if size else ():
        for bad in (np.nan, np.inf, -1.0):
            y = x.copy()
            y[p] = bad
            assert not summary(y).valid
