"""Fields of delimited text, found and read for all lines of a chunk at once.

One pass over the bytes marks separators and line ends; everything after works on arrays of positions. Numbers
are read digit by digit for all lines together. What is irregular (an exponent, a sign, a blank) is read one
by one, by Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.ids import parse_integer

Bytes: TypeAlias = NDArray[np.uint8]
Offsets: TypeAlias = NDArray[np.int64]

NEWLINE, BLANK, POINT, ZERO = 10, 32, 46, 48
UNIT = b"\x1f"  # ASCII's own "unit separator": what other separators are rewritten to
NUMBER = re.compile(rb"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")


@dataclass(frozen=True)
class Column:
    """One field of every line: where it begins and where it ends in the text."""

    text: bytes
    raw: Bytes
    start: Offsets
    stop: Offsets

    def texts(self) -> list[bytes]:
        """Return the fields."""
        text = self.text
        return [text[a:b] for a, b in zip(self.start.tolist(), self.stop.tolist(), strict=True)]

    def text_at(self, row: int) -> bytes:
        """Return the field of one line."""
        return self.text[int(self.start[row]) : int(self.stop[row])]

    def is_empty(self) -> NDArray[np.bool_]:
        """Return where there is nothing."""
        empty: NDArray[np.bool_] = self.start == self.stop
        return empty

    def bytes_at(self, place: int) -> Bytes:
        """Return byte number `place` of every field; beyond its end, anything."""
        return self.raw[np.minimum(self.start + place, self.raw.size - 1)]


@dataclass(frozen=True)
class Lines:
    """Lines of a chunk that are not blank: number in the chunk, number of fields, the columns asked for."""

    number: Offsets
    n_fields: Offsets
    columns: tuple[Column, ...]


def split_lines(text: bytes, separator: bytes, columns: tuple[int, ...]) -> Lines:
    """Find the given columns in every line of `text`, which ends in a line end; `separator` is one byte."""
    raw: Bytes = np.frombuffer(text, dtype=np.uint8)
    marks = np.flatnonzero((raw == separator[0]) | (raw == NEWLINE))
    last = np.flatnonzero(raw[marks] == NEWLINE)  # the mark that ends each line
    first = np.concatenate(([0], last[:-1] + 1))
    begin = np.concatenate(([0], marks + 1))  # field k runs from begin[k] to marks[k]
    start, stop = _trim(raw, begin[first], marks[last])
    empty = (last == first) & (start == stop)
    kept = np.flatnonzero(~empty)
    first, last = first[kept], last[kept]
    found = []
    for column in columns:
        field = np.minimum(first + column, last)
        found.append(Column(text, raw, *_trim(raw, begin[field], marks[field])))
    return Lines(kept, last - first + 1, tuple(found))


def _trim(raw: Bytes, start: Offsets, stop: Offsets) -> tuple[Offsets, Offsets]:
    """Leave out blanks at both ends of each field."""
    while (lead := (raw[start] == BLANK) & (start < stop)).any():
        start = start + lead
    while (trail := (raw[stop - 1] == BLANK) & (start < stop)).any():
        stop = stop - trail
    return start, stop


def read_integers(column: Column) -> NDArray[np.int64] | None:
    """Return the integers of a column, or None if any field is not written as Python writes that integer."""
    width = column.stop - column.start
    regular = (width > 0) & (width <= 18)
    value = np.zeros(width.size, dtype=np.int64)
    for place in range(min(int(width.max()), 18)):
        inside = place < width
        digit = column.bytes_at(place) - np.uint8(ZERO)  # other characters wrap to more than 9
        regular &= (digit <= 9) | ~inside
        value = np.where(inside, value * 10 + digit, value)
    regular &= (column.bytes_at(0) != ZERO) | (width == 1)
    for row in np.flatnonzero(~regular).tolist():
        number = parse_integer(column.text_at(row).decode("latin-1"))
        if number is None:
            return None
        value[row] = number
    return value


def read_numbers(column: Column) -> NDArray[np.float64]:
    """Return the numbers of a column, correctly rounded; NaN where a field is no decimal number."""
    width = column.stop - column.start
    regular = (width > 0) & (width <= 15)
    digits = np.zeros(width.size, dtype=np.int64)
    decimals = np.zeros(width.size, dtype=np.int64)
    point = np.zeros(width.size, dtype=bool)
    for place in range(min(int(width.max()), 15)):
        inside = place < width
        byte = column.bytes_at(place)
        digit = byte - np.uint8(ZERO)
        is_digit, is_point = inside & (digit <= 9), inside & (byte == POINT)
        regular &= is_digit | (is_point & ~point) | ~inside
        digits = np.where(is_digit, digits * 10 + digit, digits)
        decimals += is_digit & point
        point |= is_point
    regular &= width > point
    # Both are exact below 2^53 and 10^22, so that one division rounds as the text would.
    value: NDArray[np.float64] = digits / 10.0**decimals
    for row in np.flatnonzero(~regular).tolist():
        value[row] = _number(column.text_at(row))
    return value


def _number(text: bytes) -> float:
    return float(text) if NUMBER.match(text) else float("nan")


def shrink(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values in 32 bits if nothing is lost: a file's columns wait in memory until all are read."""
    small = np.dtype(np.int32 if values.dtype.kind == "i" else np.float32)
    with np.errstate(over="ignore"):
        narrow = values.astype(small)
    return narrow if np.array_equal(narrow, values) else values
