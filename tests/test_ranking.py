"""Recommendations for many: the same as sorting everything, in blocks, for any number of threads."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from nmfcore import Ratings, Recommender, evaluate
from nmfcore.datasets import planted_ratings
from nmfcore.ratings import RecommendationTable
from nmfcore.recommender import ranking
from nmfcore.recommender.ranking import best_items


def factors(m: int, n: int, r: int, dtype: str = "float64", levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random ones; with ``levels`` whole numbers below it, so that scores are exact and many are equal."""
    rng = np.random.default_rng(m + n + r)
    W, H = (rng.integers(0, levels, s) if levels else rng.random(s) for s in ((m, r), (r, n)))
    return W.astype(dtype), H.astype(dtype)


def some_seen(m: int, n: int, density: float) -> tuple[np.ndarray, np.ndarray]:
    seen = np.random.default_rng(1).random((m, n)) < density
    return np.concatenate(([0], np.cumsum(seen.sum(1)))), np.nonzero(seen)[1]


def by_sorting(
    W: np.ndarray,
    H: np.ndarray,
    users: np.ndarray,
    n: int,
    seen: tuple[np.ndarray, np.ndarray] | None,
    candidates: np.ndarray | None,
) -> list[list[tuple[int, float]]]:
    """The definition: every score of a user, best first, the first item first where they are equal."""
    lists = []
    for user in users.tolist():
        left = set(range(H.shape[1]) if candidates is None else candidates.tolist())
        if seen is not None:
            left -= set(seen[1][seen[0][user] : seen[0][user + 1]].tolist())
        scores = {item: float(sum(W[user, t] * H[t, item] for t in range(W.shape[1]))) for item in left}
        lists.append(sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:n])
    return lists


def as_lists(blocks: list[ranking.Block]) -> list[list[tuple[int, float]]]:
    return [
        list(zip(items[:count].tolist(), map(float, scores[:count]), strict=True))
        for block in blocks
        for count, items, scores in zip(block.counts, block.items, block.scores, strict=True)
    ]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("m", "n_items", "r", "n"), [(1, 1, 1, 1), (7, 30, 3, 4), (9, 513, 5, 10), (6, 1200, 8, 1), (5, 700, 4, 10_000)]
)
def test_the_best_are_those_of_a_full_sort(m: int, n_items: int, r: int, n: int, dtype: str) -> None:
    # Whole numbers: sums are exact in any order, and most scores occur many times.
    W, H = factors(m, n_items, r, dtype, levels=4)
    users = np.random.default_rng(0).permutation(np.append(np.arange(m), 0))
    few = np.flatnonzero(np.random.default_rng(2).random(n_items) < 0.3)
    for seen in (None, some_seen(m, n_items, 0.1), some_seen(m, n_items, 0.98)):
        for candidates in (None, few, np.array([n_items - 1]), np.array([], int)):
            found = as_lists(list(best_items(W, H, users, n, seen=seen, candidates=candidates)))
            assert found == by_sorting(W, H, users, n, seen, candidates)


def test_scores_that_differ_little_are_told_apart() -> None:
    W, H = factors(40, 2000, 11)
    for (items, scores), row in zip(
        ((b.items, b.scores) for b in best_items(W, H, np.arange(40), 50)), [slice(0, 40)], strict=True
    ):
        product = W[row] @ H
        assert np.array_equal(items, np.argsort(-product, axis=1, kind="stable")[:, :50])
        np.testing.assert_allclose(scores, -np.sort(-product, axis=1)[:, :50], rtol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_for_any_threads_blocks_and_company(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    W, H = factors(700, 3000, 9, dtype)
    seen, users = some_seen(700, 3000, 0.02), np.arange(700)
    (one,) = best_items(W, H, users, 8, seen=seen, n_threads=1)
    (three,) = best_items(W, H, users, 8, seen=seen, n_threads=3)
    assert np.array_equal(one.items, three.items)
    assert np.array_equal(one.scores, three.scores)
    for user in (0, 1, 2, 3, 129, 699):  # alone, a user stands first in a group of four
        (alone,) = best_items(W, H, np.array([user]), 8, seen=seen)
        assert np.array_equal(alone.items[0], one.items[user])
        assert np.array_equal(alone.scores[0], one.scores[user])
    monkeypatch.setattr(ranking, "BLOCK_BYTES", 1)
    blocks = list(best_items(W, H, users, 8, seen=seen, n_threads=2))
    assert len(blocks) == 22
    assert [b.lo for b in blocks] == list(range(0, 700, 32))
    assert np.array_equal(np.concatenate([b.scores for b in blocks]), one.scores)
    assert np.array_equal(np.concatenate([b.items for b in blocks]), one.items)


def test_equal_items_have_equal_scores_wherever_they_stand() -> None:
    W, H = factors(5, 1000, 7)
    H[:, 1:] = H[:, :1]
    (block,) = best_items(W, H, np.arange(5), 1000)
    assert (block.items == np.arange(1000)).all()
    assert (block.scores == block.scores[:, :1]).all()


def test_memory_is_bounded_by_the_block() -> None:
    # 40,000 x 20,000 scores are 3.2 GB in float32; the process may not grow by a tenth of that.
    code = """
        import resource, numpy as np
        from nmfcore.recommender.ranking import best_items
        rng = np.random.default_rng(0)
        W, H = rng.random((40_000, 2), np.float32), rng.random((2, 20_000), np.float32)
        list(best_items(W[:500], H, np.arange(500), 10))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = sum(int(block.counts.sum()) for block in best_items(W, H, np.arange(40_000), 10))
        print(total, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
    """
    pytest.importorskip("resource")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line[8:] for line in code.split("\n"))],
        capture_output=True,
        text=True,
        check=True,
    )
    total, grown = done.stdout.split()
    assert int(total) == 400_000
    assert float(grown) < (60 if sys.platform != "darwin" else 60_000)


