r"""Why a rating is predicted, and which items are alike: what non-negative factors are good for.

A prediction is a sum of parts that are not negative, one for each feature and one for each offset. The user's features
in turn follow from the user's ratings: where ``w_u`` is not zero, on P, a fit to

.. math:: ½ Σ_j (e_{uj} - w · h_j)² + ½ ρ ‖w‖², \qquad e_{uj} = r_{uj} - \text{offsets},

has ``(G_PP + ρ I) w_P = Σ_j e_uj h_jP`` with ``G = Σ_j h_j h_jᵀ``. So the features' part of the score of item i is
linear in the ratings,

.. math:: w_u · h_i = Σ_j e_{uj} s_{ij} + \text{rest}, \qquad s_{ij} = h_{iP}ᵀ (G_PP + ρ I)^{-1} h_{jP},

with a rest that is what the fit went by besides these ratings (see `Explanation`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmfcore.machine.escapes import escaped
from nmfcore.ratings.ids import plain_id
from nmfcore.ratings.ratings import Ratings

Matrix = NDArray[Any]
Vector = NDArray[np.float64]
WIDTH = 100  # of a line
SHOWN = 8  # features that have a line of their own


class SimilarItems(NamedTuple):
    """Items like another, most similar first.

    Attributes
    ----------
    items : ndarray, shape (k,)
        The caller's ids.
    similarities : ndarray of float64, shape (k,)
        Cosines, more than 0 and at most 1.
    """

    items: NDArray[Any]
    similarities: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """The parts of a predicted rating; `print` shows them.

    ``score = level + features.sum() + user_offset + item_offset`` and
    ``features.sum() = contributions.sum() + others + rest``, to rounding.

    Attributes
    ----------
    user, item : id
        Whose rating of what.
    score : float
        The prediction, not clipped.
    features : ndarray of float64, shape (rank,)
        Part of each feature: how much the user has of it times how much the item has.
    user_offset, item_offset : float
        How generous the user and how well liked the item is; 0 for a model without offsets.
    items : ndarray, shape (k,)
        What the user has rated, the largest contributions (in size) first.
    ratings : ndarray of float64, shape (k,)
        The user's ratings of these.
    contributions : ndarray of float64, shape (k,)
        What each of these ratings adds to the features' part; negative for one that speaks against the item.
    others : float
        The contributions of the user's other ratings together.
    n_others : int
        How many they are.
    rest : float
        What does not come from single ratings: the average item that the model's prior has every user rate, and what
        the fit lacks of being stationary.
    rated : float or None
        What the user has rated the item itself, if so: then it is one of the ratings behind the prediction.
    level : float
        What all ratings have in common, taken off before the fit; 0 for scales that begin near 0.
    """

    user: Any
    item: Any
    score: float
    features: Vector
    user_offset: float
    item_offset: float
    items: NDArray[Any]
    ratings: Vector
    contributions: Vector
    others: float
    n_others: int
    rest: float
    rated: float | None = None
    level: float = 0.0

    def __str__(self) -> str:
        return self.describe()

    def describe(self, titles: Mapping[Any, str] | None = None) -> str:
        """Return the text that `print` shows, with titles of items where they are given.

        Parameters
        ----------
        titles : mapping, optional
            Title by item id.
        """
        titles = titles or {}
        known = "" if self.rated is None else f", rated {self.rated:g}"
        lines = [f"User {escaped(self.user)}, item {_called(self.item, titles)}: predicted {self.score:.3f}{known}"]
        order = np.argsort(-self.features, kind="stable")
        lines += [f"  {self.features[t]:+9.3f}  feature {t + 1}" for t in order[:SHOWN] if self.features[t] > 0]
        if (self.features[order[SHOWN:]] > 0).any():
            lines.append(f"  {self.features[order[SHOWN:]].sum():+9.3f}  other features")
        if self.level:
            lines.append(f"  {self.level:+9.3f}  level of all ratings")
        if self.user_offset or self.item_offset:
            lines += [
                f"  {self.user_offset:+9.3f}  offset of the user",
                f"  {self.item_offset:+9.3f}  offset of the item",
            ]
        lines.append(f"The features' part, {self.features.sum():.3f}, comes from the user's own ratings:")
        for item, rating, part in zip(self.items.tolist(), self.ratings, self.contributions, strict=True):
            lines.append(f"  {part:+9.3f}  rated {rating:g}: {_called(item, titles)}")
        if self.n_others:
            lines.append(f"  {self.others:+9.3f}  {self.n_others:,} other rating{'' if self.n_others == 1 else 's'}")
        lines.append(f"  {self.rest:+9.3f}  what the model assumes of every user")
        return "\n".join(line if len(line) <= WIDTH else line[: WIDTH - 3] + "..." for line in lines)


def _called(item: Any, titles: Mapping[Any, str]) -> str:
    return escaped(f"{item} {titles[item]}" if item in titles else item)


class Parts(NamedTuple):
    """Features and offsets of some users (k, .) or items, in float64."""

    features: NDArray[np.float64]
    offsets: NDArray[np.float64]


def split_parts(A: Matrix, rank: int) -> Parts:
    """Divide rows of components (k, R) into those of features, the first ``rank``, and those of offsets, if any."""
    rows = np.asarray(A, dtype=np.float64)
    return Parts(rows[:, :rank], rows[:, rank:])


def similar_items(ratings: Ratings, H: Matrix, rank: int, item: Any, n: object) -> SimilarItems:
    """What `Recommender.similar_items` returns; its arguments, and the model's ratings and H."""
    from nmfcore import _arguments

    n = _arguments.whole(n, "n", 1)
    place = one_position(ratings, item, "item")
    features = np.asarray(H[:rank], dtype=np.float64)
    largest = features.max(axis=0)
    features = features / np.where(largest > 0, largest, 1)  # squares of what is very small or large lose nothing
    lengths = np.sqrt((features**2).sum(axis=0))
    features /= np.where(lengths > 0, lengths, 1)
    cosines = np.minimum(features[:, place] @ features, 1.0)
    cosines[place] = 0
    best = np.argsort(-cosines, kind="stable")[:n]
    best = best[cosines[best] > 0]
    return SimilarItems(ratings.items[best], cosines[best])


