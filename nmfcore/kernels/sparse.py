"""Products with a matrix in compressed rows (CSR), by gathers: no temporary grows with the entries."""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel
from nmfcore.kernels.vectors.products import add_gathered, prefetch_entries
from nmfcore.machine import memory

CACHED = 2097152  # bytes of B that stay near while entries are gathered from them
NEXT = 2  # rows until the entries of one that are asked for are needed, where only some of each row are read at a time
MUCH = 16777216  # bytes of B from which it is gone through piece by piece: a smaller one stays in the last cache anyway


@kernel
def rows_times(indptr: Array, indices: Array, values: Array, B: Array, lo: int, hi: int, out: Array) -> None:
    """``out[i - lo] = Σ_j X[i, j] B[j]`` over the stored entries of the rows ``lo <= i < hi``; ``B`` (n, r).

    Columns ascend within a row. Where ``B`` is larger than the caches, all rows go through the first columns before any
    goes on to the next: gathers all over ``B`` would wait for memory at every entry. All but rows of fewer entries than
    there are pieces of ``B``: to visit them would take longer.
    """
    n, size = B.shape[0], B.size * B.itemsize
    out[: hi - lo] = B.dtype.type(0)
    pieces = size // CACHED if size >= MUCH else 1
    rows = np.empty(hi - lo, np.int64)
    count = 0
    for i in range(lo, hi):
        if pieces > 1 and indptr[i + 1] - indptr[i] >= pieces:
            rows[count] = i
            count += 1
        else:
            add_gathered(values, indices, indptr[i], indptr[i + 1], B, out, i - lo)
    reached = indptr[rows[:count]]
    step = max(1, n // pieces)
    for end in range(step, n + step, step):
        for k in range(count):
            first, last = reached[k], indptr[rows[k] + 1]
            if end < n:
                p = first
                while p < last and indices[p] < end:
                    p += 1
                last = p
            reached[k] = last
            if k + NEXT < count:
                prefetch_entries(indices, reached[k + NEXT])
                prefetch_entries(values, reached[k + NEXT])
            if first < last:
                add_gathered(values, indices, first, last, B, out, rows[k] - lo)


@kernel
def columns_rise(indptr: Array, indices: Array) -> bool:
    """Whether the columns of every row ascend, none of them twice."""
    for i in range(indptr.size - 1):
        for p in range(indptr[i] + 1, indptr[i + 1]):
            if indices[p] <= indices[p - 1]:
                return False
    return True


def _check_room(n_rows: int, *entries: Array) -> None:
    """Raise if a matrix of so many rows and such entries does not fit the memory, with what it takes to sort them."""
    parts = {f"{n_rows} row pointers": 2 * 8 * (n_rows + 1), "entries": sum(part.nbytes for part in entries)}
    remedy = "leave out rows and columns in which nothing is stored"
    memory.check(parts, f"a sparse matrix of {n_rows} rows, or the transpose of one of {n_rows} columns,", remedy)


def transposed_rows(
    indptr: Array, indices: Array, values: Array, weights: Array, n_columns: int
) -> tuple[Array, Array, Array, Array]:
    """Counting sort by column: ``indptr``, ``indices``, values and weights (where there are any) of the transpose.

    The arrays are NumPy's, not the kernel's: NumPy asks the system for large pages, without which a product with a
    large transpose spends most of its time on looking pages up.
    """
    _check_room(n_columns, indices, values, weights)
    starts = np.zeros(n_columns + 1, np.int64)
    moved = np.empty(indices.size, indices.dtype), np.empty_like(values), np.empty_like(weights)
    _sort_by_column(indptr, indices, values, weights, starts, *moved)
    return starts, *moved


@kernel
def _sort_by_column(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    starts: Array,
    rows: Array,
    moved: Array,
    moved_weights: Array,
) -> None:
    """Fill the arrays of the transpose; ``starts`` comes as zeros."""
    for p in range(indices.size):
        starts[indices[p] + 1] += 1
    for j in range(starts.size - 1):
        starts[j + 1] += starts[j]
    fill = starts[:-1].copy()
    for i in range(indptr.size - 1):
        for p in range(indptr[i], indptr[i + 1]):
            q = fill[indices[p]]
            fill[indices[p]] = q + 1
            rows[q] = i
            moved[q] = values[p]
            if weights.size:
                moved_weights[q] = weights[p]


def by_rows(rows: Array, columns: Array, values: Array, m: int) -> tuple[Array, Array, Array]:
    """Counting sort of coordinates by row, which keeps the order within each: ``indptr``, ``indices`` and values."""
    _check_room(m, columns, values)
    indptr, indices, moved = np.zeros(m + 1, np.int64), np.empty_like(columns), np.empty_like(values)
    _sort_by_row(rows, columns, values, indptr, indices, moved)
    return indptr, indices, moved


@kernel
def _sort_by_row(rows: Array, columns: Array, values: Array, indptr: Array, indices: Array, moved: Array) -> None:
    """Fill the compressed rows; ``indptr`` comes as zeros."""
    for p in range(rows.size):
        indptr[rows[p] + 1] += 1
    for i in range(indptr.size - 1):
        indptr[i + 1] += indptr[i]
    fill = indptr[:-1].copy()
    for p in range(rows.size):
        q = fill[rows[p]]
        fill[rows[p]] = q + 1
        indices[q] = columns[p]
        moved[q] = values[p]


@kernel
def squared_error(indptr: Array, indices: Array, values: Array, A: Array, Bt: Array, lo: int, hi: int) -> float:
    """``Σ_ij (X_ij - x̂_ij)²`` over *all* columns of some rows, unstored zeros included, in float64.

    The short way, through ``<AᵀA, BᵀB>``, cancels when the fit is close; here a row of ``x̂`` is formed at a time.
    """
    r, n = Bt.shape
    row = np.empty(n)
    total = 0.0
    for i in range(lo, hi):
        row[:] = 0.0
        for t in range(r):
            a = np.float64(A[i, t])
            for j in range(n):
                row[j] += a * Bt[t, j]
        for p in range(indptr[i], indptr[i + 1]):
            row[indices[p]] -= values[p]
        for j in range(n):
            total += row[j] * row[j]
    return total
