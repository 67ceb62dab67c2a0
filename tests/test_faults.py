"""What users hand in by mistake, and what is odd but right: every case ends as the fault catalogue says.

The rule is one: finite, non-negative factors, or an exception that names the place and the remedy.
"""

from __future__ import annotations

import re
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore import ConvergenceWarning, Factorization, Status
from nmfcore.solvers import HALS, MU

X = np.random.RandomState(0).random_sample((6, 5)) + 0.1
SOLVERS = ["hals", "mu"]


def fit(data: object, rank: Any = 2, **options: Any) -> Factorization:
    """A short fit whose warning about max_iter does not matter."""
    options = {"random_state": 0, "max_iter": 20, "tol": 0} | options
    return nmfcore.factorize(data, rank, **options)


def sound(f: Factorization) -> Factorization:
    for A in f:
        assert np.isfinite(A).all()
        assert A.min() >= 0
    assert np.isfinite(f.kkt)
    assert np.all(np.diff(f.history.objective) <= 1e-12 * f.history.objective[0])
    return f


def same(f: Factorization, g: Factorization) -> None:
    assert f.W.dtype == g.W.dtype
    np.testing.assert_array_equal(f.W, g.W)
    np.testing.assert_array_equal(f.H, g.H)


def changed(row: int, column: int, value: Any) -> np.ndarray:
    A = X.astype(np.result_type(X, type(value)) if not isinstance(value, float) else float)
    A[row, column] = value
    return A


# ---- containers and dtypes --------------------------------------------------------------------------------------


class Arrayish:
    """What NumPy can make an array of, such as a tensor or a polars frame."""

    def __init__(self, A: np.ndarray) -> None:
        self.A = A

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.A if dtype is None else self.A.astype(dtype)


class Raising:
    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise RuntimeError("this tensor is on another device")


def rows() -> Iterator[list[float]]:
    yield [1.0, 2.0]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(X.tolist(), id="lists"),
        pytest.param(tuple(map(tuple, X)), id="tuples"),
        pytest.param([*X], id="list of arrays"),
        pytest.param(X.astype(object), id="object"),
        pytest.param(Arrayish(X), id="__array__"),
        pytest.param(np.asfortranarray(X), id="Fortran"),
        pytest.param(X.astype(">f8"), id="big-endian"),
        pytest.param(X.astype(np.longdouble), id="longdouble"),
        pytest.param(memoryview(X), id="memoryview"),
        pytest.param(pd.DataFrame(X), id="DataFrame"),
        pytest.param(pd.DataFrame(X, columns=["a", 1, 2.5, None, ("b", "c")]), id="mixed names"),
        pytest.param(pd.DataFrame(X, columns=["a", "a", "b", "b", "c"]), id="equal names"),
        pytest.param(pd.DataFrame(X).convert_dtypes(), id="nullable"),
        pytest.param(pd.DataFrame(X).astype(object), id="object frame"),
    ],
)
def test_containers_of_the_same_numbers_give_the_same_factors(data):
    same(fit(data), fit(X))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int64, np.uint64, np.float16, np.longdouble])
def test_every_real_dtype_but_float32_is_computed_in_float64(dtype):
    counts = np.random.RandomState(1).randint(0, 2, (6, 5))
    f = fit(counts.astype(dtype))
    assert f.W.dtype == np.float64
    same(f, fit(counts.astype(float)))


def test_float32_stays_float32_unless_asked_otherwise():
    assert fit(X.astype(np.float32)).W.dtype == np.float32
    assert fit(X.astype(np.float32), dtype="float64").W.dtype == np.float64
    same(fit(X, dtype=np.float32), fit(X.astype(np.float32)))


def test_frame_of_several_dtypes():
    frame = pd.DataFrame({"i": [1, 2, 3], "b": [True, False, True], "f": [0.5, 1.5, 2.5]})
    frame["n"] = pd.array([1, 2, 3], dtype="Int64")
    same(fit(frame), fit(frame.astype(float).to_numpy()))


def test_float16_whose_sum_overflows_float16():
    same(fit(np.full((6, 5), 6e4, np.float16)), fit(np.full((6, 5), np.float64(np.float16(6e4)))))


def test_python_ints_beyond_int64():
    f = sound(fit([[10**30, 2 * 10**30], [2 * 10**30, 4 * 10**30]], 1, max_iter=50))
    np.testing.assert_allclose(f.reconstruct(), [[1e30, 2e30], [2e30, 4e30]], rtol=1e-6)


