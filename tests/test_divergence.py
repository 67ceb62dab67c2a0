"""Losses other than the squared error: β-divergences, by scikit-learn and formulas written out here."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp
from sklearn.decomposition import non_negative_factorization
from sklearn.decomposition._nmf import _beta_divergence

import nmfcore
from nmfcore import _parallel as parallel
from nmfcore import losses
from nmfcore.data.dense import Dense
from nmfcore.kernels import divergence
from nmfcore.loop.solve import Plan
from nmfcore.losses.penalty import Penalty
from nmfcore.solvers import HALS, MU

BETAS = [-1.0, 0.0, 0.5, 1.0, 1.5, 3.0]
KL = "kullback-leibler"
M, N, R = 14, 11, 3


def problem(beta: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.RandomState(seed)
    X = rng.random_sample((M, N)) + 0.1
    if beta > 0:
        X[rng.random_sample((M, N)) < 0.3] = 0.0
    return X, rng.random_sample((M, R)) + 0.1, rng.random_sample((R, N)) + 0.1


def counts(m: int = 30, n: int = 20, r: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.RandomState(seed)
    return np.floor(rng.random_sample((m, r)) @ rng.random_sample((r, n)) * 6)


MASK = np.random.RandomState(7).random_sample((M, N)) < 0.8
STORED = {
    "dense": lambda X: {"X": X},
    "csr": lambda X: {"X": sp.csr_array(X)},
    "masked": lambda X: {"X": X, "mask": MASK[: X.shape[0], : X.shape[1]]},
    "weighted": lambda X: {"X": X, "weights": 0.5 + np.random.RandomState(3).random_sample(X.shape)},
}
SOLVERS = [(1.0, HALS()), (1.0, HALS(extrapolate=False, sweeps=1)), *((b, MU()) for b in BETAS)]


def fit(X: Any, rank: int = R, **options: Any) -> nmfcore.Factorization:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        return nmfcore.factorize(**({"X": X, "rank": rank, "random_state": 0} | options))


def d_beta(x: np.ndarray, y: np.ndarray, beta: float) -> np.ndarray:
    positive, y = np.where(x > 0, x, 1.0), np.maximum(y, 1e-120)
    if beta == 1:
        return np.where(x > 0, x * np.log(positive / y), 0) - x + y
    if beta == 0:
        return x / y - np.log(x / y) - 1
    power = np.where(x > 0, positive**beta, 0)
    return (power + (beta - 1) * y**beta - beta * x * y ** (beta - 1)) / (beta * (beta - 1))


def objective(X, W, H, beta, weights=1.0, l1=0.0, l2=0.0) -> float:
    penalty = sum(l1 * A.sum() + 0.5 * l2 * (A**2).sum() for A in (W, H))
    return float(np.sum(weights * d_beta(X, W @ H, beta)) + penalty)


def kkt(X, W, H, beta, weights=1.0, l1=0.0, l2=0.0) -> float:
    """The residual as the documentation has it, in plain NumPy: what a step promises, as a share of the loss."""
    V = np.maximum(W @ H, 1e-120)
    omega = weights * np.ones_like(X)
    worst = 0.0
    for P, D, A in (
        ((omega * X * V ** (beta - 2)) @ H.T, (omega * V ** (beta - 1)) @ H.T, W),
        ((omega * X * V ** (beta - 2)).T @ W, (omega * V ** (beta - 1)).T @ W, H.T),
    ):
        D = D + l1 + l2 * A
        grows = D < P
        mass = np.where(grows, *((A * part).sum(axis=1, keepdims=True) for part in (P, D)))
        curvature = np.where(grows, P, D) ** 2 / np.maximum(mass, 1e-300)
        rho = np.where(grows, P - D, np.minimum(D - P, curvature * A))
        worst = max(worst, float((rho**2 / (2 * curvature)).sum()))
    return min(worst / float(np.sum(weights * d_beta(X, W @ H, beta))), 1.0)


# ---- the arithmetic ---------------------------------------------------------------------------------------------


def test_log_and_exp_are_numpys():
    rng = np.random.RandomState(0)
    x = np.concatenate([np.exp(rng.uniform(-700, 700, 3000)), rng.uniform(0.5, 2, 3000), 2.0 ** np.arange(-1022, 1023)])
    ours = np.array([divergence.log(v) for v in x])
    np.testing.assert_array_less(np.abs(ours - np.log(x)), 2 * np.spacing(np.abs(np.log(x))) + 1e-300)
    x = rng.uniform(-690, 690, 3000)
    np.testing.assert_allclose([divergence.exp(v) for v in x], np.exp(x), rtol=5e-16)
    assert np.isfinite([divergence.exp(v) for v in (-1e300, 1e300)]).all()


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("penalty", [(0.0, 0.0), (0.1, 0.05)], ids=["plain", "penalised"])
@pytest.mark.parametrize("beta", [*BETAS, 2.0])
def test_mu_equals_scikit_learn_iterate_by_iterate(beta, storage, penalty):
    X, W, H = problem(beta)
    A = X if storage == "dense" else sp.csr_array(X)
    l1, l2 = penalty
    theirs: dict[str, Any] = {"alpha_W": 0.0}
    if l1:
        theirs = {"alpha_W": (l1 + l2) / N, "alpha_H": (l1 + l2) / M, "l1_ratio": l1 / (l1 + l2)}
    for n_iter in (1, 2, 10):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            w, h, _ = non_negative_factorization(
                A, W.copy(), H.copy(), n_components=R, init="custom", solver="mu", beta_loss=beta, max_iter=n_iter,
                tol=0, **theirs,
            )  # fmt: skip
        solver = MU(extrapolate=False)
        f = fit(A, W=W, H=H, loss=beta, solver=solver, max_iter=n_iter, tol=0, l1=l1, l2=l2)
        np.testing.assert_allclose(f.W, w, rtol=1e-10)
        np.testing.assert_allclose(f.H, h, rtol=1e-10)
        assert f.objective == pytest.approx(objective(X, w, h, beta, l1=l1, l2=l2), rel=1e-9)


@pytest.mark.parametrize("storage", STORED)
@pytest.mark.parametrize(("beta", "solver"), SOLVERS, ids=str)
def test_objective_and_residual_are_true_and_never_rise(beta, solver, storage):
    X, _, _ = problem(beta)
    given = STORED[storage](X)
    weights = given.get("weights", given.get("mask", 1.0))
    for l1, l2 in ((0.0, 0.0), (0.03, 0.1)):
        f = fit(**given, loss=beta, solver=solver, tol=0, max_iter=25, l1=l1, l2=l2)
        assert f.objective == pytest.approx(objective(X, f.W, f.H, beta, weights, l1, l2), rel=1e-9)
        assert f.kkt == pytest.approx(kkt(X, f.W, f.H, beta, weights, l1, l2), rel=1e-6)
        assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()
        if not l1 and storage in ("dense", "csr"):
            assert f.objective == pytest.approx(_beta_divergence(X, f.W, f.H, beta), rel=1e-5)


def test_a_large_ridge_does_not_make_updates_rise():
    """scikit-learn's formula with l2 in the denominator is no majoriser; where it overshoots, ours is cut short."""
    X, W, H = problem(1.0)
    for l2 in (1.0, 10.0, 100.0):
        for beta in (0.0, 1.0, 1.5):
            f = fit(X + 0.1, W=0.01 * W, H=0.01 * H, loss=beta, solver=MU(extrapolate=False), l2=l2, max_iter=30, tol=0)
            assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()


