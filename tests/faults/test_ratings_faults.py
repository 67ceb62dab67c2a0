"""Rows 117 to 131: ratings, their ids, and entries that are missing. scikit-learn's NMF has neither."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catalogue import Case, case, each, holds, refused
from fits import X, ask, changed, sound

from nmfcore import Factorization, Ratings, Recommender

OBSERVED = np.random.RandomState(2).random_sample(X.shape) < 0.8
OBSERVED[2] = True
NO_ROW, NO_COLUMN = OBSERVED.copy(), OBSERVED.copy()
NO_ROW[2], NO_COLUMN[:, 3] = False, False
THREE = {"user": [1, 1, 2], "item": [10, 20, 10], "rating": [5.0, 3.0, 4.0]}


def fitted(**columns: Any) -> Recommender:
    return Recommender(rank=2, random_state=0).fit(Ratings.from_triplets(*(THREE | columns).values()))


def triplets(**columns: Any) -> Callable[[], Ratings]:
    return lambda: Ratings.from_triplets(*(THREE | columns).values())


def table(**columns: Any) -> Callable[[], Ratings]:
    return lambda: Ratings.from_frame(pd.DataFrame(THREE | columns))


def unrated() -> Recommender:
    """User 2 and item 3 are known, and have no rating."""
    ratings = Ratings(np.arange(3), np.arange(4), [0, 3, 5, 5], [0, 1, 2, 0, 2], [5.0, 4, 5, 1, 2])
    return Recommender(rank=2, random_state=0).fit(ratings)


def _no_row(f: Factorization) -> None:
    assert not sound(f).W[2].any()


def _no_column(f: Factorization) -> None:
    assert not sound(f).H[:, 3].any()


def new_user() -> str:
    predicted = unrated().predict(2, [0, 1, 2, 3])
    assert np.isfinite(predicted).all()
    assert 1 < predicted.min() < predicted.max() < 5
    return "what the average user would get"


def new_item() -> str:
    items, predicted = unrated().recommend(0, n=5)
    assert items.tolist() == [3]  # the only one not rated
    assert 1 < predicted[0] < 5
    return "predicted as the average item, and recommended"


def garbage() -> str:
    expected = ask(X, mask=OBSERVED)
    for value in (np.nan, np.inf, 1e308, -7.0):
        f = ask(np.where(OBSERVED, X, value), mask=OBSERVED)
        np.testing.assert_array_equal(f.W, expected.W)
        np.testing.assert_array_equal(f.H, expected.H)
    return "no bit changes"


def fewer() -> str:
    items, predicted = fitted().recommend(2, n=1000)
    assert items.tolist() == [20]
    assert predicted.shape == (1,)
    return "as many as there are"


def exhausted() -> str:
    items, predicted = fitted().recommend(1)
    assert items.size == predicted.size == 0
    return "none"


def zero() -> str:
    ratings = Ratings.from_triplets([1, 1, 2], [10, 20, 10], [0.0, 3.0, 4.0])
    assert ratings.nnz == 3
    assert ratings.data.min() == 0
    return "a rating like any other"


def many_texts() -> str:
    """A million distinct ids, in no order."""
    ids = [f"u{k * 7919 % 1_000_003}" for k in range(1_000_003)]
    began = time.perf_counter()
    ratings = Ratings.from_triplets(ids, np.zeros(len(ids), int), np.ones(len(ids)))
    assert time.perf_counter() - began < 10.0  # 1 s here; a quadratic time would be days
    assert ratings.shape == (1_000_003, 1)
    return "about a second"


def unused_levels() -> str:
    users = pd.Categorical(["ann", "bob", "bob"], categories=["ann", "bob", "eve", "zoe"])
    ratings = table(user=users)()
    assert ratings.users.tolist() == ["ann", "bob"]
    return "no users"


MISSING_ID = r"user id in row 1 is (missing|nan|None)"
CASES = [
    case(
        117,
        "all entries masked",
        X,
        refused(ValueError, "No observed entries: every entry of X is missing"),
        mask=np.zeros((6, 5), bool),
    ),
    case(118, "a row without an observed entry", X, holds(_no_row), mask=NO_ROW),
    Case(118, "a user without ratings", new_user, holds(lambda _: None), note="documented in `Recommender.fit`"),
    case(119, "a column without an observed entry", X, holds(_no_column), mask=NO_COLUMN),
    Case(
        119,
        "an item without ratings",
        new_item,
        holds(lambda _: None),
        note="the average item is a guess like any other; pass `items=` to leave it out",
    ),
    case(
        120,
        "a mask of another shape",
        X,
        refused(ValueError, r"mask has shape \(2, 2\) where X has \(6, 5\)"),
        mask=np.ones((2, 2), bool),
    ),
    case(
        120,
        "a mask of floats",
        X,
        refused(TypeError, r"mask has dtype float64; it must be bool, True where X was observed: pass mask.astype"),
        mask=np.ones((6, 5)),
    ),
    Case(121, "NaN, inf, 1e308, -7 under the mask", garbage, holds(lambda _: None)),
    Case(
        122,
        "a user and an item twice",
        triplets(user=[1, 1, 1]),
        refused(ValueError, r"user 1 and item 10, 2 times; pass duplicates='last' or 'mean', or remove them"),
    ),
    Case(
        123,
        "NaN for an id",
        table(user=[1.0, np.nan, 2.0]),
        refused(ValueError, "user id in row 1 is nan; drop that rating or give it one"),
    ),
    Case(
        123,
        "None for an id",
        table(user=["ann", None, "bob"]),
        refused(ValueError, "user id in row 1 is missing; drop that rating or give it one"),
    ),
    Case(
        123,
        "an id of 2.5",
        table(user=[1.0, 2.5, 2.0]),
        refused(ValueError, r"user id in row 1 is 2\.5; .*convert the column with int or str"),
        shown=False,
    ),
    Case(
        123,
        "a rating of NaN",
        table(rating=[5.0, np.nan, 4.0]),
        refused(ValueError, "rating in row 1 is nan; ratings are finite and at least 0: drop or repair that rating"),
    ),
    Case(
        124,
        "ids 1 and '1'",
        triplets(user=[1, "1", 2]),
        refused(TypeError, r"user id '1' in row 1 is a str, row 0 is 1; ids are all .*convert the column"),
    ),
    Case(
        125,
        "`recommend` for an unknown user",
        lambda: fitted().recommend(7),
        refused(KeyError, "unknown user 7: 2 users are known, for example 1"),
    ),
    Case(126, "`recommend` with n beyond the items", fewer, holds(lambda _: None)),
    Case(127, "`recommend` for who has rated everything", exhausted, holds(lambda _: None)),
    Case(
        128,
        "a negative rating",
        triplets(rating=[5.0, -1.0, 4.0]),
        refused(ValueError, "rating in row 1 is -1.0; ratings are finite and at least 0: shift the scale"),
    ),
    Case(128, "a rating of 0", zero, holds(lambda _: None)),
    Case(
        129,
        "columns of other names",
        lambda: Ratings.from_frame({"a": [1], "b": [2], "c": [3]}),
        refused(ValueError, r"no column that is usually the user.*columns found: 'a', 'b', 'c'; name them with user="),
    ),
    Case(
        129,
        "a name that is no column",
        lambda: Ratings.from_frame(THREE, item="film"),
        refused(ValueError, r"no column 'film' \(item=\); columns found: 'user', 'item', 'rating'"),
    ),
    Case(130, "a million distinct texts for ids", many_texts, holds(lambda _: None)),
    Case(131, "categories that nobody has", unused_levels, holds(lambda _: None)),
]


@each(CASES)
def test_ratings(case):
    case.hold()


@pytest.mark.row(121)
def test_a_bad_value_that_counts_is_not_garbage():
    with pytest.raises(ValueError, match=r"X\[4, 1\] = inf"):
        ask(changed(4, 1, np.inf), mask=np.ones((6, 5), bool))