def test_python_ints_beyond_float64():
    with pytest.raises(ValueError, match=r"X\[0, 1\].*infin|infinity: X\[0, 1\]"):
        fit([[1, 10**400], [2, 3]], 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "not None"),
        (b"1234", "not bytes"),
        ("1 2; 3 4", "not str"),
        ({"a": [1.0, 2.0]}, "not dict"),
        ({1.0, 2.0}, "not set"),
        (rows(), "not generator"),
        (iter([[1.0]]), "not list_iterator"),
    ],
)
def test_what_is_no_matrix(data, message):
    with pytest.raises(TypeError, match=r"X must be a matrix \(array, DataFrame, .*" + message):
        fit(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([[1.0, 2.0], [3.0]], r"X\[1\] has 1 entries where X\[0\] has 2"),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0, 7.0]], r"X\[2\] has 3 entries where X\[0\] has 2"),
        ([[1.0, 2.0], 3.0], r"X\[1\] is 3.0 where X\[0\] has 2 entries"),
        ([1.0, [2.0, 3.0]], r"X\[1\] has 2 entries where X\[0\] is 1.0"),
        (([1.0], []), r"X\[1\] has 0 entries where X\[0\] has 1"),
    ],
)
def test_ragged_rows_are_named(data, message):
    with pytest.raises(ValueError, match=message):
        fit(data)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (3.0, r"A single number is \[\[X\]\]"),
        (X[0], r" X.reshape\(1, -1\) for one row"),
        ([1.0, 2.0], r"np.asarray\(X\).reshape\(1, -1\) for one row"),
        (pd.Series([1.0, 2.0]), r"np.asarray\(X\).reshape\(1, -1\) for one row, \(-1, 1\) for one column"),
        (X[None], r" X.reshape\(1, -1\) makes a row of each of the 1 arrays in X"),
        (np.zeros((2, 3, 2, 2)), r" X.reshape\(2, -1\) makes a row of each of the 2 arrays in X; or pass one of them"),
        ([X, X], r"np.asarray\(X\).reshape\(2, -1\) makes a row of each of the 2 arrays"),
    ],
)
def test_dimensions_other_than_two(data, remedy):
    shape = re.escape(str(np.shape(data)))
    with pytest.raises(
        ValueError, match=rf"Expected 2D array, got {np.ndim(data)}D array instead: .* {shape}.*{remedy}"
    ):
        fit(data)


@pytest.mark.parametrize("missing", [None, pd.NA, np.nan, pd.NaT])
def test_objects_with_a_gap(missing):
    data = X.astype(object)
    data[2, 3] = missing
    with pytest.raises(ValueError, match=r"X\[2, 3\] is missing. Pass missing_values=np.nan"):
        fit(data)
    same(fit(data, missing_values=np.nan), fit(changed(2, 3, np.nan), missing_values=np.nan))


@pytest.mark.parametrize("dtype", ["Float64", "Float32", "Int64"])
def test_nullable_columns_with_a_gap(dtype):
    frame = pd.DataFrame({"a": pd.array([1, None, 3], dtype=dtype), "b": pd.array([4, 5, 6], dtype=dtype)})
    with pytest.raises(ValueError, match=r"X\[1, 0\] is missing. Pass missing_values=np.nan"):
        fit(frame)
    expected = np.array([[1, 4], [np.nan, 5], [3, 6]])
    np.testing.assert_allclose(
        fit(frame, missing_values=np.nan).reconstruct(), fit(expected, missing_values=np.nan).reconstruct(), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (np.array([["1.5", "2"], ["3", "4"]]), r"X\[0, 0\] is '1.5'"),
        ([["1.5", "2"], ["3", "4"]], r"X\[0, 0\] is '1.5'"),
        ([[1.0, 2.0], [3.0, "4,5"]], r"X\[1, 1\] is '4,5'"),
        (np.array([[1.0, 2.0], [3.0, "a"]], object), r"X\[1, 1\] is 'a'"),
        (np.array([[b"1", b"2"]]), r"X\[0, 0\] is b'1'"),
        (pd.DataFrame({"n": [1.0, 2.0], "name": ["Ann", "Bob"]}), "column 'name' is 'Ann'"),
        (pd.DataFrame({"n": [1.0, 2.0], "when": pd.to_datetime(["2020-01-01", "2020-01-02"])}), "column 'when' is "),
        (np.array([[1.0, [2.0]], [3.0, 4.0]], object), r"X\[0, 1\] is \[2.0\]"),
        (np.array([[1.0, 2.0], [3.0, np.complex128(4j)]], object), r"X\[1, 1\] is np.complex128\(4j\)"),
        (np.array([[1.0, 2.0], [3.0, 4j]], object), r"X\[1, 1\] is 4j"),
    ],
)
def test_what_is_not_a_number_is_named(data, where):
    with pytest.raises(TypeError, match=where + r".*number.*[Cc]onvert"):
        fit(data)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (X.astype(complex), ValueError, "Complex data not supported: X has dtype complex128. Pass its magnitude"),
        (np.zeros((2, 2), "M8[D]"), TypeError, r"X has dtype datetime64\[D\].*Convert it first"),
        (np.zeros((2, 2), "m8[s]"), TypeError, r"X has dtype timedelta64\[s\].*Convert it first"),
        (np.zeros((2, 2), [("a", float)]), TypeError, r"X has dtype \[\('a', '<f8'\)\].*Convert it first"),
        (np.zeros((2, 2), "V8"), TypeError, r"X has dtype \|V8.*Convert it first"),
    ],
)
def test_dtypes_that_are_no_real_numbers(data, error, message):
    with pytest.raises(error, match=message):
        fit(data)


def test_np_matrix():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        matrix = np.matrix(X)
    with pytest.raises(TypeError, match=r"np.matrix.*pass np.asarray\(X\)"):
        fit(matrix)


def test_what_cannot_become_an_array_says_so_itself():
    with pytest.raises(RuntimeError, match="on another device"):
        fit(Raising())


def test_read_only_and_memory_mapped(tmp_path):
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    frozen = X.copy()
    frozen.flags.writeable = False
    same(fit(mapped), fit(X))
    same(fit(frozen), fit(X))


def test_unaligned():
    raw = np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(X.shape)
    raw[:] = X
    assert not raw.flags.aligned
    same(fit(raw), fit(X))


# ---- values -----------------------------------------------------------------------------------------------------