# ---- equivalences -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "solver"), SOLVERS, ids=str)
def test_every_storage_gives_the_same_factors(beta, solver):
    X, W, H = problem(beta)
    options = {"W": W, "H": H, "loss": beta, "solver": solver, "tol": 0, "max_iter": 8}
    whole = np.ones(X.shape, bool)
    dense = fit(X, **options)
    weighted = fit(X, weights=np.full(X.shape, 2.0), **options)  # an Observed that has every entry
    np.testing.assert_allclose(weighted.W, dense.W, rtol=1e-9, atol=1e-12)
    assert weighted.objective == pytest.approx(2 * dense.objective, rel=1e-10)
    for other in (fit(sp.csr_array(X), **options), fit(X, mask=whole, **options), fit(np.asfortranarray(X), **options)):
        np.testing.assert_allclose(other.W, dense.W, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(other.H, dense.H, rtol=1e-9, atol=1e-12)
    stored = sp.csr_array(np.where(X == 0, 5.0, X))
    stored.data[stored.data == 5.0] = 0.0  # zeros, stored
    np.testing.assert_allclose(fit(stored, **options).W, dense.W, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("beta", "solver"), SOLVERS, ids=str)
def test_what_is_missing_is_never_read(beta, solver):
    X, W, H = problem(beta)
    options = {"W": W, "H": H, "loss": beta, "solver": solver, "tol": 0, "max_iter": 5}
    f = fit(X, mask=MASK, **options)
    garbage = np.where(MASK, X, np.random.RandomState(5).choice([np.nan, -1.0, np.inf, 0.0, 1e300], X.shape))
    for g in (fit(garbage, mask=MASK, **options), fit(X, weights=MASK.astype(float), **options)):
        np.testing.assert_array_equal(f.W, g.W)
        assert f.objective == g.objective


@pytest.mark.parametrize("storage", ["dense", "csr", "masked"])
@pytest.mark.parametrize(("beta", "solver"), SOLVERS, ids=str)
def test_a_power_of_four_scales_the_result_exactly(beta, solver, storage):
    X, _, _ = problem(beta)
    options = {"loss": beta, "solver": solver, "tol": 0, "max_iter": 6}
    f = fit(**STORED[storage](X), **options)
    for j in (-480, -3, 2, 480):
        g = fit(**STORED[storage](np.ldexp(X, 2 * j)), **options)
        np.testing.assert_array_equal(g.W, np.ldexp(f.W, j))
        np.testing.assert_array_equal(g.H, np.ldexp(f.H, j))
        assert g.kkt == f.kkt
        with np.errstate(over="ignore", under="ignore"):
            factor = np.float64(2.0) ** (2 * j * beta)
        if 0 < factor < np.inf:
            assert g.objective == pytest.approx(factor * f.objective, rel=1e-14)


@pytest.mark.parametrize("storage", ["dense", "csr", "masked"])
@pytest.mark.parametrize(("beta", "solver"), [(1.0, HALS()), (1.0, MU()), (0.5, MU())], ids=str)
def test_any_number_of_threads_gives_the_same_bits(beta, solver, storage, monkeypatch):
    rng = np.random.RandomState(0)
    X = np.floor(4 * rng.random_sample((900, 700)) ** 3)
    given = {"dense": {"X": X}, "csr": {"X": sp.csr_array(X)}, "masked": {"X": X, "mask": X < 3}}[storage]
    monkeypatch.setattr(parallel, "WORTH_A_THREAD", 1e6)
    share, counts = parallel.Team.map, []
    monkeypatch.setattr(parallel.Team, "map", lambda s, f, slabs: counts.append(len(slabs)) or share(s, f, slabs))
    one, three = (
        fit(**given, rank=5, init="random", loss=beta, solver=solver, tol=0, max_iter=2, n_threads=k) for k in (1, 3)
    )  # fmt: skip
    assert min(counts) > 1
    np.testing.assert_array_equal(one.W, three.W)
    np.testing.assert_array_equal(one.history.objective, three.history.objective)
    np.testing.assert_array_equal(one.history.kkt, three.history.kkt)


@pytest.mark.parametrize(("beta", "solver"), [(1.0, HALS()), (1.0, MU()), (0.0, MU()), (1.5, MU())], ids=str)
def test_float32_is_near_float64(beta, solver):
    X = counts() + (0.1 if beta <= 0 else 0.0)
    double, single = (
        fit(X, 4, loss=beta, solver=solver, dtype=dtype, max_iter=60, tol=0) for dtype in (float, np.float32)
    )
    assert single.W.dtype == np.float32
    assert single.objective == pytest.approx(double.objective, rel=0.02)
    assert single.objective == pytest.approx(
        objective(X, single.W.astype(float), single.H.astype(float), beta), rel=1e-3
    )


@pytest.mark.parametrize("dtype", [np.float32, float])
@pytest.mark.parametrize("storage", ["dense", "csr", "masked"])
@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("kind", ["noisy", "of rank 1", "blocks"])
def test_the_value_keeps_its_digits_where_the_fit_is_good(kind, solver, storage, dtype):
    """Entries about 1000 and a value below 1: it must not be a difference of sums, nor rise by rounding."""
    rng = np.random.RandomState(0)
    if kind == "noisy":
        X = np.abs(1000 * rng.random_sample((30, 3)) @ rng.random_sample((3, 20)) + 0.3 * rng.standard_normal((30, 20)))
    elif kind == "of rank 1":
        X = 1000 * rng.random_sample((30, 1)) @ rng.random_sample((1, 20))
    else:
        X = 1000 * np.kron(np.eye(2), np.outer(rng.random_sample(15) + 0.1, rng.random_sample(10) + 0.1))
    X = X.astype(dtype)
    mask = np.random.RandomState(7).random_sample(X.shape) < 0.8
    given = {"dense": {"X": X}, "csr": {"X": sp.csr_array(X)}, "masked": {"X": X, "mask": mask}}[storage]
    rank = {"noisy": 3, "of rank 1": 1, "blocks": 2}[kind]
    f = fit(**given, rank=rank, loss=KL, solver=solver, max_iter=100, tol=0)
    total, eps, value = X.sum(dtype=float), float(np.finfo(dtype).eps), f.history.objective
    # Of zeros that are not stored the value is a difference: that of eps Σ x. Of others only x̂ has an error.
    noise = (
        eps * total if kind == "blocks" and storage == "csr" else eps * np.sqrt(total * value.min()) + eps**2 * total
    )
    assert (value >= 0).all()
    assert (np.diff(value) <= noise).all()
    x, xhat = X.astype(float), np.maximum(f.W.astype(float) @ f.H.astype(float), 1e-120)
    off = (x - xhat) / xhat  # d = x̂ (f + 1) log(f + 1) - x̂ f, to its digits
    exact = xhat * np.where(x > 0, (1 + off) * np.log1p(np.where(x > 0, off, 0)) - off, 1.0)
    assert f.objective == pytest.approx((exact * (mask if storage == "masked" else 1)).sum(), abs=noise)


# ---- where it ends ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["dense", "csr", "weighted"])
def test_newton_arrives(storage):
    f = fit(**STORED[storage](counts(M, N)), loss=KL, tol=1e-9, max_iter=2000)
    assert f.status is nmfcore.Status.CONVERGED
    assert f.kkt <= 1e-9


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 1.5])
def test_rows_for_a_known_H_are_the_best_ones(beta):
    X = counts() + (0.5 if beta <= 0 else 0.0)
    f = fit(X, 4, loss=beta, max_iter=100, tol=0, init="random")
    new = X[:6] + 1.0
    W = f.transform(new)
    np.testing.assert_array_equal(f.transform(new[2:4]), W[2:4])  # each row by itself
    for x, w in zip(new, W, strict=True):
        best = min(
            scipy.optimize.minimize(
                lambda a, x=x: np.sum(d_beta(x, np.maximum(a @ f.H, 1e-12), beta)), start, method="L-BFGS-B",
                bounds=[(1e-12, None)] * 4, options={"maxiter": 3000, "ftol": 1e-15, "gtol": 1e-10},
            ).fun
            for start in (np.ones(4), w + 1e-6)
        )  # fmt: skip
        ours = np.sum(d_beta(x, np.maximum(w @ f.H, 1e-12), beta))
        assert ours <= best * (1 + 1e-6) + 1e-9


