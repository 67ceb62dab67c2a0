"""Measures of recommendations: their formulas in plain loops, scikit-learn's NDCG, and a model's over all items."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

import nmfcore
from nmfcore import Ratings, Recommender, metrics
from nmfcore.datasets import planted_ratings

RANKED = (metrics.precision_at_k, metrics.recall_at_k, metrics.ndcg_at_k, metrics.map_at_k)


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


# One list


def test_formulas() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        length, k = int(rng.integers(0, 15)), int(rng.integers(1, 15))
        recommended = rng.permutation(20)[:length]
        relevant = rng.permutation(20)[: rng.integers(1, 12)]
        expected = by_loops(recommended.tolist(), set(relevant.tolist()), k)
        found = [metric(recommended, relevant, k) for metric in RANKED]
        assert found == pytest.approx(expected, rel=1e-14)


def test_ndcg_is_that_of_scikit_learn() -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    for k in (1, 3, 10, 50):
        relevance, scores = rng.random(30) < 0.3, rng.random(30)
        order, relevant = np.argsort(-scores), np.flatnonzero(relevance)
        expected = sklearn.ndcg_score([relevance], [scores], k=k)
        assert metrics.ndcg_at_k(order, relevant, k) == pytest.approx(expected, rel=1e-12)


def test_known_values() -> None:
    assert [metric(["a", "b"], ["a", "b"], 2) for metric in RANKED] == [1, 1, 1, 1]
    assert [metric(["x", "y"], ["a", "b"], 2) for metric in RANKED] == [0, 0, 0, 0]
    assert [metric([], ["a"], 3) for metric in RANKED] == [0, 0, 0, 0]
    assert metrics.precision_at_k(["a"], ["a"], 10) == 0.1  # a short list is not a better one
    assert metrics.recall_at_k(["a"], ["a"], 10) == 1
    assert metrics.map_at_k(["x", "a"], ["a", "b", "c"], 2) == 0.25
    assert [metric([1], {1, 2}, 10**12) for metric in RANKED] == pytest.approx(
        [1e-12, 0.5, 1 / (1 + 1 / math.log2(3)), 0.5]
    )
    assert metrics.coverage([], 3) == 0
    assert metrics.coverage([[1, 2], np.array([2, 3])], 4) == 0.75


@pytest.mark.parametrize("metric", RANKED)
def test_bad_lists(metric: object) -> None:
    with pytest.raises(ValueError, match="k=0"):
        metric([1], [1], 0)
    with pytest.raises(TypeError, match=r"k=1\.5"):
        metric([1], [1], 1.5)
    with pytest.raises(ValueError, match="relevant is empty"):
        metric([1], [], 3)
    with pytest.raises(ValueError, match="holds 7 twice, first at position 1"):
        metric([1, 7, 7], [1], 3)
    with pytest.raises(TypeError, match="'abc' is one id"):
        metric("abc", ["a"], 3)


def test_bad_coverage() -> None:
    with pytest.raises(ValueError, match="n_items=0"):
        metrics.coverage([], 0)
    with pytest.raises(ValueError, match="n_items=1, but 2 different"):
        metrics.coverage([[1], [2]], 1)


def test_errors_are_there_too() -> None:
    assert metrics.rmse is nmfcore.ratings.rmse
    assert metrics.mae is nmfcore.ratings.mae
    assert sorted(metrics.__all__) == metrics.__all__


# A model


@pytest.fixture(scope="module")
def parts() -> tuple[Ratings, Ratings]:
    return planted_ratings(150, 80, 4000).split(0.2, random_state=0)


@pytest.fixture(scope="module")
def model(parts: tuple[Ratings, Ratings]) -> Recommender:
    return Recommender(rank=3, random_state=0).fit(parts[0])


def slowly(model: Recommender, test: Ratings, k: int, threshold: float, limits: tuple[float, float]) -> list[float]:
    """Every number of an evaluation, by sorting all items for each user."""
    train, (W, H) = model.ratings_, model.factorization_
    product = W @ H
    errors, found, union = [], [], set()
    for u in range(train.shape[0]):
        own = {int(train.items[j]) for j in train.indices[train.indptr[u] : train.indptr[u + 1]]}
        where = np.flatnonzero(test.users == train.users[u])
        row = range(*test.indptr[where[0] : where[0] + 2]) if where.size else range(0)
        rated = {int(test.items[test.indices[p]]): float(test.data[p]) for p in row}
        for item, rating in rated.items():
            predicted = product[u, np.flatnonzero(train.items == item)[0]]
            errors.append(min(max(predicted, limits[0]), limits[1]) - rating)
        relevant = {item for item, rating in rated.items() if rating >= threshold}
        if relevant:
            ranked = [int(train.items[j]) for j in np.argsort(-product[u], kind="stable")]
            best = [item for item in ranked if item not in own][:k]
            union |= set(best)
            found.append(by_loops(best, relevant, k))
    squared = math.sqrt(np.mean(np.square(errors)))
    return [squared, float(np.mean(np.abs(errors))), *np.mean(found, axis=0), len(union) / train.shape[1], len(found)]


def numbers(found: nmfcore.ratings.Evaluation) -> list[float]:
    names = ("rmse", "mae", "precision", "recall", "ndcg", "map", "coverage", "n_users")
    return [getattr(found, name) for name in names]


@pytest.mark.parametrize(("k", "threshold"), [(10, None), (1, 0), (5, 4), (1000, 3)])
def test_evaluate(model: Recommender, parts: tuple[Ratings, Ratings], k: int, threshold: float | None) -> None:
    least = parts[0].data.mean() if threshold is None else threshold
    found = nmfcore.evaluate(model, parts[1], k=k, threshold=threshold)
    assert numbers(found) == pytest.approx(slowly(model, parts[1], k, least, (1, 5)), rel=1e-12)
    assert (found.k, found.threshold, found.n_ratings) == (k, least, 800)


def test_without_clipping(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    found = nmfcore.evaluate(model, parts[1], clip=False)
    expected = slowly(model, parts[1], 10, parts[0].data.mean(), (-math.inf, math.inf))
    assert numbers(found) == pytest.approx(expected, rel=1e-12)
    assert found.rmse != nmfcore.evaluate(model, parts[1]).rmse


def test_the_test_part_may_list_others(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    # Ids of its own, fewer of them: a part of the users and items at other positions.
    rows, columns, values = parts[1].triplets()
    kept = (rows % 3 > 0) & (columns % 4 > 0)
    test = Ratings.from_triplets(parts[1].users[rows[kept]], parts[1].items[columns[kept]], values[kept])
    assert test.shape != parts[1].shape
    expected = slowly(model, test, 10, parts[0].data.mean(), (1, 5))
    assert numbers(nmfcore.evaluate(model, test)) == pytest.approx(expected, rel=1e-12)
    # Who is listed without a rating need not be known.
    more = Ratings(np.append(test.users, 9999), test.items, np.append(test.indptr, test.nnz), test.indices, test.data)
    assert nmfcore.evaluate(model, more) == nmfcore.evaluate(model, test)


def test_the_same_bits_for_any_threads_and_blocks(
    model: Recommender, parts: tuple[Ratings, Ratings], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nmfcore.recommender import evaluation

    monkeypatch.setattr(evaluation, "SLAB_RATINGS", 50)
    monkeypatch.setattr(evaluation, "BATCH_RATINGS", 70)
    one = nmfcore.evaluate(model, parts[1], n_threads=1)
    assert one == nmfcore.evaluate(model, parts[1], n_threads=3)
    monkeypatch.undo()
    assert numbers(one) == pytest.approx(numbers(nmfcore.evaluate(model, parts[1])), rel=1e-13)


def test_the_last_rating_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However the rows are cut into slabs, with empty ones at either end."""
    from nmfcore.recommender import evaluation

    train = planted_ratings(40, 30, 600)
    model = Recommender(rank=2, random_state=0).fit(train)
    rows, columns, values = train.triplets()
    kept = (rows > 3) & (rows < 36) & (rows % 5 > 0)
    before = np.concatenate(([0], np.cumsum(kept)))
    test = Ratings(train.users, train.items, before[train.indptr], columns[kept], values[kept])
    product = np.clip(model.factorization_.W @ model.factorization_.H, 1, 5)
    expected = math.sqrt(np.mean((product[rows[kept], columns[kept]] - values[kept]) ** 2))
    for slab in (1, 2, 7, test.nnz - 1, test.nnz, test.nnz + 1):
        monkeypatch.setattr(evaluation, "SLAB_RATINGS", slab)
        monkeypatch.setattr(evaluation, "BATCH_RATINGS", slab)
        found = nmfcore.evaluate(model, test, threshold=0)
        assert found.rmse == pytest.approx(expected, rel=1e-13)
        assert found.n_users == np.unique(rows[kept]).size


