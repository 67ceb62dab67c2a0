"""Users and items that a model does not know: by its average user and item, left out, or refused."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from nmfcore import Ratings, Recommender, evaluate
from nmfcore.datasets import planted_ratings
from nmfcore.ratings import Evaluation, UserItemMeans
from nmfcore.recommender import evaluation

L2, PRIOR = 0.07, 12.0
NEW_USERS, NEW_ITEMS = [0, 90, 1000], [0, 70, 2000]  # before, among and after those that are known


def with_gaps(ratings: Ratings) -> Ratings:
    """The same by ids with gaps, so that new ones can stand anywhere."""
    users, items, values = ratings.triplets()
    return Ratings.from_triplets(3 * users + 7, 4 * items + 5, values)


@pytest.fixture(scope="module")
def parts() -> tuple[Ratings, Ratings]:
    """A training part, and a later one with new users and new items in it."""
    train, known = with_gaps(planted_ratings(60, 50, 1500)).split(0.2, random_state=0)
    rng = np.random.default_rng(0)
    rows, columns, values = known.triplets()
    users, items = known.users[rows], known.items[columns]
    of_new_users = np.repeat(NEW_USERS, 8), np.concatenate([rng.permutation(train.items)[:8] for _ in NEW_USERS])
    of_new_items = np.concatenate([rng.permutation(train.users)[:6] for _ in NEW_ITEMS]), np.repeat(NEW_ITEMS, 6)
    of_both = np.array(NEW_USERS), np.array(NEW_ITEMS)
    users, items = (
        np.concatenate([own, *more])
        for own, *more in zip((users, items), of_new_users, of_new_items, of_both, strict=True)
    )
    more = rng.integers(1, 6, users.size - values.size)
    return train, Ratings.from_triplets(users, items, np.concatenate([values, more]))


@pytest.fixture(scope="module", params=[True, False], ids=["offsets", "no_offsets"])
def model(parts: tuple[Ratings, Ratings], request: pytest.FixtureRequest) -> Recommender:
    return Recommender(rank=4, l2=L2, prior=PRIOR, offsets=request.param, random_state=0, tol=1e-4, max_iter=2000).fit(
        parts[0]
    )


def in_file(model: Recommender, folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """W and H with the average user (last row) and item (last column), and the unit that they are in."""
    model.save(folder / "whole.npz")
    with np.load(folder / "whole.npz") as file:
        return file["W"], file["H"], float(file["levels"][0] / 4)


def by_hand(model: Recommender, folder: Path) -> np.ndarray:
    """All predictions, those for the average user and the average item last."""
    W, H, unit = in_file(model, folder)
    return unit * (W @ H)


def restricted(test: Ratings, train: Ratings) -> Ratings:
    """The ratings of whom and what both know."""
    rows, columns, values = test.triplets()
    users, items = test.users[rows], test.items[columns]
    kept = np.isin(users, train.users) & np.isin(items, train.items)
    return Ratings.from_triplets(users[kept], items[kept], values[kept])


# predict


def test_the_average_user_and_item_are_those_of_the_file(model: Recommender, tmp_path: Path) -> None:
    product, train = by_hand(model, tmp_path), model.ratings_
    n_users, n_items = train.shape
    for new in NEW_USERS:
        found = model.predict(new, train.items, unknown="average")
        np.testing.assert_allclose(found, product[-1, :-1], rtol=1e-12)
    for new in NEW_ITEMS:
        np.testing.assert_allclose(model.predict(train.users, new, unknown="average"), product[:-1, -1], rtol=1e-12)
    assert model.predict(90, 70, unknown="average") == pytest.approx(product[-1, -1], rel=1e-12)
    # All at once and mixed, and what is known as ever.
    users, items = np.append(train.users, 90), np.append(train.items, 70)
    everything = model.predict(np.repeat(users, n_items + 1), np.tile(items, n_users + 1), unknown="average").reshape(
        product.shape
    )
    np.testing.assert_allclose(everything, product, rtol=1e-12)
    one_by_one = model.predict(np.repeat(train.users, n_items), np.tile(train.items, n_users))
    assert np.array_equal(everything[:-1, :-1].ravel(), one_by_one)


def test_averages_are_near_the_means(model: Recommender) -> None:
    means, train = UserItemMeans.fit(model.ratings_), model.ratings_
    new_user = model.predict(90, train.items, unknown="average")
    new_item = model.predict(train.users, 70, unknown="average")
    assert np.sqrt(np.mean((new_user - means.mean - means.item_offsets) ** 2)) < 0.15
    assert np.sqrt(np.mean((new_item - means.mean - means.user_offsets) ** 2)) < 0.15
    assert model.predict(90, 70, unknown="average") == pytest.approx(means.mean, abs=0.2)


def test_no_prediction_is_nan(model: Recommender) -> None:
    users, items = [7, 90, 7, 90], [5, 5, 70, 70]
    found = model.predict(users, items, unknown="drop")
    assert found[0] == model.predict(7, 5)
    assert np.isnan(found[1:]).all()
    assert np.isnan(model.predict(90, 5, clip=True, unknown="drop"))
    assert np.ndim(model.predict(90, 5, unknown="drop")) == 0
    assert model.predict([], [], unknown="drop").shape == (0,)


def test_all_is_known(model: Recommender) -> None:
    for unknown in ("average", "drop", "error"):
        assert model.predict(7, [5, 9], unknown=unknown).tolist() == model.predict(7, [5, 9]).tolist()
        assert np.ndim(model.predict(7, 5, unknown=unknown)) == 0
        assert model.predict(7.0, np.array([5.0]), unknown=unknown).tolist() == [model.predict(7, 5)]
        with pytest.raises(ValueError, match="2 users for 3 items"):
            model.predict([7, 10], [5, 9, 13], unknown=unknown)


def test_clipping_holds_for_averages(model: Recommender) -> None:
    low, high = model.rating_range_
    found = model.predict(90, np.append(model.ratings_.items, 70), clip=True, unknown="average")
    assert low <= found.min()
    assert found.max() <= high


def test_ids_of_the_other_kind_are_no_newcomers(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    text = Ratings.from_triplets(["7"], ["5"], [3.0])
    for unknown in ("average", "drop", "error"):
        with pytest.raises(KeyError, match=r"unknown user '7': .* their ids are integers"):
            model.predict("7", 5, unknown=unknown)
        with pytest.raises(KeyError, match="unknown item 'x'"):
            model.predict(7, ["x"], unknown=unknown)
        with pytest.raises(KeyError, match="unknown user '7'"):
            evaluate(model, text, unknown=unknown)
        with pytest.raises(KeyError, match="unknown item 'x'"):
            model.fold_in({"x": 4.0}, unknown=unknown)
        with pytest.raises(TypeError, match="row 1"):
            model.predict([7, "7"], 5, unknown=unknown)
    for use in (
        lambda: model.predict(7, 5, unknown="mean"),
        lambda: evaluate(model, parts[1], unknown="mean"),
        lambda: model.fold_in({5: 4.0}, unknown="mean"),
    ):
        with pytest.raises(ValueError, match="unknown='mean' is not one of 'average', 'drop', 'error'"):
            use()


def test_texts() -> None:
    train = Ratings.from_triplets(["b", "a", "b", "c"], ["x", "x", "y", "long name"], [1, 2, 3, 4])
    model = Recommender(rank=1, random_state=0).fit(train)
    test = Ratings.from_triplets(["a", "another", "b"], ["y", "x", "z"], [2, 3, 4])
    found = evaluate(model, test)
    assert (found.n_unknown_users, found.n_unknown_items, found.n_unknown_ratings) == (1, 1, 2)
    predicted = model.predict(["a", "another", "b"], ["y", "x", "z"], clip=True, unknown="average")
    assert found.mae == pytest.approx(np.mean(np.abs(predicted - [2, 3, 4])), rel=1e-12)
    assert np.isnan(model.predict(["another", "b"], ["x", "y"], unknown="drop")).tolist() == [True, False]


# evaluate


def by_loops(recommended: list[int], relevant: set[int], k: int) -> tuple[float, float, float, float]:
    """Precision, recall, NDCG and average precision at k, rank by rank."""
    hits, gain, precisions = 0, 0.0, 0.0
    for rank, item in enumerate(recommended[:k], 1):
        if item in relevant:
            hits += 1
            gain += 1 / math.log2(rank + 1)
            precisions += hits / rank
    best = min(k, len(relevant))
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, best + 1))
    return hits / k, hits / len(relevant), gain / ideal, precisions / best


def slowly(product: np.ndarray, train: Ratings, test: Ratings, k: int, threshold: float) -> list[float]:
    """Every number of an evaluation by averages: whoever and whatever is not in training has the last row or column."""
    low, high = train.data.min(), train.data.max()
    seen: dict[int, set[int]] = {}
    rows, columns, _ = train.triplets()
    for user, item in zip(train.users[rows].tolist(), train.items[columns].tolist(), strict=True):
        seen.setdefault(user, set()).add(item)
    row = {user: k for k, user in enumerate(train.users.tolist())}
    column = {item: k for k, item in enumerate(train.items.tolist())}
    errors: list[float] = []
    relevant: dict[int, set[int]] = {}
    rows, columns, values = test.triplets()
    for user, item, value in zip(test.users[rows].tolist(), test.items[columns].tolist(), values.tolist(), strict=True):
        predicted = product[row.get(user, -1), column.get(item, -1)]
        errors.append(min(max(predicted, low), high) - value)
        if value >= threshold:
            relevant.setdefault(user, set()).add(item)
    found, union = [], set()
    for user, wanted in relevant.items():
        order = np.argsort(-product[row.get(user, -1), :-1], kind="stable")
        best = [item for item in train.items[order].tolist() if item not in seen.get(user, set())][:k]
        union |= set(best)
        found.append(by_loops(best, wanted, k))
    squared = math.sqrt(np.mean(np.square(errors)))
    coverage = len(union) / train.shape[1]
    return [squared, float(np.mean(np.abs(errors))), *np.mean(found, axis=0), coverage, len(found), len(errors)]


def numbers(found: Evaluation) -> list[float]:
    names = ("rmse", "mae", "precision", "recall", "ndcg", "map", "coverage", "n_users", "n_ratings")
    return [getattr(found, name) for name in names]


def unknown_counts(found: Evaluation) -> tuple[int, int, int]:
    return found.n_unknown_users, found.n_unknown_items, found.n_unknown_ratings


@pytest.mark.parametrize(("k", "threshold"), [(10, 3.0), (1, 0), (4, 5), (1000, 4)])
def test_by_averages(
    model: Recommender, parts: tuple[Ratings, Ratings], tmp_path: Path, k: int, threshold: float
) -> None:
    expected = slowly(by_hand(model, tmp_path), *parts, k, threshold)
    found = evaluate(model, parts[1], k=k, threshold=threshold)
    assert numbers(found) == pytest.approx(expected, rel=1e-12)
    assert found == evaluate(model, parts[1], k=k, threshold=threshold, unknown="average")
    assert unknown_counts(found) == (3, 3, 3 * 8 + 3 * 6 + 3)
    assert found.unknown == "average"


@pytest.mark.parametrize("threshold", [None, 0, 4])
def test_left_out_is_as_if_it_had_never_been_there(
    model: Recommender, parts: tuple[Ratings, Ratings], threshold: float | None
) -> None:
    train, test = parts
    found = evaluate(model, test, threshold=threshold, unknown="drop")
    for unknown in ("average", "drop", "error"):
        by_hand = evaluate(model, restricted(test, train), threshold=threshold, unknown=unknown)
        assert numbers(found) == pytest.approx(numbers(by_hand), rel=1e-13)
        assert unknown_counts(by_hand) == (0, 0, 0)
    assert unknown_counts(found) == (3, 3, test.nnz - restricted(test, train).nnz)
    assert found.n_ratings + found.n_unknown_ratings == test.nnz


def test_a_relevant_item_that_is_unknown_is_a_miss() -> None:
    """Counted by hand: all three items known are recommended, one of them is relevant."""
    train = Ratings.from_triplets([1, 1, 2, 2, 3], [1, 2, 2, 3, 1], [5, 4, 3, 2, 4])
    model = Recommender(rank=1, random_state=0).fit(train)
    test = Ratings.from_triplets([9, 9, 9], [1, 50, 51], [5, 5, 5])
    found = evaluate(model, test, k=3)
    assert found.recall == pytest.approx(1 / 3)
    assert found.precision == pytest.approx(1 / 3)
    assert (found.n_users, found.coverage) == (1, 1)
    nothing_known = evaluate(model, Ratings.from_triplets([1], [50], [5]), k=3)
    assert (nothing_known.recall, nothing_known.precision, nothing_known.n_users) == (0, 0, 1)
    assert nothing_known.coverage == pytest.approx(1 / 3)  # who has seen two of three gets the third


def test_refused_by_name(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    with pytest.raises(KeyError, match="unknown user 0"):
        evaluate(model, parts[1], unknown="error")
    with pytest.raises(KeyError, match="unknown item 70"):
        evaluate(model, Ratings.from_triplets([7, 7], [5, 70], [3, 3]), unknown="error")


def test_who_is_listed_without_a_rating_does_not_count(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    test = parts[1]
    more = Ratings(np.append(test.users, 9999), test.items, np.append(test.indptr, test.nnz), test.indices, test.data)
    for unknown in ("average", "drop"):
        assert evaluate(model, more, unknown=unknown) == evaluate(model, test, unknown=unknown)


def test_it_does_not_matter_whether_training_lists_the_unknown(parts: tuple[Ratings, Ratings]) -> None:
    """A part of a split lists everybody: also whom it has no rating of, whom the fit puts near the averages."""
    train, test = parts
    everything = train.merge(test)
    pairs = [10_000 * each.users[each.triplets()[0]] + each.items[each.indices] for each in (everything, train)]
    lists_all = everything._subset(np.isin(*pairs))
    assert lists_all.shape == (63, 53)
    plain, wide = (
        Recommender(rank=4, random_state=0, tol=1e-4, max_iter=2000).fit(each) for each in (train, lists_all)
    )
    for unknown in ("average", "drop"):
        one, other = (evaluate(model, test, unknown=unknown) for model in (plain, wide))
        assert unknown_counts(one) == unknown_counts(other) == (3, 3, 45)
        assert (one.n_ratings, one.unknown) == (other.n_ratings, other.unknown)
        assert one.rmse == pytest.approx(other.rmse, rel=0.02)
    by_hand = evaluate(wide, restricted(test, train))
    assert numbers(by_hand) == pytest.approx(numbers(evaluate(wide, test, unknown="drop")), rel=1e-13)
    with pytest.raises(KeyError, match=r"user 0 has no training rating; pass unknown='average'"):
        evaluate(wide, test, unknown="error")
    with pytest.raises(KeyError, match=r"item 70 has no training rating; .* unknown='drop'"):
        evaluate(wide, Ratings.from_triplets([7, 7], [5, 70], [3, 3]), unknown="error")
    # In a model for others the items are those of the fit, though nobody there has rated most of them.
    guests = wide.fold_in({5: 5.0, 9: 1.0})
    theirs = Ratings.from_triplets(["new"] * 4, [5, 13, 17, 70], [5, 3, 4, 2])
    assert unknown_counts(evaluate(guests, theirs)) == (0, 1, 1)


@pytest.mark.filterwarnings("ignore:all .* ratings are")
def test_an_item_rated_at_the_mean_is_known() -> None:
    ratings = Ratings.from_triplets([1, 1, 2, 2], [1, 2, 1, 3], [3, 3, 3, 3])
    model = Recommender(rank=1, random_state=0).fit(ratings)
    assert unknown_counts(evaluate(model, Ratings.from_triplets([1, 2], [3, 2], [3, 3]), unknown="error")) == (0, 0, 0)


def test_nothing_is_left(model: Recommender) -> None:
    test = Ratings.from_triplets([90, 7], [5, 70], [3, 4])
    found = evaluate(model, test, unknown="drop")
    assert (found.n_ratings, found.n_users, *unknown_counts(found)) == (0, 0, 1, 1, 2)
    assert all(math.isnan(value) for value in numbers(found)[:7])
    assert evaluate(model, test, threshold=0).n_users == 2


def test_the_same_bits_for_any_threads_and_blocks(
    model: Recommender, parts: tuple[Ratings, Ratings], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = [evaluate(model, parts[1], unknown=unknown) for unknown in ("average", "drop")]
    monkeypatch.setattr(evaluation, "SLAB_RATINGS", 40)
    monkeypatch.setattr(evaluation, "BATCH_RATINGS", 30)
    for unknown, once in zip(("average", "drop"), whole, strict=True):
        one, three = (evaluate(model, parts[1], unknown=unknown, n_threads=n) for n in (1, 3))
        assert one == three
        assert numbers(one) == pytest.approx(numbers(once), rel=1e-13)


def test_it_says_how_much_was_unknown(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    found = str(evaluate(model, parts[1]))
    assert "  45 of them were predicted by averages: 3 users and 3 items without a training rating\n" in found
    found = str(evaluate(model, parts[1], unknown="drop"))
    assert "  45 further ones were left out: 3 users and 3 items without a training rating\n" in found
    assert "without" not in str(evaluate(model, restricted(*parts[::-1])))


def test_a_model_from_a_file_and_one_of_guests(
    model: Recommender, parts: tuple[Ratings, Ratings], tmp_path: Path
) -> None:
    model.save(tmp_path / "m.npz")
    loaded = Recommender.load(tmp_path / "m.npz")
    assert evaluate(loaded, parts[1]) == evaluate(model, parts[1])
    assert loaded.predict(90, 70, unknown="average") == model.predict(90, 70, unknown="average")
    guest = model.fold_in({5: 5.0, 9: 1.0})
    for item in (5, 70):
        expected = model.predict(90, item, unknown="average")
        assert guest.predict("other", item, unknown="average") == pytest.approx(expected, rel=1e-14)


# fold_in


def test_without_the_unknown(model: Recommender) -> None:
    given, more = {5: 5.0, 9: 1.0, 101: 4.0}, {70: 2.0, 2000: 5.0}
    plain, found = model.fold_in(given), model.fold_in(given | more, unknown="drop")
    assert np.array_equal(found.factorization_.W, plain.factorization_.W)
    assert found.ratings_.nnz == 3
    assert np.array_equal(found.ratings_.items, model.ratings_.items)
    for unknown in ("average", "drop", "error"):
        assert np.array_equal(model.fold_in(given, unknown=unknown).factorization_.W, plain.factorization_.W)
    with pytest.raises(KeyError, match="unknown item 70"):
        model.fold_in(given | more)


def best_row(
    model: Recommender, known: dict[int, float], others: list[float], folder: Path
) -> tuple[np.ndarray, np.ndarray, float]:
    """min ½ Σ (r - w·h)² + ½ Σ_other (r - w·h_average)² + ½ prior (level + l2 - w·h_average)² + ½ l2 n ‖w‖², w >= 0."""
    _, H, unit = in_file(model, folder)
    means, all_ratings = UserItemMeans.fit(model.ratings_), model.ratings_
    places = [int(all_ratings.item_index(item)) for item in known]
    values = np.array(list(known.values()))
    left = (values - means.mean - means.item_offsets[places]).sum() + sum(r - means.mean for r in others)
    count = values.size + len(others)
    level = np.clip(means.mean + left / (count + 5.0), all_ratings.data.min(), all_ratings.data.max())
    target = np.array([*values, *others, level + L2]) / unit
    root = np.sqrt(np.append(np.ones(count), PRIOR))
    B = H[:, [*places, *[-1] * len(others), -1]]
    if model.offsets:
        target, B = target - B[-1], B[:-1]
    ridge = np.sqrt(L2 / unit * (count + PRIOR)) * np.eye(B.shape[0])
    w = nnls(np.vstack([root[:, None] * B.T, ridge]), np.append(root * target, np.zeros(B.shape[0])))[0]
    return (np.append(w, 1.0) if model.offsets else w), H, unit


@pytest.mark.parametrize("others", [{70: 2.0}, {0: 1.0, 70: 2.0, 2000: 1.0}])
def test_an_unknown_item_is_an_average_one(model: Recommender, others: dict[int, float], tmp_path: Path) -> None:
    known = {5: 5.0, 9: 1.0, 101: 4.0, 21: 3.0}
    guest = model.fold_in(known | others, unknown="average")
    w, H, unit = best_row(model, known, list(others.values()), tmp_path)
    np.testing.assert_allclose(guest.predict("new", model.ratings_.items), unit * (w @ H[:, :-1]), rtol=1e-6)
    plain = model.fold_in(known).predict("new", model.ratings_.items)
    assert guest.predict("new", model.ratings_.items).mean() < plain.mean()  # others were rated low
    items, predicted = guest.recommend("new", n=3)
    assert guest.explain("new", items[0]).score == pytest.approx(predicted[0], rel=1e-12)


def test_company_does_not_matter(model: Recommender) -> None:
    users = np.array([1, 1, 2, 2, 3, 4, 4])
    items = np.array([5, 70, 9, 13, 70, 0, 17])  # the third knows nothing that the model does
    together = model.fold_in(Ratings.from_triplets(users, items, [5, 1, 3, 4, 2, 5, 1]), unknown="average")
    alone = model.fold_in({0: 5.0, 17: 1.0}, unknown="average")
    assert np.array_equal(together.factorization_.W[3], alone.factorization_.W[0])
    assert np.array_equal(together.factorization_.W[1], model.fold_in({9: 3.0, 13: 4.0}).factorization_.W[0])
    assert together.ratings_.shape == (4, 50)
    assert np.diff(together.ratings_.indptr).tolist() == [1, 2, 0, 1]
    low = together.predict(3, model.ratings_.items).mean()
    left_out = model.fold_in(Ratings.from_triplets(users, items, [5, 1, 3, 4, 2, 5, 1]), unknown="drop")
    assert low < left_out.predict(3, model.ratings_.items).mean()  # whose one rating was low


def test_nothing_known_is_refused(model: Recommender) -> None:
    for unknown in ("average", "drop"):
        with pytest.raises(ValueError, match=r"none of the items rated, such as 70.*unknown=\"average\""):
            model.fold_in({70: 2.0, 2000: 3.0}, unknown=unknown)