def test_newton_and_multiplicative_rows_agree():
    X = counts()
    f = fit(X, 4, loss=KL, max_iter=200, tol=1e-10)
    g = fit(X, 4, loss=KL, max_iter=200_000, tol=1e-7, solver="mu", W=f.W + 1e-3, H=f.H + 1e-3)
    assert g.objective == pytest.approx(f.objective, rel=1e-5)


def test_a_newton_step_that_goes_too_far_is_shortened():
    """A row of pbmc-facs: its whole step would raise the objective, and multiplied, its zeros would stay for good."""
    B = np.array([[1.4, 0.3, 0.1], [0.0, 0.0, 1.3], [2437.0, 1481.0, 1678.0]])
    x, a = np.array([[2.0, 1.0, 0.0]]), np.array([[0.0, 0.0, 3.0 / B[:, 2].sum()]])
    data = Dense(x)
    with parallel.Team(1) as team:
        plan = Plan(HALS(extrapolate=False), losses.make(1.0, data), Penalty(), Penalty(), team)
        for _ in range(20):
            before, a = np.sum(d_beta(x, a @ B.T, 1.0)), plan.step(data, a, B).A
            assert np.sum(d_beta(x, a @ B.T, 1.0)) <= before * (1 + 1e-14)
    pull = (x / (a @ B.T)) @ B / B.sum(axis=0)
    assert np.all(pull <= 1 + 1e-8)
    np.testing.assert_allclose(pull[a > 0], 1.0, rtol=1e-8)