def test_nobody_to_recommend_to(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    found = nmfcore.evaluate(model, parts[1], threshold=6)
    assert found.n_users == 0
    assert all(math.isnan(getattr(found, name)) for name in ("precision", "recall", "ndcg", "map", "coverage"))
    assert found.rmse > 0


def test_it_prints_as_a_table(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    found = nmfcore.evaluate(model, parts[1], k=7, threshold=4)
    text = str(found)
    assert f"800 test ratings: RMSE {found.rmse:.4f}, MAE {found.mae:.4f}\n" in text
    assert f"{found.n_users} users with a test rating of 4 or more; best 7 of all items:\n" in text
    assert f"  NDCG@7         {found.ndcg:.4f}\n" in text


def test_bad_input(model: Recommender, parts: tuple[Ratings, Ratings]) -> None:
    with pytest.raises(ValueError, match="k=0"):
        nmfcore.evaluate(model, parts[1], k=0)
    with pytest.raises(ValueError, match="threshold=nan"):
        nmfcore.evaluate(model, parts[1], threshold=float("nan"))
    with pytest.raises(TypeError, match=r"needs nmfcore\.Ratings, not list"):
        nmfcore.evaluate(model, [[1, 2]])
    with pytest.raises(KeyError, match="unknown user 9999"):
        nmfcore.evaluate(model, Ratings.from_triplets([1, 9999], [1, 1], [3, 3]), unknown="error")
    with pytest.raises(KeyError, match="unknown item 9999"):
        nmfcore.evaluate(model, Ratings.from_triplets([1, 1], [1, 9999], [3, 3]), unknown="error")
    with pytest.raises(RuntimeError, match="not fitted"):
        nmfcore.evaluate(Recommender(), parts[1])


def test_ratings_beyond_the_square_root_of_the_largest_number() -> None:
    ratings = Ratings.from_triplets([1, 1, 2, 2], [1, 2, 1, 2], [1e200, 3e200, 2e200, 1e200])
    model = Recommender(rank=1, random_state=0).fit(ratings)
    found = nmfcore.evaluate(model, ratings)
    users, items, values = ratings.triplets()
    errors = model.predict(ratings.users[users], ratings.items[items], clip=True) - values
    assert found.rmse == pytest.approx(metrics.rmse(errors, 0 * errors), rel=1e-12)
    assert found.mae == pytest.approx(np.mean(np.abs(errors)), rel=1e-12)


@pytest.mark.slow
def test_ten_million_ratings_need_little_room() -> None:
    code = """
        import resource, numpy as np
        from nmfcore import Ratings, Recommender, evaluate
        m, n = 20_000, 500
        one = Ratings(np.arange(m), np.arange(n), np.arange(m + 1), np.arange(m) % n, 1 + np.arange(m) % 5)
        model = Recommender(rank=2, random_state=0, max_iter=1, tol=1).fit(one)
        test = Ratings(np.arange(m), np.arange(n), np.arange(m + 1) * n, np.tile(np.arange(n), m), np.ones(m * n))
        evaluate(model, one)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = evaluate(model, test, threshold=1)
        print(found.n_ratings, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    pytest.importorskip("resource")
    program = "\n".join(line[8:] for line in code.split("\n"))
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    n_ratings, grown = run.stdout.split()
    assert int(n_ratings) == 10_000_000
    assert float(grown) < (50 if sys.platform != "darwin" else 50_000)  # one number for each rating would be more
