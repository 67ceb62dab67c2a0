r"""HALS: hierarchical alternating least squares, which is exact cyclic coordinate descent.

With ``B`` fixed, the objective of one row ``a`` of the factor that moves is a quadratic,

.. math:: f(a) = \tfrac12 aᵀ G a - cᵀ a + l_1 Σ a + \tfrac12 l_2 ‖a‖²,

with gradient ``g = G a - c + l1 + l2 a``. Along one coordinate ``t`` it is a parabola of curvature
``G_tt + l2``, so its minimum over ``a_t >= 0`` is known:

.. math:: a_t ← \max(0, a_t - g_t / (G_{tt} + l_2)).

That step changes the gradient by ``step · G[t]`` and lowers ``f`` by ``-step (g_t + ½ (G_tt + l2) step)``, which
is never negative. Rows do not see each other, so a sweep over the coordinates of each row in turn makes the same
iterates as the published form, which does one coordinate of all rows at a time.

**Kullback-Leibler.** There the objective of a row is ``Σ_j ω (x̂_j - x_j log x̂_j)``, with ``x̂ = B a``, and of its
Taylor expansion at the present ``a`` the same sweeps find the minimum ``a + d >= 0``:

.. math:: gᵀ d + \tfrac12 dᵀ G d, \qquad g = Σ_j ω (1 - x_j / x̂_j) b_j, \qquad G = Σ_j ω (x_j / x̂_j^2)\, b_j b_jᵀ,

which is Newton's method under ``a >= 0``. To form ``G`` costs no more than one sweep of scalar Newton steps (Hien and
Gillis) would, with its division for each entry and coordinate, up to a rank of some 50. The step is taken if the row's
objective, computed afresh, does not rise; else the multiplicative one is, which cannot raise it (with ``l2`` it might:
then it is halved). The multiplicative step also comes first where the sum of the row is off by a tenth, as at a random
start. Where ``x̂_j = 0 < x_j``, with entries of ``a`` that have sunk to nothing, Newton's step only doubles ``x̂_j``;
such entries are brought back at a hundredth of the size of the row.

References
----------
Cichocki and Phan, "Fast local algorithms for large scale nonnegative matrix and tensor factorizations", IEICE
Trans. Fundamentals E92-A, 2009 (Fast HALS); Hsieh and Dhillon, KDD 2011 (coordinate descent). More than one sweep
while the products last: Gillis and Glineur, "Accelerated multiplicative updates and hierarchical ALS algorithms",
Neural Computation 24, 2012, section 4; here each row, or block of rows, stops for itself. Rows that share G moved
together, one coordinate of 64 rows at a time: Moon et al., "PL-NMF", 2019, has the same aim. Kullback-Leibler: Hsieh
and Dhillon, KDD 2011; Hien and Gillis, "Algorithms for nonnegative matrix factorization with the Kullback-Leibler
divergence", J. Sci. Comput. 87, 2021 (both with scalar steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data, Rows
from nmfcore.kernels import divergence
from nmfcore.kernels._jit import kernel
from nmfcore.solvers.base import Penalty, check_flag

LANES = 64  # rows that move together where they share G; fewer, and LLVM unrolls the loops instead of vectorising
LEAST_TILE = 24  # rows from which a tile pays, though some of its lanes stay empty
MOST_SWEEPS = 30
MODEL_SWEEPS = 10  # of the model of a row (Kullback-Leibler), which is cheap beside making it
MODEL_PATIENCE = 1e-2
PATIENCE = 1e-4  # rows are left when a sweep lowers their objective by less than this share of the first sweep's


@dataclass(frozen=True, slots=True)
class HALS:
    """Coordinate descent for the Frobenius loss; for Kullback-Leibler, on the quadratic model of each row.

    ``HALS(sweeps=1, extrapolate=False)`` is the textbook algorithm, equal to scikit-learn's ``solver="cd"``
    iterate by iterate.

    Parameters
    ----------
    sweeps : int or "auto"
        How often the coordinates of a row are gone through while its normal equations last. ``"auto"`` makes
        sweeps as long as they cost less than half of what the normal equations did, at most 30, and leaves
        rows whose objective no longer falls noticeably (for Kullback-Leibler: of its model, at most 10). What a
        sparse X stores is cheaper to go through than a dense X, so the same matrix may get other sweeps, and end
        in another minimum, as the other storage.
    extrapolate : bool
        Carry each step of W on (Nesterov); a step that would raise the objective is replaced by a plain one.

    Examples
    --------
    >>> import nmfcore
    >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, solver=nmfcore.solvers.HALS(sweeps=1), random_state=0)
    >>> f.reconstruct().round(6)
    array([[1., 2.],
           [2., 4.]])
    """

    sweeps: int | Literal["auto"] = "auto"
    extrapolate: bool = True

    floor: ClassVar[float] = 0.0
    zeros_are_final: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.sweeps != "auto":
            if isinstance(self.sweeps, bool) or not hasattr(self.sweeps, "__index__") or self.sweeps < 1:
                raise ValueError(f"HALS: sweeps={self.sweeps!r} must be 'auto' or a whole number of 1 or more.")
            object.__setattr__(self, "sweeps", int(self.sweeps))
        check_flag("HALS: extrapolate", self.extrapolate)

    def sweeps_for(self, data: Data, r: int) -> int:
        """As given, or by the cost of the normal equations against that of a sweep (Gillis & Glineur, 4.1)."""
        if self.sweeps != "auto":
            return self.sweeps
        sweep = 2.0 * data.shape[0] * r * r
        return int(min(MOST_SWEEPS, 1 + 0.5 * data.work(r) / sweep))

    def handles(self, beta: float) -> bool:
        """The Frobenius loss and Kullback-Leibler."""
        return beta in (1.0, 2.0)

    def descend(
        self, equations: Any, rows: Rows, A: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """A Newton step for every row of ``A`` (b, r), its model gone down by sweeps, into ``out``."""
        e, rounds = equations, min(sweeps, 1)
        most, patience = (MODEL_SWEEPS, MODEL_PATIENCE) if self.sweeps == "auto" else (sweeps, 0.0)
        divergence.newton_rows(*rows, e.B, e.Bt, e.D, A, *penalty, e.floor, most, patience, rounds, 0.0, out, tally)

    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Sweep over every row of ``A`` (b, r), given ``C`` (b, r) and ``G`` (1 or b, r, r), into ``out``."""
        patience = PATIENCE if self.sweeps == "auto" else 0.0
        sweep = _sweep_tiles if len(G) == 1 and len(A) >= LEAST_TILE else _sweep_rows
        sweep(A, C, G, *penalty, sweeps, patience, out, tally)


