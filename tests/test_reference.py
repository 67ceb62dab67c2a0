"""The plain NumPy solvers against scikit-learn, and the yardsticks against their definitions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

from nmfcore.reference import gradients, hals, kkt, masked_hals, masked_mu, mu, objective

NONE = {"l1": (0.0, 0.0), "l2": (0.0, 0.0)}
SOME = {"l1": (0.3, 0.1), "l2": (0.2, 0.5)}
penalties = pytest.mark.parametrize("penalty", [NONE, SOME], ids=["plain", "penalised"])
solvers = pytest.mark.parametrize("name", ["mu", "hals", "masked_mu", "masked_hals"])


def problem(m=12, n=9, r=3, seed=0, missing=0.3):
    rng = np.random.default_rng(seed)
    X = rng.random((m, r)) @ rng.random((r, n)) + 0.1 * rng.random((m, n))
    return X, rng.random((m, n)) >= missing, rng.random((m, r)), rng.random((r, n))


def run(name, X, mask, W, H, n_iter, **penalty):
    if name.startswith("masked"):
        return {"masked_mu": masked_mu, "masked_hals": masked_hals}[name](X, mask, W, H, n_iter, **penalty)
    return {"mu": mu, "hals": hals}[name](X, W, H, n_iter, **penalty)


def counted(name, mask):
    """The mask that the solver works with."""
    return mask if name.startswith("masked") else None


# ------------------------------------------------------------------------------------- scikit-learn


@pytest.mark.parametrize("alphas", [(0.0, 0.0, 0.0), (0.02, 0.03, 0.4), (0.01, 0.0, 1.0), (0.0, 0.05, 0.0)])
@pytest.mark.parametrize("n_iter", [1, 2, 10, 50])
@pytest.mark.parametrize("solver", ["cd", "mu"])
def test_equals_scikit_learn(solver, n_iter, alphas):
    X, _, W, H = problem()
    m, n = X.shape
    alpha_W, alpha_H, l1_ratio = alphas
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W_sk, H_sk, _ = non_negative_factorization(
            X,
            W=W.copy(),
            H=H.copy(),
            n_components=3,
            init="custom",
            solver=solver,
            tol=0,
            max_iter=n_iter,
            shuffle=False,
            alpha_W=alpha_W,
            alpha_H=alpha_H,
            l1_ratio=l1_ratio,
        )
    l1 = (n * alpha_W * l1_ratio, m * alpha_H * l1_ratio)
    l2 = (n * alpha_W * (1 - l1_ratio), m * alpha_H * (1 - l1_ratio))
    ours = {"cd": hals, "mu": mu}[solver](X, W, H, n_iter, l1=l1, l2=l2)
    np.testing.assert_allclose(ours[0], W_sk, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(ours[1], H_sk, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("solver", ["cd", "mu"])
def test_equals_scikit_learn_with_zeros(solver):
    """A dead component, a zero row and a zero column: the guards of both are the same."""
    X, _, W, H = problem()
    X[2], X[:, 3], H[1] = 0, 0, 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W_sk, H_sk, _ = non_negative_factorization(
            X, W.copy(), H.copy(), 3, init="custom", solver=solver, tol=0, max_iter=5
        )
    ours = {"cd": hals, "mu": mu}[solver](X, W, H, 5)
    np.testing.assert_allclose(ours[0], W_sk, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(ours[1], H_sk, rtol=1e-10, atol=1e-14)


# ------------------------------------------------------------------------------------- missing data


@penalties
@pytest.mark.parametrize("name", ["mu", "hals"])
def test_a_full_mask_is_no_mask(name, penalty):
    X, mask, W, H = problem()
    plain = run(name, X, None, W, H, 20, **penalty)
    masked = run(f"masked_{name}", X, np.ones_like(mask), W, H, 20, **penalty)
    for a, b in zip(plain, masked, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-14)
    full = np.ones_like(mask)
    assert objective(X, W, H, mask=full, **penalty) == objective(X, W, H, **penalty)
    assert kkt(X, W, H, mask=full, **penalty) == pytest.approx(kkt(X, W, H, **penalty), rel=1e-13)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e308, -7.0])
def test_garbage_under_the_mask_changes_no_bit(garbage):
    X, mask, W, H = problem()
    dirty = np.where(mask, X, garbage)
    for solve in (masked_mu, masked_hals):
        for a, b in zip(solve(X, mask, W, H, 5), solve(dirty, mask, W, H, 5), strict=True):
            assert np.array_equal(a, b)
    for measure in (objective, kkt):
        assert measure(X, W, H, mask=mask) == measure(dirty, W, H, mask=mask)


def test_masked_hals_solves_each_row_on_its_own_entries():
    """One row of `masked_hals` is `hals` on the columns that the row has."""
    X, mask, W, H = problem()
    frozen = masked_hals(X, mask, W, H, 1, **SOME)[0]
    for i, seen in enumerate(mask):
        alone = hals(X[i : i + 1, seen], W[i : i + 1], H[:, seen], 1, **SOME)[0]
        np.testing.assert_allclose(frozen[i], alone[0], rtol=1e-12)


def test_a_row_without_entries():
    X, mask, W, H = problem()
    mask[4] = False
    assert np.array_equal(masked_hals(X, mask, W, H, 3)[0][4], W[4])
    assert np.array_equal(masked_hals(X, mask, W, H, 1, l2=(0.1, 0.0))[0][4], np.zeros(3))
    assert np.array_equal(masked_mu(X, mask, W, H, 1)[0][4], np.zeros(3))
    assert not np.isnan(masked_mu(X, mask, W, H, 3)[1]).any()


# -------------------------------------------------------------------------------------- behaviour


@solvers
def test_inputs_are_not_modified(name):
    inputs = problem()
    copies = [a.copy() for a in inputs]
    for a in inputs:
        a.flags.writeable = False
    W, H = run(name, *inputs, 3)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, copies, strict=True))
    assert not np.shares_memory(W, inputs[2])
    assert not np.shares_memory(H, inputs[3])
    W, H = run(name, *inputs, 0)
    assert np.array_equal(W, inputs[2])
    assert np.array_equal(H, inputs[3])
    assert not np.shares_memory(H, inputs[3])


@solvers
@penalties
@pytest.mark.parametrize("seed", range(3))
def test_the_objective_falls_at_every_iteration(name, penalty, seed):
    X, mask, W, H = problem(seed=seed)
    before = objective(X, W, H, mask=counted(name, mask), **penalty)
    for iteration in range(60):
        W, H = run(name, X, mask, W, H, 1, **penalty)
        after = objective(X, W, H, mask=counted(name, mask), **penalty)
        # Once converged, what is left is rounding.
        assert after < before if iteration < 10 else after <= before * (1 + 1e-12)
        assert min(W.min(), H.min()) >= 0
        before = after


@solvers
def test_iterations_add_up(name):
    X, mask, W, H = problem()
    once = run(name, X, mask, W, H, 7)
    twice = run(name, X, mask, *run(name, X, mask, W, H, 3), 4)
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@penalties
@pytest.mark.parametrize("name", ["hals", "masked_hals"])
def test_hals_arrives_at_a_stationary_point(name, penalty):
    X, mask, W, H = problem(missing=0.1)
    W, H = run(name, X, mask, W, H, 1000, **penalty)
    assert kkt(X, W, H, mask=counted(name, mask), **penalty) < 1e-12


def test_updating_both_factors_from_the_old_pair_is_no_descent_method():
    """The counter-example: X = [[1]] and w = h = 2, where the simultaneous MU step oscillates for ever."""
    X, w, h = np.array([[1.0]]), np.array([[2.0]]), np.array([[2.0]])
    values = []
    for _ in range(6):
        values.append(objective(X, w, h))
        w, h = w * (X @ h.T) / (w @ h @ h.T), h * (w.T @ X) / (w.T @ w @ h)
    assert values == [4.5, 0.28125] * 3
    for solve in (mu, hals):
        w, h = solve(X, np.array([[2.0]]), np.array([[2.0]]), 1)
        assert objective(X, w, h) == 0


# -------------------------------------------------------------------------- objective, gradient, kkt


def test_objective_by_hand():
    X, W, H = np.array([[1.0, 9.0]]), np.array([[2.0]]), np.array([[3.0, 1.0]])
    assert objective(X, W, H) == 0.5 * (5**2 + 7**2)
    assert objective(X, W, H, mask=np.array([[True, False]])) == 0.5 * 5**2
    assert objective(X, W, H, l1=(10.0, 100.0)) == 37 + 20 + 400
    assert objective(X, W, H, l2=(10.0, 100.0)) == 37 + 20 + 500


@penalties
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_are_the_slopes_of_the_objective(penalty, masked):
    X, mask, W, H = problem(m=5, n=4, r=2)
    options = {**penalty, "mask": mask if masked else None}
    step = 1e-3  # f is a parabola along a coordinate: central differences are exact but for rounding
    for which, G in enumerate(gradients(X, W, H, **options)):
        for index in np.ndindex(G.shape):
            high, low = [W.copy(), H.copy()], [W.copy(), H.copy()]
            high[which][index] += step
            low[which][index] -= step
            slope = (objective(X, *high, **options) - objective(X, *low, **options)) / (2 * step)
            assert G[index] == pytest.approx(slope, rel=1e-9, abs=1e-10)


def literal_kkt(X, W, H, mask, l1, l2):
    """The definition, entry by entry, for factors without dead components."""
    s = np.sqrt(np.linalg.norm(H, axis=1) / np.linalg.norm(W, axis=0))
    (m, r), n = W.shape, H.shape[1]
    rho_W, rho_H = np.zeros((m, r)), np.zeros((r, n))
    for t in range(r):
        for i in range(m):
            js = [j for j in range(n) if mask[i, j]]
            g = sum((W[i] @ H[:, j] - X[i, j]) * H[t, j] for j in js) + l1[0] + l2[0] * W[i, t]
            b = sum(H[t, j] ** 2 for j in js) + l2[0]
            rho_W[i, t] = (-g if g < 0 else min(g, b * W[i, t])) / s[t]
        for j in range(n):
            rows = [i for i in range(m) if mask[i, j]]
            g = sum((W[i] @ H[:, j] - X[i, j]) * W[i, t] for i in rows) + l1[1] + l2[1] * H[t, j]
            b = sum(W[i, t] ** 2 for i in rows) + l2[1]
            rho_H[t, j] = (-g if g < 0 else min(g, b * H[t, j])) * s[t]
    left, size = np.linalg.norm((X - W @ H)[mask]), np.linalg.norm(W * s)
    assert left > 1e-5 * np.linalg.norm(X[mask])
    assert size == pytest.approx(np.linalg.norm(H / s[:, None]))
    return max(np.linalg.norm(rho_W), np.linalg.norm(rho_H)) / (left * size)


@penalties
@pytest.mark.parametrize("seed", range(4))
def test_kkt_is_its_definition(penalty, seed):
    X, mask, W, H = problem(m=6, n=5, r=2, seed=seed)
    W[W < 0.2], H[H < 0.2] = 0, 0
    full = np.ones_like(mask)
    assert kkt(X, W, H, **penalty) == pytest.approx(literal_kkt(X, W, H, full, **penalty), rel=1e-12)
    assert kkt(X, W, H, mask=mask, **penalty) == pytest.approx(literal_kkt(X, W, H, mask, **penalty), rel=1e-12)


def test_kkt_is_zero_at_stationary_points():
    W, H = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]), np.array([[1.0, 0.0, 2.0], [0.0, 4.0, 1.0]])
    assert kkt(W @ H, W, H) == 0
    # Not a fit: X = I and r = 1. W = H = (1, 0) leaves the residual (0, 1), orthogonal to both.
    e = np.array([[1.0], [0.0]])
    assert kkt(np.eye(2), e, e.T) == 0
    # An active bound: the gradient of the zero in W is +1 and must not count.
    X, W, H = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0], [0.0]]), np.array([[1.0, 0.0]])
    assert kkt(X, W, H, l1=(0.0, 0.0)) == 0
    # Penalties: w h = x − λ minimises ½ (x − w h)² + ½ λ (w² + h²) at w = h.
    w = np.array([[2.0]])
    assert kkt(np.array([[5.0]]), w, w, l2=(1.0, 1.0)) == 0
    assert kkt(np.array([[5.0]]), w, w) > 0
    # l1: ½ (x − w h)² + λ (w + h) at w = h = 2 has slope (w h − x) h + λ.
    assert kkt(np.array([[5.0]]), w, w, l1=(2.0, 2.0)) == 0


def test_kkt_of_an_exact_fit_is_relative_to_x():
    """Where nothing is left to explain, rounding decides: the residual must not be all of the gradient for ever."""
    X, _, W, H = problem()
    X = W @ H
    for share in (1e-7, 1e-9, 1e-11):
        assert kkt(X, W * (1 + share), H) == pytest.approx(kkt(X, W * (1 + 1e-9), H) * share / 1e-9, rel=1e-3)
    assert kkt(X, W * (1 + 1e-9), H) <= 1e-3


def test_kkt_sees_what_only_a_penalty_moves():
    """H = 0: the curvature of W is 0, and l1 wants it gone."""
    X, _, W, H = problem()
    assert kkt(X, W, 0 * H, l1=((W.T @ X).max() + 1, (W.T @ X).max() + 1)) > 0


def test_kkt_is_not_zero_elsewhere():
    e = np.array([[1.0], [0.0]])
    assert kkt(np.ones((2, 2)), e, e.T) > 0.1  # the zeros would like to grow
    assert kkt(np.eye(2), e + 0.1, e.T) > 0.01


@given(seed=st.integers(0, 1000), exponent=st.integers(-60, 60), masked=st.booleans())
@settings(max_examples=50, deadline=None)
def test_kkt_has_no_units(seed, exponent, masked):
    X, mask, W, H = problem(m=5, n=6, r=2, seed=seed)
    mask = mask if masked else None
    c = 10.0**exponent
    scaled = kkt(c * X, np.sqrt(c) * W, np.sqrt(c) * H, mask=mask)
    assert scaled == pytest.approx(kkt(X, W, H, mask=mask), rel=1e-9)


@given(seed=st.integers(0, 1000), exponents=st.tuples(st.integers(-30, 30), st.integers(-30, 30)))
@settings(max_examples=50, deadline=None)
def test_kkt_does_not_depend_on_the_scale_of_a_component(seed, exponents):
    X, mask, W, H = problem(m=5, n=6, r=2, seed=seed)
    c = 10.0 ** np.array(exponents)
    assert kkt(X, W * c, H / c[:, None], mask=mask) == pytest.approx(kkt(X, W, H, mask=mask), rel=1e-9)


def test_kkt_is_the_same_for_the_transposed_problem():
    X, mask, W, H = problem()
    assert kkt(X.T, H.T, W.T, mask=mask.T) == pytest.approx(kkt(X, W, H, mask=mask), rel=1e-12)


def test_kkt_where_there_is_nothing_to_compare_with():
    X, mask, W, H = problem()
    none = np.zeros_like(mask)
    assert kkt(X, 0 * W, 0 * H) == 0  # a saddle point, but stationary
    assert kkt(X, 0 * W, H) == np.inf  # W would like to grow
    assert kkt(X, W, 0 * H) == np.inf
    assert 0 < kkt(0 * X, W, H) < np.inf  # W and H would like to shrink
    assert kkt(0 * X, 0 * W, H) == 0
    assert kkt(X, W, H, mask=none) == 0  # no data: nothing to improve
    assert kkt(X, W, H, mask=none, l2=(1.0, 0.0)) == np.inf
    assert kkt(X, W[:, :0], H[:0]) == 0
    half = W.copy()
    half[:, 0] = 0  # one dead component: s = 1 for it, and no warning
    assert 0 < kkt(X, half, H) < np.inf
