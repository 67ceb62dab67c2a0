"""What every solver shares: a half-step over all rows of one factor, and what it reports.

A half-step moves one factor ``A`` (m, r) with the other, ``B`` (n, r), fixed. Its rows do not see each other, so
they are done slab by slab. Besides the new factor it reports what it knows anyway: the KKT residual of the factor
it was given and of the one it leaves, and the exact decrease it made; the loop need not go over the work again to
learn how it is doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data, Normal
from nmfcore.parallel import Team


class Penalty(NamedTuple):
    """``l1·Σ a + ½·l2·Σ a²`` of one factor."""

    l1: float = 0.0
    l2: float = 0.0

    def of(self, moments: Array) -> float:
        """The penalty of a factor whose columns have these sums and sums of squares, (2, r)."""
        total = 0.0
        if self.l1:  # 0 times a sum that overflowed would be NaN
            total += self.l1 * float(moments[0].sum())
        if self.l2:
            total += 0.5 * self.l2 * float(moments[1].sum())
        return total


@dataclass(frozen=True, slots=True)
class Step:
    """What a half-step did.

    Attributes
    ----------
    A : ndarray (m, r)
        The factor after the step.
    normal : Normal
        The equations the step was made with.
    before, after : ndarray (r,)
        ``Σ_i ρ_it²`` of each column, for the factor given and for the one returned; ``ρ`` as in
        :func:`nmfcore.stopping.kkt_residual`.
    decrease : float
        How far the objective, penalty included, fell: a sum of exact differences of a quadratic.
    fit : float
        ``<A, A G> - 2 <A, C>`` of the factor given; with ``Σ ω x²`` added, twice the objective there.
    """

    A: Array
    normal: Normal
    before: Array
    after: Array
    decrease: float
    fit: float


class Solver(Protocol):
    """An algorithm: how the rows of one factor move, given their normal equations."""

    @property
    def extrapolate(self) -> bool:
        """Whether the loop carries steps on beyond where the update ends."""

    @property
    def floor(self) -> float:
        """Extrapolation leaves every entry at least this fraction of its value."""

    @property
    def zeros_are_final(self) -> bool:
        """Whether an entry that is 0 stays 0."""

    def sweeps_for(self, data: Data, r: int) -> int:
        """The most updates worth making of one factor while its normal equations last."""

    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Move the rows ``A`` (b, r) into ``out``, ``sweeps`` times, and add to ``tally`` (2 r + 2,)."""


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False; ``"no"`` would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} must be True or False.")


def half_step(solver: Solver, data: Data, A: Array, B: Array, penalty: Penalty, team: Team, move: bool = True) -> Step:
    """Move ``A`` with ``B`` fixed; with ``move=False`` only report on ``A``.

    Parameters
    ----------
    solver : Solver
        The algorithm.
    data : Data
        The m×n matrix.
    A, B : ndarray (m, r), (n, r)
        The factor that moves and the one that is fixed; neither is written to.
    penalty : Penalty
        Of ``A``.
    team : Team
        Whose threads share out the slabs.
    """
    r = A.shape[1]
    sweeps = solver.sweeps_for(data, r) if move else 0
    normal = data.normal(B)
    out = np.empty_like(A)

    def slab(lo: int, hi: int) -> Array:
        tally = np.zeros(2 * r + 2)
        for start, stop, C, G in normal.blocks(lo, hi):
            solver.update(A[start:stop], C, G, penalty, sweeps, out[start:stop], tally)
        return tally

    moving = 2.0 * A.size * r * (sweeps + 2)
    total: Any = sum(team.map(slab, data.slabs(r, moving)))  # in the order of the slabs: the same bits for any team
    return Step(out, normal, total[:r], total[r : 2 * r], float(total[2 * r]), float(total[2 * r + 1]))
