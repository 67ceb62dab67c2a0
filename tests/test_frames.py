"""Tables of any make become the ratings that the same three columns become; what is wrong is named by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nmfcore.ratings import Ratings

USERS, ITEMS, STARS = ["b", "a", "b", "c"], [7, 7, 9, 1], [1.0, 0.0, 2.5, 4.0]
EXPECTED = [("a", 7, 0.0), ("b", 7, 1.0), ("b", 9, 2.5), ("c", 1, 4.0)]


def table(ratings: Ratings) -> list[tuple[object, object, float]]:
    users, items, values = ratings.triplets()
    return list(zip(ratings.users[users].tolist(), ratings.items[items].tolist(), values.tolist(), strict=True))


class PolarsSeries:
    """What of a polars Series is used: null mask, conversion with None or NaN for null; every one has a `cat`."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values
        self.dtype = "polars dtype"
        self.cat = object()

    def __len__(self) -> int:
        return len(self.values)

    def is_null(self) -> PolarsSeries:
        return PolarsSeries([value is None for value in self.values])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        text = any(isinstance(value, str) for value in self.values)
        return np.array(self.values, dtype=dtype or (object if text else None))


class PolarsFrame:
    """Names in `columns`, columns by name."""

    def __init__(self, data: dict[str, list[Any]]) -> None:
        self.data = data

    @property
    def columns(self) -> list[str]:
        return list(self.data)

    def __getitem__(self, name: str) -> PolarsSeries:
        return PolarsSeries(self.data[name])


class ArrowArray:
    """An Arrow array, plain: no dtype, no length beyond `__len__`, nulls by `is_null`."""

    def __init__(self, values: list[Any]) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("a column is converted at once, not value by value")

    def is_null(self) -> ArrowArray:
        return ArrowArray([value is None for value in self.values])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        text = any(isinstance(value, str) for value in self.values)
        return np.array(self.values, dtype=dtype or (object if text else None))


class ArrowDictionary:
    """A dictionary-encoded Arrow array."""

    def __init__(self, dictionary: list[Any], indices: list[int]) -> None:
        self.dictionary, self.indices = ArrowArray(dictionary), ArrowArray(indices)


class ArrowChunks(ArrowArray):
    """A column of a table: chunks, each with a dictionary of its own if it is encoded."""

    def __init__(self, chunks: list[Any]) -> None:
        self.chunks = chunks
        values: list[Any] = []
        for chunk in chunks:
            coded = isinstance(chunk, ArrowDictionary)
            values += [chunk.dictionary.values[k] for k in chunk.indices.values] if coded else chunk.values
        super().__init__(values)


class ArrowTable:
    """`columns` are the columns; the names are `column_names`."""

    def __init__(self, data: dict[str, ArrowChunks]) -> None:
        self.column_names, self.columns = list(data), list(data.values())

    def __getitem__(self, name: str) -> ArrowChunks:
        return self.columns[self.column_names.index(name)]


def arrow(data: dict[str, list[Any]]) -> ArrowTable:
    return ArrowTable({name: ArrowChunks([ArrowArray(c[:2]), ArrowArray(c[2:])]) for name, c in data.items()})


def real(library: str, data: dict[str, list[Any]]) -> Any:
    module = pytest.importorskip(library)
    return module.table(data) if library == "pyarrow" else module.DataFrame(data)


MAKERS = {
    "dict of lists": dict,
    "dict of arrays": lambda data: {name: np.array(column) for name, column in data.items()},
    "pandas": pd.DataFrame,
    "pandas by another index": lambda data: pd.DataFrame(data, index=[9, 2, 2, 5]),
    "pandas nullable": lambda data: pd.DataFrame(data).convert_dtypes(),
    "pandas categories": lambda data: pd.DataFrame(data).astype({"user_id": "category", "Item": "category"}),
    "pandas objects": lambda data: pd.DataFrame(data).astype(object),
    "structured array": lambda data: np.array(
        list(zip(*data.values(), strict=True)),
        dtype=[("user_id", "U3"), ("Item", "i4"), ("note", "i8"), ("stars", "f4")],
    ),
    "polars stand-in": PolarsFrame,
    "Arrow stand-in": arrow,
    "polars": lambda data: real("polars", data),
    "pyarrow": lambda data: real("pyarrow", data),
}


