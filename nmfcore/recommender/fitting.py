"""From ratings to a model: the problem is posed, and given to the engine.

Inside, ratings are brought to a mean of 4: the penalty of features then scales as ratings do, and the offsets, whose
penalty would not (they have the unit of ratings, features of their root), weigh the same on any scale.

Every step is carried on by the same share: Nesterov's growing shares, and balancing the components in between, lower
the objective sooner, but not the error on ratings that were held out.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nmfcore.api.result import Factorization
from nmfcore.machine.streams import is_watched
from nmfcore.ratings.ids import plain_id
from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender import unknown_ids
from nmfcore.recommender.baselines import GlobalMean, UserItemMeans
from nmfcore.recommender.level import level_of, lowered
from nmfcore.recommender.model import Model, in_unit
from nmfcore.recommender.posing import pose, pose_users, unit_of
from nmfcore.recommender.unknown_ids import NOWHERE, Unknown

L2_PER_MEAN = 0.0185  # of the mean rating; a compromise between validation parts of four sets, see Recommender
# The weight of means where there are no ratings, and the ratings for each user and item at which it is half of that.
# Chosen by planted ratings of 2 to 10 an item and by validation parts of all four MovieLens and MovieTweetings sets.
PRIOR, MANY_EACH = 120.0, 30.0
MOST_L2 = 1e30  # float32 ends some way beyond
LEAST_PRIOR, MOST_PRIOR = 1e-30, 1e30  # as it does here
SWEEPS = 8  # of each row, always
CARRIED = 0.3  # of every step: a held-out error is reached in two thirds of the iterations
OTHER_SCALE = 1e6  # times the mean: ratings on a scale of which a model tells nothing
MANY = 5_000_000  # ratings: a fit of so many takes long enough for a bar


class Task(NamedTuple):
    """Ratings to be fitted, and what is settled before they are."""

    ratings: Ratings
    posed: Ratings  # without their level
    means: UserItemMeans  # of these
    l2: float
    prior: float
    level: float

    @classmethod
    def of(cls, ratings: Ratings, l2: float | None, prior: float | None, level: float | None = None) -> Self:
        """The task with these settings of a recommender; ValueError if the penalty or the ratings are too large."""
        check_largest(ratings)
        level = level_of(ratings) if level is None else level
        posed = lowered(ratings, level, stacklevel=5)
        means = UserItemMeans.fit(posed)
        l2 = L2_PER_MEAN * means.mean if l2 is None else l2
        check_l2(l2, means)
        return cls(ratings, posed, means, l2, prior_for(ratings) if prior is None else prior, level)

    def problem(self) -> dict[str, Any]:
        """What the engine is asked, as arguments of :func:`nmfcore.factorize`: with the average user and item."""
        from nmfcore.solvers import HALS

        unit = unit_of(self.means)
        X, weights = pose(self.posed, self.means, self.prior, unit, self.l2 / unit)
        asked: dict[str, Any] = {"X": X, "missing_values": "unstored", "weights": weights}
        asked |= {"l2": self.l2 / unit, "l2_scaling": "count"}
        return asked | {"solver": HALS(sweeps=SWEEPS, extrapolate=CARRIED)}

    def factorize(self, rank: int, *, progress: bool | None, **options: Any) -> Factorization:
        """What the engine makes of it, in its unit."""
        from nmfcore.api.factorize import factorize

        bar = self.ratings.nnz >= MANY and bar_is_possible() if progress is None else progress
        return factorize(rank=rank, progress=bar, **self.problem(), **options)

    def model(self, whole: Factorization) -> Model:
        """The model that such a factorization is."""
        return Model.of(self.ratings, whole, self.means, self.prior, level=self.level, lift=self.l2)


def prior_for(ratings: Ratings) -> float:
    """Return the weight of means, in ratings: more where users and items have few ratings on the average.

    There features learn what is noise, and the means predict better.
    """
    each = ratings.nnz / sum(ratings.shape)
    return PRIOR / (1.0 + each / MANY_EACH)


def check_largest(ratings: Ratings) -> None:
    """Raise if sums of such ratings may overflow."""
    largest, at_most = float(ratings.data.max()), float(np.finfo(np.float64).max) / ratings.nnz
    if largest > at_most:
        raise ValueError(
            f"The largest rating is {largest:g}: the sum of {ratings.nnz:,} of them may overflow. Divide all "
            f"ratings by one number, so that the largest is less than {at_most:.3g}."
        )


def check_l2(l2: float, means: UserItemMeans) -> None:
    """Raise if a penalty is too large for ratings with these means."""
    most = MOST_L2 * unit_of(means)
    if not l2 <= most:
        raise ValueError(f"l2={l2:g} for each rating is too large a penalty: it overflows. Choose less than {most:g}.")


def start_from(model: Model, ratings: Ratings) -> dict[str, NDArray[Any]]:
    """W and H to begin with for the model's ratings and more: who and what is new is average.

    Nothing, if the mean is no longer of the size that it had: of ratings on such another scale the model tells nothing,
    and its factors would be beyond what the arithmetic holds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ratings below the level: the fit that begins here says so
        mean = GlobalMean.fit(lowered(ratings, model.level))
    ratio = unit_of(model.means) / unit_of(mean)
    if not 1.0 / OTHER_SCALE <= ratio <= OTHER_SCALE:
        return {}
    whole = in_unit(model.whole, ratio)
    W, Ht = np.repeat(whole.W[-1:], ratings.shape[0] + 1, 0), np.repeat(whole.H.T[-1:], ratings.shape[1] + 1, 0)
    W[ratings.user_index(model.ratings.users)] = whole.W[:-1]
    Ht[ratings.item_index(model.ratings.items)] = whole.H.T[:-1]
    return {"W": W, "H": np.ascontiguousarray(Ht.T)}


