"""The loss of a β, for given data."""

from __future__ import annotations

import math

import numpy as np

from nmfcore.data.protocol import Data
from nmfcore.losses.divergence import Divergence
from nmfcore.losses.frobenius import Frobenius
from nmfcore.losses.protocol import Loss, RangeError

LEAST_SINGLE = 1e-30  # of the largest x: a float32 factor still has entries far below what such an x asks for


def make(beta: float, data: Data, rough: bool = False) -> Loss:
    """The loss of this β, for such data; ``rough`` if its value need not be right to more than two digits or so.

    Raises
    ------
    RangeError
        If β <= 0 and the smallest x is so far below the largest that its powers overflow.
    """
    if beta == 2.0:
        return Frobenius(rough=rough)
    # x̂ is kept above a tiny share of the largest x; the powers that are formed of it must not overflow.
    single = data.dtype == np.float32
    bits = (100 if single and beta >= 1.0 else 800) / (2.0 + max(0.0, 1.0 - beta))
    largest = data.summary.largest
    scale = 2 * (math.frexp(largest)[1] // 2) if largest > 0.0 else 0
    floor = math.ldexp(1.0, scale - int(bits))
    if beta <= 0.0 and largest > 0.0:
        _check_range(float(data.values.min()) / largest, floor / largest, beta, single)
    return Divergence(beta, floor, rough)


def _check_range(smallest: float, floor: float, beta: float, single: bool) -> None:
    """Under β <= 0 an x that x̂ cannot come down to would be far from it for ever."""
    least = max(floor, LEAST_SINGLE) if single else floor
    if smallest < least:
        remedy = "pass dtype=float64, " if smallest >= floor else ""
        raise RangeError(
            f"The smallest entry of X is {smallest:.2g} of its largest, but with β = {beta:g} <= 0 it must be "
            f"{least:.2g} of it or more{' in float32' if remedy else ''}: {remedy}raise smaller entries to that "
            "(numpy.maximum), leave them out (a mask), or use a loss with a larger β."
        )