STORED = {
    "dense": lambda A: A,
    "float32": lambda A: A.astype(np.float32),
    "csr": sp.csr_array,
    "csc": sp.csc_matrix,
    "coo": sp.coo_array,
    "lil": sp.lil_matrix,
}


@pytest.mark.parametrize("kind", STORED)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"Input contains NaN: X\[4, 1\] is missing. Pass missing_values=np.nan"),
        (np.inf, r"Input contains infinity: X\[4, 1\] = inf, but every entry must be finite"),
        (-np.inf, r"Negative values in data .*X\[4, 1\] = -inf"),
        (-0.13, r"Negative values in data .*X\[4, 1\] = -0.13, .*X.clip\(0\).*subtract the minimum"),
        (-1e-17, r"Negative values in data .*X\[4, 1\] = -1e-17, .*X.clip\(0\) if that is round-off"),
    ],
)
def test_bad_values_are_named_with_their_place(kind, value, message):
    with pytest.raises(ValueError, match=message):
        fit(STORED[kind](changed(4, 1, value)))


@pytest.mark.parametrize("kind", STORED)
def test_the_first_bad_value_is_the_one_named(kind):
    A = changed(4, 1, np.nan)
    A[2, 3] = -7.0
    with pytest.raises(ValueError, match=r"X\[2, 3\] = -7"):
        fit(STORED[kind](A))


@pytest.mark.parametrize("value", [np.inf, -2.0])
@pytest.mark.parametrize("kind", STORED)
def test_missing_values_do_not_excuse_bad_ones(kind, value):
    A = changed(4, 1, value)
    A[0, 0] = np.nan
    with pytest.raises(ValueError, match=rf"X\[4, 1\] = {value:g}"):
        fit(STORED[kind](A), missing_values=np.nan)


def test_float64_too_large_for_the_float32_asked_for():
    with pytest.raises(ValueError, match=r"infinity: X\[4, 1\] = inf.*float32"):
        fit(changed(4, 1, 1e300), dtype=np.float32)


def test_minus_zero_is_zero():
    same(fit(changed(4, 1, -0.0)), fit(changed(4, 1, 0.0)))
    f = fit(np.full((3, 3), -0.0), 1)
    assert not np.signbit(f.reconstruct()).any()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "zeros", [np.zeros((6, 5)), sp.csr_array((6, 5)), sp.coo_array((6, 5)), np.zeros((6, 5), "f4")]
)
def test_all_zeros(zeros, solver):
    f = sound(nmfcore.factorize(zeros, 2, solver=solver, random_state=0))
    assert f.objective == 0
    assert f.n_iter <= 2
    assert f.converged
    assert not f.reconstruct().any()


@pytest.mark.parametrize("init", ["nndsvd", "nndsvda", "nndsvdar"])
def test_all_zeros_with_other_starts(init):
    assert not sound(nmfcore.factorize(np.zeros((6, 5)), 2, init=init, random_state=0)).reconstruct().any()


@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_rows_and_columns_are_fitted_by_zeros(kind, solver):
    A = X.copy()
    A[2], A[:, 3] = 0, 0
    f = sound(fit(STORED[kind](A), solver=solver))
    assert not f.W[2].any()
    assert not f.H[:, 3].any()


@pytest.mark.parametrize(("solver", "within"), [("hals", 1e-8), ("mu", 1e-3)])
@pytest.mark.parametrize("kind", ["dense", "csr"])
@pytest.mark.parametrize("A", [np.full((6, 5), 7.0), np.outer([1, 2, 3, 4.0], [5, 6, 7.0])])
def test_constant_and_rank_one_data_with_spare_components(A, kind, solver, within):
    f = sound(fit(STORED[kind](A), 3, solver=solver, max_iter=500))
    assert np.linalg.norm(A - f.reconstruct()) <= within * np.linalg.norm(A)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("scale", "dtype"),
    [(1e150, "f8"), (1e-150, "f8"), (1e300, "f8"), (1e-290, "f8"), (1e30, "f4"), (1e19, "f4"), (1e-30, "f4")],
)
@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
def test_scale_changes_nothing_but_scale(kind, scale, dtype, solver):
    """The power of four next to ``scale``, so that equal means equal."""
    power = 4.0 ** round(np.log2(scale) / 2)
    options: dict[str, Any] = {"solver": solver}
    base, scaled = X.astype(dtype), (X * power).astype(dtype)
    if kind == "csr":
        base, scaled = sp.csr_array(base), sp.csr_array(scaled)
    if kind == "masked":
        options["mask"] = np.random.RandomState(3).random_sample(X.shape) < 0.7
    f, g = fit(base, **options), fit(scaled, **options)
    np.testing.assert_array_equal(g.W, f.W * np.sqrt(power))
    np.testing.assert_array_equal(g.H, f.H * np.sqrt(power))
    np.testing.assert_array_equal(g.history.kkt, f.history.kkt)


@pytest.mark.parametrize("solver", SOLVERS)
def test_rows_of_very_different_scale(solver):
    A = X.copy()
    A[::2] *= 1e150
    A[1::2] *= 1e-150
    f = sound(fit(A, 3, solver=solver, max_iter=300))
    assert np.linalg.norm((A - f.reconstruct())[::2] / 1e150) < 0.1 * np.linalg.norm(X[::2])


