"""What a solver is: how the rows of one factor move."""

from __future__ import annotations

from typing import Any, Protocol

from nmfcore._types import Array
from nmfcore.data.protocol import Data, Entries, Rows
from nmfcore.losses.penalty import Penalty


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
