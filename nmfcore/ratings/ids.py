"""Ids: what the caller calls a user or an item, and the position it has here.

Ids are 64-bit integers or strings, one kind in a column: 1 and "1" in the same column are two users to a
dictionary and one user to a human, so a mixture is refused. Positions are ranks in the sorted order of the
distinct ids.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ids: TypeAlias = NDArray[np.int64] | NDArray[np.str_]  # or objects, all str: see text_array
Positions: TypeAlias = NDArray[np.int32]  # half the memory while a file of ratings is put together
T = TypeVar("T")
T_scalar = TypeVar("T_scalar", bound=np.generic)

BLOCK = 1 << 20  # ratings worked on at a time, so that temporaries do not grow with their number

CANONICAL_INTEGER = re.compile(r"(?:0|-?[1-9][0-9]*)\Z")
INT64 = np.iinfo(np.int64)
MOST_FLOAT = 2.0**53  # beyond it not every integer is one


def parse_integer(text: str) -> int | None:
    """Return the 64-bit integer written `text`, or None where writing it back would give another text."""
    if not CANONICAL_INTEGER.match(text) or len(text) > 20:
        return None
    value = int(text)
    return value if INT64.min <= value <= INT64.max else None


def encode_ids(values: ArrayLike, noun: str) -> tuple[Ids, Positions]:
    """Return the sorted distinct ids and the position of each value among them; `noun` is for the errors."""
    if type(values) is np.ndarray and values.ndim == 1 and values.dtype.kind == "i" and values.size:
        return encode_integers(values)  # as narrow as they are
    column = _column(values, noun)
    if column.dtype.kind == "i":
        return encode_integers(column)
    return encode_texts(column.tolist(), noun)


def encode_integers(values: NDArray[Any]) -> tuple[NDArray[np.int64], Positions]:
    """Encode integers: by a table where the range is compact (ten times faster), by searching otherwise."""
    low, high = int(values.min()), int(values.max())
    span = high - low + 1
    starts = range(0, values.size, BLOCK)
    positions = np.empty(values.size, dtype=np.int32)
    if span > max(4 * values.size, 1 << 16):
        ids = distinct(values)
        for k in starts:
            positions[k : k + BLOCK] = np.searchsorted(ids, values[k : k + BLOCK])
        return ids.astype(np.int64), positions
    present = np.zeros(span, dtype=bool)
    for k in starts:
        present[np.subtract(values[k : k + BLOCK], low, dtype=np.int64)] = True
    rank = np.cumsum(present, dtype=np.int32) - np.int32(1)
    for k in starts:
        positions[k : k + BLOCK] = rank[np.subtract(values[k : k + BLOCK], low, dtype=np.int64)]
    return np.flatnonzero(present) + low, positions


def distinct(values: NDArray[T_scalar]) -> NDArray[T_scalar]:
    """Return the distinct values, ascending: as np.unique, which in NumPy 2.4 takes a hundred times as long."""
    ordered = np.sort(values)
    first = np.ones(ordered.size, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=first[1:])
    return ordered[first]


def encode_texts(texts: list[str], noun: str) -> tuple[NDArray[np.str_], Positions]:
    """Encode strings by a dictionary: np.unique on a million of them takes several times as long."""
    table: Numbering[str] = Numbering()
    codes = table.encode(texts)
    if "" in table:
        raise ValueError(f"{noun} id in row {texts.index('')} is empty; give every rating one")
    if "\0" in "".join(table):  # NumPy drops it at the end of a string, and two ids would become one
        text = next(text for text in table if "\0" in text)
        raise ValueError(f"{noun} id {text!r} holds a NUL character; remove it")
    ids = text_array(list(table))
    order = np.argsort(ids)
    rank = np.empty(order.size, dtype=np.int32)
    rank[order] = np.arange(order.size, dtype=np.int32)
    return ids[order], rank[codes]


def text_array(texts: list[str]) -> NDArray[np.str_]:
    """Return texts as an array: of fixed width, or of Python objects where one of them is far longer than the others.

    NumPy's strings all take the room of the longest: one id of a million characters would cost 4 MB for each.
    (``StringDType`` has no such limit, but NumPy 2.4 cannot search in it.)
    """
    room, length = 4 * max(map(len, texts)) * len(texts), sum(map(len, texts))
    if room > (1 << 20) + 64 * length:
        return np.array(texts, dtype=object)
    return np.array(texts, dtype=np.str_)


def plain_id(value: Any) -> Any:
    """Return an element of an array of ids as an int or a str."""
    return value.item() if isinstance(value, np.generic) else value


class Numbering(defaultdict[T, int]):
    """A dictionary that gives every new key the next number."""

    def __init__(self) -> None:
        super().__init__(self.__len__)

    def encode(self, keys: list[T]) -> Positions:
        """Return the number of each key."""
        return np.fromiter(map(self.__getitem__, keys), dtype=np.int32, count=len(keys))


def find_ids(wanted: ArrayLike, known: Ids, noun: str) -> Any:
    """Return positions of `wanted` in the sorted `known`: an int for one id, int64 for an array of them."""
    scalar = np.ndim(wanted) == 0
    values = [_single(wanted, known, noun)] if scalar else wanted
    if np.size(values) == 0:
        return np.empty(np.shape(values), dtype=np.int64)
    column = _column(values, noun)
    if (column.dtype.kind == "i") != (known.dtype.kind == "i"):
        raise KeyError(_unknown(column[0], known, 0, noun))
    column = column if column.dtype.kind == "i" else column.astype(known.dtype if known.dtype.kind == "O" else np.str_)
    place = np.minimum(np.searchsorted(known, column), known.size - 1)
    missing = np.flatnonzero(known[place] != column)
    if missing.size:
        first = int(missing[0])
        raise KeyError(_unknown(column[first], known, int(place[first]), noun))
    return int(place[0]) if scalar else place.astype(np.int64, copy=False)


def _single(wanted: Any, known: Ids, noun: str) -> int | str:
    """A single id as an int or a str, or raise: a whole float is an id too, as in a column."""
    value = np.asarray(wanted).item()
    kind = _kind(type(value))
    if kind == "float" and value.is_integer() and abs(value) <= MOST_FLOAT:
        return int(value)
    if kind == "int" and not INT64.min <= value <= INT64.max:
        raise KeyError(_unknown(value, known, 0, noun))
    if kind in ("int", "str"):
        return value  # type: ignore[no-any-return]
    ids = "integers" if known.dtype.kind == "i" else "strings"
    message = f"{noun} id {value!r} is a {type(value).__name__}: the {noun}s' ids are {ids}, for example"
    raise (ValueError if kind == "float" else TypeError)(f"{message} {plain_id(known[0])!r}")


def parse_id(text: str, ids: Ids, noun: str = "id") -> int | str:
    """Read an id typed by a person, as from a command line, in the kind that `ids` has.

    Parameters
    ----------
    text : str
        What was typed.
    ids : ndarray, shape (n,)
        The ids it is meant for, `Ratings.users` or `Ratings.items`.
    noun : str
        What it stands for, "user" or "item", for the error.

    Returns
    -------
    int or str
        The id; it need not be among `ids`.

    Raises
    ------
    KeyError
        `ids` are integers and `text` is not one.

    Examples
    --------
    >>> import numpy as np
    >>> parse_id("5", np.array([1, 5])), parse_id("5", np.array(["1", "5"]))
    (5, '5')
    """
    if ids.dtype.kind != "i":
        return text
    value = parse_integer(text.strip())
    if value is None:
        whose = "the ids here" if noun == "id" else f"the {noun}s' ids"
        raise KeyError(f"unknown {noun} {text!r}: {whose} are integers, such as {ids[0]}")
    return value


def _unknown(wanted: Any, known: Ids, near: int, noun: str) -> str:
    wanted, example = plain_id(wanted), plain_id(known[near])
    if example == known.size:  # "943 users are known, for example 943" would read like a misprint
        example = plain_id(known[0 if near else -1])
    known_ids = f"{known.size} {noun}s are known" if known.size != 1 else f"1 {noun} is known"
    message = f"unknown {noun} {wanted!r}: {known_ids}, for example {example!r} (an id)"
    if isinstance(wanted, str) and known.dtype.kind == "i":
        return message + "; their ids are integers (nmfcore.ratings.parse_id reads one from text)"
    if isinstance(wanted, int) and known.dtype.kind != "i":
        return message + "; their ids are strings"
    return message


def _column(values: ArrayLike, noun: str) -> NDArray[Any]:
    """Return int64, or objects that are all str; anything else is an error that names the first such row."""
    if isinstance(values, np.ma.MaskedArray) and np.ma.getmaskarray(values).any():
        row = int(np.argmax(np.ma.getmaskarray(values).reshape(-1)))
        raise ValueError(f"{noun} id in row {row} is masked; drop that rating or give it one")
    # A list is looked at as it is: NumPy would turn [1, "1"] into two equal strings.
    array = np.asarray(values, dtype=object) if isinstance(values, (list, tuple)) else np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{noun} ids have {array.ndim} dimensions; give a 1-D sequence, one id for each rating")
    if array.dtype.kind in "iu":
        return _int64(array, noun)
    if array.dtype.kind == "f":
        return _from_floats(array, noun)
    if array.dtype.kind == "S":
        return np.array([text.decode() for text in array.tolist()], dtype=object)
    if array.dtype.kind in "UT":
        return array.astype(object)
    if array.dtype.kind == "O":
        return _from_objects(array, noun)
    raise TypeError(f"{noun} ids have dtype {array.dtype}; ids are integers or strings")


def _int64(array: NDArray[Any], noun: str) -> NDArray[np.int64]:
    too_large = array > INT64.max if array.dtype == np.uint64 else np.zeros(0, dtype=bool)
    if too_large.any():
        row = int(np.argmax(too_large))
        raise ValueError(f"{noun} id {array[row]} in row {row} is beyond 64-bit integers; pass the ids as strings")
    return array.astype(np.int64, copy=False)


def _from_floats(array: NDArray[Any], noun: str) -> NDArray[np.int64]:
    """Whole floats are ids too: it is what integers become in a table that had a gap somewhere."""
    bad = ~(np.abs(array) <= MOST_FLOAT)
    if not bad.any():
        bad = array != np.floor(array)
    if bad.any():
        row = int(np.argmax(bad))
        remedy = "ids are integers or strings: convert the column with int or str"
        remedy = "drop that rating or give it one" if np.isnan(array[row]) else remedy
        raise ValueError(f"{noun} id in row {row} is {array[row]}; {remedy}")
    return array.astype(np.int64)


def _from_objects(array: NDArray[Any], noun: str) -> NDArray[Any]:
    values = array.tolist()
    kinds = {kind: _kind(kind) for kind in set(map(type, values))}
    if set(kinds.values()) == {"str"}:
        return array
    if set(kinds.values()) == {"float"}:
        return _from_floats(array.astype(np.float64), noun)
    first = kinds[type(values[0])] if values else "int"
    for row, value in enumerate(values):
        kind = kinds[type(value)]
        if kind == "missing" or value is None or value != value:
            raise ValueError(f"{noun} id in row {row} is {value!r}; drop that rating or give it one")
        if kind == "other":
            raise TypeError(
                f"{noun} id {value!r} in row {row} is a {type(value).__name__}; ids are integers or strings: convert "
                "the column with int or str"
            )
        if kind != first:
            raise TypeError(
                f"{noun} id {value!r} in row {row} is a {type(value).__name__}, row 0 is {values[0]!r}; "
                "ids are all integers or all strings: convert the column with one of int or str"
            )
        if kind == "int" and not INT64.min <= value <= INT64.max:
            raise ValueError(f"{noun} id {value} in row {row} is beyond 64-bit integers; pass the ids as strings")
    return np.array(values, dtype=np.int64)


def _kind(kind: type) -> str:
    if issubclass(kind, str):
        return "str"
    if issubclass(kind, (int, np.integer)) and not issubclass(kind, bool):
        return "int"
    if issubclass(kind, (float, np.floating)):
        return "float"
    return "missing" if kind.__name__ in ("NoneType", "NAType", "NaTType") else "other"