@kernel
def _sweep_rows(
    A: Array, C: Array, G: Array, l1: float, l2: float, sweeps: int, patience: float, out: Array, tally: Array
) -> None:
    rows, r = A.shape
    own = 1 if G.shape[0] > 1 else 0  # every row has its own G, or all share one
    zero = A.dtype.type(0)
    l1, l2 = A.dtype.type(l1), A.dtype.type(l2)
    dead = A.dtype.type(1e-30) if A.itemsize == 4 else A.dtype.type(1e-200)
    g = np.empty(r, A.dtype)
    for i in range(rows):
        Gi = G[i * own]
        a = out[i]
        c = C[i]
        for t in range(r):  # g = G a - c + l1 + l2 a
            a[t] = A[i, t]
            g[t] = l1 + l2 * a[t] - c[t]
        for s in range(r):
            if a[s] != zero:
                for t in range(r):
                    g[t] += a[s] * Gi[s, t]
        for t in range(r):
            slope = np.float64(g[t])
            bound = np.float64(Gi[t, t] + l2) * np.float64(a[t])
            rho = slope if slope < bound else bound
            tally[t] += rho * rho
            tally[2 * r + 1] += np.float64(a[t]) * (slope - l1 - l2 * np.float64(a[t]) - np.float64(c[t]))
        first = 0.0
        for sweep in range(sweeps):
            fell = 0.0
            for t in range(r):
                curvature = Gi[t, t] + l2
                step = zero
                if curvature > dead:
                    step = -g[t] / curvature
                    step = step if step > -a[t] else -a[t]
                elif g[t] > curvature * a[t]:  # flat but for the penalty, which wants it gone
                    step = -a[t]
                if step != zero:
                    a[t] += step
                    fell -= np.float64(step) * (np.float64(g[t]) + 0.5 * np.float64(curvature * step))
                    for s in range(r):
                        g[s] += step * Gi[t, s]
                    g[t] += l2 * step
            tally[2 * r] += fell
            if sweep == 0:
                first = fell
            elif fell <= patience * first:
                break
        for t in range(r):
            slope = np.float64(g[t])
            bound = np.float64(Gi[t, t] + l2) * np.float64(a[t])
            rho = slope if slope < bound else bound
            tally[r + t] += rho * rho


