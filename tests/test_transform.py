"""The best W for a known H: against SciPy's active-set solver, and row by row the same in any company."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import nnls

import nmfcore
from nmfcore import Factorization

RNG = np.random.RandomState(0)
X = RNG.random_sample((12, 8)) + 0.1
NEW = RNG.random_sample((9, 8)) * 3
NEW[NEW < 1] = 0
MASK = RNG.random_sample(NEW.shape) < 0.6
MASK[4] = False


def model(H: Any, dtype: Any = float, **settings: Any) -> Factorization:
    """A factorization with this H and these settings, however it came about."""
    H = np.asarray(H, dtype)
    options = {"random_state": 0, "max_iter": 0, "tol": 0}
    f = nmfcore.factorize(np.ones((2, H.shape[1]), dtype), H.shape[0], H=np.ones_like(H), **options)
    return dataclasses.replace(f, H=H, settings=f.settings | settings)


def exact(H: np.ndarray, x: np.ndarray, l1: float = 0.0, l2: float = 0.0, weight: Any = None) -> np.ndarray:
    """SciPy's solution for one row: ``‖√ω (x - Hᵀ w)‖² + 2 l1 Σw + l2 ‖w‖²`` as one least-squares problem.

    ``l2`` makes rows of ``√l2 I``. With them, l1 does too: ``l2 w² + 2 l1 w`` is a square up to a constant.
    """
    root = np.sqrt(np.ones(x.size) if weight is None else weight)
    A, b = (H * root).T, x * root
    if l2:
        A = np.vstack([A, np.sqrt(l2) * np.eye(len(H))])
        b = np.concatenate([b, np.full(len(H), -l1 / np.sqrt(l2))])
    return nnls(A, b, maxiter=1000)[0]


def loss(H: np.ndarray, x: np.ndarray, w: np.ndarray) -> float:
    return float(np.sum((x - w @ H) ** 2))


def agree(W: np.ndarray, expected: list[np.ndarray], tolerance: float = 1e-9) -> None:
    expected = np.array(expected)
    assert np.isfinite(W).all()
    assert W.min() >= 0
    np.testing.assert_allclose(W, expected, rtol=tolerance, atol=tolerance * expected.max())


# ---- against SciPy ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [1, 3, 7])
@pytest.mark.parametrize("kind", [np.asarray, np.asfortranarray, sp.csr_array, sp.coo_array, list])
def test_equals_nnls_row_by_row(r, kind):
    H = np.random.RandomState(r).random_sample((r, 8))
    agree(model(H).transform(kind(NEW)), [exact(H, x) for x in NEW])


@pytest.mark.parametrize("condition", [1e3, 1e6])
def test_ill_conditioned_components(condition):
    rng = np.random.RandomState(1)
    H = 1.0 + rng.random_sample((5, 8)) / condition
    W = model(H).transform(NEW)
    for x, w in zip(NEW, W, strict=True):
        assert loss(H, x, w) <= loss(H, x, exact(H, x)) * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_nearly_parallel_components(seed):
    rng = np.random.RandomState(seed)
    H = np.vstack([rng.random_sample((2, 30))] * 3) + 1e-4 * rng.random_sample((6, 30))
    A = rng.random_sample((20, 6)) @ H
    W = model(H).transform(A)
    for x, w in zip(A, W, strict=True):
        assert loss(H, x, w) <= loss(H, x, exact(H, x)) + 1e-16 * np.sum(x**2)


def test_repeated_components():
    H = np.random.RandomState(2).random_sample((3, 8))
    H = np.vstack([H, H[:2], 2 * H[:1]])
    W = model(H).transform(NEW)
    assert W.min() >= 0
    for x, w in zip(NEW, W, strict=True):
        assert loss(H, x, w) == pytest.approx(loss(H, x, exact(H, x)), rel=1e-10, abs=1e-12)


@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
def test_components_of_zeros(kind):
    H = np.random.RandomState(3).random_sample((4, 8))
    H[[0, 2]] = 0
    options = {"mask": MASK} if kind == "masked" else {}
    W = model(H).transform(sp.csr_array(NEW) if kind == "csr" else NEW, **options)
    observed = MASK if kind == "masked" else np.ones_like(MASK)
    assert not W[:, [0, 2]].any()
    agree(W[:, [1, 3]], [exact(H[[1, 3]], x, weight=m) for x, m in zip(NEW, observed, strict=True)])


def test_no_component_but_zeros():
    assert not model(np.zeros((3, 8))).transform(NEW).any()


def test_more_components_than_columns():
    H = np.random.RandomState(4).random_sample((12, 8))
    W = model(H).transform(NEW)
    for x, w in zip(NEW, W, strict=True):
        assert loss(H, x, w) <= loss(H, x, exact(H, x)) + 1e-12 * np.sum(x**2)


@pytest.mark.parametrize("how", ["mask", "NaN", "masked array", "0/1 weights", "sparse mask"])
def test_missing_entries_are_left_out(how):
    H = np.random.RandomState(5).random_sample((3, 8))
    gaps = np.where(MASK, NEW, np.nan)
    W = {
        "mask": lambda: model(H).transform(gaps, mask=MASK),
        "NaN": lambda: model(H, missing_values=np.nan).transform(gaps),
        "masked array": lambda: model(H).transform(np.ma.MaskedArray(NEW, ~MASK)),
        "0/1 weights": lambda: model(H).transform(NEW, weights=MASK.astype(float)),
        "sparse mask": lambda: model(H).transform(NEW, mask=sp.csr_array(MASK)),
    }[how]()
    agree(W, [exact(H[:, m], x[m]) if m.any() else np.zeros(3) for x, m in zip(NEW, MASK, strict=True)])
    assert not W[4].any()  # nothing was observed of that row


def test_zeros_as_missing():
    H = np.random.RandomState(6).random_sample((2, 8))
    expected = [exact(H[:, x > 0], x[x > 0]) for x in NEW]
    agree(model(H, missing_values=0).transform(NEW), expected)
    agree(model(H, missing_values=0).transform(sp.csr_array(NEW)), expected)
    agree(model(H, missing_values="unstored").transform(sp.csr_array(NEW)), expected)
    gaps = np.where(NEW > 0, NEW, np.nan)  # dense rows, asked of a model of sparse ratings
    agree(model(H, missing_values="unstored").transform(gaps), expected)


@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.7), (0.4, 0.7), (0.4, 1e-3), (50.0, 0.1)])
def test_penalties(l1, l2, kind):
    H = np.random.RandomState(7).random_sample((3, 8))
    options = {"mask": MASK} if kind == "masked" else {}
    W = model(H, l1=(l1, 9.0), l2=(l2, 9.0)).transform(sp.csr_array(NEW) if kind == "csr" else NEW, **options)
    observed = MASK if kind == "masked" else np.ones_like(MASK)
    agree(W, [exact(H, x, l1, l2, m) for x, m in zip(NEW, observed, strict=True)])


def test_l1_alone():
    """A row is stationary: no gradient where it is positive, none downhill where it is 0."""
    H, l1 = np.random.RandomState(8).random_sample((3, 8)), 0.4
    W = model(H, l1=(l1, 0.0)).transform(NEW)
    gradient = W @ (H @ H.T) - NEW @ H.T + l1
    assert (W == 0).any()
    assert np.abs(gradient[W > 0]).max() < 1e-12
    assert gradient[W == 0].min() > -1e-12


def test_weights():
    H = np.random.RandomState(9).random_sample((3, 8))
    weights = np.random.RandomState(10).random_sample(NEW.shape) * MASK
    expected = [exact(H, x, weight=w) if w.any() else np.zeros(3) for x, w in zip(NEW, weights, strict=True)]
    agree(model(H).transform(NEW, weights=weights), expected)
    agree(model(H).transform(sp.csr_array(NEW), weights=sp.csr_array(weights)), expected)


# ---- rows do not see each other -----------------------------------------------------------------------------------


def tall(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.RandomState(11)
    A = rng.random_sample((rows, 40)) * (rng.random_sample((rows, 40)) < 0.5)
    return rng.random_sample((6, 40)), A, rng.random_sample(A.shape) < 0.7


@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_alone_is_the_row_in_a_batch(kind, dtype):
    H, A, mask = tall(203)
    f = model(H, dtype)
    A = A.astype(dtype)

    def transform(rows: Any) -> np.ndarray:
        if kind == "masked":
            return f.transform(A[rows], mask=mask[rows])
        return f.transform(sp.csr_array(A[rows]) if kind == "csr" else A[rows])

    W = transform(slice(None))
    order = np.random.RandomState(12).permutation(len(A))
    np.testing.assert_array_equal(transform(order), W[order])
    for i in (0, 1, 2, 3, 100, 201, 202):
        np.testing.assert_array_equal(transform(slice(i, i + 1))[0], W[i])


@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
def test_slabs_and_threads_change_no_bit(kind):
    H, A, mask = tall(60_000)
    f = model(H)
    data = sp.csr_array(A) if kind == "csr" else A
    options = {"mask": mask} if kind == "masked" else {}
    one = f.transform(data, n_threads=1, **options)
    np.testing.assert_array_equal(f.transform(data, n_threads=2, **options), one)
    some = slice(59_000, 59_010)
    options = {"mask": mask[some]} if kind == "masked" else {}
    np.testing.assert_array_equal(f.transform(data[some], **options), one[some])


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_an_extreme_row_does_not_disturb_the_others(scale):
    H = np.random.RandomState(13).random_sample((3, 8))
    W = model(H).transform(np.vstack([NEW, scale * NEW[:1]]))
    np.testing.assert_allclose(W[:-1], model(H).transform(NEW), rtol=1e-12)
    np.testing.assert_allclose(W[-1], scale * W[0], rtol=1e-12)


# ---- shapes, dtypes, scale ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.zeros, sp.csr_array, sp.coo_array])
def test_no_rows(make):
    W = model(np.ones((3, 8))).transform(make((0, 8)))
    assert W.shape == (0, 3)


@pytest.mark.parametrize("data", [NEW[:, :5], sp.csr_array(NEW[:, :5]), np.zeros((0, 5)), NEW[:5].T])
def test_another_number_of_columns(data):
    n = data.shape[1]
    with pytest.raises(ValueError, match=f"X has {n} features, but the factorization expects 8"):
        model(np.ones((3, 8))).transform(data)


def test_no_columns_and_one_dimension():
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        model(np.ones((3, 8))).transform(np.zeros((2, 0)))
    with pytest.raises(ValueError, match=r"Expected 2D array.*reshape\(1, -1\)"):
        model(np.ones((3, 8))).transform(NEW[0])


@pytest.mark.parametrize("of_model", [np.float32, np.float64])
@pytest.mark.parametrize("of_data", [np.float32, np.float64, np.float16, np.int64])
def test_dtypes_of_model_and_data_mix(of_model, of_data):
    H = np.random.RandomState(14).random_sample((3, 8)).astype(of_model)
    A = (4 * NEW).astype(of_data)
    W = model(H, of_model).transform(A)
    assert W.dtype == of_model
    agree(W, [exact(H.astype(float), x) for x in A.astype(float)], 1e-9 if of_model is np.float64 else 1e-4)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e300, 1e-300])
@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
def test_scale_of_the_data(scale, kind):
    H = np.random.RandomState(15).random_sample((3, 8))
    A = NEW * scale
    options = {"mask": MASK} if kind == "masked" else {}
    make = sp.csr_array if kind == "csr" else np.asarray
    W, expected = (model(H).transform(make(B), **options) for B in (A, NEW))
    np.testing.assert_allclose(W, expected * scale, rtol=1e-9, atol=1e-9 * scale)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_scale_of_the_components(scale):
    H = np.random.RandomState(16).random_sample((3, 8))
    np.testing.assert_allclose(model(H * scale).transform(NEW), model(H).transform(NEW) / scale, rtol=1e-9, atol=0)


def test_components_of_different_scale():
    H = np.random.RandomState(17).random_sample((3, 8)) * np.array([[1e-8], [1.0], [1e8]])
    W = model(H).transform(NEW)
    for x, w in zip(NEW, W, strict=True):
        unit = H / H.sum(axis=1, keepdims=True)
        assert loss(H, x, w) <= loss(unit, x, exact(unit, x)) * (1 + 1e-9) + 1e-12


def test_penalties_weigh_the_same_at_any_scale():
    H, s = np.random.RandomState(18).random_sample((3, 8)), 4.0**200
    plain = model(H, l1=(0.3, 0.0), l2=(0.5, 0.0)).transform(NEW)
    scaled = model(H, l1=(0.3 * s, 0.0), l2=(0.5, 0.0)).transform(NEW * s)
    np.testing.assert_allclose(scaled, plain * s, rtol=1e-12)


# ---- with a fit ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"l1": 0.05, "l2": 0.1},
        {"missing_values": np.nan},
        {"missing_values": 0, "l2": (0.2, 0.0)},
        {"missing_values": "unstored"},
    ],
    ids=repr,
)
def test_the_training_rows_are_fitted_at_least_as_well(options, solver):
    A: Any = np.where(np.random.RandomState(19).random_sample(X.shape) < 0.8, X, 0)
    rule = options.get("missing_values")
    if rule == "unstored":
        A = sp.csr_array(A)
    elif isinstance(rule, float):
        A[A == 0] = np.nan
    f = nmfcore.factorize(A, 3, random_state=0, tol=0, max_iter=30, solver=solver, **options)
    better = nmfcore.factorize(A, 3, W=f.transform(A), H=f.H, max_iter=0, tol=0, solver=solver, **options)
    assert better.objective <= f.objective * (1 + 1e-12)
    assert better.objective >= 0.9 * f.objective  # and it is the same objective


def test_nothing_is_modified():
    f, A, mask = nmfcore.factorize(X, 3, random_state=0), NEW.copy(), MASK.copy()
    H = f.H.copy()
    f.transform(A, mask=mask)
    np.testing.assert_array_equal(A, NEW)
    np.testing.assert_array_equal(mask, MASK)
    np.testing.assert_array_equal(f.H, H)


@pytest.mark.parametrize(
    ("value", "message"), [(np.nan, r"H\[1, 2\] is missing"), (np.inf, r"H\[1, 2\] = inf"), (-1.0, r"H\[1, 2\] = -1")]
)
def test_components_that_were_spoilt(value, message):
    f = model(np.ones((3, 8)))
    f.H[1, 2] = value
    with pytest.raises(ValueError, match=message):
        f.transform(NEW)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"X": np.where(np.isclose(NEW, NEW[3, 2]), np.nan, NEW)},
            ValueError,
            r"NaN: X\[\d, \d\].*missing_values=np.nan",
        ),
        ({"X": -NEW}, ValueError, "Negative values"),
        ({"X": None}, TypeError, "X must be a matrix"),
        ({"mask": MASK[:2]}, ValueError, r"mask has shape \(2, 8\) where X has \(9, 8\)"),
        ({"n_threads": 0}, ValueError, "n_threads=0 must be 1 or more"),
    ],
)
def test_bad_arguments(options, error, message):
    with pytest.raises(error, match=message):
        model(np.ones((3, 8))).transform(**({"X": NEW} | options))


@pytest.mark.parametrize("eps", [1.0, 1e-1, 1e-2, 1e-3])
def test_float32_rows_on_components_that_nearly_repeat_each_other(eps):
    # Normal equations in float32 would lose everything below eps² = 1e-6.
    rng = np.random.default_rng(0)
    H = (rng.random(300) + eps * rng.random((6, 300))).astype(np.float32)
    X = (rng.random((20, 6)).astype(np.float32) @ H).astype(np.float32)
    f = nmfcore.factorize(X, 6, W=np.ones((20, 6)), H=H, max_iter=0, tol=0)
    W = f.transform(X)
    assert W.dtype == np.float32
    for x, w in zip(X.astype(float), W.astype(float), strict=True):
        best = nnls(H.T.astype(float), x)[0].astype(np.float32).astype(float)
        error, least = (np.sum((x - a @ H) ** 2) for a in (w, best))
        assert error <= 4 * least + 1e-9
