"""Nearly complete data, stored densely: the same problem as observed entries one by one, solved faster."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import nmfcore
from nmfcore import reference
from nmfcore._parallel import Team
from nmfcore.data.dense import Dense
from nmfcore.data.imputed import MOST_MISSING, Imputed
from nmfcore.data.observed import Observed
from nmfcore.reading import missing
from nmfcore.solvers import HALS, MU

SOLVERS = {
    "hals": HALS(),
    "mu": MU(),
    "textbook hals": HALS(sweeps=1, extrapolate=False),
    "textbook mu": MU(extrapolate=False),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SOME = {"l1": (0.3, 0.1), "l2": (0.2, 0.5)}


def problem(m=90, n=80, r=4, seed=0, share=0.1):
    """Positive data, a mask, and a start; some rows and columns miss nothing, and some most of what they have."""
    rng = np.random.default_rng(seed)
    X = rng.random((m, r)) @ rng.random((r, n)) + 0.3 * rng.random((m, n)) + 0.01
    mask = rng.random((m, n)) >= share
    mask[: m // 5] = mask[:, : n // 6] = True
    mask[m // 2, : 4 * n // 5] = mask[: 4 * m // 5, n // 2] = False
    return X, mask, rng.random((m, r)) + 0.1, rng.random((r, n)) + 0.1


def fit(X, rank, solver="hals", max_iter=25, **options):
    return nmfcore.factorize(X, rank, solver=solver, tol=0, max_iter=max_iter, **options)


def data_of(X, mask, dtype=None, **options):
    return missing.read(X, None, mask, dtype=np.dtype(dtype) if dtype else None, **options).data


def assert_close(ours, theirs, rtol=1e-10):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0.01 * rtol * np.max(b))


def own_equations(X, mask, B):
    """``C`` and every row's ``G``, as they are defined."""
    C = np.array([X[i, seen] @ B[seen] for i, seen in enumerate(mask)])
    return C, np.array([B[seen].T @ B[seen] for seen in mask])


# ------------------------------------------------------------------------------------------------ the rule


def test_few_missing_entries_are_punched_out():
    X, mask, _, _ = problem()
    assert isinstance(data_of(X, mask), Imputed)
    assert isinstance(data_of(X, np.ones_like(mask)), Dense)
    assert isinstance(data_of(X, np.random.default_rng(0).random(X.shape) < 0.5), Observed)
    assert isinstance(data_of(X, mask, degree=1.0), Observed)
    assert isinstance(data_of(X, mask, row_by_row=True), Observed)
    assert isinstance(missing.read(X, None, mask, mask * 1.5).data, Observed)


def test_the_rule_counts():
    X = np.ones((10, 20))
    mask = np.ones(X.shape, bool)
    mask.flat[: int(MOST_MISSING * X.size)] = False
    assert isinstance(data_of(X, mask), Imputed)
    mask.flat[int(MOST_MISSING * X.size)] = False
    assert isinstance(data_of(X, mask), Observed)


WAYS = {
    "nan": lambda X, mask: (np.where(mask, X, np.nan), {"missing_values": np.nan}),
    "zero": lambda X, mask: (np.where(mask, X, 0), {"missing_values": 0}),
    "masked array": lambda X, mask: (np.ma.array(X, mask=~mask), {}),
    "0/1 weights": lambda X, mask: (X, {"weights": mask.astype(float)}),
    "unstored": lambda X, mask: (sp.csr_array(np.where(mask, X, 0)), {"missing_values": "unstored"}),
    "sparse zeros": lambda X, mask: (sp.csc_array(np.where(mask, X, 0)), {"missing_values": 0}),
    "sparse X, dense mask": lambda X, mask: (sp.csr_array(X), {"mask": mask}),
    "sparse X, sparse weights": lambda X, mask: (sp.csr_array(X), {"weights": sp.coo_array(mask * 1.0)}),
    "nan stored in sparse": lambda X, mask: (sp.csr_array(np.where(mask, X, np.nan)), {"missing_values": np.nan}),
}


@pytest.mark.parametrize("way", WAYS)
@solvers
def test_every_way_to_say_missing_gives_the_same_bits(solver, way):
    X, mask, _, _ = problem()
    said, options = WAYS[way](X, mask)
    f, g = fit(said, 4, solver, random_state=1, **options), fit(X, 4, solver, random_state=1, mask=mask)
    assert np.array_equal(f.W, g.W)
    assert np.array_equal(f.H, g.H)
    assert np.array_equal(f.history.objective, g.history.objective)


# ------------------------------------------------------------------------------------------ normal equations


