r"""HALS: hierarchical alternating least squares, which is exact cyclic coordinate descent.

With ``B`` fixed, the objective of one row ``a`` of the factor that moves is a quadratic,

.. math:: f(a) = \tfrac12 aᵀ G a - cᵀ a + l_1 Σ a + \tfrac12 l_2 ‖a‖²,

with gradient ``g = G a - c + l1 + l2 a``. Along one coordinate ``t`` it is a parabola of curvature
``G_tt + l2``, so its minimum over ``a_t >= 0`` is known:

.. math:: a_t ← \max(0, a_t - g_t / (G_{tt} + l_2)).

That step changes the gradient by ``step · G[t]`` and lowers ``f`` by ``-step (g_t + ½ (G_tt + l2) step)``, which
is never negative. Rows do not see each other, so a sweep over the coordinates of each row in turn makes the same
iterates as the published form, which does one coordinate of all rows at a time.

References
----------
Cichocki and Phan, "Fast local algorithms for large scale nonnegative matrix and tensor factorizations", IEICE
Trans. Fundamentals E92-A, 2009 (Fast HALS); Hsieh and Dhillon, KDD 2011 (coordinate descent). More than one sweep
while the products last: Gillis and Glineur, "Accelerated multiplicative updates and hierarchical ALS algorithms",
Neural Computation 24, 2012, section 4; here each row stops for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data
from nmfcore.kernels._jit import kernel
from nmfcore.solvers.base import Penalty, check_flag

MOST_SWEEPS = 30
PATIENCE = 1e-4  # a row is left when a sweep lowers its objective by less than this share of the first sweep's


@dataclass(frozen=True, slots=True)
class HALS:
    """Coordinate descent for the Frobenius loss.

    ``HALS(sweeps=1, extrapolate=False)`` is the textbook algorithm, equal to scikit-learn's ``solver="cd"``
    iterate by iterate.

    Parameters
    ----------
    sweeps : int or "auto"
        How often the coordinates of a row are gone through while its normal equations last. ``"auto"`` makes
        sweeps as long as they cost less than half of what the normal equations did, at most 30, and leaves a
        row whose objective no longer falls noticeably. What a sparse X stores is cheaper to go through than
        a dense X, so the same matrix may get other sweeps, and end in another minimum, as the other storage.
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

    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Sweep over every row of ``A`` (b, r), given ``C`` (b, r) and ``G`` (1 or b, r, r), into ``out``."""
        patience = PATIENCE if self.sweeps == "auto" else 0.0
        _sweep_rows(A, C, G, *penalty, sweeps, patience, out, tally)


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
