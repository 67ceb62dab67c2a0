"""Explanations add up, and say what a refit of the user would; alike are items of the same direction."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

from nmfcore import Ratings, Recommender
from nmfcore.datasets import planted_ratings
from nmfcore.ratings import UserItemMeans
from nmfcore.recommender.explaining import Explanation, explain, similar_items, split_parts


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return planted_ratings(80, 60, 1500)


@pytest.fixture(scope="module")
def plain(ratings: Ratings) -> Recommender:
    return Recommender(rank=5, random_state=0, tol=1e-6, max_iter=20_000, offsets=False).fit(ratings)


@pytest.fixture(scope="module")
def model(ratings: Ratings) -> Recommender:
    return Recommender(rank=5, random_state=0, tol=1e-6, max_iter=2000).fit(ratings)


def fitted_user(H: np.ndarray, values: np.ndarray, ridge: float) -> np.ndarray:
    """min ½‖values − w H‖² + ½ ridge ‖w‖² over w >= 0, by scipy."""
    rank = H.shape[0]
    A = np.vstack([H.T, np.sqrt(ridge) * np.eye(rank)])
    return nnls(A, np.append(values, np.zeros(rank)))[0]


@pytest.mark.parametrize("user", [1, 17, 80])
@pytest.mark.parametrize("offsets", [True, False])
def test_the_parts_add_up_to_the_prediction(
    model: Recommender, plain: Recommender, ratings: Ratings, user: int, offsets: bool
) -> None:
    model = model if offsets else plain
    for item in ratings.items[::7].tolist():
        for n in (1, 5, 10_000):
            why = model.explain(user, item, n=n)
            assert why.score == pytest.approx(model.predict(user, item), rel=1e-13)
            assert why.features.sum() + why.user_offset + why.item_offset == pytest.approx(why.score, rel=1e-13)
            assert why.contributions.sum() + why.others + why.rest == pytest.approx(why.features.sum(), abs=1e-12)
            assert (why.features >= 0).all()


def test_the_parts_are_those_of_the_factors(model: Recommender, plain: Recommender, ratings: Ratings) -> None:
    u, i = ratings.user_index(9), ratings.item_index(4)
    for one in (model, plain):
        W, H = one.factorization_
        why = one.explain(9, 4)
        assert why.features.tolist() == [W[u, t] * H[t, i] for t in range(5)]
        assert (why.user_offset, why.item_offset) == ((W[u, 5], H[6, i]) if one is model else (0, 0))
        assert why.score == pytest.approx(float(W[u] @ H[:, i]), rel=1e-13)


def test_the_rest_is_what_the_average_item_says(model: Recommender, plain: Recommender, ratings: Ratings) -> None:
    """Of a fit that is stationary, by the normal equations of the user's row, written out."""
    values, columns = ratings.data, ratings.indices
    means = UserItemMeans.fit(ratings)
    low, high, prior = values.min(), values.max(), 120 / (1 + ratings.nnz / sum(ratings.shape) / 30)
    l2 = 0.0185 * values.mean()
    for one in (model, plain):
        W, H = one.factorization_
        average_features, average_offset = average_item(one)
        for user in (3, 40, 77):
            u = ratings.user_index(user)
            own = slice(ratings.indptr[u], ratings.indptr[u + 1])
            rated, P = columns[own], np.flatnonzero(W[u, :5] > 0)
            B, w = H[:5][np.ix_(P, rated)], W[u, P]
            b, c = (W[u, 5], H[6]) if one is model else (0.0, np.zeros(ratings.shape[1]))
            system = B @ B.T + l2 * (rated.size + prior) * np.eye(P.size)
            h = average_features[P]
            level = np.clip(means.mean + means.user_offsets[u], low, high) + l2 - b - average_offset
            for i in (0, 20, 59):
                s = np.linalg.solve(system, H[P, i])
                why = one.explain(user, ratings.items[i], n=1000)
                parts = dict(zip(why.items.tolist(), why.contributions.tolist(), strict=True))
                expected = {int(ratings.items[j]): (ratings.data[own][k] - b - c[j]) * (s @ B[:, k])
                            for k, j in enumerate(rated.tolist())}  # fmt: skip
                assert parts == pytest.approx(expected, abs=1e-10)
                assert why.rest == pytest.approx(prior * (level - w @ h) * (s @ h), abs=2e-3)


