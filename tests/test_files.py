"""Files of ratings: read right, or refused with what was seen and the remedy."""

from __future__ import annotations

import gzip
import os
import sys
import threading
import warnings
import zipfile
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from nmfcore.ratings import Ratings, Recommender, duck, lines, tables
from tests.test_ratings import planted, real_file, same, table, write


def line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have DuckDB refuse every text file."""

    def refuse(*_: object) -> None:
        raise tables.Irregular("no")

    monkeypatch.setattr(tables, "read_csv", refuse)


# Reading


SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "colons": "::", "bar": "|", "blank": " "}
HEADERS = {
    "none": None,
    "movielens": "userId movieId rating",
    "plain": "user_id item_id score",
}


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("separator", SEPARATORS)
def test_separators_and_headers(tmp_path: Path, separator: str, header: str) -> None:
    frame = planted(60)
    sep = SEPARATORS[separator]
    lines = [] if HEADERS[header] is None else [sep.join([*HEADERS[header].split(), "time"])]
    lines += [sep.join([str(u), str(i), str(r), "881250949"]) for u, i, r in frame.itertuples(index=False)]
    path = write(tmp_path, "\n".join(lines) + "\n")
    expected = Ratings.from_triplets(frame.user, frame.item, frame.rating)
    assert same(Ratings.from_csv(path), expected)
    assert same(Ratings.from_csv(path, sep=sep), expected)


def test_a_column_that_turns_to_text_late_and_both_ways_of_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = planted(3000)
    frame["user"] = [f"ü{k}" if row > 1500 else str(k) for row, k in enumerate(frame.user)]
    frame = frame.drop_duplicates(["user", "item"])
    path = tmp_path / "ratings.csv"
    frame.to_csv(path, index=False, lineterminator="\r\n")
    expected = Ratings.from_triplets(frame.user, frame.item, frame.rating)
    assert same(Ratings.from_file(path), expected)
    line_by_line(monkeypatch)
    monkeypatch.setattr(lines, "BLOCK", 64)
    monkeypatch.setattr(lines, "AT_ONCE", 10)
    assert same(Ratings.from_file(path), expected)


def test_mark_crlf_blank_lines_and_no_last_line_end(tmp_path: Path) -> None:
    text = b"\xef\xbb\xbf\r\n  \r\nuser,item,rating\r\n\r\n1, 2 ,3\r\n   \r\n\r\n4,5,0.5"
    assert table(Ratings.from_csv(write(tmp_path, text))) == [(1, 2, 3.0), (4, 5, 0.5)]


def test_columns_by_name_in_any_place(tmp_path: Path) -> None:
    path = write(tmp_path, "when,Rating,User ID,score2,movie_id\n9,4,1,0,7\n9,5,2,1,7\n")
    assert table(Ratings.from_csv(path)) == [(1, 7, 4.0), (2, 7, 5.0)]
    assert table(Ratings.from_csv(path, rating="score2")) == [(1, 7, 0.0), (2, 7, 1.0)]
    with pytest.raises(ValueError, match=r"line 1: .*no column 'stars'.*found: 'when', 'Rating'.*columns="):
        Ratings.from_csv(path, rating="stars")
    with pytest.raises(ValueError, match="no column that is usually the item; columns found"):
        Ratings.from_csv(write(tmp_path, "rating,user,what\n5,1,2\n"))
    with pytest.raises(ValueError, match="usually the item"):
        Ratings.from_csv(write(tmp_path, "rating,user,what\n5,1,2\n"), user="user")


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
        ("user,item,rating\n1,2,\n", "line 2: '1,2,': the rating '' is not"),
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
        ("1,2,3,881250949\n1,3,4,881250949\n1,4,", "line 3: .*the file ends in mid-line"),
        (
            "1,2,3,881250949\n1,3,4,881250949\n1,4,4",
            "line 3: .*3 fields where the first line has 4.*the file ends in mid-line",
        ),
        ("1,2,3\n" + "x" * 500 + "\n", r"x{70}\.\.\.'"),
        ("", "no ratings in this file"),
        ("\n \n", "no ratings in this file"),
        ("user,item,rating\n", "no ratings in this file"),
        ("1 2\n3 4\n", "line 1: '1 2': no separator"),
        (
            "1;2;3,5\n2;2;4,0\n",
            r"line 1: .*the rating '3,5' is not .* \(write it with a decimal point, and without thousands separators\)",
        ),
        ("1;2;3,x\n2;2;4,0\n", "line 1: .*the rating '3,x' is not a finite number of at least 0; expected"),
        ("1,2,3\n1,2,4\n", r"ratings\.csv: 1 rating repeats .*user 1 and item 2, 2 times"),
        (b"\xff\xfe1\0,\0", "UTF-16"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Ratings.from_csv(write(tmp_path, text))
    assert "duplicates" in str(caught.value) or "ratings.csv" in str(caught.value)


def test_a_bad_line_has_its_number_in_the_file(tmp_path: Path) -> None:
    some = [f"{k},1,3" for k in range(5000)]
    some[4760] = "\r\n76,1,oops"  # a blank line before it
    with pytest.raises(ValueError, match="line 4762: '76,1,oops'"):
        Ratings.from_csv(write(tmp_path, "\n".join(some)))


def test_a_file_without_line_ends_is_refused_before_it_fills_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 1 << 16)
    with pytest.raises(ValueError, match="is it a text file"):
        Ratings.from_csv(write(tmp_path, b"1,2,3\n" + b"a" * (1 << 23)))


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


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.lists(NUMBERS, min_size=1))
def test_numbers_are_read_as_python_reads_them(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    path.write_text("user,item,rating\n" + "".join(f"{k},7,{text}\n" for k, text in enumerate(texts)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Ratings.from_file(path).data.tolist() == [float(text) for text in texts]


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.sets(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_integers_are_read_as_python_reads_them(tmp_path_factory: pytest.TempPathFactory, numbers: set[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.csv"
    path.write_text("user,item,rating\n" + "".join(f"{number},7,1\n" for number in numbers))
    assert Ratings.from_file(path).users.tolist() == sorted(numbers)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=6)


@pytest.mark.slow
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


# What is refused, and what it says


REFUSED = {
    "wide": ("name,Alien,Heat,Up\nann,5,3,1\nbob,4,2,2\n", r"'name', 'Alien', 'Heat', 'Up'.*--columns"),
    "wide by user": ("user,Up,Heat,Alien\n1,2,3,4\n", "a table of users by items is for from_dense"),
    "wide by number": ("userId,1,2,3\n1,2,3,4\n", "a table of users by items is for from_dense"),
    "wide with an index": (",user,1,2,3\n1,2,3,4,5\n", "a table of users by items is for from_dense"),
    "wide with an item": ("name,book,pen,cup\nann,1,2,3\n", "no column that is usually the user"),
    "survey": ("Timestamp,Film A,Film B\n2024-01-01 10:00,5,3\n", "no column that is usually"),
    "survey without header": ("2024-01-01 10:00,5,3\n2024-01-02 10:00,4,2\n", "dates or times"),
    "survey, American dates": ("1/2/2024 10:00:03,5,3\n1/3/2024 10:00:08,4,2\n", "dates or times"),
    "matrix of four": ("5,3,0,1\n4,0,0,1\n1,1,0,5\n", "the fourth holds no time stamps"),
    "matrix of six": ("5,3,0,1,2,2\n4,0,0,1,1,1\n", r"6 columns without a header.*--columns 1,2,4"),
    "matrix of three": ("5,3,5\n4,0,0\n5,3,1\n" * 8, "a table of users by items is for from_dense"),
    "other names": (
        "username,anime_id,my_watched_episodes,my_score\nann,1,24,9\n",
        r"usually the user or the rating; .*--columns username,anime_id,my_score \('my_score' is plainly",
    ),
    "strange names": ("who,what,how\n1,2,3\n", "no column that is usually the user or the item or the rating"),
    "two users": ("userId,user,movieId,rating\n1,ann,2,3\n", "more than one column that may be the user"),
    "two ratings": ("user,item,rating,score\n1,2,3,4\n", "more than one column that may be the rating"),
    "names with blanks": ("a user,a thing,a mark\n1,2,3\n", "--columns 'a user,"),
    "comments": ("% bip weighted\n% 3 2 2\n1 1 5\n", "a comment; remove the lines"),
    "sizes": ("943 1682 4\n1 2 3\n2 3 1\n2 4 1\n1 5 1\n", "seems to state the sizes"),
    "sizes, matrix": ("3 3 3\n1 1 5\n1 2 3\n2 3 2\n", "seems to state the sizes"),
    "JSON objects as ids": ('{"user": {"id": 1}, "item": 2, "rating": 3}\n', "line 1: .*'user' is neither a text nor"),
    "lists after ids": ("1:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n", "line 1: '1:': no separator"),
    "play counts": ("userID\tartistID\tweight\n2\t51\t13883\n", "no column that is usually the rating"),
    "fractions": ("user,item,rating\n1,2,4/5\n", "line 2: .*the rating '4/5' is not"),
    "ragged": ("user,item,rating\n1,2,3\n1,3\n", "line 3: '1,3': 2 fields where the first line has 3"),
    "too many": ("user,item,rating\n1,2,3\n1,3,4,5\n", "line 3: .*4 fields where the first line has 3"),
    "late and ragged": (
        "user,item,rating\n" + "".join(f"{k},2,3\n" for k in range(9000)) + "1,3\n",
        "line 9002: '1,3'",
    ),
    "not rated": (
        "user,item,rating\n1,2,3\n1,3,-1\n",
        r"line 3: .*pass not_rated=-1, on the command line --not-rated -1",
    ),
    "thousands": ('user,item,rating\n1,2,"1,234,567"\n', "without thousands separators"),
    "decimal comma": ("user;item;rating\n1;2;3,5\n", "write it with a decimal point"),
    "open quote": ('user,item,rating\n1,"b,3\n2,c,4\n', "line 2: .*wrong quotes"),
    "web page": ("<!DOCTYPE html>\n<html>\n", "a web page"),
    "JSON array": ('[{"user": 1, "item": 2, "rating": 3}]', "one JSON array; write an object a line"),
    "JSON object": ('{\n "user": 1\n}', "JSON, but not an object a line"),
    "JSON of other names": ('{"a": 1, "b": 2, "c": 3}\n', "no column that is usually the user"),
    "JSON damaged late": ('{"user": 1, "item": 2, "rating": 3}\n' * 2000 + '{"user": 1, "it\n', "damaged"),
    "JSON without rating": ('{"user": 1, "item": 2, "rating": 3}\n{"user": 1, "item": 4}\n', "row 2: the rating None"),
    "MatrixMarket, symmetric": ("%%MatrixMarket matrix coordinate real symmetric\n1 1 1\n1 1 1\n", "line 1: .*general"),
    "MatrixMarket, cut off": (
        "%%MatrixMarket matrix coordinate real general\n2 2 3\n1 1 1\n",
        "states 3; is the",
    ),
    "MatrixMarket, beyond": (
        "%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 1\n",
        "row 3 is not one of",
    ),
    "UTF-16": ("user,item,rating\n1,2,3\n".encode("utf-16"), "UTF-16 text"),
    "bzip2": (b"BZh91AY&SY", "bzip2 data: decompress it"),
    "Excel 97": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "an old Excel workbook"),
    "SQLite": (b"SQLite format 3\0" + bytes(600), "an SQLite database"),
    "pickle": (b"\x80\x04\x95" + bytes(60), "a Python pickle"),
    "binary": (bytes(range(1, 10)) + bytes(500), "no text file"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_list_of_ratings_is_refused(tmp_path: Path, kind: str) -> None:
    text, message = REFUSED[kind]
    path = write(tmp_path, text)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message) as caught:
        Ratings.from_file(path)
    assert "ratings.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["ratings.csv"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["a.csv", "b.csv"], r"zip archive \(of a.csv, b.csv\)"),
        (["xl/workbook.xml"], "Excel"),
        (["W.npy"], "NumPy archive"),
    ],
)
def test_archives_say_what_they_are(tmp_path: Path, entries: list[str], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "ratings.csv", "w") as archive:
        for entry in entries:
            archive.writestr(entry, "1,2,3\n")
    with pytest.raises(ValueError, match=message):
        Ratings.from_file(tmp_path / "ratings.csv")


# What is read right


THREE = [("ann", 7, 5.0), ("bob", 7, 3.5), ("bob", 8, 1.0)]
READ = {
    "R, commas": '"user","item","rating"\n"1","ann",7,5\n"2","bob",7,3.5\n"3","bob",8,1\n',
    "R, blanks": '"user" "item" "rating"\n"1" "ann" 7 5\n"2" "bob" 7 3.5\n"3" "bob" 8 1\n',
    "pandas' index": ",user,item,rating\n0,ann,7,5\n1,bob,7,3.5\n2,bob,8,1.0\n",
    "quoted throughout": '"user";"item";"rating"\n"ann";"7";"5"\n"bob";"7";"3.5"\n"bob";"8";"1"\n',
    "blanks around": "user , item , rating\n ann , 7 , 5 \n bob , 7 , 3.5\nbob,8,1\n",
    "old Macs": "user,item,rating\rann,7,5\rbob,7,3.5\rbob,8,1\r",
    "mixed line ends": "user,item,rating\r\nann,7,5\nbob,7,3.5\r\nbob,8,1",
    "blank lines": "\n\nuser,item,rating\n\nann,7,5\n   \nbob,7,3.5\n\nbob,8,1\n\n\n",
    "runs of blanks": "user   item rating\nann  7 \t 5\n  bob 7 3.5  \nbob\t8\t1\n",
    "quoted line break": 'user,item,rating,note\nann,7,5,"so\nso, or ""good"""\nbob,7,3.5,\nbob,8,1,"a\n\nb"\n',
    "JSON lines": '{"user": "ann", "item": 7, "rating": 5}\n{"item": 7, "user": "bob", "rating": 3.5, "x": [1]}\n'
    '{"user": "bob", "item": 8, "rating": "1"}\n',
    "separators at the end": "user,item,rating\nann,7,5,\nbob,7,3.5,\nbob,8,1,\n",
    "BOM": "\ufeffuser,item,rating\nann,7,5\nbob,7,3.5\nbob,8,1\n",
    "without header": "ann\t7\t5\t881250949\nbob\t7\t3.5\t891717742\nbob\t8\t1\t878887116\n",
}


