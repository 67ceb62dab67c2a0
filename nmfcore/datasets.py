"""Data to try things on: the movie table that everybody starts from, and planted ratings of any size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings import Ratings
from nmfcore.ratings.assemble import blocks, compress
from nmfcore.ratings.ids import distinct

_DENSE = 0.1  # beyond this density, pairs drawn one by one would repeat too often


@dataclass(frozen=True, slots=True, eq=False)
class MovieTable:
    """A small labelled table of ratings; 0 stands for "has not rated".

    Attributes
    ----------
    users, movies : tuple of str
        Names of the rows and of the columns.
    ratings : ndarray of float64, shape (n_users, n_movies)
        Read-only.
    """

    users: tuple[str, ...]
    movies: tuple[str, ...]
    ratings: NDArray[np.float64]

    def __repr__(self) -> str:
        width = max(map(len, self.users))
        head = " ".join([" " * width, *self.movies])
        rows = (
            " ".join([f"{user:{width}}", *(f"{x:{len(movie)}g}" for x, movie in zip(row, self.movies, strict=True))])
            for user, row in zip(self.users, self.ratings, strict=True)
        )
        return "\n".join([head, *rows])


def movie_table() -> MovieTable:
    """Return the textbook's table: five users, four movies, 13 ratings of 1 to 5, and 7 zeros.

    Examples
    --------
    >>> from nmfcore.datasets import movie_table
    >>> movie_table()
          Movie1 Movie2 Movie3 Movie4
    User1      5      3      0      1
    User2      4      0      0      1
    User3      1      1      0      5
    User4      1      0      0      4
    User5      0      1      5      4
    """
    ratings = np.array([[5, 3, 0, 1], [4, 0, 0, 1], [1, 1, 0, 5], [1, 0, 0, 4], [0, 1, 5, 4]], np.float64)
    ratings.flags.writeable = False
    return MovieTable(
        tuple(f"User{k + 1}" for k in range(5)),
        tuple(f"Movie{k + 1}" for k in range(4)),
        ratings,
    )


def planted_ratings(
    n_users: int = 943,
    n_items: int = 1682,
    n_ratings: int = 100_000,
    *,
    rank: int = 6,
    noise: float = 0.8,
    random_state: int | np.random.Generator | None = 0,
) -> Ratings:
    r"""Ratings drawn from a known non-negative model; the default has the shape of MovieLens-100K.

    The taste of user u for item i is a sum of non-negative parts, and the rating is that taste, seen through
    noise and rounded to whole stars:

    .. math:: s_{ui} = a_u + b_i + Σ_t w_{ut} h_{it}, \qquad r_{ui} = \min(5, \max(1, [s_{ui} + σ ε_{ui}]))

    with ``a ~ |N(1.4, 0.4²)|``, ``b ~ |N(1.3, 0.45²)|``, ``w_ut = √(6/rank)·Gamma(0.4)``, h likewise with √(5/rank),
    ``ε ~ N(0, 1)``, ``σ = noise``: without noise and rounding, a matrix of non-negative rank ``rank + 2``.

    Who rates what does not depend on taste. The k-th most active user is drawn in proportion to
    ``(k + n_users/2)^-3``, the k-th most popular item to ``(k + n_items/4)^-3``; which user or item is k-th is
    random. Pairs are distinct. Every user and every item has at least one rating, if ``n_ratings`` is at least
    ``max(n_users, n_items)``.

    Parameters
    ----------
    n_users, n_items : int
        Ids are 1 to ``n_users`` and 1 to ``n_items``.
    n_ratings : int
        At most ``n_users * n_items``.
    rank : int
        Number of planted features.
    noise : float
        Standard deviation of ε, in stars.
    random_state : int, Generator or None
        The same int gives the same ratings.

    Returns
    -------
    Ratings
        If ``n_ratings`` is too small for everybody to have one, only who has one is listed.

    Raises
    ------
    ValueError
        If more ratings are asked for than there are pairs, or a number is out of range.

    Examples
    --------
    >>> from nmfcore.datasets import planted_ratings
    >>> planted_ratings(20, 30, 100).shape
    (20, 30)
    """
    from nmfcore import _arguments  # loads numba, which the movie table does without

    m, n = _arguments.whole(n_users, "n_users", 1), _arguments.whole(n_items, "n_items", 1)
    count, rank = _arguments.whole(n_ratings, "n_ratings", 1), _arguments.whole(rank, "rank", 1)
    noise = _arguments.non_negative(noise, "noise")
    if count > m * n:
        raise ValueError(f"n_ratings={count} is more than the {m * n} pairs of {m} users and {n} items.")
    rng = np.random.default_rng(random_state)
    keys = _draw_pairs(m, n, count, rng)
    model = _draw_model(m, n, rank, rng)
    stars = np.empty(count)
    for part in blocks(count):
        taste = model.taste(*np.divmod(keys[part], n))
        stars[part] = np.clip(np.rint(taste + noise * rng.standard_normal(taste.size)), 1, 5)
    if count < max(m, n):
        users, items = np.divmod(keys, n)
        return Ratings.from_triplets(users + 1, items + 1, stars)
    return Ratings(np.arange(1, m + 1), np.arange(1, n + 1), *compress(keys, stars, m, n))


@dataclass(frozen=True)
class _Model:
    """What is planted: offsets a (m,) and b (n,), factors W (m, rank) and H (n, rank)."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    W: NDArray[np.float64]
    H: NDArray[np.float64]

    def taste(self, users: NDArray[np.int64], items: NDArray[np.int64]) -> NDArray[np.float64]:
        """The taste of each user for the item beside it."""
        taste: NDArray[np.float64] = self.a[users] + self.b[items]
        for t in range(self.W.shape[1]):  # one feature at a time: memory for one number a rating, not for rank
            taste += self.W[users, t] * self.H[items, t]
        return taste


