"""Corrections for the few missing entries of a dense matrix: what they add to products over all entries is taken off.

``indptr`` and ``indices`` are the missing places in compressed rows. At these places X holds 0.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel

CANCELLED = 1e-3  # a diagonal of which less is left is summed over the observed entries: three digits are not missed


@kernel
def row_grams(indptr: Array, indices: Array, B: Array, shared: Array, rows: Array, G: Array) -> None:
    """``G[k] = Σ_j B[j] B[j]ᵀ`` over the observed ``j`` of the row ``rows[k]``; ``B`` (n, r), ``shared = BᵀB`` (r, r).

    In float64, and rounded at the end. What is missing is taken off ``shared``, unless it is the larger part of the
    row or next to nothing would be left: then the observed entries are summed themselves.
    """
    n, r = B.shape
    exact = np.empty((r, r))
    observed = np.empty(n, indices.dtype)
    for k in range(rows.size):
        missing = indices[indptr[rows[k]] : indptr[rows[k] + 1]]
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
        g = G[k]
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
def absent(indptr: Array, indices: Array, B: Array, lo: int, hi: int, out: Array) -> None:
    """``out[i - lo, t] = Σ_j B[j, t]²`` over the missing entries of the rows ``lo <= i < hi``, in float64."""
    out[:] = 0.0
    for i in range(lo, hi):
        for p in range(indptr[i], indptr[i + 1]):
            b = B[np.uintp(indices[p])]  # unsigned: an index that might be negative would be looked at
            for t in range(b.size):
                out[i - lo, t] += np.float64(b[t]) * np.float64(b[t])


@kernel
def impute(indptr: Array, indices: Array, B: Array, rows: Array, A: Array, before: Array, C: Array) -> float:
    """Add to ``C[k]`` what the missing entries of the row ``rows[k]`` change by: ``Σ_j Δx̂_j B[j]``.

    That is from ``before[k]`` to ``A[k]``; all are (b, r), with a row for each of ``rows``. Returns ``Σ Δx̂²``.
    """
    r = B.shape[1]
    step = np.empty(r, B.dtype)
    total = 0.0
    for k in range(rows.size):
        c = C[k]
        for t in range(r):
            step[t] = A[k, t] - before[k, t]
        for p in range(indptr[rows[k]], indptr[rows[k] + 1]):
            b = B[np.uintp(indices[p])]
            rise = B.dtype.type(0)
            for t in range(r):
                rise += step[t] * b[t]
            for t in range(r):
                c[t] += rise * b[t]
            total += np.float64(rise) * np.float64(rise)
    return total


@kernel
def violations(A: Array, C: Array, G: Array, gone: Array, l1: float, l2: float, squares: Array) -> float:
    """Add to ``squares`` (r,) the ``Σ ρ²`` of rows ``A``, for ``C`` imputed at ``A``; returns ``<A, A G - 2 C>``.

    There the gradient is that of the observed entries alone. So must the curvature be, which bounds ``ρ``: ``gone``
    (b, r) is what missing entries have of the diagonal of ``G`` (r, r).
    """
    b, r = A.shape
    g = np.empty(r, A.dtype)
    inner = 0.0
    for k in range(b):
        for t in range(r):
            g[t] = -C[k, t]
        for s in range(r):
            for t in range(r):
                g[t] += A[k, s] * G[s, t]
        for t in range(r):
            a, slope = np.float64(A[k, t]), np.float64(g[t])
            inner += a * (slope - np.float64(C[k, t]))
            slope += l1 + l2 * a
            bend = max(np.float64(G[t, t]) - gone[k, t], 0.0) + l2
            bound = bend * a if bend > 0.0 or a == 0.0 else slope  # where the curvature is 0, nothing bounds a step
            rho = slope if slope < bound else bound
            squares[t] += rho * rho
    return inner


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
def change_by_grams(A: Array, Y: Array, C: Array, G: Array, l1: float, l2: float) -> float:
    """``Σ_i f_i(Y_i) - f_i(A_i)`` of rows that each have a ``G[i]``: the step times the gradient half way."""
    rows, r = A.shape
    half = np.empty(r)
    total = 0.0
    for i in range(rows):
        for t in range(r):
            half[t] = 0.5 * (np.float64(A[i, t]) + np.float64(Y[i, t]))
        for t in range(r):
            gradient = l1 + l2 * half[t] - np.float64(C[i, t])
            for s in range(r):
                gradient += G[i, t, s] * half[s]
            total += (np.float64(Y[i, t]) - np.float64(A[i, t])) * gradient
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