@pytest.mark.parametrize("how", ["plain", "gzip", "unnamed gzip", "zstd"])
@pytest.mark.parametrize("kind", READ)
def test_what_is_read_right(tmp_path: Path, kind: str, how: str) -> None:
    content = READ[kind].encode()
    if how == "zstd":
        content = pytest.importorskip("pyarrow").compress(content, codec="zstd", asbytes=True)
        if kind in ("old Macs", "mixed line ends"):
            pytest.skip("read by DuckDB alone")
    elif how != "plain":
        content = gzip.compress(content)
    name = {"gzip": "r.csv.gz", "zstd": "r.csv.zst"}.get(how, "r.csv")
    assert table(Ratings.from_file(write(tmp_path, content, name))) == THREE


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(THREE, columns=["user", "item", "rating"])
    frame["when"] = pd.to_datetime(["2024-02-01", "2024-02-02", "2024-02-03"])
    frame["note"] = ["soon", "later", "never"]
    frame.to_parquet(tmp_path / "r.parquet")
    assert table(Ratings.from_file(tmp_path / "r.parquet")) == THREE
    named = Ratings.from_file(tmp_path / "r.parquet", columns=("user", "item", "rating"))
    assert table(named) == THREE
    timed = Ratings.from_file(tmp_path / "r.parquet", time="when")
    assert timed.times.tolist() == [int(day.timestamp()) for day in frame.when]
    marked = Ratings.from_file(tmp_path / "r.parquet", not_rated=[1])
    assert table(marked) == THREE[:2]
    with pytest.raises(ValueError, match=r"row 1: the time 'soon' is neither a whole number nor a date"):
        Ratings.from_file(tmp_path / "r.parquet", time="note")
    with pytest.raises(ValueError, match=r"no column 'stars' \(rating=\)"):
        Ratings.from_file(tmp_path / "r.parquet", columns=("user", "item", "stars"))
    frame.loc[1, "rating"] = np.nan
    frame.to_parquet(tmp_path / "r.parquet")
    with pytest.raises(ValueError, match="row 2: the rating"):
        Ratings.from_file(tmp_path / "r.parquet")
    damaged = (tmp_path / "r.parquet").read_bytes()[:-9]
    with pytest.raises(ValueError, match="damaged"):
        Ratings.from_file(write(tmp_path, damaged, "d.parquet"))


