"""Corrections for the few missing entries of a dense matrix: what they add to products over all entries is taken off.

``indptr`` and ``indices`` are the missing places in compressed rows. At these places X holds 0.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel

CANCELLED = 1e-3  # a diagonal of which less is left is summed over the observed entries: three digits are not missed


@kernel
def row_grams(indptr: Array, indices: Array, B: Array, shared: Array, lo: int, hi: int, G: Array) -> None:
    """``G[k] = Σ_j B[j] B[j]ᵀ`` over the observed ``j`` of the rows ``i = lo + k < hi``; ``B`` (n, r), ``shared = BᵀB``.

    In float64, and rounded at the end. What is missing is taken off ``shared``, unless it is the larger part of the
    row or next to nothing would be left: then the observed entries are summed themselves.
    """
    n, r = B.shape
    exact = np.empty((r, r))
    observed = np.empty(n, indices.dtype)
    for i in range(lo, hi):
        missing = indices[indptr[i] : indptr[i + 1]]
        summed = 2 * missing.size > n
        if not summed:
            exact[:] = shared
            _add_squares(missing, B, -1.0, exact)
            for t in range(r):
                summed |= exact[t, t] < CANCELLED * shared[t, t]
        if summed:
            count = _others(missing, n, observed)
            exact[:] = 0.0
            _add_squares(observed[:count], B, 1.0, exact)
        g = G[i - lo]
        for s in range(r):
            for t in range(r):
                g[s, t] = exact[s, t] if s <= t else exact[t, s]


@kernel
def _others(some: Array, n: int, others: Array) -> int:
    """The numbers below ``n`` that are not among ``some`` (ascending), into ``others``; returns how many."""
    count = p = 0
    for j in range(n):
        if p < some.size and some[p] == j:
            p += 1
        else:
            others[count] = j
            count += 1
    return count


@kernel
def _add_squares(indices: Array, B: Array, sign: float, out: Array) -> None:
    """Add ``sign Σ_j B[j] B[j]ᵀ`` over some rows ``j`` of ``B`` to the upper triangle of ``out``.

    By fours: each number of ``out`` is loaded and stored once for all. The rest is a four of which some count nothing.
    """
    r = B.shape[1]
    for p in range(0, indices.size, 4):
        end = indices.size - 1
        # Unsigned: an index that might be negative would be looked at.
        j0, j1 = np.uintp(indices[p]), np.uintp(indices[min(p + 1, end)])
        j2, j3 = np.uintp(indices[min(p + 2, end)]), np.uintp(indices[min(p + 3, end)])
        w1 = sign if p + 1 <= end else 0.0
        w2 = sign if p + 2 <= end else 0.0
        w3 = sign if p + 3 <= end else 0.0
        b0, b1, b2, b3 = B[j0], B[j1], B[j2], B[j3]
        for s in range(r):
            s0, s1, s2, s3 = sign * b0[s], w1 * b1[s], w2 * b2[s], w3 * b3[s]
            row = out[s]
            for t in range(s // 8 * 8, r):  # from where a vector begins
                row[t] += s0 * b0[t] + s1 * b1[t] + s2 * b2[t] + s3 * b3[t]


@kernel
def change(indptr: Array, indices: Array, A: Array, Y: Array, B: Array, lo: int, hi: int) -> float:
    """``½ Σ (x̂_Y² - x̂_A²)`` over the missing entries of some rows, without cancellation, in float64."""
    r = A.shape[1]
    step = np.empty(r)
    half = np.empty(r)
    total = 0.0
    for i in range(lo, hi):
        for t in range(r):
            step[t] = np.float64(Y[i, t]) - np.float64(A[i, t])
            half[t] = 0.5 * (np.float64(Y[i, t]) + np.float64(A[i, t]))
        for p in range(indptr[i], indptr[i + 1]):
            b = B[indices[p]]
            rise = 0.0
            xhat = 0.0
            for t in range(r):
                rise += step[t] * np.float64(b[t])
                xhat += half[t] * np.float64(b[t])
            total += rise * xhat
    return total


@kernel
def squared_error(X: Array, indptr: Array, indices: Array, A: Array, Bt: Array, lo: int, hi: int) -> float:
    """``Σ (X_ij - x̂_ij)²`` over the observed entries of the rows ``lo <= i < hi``, ``x̂ = A Bᵀ``, in float64."""
    r, n = Bt.shape
    row = np.empty(n)
    total = 0.0
    for i in range(lo, hi):
        for j in range(n):
            row[j] = -np.float64(X[i, j])
        for t in range(r):
            a = np.float64(A[i, t])
            for j in range(n):
                row[j] += a * Bt[t, j]
        for p in range(indptr[i], indptr[i + 1]):
            row[indices[p]] = 0.0
        for j in range(n):
            total += row[j] * row[j]
    return total