@pytest.mark.parametrize("make", MAKERS)
def test_a_table_becomes_what_its_columns_become(make: str) -> None:
    frame = MAKERS[make]({"user_id": USERS, "Item": ITEMS, "note": [5, 6, 7, 8], "stars": STARS})
    ratings = Ratings.from_frame(frame)
    assert table(ratings) == EXPECTED
    assert ratings.items.dtype == np.int64
    assert table(Ratings.from_frame(frame, user="note", item="user_id", rating="Item"))[0] == (5, "b", 7.0)


@pytest.mark.parametrize("make", [name for name in MAKERS if name != "structured array"])
def test_a_missing_id_or_rating_is_named_by_its_row(make: str) -> None:
    missing = "missing|nan|None"
    for column, noun in (("user_id", "user id"), ("stars", "rating")):
        data = {"user_id": [*USERS], "Item": ITEMS, "stars": [*STARS]}
        data[column][2] = None
        with pytest.raises((ValueError, TypeError), match=f"{noun} in row 2 is ({missing})"):
            Ratings.from_frame(MAKERS[make](data))
    data = {"user_id": USERS, "Item": ITEMS, "stars": [1.0, 2.0, float("nan"), 4.0]}
    with pytest.raises(ValueError, match=f"rating in row 2 is ({missing})"):
        Ratings.from_frame(MAKERS[make](data))


@pytest.mark.parametrize(("bad", "value"), [("inf", np.inf), (r"-1\.0", -1.0)])
@pytest.mark.parametrize("make", ["dict of lists", "pandas", "pandas nullable", "polars stand-in", "Arrow stand-in"])
def test_a_rating_out_of_range_is_named_by_its_row(make: str, bad: str, value: float) -> None:
    frame = MAKERS[make]({"user_id": USERS, "Item": ITEMS, "stars": [*STARS[:3], value]})
    with pytest.raises(ValueError, match=f"rating in row 3 is {bad}"):
        Ratings.from_frame(frame)


@pytest.mark.parametrize("make", ["dict of lists", "pandas", "polars stand-in", "Arrow stand-in"])
def test_mixed_ids_are_named_by_their_row(make: str) -> None:
    frame = MAKERS[make]({"user_id": ["b", "a", 3, "c"], "Item": ITEMS, "stars": STARS})
    with pytest.raises(TypeError, match="user id 3 in row 2 is a int, row 0 is 'b'"):
        Ratings.from_frame(frame)


def test_categories_are_found_in_every_chunk_and_unused_ones_are_no_ids() -> None:
    chunks = [ArrowDictionary(["b", "a", "unused"], [0, 1]), ArrowDictionary(["c", None, "b"], [2, 0])]
    frame = {"user": ArrowChunks(chunks), "item": ITEMS, "rating": STARS}
    assert table(Ratings.from_frame(frame)) == EXPECTED
    assert Ratings.from_frame(frame).users.tolist() == ["a", "b", "c"]
    pandas = pd.DataFrame({"user": pd.Categorical(USERS, categories=["", *"xcab"]), "item": ITEMS, "rating": STARS})
    assert table(Ratings.from_frame(pandas)) == EXPECTED


@pytest.mark.parametrize(
    ("values", "message"),
    [(["b", "", "b", "c"], "user id in row 1 is empty"), (["b", "a", None, "c"], "user id in row 2 is missing")],
)
def test_a_bad_category_is_named_by_its_row(values: list[Any], message: str) -> None:
    frame = pd.DataFrame({"user": pd.Categorical(values), "item": ITEMS, "rating": STARS})
    with pytest.raises(ValueError, match=message):
        Ratings.from_frame(frame)


