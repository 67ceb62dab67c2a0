"""Sparse data that are not SciPy's: data frames of pandas with sparse columns, arrays of pydata/sparse.

In both, what is not stored has a value of its own, the fill value. Where that is 0, they are sparse matrices like any
other. Where it is NaN and NaN is missing, what is not stored is missing. With any other it is a dense matrix that takes
little room, and it is read as that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.machine import memory
from nmfcore.reading import arrays, frames
from nmfcore.reading.frames import Column

FULL = 0.5  # the share of entries that may be stored of a table of which only some columns are sparse


@dataclass(frozen=True)
class Coordinates:
    """A sparse matrix as far as :mod:`nmfcore.reading.arrays` asks, by the row and column of each entry."""

    row: Array
    col: Array
    data: Array
    shape: tuple[int, ...]
    format: str = "coo"

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the values."""
        return self.data.dtype

    def tocsr(self) -> Coordinates:
        """What makes it a sparse matrix."""
        return self


def read(X: Any, rule: Any, name: str, guided: bool = True) -> tuple[Any, Any]:
    """``X`` as SciPy or NumPy would have it, and the rule for missing values that says the same of that.

    Parameters
    ----------
    X : object
        What a caller passed in; it is returned as it is, unless it is sparse and not SciPy's.
    rule : None, float or "unstored"
        As :func:`nmfcore.reading.missing.check_rule` returns it.
    name : str
        What messages call it.
    guided : bool
        Whether a mask or weights say which entries count.

    Raises
    ------
    ValueError
        If entries are missing that are to count.
    """
    if frames.is_pandas(X):
        return _from_frame(X, rule, name, guided) if any(map(_is_sparse, X.dtypes)) else (X, rule)
    if hasattr(X, "fill_value") and hasattr(X, "todense"):  # pydata/sparse
        return _from_array(X, rule)
    return X, rule


def _all_missing(rule: Any, fills: Array) -> bool:
    """Whether NaN is missing, and all that is not stored is NaN."""
    return isinstance(rule, float) and math.isnan(rule) and bool(np.isnan(fills).all())


# ---- pandas -------------------------------------------------------------------------------------------------


def _is_sparse(dtype: Any) -> bool:
    return hasattr(dtype, "fill_value") and getattr(getattr(dtype, "subtype", None), "kind", "") in frames.NUMBERS


def _from_frame(X: Any, rule: Any, name: str, guided: bool) -> tuple[Any, Any]:
    """A data frame with sparse columns. Others are taken to store what the sparse ones would."""
    (m, n), sparse, others = X.shape, {}, {}
    # Not all columns at once as pandas hands them out: tens of thousands keep the garbage collector busy.
    for j, (dtype, (label, values)) in enumerate(zip(X.dtypes, X.items(), strict=True)):
        if _is_sparse(dtype):
            sparse[j] = values.array
        else:
            others[j] = Column(label, values)
    places = {j: array.sp_index.to_int_index().indices for j, array in sparse.items()}
    fills = np.array([array.fill_value for array in sparse.values()], np.float64)
    gaps = _all_missing(rule, fills)
    if rule != "unstored" and not gaps and fills.any():
        if not guided and np.isnan(fills).all():
            _refuse_gaps(places, m, name)  # a matrix of that size may be more than the memory holds
        _check_dense((m, n), name)
        return X, rule
    most = sum(rows.size for rows in places.values()) + len(others) * m
    if rule != "unstored" and others and most > FULL * m * n:
        return X, rule
    rows, entries = [], []
    for j in range(n):
        if j in sparse:
            rows.append(places[j])
            entries.append(sparse[j].sp_values)
            continue
        array = frames.numbers(others[j])
        there = np.arange(m) if rule == "unstored" else np.flatnonzero(~np.isnan(array) if gaps else array != 0)
        rows.append(there)
        entries.append(array[there])
    columns = np.repeat(np.arange(n), [each.size for each in rows])
    found = Coordinates(np.concatenate(rows), columns, np.concatenate(entries), (m, n))
    return (_without_nan(found), "unstored") if gaps else (found, rule)


def _check_dense(shape: tuple[int, ...], name: str) -> None:
    """Raise if the matrix with all that is not stored does not fit the memory."""
    what = f"{name} of shape {shape}, sparse with a fill value that counts,"
    memory.check({"all its entries": 8 * math.prod(shape)}, what, "make its fill value 0, or NaN where NaN is missing")


def _refuse_gaps(places: dict[int, Array], m: int, name: str) -> None:
    """Name the first entry, row by row, that a sparse column does not store."""
    first = [
        (int(np.argmax(np.append(rows, m) != np.arange(rows.size + 1))), j)
        for j, rows in places.items()
        if rows.size < m
    ]
    if first:
        place = min(first)
        arrays.check_values(np.array([np.nan]), name, lambda _: place, remedy=arrays.NAN_REMEDY)


# ---- pydata/sparse ------------------------------------------------------------------------------------------


def _from_array(X: Any, rule: Any) -> tuple[Any, Any]:
    if not hasattr(X, "coords"):  # compressed, or a dictionary of keys
        X = X.tocoo() if hasattr(X, "tocoo") else X.to_coo()
    coords, data, shape = np.asarray(X.coords), np.asarray(X.data), tuple(X.shape)
    found = Coordinates(coords[0], coords[-1], data, shape)
    if rule == "unstored" or len(shape) != 2 or data.dtype.kind not in frames.NUMBERS or not X.fill_value:
        return found, rule
    if _all_missing(rule, np.array([X.fill_value], np.float64)):
        return _without_nan(found), "unstored"
    _check_dense(shape, "X, mask or weights")
    dense = np.full(shape, X.fill_value, data.dtype)
    dense[found.row, found.col] = data
    return dense, rule


def _without_nan(X: Coordinates) -> Coordinates:
    there = ~np.isnan(X.data)
    return X if there.all() else Coordinates(X.row[there], X.col[there], X.data[there], X.shape)
