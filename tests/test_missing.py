"""What is missing, however it is said, is left out; and it is never read."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore import reference
from nmfcore.kernels import observed
from nmfcore.solvers import HALS, MU

SOLVERS = {
    "hals": HALS(),
    "mu": MU(),
    "textbook hals": HALS(sweeps=1, extrapolate=False),
    "textbook mu": MU(extrapolate=False),
}
solvers = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
SOME = {"l1": (0.3, 0.1), "l2": (0.2, 0.5)}
penalties = pytest.mark.parametrize("penalty", [{}, SOME], ids=["plain", "penalised"])


def problem(m=15, n=12, r=3, seed=0, missing=0.4):
    """Positive data, a mask that leaves no row or column empty, and a start."""
    rng = np.random.default_rng(seed)
    X = rng.random((m, r)) @ rng.random((r, n)) + 0.3 * rng.random((m, n)) + 0.01
    mask = rng.random((m, n)) >= missing
    assert mask.any(axis=0).all()
    assert mask.any(axis=1).all()
    assert not mask.all()
    return X, mask, rng.random((m, r)) + 0.1, rng.random((r, n)) + 0.1


def fit(X, rank, solver="hals", max_iter=25, **options):
    return nmfcore.factorize(X, rank, solver=solver, tol=0, max_iter=max_iter, **options)


def stored_where(mask, X, kind=sp.csr_array):
    """A sparse matrix that stores exactly the entries under the mask, zeros among them included."""
    rows, columns = np.nonzero(mask)
    return kind(sp.coo_array((X[rows, columns], (rows, columns)), shape=X.shape))


def assert_agree(f, g, rtol=1e-12):
    for a, b in ((f.W, g.W), (f.H, g.H)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * np.max(b))
    np.testing.assert_allclose(f.history.objective, g.history.objective, rtol=rtol)


def assert_same_bits(f, g):
    assert np.array_equal(f.W, g.W)
    assert np.array_equal(f.H, g.H)
    assert np.array_equal(f.history.objective, g.history.objective)
    assert np.array_equal(f.history.kkt, g.history.kkt)


# ----------------------------------------------------------------------------------------- a full mask is no mask

FULL = {
    "mask": lambda X: (X, {"mask": np.ones(X.shape, bool)}),
    "weights": lambda X: (X, {"weights": np.ones(X.shape)}),
    "nan": lambda X: (X, {"missing_values": np.nan}),
    "zero": lambda X: (X, {"missing_values": 0}),
    "masked array": lambda X: (np.ma.masked_less(X, 0), {}),
    "unstored": lambda X: (sp.csr_array(X), {"missing_values": "unstored"}),
    "sparse mask": lambda X: (X, {"mask": sp.csr_array(np.ones(X.shape, bool))}),
    "sparse and mask": lambda X: (sp.csr_array(X), {"mask": np.ones(X.shape, bool)}),
    "sparse and weights": lambda X: (sp.csc_array(X), {"weights": sp.csr_array(np.ones(X.shape))}),
}


@pytest.mark.parametrize("way", FULL)
@penalties
@solvers
def test_a_full_mask_is_no_mask(solver, penalty, way):
    X, _, W, H = problem()
    full, options = FULL[way](X)
    assert_agree(fit(full, 3, solver, W=W, H=H, **options, **penalty), fit(X, 3, solver, W=W, H=H, **penalty))


@penalties
@solvers
def test_a_nearly_full_mask_is_the_limit(solver, penalty):
    """A cell whose weight is 1e-14 hardly counts, but keeps the storage of incomplete data in play: so the engines of
    complete and of incomplete data meet, with nothing left to choose between them but the storage."""
    X, _, W, H = problem()
    if getattr(solver, "sweeps", 1) == "auto":
        solver = HALS(sweeps=3)  # how many sweeps are worth their while depends on the storage
    weights = np.ones(X.shape)
    weights[3, 4] = 1 + 1e-14
    assert_agree(
        fit(X, 3, solver, W=W, H=H, weights=weights, **penalty), fit(X, 3, solver, W=W, H=H, **penalty), rtol=1e-10
    )


def test_a_full_mask_on_sparse_data_with_the_default_solver():
    """How the entries of a sparse X are said to be all there must not change the fit."""
    X, _, W, H = problem(n=60)
    X = sp.csr_array(np.where(np.median(X) < X, X, 0))
    plain = fit(X, 3, W=W, H=H)
    assert_agree(fit(X, 3, W=W, H=H, mask=np.ones(X.shape, bool)), plain, rtol=1e-9)


# ------------------------------------------------------------------------------------ one contract, many ways to say it

WAYS = {
    "nan": lambda X, mask: (np.where(mask, X, np.nan), {"missing_values": np.nan}),
    "zero": lambda X, mask: (np.where(mask, X, 0), {"missing_values": 0}),
    "0.0 of float": lambda X, mask: (np.where(mask, X, 0), {"missing_values": np.float64(0.0)}),
    "masked array": lambda X, mask: (np.ma.array(X, mask=~mask), {}),
    "masked array of nan": lambda X, mask: (np.ma.array(np.where(mask, X, np.nan), mask=~mask), {}),
    "0/1 weights": lambda X, mask: (X, {"weights": mask.astype(float)}),
    "0/1 whole weights": lambda X, mask: (X, {"weights": mask.astype(int)}),
    "sparse 0/1 weights": lambda X, mask: (X, {"weights": sp.csc_array(mask.astype(float))}),
    "sparse mask": lambda X, mask: (X, {"mask": sp.coo_array(mask)}),
    "DataFrame": lambda X, mask: (pd.DataFrame(X).where(mask), {"missing_values": np.nan}),
    "DataFrame of objects": lambda X, mask: (
        pd.DataFrame(X).astype(object).where(mask, None),
        {"missing_values": np.nan},
    ),
    "DataFrame mask": lambda X, mask: (X, {"mask": pd.DataFrame(mask)}),
    "list mask": lambda X, mask: (X.tolist(), {"mask": mask.tolist()}),
    "unstored csr": lambda X, mask: (stored_where(mask, X), {"missing_values": "unstored"}),
    "unstored csc": lambda X, mask: (stored_where(mask, X, sp.csc_array), {"missing_values": "unstored"}),
    "unstored coo": lambda X, mask: (stored_where(mask, X, sp.coo_array), {"missing_values": "unstored"}),
    "unstored dok": lambda X, mask: (stored_where(mask, X, sp.dok_array), {"missing_values": "unstored"}),
    "sparse zeros": lambda X, mask: (sp.csr_array(np.where(mask, X, 0)), {"missing_values": 0}),
    "sparse X, dense mask": lambda X, mask: (sp.csr_array(X), {"mask": mask}),
    "sparse X, sparse mask": lambda X, mask: (sp.csr_array(X), {"mask": sp.csc_array(mask)}),
    "sparse X, sparse weights": lambda X, mask: (sp.csr_array(X), {"weights": sp.coo_array(mask * 1.0)}),
    "sparse X, dense weights": lambda X, mask: (sp.csr_array(X), {"weights": mask * 1.0}),
    "nan stored in sparse": lambda X, mask: (sp.csr_array(np.where(mask, X, np.nan)), {"missing_values": np.nan}),
    "mask and weights": lambda X, mask: (X, {"mask": mask, "weights": np.ones(X.shape)}),
}


@pytest.mark.parametrize("way", WAYS)
@solvers
def test_every_way_to_say_missing_gives_the_same_factors(solver, way):
    X, mask, W, H = problem()
    said, options = WAYS[way](X, mask)
    assert_agree(fit(said, 3, solver, W=W, H=H, **options), fit(X, 3, solver, W=W, H=H, mask=mask))


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_say_missing_starts_alike(way):
    """The random start depends on the mean of what is observed: equivalent inputs agree in that too."""
    X, mask, _, _ = problem()
    said, options = WAYS[way](X, mask)
    assert_agree(fit(said, 3, random_state=5, **options), fit(X, 3, random_state=5, mask=mask))


@penalties
def test_it_is_the_observed_part_that_is_minimised(penalty):
    """Against the objective as it is written, not against another way through the same code."""
    X, mask, W, H = problem()
    f = fit(np.where(mask, X, np.nan), 3, W=W, H=H, missing_values=np.nan, **penalty)
    assert f.objective == pytest.approx(reference.objective(X, f.W, f.H, mask=mask, **penalty), rel=1e-12)
    assert f.history.objective[0] == pytest.approx(reference.objective(X, W, H, mask=mask, **penalty), rel=1e-12)
    assert f.kkt == pytest.approx(reference.kkt(X, f.W, f.H, mask=mask, **penalty), rel=1e-8)


@pytest.mark.parametrize("way", ["mask", "weights", "masked array", "sparse X"])
@pytest.mark.parametrize("garbage", [np.nan, 1e308, -7.0, np.inf, -np.inf, 5e-324])
@solvers
def test_garbage_under_the_mask_changes_no_bit(solver, garbage, way):
    X, mask, _, _ = problem()

    def given(values):
        values = np.where(mask, X, values)
        if way == "masked array":
            return np.ma.array(values, mask=~mask), {}
        if way == "weights":
            return values, {"weights": mask * 1.5}
        return (sp.csr_array(values) if way == "sparse X" else values), {"mask": mask}

    clean, options = given(0.5)
    dirty, _ = given(garbage)
    f = fit(clean, 3, solver, random_state=3, **options)
    assert_same_bits(fit(dirty, 3, solver, random_state=3, **options), f)


def test_garbage_in_float32_and_in_nndsvd_starts():
    X, mask, _, _ = problem()
    for init in ("random", "nndsvd", "nndsvda"):
        clean = fit(np.where(mask, X, 1).astype(np.float32), 3, mask=mask, init=init, random_state=0)
        dirty = fit(np.where(mask, X, np.inf).astype(np.float32), 3, mask=mask, init=init, random_state=0)
        assert clean.W.dtype == np.float32
        assert_same_bits(dirty, clean)


# --------------------------------------------------------------------------------------------------- weights


def weighted_hals(X, weights, W, H, n_iter):
    """HALS with ``½ Σ ω (x - wh)²``, entry by entry from the definition."""
    W, Ht = W.copy(), H.T.copy()
    for _ in range(n_iter):
        for A, B, Y, O in ((W, Ht, X, weights), (Ht, W, X.T, weights.T)):
            for t in range(A.shape[1]):
                gradient = (O * (A @ B.T - Y)) @ B[:, t]
                curvature = np.maximum(O @ B[:, t] ** 2, 1e-200)
                A[:, t] = np.maximum(0, A[:, t] - gradient / curvature)
    return W, Ht.T


def weighted_mu(X, weights, W, H, n_iter):
    for _ in range(n_iter):
        W = W * ((weights * X) @ H.T) / ((weights * (W @ H)) @ H.T)
        H = H * (W.T @ (weights * X)) / (W.T @ (weights * (W @ H)))
    return W, H


@pytest.mark.parametrize("with_zeros", [False, True])
@pytest.mark.parametrize(
    ("solver", "twin"), [("textbook hals", weighted_hals), ("textbook mu", weighted_mu)], ids=["hals", "mu"]
)
@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_weights_equal_their_definition(solver, twin, with_zeros, storage):
    X, mask, W, H = problem()
    weights = np.random.default_rng(1).uniform(0.1, 5, X.shape) * (mask if with_zeros else 1)
    for n_iter in (1, 2, 20):
        f = fit(sp.csr_array(X) if storage == "sparse" else X, 3, SOLVERS[solver], n_iter, W=W, H=H, weights=weights)
        for ours, theirs in zip(f, twin(X, weights, W, H, n_iter), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12 * theirs.max())
        assert f.objective == pytest.approx(0.5 * np.sum(weights * (X - f.W @ f.H) ** 2), rel=1e-11)


@pytest.mark.parametrize("solver", [HALS(sweeps=2), *list(SOLVERS.values())[1:]], ids=str)
def test_a_weight_of_two_counts_twice(solver):
    """A column of weight 2 is a column that stands there twice, and a row a row."""
    X, mask, W, H = problem()
    weights = mask.astype(float)
    weights[:, 4] *= 2
    weights[7] *= 2
    f = fit(X, 3, solver, W=W, H=H, weights=weights)
    rows, columns = np.append(np.arange(15), 7), np.append(np.arange(12), 4)
    g = fit(X[rows][:, columns], 3, solver, W=W[rows], H=H[:, columns], mask=mask[rows][:, columns])
    np.testing.assert_allclose(g.W[:-1], f.W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(g.H[:, :-1], f.H, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(g.history.objective, f.history.objective, rtol=1e-10)


@solvers
def test_equal_weights_change_the_objective_only(solver):
    X, mask, W, H = problem()
    f, g = (fit(X, 3, solver, W=W, H=H, weights=k * mask) for k in (1.0, 3.0))
    np.testing.assert_allclose(g.W, f.W, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(g.history.objective, 3 * f.history.objective, rtol=1e-11)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")  # most rows have fewer entries than components
@pytest.mark.parametrize("r", [3, 18, 40])
@pytest.mark.parametrize("turned", [False, True])
def test_rows_too_long_for_the_cache(r, turned):
    """What is summed up in one pass is what is gone through block by block, or entry by entry."""
    m = 2 * observed.ROOM + 700
    X, mask, W, H = problem(m, 30, r)
    weights = np.random.default_rng(1).uniform(0.1, 5, X.shape) * mask
    assert (mask.sum(axis=0) > observed.ROOM).all()
    given = (X.T, weights.T, H.T, W.T) if turned else (X, weights, W, H)
    X, weights, W, H = (np.ascontiguousarray(a) for a in given)
    f = fit(X, r, HALS(sweeps=1, extrapolate=False), 3, W=W, H=H, weights=weights)
    for ours, theirs in zip(f, weighted_hals(X, weights, W, H, 3), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-11 * theirs.max())
    for max_iter in (0, 4):
        f = fit(X, r, HALS(), max_iter, W=W, H=H, mask=weights > 0)
        assert f.objective == pytest.approx(reference.objective(X, f.W, f.H, mask=weights > 0), rel=1e-10)
        assert f.kkt == pytest.approx(reference.kkt(X, f.W, f.H, mask=weights > 0), rel=1e-6)
    single = fit(X.astype(np.float32), r, HALS(), 4, W=W, H=H, mask=weights > 0)
    assert single.objective == pytest.approx(f.objective, rel=1e-3)


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_weighted_fits_arrive(solver):
    """The gradient of the weighted objective, written out, vanishes where the fit says so."""
    X, mask, _, _ = problem()
    weights = np.random.default_rng(1).uniform(0.1, 5, X.shape) * mask
    f = nmfcore.factorize(X, 2, solver=solver, weights=weights, l2=0.01, tol=1e-7, max_iter=20_000, random_state=0)
    assert f.converged
    assert f.kkt <= 1e-7
    assert np.all(np.diff(f.history.objective) <= 1e-12 * f.history.objective[:-1])
    R = weights * (f.W @ f.H - X)
    for A, G, B in (
        (f.W, R @ f.H.T + 0.01 * f.W, weights @ (f.H**2).T + 0.01),
        (f.H, f.W.T @ R + 0.01 * f.H, (f.W**2).T @ weights + 0.01),
    ):
        assert np.abs(np.where(G < 0, G, np.minimum(G, B * A))).max() < 1e-4


def test_float32_weights_and_float32_data():
    X, mask, W, H = problem()
    weights = np.random.default_rng(1).uniform(0.1, 5, X.shape) * mask
    double = fit(X, 3, W=W, H=H, weights=weights)
    single = fit(X.astype(np.float32), 3, W=W, H=H, weights=weights.astype(np.float32))
    assert single.W.dtype == np.float32
    assert single.objective == pytest.approx(double.objective, rel=1e-4)
    mixed = fit(X, 3, W=W, H=H, weights=weights.astype(np.float32))
    assert mixed.W.dtype == np.float64


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (-np.ones((15, 12)), ValueError, r"weights\[0, 0\] = -1"),
        (np.full((15, 12), np.nan), ValueError, r"weights\[0, 0\]"),
        (np.full((15, 12), np.inf), ValueError, r"weights\[0, 0\]"),
        (np.ones((12, 15)), ValueError, r"weights has shape \(12, 15\) where X has \(15, 12\)"),
        (np.ones(12), ValueError, "2D"),
        (np.zeros((15, 12)), ValueError, "No observed entries"),
        (sp.csr_array((15, 12)), ValueError, "No observed entries"),
        (sp.csr_array(np.ones((12, 15))), ValueError, r"\(12, 15\)"),
        (np.full((15, 12), "1"), TypeError, "weights"),
        (np.ones((15, 12), complex), ValueError, "weights"),
    ],
)
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_weights_that_are_none(storage, weights, error, message):
    X = problem()[0]
    with pytest.raises(error, match=message):
        fit(storage(X), 2, weights=weights)


# ----------------------------------------------------------------------------------------- zeros, stored and not


def test_a_stored_zero_is_a_real_zero_unless_zeros_are_missing():
    X, mask, W, H = problem()
    zero = mask & (np.quantile(X[mask], 0.2) > X)
    X[zero] = 0
    stored = stored_where(mask, X)
    assert stored.nnz == mask.sum()
    assert (stored.data == 0).sum() == zero.sum() > 5
    real = fit(stored, 3, W=W, H=H, missing_values="unstored")
    assert_agree(real, fit(X, 3, W=W, H=H, mask=mask))
    gone = fit(stored, 3, W=W, H=H, missing_values=0)
    assert_agree(gone, fit(X, 3, W=W, H=H, mask=mask & ~zero))
    assert abs(real.objective - gone.objective) > 0.01
    two = HALS(sweeps=2)  # "auto" may choose different numbers for dense and sparse data
    data = fit(stored, 3, two, W=W, H=H)  # neither rule: everything that is not stored is a 0, too
    assert_agree(data, fit(np.where(mask, X, 0), 3, two, W=W, H=H), rtol=1e-10)


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
def test_without_a_rule_zeros_are_data(storage):
    X, mask, W, H = problem()
    X = np.where(mask, X, 0)
    solver = HALS(sweeps=2)
    f = fit(storage(X), 3, solver, W=W, H=H)
    assert_agree(f, fit(X, 3, solver, W=W, H=H, mask=np.ones_like(mask)))
    assert f.objective == pytest.approx(reference.objective(X, f.W, f.H), rel=1e-12)


def test_a_mask_on_sparse_data_makes_unstored_entries_zeros_where_it_is_true():
    X, mask, W, H = problem()
    zero = np.quantile(X, 0.3) > X
    sparse = sp.csr_array(np.where(zero, 0, X))
    assert sparse.nnz == (~zero).sum()
    dense = fit(sparse.toarray(), 3, W=W, H=H, mask=mask)
    for given in (mask, sp.csr_array(mask), sp.coo_array(mask)):
        assert_agree(fit(sparse, 3, W=W, H=H, mask=given), dense)
    weights = mask * 2.5
    heavy = fit(sparse.toarray(), 3, W=W, H=H, weights=weights)
    for given in (weights, sp.csr_array(weights), sp.csc_array(weights)):
        assert_agree(fit(sparse, 3, W=W, H=H, weights=given), heavy)
    for given_mask in (mask, sp.csr_array(mask)):
        for given in (weights + 1, sp.csr_array(weights + 1)):
            both = fit(sparse, 3, W=W, H=H, mask=given_mask, weights=given)
            assert_agree(both, fit(sparse.toarray(), 3, W=W, H=H, mask=mask, weights=weights + 1))


def test_false_stored_in_a_sparse_mask_is_false():
    X, mask, W, H = problem()
    rows, columns = np.indices(X.shape).reshape(2, -1)
    stored = sp.coo_array((mask.ravel(), (rows, columns)), shape=X.shape)
    assert stored.nnz == X.size
    expected = fit(X, 3, W=W, H=H, mask=mask)
    for x in (X, sp.csr_array(X)):
        assert_agree(fit(x, 3, W=W, H=H, mask=stored), expected)


def test_zero_and_nan_stored_in_sparse_data():
    """With missing_values=nan: a stored NaN is missing, a stored zero and what is not stored are zeros."""
    X, mask, W, H = problem()
    X[np.quantile(X, 0.3) > X] = 0
    X[~mask] = np.nan
    stored = sp.csr_array(X)  # NaN is stored, zeros are not
    explicit = stored_where(np.ones_like(mask), X)  # zeros are, too
    assert np.isnan(stored.data).sum() == (~mask).sum()
    assert stored.nnz < explicit.nnz == X.size
    expected = fit(X, 3, W=W, H=H, missing_values=np.nan)
    assert_agree(fit(stored, 3, W=W, H=H, missing_values=np.nan), expected)
    assert_agree(fit(explicit, 3, W=W, H=H, missing_values=np.nan), expected)
    assert expected.objective == pytest.approx(reference.objective(X, expected.W, expected.H, mask=mask), rel=1e-12)


def test_an_unstored_pattern_with_nan_in_it_is_an_error():
    X, mask, _, _ = problem()
    stored = stored_where(mask, X)
    stored.data[5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fit(stored, 2, missing_values="unstored")


# ------------------------------------------------------------------------------------------------ combinations


def test_mask_and_rule_and_masked_array_and_weights_add_up():
    """An entry counts if everything that is said about it lets it count."""
    X, _, W, H = problem()
    cells = np.random.default_rng(2).permutation(X.size)[:60].reshape(4, 15)
    by_nan, by_mask, by_array, by_weight = (np.isin(np.arange(X.size), c).reshape(X.shape) for c in cells)
    observed = ~(by_nan | by_mask | by_array | by_weight)
    weights = np.where(by_weight, 0.0, 1.0)
    given = np.ma.array(np.where(by_nan, np.nan, X), mask=by_array)
    f = fit(given, 3, W=W, H=H, missing_values=np.nan, mask=~by_mask, weights=weights)
    expected = fit(X, 3, W=W, H=H, mask=observed)
    assert_agree(f, expected)
    zeros = np.ma.array(np.where(by_nan, 0, X), mask=by_array)
    assert_agree(fit(zeros, 3, W=W, H=H, missing_values=0, mask=~by_mask, weights=weights), expected)
    sparse = sp.csr_array(np.where(by_nan, 0, X))
    rest = ~(by_mask | by_array)
    for rule in (0, "unstored"):
        for mask in (rest, sp.csr_array(rest)):
            for heavy in (weights, sp.csr_array(weights)):
                assert_agree(fit(sparse, 3, W=W, H=H, missing_values=rule, mask=mask, weights=heavy), expected)
    sparse = sp.csr_array(np.where(by_nan, np.nan, X))
    for mask in (rest, sp.csr_array(rest)):
        assert_agree(fit(sparse, 3, W=W, H=H, missing_values=np.nan, mask=mask, weights=weights), expected)


def test_nan_outside_the_mask_is_data_and_so_an_error():
    X, mask, _, _ = problem()
    i, j = np.argwhere(mask)[3]
    X[i, j] = np.nan
    for given in (X, sp.csr_array(X)):
        with pytest.raises(ValueError, match=rf"X\[{i}, {j}\].*missing_values=np.nan"):
            fit(given, 2, mask=mask)
        with pytest.raises(ValueError, match=rf"X\[{i}, {j}\].*missing_values=np.nan"):
            fit(given, 2)


@pytest.mark.parametrize("bad", [-1.0, np.inf, np.nan])
@pytest.mark.parametrize("rule", [0, "unstored"])
def test_a_bad_observed_entry_is_named(rule, bad):
    X, mask, _, _ = problem()
    i, j = np.argwhere(mask)[20]
    X[i, j] = bad
    with pytest.raises(ValueError, match=rf"X\[{i}, {j}\]"):
        fit(stored_where(mask, X), 2, missing_values=rule)
    if rule == 0:
        with pytest.raises(ValueError, match=rf"X\[{i}, {j}\]"):
            fit(np.where(mask, X, 0), 2, missing_values=0)


# ------------------------------------------------------------------------------- rows and columns without entries


@pytest.mark.parametrize("init", ["random", "nndsvd", "nndsvda", "nndsvdar"])
@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_rows_and_columns_without_entries_are_zero_and_predict_zero(solver, init, l2):
    X, mask, _, _ = problem()
    mask[4], mask[:, 7] = False, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a start with zeros for MU, if there is one
        f = fit(X, 3, solver, mask=mask, init=init, random_state=0, l2=l2)
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    assert not f.W[4].any()
    assert not f.H[:, 7].any()
    assert f.W[:4].any(axis=1).all()
    assert np.array_equal(f.predict([4, 0, 4], [0, 7, 7]), np.zeros(3))
    assert np.isfinite(f.history.kkt).all()
    rest = np.delete(np.arange(15), 4), np.delete(np.arange(12), 7)
    W, H = f.W[rest[0]], f.H[:, rest[1]]
    without = reference.kkt(X[np.ix_(*rest)], W, H, mask=mask[np.ix_(*rest)], l2=(l2, l2))
    assert f.kkt == pytest.approx(without, rel=1e-7)


@pytest.mark.parametrize("missing", [0.05, 0.4], ids=["punctured", "observed"])
@pytest.mark.parametrize(
    "options",
    [{}, {"l2": 0.1}, {"l2": 0.1, "l2_scaling": "count"}, {"l2": 0.1, "l2_scaling": "count", "offsets": True}],
    ids=["plain", "l2", "by count", "offsets"],
)
@pytest.mark.parametrize("init", ["auto", "random", "compressed"])
@pytest.mark.parametrize("max_iter", [0, 5])
@pytest.mark.parametrize("solver", [HALS(), HALS(sweeps=1, extrapolate=False), MU()], ids=["hals", "textbook", "mu"])
def test_what_is_given_for_a_row_without_an_entry_does_not_matter(solver, max_iter, init, options, missing):
    if "offsets" in options and isinstance(solver, MU):
        solver = HALS(sweeps=2)
    X, mask, W, H = problem(missing=missing)
    mask[4] = mask[:, 7] = False
    if "offsets" in options:
        W = np.hstack((W, W[:, :1], np.ones((15, 1))))
        H = np.vstack((H, np.ones((1, 12)), H[:1]))
    V, G = W.copy(), H.copy()
    moving_W, moving_H = (slice(-1), [0, 1, 2, 4]) if "offsets" in options else (slice(None), slice(None))
    V[4, moving_W], G[moving_H, 7] = 50, 70
    before = W.copy(), H.copy()
    f, g = (fit(X, 3, solver, max_iter, mask=mask, W=A, H=B, init=init, **options) for A, B in ((W, H), (V, G)))
    assert_same_bits(f, g)
    assert not f.W[4, moving_W].any()
    assert not f.H[moving_H, 7].any()
    assert f.W[5].any()
    assert np.array_equal(f.transform(X[4:5], mask=mask[4:5])[0], f.W[4])
    assert np.array_equal(before[0], W)
    assert np.array_equal(before[1], H)
    half = fit(X, 3, solver, max_iter, mask=mask, W=V, init=init, random_state=0, **options)
    assert not half.W[4, moving_W].any()
    assert not half.H[moving_H, 7].any()


@solvers
def test_a_row_without_entries_leaves_the_others_as_they_are(solver):
    X, mask, W, H = problem()
    if getattr(solver, "sweeps", 1) == "auto":
        solver = HALS(sweeps=2)
    padded = np.vstack([X, np.full((1, 12), np.nan)])
    f = fit(X, 3, solver, W=W, H=H, mask=mask)
    start = np.vstack([W, np.ones((1, 3))])
    g = fit(padded, 3, solver, W=start, H=H, mask=np.vstack([mask, np.zeros((1, 12), bool)]))
    np.testing.assert_allclose(g.W[:-1], f.W, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(g.H, f.H, rtol=1e-12, atol=1e-14)
    assert np.isfinite(g.W).all()
    np.testing.assert_allclose(g.history.objective, f.history.objective, rtol=1e-12)


def test_one_observed_entry_is_fitted():
    for solver in ("hals", "mu"):
        mask = np.zeros((4, 5), bool)
        mask[2, 3] = True
        f = nmfcore.factorize(np.full((4, 5), 6.0), 1, solver=solver, mask=mask, random_state=0, tol=1e-12)
        assert f.predict([2], [3]) == pytest.approx(6.0)
        assert f.W.sum() == f.W[2, 0]
        assert f.H.sum() == f.H[0, 3]


def test_only_zeros_observed_gives_zeros():
    X, mask, _, _ = problem()
    X[mask] = 0
    for solver in ("hals", "mu"):
        f = nmfcore.factorize(X, 2, solver=solver, mask=mask, random_state=0)
        assert f.objective == 0
        assert not f.reconstruct()[mask].any()


NOTHING = {
    "mask": lambda: (np.ones((3, 4)), {"mask": np.zeros((3, 4), bool)}),
    "sparse mask": lambda: (np.ones((3, 4)), {"mask": sp.csr_array((3, 4), dtype=bool)}),
    "nan": lambda: (np.full((3, 4), np.nan), {"missing_values": np.nan}),
    "zero": lambda: (np.zeros((3, 4)), {"missing_values": 0}),
    "masked array": lambda: (np.ma.masked_all((3, 4)), {}),
    "masked_greater": lambda: (np.ma.array(np.ones((3, 4)), mask=True), {}),
    "unstored": lambda: (sp.csr_array((3, 4)), {"missing_values": "unstored"}),
    "sparse zeros": lambda: (sp.csr_array((3, 4)), {"missing_values": 0}),
    "sparse, mask": lambda: (sp.csr_array(np.ones((3, 4))), {"mask": np.zeros((3, 4), bool)}),
    "sparse, sparse mask": lambda: (sp.csr_array(np.ones((3, 4))), {"mask": sp.csr_array((3, 4), dtype=bool)}),
    "sparse nan": lambda: (sp.csr_array(np.full((3, 4), np.nan)), {"missing_values": np.nan}),
    "disjoint": lambda: (sp.csr_array([[1.0, 0], [0, 1.0]]), {"missing_values": 0, "mask": ~np.eye(2, dtype=bool)}),
}


@pytest.mark.parametrize("way", NOTHING)
def test_nothing_observed_is_an_error(way):
    X, options = NOTHING[way]()
    with pytest.raises(ValueError, match="No observed entries"):
        fit(X, 1, **options)


# ------------------------------------------------------------------------------------------- what is not accepted


@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((15, 12)), TypeError, "float64.*must be bool, True where X was observed"),
        (np.ones((15, 12), int), TypeError, "int64.*bool"),
        (np.ones((15, 12), object), TypeError, "object.*bool"),
        (sp.csr_array(np.ones((15, 12))), TypeError, "float64.*bool"),
        (np.ones((12, 15), bool), ValueError, r"mask has shape \(12, 15\) where X has \(15, 12\)"),
        (np.ones(12, bool), ValueError, r"\(12,\)"),
        (np.ones((15, 1), bool), ValueError, r"\(15, 1\)"),
        (True, ValueError, r"\(\)"),
        (sp.csr_array(np.ones((12, 15), bool)), ValueError, r"\(12, 15\)"),
    ],
)
def test_masks_that_are_none(storage, mask, error, message):
    X = problem()[0]
    with pytest.raises(error, match=message):
        fit(storage(X), 2, mask=mask)


@pytest.mark.parametrize("rule", [1, -1, "nan", "zero", "NaN", True, False, np.inf, 1e-300, (0,), object()])
def test_rules_that_are_none(rule):
    with pytest.raises(ValueError, match="missing_values"):
        fit(problem()[0], 2, missing_values=rule)


def test_unstored_is_for_sparse_data():
    with pytest.raises(ValueError, match=r"sparse.*ndarray"):
        fit(problem()[0], 2, missing_values="unstored")


DUPLICATED = ([5.0, 3.0, 4.0, 1.0], ([0, 2, 2, 1], [1, 3, 3, 0]))


def raw_csr():
    """A CSR matrix with a duplicate, which scipy keeps until it is asked to sum."""
    X = sp.csr_array((np.array([5.0, 1.0, 3.0, 4.0]), np.array([1, 0, 3, 3]), np.array([0, 1, 2, 4])), shape=(3, 4))
    assert X.nnz == 4
    return X


DUPLICATES = {
    "coo": lambda: sp.coo_array(DUPLICATED, shape=(3, 4)),
    "coo matrix": lambda: sp.coo_matrix(DUPLICATED, shape=(3, 4)),
    "csr": raw_csr,
    "csc": lambda: sp.csc_array(
        (np.array([1.0, 5.0, 3.0, 4.0]), np.array([1, 0, 2, 2]), np.array([0, 1, 2, 2, 4])), shape=(3, 4)
    ),
}


@pytest.mark.parametrize("kind", DUPLICATES)
@pytest.mark.parametrize("rule", ["unstored", 0])
def test_two_ratings_for_one_cell_are_an_error_that_names_it(kind, rule):
    with pytest.raises(ValueError, match=r"X\[2, 3\] is stored 2 times.*duplicates"):
        fit(DUPLICATES[kind](), 1, missing_values=rule)


@pytest.mark.parametrize("kind", DUPLICATES)
def test_where_nothing_is_missing_duplicates_are_summed(kind):
    X = DUPLICATES[kind]()
    assert_same_bits(fit(X, 1, random_state=0), fit(sp.csr_array(X.toarray()), 1, random_state=0))
    assert X.nnz == 4  # the caller's matrix is not put in order for him


def test_a_duplicate_in_a_sparse_mask_or_in_weights_is_an_error():
    X = np.ones((3, 4))
    rows, columns = DUPLICATED[1]
    for given in (X, sp.csr_array(X)):
        with pytest.raises(ValueError, match=r"\[2, 3\] is stored 2 times"):
            fit(given, 1, weights=sp.coo_array(DUPLICATED, shape=(3, 4)))
    mask = sp.coo_array((np.ones(4, bool), (rows, columns)), shape=(3, 4))
    with pytest.raises(ValueError, match=r"mask\[2, 3\] is stored 2 times"):
        fit(sp.csr_array(X), 1, mask=mask)


# --------------------------------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_weights_of_any_size_mean_the_same(solver, dtype, scale):
    """Multiplying all weights by a constant moves no minimum; never may a weight that is small or large end in factors
    that were not fitted, with a KKT residual of 0 to vouch for them."""
    X, mask, _, _ = problem()
    X = X.astype(dtype)
    one = fit(X, 2, solver, weights=mask * 1.5, random_state=0, max_iter=10)
    try:
        f = fit(X, 2, solver, weights=mask * (1.5 * scale), random_state=0, max_iter=10)
    except (ValueError, FloatingPointError):  # a refusal is an answer
        return
    assert f.n_iter == 10
    rtol = 1e-9 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(f.W, one.W, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(f.H, one.H, rtol=rtol, atol=rtol)