def test_arrow_dictionaries() -> None:
    pa = pytest.importorskip("pyarrow")
    users = pa.chunked_array([pa.array(["b", "a"]).dictionary_encode(), pa.array(["b", "c"]).dictionary_encode()])
    assert table(Ratings.from_frame(pa.table({"user": users, "item": ITEMS, "rating": STARS}))) == EXPECTED
    users = pa.array(["b", "a", None, "c"]).dictionary_encode()
    with pytest.raises(ValueError, match="user id in row 2 is missing"):
        Ratings.from_frame(pa.table({"user": users, "item": ITEMS, "rating": STARS}))


def test_polars_categories() -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"user": USERS, "item": ITEMS, "rating": STARS}).with_columns(
        pl.col("user").cast(pl.Categorical)
    )
    assert table(Ratings.from_frame(frame)) == EXPECTED
    with pytest.raises(TypeError, match=r"collect\(\)"):
        Ratings.from_frame(frame.lazy())


def test_large_nullable_integers_stay_exact() -> None:
    ids = [2**62 + 1, 2**62 + 3]
    frame = pd.DataFrame({"user": pd.array(ids, dtype="Int64"), "item": [1, 1], "rating": [1, 2]})
    assert Ratings.from_frame(frame).users.tolist() == ids


def test_names_that_are_no_strings() -> None:
    frame = pd.DataFrame({0: USERS, 1: ITEMS, 2: STARS})
    assert table(Ratings.from_frame(frame, user=0, item=1, rating=2)) == EXPECTED
    with pytest.raises(ValueError, match="no column that is usually the user; columns found: 0, 1, 2; name them"):
        Ratings.from_frame(frame)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["user", "item", "rating"], {"item": "movie"}, r"no column 'movie' \(item=\); .*: 'user', 'item', 'rating'; "),
        (["user", "thing", "rating"], {}, "usually the item; columns found: 'user', 'thing', 'rating'; name them"),
        (["user", "item", "what"], {}, "usually the rating"),
        (
            ["user", "Up", "Heat", "Alien"],
            {},
            r"the item \(a table of users by items is for from_dense\); columns found",
        ),
        (["user", "item", "item"], {"rating": "item"}, r"2 columns 'item' \(item=\)"),
        ([*map(str, range(30)), "user"], {}, "'19', ...; name them"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    names: list[str], options: dict[str, str], message: str
) -> None:
    frame = pd.DataFrame([[1] * len(names)], columns=names)
    with pytest.raises(ValueError, match=message):
        Ratings.from_frame(frame, **options)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([1, 2, 3], "list is not a table .* from_triplets for three columns"),
        ("ratings.csv", "str is not a table .* from_csv for a file"),
        (np.ones((3, 3)), "from_dense for a matrix"),
        (None, "NoneType is not a table"),
    ],
)
def test_what_is_no_table_is_refused(data: object, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Ratings.from_frame(data)


def test_lazy_tables_are_refused() -> None:
    class Lazy(PolarsFrame):
        def collect(self) -> None: ...

    with pytest.raises(TypeError, match=r"Lazy does not hold its columns; call its collect\(\) first"):
        Ratings.from_frame(Lazy({"user": [1], "item": [1], "rating": [1]}))


def test_columns_of_unequal_length() -> None:
    with pytest.raises(ValueError, match="2 users, 1 items, 2 ratings"):
        Ratings.from_frame({"user": [1, 2], "item": [1], "rating": [1, 2]})
    with pytest.raises(ValueError, match="at least one"):
        Ratings.from_frame(pd.DataFrame({"user": [], "item": [], "rating": []}))


def test_duplicates_in_a_table() -> None:
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [5, 5, 5], "rating": [2, 3, 4]})
    with pytest.raises(ValueError, match="user 1 and item 5, 2 times"):
        Ratings.from_frame(frame)
    assert Ratings.from_frame(frame, duplicates="last").data.tolist() == [3, 4]
    assert Ratings.from_frame(frame, duplicates="mean").data.tolist() == [2.5, 4]
