"""What X, masks, weights and settings may come as: read as pandas, SciPy or NumPy say that they are to be read.

What is read is compared with what their own conversions make of it, not with another way through the same code.
"""

from __future__ import annotations

import time
import tracemalloc
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore.data.dense import Dense
from nmfcore.data.sparse import Sparse
from nmfcore.holdout import reading
from nmfcore.reading import missing
from nmfcore.solvers import HALS, MU

RNG = np.random.RandomState(0)
FULL = RNG.random_sample((9, 7)) + 0.1
HOLES = (
    np.random.RandomState(1).random_sample(FULL.shape) < 0.4
)  # no row and no column without an entry, or without a hole
A = np.where(HOLES, 0.0, FULL)
assert all(HOLES.any(axis=k).all() and (~HOLES).any(axis=k).all() for k in (0, 1))
pytestmark = pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")  # rows with hardly an entry
RULES = [None, 0, np.nan, "unstored"]


def fit(X: object, rank: Any = 2, **options: Any) -> nmfcore.Factorization:
    return nmfcore.factorize(X, rank, **({"random_state": 0, "max_iter": 20, "tol": 0} | options))


def same(f: nmfcore.Factorization, g: nmfcore.Factorization) -> None:
    assert f.W.dtype == g.W.dtype
    np.testing.assert_array_equal(f.W, g.W)
    np.testing.assert_array_equal(f.H, g.H)


def read(X: object, rule: Any = None, **options: Any) -> Any:
    return missing.read(X, rule, **options).data


def sparse_frame(X: np.ndarray, fill: Any, dtype: Any = np.float64) -> pd.DataFrame:
    return pd.DataFrame(X).astype(pd.SparseDtype(dtype, fill))


def outcome(X: object, **options: Any) -> Any:
    """The factors, or what was said instead."""
    try:
        return fit(X, **options)
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def agree(one: Any, other: Any, rtol: float = 1e-9) -> None:
    """Factors to rounding, as sparse and dense sums differ in it, or the same words."""
    if isinstance(one, tuple) or isinstance(other, tuple):
        assert one == other
        return
    assert one.W.dtype == other.W.dtype
    np.testing.assert_allclose(one.W, other.W, rtol=rtol, atol=rtol * other.W.max())
    np.testing.assert_allclose(one.H, other.H, rtol=rtol, atol=rtol * other.H.max())


# ---- sparse data frames -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.uint8, bool])
def test_a_sparse_frame_is_the_matrix_that_pandas_makes_of_it(dtype, rule):
    X = (A * 9).astype(dtype)
    frame = sparse_frame(X, dtype(0), dtype)
    theirs = frame.sparse.to_coo()
    np.testing.assert_array_equal(theirs.toarray(), X)
    assert isinstance(read(frame), Sparse)
    same(fit(frame, missing_values=rule), fit(theirs, missing_values=rule))


def test_zeros_that_a_frame_stores_are_real_zeros():
    S = sp.coo_array((np.array([1.0, 0.0, 2.0, 3.0]), ([0, 1, 1, 2], [0, 0, 1, 1])), shape=(3, 2)).tocsc()
    frame = pd.DataFrame.sparse.from_spmatrix(S)
    assert frame.sparse.to_coo().nnz == 4
    same(fit(frame, 1, missing_values="unstored"), fit(S, 1, missing_values="unstored"))
    assert read(frame, "unstored").n_entries == 4
    assert read(frame, 0).n_entries == 3


@pytest.mark.parametrize("kind", ["block", "integer"])
def test_both_ways_to_index_what_is_stored(kind):
    frame = pd.DataFrame({j: pd.arrays.SparseArray(A[:, j], fill_value=0, kind=kind) for j in range(7)})
    same(fit(frame), fit(sp.csr_array(A)))


