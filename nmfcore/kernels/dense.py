"""Products with a dense matrix.

OpenBLAS runs a product with few columns far below the machine's limit, and its sums depend on the number of its
threads. Both products here are made of blocks of sums that stay in registers: six or eight rows of X, or components, by
two vectors. Of X they take so much at a time as a cache keeps until all components have had it. Where rows of X are
long, a walk down its columns would wait for memory at every step: there a piece of it is copied first, row by row (a
third to twice as fast). The next piece of X is asked for while sums are made of this one (up to twice as fast again).
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel
from nmfcore.kernels.vectors.products import (
    CACHE_LINE,
    HEIGHT,
    LINE,
    columns_panel,
    columns_panel_low,
    prefetch,
    rows_panel,
    rows_panel_narrow,
)

COLUMNS_AT_ONCE = 512  # of the rows of a panel: 24 or 32 KiB, and of B as much as a second-level cache holds
ROWS_AT_ONCE = 64  # of 512 columns of X: 256 KiB, in the second-level cache
SHORT = 4096  # bytes of a row of X, up to which columns are walked down as they are
AHEAD = 2  # rows of X
NEAR = 2097152  # bytes of X, of which so many may be in the second-level cache since the last product
LONG = 2048  # bytes of each row of a piece, that the processor itself has noticed to be read one after the other
GRAM_ROWS = 256  # of B, whose sums stay in registers


@kernel
def rows_times(X: Array, B: Array, lo: int, hi: int, out: Array) -> None:
    """``out[i - lo, t] = Σ_j X[i, j] B[j, t]`` for the rows ``lo <= i < hi``; ``X`` (m, n), ``B`` (n, r)."""
    n, r, wide = X.shape[1], B.shape[1], LINE // X.itemsize
    for first in range(0, n, COLUMNS_AT_ONCE):
        last = min(first + COLUMNS_AT_ONCE, n)
        # The last rows are done in a block that repeats one: the same sums in the same order wherever a
        # row stands, so a row's result does not depend on its neighbours.
        for i in range(lo, hi, HEIGHT):
            for t in range(0, r, 2 * wide):
                if r - t > wide:
                    rows_panel(X, i, hi, B, t, first, last, out, i - lo, first)
                else:
                    rows_panel_narrow(X, i, hi, B, t, first, last, out, i - lo, first)
    if n == 0:
        out[:] = 0


@kernel
def columns_times(X: Array, A: Array, lo: int, hi: int, out: Array) -> None:
    """``out[j - lo, t] = Σ_i X[i, j] A[i, t]`` for the columns ``lo <= j < hi``; ``X`` (m, n), ``A`` (m, r)."""
    m, n = X.shape
    r, wide = A.shape[1], 2 * LINE // X.itemsize
    blocks = (hi - lo + wide - 1) // wide
    sums = np.zeros((r, blocks * wide), X.dtype)
    copied = n * X.itemsize > SHORT
    piece = np.empty((blocks * ROWS_AT_ONCE if copied else 0, wide), X.dtype)
    asked = X.size * X.itemsize > NEAR and (not copied or (hi - lo) * X.itemsize < LONG)
    panels = blocks * ((r + HEIGHT - 1) // HEIGHT)
    for first in range(0, m, ROWS_AT_ONCE):
        count = min(ROWS_AT_ONCE, m - first)
        if copied:
            _copy_blocks(X, first, count, lo, hi, piece)
        done, following = 0, min(ROWS_AT_ONCE, m - first - count) if asked else 0
        for b in range(blocks):
            for t in range(0, r, HEIGHT):
                if following:
                    _ask_for(X, first + count, following, lo, hi, done, panels)
                    done += 1
                if copied and r - t > HEIGHT // 2:
                    columns_panel(piece, b * ROWS_AT_ONCE, 0, count, A, first, t, sums, b * wide)
                elif copied:
                    columns_panel_low(piece, b * ROWS_AT_ONCE, 0, count, A, first, t, sums, b * wide)
                elif r - t > HEIGHT // 2:
                    columns_panel(X, first, lo + b * wide, count, A, first, t, sums, b * wide)
                else:
                    columns_panel_low(X, first, lo + b * wide, count, A, first, t, sums, b * wide)
    for j in range(hi - lo):
        for t in range(r):
            out[j, t] = sums[t, j]


@kernel
def _copy_blocks(X: Array, first: int, count: int, lo: int, hi: int, piece: Array) -> None:
    """Columns ``lo <= j < hi`` of some rows, each block of them one below the other."""
    wide, whole = piece.shape[1], (hi - lo) // piece.shape[1]
    for i in range(count):
        row, ahead = X[first + i, lo:hi], min(first + i + AHEAD, X.shape[0] - 1)
        for b in range(whole):
            prefetch(X, ahead, lo + b * wide)
            prefetch(X, ahead, lo + b * wide + wide // 2)
            x, to = row[b * wide : (b + 1) * wide], piece[b * ROWS_AT_ONCE + i]
            for q in range(wide):
                to[q] = x[q]
        if whole * wide < hi - lo:
            x, to = row[whole * wide :], piece[whole * ROWS_AT_ONCE + i]
            to[:] = 0
            for q in range(x.size):
                to[q] = x[q]


@kernel
def _ask_for(X: Array, first: int, count: int, lo: int, hi: int, part: int, parts: int) -> None:
    """Have one of some equal parts of ``X[first : first + count, lo:hi]`` brought near, line by line."""
    line = CACHE_LINE // X.itemsize
    lines = (hi - lo + line - 1) // line
    each = (count * lines + parts - 1) // parts
    i, k = divmod(part * each, lines)
    for _ in range(min(each, count * lines - part * each)):
        prefetch(X, first + i, lo + k * line)
        k += 1
        if k == lines:
            i, k = i + 1, 0


@kernel
def gram(B: Array, out: Array) -> None:
    """``out = BᵀB`` in float64 of ``B`` (n, r), whatever its dtype: exactly symmetric, in one read of ``B``."""
    n, r = B.shape
    wide = 2 * LINE // 8
    sums = np.zeros((r, r + -r % wide))
    tile = np.empty((GRAM_ROWS, r))
    flat, numbers = B.reshape(-1), tile.reshape(-1)
    for first in range(0, n, GRAM_ROWS):
        count = min(GRAM_ROWS, n - first)
        b = flat[first * r : (first + count) * r]
        for p in range(b.size):
            numbers[p] = b[p]
        for j in range(0, r, wide):
            for t in range(0, min(r, j + wide), HEIGHT):  # what is below the diagonal is not needed
                if r - t > HEIGHT // 2:
                    columns_panel(tile, 0, j, count, tile, 0, t, sums, j)
                else:
                    columns_panel_low(tile, 0, j, count, tile, 0, t, sums, j)
    for s in range(r):
        for t in range(s, r):
            out[s, t] = out[t, s] = sums[s, t]


@kernel
def squared_error(X: Array, A: Array, Bt: Array, lo: int, hi: int) -> float:
    """``Σ_ij (X_ij - x̂_ij)²`` over the rows ``lo <= i < hi``, ``x̂ = A Bᵀ``, in float64."""
    r, n = Bt.shape
    wide = LINE // 8
    a = A[lo:hi].astype(np.float64)
    b = np.zeros((r, COLUMNS_AT_ONCE + 2 * wide))  # not a power of two: its rows would share places of the cache
    product = np.empty((HEIGHT, COLUMNS_AT_ONCE + 2 * wide))
    total = 0.0
    for first in range(0, n, COLUMNS_AT_ONCE):
        count = min(COLUMNS_AT_ONCE, n - first)
        for t in range(r):
            for j in range(count):
                b[t, j] = Bt[t, first + j]
        for i in range(0, hi - lo, HEIGHT):
            for j in range(0, count, 2 * wide):
                rows_panel(a, i, hi - lo, b, j, 0, r, product, 0, 0)
            for k in range(min(HEIGHT, hi - lo - i)):
                x, estimate = X[lo + i + k, first : first + count], product[k]
                for j in range(count):
                    error = np.float64(x[j]) - estimate[j]
                    total += error * error
    return total
