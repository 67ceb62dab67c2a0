r"""What the engine is given for a set of ratings: these, and what is known of a user or an item before any of them.

**An average item and an average user.** A penalty alone pulls what is little known towards a rating of 0, which nobody
means. Therefore each user also rates an average item, and each item is also rated by an average user, at the damped
means ``μ + b_u`` and ``μ + c_i`` of :class:`~nmfcore.ratings.UserItemMeans` and with the weight of ``prior`` ratings.
What is little known then goes to those means. A penalty of l2 for each rating makes predictions about l2 lower than
what they are fitted to, so the average ones are given l2 more (``lift``): else whoever is little known would be
predicted below the means. They are the last column and the last row of the problem, and left out of
the factors that are handed back; a user who comes later rates the same average item.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender.baselines import GlobalMean, UserItemMeans


class Rows(NamedTuple):
    """A matrix in compressed rows, as the engine takes it; what is not stored is unknown."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    data: NDArray[Any]
    shape: tuple[int, int]
    format: Literal["csr"] = "csr"

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the entries."""
        return self.data.dtype

    def tocsr(self) -> Self:
        """Itself."""
        return self


class Problem(NamedTuple):
    """Entries and their weights."""

    X: Rows
    weights: Rows


LEVEL = 4.0  # the mean that ratings are brought to; of 1, 2 and 4 the best on three sets of four


def unit_of(means: UserItemMeans | GlobalMean) -> float:
    """What ratings are divided by."""
    return means.mean / LEVEL if means.mean > 0.0 else 1.0


def pose(ratings: Ratings, means: UserItemMeans, prior: float, unit: float, lift: float) -> Problem:
    """The ratings, divided by ``unit``, with the average item (last column) and the average user (last row)."""
    m, n = ratings.shape
    of_users, of_items = _levels(means, ratings)
    indptr = np.append(ratings.indptr + np.arange(m + 1), ratings.nnz + m + n)
    indices, data, weights = (np.empty(indptr[-1], dtype) for dtype in (np.int32, np.float32, np.float32))
    weights[:] = 1.0
    ends = indptr[1:-1] - 1  # of each user's ratings, where that of the average item goes
    mine = np.ones(indptr[-2], bool)
    mine[ends] = False
    # Divided first: in their own unit ratings may be beyond float32. Not as a copy in float64, which would count.
    own = np.divide(ratings.data, unit, out=np.empty(ratings.nnz, np.float32), casting="same_kind")
    indices[:-n][mine], data[:-n][mine] = ratings.indices, own
    indices[ends], data[ends], weights[ends] = n, of_users / unit + lift, prior
    indices[-n:], data[-n:], weights[-n:] = np.arange(n), of_items / unit + lift, prior
    shape = m + 1, n + 1
    return Problem(Rows(indptr, indices, data, shape), Rows(indptr, indices, weights, shape))


def pose_users(
    ratings: Ratings,
    means: UserItemMeans,
    limits: tuple[float, float],
    prior: float,
    unit: float,
    lift: float,
    others: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None,
) -> Problem:
    """Other users' ratings of the same items, with the average item; ``means`` are those the model was fitted with.

    ``others`` are ratings of items that the model does not know, as users and ratings: each is one more of the average
    item. Several of one entry are the mean of them with the weight of them all, but for a constant.
    """
    m, n = ratings.shape
    users = np.repeat(np.arange(m), np.diff(ratings.indptr))
    items, data, weight = ratings.indices, ratings.data, np.full(m, prior)
    if others is not None:
        means = replace(means, item_offsets=np.append(means.item_offsets, 0.0))
        users, data = np.concatenate((users, others[0])), np.concatenate((data, others[1]))
        items = np.concatenate((items, np.full(others[0].size, n)))
    levels = np.clip(means.mean + means.of_users(users, items, data, m), *limits) / unit + lift
    if others is not None:
        further = np.bincount(others[0], minlength=m)
        levels = (prior * levels + np.bincount(others[0], others[1] / unit, m)) / (prior + further)
        weight += further
    ends = ratings.indptr[1:]
    indptr = ratings.indptr + np.arange(m + 1)
    indices = np.insert(ratings.indices, ends, n).astype(np.int32)
    data = np.insert(ratings.data / unit, ends, levels)
    weights = np.insert(np.ones(ratings.nnz), ends, weight)
    return Problem(Rows(indptr, indices, data, (m, n + 1)), Rows(indptr, indices, weights, (m, n + 1)))


def _levels(means: UserItemMeans, ratings: Ratings) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each user gives the average item, and the average user each item: within the range of the ratings."""
    low, high = ratings.data.min(), ratings.data.max()
    of_users, of_items = (np.clip(means.mean + b, low, high) for b in (means.user_offsets, means.item_offsets))
    return of_users, of_items
