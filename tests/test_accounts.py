"""The objective that is reported of each iterate is the one its factors have.

**What is asked.** The loop carries the objective along by differences, or takes what its passes over the data found,
and recomputes it where rounding may show. ``TRUSTED`` is the share it may be off by; the estimate of rounding is one of
its size, so twice that is asked here. Beyond that there is what no recomputation in float64 can know. An estimate ``x̂``
of r components is formed with an error of ``(r + 2) ε`` times itself. With the sum ``S`` of ``x^β`` these come to
``Δ = (r + 2) ε (√S + √(S + 2 f))``, and change ``f`` by at most ``√(2 f) Δ + ½ Δ²``.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore._parallel import Team
from nmfcore.data.imputed import Imputed
from nmfcore.kernels import divergence
from nmfcore.loop.solve import Iterate, Run
from nmfcore.losses.account import TRUSTED
from nmfcore.reading import missing
from nmfcore.solvers import HALS, MU

pytestmark = [
    pytest.mark.filterwarnings("ignore::nmfcore.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning"),
]

EPS = float(np.finfo(np.float64).eps)
SOLVERS = {
    "hals": HALS(),
    "mu": MU(),
    "textbook hals": HALS(sweeps=1, extrapolate=False),
    "textbook mu": MU(extrapolate=False),
    "hals, five sweeps": HALS(sweeps=5),
    "hals, a share": HALS(sweeps=3, extrapolate=0.3),
}
MISSING = {"punctured": (0.01, 0.33), "observed": (0.4, 0.8), "weights": (0.0, 0.5), "offsets": (0.0, 0.5)}
KINDS = ["noisy", "exact", "nearly exact", "uniform", "spread", "of lower rank"]
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def definition(X, W, H, weights, beta=2.0):
    """The loss, with 64 bits; near ``x̂ = x`` a divergence is a series, so that no digits cancel."""
    X, W, H, weights = (np.asarray(A, np.longdouble) for A in (X, W, H, weights))
    seen = weights > 0
    x, y = X[seen], (W @ H)[seen]
    f = (x - y) / np.where(y > 0, y, 1)
    if beta == 2.0:
        loss = (x - y) ** 2 / 2
    elif beta == 1.0:
        loss = y - x + x * np.log(np.where(x > 0, 1 + f, 1))
    elif beta == 0.0:
        loss = f - np.log(1 + f)
    else:
        loss = (x**beta + (beta - 1) * y**beta - beta * x * y ** (beta - 1)) / (beta * (beta - 1))
    if beta != 2.0:
        term = f**2 / 2
        series = term.copy()
        for k in range(3, 30):
            term = term * f * (np.longdouble(beta) - k + 1) / k
            series += term
        loss = np.where(np.abs(f) < 0.1, series * y ** np.longdouble(beta), loss)
    return float((weights[seen] * loss).sum())


def draw(rng, storage, dtype, kind, penalised):
    """A random problem: X as it is given, its entries and their weights, the rank, and the options that go with it."""
    m, n = rng.integers(3, 41, 2)
    r = int(rng.integers(1, 9))
    k = max(1, r // 2) if kind == "of lower rank" else r
    W, H = rng.random((m, k)), rng.random((k, n))
    if rng.integers(2):
        W, H = W * (rng.random(W.shape) < 0.6), H * (rng.random(H.shape) < 0.6)
    X = rng.random((m, n)) if kind == "uniform" else W @ H
    if kind == "noisy":
        X += 0.1 * rng.random((m, n))
    if kind == "nearly exact":
        X *= 1 + 10.0 ** rng.uniform(-9, -2) * rng.random((m, n))
    if kind == "spread":
        X *= 10.0 ** rng.uniform(-2, 2, (m, 1)) * 10.0 ** rng.uniform(-2, 2, n)
    X = (X * 10.0 ** rng.integers(-3, 4)).astype(dtype)
    weights = rng.random((m, n)) >= rng.uniform(*MISSING.get(storage, (0.0, 0.0)))
    weights[0, 0] = True
    options = {}
    if penalised:
        share = float(X.max())
        options = {
            "l1": tuple(share * 10.0 ** rng.uniform(-8, -1, 2)),
            "l2": (share * 10.0 ** rng.uniform(-8, -1),) * 2,
        }
    penalty = dict(options) or None
    if storage == "weights":
        weights = (weights * 10.0 ** rng.uniform(-2, 2, (m, n))).astype(np.float32)
        options["weights"] = weights
    elif storage == "observed":
        given = sp.csr_array(sp.coo_array((X[weights], np.nonzero(weights)), X.shape))
        return given, X, weights, r, {**options, "missing_values": "unstored"}, penalty
    elif storage in MISSING:
        options |= {"mask": weights, "offsets": storage == "offsets"}
    return sp.csr_array(X) if storage == "sparse" else X, X, weights, r, options, penalty


def check(given, X, weights, r, options, penalty=None, beta=2.0, **more):
    """Compare each iterate's objective, and the history, with the definition; return the fit."""
    told, true = [], []

    def compare(state):
        W, H = state.W, state.H
        full = definition(X, W, H, weights, beta)
        if options.get("offsets"):  # ones are not penalised
            W, H = np.delete(W, -1, axis=1), np.delete(H, -2, axis=0)
        told.append(state.objective)
        true.append(full + (0.0 if penalty is None else of(penalty, W, H)))

    f = nmfcore.factorize(given, r, loss=beta, tol=0, random_state=1, callback=compare, **options, **more)
    told, true, history = np.array(told), np.array(true), f.history.objective
    single = f.W.dtype == np.float32
    size = float((weights * X.astype(float) ** beta).sum()) if beta else float(np.sum(weights))
    delta = (r + 2 + 2 * bool(options.get("offsets"))) * EPS * (np.sqrt(size) + np.sqrt(size + 2 * true))
    allowed = 2 * TRUSTED[4 if single else 8] * true + np.sqrt(2 * true) * delta + delta**2 / 2
    assert np.all(np.abs(told - true) <= allowed)
    assert np.all(np.abs(history[len(history) - len(true) :] - true) <= allowed)
    measured = beta != 2.0 or any(options.get(name) is not None for name in ("missing_values", "weights", "offsets"))
    rounding = (
        1e-12 * true[:-1] + (np.sqrt(2 * true[:-1]) * delta[:-1] if measured else 0.0) + 10 * (r * EPS) ** 2 * size
    )
    if single:  # factors that are rounded have another objective
        coarse = delta[:-1] * float(np.finfo(np.float32).eps) / EPS
        rounding = 4e-7 * true[:-1] + np.sqrt(2 * true[:-1]) * coarse + coarse**2 / 2
    assert np.all(np.diff(history)[1 - len(true) :] <= rounding)
    return f


