"""What a fit to ratings leaves, and what must not change with the settings of the recommender that made it."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nmfcore.api.result import Factorization
from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender.baselines import GlobalMean, UserItemMeans
from nmfcore.recommender.posing import unit_of


class Model(NamedTuple):
    """What a fit leaves.

    ``whole`` has the average user as its last row and the average item as its last column, of ratings divided by
    ``unit_of(means)``; ``f`` is without them, in the unit of the ratings. The ``means`` are those of the ratings it was
    fitted to, ``limits`` their range, and ``prior`` the weight that the average ones had. Factors and
    means are of ratings without their ``level`` (:mod:`nmfcore.recommender.level`), ``ratings`` and ``limits`` with it.
    ``lift`` is what the average ones were given more than the means, in the unit of the ratings.
    """

    ratings: Ratings
    f: Factorization
    whole: Factorization
    means: UserItemMeans
    prior: float
    limits: tuple[float, float]
    level: float = 0.0
    lift: float = 0.0

    @classmethod
    def of(
        cls,
        ratings: Ratings,
        whole: Factorization,
        means: UserItemMeans,
        prior: float,
        limits: tuple[float, float] | None = None,
        level: float = 0.0,
        lift: float = 0.0,
    ) -> Self:
        """The model of these ratings; its factors in float64, so that parts of a prediction add up."""
        W, H = whole.W.astype(np.float64), whole.H.astype(np.float64)
        whole = dataclasses.replace(whole, W=W, H=H)
        low, high = limits or (float(ratings.data.min()), float(ratings.data.max()))
        return cls(ratings, own_part(whole, means), whole, means, prior, (low, high), level, lift)

    def average(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The components of the average user and of the average item, in the unit of the ratings."""
        whole = dataclasses.replace(self.whole, W=self.whole.W[-1:], H=self.whole.H[:, -1:])
        f = in_unit(whole, unit_of(self.means))
        return f.W[0], f.H[:, 0]

    @property
    def l2(self) -> float:
        """The penalty on each rating's two factor rows, in the unit of the ratings."""
        return float(self.f.settings["l2"][0])

    @property
    def rank(self) -> int:
        """How many components are features."""
        return features_of(self.f)

    @property
    def offsets(self) -> bool:
        """Whether two more are offsets."""
        return has_offsets(self.f)


def own_part(whole: Factorization, means: UserItemMeans | GlobalMean) -> Factorization:
    """A fit without the average user and item, in the unit of the ratings, whose means these are."""
    f = in_unit(whole, unit_of(means))
    return dataclasses.replace(f, W=f.W[:-1], H=np.ascontiguousarray(f.H[:, :-1]))


def has_offsets(f: Factorization) -> bool:
    """Whether the last two components are offsets."""
    return bool(f.settings.get("offsets"))


def features_of(f: Factorization) -> int:
    """How many components are features, not offsets."""
    return f.rank - 2 * has_offsets(f)


def in_unit(f: Factorization, unit: float) -> Factorization:
    """The factorization of what is ``unit`` times as large."""
    root, r = np.sqrt(unit), features_of(f)
    W, H = root * f.W, root * f.H
    if has_offsets(f):  # the components of ones stay, and offsets have the unit of the ratings
        W[:, r], H[r], W[:, r + 1], H[r + 1] = root * W[:, r], 1.0, 1.0, root * H[r + 1]
    with np.errstate(over="ignore"):  # of ratings beyond 1e154 the objective is inf
        history = dataclasses.replace(f.history, objective=unit * (unit * f.history.objective))
    settings = f.settings | {"l2": tuple(unit * l2 for l2 in f.settings["l2"])}
    objective = float(history.objective[-1])
    return dataclasses.replace(f, W=W, H=H, objective=objective, history=history, settings=settings)
