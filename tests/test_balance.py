"""The scales of the components, against a plain minimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.optimize

import nmfcore
from nmfcore.loop.balance import balanced
from nmfcore.solvers import HALS, MU, Penalty


def penalty(A: np.ndarray, p: Penalty) -> float:
    counts = np.ones(len(A)) if p.counts is None else p.counts
    return float(p.l1 * A.sum() + 0.5 * p.l2 * (counts @ A**2).sum())


@pytest.mark.parametrize(("l1", "l2"), [((0.0, 0.0), (0.3, 0.1)), ((0.2, 0.5), (0.0, 0.0)), ((0.2, 0.1), (0.3, 2.0))])
@pytest.mark.parametrize("counted", [False, True])
def test_no_scale_is_better(l1: Any, l2: Any, counted: bool) -> None:
    rng = np.random.default_rng(0)
    W, Ht = 10 * rng.random((9, 4)), 0.1 * rng.random((7, 4))
    of_W, of_H = (Penalty(l1[k], l2[k], 1.0 + np.arange(float(n)) if counted else None) for k, n in ((0, 9), (1, 7)))
    scaled_W, scaled_H, gain = balanced(W, Ht, of_W, of_H, 3)
    np.testing.assert_allclose(scaled_W @ scaled_H.T, W @ Ht.T, rtol=1e-12)
    np.testing.assert_array_equal(scaled_W[:, 3], W[:, 3])
    before, after = (penalty(A, of_W) + penalty(B, of_H) for A, B in ((W, Ht), (scaled_W, scaled_H)))
    assert before - after == pytest.approx(gain, rel=1e-10)
    for t in range(3):
        column, row = W[:, t : t + 1], Ht[:, t : t + 1]
        best = scipy.optimize.minimize_scalar(
            lambda u, c=column, r=row: penalty(c * np.exp(u), of_W) + penalty(r / np.exp(u), of_H),
            bounds=(-12, 12), method="bounded", options={"xatol": 1e-10},
        )  # fmt: skip
        assert scaled_W[0, t] / W[0, t] == pytest.approx(np.exp(best.x), rel=1e-5)


def test_nothing_to_balance() -> None:
    W, Ht = np.zeros((3, 2)), np.ones((4, 2))
    for of_W, of_H in ((Penalty(), Penalty()), (Penalty(l2=1.0), Penalty(l2=1.0))):
        same_W, same_H, gain = balanced(W, Ht, of_W, of_H, 2)
        assert gain == 0.0
        np.testing.assert_array_equal(same_W, W)
        np.testing.assert_array_equal(same_H, Ht)


@pytest.mark.parametrize("l1", [0.0, 1e300])
@pytest.mark.parametrize("l2", [0.0, 1e300])
def test_penalties_beyond_float64_leave_all_as_it_is(l1: float, l2: float) -> None:
    W, Ht = np.full((3, 2), 1e160), np.full((4, 2), 1e-9)
    same_W, same_H, gain = balanced(W, Ht, Penalty(l1, l2), Penalty(l1, l2), 2)
    assert gain == 0.0
    np.testing.assert_array_equal(same_W, W)
    np.testing.assert_array_equal(same_H, Ht)


@pytest.mark.parametrize("solver", [HALS(), HALS(extrapolate=False), MU()])
@pytest.mark.parametrize("missing", [None, 0])
def test_fits_end_sooner_and_never_rise(solver: Any, missing: Any) -> None:
    """From factors of very different size a small penalty takes long to even them out by steps alone."""
    rng = np.random.default_rng(0)
    X = rng.random((40, 4)) @ rng.random((4, 30)) * (rng.random((40, 30)) < 0.6 if missing == 0 else 1.0)
    W, H = 100 * rng.random((40, 3)), 0.01 * rng.random((3, 30))
    options: dict[str, Any] = {"missing_values": missing, "l1": 1e-3, "l2": (1e-3, 2e-3), "tol": 0, "W": W, "H": H}
    f = nmfcore.factorize(X, 3, solver=solver, max_iter=30, **options)
    assert (np.diff(f.history.objective) / f.history.objective[1:]).max() <= 1e-12
    a = 1e-3 * f.W.sum(0) + 1e-3 * (f.W**2).sum(0)
    b = 1e-3 * f.H.sum(1) + 2e-3 * (f.H**2).sum(1)
    np.testing.assert_allclose(a, b, rtol=0.2)  # what holds exactly at a stationary point
