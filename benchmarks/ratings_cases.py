"""Which ratings, which peers at which settings, and what is asked of nmfcore beside them (issue 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse

from benchmarks import datasets

MARGIN = 0.0005  # how near LIBMF's time is to its own best RMSE
STARS = (1.0, 5.0)
Split = tuple[Any, tuple[Any, Any, Any]]  # training CSR of float32; users, items, ratings of the test


@dataclass(frozen=True)
class Peer:
    """A peer at fair settings: its target is its best RMSE over ``grid`` (iterations) and ``l2s``, and ``margin``.

    Its time is that of the shortest whole call, of all ``iterations``, that arrives at the target.
    """

    name: str
    l2s: tuple[float, ...]
    grid: tuple[int, ...]
    iterations: tuple[int, ...]
    margin: float = 0.0
    goal: float | None = None


@dataclass(frozen=True)
class RatingsCase:
    """Splits of ratings and who races on them; or, with ``settings``, a `Recommender` and the RMSE asked of it."""

    name: str
    load: Callable[[], list[Split]]
    rank: int = 0
    peers: tuple[Peer, ...] = ()
    settings: dict[str, Any] | None = None
    goal: float | None = None
    most: int = 100  # iterations of ours in which a target may be reached
    group: str = field(default="masked", init=False)


def libmf(goal: float | None) -> Peer:
    return Peer(
        "libmf", (0.03, 0.05, 0.08), (20, 40, 60), (5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60), MARGIN, goal
    )


def cmfrec(goal: float | None) -> Peer:
    """Its l2 is the best of a trial on this very split, which favours it.

    RMSE after 15 iterations with l2 0.03, 0.05, 0.06, 0.08: .8522, .8451, .8450, .8502 for r = 16, and .8616, .8461,
    .8443, .8470 for r = 32.
    """
    return Peer("cmfrec", (0.06,), (15,), (15,), goal=goal)


SURPRISE = Peer("surprise", (0.06,), (50,), (50,), goal=80.0)
CORNAC = Peer("cornac", (0.06,), (50,), (50,))


def full() -> list[RatingsCase]:
    million = partial(one, datasets.movielens_1m, 1)
    return [
        RatingsCase("ml-1m-r16", million, 16, (libmf(10.0), cmfrec(25.0))),
        RatingsCase("ml-1m-r32", million, 32, (libmf(10.0), cmfrec(25.0))),
        RatingsCase("ml-1m-r64", million, 64, (libmf(6.0),)),
        RatingsCase("ml-1m-r15", million, 15, (SURPRISE, CORNAC)),
        RatingsCase("ml-1m-default", million, settings={}, goal=0.847),
        RatingsCase("ml-1m-stated", million, settings={"rank": 128, "l2": 0.06, "offsets": False}, goal=0.841),
        RatingsCase("ml-100k-5-folds", partial(folds, datasets.movielens), settings={}, goal=0.925),
    ]


def quick() -> list[RatingsCase]:
    """Small, and without a goal: to see that everything runs."""
    small = partial(one, partial(datasets.planted_ratings, 300, 200, 8000), 1)
    peers = tuple(
        Peer(name, (0.05,), (5,), (2, 5), margin)
        for name, margin in (("libmf", MARGIN), ("cmfrec", 0.0), ("surprise", 0.0), ("cornac", 0.0))
    )
    return [
        RatingsCase("small-held-out", small, 6, peers, most=40),
        RatingsCase("small-default", small, settings={"rank": 6}),
    ]


def one(load: Callable[[], Any], seed: int) -> list[Split]:
    """A tenth of the ratings, in the order they are stored in, held out: ``default_rng(seed).random(nnz) < 0.1``."""
    A = load()
    return [_split(A, np.random.default_rng(seed).random(A.nnz) < 0.1)]


def folds(load: Callable[[], Any], count: int = 5, seed: int = 0) -> list[Split]:
    """Each rating held out once, by ``default_rng(seed).permutation(nnz) % count``."""
    A = load()
    fold = np.random.default_rng(seed).permutation(A.nnz) % count
    return [_split(A, fold == k) for k in range(count)]


def _split(A: Any, test: Any) -> Split:
    A = scipy.sparse.coo_array(A)
    i, j = A.coords
    train = scipy.sparse.csr_array(
        scipy.sparse.coo_array((A.data[~test].astype(np.float32), (i[~test], j[~test])), shape=A.shape)
    )
    train.sort_indices()
    return train, (i[test], j[test], A.data[test].astype(float))
