"""Data frames as matrices, a column at a time: one column of another kind must not make objects of all cells.

pandas, polars and Arrow are told by what their tables can do, and none of them is imported.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from nmfcore._types import Array

AT_ONCE = (
    64  # columns that are turned into rows together: one by one, each would go through all the memory of the matrix
)
NUMBERS = "biuf"  # kinds of NumPy dtypes that are numbers
# These have a __float__, but what it says is not what they are.
_NO_NUMBERS = (str, bytes, np.complexfloating, np.datetime64, np.timedelta64, np.flexible, np.ndarray)
_GAPS = ("NAType", "NaTType")  # pandas' own words for a missing value


class Column(NamedTuple):
    """A column of a table, by its name."""

    name: Any
    values: Any

    @property
    def place(self) -> str:
        """What messages call it."""
        return f"column {self.name!r}"


# ---- tables -------------------------------------------------------------------------------------------------


def is_pandas(X: object) -> bool:
    """Whether ``X`` is a data frame in the manner of pandas."""
    # In this order: polars works out the dtypes of a frame that is not collected, and warns of it.
    return all(hasattr(X, name) for name in ("iloc", "items", "dtypes")) and getattr(X, "ndim", None) == 2


def columns(X: Any) -> Iterator[Column] | None:
    """The columns of a table, in order, however they are named; None of what is no table.

    One after the other: pandas makes each for whoever asks, and tens of thousands of them are long in clearing away.
    """
    if is_pandas(X):
        return (Column(name, values) for name, values in X.items())
    if hasattr(X, "get_columns") and hasattr(X, "height"):  # polars
        return (Column(values.name, values) for values in X.get_columns())
    if hasattr(X, "itercolumns") and hasattr(X, "column_names"):  # Arrow
        return (Column(*pair) for pair in zip(X.column_names, X.itercolumns(), strict=True))
    return None


def is_plain(X: Any) -> bool:
    """Whether NumPy makes numbers of a frame of pandas as it is; of bools beside numbers it makes objects."""
    dtypes = set(X.dtypes)
    kinds = {dtype.kind if isinstance(dtype, np.dtype) else "" for dtype in dtypes}
    return bool(dtypes) and (kinds == {"b"} or kinds <= set("iuf"))


def dense(table: Iterable[Column], n_rows: int) -> Array:
    """The numbers of a table as a matrix; what is missing is NaN.

    Raises
    ------
    TypeError, ValueError
        If a column holds something else, with its name and the first such cell.
    """
    arrays = [numbers(column) for column in table]
    dtype = np.result_type(*{array.dtype for array in arrays}) if arrays else np.dtype(np.float64)
    matrix = np.empty((n_rows, len(arrays)), dtype)
    for j in range(0, len(arrays), AT_ONCE):
        matrix[:, j : j + AT_ONCE] = np.array(arrays[j : j + AT_ONCE], dtype).T
    return matrix


def numbers(column: Column) -> Array:
    """A column as NumPy's numbers: float32 only where it is that, so that integers with a gap keep their digits."""
    dtype = getattr(column.values, "dtype", None)
    own = getattr(dtype, "numpy_dtype", None)  # of pandas' nullable and Arrow's types
    if isinstance(own, np.dtype) and own.kind in NUMBERS and getattr(dtype, "kind", "") in NUMBERS:
        if not column.values.hasnans:
            return np.asarray(column.values.to_numpy(dtype=own))
        wide = own if own == np.float32 else np.dtype(np.float64)
        return np.asarray(column.values.to_numpy(dtype=wide, na_value=np.nan))
    array = np.asarray(column.values)
    if array.dtype == np.float32 and "float" not in str(getattr(column.values, "type", dtype)).lower():
        return array.astype(np.float64)  # polars makes float32 of narrow integers with a gap, which holds them
    if array.dtype.kind in NUMBERS:
        return array
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {column.place} has dtype {array.dtype}. Pass its magnitude.")
    if array.dtype.kind != "O" and array.size:  # as objects, dates would be whole numbers
        raise _no_number(column.place, array[0].item() if array.dtype.kind in "SU" else array[0])
    return from_objects(array.astype(object), lambda _: column.place)


# ---- objects ------------------------------------------------------------------------------------------------


def from_objects(array: Array, place: Callable[[tuple[int, ...]], str]) -> Array:
    """Numbers from Python objects, None and NA as NaN; ``place`` names a cell of which that cannot be made.

    Raises
    ------
    TypeError
        If a cell is no number.
    """
    cells = array.ravel().tolist()
    kinds = set(map(type, cells))  # types are few: they are judged, and not each cell
    gaps = {kind for kind in kinds if kind.__name__ in _GAPS}
    if all(kind in gaps or kind is type(None) or _is_number(kind) for kind in kinds):
        if gaps:
            cells = [math.nan if type(cell) in gaps else cell for cell in cells]
        try:
            return np.array(cells, np.float64).reshape(array.shape)
        except (TypeError, ValueError, OverflowError):
            pass  # the cell says why itself, or is beyond float64
    floats = np.empty(array.shape)
    for index, value in np.ndenumerate(array):
        if value is None or type(value) in gaps:
            floats[index] = np.nan
        elif not _is_number(type(value)):
            raise _no_number(place(index), value)
        else:
            floats[index] = _float(value)
    return floats


def _no_number(place: str, value: object) -> TypeError:
    return TypeError(
        f"{place} is {value!r}; every argument must be a number, not a string or an object that stands for a number. "
        "Convert or drop it first."
    )


def _is_number(kind: type) -> bool:
    return hasattr(kind, "__float__") and not issubclass(kind, _NO_NUMBERS)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a Python int beyond float64
        return math.inf if value > 0 else -math.inf