def test_no_positive_entry_is_given_up():
    """``x̂ = 0 < x`` is infinitely far; the floor under x̂ makes that a number, which gains elsewhere could outweigh."""
    rng = np.random.default_rng(0)
    with parallel.Team(1) as team:
        for _ in range(2000):
            B = rng.random((12, 4)) * (rng.random((12, 4)) < 0.5) * 10.0 ** rng.integers(-2, 3, (12, 1))
            x = np.floor(10.0 ** rng.uniform(-1, 3, (1, 12))) * (rng.random((1, 12)) < 0.7) * (B.sum(axis=1) > 0)
            a, data = rng.random((1, 4)) * 10.0 ** rng.uniform(-2, 2), Dense(x)
            plan = Plan(HALS(extrapolate=False), losses.make(1.0, data), Penalty(), Penalty(), team)
            for _ in range(3):
                a = plan.step(data, a, B).A
                assert np.all((a @ B.T)[x > 0] > 0)


def test_newton_leaves_zeros():
    X = counts()
    f = fit(X, 4, loss=KL, max_iter=300, tol=1e-8)
    for W, H in ((np.zeros((30, 4)), f.H), (f.W, np.zeros((4, 20)))):
        g = fit(X, 4, loss=KL, W=W, H=H, max_iter=300, tol=1e-8)
        assert g.objective == pytest.approx(f.objective, rel=1e-6)
    half = f.W.copy()
    half[:, :2] = 0.0
    assert fit(X, 4, loss=KL, W=half, H=f.H, max_iter=300, tol=1e-8).objective == pytest.approx(f.objective, rel=1e-6)


