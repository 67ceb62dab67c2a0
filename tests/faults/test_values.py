"""Rows 36 to 59: entries that no matrix may have, and those of any size that it may."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from catalogue import case, each, equal, holds, in_storages, refused
from fits import SOLVERS, STORED, X, ask, changed, fit, relative_error, same, sound

import nmfcore
from nmfcore import Factorization

LARGEST = np.finfo(float).max
UNEQUAL_ROWS = X * np.where(np.arange(6) % 2 == 0, 1e150, 1e-150)[:, None]
UNEQUAL_COLUMNS = X * np.array([1e8, 1e-8, 1e8, 1e-8, 1.0])
NO_ROW, NO_COLUMN, RANK_ONE = X.copy(), X.copy(), np.outer([1, 2, 3, 4.0], [5, 6, 7.0])
NO_ROW[2], NO_COLUMN[:, 3] = 0, 0
LOW_RANK = X[:, :2] @ X[:2]
NOTHING_TO_WARN_OF = "no warning: zeros are what W H is to be"


def fitted_to(A: np.ndarray, within: float) -> Any:
    return holds(lambda f: _near(f, A, within))


def _near(f: Factorization, A: np.ndarray, within: float) -> None:
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    assert min(f.W.min(), f.H.min()) >= 0
    assert relative_error(A, f.W, f.H) <= within


def _nothing(f: Factorization) -> None:
    sound(f)
    assert f.objective == 0
    assert f.n_iter <= 2
    assert f.converged
    assert not f.reconstruct().any()


def _no_row(f: Factorization) -> None:
    assert not sound(f).W[2].any()


def _no_column(f: Factorization) -> None:
    assert not sound(f).H[:, 3].any()


def power_near(scale: float) -> float:
    """The power of four next to ``scale``, so that equal means equal."""
    return 4.0 ** round(np.log2(scale) / 2)


def scaled(row: int, fault: str, scale: float, dtype: str = "f8", **more: Any) -> Any:
    """A case of X times about ``scale``: the factors of X times its root, to the bit."""
    power, options = power_near(scale), {k: v for k, v in more.items() if k == "solver"}

    def check(f: Factorization) -> None:
        g = ask(X.astype(dtype), **options)
        np.testing.assert_array_equal(f.W, g.W * np.sqrt(power))
        np.testing.assert_array_equal(f.H, g.H * np.sqrt(power))

    return case(row, fault, (X * power).astype(dtype), holds(check), **more)


CASES = [
    *in_storages(
        36,
        "NaN",
        changed(4, 1, np.nan),
        refused(ValueError, r"Input contains NaN: X\[4, 1\] is missing. Pass missing_values=np.nan"),
    ),
    equal(
        36,
        "NaN, missing_values=nan",
        changed(4, 1, np.nan),
        np.ma.masked_invalid(changed(4, 1, np.nan)),
        missing_values=np.nan,
    ),
    *in_storages(
        37,
        "infinity",
        changed(4, 1, np.inf),
        refused(ValueError, r"Input contains infinity: X\[4, 1\] = inf, but every entry must be finite"),
    ),
    *in_storages(
        38,
        "-infinity",
        changed(4, 1, -np.inf),
        refused(ValueError, r"Negative values in data .*X\[4, 1\] = -inf"),
    ),
    *in_storages(
        39,
        "negative entry",
        changed(4, 1, -0.13),
        refused(ValueError, r"Negative values in data .*X\[4, 1\] = -0.13, .*X.clip\(0\).*subtract the minimum"),
    ),
    *in_storages(
        40,
        "-1e-17",
        changed(4, 1, -1e-17),
        refused(ValueError, r"Negative values in data .*X\[4, 1\] = -1e-17, .*X.clip\(0\) if that is round-off"),
    ),
    equal(41, "-0.0", changed(4, 1, -0.0), changed(4, 1, 0.0)),
    case(42, "all zeros", np.zeros((6, 5)), holds(_nothing), note=NOTHING_TO_WARN_OF),
    case(42, "all zeros, mu", np.zeros((6, 5)), holds(_nothing), solver="mu", note=NOTHING_TO_WARN_OF),
    case(43, "zero row", NO_ROW, holds(_no_row)),
    case(44, "zero column", NO_COLUMN, holds(_no_column)),
    case(45, "constant matrix", np.full((6, 5), 7.0), fitted_to(np.full((6, 5), 7.0), 1e-5), rank=3),
    case(46, "rank 1 fitted by 3 components", RANK_ONE, fitted_to(RANK_ONE, 1e-5), rank=3),
    case(46, "the same, mu", RANK_ONE, fitted_to(RANK_ONE, 1e-3), rank=3, solver="mu"),
    scaled(47, "X times about 1e150", 1e150),
    scaled(47, "the same, mu", 1e150, solver="mu"),
    scaled(48, "X times about 1e155", 1e155),
    scaled(48, "X times about 1e300", 1e300),
    scaled(48, "the same, mu", 1e300, solver="mu"),
    case(49, "the largest float", np.full((6, 5), LARGEST), fitted_to(np.full((6, 5), LARGEST), 1e-5), rank=1),
    scaled(50, "X times about 1e-150", 1e-150),
    scaled(50, "the same, mu", 1e-150, solver="mu"),
    scaled(50, "X times about 1e-200", 1e-200),
    scaled(50, "X times about 1e-290", 1e-290),
    case(51, "denormals", np.full((6, 5), 5e-324), fitted_to(np.full((6, 5), 5e-324), 1e-9), rank=1),
    case(51, "denormals, mu", np.full((6, 5), 5e-324), fitted_to(np.full((6, 5), 5e-324), 1e-9), rank=1, solver="mu"),
    scaled(52, "float32 times about 1e19", 1e19, "f4"),
    scaled(52, "float32 times about 1e30", 1e30, "f4"),
    scaled(53, "float32 times about 1e-20", 1e-20, "f4"),
    scaled(53, "the same, mu", 1e-20, "f4", solver="mu"),
    scaled(53, "float32 times about 1e-30", 1e-30, "f4"),
    scaled(54, "X times about 1e4", 1e4),
    case(55, "rows of 1e150 and of 1e-150", UNEQUAL_ROWS, fitted_to(UNEQUAL_ROWS, 0.1), rank=3),
    case(56, "columns of 1e8 and of 1e-8", UNEQUAL_COLUMNS, fitted_to(UNEQUAL_COLUMNS, 0.3)),
    equal(
        57,
        "float16 whose sum overflows float16",
        np.full((6, 5), 6e4, np.float16),
        np.full((6, 5), np.float64(np.float16(6e4))),
    ),
    case(
        58,
        "Python ints of 1e30",
        [[10**30, 2 * 10**30], [2 * 10**30, 4 * 10**30]],
        fitted_to(np.array([[1e30, 2e30], [2e30, 4e30]]), 1e-6),
        rank=1,
    ),
    case(
        58,
        "Python ints beyond float64",
        [[1, 10**400], [2, 3]],
        refused(ValueError, r"infinity: X\[0, 1\] = inf, but every entry must be finite"),
        rank=1,
    ),
    case(59, "exact low rank", LOW_RANK, fitted_to(LOW_RANK, 1e-4)),
    case(59, "exact low rank, CSR", sp.csr_array(LOW_RANK), fitted_to(LOW_RANK, 1e-4)),
]


@each(CASES)
def test_values(case):
    case.hold()


@pytest.mark.row(39)
@pytest.mark.parametrize("kind", STORED)
def test_the_first_bad_value_is_the_one_named(kind):
    A = changed(4, 1, np.nan)
    A[2, 3] = -7.0
    with pytest.raises(ValueError, match=r"X\[2, 3\] = -7"):
        fit(STORED[kind](A))


@pytest.mark.row(37)
@pytest.mark.parametrize("value", [np.inf, -2.0])
@pytest.mark.parametrize("kind", STORED)
def test_missing_values_do_not_excuse_bad_ones(kind, value):
    A = changed(4, 1, value)
    A[0, 0] = np.nan
    with pytest.raises(ValueError, match=rf"X\[4, 1\] = {value:g}"):
        fit(STORED[kind](A), missing_values=np.nan)


@pytest.mark.row(37)
def test_float64_too_large_for_the_float32_asked_for():
    with pytest.raises(ValueError, match=r"infinity: X\[4, 1\] = inf.*float32"):
        fit(changed(4, 1, 1e300), dtype=np.float32)


@pytest.mark.row(41)
def test_minus_zero_is_zero():
    same(fit(changed(4, 1, -0.0)), fit(changed(4, 1, 0.0)))
    f = fit(np.full((3, 3), -0.0), 1)
    assert not np.signbit(f.reconstruct()).any()


@pytest.mark.row(42)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "zeros", [np.zeros((6, 5)), sp.csr_array((6, 5)), sp.coo_array((6, 5)), np.zeros((6, 5), "f4")]
)
def test_all_zeros(zeros, solver):
    _nothing(nmfcore.factorize(zeros, 2, solver=solver, random_state=0))


@pytest.mark.row(42)
@pytest.mark.parametrize("init", ["nndsvd", "nndsvda", "nndsvdar"])
def test_all_zeros_with_other_starts(init):
    assert not sound(nmfcore.factorize(np.zeros((6, 5)), 2, init=init, random_state=0)).reconstruct().any()


@pytest.mark.row(43)
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_rows_and_columns_are_fitted_by_zeros(kind, solver):
    A = X.copy()
    A[2], A[:, 3] = 0, 0
    f = fit(STORED[kind](A), solver=solver)
    _no_row(f)
    _no_column(f)


@pytest.mark.row(46)
@pytest.mark.parametrize(("solver", "within"), [("hals", 1e-8), ("mu", 1e-3)])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("A", [np.full((6, 5), 7.0), RANK_ONE])
def test_constant_and_rank_one_data_with_spare_components(A, kind, solver, within):
    f = sound(fit(STORED[kind](A), 3, solver=solver, max_iter=500))
    assert np.linalg.norm(A - f.reconstruct()) <= within * np.linalg.norm(A)


@pytest.mark.row(48)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1e150, "f8"), (1e-150, "f8"), (1e300, "f8"), (1e-290, "f8"), (1e30, "f4"), (1e19, "f4"), (1e-30, "f4")],
)
@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
def test_scale_changes_nothing_but_scale(kind, scale, dtype, solver):
    power = power_near(scale)
    options: dict[str, Any] = {"solver": solver}
    base, larger = X.astype(dtype), (X * power).astype(dtype)
    if kind == "csr":
        base, larger = sp.csr_array(base), sp.csr_array(larger)
    if kind == "masked":
        options["mask"] = np.random.RandomState(3).random_sample(X.shape) < 0.7
    f, g = fit(base, **options), fit(larger, **options)
    np.testing.assert_array_equal(g.W, f.W * np.sqrt(power))
    np.testing.assert_array_equal(g.H, f.H * np.sqrt(power))
    np.testing.assert_array_equal(g.history.kkt, f.history.kkt)


@pytest.mark.row(55)
@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_of_very_different_scale(solver):
    f = sound(fit(UNEQUAL_ROWS, 3, solver=solver, max_iter=300))
    assert np.linalg.norm((UNEQUAL_ROWS - f.reconstruct())[::2] / 1e150) < 0.1 * np.linalg.norm(X[::2])


@pytest.mark.row(56)
@pytest.mark.parametrize("solver", SOLVERS)
def test_columns_of_different_scale(solver):
    sound(fit(UNEQUAL_COLUMNS, solver=solver))


@pytest.mark.row(49)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_largest_float(dtype, solver):
    largest = np.finfo(dtype).max
    f = fit(np.full((6, 5), largest, dtype), 1, solver=solver, max_iter=50)
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    np.testing.assert_allclose(f.W.astype(np.longdouble) @ f.H.astype(np.longdouble) / largest, 1.0, rtol=1e-5)


@pytest.mark.row(51)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [5e-324, 1e-310, np.finfo(float).tiny])
def test_denormals(value, solver):
    f = sound(fit(np.full((6, 5), value), 1, solver=solver))
    np.testing.assert_allclose(f.reconstruct(), value, rtol=1e-9, atol=1e-323)


@pytest.mark.row(59)
@pytest.mark.parametrize("start", [{}, {"init": "nndsvda"}])
def test_exact_low_rank_has_no_negative_error(start):
    for data in (LOW_RANK, sp.csr_array(LOW_RANK)):
        f = sound(fit(data, 2, max_iter=2000, **start))
        assert (f.history.objective >= 0).all()
