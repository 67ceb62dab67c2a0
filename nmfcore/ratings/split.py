"""Which ratings to hold out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def held_out_by_rating(nnz: int, test: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark exactly round(test * nnz) ratings, all equally likely."""
    held_out = np.zeros(nnz, dtype=bool)
    held_out[rng.permutation(nnz)[: round(test * nnz)]] = True
    return held_out


def held_out_by_user(indptr: NDArray[np.int64], test: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Mark round(test * n) of each user's n ratings, never all of them."""
    n_ratings = np.diff(indptr)
    quota = np.minimum(np.rint(test * n_ratings).astype(np.int64), np.maximum(n_ratings - 1, 0))
    user = np.repeat(np.arange(n_ratings.size), n_ratings)
    # One integer sort shuffles within every user: the user above, 32 random bits below.
    order = np.argsort((user << 32) | rng.integers(0, 1 << 32, size=user.size), kind="stable")
    place = np.arange(user.size) - indptr[user]  # of each shuffled rating among its user's
    held_out = np.zeros(user.size, dtype=bool)
    held_out[order[place < quota[user]]] = True
    return held_out