@pytest.mark.parametrize("init", ["nndsvd", "nndsvda"])
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_other_starts(init, solver):
    f = fit(counts(), 4, loss=KL, init=init, solver=solver, max_iter=50, tol=0)
    assert np.isfinite(f.objective)
    assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize("penalty", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.1)], ids=["plain", "l1", "l2"])
def test_components_that_a_row_does_not_see(penalty):
    """With few entries in a row, some components reach none of them: their gradient is 0, and so is its scale."""
    l1, l2 = penalty
    for seed in range(30):
        rng = np.random.RandomState(seed)
        X, mask = rng.poisson(1.0, (40, 30)).astype(float), rng.random_sample((40, 30)) < 0.12
        options = {"loss": KL, "mask": mask, "l1": l1, "l2": l2}
        f = fit(X, 6, max_iter=30, tol=0, random_state=seed, **options)
        assert f.objective == pytest.approx(objective(X, f.W, f.H, 1.0, mask, l1, l2), rel=1e-9)
        assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()
        assert np.isfinite(f.kkt)


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize("storage", ["dense", "csr", "mask"])
@pytest.mark.parametrize("decades", [3, 4, 8])
def test_entries_of_very_different_size_never_raise_the_objective(decades, storage):
    """Entries far above what a row makes of them bring components in, which may cost others more than it gains."""
    for seed in range(4):
        X = 10.0 ** np.random.default_rng(seed).uniform(-decades, decades, (20, 15))
        given = {"mask": np.random.default_rng(seed).random(X.shape) < 0.8} if storage == "mask" else {}
        A = sp.csr_array(X) if storage == "csr" else X
        h = fit(A, 14, loss=KL, max_iter=60, tol=0, random_state=0, **given).history.objective
        assert (np.diff(h) <= 1e-12 * h[:-1]).all()


