"""Ratings read by DuckDB: delimited text, JSON lines and Parquet.

DuckDB guesses nothing here. Where it guesses it may lose data in silence: it is told the separator, the quotes and that
every field is text, and is strict about the number of fields. Two passes over text ids, one over integers.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmfcore.machine.escapes import escaped
from nmfcore.ratings.duck import LONGEST_LINE, connection, literal, quoted_name
from nmfcore.ratings.ids import Ids, Numbering, Positions, encode_integers
from nmfcore.ratings.layout import BLANKS, Layout
from nmfcore.ratings.lines import Encoded, ranked


class Irregular(Exception):
    """The file is not as regular as its first lines: it has to be read line by line."""


def csv_source(path: str, layout: Layout, compression: str, skip: int) -> str:
    """The table of a text file, all of its columns text: c0, c1, ..."""
    columns = ", ".join(f"'c{k}': 'VARCHAR'" for k in range(layout.n_fields))
    quotes = "quote='\"', escape='\"'" if len(layout.separator) == 1 else "quote='', escape=''"
    return (
        f"read_csv({literal(path)}, auto_detect=false, header=false, skip={skip}, delim={literal(layout.separator)}, "
        f"{quotes}, columns={{{columns}}}, strict_mode=true, null_padding=false, ignore_errors=false, "
        f"compression={literal(compression)}, encoding='utf-8', hive_partitioning=false, "
        f"max_line_size={LONGEST_LINE}, buffer_size={2 * LONGEST_LINE})"
    )


def read_csv(
    path: str, layout: Layout, compression: str, skip: int, not_rated: Collection[float], quoted: bool
) -> Encoded:
    """Read a regular text file.

    Raises
    ------
    Irregular
        DuckDB refuses it, or a value is not as it should be; :func:`nmfcore.ratings.lines.read_lines` says which.
    """
    fields = [f"c{k}" for k in range(layout.n_fields)]
    # A line end within quotes may be that of a quote that was not closed, and swallow ratings.
    spans = " OR ".join(f"coalesce(contains({field}, chr(10)), false)" for field in fields) if quoted else "false"
    with _Table(csv_source(path, layout, compression, skip), [fields[k] for k in layout.columns], spans) as table:
        return table.read(not_rated)


def read_named(
    source: str, name: str, columns: list[str], not_rated: Collection[float], floats: Collection[str] = ()
) -> Encoded:
    """Read columns of Parquet or JSON lines.

    Raises
    ------
    ValueError
        Names the first row (from 1) that is wrong, or says what DuckDB says of a damaged file.
    """
    texts = [f"CAST({quoted_name(column)} AS VARCHAR)" for column in columns]
    for k, column in enumerate(columns[:2]):
        if column in floats:  # whole numbers that had a gap somewhere
            whole = f"abs({quoted_name(column)}) <= 2.0**53 AND {quoted_name(column)} = floor({quoted_name(column)})"
            texts[k] = f"CASE WHEN {whole} THEN CAST(CAST({quoted_name(column)} AS BIGINT) AS VARCHAR) END"
    try:
        with _Table(source, texts, "false") as table:
            try:
                return table.read(not_rated)
            except Irregular:
                fault = table.first_fault(not_rated)
                raise ValueError(f"{name}, {fault or 'no row: nothing is rated in this file'}") from None
    except Irregular as error:
        raise ValueError(f"{name}: {error}; is the file damaged?") from None


def names_and_types(source: str, name: str) -> dict[str, str]:
    """Return the columns of a table and what DuckDB calls their types."""
    with _Table(source, [], "false") as table:
        try:
            return {row[0]: row[1] for row in table.rows(f"DESCRIBE SELECT * FROM {source}")}
        except Irregular as error:
            raise ValueError(f"{name}: {error}; is the file damaged?") from None


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """Have what DuckDB refuses said in a line."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise Irregular(escaped(str(error).split("\n")[0])) from None


