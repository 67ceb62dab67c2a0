"""Penalties of a factor."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels import factors

LARGEST = float(np.finfo(np.float64).max)


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
