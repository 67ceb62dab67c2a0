r"""The best W for a known H: exact non-negative least squares, row by row.

Each row solves ``min ½ aᵀ G a - cᵀ a + l1 Σ a + ½ l2 ‖a‖²`` over ``a >= 0``, starting from nothing, so its result
depends on no other row. Coordinate descent finds which entries are positive in a few sweeps, but may take thousands
to place them where G is ill conditioned; on the positive entries alone the minimum is the solution of a linear
system. So the two take turns: sweeps, then a Cholesky solve on the support, until the KKT conditions hold.

References
----------
Lawson and Hanson, "Solving least squares problems", 1974, chapter 23 (the conditions, and the step back when the
solve leaves the feasible region); Kim and Park, SISC 33, 2011 (supports found by exchange).
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data
from nmfcore.kernels._jit import kernel
from nmfcore.parallel import Team
from nmfcore.solvers.base import Penalty

ROUNDS = 500
SWEEPS = 10
TOLERANCE = 1e-13  # of the gradient, relative to what it is made of


def solve_rows(data: Data, Ht: Array, penalty: Penalty, team: Team) -> Array:
    """The exact ``W`` (m, r) for ``Ht`` (n, r): each row to the accuracy of float64, whatever the dtype of X."""
    m, r = data.shape[0], Ht.shape[1]
    normal = data.normal(Ht)
    W = np.zeros((m, r))

    def slab(lo: int, hi: int) -> None:
        for start, stop, C, G in normal.blocks(lo, hi):
            _nnls_rows(C.astype(np.float64), G.astype(np.float64), *penalty, SWEEPS, ROUNDS, TOLERANCE, W[start:stop])

    team.map(slab, data.slabs(r))
    return W.astype(data.dtype)


@kernel
def _nnls_rows(C: Array, G: Array, l1: float, l2: float, sweeps: int, rounds: int, tolerance: float, W: Array) -> None:
    r = C.shape[1]
    own = 1 if G.shape[0] > 1 else 0
    g = np.empty(r)
    solution = np.empty(r)
    L = np.empty((r, r))
    support = np.empty(r, np.int64)
    for i in range(C.shape[0]):
        a, c, Gi = W[i], C[i], G[i * own]
        scale = l1
        for t in range(r):
            g[t] = l1 - c[t]  # the gradient at a = 0
            scale = max(scale, abs(c[t]))
        for _ in range(rounds):
            for _ in range(sweeps):
                for t in range(r):
                    curvature = Gi[t, t] + l2
                    if curvature > 1e-300:
                        step = -g[t] / curvature
                        step = step if step > -a[t] else -a[t]
                        if step != 0.0:
                            a[t] += step
                            for s in range(r):
                                g[s] += step * Gi[t, s]
                            g[t] += l2 * step
            if _solve_on_support(a, c, Gi, l1, l2, support, L, solution):
                a[:] = solution
            worst = 0.0
            for t in range(r):  # the gradient afresh: sums of steps drift
                g[t] = l1 + l2 * a[t] - c[t]
                for s in range(r):
                    g[t] += a[s] * Gi[t, s]
                worst = max(worst, abs(g[t]) if a[t] > 0.0 else -g[t])
            if worst <= tolerance * scale:
                break


@kernel
def _solve_on_support(
    a: Array, c: Array, G: Array, l1: float, l2: float, support: Array, L: Array, solution: Array
) -> bool:
    """Minimise over the positive entries of ``a`` alone; True if the minimum is positive there."""
    k = 0
    for t in range(a.size):
        solution[t] = 0.0
        if a[t] > 0.0:
            support[k] = t
            k += 1
    for p in range(k):  # Cholesky, row by row
        tp = support[p]
        for q in range(p + 1):
            total = G[tp, support[q]] + (l2 if p == q else 0.0)
            diagonal = total
            for s in range(q):
                total -= L[p, s] * L[q, s]
            if p == q:
                if total <= 1e-13 * diagonal:  # components that repeat each other: leave them to the sweeps
                    return False
                L[p, p] = np.sqrt(total)
            else:
                L[p, q] = total / L[q, q]
    for p in range(k):
        total = c[support[p]] - l1
        for q in range(p):
            total -= L[p, q] * solution[support[q]]
        solution[support[p]] = total / L[p, p]
    for p in range(k - 1, -1, -1):
        total = solution[support[p]]
        for q in range(p + 1, k):
            total -= L[q, p] * solution[support[q]]
        solution[support[p]] = total / L[p, p]
        if not solution[support[p]] > 0.0:
            return False
    return True