def fold_in(model: Model, ratings: Ratings, unknown: Unknown = "error") -> Model:
    """The model of these users, with the items and the prior as they were fitted."""
    unknown_ids.check(unknown)
    if unknown == "error":
        columns = model.ratings.item_index(ratings.items)
    else:
        columns = unknown_ids.find_distinct(ratings.items, model.ratings.items, "item")
    posed = lowered(ratings, model.level)
    new, others = columns[ratings.indices] == NOWHERE, None
    if new.all():
        example = plain_id(ratings.items[ratings.indices[0]])
        raise ValueError(
            f"the model knows none of the items rated, such as {example!r}. What it "
            'makes of a user without ratings of items that it knows is predict(..., unknown="average").'
        )
    if new.any():
        if unknown == "average":
            users = np.repeat(np.arange(ratings.shape[0]), np.diff(ratings.indptr))
            others = users[new], posed.data[new]
        ratings, posed = ratings._subset(~new), posed._subset(~new)
    # Positions ascend within each user, as ids of both do.
    entries = ratings.indptr, columns[ratings.indices]
    theirs, posed = (Ratings(r.users, model.ratings.items, *entries, r.data) for r in (ratings, posed))
    low, high = (max(limit - model.level, 0.0) for limit in model.limits)  # ratings below the level count as 0
    problem = pose_users(
        posed, model.means, (low, high), model.prior, unit_of(model.means), model.lift / unit_of(model.means), others
    )
    W = model.whole.transform(problem.X, weights=problem.weights)
    whole = dataclasses.replace(model.whole, W=np.vstack((W, model.whole.W[-1:])))
    return Model.of(theirs, whole, model.means, model.prior, model.limits, model.level, model.lift)


def bar_is_possible() -> bool:
    """Whether a person is watching, and tqdm is there."""
    if not is_watched():
        return False
    try:
        import tqdm  # noqa: F401
    except ImportError:
        return False
    return True
