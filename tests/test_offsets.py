"""Offsets and penalties that count by entries: against formulas written out here, and non-negative least squares."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import nmfcore
from nmfcore.solvers import HALS, MU, Penalty

RANK = 3


def ratings(seed: int = 0, m: int = 40, n: int = 30, share: float = 0.4, dtype: Any = np.float64) -> sp.csr_array:
    rng = np.random.default_rng(seed)
    X = 1 + rng.random((m, n)) * 4
    return sp.csr_array(np.where(rng.random((m, n)) < share, X, 0).astype(dtype))


def dense(X: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    known = np.zeros(X.shape, bool)
    rows, columns = X.nonzero()
    known[rows, columns] = True
    return X.toarray().astype(np.float64), known


def objective(X: np.ndarray, weights: np.ndarray, W: Any, H: Any, l1: float, l2: float, offsets: bool) -> float:
    """With ``l2`` scaled by what counts in each row and column, the components of ones free of it."""
    value = 0.5 * (weights * (X - W @ H) ** 2).sum()
    of_W, of_H = (W[:, :-1], np.delete(H, -2, axis=0)) if offsets else (W, H)
    value += l1 * (of_W.sum() + of_H.sum())
    return float(value + 0.5 * l2 * ((weights.sum(1) @ of_W**2).sum() + (of_H**2 @ weights.sum(0)).sum()))


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("l1", [0.0, 0.3])
@pytest.mark.parametrize("solver", [HALS(), HALS(sweeps=1, extrapolate=False), MU(), MU(extrapolate=False)])
def test_the_objective_and_its_fall(solver: Any, l1: float, offsets: bool) -> None:
    if offsets and isinstance(solver, MU):
        pytest.skip("offsets need HALS")
    X = ratings()
    f = nmfcore.factorize(
        X, RANK, missing_values="unstored", l1=l1, l2=0.1, l2_scaling="count", offsets=offsets, solver=solver,
        random_state=0, tol=0, max_iter=60,
    )  # fmt: skip
    dense_X, known = dense(X)
    np.testing.assert_allclose(f.objective, objective(dense_X, known, f.W, f.H, l1, 0.1, offsets), rtol=1e-12)
    rises = np.diff(f.history.objective) / f.history.objective[1:]
    assert rises.max() <= 1e-12
    assert f.history.objective[-1] < 0.8 * f.history.objective[0]


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_every_row_is_a_least_squares_problem_that_is_solved(weighted: bool, offsets: bool) -> None:
    """At the end each row of W and column of H is what scipy.optimize.nnls finds, the ridge and offsets included."""
    X, l2 = ratings(), 0.07
    weights = sp.csr_array((np.random.default_rng(1).random(X.nnz) + 0.5, X.indices, X.indptr), shape=X.shape)
    kept: dict[str, Any] = {"weights": weights} if weighted else {}
    f = nmfcore.factorize(
        X, RANK, missing_values="unstored", l2=l2, l2_scaling="count", offsets=offsets, random_state=0, tol=1e-9,
        max_iter=5000, **kept,
    )  # fmt: skip
    assert f.converged
    dense_X, known = dense(X)
    W, H = f.W, f.H
    omega = weights.toarray() if weighted else known.astype(float)
    for A, B, Y, w in ((W, H.T, dense_X, omega), (H.T, W, dense_X.T, omega.T)):
        held = (RANK + 1 if A is W else RANK) if offsets else None
        moving = [t for t in range(A.shape[1]) if t != held]
        for i in range(len(A)):
            root = np.sqrt(w[i])
            target = Y[i] if held is None else Y[i] - B[:, held]
            system = np.vstack((root[:, None] * B[:, moving], np.sqrt(l2 * w[i].sum()) * np.eye(len(moving))))
            exact, _ = scipy.optimize.nnls(system, np.concatenate((root * target, np.zeros(len(moving)))))
            np.testing.assert_allclose(A[i, moving], exact, atol=3e-6)


def test_components_of_ones() -> None:
    f = nmfcore.factorize(ratings(), RANK, missing_values="unstored", l2=0.1, offsets=True, random_state=0)
    assert f.W.shape == (40, RANK + 2)
    assert np.all(f.H[RANK] == 1)
    assert np.all(f.W[:, RANK + 1] == 1)
    assert f.W.min() >= 0
    assert f.H.min() >= 0
    assert f.settings["offsets"] is True


def test_offsets_alone_are_found() -> None:
    """Ratings that are sums of an offset of the row and one of the column leave nothing to the rest."""
    rng = np.random.default_rng(0)
    X = 1 + rng.random((30, 1)) + rng.random((1, 20))
    mask = rng.random(X.shape) < 0.6
    f = nmfcore.factorize(X, 1, mask=mask, offsets=True, random_state=0, tol=1e-8, max_iter=20_000)
    np.testing.assert_allclose(f.reconstruct(), X, rtol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offsets", [False, True])
def test_the_same_bits_for_any_number_of_threads(offsets: bool, dtype: Any) -> None:
    X = ratings(m=3000, n=500, share=0.3, dtype=dtype)
    options: dict[str, Any] = {"missing_values": "unstored", "l2": 0.05, "l2_scaling": "count", "offsets": offsets}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits = [
            nmfcore.factorize(X, 16, random_state=0, max_iter=5, n_threads=threads, **options) for threads in (1, 2, 3)
        ]
    for f in fits[1:]:
        np.testing.assert_array_equal(f.W, fits[0].W)
        np.testing.assert_array_equal(f.H, fits[0].H)
        assert f.kkt == fits[0].kkt


@pytest.mark.parametrize("power", [-40, 3, 200])
def test_scale(power: int) -> None:
    """X and the offsets times 4^j, l2 times 2^j·2^j: the factors times 2^j, the components of ones as they are."""
    X = ratings()
    options: dict[str, Any] = {"missing_values": "unstored", "l2_scaling": "count", "offsets": True, "tol": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = nmfcore.factorize(X, RANK, l2=0.0, random_state=0, max_iter=20, **options)
        g = nmfcore.factorize(X * 4.0**power, RANK, l2=0.0, random_state=0, max_iter=20, **options)
    np.testing.assert_allclose(g.W[:, :RANK], f.W[:, :RANK] * 2.0**power, rtol=1e-9)
    np.testing.assert_allclose(g.W[:, RANK], f.W[:, RANK] * 4.0**power, rtol=1e-9)
    np.testing.assert_array_equal(g.H[RANK], 1.0)
    np.testing.assert_allclose(g.kkt, f.kkt, rtol=1e-6)


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float64, 1e-300), (np.float64, 1e150), (np.float64, 1e210), (np.float64, 1e300), (np.float32, 3e37)],
)
def test_ratings_near_the_ends_of_the_range(dtype: Any, scale: float) -> None:
    """The ones of the offsets are as far from 1 inside as X is; they count all the same, in a fit and afterwards."""
    X = ratings(dtype=dtype)
    options: dict[str, Any] = {"missing_values": "unstored", "offsets": True, "random_state": 0, "tol": 1e-3}
    f = nmfcore.factorize(X, 2, **options)
    g = nmfcore.factorize((X * scale).astype(dtype), 2, **options)
    tolerance = 1e-9 if dtype is np.float64 else 1e-3
    np.testing.assert_allclose(g.W[:, 2].astype(float) / scale, f.W[:, 2], rtol=tolerance, atol=tolerance)
    expected = f.transform(X) @ f.H
    predicted = g.transform((X * scale).astype(dtype)).astype(float) @ g.H.astype(float) / scale
    np.testing.assert_allclose(predicted, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("offsets", [False, True])
def test_going_on_from_a_factorization(offsets: bool) -> None:
    X = ratings()
    options: dict[str, Any] = {"missing_values": "unstored", "l2": 0.1, "l2_scaling": "count", "offsets": offsets}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = nmfcore.factorize(X, RANK, random_state=0, max_iter=20, **options)
        g = nmfcore.factorize(X, RANK, init=f, max_iter=0, **options)
    np.testing.assert_array_equal(g.W, f.W)
    np.testing.assert_array_equal(g.H, f.H)
    np.testing.assert_allclose(g.objective, f.objective, rtol=1e-13)
    np.testing.assert_allclose(g.kkt, f.kkt, rtol=1e-6)
    had, asked = f.rank, rf"rank={RANK + 1}(, offsets=True)? asks for {f.rank + 1}"
    with pytest.raises(ValueError, match=rf"init is a factorization with {had} components where {asked}"):
        nmfcore.factorize(X, RANK + 1, init=f, **options)


@pytest.mark.parametrize("offsets", [False, True])
def test_transform_is_the_half_step_for_W(offsets: bool) -> None:
    X = ratings()
    f = nmfcore.factorize(
        X, RANK, missing_values="unstored", l2=0.1, l2_scaling="count", offsets=offsets, random_state=0, tol=1e-10,
        max_iter=10_000,
    )  # fmt: skip
    W = f.transform(X)
    assert W.shape == f.W.shape
    np.testing.assert_allclose(W, f.W, atol=1e-6)


def test_by_count_where_all_counts() -> None:
    """Without missing entries every row has as many: a plain l2 that much larger."""
    X = np.random.default_rng(0).random((12, 9))
    f = nmfcore.factorize(X, 2, l2=0.01, l2_scaling="count", random_state=0)
    g = nmfcore.factorize(X, 2, l2=(0.01 * 9, 0.01 * 12), random_state=0)
    np.testing.assert_array_equal(f.W, g.W)


def test_dense_data_may_have_offsets() -> None:
    X = 1 + np.random.default_rng(0).random((12, 9))
    f = nmfcore.factorize(X, 2, offsets=True, l2=0.01, random_state=0)
    np.testing.assert_allclose(f.objective, 0.5 * ((X - f.W @ f.H) ** 2).sum() + 0.005 * (
        (f.W[:, :-1] ** 2).sum() + (np.delete(f.H, 2, axis=0) ** 2).sum()
    ), rtol=1e-12)  # fmt: skip


def test_what_cannot_be_is_said() -> None:
    X = ratings()
    with pytest.raises(ValueError, match="offsets=True needs the Frobenius loss and HALS"):
        nmfcore.factorize(X, 2, missing_values="unstored", offsets=True, solver="mu")
    with pytest.raises(ValueError, match="offsets=True needs the Frobenius loss"):
        nmfcore.factorize(X, 2, missing_values="unstored", offsets=True, loss="kullback-leibler")
    with pytest.raises(ValueError, match="every zero counts"):
        nmfcore.factorize(X, 2, offsets=True)
    with pytest.raises(ValueError, match="l2_scaling='rows' is not one of None, 'count'"):
        nmfcore.factorize(X, 2, l2_scaling="rows")
    with pytest.raises(TypeError, match="offsets='yes' must be True or False"):
        nmfcore.factorize(X, 2, offsets="yes")


def test_long_and_short_rows() -> None:
    """Rows of every length about the tile and the rank, gathered in one piece or several, match the definition."""
    rng = np.random.default_rng(0)
    n, r = 1200, 7
    lengths = [0, 1, 2, 3, 6, 7, 8, 9, 255, 256, 257, 511, 512, 513, 1200]
    X = sp.lil_array((len(lengths), n))
    for i, length in enumerate(lengths):
        X[i, rng.permutation(n)[:length]] = 1 + rng.random(length)
    X = sp.csr_array(X)
    W, H = rng.random((len(lengths), r)), rng.random((r, n))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        f = nmfcore.factorize(
            X, r, missing_values="unstored", W=W, H=H, l2=0.01, l2_scaling="count", tol=0, max_iter=1,
            solver=HALS(sweeps=1, extrapolate=False),
        )  # fmt: skip
    dense_X, known = dense(X)
    expected_W, expected_H = W.copy(), H.copy()
    expected_W[0] = 0  # nothing is known of it
    for A, B, Y, k in ((expected_W, expected_H.T, dense_X, known), (expected_H.T, expected_W, dense_X.T, known.T)):
        for i in range(len(A)):
            G = B[k[i]].T @ B[k[i]] + 0.01 * k[i].sum() * np.eye(r)
            c = Y[i, k[i]] @ B[k[i]]
            for t in range(r):
                if G[t, t] > 0:
                    A[i, t] = max(0.0, A[i, t] - (G[t] @ A[i] - c[t]) / G[t, t])
    np.testing.assert_allclose(f.W, expected_W, rtol=1e-10)
    np.testing.assert_allclose(f.H, expected_H, rtol=1e-10)


@pytest.mark.parametrize("solver", [HALS(sweeps=3), MU()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_too_long_for_one_thread(monkeypatch: pytest.MonkeyPatch, solver: Any, dtype: Any) -> None:
    """Its normal equations are summed in pieces: the same fit, to rounding, and the same bits for any team."""

    X = ratings(m=3, n=2000, share=0.5, dtype=dtype)
    offsets = isinstance(solver, HALS)
    options: dict[str, Any] = {"missing_values": "unstored", "l2": 0.05, "l2_scaling": "count", "offsets": offsets}
    options |= {"solver": solver, "random_state": 0, "tol": 0, "max_iter": 4}
    whole = nmfcore.factorize(X, 3, **options)
    monkeypatch.setattr("nmfcore.losses.quadratics.PIECE", 128)
    pieces = [nmfcore.factorize(X, 3, n_threads=n, **options) for n in (1, 2, 3)]
    rtol = 2e-4 if dtype is np.float32 else 1e-10
    np.testing.assert_allclose(pieces[0].reconstruct(), whole.reconstruct(), rtol=rtol)
    np.testing.assert_allclose(pieces[0].history.objective, whole.history.objective, rtol=rtol / 10)
    for f in pieces[1:]:
        np.testing.assert_array_equal(f.W, pieces[0].W)
        np.testing.assert_array_equal(f.history.objective, pieces[0].history.objective)


def test_entries_too_small_for_ones_beside_them_are_refused():
    X = np.random.default_rng(0).random((12, 9))
    options: dict[str, Any] = {"offsets": True, "random_state": 0, "max_iter": 20, "tol": 0}
    f, g = (nmfcore.factorize(np.ldexp(X, e), 2, **options) for e in (0, -1018))
    np.testing.assert_allclose(np.ldexp(g.reconstruct(), 1018), f.reconstruct(), rtol=1e-6)
    for e in (-1021, -1023, -1040):
        with pytest.raises(ValueError, match=r"so small.*multiply X by 1e100"):
            nmfcore.factorize(np.ldexp(X, e), 2, offsets=True, random_state=0)


def test_a_penalty_beyond_float64_counts_nothing_where_nothing_is_observed():
    ridge = Penalty(l2=np.inf, counts=np.array([0.0, 3.0])).ridge
    np.testing.assert_array_equal(ridge, [0.0, np.inf])
    np.testing.assert_array_equal(Penalty(l2=1e300, counts=np.array([0.0, 1e30])).ridge, [0.0, np.inf])
    np.testing.assert_array_equal(Penalty(l2=0.5, counts=np.array([0.0, 3.0])).ridge, [0.0, 1.5])


@pytest.mark.parametrize("scale", [1e-40, 1e-121, 1e-300])
def test_rows_far_below_the_offsets_of_the_columns_are_zeros(scale: float) -> None:
    """Every entry lies below what its column has on its own: nothing is to be added to it."""
    X = np.random.default_rng(0).random((8, 6)) + 0.1
    f = nmfcore.factorize(X * 1e247, 2, offsets=True, random_state=0, max_iter=5, tol=0)
    f.H[0, 2] = 0.0  # nothing times infinity is no number
    W = f.transform(X[:3] * scale)
    assert not W[:, :-1].any()
    np.testing.assert_array_equal(W[:, -1], 1.0)