@dtypes
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 8, 13])
def test_normal_equations_equal_their_definition(rank, turned, dtype):
    X, mask, _, _ = problem()
    data = data_of(X.astype(dtype), mask)
    B = np.random.default_rng(1).random((X.shape[1 - turned], rank)).astype(dtype)
    X, mask = (X, mask) if not turned else (X.T, mask.T)
    C, G = own_equations(X.astype(dtype).astype(float), mask, B.astype(float))
    place, tolerance = 0, 1e-12 if dtype == np.float64 else 3e-6
    for start, stop, c, g in (data.T if turned else data).normal(B).blocks(0, len(X)):
        assert start == place
        np.testing.assert_allclose(c, C[start:stop], rtol=tolerance)
        np.testing.assert_allclose(g, G[start:stop], rtol=tolerance)
        assert np.array_equal(g, g.swapaxes(1, 2))
        place = stop
    assert place == len(X)


def test_what_is_missing_may_be_nearly_all_that_a_component_has():
    """Taken off the sum over all entries, 1e16 times as large, it would leave nothing but rounding."""
    X, mask, _, _ = problem()
    mask[3, 20] = mask[5, 20] = False
    B = np.random.default_rng(1).random((80, 4))
    B[20, 2] = 1e8
    blocks = [np.array(G) for _, _, _, G in data_of(X, mask).normal(B).blocks(0, len(X))]
    np.testing.assert_allclose(np.concatenate(blocks), own_equations(X, mask, B)[1], rtol=1e-12)
    B[:, 2] = 0.0
    B[20, 2] = 1.0  # nothing at all is left
    blocks = [np.array(G) for _, _, _, G in data_of(X, mask).normal(B).blocks(0, len(X))]
    assert not np.concatenate(blocks)[~mask[:, 20], 2].any()


@pytest.mark.parametrize("turned", [False, True])
def test_measures_equal_their_definition(turned):
    X, mask, W, H = problem()
    data = data_of(np.where(mask, X, np.nan), mask)
    A, B = W, np.ascontiguousarray(H.T)
    if turned:
        data, X, mask, A, B = data.T, X.T, mask.T, B, A
    assert data.n_entries == mask.sum()
    assert np.array_equal(data.counts, mask.sum(axis=1))
    assert np.array_equal(data.known_rows, mask.any(axis=1))
    assert data.mean == pytest.approx(X[mask].mean(), rel=1e-14)
    assert data.sum_squares == pytest.approx((X[mask] ** 2).sum(), rel=1e-14)
    filled = np.where(mask, X, X[mask].mean())
    rows = np.array([5, 0, 45, 45])
    with Team(1) as team:
        assert data.squared_error(A, B, team) == pytest.approx(((X - A @ B.T)[mask] ** 2).sum(), rel=1e-13)
        np.testing.assert_allclose(data.times(B, team), filled @ B, rtol=1e-12)
        some = data.some_rows(rows)
        expected = ((X - 0.5)[rows] ** 2)[mask[rows]].sum()
        half = np.full((4, 1), 0.5), np.ones((X.shape[1], 1))
        assert some.squared_error(*half, team) == pytest.approx(expected, rel=1e-13)
    (_, _, stored) = next(iter(data.rows(0, len(X), zeros=True)))
    assert np.array_equal(stored.values, X[mask])
    assert np.array_equal(stored.indices, np.nonzero(mask)[1])
    assert data.first_zero is None


# ----------------------------------------------------------------------------------------------------- fits


@pytest.mark.parametrize("shape", [(90, 80), (15, 12), (300, 7), (5, 200)])
@pytest.mark.parametrize("penalty", [{}, SOME], ids=["plain", "penalised"])
@pytest.mark.parametrize(
    ("solver", "twin"),
    [(HALS(sweeps=1, extrapolate=False), reference.masked_hals), (MU(extrapolate=False), reference.masked_mu)],
    ids=["hals", "mu"],
)
def test_equals_the_reference_iterate_by_iterate(solver, twin, penalty, shape):
    X, mask, W, H = problem(*shape)
    assert isinstance(data_of(X, mask), Imputed)
    for n_iter in (1, 2, 20):
        f = fit(X, 4, solver, n_iter, W=W, H=H, mask=mask, **penalty)
        assert_close(f, twin(X, mask, W, H, n_iter, **penalty))
        assert f.objective == pytest.approx(reference.objective(X, f.W, f.H, mask=mask, **penalty), rel=1e-11)


@pytest.mark.parametrize("penalty", [{}, SOME], ids=["plain", "penalised"])
@pytest.mark.parametrize("share", [0.01, 0.2])
@solvers
def test_figures_are_those_of_the_observed_entries(solver, share, penalty):
    """Each recorded decrease is exact, though another function was minimised; and so is the residual."""
    X, mask, W, H = problem(200, 150, share=share)
    seen = []
    f = fit(X, 4, solver, 12, W=W, H=H, mask=mask, callback=seen.append, **penalty)
    assert np.all(np.diff(f.history.objective) <= 0)
    for state in seen:
        truth = reference.objective(X, state.W, state.H, mask=mask, **penalty)
        assert state.objective == pytest.approx(truth, rel=1e-11)
        assert state.kkt == pytest.approx(reference.kkt(X, state.W, state.H, mask=mask, **penalty), rel=1e-7)


