"""Ratings out of matrices: what is stored in a sparse one, what is not missing in a dense one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmfcore.machine import memory
from nmfcore.ratings.assemble import check_values
from nmfcore.ratings.frames import plain_column
from nmfcore.ratings.ids import Ids, Positions, encode_ids, plain_id

FEWER = "pass a sparse matrix, or some users at a time, and merge them"


class Entries(NamedTuple):
    """Entries of a matrix that are ratings: row, column and value of each; the matrix's shape."""

    rows: NDArray[Any]
    columns: NDArray[Any]
    values: NDArray[np.float64]
    shape: tuple[int, int]


def stored_entries(X: Any) -> Entries:
    """Return what a SciPy sparse matrix or array stores, explicit zeros and duplicates too."""
    if not hasattr(X, "tocoo"):
        raise TypeError(f"X is a {type(X).__name__}, not a SciPy sparse matrix; use from_dense for a dense one")
    shape = _matrix_shape(X.shape)
    coo = X.tocoo()
    rows, columns = np.asarray(coo.row), np.asarray(coo.col)
    for index, size, axis in ((rows, shape[0], "row"), (columns, shape[1], "column")):
        if index.size and not 0 <= index.min() <= index.max() < size:
            p = int(np.argmax((index < 0) | (index >= size)))
            raise ValueError(f"{axis} {index[p]} is not one of the {size} of X: the sparse matrix is damaged")
    values = check_values(coo.data, lambda p: f"row {rows[p]}, column {columns[p]} of X")
    return Entries(rows, columns, values, shape)


def observed_entries(X: Any, missing_values: float) -> Entries:
    """Return the entries of a dense matrix that are neither masked nor equal to `missing_values`, NaN or 0."""
    if isinstance(missing_values, (bool, str)) or not (missing_values == 0 or missing_values != missing_values):
        raise ValueError(f"missing_values={missing_values!r}: what is not rated is np.nan or 0")
    if hasattr(X, "tocoo") or hasattr(X, "tocsr"):
        raise TypeError(f"X is a {type(X).__name__}; use from_sparse for a SciPy sparse matrix")
    array = _numbers(X)
    shape = _matrix_shape(array.shape)
    observed = array != 0 if missing_values == 0 else ~np.isnan(array)
    if isinstance(X, np.ma.MaskedArray):
        observed &= ~np.ma.getmaskarray(X)
    memory.check({"their places": 24 * int(np.count_nonzero(observed))}, "the ratings of a dense matrix", FEWER)
    rows, columns = np.nonzero(observed)
    if not rows.size:
        raise ValueError(f"no ratings: all {array.size} entries of X are missing (missing_values={missing_values})")
    values = check_values(array[observed], lambda p: f"row {rows[p]}, column {columns[p]} of X")
    return Entries(rows, columns, values, shape)


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) != 2:
        raise ValueError(f"X has {len(shape)} dimensions; give a matrix, users x items")
    return int(shape[0]), int(shape[1])


def _numbers(X: Any) -> NDArray[np.float64]:
    if hasattr(X, "to_numpy") and hasattr(X, "isna"):  # pandas: NA has no other way to become NaN
        try:
            array: NDArray[Any] = X.to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise TypeError(f"a column of X does not hold numbers ({error}); use from_frame for a long table") from None
        return array
    array = np.asarray(X)
    if array.dtype.kind not in "iufO":
        raise TypeError(f"X has dtype {array.dtype}; a matrix of numbers is needed")
    if array.dtype != np.float64:
        memory.check({"a copy in float64": 8 * array.size}, "a dense matrix of ratings", FEWER)
    try:
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"X does not hold numbers only: {error}") from None


def labels(X: Any, users: Any, items: Any) -> tuple[Any, Any]:
    """Return the ids given, else a DataFrame's index and names of columns, where it has them."""
    columns, index = getattr(X, "column_names", getattr(X, "columns", None)), getattr(X, "index", None)
    if users is None and columns is not None and not callable(index):
        users = index
    return users, columns if items is None else items


def axis_ids(ids: Any, size: int, noun: str) -> tuple[Ids, Positions | None]:
    """Return the sorted ids of all rows or columns and the position of each, None where they are in order."""
    if ids is None:
        return np.arange(size), None
    column = plain_column(ids, f"{noun} id")
    if len(column) != size:
        raise ValueError(f"{len(column)} {noun} ids where X has {size} {'rows' if noun == 'user' else 'columns'}")
    if not size:
        raise ValueError("no ratings; give at least one")
    distinct, positions = encode_ids(column, noun)
    if distinct.size < size:
        times = np.bincount(positions)
        first = plain_id(distinct[np.argmax(times > 1)])
        raise ValueError(f"{noun} id {first!r} stands for {times.max()} {'rows' if noun == 'user' else 'columns'} of X")
    return distinct, positions