def _draw_model(m: int, n: int, rank: int, rng: np.random.Generator) -> _Model:
    a, b = np.abs(rng.normal(1.4, 0.4, m)), np.abs(rng.normal(1.3, 0.45, n))
    W, H = np.sqrt(6 / rank) * rng.gamma(0.4, size=(m, rank)), np.sqrt(5 / rank) * rng.gamma(0.4, size=(n, rank))
    return _Model(a, b, W, H)


def _draw_pairs(m: int, n: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Distinct keys ``user * n + item``, ascending, long-tailed in both."""
    active, popular = _shares(m, m / 2, rng), _shares(n, n / 4, rng)
    keys = _one_each(m, n, active, popular, rng) if count >= max(m, n) else np.empty(0, np.int64)
    if count > _DENSE * m * n:
        # An exponential race: the cells with the smallest E / p are a draw without replacement.
        arrival = (rng.standard_exponential((m, n)) / np.outer(active, popular)).reshape(-1)
        arrival[keys] = 0.0
        return np.sort(np.argpartition(arrival, count - 1)[:count])
    keys.sort()
    while keys.size < count:
        wanted = 64 + int(1.2 * (count - keys.size))
        drawn = np.zeros(wanted, np.int64)
        for shares, step in ((active, n), (popular, 1)):
            total = np.cumsum(shares)
            for part in blocks(wanted):
                drawn[part] += step * np.searchsorted(total, rng.random(drawn[part].size)).clip(max=shares.size - 1)
        fresh = _without(distinct(drawn), keys)
        del drawn
        rng.shuffle(fresh)
        keys = np.concatenate([keys, fresh[: count - keys.size]])
        keys.sort()
    return keys


def _without(keys: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """The keys that are not among the others; both ascending and distinct."""
    if not others.size:
        return keys
    if keys.size < others.size:  # the fewer are looked up among the more
        known = others[np.searchsorted(others, keys).clip(max=others.size - 1)] == keys
    else:
        place = np.searchsorted(keys, others).clip(max=keys.size - 1)
        known = np.zeros(keys.size, bool)
        known[place[keys[place] == others]] = True
    fresh: NDArray[np.int64] = keys[~known]
    return fresh


def _shares(size: int, offset: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Probabilities that fall with the rank as (k + offset)^-3, in random order."""
    weights = (rng.permutation(size) + 1.0 + offset) ** -3
    shares: NDArray[np.float64] = weights / weights.sum()
    return shares


def _one_each(
    m: int, n: int, active: NDArray[np.float64], popular: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """max(m, n) distinct pairs in which every user and every item occurs."""
    users, items = np.arange(m), np.arange(n)
    if m < n:
        users = np.concatenate([users, rng.choice(m, n - m, p=active)])
    elif n < m:
        items = np.concatenate([items, rng.choice(n, m - n, p=popular)])
    keys: NDArray[np.int64] = rng.permutation(users) * n + items if m < n else users * n + rng.permutation(items)
    return keys