class _Table:
    """Columns of user, item, rating and maybe time, as text, in a database of their own."""

    def __init__(self, source: str, columns: list[str], spans: str) -> None:
        self.source, self.columns, self.spans = source, columns, spans
        self._texts = dict[str, list[str]]()

    def __enter__(self) -> _Table:
        with contextlib.ExitStack() as opened:
            folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="nmfcore-"))
            self._database = opened.enter_context(connection(folder))
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with _faults():
            return list(self._database.execute(query).fetchall())

    def read(self, not_rated: Collection[float]) -> Encoded:
        """All of it."""
        kinds = {noun: self._first_kind(text) for noun, text in zip(("user", "item"), self.columns, strict=False)}
        while True:
            found = self._fetched(kinds)
            wrong = [noun for noun in kinds if np.ma.is_masked(found[noun])]
            if not wrong:
                break
            kinds |= {noun: KINDS[KINDS.index(kinds[noun]) + 1] for noun in wrong}
        if not found["rating"].size or any(np.ma.is_masked(column) for column in found.values()):
            raise Irregular("a value is missing or is no number")
        if found.pop("spans").any():
            raise Irregular("a field holds a line end")
        values = np.asarray(found.pop("rating"))
        kept = ~np.isin(values, list(not_rated)) if not_rated else None
        if kept is not None and kept.all():
            kept = None
        values = values if kept is None else values[kept]
        if not (values.size and values.min() >= 0.0 and values.max() < np.inf):
            raise Irregular("a rating is negative or not finite, or none is left")
        ids = dict[str, tuple[Ids, Positions]]()
        for noun in kinds:
            codes = np.asarray(found.pop(noun))
            codes = codes if kept is None else codes[kept]
            ids[noun] = self._ids(noun, codes) if kinds[noun] == "text" else encode_integers(codes)
        times = None
        if "time" in found:
            times = np.asarray(found.pop("time"))
            times = times if kept is None else times[kept]
        return Encoded(ids["user"], ids["item"], shrink(values), times)

    def _first_kind(self, text: str) -> str:
        """What the first ids are; so that a column of texts is not read as numbers first."""
        some = f"SELECT {text} AS id FROM {self.source} LIMIT 1000"
        number = f"TRY_CAST({_trimmed('id')} AS BIGINT)"  # null of what is no number at all
        whole = f"coalesce({number}::VARCHAR = {_trimmed('id')}, false)"
        return KINDS[0] if self.rows(f"SELECT bool_and({whole}) FROM ({some})")[0][0] else KINDS[-1]

    def _fetched(self, kinds: dict[str, str]) -> dict[str, Any]:
        parts = list[str]()
        for (noun, kind), text in zip(kinds.items(), self.columns, strict=False):
            if kind == "text":
                self._number(noun, text)
                parts.append(f"enum_code(CAST({text} AS {noun}_ids)) AS {quoted_name(noun)}")
            else:
                # A number is an id only where it is written as numbers are: 007, +7 and 1e2 are texts.
                whole = f"TRY_CAST({text} AS {kind})"
                parts.append(f"CASE WHEN {whole}::VARCHAR = {text} THEN {whole} END AS {quoted_name(noun)}")
        rating, *time = self.columns[2:]
        parts.append(f"CASE WHEN NOT contains({rating}, '_') THEN TRY_CAST({rating} AS DOUBLE) END AS rating")
        if time:
            parts.append(f'{_moment(time[0])} AS "time"')
        parts.append(f"{self.spans} AS spans")
        with _faults():
            return dict(self._database.execute(f"SELECT {', '.join(parts)} FROM {self.source}").fetchnumpy())

    def _number(self, noun: str, text: str) -> None:
        """Make a type of the distinct ids of a column, whose values are numbers among them."""
        if noun in self._texts:
            return
        self.rows(f"CREATE OR REPLACE TEMP TABLE ids AS SELECT DISTINCT {text} AS id FROM {self.source}")
        texts = [row[0] for row in self.rows("SELECT id FROM ids ORDER BY id")]
        if any(id is None or not id.strip(BLANKS) or "\0" in id for id in texts):
            raise Irregular("an id is missing")
        self.rows(f"CREATE TYPE {noun}_ids AS ENUM (SELECT id FROM ids ORDER BY id)")
        self._texts[noun] = texts

    def _ids(self, noun: str, codes: NDArray[Any]) -> tuple[Ids, Positions]:
        """The sorted ids without blanks at their ends, and the position of each row's among them."""
        texts = self._texts[noun]
        used = np.flatnonzero(np.bincount(codes, minlength=len(texts)))
        table: Numbering[str] = Numbering()
        numbers = table.encode([texts[k].strip(BLANKS) for k in used.tolist()])
        ids, rank = ranked(list(table), noun)
        places = np.zeros(len(texts), np.int32)
        places[used] = rank[numbers]
        return ids, places[codes]

    def first_fault(self, not_rated: Collection[float]) -> str:
        """What is wrong with the first row that is."""
        user, item, rating, *time = self.columns
        when = time[0] if time else "'0'"
        markers = "".join(f" OR TRY_CAST(r AS DOUBLE) = {value!r}" for value in not_rated)
        tests = {
            "the user id is missing, or no whole number": f"u IS NULL OR {_trimmed('u')} = ''",
            "the item id is missing, or no whole number": f"i IS NULL OR {_trimmed('i')} = ''",
            "the rating {r!r} is not a finite number of at least 0": f"NOT coalesce({_is_rating('r')}{markers}, false)",
            "the time {t!r} is neither a whole number nor a date": f"{_moment('t')} IS NULL",
        }
        table = (
            f"SELECT row_number() OVER () AS k, {user} AS u, {item} AS i, {rating} AS r, {when} AS t FROM {self.source}"
        )
        found = ", ".join(tests.values())
        rows = self.rows(
            f"SELECT k, r, t, {found} FROM ({table}) WHERE {' OR '.join(tests.values())} ORDER BY k LIMIT 1"
        )
        for k, r, t, *wrong in rows:
            return f"row {k}: " + list(tests)[wrong.index(True)].format(r=r, t=t)
        return ""


KINDS = ("INTEGER", "BIGINT", "text")


def _trimmed(text: str) -> str:
    """A text without :data:`nmfcore.ratings.layout.BLANKS` at its ends: DuckDB's own trim takes other spaces too."""
    return f"trim({text}, chr(32) || chr(9) || chr(13))"


def _moment(text: str) -> str:
    """A time: a whole number as it is, a date in seconds since 1970."""
    whole = f"CASE WHEN NOT contains({text}, '.') THEN TRY_CAST({text} AS BIGINT) END"
    return f"coalesce({whole}, CAST(floor(epoch(TRY_CAST({text} AS TIMESTAMP))) AS BIGINT))"


def _is_rating(text: str) -> str:
    number = f"TRY_CAST({text} AS DOUBLE)"
    return f"({number} >= 0 AND {number} < 'inf'::DOUBLE AND NOT contains({text}, '_'))"


def shrink(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values in 32 bits if nothing is lost: a file's columns wait in memory until they are in order."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow, values) else values
