"""Tables of any make, by what they have in common: names of columns, ``table[name]``, and conversion to NumPy.

pandas, polars and Arrow say in their own ways which values are null and how a column of repeated values is stored;
those ways are looked for on the column, and no library is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.ids import Ids, Positions, encode_ids
from nmfcore.ratings.layout import ROLES, check_columns, known_columns

MOST_NAMES = 20  # of columns in a message


def select_columns(table: Any, names: tuple[Any, ...], time: Any = None) -> list[Any]:
    """Return the columns of user, item and rating, by names given or usual ones, and of time (None unless it is named).

    Raises
    ------
    TypeError
        This is no table.
    ValueError
        A column is not there or there twice, or it is not clear which it is; the message lists the columns. Or one is
        to be two of user, item, rating and time.
    """
    there = _column_names(table)
    known = known_columns([str(name) for name in there])
    chosen = []
    for role, name in zip(ROLES, names, strict=True):
        if name is None and role not in known:
            wide = len(there) > 3 and not {"item", "rating"} & set(known)
            hint = " (a table of users by items is for from_dense)" if wide else ""
            _refuse(there, f"the table has no column that is usually the {role}{hint}")
        name = there[known[role]] if name is None else name
        times = there.count(name)
        if times != 1:
            _refuse(there, f"the table has {'no column' if not times else f'{times} columns'} {name!r} ({role}=)")
        chosen.append(name)
    check_columns(chosen, time)
    return [*(table[name] for name in chosen), None if time is None else _time(table, there, time)]


def _time(table: Any, there: list[Any], name: Any) -> Any:
    """Return the column of times, or raise with the columns that are there."""
    if there.count(name) != 1:
        _refuse(there, f"the table has {'no column' if name not in there else 'more than one column'} {name!r} (time=)")
    return table[name]


def times_of(column: Any) -> NDArray[np.int64]:
    """Return times as integers: whole numbers as they are, dates in seconds since 1970."""
    array = np.asarray(plain_column(column, "time"))
    if array.ndim != 1:
        raise ValueError(f"times have {array.ndim} dimensions; give a 1-D sequence, one time for each rating")
    if array.dtype.kind == "f" and (np.abs(array) < 2.0**53).all() and (array == np.floor(array)).all():
        return array.astype(np.int64)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    try:
        dates = array.astype("datetime64[s]")
    except (TypeError, ValueError) as error:
        raise TypeError(f"times are integers or dates, not {array.dtype} ({error})") from None
    if array.dtype.kind not in "MUTO" or np.isnat(dates).any():
        row = int(np.argmax(np.isnat(dates))) if array.dtype.kind in "MUTO" else 0
        raise ValueError(f"time in row {row} is {array[row]!r}; times are integers or dates, none missing")
    return dates.astype(np.int64)


def _column_names(table: Any) -> list[Any]:
    if isinstance(table, Mapping):
        return list(table)
    if isinstance(table, np.ndarray):
        if table.dtype.names is None or table.ndim != 1:
            raise TypeError("an array without named columns; use from_dense for a matrix, from_triplets for columns")
        return list(table.dtype.names)
    if hasattr(table, "collect"):
        raise TypeError(f"{type(table).__name__} does not hold its columns; call its collect() first")
    for attribute in ("column_names", "columns"):  # Arrow's columns are the columns themselves
        names = getattr(table, attribute, None)
        if names is not None and not callable(names):
            return list(names)
    raise TypeError(
        f"{type(table).__name__} is not a table with named columns (pandas, polars, Arrow or a dict of arrays); "
        "use from_triplets for three columns, from_csv for a file"
    )


def _refuse(there: list[Any], fault: str) -> NoReturn:
    names = ", ".join(map(repr, there[:MOST_NAMES])) + (", ..." if len(there) > MOST_NAMES else "")
    raise ValueError(f"{fault}; columns found: {names or 'none'}; name them with user=, item=, rating=")


def plain_column(column: Any, what: str) -> Any:
    """Return a column as a list or as NumPy has it, or raise naming the first row without a value."""
    if isinstance(column, (list, tuple, np.ndarray)):
        return column
    _refuse_nulls(column, what)
    dtype = getattr(column, "dtype", None)
    numpy_dtype = getattr(dtype, "numpy_dtype", None)  # pandas' nullable types, which become objects else
    if isinstance(numpy_dtype, np.dtype) and numpy_dtype.kind in "biuf":
        return np.asarray(column, dtype=numpy_dtype)
    if hasattr(column, "__array__") or hasattr(column, "__len__"):
        return np.asarray(column)
    return list(column)


def _refuse_nulls(column: Any, what: str) -> None:
    if isinstance(getattr(column, "dtype", None), np.dtype):
        return  # NaN and None are found where the numbers or ids are read
    for method in ("isna", "is_null"):  # of pandas; of polars and Arrow
        if hasattr(column, method):
            null = np.asarray(getattr(column, method)(), dtype=bool)
            if null.any():
                remedy = "drop that rating" if what == "rating" else "drop that rating or give it one"
                raise ValueError(f"{what} in row {int(np.argmax(null))} is missing; {remedy}")
            return


def encode_column(column: Any, noun: str) -> tuple[Ids, Positions]:
    """Return the sorted distinct ids of a column and the position of each value among them."""
    coded = None if isinstance(column, (list, tuple, np.ndarray)) else _coded(column)
    if coded is None:
        return encode_ids(plain_column(column, f"{noun} id"), noun)
    _refuse_nulls(column, f"{noun} id")
    values, codes = coded
    used = np.flatnonzero(np.bincount(codes, minlength=len(values)))
    try:
        ids, positions = encode_ids(values[used], noun)
    except (TypeError, ValueError):
        return encode_ids(values[codes], noun)  # to name the row, not the category
    places = np.zeros(len(values), dtype=np.int32)
    places[used] = positions
    return ids, places[codes]


def _coded(column: Any) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Return values and where each row has its own among them, if a column is stored so: pandas, Arrow."""
    categorical = getattr(column, "cat", column)
    if hasattr(categorical, "categories") and hasattr(categorical, "codes"):
        return np.asarray(categorical.categories), np.asarray(categorical.codes)
    chunks = getattr(column, "chunks", [column])
    if not chunks or not all(hasattr(chunk, "dictionary") and hasattr(chunk, "indices") for chunk in chunks):
        return None
    values = [np.asarray(chunk.dictionary) for chunk in chunks]  # each chunk may have its own
    starts = np.cumsum([0, *map(len, values[:-1])])
    codes = [np.asarray(chunk.indices) + start for chunk, start in zip(chunks, starts.tolist(), strict=True)]
    return np.concatenate(values), np.concatenate(codes)
