"""Ratings: what is read is what pandas reads, what is refused is named, positions are the caller's ids."""

from __future__ import annotations

import gzip
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfcore.ratings import GlobalMean, Ratings, UserItemMeans, mae, parse_id, reader, rmse
from nmfcore.ratings.fields import read_integers, read_numbers, split_lines


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


# Reading


SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "colons": "::", "bar": "|", "blank": " "}
HEADERS = {
    "none": None,
    "movielens": "userId movieId rating",
    "plain": "user_id item_id score",
    "strange": "who what how",
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_separators_and_headers(tmp_path: Path, separator: str, header: str) -> None:
    frame = planted(60)
    sep = SEPARATORS[separator]
    lines = [] if HEADERS[header] is None else [sep.join([*HEADERS[header].split(), "time"])]
    lines += [sep.join([str(u), str(i), str(r), "97"]) for u, i, r in frame.itertuples(index=False)]
    path = write(tmp_path, "\n".join(lines) + "\n")
    expected = Ratings.from_triplets(frame.user, frame.item, frame.rating)
    assert same(Ratings.from_csv(path), expected)
    assert same(Ratings.from_csv(path, sep=sep), expected)


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    frame = planted(150)
    frame["user"] = [f"ü{k}" if row > 90 else str(k) for row, k in enumerate(frame.user)]  # turns to text late
    path = tmp_path / "ratings.csv"
    frame.to_csv(path, index=False, lineterminator="\r\n")
    monkeypatch.setattr(reader, "CHUNK", size)
    monkeypatch.setattr(reader, "LARGE", 9)
    monkeypatch.setattr(reader, "BLOCK", 10)
    assert same(Ratings.from_csv(path), Ratings.from_triplets(frame.user, frame.item, frame.rating))


def test_mark_crlf_blank_lines_and_no_last_line_end(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf\r\n  \r\nuser,item,rating\r\n\r\n1, 2 ,3\r\n   \r\n\r\n4,5,0.5"
    assert table(Ratings.from_csv(write(tmp_path, text))) == [(1, 2, 3.0), (4, 5, 0.5)]


def test_columns_by_name_in_any_place(tmp_path: Path) -> None:
    path = write(tmp_path, "when,Rating,User ID,score2,movie_id\n9,4,1,0,7\n9,5,2,1,7\n")
    assert table(Ratings.from_csv(path)) == [(1, 7, 4.0), (2, 7, 5.0)]
    assert table(Ratings.from_csv(path, rating="score2")) == [(1, 7, 0.0), (2, 7, 1.0)]
    with pytest.raises(ValueError, match=r"line 1: .*no column 'stars'.*found: 'when', 'Rating'.*rating="):
        Ratings.from_csv(path, rating="stars")
    with pytest.raises(ValueError, match="which columns are user, item and rating"):
        Ratings.from_csv(write(tmp_path, "rating,user,what\n5,1,2\n"))
    with pytest.raises(ValueError, match="usually the item"):
        Ratings.from_csv(write(tmp_path, "rating,user,what\n5,1,2\n"), user="user")


@pytest.mark.parametrize("header", ["user,Up,Heat,Alien", "userId,1,2,3", ",user,1,2,3"])
def test_a_table_of_users_by_items_is_not_read_as_columns(tmp_path: Path, header: str) -> None:
    width = header.count(",") + 1
    path = write(tmp_path, header + "\n" + "".join(",".join(map(str, range(k, k + width))) + "\n" for k in (1, 2)))
    with pytest.raises(ValueError, match=r"line 1: .*a table of users by items is for from_dense.*name them with"):
        Ratings.from_csv(path)


def test_a_separator_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 1: 'a;b;3': 1 field where 3 or more are needed"):
        Ratings.from_csv(write(tmp_path, "a;b;3\na;c;4\n"), sep=",")


def test_an_index_column_of_pandas_is_passed_over(tmp_path: Path) -> None:
    frame = planted(30)
    frame.to_csv(tmp_path / "r.csv")
    expected = Ratings.from_triplets(frame.user, frame.item, frame.rating)
    assert same(Ratings.from_csv(tmp_path / "r.csv"), expected)


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (["1", "20", "-3"], "i"),
        (["9223372036854775807", "0", "-9223372036854775808"], "i"),
        (["9223372036854775808", "0", "1"], "U"),
        (["0114508", "20", "1"], "U"),
        (["+5", "20", "1"], "U"),
        (["1.0", "20", "1"], "U"),
        (["-0", "20", "1"], "U"),
        (["1_0", "20", "1"], "U"),
        (["x", "20", "1"], "U"),
        (["a b", "c d", "1"], "U"),
    ],
)
def test_a_column_is_integers_only_if_all_are_canonical(tmp_path: Path, ids: list[str], kind: str) -> None:
    ratings = Ratings.from_csv(write(tmp_path, "".join(f"{one},7,3\n" for one in ids)))
    assert ratings.users.dtype.kind == kind
    assert {str(one) for one in ratings.users.tolist()} == set(ids)