@pytest.mark.parametrize("level", [1, 19])
def test_a_zstd_file_that_is_cut_off_is_refused(tmp_path: Path, level: int) -> None:
    """DuckDB reads what is there of it."""
    pyarrow = pytest.importorskip("pyarrow")
    rows = "user,item,rating\n" + "".join(f"{k},{k % 97},{k % 5}\n" for k in range(50_000))
    whole = pyarrow.Codec("zstd", compression_level=level).compress(rows.encode(), asbytes=True)
    assert Ratings.from_file(write(tmp_path, whole)).nnz == 50_000
    assert Ratings.from_file(write(tmp_path, whole + b"\x50\x2a\x4d\x18\x02\0\0\0ab")).nnz == 50_000
    for cut in (*range(1, 12), len(whole) // 2, len(whole) - 20):
        with pytest.raises(ValueError, match="damaged or incomplete: fetch it again"):
            Ratings.from_file(write(tmp_path, whole[:-cut]))


def test_types_of_parquet_columns(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "r.parquet"

    def read(**columns: object) -> Ratings:
        parquet.write_table(pa.table(columns), path)
        return Ratings.from_file(path)

    floats = read(user=[1.0, 2.0], item=pa.array(["x", "y"]).dictionary_encode(), rating=[Decimal("4.5"), Decimal(3)])
    assert table(floats) == [(1, "x", 4.5), (2, "y", 3.0)]
    with pytest.raises(ValueError, match=r"the column 'user' holds .*\[\]; neither texts nor numbers"):
        read(user=[[1], [2]], item=[1, 2], rating=[1, 2])
    with pytest.raises(ValueError, match="row 2: the user id is missing, or no whole number"):
        read(user=[1.0, 2.5], item=[1, 2], rating=[1, 2])
    with pytest.raises(ValueError, match="nothing is rated in this file"):
        read(user=pa.array([], pa.int64()), item=pa.array([], pa.int64()), rating=pa.array([], pa.float64()))


def test_matrix_market(tmp_path: Path) -> None:
    X = scipy.sparse.random_array((20, 30), density=0.2, rng=np.random.default_rng(0)).tocoo()
    scipy.io.mmwrite(tmp_path / "r.mtx", X, comment="made by SciPy\nof numbers", precision=17)
    rows, columns = X.coords
    expected = Ratings.from_triplets(rows + 1, columns + 1, X.data)
    assert same(Ratings.from_file(tmp_path / "r.mtx"), expected)


def test_columns_by_number(tmp_path: Path) -> None:
    path = write(tmp_path, "9,ann,5,7\n9,bob,3.5,7\n8,bob,1,8\n")
    for columns in ((2, 4, 3), "2,4,3", ["2", "4", "3"]):
        assert table(Ratings.from_file(path, columns=columns)) == THREE
    named = write(tmp_path, "x,3,2,1\n0,ann,7,5\n0,bob,7,3.5\n0,bob,8,1\n", "named.csv")
    assert table(Ratings.from_file(named, columns="3,2,1")) == THREE  # a header of that name wins
    values = write(tmp_path, "2,1,5\n3,1,4\n", "values.csv")
    assert table(Ratings.from_file(values, columns="1,2,3")) == [(2, 1, 5.0), (3, 1, 4.0)]
    under = write(tmp_path, "a,b,c\nann,7,5\nbob,7,3.5\nbob,8,1\n", "under.csv")
    assert table(Ratings.from_file(under, columns=(1, 2, 3))) == THREE
    for columns, message in [
        ((1, 2, 9), r"there is no column 9 \(rating=\); there are 3"),
        (("a", "b", "z"), r"no column 'z' \(rating=\)"),
        ((1, 2), "give three names or numbers"),
        ("a,,c", "give three names or numbers"),
        ((1, 2, 3.0), "give three names or numbers"),
        (("a", "b", "a"), "one column cannot be two of user, item and rating"),
        ((1, 1, 2), "one column cannot be two of user, item and rating"),
    ]:
        with pytest.raises(ValueError, match=message):
            Ratings.from_file(under, columns=columns)
    with pytest.raises(ValueError, match="there is no header, so no column 'stars'"):
        Ratings.from_file(path, columns="1,2,stars")


def test_markers_of_not_rated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(user, item, int(rng.integers(1, 11))) for user in range(20) for item in range(10)]
    for marker in (0, 99):
        many = [(u, i, marker if rng.random() < 0.7 else r) for u, i, r in rows]
        path = write(tmp_path, "user,item,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in many))
        with pytest.warns(UserWarning, match=rf"If it stands for 'not rated', pass not_rated={marker}, on"):
            assert Ratings.from_file(path).nnz == 200
        ratings = Ratings.from_file(path, not_rated=marker)
        assert table(ratings) == sorted((u, i, float(r)) for u, i, r in many if r != marker)
        assert table(Ratings.from_file(path, not_rated=[-1, marker])) == table(ratings)
    path = write(tmp_path, "user,item,rating\n1,2,-1\n1,3,4\n7,9,-1\n")
    assert table(Ratings.from_file(path, not_rated=-1)) == [(1, 3, 4.0)]
    with pytest.raises(ValueError, match="no ratings in this file"):
        Ratings.from_file(path, not_rated=[-1, 4])
    for marker in ("x", float("nan"), [1, None]):
        with pytest.raises(ValueError, match="give a number or several that stand for 'not rated'"):
            Ratings.from_file(path, not_rated=marker)


def test_quotes_that_are_text(tmp_path: Path) -> None:
    """A line whose quotes are text was dropped, and an open one took the lines up to the next."""
    text = 'user\titem\trating\nann\t"Weird Al" Yankovic\t5\nbob\t"Heroes\t4\ncid\t12" mix\t3\n'
    text += 'dan\tHeroes"\t2\neve\t"Low"\t1\n'
    expected = ['"Heroes', '"Weird Al" Yankovic', '12" mix', 'Heroes"', "Low"]
    ratings = Ratings.from_file(write(tmp_path, text))
    assert ratings.items.tolist() == expected
    assert ratings.nnz == 5
    late = "user\titem\trating\n" + "".join(f"{k}\tx\t3\n" for k in range(5000)) + text.split("\n", 1)[1]
    assert Ratings.from_file(write(tmp_path, late)).nnz == 5005
    with_commas = 'user,item,rating\nann,"Weird Al" Yankovic,5\n'
    assert Ratings.from_file(write(tmp_path, with_commas)).items.tolist() == ['"Weird Al" Yankovic']


def test_quotes_with_a_backslash(tmp_path: Path) -> None:
    text = '"User-ID";"ISBN";"Book-Rating"\n"1";"03\\"4\\"X";"5"\n"2";"0155061224";"4"\n'
    assert table(Ratings.from_file(write(tmp_path, text))) == [(1, '03"4"X', 5.0), (2, "0155061224", 4.0)]


def test_one_line_in_another_encoding_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    content = "user,item,rating\nJosé,1,3\nZoë,1,4\n".encode() + "Anaïs,1,5\n".encode("latin-1")
    assert Ratings.from_file(write(tmp_path, content)).users.tolist() == ["Anaïs", "José", "Zoë"]


@pytest.mark.parametrize("name", ["r*.csv", "r[1].csv", "what?.csv", "it's.csv", "a=1", "ratings"])
def test_a_path_is_no_pattern(tmp_path: Path, name: str) -> None:
    write(tmp_path, "user,item,rating\n9,9,9\n", "r1.csv")
    assert table(Ratings.from_file(write(tmp_path, "user,item,rating\n1,2,3\n", name))) == [(1, 2, 3.0)]
    with pytest.raises(FileNotFoundError):
        Ratings.from_file(tmp_path / "other*.csv")
    with pytest.raises(IsADirectoryError):
        Ratings.from_file(tmp_path)


def test_a_pipe_is_read(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=("user,item,rating\n1,2,3\n",))
    writer.start()
    assert table(Ratings.from_file(fifo)) == [(1, 2, 3.0)]
    writer.join()


def test_leading_zeros_after_many_rows(tmp_path: Path) -> None:
    rows = [f"{k},1,3" for k in range(1, 60_001)] + ["007,1,4"]
    ratings = Ratings.from_file(write(tmp_path, "user,item,rating\n" + "\n".join(rows)))
    assert ratings.nnz == 60_001
    assert "007" in ratings.users.tolist()


@pytest.mark.parametrize("by_lines", [False, True])
def test_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_lines: bool) -> None:
    if by_lines:
        line_by_line(monkeypatch)
    path = write(tmp_path, "user,item,rating,timestamp\nb,1,3,30\na,2,4,20\na,1,5,10\n")
    assert Ratings.from_file(path).times is None
    ratings = Ratings.from_file(path, time="timestamp")
    assert ratings.times is not None
    assert ratings.times.tolist() == [10, 20, 30]
    assert Ratings.from_file(path, time=4).times.tolist() == [10, 20, 30]
    train, test = ratings.split(0.34, by="time")
    assert (train.times.tolist(), test.times.tolist(), test.data.tolist()) == ([10, 20], [30], [3.0])
    merged = train.merge(test)
    assert merged.times.tolist() == [10, 20, 30]
    frame = pd.read_csv(path)
    assert Ratings.from_frame(frame, time="timestamp").times.tolist() == [10, 20, 30]
    dates = pd.to_datetime(frame.timestamp, unit="s")
    assert Ratings.from_triplets(frame.user, frame.item, frame.rating, time=dates).times.tolist() == [10, 20, 30]
    days = write(tmp_path, "user,item,rating,day\nb,1,3,2024-02-01\na,2,4,2024-02-02 12:00:00\n", "days.csv")
    stamps = [pd.Timestamp(day).timestamp() for day in ("2024-02-02 12:00:00", "2024-02-01")]
    assert Ratings.from_file(days, time="day").times.tolist() == stamps
    with pytest.raises(ValueError, match="no times; read them with time="):
        Ratings.from_file(path).split(by="time")
    with pytest.raises(ValueError, match=r"no column 'when' \(time=\)"):
        Ratings.from_file(path, time="when")
    with pytest.raises(ValueError, match="the time 'soon' is neither a whole number nor a date"):
        Ratings.from_file(write(tmp_path, "user,item,rating,t\n1,2,3,soon\n"), time="t")


def test_duplicates_keep_the_order_and_the_time_of_the_file(tmp_path: Path) -> None:
    frame = pd.DataFrame({"user": np.tile(["a", "b"], 3000), "item": np.repeat([1, 2, 3], 2000)})
    frame["rating"] = np.arange(6000) % 7
    frame["time"] = np.arange(6000)
    frame.to_csv(tmp_path / "r.csv", index=False)
    ratings = Ratings.from_file(tmp_path / "r.csv", duplicates="last", time="time")
    expected = frame.groupby(["user", "item"]).last().reset_index()
    assert table(ratings) == list(zip(expected.user, expected.item, expected.rating.astype(float), strict=True))
    assert ratings.times.tolist() == expected.time.tolist()


def test_duckdb_prints_nothing_and_loads_nothing(tmp_path: Path) -> None:
    with duck.connection(str(tmp_path)) as database:
        names = ("enable_progress_bar", "autoinstall_known_extensions", "autoload_known_extensions")
        assert [database.execute(f"SELECT current_setting('{name}')").fetchone()[0] for name in names] == [False] * 3


def test_without_duckdb_the_remedy_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "user,item,rating\n1,2,3\n")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match=r'needs duckdb: pip install "nmfcore\[files\]"$'):
        Ratings.from_file(path)