def of(penalty, W, H):
    """The penalties of both factors."""
    parts = zip((W, H), penalty["l1"], penalty["l2"], strict=True)
    return float(sum(l1 * A.sum(dtype=float) + l2 * np.square(A, dtype=float).sum() / 2 for A, l1, l2 in parts))


# ------------------------------------------------------------------------------------------------ at every iterate


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("storage", ["dense", "sparse", *MISSING])
@dtypes
def test_every_objective_is_that_of_the_definition(dtype, storage, solver):
    if storage == "offsets" and isinstance(solver, MU):
        pytest.skip("offsets need HALS")
    for seed, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, *storage.encode()])
        for penalised in (False, True):
            *problem, penalty = draw(rng, storage, dtype, kind, penalised)
            check(*problem, penalty, solver=solver, max_iter=40)


@pytest.mark.parametrize("loss", [1.0, 0.0, 0.5, 1.5])
@pytest.mark.parametrize("storage", ["dense", "sparse", "observed", "weights"])
@dtypes
def test_every_divergence_is_that_of_the_definition(dtype, storage, loss):
    for seed, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, *storage.encode()])
        given, X, weights, r, options, penalty = draw(rng, storage, dtype, kind, seed % 2 == 0)
        if loss == 0.0 or storage in MISSING:  # where x̂ were 0, what that is replaced by would decide
            X = X + X.max() / dtype(100)
            given = X
            if storage == "observed":
                options = {**options, "mask": weights}
                del options["missing_values"]
        for solver in ("hals", "mu") if loss == 1.0 else ("mu",):
            check(given, X, weights, r, options, penalty, loss, solver=solver, max_iter=40)


@pytest.mark.parametrize("seed", [36, 34, 97])
def test_a_fit_of_missing_entries_far_above_x(seed):
    """With five columns and rank 4 it grows without end, and nothing observed tells: it must not enter the account."""
    rng = np.random.default_rng(seed)
    X = rng.random((28, 5))
    mask = rng.random(X.shape) >= 0.29
    f = check(X, X, mask, 4, {"mask": mask}, solver="hals", max_iter=300)
    assert f.reconstruct()[~mask].max() > 30


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_float32_of_a_nearly_exact_fit(solver, seed):
    rng = np.random.default_rng(seed)
    X = (rng.random((20, 6)) @ rng.random((6, 28))).astype(np.float32)
    mask = rng.random(X.shape) >= 0.3
    check(X, X, mask, 6, {"mask": mask}, solver=solver, max_iter=600)


