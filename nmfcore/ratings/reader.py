"""Reading ratings from text, a chunk of lines at a time: memory is bounded by the result plus a chunk."""

from __future__ import annotations

import csv
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.fields import NUMBER, Column, Lines, read_integers, read_numbers, shrink, split_lines
from nmfcore.ratings.ids import BLOCK, Ids, Numbering, Positions, encode_integers, encode_texts
from nmfcore.ratings.layout import Layout, find_layout, quote, split_fields, unify

CHUNK = 4 << 20  # bytes; the arrays made of a chunk take some ten times as much
LONGEST_LINE = 1 << 20
LARGE = 9 << 20  # numbers: an array that the C library gives back to the system when it is freed (from 32 MiB on)
SAMPLE = 8  # lines that tell the separator


class Encoded(NamedTuple):
    """A file's ratings: sorted distinct ids, and for each rating two positions and a value."""

    users: Ids
    user_positions: Positions
    items: Ids
    item_positions: Positions
    ratings: NDArray[np.float64] | NDArray[np.float32]


class Chunk(NamedTuple):
    """Whole lines, the number of the first of them, and whether the last had its line end."""

    text: bytes
    first_line: int
    ended: bool


def read_ratings(
    path: str | os.PathLike[str],
    separator: str | None,
    names: tuple[str | None, str | None, str | None],
) -> Encoded:
    """Read user, item and rating from every line of a file; see `Ratings.from_csv`."""
    if separator is not None and (not separator or "\n" in separator or '"' in separator):
        raise ValueError(f"sep={separator!r}: give the text between two fields, such as ',' or '::'")
    users, items, ratings = IdColumn(), IdColumn(), Pieces()
    layout: Layout | None = None
    for chunk in read_chunks(path):
        if layout is None:
            layout, chunk = _begin(chunk, path, separator, names)
            if layout is None:  # nothing but blank lines so far
                continue
        lines, values = _parse(chunk, layout, path)
        if values.size:
            users.append(lines.columns[0])
            items.append(lines.columns[1])
            ratings.append(shrink(values))
    if not ratings.size:
        raise ValueError(f"{path}: no ratings in this file; each line holds user, item and rating")
    data = ratings.join()  # as narrow as the chunks: it is made float64 when it is in order
    return Encoded(*users.finish("user"), *items.finish("item"), data)


def read_chunks(path: str | os.PathLike[str], size: int | None = None) -> Iterator[Chunk]:
    """Yield the file in pieces of whole lines, each ending in a line end, without byte-order mark and CR."""
    size = CHUNK if size is None else size
    opener = gzip.open if os.fspath(path).endswith(".gz") else open
    with cast(BinaryIO, opener(path, "rb")) as stream:
        rest, line = b"", 1
        for block in _blocks(stream, path, size):
            if not rest and line == 1:
                block = _without_mark(block, path)
            head, newline, tail = block.rpartition(b"\n")
            if not newline:
                rest += block
                if len(rest) > size + LONGEST_LINE:
                    raise ValueError(f"{path}, line {line}: no line end in {len(rest)} bytes; is it a text file?")
                continue
            text = (rest + head + newline).replace(b"\r\n", b"\n")
            yield Chunk(text, line, ended=True)
            line += text.count(b"\n")
            rest = tail
        if rest:
            yield Chunk(rest.removesuffix(b"\r") + b"\n", line, ended=False)


def _blocks(stream: BinaryIO, path: str | os.PathLike[str], size: int) -> Iterator[bytes]:
    try:
        while block := stream.read(size):
            yield block
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: {error}; the compressed file is damaged or incomplete: fetch it again") from error


def _without_mark(block: bytes, path: str | os.PathLike[str]) -> bytes:
    if block.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: this is UTF-16 text; save it as UTF-8")
    return block.removeprefix(b"\xef\xbb\xbf")


def _begin(
    chunk: Chunk,
    path: str | os.PathLike[str],
    separator: str | None,
    names: tuple[str | None, str | None, str | None],
) -> tuple[Layout | None, Chunk]:
    """Return the layout, None if all lines are blank, and the chunk without blank start and header."""
    body = chunk.text.lstrip(b" \n")
    if not body:
        return None, chunk
    # The first line is cut off at its beginning only by blanks, which are no field.
    line = chunk.first_line + chunk.text[: len(chunk.text) - len(body)].count(b"\n")
    sample = [text for text in body[:LONGEST_LINE].split(b"\n", 4 * SAMPLE)[:-1] if text.strip()][:SAMPLE]
    layout = find_layout(sample or [body], f"{path}, line {line}", separator, names)
    if not layout.header:
        return layout, Chunk(body, line, chunk.ended)
    return layout, Chunk(body.partition(b"\n")[2], line + 1, chunk.ended)


