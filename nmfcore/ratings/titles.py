"""Titles of items, from the files that come with the ratings."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from nmfcore.machine.files import check_regular
from nmfcore.ratings.ids import parse_integer
from nmfcore.ratings.layout import NAMES, NUMBER, plain_name, quote

Row: TypeAlias = tuple[int, list[str]]

SEPARATORS = ("::", "|", "\t", ";", ",")
ID_NAMES = NAMES["item"] | {"id"}
TITLE_NAMES = {"title", "titles", "name", "itemname", "movietitle", "itemtitle"}


def read_titles(path: str | os.PathLike[str]) -> dict[int, str] | dict[str, str]:
    r"""Read item ids and titles: MovieLens' movies.csv, u.item and movies.dat, and others like them.

    The first separator in the first line (``::``, ``|``, tab, ``;`` or ``,``) is the file's. With a header
    the columns are found by name, else they are the first two. Ids follow the same rule as in
    `Ratings.from_csv`: integers if all of them are written as integers are, else strings.

    Parameters
    ----------
    path : path-like
        UTF-8, or Latin-1 where it is not UTF-8.

    Returns
    -------
    dict
        Title by item id.

    Raises
    ------
    ValueError
        A line without id or title, or an id with two titles; the message names the line (from 1). An empty
        file.
    OSError
        The file cannot be opened, or is a device. (A pipe is read.)

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "movies.csv")
    ...     _ = path.write_text('movieId,title,genres\n11,"American President, The (1995)",Comedy\n')
    ...     read_titles(path)
    {11: 'American President, The (1995)'}
    """
    text = _text(path)
    first = next((line for line in text.split("\n") if line.strip()), None)
    if first is None:
        raise ValueError(f"{path}: no titles in this file; each line holds an item id and a title")
    found = [(first.index(sep), rank) for rank, sep in enumerate(SEPARATORS) if sep in first]
    if not found:
        raise ValueError(f"{path}: {quote(first)}: no separator out of '::', '|', tab, ';' and ','")
    rows = _rows(path, text, SEPARATORS[min(found)[1]])
    line, fields = next(rows)
    columns = _header(path, line, fields)
    return _collect(path, rows if columns else chain([(line, fields)], rows), columns or (0, 1))


def _text(path: str | os.PathLike[str]) -> str:
    check_regular(path, os.stat(path).st_mode, ("a device", "a socket"), "give the name of a file or a pipe")
    content = Path(path).read_bytes().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _rows(path: str | os.PathLike[str], text: str, separator: str) -> Iterator[Row]:
    """Yield (line number, fields) of the lines that are not blank; quotes count in CSV files only."""
    if separator not in ",;":
        yield from ((n, line.split(separator)) for n, line in enumerate(text.split("\n"), 1) if line.strip())
        return
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    begin = 1
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield begin, fields
            begin = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"{path}, line {begin}: wrong quotes ({error}); expected item id and title") from None


def _header(path: str | os.PathLike[str], line: int, fields: list[str]) -> tuple[int, int] | None:
    """Return the columns of id and title where the first line names them; None if it is no header."""
    plain = [plain_name(field) for field in fields]
    ids = [k for k, name in enumerate(plain) if name in ID_NAMES]
    titles = [k for k, name in enumerate(plain) if name in TITLE_NAMES]
    if ids and titles:
        return ids[0], titles[0]
    named = ids or titles or (len(plain) > 2 and any(name.endswith("id") for name in plain))
    if named and not any(NUMBER.match(field.strip()) for field in fields):
        missing = "title" if ids else "item id"
        raise ValueError(
            f"{path}, line {line}: the header has no column that is usually the {missing}; columns found: "
            f"{', '.join(map(repr, fields[:20]))}; name them itemId and title"
        )
    return None


def _collect(
    path: str | os.PathLike[str], rows: Iterator[Row], columns: tuple[int, int]
) -> dict[int, str] | dict[str, str]:
    titles: dict[str, str] = {}
    for line, fields in rows:
        text = [fields[k].strip() if k < len(fields) else "" for k in columns]
        fault = "no item id" if not text[0] else "no title" if not text[1] else ""
        if titles.setdefault(text[0], text[1]) != text[1]:
            fault = f"item {text[0]!r} already has the title {titles[text[0]]!r}"
        if fault:
            raise ValueError(f"{path}, line {line}: {fault} in {fields[:4]}; expected item id and title")
    numbers = {key: parse_integer(key) for key in titles}
    if None in numbers.values():
        return titles
    return {number: titles[key] for key, number in numbers.items() if number is not None}