# Through the recommender


@pytest.fixture(scope="module")
def model() -> Recommender:
    return Recommender(rank=3, random_state=0, max_iter=200).fit(planted_ratings(50, 40, 900))


@pytest.fixture
def no_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pandas", raising=False)


@pytest.mark.usefixtures("no_pandas")
def test_many_are_as_one_after_the_other(model: Recommender) -> None:
    users = [7, 3, 7, 50]
    table = model.recommend(users, n=4)
    assert isinstance(table, RecommendationTable)
    assert len(table) == 16
    assert table.users.tolist() == np.repeat(users, 4).tolist()
    assert table.ranks.tolist() == [1, 2, 3, 4] * 4
    for k, user in enumerate(users):
        items, ratings = model.recommend(user, n=4)
        assert np.array_equal(table.items[4 * k : 4 * k + 4], items)
        assert np.array_equal(table.ratings[4 * k : 4 * k + 4], ratings)
    assert table.ratings.dtype == np.float64
    assert repr(table) == "RecommendationTable(16 recommendations for 3 users)"


@pytest.mark.usefixtures("no_pandas")
def test_everybody_and_no_more_than_is_left(model: Recommender) -> None:
    ratings = model.ratings_
    table = model.recommend(n=1000)
    left = 40 - np.diff(ratings.indptr)
    assert len(table) == left.sum() == 50 * 40 - 900
    assert np.array_equal(table.users, np.repeat(ratings.users, left))
    seen = set(zip(ratings.users[ratings.triplets()[0]].tolist(), ratings.items[ratings.indices].tolist(), strict=True))
    assert not seen & set(zip(table.users.tolist(), table.items.tolist(), strict=True))
    assert len(model.recommend(n=1000, exclude_seen=False)) == 2000


@pytest.mark.usefixtures("no_pandas")
def test_only_some_items(model: Recommender) -> None:
    wanted = [30, 2, 17, 2, 9]  # in any order, one of them twice
    full = model.recommend(5, n=40)
    kept = [item for item in full.items.tolist() if item in wanted]
    assert 1 <= len(kept) <= 4
    for items in (wanted, np.array(wanted), set(wanted), tuple(wanted)):
        assert model.recommend(5, items=items).items.tolist() == kept
    assert model.recommend(5, n=2, items=wanted, exclude_seen=False).items.size == 2
    assert model.recommend(5, items=[]).items.size == 0
    assert len(model.recommend([5, 6], items=[])) == 0
    assert model.recommend(5, items=9, exclude_seen=False).items.tolist() == [9]
    with pytest.raises(KeyError, match="unknown item 999"):
        model.recommend(5, items=[2, 999])
    with pytest.raises(KeyError, match="unknown item 'x'"):
        model.recommend(5, items=["x"])


@pytest.mark.usefixtures("no_pandas")
def test_nobody_gets_nothing(model: Recommender) -> None:
    for nobody in ([], np.array([], int)):
        table = model.recommend(nobody)
        assert len(table) == 0
        assert table.users.dtype == table.items.dtype == np.int64
        assert table.ratings.dtype == np.float64
    assert repr(table) == "RecommendationTable(0 recommendations for 0 users)"


def test_a_frame_where_pandas_is_loaded(model: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    pd = pytest.importorskip("pandas")
    frame = model.recommend([3, 4], n=2)
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["user", "item", "rating"]
    assert frame.user.tolist() == [3, 3, 4, 4]
    assert frame.item.tolist()[:2] == model.recommend(3, n=2).items.tolist()
    assert not isinstance(model.recommend(3, n=2), pd.DataFrame)  # one user: the pair that unpacks
    monkeypatch.setitem(sys.modules, "pandas", None)  # as if it were not installed
    table = model.recommend([3, 4], n=2)
    assert isinstance(table, RecommendationTable)
    with pytest.raises(ImportError, match="pip install pandas"):
        table.to_frame()


def test_bad_input(model: Recommender) -> None:
    for n, kind in ((0, ValueError), (-3, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(kind, match=f"n={n}"):
            model.recommend(5, n=n)
    with pytest.raises(KeyError, match="unknown user 1000"):
        model.recommend([5, 1000])
    with pytest.raises(KeyError, match="unknown user 'ann'"):
        model.recommend(["ann"])
    with pytest.raises(TypeError, match="row 1"):
        model.recommend([5, "5"])
    with pytest.raises(RuntimeError, match="not fitted"):
        Recommender().recommend()
    with pytest.raises(TypeError, match=r"evaluate needs a fitted .*, not NoneType"):
        evaluate(None, model.ratings_)


def test_text_ids() -> None:
    ratings = Ratings.from_triplets(["b", "a", "b", "c"], ["x", "x", "y,z", "é"], [1, 2, 3, 4])
    model = Recommender(rank=1, random_state=0).fit(ratings)
    assert set(model.recommend("c").items.tolist()) == {"x", "y,z"}
    assert model.recommend("c", items=["y,z"]).items.tolist() == ["y,z"]


def test_the_model_is_not_changed(model: Recommender) -> None:
    before = [a.copy() for a in (*model.factorization_, model.ratings_.indices)]
    model.recommend()
    for a, b in zip(before, (*model.factorization_, model.ratings_.indices), strict=True):
        assert np.array_equal(a, b)
