"""Folds, splits of many ratings, and merging: every rating is where it belongs, under its own ids, once."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfcore.ratings import Ratings, assemble, ids, split

BY = ["rating", "user"]


def table(ratings: Ratings) -> list[tuple[object, object, float]]:
    users, items, values = ratings.triplets()
    return list(zip(ratings.users[users].tolist(), ratings.items[items].tolist(), values.tolist(), strict=True))


@st.composite
def some_ratings(draw: st.DrawFn) -> Ratings:
    pairs = draw(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2))
    users, items = zip(*pairs, strict=True)
    return Ratings.from_triplets(users, items, np.arange(len(pairs)))


def small_blocks(patch: pytest.MonkeyPatch, size: int) -> None:
    for module in (ids, split, assemble):
        patch.setattr(module, "BLOCK", size)


@settings(deadline=None, max_examples=100)
@given(some_ratings(), st.integers(2, 7), st.sampled_from(BY), st.integers(0, 99), st.sampled_from([1, 3, 1 << 20]))
def test_every_rating_is_in_one_test_part(ratings: Ratings, k: int, by: str, seed: int, size: int) -> None:
    if k > ratings.nnz:
        with pytest.raises(ValueError, match=f"k={k}: {ratings.nnz} ratings can be cut into 2 to {ratings.nnz}"):
            ratings.folds(k, by=by)
        return
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, size)
        pairs = list(ratings.folds(k, by=by, random_state=seed))
    assert len(pairs) == k
    for train, test in pairs:
        assert train.shape == test.shape == ratings.shape
        assert train.users is ratings.users or np.array_equal(train.users, ratings.users)
        assert sorted(table(train) + table(test)) == table(ratings)
    assert sorted(itertools.chain.from_iterable(table(test) for _, test in pairs)) == table(ratings)
    sizes = [test.nnz for _, test in pairs]
    assert max(sizes) - min(sizes) <= 1
    if by == "user":
        shares = np.array([np.diff(test.indptr) for _, test in pairs])
        assert (shares.max(axis=0) - shares.min(axis=0) <= 1).all()
    again = ratings.folds(k, by=by, random_state=np.random.default_rng(seed))
    assert [table(test) for _, test in again] == [table(test) for _, test in pairs]


@pytest.mark.parametrize("by", BY)
def test_any_two_ratings_share_a_fold_as_often_as_chance_has_it(by: str) -> None:
    ratings = Ratings.from_triplets(np.repeat([1, 2], 4), np.tile(np.arange(4), 2), np.arange(8))
    rng, n = np.random.default_rng(0), 2000
    alike = np.zeros((8, 8))
    first = np.zeros(8)
    for _ in range(n):
        fold = np.empty(8, int)
        for number, (_, test) in enumerate(ratings.folds(4, by=by, random_state=rng)):
            fold[test.data.astype(int)] = number
        alike += fold[:, None] == fold
        first += fold == 0
    # Folds of two ratings: anybody's partner is one of the 7 others; by user, one of the 4 of the other user.
    same_user = np.arange(8)[:, None] // 4 == np.arange(8) // 4
    expected = np.full((8, 8), 1 / 7) if by == "rating" else np.where(same_user, 0, 1 / 4)
    np.fill_diagonal(expected, 1)
    assert abs(alike / n - expected).max() < 4.5 * np.sqrt(0.25 * 0.75 / n)
    assert abs(first / n - 1 / 4).max() < 4.5 * np.sqrt(0.25 * 0.75 / n)


def test_a_single_rating_is_as_likely_in_one_fold_as_in_another() -> None:
    ratings = Ratings.from_triplets([1, 2, 3], [1, 1, 1], [0, 1, 2])
    times = np.zeros((3, 3))
    rng = np.random.default_rng(0)
    for _ in range(900):
        for number, (_, test) in enumerate(ratings.folds(3, by="user", random_state=rng)):
            times[number, test.data.astype(int)] += 1
    assert abs(times - 300).max() < 4.5 * np.sqrt(900 * 2 / 9)


@pytest.mark.parametrize(
    ("k", "by", "error", "message"),
    [
        (1, "rating", ValueError, "k=1: 3 ratings can be cut into 2 to 3 folds"),
        (4, "user", ValueError, "k=4"),
        (2.0, "rating", TypeError, r"k=2\.0: the number of folds is an integer"),
        (2, "item", ValueError, "by='item'"),
    ],
)
def test_folds_that_cannot_be_are_refused_at_once(k: object, by: str, error: type[Exception], message: str) -> None:
    ratings = Ratings.from_triplets([1, 2, 3], [1, 1, 1], [0, 1, 2])
    with pytest.raises(error, match=message):
        ratings.folds(k, by=by)


# What a split was before it was made in blocks: README's figures come from these very splits.


def by_rating(nnz: int, test: float, rng: np.random.Generator) -> np.ndarray:
    held_out = np.zeros(nnz, bool)
    held_out[rng.permutation(nnz)[: round(test * nnz)]] = True
    return held_out


def by_user(indptr: np.ndarray, test: float, rng: np.random.Generator) -> np.ndarray:
    counts = np.diff(indptr)
    draws = rng.integers(0, 1 << 32, size=indptr[-1])
    held_out = np.zeros(indptr[-1], bool)
    for lo, n in zip(indptr[:-1].tolist(), counts.tolist(), strict=True):
        quota = min(round(test * n), max(n - 1, 0))
        held_out[lo + np.argsort(draws[lo : lo + n], kind="stable")[:quota]] = True
    return held_out


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_split_holds_out_what_it_always_did(monkeypatch: pytest.MonkeyPatch, seed: int, size: int) -> None:
    small_blocks(monkeypatch, size)
    counts = np.random.default_rng(seed).integers(0, 30, 40)
    indptr = np.concatenate(([0], np.cumsum(counts)))
    nnz = int(indptr[-1])
    for test in (0.1, 0.5, 0.9):
        rngs = [np.random.default_rng(seed) for _ in range(4)]
        assert np.array_equal(split.held_out_by_rating(nnz, test, rngs[0]), by_rating(nnz, test, rngs[1]))
        assert np.array_equal(split.held_out_by_user(indptr, test, rngs[2]), by_user(indptr, test, rngs[3]))
        assert rngs[2].random() == rngs[3].random()
        kept = ~by_rating(nnz, test, rngs[0])
        assert split.counts_before(kept, indptr).tolist() == [int(kept[:place].sum()) for place in indptr]


def peak(work: Callable[[], object]) -> int:
    tracemalloc.start()
    work()
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


@pytest.fixture(scope="module")
def many() -> Ratings:
    n = 4_000_000
    return Ratings(
        np.arange(4000), np.arange(1000), np.arange(0, n + 1, 1000), np.tile(np.arange(1000), 4000), np.ones(n)
    )


@pytest.mark.parametrize("by", BY)
def test_splits_and_folds_take_few_bytes_a_rating(many: Ratings, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 1 << 16)
    many.split(0.5, by=by, random_state=0)
    assert peak(lambda: many.split(0.5, by=by, random_state=0)) < 24 * many.nnz  # 16 are the two parts
    assert peak(lambda: next(iter(many.folds(5, by=by, random_state=0)))) < 22 * many.nnz


def test_sorting_takes_one_array_of_keys(many: Ratings, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch, 1 << 16)
    users, items, values = many.triplets()
    order = np.random.default_rng(0).permutation(many.nnz)
    users, items, values = (column[order].astype(np.int32) for column in (users, items, values))
    # Sorting needs 24: float64 ratings as they came and in order, and the keys, which become the indices.
    assert peak(lambda: Ratings.from_triplets(users, items, values)) < 28 * many.nnz
    assert np.array_equal(Ratings.from_triplets(users, items, values).indices, many.indices)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 9)), min_size=1),
    st.sampled_from(["last", "mean"]),
    st.sampled_from([1, 2, 1 << 20]),
    st.sampled_from([1, 2**20, 2**31]),
)
def test_sorting_in_place_and_by_an_order_agree(rows: list[tuple[int, int, int]], how: str, size: int, n: int) -> None:
    """With so many users and items that keys and places do not fit into 64 bits together."""
    users, items, values = (np.array(column) for column in zip(*rows, strict=True))
    m, n = 5 * n, 5 * n if n < 2**31 else 2**29
    cells: dict[tuple[int, int], list[int]] = {}
    for user, item, value in rows:
        cells.setdefault((user, item), []).append(value)
    expected = {place: there[-1] if how == "last" else np.mean(there) for place, there in sorted(cells.items())}
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch, size)
        axes = np.broadcast_to(np.int64(0), (m,)), np.broadcast_to(np.int64(0), (n,))
        key = assemble.join(users, items, n)
        patch.setattr(assemble, "compress", lambda key, data, m, n: (key, data))
        key, data = assemble.assemble(*axes, key, values, how)
    assert [divmod(k, n) for k in key.tolist()] == list(expected)
    assert data.tolist() == pytest.approx(list(expected.values()), rel=1e-15)


# Merging


@settings(deadline=None, max_examples=100)
@given(some_ratings(), some_ratings(), st.sampled_from(["last", "mean", "error"]), st.booleans())
def test_merging_is_as_dictionaries_do_it(old: Ratings, new: Ratings, how: str, texts: bool) -> None:
    def rename(ratings: Ratings) -> Ratings:
        users, items, values = ratings.triplets()
        return Ratings.from_triplets([f"u{k}" for k in ratings.users[users].tolist()], ratings.items[items], values)

    old, new = (rename(old), rename(new)) if texts else (old, new)
    before, after = ({row[:2]: row[2] for row in table(ratings)} for ratings in (old, new))
    both = before.keys() & after.keys()
    if how == "error" and both:
        first = min(both)
        with pytest.raises(
            ValueError, match=f"{len(both)} ratings are in both, the first of user {first[0]!r} and item {first[1]}"
        ):
            old.merge(new, duplicates=how)
        return
    merged = old.merge(new, duplicates=how)
    expected = before | after
    if how == "mean":
        expected |= {place: (before[place] + after[place]) / 2 for place in both}
    assert table(merged) == [(*place, value) for place, value in sorted(expected.items())]
    assert merged.users.tolist() == sorted({*old.users.tolist(), *new.users.tolist()})
    assert merged.items.tolist() == sorted({*old.items.tolist(), *new.items.tolist()})
    assert table(old) == [(*place, value) for place, value in before.items()]


def test_merging_keeps_users_without_ratings() -> None:
    empty = Ratings(np.array([1, 5, 9]), np.array([2]), np.array([0, 1, 1, 1]), np.array([0]), np.array([3.0]))
    merged = empty.merge(Ratings.from_triplets([4], [1], [2]))
    assert merged.users.tolist() == [1, 4, 5, 9]
    assert table(merged) == [(1, 2, 3.0), (4, 1, 2.0)]


def test_the_mean_of_huge_ratings_does_not_overflow() -> None:
    huge = Ratings.from_triplets([1], [1], [1.7e308])
    assert huge.merge(huge, duplicates="mean").data.tolist() == [1.7e308]


@pytest.mark.parametrize(
    ("other", "options", "error", "message"),
    [
        (
            Ratings.from_triplets(["1"], [1], [1]),
            {},
            TypeError,
            r"user ids are integers \(1\) .*, strings \('1'\) in the",
        ),
        (
            Ratings.from_triplets([1], ["x"], [1]),
            {},
            TypeError,
            r"item ids are integers \(1\) .*, strings \('x'\) in the",
        ),
        ([(1, 1, 1)], {}, TypeError, "list, not Ratings"),
        (Ratings.from_triplets([1], [1], [1]), {"duplicates": "sum"}, ValueError, "duplicates='sum'"),
    ],
)
def test_what_cannot_be_merged(other: object, options: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ratings.from_triplets([1], [1], [1]).merge(other, **options)
