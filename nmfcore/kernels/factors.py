"""Small operations on one factor: moments, extrapolation, and the exact change of the objective.

Sums are float64 whatever the dtype of the factor.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel
from nmfcore.kernels.vectors.products import HEIGHT, LINE, rows_panel, rows_panel_narrow

TOGETHER = 64  # rows whose products with G are formed at a time
SIDE_BY_SIDE = 64  # numbers of a flat array: LLVM does not look for a maximum in vectors by itself
ABREAST = 16  # rows whose moments are summed side by side: a row alone makes too short a loop


@kernel
def column_moments(A: Array) -> Array:
    """The sum and the sum of squares of each column of ``A`` (m, r), as float64 (2, r)."""
    m, r = A.shape
    flat, wide = A.reshape(-1), ABREAST * r
    sums = np.zeros((2, wide))
    for first in range(0, A.size - wide + 1, wide):
        a = flat[first : first + wide]
        for p in range(wide):
            x = np.float64(a[p])
            sums[0, p] += x
            sums[1, p] += x * x
    moments = np.zeros((2, r))
    for k in range(ABREAST):
        for t in range(r):
            moments[0, t] += sums[0, k * r + t]
            moments[1, t] += sums[1, k * r + t]
    for i in range(m // ABREAST * ABREAST, m):
        for t in range(r):
            x = np.float64(A[i, t])
            moments[0, t] += x
            moments[1, t] += x * x
    return moments


@kernel
def summary(values: Array) -> tuple[bool, float, float, int, float]:
    """Of a flat array, in one read, what :class:`nmfcore.data.protocol.Summary` has."""
    valid, largest, nonzero, squares = np.zeros((4, SIDE_BY_SIDE))
    smallest = np.full(SIDE_BY_SIDE, np.inf)
    whole = values.size // SIDE_BY_SIDE * SIDE_BY_SIDE
    for first in range(0, whole, SIDE_BY_SIDE):
        some = values[first : first + SIDE_BY_SIDE]
        for p in range(SIDE_BY_SIDE):
            x = np.float64(some[p])
            valid[p] += np.float64((x >= 0.0) & (x < np.inf))
            largest[p] = x if x > largest[p] else largest[p]
            smallest[p] = x if (x > 0.0) & (x < smallest[p]) else smallest[p]
            nonzero[p] += np.float64(x != 0.0)
            squares[p] += x * x
    for q in range(whole, values.size):
        x = np.float64(values[q])
        valid[0] += np.float64((x >= 0.0) & (x < np.inf))
        largest[0] = x if x > largest[0] else largest[0]
        smallest[0] = x if (x > 0.0) & (x < smallest[0]) else smallest[0]
        nonzero[0] += np.float64(x != 0.0)
        squares[0] += x * x
    return valid.sum() == values.size, largest.max(), smallest.min(), int(nonzero.sum()), squares.sum()


@kernel
def weighted_squares(A: Array, counts: Array) -> float:
    """``Σ_i counts_i Σ_t a_it²``, in float64; one count stands for all rows."""
    m, r = A.shape
    total = 0.0
    for i in range(m):
        squares = 0.0
        for t in range(r):
            squares += np.float64(A[i, t]) * np.float64(A[i, t])
        total += squares * (counts[i] if counts.size > 1 else counts[0])
    return total


@kernel
def sum_of_squares(values: Array) -> float:
    """``Σ x²`` of a flat array, in float64."""
    total = 0.0
    for p in range(values.size):
        total += np.float64(values[p]) * np.float64(values[p])
    return total


def extrapolate(A: Array, last: Array, momentum: float, floor: float) -> Array:
    """``Y = max(floor·A, A + momentum (A - last))``: the step from ``last`` to ``A`` carried on, still feasible."""
    Y = np.empty_like(A)  # NumPy's memory comes in large pages, a kernel's does not
    _extrapolate(A, last, momentum, floor, Y)
    return Y


@kernel
def _extrapolate(A: Array, last: Array, momentum: float, floor: float, Y: Array) -> None:
    a, b, y = A.reshape(-1), last.reshape(-1), Y.reshape(-1)  # long loops: rows are short
    for p in range(a.size):
        low, carried = floor * a[p], a[p] + momentum * (a[p] - b[p])
        y[p] = carried if carried > low else low


@kernel
def change(A: Array, Y: Array, C: Array, G: Array, l1: float, l2: float, lo: int, hi: int) -> float:
    """``f(Y) - f(A)`` for ``f(A) = ½<A, A G> - <A, C> + l1 ΣA + ½ l2 ‖A‖²`` over some rows, without cancellation.

    For a quadratic the change is the step times the gradient half way.
    """
    r, wide = A.shape[1], LINE // 8
    double = G.astype(np.float64)  # as what it is multiplied with
    half, product = np.empty((TOGETHER, r)), np.empty((TOGETHER, r))
    flat_half, flat_product = half.reshape(-1), product.reshape(-1)
    flat_A, flat_Y, flat_C = A.reshape(-1), Y.reshape(-1), C.reshape(-1)
    total = 0.0
    for first in range(lo, hi, TOGETHER):
        count = min(TOGETHER, hi - first)
        here = slice(first * r, (first + count) * r)
        a, y, c = flat_A[here], flat_Y[here], flat_C[here]
        for p in range(count * r):
            flat_half[p] = 0.5 * (np.float64(a[p]) + np.float64(y[p]))
        for i in range(0, count, HEIGHT):
            for t in range(0, r, 2 * wide):
                if r - t > wide:
                    rows_panel(half, i, count, double, t, 0, r, product, i, 0)
                else:
                    rows_panel_narrow(half, i, count, double, t, 0, r, product, i, 0)
        for p in range(count * r):
            gradient = flat_product[p] + l1 + l2 * flat_half[p] - np.float64(c[p])
            total += (np.float64(y[p]) - np.float64(a[p])) * gradient
    return total