@pytest.mark.parametrize("rule", RULES[:3])
@pytest.mark.parametrize("fill", [0.0, np.nan, 0.5])
@pytest.mark.parametrize("content", [0.0, np.nan, 0.5])
@pytest.mark.parametrize("guide", [None, "mask", "weights"])
def test_any_fill_value_means_what_the_dense_frame_means(content, fill, rule, guide):
    """Whatever is not stored, and whatever is asked of it: an answer or a refusal, the same as of the dense frame."""
    X = np.where(HOLES, content, FULL)
    frame = sparse_frame(X, fill)
    np.testing.assert_array_equal(frame.sparse.to_dense().to_numpy(), X)
    options: dict[str, Any] = {"missing_values": rule, "solver": HALS(sweeps=2)}
    if guide is not None:
        options[guide] = RNG.random_sample(X.shape) < 0.8 if guide == "mask" else RNG.random_sample(X.shape)
    agree(outcome(frame, **options), outcome(frame.sparse.to_dense(), **options))


@pytest.mark.parametrize("fill", [0.0, np.nan, 0.5])
def test_unstored_is_what_is_not_stored_whatever_it_would_be(fill):
    frame = sparse_frame(np.where(HOLES, fill, FULL), fill)
    same(fit(frame, missing_values="unstored"), fit(sp.csr_array(A), missing_values="unstored"))


def test_a_frame_of_ratings_that_stores_no_nan_stays_as_small_as_it_is():
    S = sp.random_array((3000, 4000), density=0.001, rng=0, format="csc")
    frame = pd.DataFrame.sparse.from_spmatrix(S)
    columns = np.split(np.where(S.toarray() == 0, np.nan, S.toarray()), 4000, axis=1)
    holes = pd.DataFrame({j: pd.arrays.SparseArray(column.ravel()) for j, column in enumerate(columns)})
    del columns
    tracemalloc.start()
    assert isinstance(read(frame), Sparse)
    for X, rule in ((frame, "unstored"), (frame, 0), (holes, np.nan), (holes, "unstored")):
        assert read(X, rule).n_entries == S.nnz
    with pytest.raises(ValueError, match=r"Input contains NaN: X\[0, 0\] is missing. Pass missing_values=np.nan"):
        read(holes)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40e6  # 96 MB dense


def test_the_first_gap_is_named():
    X = FULL.copy()
    X[4, 2] = X[6, 0] = np.nan
    with pytest.raises(ValueError, match=r"X\[4, 2\] is missing"):
        fit(sparse_frame(X, np.nan))
    same(fit(sparse_frame(FULL, np.nan)), fit(FULL))  # without one there is nothing to say


@pytest.mark.parametrize("rule", RULES)
def test_other_columns_beside_sparse_ones_are_stored_where_they_count(rule):
    """Counts and a dense column or two, as `pandas.concat` puts them together; the names may repeat."""
    wide = np.hstack([np.where(RNG.random_sample((9, 20)) < 0.8, 0.0, 1.0), A[:, :3]])
    plain = pd.DataFrame(wide[:, 20:]).astype({1: "float32"})
    plain[2] = pd.array(np.where(wide[:, 22] == 0, 0, 3), dtype="Int64")
    frame = pd.concat([sparse_frame(wide[:, :20], 0.0), plain], axis=1)
    assert not frame.columns.is_unique
    assert isinstance(read(frame), Sparse)
    theirs = np.column_stack([np.asarray(column, float) for _, column in frame.items()])
    if rule == "unstored":
        stored = theirs != 0
        stored[:, 20:] = True
        rows, columns = np.nonzero(stored)
        expected = sp.coo_array((theirs[rows, columns], (rows, columns)), shape=theirs.shape)
        same(fit(frame, missing_values=rule), fit(expected, missing_values=rule))
    else:
        same(fit(frame, missing_values=rule), fit(sp.csr_array(theirs), missing_values=rule))


def test_one_sparse_column_does_not_make_a_sparse_matrix():
    frame = pd.DataFrame(A)
    frame[3] = pd.arrays.SparseArray(A[:, 3], fill_value=0)
    assert isinstance(read(frame), Dense)
    same(fit(frame), fit(A))


