r"""The best W for a known H: exact non-negative least squares, row by row.

Each row solves ``min ½ aᵀ G a - cᵀ a + l1 Σ a + ½ l2 ‖a‖²`` over ``a >= 0``, starting from nothing, so its result
depends on no other row. Coordinate descent finds which entries are positive in a few sweeps, but may take thousands
to place them where G is ill conditioned; on the positive entries alone the minimum is the solution of a linear
system. So the two take turns: sweeps, then Newton's step on the support, until the KKT conditions hold. A step that
would leave the feasible region ends at its boundary, where an entry leaves the support. Both only ever lower the
objective and the second ends at the minimum for its support, so no support comes twice.

Under Kullback-Leibler the rows take Newton's steps (:mod:`nmfcore.solvers.hals`) until their own residual is 1e-11,
under another β-divergence multiplicative updates, at most 5000 each, until what a step promises is 1e-18 of ``Σ x^β``.

References
----------
Lawson and Hanson, "Solving least squares problems", 1974, chapter 23 (the conditions, and the step cut short at the
boundary); Kim and Park, SISC 33, 2011 (supports found by exchange).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data, Rows
from nmfcore.kernels import divergence
from nmfcore.kernels._jit import kernel
from nmfcore.losses.protocol import Loss
from nmfcore.solvers import MU, Penalty

NEWTON_STEPS = 200  # of a row under Kullback-Leibler, as many as it takes
UPDATES = 5000  # of a row under another divergence
CLOSE = 1e-9  # the root of what a step of such a row promises, as a share of Σ x^β
ROUNDS = 200
SWEEPS = 10
TOLERANCE = 1e-13  # of each entry of the gradient, relative to what it is made of


def solve_rows(loss: Loss, data: Data, Ht: Array, penalty: Penalty, team: Team) -> Array:
    """The best ``W`` (m, r) for ``Ht`` (n, r), both float64, as the data should be: normal equations square errors."""
    if loss.beta == 2.0:
        return _least_squares(data, Ht, penalty, team)
    W = np.zeros((data.shape[0], Ht.shape[1]))
    equations = loss.equations(data, Ht)
    solve = _newton if loss.beta == 1.0 else _multiply

    def slab(lo: int, hi: int) -> None:
        for start, stop, rows in data.rows(lo, hi, zeros=loss.beta != 1.0):
            solve(equations, rows, penalty.rows(slice(start, stop)), W[start:stop])

    team.map(slab, equations.slabs(Ht.shape[1], NEWTON_STEPS))
    return W


def _newton(e: Any, rows: Rows, penalty: Penalty, W: Array) -> None:
    tally = np.zeros(2 * W.shape[1] + 2)
    arrays = (*rows, e.B, e.D)
    l1, ridge = penalty.l1, penalty.ridge
    divergence.newton_rows(*arrays, W.copy(), l1, ridge, e.floor, 30, 1e-6, NEWTON_STEPS, 1e-11, W, tally)


def _multiply(e: Any, rows: Rows, penalty: Penalty, W: Array) -> None:
    """Multiplicative updates, of one row after the other, so that none waits for another or ends with it."""
    r, solver = W.shape[1], MU(extrapolate=False)
    for i in range(len(W)):
        row, own = rows._replace(indptr=rows.indptr[i : i + 2]), penalty.rows(slice(i, i + 1))
        x = row.values[row.indptr[0] : row.indptr[1]]
        if not row.indices.size:  # dense: the products count columns from where the row begins
            row = rows._replace(indptr=np.array([0, x.size]), values=x)
        a, out = np.full((1, r), float(x.mean()) / r if x.size else 0.0), np.zeros((1, r))
        size = float((x[x > 0] ** e.beta).sum(dtype=np.float64))
        for _ in range(UPDATES):
            tally = np.zeros(2 * r + 2)
            solver.descend(e, row, a, own, 1, out, tally)
            if tally[:r].sum() <= CLOSE**2 * size:
                break
            a, out = out, a
        W[i] = a


def _least_squares(data: Data, Ht: Array, penalty: Penalty, team: Team) -> Array:
    m, r = data.shape[0], Ht.shape[1]
    normal = data.normal(Ht)
    W = np.zeros((m, r))
    if m == 0:
        return W.astype(data.dtype)

    def slab(lo: int, hi: int) -> None:
        for start, stop, C, G in normal.blocks(lo, hi):
            C, G, own = C.astype(np.float64), G.astype(np.float64), penalty.rows(slice(start, stop))
            _nnls_rows(C, G, own.l1, own.ridge, SWEEPS, ROUNDS, TOLERANCE, W[start:stop])

    team.map(slab, data.slabs(r, moving=m * float(r) ** 3))
    return W.astype(data.dtype)


@kernel
def _nnls_rows(
    C: Array, G: Array, l1: float, ridge: Array, sweeps: int, rounds: int, tolerance: float, W: Array
) -> None:
    r = C.shape[1]
    own = 1 if G.shape[0] > 1 else 0
    own_ridge = 1 if ridge.size > 1 else 0
    g = np.empty(r)
    step = np.empty(r)
    L = np.empty((r, r))
    support = np.empty(r, np.int64)
    for i in range(C.shape[0]):
        a, c, Gi, l2 = W[i], C[i], G[i * own], ridge[i * own_ridge]
        _gradient(a, c, Gi, l1, l2, g)
        for _ in range(rounds):
            for _ in range(sweeps):
                for t in range(r):
                    curvature = Gi[t, t] + l2
                    if curvature > 2.3e-308:  # the least that has an inverse
                        move = -g[t] / curvature
                        move = move if move > -a[t] else -a[t]
                        if move != 0.0:
                            a[t] += move
                            for s in range(r):
                                g[s] += move * Gi[t, s]
                            g[t] += l2 * move
            _gradient(a, c, Gi, l1, l2, g)  # afresh: sums of steps drift
            while _newton_step(a, g, Gi, l2, support, L, step):
                _gradient(a, c, Gi, l1, l2, g)
            if _gradient(a, c, Gi, l1, l2, g) <= tolerance:
                break


@kernel
def _gradient(a: Array, c: Array, G: Array, l1: float, l2: float, g: Array) -> float:
    """The gradient, into ``g``; returns its largest violation of KKT, as a share of what the entry is made of."""
    worst = 0.0
    for t in range(a.size):
        pull = l1 + l2 * a[t]
        for s in range(a.size):
            pull += a[s] * G[t, s]
        g[t] = pull - c[t]
        wrong = abs(g[t]) if a[t] > 0.0 else -g[t]
        if wrong > worst * (pull + c[t]):
            worst = wrong / (pull + c[t])
    return worst


@kernel
def _newton_step(a: Array, g: Array, G: Array, l2: float, support: Array, L: Array, step: Array) -> bool:
    """Step to the minimum over the positive entries of ``a``; True if it was cut short, and one of them is now 0."""
    k = 0
    for t in range(a.size):  # Cholesky, row by row; an entry whose component repeats others stays as it is
        if a[t] > 0.0:
            pivot = G[t, t] + l2
            for q in range(k):
                total = G[t, support[q]]
                for s in range(q):
                    total -= L[k, s] * L[q, s]
                L[k, q] = total / L[q, q]
                pivot -= L[k, q] * L[k, q]
            if pivot > 1e-14 * (G[t, t] + l2):
                L[k, k] = np.sqrt(pivot)
                support[k] = t
                k += 1
    for p in range(k):
        step[p] = -g[support[p]]
        for q in range(p):
            step[p] -= L[p, q] * step[q]
        step[p] /= L[p, p]
    share, first = 1.0, -1
    for p in range(k - 1, -1, -1):
        for q in range(p + 1, k):
            step[p] -= L[q, p] * step[q]
        step[p] /= L[p, p]
        if step[p] * share < -a[support[p]]:
            share, first = -a[support[p]] / step[p], p
    for p in range(k):
        end = a[support[p]] + share * step[p]
        a[support[p]] = end if end > 0.0 and p != first else 0.0
    return first >= 0