@pytest.mark.parametrize("kind", ["all ones", "tall", "wide"])
@pytest.mark.parametrize("storage", ["dense", "punctured", "sparse"])
def test_float32_of_long_sums(storage, kind):
    """Equal entries are rounded alike, and errors of many rows do not cancel each other."""
    rng = np.random.default_rng(0)
    X = {"all ones": (300, 300), "tall": (5000, 12), "wide": (12, 5000)}[kind]
    X = np.full(X, 0.7, np.float32) if kind == "all ones" else rng.random(X).astype(np.float32)
    mask = rng.random(X.shape) >= (0.1 if storage == "punctured" else 0.0)
    options = {"mask": mask, "init": "random"}
    check(sp.csr_array(X) if storage == "sparse" else X, X, mask, 3, options, solver="hals", max_iter=10)


# --------------------------------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e8])
def test_the_change_of_a_step_that_is_carried_on(scale, turned):
    """Row 3 lacks column 2, where the other factor is large: taken off the whole, its part would leave no digits."""
    rng = np.random.default_rng(0)
    X = rng.random((70, 65))
    mask = rng.random(X.shape) >= 0.1
    mask[3, 2] = False
    data = missing.read(X, None, mask).data
    assert isinstance(data, Imputed)
    if turned:
        data, X, mask, hole = data.T, X.T, mask.T, (2, 3)
    else:
        hole = (3, 2)
    A, B = rng.random((X.shape[0], 3)), rng.random((X.shape[1], 3))
    B[hole[1], 1] *= scale
    A[mask[:, hole[1]], 1] /= scale
    A[hole[0], 1] = 1.0
    Y = A * (1 + 0.01 * rng.random(A.shape))
    normal = data.normal(B)
    with Team(1) as team:
        normal.shared(team)
    for _ in normal.blocks(0, len(X)):
        pass
    values = [definition(X, Z, B.T, mask) for Z in (A, Y)]
    assert normal.change(A, Y, 0.0, 0.0, 0, len(X)) == pytest.approx(values[1] - values[0], rel=1e-9)
    Z = Y.copy()
    normal.change(A, Y, 0.0, 0.0, 0, len(X))
    assert np.array_equal(Y, Z)


@pytest.mark.parametrize("beta", [-1.0, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0])
@pytest.mark.parametrize("off", [1e-9, 1e-6, 1e-3, 0.019, 0.021, 0.5])
def test_a_divergence_has_its_digits_near_the_entry(beta, off):
    rng = np.random.default_rng(0)
    A = rng.random((40, 1)) + 0.5
    B = rng.random((30, 1)) + 0.5
    # Factors and entries with few bits, so that x̂ is exact.
    A, B = np.round(A * 256) / 256, np.round(B * 256) / 256
    X = A @ B.T * (1 + off * (2 * rng.random((40, 30)) - 1))
    indptr, none = np.arange(41) * 30, np.empty(0, np.int32)
    value = divergence.exact_value(indptr, none, X.reshape(-1), none.astype(float), A, B, beta, 1e-100)
    assert value == pytest.approx(definition(X, A, B.T, np.ones(X.shape), beta), rel=1e-10)


def test_what_a_recomputation_finds_is_put_right_in_the_history():
    def iterate(n_iter, objective, off=0.0):
        return Iterate(np.ones((1, 1)), np.ones((1, 1)), objective, 1.0, n_iter, float(n_iter), off)

    run = Run()
    for n_iter, objective in enumerate((9.0, 5.0, 4.0, 3.9)):
        run.record(iterate(n_iter, objective))
    run.record(iterate(4, 4.2, off=0.4))
    assert [objective for _, objective, _, _ in run.iterates] == [9.0, 5.0, 4.2, 4.2, 4.2]
    run.record(iterate(5, 4.0))
    run.record(iterate(6, 6.0, off=0.5))  # what was recomputed stays, and what is no rounding is to be seen
    assert [objective for _, objective, _, _ in run.iterates] == [9.0, 5.0, 4.2, 4.2, 4.2, 4.5, 6.0]


@dtypes
def test_the_account_is_of_the_factors_after_their_scales_were_balanced(dtype):
    rng = np.random.default_rng(0)
    X = (rng.random((20, 3)) @ rng.random((3, 15))).astype(dtype)
    W, H = (1000 * rng.random((20, 3))).astype(dtype), (rng.random((3, 15)) / 1000).astype(dtype)
    penalty = {"l1": (1e-6, 1e-6), "l2": (1e-6, 1e-6)}
    check(X, X, np.ones(X.shape), 3, {**penalty, "W": W, "H": H}, penalty, solver="hals", max_iter=40)