def test_one_long_id_costs_what_it_holds(tmp_path: Path) -> None:
    """All ids took the room of the longest: 7.5 GB for a file of 2.7 MB."""
    long = "x" * 2_700_000
    rows = [f"u{k},i{k % 40},{k % 5}\n" for k in range(3000)] + [f"{long},i0,3\n"]
    path = write(tmp_path, "user,item,rating\n" + "".join(rows))
    ratings = Ratings.from_file(path)
    assert ratings.users.dtype == object
    assert ratings.shape == (3001, 40)
    assert ratings.users.tolist() == sorted([long, *(f"u{k}" for k in range(3000))])
    assert ratings.user_index(long) == 3000
    assert ratings.user_index(["u0", long]).tolist() == [0, 3000]
    with pytest.raises(KeyError, match="unknown user 'v'"):
        ratings.user_index("v")
    train, test = ratings.split(0.2, random_state=0)
    assert same(train.merge(test), ratings)
    model = Recommender(rank=2, random_state=0).fit(ratings)
    model.save(tmp_path / "model.npz")
    assert (tmp_path / "model.npz").stat().st_size < 4e6
    loaded = Recommender.load(tmp_path / "model.npz")
    assert same(loaded.ratings_, ratings)
    assert loaded.recommend(long, 3).items.tolist() == model.recommend(long, 3).items.tolist()