@pytest.mark.parametrize("solver", SOLVERS)
def test_columns_of_different_scale(solver):
    sound(fit(X * np.array([1e8, 1e-8, 1e8, 1e-8, 1.0]), solver=solver))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_largest_float(dtype, solver):
    largest = np.finfo(dtype).max
    f = fit(np.full((6, 5), largest, dtype), 1, solver=solver, max_iter=50)
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    np.testing.assert_allclose(f.W.astype(np.longdouble) @ f.H.astype(np.longdouble) / largest, 1.0, rtol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("value", [5e-324, 1e-310, np.finfo(float).tiny])
def test_denormals(value, solver):
    f = sound(fit(np.full((6, 5), value), 1, solver=solver))
    np.testing.assert_allclose(f.reconstruct(), value, rtol=1e-9, atol=1e-323)


@pytest.mark.parametrize("start", [{}, {"init": "nndsvda"}])
def test_exact_low_rank_has_no_negative_error(start):
    A = X[:, :2] @ X[:2]
    for data in (A, sp.csr_array(A)):
        f = sound(fit(data, 2, max_iter=2000, **start))
        assert (f.history.objective >= 0).all()


# ---- shapes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [((0, 5), r"0 sample\(s\) \(shape=\(0, 5\)\)"), ((5, 0), r"0 feature\(s\) \(shape=\(5, 0\)\)")],
)
@pytest.mark.parametrize("make", [np.zeros, sp.csr_array, sp.coo_array])
def test_empty(make, shape, message):
    with pytest.raises(ValueError, match=message + ".*X is empty"):
        fit(make(shape))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_one_row_or_column(shape, rank, kind, solver):
    A = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)
    f = sound(fit(STORED[kind](A), rank, solver=solver, max_iter=500))
    np.testing.assert_allclose(f.reconstruct(), A, rtol=1e-3)


def test_more_components_than_rows_or_columns():
    f = sound(fit(X, 9, max_iter=200))
    assert f.W.shape == (6, 9)
    with pytest.raises(ValueError, match=r"init='nndsvd' needs rank <= min\(m, n\) = 5, .*Use init='random'"):
        fit(X, 9, init="nndsvd")


@pytest.mark.parametrize("data", [X, sp.csr_array(X)])
@pytest.mark.parametrize("rank", [10**6, 10**9, 10**18])
def test_a_rank_beyond_memory_is_refused_before_computing(data, rank):
    began = time.perf_counter()
    with pytest.raises(MemoryError, match=rf"rank={rank} needs [\d.e+]+ GiB .*choose a smaller rank"):
        fit(data, rank)
    assert time.perf_counter() - began < 1.0


# ---- sparse structure -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, sp.coo_array, sp.bsr_array, sp.lil_array, sp.dok_array])
@pytest.mark.parametrize("matrix", [False, True])
def test_sparse_formats(make, matrix, solver):
    A = np.where(X > 0.5, X, 0.0)
    make = getattr(sp, make.__name__.replace("array", "matrix")) if matrix else make
    same(fit(make(A), solver=solver), fit(sp.csr_array(A), solver=solver))


def test_diagonal_format():
    A = np.diag([1.0, 2.0, 3.0])
    same(fit(sp.dia_array(A)), fit(sp.csr_array(A)))


