"""Rows 1 to 35: what a matrix may come as, and what is none."""

from __future__ import annotations

import re
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse as sp
from catalogue import alike, case, each, equal, holds, nmf, refused
from fits import X, ask, changed, fit, relative_error, same, sound

from nmfcore import Factorization

BITS = np.random.RandomState(1).randint(0, 2, (6, 5))
OBSERVED = np.random.RandomState(2).random_sample(X.shape) < 0.8
BY_POSITION = "columns are taken by position; a factorization keeps no names"
TYPE_OF_TEXT = "a text is the wrong type whatever it says, so TypeError"


class Arrayish:
    """What NumPy can make an array of, such as a tensor in the memory of the host."""

    def __init__(self, A: np.ndarray) -> None:
        self.A = A

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.A if dtype is None else self.A.astype(dtype)


class Raising:
    """A tensor in the memory of a graphics card, which says so."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise RuntimeError("this tensor is on another device")


class Exchanged:
    """An array of another library that offers DLPack only."""

    shape = (6, 5)

    def __dlpack__(self) -> object:
        raise BufferError("this array is on another device")


def rows() -> Iterator[list[float]]:
    yield [1.0, 2.0]


def matrix() -> np.matrix:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(X)


def mapped() -> np.ndarray:
    folder = tempfile.mkdtemp()
    np.save(Path(folder) / "X.npy", X)
    return np.load(Path(folder) / "X.npy", mmap_mode="r")


def unaligned() -> np.ndarray:
    raw = np.zeros(X.nbytes + 1, np.uint8)[1:].view(np.float64).reshape(X.shape)
    raw[:] = X
    assert not raw.flags.aligned
    return raw


def frozen() -> np.ndarray:
    A = X.copy()
    A.flags.writeable = False
    return A


def frozen_csr() -> sp.csr_array:
    A = sp.csr_array(X)
    for part in (A.data, A.indices, A.indptr):
        part.flags.writeable = False
    return A


def strided() -> np.ndarray:
    A = np.full((12, 10), np.nan)
    A[::-2, 1::2] = X
    return A[::-2, 1::2]


def their_masked() -> str:
    same_factors = np.array_equal(nmf(np.ma.MaskedArray(X, ~OBSERVED))[1], nmf(X)[1])
    return "the mask is ignored" if same_factors else "the mask is honoured"


def with_gap(gap: object) -> np.ndarray:
    A = X.astype(object)
    A[2, 3] = gap
    return A


def mixed() -> pd.DataFrame:
    frame = pd.DataFrame({"i": [1, 2, 3], "b": [True, False, True], "f": [0.5, 1.5, 2.5]})
    frame["n"] = pd.array([1, 2, 3], dtype="Int64")
    return frame


def nullable(dtype: str) -> pd.DataFrame:
    return pd.DataFrame({"a": pd.array([1, None, 3], dtype=dtype), "b": pd.array([4, 5, 6], dtype=dtype)})


def reshaped(data: object, remedy: str) -> Any:
    shape = re.escape(str(np.shape(data)))
    message = rf"Expected 2D array, got {np.ndim(data)}D array instead: .* {shape}.*{remedy}"
    return refused(ValueError, message)


def no_matrix(kind: str) -> Any:
    return refused(TypeError, r"X must be a matrix \(array, DataFrame, .*not " + kind)


def no_number(where: str) -> Any:
    return refused(TypeError, where + r".*number.*[Cc]onvert")


def gap_filled(expected: np.ndarray) -> Any:
    def check(f: Factorization) -> None:
        np.testing.assert_allclose(f.reconstruct(), ask(expected, missing_values=np.nan).reconstruct(), rtol=1e-5)

    return holds(check)


GAP = refused(ValueError, r"X\[2, 3\] is missing. Pass missing_values=np.nan")
GAP_IN_FRAME = refused(ValueError, r"X\[1, 0\] is missing. Pass missing_values=np.nan")
FILLED = gap_filled(np.array([[1, 4], [np.nan, 5], [3, 6]]))
DATES = pd.to_datetime(["2020-01-01", "2020-01-02"])
MISSING = {"missing_values": np.nan}
MASKED = alike(lambda: ask(X, mask=OBSERVED))

CASES = [
    equal(1, "list of lists", X.tolist()),
    equal(1, "tuple of tuples", tuple(map(tuple, X.tolist())), shown=False),
    equal(1, "list of arrays", [*X], shown=False),
    equal(1, "memoryview", memoryview(X), shown=False),
    case(
        2,
        "ragged list",
        [[1.0, 2.0], [3.0]],
        refused(ValueError, r"X\[1\] has 1 entries where X\[0\] has 2"),
    ),
    case(
        2,
        "a later row too long",
        [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0, 7.0]],
        refused(ValueError, r"X\[2\] has 3 entries where X\[0\] has 2"),
        shown=False,
    ),
    case(
        2,
        "a number among rows",
        [[1.0, 2.0], 3.0],
        refused(ValueError, r"X\[1\] is 3.0 where X\[0\] has 2 entries"),
        shown=False,
    ),
    case(
        2,
        "a row among numbers",
        [1.0, [2.0, 3.0]],
        refused(ValueError, r"X\[1\] has 2 entries where X\[0\] is 1.0"),
        shown=False,
    ),
    case(
        2,
        "an empty row",
        ([1.0], []),
        refused(ValueError, r"X\[1\] has 0 entries where X\[0\] has 1"),
        shown=False,
    ),
    case(3, "a single number", 3.0, reshaped(3.0, r"A single number is \[\[X\]\]")),
    case(4, "one dimension", X[0], reshaped(X[0], r" X.reshape\(1, -1\) for one row")),
    case(
        4,
        "a list of numbers",
        [1.0, 2.0],
        reshaped([1.0, 2.0], r"np.asarray\(X\).reshape\(1, -1\) for one row"),
        shown=False,
    ),
    case(
        4,
        "a pandas Series",
        pd.Series([1.0, 2.0]),
        reshaped([1.0, 2.0], r"np.asarray\(X\).reshape\(1, -1\) for one row, \(-1, 1\) for one column"),
        shown=False,
    ),
    case(
        5,
        "three dimensions",
        X[None],
        reshaped(X[None], r" X.reshape\(1, -1\) makes a row of each of the 1 arrays in X"),
    ),
    case(
        5,
        "four dimensions",
        np.zeros((2, 3, 2, 2)),
        reshaped(
            np.zeros((2, 3, 2, 2)), r" X.reshape\(2, -1\) makes a row of each of the 2 arrays in X; or pass one of them"
        ),
        shown=False,
    ),
    case(
        5,
        "a list of matrices",
        [X, X],
        reshaped([X, X], r"np.asarray\(X\).reshape\(2, -1\) makes a row of each of the 2 arrays"),
        shown=False,
    ),
    case(6, "None", None, no_matrix("None")),
    case(6, "bytes", b"1234", no_matrix("bytes")),
    case(6, "text", "1 2; 3 4", no_matrix("str"), shown=False),
    case(6, "dictionary", {"a": [1.0, 2.0]}, no_matrix("dict")),
    case(6, "set", {1.0, 2.0}, no_matrix("set"), shown=False),
    case(6, "generator", rows, no_matrix("generator")),
    case(6, "iterator", lambda: iter([[1.0]]), no_matrix("list_iterator"), shown=False),
    equal(7, "float16", BITS.astype(np.float16), BITS.astype(float)),
    equal(8, "longdouble", X.astype(np.longdouble)),
    equal(9, "int64", BITS.astype(np.int64), BITS.astype(float)),
    *(
        equal(9, np.dtype(dtype).name, BITS.astype(dtype), BITS.astype(float), shown=False)
        for dtype in (np.int8, np.uint8, np.uint64)
    ),
    equal(10, "bool", BITS.astype(bool), BITS.astype(float)),
    equal(11, "objects that are floats", X.astype(object)),
    equal(11, "frame of objects", pd.DataFrame(X).astype(object), shown=False),
    case(12, "None among objects", with_gap(None), GAP),
    equal(12, "None among objects, missing_values=nan", with_gap(None), changed(2, 3, np.nan), **MISSING),
    *(case(12, f"{gap} among objects", with_gap(gap), GAP, shown=False) for gap in (pd.NA, np.nan, pd.NaT)),
    *(
        equal(12, f"{gap} among objects, missing", with_gap(gap), changed(2, 3, np.nan), **MISSING, shown=False)
        for gap in (pd.NA, np.nan, pd.NaT)
    ),
    case(13, "strings that are numbers", np.array([["1.5", "2"], ["3", "4"]]), no_number(r"X\[0, 0\] is '1.5'")),
    case(13, "list of such", [["1.5", "2"], ["3", "4"]], no_number(r"X\[0, 0\] is '1.5'"), shown=False),
    case(13, "bytes that are numbers", np.array([[b"1", b"2"]]), no_number(r"X\[0, 0\] is b'1'"), shown=False),
    case(
        14,
        "strings that are none",
        np.array([[1.0, 2.0], [3.0, "a"]], object),
        no_number(r"X\[1, 1\] is 'a'"),
        note=TYPE_OF_TEXT,
    ),
    case(14, "a decimal comma", [[1.0, 2.0], [3.0, "4,5"]], no_number(r"X\[1, 1\] is '4,5'"), note=TYPE_OF_TEXT),
    case(
        14,
        "a list in a cell",
        np.array([[1.0, [2.0]], [3.0, 4.0]], object),
        no_number(r"X\[0, 1\] is \[2.0\]"),
        shown=False,
    ),
    case(
        15,
        "complex numbers",
        X.astype(complex),
        refused(ValueError, "Complex data not supported: X has dtype complex128. Pass its magnitude"),
    ),
    case(
        15,
        "a complex number among objects",
        np.array([[1.0, 2.0], [3.0, 4j]], object),
        no_number(r"X\[1, 1\] is 4j"),
        shown=False,
    ),
    case(
        15,
        "one of NumPy's among objects",
        np.array([[1.0, 2.0], [3.0, np.complex128(4j)]], object),
        no_number(r"X\[1, 1\] is np.complex128\(4j\)"),
        shown=False,
    ),
    case(
        16,
        "dates",
        np.array([[1, 2], [3, 4]], "M8[D]"),
        refused(TypeError, r"X has dtype datetime64\[D\].*Convert it first"),
    ),
    case(
        16,
        "time spans",
        np.array([[1, 2], [3, 4]], "m8[s]"),
        refused(TypeError, r"X has dtype timedelta64\[s\].*Convert it first"),
    ),
    case(
        17,
        "structured array",
        np.zeros((2, 2), [("a", float)]),
        refused(TypeError, r"X has dtype \[\('a', '<f8'\)\].*Convert it first"),
    ),
    case(17, "void", np.zeros((2, 2), "V8"), refused(TypeError, r"X has dtype \|V8.*Convert it first"), shown=False),
    case(18, "np.matrix", matrix, refused(TypeError, r"np.matrix.*pass np.asarray\(X\)")),
    case(19, "masked array", np.ma.MaskedArray(X, ~OBSERVED), MASKED, theirs=their_masked),
    case(20, "masked array, NaN under the mask", np.ma.MaskedArray(np.where(OBSERVED, X, np.nan), ~OBSERVED), MASKED),
    equal(21, "Fortran order", np.asfortranarray(X)),
    equal(22, "strides, negative ones too", strided),
    equal(23, "big-endian", X.astype(">f8")),
    equal(24, "unaligned", unaligned),
    equal(25, "read-only", frozen),
    equal(25, "memory-mapped", mapped),
    equal(26, "read-only CSR", frozen_csr, sp.csr_array(X)),
    equal(27, "pandas DataFrame", pd.DataFrame(X), note=BY_POSITION),
    equal(27, "polars DataFrame", pl.DataFrame(X), note=BY_POSITION),
    equal(27, "Arrow table", pa.table({str(j): X[:, j] for j in range(5)}), note=BY_POSITION),
    equal(27, "frame of nullable columns", pd.DataFrame(X).convert_dtypes(), shown=False),
    equal(27, "frame of several dtypes", mixed, lambda: mixed().astype(float).to_numpy(), shown=False),
    case(28, "nullable column with a gap", nullable("Float64"), GAP_IN_FRAME),
    case(28, "polars null", pl.DataFrame({"a": [1.0, None, 3.0], "b": [4.0, 5.0, 6.0]}), GAP_IN_FRAME),
    *(case(28, f"{dtype} with a gap", nullable(dtype), GAP_IN_FRAME, shown=False) for dtype in ("Float32", "Int64")),
    *(
        case(
            28, f"{dtype} with a gap, missing_values=nan", nullable(dtype), FILLED, shown=dtype == "Float64", **MISSING
        )
        for dtype in ("Float64", "Float32", "Int64")
    ),
    case(
        29,
        "column of texts",
        pd.DataFrame({"n": [1.0, 2.0], "name": ["Ann", "Bob"]}),
        no_number("column 'name' is 'Ann'"),
        note=TYPE_OF_TEXT,
    ),
    case(
        29,
        "column of dates",
        pd.DataFrame({"n": [1.0, 2.0], "when": DATES}),
        no_number("column 'when' is "),
        shown=False,
    ),
    equal(30, "column names of several kinds", pd.DataFrame(X, columns=["a", 1, 2.5, None, ("b", "c")])),
    equal(31, "column names that repeat", pd.DataFrame(X, columns=["a", "a", "b", "b", "c"]), note=BY_POSITION),
    equal(33, "an object with `__array__`", Arrayish(X)),
    case(34, "`__array__` that raises", Raising(), refused(RuntimeError, "on another device")),
    case(
        35,
        "a tensor that offers DLPack only",
        Exchanged(),
        refused(TypeError, r"X must be a matrix .*not Exchanged"),
        note="dask, torch and cupy have `__array__`: rows 33 and 34",
    ),
]


@each(CASES)
def test_containers(case):
    case.hold()


@pytest.mark.row(7)
def test_float32_stays_float32_unless_asked_otherwise():
    assert fit(BITS).W.dtype == np.float64
    assert fit(X.astype(np.float32)).W.dtype == np.float32
    assert fit(X.astype(np.float32), dtype="float64").W.dtype == np.float64
    same(fit(X, dtype=np.float32), fit(X.astype(np.float32)))


@pytest.mark.row(19)
def test_the_mask_of_a_masked_array_is_that_of_its_own_and_leaves_the_data_alone():
    A = np.ma.MaskedArray(np.where(OBSERVED, X, -7.0), ~OBSERVED)
    data, mask = A.data.copy(), A.mask.copy()
    f = sound(fit(A))
    np.testing.assert_array_equal(A.data, data)
    np.testing.assert_array_equal(A.mask, mask)
    assert relative_error(np.where(OBSERVED, X, 0), np.eye(6), np.where(OBSERVED, f.reconstruct(), 0)) < 0.5
