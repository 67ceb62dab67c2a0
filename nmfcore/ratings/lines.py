"""Ratings read line by line: for files that need it, and to name the line that is wrong.

DuckDB reads what is regular (:mod:`nmfcore.ratings.tables`). A file that it refuses, or whose quotes span lines, is
read here by Python's csv module, slower: blank lines, runs of blanks, quotes that are text, bytes that are not UTF-8.
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Collection, Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.duck import FETCH_AGAIN, LONGEST_LINE, all_lines
from nmfcore.ratings.formats import opened
from nmfcore.ratings.ids import Ids, Numbering, Positions, encode_texts, parse_integer
from nmfcore.ratings.layout import BLANKS, MOMENT, NUMBER, Layout, fields_of, quote, split_fields

BLOCK = 1 << 22  # bytes read at a time
AT_ONCE = 1 << 18  # ratings held as Python objects
MOST_LINES = 1000  # that one quoted field may span
Line = tuple[int, str, bool]  # number in the file, text, whether it had its line end


class Encoded:
    """A file's ratings: sorted distinct ids, and for each rating two positions, a value and maybe a time."""

    def __init__(
        self,
        users: tuple[Ids, Positions],
        items: tuple[Ids, Positions],
        ratings: NDArray[Any],
        times: NDArray[np.int64] | None,
    ) -> None:
        (self.users, self.user_positions), (self.items, self.item_positions) = users, items
        self.ratings, self.times = ratings, times


def text_lines(path: str, name: str, compression: str) -> Iterator[Line]:
    """Yield the lines of a file: UTF-8, or Latin-1 where a line is not UTF-8."""
    for number, (raw, ended) in enumerate(_raw_lines(path, name, compression), 1):
        if len(raw) > LONGEST_LINE:
            raise ValueError(f"{name}, line {number}: no line end in {len(raw)} bytes; is it a text file?")
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
        yield number, text, ended


def _raw_lines(path: str, name: str, compression: str) -> Iterator[tuple[bytes, bool]]:
    if compression == "zstd":
        yield from all_lines(path, name)
        return
    rest, end = b"", b""
    try:
        with opened(path, compression) as stream:
            while block := stream.read(BLOCK):
                if not end:  # old Macs ended lines by CR alone
                    end = b"\r" if b"\r" in block and b"\n" not in block else b"\n"
                *lines, rest = (rest + block).split(end)
                for line in lines:
                    yield line.removesuffix(b"\r"), True
                if len(rest) > LONGEST_LINE:
                    yield rest, False
                    return
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: {error}; {FETCH_AGAIN}") from error
    if rest:
        yield rest.removesuffix(b"\r"), False


def read_lines(
    lines: Iterator[Line], name: str, layout: Layout, not_rated: Collection[float], one_based: bool = False
) -> Encoded:
    """Read the ratings of a file, from the first that its layout names on.

    Raises
    ------
    ValueError
        Names the first line that is wrong.
    """
    users, items = _Ids(), _Ids()
    values, times = list[NDArray[np.float64]](), list[NDArray[np.int64]]()
    waiting = list[tuple[str, str, float, int | None]]()
    timed = len(layout.columns) > 3

    def settle() -> None:
        if waiting:
            user, item, rating, moment = zip(*waiting, strict=True)
            users.append(list(user))
            items.append(list(item))
            values.append(np.array(rating))
            times.append(np.array(moment, np.int64))
            waiting.clear()

    for number, fields, text, at_end in _records(lines, name, layout):
        fault = _fault(fields, layout, at_end)
        if fault:
            _refuse(name, number, text, layout, fault, at_end)
        user, item, rating, *rest = (fields[k] for k in layout.columns)
        value = float(rating)
        if value in not_rated:
            continue
        if not 0.0 <= value < math.inf:
            _refuse(name, number, text, layout, _bad_rating(rating), at_end)
        waiting.append((user, item, value, moment_of(rest[0]) if timed else 0))
        if len(waiting) >= AT_ONCE:
            settle()
    settle()
    if not values:
        raise ValueError(f"{name}: no ratings in this file; each line holds user, item and rating")
    stamps = np.concatenate(times) if timed else None
    return Encoded(users.finish("user"), items.finish("item"), np.concatenate(values), stamps)