def test_times_are_saved(tmp_path: Path) -> None:
    ratings = Ratings.from_triplets(["b", "a", "é"], [1, 1, 2], [3, 4, 5], time=[7, 8, 9])
    Recommender(rank=1, random_state=0).fit(ratings).save(tmp_path / "model.npz")
    loaded = Recommender.load(tmp_path / "model.npz").ratings_
    assert loaded.times.tolist() == [8, 7, 9]
    assert loaded.users.tolist() == ["a", "b", "é"]


ODD_IDS = [
    *[
        "007",
        "+5",
        "-3",
        "1e2",
        "1.0",
        "0x1A",
        "1_0",
        "9223372036854775807",
        "-0",
        "nan",
        "NULL",
        "null",
        "inf",
        "é",
        "#a",
        "%b",
        "\\N",
        "\\",
        "a\\",
        "ann",
    ],
    *('"x"', '"a""b"', '"Weird" Al', 'x"y', '"open', " lead", "trail ", "", '"a\nb"', '""'),
    *("a b", "a\u00a0b", "\u2028x", "\u00a0y", "x\x0by", "a\x1fb", "\tt"),
]
ODD_RATINGS = ["x", "-1", "", "1_0", "nan", "inf", "0x1", "1,5", "1e400", "5 5", " 2 ", '"4"', "+3", "1e0", "3."]


