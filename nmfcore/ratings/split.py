"""Which ratings to hold out, and which fold each is in; temporaries of a few bytes a rating."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.assemble import blocks
from nmfcore.ratings.ids import BLOCK


def held_out_by_rating(nnz: int, test: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark exactly round(test * nnz) ratings, all equally likely."""
    # rng.permutation(nnz), bit for bit, in half of its memory.
    order = np.arange(nnz, dtype=np.int32 if nnz <= np.iinfo(np.int32).max else np.int64)
    rng.shuffle(order)
    held_out = np.zeros(nnz, dtype=bool)
    n_test = round(test * nnz)
    for part in blocks(n_test):
        held_out[order[part]] = True
    return held_out


def held_out_by_user(indptr: NDArray[np.int64], test: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark round(test * n) of each user's n ratings, never all of them."""
    n_ratings = np.diff(indptr)
    quota = np.minimum(np.rint(test * n_ratings).astype(np.int64), np.maximum(n_ratings - 1, 0))
    held_out = np.zeros(int(indptr[-1]), dtype=bool)
    for user, order in _shuffled_within_users(indptr, rng):
        place = np.arange(order.size) - (indptr[user] - indptr[user[0]])  # of each rating among its user's
        held_out[order[place < quota[user]]] = True
    return held_out


def held_out_by_time(times: NDArray[np.int64], test: float) -> NDArray[np.bool_]:
    """Mark the latest ratings, at most round(test * nnz): all those after a time."""
    n_train = times.size - round(test * times.size)
    if n_train < 1:
        return np.ones(times.size, dtype=bool)
    held_out: NDArray[np.bool_] = times > np.partition(times, n_train - 1)[n_train - 1]
    return held_out


def folds_by_rating(nnz: int, k: int, rng: np.random.Generator) -> NDArray[np.unsignedinteger]:
    """Give each rating one of k folds, whose sizes differ by one at most; any rating is as likely there as another."""
    folds = np.tile(np.arange(k, dtype=np.min_scalar_type(k - 1)), -(-nnz // k))[:nnz]
    rng.shuffle(folds)
    return folds


def folds_by_user(indptr: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.unsignedinteger]:
    """Give each rating one of k folds, which differ by one rating at most in size, and so in each user's share."""
    folds = np.empty(int(indptr[-1]), dtype=np.min_scalar_type(k - 1))
    # Dealt out like cards, user after user: where one user's deal ends, the next one's begins. Shuffled names, so
    # that who has a single rating is as likely in one fold as in another.
    names = rng.permutation(k).astype(folds.dtype)
    for user, order in _shuffled_within_users(indptr, rng):
        folds[order] = names[(indptr[user[0]] + np.arange(order.size)) % k]
    return folds


def _shuffled_within_users(
    indptr: NDArray[np.int64], rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, some users at a time, the user of each rating and the ratings, users in order, theirs shuffled."""
    first = 0
    while first < indptr.size - 1:
        last = max(first + 1, int(np.searchsorted(indptr, indptr[first] + BLOCK, side="right")) - 1)
        user = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        if user.size:
            # One integer sort shuffles within every user: the user above, 32 random bits below.
            order = np.argsort((user << 32) | rng.integers(0, 1 << 32, size=user.size), kind="stable")
            yield user, order + indptr[first]
        first = last


def counts_before(kept: NDArray[np.bool_], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many are kept before each of the ascending places, the last of which is the end."""
    counts = np.zeros_like(places)
    total = 0
    for part in blocks(kept.size):
        first, last = np.searchsorted(places, [part.start, part.stop], side="right")
        before = np.cumsum(kept[part])
        counts[first:last] = total + before[places[first:last] - part.start - 1]
        total += int(before[-1])
    return counts