def _records(lines: Iterator[Line], name: str, layout: Layout) -> Iterator[tuple[int, list[str], str, bool]]:
    """Yield (line number, fields, text, whether the file ends there without a line end)."""
    separator, n = layout.separator, layout.n_fields
    for number, text, ended in lines:
        if number < layout.first or not text.strip():
            continue
        if '"' not in text:
            yield number, split_fields(text, separator), text, not ended
            continue
        try:
            fields = fields_of(text, separator, n)
        except csv.Error as error:
            text, ended, fields = _joined(text, lines, layout)
            if not fields:
                _refuse(name, number, text, layout, f"wrong quotes ({error})", not ended)
        yield number, fields, text, not ended


def _joined(text: str, lines: Iterator[Line], layout: Layout) -> tuple[str, bool, list[str]]:
    """The fields of a line with those that follow, where a quoted field has line ends; none if that is not it."""
    whole, ended = text, True
    for _ in range(MOST_LINES):
        following = next(lines, None)
        if following is None:
            break
        whole, ended = whole + "\n" + following[1], following[2]
        if '"' not in following[1]:
            continue
        try:
            row = next(csv.reader([whole], delimiter=layout.separator, skipinitialspace=True, strict=True), [])
        except csv.Error:
            continue
        if len(row) == layout.n_fields:
            return whole, ended, [field.strip(BLANKS) for field in row]
        break
    return text, ended, []


def _fault(fields: list[str], layout: Layout, at_end: bool) -> str:
    """What is wrong with a line, other than a rating below 0; nothing if nothing is."""
    if len(fields) != layout.n_fields:
        return f"{len(fields)} field{'' if len(fields) == 1 else 's'} where the first line has {layout.n_fields}"
    user, item, rating, *time = (fields[k] for k in layout.columns)
    for noun, field in (("user", user), ("item", item)):
        if not field or "\0" in field:
            return f"the {noun} id is empty" if not field else f"the {noun} id holds a NUL character"
    if not NUMBER.match(rating):
        return _bad_rating(rating)
    if time and moment_of(time[0]) is None:
        return f"the time {quote(time[0])} is neither a whole number nor a date"
    return ""


def _bad_rating(rating: str) -> str:
    remedy = ""
    if re.fullmatch(r"[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?", rating) and not re.fullmatch(r"[0-9],[0-9]{3}", rating):
        remedy = " (write it without thousands separators)"
    elif "," in rating and NUMBER.match(rating.replace(",", ".")):
        remedy = " (write it with a decimal point, and without thousands separators)"
    elif rating.startswith("-") and NUMBER.match(rating):
        options = f"not_rated={float(rating):g}, on the command line --not-rated {rating}"
        remedy = f" (if {rating} stands for 'not rated', pass {options})"
    return f"the rating {quote(rating)} is not a finite number of at least 0{remedy}"


def _refuse(name: str, number: int, text: str, layout: Layout, fault: str, at_end: bool) -> NoReturn:
    hint = "; the file ends in mid-line and may be cut off: fetch it again" if at_end else ""
    raise ValueError(
        f"{name}, line {number}: {quote(text)}: {fault}; "
        f"expected user, item and a rating of at least 0, separated by {layout.separator!r}{hint}"
    )


def moment_of(text: str) -> int | None:
    """Return a time stamp: a whole number as it is, a date or time in ISO 8601 in seconds since 1970."""
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if NUMBER.match(text) and abs(float(text)) < 2.0**53 and float(text).is_integer():
        return int(float(text))
    if not MOMENT.match(text):
        return None
    try:
        return int(np.datetime64(text.removesuffix("Z").removesuffix(" UTC"), "s").astype(np.int64))
    except ValueError:
        return None


class _Ids:
    """The ids of a column, in the order they come."""

    def __init__(self) -> None:
        self._table: Numbering[str] = Numbering()
        self._codes = list[Positions]()

    def append(self, texts: list[str]) -> None:
        self._codes.append(self._table.encode(texts))

    def finish(self, noun: str) -> tuple[Ids, Positions]:
        """Return the sorted distinct ids and the position of each."""
        ids, rank = ranked(list(self._table), noun)
        return ids, rank[np.concatenate(self._codes)]


def ranked(texts: list[str], noun: str) -> tuple[Ids, Positions]:
    """Return distinct ids sorted, and the rank of each: integers if all are written as Python writes them."""
    numbers = [parse_integer(text) for text in texts]
    if None in numbers:
        return encode_texts(texts, noun)
    ids = np.array(numbers, np.int64)
    order = np.argsort(ids)
    rank = np.empty(order.size, np.int32)
    rank[order] = np.arange(order.size, dtype=np.int32)
    return ids[order], rank