@kernel
def _sweep_tiles(
    A: Array, C: Array, G: Array, l1: float, l2: float, sweeps: int, patience: float, out: Array, tally: Array
) -> None:
    """The same steps as :func:`_sweep_rows` for rows that share ``G``: one coordinate of 64 rows at a time."""
    rows, r = A.shape
    shared = G[0]
    zero, half = A.dtype.type(0), A.dtype.type(0.5)
    l1, l2 = A.dtype.type(l1), A.dtype.type(l2)
    dead = A.dtype.type(1e-30) if A.itemsize == 4 else A.dtype.type(1e-200)
    a = np.zeros((r, LANES), A.dtype)
    g = np.zeros((r, LANES), A.dtype)
    step = np.zeros(LANES, A.dtype)
    for start in range(0, rows, LANES):
        width = min(LANES, rows - start)
        for k in range(LANES):
            for t in range(r):
                a[t, k] = A[start + k, t] if k < width else zero
                g[t, k] = l1 + l2 * a[t, k] - C[start + k, t] if k < width else zero
        for s in range(r):
            for t in range(r):
                gt, As, G_st = g[t], a[s], shared[s, t]
                for k in range(LANES):
                    gt[k] += As[k] * G_st
        for t in range(r):
            curvature = shared[t, t] + l2
            squares = 0.0
            inner = 0.0
            for k in range(width):
                slope, bound = np.float64(g[t, k]), np.float64(curvature) * np.float64(a[t, k])
                rho = slope if slope < bound else bound
                squares += rho * rho
                inner += np.float64(a[t, k]) * (slope - l1 - l2 * np.float64(a[t, k]) - np.float64(C[start + k, t]))
            tally[t] += squares
            tally[2 * r + 1] += inner
        first = 0.0
        for sweep in range(sweeps):
            total = 0.0
            for t in range(r):
                curvature = shared[t, t] + l2
                inverse = A.dtype.type(1) / curvature if curvature > dead else zero
                at, gt = a[t], g[t]
                fell = zero
                for k in range(LANES):
                    d = -gt[k] * inverse
                    d = d if d > -at[k] else -at[k]
                    # Flat but for a penalty, which wants it gone.
                    d = -at[k] if inverse == zero and gt[k] > curvature * at[k] else d
                    step[k] = d
                    at[k] += d
                    fell -= d * (gt[k] + half * curvature * d)
                total += np.float64(fell)
                for s in range(r):
                    gs, G_ts = g[s], shared[t, s]
                    for k in range(LANES):
                        gs[k] += step[k] * G_ts
                for k in range(LANES):
                    gt[k] += l2 * step[k]
            tally[2 * r] += total
            if sweep == 0:
                first = total
            elif total <= patience * first:
                break
        for t in range(r):
            curvature = np.float64(shared[t, t] + l2)
            squares = 0.0
            for k in range(width):
                slope, bound = np.float64(g[t, k]), curvature * np.float64(a[t, k])
                rho = slope if slope < bound else bound
                squares += rho * rho
            tally[r + t] += squares
        for k in range(width):
            for t in range(r):
                out[start + k, t] = a[t, k]
