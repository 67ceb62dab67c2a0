"""Starts, losses, penalties and weights at the ends of the scale give finite results, or are refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore

RNG = np.random.default_rng(0)
W, H = RNG.gamma(1.0, size=(8, 3)), RNG.gamma(1.0, size=(3, 6))
X = W @ H + RNG.random((8, 6)) + 0.05
LOSSES = ["frobenius", "kullback-leibler", "itakura-saito", 0.5, 1.5, 3.0, -1.0]


def refused_or_sound(data: Any, rank: int = 3, **options: Any) -> nmfcore.Factorization | None:
    """A fit without a RuntimeWarning; None if it is refused with a message that ends in a remedy."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        try:
            f = nmfcore.factorize(data, rank, **{"random_state": 0, "max_iter": 30} | options)
        except (ValueError, FloatingPointError) as error:
            assert len(str(error)) > 40  # noqa: PT017
            return None
    for A in f:
        assert np.isfinite(A).all()
        assert A.min() >= 0
    assert not np.isnan(f.objective)  # inf where float64 does not hold it
    assert not np.isnan(f.kkt)
    falls = f.history.objective
    slack = 1e-10 if f.W.dtype == np.float64 else 1e-5
    assert np.all(falls[1:] <= falls[:-1] * (1 + slack))
    return f


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_components_of_any_size_are_where_the_same_of_even_size_are(loss: Any, dtype: str) -> None:
    """``W s`` and ``H / s`` have the same product; a start at the ends of the scale is no end of a fit."""
    powers = [1, 10, 30] if dtype == "float32" else [1, 40, 80, 120, 150, 160]
    begin = 0.5 * W, 0.5 * H
    expected = refused_or_sound(X, W=begin[0], H=begin[1], loss=loss, dtype=dtype, tol=0)
    assert expected is not None
    for power in powers:
        for s in (10.0**power, 10.0**-power):
            f = refused_or_sound(X, W=begin[0] * s, H=begin[1] / s, loss=loss, dtype=dtype, tol=0)
            assert f is not None
            assert f.n_iter > 0
            assert f.kkt <= max(10 * expected.kkt, 1e-6)
            assert f.objective < 1.3 * expected.objective


@pytest.mark.parametrize("loss", LOSSES)
def test_a_start_far_from_the_data_moves(loss: Any) -> None:
    for size in (1e-300, 1e-200, 1e-100, 1e-30, 1e30, 1e100, 1e150):
        f = refused_or_sound(X, W=W * size, H=H * size, loss=loss)
        if f is not None:
            assert f.kkt > 0
            assert f.objective <= f.history.objective[0]


@pytest.mark.parametrize("loss", [1000.0, 1e308, -1e308, -1000.0, 100.0, -100.0, 1e-300])
def test_a_loss_whose_powers_overflow_is_refused(loss: float) -> None:
    f = refused_or_sound(X, loss=loss)
    if abs(loss) > 1:
        assert f is None
        with pytest.raises(ValueError, match=r"loss=.* must lie between"):
            nmfcore.factorize(X, 2, loss=loss)


@pytest.mark.parametrize("loss", [-10.0, -5.0, 5.0, 10.0])
def test_unusual_losses_fit(loss: float) -> None:
    f = refused_or_sound(X, loss=loss, max_iter=200)
    assert f is not None
    assert f.objective < 0.9 * f.history.objective[0]


@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", 0.5])
@pytest.mark.parametrize("penalty", ["l1", "l2"])
@pytest.mark.parametrize("size", [1e10, 1e100, 1e200, 1e300])
def test_huge_penalties_leave_nothing(solver: str, loss: Any, penalty: str, size: float) -> None:
    if solver == "hals" and loss == 0.5:
        pytest.skip("HALS is for other losses")
    for data in (X, X * 1e-150, X * 1e150, X.astype(np.float32)):
        f = refused_or_sound(data, loss=loss, solver=solver, **{penalty: size})
        if f is not None and size >= 1e100 and data is X:
            assert (f.W @ f.H).max() < 1e-3 * X.max()


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", 0.5])
@pytest.mark.parametrize("size", [1e-308, 1e-200, 1e200, 1e308])
def test_weights_of_any_size_are_refused_or_weigh(loss: Any, size: float) -> None:
    weights = np.full(X.shape, size)
    weights[0, 0] = 0
    if size == 1e308:
        with pytest.raises(ValueError, match=r"weights add up to more than float64 holds.*Divide"):
            nmfcore.factorize(X, 3, weights=weights, loss=loss)
    f = refused_or_sound(X, weights=weights, loss=loss)
    even = refused_or_sound(X, weights=(weights > 0).astype(float), loss=loss)
    assert even is not None
    if f is not None:
        assert 0.9 < f.objective / (size * even.objective) < 1.1
    mixed = np.where(RNG.random(X.shape) < 0.5, size, 1.0)
    refused_or_sound(X, weights=mixed, loss=loss)
    refused_or_sound(sp.csr_array(X), weights=sp.csr_array(mixed), missing_values="unstored", loss=loss)