@pytest.mark.parametrize("storage", ["dense", "csr", "mask"])
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_rows_of_zeros_in_the_factors(solver, storage):
    X = np.arange(1.0, 13.0).reshape(4, 3)
    given = {"dense": {}, "csr": {}, "mask": {"mask": np.ones(X.shape, bool)}}[storage]
    A = sp.csr_array(X) if storage == "csr" else X
    for l1, l2 in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)):
        for side in "WH":
            W, H = np.ones((4, 2)), np.ones((2, 3))
            (W if side == "W" else H.T)[:, 1] = 0.0
            f = fit(A, 2, loss=KL, W=W, H=H, solver=solver, l1=l1, l2=l2, max_iter=30, tol=0, **given)
            assert np.isfinite(f.objective)
            assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()


# ---- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, -0.5, "itakura-saito"])
def test_a_zero_where_its_loss_is_infinite(beta):
    X = counts(5, 4) + 1.0
    X[3, 2] = 0.0
    stored = sp.csr_array(X + 1.0)
    stored.data[stored.data == 1.0] = 0.0
    for A in (X, sp.csr_array(X), stored):
        with pytest.raises(ValueError, match=r"X\[3, 2\] = 0, .*missing_values=0"):
            fit(A, 2, loss=beta)
    with pytest.raises(ValueError, match=r"X\[3, 2\] = 0"):
        fit(X, 2, loss=beta, mask=np.where(X[0, 0] == X, X == 0, True))
    f = fit(X, 2, loss=beta, missing_values=0)
    assert np.isfinite(f.objective)
    with pytest.raises(ValueError, match=r"X\[0, 1\] = 0"):
        f.__class__(**{**vars(f), "settings": f.settings | {"missing_values": None}}).transform([[1.0, 0.0, 1.0, 1.0]])


def spectra(*rows: float) -> np.ndarray:
    """Power spectra with 60 dB between their entries; every fourth row is further down by the given factors."""
    rng = np.random.RandomState(0)
    X = rng.gamma(1.0, 1.0, (40, 3)) @ rng.gamma(0.5, 1.0, (3, 30)) * rng.gamma(1.0, 1.0, (40, 30))
    X = np.maximum(X, 1e-6 * X.max())
    X[::4] *= np.resize(rows, 10)[:, None]
    return X


@pytest.mark.parametrize("beta", [0.0, -0.5, -1.0, -5.0, 0.5])
def test_quiet_rows_in_float32(beta):
    for c in (1e-10, 1.0, 1e8):
        X = (c * spectra(1e-12)).astype(np.float32)
        f, g = (fit(X.astype(t), 3, loss=beta, max_iter=50, tol=0) for t in (np.float32, float))
        assert f.W.dtype == np.float32
        assert f.W.max(axis=1).min() > 0.0
        X = X.astype(float)
        assert f.objective == pytest.approx(objective(X, f.W.astype(float), f.H.astype(float), beta), rel=1e-5)
        assert f.objective == pytest.approx(g.objective, rel=1e-4)
        assert (np.diff(f.history.objective) <= 1e-6 * f.history.objective[:-1]).all()