def one_position(ratings: Ratings, wanted: Any, noun: str) -> int:
    """The position of a single user or item."""
    if np.ndim(wanted) != 0:
        raise TypeError(f"{noun}={wanted!r} is not one {noun}; give a single id")
    return int(ratings.user_index(wanted) if noun == "user" else ratings.item_index(wanted))


def explain(
    ratings: Ratings,
    W: Matrix,
    H: Matrix,
    rank: int,
    user: Any,
    item: Any,
    n: object,
    *,
    l2: float,
    prior: float,
    level: float = 0.0,
) -> Explanation:
    """What `Recommender.explain` returns; its arguments, the model's ratings and factors, its penalty and its level.

    ``ρ`` of the head of this file is ``l2`` for each rating of the user and for the ``prior`` ones.
    """
    from nmfcore import _arguments

    n = _arguments.whole(n, "n", 1)
    u, i = one_position(ratings, user, "user"), one_position(ratings, item, "item")
    own = slice(int(ratings.indptr[u]), int(ratings.indptr[u + 1]))
    rated, values = ratings.indices[own], ratings.data[own]
    w, h = split_parts(W[u : u + 1], rank), split_parts(H[:, i : i + 1].T, rank)
    features, offsets = (w.features * h.features)[0], (w.offsets * h.offsets)[0]
    of_rated = split_parts(H[:, rated].T, rank)
    sensitivity = _sensitivities(w.features[0], h.features[0], of_rated.features, l2, values.size + prior)
    contributions = (values - level - of_rated.offsets @ w.offsets[0]) * sensitivity
    order = np.argsort(-np.abs(contributions), kind="stable")
    best, left = order[:n], order[n:]
    user_offset, item_offset = (float(offsets[t]) if t < offsets.size else 0.0 for t in (0, 1))
    others = float(contributions[left].sum())
    itself = values[rated == i].tolist()
    return Explanation(
        user=plain_id(ratings.users[u]),
        item=plain_id(ratings.items[i]),
        score=level + float(features.sum()) + user_offset + item_offset,
        features=features,
        user_offset=user_offset,
        item_offset=item_offset,
        items=ratings.items[rated[best]],
        ratings=values[best],
        contributions=contributions[best],
        others=others,
        n_others=left.size,
        rest=float(features.sum() - contributions[best].sum()) - others,
        rated=itself[0] if itself else None,
        level=level,
    )


def _sensitivities(w: Vector, h: Vector, of_rated: NDArray[np.float64], l2: float, count: float) -> Vector:
    """``s_ij``: by how much the features' part for ``h`` rises with each rating, the support of ``w`` kept.

    ``ρ`` is ``l2`` for each of ``count`` ratings.
    """
    support = w > 0
    B = of_rated[:, support]
    if not B.size:
        return np.zeros(of_rated.shape[0])
    # No scale of the items changes s, but squares of very large ones, and what ρ is of them, would overflow.
    scale = math.ldexp(1.0, math.frexp(max(float(B.max()), math.sqrt(l2) * math.sqrt(count)))[1] - 1)
    B = B / scale
    system = B.T @ B
    system[np.diag_indices_from(system)] += l2 / scale / scale * count
    # Least squares: without a penalty and with fewer ratings than features the system is singular.
    solved = np.linalg.lstsq(system, h[support] / scale, rcond=None)[0]
    return np.asarray(B @ solved)
