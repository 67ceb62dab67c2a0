"""Products over observed entries only: every row has its own normal equations.

Entries stand in compressed rows. ``weights`` is empty when every entry counts once.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel


@kernel
def row_systems(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    lo: int,
    hi: int,
    C: Array,
    G: Array,
) -> None:
    """``C[k] = Σ_j ω_ij x_ij B[j]`` and ``G[k] = Σ_j ω_ij B[j] B[j]ᵀ`` for the rows ``i = lo + k < hi``.

    Two entries are taken at a time, so that each number of ``G`` is loaded and stored half as often.
    """
    r = B.shape[1]
    zero = B.dtype.type(0)
    one = B.dtype.type(1)
    for i in range(lo, hi):
        c = C[i - lo]
        g = G[i - lo]
        c[:] = zero
        g[:] = zero
        p = indptr[i]
        end = indptr[i + 1]
        while p < end:
            pair = p + 1 < end
            q = p + 1 if pair else p
            wp = weights[p] if weights.size else one
            wq = (weights[q] if weights.size else one) if pair else zero
            bp = B[indices[p]]
            bq = B[indices[q]]
            xp = wp * values[p]
            xq = wq * values[q]
            for s in range(r):
                c[s] += xp * bp[s] + xq * bq[s]
                sp = wp * bp[s]
                sq = wq * bq[s]
                gs = g[s]
                for t in range(r):
                    gs[t] += sp * bp[t] + sq * bq[t]
            p += 2


@kernel
def squared_error(
    indptr: Array, indices: Array, values: Array, weights: Array, A: Array, B: Array, lo: int, hi: int
) -> float:
    """``Σ ω (x - A[i]·B[j])²`` over the observed entries of the rows ``lo <= i < hi``, in float64."""
    r = A.shape[1]
    total = 0.0
    for i in range(lo, hi):
        for p in range(indptr[i], indptr[i + 1]):
            error = -np.float64(values[p])
            b = B[indices[p]]
            for t in range(r):
                error += np.float64(A[i, t]) * np.float64(b[t])
            total += error * error * (np.float64(weights[p]) if weights.size else 1.0)
    return total


@kernel
def change(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    A: Array,
    Y: Array,
    B: Array,
    l1: float,
    l2: float,
    lo: int,
    hi: int,
) -> float:
    """``f(Y) - f(A)`` over some rows, without cancellation: the step times the gradient half way."""
    r = A.shape[1]
    step = np.empty(r)
    half = np.empty(r)
    total = 0.0
    for i in range(lo, hi):
        for t in range(r):
            step[t] = np.float64(Y[i, t]) - np.float64(A[i, t])
            half[t] = 0.5 * (np.float64(Y[i, t]) + np.float64(A[i, t]))
            total += step[t] * (l1 + l2 * half[t])
        for p in range(indptr[i], indptr[i + 1]):
            b = B[indices[p]]
            rise = 0.0
            xhat = 0.0
            for t in range(r):
                rise += step[t] * np.float64(b[t])
                xhat += half[t] * np.float64(b[t])
            error = xhat - np.float64(values[p])
            total += rise * error * (np.float64(weights[p]) if weights.size else 1.0)
    return total