def test_entries_that_x_hat_cannot_come_down_to():
    quiet = spectra(1e-22)  # of the largest 1e-29 or so: as far as float32 goes
    assert fit(quiet.astype(np.float32), 3, loss=0.0, max_iter=20, tol=0).W.max(axis=1).min() > 0.0
    for init in ("auto", "compressed"):
        quiet = np.tile(spectra(1e-40), (60, 10))  # large enough that a sample is tried in float32
        assert np.isfinite(fit(quiet, 3, loss=0.0, init=init, max_iter=5, tol=0).objective)
    for X, beta, remedy in (
        (spectra(1e-26).astype(np.float32), 0.0, r"in float32: pass dtype=float64"),
        (spectra(1e-26).astype(np.float32), -5.0, r"or more: raise smaller entries"),
        (spectra(1e-80), 0.0, r"or more: raise smaller entries"),
        (spectra(1e-40), -10.0, r"or more: raise smaller entries"),
    ):
        with pytest.raises(ValueError, match=rf"smallest entry of X is .* of its largest, .* β = {beta:g}.*{remedy}"):
            fit(X, 3, loss=beta)


@pytest.mark.parametrize(("beta", "solver"), [s for s in SOLVERS if s[0] > 0], ids=str)
def test_rows_and_columns_of_zeros_and_tiny_numbers(beta, solver):
    X = counts()
    X[3], X[:, 5] = 0.0, 0.0
    X[4, 6], X[7, 8], X[9] = 1e-300, 1e-30, 1e-20
    for A in (X, sp.csr_array(X)):
        f = fit(A, 4, loss=beta, solver=solver, max_iter=50, tol=0)
        assert np.isfinite(f.W).all()
        assert np.isfinite(f.H).all()
        assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()
        assert (f.W @ f.H)[3].max() < 1e-2
    f = fit(np.zeros((4, 3)), 2, loss=beta, solver=solver)
    assert f.objective < 1e-40


@pytest.mark.parametrize("beta", [-1.0, 0.0])
def test_no_rows_to_transform(beta):
    f = fit(counts() + 1.0, 2, loss=beta, max_iter=5)
    assert f.transform(np.empty((0, 20))).shape == (0, 2)
    assert f.transform(sp.csr_array((0, 20))).shape == (0, 2)
    assert f.transform(np.empty((0, 20)), mask=np.empty((0, 20), bool)).shape == (0, 2)


@pytest.mark.parametrize(
    ("beta", "name"), [(0.1 * 3 + 0.7, KL), (1 - 1e-9, KL), (1e-9, "itakura-saito"), (2 + 1e-12, "frobenius")]
)
def test_a_beta_within_rounding_of_a_name(beta, name):
    X = counts() + 1.0
    f, g = fit(X, 3, loss=beta, max_iter=5), fit(X, 3, loss=name, max_iter=5)
    assert f.settings["loss"] == g.settings["loss"] == name
    np.testing.assert_array_equal(f.W, g.W)
    assert fit(X, 3, loss=1.001, max_iter=5).settings["loss"] == 1.001


def test_unknown_losses_and_solvers_that_do_not_fit():
    for loss in ("kl", None, np.nan, True):
        with pytest.raises(ValueError, match=r"loss=.* is not one of 'frobenius', 'kullback-leibler'"):
            fit([[1.0]], 1, loss=loss)
    with pytest.raises(ValueError, match=r"HALS.* does not minimise .* β = 0: use solver='mu'"):
        fit([[1.0]], 1, loss="itakura-saito", solver="hals")
    assert fit([[1.0]], 1, loss=0.5).settings["solver"] == "MU(extrapolate=True)"
    assert fit([[1.0]], 1, loss=1).settings["loss"] == KL


def test_the_loss_is_kept_in_the_file(tmp_path):
    for loss in (KL, 0.5):
        f = fit(counts(), 3, loss=loss)
        f.save(tmp_path / "f.npz")
        g = nmfcore.load(tmp_path / "f.npz")
        assert g.settings["loss"] == loss
        np.testing.assert_array_equal(g.transform(counts()[:2]), f.transform(counts()[:2]))


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_nothing_stored(solver):
    f = fit(sp.csr_array((6, 5)), 2, loss=KL, solver=solver)
    assert f.objective < 1e-40


