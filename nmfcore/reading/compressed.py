"""Sparse matrices as users pass them, checked and brought to compressed rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels import sparse as sparse_kernels
from nmfcore.machine import memory
from nmfcore.reading.arrays import as_float

SORTED_AT_ONCE = 2**20  # entries of a sparse matrix, or as many as it has columns


class Compressed(NamedTuple):
    """A checked matrix in compressed rows: sorted, without duplicates, dtype float32 or float64."""

    indptr: Array
    indices: Array
    values: Array
    shape: tuple[int, int]

    @property
    def rows(self) -> Array:
        """The row of each stored entry."""
        m, nnz = self.shape[0], self.indices.size
        taken = {"their numbers": 8 * (2 * m + nnz)}
        memory.check(taken, f"the rows of a sparse matrix of {m}", "leave out rows in which nothing is stored")
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))


def compressed(X: Any, name: str, dtype: np.dtype[Any] | None, *, duplicates: str) -> Compressed:
    """A sparse matrix of any format in checked compressed rows, values unchecked.

    ``duplicates`` is ``"sum"`` (what SciPy does) or ``"error"`` (two ratings for one cell are a mistake).
    """
    if len(X.shape) != 2:
        raise ValueError(f"{name} is a {len(X.shape)}-dimensional sparse array; a matrix is needed.")
    m, n = (int(size) for size in X.shape)
    kind = getattr(X, "format", None)
    made = {"csr": m, "csc": n + 2 * m}.get(str(kind), 2 * m)  # those of the caller are copied, and others made of them
    what, remedy = f"{name} of shape ({m}, {n})", "leave out rows and columns in which nothing is stored"
    memory.check({"row pointers": 8 * made}, what, remedy)
    if kind == "csc":
        _check_structure(X, n, m, name)
        indptr, indices, values = _own(X, dtype, name)
        indptr, indices, values, _ = sparse_kernels.transposed_rows(indptr, indices, values, values[:0], m)
    elif kind == "coo":
        indptr, indices, values = _from_coordinates(X, m, n, name, dtype)
    else:
        X = X.tocsr() if kind != "csr" else X
        _check_structure(X, m, n, name)
        indptr, indices, values = _own(X, dtype, name)
    return Compressed(*_canonical(indptr, indices, values, n, name, duplicates), (m, n))


def _own(X: Any, dtype: np.dtype[Any] | None, name: str) -> tuple[Array, Array, Array]:
    values = np.asarray(X.data)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {values.dtype}; a matrix of real numbers is needed.")
    return np.asarray(X.indptr).astype(np.int64), _index_array(X.indices, X.shape), as_float(values, dtype)


def _index_array(indices: object, shape: tuple[int, ...]) -> Array:
    narrow = max(shape) <= np.iinfo(np.int32).max
    return np.require(np.asarray(indices), np.int32 if narrow else np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def _check_structure(X: Any, major: int, minor: int, name: str) -> None:
    """An index out of range would read memory that is not ours; SciPy's own check lets some through."""
    indptr, indices, values = (np.asarray(part) for part in (X.indptr, X.indices, X.data))
    _check_whole(indptr, f"{name}.indptr")
    if indptr.shape != (major + 1,) or indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        raise ValueError(f"{name}.indptr is not {major + 1} rising numbers from 0: the sparse matrix is damaged.")
    if not indices.shape == values.shape == (int(indptr[-1]),):
        raise ValueError(
            f"{name} has {indices.size} indices and {values.size} values where indptr counts {indptr[-1]}: "
            "the sparse matrix is damaged."
        )
    _check_range(indices, minor, f"{name}.indices")


def _check_whole(indices: Array, name: str) -> None:
    if indices.dtype.kind not in "iu" and indices.size:
        raise ValueError(f"{name} has dtype {indices.dtype}, not whole numbers: the sparse matrix is damaged.")