def average_item(model: Recommender) -> tuple[np.ndarray, float]:
    """Features and offset of the average item, from the file of the model; there the mean of ratings is 4."""
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "m.npz")
        with np.load(Path(folder) / "m.npz") as file:
            column, unit = file["H"][:, -1], file["levels"][0] / 4
    return column[:5] * np.sqrt(unit), float(column[6] * unit) if model.offsets else 0.0


def test_the_ratings_are_the_users_own(model: Recommender, ratings: Ratings) -> None:
    row = ratings.user_index(9)
    part = slice(ratings.indptr[row], ratings.indptr[row + 1])
    own = dict(zip(ratings.items[ratings.indices[part]].tolist(), ratings.data[part].tolist(), strict=True))
    everything = model.explain(9, 4, n=1000)
    assert dict(zip(everything.items.tolist(), everything.ratings.tolist(), strict=True)) == own
    assert everything.n_others == 0
    assert everything.others == 0
    assert (np.diff(np.abs(everything.contributions)) <= 0).all()
    some = model.explain(9, 4, n=3)
    assert np.array_equal(some.items, everything.items[:3])
    assert some.n_others == len(own) - 3
    assert some.others == pytest.approx(everything.contributions[3:].sum(), rel=1e-12)
    assert some.rest == pytest.approx(everything.rest, abs=1e-12)


def test_the_rest_is_small_beside_the_score(model: Recommender, ratings: Ratings) -> None:
    rests = [model.explain(u, i).rest for u in ratings.users[::5].tolist() for i in ratings.items[::5].tolist()]
    scores = [model.predict(u, i) for u in ratings.users[::5].tolist() for i in ratings.items[::5].tolist()]
    assert np.abs(rests).mean() < 0.1 * np.mean(scores)


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_a_contribution_is_the_rating_times_its_effect_on_a_refit(offsets: bool, ridge: float) -> None:
    """For a user fitted exactly: nothing is left over, and each rating counts by its derivative."""
    rng = np.random.default_rng(3)
    rank, n = 7, 15
    features = rng.gamma(0.5, size=(rank, n))
    b, c = (1.5, rng.random(n)) if offsets else (0.0, np.zeros(n))
    values = np.round(1 + b + c + rng.random(n) * 3, 1)
    rated = np.arange(10)
    w = fitted_user(features[:, rated], (values - b - c)[rated], ridge)
    assert 1 < np.count_nonzero(w) < rank  # a support that is not everything, to make it harder
    W, H = w[None], features
    if offsets:
        W, H = np.append(W, [[b, 1.0]], axis=1), np.vstack([H, np.ones(n), c])
    ratings = Ratings([1], np.arange(n), [0, 10], rated, values[rated])
    for i in (0, 12):
        why = explain(ratings, W, H, rank, 1, i, n=10, l2=ridge / 10, prior=0.0)
        assert why.score == pytest.approx(float(W[0] @ H[:, i]), rel=1e-13)
        assert (why.user_offset, why.item_offset) == (b, c[i])
        assert why.rest == pytest.approx(0, abs=1e-10)
        for item, rating, part in zip(why.items, why.ratings, why.contributions, strict=True):
            step = 1e-6
            scores = []
            for sign in (1, -1):
                moved = (values - b - c)[rated] + sign * step * (rated == item)
                scores.append(fitted_user(features[:, rated], moved, ridge) @ features[:, i])
            derivative = (scores[0] - scores[1]) / (2 * step)
            assert part == pytest.approx((rating - b - c[item]) * derivative, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("shift", [-500, -100, 300, 498])
def test_it_explains_ratings_of_any_size(ratings: Ratings, model: Recommender, shift: int) -> None:
    """Ratings 4**shift times as large have parts that are so, too: to the last bit, where nothing overflows."""
    W, H = (np.array(A) for A in model.factorization_)
    why = explain(ratings, W, H, 5, 9, 4, n=1000, l2=0.01, prior=30.0)
    root, size = 2.0**shift, 4.0**shift
    larger = Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, ratings.data * size)
    W[:, :5], H[:5] = W[:, :5] * root, H[:5] * root
    W[:, 5], H[6] = W[:, 5] * size, H[6] * size
    same = explain(larger, W, H, 5, 9, 4, n=1000, l2=0.01 * size, prior=30.0)
    assert same.contributions.tolist() == (size * why.contributions).tolist()
    assert (same.score, same.rest) == (size * why.score, size * why.rest)


