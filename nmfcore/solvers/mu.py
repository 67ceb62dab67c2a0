r"""MU: the multiplicative updates of Lee and Seung.

With ``B`` fixed, a row ``a`` of the factor that moves has the objective
``f(a) = ½ aᵀ G a - cᵀ a + l1 Σ a + ½ l2 ‖a‖²`` with ``G`` and ``c`` non-negative. At the present ``a`` the matrix
``G + l2 I`` is majorised by the diagonal one with entries ``(G a + l2 a)_t / a_t``, and the minimum of the majoriser
that this and the gradient make is

.. math:: a_t ← a_t \, c_t / (G a + l_1 + l_2 a)_t,

so the objective never rises, and an entry that is positive stays so. An entry that is 0 stays 0, so starts for this
solver should have no zeros; and a positive entry is kept from falling below a tiny share of its scale, since one
that had sunk out of reach could not come back and the limit need not be stationary (Gillis and Glineur, section 2;
to stop on the way to a coordinate's minimum is still to descend).

**Other β-divergences.** With ``P = Σ_j ω x x̂^{β-2} b_j`` and ``D = Σ_j ω x̂^{β-1} b_j``, whose difference ``D - P`` is
the gradient, the same construction (Févotte and Idier) gives

.. math:: a_t ← a_t \left( \frac{P_t}{D_t + l_1 + l_2 a_t} \right)^{γ(β)}, \qquad
    γ = \tfrac{1}{2-β} \;(β < 1), \quad 1 \;(1 ≤ β ≤ 2), \quad \tfrac{1}{β-1} \;(β > 2).

For β < 2 the penalty ``l2`` is not quite majorised by this: where an entry would grow so far that the majoriser with
the true penalty rises, its growth is taken the square root of until that falls. Only growth is carried on by
extrapolation there (Hien, Leplat and Gillis): an entry shrunk by it would be as slow in coming back.

W is moved first and H then with the *new* W: moved at the same time from the same product, X = 1, w = h = 2 becomes
½, ½, then 2, 2, and so on for ever.

References
----------
Lee and Seung, "Algorithms for non-negative matrix factorization", NIPS 2000, theorem 1. With missing entries every
row has its own ``G`` and ``c``: Zhang, Wang, Ford and Makedon, "Learning from incomplete ratings using
non-negative matrix factorization", SDM 2006. Févotte and Idier, Neural Computation 23, 2011, section 4.1 (β). Hien,
Leplat and Gillis, "Block majorization minimization with extrapolation", 2024 (one-sided).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nmfcore._arguments import check_flag
from nmfcore._types import Array
from nmfcore.data.protocol import Rows
from nmfcore.kernels import divergence
from nmfcore.kernels._jit import kernel
from nmfcore.losses.penalty import Penalty
from nmfcore.solvers.base import BaseSolver

FLOOR = 1e-16  # of the value an entry would have if its component stood alone


@dataclass(frozen=True, slots=True)
class MU(BaseSolver):
    """Multiplicative updates, for every β-divergence.

    ``MU(extrapolate=False)`` is the textbook algorithm, equal to scikit-learn's ``solver="mu"`` iterate by
    iterate. It needs many times the iterations of :class:`HALS`; it is here because it is what the literature
    starts from.

    Parameters
    ----------
    extrapolate : bool
        Carry each step of W on (Nesterov); a step that would raise the objective is replaced by a plain one.

    Examples
    --------
    >>> import nmfcore
    >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, solver=nmfcore.solvers.MU(), random_state=0)
    >>> f.reconstruct().round(6)
    array([[1., 2.],
           [2., 4.]])
    """

    extrapolate: bool = True

    floor: ClassVar[float] = 0.1  # an extrapolated entry that reached 0 would be locked there
    zeros_are_final: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_flag("MU: extrapolate", self.extrapolate)
        object.__setattr__(self, "extrapolate", bool(self.extrapolate))  # settings hold the repr

    @property
    def balances(self) -> bool:
        """Not where the algorithm is the textbook's."""
        return self.extrapolate

    def handles(self, beta: float) -> bool:
        """Every β."""
        return True

    def descend(
        self, equations: Any, rows: Rows, A: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Multiply every row of ``A`` (b, r) by ``(P / D)^γ``, into ``out``."""
        e, r = equations, A.shape[1]
        P, own = np.empty(A.shape), np.empty((0 if len(e.D) else len(A), r))
        factor = A.astype(e.B.dtype, copy=False)
        tally[2 * r] += divergence.products(*rows, e.B, e.Bt, factor, e.D, e.beta, e.floor, P, own)
        D = e.D if len(e.D) else own
        divergence.tally_violations(A, P, D, penalty.l1, penalty.ridge, tally)
        _multiply(A, P, D, e.beta, penalty.l1, penalty.ridge, out, tally)
        tally[r : 2 * r] = np.nan  # not known without another pass

    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Multiply every row of ``A`` (b, r), given ``C`` (b, r) and ``G`` (1 or b, r, r), into ``out``."""
        _multiply_rows(A, C, G, penalty.l1, penalty.ridge, sweeps, out, tally)


@kernel
def _multiply_rows(
    A: Array, C: Array, G: Array, l1: float, ridge: Array, sweeps: int, out: Array, tally: Array
) -> None:
    rows, r = A.shape
    own = 1 if G.shape[0] > 1 else 0  # every row has its own G, or all share one
    own_ridge = 1 if ridge.size > 1 else 0
    l1 = A.dtype.type(l1)
    tiny = A.dtype.type(1e-30) if A.itemsize == 4 else A.dtype.type(1e-290)  # keeps c / 0 finite
    zero = A.dtype.type(0)
    before = np.empty(r, A.dtype)
    after = np.empty(r, A.dtype)
    for i in range(rows):
        Gi = G[i * own]
        a = out[i]
        c = C[i]
        l2 = A.dtype.type(ridge[i * own_ridge])
        for t in range(r):
            a[t] = A[i, t]
            before[t] = l1 + l2 * a[t]
        for s in range(r):
            for t in range(r):
                before[t] += a[s] * Gi[s, t]
        after[:] = before
        for _ in range(sweeps):
            for t in range(r):
                if a[t] > zero:
                    a[t] *= c[t] / (after[t] if after[t] > tiny else tiny)
                    # What the component would be alone bounds it from above; see FLOOR for the bound from below.
                    curvature = Gi[t, t] + l2
                    alone = (c[t] - l1 if c[t] > l1 else zero) / (curvature if curvature > tiny else tiny)
                    a[t] = a[t] if a[t] > FLOOR * alone else FLOOR * alone
                after[t] = l1 + l2 * a[t]
            for s in range(r):
                for t in range(r):
                    after[t] += a[s] * Gi[s, t]
        for t in range(r):
            old, new = np.float64(A[i, t]), np.float64(a[t])
            slope, end = np.float64(before[t]) - np.float64(c[t]), np.float64(after[t]) - np.float64(c[t])
            bend = np.float64(Gi[t, t] + l2)
            bound = bend * old if bend > 0.0 or old == 0.0 else slope  # where B = 0, nothing bounds a step
            rho = slope if slope < bound else bound
            tally[t] += rho * rho
            bound = bend * new if bend > 0.0 or new == 0.0 else end
            rho = end if end < bound else bound
            tally[r + t] += rho * rho
            tally[2 * r] -= 0.5 * (new - old) * (slope + end)  # exact for a quadratic
            tally[2 * r + 1] += old * (slope - l1 - l2 * old - np.float64(c[t]))


@kernel
def _rise(u: float, p: float, d: float, a: float, beta: float, l1: float, l2: float) -> float:
    """What the majoriser of a coordinate changes by, per ``a``, when that goes from ``a`` to ``u a`` (β < 2)."""
    gain = np.log(u) if beta == 1.0 else (u ** (beta - 1.0) - 1.0) / (beta - 1.0)
    loss = u - 1.0 if beta < 1.0 else (u**beta - 1.0) / beta
    return float(d * loss - p * gain + l1 * (u - 1.0) + 0.5 * l2 * a * (u * u - 1.0))


@kernel
def _multiply(A: Array, P: Array, D: Array, beta: float, l1: float, ridge: Array, out: Array, tally: Array) -> None:
    rows, r = A.shape
    own = 1 if D.shape[0] == rows else 0
    own_ridge = 1 if ridge.size > 1 else 0
    gamma = 1.0
    if beta < 1.0:
        gamma = 1.0 / (2.0 - beta)
    elif beta > 2.0:
        gamma = 1.0 / (beta - 1.0)
    value = 0.0
    for i in range(rows):
        l2 = ridge[i * own_ridge]
        drive = 0.0
        for t in range(r):
            a = np.float64(A[i, t])
            drive += a * np.float64(P[i, t])
            value += a * (l1 + 0.5 * l2 * a)
        for t in range(r):
            a, p, d = np.float64(A[i, t]), np.float64(P[i, t]), np.float64(D[i * own, t])
            pull = d + l1 + l2 * a
            u = p / pull if pull > 0.0 else p - p + 1.0
            if gamma != 1.0:
                u = u**gamma
            if u > 1.0 and l2 > 0.0 and beta < 2.0:
                while u > 1.0 + 1e-15 and _rise(u, p, d, a, beta, l1, l2) > 0.0:
                    u = np.sqrt(u)
            new = a * u
            least = np.float64(FLOOR * drive / pull) if pull > 0.0 else np.float64(0.0)
            least = least if least < a else a
            out[i, t] = new if new > least else least
    tally[2 * r] += value
    tally[2 * r + 1] = tally[2 * r]  # the update never raises it
