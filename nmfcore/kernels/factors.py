"""Small operations on one factor: moments, extrapolation, and the exact change of the objective.

Sums are float64 whatever the dtype of the factor.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel


@kernel
def column_moments(A: Array) -> Array:
    """The sum and the sum of squares of each column of ``A`` (m, r), as float64 (2, r)."""
    m, r = A.shape
    moments = np.zeros((2, r))
    for i in range(m):
        for t in range(r):
            a = np.float64(A[i, t])
            moments[0, t] += a
            moments[1, t] += a * a
    return moments


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
    m, r = A.shape
    for i in range(m):
        for t in range(r):
            low = floor * A[i, t]
            y = A[i, t] + momentum * (A[i, t] - last[i, t])
            Y[i, t] = y if y > low else low


@kernel
def change(A: Array, Y: Array, C: Array, G: Array, l1: float, l2: float, lo: int, hi: int) -> float:
    """``f(Y) - f(A)`` for ``f(A) = ½<A, A G> - <A, C> + l1 ΣA + ½ l2 ‖A‖²`` over some rows, without cancellation.

    For a quadratic the change is the step times the gradient half way.
    """
    r = A.shape[1]
    half = np.empty(r)
    total = 0.0
    for i in range(lo, hi):
        for t in range(r):
            half[t] = 0.5 * (np.float64(A[i, t]) + np.float64(Y[i, t]))
        for t in range(r):
            step = np.float64(Y[i, t]) - np.float64(A[i, t])
            if step != 0.0:
                gradient = l1 + l2 * half[t] - np.float64(C[i, t])
                for s in range(r):
                    gradient += half[s] * G[t, s]
                total += step * gradient
    return total
