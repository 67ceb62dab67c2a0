"""Ratings: what is read is what pandas reads, what is refused is named, positions are the caller's ids."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfcore.ratings import GlobalMean, Ratings, UserItemMeans, mae, parse_id, rmse


def real_file(data_dir: Path, name: str) -> Path:
    if not (data_dir / name).is_file():
        pytest.skip(f"{name} is not in {data_dir}")
    return data_dir / name


def write(folder: Path, text: str | bytes, name: str = "ratings.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table(ratings: Ratings) -> list[tuple[object, object, float]]:
    users, items, values = ratings.triplets()
    columns = ratings.users[users], ratings.items[items], values
    return list(zip(*(column.tolist() for column in columns), strict=True))


def same(a: Ratings, b: Ratings) -> bool:
    names = ("users", "items", "indptr", "indices", "data")
    return all(
        getattr(a, name).dtype == getattr(b, name).dtype and np.array_equal(getattr(a, name), getattr(b, name))
        for name in names
    )


def planted(n: int = 400, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"user": rng.integers(1, 40, n), "item": rng.integers(1, 60, n)})
    frame = frame.drop_duplicates().reset_index(drop=True)
    frame["rating"] = rng.integers(0, 11, len(frame)) / 2
    return frame


# Triplets


def test_triplets_become_canonical_csr() -> None:
    frame = planted()
    ratings = Ratings.from_triplets(frame.user, frame.item, frame.rating)
    expected = scipy.sparse.csr_array(frame.pivot(index="user", columns="item", values="rating").fillna(-1))
    assert ratings.shape == expected.shape
    assert ratings.nnz == len(ratings) == len(frame)
    assert ratings.density == pytest.approx(len(frame) / (expected.shape[0] * expected.shape[1]))
    assert (ratings.ndim, ratings.format, ratings.dtype) == (2, "csr", np.float64)
    assert ratings.tocsr() is ratings
    assert ratings.indptr.dtype == ratings.indices.dtype == np.int64
    ordered = frame.sort_values(["user", "item"])
    assert table(ratings) == list(ordered.itertuples(index=False, name=None))
    assert ratings.mean() == pytest.approx(frame.rating.mean(), rel=1e-14)


def test_a_stored_zero_is_a_rating() -> None:
    assert table(Ratings.from_triplets([1, 2], [1, 1], [0, 3])) == [(1, 1, 0.0), (2, 1, 3.0)]


@pytest.mark.parametrize(
    ("ids", "kind", "distinct"),
    [
        ([3, 1, 2], "i", [1, 2, 3]),
        (np.array([3, 1, 2], dtype=">u2"), "i", [1, 2, 3]),
        (np.array([3.0, 1.0, 2.0]), "i", [1, 2, 3]),
        ([3.0, np.float32(1), 2.0], "i", [1, 2, 3]),
        ([np.int32(3), 1, np.uint8(2)], "i", [1, 2, 3]),
        ([-(2**63), 0, 2**63 - 1], "i", [-(2**63), 0, 2**63 - 1]),
        (["10", "9", "é"], "U", ["10", "9", "é"]),
        (np.array(["b", "a", "c"]), "U", ["a", "b", "c"]),
        (np.array(["b", "a", "c"], dtype=np.dtypes.StringDType()), "U", ["a", "b", "c"]),
        (np.array([b"b", b"a", b"c"]), "U", ["a", "b", "c"]),
        (pd.Series(["b", "a", "c"], index=[7, 8, 9]), "U", ["a", "b", "c"]),
        (pd.Series(["b", "a", "c"], dtype="category"), "U", ["a", "b", "c"]),
        (pd.Series([3, 1, 2], dtype="Int64"), "i", [1, 2, 3]),
        (iter([3, 1, 2]), "i", [1, 2, 3]),
    ],
)
def test_kinds_of_ids(ids: object, kind: str, distinct: list[object]) -> None:
    ratings = Ratings.from_triplets(ids, [1, 1, 1], [1, 2, 3])
    assert ratings.users.dtype.kind == kind
    assert ratings.users.tolist() == distinct


def test_unused_categories_are_no_users() -> None:
    column = pd.Series(pd.Categorical(["a", "b"], categories=["a", "b", "unused"]))
    assert Ratings.from_triplets(column, [1, 1], [1, 2]).users.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([1, "1", 2], TypeError, "user id '1' in row 1 is a str, row 0 is 1"),
        (["a", None, "b"], ValueError, "user id in row 1 is None"),
        (["a", float("nan"), "b"], ValueError, "user id in row 1 is nan"),
        ([1, pd.NA, 2], ValueError, "user id in row 1 is <NA>"),
        (pd.Series(["a", None, "b"]), ValueError, "user id in row 1 is missing"),
        (np.array([1.0, np.nan, 2.0]), ValueError, "user id in row 1 is nan"),
        (np.array([1.0, 2.5, 2.0]), ValueError, r"user id in row 1 is 2\.5"),
        (np.ma.array([1, 2, 3], mask=[0, 0, 1]), ValueError, "user id in row 2 is masked"),
        (["a", "", "b"], ValueError, "user id in row 1 is empty"),
        (["a", "b\0", "b"], ValueError, "NUL"),
        ([1.0, 2.5, 2.0], ValueError, r"user id in row 1 is 2\.5"),
        ([1, 2.0, 3], TypeError, r"user id 2\.0 in row 1 is a float, row 0 is 1; .* convert"),
        ([True, 1, 2], TypeError, "user id True in row 0 is a bool; ids are integers or strings"),
        (np.array([True, False, True]), TypeError, "dtype bool"),
        ([1, 2, 2**63], ValueError, "row 2 is beyond 64-bit"),
        (np.array([1, 2, 2**63], dtype=np.uint64), ValueError, "row 2 is beyond 64-bit"),
        ([(1,), (2,), (3,)], ValueError, "2 dimensions"),
        (np.array([1, 2, 3], dtype="datetime64[D]"), TypeError, "ids are integers or strings"),
        ([1, 2], ValueError, "2 users, 3 items, 3 ratings"),
    ],
)
def test_bad_ids_are_named(ids: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ratings.from_triplets(ids, [1, 1, 1], [1, 2, 3])


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1, -2.5, 3], ValueError, r"rating in row 1 is -2\.5.*shift the scale"),
        ([1, 2, np.nan], ValueError, "rating in row 2 is nan"),
        ([np.inf, 2, 1], ValueError, "rating in row 0 is inf"),
        ([1, None, 3], TypeError, "rating in row 1 is None"),
        (np.array([1, "2", 3], dtype=object), TypeError, "rating in row 1 is '2'"),
        (["1", "2", "3"], TypeError, "convert them to numbers"),
        ([1j, 2, 3], TypeError, "complex128"),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), ValueError, "rating in row 1 is masked"),
        ([[1, 2, 3]], ValueError, "2 dimensions"),
    ],
)
def test_bad_ratings_are_named(values: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ratings.from_triplets([1, 2, 3], [1, 1, 1], values)


def test_no_ratings_at_all() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Ratings.from_triplets([], [], [])


def test_duplicates() -> None:
    users, items, values = ["b", "a", "b", "b", "a"], [1, 1, 1, 1, 2], [1, 2, 3, 5, 4]
    with pytest.raises(ValueError, match=r"2 ratings repeat .* user 'b' and item 1, 3 times; .*duplicates='last'"):
        Ratings.from_triplets(users, items, values)
    last = Ratings.from_triplets(users, items, values, duplicates="last")
    assert table(last) == [("a", 1, 2.0), ("a", 2, 4.0), ("b", 1, 5.0)]
    mean = Ratings.from_triplets(users, items, values, duplicates="mean")
    assert table(mean) == [("a", 1, 2.0), ("a", 2, 4.0), ("b", 1, 3.0)]
    with pytest.raises(ValueError, match=r"1 rating repeats a user .* item 1, 2 times"):
        Ratings.from_triplets([7, 7], [1, 1], [2, 3])
    with pytest.raises(ValueError, match="duplicates='sum'"):
        Ratings.from_triplets(users, items, values, duplicates="sum")


def test_the_mean_of_huge_duplicates_does_not_overflow() -> None:
    assert Ratings.from_triplets([1, 1], [1, 1], [1.7e308, 1.7e308], duplicates="mean").data.tolist() == [1.7e308]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(0, 10**12), st.integers(0, 10)), min_size=1))
def test_duplicates_as_pandas_settles_them(rows: list[tuple[int, int, int]]) -> None:
    frame = pd.DataFrame(rows, columns=["user", "item", "rating"])
    for how in ("last", "mean"):
        expected = frame.groupby(["user", "item"]).rating.agg(how).reset_index()
        ratings = Ratings.from_triplets(frame.user, frame.item, frame.rating, duplicates=how)
        assert [row[:2] for row in table(ratings)] == list(zip(expected.user, expected.item, strict=True))
        np.testing.assert_allclose(ratings.data, expected.rating, rtol=1e-15)


def test_immutable_and_inputs_untouched() -> None:
    values = np.array([1.0, 2.0])
    ratings = Ratings.from_triplets([1, 2], [1, 2], values)
    with pytest.raises(ValueError, match="read-only"):
        ratings.data[0] = 9
    with pytest.raises(AttributeError):
        ratings.data = values
    values[0] = 3
    assert values.flags.writeable
    assert ratings.data.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"users": [2, 1]}, "users are not distinct and ascending"),
        ({"items": [1, 1]}, "items are not distinct and ascending"),
        ({"users": [1.5, 2.5]}, "ids are int64 or str"),
        ({"indptr": [0, 1]}, "indptr"),
        ({"indptr": [0, 3, 2]}, "indptr"),
        ({"indices": [0, 2]}, "indices leave"),
        ({"indices": [0, -1]}, "indices leave"),
        ({"indices": [0]}, "1 indices for 2 ratings"),
        ({"indptr": [0, 2, 2], "indices": [1, 0]}, "within each user"),
        ({"data": [1, -1]}, "rating in row 1"),
        ({"data": [], "indices": []}, "at least one"),
        ({"data": [[1, 2]]}, "1-D"),
    ],
)
def test_the_constructor_checks_the_structure(change: dict[str, object], message: str) -> None:
    arrays = {"users": [1, 2], "items": [1, 2], "indptr": [0, 1, 2], "indices": [0, 1], "data": [1.0, 2.0]}
    with pytest.raises(ValueError, match=message):
        Ratings(**{name: np.array(value) for name, value in (arrays | change).items()})


def test_repr_tells_what_is_there() -> None:
    text = repr(Ratings.from_triplets([1, 2], [1, 1], [0.5, 5]))
    assert text == "Ratings(2 users x 1 item, 2 ratings, density 100%, mean 2.75, range 0.5 to 5)"


def test_many_distinct_strings_take_no_quadratic_time() -> None:
    ids = [f"u{k * 7919 % 200_003}" for k in range(200_003)]
    begin = time.perf_counter()
    ratings = Ratings.from_triplets(ids, np.zeros(len(ids), int), np.ones(len(ids)))
    assert time.perf_counter() - begin < 2.0  # 0.2 s; a fifth of the million, to spare the tests
    assert ratings.users.tolist() == sorted(ids)


# Ids


@pytest.mark.parametrize("ids", [[10, 20, 40], ["ann", "bob", "eve"]])
def test_index_gives_positions(ids: list[object]) -> None:
    ratings = Ratings.from_triplets(ids[::-1], ids, [1, 2, 3])
    assert [ratings.user_index(one) for one in ids] == [0, 1, 2]
    assert isinstance(ratings.item_index(ids[1]), int)
    assert ratings.item_index([ids[2], ids[0], ids[2]]).tolist() == [2, 0, 2]
    assert ratings.user_index(np.array(ids)).tolist() == [0, 1, 2]
    assert ratings.user_index(ratings.users[1]) == 1
    assert ratings.user_index([]).shape == (0,)


@pytest.mark.parametrize("one", [20.0, np.float64(20), np.float32(20), np.int8(20), np.array(20)])
def test_a_single_id_of_another_type_is_found(one: object) -> None:
    assert Ratings.from_triplets([10, 20], [1, 2], [1, 2]).user_index(one) == 1


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        (1.5, ValueError, r"user id 1\.5 is a float: the users' ids are integers, for example 10$"),
        (float("nan"), ValueError, "user id nan is a float"),
        (1e300, ValueError, r"user id 1e\+300 is a float"),
        (None, TypeError, "user id None is a NoneType"),
        (True, TypeError, "user id True is a bool"),
        ({10, 20}, TypeError, r"user id \{.* is a set"),
        (2**70, KeyError, "unknown user 1180591620717411303424: 2 users are known"),
    ],
)
def test_what_is_no_id_is_named(wanted: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Ratings.from_triplets([10, 20], [1, 2], [1, 2]).user_index(wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (15, "unknown user 15: 2 users are known, for example 20"),
        ([10, 99], "unknown user 99: 2 users are known, for example 20"),
        ("10", "unknown user '10': .*ids are integers.*parse_id"),
    ],
)
def test_an_unknown_user_is_named(wanted: object, message: str) -> None:
    ratings = Ratings.from_triplets([10, 20], ["x", "yz"], [1, 2])
    with pytest.raises(KeyError, match=message):
        ratings.user_index(wanted)
    with pytest.raises(KeyError, match=r"unknown item 5: .*ids are strings"):
        ratings.item_index(5)
    with pytest.raises(KeyError, match="unknown item 'y': 2 items are known, for example 'yz'"):
        ratings.item_index("y")  # a prefix of a known id is another id
    with pytest.raises(KeyError, match="unknown item 'yzz'"):
        ratings.item_index(["x", "yzz"])


def test_parse_id() -> None:
    assert parse_id(" 5 ", np.array([1, 5])) == 5
    assert parse_id("0114508", np.array(["0114508"])) == "0114508"
    with pytest.raises(KeyError, match="'bob': the ids here are integers, such as 1"):
        parse_id("bob", np.array([1, 5]))


# Split


@st.composite
def some_ratings(draw: st.DrawFn) -> Ratings:
    pairs = draw(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=2))
    users, items = zip(*pairs, strict=True)
    return Ratings.from_triplets(users, items, np.arange(len(pairs)))


@settings(deadline=None, max_examples=100)
@given(some_ratings(), st.floats(0.01, 0.99), st.sampled_from(["rating", "user"]), st.integers(0, 99))
def test_split_parts_make_the_whole(ratings: Ratings, test: float, by: str, seed: int) -> None:
    counts = np.diff(ratings.indptr)
    quota = np.minimum(np.rint(test * counts), np.maximum(counts - 1, 0))
    expected = round(test * ratings.nnz) if by == "rating" else int(quota.sum())
    if not 0 < expected < ratings.nnz:
        with pytest.raises(ValueError, match="leaves none for"):
            ratings.split(test, by=by, random_state=seed)
        return
    train, held_out = ratings.split(test, by=by, random_state=seed)
    assert held_out.nnz == expected
    assert sorted(table(train) + table(held_out)) == table(ratings)
    assert train.shape == held_out.shape == ratings.shape
    if by == "user":
        assert np.array_equal(np.diff(held_out.indptr), quota)
        assert (np.diff(train.indptr) > 0).all()
    again = ratings.split(test, by=by, random_state=np.random.default_rng(seed))
    assert same(train, again[0])
    assert same(held_out, again[1])


@pytest.mark.parametrize("by", ["rating", "user"])
def test_every_rating_is_equally_likely_to_be_held_out(by: str) -> None:
    ratings = Ratings.from_triplets(np.repeat([1, 2], 5), np.tile(np.arange(5), 2), np.arange(10))
    rng = np.random.default_rng(0)
    times = np.zeros(10)
    for _ in range(500):
        times[ratings.split(0.2, by=by, random_state=rng)[1].data.astype(int)] += 1
    assert times.sum() == 1000
    assert abs(times - 100).max() < 4 * np.sqrt(500 * 0.2 * 0.8)  # four standard deviations


@pytest.mark.parametrize("test", [0, 1, -0.5, 1.5, float("nan")])
def test_split_needs_a_part(test: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Ratings.from_triplets([1, 2], [1, 2], [1, 2]).split(test)


def test_split_by_something_else() -> None:
    with pytest.raises(ValueError, match="by='item'"):
        Ratings.from_triplets([1, 2], [1, 2], [1, 2]).split(0.5, by="item")


# Baselines and metrics


def test_means_are_those_of_pandas() -> None:
    frame = planted()
    ratings = Ratings.from_triplets(frame.user, frame.item, frame.rating)
    users, items = ratings.user_index(frame.user), ratings.item_index(frame.item)
    mean = frame.rating.mean()
    assert GlobalMean.fit(ratings).predict(users, items) == pytest.approx(np.full(len(frame), mean))
    left = frame.rating - mean
    item = left.groupby(frame.item).mean()
    user = (left - frame.item.map(item)).groupby(frame.user).mean()
    plain = UserItemMeans.fit(ratings, damping=0)
    np.testing.assert_allclose(plain.predict(users, items), mean + frame.user.map(user) + frame.item.map(item))
    grouped = left.groupby(frame.item)
    item = grouped.sum() / (5 + grouped.count())
    grouped = (left - frame.item.map(item)).groupby(frame.user)
    user = grouped.sum() / (5 + grouped.count())
    damped = UserItemMeans.fit(ratings)
    np.testing.assert_allclose(damped.predict(users, items), mean + frame.user.map(user) + frame.item.map(item))


def test_offsets_without_ratings_are_zero() -> None:
    train = Ratings(np.array([1, 2]), np.array([1, 2]), np.array([0, 1, 1]), np.array([1]), np.array([4.0]))
    for damping in (0.0, (10.0, 25.0)):
        assert UserItemMeans.fit(train, damping).predict(1, 0) == 4


@pytest.mark.parametrize(("user", "item"), [(-1, 0), (0, 2), ([0, 5], [0, 0]), (0.5, 0)])
def test_positions_out_of_range_do_not_wrap(user: object, item: object) -> None:
    baseline = UserItemMeans.fit(Ratings.from_triplets([1, 2], [1, 2], [1, 2]))
    with pytest.raises(IndexError, match="position"):
        baseline.predict(user, item)


def test_damping_is_checked() -> None:
    with pytest.raises(ValueError, match="damping=-1"):
        UserItemMeans.fit(Ratings.from_triplets([1, 2], [1, 2], [1, 2]), damping=-1)


def test_the_baselines_on_movielens(data_dir: Path) -> None:
    train, test = Ratings.from_csv(real_file(data_dir, "ml-100k/u.data")).split(0.1, random_state=0)
    users, items, values = test.triplets()
    # Koren's damping is for Netflix: on this set the plain means predict a little better.
    for damping, expected in ((5.0, 0.944), (0.0, 0.949), ((10.0, 25.0), 0.953)):
        model = UserItemMeans.fit(train, damping)
        assert rmse(values, model.predict(users, items)) == pytest.approx(expected, abs=0.001)
    assert 1.1 < rmse(values, GlobalMean.fit(train).predict(users, items)) < 1.15


def test_metrics() -> None:
    true, predicted = np.random.default_rng(0).random((2, 50))
    assert rmse(true, predicted) == pytest.approx(np.sqrt(((true - predicted) ** 2).mean()), rel=1e-14)
    assert mae(true, predicted) == pytest.approx(abs(true - predicted).mean(), rel=1e-14)
    assert rmse(true, true) == mae(true, true) == 0
    assert rmse([3e200], [1e200]) == pytest.approx(2e200)
    assert rmse([3e-200], [1e-200]) == pytest.approx(2e-200)


@pytest.mark.parametrize("metric", [rmse, mae])
def test_metrics_refuse_what_has_no_error(metric: object) -> None:
    with pytest.raises(ValueError, match=r"shape \(2,\), y_pred \(2, 1\)"):
        metric([1, 2], [[1], [2]])
    with pytest.raises(ValueError, match="empty"):
        metric([], [])
    with pytest.raises(ValueError, match="y_pred is nan at position 1"):
        metric([1, 2], [1, np.nan])


def test_nothing_but_numpy_is_loaded() -> None:
    import subprocess

    program = "import sys, nmfcore.ratings; print(*{'pandas', 'scipy', 'numba', 'sklearn'} & sys.modules.keys())"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
