"""The movie table and planted ratings."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from nmfcore.cli.demo import NOISE_FLOOR
from nmfcore.datasets import _draw_model, _draw_pairs, movie_table, planted_ratings
from nmfcore.ratings import GlobalMean, Ratings, UserItemMeans, rmse


def test_the_movie_table() -> None:
    table = movie_table()
    assert table.ratings.shape == (len(table.users), len(table.movies)) == (5, 4)
    assert table.ratings.dtype == np.float64
    assert not table.ratings.flags.writeable
    assert np.count_nonzero(table.ratings) == 13
    lines = str(table).split("\n")
    assert lines[0].split() == list(table.movies)
    assert [line.split() for line in lines[1:]] == [
        [user, *(f"{x:g}" for x in row)] for user, row in zip(table.users, table.ratings, strict=True)
    ]


def test_planted_ratings_have_the_shape_of_movielens_100k() -> None:
    planted_ratings(5, 5, 5)  # loads what is loaded on first use
    began = time.perf_counter()
    ratings = planted_ratings()
    assert time.perf_counter() - began < 2  # 0.15 s where it was written
    assert (*ratings.shape, ratings.nnz) == (943, 1682, 100_000)
    assert ratings.users.tolist() == list(range(1, 944))
    assert set(ratings.data.tolist()) == {1, 2, 3, 4, 5}
    assert ratings.mean() == pytest.approx(3.43, abs=0.1)
    for counts, top, bottom in ((np.diff(ratings.indptr), 0.27, 0.25), (np.bincount(ratings.indices), 0.3, 0.1)):
        counts = np.sort(counts)[::-1]
        assert counts[-1] >= 1
        assert counts[: counts.size // 10].sum() > top * ratings.nnz  # a long tail: the top tenth has much more
        assert counts[counts.size // 2 :].sum() < bottom * ratings.nnz


def test_the_seed_decides() -> None:
    first, again, other = (planted_ratings(50, 40, 500, random_state=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.data, again.data)
    assert np.array_equal(first.indices, again.indices)
    assert not np.array_equal(first.indices, other.indices)


@pytest.mark.parametrize(
    ("m", "n", "count"),
    [
        (5, 4, 20),
        (3, 8, 24),
        (3, 8, 8),
        (8, 3, 8),
        (7, 7, 7),
        (4, 300, 301),
        (300, 4, 310),
        (1, 1, 1),
        (200, 300, 6000),
    ],
)
def test_everybody_has_a_rating_where_there_are_enough(m: int, n: int, count: int) -> None:
    ratings = planted_ratings(m, n, count)
    assert (*ratings.shape, ratings.nnz) == (m, n, count)


def test_fewer_ratings_than_users() -> None:
    ratings = planted_ratings(1000, 1000, 10)
    assert ratings.nnz == 10
    assert ratings.shape[0] <= 10


def test_offsets_and_factors_are_there_to_be_found() -> None:
    train, test = planted_ratings().split(0.1, random_state=0)
    users, items, values = test.triplets()
    mean = rmse(values, GlobalMean.fit(train).predict(users, items))
    means = rmse(values, UserItemMeans.fit(train).predict(users, items))
    assert means < 0.85 * mean
    assert means > 1.1 * NOISE_FLOOR


def test_who_knew_the_planted_factors_would_be_off_by_the_noise() -> None:
    rng = np.random.default_rng(0)
    users, items = np.divmod(_draw_pairs(943, 1682, 100_000, rng), 1682)
    taste = _draw_model(943, 1682, 6, rng).taste(users, items)
    expected = np.ones(taste.size)  # E r = 1 + P(r >= 2) + ... + P(r >= 5), and r >= k is s + 0.8 ε > k - 0.5
    for k in range(2, 6):
        expected += [0.5 * math.erfc((k - 0.5 - s) / (0.8 * math.sqrt(2))) for s in taste.tolist()]
    ratings, knowing = planted_ratings(), Ratings.from_triplets(users + 1, items + 1, expected)
    assert np.array_equal(ratings.indices, knowing.indices)
    assert ratings.mean() == pytest.approx(knowing.mean(), abs=0.01)
    hidden, best = (part.split(0.1, random_state=0)[1] for part in (ratings, knowing))
    assert np.array_equal(hidden.indices, best.indices)
    assert rmse(hidden.data, best.data) == pytest.approx(NOISE_FLOOR, abs=0.005)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_users": 2, "n_items": 2, "n_ratings": 5}, "5 is more than the 4 pairs"),
        ({"n_users": 0}, "n_users=0"),
        ({"rank": 0}, "rank=0"),
        ({"noise": -1.0}, "noise=-1"),
        ({"noise": float("nan")}, "noise=nan"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        planted_ratings(**arguments)