def test_a_penalty_that_overflows_by_its_counts_is_refused() -> None:
    with pytest.raises(ValueError, match=r"l2=1e\+300 counts .* times for a row, which overflows: choose a smaller l2"):
        nmfcore.factorize(X, 2, l2=1e300, l2_scaling="count", weights=np.where(X > 1, 1e20, 1e10))
    with pytest.raises(ValueError, match="counts 6 times for a row"):
        nmfcore.factorize(X, 2, l2=1e308, l2_scaling="count")


def test_a_fit_that_does_not_converge_says_so_where_float64_does_not_hold_its_objective() -> None:
    with pytest.warns(nmfcore.ConvergenceWarning, match="after 2 iterations"):
        f = nmfcore.factorize(X, 3, max_iter=2, weights=np.full(X.shape, 1e305), tol=1e-9, random_state=0)
    assert f.objective > 1e304
    with pytest.warns(nmfcore.ConvergenceWarning, match="float64 does not hold it in the unit of X"):
        nmfcore.factorize(X * 1e-300, 3, max_iter=2, tol=0.35, init="random", random_state=0)


def test_an_entry_too_small_is_not_called_zero() -> None:
    data = X.copy()
    data[0, 0], data[1, 1] = 1e-300, 1e300
    with pytest.raises(ValueError, match=r"X\[0, 0\] is 0, or so small .* float64 .*numpy.maximum") as caught:
        nmfcore.factorize(data, 2, loss="itakura-saito")
    assert "X[0, 0] = 0" not in str(caught.value)


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", 0.5])
@pytest.mark.parametrize("model", [1e-300, 1e-20, 1.0, 1e20, 1e300])
def test_transform_is_finite_or_refuses(loss: Any, model: float) -> None:
    f = nmfcore.factorize(X * model, 3, loss=loss, random_state=0)
    for size in (1e-300, 1e-40, 1.0, 1e39, 1e300):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                W = f.transform(X * size)
            except ValueError as error:
                assert "too large" in str(error)  # noqa: PT017
                assert size > model
            else:
                assert np.isfinite(W).all()
                assert W.min() >= 0


def test_transform_of_a_float32_model_refuses_what_float32_does_not_hold() -> None:
    f = nmfcore.factorize(X.astype(np.float32), 3, random_state=0)
    with pytest.raises(ValueError, match=r"W\[0, \d\] .* too large for float32.*[Dd]ivide"):
        f.transform(X * 1e39)


def test_a_callback_cannot_break_a_fit() -> None:
    def spoil(state: Any) -> None:
        for A in (state.W, state.H):
            try:
                A.flags.writeable = True
                A[:] = np.nan
            except ValueError:
                pass
            if A.base is not None:
                A.base.flags.writeable = True
                A.base[:] = np.nan

    for options in (
        {},
        {"solver": "mu"},
        {"loss": "kullback-leibler"},
        {"precision": "mixed"},
        {"mask": X > 0.5, "l2": 0.1, "l2_scaling": "count", "offsets": True},
        {"dtype": "float32"},
    ):
        plain = nmfcore.factorize(X, 3, random_state=0, max_iter=20, tol=0, **options)
        spoilt = nmfcore.factorize(X, 3, random_state=0, max_iter=20, tol=0, callback=spoil, **options)
        np.testing.assert_array_equal(plain.W, spoilt.W)
        np.testing.assert_array_equal(plain.H, spoilt.H)
        np.testing.assert_array_equal(plain.history.objective, spoilt.history.objective)
