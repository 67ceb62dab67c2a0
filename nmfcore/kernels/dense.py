"""Products with a dense matrix.

OpenBLAS runs a product with few columns far below the machine's limit, and its sums depend on the number of
its threads. Both products here run along contiguous rows of X with a block of numbers in registers, 4 x 4 sums or 6 x 4
coefficients, so each number loaded is used four times. The last one or two components are done as a pair.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel

Four = tuple[int, int, int, int]

PIECE_BYTES = 1_048_576  # of Bt: half of a second-level cache, from which it is read once per four rows of X
GRAM_ROWS = 256  # of B, transposed while they are in the first-level cache
ROWS_AT_ONCE = 60  # times 512 columns: 240 KiB of X, read from the second-level cache once per four components


@kernel
def rows_times(X: Array, Bt: Array, lo: int, hi: int, out: Array) -> None:
    """``out[i - lo, t] = Σ_j X[i, j] Bt[t, j]`` for the rows ``lo <= i < hi``; ``X`` (m, n), ``Bt`` (r, n)."""
    n = X.shape[1]
    r = Bt.shape[0]
    zero = X.dtype.type(0)
    step = max(64, PIECE_BYTES // (r * X.itemsize))
    for first in range(0, n, step):
        last = min(first + step, n)
        for i in range(lo, hi, 4):
            # The last rows are done in a block that repeats one: the same sums in the same order wherever a
            # row stands, so a row's result does not depend on its neighbours.
            rows = (i, min(i + 1, hi - 1), min(i + 2, hi - 1), min(i + 3, hi - 1))
            for t in range(0, r - 2, 4):
                block = _four_rows_by_four(X, Bt, rows, t, first, last)
                for a in range(min(4, hi - i)):
                    for b in range(4):
                        if t + b < r:
                            out[i - lo + a, t + b] = block[a][b] + (out[i - lo + a, t + b] if first else zero)
            for t in range((r + 1) // 4 * 4, r, 2):
                pair = _four_rows_by_two(X, Bt, rows, t, first, last)
                for a in range(min(4, hi - i)):
                    for b in range(2):
                        if t + b < r:
                            out[i - lo + a, t + b] = pair[a][b] + (out[i - lo + a, t + b] if first else zero)


@kernel
def _four_rows_by_four(X: Array, Bt: Array, rows: Four, t: int, first: int, last: int) -> Any:
    i0, i1, i2, i3 = rows
    t1, t2, t3 = t + 1, t + 2, min(t + 3, Bt.shape[0] - 1)
    zero = X.dtype.type(0)
    s00 = s01 = s02 = s03 = zero
    s10 = s11 = s12 = s13 = zero
    s20 = s21 = s22 = s23 = zero
    s30 = s31 = s32 = s33 = zero
    # Unsigned: an index that might be negative would be looked at, and the loop not vectorised.
    for j in range(np.uintp(first), np.uintp(last)):
        x0, x1, x2, x3 = X[i0, j], X[i1, j], X[i2, j], X[i3, j]
        b0, b1, b2, b3 = Bt[t, j], Bt[t1, j], Bt[t2, j], Bt[t3, j]
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
    return (s00, s01, s02, s03), (s10, s11, s12, s13), (s20, s21, s22, s23), (s30, s31, s32, s33)


@kernel
def _four_rows_by_two(X: Array, Bt: Array, rows: Four, t: int, first: int, last: int) -> Any:
    i0, i1, i2, i3 = rows
    t1 = min(t + 1, Bt.shape[0] - 1)
    zero = X.dtype.type(0)
    s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = zero
    for j in range(np.uintp(first), np.uintp(last)):
        x0, x1, x2, x3 = X[i0, j], X[i1, j], X[i2, j], X[i3, j]
        b0, b1 = Bt[t, j], Bt[t1, j]
        s00 += x0 * b0
        s01 += x0 * b1
        s10 += x1 * b0
        s11 += x1 * b1
        s20 += x2 * b0
        s21 += x2 * b1
        s30 += x3 * b0
        s31 += x3 * b1
    return (s00, s01), (s10, s11), (s20, s21), (s30, s31)


@kernel
def columns_times(X: Array, At: Array, lo: int, hi: int, out: Array) -> None:
    """``out[j - lo, t] = Σ_i X[i, j] At[t, i]`` for the columns ``lo <= j < hi``; ``X`` (m, n), ``At`` (r, m)."""
    m = X.shape[0]
    r = At.shape[0]
    sums = np.zeros((r + r % 2, hi - lo), X.dtype)
    for first in range(0, m, ROWS_AT_ONCE):
        last = min(first + ROWS_AT_ONCE, m)
        for t in range(0, r - 2, 4):
            _add_rows_to_four(X, At, first, last, lo, hi, t, sums)
        for t in range((r + 1) // 4 * 4, r, 2):
            _add_rows_to_two(X, At, first, last, lo, hi, t, sums)
    for j in range(hi - lo):
        for t in range(r):
            out[j, t] = sums[t, j]


@kernel
def _add_rows_to_four(X: Array, At: Array, first: int, last: int, lo: int, hi: int, t: int, sums: Array) -> None:
    c0, c1, c2, c3 = sums[t], sums[t + 1], sums[t + 2], sums[t + 3]
    t1, t2, t3 = t + 1, t + 2, min(t + 3, At.shape[0] - 1)
    i = first
    while i + 6 <= last:
        X0, X1, X2 = X[i, lo:hi], X[i + 1, lo:hi], X[i + 2, lo:hi]
        X3, X4, X5 = X[i + 3, lo:hi], X[i + 4, lo:hi], X[i + 5, lo:hi]
        a00, a01, a02, a03, a04, a05 = _six(At, t, i)
        a10, a11, a12, a13, a14, a15 = _six(At, t1, i)
        a20, a21, a22, a23, a24, a25 = _six(At, t2, i)
        a30, a31, a32, a33, a34, a35 = _six(At, t3, i)
        for j in range(hi - lo):
            # Read once: for all LLVM knows, a sum that is stored might be one of them.
            x0, x1, x2, x3, x4, x5 = X0[j], X1[j], X2[j], X3[j], X4[j], X5[j]
            c0[j] += x0 * a00 + x1 * a01 + x2 * a02 + x3 * a03 + x4 * a04 + x5 * a05
            c1[j] += x0 * a10 + x1 * a11 + x2 * a12 + x3 * a13 + x4 * a14 + x5 * a15
            c2[j] += x0 * a20 + x1 * a21 + x2 * a22 + x3 * a23 + x4 * a24 + x5 * a25
            c3[j] += x0 * a30 + x1 * a31 + x2 * a32 + x3 * a33 + x4 * a34 + x5 * a35
        i += 6
    while i < last:
        X0 = X[i, lo:hi]
        a00, a10, a20, a30 = At[t, i], At[t1, i], At[t2, i], At[t3, i]
        for j in range(hi - lo):
            x0 = X0[j]
            c0[j] += x0 * a00
            c1[j] += x0 * a10
            c2[j] += x0 * a20
            c3[j] += x0 * a30
        i += 1


@kernel
def _six(At: Array, t: int, i: int) -> Any:
    return At[t, i], At[t, i + 1], At[t, i + 2], At[t, i + 3], At[t, i + 4], At[t, i + 5]


@kernel
def _add_rows_to_two(X: Array, At: Array, first: int, last: int, lo: int, hi: int, t: int, sums: Array) -> None:
    c0, c1 = sums[t], sums[t + 1]
    t1 = min(t + 1, At.shape[0] - 1)
    i = first
    while i + 4 <= last:
        X0, X1, X2, X3 = X[i, lo:hi], X[i + 1, lo:hi], X[i + 2, lo:hi], X[i + 3, lo:hi]
        a00, a01, a02, a03 = At[t, i], At[t, i + 1], At[t, i + 2], At[t, i + 3]
        a10, a11, a12, a13 = At[t1, i], At[t1, i + 1], At[t1, i + 2], At[t1, i + 3]
        for j in range(hi - lo):
            x0, x1, x2, x3 = X0[j], X1[j], X2[j], X3[j]
            c0[j] += x0 * a00 + x1 * a01 + x2 * a02 + x3 * a03
            c1[j] += x0 * a10 + x1 * a11 + x2 * a12 + x3 * a13
        i += 4
    while i < last:
        X0 = X[i, lo:hi]
        a00, a10 = At[t, i], At[t1, i]
        for j in range(hi - lo):
            x0 = X0[j]
            c0[j] += x0 * a00
            c1[j] += x0 * a10
        i += 1


@kernel
def gram(B: Array, out: Array) -> None:
    """``out = BᵀB`` in float64 of ``B`` (n, r), whatever its dtype: exactly symmetric, in one read of ``B``."""
    n, r = B.shape
    padded = (r + 3) // 4 * 4
    sums = np.zeros((padded, padded))
    tile = np.zeros((padded, GRAM_ROWS))  # of Bᵀ
    for first in range(0, n, GRAM_ROWS):
        width = min(GRAM_ROWS, n - first)
        for t in range(r):
            for i in range(width):
                tile[t, i] = B[first + i, t]
        for s in range(0, padded, 4):
            for t in range(s, padded, 4):
                block = _four_rows_by_four(tile, tile, (s, s + 1, s + 2, s + 3), t, 0, width)
                for a in range(4):
                    for b in range(4):
                        sums[s + a, t + b] += block[a][b]
    for s in range(r):
        for t in range(s, r):
            out[s, t] = out[t, s] = sums[s, t]


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