def damaged(kind: str, **parts: Any) -> Any:
    """A 3×4 matrix (4×3 for csc) with entries at (0, 1), (1, 0), (1, 3), (2, 2), parts of it overwritten."""
    A = sp.csr_array(([1.0, 2.0, 3.0, 4.0], [1, 0, 3, 2], [0, 1, 3, 4]), shape=(3, 4))
    A = A.T if kind == "csc" else A
    assert A.format == kind
    for name, part in parts.items():
        setattr(A, name, np.array(part))
    return A


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"indices": [1, 0, 99, 2]}, r"X.indices\[2\] = 99 is out of range for size 4.*damaged"),
        ({"indices": [1, 0, 2_000_000_000, 2]}, r"X.indices\[2\] = 2000000000 is out of range"),
        ({"indices": [1, 0, 2**32 + 1, 2]}, r"X.indices\[2\] = 4294967297 is out of range"),
        ({"indices": [1, -1, 3, 2]}, r"X.indices\[1\] = -1 is out of range for size 4.*damaged"),
        ({"indices": [1.0, 0.0, 3.0, 2.0]}, r"X.indices .*float64.*damaged"),
        ({"indices": [1.0, np.nan, 3.0, 2.0]}, r"X.indices .*float64.*damaged"),
        ({"indptr": [0, 3, 1, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
        ({"indptr": [0, 1, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
        ({"indptr": [0, 1, 3, 4, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
        ({"indptr": [1, 1, 3, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
        ({"indptr": [-1, 1, 3, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
        ({"indptr": []}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
        ({"indptr": [0, 1, 3, 10**9]}, r"4 indices and 4 values where indptr counts 1000000000.*damaged"),
        ({"data": [1.0, 2.0, 3.0, 4.0, 5.0]}, r"4 indices and 5 values where indptr counts 4.*damaged"),
        ({"data": [1.0, 2.0]}, r"4 indices and 2 values where indptr counts 4.*damaged"),
        ({"indptr": [0, 1, 3, 3]}, r"4 indices and 4 values where indptr counts 3.*damaged"),
    ],
)
def test_damaged_compressed_matrices_are_refused(kind, parts, message):
    with pytest.raises(ValueError, match=message):
        fit(damaged(kind, **parts))
    with pytest.raises(ValueError, match=message):
        fit(damaged(kind, **parts), missing_values="unstored")


class Coordinates:
    """A duck-typed COO matrix, which nobody has checked."""

    format = "coo"
    shape = (3, 4)

    def __init__(self, row: list[float], col: list[float], data: list[float]) -> None:
        self.row, self.col, self.data = np.array(row), np.array(col), np.array(data)

    def tocsr(self) -> object:
        raise AssertionError("not needed")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([0, 3], [0, 1], [1.0, 2.0]), r"X.row\[1\] = 3 is out of range for size 3.*damaged"),
        (([0, -1], [0, 1], [1.0, 2.0]), r"X.row\[1\] = -1 is out of range for size 3.*damaged"),
        (([0, 1], [4, 1], [1.0, 2.0]), r"X.col\[0\] = 4 is out of range for size 4.*damaged"),
        (([0, 1], [0, -5], [1.0, 2.0]), r"X.col\[1\] = -5 is out of range for size 4.*damaged"),
        (([0, 1], [0], [1.0, 2.0]), r"X.row, .col and .data differ in length.*damaged"),
        (([0, 1], [0, 1], [1.0]), r"X.row, .col and .data differ in length.*damaged"),
        (([0, 1.5], [0, 1], [1.0, 2.0]), r"X.row .*float64.*damaged"),
    ],
)
def test_damaged_coordinates_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        fit(Coordinates(*parts))
    with pytest.raises(ValueError, match=message):
        fit(Coordinates(*parts), missing_values="unstored")


def test_coordinates_need_no_scipy():
    A = np.zeros((3, 4))
    A[[0, 1, 2], [1, 0, 3]] = [1.0, 2.0, 3.0]
    same(fit(Coordinates([2, 0, 1], [3, 1, 0], [3.0, 1.0, 2.0])), fit(sp.csr_array(A)))


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array])
def test_unsorted_and_64_bit_indices(make):
    A = np.where(X > 0.4, X, 0.0)
    tidy, untidy = make(A), make(A)
    for lo, hi in zip(untidy.indptr[:-1], untidy.indptr[1:], strict=True):
        untidy.indices[lo:hi] = untidy.indices[lo:hi][::-1].copy()
        untidy.data[lo:hi] = untidy.data[lo:hi][::-1].copy()
    untidy.has_sorted_indices = False
    untidy.indices, untidy.indptr = untidy.indices.astype(np.int64), untidy.indptr.astype(np.int64)
    before = [part.copy() for part in (untidy.indptr, untidy.indices, untidy.data)]
    same(fit(untidy), fit(tidy))
    for part, old in zip((untidy.indptr, untidy.indices, untidy.data), before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, sp.coo_array])
def test_duplicates_are_summed_as_data_and_refused_as_observations(make):
    coo = sp.coo_array(([1.0, 2.0, 4.0, 3.0], ([0, 1, 0, 2], [1, 0, 1, 1])), shape=(3, 2))
    if make is sp.csr_array:
        A = sp.csr_array(([1.0, 4.0, 2.0, 3.0], [1, 1, 0, 1], [0, 2, 3, 4]), shape=(3, 2))
    elif make is sp.csc_array:
        A = sp.csc_array(([2.0, 1.0, 4.0, 3.0], [1, 0, 0, 2], [0, 1, 4]), shape=(3, 2))
    else:
        A = coo
    assert A.nnz == 4
    same(fit(A), fit(sp.csr_array(np.array([[0.0, 5.0], [2.0, 0.0], [0.0, 3.0]]))))
    assert A.nnz == 4
    with pytest.raises(ValueError, match=r"X\[0, 1\] is stored 2 times .*Keep the last or the mean"):
        fit(A, missing_values="unstored")


def test_negative_parts_of_a_sum_are_summed_before_they_are_judged():
    A = sp.csr_array(([3.0, -1.0, 2.0], [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    same(fit(A, 1), fit(sp.csr_array(np.array([[2.0, 0.0], [0.0, 2.0]])), 1))


def test_explicit_zeros_are_data_like_any_other():
    stored = sp.csr_array(([1.0, 0.0, 2.0], [0, 1, 1], [0, 2, 3]), shape=(2, 2))
    absent = sp.csr_array(np.array([[1.0, 0.0], [0.0, 2.0]]))
    np.testing.assert_allclose(fit(stored, 1).W, fit(absent, 1).W, rtol=1e-12)


def test_read_only_sparse():
    A = sp.csr_array(X)
    for part in (A.data, A.indices, A.indptr):
        part.flags.writeable = False
    same(fit(A), fit(sp.csr_array(X)))


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
def test_sparse_integers(dtype):
    A = np.random.RandomState(1).randint(0, 2, (6, 5))
    same(fit(sp.csr_array(A.astype(dtype))), fit(sp.csr_array(A.astype(float))))


def test_sparse_without_any_entry_observed():
    with pytest.raises(ValueError, match="No observed entries: every entry of X is missing"):
        fit(sp.csr_array((6, 5)), missing_values="unstored")


def test_sparse_complex_and_objects():
    with pytest.raises(TypeError, match="X holds complex128; a matrix of real numbers"):
        fit(sp.csr_array(X.astype(complex)))
    A = sp.csr_array(X)
    A.data = A.data.astype(object)
    with pytest.raises(TypeError, match="X holds object; a matrix of real numbers"):
        fit(A)


def test_one_dimensional_sparse_array():
    with pytest.raises(ValueError, match="X is a 1-dimensional sparse array; a matrix is needed"):
        fit(sp.coo_array(np.array([1.0, 0.0, 2.0])))


def test_unstored_needs_sparse_data():
    with pytest.raises(
        ValueError, match=r"missing_values='unstored' is for sparse X, .*ndarray.*use np.nan, 0, or mask"
    ):
        fit(X, missing_values="unstored")


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize("missing_values", [None, "unstored"])
def test_huge_and_almost_empty(missing_values):
    """Memory and time follow the stored entries and the factors, never m·n."""
    m, n, r, nnz = 3_000_000, 2_000_000, 2, 1000
    rng = np.random.RandomState(0)
    row, col = rng.choice(m, nnz, replace=False), rng.choice(n, nnz, replace=False)
    A = sp.csr_array((rng.random_sample(nnz) + 0.5, (row, col)), shape=(m, n))
    tracemalloc.start()
    began = time.perf_counter()
    f = fit(A, r, max_iter=2, missing_values=missing_values)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(f.objective)
    assert f.objective < f.history.objective[0]
    assert peak < 16 * (m + n) * r * 8
    assert seconds < 20


def test_huge_sparse_fitted_exactly():
    """An objective of 0 must not be confirmed by forming m·n entries."""
    for size in (100, 100_000):  # the first compiles
        A = sp.csr_array(([5.0], ([7], [9])), shape=(size, size))
        began = time.perf_counter()
        f = nmfcore.factorize(A, 1, random_state=0)
        seconds = time.perf_counter() - began
    assert seconds < 1.5
    assert f.converged
    assert f.predict(7, 9) == pytest.approx(5.0, rel=1e-3)


# ---- parameters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rank": 0}, ValueError, "rank=0 must be 1 or more"),
        ({"rank": -1}, ValueError, "rank=-1 must be 1 or more"),
        ({"rank": 1.5}, TypeError, "rank=1.5 must be a whole number, not float"),
        ({"rank": 2.0}, TypeError, "rank=2.0 must be a whole number, not float"),
        ({"rank": "3"}, TypeError, "rank='3' must be a whole number, not str"),
        ({"rank": np.nan}, TypeError, "rank=nan must be a whole number"),
        ({"rank": None}, TypeError, "rank=None must be a whole number"),
        ({"rank": True}, TypeError, "rank=True must be a whole number, not bool"),
        ({"rank": np.True_}, TypeError, "must be a whole number, not bool"),
        ({"rank": np.array([2])}, TypeError, "rank=.*must be a whole number"),
        ({"tol": -1}, ValueError, "tol=-1 must be finite and 0 or more"),
        ({"tol": np.nan}, ValueError, "tol=nan must be finite"),
        ({"tol": np.inf}, ValueError, "tol=inf must be finite"),
        ({"tol": "1e-4"}, TypeError, "tol='1e-4' must be a number, not str"),
        ({"tol": None}, TypeError, "tol=None must be a number"),
        ({"tol": True}, TypeError, "tol=True must be a number, not bool"),
        ({"max_iter": -1}, ValueError, "max_iter=-1 must be 0 or more"),
        ({"max_iter": 1.5}, TypeError, "max_iter=1.5 must be a whole number"),
        ({"max_iter": True}, TypeError, "max_iter=True must be a whole number"),
        ({"max_iter": None}, TypeError, "max_iter=None must be a whole number"),
        ({"max_time": -1.0}, ValueError, "max_time=-1.0 must be finite and 0 or more"),
        ({"max_time": np.nan}, ValueError, "max_time=nan must be finite"),
        ({"max_time": "1"}, TypeError, "max_time='1' must be a number"),
        ({"l1": -1}, ValueError, "l1=-1 must be finite and 0 or more"),
        ({"l1": np.inf}, ValueError, "l1=inf must be finite"),
        ({"l2": np.nan}, ValueError, "l2=nan must be finite"),
        ({"l2": (1.0, -2.0)}, ValueError, r"l2\[1\]=-2.0 must be finite and 0 or more"),
        (
            {"l1": (1.0, 2.0, 3.0)},
            ValueError,
            r"l1=\(1.0, 2.0, 3.0\) must be a number, or a pair of numbers for \(W, H\)",
        ),
        ({"l1": ()}, ValueError, r"l1=\(\) must be a number, or a pair"),
        ({"l1": "big"}, TypeError, "l1='big' must be a number"),
        ({"l1": np.array(1.0)}, TypeError, "l1=.* must be a number"),
        ({"solver": "cd"}, ValueError, "solver='cd' is not one of 'auto', 'hals', 'mu'"),
        ({"solver": None}, TypeError, r"solver=None must be 'auto', 'hals', 'mu', or an instance such as .*HALS\(\)"),
        ({"solver": HALS}, TypeError, r"solver=.* must be 'auto', 'hals', 'mu', or an instance"),
        ({"init": "custom"}, ValueError, "init='custom' is not one of 'auto', 'compressed', 'random', 'nndsvd'"),
        ({"init": None}, ValueError, "init=None is not one of 'auto'"),
        ({"loss": "kullback"}, ValueError, "loss='kullback' is not one of 'frobenius'"),
        ({"random_state": -1}, ValueError, "random_state=-1 must be 0 or more"),
        ({"random_state": 2**32}, ValueError, r"must be below 2\*\*32; pass numpy.random.default_rng"),
        ({"random_state": "a"}, TypeError, "random_state='a' must be a whole number"),
        ({"random_state": 1.0}, TypeError, "random_state=1.0 must be a whole number"),
        ({"random_state": True}, TypeError, "random_state=True must be a whole number"),
        ({"n_threads": 0}, ValueError, "n_threads=0 must be 1 or more"),
        ({"n_threads": -5}, ValueError, "n_threads=-5 must be 1 or more"),
        ({"n_threads": 1.5}, TypeError, "n_threads=1.5 must be a whole number"),
        ({"dtype": "float16"}, ValueError, "dtype='float16' must be float32 or float64"),
        ({"dtype": int}, ValueError, "dtype=.*int.* must be float32 or float64"),
        ({"dtype": "nonsense"}, ValueError, "dtype='nonsense' must be float32 or float64"),
        ({"missing_values": "nan"}, ValueError, "missing_values='nan' must be None .*np.nan, 0 .*pass mask="),
        ({"missing_values": -1}, ValueError, "missing_values=-1 must be None"),
        ({"missing_values": False}, ValueError, "missing_values=False must be None"),
        ({"missing_values": np.array([0.0, 1.0])}, ValueError, "missing_values=.* must be None"),
        ({"mask": np.ones((2, 2), bool)}, ValueError, r"mask has shape \(2, 2\) where X has \(6, 5\)"),
        ({"mask": np.ones((6, 5))}, TypeError, "mask has dtype float64; it must be bool, True where X was observed"),
        ({"mask": np.zeros((6, 5), bool)}, ValueError, "No observed entries"),
        ({"weights": np.ones((2, 2))}, ValueError, r"weights has shape \(2, 2\) where X has \(6, 5\)"),
        ({"weights": -np.ones((6, 5))}, ValueError, r"weights\[0, 0\] = -1"),
        ({"weights": np.full((6, 5), np.nan)}, ValueError, r"weights\[0, 0\] is missing"),
        ({"weights": np.full((6, 5), np.inf)}, ValueError, r"weights\[0, 0\] = inf"),
        ({"callback": 3}, TypeError, "callback=3 must be callable"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, dict) else "",
)
def test_bad_parameters_are_named_with_the_rule(options, error, message):
    options = {"rank": 2} | options
    with pytest.raises(error, match=message):
        fit(X, **options)


def test_solver_settings_are_checked_where_they_are_made():
    for sweeps in (0, -1, 1.5, True, "many"):
        with pytest.raises(ValueError, match=rf"sweeps={sweeps!r} must be 'auto' or a whole number of 1 or more"):
            HALS(sweeps=sweeps)


def test_unknown_keyword():
    with pytest.raises(TypeError, match="n_components"):
        nmfcore.factorize(X, n_components=2)
    with pytest.raises(TypeError, match="alpha"):
        nmfcore.factorize(X, 2, alpha=1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"rank": np.int64(2)},
        {"rank": np.uint8(2)},
        {"max_iter": np.int32(20)},
        {"tol": np.float32(0)},
        {"l1": np.float64(0)},
        {"l2": [0, 0]},
        {"l2": np.zeros(2)},
        {"solver": HALS()},
        {"random_state": np.int64(0)},
        {"random_state": np.random.RandomState(0)},
        {"n_threads": 10**6},
        {"max_time": 3600},
        {"dtype": "f8"},
        {"mask": np.ones((6, 5), bool).tolist()},
        {"weights": np.ones((6, 5), int)},
    ],
    ids=repr,
)
def test_other_ways_to_say_the_same(options):
    same(fit(X, **({"rank": 2} | options)), fit(X, 2))


def test_sources_of_randomness():
    seed = np.random.SeedSequence(5)
    same(fit(X, random_state=np.random.default_rng(5)), fit(X, random_state=seed))
    same(fit(X, random_state=np.random.PCG64(5)), fit(X, random_state=seed))
    stream = np.random.RandomState(0)
    first, second = fit(X, random_state=stream), fit(X, random_state=stream)
    assert not np.array_equal(first.W, second.W)  # a stream advances
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    fit(X, random_state=None)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # NumPy's global stream is not ours


def penalised(kind: str, **options: Any) -> Factorization:
    data = sp.csr_array(X) if kind == "csr" else X
    if kind == "masked":
        options["mask"] = X < 0.9
    f = nmfcore.factorize(data, 2, random_state=0, tol=0, max_iter=100, **options)
    for A in f:
        assert np.isfinite(A).all()
        assert A.min() >= 0
    assert np.isfinite(f.objective)
    assert np.all(np.diff(f.history.objective) <= 1e-12 * f.history.objective[0])
    assert f.reconstruct().max() < 1e-6
    return f


@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1e3, 1e100, 1e300])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_huge_penalty_leaves_nothing(name, size, solver, kind):
    penalised(kind, solver=solver, **{name: size})


@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
@pytest.mark.parametrize("size", [1e3, 1e100, 1e300])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_huge_penalty_costs_nothing_in_the_end(name, size, kind):
    """A factor beside one that is 0 costs its penalty and fits nothing: to keep it is not stationary."""
    f = penalised(kind, **{name: size})
    assert f.objective <= 0.5 * np.sum(X**2) * (1 + 1e-6)


# ---- starting factors -------------------------------------------------------------------------------------------


W0 = np.random.RandomState(1).random_sample((6, 2)) + 0.1
H0 = np.random.RandomState(2).random_sample((2, 5)) + 0.1


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1.0, 4.0**100])
def test_given_factors_are_never_modified(solver, scale):
    W, H, A = W0.copy(), H0.copy(), X * scale
    fit(A, solver=solver, W=W, H=H)
    np.testing.assert_array_equal(W, W0)
    np.testing.assert_array_equal(H, H0)
    np.testing.assert_array_equal(A, X * scale)


@pytest.mark.parametrize("max_iter", [0, 1])
def test_results_share_no_memory_with_what_was_given(max_iter):
    f = fit(X, W=W0, H=H0, max_iter=max_iter)
    assert not np.shares_memory(f.W, W0)
    assert not np.shares_memory(f.H, H0)


def test_given_factors_of_any_layout_or_dtype():
    frozen = W0.copy()
    frozen.flags.writeable = False
    expected = fit(X, W=W0, H=H0)
    for W, H in [(frozen, H0), (np.asfortranarray(W0), H0[:, ::-1][:, ::-1]), (W0.tolist(), pd.DataFrame(H0))]:
        same(fit(X, W=W, H=H), expected)
    same(
        fit(X, W=np.ones((6, 2), int), H=np.ones((2, 5), np.int8) * 2),
        fit(X, W=np.ones((6, 2)), H=np.full((2, 5), 2.0)),
    )
    assert fit(X.astype(np.float32), W=W0, H=H0).W.dtype == np.float32
    same(fit(X, W=W0, H=H0, init="nndsvda"), expected)


def test_one_factor_given_makes_the_other():
    both = fit(X, init="random", max_iter=0)
    given_W, given_H = fit(X, W=W0, max_iter=0), fit(X, H=H0, max_iter=0)
    np.testing.assert_array_equal(given_W.W, W0)
    np.testing.assert_array_equal(given_W.H, both.H)
    np.testing.assert_array_equal(given_H.H, H0)
    np.testing.assert_array_equal(given_H.W, both.W)
    sound(fit(X, W=W0, init="nndsvda"))


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ({"W": W0[:5]}, ValueError, r"W has shape \(5, 2\) where \(6, 2\) is needed for this X and rank"),
        ({"W": W0[:, :1]}, ValueError, r"W has shape \(6, 1\) where \(6, 2\) is needed"),
        ({"H": H0.T}, ValueError, r"H has shape \(5, 2\) where \(2, 5\) is needed"),
        ({"W": W0[0]}, ValueError, r"Expected 2D array.* W has shape \(2,\)"),
        ({"W": -W0}, ValueError, r"W\[0, 0\] = -0.5"),
        ({"H": np.where(np.isclose(H0, H0[1, 3]), np.nan, H0)}, ValueError, r"NaN: H\[1, 3\]"),
        ({"H": np.where(np.isclose(H0, H0[1, 3]), np.inf, H0)}, ValueError, r"H\[1, 3\] = inf"),
        ({"W": W0.astype(complex)}, ValueError, "Complex data not supported: W"),
        ({"W": W0.astype(str)}, TypeError, r"W\[0, 0\] is '0.5"),
        ({"W": "random"}, TypeError, "W must be a matrix"),
    ],
)
def test_bad_factors_are_named(factors, error, message):
    with pytest.raises(error, match=message):
        fit(X, **factors)


def test_given_factors_too_large_for_the_dtype():
    with pytest.raises(ValueError, match=r"W\[0, 0\] = inf.*float32"):
        fit(X.astype(np.float32), W=np.full((6, 2), 1e300))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150])