def test_sparse_ratings_with_a_gap_in_another_column():
    X = np.where(np.hstack([HOLES, HOLES, HOLES]), np.nan, np.hstack([FULL, FULL, FULL]))
    frame = sparse_frame(X, np.nan)
    frame[3] = X[:, 3]
    agree(fit(frame, missing_values=np.nan), fit(X, missing_values=np.nan))


@pytest.mark.parametrize("fills", [(0.0, np.nan), (0.0, 0.5), (np.nan, 0.5)])
@pytest.mark.parametrize("rule", RULES[:3])
def test_columns_of_different_fill_values(fills, rule):
    frame = pd.DataFrame(
        {
            j: pd.arrays.SparseArray(np.where(HOLES[:, j], fills[j % 2], FULL[:, j]), fill_value=fills[j % 2])
            for j in range(7)
        }
    )
    same_frame = frame.sparse.to_dense()
    options = {"missing_values": rule, "solver": HALS(sweeps=2)}
    agree(outcome(frame, **options), outcome(same_frame, **options))


@pytest.mark.parametrize(
    ("values", "where"),
    [
        (["a", "b", "a"], "column 'b' is 'a'"),
        (pd.to_datetime(["2020-01-01"] * 3), "column 'b' is "),
        ([1j, 2, 3], "column 'b' has dtype complex"),
    ],
)
def test_sparse_columns_of_no_numbers_are_named(values, where):
    frame = pd.DataFrame(
        {"a": pd.arrays.SparseArray([0.0, 1.0, 2.0], fill_value=0), "b": pd.arrays.SparseArray(values)}
    )
    with pytest.raises((TypeError, ValueError), match=where):
        fit(frame)


@pytest.mark.parametrize("value", [-1.0, np.inf])
def test_bad_values_of_a_sparse_frame_are_named(value):
    X = A.copy()
    X[4, 1] = value
    with pytest.raises(ValueError, match=rf"X\[4, 1\] = {value:g}"):
        fit(sparse_frame(X, 0.0))


@pytest.mark.parametrize(
    "of_X", [np.asarray, sp.csr_array, lambda X: sparse_frame(X, 0.0)], ids=["dense", "csr", "frame"]
)
def test_sparse_frames_as_mask_and_weights(of_X):
    weights = np.where(HOLES, 0.0, 2.5)
    for fill in (False, True):
        same(fit(of_X(FULL), mask=sparse_frame(~HOLES, fill, bool)), fit(of_X(FULL), mask=~HOLES))
    for fill in (0.0, 2.5):
        same(fit(of_X(FULL), weights=sparse_frame(weights, fill)), fit(of_X(FULL), weights=weights))


@pytest.mark.parametrize("rule", [0, np.nan, "unstored"])
def test_transform_and_select_rank_read_a_sparse_frame_alike(rule):
    fill = np.nan if rule is np.nan else 0.0
    frame, S = sparse_frame(np.where(HOLES, fill, FULL), fill), sp.csr_array(A)
    theirs = S if fill == 0.0 else np.where(HOLES, np.nan, FULL)
    f = fit(theirs, missing_values=rule, l2=0.1)
    np.testing.assert_allclose(f.transform(frame), f.transform(theirs), rtol=1e-10)
    options = {"missing_values": rule, "l2": 0.1, "random_state": 0, "max_iter": 10}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        ours, expected = (nmfcore.select_rank(X, [1, 2], **options) for X in (frame, theirs))
    np.testing.assert_allclose(ours.errors, expected.errors, rtol=1e-6)


@pytest.mark.parametrize("fill", [0.0, np.nan])
def test_a_model_of_what_was_stored_reads_sparse_frames_by_what_they_store(fill):
    f = fit(sp.csr_array(A), missing_values="unstored", l2=0.1)
    frame = sparse_frame(np.where(HOLES, fill, FULL), fill)
    np.testing.assert_array_equal(f.transform(frame), f.transform(sp.csr_array(A)))