def _parse(chunk: Chunk, layout: Layout, path: str | os.PathLike[str]) -> tuple[Lines, NDArray[np.float64]]:
    """Return the lines of a chunk and their ratings, or raise for the first bad line."""
    text, separator = unify(chunk.text, layout.separator)
    if not text:
        return Lines(np.zeros(0, np.int64), np.zeros(0, np.int64), ()), np.zeros(0)
    lines = split_lines(text, separator, layout.columns)
    if not lines.number.size:
        return lines, np.zeros(0)
    user, item, rating = lines.columns
    values = read_numbers(rating)
    short = lines.n_fields <= max(layout.columns)
    cut_off = lines.n_fields < layout.n_fields
    cut_off[: -1 if not chunk.ended else None] = False  # only a last line without line end can be cut off
    bad = short | cut_off | user.is_empty() | item.is_empty() | ~((values >= 0) & np.isfinite(values))
    if b"\0" in text:
        bad |= [b"\0" in user.text_at(row) + item.text_at(row) for row in range(bad.size)]
    if bad.any():
        _refuse_line(chunk, int(lines.number[np.argmax(bad)]), layout, path)
    return lines, values


def _refuse_line(chunk: Chunk, number: int, layout: Layout, path: str | os.PathLike[str]) -> NoReturn:
    rows = chunk.text.split(b"\n")
    at_end = not chunk.ended and not any(row.strip() for row in rows[number + 1 :])
    fault = _fault(rows[number], layout, at_end)
    hint = "; the file ends in mid-line and may be cut off: fetch it again" if at_end else ""
    raise ValueError(
        f"{path}, line {chunk.first_line + number}: {quote(rows[number])}: {fault}; "
        f"expected user, item and a rating of at least 0, separated by {layout.separator!r}{hint}"
    )


def _fault(line: bytes, layout: Layout, at_end: bool) -> str:
    try:
        fields = split_fields(line, layout.separator)
    except csv.Error as error:
        return f"wrong quotes ({error})"
    if len(fields) <= max(layout.columns) or (at_end and len(fields) < layout.n_fields):
        more = layout.n_fields > len(fields)
        wanted = f"the first line has {layout.n_fields}" if more else f"{max(layout.columns) + 1} or more are needed"
        return f"{len(fields)} field{'' if len(fields) == 1 else 's'} where {wanted}"
    user, item, rating = (fields[k] for k in layout.columns)
    for noun, field in (("user", user), ("item", item)):
        if not field or b"\0" in field:
            return f"the {noun} id is empty" if not field else f"the {noun} id holds a NUL character"
    remedy = " (write it with a decimal point)" if NUMBER.match(rating.replace(b",", b".")) and b"," in rating else ""
    return f"the rating {quote(rating)} is not a finite number of at least 0{remedy}"


class Pieces:
    """What is read of a column, chunk by chunk, kept in few large arrays.

    Small arrays would lie on the heap between others that come and go, where their memory is not given back to the
    system: after a hundred million lines, more than a gigabyte.
    """

    def __init__(self) -> None:
        self.size = 0
        self._large: list[NDArray[Any]] = []
        self._small: list[NDArray[Any]] = []
        self._waiting = 0

    def append(self, array: NDArray[Any]) -> None:
        """Add what was read of one chunk."""
        self._small.append(array)
        self.size += array.size
        self._waiting += array.size
        if self._waiting >= LARGE:
            self._large.append(np.concatenate(self._small))
            self._small.clear()
            self._waiting = 0

    def join(self) -> NDArray[Any]:
        """Return all of it in one array; the pieces are used up."""
        whole = np.concatenate([*self._large, *self._small])
        self._large.clear()
        self._small.clear()
        return whole


class IdColumn:
    """The ids of a column, chunk by chunk: integers as long as all are canonical ones, from then on strings.

    A canonical integer is one that Python writes the same way ("0114508" and "+5" are not): only those can be
    read as numbers and still be written back as they were, which is what makes it possible to change to
    strings in the middle of a file.
    """

    def __init__(self) -> None:
        self._numbers = Pieces()  # integers, or the numbers that the table has given to strings
        self._table: Numbering[bytes] | None = None

    def append(self, column: Column) -> None:
        """Add the ids of one chunk."""
        if self._table is None:
            integers = read_integers(column)
            if integers is not None:
                self._numbers.append(shrink(integers))
                return
            self._table = self._change_to_strings()
        self._numbers.append(self._table.encode(column.texts()))

    def _change_to_strings(self) -> Numbering[bytes]:
        table: Numbering[bytes] = Numbering()
        if self._numbers.size:
            integers = self._numbers.join()
            self._numbers = Pieces()
            for start in range(0, integers.size, BLOCK):
                self._numbers.append(
                    table.encode([b"%d" % value for value in integers[start : start + BLOCK].tolist()])
                )
        return table

    def finish(self, noun: str) -> tuple[Ids, Positions]:
        """Return the sorted distinct ids and the position of each; the column is used up."""
        codes = self._numbers.join()
        if self._table is None:
            return encode_integers(codes)
        ids, rank = encode_texts(decode(list(self._table)), noun)
        return ids, rank[codes]


def decode(texts: list[bytes]) -> list[str]:
    """Decode as UTF-8, or all as Latin-1 where one of them is not UTF-8 (MovieLens' older files)."""
    try:
        return [text.decode() for text in texts]
    except UnicodeDecodeError:
        return [text.decode("latin-1") for text in texts]
