"""What every solver shares: a half-step over all rows of one factor, and what it reports.

A half-step moves one factor ``A`` (m, r) with the other, ``B`` (n, r), fixed. Its rows do not see each other, so
they are done slab by slab. Besides the new factor it reports what it knows anyway: the KKT residual of the factor
it was given and of the one it leaves, and the exact decrease it made; the loop need not go over the work again to
learn how it is doing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, NamedTuple, Protocol

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data, Entries, Rows
from nmfcore.kernels import factors
from nmfcore.parallel import Slab, Team

LARGEST = float(np.finfo(np.float64).max)
MANY = 2**30  # sweeps: as many as the solver likes


class Penalty(NamedTuple):
    """``l1·Σ a + ½·l2·Σ a²`` of one factor; with ``counts`` (m,), ``l2`` counts that often for the row."""

    l1: float = 0.0
    l2: float = 0.0
    counts: Array | None = None

    def of(self, A: Array) -> float:
        """The penalty of a factor (m, r)."""
        total = 0.0
        if self.l1:  # 0 times a sum that overflowed would be NaN
            total += self.l1 * float(factors.column_moments(A)[0].sum())
        if self.l2:
            total += (
                0.5 * self.l2 * float(factors.weighted_squares(A, np.ones(1) if self.counts is None else self.counts))
            )
        return total

    def rows(self, which: slice | Array) -> Penalty:
        """Of some rows."""
        return self if self.counts is None else self._replace(counts=self.counts[which])

    def shared(self, share: float) -> Penalty:
        """A part of it."""
        return self._replace(l1=share * self.l1, l2=share * self.l2)

    @property
    def ridge(self) -> Array:
        """What stands on the diagonal of the Gram matrix of each row, or (1,) of all; float64."""
        if self.counts is None:
            return np.array([self.l2])
        with np.errstate(over="ignore"):
            return min(self.l2, LARGEST) * self.counts  # infinity times a count of 0 would be no number


class Equations(Protocol):
    """What a half-step minimises in the rows of ``A``, for one fixed ``B``: made by a loss."""

    def prepare(self, A: Array, team: Team) -> None:
        """What has to be made of rows that are too long for one thread, before the others are shared out."""

    def slabs(self, r: int, sweeps: int) -> list[Slab]:
        """How the rows are shared out."""

    def tally(self, r: int) -> Array:
        """Zeros, to add up over rows what a half-step reports."""

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Let ``solver`` move the rows ``lo <= i < hi`` of ``A`` into ``out``."""

    def report(self, out: Array, tally: Array) -> Step:
        """What the sums over all rows say."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a half-step did.

    Attributes
    ----------
    A : ndarray (m, r)
        The factor after the step.
    equations : Equations
        What the step was made with.
    before : ndarray
        How the factor given violates the KKT conditions, summed over the rows of each column: ``ρ²``, or for other
        losses ``ρ² / 2 B``.
    after : ndarray or None
        The same by the factor returned; None where that would take another pass.
    value : float
        What the factor given had of the objective: where all rows share a Gram matrix ``<A, A G> - 2 <A, C>``; with
        ``Σ x²`` added, twice the loss. Else, and for other losses, the loss itself and the penalty of ``A``.
    decrease : float
        How far the objective, penalty included, fell at least; for quadratics exactly.
    """

    A: Array
    equations: Any
    before: Array
    after: Array | None
    value: float
    decrease: float


class Solver(Protocol):
    """An algorithm: how the rows of one factor move."""

    @property
    def extrapolate(self) -> bool | float:
        """Whether the loop carries steps on beyond where the update ends; by a share of the step, if it is a number."""

    @property
    def floor(self) -> float:
        """Extrapolation leaves every entry at least this fraction of its value."""

    @property
    def zeros_are_final(self) -> bool:
        """Whether an entry that is 0 stays 0."""

    @property
    def balances(self) -> bool:
        """Whether the loop may bring the components to their best scales in between."""

    @property
    def gentle(self) -> int:
        """How many iterations from a start that knows nothing of X are better made with one sweep each."""

    def sweeps_for(self, data: Data, r: int) -> int:
        """The most updates worth making of one factor while its normal equations last."""

    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Move the rows ``A`` (b, r) into ``out``, ``sweeps`` times, and add to ``tally`` (2 r + 2,)."""


class RowSolver(Solver, Protocol):
    """A solver that goes through the observed entries of the rows itself, and not through their Gram matrices."""

    def sweep_entries(
        self, entries: Entries, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Move the rows ``lo <= i < hi`` of ``A`` into ``out``, and add to ``tally`` (2 r + 2,)."""


class DivergenceSolver(Solver, Protocol):
    """A solver for other losses too."""

    def handles(self, beta: float) -> bool:
        """Whether it minimises this β-divergence."""

    def descend(
        self, equations: Any, rows: Rows, A: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Move the rows ``A`` (b, r) into ``out``, and add to ``tally`` (2 r + 2,); with no sweeps only report."""


def check_flag(name: str, value: object, allowed: str = "True or False") -> None:
    """Refuse what is neither True nor False; ``"no"`` would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} must be {allowed}.")


def half_step(
    solver: Solver, equations: Equations, data: Data, A: Array, penalty: Penalty, team: Team, most: int = MANY
) -> Step:
    """Move ``A`` by its equations; with ``most=0`` only report on it.

    Parameters
    ----------
    solver : Solver
        The algorithm.
    equations : Equations
        What a loss makes of the data and the factor that is fixed.
    data : Data
        The m×n matrix.
    A : ndarray (m, r)
        The factor that moves; not written to.
    penalty : Penalty
        Of ``A``.
    team : Team
        Whose threads share out the slabs.
    most : int
        Sweeps to make at most.
    """
    r = A.shape[1]
    sweeps = min(solver.sweeps_for(data, r), most)
    out = np.empty_like(A)
    equations.prepare(A, team)

    def slab(lo: int, hi: int) -> Array:
        tally = equations.tally(r)
        equations.move(solver, A, lo, hi, penalty, sweeps, out, tally)
        return tally

    # In the order of the slabs: the same bits for any team.
    return equations.report(out, reduce(add, team.map(slab, equations.slabs(r, sweeps))))
