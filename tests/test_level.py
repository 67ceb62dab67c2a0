"""Ratings on any scale have the same model; values that are no ratings are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nmfcore.datasets import planted_ratings
from nmfcore.ratings import Ratings, Recommender, UserItemMeans, evaluate, rmse
from nmfcore.recommender.level import level_of
from nmfcore.recommender.selecting import select_rank_for

SCALES = [(5.0, 0.0), (1.0, 75.0), (5.0, 75.0), (0.01, 3.0)]


def scaled(ratings: Ratings, factor: float, shift: float) -> Ratings:
    return Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, factor * ratings.data + shift)


@pytest.fixture(scope="module")
def parts() -> tuple[Ratings, Ratings]:
    return planted_ratings(200, 150, 6000).split(0.1, random_state=0)


@pytest.mark.parametrize(("factor", "shift"), SCALES)
def test_scales_have_the_same_model(parts: tuple[Ratings, Ratings], factor: float, shift: float) -> None:
    plain = Recommender(rank=4, random_state=0).fit(parts[0])
    train, test = (scaled(part, factor, shift) for part in parts)
    model = Recommender(rank=4, random_state=0).fit(train)
    assert plain.level_ == 0.0
    assert model.level_ == pytest.approx(shift)
    users, items, values = test.triplets()
    ids = test.users[users], test.items[items]
    predicted = (model.predict(*ids) - shift) / factor
    assert predicted == pytest.approx(plain.predict(*ids), abs=4e-6 * 4)
    assert model.predict(*ids) == pytest.approx(model.level_ + model.factorization_.predict(users, items))
    for user in train.users[:20]:
        assert model.recommend(user, 5).items.tolist() == plain.recommend(user, 5).items.tolist()
        ours, theirs = (m.recommend(user, 5).ratings for m in (model, plain))
        assert (ours - shift) / factor == pytest.approx(theirs, abs=2e-5)
    table = model.recommend(train.users[:3], 2)
    assert np.asarray(table["rating"] if hasattr(table, "columns") else table.ratings).min() > shift
    mine, theirs = evaluate(model, test), evaluate(plain, parts[1])
    assert mine.rmse / factor == pytest.approx(theirs.rmse, rel=1e-4)
    assert mine.ndcg == pytest.approx(theirs.ndcg, rel=1e-2)
    assert mine.rmse == pytest.approx(rmse(values, np.clip(model.predict(*ids), *model.rating_range_)))


def test_a_scale_far_from_zero_is_better_than_the_means(parts: tuple[Ratings, Ratings]) -> None:
    train, test = (scaled(part, 5.0, 75.0) for part in parts)
    users, items, values = test.triplets()
    model = Recommender(rank=4, random_state=0).fit(train)
    means = UserItemMeans.fit(train)
    assert evaluate(model, test).rmse < rmse(values, np.clip(means.predict(users, items), *model.rating_range_))


@pytest.mark.parametrize(
    ("values", "level"),
    [([1, 3, 5], 0), ([0.5, 5], 0), ([0, 10], 0), ([1, 10], 0), ([3, 3], 0), ([80, 100], 75), ([4, 5], 3.75)],
)
def test_only_scales_far_from_zero_have_a_level(values: list[float], level: float) -> None:
    assert level_of(Ratings.from_triplets([1] * len(values), range(len(values)), values)) == level


def test_an_explanation_adds_up_and_shows_the_level(parts: tuple[Ratings, Ratings]) -> None:
    train = scaled(parts[0], 5.0, 75.0)
    model = Recommender(rank=3, random_state=0).fit(train)
    why = model.explain(train.users[3], train.items[5])
    assert why.level == model.level_ == 75.0
    assert why.score == pytest.approx(model.predict(train.users[3], train.items[5]))
    assert why.score == pytest.approx(why.level + why.features.sum() + why.user_offset + why.item_offset)
    assert why.features.sum() == pytest.approx(why.contributions.sum() + why.others + why.rest)
    assert "+75.000  level of all ratings" in str(why)
    assert why.ratings.min() >= 80
    plain = Recommender(rank=3, random_state=0).fit(parts[0]).explain(train.users[3], train.items[5])
    assert plain.level == 0.0
    assert "level" not in str(plain)
    assert why.contributions / 5 == pytest.approx(plain.contributions, abs=1e-4)


def test_a_model_with_a_level_is_saved_and_goes_on(parts: tuple[Ratings, Ratings], tmp_path: Path) -> None:
    train = scaled(parts[0], 5.0, 75.0)
    model = Recommender(rank=3, random_state=0).fit(train)
    model.save(tmp_path / "model.npz")
    loaded = Recommender.load(tmp_path / "model.npz")
    assert loaded.level_ == 75.0
    assert loaded.rating_range_ == (80.0, 100.0)
    assert loaded.predict(1, 2) == model.predict(1, 2)
    plain = Recommender(rank=3, random_state=0).fit(parts[0])
    new, plain_new = {5: 95.0, 7: 80.0}, {5: 4.0, 7: 1.0}
    assert (model.fold_in(new).predict("new", 9) - 75) / 5 == pytest.approx(plain.fold_in(plain_new).predict("new", 9))
    assert model.fold_in(new).ratings_.data.tolist() == [95.0, 80.0]
    with pytest.warns(UserWarning, match=r"1 of 2 ratings are below the level of the model, 75 \(the lowest is 60\)"):
        model.fold_in({5: 95.0, 7: 60.0})
    more = Ratings.from_triplets([1, 999], [3, 3], [90, 85])
    model.partial_fit(more)
    plain.partial_fit(Ratings.from_triplets([1, 999], [3, 3], [3, 2]))
    assert model.level_ == 75.0
    assert (model.predict(999, 8) - 75) / 5 == pytest.approx(plain.predict(999, 8), abs=1e-4)
    with pytest.warns(UserWarning, match="below the level of the model"):
        model.partial_fit(Ratings.from_triplets([1], [3], [2]))


def test_a_rank_is_chosen_on_any_scale(parts: tuple[Ratings, Ratings]) -> None:
    plain, far = (
        select_rank_for(Recommender(), ratings, [1, 2, 4], n_folds=3, random_state=0)
        for ratings in (parts[0], scaled(parts[0], 5.0, 75.0))
    )
    assert far.errors / 25 == pytest.approx(plain.errors, rel=1e-4)
    assert far.best == plain.best


def test_values_that_are_no_ratings_are_named() -> None:
    users, items = np.repeat(np.arange(20), 10), np.tile(np.arange(10), 20)
    with pytest.warns(UserWarning, match="all 200 ratings are 1: there is nothing to learn from them"):
        Recommender(rank=1, random_state=0).fit(Ratings.from_triplets(users, items, np.ones(200)))
    with pytest.warns(UserWarning, match="all 2 ratings are 3"):
        Recommender(rank=1, random_state=0).fit(Ratings.from_triplets([1, 2], [1, 1], [3, 3]))
    plays = np.exp(3 * np.random.default_rng(0).standard_normal(200))
    with pytest.warns(UserWarning, match=r"the largest value is .* Take their logarithm, numpy\.log1p, first"):
        Recommender(rank=1, random_state=0).fit(Ratings.from_triplets(users, items, plays))
    Recommender(rank=1, random_state=0).fit(Ratings.from_triplets(users, items, np.log1p(plays)))