def test_an_automatic_penalty_reads_a_sparse_frame():
    X = RNG.random_sample((40, 2)) @ RNG.random_sample((2, 8)) + 0.1
    X[RNG.random_sample(X.shape) < 0.4] = np.nan
    options = {"l2": "auto", "missing_values": np.nan}
    f, g = (fit(frame, **options) for frame in (sparse_frame(X, np.nan), pd.DataFrame(X)))
    assert f.settings["l2"] == pytest.approx(g.settings["l2"])


def test_thousands_of_sparse_columns_are_read_in_no_time():
    S = sp.random_array((500, 20_000), density=0.01, rng=0, format="csc")
    frame = pd.DataFrame.sparse.from_spmatrix(S)
    began = time.perf_counter()
    data = read(frame)
    assert time.perf_counter() - began < 5.0  # .2 s here
    np.testing.assert_array_equal(data.values, S.tocsr().data)


# ---- pydata/sparse ----------------------------------------------------------------------------------------------


class Pydata:
    """What of an array of pydata/sparse is used; NumPy and SciPy refuse to make anything else of one."""

    format = "coo"

    def __init__(self, X: np.ndarray, fill: Any = 0.0) -> None:
        kept = ~np.isnan(X) if np.isnan(fill) else fill != X
        self.coords, self.data = np.array(np.nonzero(kept)), X[kept]
        self.shape, self.dtype, self.fill_value = X.shape, X.dtype, X.dtype.type(fill)

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise RuntimeError("Cannot convert a sparse array to dense automatically.")

    def todense(self) -> np.ndarray:
        raise AssertionError("not to be asked for")

    def tocsr(self) -> Any:
        raise AssertionError("needs SciPy")


class PydataCompressed:
    """The others of that library, which say what a `Pydata` would be."""

    def __init__(self, X: np.ndarray, method: str) -> None:
        self.shape, self.dtype, self.fill_value = X.shape, X.dtype, 0.0
        setattr(self, method, lambda: Pydata(X))

    def todense(self) -> np.ndarray:
        raise AssertionError("not to be asked for")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "make", [Pydata, lambda X: PydataCompressed(X, "tocoo"), lambda X: PydataCompressed(X, "to_coo")]
)
def test_arrays_of_pydata_sparse(make, rule):
    same(fit(make(A), missing_values=rule), fit(sp.csr_array(A), missing_values=rule))


@pytest.mark.parametrize("rule", RULES[:3])
@pytest.mark.parametrize("fill", [np.nan, 0.5])
def test_arrays_of_pydata_sparse_with_a_fill_value(fill, rule):
    X = np.where(HOLES, fill, FULL)
    options = {"missing_values": rule, "solver": HALS(sweeps=2)}
    agree(outcome(Pydata(X, fill), **options), outcome(X, **options))
    same(fit(Pydata(X, fill), missing_values="unstored"), fit(sp.csr_array(A), missing_values="unstored"))


def test_masks_and_weights_of_pydata_sparse():
    same(fit(FULL, mask=Pydata(~HOLES)), fit(FULL, mask=~HOLES))
    same(fit(FULL, weights=Pydata(2.5 * ~HOLES)), fit(FULL, weights=2.5 * ~HOLES))


def test_pydata_sparse_that_is_no_matrix_of_numbers():
    with pytest.raises(ValueError, match="X is a 3-dimensional sparse array; a matrix is needed"):
        fit(Pydata(np.ones((2, 3, 4))))
    with pytest.raises(TypeError, match="X holds complex128; a matrix of real numbers is needed"):
        fit(Pydata(A.astype(complex)))


# ---- entries that are stored more than once ---------------------------------------------------------------------