def test_given_factors_of_another_scale(scale, solver):
    """The first objective would be 1e600, or the first gradient 0: components of such a size are rescaled."""
    f = fit(X, W=W0 * scale, H=H0 * scale, solver=solver)
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    assert f.n_iter > 0
    assert f.objective <= 1.05 * fit(X, W=W0, H=H0, solver=solver).objective


def test_multiplicative_updates_keep_zeros():
    W = W0.copy()
    W[1, 0] = W[4, 1] = 0.0
    f = sound(fit(X, W=W, H=H0, solver=MU(extrapolate=False)))
    np.testing.assert_array_equal(f.W == 0, W == 0)
    g = sound(fit(X, W=W, H=H0, solver="hals"))
    assert (g.W[[1, 4], [0, 1]] > 0).any()


@pytest.mark.parametrize(
    ("name", "factors"), [("W", {"W": 0 * W0}), ("W", {"W": 0 * W0, "H": H0}), ("H", {"H": 0 * H0})]
)
def test_multiplicative_updates_refuse_a_factor_of_zeros(name, factors):
    with pytest.raises(ValueError, match=rf"{name} = 0 everywhere, which MU\(.*positive numbers, or use solver='hals'"):
        fit(X, solver="mu", **factors)
    assert not sound(fit(0 * X, solver="mu", **factors)).reconstruct().any()  # unless nothing is to be fitted


def test_locked_zeros_do_not_pass_for_convergence():
    W = W0.copy()
    W[1] = 0.0
    with pytest.warns(ConvergenceWarning, match="KKT residual"):
        f = nmfcore.factorize(X, 2, W=W, H=H0, solver="mu", max_iter=5000)
    assert not f.converged
    assert f.status is not Status.CONVERGED
    assert not f.W[1].any()


@pytest.mark.parametrize("factors", [{"W": np.zeros((6, 2))}, {"H": np.zeros((2, 5))}])
def test_hals_leaves_zeros(factors):
    f = sound(fit(X, max_iter=200, **factors))
    assert np.linalg.norm(X - f.reconstruct()) < 0.5 * np.linalg.norm(X)
