"""The start from a sample: it saves iterations, changes no contract, and stays away where it does not pay."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore import _parallel as parallel
from nmfcore import losses
from nmfcore.data.dense import Dense
from nmfcore.loop.solve import Plan
from nmfcore.losses.penalty import Penalty
from nmfcore.reading import missing
from nmfcore.reference import objective
from nmfcore.starts.subsample import LEAST_WORK, MOST_ENTRIES, SHARES, _samples, _spread

SHAPE, RANK = (2400, 400), 8  # an iteration takes 4·2400·400·8 = 3.1e7 flop


def planted(seed=0, shape=SHAPE, r=RANK):
    rng = np.random.default_rng(seed)
    W = rng.random((shape[0], r)) * (rng.random((shape[0], r)) < 0.4)
    H = rng.random((r, shape[1])) * (rng.random((r, shape[1])) < 0.4)
    return W @ H + 0.05 * rng.random(shape)


X = planted()
assert 4.0 * X.size * RANK >= LEAST_WORK


def begin(seed=0, shape=SHAPE, r=RANK):
    rng = np.random.default_rng(seed)
    return rng.random((shape[0], r)), rng.random((r, shape[1]))


def fit(X=X, r=RANK, **options):
    return nmfcore.factorize(X, r, **{"random_state": 0, "max_iter": 40, "tol": 0.0, **options})


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_fewer_iterations_on_x_for_the_same_objective(solver):
    plain = fit(init="random", solver=solver)
    f = fit(init="compressed", solver=solver)
    assert f.objective <= plain.objective * 1.01
    reached = np.flatnonzero(f.history.objective <= plain.history.objective[15])[0]
    assert reached <= 10
    np.testing.assert_allclose(f.objective, objective(X, f.W, f.H), rtol=1e-10)
    assert np.all(np.diff(f.history.objective) <= 1e-12 * f.history.objective[:-1])


def test_auto_compresses_unless_both_factors_are_given():
    W, H = begin()
    at_the_start = objective(X, W, H)
    assert fit(W=W, H=H, max_iter=0).history.objective[0] == pytest.approx(at_the_start, rel=1e-12)
    assert fit(W=W, H=H, max_iter=0, init="random").history.objective[0] == pytest.approx(at_the_start, rel=1e-12)
    assert fit(W=W, H=H, max_iter=0, init="compressed").history.objective[0] < 0.1 * at_the_start
    assert fit(H=H, max_iter=0).history.objective[0] < 0.1 * at_the_start
    np.testing.assert_array_equal(fit(max_iter=3).W, fit(max_iter=3, init="compressed").W)


@pytest.mark.parametrize("small", [X[:300], X[:, :12]])
def test_where_it_does_not_pay_the_start_is_that_of_singular_vectors(small):
    f = fit(small, max_iter=2)
    np.testing.assert_array_equal(f.W, fit(small, max_iter=2, init="fast-nndsvdar").W)
    assert f.settings["init"] == "fast-nndsvdar"
    assert fit(max_iter=2).settings["init"] == "compressed"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_wide_x_is_its_transpose(dtype):
    W, H = begin()
    tall = fit(X, W=W, H=H, init="compressed", max_iter=0, dtype=dtype)
    wide = fit(X.T, W=H.T, H=W.T, init="compressed", max_iter=0, dtype=dtype)
    # The loop moves W first, so the two fits of the sample differ; they are about equally good.
    assert wide.objective == pytest.approx(tall.objective, rel=0.1)
    assert wide.W.dtype == wide.H.dtype == dtype


def test_contracts_hold():
    W, H = begin()
    kept = X.copy(), W.copy(), H.copy()
    one = fit(W=W, H=H, init="compressed", max_iter=5, n_threads=1)
    two = fit(W=W, H=H, init="compressed", max_iter=5, n_threads=2)
    for given, before in zip((X, W, H), kept, strict=True):
        np.testing.assert_array_equal(given, before)
    np.testing.assert_array_equal(one.W, two.W)
    np.testing.assert_array_equal(one.H, two.H)
    for j in (-150, -20, 20, 150):
        scaled = fit(np.ldexp(X, 2 * j), W=np.ldexp(W, j), H=np.ldexp(H, j), init="compressed", max_iter=5)
        np.testing.assert_array_equal(scaled.W, np.ldexp(one.W, j))
        np.testing.assert_array_equal(scaled.H, np.ldexp(one.H, j))


def test_penalties_are_shared_out():
    f = fit(init="compressed", l1=(0.3, 0.2), l2=(0.1, 0.4), max_iter=60)
    plain = fit(init="random", l1=(0.3, 0.2), l2=(0.1, 0.4), max_iter=60)
    penalty = 0.3 * f.W.sum() + 0.2 * f.H.sum() + 0.05 * (f.W**2).sum() + 0.2 * (f.H**2).sum()
    assert f.objective == pytest.approx(objective(X, f.W, f.H) + penalty, rel=1e-10)
    assert f.objective <= plain.objective * 1.01


def test_nearly_complete_masked_data():
    rng = np.random.default_rng(1)
    holes = np.where(rng.random(X.shape) < 0.1, np.nan, X)
    holes[7] = np.nan  # nothing known of this row
    f = fit(holes, missing_values=np.nan, init="compressed", max_iter=5)
    plain = fit(holes, missing_values=np.nan, init="random", max_iter=5)
    assert f.objective < plain.objective
    assert not f.W[7].any()
    assert np.isfinite(f.W).all()


def test_rows_of_zeros_hold_nobody_back():
    holes = X.copy()
    holes[: SHAPE[0] // 2] = 0.0
    for solver in ("hals", "mu"):
        f = fit(holes, solver=solver, init="compressed", max_iter=20)
        assert f.objective < 1.05 * fit(holes, solver=solver, init="random", max_iter=20).objective


def test_a_start_beyond_float32_is_left_alone():
    W, H = begin()
    f = fit(W=1e30 * W, H=H, init="compressed", max_iter=3)
    assert np.isfinite(f.objective)


@pytest.mark.parametrize("shape", [(100, 7), (16, 16), (17, 5), (1000, 1)])
def test_the_sample_is_spread(shape):
    m, count = shape
    rows = _spread(m, count)
    assert rows.size == count
    assert np.all(np.diff(rows) > 0)
    assert rows[0] >= 0
    assert rows[-1] < m


@pytest.mark.parametrize("options", [{}, {"missing_values": np.nan}, {"weights": True}])
@pytest.mark.parametrize("sparse", [False, True])
def test_some_rows_of_every_storage(options, sparse):
    rng = np.random.default_rng(3)
    A = rng.random((9, 6)) * (rng.random((9, 6)) < 0.6)
    weights = rng.random((9, 6)) + 0.5 if "weights" in options else None
    if "missing_values" in options:
        A[2, 3] = A[8, 0] = np.nan
    given = sp.csr_array(A) if sparse else A
    data = missing.read(given, options.get("missing_values"), None, weights, None).data
    rows = np.array([1, 2, 8])
    B = rng.random((6, 2))
    part = data.some_rows(rows)
    assert part.shape == (3, 6)
    ((_, _, C, G),) = part.normal(B).blocks(0, 3)
    ((_, _, C_all, G_all),) = data.normal(B).blocks(0, 9)
    np.testing.assert_array_equal(C, C_all[rows])
    np.testing.assert_array_equal(G, G_all[rows] if len(G_all) > 1 else G_all)
    assert data.T.some_rows(np.array([0, 5])).shape == (2, 9)
    assert data.some_rows(rows).astype(np.dtype(np.float32)).values.dtype == np.float32


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", 0.5])
def test_what_the_sample_has_not_seen_is_not_lost(loss):
    """A column of zeros in every sampled row: multiplicative updates could never leave the 0 made of it."""
    counts = np.random.default_rng(0).poisson(2.0, (2400, 160)).astype(float)
    counts[:, -1] = 0.0
    seen = np.concatenate([_spread(2400, int(share * 2400)) for share in SHARES])
    counts[np.setdiff1d(np.arange(2400), seen)[::200], -1] = 5.0
    f, plain = (fit(counts, 6, loss=loss, solver="mu", init=init, max_iter=15) for init in ("auto", "random"))
    assert f.H[:, -1].any()
    assert f.objective < 1.001 * plain.objective


def test_exact_scale_of_data_with_a_wide_range():
    wide = np.where(np.arange(X.shape[1]) % 2, X, 1e-11 * X)
    one = fit(wide, max_iter=2)
    for j in (-49, -40, 45):
        np.testing.assert_array_equal(fit(np.ldexp(wide, 2 * j), max_iter=2).H, np.ldexp(one.H, j))


def test_no_time_no_sample():
    f = fit(max_time=0.0, max_iter=5)
    np.testing.assert_array_equal(f.W, fit(init="fast-nndsvdar", max_iter=0).W)


def test_a_sample_stays_small():
    class Huge:
        shape, values = (10**6, 4000), np.broadcast_to(1.0, (10**6, 4000))

        dtype, counts = np.dtype(np.float64), None

        def work(self, r):
            return 1e12

        def times(self, B, team):
            return self.sums

    with parallel.Team(1) as team:
        plan = Plan(nmfcore.solvers.HALS(), losses.Frobenius(), Penalty(), Penalty(), team)
    Huge.sums = np.ones((10**6, 1))
    samples = _samples(Huge(), 20, plan)
    assert samples
    assert all(rows.size * Huge.shape[1] <= MOST_ENTRIES for rows, _ in samples)
    assert not _samples(Huge(), 400, plan)  # which would need more entries than that
    Huge.sums = (np.arange(10**6)[:, None] < 10**5).astype(float)  # few rows, but of more entries than that
    assert not _samples(Huge(), 20, plan)


def samples(X, r=8, beta=2.0):
    data = Dense(X)
    with parallel.Team(1) as team:
        return _samples(data, r, Plan(nmfcore.solvers.HALS(), losses.make(beta, data), Penalty(), Penalty(), team))


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_a_sample_of_a_matrix_that_few_rows_make_up_is_these_rows(beta):
    even = planted(shape=(20_000, 60))
    assert [rows.size for rows, _ in samples(even, beta=beta)] == [20_000 // 32, 20_000 // 4]
    giants = np.arange(20_000) % 100 == 0
    uneven = even * (1e-5 + giants)[:, None]
    ((rows, share),) = samples(uneven, beta=beta)
    assert np.all(np.diff(rows) > 0)
    assert np.isin(rows, np.flatnonzero(giants)).all()
    assert 0.9 <= share <= np.average(uneven[rows].sum(1) ** beta) * rows.size / (uneven.sum(1) ** beta).sum() + 1e-9
    assert not samples(even * (np.arange(20_000) % 4 == 0)[:, None], r=90, beta=beta)  # neither even nor few
    assert not samples(np.zeros((20_000, 60)), beta=beta)


def uneven(seed=0, shape=(6000, 50), r=6):
    rng = np.random.default_rng(seed)
    W = rng.gamma(0.5, size=(shape[0], r)) * np.exp(2.0 * rng.standard_normal(shape[0]))[:, None]
    return (W @ rng.gamma(0.5, size=(r, shape[1]))) * np.exp(0.5 * rng.standard_normal(shape))


def test_the_heaviest_rows_save_iterations():
    iterations = {"random": 0, "compressed": 0}
    for seed in range(3):
        X = uneven(seed)
        assert len(samples(X, 6)) == 1
        fits = {init: fit(X, 6, init=init, max_iter=60) for init in iterations}
        target = fits["random"].objective
        assert fits["compressed"].objective <= 1.002 * target
        for init, f in fits.items():
            iterations[init] += int(np.argmax(f.history.objective <= 1.001 * target))
    assert iterations["compressed"] <= 0.6 * iterations["random"]


def test_contracts_hold_of_the_heaviest_rows():
    X, (W, H) = uneven(), begin(shape=(6000, 50), r=6)
    one = fit(X, 6, W=W, H=H, init="compressed", max_iter=5, n_threads=1, l1=(0.3, 0.2), l2=(0.1, 0.4))
    two = fit(X, 6, W=W, H=H, init="compressed", max_iter=5, n_threads=2, l1=(0.3, 0.2), l2=(0.1, 0.4))
    np.testing.assert_array_equal(one.W, two.W)
    penalty = 0.3 * one.W.sum() + 0.2 * one.H.sum() + 0.05 * (one.W**2).sum() + 0.2 * (one.H**2).sum()
    assert one.objective == pytest.approx(objective(X, one.W, one.H) + penalty, rel=1e-10)
    plain = fit(X, 6, W=W, H=H, init="compressed", max_iter=5)
    for j in (-150, -20, 20, 150):
        scaled = fit(np.ldexp(X, 2 * j), 6, W=np.ldexp(W, j), H=np.ldexp(H, j), init="compressed", max_iter=5)
        np.testing.assert_array_equal(scaled.W, np.ldexp(plain.W, j))


def test_heavy_rows_are_no_sample_where_their_sums_do_not_tell():
    """Of entries that are missing or weigh less, or are most of what a sparse matrix stores."""
    X = uneven()
    holes = np.where(np.random.default_rng(0).random(X.shape) < 0.01, np.nan, X)
    for given, options in (
        (holes, {"missing_values": np.nan}),
        (X, {"weights": 1.0 / (1e-9 + X.mean(axis=1, keepdims=True) ** 2) * np.ones_like(X)}),
        (sp.csr_array(X), {}),
    ):
        data = missing.read(given, **options).data
        with parallel.Team(1) as team:
            plan = Plan(nmfcore.solvers.HALS(), losses.Frobenius(), Penalty(), Penalty(), team)
            for rows, share in _samples(data, 6, plan):
                assert share in (*SHARES, pytest.approx(rows.size / X.shape[0], abs=1e-3))


def test_rows_of_zeros_beside_missing_entries():
    """Their sums are of missing entries at the mean, less that mean: rounding, on either side of 0."""
    X = planted(shape=(4000, 50))
    X[::10] = 0.0
    X[1, 1] = np.nan
    f = fit(X, 4, missing_values=np.nan, loss=1.5, init="compressed", max_iter=3)
    assert np.isfinite(f.objective)
