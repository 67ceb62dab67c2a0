"""Other β-divergences: the equations of their rows are the entries themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.kernels import divergence
from nmfcore.losses.account import MeasuredAccount
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.protocol import Account
from nmfcore.losses.step import Step


@dataclass(frozen=True, slots=True)
class Divergence:
    """``d_β(x | x̂)``, with ``x̂`` kept above ``floor``: a tiny share of the largest x."""

    beta: float
    floor: float
    rough: bool = False

    def equations(self, data: Data, B: Array) -> Divergences:
        """The entries themselves, with ``B``."""
        return Divergences(data, B, self.beta, self.floor)

    def account(self, data: Data, r: int, penalties: tuple[Penalty, Penalty], team: Team) -> Account:
        """One that reads what each pass has found."""
        return MeasuredAccount(data, penalties, r, team, self)

    def exact(self, data: Data, W: Array, Ht: Array, team: Team) -> float:
        def of_some(lo: int, hi: int) -> float:
            blocks = data.rows(lo, hi, zeros=True)
            return sum(
                divergence.exact_value(*rows, W[start:stop], Ht, self.beta, self.floor) for start, stop, rows in blocks
            )

        return sum(team.map(of_some, data.slabs(W.shape[1])))


class Divergences:
    """The divergence of every row from what ``B`` makes of it; ``D`` is ``Σ_j B_j`` where all rows share that.

    ``Bt`` is ``B.T``, or, where rows are gathered and nobody reads that, has none of its rows.

    For β < 1 a float32 ``B`` is taken in float64: the powers of a small x̂ are beyond float32.
    """

    def __init__(self, data: Data, B: Array, beta: float, floor: float) -> None:
        exact = B.astype(np.float64, copy=False)
        self.data, self.B, self.beta, self.floor = data, exact if beta < 1.0 else B, beta, floor
        gathered = data.grams == "own" or (beta == 1.0 and not data.stores_zeros)
        self.Bt = np.ascontiguousarray((self.B[:, :0] if gathered else self.B).T)
        self.D = data.column_sums(exact) if beta == 1.0 else exact[:0]

    def prepare(self, A: Array, team: Team) -> None:
        """Nothing."""

    def slabs(self, r: int, sweeps: int) -> list[Slab]:
        entries = self.data.values.size if self.beta == 1.0 else self.data.n_entries
        return self.data.slabs(r, entries * (r * (r + 1.0 if sweeps > 1 else 4.0) + 40.0))

    def tally(self, r: int) -> Array:
        return np.zeros(2 * r + 2)

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        for start, stop, rows in self.data.rows(lo, hi, zeros=self.beta != 1.0):
            solver.descend(self, rows, A[start:stop], penalty, sweeps, out[start:stop], tally)

    def report(self, out: Array, tally: Array) -> Step:
        r = out.shape[1]
        before, after = tally[:r], tally[r : 2 * r]
        value, least = float(tally[2 * r]), float(tally[2 * r + 1])
        return Step(out, self, before, None if np.isnan(after[0]) else after, value, value - least)