def test_quotes_and_encodings(tmp_path: Path) -> None:
    text = 'user,item,rating,note\n"Doe, Ann",7,"4.5","he said ""so"""\nplain,8,3,5" pipe\n'
    assert table(Ratings.from_csv(write(tmp_path, text))) == [("Doe, Ann", 7, 4.5), ("plain", 8, 3.0)]
    for encoding in ("utf-8", "latin-1"):
        path = write(tmp_path, "José,1,3\nann,1,4\n".encode(encoding))
        assert Ratings.from_csv(path).users.tolist() == ["José", "ann"]


def test_gzip(tmp_path: Path) -> None:
    content = gzip.compress(b"1,2,3\n4,5,6\n" * 1, mtime=0)
    assert len(Ratings.from_csv(write(tmp_path, content, "r.csv.gz"))) == 2
    for damaged in (content[:-6], b"1,2,3\n"):
        with pytest.raises(ValueError, match="damaged or incomplete"):
            Ratings.from_csv(write(tmp_path, damaged, "r.csv.gz"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n4,5\n", "line 2: '4,5': 2 fields where the first line has 3"),
        ("1,2,3\n\n4,5,x\n", "line 3: '4,5,x': the rating 'x' is not a finite number"),
        ("u,i,rating\n1,2,\n", "line 2: '1,2,': the rating '' is not"),
        ("1,2,nan\n", "line 1: .*the rating 'nan' is not"),
        ("1,2,x\n", "line 1: .*the rating 'x' is not"),
        ("1,2,3\n1,3,inf\n", "line 2"),
        ("1,2,3\n1,3,-1\n", "line 2: .*the rating '-1' is not a finite number of at least 0"),
        ("1,2,3\n1,3,1e999\n", "line 2"),
        ("1,2,3\n1,3,1_0\n", "line 2"),
        ("1,2,3\n1,3,0x1\n", "line 2"),
        ("1,2,3\n1,3,.\n", "line 2"),
        ("1,2,3\n,3,4\n", "line 2: ',3,4': the user id is empty"),
        ("1,2,3\n1,  ,4\n", "line 2: .*the item id is empty"),
        ("1,2,3\n1,b\0,4\n", "line 2: .*NUL"),
        ('a,2,3\n"b,3,4\n', "line 2: .*wrong quotes"),
        ("1,2,3,99\n1,3,4,98\n1,4,", "line 3: .*the file ends in mid-line"),
        (
            "1,2,3,99\n1,3,4,98\n1,4,4",
            "line 3: .*3 fields where the first line has 4.*the file ends in mid-line",
        ),
        ("1,2,3\n" + "x" * 500 + "\n", r"x{70}\.\.\.'"),
        ("", "no ratings in this file"),
        ("\n \n", "no ratings in this file"),
        ("user,item,rating\n", "no ratings in this file"),
        ("1 2\n3 4\n", "line 1: '1 2': no separator"),
        ("1;2;3,5\n2;2;4,0\n", r"line 1: .*the rating '3,5' is not .* \(write it with a decimal point\)"),
        ("1;2;3,x\n2;2;4,0\n", "line 1: .*the rating '3,x' is not a finite number of at least 0; expected"),
        ("1,2,3\n1,2,4\n", r"ratings\.csv: 1 rating repeats .*user 1 and item 2, 2 times"),
        (b"\xff\xfe1\0,\0", "UTF-16"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Ratings.from_csv(write(tmp_path, text))
    assert "duplicates" in str(caught.value) or "ratings.csv" in str(caught.value)


def test_a_bad_line_of_a_late_chunk_has_its_number_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CHUNK", 50)
    lines = [f"{k},1,3" for k in range(100)]
    lines[76] = "\r\n76,1,oops"  # a blank line before it
    with pytest.raises(ValueError, match="line 78: '76,1,oops'"):
        Ratings.from_csv(write(tmp_path, "\n".join(lines)))


def test_a_file_without_line_ends_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 1 << 16)
    with pytest.raises(ValueError, match="is it a text file"):
        Ratings.from_csv(write(tmp_path, b"a" * (1 << 21)))


def test_other_faults(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Ratings.from_csv(tmp_path / "absent.csv")
    with pytest.raises(ValueError, match="sep="):
        Ratings.from_csv(write(tmp_path, "1,2,3\n"), sep="")


NUMBERS = st.one_of(
    st.floats(0, allow_infinity=False).map(repr),
    st.integers(0, 10**17).map(str),
    st.decimals(0, 10**6, places=6).map(lambda d: f"{d:f}"),
    st.sampled_from(["5.", ".5", "0", "00.50", "+3", "1e-3", "123456789012345", "12345678901234.5", "0.1", "-0"]),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(NUMBERS, min_size=1))
def test_numbers_are_read_as_python_reads_them(texts: list[str]) -> None:
    lines = split_lines("".join(f"{text}\n" for text in texts).encode(), b",", (0,))
    assert read_numbers(lines.columns[0]).tolist() == [float(text) for text in texts]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_are_read_as_python_reads_them(numbers: list[int]) -> None:
    lines = split_lines("".join(f"{number}\n" for number in numbers).encode(), b",", (0,))
    read = read_integers(lines.columns[0])
    assert read is not None
    assert read.tolist() == numbers


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.tuples(NAMES, NAMES), st.floats(0, 1e6), min_size=1, max_size=20))
def test_what_csv_writes_comes_back(
    tmp_path_factory: pytest.TempPathFactory, cells: dict[tuple[str, str], float]
) -> None:
    rows = [(f"u{user}", f"i{item}", value) for (user, item), value in cells.items()]
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    pd.DataFrame(rows, columns=["user", "item", "rating"]).to_csv(path, index=False)
    assert table(Ratings.from_csv(path)) == sorted(rows)


@pytest.mark.parametrize(
    ("name", "options", "facts"),
    [
        (
            "ml-100k/u.data",
            {"sep": "\t", "names": list("uir"), "usecols": [0, 1, 2]},
            (943, 1682, 100_000, 3.5299),
        ),
        ("ml-latest-small/ratings.csv", {}, (671, 9066, 100_004, 3.5436)),
        (
            "movietweetings-100k/ratings.dat",
            {"sep": "::", "engine": "python", "names": list("uirt"), "dtype": {"i": str}},
            (16_554, 10_506, 100_000, 7.3248),
        ),
    ],
)
def test_real_files(data_dir: Path, name: str, options: dict[str, object], facts: tuple[int, int, int, float]) -> None:
    path = real_file(data_dir, name)
    ratings = Ratings.from_csv(path)
    assert (*ratings.shape, ratings.nnz) == facts[:3]
    assert ratings.mean() == pytest.approx(facts[3], abs=5e-5)
    frame = pd.read_csv(path, **options)
    user, item, rating = (frame.iloc[:, k] for k in range(3))
    assert same(ratings, Ratings.from_triplets(user, item, rating))
    frame = frame.sort_values([user.name, item.name])
    assert np.array_equal(ratings.data, frame[rating.name].to_numpy(float))
    if "tweetings" in name:
        assert np.count_nonzero(ratings.data == 0) == 12
        assert ratings.items[ratings.item_index("0114508")] == "0114508"


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
