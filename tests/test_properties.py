"""What holds for every matrix: feasible factors, an objective that never rises, and figures that are true.

**How exact can a recorded objective be?** One entry of the residual ``X - W H`` is formed with an error of at most
``(r + 2) ε`` times the entries of X and of W H (all terms have one sign). With ``Δ = (r + 2) ε (‖X‖ + ‖W H‖)`` that is
an error of the objective ``f = ½ ‖X - W H‖²`` of at most

    √(2 f) Δ + ½ Δ²,                                                                                          (*)

plus ``ε`` for every term of the sums. So f has some ten digits as long as the fit is not within ``1e-5 ‖X‖``, and none
where W H is X but for rounding: there ``½ Δ²``, about ``2 (r + 2)² ε² ‖X‖²``, is the floor below which the figures mean
nothing. Between recomputations the engine subtracts the decrease of each half-step, formed from gradients that carry
the error of dot products of length m or n; it recomputes when the value has fallen to 1/1000 of where it was last
exact, so that the f in (*) can be a thousand times the present one. `allowance` is (*) with both factors put in.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nmfcore
from nmfcore import Status, reference
from nmfcore.loop import solve
from nmfcore.losses.kkt import nothing_left
from nmfcore.solvers import HALS, MU

# Small random problems seldom determine what is missing.
pytestmark = pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
SOLVERS = {
    "hals": HALS(),
    "mu": MU(),
    "textbook hals": HALS(sweeps=1, extrapolate=False),
    "textbook mu": MU(extrapolate=False),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
both = pytest.mark.parametrize("name", ["hals", "mu"])
storages = pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])


def problem(m=20, n=16, r=3, seed=0, noise=0.1, low=0.0, missing=0.2):
    rng = np.random.default_rng(seed)
    X = (low + rng.random((m, r))) @ (low + rng.random((r, n))) + noise * rng.random((m, n))
    return X, rng.random((m, n)) >= missing


def stored_as(storage, X, mask):
    """``X`` in a storage, and the options that go with it."""
    return (sp.csr_array(X), {}) if storage == "sparse" else (X, {"mask": mask} if storage == "masked" else {})


def norm(A):
    return float(np.sqrt(np.sum(np.square(A, dtype=np.float64))))


def allowance(f, size, shape, r, eps):
    """What rounding may do to an objective ``f`` of data and a fit of norm ``size``: (*) above."""
    delta = (max(*shape, r) + 2) * eps * size
    return np.sqrt(2 * 1000 * f) * delta + delta**2


def never_rises(objective, floor, rtol=1e-12):
    """Whether each value is at most the one before, but for ``rtol`` of it and for the floor of the arithmetic."""
    return bool(np.all(objective[1:] <= objective[:-1] * (1 + rtol) + floor))


# ----------------------------------------------------------------------------------------------- any matrix at all

ANY_SIZE = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)


@st.composite
def matrices(draw, dtype=np.float64):
    """Finite and non-negative: anything in the range of the dtype, whole numbers with ties and zeros, rank 1."""
    shape = draw(ANY_SIZE)
    width = 8 * np.dtype(dtype).itemsize
    top = float(np.finfo(dtype).max)
    kind = draw(st.sampled_from(["anything", "whole", "outer", "constant", "sparse"]))
    if kind == "anything":
        X = draw(hnp.arrays(dtype, shape, elements=st.floats(0, top, width=width)))
    elif kind == "sparse":
        elements = st.sampled_from([0.0, 0.0, 0.0, 1.0, 0.3, 1e-9, 1e9])
        X = draw(hnp.arrays(dtype, shape, elements=elements))
    elif kind == "constant":
        X = np.full(shape, draw(st.floats(0, top, width=width)), dtype)
    else:
        X = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 4))).astype(dtype)
        if kind == "outer":
            X = np.outer(X[:, 0], X[0])
        limit = 1000 if dtype == np.float64 else 100
        X = np.ldexp(X, draw(st.integers(-limit, limit)))
    return np.abs(X)  # -0.0 too


@st.composite
def problems(draw, dtype=np.float64):
    X = draw(matrices(dtype))
    mask = draw(hnp.arrays(bool, X.shape, elements=st.sampled_from([True, True, False])))
    if not mask.any():
        mask[0, 0] = True
    rank = draw(st.sampled_from([1, 2, 3, min(X.shape), max(X.shape) + 2]))
    penalised = draw(st.booleans())
    return X, mask, rank, penalised, draw(st.integers(0, 10))


def assert_properties(problem, solver, storage, dtype):
    X, mask, rank, penalised, seed = problem
    observed = mask if storage == "masked" else None
    counted = X if observed is None else X[mask]
    # The oracles square their numbers: give them X / 4**s, whose factors are W / 2**s.
    s = int(np.frexp(counted.max())[1]) // 2
    penalty = {"l1": (0.0, 0.0), "l2": (0.0, 0.0)}
    scaled = penalty
    if penalised:
        penalty = {"l1": (0.03, 0.1), "l2": (0.05, 0.2)}
        if s > 330 or s < -330:
            penalty["l1"] = (0.0, 0.0)  # 8**s would leave float64
        scaled = {k: tuple(float(np.ldexp(v, u * s)) for v in penalty[k]) for k, u in (("l1", 3), ("l2", 2))}
    seen = []
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(
        given_X,
        rank,
        solver=solver,
        tol=0,
        max_iter=12,
        random_state=seed,
        callback=lambda state: seen.append(state),
        **options,
        **scaled,
    )
    for state in (*seen, f):
        assert state.W.dtype == state.H.dtype == dtype
        for A in (state.W, state.H):
            assert np.isfinite(A).all()
            assert A.min() >= 0
    h = f.history
    assert len(h) == f.n_iter + 1 == len(seen) + 1
    assert np.array_equal(h.iteration, np.arange(f.n_iter + 1))
    # Where a recomputation showed that iterates before were too low, they were lifted to it.
    told = np.array([state.objective for state in seen])
    assert np.all(told <= h.objective[1:])
    assert np.all(h.objective[1:] <= np.maximum.accumulate(told[::-1])[::-1])
    assert [state.kkt for state in seen] == list(h.kkt[1:])
    assert (f.objective, f.kkt) == (h.objective[-1], h.kkt[-1])
    assert not np.isnan(h.objective).any()
    assert not np.isnan(h.kkt).any()
    assert h.objective.min() >= 0

    eps = float(np.finfo(dtype).eps)
    Y = np.ldexp(X.astype(np.float64), -2 * s, where=True if observed is None else mask, out=np.zeros(X.shape))
    size_X = norm(Y)
    rtol = 1e-12 if dtype == np.float64 else 1e-6
    with np.errstate(over="ignore", under="ignore"):
        objective = np.ldexp(h.objective, -4 * s)
    in_range = abs(s) < 240  # else the objective itself, of X², was inf or 0
    floor = 2 * (rank + 2) ** 2 * eps**2 * size_X**2
    if dtype == np.float32:  # the decreases are those of gradients with errors of eps ‖X‖ ‖H‖
        floor = allowance(objective[:-1], 2 * size_X, X.shape, rank, eps)
    if in_range:
        assert never_rises(objective, floor, rtol)
    else:
        with np.errstate(over="ignore", under="ignore"):
            assert never_rises(h.objective, np.ldexp(floor, 4 * s) + 1e-320)

    for state in seen:
        W, H = (np.ldexp(A.astype(np.float64), -s) for A in (state.W, state.H))
        size = size_X + norm(W @ H)
        exact = reference.objective(Y, W, H, mask=observed, **penalty)
        if in_range:
            ours = np.ldexp(state.objective, -4 * s)
            assert abs(ours - exact) <= 1e-9 * exact + allowance(exact, size, X.shape, rank, eps)
        # A gradient is exact to eps (‖X‖ + ‖W H‖) ‖H‖ times the length of its sums; the residual divides by ‖H‖ and by
        # what is left of X, which is known as well as the objective is.
        least = nothing_left(dtype)
        certificate = reference.kkt(Y, W, H, mask=observed, **penalty, least=least)
        if np.isfinite(certificate) and size_X > 0:
            left = np.sqrt(2 * reference.objective(Y, W, H, mask=observed))
            error = 4 * (max(X.shape) + rank + 2) * eps * size / max(left, least * size_X)
            known = 1e-9 + allowance(exact, size, X.shape, rank, eps) / max(left, least * size_X) ** 2
            assert state.kkt == pytest.approx(
                certificate, rel=known + (0.0 if dtype == np.float64 else 1e-3), abs=error
            )
        else:
            assert state.kkt == certificate


@storages
@solvers
@given(problem=problems())
@settings(max_examples=60)
def test_for_any_matrix(solver, storage, problem):
    assert_properties(problem, solver, storage, np.float64)


@storages
@solvers
@given(problem=problems(np.float32))
@settings(max_examples=40)
def test_for_any_matrix_in_float32(solver, storage, problem):
    assert_properties(problem, solver, storage, np.float32)


# ------------------------------------------------------------------------------------------ figures on solid ground


@pytest.mark.parametrize("penalty", [{}, {"l1": (0.3, 0.1), "l2": (0.2, 0.5)}], ids=["plain", "penalised"])
@storages
@solvers
def test_the_history_is_true(solver, storage, penalty):
    X, mask = problem()
    given_X, options = stored_as(storage, X, mask)
    seen = []
    f = nmfcore.factorize(
        given_X, 3, solver=solver, tol=0, max_iter=60, random_state=0, callback=seen.append, **options, **penalty
    )
    assert f.n_iter == len(seen) >= 30  # with strong penalties a fit may arrive before the sixtieth
    observed = options.get("mask")
    for k, state in enumerate(seen):
        exact = reference.objective(X, state.W, state.H, mask=observed, **penalty)
        assert state.objective == pytest.approx(exact, rel=1e-11)
        certificate = reference.kkt(X, state.W, state.H, mask=observed, **penalty)
        assert state.kkt == pytest.approx(certificate, rel=1e-9, abs=1e-14)
        assert state.n_iter == f.history.iteration[k + 1] == k + 1
    assert f.history.objective[-1] < 0.9 * f.history.objective[0]
    assert never_rises(f.history.objective, 0)
    assert np.all(np.diff(f.history.seconds) >= 0)


@storages
@solvers
def test_a_bad_start_is_no_worse_for_the_figures(solver, storage):
    """Factors a million times too large, and unbalanced: the first value is 1e24 times the last."""
    X, mask = problem()
    rng = np.random.default_rng(1)
    given_X, options = stored_as(storage, X, mask)
    seen = []
    f = nmfcore.factorize(
        given_X,
        3,
        solver=solver,
        W=1e9 * rng.random((20, 3)),
        H=1e3 * rng.random((3, 16)),
        tol=0,
        max_iter=30,
        callback=seen.append,
        **options,
    )
    assert never_rises(f.history.objective, 0)
    for state in seen:
        exact = reference.objective(X, state.W, state.H, mask=options.get("mask"))
        assert state.objective == pytest.approx(exact, rel=1e-9)


@storages
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
@solvers
def test_down_to_an_exact_fit_the_figures_hold(solver, storage, scale):
    """X is W H: the objective falls from 1 to 1e-30 of itself, through every recomputation on the way."""
    X, mask = problem(noise=0, low=0.3)
    X = X * scale
    given_X, options = stored_as(storage, X, mask)
    seen = []
    f = nmfcore.factorize(
        given_X, 3, solver=solver, tol=0, max_iter=1500, random_state=1, callback=seen.append, **options
    )
    eps = np.finfo(float).eps
    size = norm(X[mask] if storage == "masked" else X)
    assert never_rises(f.history.objective, 2 * 5**2 * eps**2 * size**2)
    for state in seen[:: max(1, len(seen) // 60)]:
        exact = reference.objective(X, state.W, state.H, mask=options.get("mask"))
        assert abs(state.objective - exact) <= 1e-9 * exact + allowance(exact, 2 * size, X.shape, 3, eps)
    if solver is SOLVERS["hals"]:
        assert f.objective < 1e-20 * size**2


# ------------------------------------------------------------------------------------------------- symmetries


@storages
@solvers
def test_permuting_rows_and_columns_permutes_the_factors(solver, storage):
    X, mask = problem()
    rng = np.random.default_rng(2)
    W, H = rng.random((20, 3)), rng.random((3, 16))
    rows, columns = rng.permutation(20), rng.permutation(16)
    one, other = stored_as(storage, X, mask), stored_as(storage, X[rows][:, columns], mask[rows][:, columns])
    f = nmfcore.factorize(one[0], 3, solver=solver, W=W, H=H, tol=0, max_iter=10, **one[1])
    g = nmfcore.factorize(other[0], 3, solver=solver, W=W[rows], H=H[:, columns], tol=0, max_iter=10, **other[1])
    np.testing.assert_allclose(g.W, f.W[rows], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(g.H, f.H[:, columns], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(g.history.objective, f.history.objective, rtol=1e-10)


@both
def test_permuting_components_permutes_them(name):
    """Of MU at once; of HALS not, since it takes one component after the other."""
    X, _ = problem()
    rng = np.random.default_rng(2)
    W, H = rng.random((20, 3)), rng.random((3, 16))
    f = nmfcore.factorize(X, 3, solver=name, W=W, H=H, tol=0, max_iter=10)
    g = nmfcore.factorize(X, 3, solver=name, W=W[:, ::-1], H=H[::-1], tol=0, max_iter=10)
    equal = np.allclose(g.W[:, ::-1], f.W, rtol=1e-9, atol=1e-11)
    assert equal if name == "mu" else not equal
    assert g.history.objective[0] == pytest.approx(f.history.objective[0], rel=1e-12)


@storages
@solvers
def test_rows_and_columns_of_zeros_get_zeros(solver, storage):
    X, mask = problem()
    X[4], X[:, 7] = 0, 0
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(given_X, 3, solver=solver, tol=0, max_iter=40, random_state=0, **options)
    assert not f.W[4].any()
    assert not f.H[:, 7].any()
    assert np.delete(f.W, 4, axis=0).any(axis=1).all()
    assert np.delete(f.H, 7, axis=1).any(axis=0).all()


@pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])
@solvers
def test_rows_of_zeros_leave_the_others_as_they_are(solver, storage):
    """Padding with zeros, where the factor is zero as well, changes nothing but where sums are cut."""
    X, mask = problem()
    if isinstance(solver, HALS):
        solver = HALS(sweeps=2, extrapolate=solver.extrapolate)
    rng = np.random.default_rng(2)
    W, H = rng.random((20, 3)), rng.random((3, 16))
    one = stored_as(storage, X, mask)
    other = stored_as(storage, np.pad(X, ((0, 2), (0, 3))), np.pad(mask, ((0, 2), (0, 3)), constant_values=True))
    f = nmfcore.factorize(one[0], 3, solver=solver, W=W, H=H, tol=0, max_iter=10, **one[1])
    W, H = np.pad(W, ((0, 2), (0, 0))), np.pad(H, ((0, 0), (0, 3)))
    g = nmfcore.factorize(other[0], 3, solver=solver, W=W, H=H, tol=0, max_iter=10, **other[1])
    np.testing.assert_allclose(g.W[:20], f.W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(g.H[:, :16], f.H, rtol=1e-10, atol=1e-12)
    assert not g.W[20:].any()
    assert not g.H[:, 16:].any()
    np.testing.assert_allclose(g.history.objective, f.history.objective, rtol=1e-11)
    np.testing.assert_allclose(g.history.kkt, f.history.kkt, rtol=1e-8, atol=1e-14)


@storages
@both
def test_the_scale_of_a_component_does_not_matter(name, storage):
    """W_t c and H_t / c is the same estimate, with the same certificate; a power of two is exact."""
    X, mask = problem()
    rng = np.random.default_rng(2)
    W, H = rng.random((20, 3)), rng.random((3, 16))
    c = 2.0 ** np.array([20, -3, -60])
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(given_X, 3, solver=name, W=W, H=H, tol=0, max_iter=0, **options)
    g = nmfcore.factorize(given_X, 3, solver=name, W=W * c, H=H / c[:, None], tol=0, max_iter=0, **options)
    assert g.objective == f.objective
    assert g.kkt == pytest.approx(f.kkt, rel=1e-14)


# ---------------------------------------------------------------------------------------------- extrapolation


@storages
@both
def test_extrapolation_with_absurd_momentum_never_raises_the_objective(monkeypatch, name, storage):
    """Twenty-five steps carried on at once overshoot nearly always: each such step must be thrown away."""
    X, mask = problem(m=30, n=25, r=6, noise=0.3)
    given_X, options = stored_as(storage, X, mask)
    restarts = count_restarts(monkeypatch)
    monkeypatch.setattr(solve.Momentum, "next", lambda self: 25.0)
    f = nmfcore.factorize(given_X, 6, solver=name, random_state=0, tol=0, max_iter=60, **options)
    assert len(restarts) > 20
    assert never_rises(f.history.objective, 0)
    for A in f:
        assert A.min() >= 0
    assert f.objective == pytest.approx(reference.objective(X, f.W, f.H, mask=options.get("mask")), rel=1e-9)
    assert f.kkt == pytest.approx(reference.kkt(X, f.W, f.H, mask=options.get("mask")), rel=1e-7)


@storages
def test_extrapolation_is_restarted_where_it_overshoots(monkeypatch, storage):
    """Of its own accord momentum overshoots on these problems, now and then; the objective does not show it."""
    restarts = count_restarts(monkeypatch)
    for seed in range(4):
        X, mask = problem(m=30, n=25, r=6, noise=0.3, seed=seed)
        given_X, options = stored_as(storage, X, mask)
        f = nmfcore.factorize(given_X, 6, tol=0, max_iter=300, random_state=0, **options)
        assert never_rises(f.history.objective, 0)
    assert len(restarts) > 0


def count_restarts(monkeypatch):
    restarts, original = [], solve.Momentum.restart

    def restart(self):
        restarts.append(1)
        original(self)

    monkeypatch.setattr(solve.Momentum, "restart", restart)
    return restarts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fast", "plain"),
    [(HALS(sweeps=1), HALS(sweeps=1, extrapolate=False)), (MU(), MU(extrapolate=False))],
    ids=["hals", "mu"],
)
def test_extrapolation_pays(fast, plain):
    """It is there for a reason: it takes fewer iterations to the same residual, over six problems."""
    total = {fast: 0, plain: 0}
    for seed in range(6):
        X, _ = problem(m=30, n=25, r=6, noise=0.3, seed=seed)
        for solver in total:
            f = nmfcore.factorize(X, 6, solver=solver, tol=1e-2, max_iter=20_000, random_state=seed)
            total[solver] += f.n_iter
    assert total[fast] < total[plain]


@storages
@pytest.mark.parametrize("absurd", [False, True])
def test_the_same_share_of_every_step_never_raises_the_objective(monkeypatch, storage, absurd):
    """The steps of both factors are carried on where passes measure, and taken back where that overshoots."""
    restarts, original = [], solve.Steady.restart

    def restart(self):
        restarts.append(1)
        original(self)

    monkeypatch.setattr(solve.Steady, "restart", restart)
    if absurd:
        monkeypatch.setattr(solve.Steady, "next", lambda self: 25.0)
    X, mask = problem(m=30, n=25, r=6, noise=0.3)
    given_X, options = stored_as(storage, X, mask)
    options |= {"solver": HALS(sweeps=3, extrapolate=0.3), "random_state": 0}
    f = nmfcore.factorize(given_X, 6, tol=0, max_iter=60, **options)
    assert len(restarts) > 20 if absurd else len(restarts) < 5
    assert never_rises(f.history.objective, 0)
    assert f.objective == pytest.approx(reference.objective(X, f.W, f.H, mask=options.get("mask")), rel=1e-9)
    assert f.kkt == pytest.approx(reference.kkt(X, f.W, f.H, mask=options.get("mask")), rel=1e-7)
    f = nmfcore.factorize(given_X, 6, tol=1e-5, max_iter=5000, **options)
    assert f.status is Status.CONVERGED
    assert reference.kkt(X, f.W, f.H, mask=options.get("mask")) <= 1.0001e-5


def test_carrying_on_both_factors_pays_where_entries_are_missing():
    iterations = {0.3: 0, False: 0}
    for seed in range(4):
        X, mask = problem(m=30, n=25, r=6, noise=0.3, seed=seed)
        for share in iterations:
            solver = HALS(sweeps=8, extrapolate=share)
            f = nmfcore.factorize(X, 6, mask=mask, solver=solver, tol=1e-4, max_iter=20_000, l2=0.1, random_state=seed)
            iterations[share] += f.n_iter
    assert iterations[0.3] < 0.8 * iterations[False]


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5, -0.1, np.nan, "yes", 1])
def test_a_share_of_a_step_lies_between_0_and_1(share):
    with pytest.raises(TypeError, match=r"HALS: extrapolate=.* must be True, False or a number between 0 and 1"):
        HALS(extrapolate=share)


# ------------------------------------------------------------------------------------------------- the long run


@storages
@pytest.mark.parametrize("penalty", [{}, {"l1": 0.01, "l2": 0.1}], ids=["plain", "penalised"])
@pytest.mark.parametrize("solver", ["hals", HALS(sweeps=1, extrapolate=False)], ids=str)
def test_hals_arrives(solver, storage, penalty):
    X, mask = problem()
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(given_X, 3, solver=solver, tol=1e-8, max_iter=50_000, random_state=0, **options, **penalty)
    assert f.status is Status.CONVERGED
    assert f.kkt <= 1e-8
    pairs = {key: (value, value) for key, value in penalty.items()}
    assert reference.kkt(X, f.W, f.H, mask=options.get("mask"), **pairs) <= 1.0001e-8
    assert never_rises(f.history.objective, 0)


@storages
@pytest.mark.parametrize("solver", ["mu", MU(extrapolate=False)], ids=str)
def test_mu_arrives(solver, storage):
    """All of the solution is positive here, and it is a point (l2 fixes the scale): MU nears it linearly."""
    X, mask = problem(r=2, low=0.5, noise=0.05)
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(given_X, 1, solver=solver, tol=1e-8, max_iter=50_000, random_state=0, l2=0.1, **options)
    assert f.status is Status.CONVERGED
    assert min(f.W.min(), f.H.min()) > 1e-3
    assert reference.kkt(X, f.W, f.H, mask=options.get("mask"), l2=(0.1, 0.1)) <= 1.0001e-8


@pytest.mark.parametrize("solver", ["mu", MU(extrapolate=False)], ids=str)
def test_mu_arrives_at_rank_two(solver):
    rng = np.random.default_rng(0)
    X = np.array([[1.0, 0.2], [0.2, 1.0]]).repeat(5, axis=0) @ np.array([[1.0, 0.1], [0.1, 1.0]]).repeat(4, axis=1)
    X += 0.01 * rng.random(X.shape)
    f = nmfcore.factorize(X, 2, solver=solver, init="random", tol=1e-7, max_iter=100_000, random_state=0, l2=0.01)
    assert f.status is Status.CONVERGED
    assert reference.kkt(X, f.W, f.H, l2=(0.01, 0.01)) <= 1.0001e-7


@storages
@both
def test_both_solvers_end_at_points_of_one_quality(name, storage):
    """Neither is trapped where a gradient still points inwards, zeros of X and of the solution included."""
    X, mask = problem()
    X[X < 0.4] = 0
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(given_X, 3, solver=name, tol=1e-3, max_iter=20_000, random_state=0, **options)
    assert f.converged
    G_W, G_H = reference.gradients(X, f.W, f.H, mask=options.get("mask"))
    assert min(G_W.min(), G_H.min()) > -1e-3 * norm(X)


# ------------------------------------------------------------------------------------------- the smallest problems


@storages
@solvers
def test_the_simultaneous_update_that_oscillates_for_ever_is_solved_here(solver, storage):
    """X = 1, w = h = 2: moved both at once, w = h = ½, then 2, then ½."""
    X, mask = np.array([[1.0]]), np.array([[True]])
    given_X, options = stored_as(storage, X, mask)
    f = nmfcore.factorize(given_X, 1, solver=solver, W=[[2.0]], H=[[2.0]], tol=0, max_iter=10, **options)
    assert f.history.objective[0] == 4.5
    assert f.history.objective[1] == 0
    assert f.objective == 0
    assert f.kkt == 0
    assert f.n_iter == 1
    assert f.status is Status.CONVERGED
    assert f.W[0, 0] * f.H[0, 0] == 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
@storages
@solvers
def test_a_single_row_or_column_is_fitted(solver, storage, shape):
    X = np.arange(1.0, 6.0)[: max(shape)].reshape(shape)
    given_X, options = stored_as(storage, X, np.ones(shape, bool))
    for rank in (1, 3):
        f = nmfcore.factorize(given_X, rank, solver=solver, tol=1e-9, max_iter=2000, random_state=0, **options)
        np.testing.assert_allclose(f.reconstruct(), X, rtol=1e-6)


# ------------------------------------------------------------------------------------------------ the stopping number

E = np.array([[1.0], [0.0]])
EXACT_W, EXACT_H = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 1.0]]), np.array([[1.0, 0.0, 2.0], [0.0, 4.0, 1.0]])
STATIONARY = {
    "an exact fit": (EXACT_W @ EXACT_H, EXACT_W, EXACT_H, {}),
    "a residual orthogonal to both": (np.eye(2), E, E.T, {}),
    "an active bound": (np.array([[4.0, 0], [0, 0]]), 2 * E, 2 * E.T, {}),
    "l2": (np.array([[5.0]]), np.array([[2.0]]), np.array([[2.0]]), {"l2": 1.0}),
    "l1": (np.array([[5.0]]), np.array([[2.0]]), np.array([[2.0]]), {"l1": 2.0}),
    "l1 of W, l2 of H": (np.array([[5.0]]), np.array([[2.0]]), np.array([[2.0]]), {"l1": (2.0, 0), "l2": (0, 1.0)}),
    "nothing": (np.zeros((2, 3)), np.zeros((2, 1)), np.zeros((1, 3)), {}),
    "the saddle at 0": (np.ones((2, 3)), np.zeros((2, 1)), np.zeros((1, 3)), {}),
    "penalties that win": (np.array([[1.0]]), np.zeros((1, 1)), np.zeros((1, 1)), {"l1": 3.0}),
}


@pytest.mark.parametrize("case", STATIONARY)
@storages
@solvers
def test_the_residual_is_zero_at_a_stationary_point(solver, storage, case):
    X, W, H, options = STATIONARY[case]
    given_X, more = stored_as(storage, X, np.ones(X.shape, bool))
    f = nmfcore.factorize(given_X, W.shape[1], solver=solver, W=W, H=H, tol=0, max_iter=5, **options, **more)
    assert f.kkt == 0
    assert f.n_iter == 0
    assert f.status is Status.CONVERGED
    assert f.converged
    assert np.array_equal(f.W, W)
    assert np.array_equal(f.H, H)


@storages
@both
def test_the_residual_is_zero_at_a_stationary_point_of_masked_data(name, storage):
    """What is missing pulls at nothing, whatever would stand there."""
    X = EXACT_W @ EXACT_H
    mask = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], bool)
    kind = sp.csr_array if storage == "sparse" else np.asarray
    f = nmfcore.factorize(
        kind(np.where(mask, X, 99.0)), 2, solver=name, W=EXACT_W, H=EXACT_H, mask=mask, tol=0, max_iter=5
    )
    assert f.kkt == 0
    assert f.objective == 0


@both
def test_the_residual_is_not_zero_elsewhere(name):
    for X, W, H in ((np.ones((2, 2)), E, E.T), (np.eye(2), E + 0.1, E.T)):
        f = nmfcore.factorize(X, 1, solver=name, W=W, H=H, tol=0, max_iter=0)
        assert f.kkt == pytest.approx(reference.kkt(X, W, H), rel=1e-13)
        assert f.kkt > 0.01
        assert f.status is Status.MAX_ITER
    zero = np.zeros((2, 1))
    f = nmfcore.factorize(np.ones((2, 2)), 1, solver=name, W=zero, H=np.ones((1, 2)), tol=0, max_iter=0)
    assert f.kkt == np.inf  # W would like to grow, and there is no W H to compare with


@both
def test_tol_is_what_stops(name):
    X, _ = problem()
    for tol in (1e-1, 1e-2) if name == "mu" else (1e-2, 1e-3, 1e-4):
        f = nmfcore.factorize(X, 3, solver=name, tol=tol, max_iter=5000, random_state=0)
        assert f.status is Status.CONVERGED
        assert f.history.kkt[-1] <= tol
        o = f.history.objective
        assert o[-2] - o[-1] <= 0.1 * tol * o[-1]
        assert o[f.n_iter // 2] - o[-1] <= 10 * tol * o[-1]


@both
def test_a_fit_that_cannot_fall_further_stops(name):
    """In float32 the residual never reaches 1e-12: the fit says so, long before max_iter."""
    X, _ = problem(r=1, low=0.5)
    f = nmfcore.factorize(X.astype(np.float32), 1, solver=name, tol=1e-12, max_iter=5000, random_state=0)
    assert f.status is Status.STALLED
    assert f.converged
    assert f.n_iter < 500
    assert f.kkt < 1e-5


# ----------------------------------------------------------------------------------------------- a start far off


@both
@pytest.mark.parametrize("factor", [1e-160, 1e-100, 1e-60, 1e-20, 1e20, 1e60, 1e100, 1e160])
def test_a_start_far_off_scale_gives_a_fit(name, factor):
    """A start may have any size that float64 holds. The result is finite and lower, without a warning from inside."""
    X, _ = problem()
    rng = np.random.default_rng(1)
    W, H = rng.random((20, 3)), factor * rng.random((3, 16))
    f = nmfcore.factorize(X, 3, solver=name, W=W, H=H, tol=0, max_iter=5)
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    assert np.isfinite(f.history.objective).all()
    assert f.objective < 0.1 * norm(X) ** 2
    assert np.isfinite(f.kkt)