@pytest.mark.slow
@dtypes
def test_imputation_arrives_where_exact_steps_do(dtype):
    X, mask, W, H = problem(200, 150, share=0.2)
    X, tol = X.astype(dtype), 1e-6 if dtype == np.float64 else 1e-4  # rounding is some 1e-5 of what is left
    ends = [
        nmfcore.factorize(X, 4, W=W, H=H, mask=mask, solver=solver, tol=tol, max_iter=5000, l2=0.01)
        for solver in (HALS(), HALS(sweeps=5))
    ]
    assert all(f.converged for f in ends)
    assert ends[0].objective == pytest.approx(ends[1].objective, rel=1e-4)
    assert ends[0].n_iter <= 1.5 * ends[1].n_iter


def test_a_row_without_its_largest_entry_does_not_wait_for_it():
    """One column is 100 times the others. What the fit makes of it where it is missing hardly moves, if imputed."""
    X, mask, W, H = problem(300, 100)
    X[:, 60] *= 100
    gone = np.arange(0, 300, 3)
    mask[gone, 60] = False
    f = fit(X, 4, max_iter=40, W=W, H=H, mask=mask)
    best = np.array([scipy.optimize.nnls(f.H.T[seen], X[i, seen])[0] for i, seen in enumerate(mask)])
    left, least = (((X - A @ f.H) ** 2 * mask)[gone].sum() for A in (f.W, best))
    assert left <= 1.01 * least


@solvers
@dtypes
def test_garbage_under_the_mask_changes_no_bit(dtype, solver):
    X, mask, _, _ = problem(200, 150)
    clean = fit(X.astype(dtype), 4, solver, 8, random_state=0, mask=mask)
    for garbage in (np.nan, np.inf, -7.0, 1e30):
        f = fit(np.where(mask, X, garbage).astype(dtype), 4, solver, 8, random_state=0, mask=mask)
        assert np.array_equal(f.W, clean.W)
        assert np.array_equal(f.H, clean.H)
        assert np.array_equal(f.history.kkt, clean.history.kkt)


@solvers
@dtypes
def test_any_number_of_threads_gives_the_same_bits(dtype, solver):
    X, mask, _, _ = problem(1500, 500, 16, share=0.05)
    X = X.astype(dtype)
    assert len(data_of(X, mask).slabs(16)) > 1
    one, many = (fit(X, 16, solver, 3, mask=mask, random_state=0, n_threads=k) for k in (1, 3))
    assert np.array_equal(one.W, many.W)
    assert np.array_equal(one.H, many.H)
    assert np.array_equal(one.history.objective, many.history.objective)


@solvers
@pytest.mark.parametrize("exponent", [-120, -3, 40, 150])
def test_a_power_of_four_scales_the_result_exactly(exponent, solver):
    X, mask, _, _ = problem(200, 150)
    f = fit(X, 4, solver, 8, random_state=0, mask=mask)
    g = fit(np.ldexp(X, 2 * exponent), 4, solver, 8, random_state=0, mask=mask)
    assert np.array_equal(np.ldexp(f.W, exponent), g.W)
    assert np.array_equal(np.ldexp(f.H, exponent), g.H)
    assert np.array_equal(f.history.kkt, g.history.kkt)


@solvers
def test_rows_and_columns_without_entries_are_zero(solver):
    X, mask, _, _ = problem(200, 150)
    mask[4], mask[:, 7] = False, False
    f = fit(X, 4, solver, random_state=0, mask=mask)
    assert not f.W[4].any()
    assert not f.H[:, 7].any()
    rest = np.ix_(np.delete(np.arange(200), 4), np.delete(np.arange(150), 7))
    without = reference.kkt(X[rest], np.delete(f.W, 4, 0), np.delete(f.H, 7, 1), mask=mask[rest])
    assert f.kkt == pytest.approx(without, rel=1e-6)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_transform_equals_nnls_row_by_row(kind):
    X, mask, W, H = problem()
    f = fit(X, 4, W=W, H=H, mask=mask)
    best = np.array([scipy.optimize.nnls(f.H.T[seen], X[i, seen])[0] for i, seen in enumerate(mask)])
    given = X if kind == "dense" else sp.csr_array(X)
    np.testing.assert_allclose(f.transform(given, mask=mask), best, rtol=1e-8, atol=1e-10)


def test_nothing_is_modified():
    X, mask, W, H = problem()
    X[~mask] = np.nan
    before = X.copy(), mask.copy()
    fit(X, 4, W=W, H=H, missing_values=np.nan)
    fit(X, 4, W=W, H=H, mask=mask)
    np.testing.assert_array_equal(X, before[0])
    assert np.array_equal(mask, before[1])