REPEATED = [
    (np.bool_, [True, True, True]),
    (np.uint8, [200, 100, 255]),
    (np.int8, [127, 127, -100]),
    (np.int16, [32767, 32767, 32767]),
    (np.uint16, [65535, 65535, 1]),
    (np.int32, [2**31 - 1, 2**31 - 1, 7]),
    (np.uint32, [2**32 - 1, 2**32 - 1, 9]),
]


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "bsr", "coo_matrix"])
@pytest.mark.parametrize(("dtype", "values"), REPEATED)
def test_repeated_entries_are_summed_in_a_type_that_holds_the_sum(dtype, values, kind):
    """As SciPy sums them when they are made floats first; in their own type it lets them wrap around."""
    data = np.array([*values, 1], dtype)
    rows, columns = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])
    wide = sp.coo_array((data.astype(np.float64), (rows, columns)), shape=(2, 2)).toarray()
    assert wide[0, 0] == sum(float(dtype(value)) for value in values)
    X: Any
    if kind in ("coo", "coo_matrix"):
        X = (sp.coo_array if kind == "coo" else sp.coo_matrix)((data, (rows, columns)), shape=(2, 2))
    elif kind == "bsr":
        X = sp.bsr_array((data.reshape(-1, 1, 1), columns, np.array([0, 3, 4])), shape=(2, 2))
    else:
        X = (sp.csr_array if kind == "csr" else sp.csc_array)((data, columns, np.array([0, 3, 4])), shape=(2, 2))
    data = read(X)
    np.testing.assert_array_equal(sp.csr_array((data.values, data.indices, data.indptr), shape=(2, 2)).toarray(), wide)
    matrix, observed, _ = reading.read(X, None, None, None, None)  # as `select_rank` reads it
    assert observed is None
    np.testing.assert_array_equal(matrix.values, wide[wide != 0])


# ---- one column of another kind ---------------------------------------------------------------------------------


KINDS = [
    "Int64", "Int8", "UInt16", "Float64", "Float32", "boolean", "object", "category", "bool", "float32", "float16",
    "int64[pyarrow]", "uint8[pyarrow]", "float[pyarrow]", "double[pyarrow]", "bool[pyarrow]",
]  # fmt: skip


