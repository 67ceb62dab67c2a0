"""The scale the arithmetic works at, and the way from the caller's scale to it and back.

Data whose largest entry is far from 1 are divided by a power of four, weights by a power of two. Both change no
digit of anything, so the result is exactly the scaled one, from 1e-300 to 1e300.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nmfcore._types import Array
from nmfcore.solvers.base import Penalty


class Scale(NamedTuple):
    """``X = inside · 4**shift`` and ``weights = inside · 2**weight_shift``, so a factor is ``inside · 2**shift``."""

    shift: int = 0
    weight_shift: int = 0

    def inward(self, A: Array) -> Array:
        """A factor as the arithmetic has it."""
        return A if self.shift == 0 else np.ldexp(A, -self.shift)

    def outward(self, A: Array) -> Array:
        """A factor as the caller has it."""
        return A if self.shift == 0 else np.ldexp(A, self.shift)

    def penalty(self, penalty: Penalty) -> Penalty:
        """What weighs the same inside: the objective there is ``4**(2 shift) · 2**weight_shift`` times smaller."""
        return Penalty(
            float(np.ldexp(penalty.l1, -3 * self.shift - self.weight_shift)),
            float(np.ldexp(penalty.l2, -2 * self.shift - self.weight_shift)),
        )

    def objective(self, value: float) -> float:
        """The caller's objective; inf or 0 where float64 cannot hold it."""
        with np.errstate(over="ignore", under="ignore"):
            return float(np.ldexp(value, 4 * self.shift + self.weight_shift))
