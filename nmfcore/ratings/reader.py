"""Reading files of ratings: what the file is, how it is laid out, and then by DuckDB or line by line."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nmfcore.machine.escapes import escaped
from nmfcore.machine.files import check_regular
from nmfcore.machine.streams import warn
from nmfcore.ratings import tables
from nmfcore.ratings.duck import literal
from nmfcore.ratings.formats import Format, find_format
from nmfcore.ratings.layout import WHITESPACE, Layout, Line, find_layout, quote
from nmfcore.ratings.lines import Encoded, read_lines, text_lines

Column = str | int | None
SAMPLE = 1000  # lines by which the layout is found
# Hints that a value stands for "not rated": from so many ratings on, such a share of zeros, or of a lone value.
ENOUGH, SHARE_OF_ZEROS, SHARE_OF_LONE = 20, 0.5, 0.01
BLOCK = 1 << 22


def read_ratings(
    path: str | os.PathLike[str],
    separator: str | None,
    columns: Sequence[Column],
    time: str | int | None = None,
    not_rated: Collection[float] = (),
) -> Encoded:
    """Read user, item and rating from every row of a file; see `Ratings.from_file`."""
    if separator is not None and (not separator or "\n" in separator or '"' in separator):
        raise ValueError(f"sep={separator!r}: give the text between two fields, such as ',' or '::'")
    name = os.fspath(path)
    with tempfile.TemporaryDirectory(prefix="nmfcore-") as folder:
        plain = _plain_path(name, folder)
        kind = find_format(plain, name)
        if kind.kind == "csv":
            encoded = _read_text(plain, name, kind, separator, columns, time, not_rated)
        elif kind.kind == "matrix-market":
            encoded = _read_matrix(plain, name, kind, not_rated)
        else:
            encoded = _read_named(plain, name, kind, columns, time, not_rated)
    _hint(encoded, name, not_rated)
    return encoded


def columns_without_header(
    path: str | os.PathLike[str], separator: str | None, columns: Sequence[Column]
) -> tuple[int, ...] | None:
    """The numbers (from 1) of the columns read as user, item and rating of a file without header, else None."""
    if not os.path.isfile(path):
        return None
    kind = find_format(os.fspath(path), path)
    lines = _sample(kind) if kind.kind == "csv" else []
    layout = find_layout(lines, os.fspath(path), separator, columns, None) if lines else None
    return None if layout is None or layout.header else tuple(column + 1 for column in layout.columns)


def _plain_path(name: str, folder: str) -> str:
    """A path that DuckDB takes as it is: it looks for patterns in names. What is no file, a pipe, is copied."""
    mode = os.stat(name).st_mode
    check_regular(name, mode, ("a device", "a socket"), "give the name of a file or a pipe")  # some never end
    plain = Path(folder, "ratings")
    if stat.S_ISREG(mode):
        try:
            plain.symlink_to(Path(name).absolute())
        except OSError:  # where links are not allowed
            return name
    else:
        with open(name, "rb") as stream, plain.open("wb") as copy:
            shutil.copyfileobj(stream, copy)
    return str(plain)


def _read_text(
    path: str,
    name: str,
    kind: Format,
    separator: str | None,
    columns: Sequence[Column],
    time: str | int | None,
    not_rated: Collection[float],
) -> Encoded:
    lines = _sample(kind)
    if not lines:
        raise ValueError(f"{name}: no ratings in this file; each line holds user, item and rating")
    layout = find_layout(lines, name, separator, columns, time)
    encoded = None
    if (
        layout.separator != WHITESPACE
        and len(layout.separator.encode()) <= 4
        and b"\r" not in kind.head.replace(b"\r\n", b"")
    ):
        try:
            quoted = kind.compression != "none" or _holds_quotes(path)
            encoded = tables.read_csv(path, layout, kind.compression, layout.first - 1, not_rated, quoted)
        except tables.Irregular:
            pass
    if encoded is None:
        encoded = read_lines(text_lines(path, name, kind.compression), name, layout, not_rated)
    if not layout.told:
        _refuse_sizes(encoded, name, lines[0])
    return encoded


def _sample(kind: Format) -> list[Line]:
    end = b"\r" if b"\r" in kind.head and b"\n" not in kind.head else b"\n"
    texts = kind.head.split(end)
    if not kind.whole and len(texts) > 1:
        texts.pop()  # cut off
    lines = list[Line]()
    for number, raw in enumerate(texts, 1):
        if raw.strip():
            try:
                lines.append((number, raw.decode().rstrip("\r")))
            except UnicodeDecodeError:
                lines.append((number, raw.decode("latin-1").rstrip("\r")))
        if len(lines) == SAMPLE:
            break
    return lines


def _holds_quotes(path: str) -> bool:
    with open(path, "rb") as stream:
        return any(b'"' in block for block in iter(lambda: stream.read(BLOCK), b""))


def _refuse_sizes(encoded: Encoded, name: str, first: Line) -> None:
    """Refuse a file whose first line says how many ratings follow: it would be read as one."""
    values, n = encoded.ratings, encoded.ratings.size
    if n > 3 and values[0] == n - 1 and str(n - 1) in first[1]:
        alone = values[0] > values[1:].max()
        largest = all(
            ids.dtype.kind == "i" and positions[0] == positions.max()
            for ids, positions in ((encoded.users, encoded.user_positions), (encoded.items, encoded.item_positions))
        )
        if alone or largest:
            raise ValueError(
                f"{name}, line {first[0]}: {quote(first[1])}: {n - 1} is the number of lines that follow, so this line "
                "seems to state the sizes; remove it, or name the columns with columns=(1, 2, 3)"
            )


def _read_matrix(path: str, name: str, kind: Format, not_rated: Collection[float]) -> Encoded:
    """Read the entries of a MatrixMarket file; users and items are the numbers of rows and columns, from 1."""
    banner = kind.head.split(b"\n", 1)[0].decode("latin-1").lower().split()
    if (
        banner[1:3] != ["matrix", "coordinate"]
        or banner[3:4] not in (["real"], ["integer"])
        or banner[4:] != ["general"]
    ):
        raise ValueError(
            f"{name}, line 1: {' '.join(banner)!r}: ratings are a general matrix of real or integer coordinates"
        )
    lines = text_lines(path, name, kind.compression)
    sizes = list[int]()
    number = 0
    for number, text, _ in lines:
        if text.strip() and not text.startswith("%"):
            with contextlib.suppress(ValueError):
                sizes = [int(field) for field in text.split()]
            if len(sizes) != 3:
                raise ValueError(f"{name}, line {number}: {quote(text)}: expected numbers of rows, columns and entries")
            break
    layout = Layout(WHITESPACE, (0, 1, 2), 3, False, number + 1, True, ("row", "column", "value"))
    counted = _Counted(lines)
    encoded = read_lines(iter(counted), name, layout, not_rated)
    if sizes and counted.number != sizes[2]:
        raise ValueError(
            f"{name}: {counted.number} entries where line {number} states {sizes[2]}; is the file cut off?"
        )
    for noun, ids, size in (("row", encoded.users, sizes[0]), ("column", encoded.items, sizes[1])):
        if ids.dtype.kind != "i" or ids[0] < 1 or ids[-1] > size:
            raise ValueError(f"{name}: {noun} {ids[-1]} is not one of 1 to {size}")
    return encoded


class _Counted:
    def __init__(self, lines: Iterator[Any]) -> None:
        self.lines, self.number = lines, 0

    def __iter__(self) -> Iterator[Any]:
        for line in self.lines:
            self.number += bool(line[1].strip())
            yield line


def _read_named(
    path: str,
    name: str,
    kind: Format,
    columns: Sequence[Column],
    time: str | int | None,
    not_rated: Collection[float],
) -> Encoded:
    if kind.kind == "parquet":
        source = f"read_parquet({literal(path)}, hive_partitioning=false)"
        types = tables.names_and_types(source, name)
        names = list(types)
    else:
        names = _json_names(kind, name)
        fields = ", ".join(f"{literal(field)}: 'VARCHAR'" for field in names)
        source = (
            f"read_json({literal(path)}, auto_detect=false, format='newline_delimited', columns={{{fields}}}, "
            f"compression='{kind.compression}', ignore_errors=false, hive_partitioning=false)"
        )
    header = ",".join('"' + field.replace('"', '""') + '"' for field in names)
    layout = find_layout([(1, header)], name, ",", columns, time) if len(names) > 2 else None
    if layout is None or (not layout.told):
        raise ValueError(f"{name}: user, item and rating are not among the columns {', '.join(map(repr, names))}")
    for field in (names[k] for k in layout.columns):
        if kind.kind == "parquet" and (
            types[field].endswith("]") or types[field].startswith(("STRUCT", "MAP", "UNION"))
        ):
            raise ValueError(f"{name}: the column {field!r} holds {escaped(types[field])}; neither texts nor numbers")
    if kind.kind == "json":
        for number, text in _sample(kind):
            entry = json.loads(text)
            for field in (names[k] for k in layout.columns):
                if isinstance(entry.get(field), (dict, list)):
                    raise ValueError(f"{name}, line {number}: {quote(text)}: {field!r} is neither a text nor a number")
    floats = [field for field in names if kind.kind == "parquet" and types[field] in ("FLOAT", "DOUBLE")]
    return tables.read_named(source, name, [names[k] for k in layout.columns], not_rated, floats)


def _json_names(kind: Format, name: str) -> list[str]:
    names = dict[str, None]()
    for number, text in _sample(kind):
        try:
            entry = json.loads(text)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: {quote(text)}: {error}") from None
        if not isinstance(entry, dict):
            raise ValueError(f"{name}, line {number}: {quote(text)}: an object a line is needed (JSON lines)")
        names |= dict.fromkeys(entry)
    return list(names)


def _hint(encoded: Encoded, name: str, not_rated: Collection[float]) -> None:
    """Tell of a value that may stand for 'not rated'."""
    values = encoded.ratings
    distinct = np.unique(values[: 1 << 20]) if values.size <= 1 << 20 else np.unique(values[:: values.size >> 20])
    if values.size < ENOUGH or distinct.size < 3 or distinct.size > 1000:
        return
    low, high = distinct[1] - distinct[0], distinct[-1] - distinct[-2]
    suspect, why = None, ""
    if distinct[0] == 0 and 0.0 not in not_rated and (share := float(np.mean(values == 0))) > SHARE_OF_ZEROS:
        suspect, why = 0.0, f"{share:.0%} of the ratings are 0"
    elif high > 2.0 * (distinct[-2] - distinct[0]) or low > 2.0 * (distinct[-1] - distinct[1]):
        lone = float(distinct[-1] if high >= low else distinct[0])
        rest = distinct[:-1] if high >= low else distinct[1:]
        if np.mean(values == lone) >= SHARE_OF_LONE:
            suspect, why = lone, f"the value {lone:g} is alone beyond the others ({rest[0]:g} to {rest[-1]:g})"
    if suspect is not None:
        options = f"not_rated={suspect:g}, on the command line --not-rated {suspect:g}"
        warn(
            f"{name}: {why}. If it stands for 'not rated', pass {options}.",
            UserWarning,
            stacklevel=5,  # who called Ratings.from_file
        )
