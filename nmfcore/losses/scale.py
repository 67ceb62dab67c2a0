"""The scale the arithmetic works at, and the way from the caller's scale to it and back.

Data whose largest entry is far from 1 are divided by a power of four, weights by a power of two. Both change no
digit of anything, so the result is exactly the scaled one, from 1e-300 to 1e300.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from nmfcore._types import Array
from nmfcore.losses.penalty import Penalty


class Scale(NamedTuple):
    """``X = inside · 4**shift`` and ``weights = inside · 2**weight_shift``, so a factor is ``inside · 2**shift``.

    ``degree`` is that of the loss, β: ``c X`` and ``c x̂`` are ``c**degree`` times as far from each other.
    """

    shift: int = 0
    weight_shift: int = 0
    degree: float = 2.0

    def inward(self, A: Array) -> Array:
        """A factor as the arithmetic has it."""
        return A if self.shift == 0 else np.ldexp(A, -self.shift)

    def outward(self, A: Array) -> Array:
        """A factor as the caller has it."""
        return A if self.shift == 0 else np.ldexp(A, self.shift)

    def penalty(self, penalty: Penalty) -> Penalty:
        """What weighs the same inside, where the objective is divided by ``4**(degree·shift) · 2**weight_shift``."""
        return penalty._replace(
            l1=_times_power(penalty.l1, self.shift - self._exponent),
            l2=_times_power(penalty.l2, 2 * self.shift - self._exponent),
        )

    def objective(self, value: float) -> float:
        """The caller's objective; inf or 0 where float64 cannot hold it."""
        return _times_power(value, self._exponent)

    def errors(self, values: Array) -> Array:
        """Mean errors of entries as the caller has them; inf or 0 where float64 cannot hold them."""
        whole = math.floor(self._exponent)
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(values * 2.0 ** (self._exponent - whole), whole))

    def row_penalty(self, penalty: Penalty, k: int) -> Penalty:
        """The same for rows of W where ``H = inside · 2**k`` is known, and ``W = inside · 2**(2 shift - k)``."""
        unit = 2 * self.shift - k
        return penalty._replace(
            l1=_times_power(penalty.l1, unit - self._exponent), l2=_times_power(penalty.l2, 2 * unit - self._exponent)
        )

    @property
    def _exponent(self) -> float:
        return 2.0 * self.degree * self.shift + self.weight_shift


def _times_power(value: float, exponent: float) -> float:
    """``value · 2**exponent``, exactly if the exponent is whole."""
    if exponent == 0:
        return value
    whole = int(np.floor(exponent))
    with np.errstate(over="ignore", under="ignore"):
        return float(np.ldexp(value * 2.0 ** (exponent - whole), whole))