@pytest.mark.parametrize("gap", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_of_another_kind_is_what_pandas_makes_of_it(kind, gap):
    if gap and kind == "bool":
        pytest.skip("holds no gap")
    column = pd.Series([1, 0, 1, 1, 0, 1, 0, 0, 1]).astype(kind)
    frame = pd.DataFrame(FULL)
    if gap:
        column = column.where(np.arange(9) != 4)
    frame[3] = column
    assert frame[3].isna().sum() == gap
    theirs = np.column_stack(
        [pd.to_numeric(c.astype(object)).to_numpy(float, na_value=np.nan) for _, c in frame.items()]
    )
    same(fit(frame, missing_values=np.nan), fit(theirs, missing_values=np.nan))


@pytest.mark.parametrize("kind", ["float32", "Float32", "float[pyarrow]"])
def test_float32_is_float32_however_pandas_holds_it(kind):
    frame = pd.DataFrame(FULL).astype(kind)
    same(fit(frame), fit(FULL.astype(np.float32)))
    frame[0] = frame[0].where(np.arange(9) != 4)
    assert fit(frame, missing_values=np.nan).W.dtype == np.float32
    frame[0] = FULL[:, 0]
    assert fit(frame).W.dtype == np.float64


@pytest.mark.parametrize("dtype", [pl.Int8, pl.Int16, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.Decimal(10, 2)])
@pytest.mark.parametrize("gap", [False, True])
def test_polars_and_arrow_frames(dtype, gap):
    values = [1, 0, 1, None if gap else 0]
    frame = pl.DataFrame({"a": pl.Series(values).cast(dtype), "b": [0.5, 1.5, 2.5, 3.5]})
    theirs = frame.select(pl.all().cast(pl.Float64)).to_numpy()
    for table in (frame, frame.to_arrow()):
        same(fit(table, 1, missing_values=np.nan), fit(theirs, 1, missing_values=np.nan))
    alone = frame.select("a")
    expected = np.float32 if dtype == pl.Float32 else np.float64
    for table in (alone, alone.to_arrow()):
        f = fit(table, 1, missing_values=np.nan)
        assert f.W.dtype == expected
        same(f, fit(theirs[:, :1].astype(expected), 1, missing_values=np.nan))


@pytest.mark.parametrize(
    ("column", "where"),
    [
        (["a", "b", "c"], "'a'"),
        (["1", "2", "3"], "'1'"),
        ([1.0, "2", None], "'2'"),
        ([1, [2], 3], r"\[2\]"),
        (pd.array(["1", "2", None], dtype="string"), "'1'"),
        (pd.array(["1", "2", None], dtype="string[pyarrow]"), "'1'"),
        (pd.Categorical(["x", "y", "x"]), "'x'"),
        (pd.to_datetime(["2020-01-01"] * 3), ""),
        (pd.to_datetime(["2020-01-01"] * 3, utc=True), ""),
        (pd.to_timedelta([1, 2, 3]), ""),
        (pd.period_range("2020", periods=3), ""),
        (pd.array([1, 2, 3], dtype="timestamp[s][pyarrow]"), ""),
        ([np.datetime64("2020", "ns"), 1, 2], "np.datetime64|1577836800000000000"),
    ],
)
@pytest.mark.parametrize("beside", ["float64", "Int64", "Sparse"])
def test_a_column_of_no_numbers_is_still_named(column, where, beside):
    other = pd.Series([1, 0, 3]).astype(pd.SparseDtype(float, 0) if beside == "Sparse" else beside)
    frame = pd.DataFrame({"n": other})
    frame["what it is"] = column
    with pytest.raises(
        TypeError, match=rf"column 'what it is' is .*{where}.*; every argument must be a number.*Convert"
    ):
        fit(frame, missing_values=np.nan)


@pytest.mark.parametrize("column", [["1", "2"], [object(), 2], pd.to_datetime(["2020-01-01"] * 2)])
def test_frames_of_no_numbers_at_all_are_named_by_column(column):
    with pytest.raises(TypeError, match=r"column 'first' is .*; every argument must be a number"):
        fit(pd.DataFrame({"first": column, "second": column}))


def test_a_complex_column_is_named():
    with pytest.raises(ValueError, match=r"Complex data not supported: column 'z' has dtype complex128. Pass its mag"):
        fit(pd.DataFrame({"a": [1.0, 2.0], "z": [1j, 2.0]}))


@pytest.mark.parametrize(
    "X", [pa.table({"a": [1.0, 2.0], "n": ["x", "y"]}), pl.DataFrame({"a": [1.0, 2.0], "n": ["x", "y"]})]
)
def test_columns_of_other_tables_are_named(X):
    with pytest.raises(TypeError, match=r"^column 'n' is 'x'; every argument must be a number"):
        fit(X)


@pytest.mark.parametrize(
    "cell",
    [Fraction(1, 3), np.float32(0.1), np.longdouble(2), True, np.bool_(True), 10**25, None, pd.NA, pd.NaT, np.nan],
)
def test_objects_of_every_kind_become_the_float_that_they_say(cell):
    X = FULL.astype(object)
    X[2, 3] = cell
    expected = FULL.copy()
    expected[2, 3] = np.nan if cell is None or pd.isna(cell) else float(cell)
    for given in (X, X.tolist(), pd.DataFrame(X), pd.DataFrame(X).infer_objects()):
        same(fit(given, missing_values=np.nan), fit(expected, missing_values=np.nan))


@pytest.mark.parametrize("kind", ["Int64", "Float64", "boolean", "object", "int64[pyarrow]"])
def test_one_such_column_costs_no_loop_over_cells(kind):
    frame = pd.DataFrame(RNG.random_sample((20_000, 101)))
    frame[50] = pd.Series(np.arange(20_000) % 2).astype(kind)
    expected = frame.astype(float).to_numpy()
    began = time.process_time()
    data = read(frame)
    assert time.process_time() - began < 0.5  # .04 s here; with a loop, 1.5
    np.testing.assert_array_equal(data.values, expected)


def test_frames_without_columns_or_rows():
    with pytest.raises(ValueError, match=r"0 feature\(s\) .*X is empty"):
        fit(pd.DataFrame(index=range(3)))
    for kind in ("float64", "Int64", pd.SparseDtype(float, 0)):
        with pytest.raises(ValueError, match=r"0 sample\(s\) .*X is empty"):
            fit(pd.DataFrame({"a": [], "b": []}).astype(kind))


def test_guides_and_starts_as_frames_of_nullable_columns():
    weights = pd.DataFrame(FULL).convert_dtypes()
    same(fit(FULL, weights=weights), fit(FULL, weights=FULL))
    mask = pd.DataFrame(~HOLES).astype("boolean")
    for given in (mask, mask.astype("bool[pyarrow]"), pl.DataFrame(~HOLES)):
        same(fit(FULL, mask=given), fit(FULL, mask=~HOLES))
    W, H = RNG.random_sample((9, 2)), RNG.random_sample((2, 7))
    frames = {"W": pd.DataFrame(W).convert_dtypes(), "H": pd.DataFrame(H).convert_dtypes()}
    same(fit(FULL, **frames), fit(FULL, W=W, H=H))


@pytest.mark.parametrize("of_X", [np.asarray, sp.csr_array])
def test_gaps_in_guides_are_named_with_what_to_do(of_X):
    weights = pd.DataFrame(FULL).convert_dtypes()
    weights.iloc[4, 2] = pd.NA
    with pytest.raises(ValueError, match=r"weights\[4, 2\] is missing. Fill it, with 0 to leave such entries out"):
        fit(of_X(FULL), weights=weights)
    for kind in ("boolean", "bool[pyarrow]"):
        mask = pd.DataFrame(~HOLES).astype(kind)
        mask.iloc[4, 2] = pd.NA
        with pytest.raises(TypeError, match=r"mask\[4, 2\] is neither True nor False. Fill it, with False if"):
            fit(of_X(FULL), mask=mask)


# ---- scalars ----------------------------------------------------------------------------------------------------


SETTINGS = {
    "missing_values": [
        0,
        0.0,
        np.int64(0),
        np.uint8(0),
        np.float32(0),
        np.float32("nan"),
        np.float64("nan"),
        np.float16("nan"),
        np.str_("unstored"),
        None,
    ],
    "l1": [
        np.float32(0.1),
        np.float64(0.1),
        np.int64(1),
        Fraction(1, 3),
        (np.float32(0.1), np.uint8(1)),
        np.array([0.1, 0.2]),
    ],
    "l2": [np.float32(0.1), np.float16(0.1), (np.int8(1), 0.5), np.str_("auto")],
    "l2_scaling": [np.str_("count")],
    "loss": [np.float32(1.5), np.int64(1), Fraction(3, 2), np.str_("frobenius")],
    "tol": [np.float32(0.1), np.float64(0.1), np.int64(0)],
    "max_iter": [np.int64(5), np.uint8(5)],
    "max_time": [np.float32(5), np.int64(5), Fraction(7, 2)],
    "offsets": [np.bool_(True)],
    "init": [np.str_("random")],
    "precision": [np.str_("full")],
    "solver": [
        np.str_("hals"),
        HALS(sweeps=np.int64(2), extrapolate=np.float32(0.5)),
        HALS(extrapolate=np.bool_(True)),
        MU(np.bool_(False)),
    ],
    "n_threads": [np.int64(1)],
}


def plain(value: Any) -> Any:
    if isinstance(value, tuple):
        assert type(value) is tuple
        return all(map(plain, value))
    return type(value) in (bool, int, float, str, type(None))


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning", "ignore::nmfcore.ConvergenceWarning")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values])
def test_a_model_is_saved_whatever_type_a_setting_came_in(name, value, tmp_path):
    X = sp.csr_array(FULL) if name == "missing_values" else FULL
    f = fit(X, **{name: value})
    assert all(map(plain, f.settings.values())), f.settings
    assert "np." not in f.settings["solver"]
    f.save(tmp_path / "f.npz")
    g = nmfcore.load(tmp_path / "f.npz")
    same(f, g)
    assert {k: v for k, v in g.settings.items() if v == v} == {k: v for k, v in f.settings.items() if v == v}
    np.testing.assert_array_equal(g.transform(X), f.transform(X))


# ---- masks that would be lost, and what is no matrix ------------------------------------------------------------


@pytest.mark.parametrize("of_X", [np.asarray, sp.csr_array])
@pytest.mark.parametrize(
    ("name", "values", "remedy"),
    [
        ("weights", FULL, r"Pass weights.filled\(0\) to leave such entries out"),
        ("mask", ~HOLES, r"Pass mask.filled\(False\) if that is missing"),
        ("W", FULL[:, :2], r"Pass W.filled\(0\), or other numbers to start from"),
        ("H", FULL[:2], r"Pass H.filled\(0\), or other numbers to start from"),
    ],
)
def test_the_mask_of_anything_but_x_is_not_dropped(name, values, remedy, of_X):
    masked = np.ma.array(values)
    same(fit(of_X(FULL), **{name: masked}), fit(of_X(FULL), **{name: values}))
    masked[1, 1] = np.ma.masked  # all but that one entry has a value still
    message = rf"{name}\[1, 1\] is masked: {name} must have a value everywhere. {remedy}"
    with pytest.raises(ValueError, match=message):
        fit(of_X(FULL), **{name: masked})
    if name in ("weights", "mask"):
        f = fit(FULL)
        for refuse in (f.transform, lambda X, **guide: nmfcore.select_rank(X, [1], **guide)):
            with pytest.raises(ValueError, match=message):
                refuse(of_X(FULL), **{name: masked})


def test_masked_rows_in_a_list():
    rows = list(np.ma.array(FULL, mask=HOLES))
    with pytest.raises(TypeError, match=r"X is a list of masked arrays, .*pass np.ma.stack\(X\)"):
        fit(rows)
    same(fit(np.ma.stack(rows)), fit(FULL, mask=~HOLES))


@pytest.mark.parametrize(("name", "values"), [("W", FULL[:, :2]), ("H", FULL[:2])])
def test_sparse_factors_to_start_from(name, values):
    with pytest.raises(TypeError, match=rf"{name} is a sparse matrix \(csr_array\) where a dense .*{name}.toarray\(\)"):
        fit(FULL, **{name: sp.csr_array(values)})


@pytest.mark.parametrize("name", ["X", "mask", "weights", "W", "H"])
def test_frames_that_hold_no_values_yet(name):
    given = {"X": FULL, name: pl.DataFrame(FULL).lazy()}
    with pytest.raises(TypeError, match=rf"{name} is a LazyFrame, which holds no values yet; pass {name}.collect\(\)"):
        fit(given.pop("X"), **given)


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        ([], ValueError, r"0 sample\(s\) \(shape=\(0,\)\).*X is empty"),
        (np.zeros(0), ValueError, "X is empty"),
        ([[]], ValueError, r"0 feature\(s\) .*X is empty"),
        (
            [sp.csr_array(A), sp.csr_array(A)],
            ValueError,
            r"holds sparse matrices: pass scipy.sparse.vstack\(X\), or one",
        ),
        (np.array([np.ones(3), np.ones(2)], object), ValueError, r"holds rows of its own: pass np.vstack\(X\) if they"),
        (object(), TypeError, "X must be a matrix .*not object"),
        (fit, TypeError, "X must be a matrix .*not function"),
    ],
)
def test_other_shapes_are_told_what_they_need(X, error, message):
    with pytest.raises(error, match=message):
        fit(X)
