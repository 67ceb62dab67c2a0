"""The normal equations of rows: one Gram matrix for all of them, or one for each."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.step import Step

PIECE = 2**17  # entries of a row that one thread goes through at a time


class Quadratics:
    """``½ aᵀ G a - cᵀ a`` for every row: the normal equations of the rows."""

    def __init__(self, data: Data, normal: Any) -> None:
        self.data, self.normal = data, normal

    def prepare(self, A: Array, team: Team) -> None:
        """Sum up what all rows share."""
        self.normal.shared(team)

    def slabs(self, r: int, sweeps: int) -> list[Slab]:
        return self.data.slabs(r, 2.0 * self.data.shape[0] * r * r * (sweeps + 2))

    def tally(self, r: int) -> Array:
        return np.zeros(2 * r + 2)

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        for start, stop, C, G in self.normal.blocks(lo, hi):
            own = penalty.rows(slice(start, stop))
            solver.update(A[start:stop], C, G, own, sweeps, out[start:stop], tally)

    def report(self, out: Array, tally: Array) -> Step:
        r = out.shape[1]
        return Step(out, self, tally[:r], tally[r : 2 * r], float(tally[2 * r + 1]), float(tally[2 * r]))

    def change(self, A: Array, Y: Array, penalty: Penalty, team: Team) -> float:
        """What the objective changes by when the rows go from ``A`` to ``Y``, exactly."""
        slabs = self.data.slabs(A.shape[1])
        changes = team.map(lambda lo, hi: float(self.normal.change(A, Y, penalty.l1, penalty.l2, lo, hi)), slabs)
        return sum(changes)


class RowQuadratics(Quadratics):
    """The same where every row has a Gram matrix of its own; a pass also finds the loss of the rows it is given.

    A row of very many entries is not left to one thread: its normal equations are made in pieces, of the same length
    for any number of threads, before the rows are shared out.
    """

    def __init__(self, data: Data, normal: Any) -> None:
        super().__init__(data, normal)
        self._long: dict[int, tuple[Array, Array, float]] = {}

    def prepare(self, A: Array, team: Team) -> None:
        indptr = self.normal.entries.indptr
        for i in np.flatnonzero(np.diff(indptr) > 2 * PIECE).tolist():
            cuts = [*range(int(indptr[i]), int(indptr[i + 1]) - PIECE, PIECE), int(indptr[i + 1])]
            parts = team.map(partial(self.normal.piece, A[i : i + 1]), list(pairwise(cuts)))
            C, G = (np.asarray(sum(part[k] for part in parts)).astype(A.dtype) for k in (0, 1))
            self._long[i] = C, G, sum(part[2] for part in parts)

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        start = lo
        for i in [i for i in self._long if lo <= i < hi]:
            self._move_rows(solver, A, start, i, penalty, sweeps, out, tally)
            row, (C, G, loss), value = slice(i, i + 1), self._long[i], float(tally[2 * A.shape[1] + 1])
            solver.update(A[row], C, G, penalty.rows(row), sweeps, out[row], tally)
            tally[2 * A.shape[1] + 1] = value + loss + penalty.rows(row).of(A[row])
            start = i + 1
        self._move_rows(solver, A, start, hi, penalty, sweeps, out, tally)

    def _move_rows(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        if solver.by_entries:
            solver.sweep_entries(self.normal.entries, A, lo, hi, penalty, sweeps, out, tally)
            return
        place = 2 * A.shape[1] + 1
        value = float(tally[place])
        super().move(solver, A, lo, hi, penalty, sweeps, out, tally)
        tally[place] = value + self.normal.loss(A, lo, hi) + penalty.rows(slice(lo, hi)).of(A[lo:hi])
