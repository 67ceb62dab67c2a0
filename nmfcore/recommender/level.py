"""Ratings that do not begin near 0, and values that are no ratings.

A penalty draws predictions towards 0. On a scale from 80 to 100 that is far from every rating, and a fit to what they
have in common hides what distinguishes them. So a level is taken off first: as much as leaves the lowest rating at a
quarter of the range. Scales from 1 to 5, half stars, 0 to 10 and counts begin lower than that, and stay as they are.
Ratings ``r``, ``5 r``, ``r + 75`` and ``5 r + 75`` have the same model.
"""

from __future__ import annotations

import numpy as np

from nmfcore.machine.streams import warn
from nmfcore.ratings.ratings import Ratings

LOWEST = 0.25  # of the range: where the lowest rating may be
NOTHING = 1e-9  # of the range: a level that rounding makes of none
LONG_TAIL = 20.0  # times the mean: no scale of ratings reaches so far, counts and hours do
ENOUGH = 100  # ratings, to say so


def level_of(ratings: Ratings) -> float:
    """Return what is taken off all ratings; 0 for scales that begin near 0.

    Examples
    --------
    >>> level_of(Ratings.from_triplets([1, 1, 2], [1, 2, 1], [80, 85, 100]))
    75.0
    >>> level_of(Ratings.from_triplets([1, 1, 2], [1, 2, 1], [1, 3, 5]))
    0.0
    """
    low, high = float(ratings.data.min()), float(ratings.data.max())
    level = low - LOWEST * (high - low)
    return level if high > low and level > NOTHING * (high - low) else 0.0


def lowered(ratings: Ratings, level: float, stacklevel: int = 4) -> Ratings:
    """Return the ratings without their level; those below it become 0, with a warning."""
    if level == 0.0:
        return ratings
    data = ratings.data - level
    below = int(np.count_nonzero(data < 0.0))
    if below:
        lowest = f"{ratings.data.min():g}"
        warn(
            f"{below} of {ratings.nnz} ratings are below the level of the model, {level:g} (the lowest is {lowest}), "
            "and count as that. Fit anew if the scale has changed.",
            UserWarning,
            stacklevel=stacklevel,
        )
        np.maximum(data, 0.0, out=data)
    return Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, data)


def warn_of_values(ratings: Ratings) -> None:
    """Warn of values that are no ratings: all equal, or with a long tail."""
    low, high = float(ratings.data.min()), float(ratings.data.max())
    if ratings.nnz > 1 and low == high:
        warn(
            f"all {ratings.nnz} ratings are {low:g}: there is nothing to learn from them but who rated what.",
            UserWarning,
            stacklevel=3,
        )
    if ratings.nnz < ENOUGH or high == 0.0:
        return
    share = float(np.mean(ratings.data / high))  # a sum of the largest numbers would overflow
    if LONG_TAIL * share < 1.0:
        warn(
            f"the largest value is {high:g}, the mean {share * high:.3g}: values with so long a tail, such as counts, "
            "are fitted to the largest. Take their logarithm, numpy.log1p, first.",
            UserWarning,
            stacklevel=3,
        )