@pytest.mark.parametrize("storage", ["dense", "csr", "weighted"])
@pytest.mark.parametrize(("m", "n", "r"), [(5, 3, 6), (9, 1030, 5), (1, 600, 4)])
def test_every_size_of_block(m, n, r, storage):
    """Rows in fours, columns in stretches, components in fours: none of them need divide the shape."""
    rng = np.random.RandomState(0)
    X, W, H = rng.random_sample((m, n)), rng.random_sample((m, r)) + 0.1, rng.random_sample((r, n)) + 0.1
    for beta in (1.0, 0.5):
        given = STORED[storage](X)
        f = fit(**given, rank=r, loss=beta, W=W, H=H, solver=MU(extrapolate=False), max_iter=1, tol=0)
        V, omega = W @ H, given.get("weights", np.ones_like(X))
        ratio = ((omega * X * V ** (beta - 2)) @ H.T) / ((omega * V ** (beta - 1)) @ H.T)
        w = W * ratio ** (1 if beta == 1 else 1 / (2 - beta))
        np.testing.assert_allclose(f.W, w, rtol=1e-10)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("storage", ["dense", "stored", "weighted"])
@pytest.mark.parametrize("r", [1, 3, 4, 5, 8, 11, 20])
def test_a_newton_step_is_the_minimum_of_the_model(r, storage, dtype):
    """Rows of every length that the blocks of entries and of components can be filled to, against plain NumPy."""
    rng = np.random.RandomState(r)
    lengths = [40] * 3 if storage == "dense" else [0, 1, 2, 7, 8, 9, 63, 127, 128, 129, 255, 300]
    n = max(lengths)
    B, true = (rng.random_sample((size, r)).astype(dtype) + dtype(0.1) for size in (n, len(lengths)))
    A = (true * (1 + 0.02 * rng.random_sample(true.shape))).astype(dtype)
    places = [np.sort(rng.permutation(n)[:length]) for length in lengths]
    indptr, J = np.cumsum([0, *lengths]), np.concatenate(places).astype(np.int32)
    # Zeros that are not stored count, unless entries have weights: then every row has its own D.
    D = B.astype(float).sum(axis=0)[None] if storage != "weighted" else np.empty((0, r))
    shares = [1.0 if storage == "weighted" else B[j].sum() / B.sum() if len(j) else 1.0 for j in places]
    values = np.concatenate([B[j] @ t for j, t in zip(places, true / np.array(shares)[:, None], strict=True)])
    weights = rng.random_sample(J.size) + 0.5 if storage == "weighted" else np.empty(0)
    values, weights = values.astype(dtype), weights.astype(dtype)
    indices = J[:0] if storage == "dense" else J
    out, tally = np.empty_like(A), np.zeros(2 * r + 2)
    divergence.newton_rows(
        indptr, indices, values, weights, B, D, A, 0.0, np.zeros(1), 1e-30, 4000, 0.0, 1, 0.0, out, tally
    )
    before, after, modelled = 0.0, 0.0, 0
    tolerance = 1e-6 if dtype == np.float64 else 2e-2
    for i, j in enumerate(places):
        b, a, x = B[j].astype(float), A[i].astype(float), values[indptr[i] : indptr[i + 1]].astype(float)
        omega = weights[indptr[i] : indptr[i + 1]].astype(float) if weights.size else np.ones(len(j))
        d = D[0] if len(D) else omega @ b

        def value(row, b=b, x=x, omega=omega, d=d):
            return d @ row + (omega * (x * np.log(x / (b @ row)) - x)).sum()

        before, after = before + value(a), after + value(out[i].astype(float))
        xhat = b @ a
        p = (omega * x / xhat) @ b
        if abs(a @ d - a @ p) > 0.1 * max(a @ d, a @ p):  # far from its size: the multiplicative step comes first
            np.testing.assert_allclose(out[i], a * p / d, rtol=tolerance)
            continue
        modelled += 1
        slope = d - p + (b.T * (omega * x / xhat**2)) @ b @ (out[i] - a)
        assert (slope >= -tolerance * d).all()
        assert (np.abs(slope * out[i]) <= tolerance * d * a.max()).all()
    digits = 1e-10 if dtype == np.float64 else 1e-4
    assert tally[2 * r] == pytest.approx(before, rel=digits)
    assert tally[2 * r + 1] == pytest.approx(after, rel=digits, abs=digits * before)
    assert after <= before
    assert modelled >= len(lengths) // 2