def _check_range(indices: Array, size: int, name: str) -> None:
    _check_whole(indices, name)
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        p = int(np.argmax((indices < 0) | (indices >= size)))
        raise ValueError(f"{name}[{p}] = {indices[p]} is out of range for size {size}: the sparse matrix is damaged.")


def _from_coordinates(X: Any, m: int, n: int, name: str, dtype: np.dtype[Any] | None) -> tuple[Array, Array, Array]:
    rows, columns, values = (np.asarray(part) for part in (X.row, X.col, X.data))
    if not rows.shape == columns.shape == values.shape:
        raise ValueError(f"{name}.row, .col and .data differ in length: the sparse matrix is damaged.")
    for indices, size, axis in ((rows, m, "row"), (columns, n, "col")):
        _check_range(indices, size, f"{name}.{axis}")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {values.dtype}; a matrix of real numbers is needed.")
    rows, columns, values = _index_array(rows, (m, n)), _index_array(columns, (m, n)), as_float(values, dtype)
    return sparse_kernels.by_rows(rows, columns, values, m)


def _canonical(
    indptr: Array, indices: Array, values: Array, n: int, name: str, duplicates: str
) -> tuple[Array, Array, Array]:
    """Columns rising within each row, each at most once."""
    if sparse_kernels.columns_rise(indptr, indices):
        return indptr, indices, values
    starts, kept, sums = np.zeros_like(indptr), np.empty_like(indices), np.empty_like(values)
    stored, twice = 0, ""
    for lo, hi in _blocks(indptr, max(SORTED_AT_ONCE, n)):  # only what is returned grows with the entries
        starts_here, columns, numbers = _in_order(indptr, indices, values, n, lo, hi)
        counts = np.diff(starts_here)
        if not sparse_kernels.columns_rise(starts_here, columns):
            rows = np.repeat(np.arange(lo, hi), counts)
            first = np.ones(columns.size, bool)
            first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
            if not twice:
                p = int(np.argmin(first))
                times = 1 + int(np.argmax(first[p:]) or first[p:].size)
                twice = f"{name}[{rows[p]}, {columns[p]}] is stored {times} times"
            places = np.flatnonzero(first)
            rows, columns, numbers = rows[places], columns[places], np.add.reduceat(numbers, places)
            counts = np.bincount(rows - lo, minlength=hi - lo)
        part = slice(stored, stored + columns.size)
        kept[part], sums[part] = columns, numbers
        starts[lo + 1 : hi + 1] = counts
        stored += columns.size
    if twice and duplicates == "error":
        raise ValueError(
            f"{twice} ({indices.size - stored} such entries in all); one value per observed entry is needed. "
            "Keep the last or the mean, for example with nmfcore.Ratings.from_triplets(..., duplicates='last')."
        )
    return np.cumsum(starts), kept[:stored], sums[:stored]


def _in_order(indptr: Array, indices: Array, values: Array, n: int, lo: int, hi: int) -> tuple[Array, Array, Array]:
    """Some rows in compressed form, sorted by column."""
    part = slice(indptr[lo], indptr[hi])
    block = indptr[lo : hi + 1] - indptr[lo], indices[part], values[part], values[:0]
    for size in (n, hi - lo):  # transposing twice is a counting sort by row and column that keeps duplicates in order
        block = sparse_kernels.transposed_rows(*block, size)
    return block[:3]


def _blocks(indptr: Array, entries: int) -> Iterator[tuple[int, int]]:
    """Rows in blocks of about so many stored entries, or of one row that has more."""
    m, lo = indptr.size - 1, 0
    while lo < m:
        hi = max(lo + 1, int(np.searchsorted(indptr, indptr[lo] + entries, side="right")) - 1)
        yield lo, hi
        lo = hi


def row_of(indptr: Array, p: int) -> int:
    """The row in which the ``p``-th stored entry stands."""
    return int(np.searchsorted(indptr, p, side="right") - 1)
