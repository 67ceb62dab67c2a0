"""Products with a matrix in compressed rows (CSR), by gathers: no temporary grows with the entries."""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel


@kernel
def rows_times(indptr: Array, indices: Array, values: Array, B: Array, lo: int, hi: int, out: Array) -> None:
    """``out[i - lo] = Σ_j X[i, j] B[j]`` over the stored entries of the rows ``lo <= i < hi``; ``B`` (n, r)."""
    r = B.shape[1]
    zero = B.dtype.type(0)
    for i in range(lo, hi):
        c = out[i - lo]
        c[:] = zero
        for p in range(indptr[i], indptr[i + 1]):
            x = values[p]
            b = B[indices[p]]
            for t in range(r):
                c[t] += x * b[t]


@kernel
def transposed_rows(indptr: Array, indices: Array, n_columns: int) -> tuple[Array, Array, Array]:
    """Counting sort by column: the transpose's ``indptr``, its ``indices``, and where each value came from."""
    m = indptr.size - 1
    nnz = indices.size
    starts = np.zeros(n_columns + 1, np.int64)
    for p in range(nnz):
        starts[indices[p] + 1] += 1
    for j in range(n_columns):
        starts[j + 1] += starts[j]
    fill = starts[:-1].copy()
    rows = np.empty(nnz, indices.dtype)
    origin = np.empty(nnz, np.int64)
    for i in range(m):
        for p in range(indptr[i], indptr[i + 1]):
            q = fill[indices[p]]
            fill[indices[p]] = q + 1
            rows[q] = i
            origin[q] = p
    return starts, rows, origin


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