@pytest.mark.parametrize("seed", range(60))
def test_duckdb_and_the_csv_module_read_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """What DuckDB accepts has the same triplets line by line; what it refuses is named there, or read."""
    rng = np.random.default_rng(seed)
    separator, end = rng.choice([",", ";", "\t", "|", "::", " "]), rng.choice(["\n", "\r\n"])
    rows = ["user item rating".replace(" ", separator)] * int(rng.random() < 0.8)
    for _ in range(int(rng.integers(1, 12))):
        ids = [rng.choice(ODD_IDS) if rng.random() < 0.15 else str(rng.integers(0, 40)) for _ in "ui"]
        rows.append(separator.join([*ids, rng.choice(ODD_RATINGS) if rng.random() < 0.1 else str(rng.integers(1, 6))]))
        rows += [str(rng.choice(["", " ", "\t"]))] * int(rng.random() < 0.03)
    text = end.join(rows) + end * int(rng.random() < 0.8)
    path = write(tmp_path, text.encode() if rng.random() < 0.9 else text.encode("latin-1", "replace"))

    def outcome() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ratings = Ratings.from_file(path, duplicates="last")
            except ValueError as error:
                return str(error)
        return table(ratings), ratings.users.dtype.kind, ratings.items.dtype.kind

    by_duckdb = outcome()
    line_by_line(monkeypatch)
    assert outcome() == by_duckdb
