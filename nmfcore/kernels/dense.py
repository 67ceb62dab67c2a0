"""Products with a dense matrix.

OpenBLAS runs a product with few columns far below the machine's limit, and its sums depend on the number of
its threads. Both products here keep a block of 4 x 4 sums in registers while they run along a contiguous row,
so each number loaded is used four times.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel

ROWS_AT_ONCE = 64  # times 512 columns: 256 KiB of X, read from the second-level cache once per four components


@kernel
def rows_times(X: Array, Bt: Array, lo: int, hi: int, out: Array) -> None:
    """``out[i - lo, t] = Σ_j X[i, j] Bt[t, j]`` for the rows ``lo <= i < hi``; ``X`` (m, n), ``Bt`` (r, n)."""
    n = X.shape[1]
    r = Bt.shape[0]
    zero = X.dtype.type(0)
    i = lo
    while i < hi:
        # The last rows and components are done in blocks that repeat an index: the same sums in the same
        # order wherever a row stands, so a row's result does not depend on its neighbours.
        i0 = i
        i1 = min(i + 1, hi - 1)
        i2 = min(i + 2, hi - 1)
        i3 = min(i + 3, hi - 1)
        for t in range(0, r, 4):
            t1 = min(t + 1, r - 1)
            t2 = min(t + 2, r - 1)
            t3 = min(t + 3, r - 1)
            s00 = s01 = s02 = s03 = zero
            s10 = s11 = s12 = s13 = zero
            s20 = s21 = s22 = s23 = zero
            s30 = s31 = s32 = s33 = zero
            for j in range(n):
                x0 = X[i0, j]
                x1 = X[i1, j]
                x2 = X[i2, j]
                x3 = X[i3, j]
                b0 = Bt[t, j]
                b1 = Bt[t1, j]
                b2 = Bt[t2, j]
                b3 = Bt[t3, j]
                s00 += x0 * b0
                s01 += x0 * b1
                s02 += x0 * b2
                s03 += x0 * b3
                s10 += x1 * b0
                s11 += x1 * b1
                s12 += x1 * b2
                s13 += x1 * b3
                s20 += x2 * b0
                s21 += x2 * b1
                s22 += x2 * b2
                s23 += x2 * b3
                s30 += x3 * b0
                s31 += x3 * b1
                s32 += x3 * b2
                s33 += x3 * b3
            block = ((s00, s01, s02, s03), (s10, s11, s12, s13), (s20, s21, s22, s23), (s30, s31, s32, s33))
            for a in range(min(4, hi - i)):
                for b in range(min(4, r - t)):
                    out[i - lo + a, t + b] = block[a][b]
        i += 4


@kernel
def columns_times(X: Array, At: Array, lo: int, hi: int, out: Array) -> None:
    """``out[j - lo, t] = Σ_i X[i, j] At[t, i]`` for the columns ``lo <= j < hi``; ``X`` (m, n), ``At`` (r, m)."""
    m = X.shape[0]
    r = At.shape[0]
    width = hi - lo
    padded = (r + 3) // 4 * 4
    sums = np.zeros((padded, width), X.dtype)
    for first in range(0, m, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, m)
        for t in range(0, r, 4):
            t1 = min(t + 1, r - 1)
            t2 = min(t + 2, r - 1)
            t3 = min(t + 3, r - 1)
            c0, c1, c2, c3 = sums[t], sums[t + 1], sums[t + 2], sums[t + 3]
            i = first
            while i + 4 <= last:
                x0 = X[i, lo:hi]
                x1 = X[i + 1, lo:hi]
                x2 = X[i + 2, lo:hi]
                x3 = X[i + 3, lo:hi]
                a00, a01, a02, a03 = At[t, i], At[t, i + 1], At[t, i + 2], At[t, i + 3]
                a10, a11, a12, a13 = At[t1, i], At[t1, i + 1], At[t1, i + 2], At[t1, i + 3]
                a20, a21, a22, a23 = At[t2, i], At[t2, i + 1], At[t2, i + 2], At[t2, i + 3]
                a30, a31, a32, a33 = At[t3, i], At[t3, i + 1], At[t3, i + 2], At[t3, i + 3]
                for j in range(width):
                    c0[j] += x0[j] * a00 + x1[j] * a01 + x2[j] * a02 + x3[j] * a03
                    c1[j] += x0[j] * a10 + x1[j] * a11 + x2[j] * a12 + x3[j] * a13
                    c2[j] += x0[j] * a20 + x1[j] * a21 + x2[j] * a22 + x3[j] * a23
                    c3[j] += x0[j] * a30 + x1[j] * a31 + x2[j] * a32 + x3[j] * a33
                i += 4
            while i < last:
                x0 = X[i, lo:hi]
                a00, a10, a20, a30 = At[t, i], At[t1, i], At[t2, i], At[t3, i]
                for j in range(width):
                    c0[j] += x0[j] * a00
                    c1[j] += x0[j] * a10
                    c2[j] += x0[j] * a20
                    c3[j] += x0[j] * a30
                i += 1
    for j in range(width):
        for t in range(r):
            out[j, t] = sums[t, j]


@kernel
def squared_error(X: Array, A: Array, Bt: Array, lo: int, hi: int) -> float:
    """``Σ_ij (X_ij - x̂_ij)²`` over the rows ``lo <= i < hi``, ``x̂ = A Bᵀ``, in float64."""
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
        for j in range(n):
            total += row[j] * row[j]
    return total
