"""When a fit ends: the certificate, the falls of the objective, exact fits, and what the settings tell."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn.datasets
from sklearn.decomposition import NMF

import nmfcore
from nmfcore import ConvergenceWarning, Status, reference
from nmfcore.loop.stopping import Stop
from nmfcore.losses.kkt import divergence_residual, kkt_residual, nothing_left
from nmfcore.solvers import HALS

SMALL = {"iris": 3, "wine": 3, "breast_cancer": 5}
LOSSES = ["frobenius", "kullback-leibler", "itakura-saito", 0.5]


def bundled(name):
    return getattr(sklearn.datasets, f"load_{name}")().data


def further(X, f, window=100):
    """The same fit, until it falls by less than 1e-6 of itself over 100 iterations."""
    seen = [f.objective]

    def flat(state):
        seen.append(state.objective)
        if len(seen) > window and seen[-1 - window] - seen[-1] < 1e-6 * seen[-1]:
            raise StopIteration

    return nmfcore.factorize(X, f.rank, loss=f.settings["loss"], init=f, tol=0, max_iter=100_000, callback=flat)


# ---- defaults that hold on data they were not chosen on ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("loss", "name"), [*(("frobenius", name) for name in SMALL), *(("kullback-leibler", n) for n in ("iris", "wine"))]
)
def test_a_default_fit_ends_where_it_would_end(name, loss, seed):
    X = bundled(name)
    f = nmfcore.factorize(X, SMALL[name], loss=loss, random_state=seed)
    assert f.status is Status.CONVERGED
    assert f.objective <= 1.05 * further(X, f).objective


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", SMALL)
def test_a_default_fit_ends_no_higher_than_scikit_learns(name, seed):
    X = bundled(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = 0.5 * NMF(SMALL[name], random_state=seed).fit(X).reconstruction_err_ ** 2
    assert nmfcore.factorize(X, SMALL[name], random_state=seed).objective <= 1.01 * theirs


@pytest.mark.parametrize("loss", ["itakura-saito", 0.5])
@pytest.mark.parametrize("name", ["iris", "wine"])
def test_other_losses_converge_too(name, loss):
    X = np.maximum(bundled(name), 1e-3 * bundled(name).mean())
    f = nmfcore.factorize(X, 3, loss=loss, random_state=0)
    assert f.status is Status.CONVERGED
    assert f.objective <= 1.05 * further(X, f).objective


# ---- the rule -----------------------------------------------------------------------------------------------------


def test_falls_are_judged_by_shares_of_the_objective():
    stop = Stop(tol=1e-3, max_iter=10)
    assert stop.settled(1.0, 1.0 + 0.99e-4, 1.0 + 0.99e-2)
    assert not stop.settled(1.0, 1.0 + 1.01e-4, 1.0)
    assert not stop.settled(1.0, 1.0, 1.0 + 1.01e-2)
    assert stop.settled(1e-9, 1e-9 * (1 + 0.9e-4), 1e-9 * (1 + 0.9e-2))
    assert not Stop(tol=0.0, max_iter=10).settled(1.0, 1.0 + 1e-15, 1.0)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_converged_history_shows_the_rule(loss):
    X = np.random.default_rng(0).gamma(1.0, size=(60, 40)) + 0.1
    f = nmfcore.factorize(X, 4, loss=loss, random_state=0)
    assert f.status is Status.CONVERGED

    def met(n):
        o, kkt = f.history.objective, f.history.kkt
        return kkt[n] <= 1e-3 and o[n - 1] - o[n] <= 1e-4 * o[n] and o[n // 2] - o[n] <= 1e-2 * o[n]

    assert met(f.n_iter)
    assert not any(met(n) for n in range(1, f.n_iter - 1))  # the one before last may have been certified later


def test_a_residual_that_is_small_for_a_moment_does_not_end_a_fit():
    """On a plateau the residual is small and so is each fall; a hundred of them are not."""
    X = bundled("breast_cancer")
    with pytest.warns(ConvergenceWarning):
        f = nmfcore.factorize(X, 10, random_state=0, max_iter=3000)
    h = f.history
    first = int(np.argmax((h.kkt[1:] <= 1e-3) & (-np.diff(h.objective) <= 1e-4 * h.objective[1:]))) + 1
    assert first < f.n_iter
    assert f.objective < 0.7 * h.objective[first]


def test_going_on_from_a_converged_fit_makes_no_iteration():
    X = np.random.default_rng(0).random((50, 30))
    for loss in LOSSES:
        f = nmfcore.factorize(X + 0.1, 3, loss=loss, random_state=0)
        g = nmfcore.factorize(X + 0.1, 3, loss=loss, init=f)
        assert (g.status, g.n_iter) == (Status.CONVERGED, 0)
        np.testing.assert_array_equal(g.W, f.W)


def test_what_kept_a_fit_from_converging_is_said():
    X = bundled("breast_cancer")
    with pytest.warns(ConvergenceWarning, match=r"above tol=0.001\..*raise max_iter"):
        nmfcore.factorize(X, 10, random_state=0, max_iter=10)
    with pytest.warns(ConvergenceWarning, match=r"but the objective still falls: at iteration 25 it was [\d.]+ times"):
        nmfcore.factorize(X, 10, random_state=0, max_iter=50, tol=0.02)


# ---- the certificate ----------------------------------------------------------------------------------------------


def test_it_is_relative_to_what_is_left():
    rng = np.random.default_rng(0)
    W, H = rng.random((40, 3)), rng.random((3, 30))
    noise = rng.normal(size=(40, 30))
    found = []
    for share in (1e-1, 1e-2, 1e-3):
        X = np.abs(W @ H + share * noise)
        f = nmfcore.factorize(X, 3, W=W, H=H, max_iter=0, tol=0)
        left = np.linalg.norm(X - W @ H)
        assert f.kkt == pytest.approx(reference.kkt(X, W, H), rel=1e-9)
        found.append(f.kkt)
        assert 0.1 < f.kkt <= 1.0 + 1e-12
        assert left > 0
    assert max(found) < 3 * min(found)  # against the norm of X it would be a hundred times smaller


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "sparse", "masked"])
def test_exact_fits_converge(kind, dtype):
    rng = np.random.default_rng(1)
    X = ((rng.random((60, 4)) * (rng.random((60, 4)) < 0.6)) @ rng.random((4, 40))).astype(dtype)
    given = {"X": sp.csr_array(X) if kind == "sparse" else X}
    if kind == "masked":
        given["mask"] = rng.random(X.shape) < 0.9
    f = nmfcore.factorize(rank=4, random_state=0, **given)
    assert f.converged
    assert f.objective <= 1e-8 * float((X.astype(float) ** 2).sum())


def test_exact_fits_of_counts_converge():
    rng = np.random.default_rng(1)
    X = rng.random((30, 2)) @ rng.random((2, 20)) + 0.01
    assert nmfcore.factorize(X, 3, loss="kullback-leibler", random_state=0).converged


def test_numbers_with_known_residuals():
    one = np.ones(1)
    assert kkt_residual(4 * one, one, one, one, 10.0, 2.0) == 1.0
    assert kkt_residual(4 * one, one, one, one, 10.0, 0.0) == 2.0 / (1e-5 * 10.0)
    assert kkt_residual(0 * one, 0 * one, one, one, 10.0, 0.0) == 0.0
    assert kkt_residual(one, one, one, one, 0.0, 0.0) == np.inf
    assert divergence_residual(1.0, 3.0, 300.0, 1e3) == 0.01
    assert divergence_residual(0.0, 0.0, 0.0, 0.0) == 0.0
    assert divergence_residual(1.0, 0.0, 0.0, 0.0) == np.inf
    assert nothing_left(np.dtype(np.float64)) < nothing_left(np.dtype(np.float32)) < 1e-2


@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_a_factor_that_only_a_penalty_moves_is_not_stationary(solver):
    """H = 0 and l1 too large for it to grow: W lowers the objective by shrinking."""
    rng = np.random.default_rng(0)
    X, W = rng.random((30, 20)), rng.random((30, 2))
    l1 = float((W.T @ X).max()) + 1.0
    for m in (30, 5):  # rows in tiles, and one by one
        f = nmfcore.factorize(X[:m], 2, W=W[:m], H=np.zeros((2, 20)), l1=l1, max_iter=0, tol=0, solver="hals")
        assert f.kkt > 0
        assert f.kkt == pytest.approx(reference.kkt(X[:m], W[:m], np.zeros((2, 20)), l1=(l1, l1)), rel=1e-9)
        assert not nmfcore.factorize(X[:m], 2, W=W[:m], H=np.zeros((2, 20)), l1=l1).W.any()
    mask = rng.random(X.shape) < 0.5
    assert nmfcore.factorize(X, 2, W=W, H=np.zeros((2, 20)), l1=l1, mask=mask, max_iter=0, tol=0).kkt > 0


@pytest.mark.parametrize("sizes", [(1e-200, 1e-200), (1e100, 1e100), (1e160, 1e-160), (1e-300, 1e300), (1e-160, 1.0)])
@pytest.mark.parametrize("loss", [*LOSSES, 3.0])
def test_a_start_of_any_size_is_no_end(loss, sizes):
    rng = np.random.default_rng(0)
    X, W, H = rng.random((30, 20)) + 0.1, rng.random((30, 3)), rng.random((3, 20))
    plain = nmfcore.factorize(X, 3, W=W, H=H, loss=loss)
    f = nmfcore.factorize(X, 3, W=W * sizes[0], H=H * sizes[1], loss=loss)
    assert f.status is Status.CONVERGED
    assert f.n_iter > 0
    assert f.objective == pytest.approx(plain.objective, rel=0.02)


@pytest.mark.parametrize("loss", LOSSES)
def test_float32_starts_of_any_size(loss):
    rng = np.random.default_rng(0)
    X, W, H = (A.astype(np.float32) for A in (rng.random((30, 20)) + 0.1, rng.random((30, 3)), rng.random((3, 20))))
    plain = nmfcore.factorize(X, 3, W=W, H=H, loss=loss)
    for size in (1e-30, 1e25):
        f = nmfcore.factorize(X, 3, W=W * np.float32(size), H=H * np.float32(size), loss=loss)
        assert f.n_iter > 0
        assert f.objective == pytest.approx(plain.objective, rel=0.02)


# ---- the settings -------------------------------------------------------------------------------------------------


def test_settings_name_what_was_resolved(tmp_path):
    X = np.random.default_rng(0).random((300, 200))
    f = nmfcore.factorize(X, 3, random_state=0)
    expected = {"dtype": "float64", "precision": "full", "init": "fast-nndsvdar", "tol": 1e-3, "max_iter": 10_000}
    assert f.settings | expected == f.settings
    assert f.settings["max_time"] is None
    f.save(tmp_path / "model.npz")
    assert nmfcore.load(tmp_path / "model.npz").settings == f.settings
    assert nmfcore.factorize(X.astype(np.float32), 3, max_iter=1, tol=0).settings["dtype"] == "float32"


def test_precision_alone_decides():
    X = np.random.default_rng(0).gamma(1.0, size=(1000, 600))
    same = [nmfcore.factorize(X, 20, random_state=0, max_iter=8, tol=0, dtype=d) for d in (None, "float64", np.float64)]
    assert {f.settings["precision"] for f in same} == {"mixed"}
    for f in same[1:]:
        np.testing.assert_array_equal(f.W, same[0].W)
    full = nmfcore.factorize(X, 20, random_state=0, max_iter=8, tol=0, precision="full")
    assert full.settings["precision"] == "full"
    assert not np.array_equal(full.W, same[0].W)
    np.testing.assert_allclose(full.objective, same[0].objective, rtol=1e-4)


def test_mixed_precision_where_it_is_not_possible():
    X = np.random.default_rng(0).random((30, 20))
    small = nmfcore.factorize(X, 3, random_state=0, precision="mixed", max_iter=5, tol=0)
    assert small.settings["precision"] == "mixed"  # it need not pay
    for options in ({"dtype": "float32"}, {"solver": "mu"}, {"loss": "kullback-leibler"}, {"mask": X > 0.1}):
        with pytest.raises(ValueError, match=r"precision='mixed' needs complete data in float64"):
            nmfcore.factorize(X, 3, precision="mixed", **options)
    with pytest.raises(ValueError, match="precision='half' is not one of 'auto', 'mixed', 'full'"):
        nmfcore.factorize(X, 3, precision="half")


def test_textbook_settings_are_unchanged():
    """`init="random"` and a given solver still make scikit-learn's iterates."""
    X = sklearn.datasets.load_digits().data[:100]
    f = nmfcore.factorize(
        X, 5, solver=HALS(sweeps=1, extrapolate=False), init="random", random_state=0, tol=0, max_iter=20
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = NMF(5, init="random", random_state=0, tol=0, max_iter=20)
        np.testing.assert_allclose(f.W, model.fit_transform(X), rtol=1e-7, atol=1e-9)