def test_it_explains_a_model_of_nothing_but_means() -> None:
    rng = np.random.default_rng(0)
    flat = rng.choice(600, size=150, replace=False)
    ratings = Ratings.from_triplets(flat // 20, flat % 20, rng.integers(1, 6, 150) * 1e300)
    model = Recommender(rank=3, prior=1e30, random_state=0).fit(ratings)
    why = model.explain(int(flat[0] // 20), int(flat[0] % 20))
    assert np.isfinite(why.contributions).all()
    assert np.abs(why.contributions).max() < 1e-20 * why.score


def test_without_ratings_or_features_there_is_still_an_answer() -> None:
    ratings = Ratings([1, 2, 3], [1, 2], [0, 2, 2, 3], [0, 1, 0], [4.0, 2.0, 3.0])
    model = Recommender(rank=2, random_state=0).fit(ratings)
    why = model.explain(2, 1)
    assert why.score == pytest.approx(model.predict(2, 1), rel=1e-13)
    assert why.items.size == why.n_others == 0
    assert why.rest == pytest.approx(why.features.sum())
    W, H = np.zeros((3, 2)), np.ones((2, 2))
    why = explain(ratings, W, H, 2, 1, 2, n=5, l2=0.0, prior=0.0)
    assert (why.score, why.rest, why.contributions.tolist()) == (0, 0, [0, 0])


def test_a_float32_model_adds_up_in_float64(ratings: Ratings, model: Recommender) -> None:
    W, H = (A.astype(np.float32) for A in model.factorization_)
    assert H.shape == (7, 60)
    why = explain(ratings, W, H, 5, 9, 4, n=3, l2=0.1, prior=1.0)
    assert why.features.dtype == np.float64
    expected = W[ratings.user_index(9)].astype(float) @ H[:, ratings.item_index(4)].astype(float)
    assert why.score == pytest.approx(expected, rel=1e-14)


def test_it_prints_what_adds_up(model: Recommender) -> None:
    why = model.explain(9, 4, n=2)
    lines = str(why).split("\n")
    assert lines[0] == f"User 9, item 4: predicted {why.score:.3f}"
    middle = next(k for k, line in enumerate(lines) if line.startswith("The features' part"))
    parts = [float(line.split()[0]) for line in lines[1:middle]]
    features, offsets = parts[:-2], parts[-2:]
    assert features == sorted(features, reverse=True)
    assert offsets == pytest.approx([why.user_offset, why.item_offset], abs=5e-4)
    assert sum(parts) == pytest.approx(why.score, abs=0.004)
    assert sum(float(line.split()[0]) for line in lines[middle + 1 :]) == pytest.approx(sum(features), abs=0.004)
    assert lines[middle].startswith(f"The features' part, {why.features.sum():.3f}, ")
    assert f"rated {why.ratings[0]:g}: {why.items[0]}" in lines[middle + 1]
    assert f"{why.n_others} other ratings" in lines[middle + 3]
    titles = {4: "Heat (1995)", int(why.items[1]): "x" * 200}
    lines = why.describe(titles).split("\n")
    assert "item 4 Heat (1995): predicted" in lines[0]
    assert max(map(len, lines)) == 100


def test_a_rating_of_the_item_itself_is_told(ratings: Ratings, model: Recommender) -> None:
    users, items, values = ratings.triplets()
    for k in (0, len(values) // 2, len(values) - 1):
        why = model.explain(int(ratings.users[users[k]]), int(ratings.items[items[k]]))
        assert why.rated == values[k]
        assert str(why).split("\n")[0].endswith(f", rated {values[k]:g}")
    unrated = np.setdiff1d(np.arange(ratings.shape[1]), items[users == 0])[0]
    why = model.explain(int(ratings.users[0]), int(ratings.items[unrated]))
    assert why.rated is None
    assert "rated" not in str(why).split("\n")[0]


def test_offsets_are_printed() -> None:
    no = np.empty(0)
    why = Explanation("ann", "x", 4.0, np.array([0.5]), 1.5, 2.0, np.empty(0, "<U1"), no, no, 0.0, 0, 0.5)
    assert str(why).split("\n") == [
        "User ann, item x: predicted 4.000",
        "     +0.500  feature 1",
        "     +1.500  offset of the user",
        "     +2.000  offset of the item",
        "The features' part, 0.500, comes from the user's own ratings:",
        "     +0.500  what the model assumes of every user",
    ]


def test_many_features_share_a_line() -> None:
    no = np.empty(0)
    why = Explanation(1, 2, 8.25, np.append(np.ones(8), [0, 0.25]), 0.0, 0.0, np.empty(0, int), no, no, 0.0, 0, 8.25)
    lines = str(why).split("\n")
    assert lines[8:10] == ["     +1.000  feature 8", "     +0.250  other features"]


def test_parts_are_split() -> None:
    parts = split_parts(np.array([[1, 2, 3, 4]], np.float32), 2)
    assert parts.features.tolist() == [[1, 2]]
    assert parts.offsets.tolist() == [[3, 4]]
    assert split_parts(np.ones((3, 2)), 2).offsets.shape == (3, 0)


def test_bad_input(model: Recommender) -> None:
    with pytest.raises(KeyError, match="unknown user 1000"):
        model.explain(1000, 1)
    with pytest.raises(KeyError, match="unknown item 'x'"):
        model.explain(1, "x")
    with pytest.raises(ValueError, match="n=0"):
        model.explain(1, 1, n=0)
    with pytest.raises(TypeError, match="is not one user"):
        model.explain([1, 2], 1)
    with pytest.raises(KeyError, match="unknown item 1000"):
        model.similar_items(1000)
    with pytest.raises(ValueError, match="n=-1"):
        model.similar_items(1, n=-1)
    with pytest.raises(TypeError, match="is not one item"):
        model.similar_items([1])
    for use in (lambda: Recommender().explain(1, 1), lambda: Recommender().similar_items(1)):
        with pytest.raises(RuntimeError, match="not fitted"):
            use()


# Similar items


def test_similar_items(model: Recommender, ratings: Ratings) -> None:
    H = model.factorization_.H[:5]  # without the offsets
    i = ratings.item_index(7)
    cosines = {}
    for j, item in enumerate(ratings.items.tolist()):
        if j != i:
            cosines[item] = H[:, i] @ H[:, j] / np.linalg.norm(H[:, i]) / np.linalg.norm(H[:, j])
    expected = sorted(cosines, key=lambda item: (-cosines[item], item))
    items, similarities = model.similar_items(7, n=12)
    assert items.tolist() == expected[:12]
    assert similarities == pytest.approx([cosines[item] for item in expected[:12]], rel=1e-12)
    everything = model.similar_items(7, n=1000)
    assert everything.items.tolist() == expected  # never padded, and not the item itself
    assert len(model.similar_items(7).items) == 10


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e-30, 1e30])
def test_directions_count_and_offsets_do_not(dtype: str, scale: float) -> None:
    ratings = Ratings([1], np.arange(6), [0, 1], [0], [1.0])
    features = np.array([[1, 3, 1, 0, 0, 2], [0, 0, 1, 0, 1, 0]]) * scale
    H = np.vstack([features, np.ones(6), [9, 0, 0, 0, 9, 0]]).astype(dtype)
    items, similarities = similar_items(ratings, H, 2, 0, 10)
    assert items.tolist() == [1, 5, 2]  # equal ones in the order of the items; 3 and 4 share nothing with it
    assert similarities == pytest.approx([1, 1, np.sqrt(0.5)], rel=1e-7)
    assert similarities.max() <= 1
    assert similar_items(ratings, H, 2, 3, 10).items.size == 0  # without a feature it is like nothing
    assert similar_items(ratings, H, 2, 4, 10).items.tolist() == [2]
