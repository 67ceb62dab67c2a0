"""What a half-step is given, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.losses.penalty import Penalty


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
