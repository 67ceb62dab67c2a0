"""How a text file of ratings is laid out, found from its first lines: separator, header, columns.

A file is read without being told its columns only if its header names user, item and rating, or if it has no header
and three columns, or four of which the last holds time stamps. Everything else is refused, with the columns that were
found: a table of users by items, taken for three columns, would be read without a word.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from nmfcore.machine.escapes import typed

WHITESPACE = " "
BLANKS = " \t\r"  # what is left out at both ends of a field; what else Unicode counts as space is part of an id
# The first of these that cuts every sampled line into three fields is it; a comma may be a decimal comma, so
# it comes late.
SEPARATORS = ("::", "\t", ";", "|", ",", WHITESPACE)
TEXTUAL = ("::", "\t", "|")  # in files with these, a quote that is not closed is a character like any other
ROLES = ("user", "item", "rating")
ALL_ROLES = (*ROLES, "time")
_OF_ITEMS = ("item", "movie", "book", "anime", "song", "track", "artist", "game", "product")
NAMES = {
    "user": {"user", "users", "userid", "uid"},
    "item": {"iid", "isbn", "items", "movies"} | set(_OF_ITEMS) | {f"{thing}id" for thing in _OF_ITEMS},
    "rating": {"rating", "ratings", "score", "scores", "stars", "bookrating"},
}
LIKE = {  # what a column is that has such a word in its name: for a hint, never to read by
    "user": ("user", "reader", "customer", "reviewer", "member", "client", "who"),
    "item": ("item", "movie", "film", "book", "anime", "song", "track", "artist", "game", "product", "asin", "title"),
    "rating": ("rating", "score", "star", "grade", "mark"),
}
NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")
MISSING = {"nan", "inf", "infinity", "na", "null", "none", "n/a"}
MOMENT = re.compile(
    r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{2,4}|[0-9]{1,2}:[0-9]{2}"
)
EARLIEST = 1e8  # seconds: March 1973. A whole number from there on in a fourth column is a time stamp
MOST_NAMES = 20  # of columns in a message
Line = tuple[int, str]  # its number in the file, from 1, and its text


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are cut, and what is in them."""

    separator: str
    columns: tuple[int, ...]  # positions of user, item, rating and, if asked for, time
    n_fields: int
    header: bool
    first: int  # the number of the first line that holds a rating
    told: bool  # whether the columns were named, by the caller or a header
    names: tuple[str, ...]


def plain_name(name: str) -> str:
    """Return a name without case, blanks, underscores and hyphens: userId, user_id and "User ID" are one."""
    return re.sub(r"[\s_-]", "", name).lower()


def known_columns(fields: Sequence[str]) -> dict[str, int]:
    """Return the position of the first column that has a usual name, for each role that has one."""
    return {role: places[0] for role, places in _known(fields).items() if places}


def _known(fields: Sequence[str]) -> dict[str, list[int]]:
    plain = [plain_name(field) for field in fields]
    return {role: [k for k, name in enumerate(plain) if name in NAMES[role]] for role in ROLES}


def check_columns(columns: Sequence[object], time: object = None) -> None:
    """Raise if a caller names one column for two of user, item, rating and time."""
    named = [(role, name) for role, name in zip(ALL_ROLES, (*columns, time), strict=True) if name is not None]
    for k, (role, name) in enumerate(named):
        for other, same in named[:k]:
            if name == same:
                raise ValueError(f"the column {name!r} is named as {other} and as {role}: {_alone(time)}")


def _alone(time: object) -> str:
    return f"one column cannot be two of user, item{' and rating' if time is None else ', rating and time'}"


def split_fields(line: str, separator: str) -> list[str]:
    """Split one line; csv.Error where quotes are wrong."""
    quoted = '"' in line
    if separator == WHITESPACE:
        if not quoted:
            return line.split()
        line = line.replace("\t", " ").strip()
    if quoted and len(separator) == 1:
        row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True), [])
        return [field.strip(BLANKS) for field in row]
    return [field.strip(BLANKS) for field in line.split(separator)]


def fields_of(line: str, separator: str, n_fields: int | None = None) -> list[str]:
    """Split one line whose quotes may be text: ``"Weird Al" Yankovic``; csv.Error where they are wrong.

    A field that is quoted as a whole is what is between the quotes. Where quotes stand otherwise the line is cut at
    its separators if that gives as many fields as the others have (``n_fields``), and, in files separated by commas,
    semicolons or blanks, if the quotes are an even number: one that is not closed is a damaged line there.
    """
    try:
        fields = split_fields(line, separator)
    except csv.Error:
        fields = _escaped(line, separator) if len(separator) == 1 and '\\"' in line else []
    if fields and (n_fields is None or len(fields) == n_fields):
        return fields
    plain = line.split() if separator == WHITESPACE else [field.strip(BLANKS) for field in line.split(separator)]
    closed = separator in TEXTUAL or line.count('"') % 2 == 0
    if closed and len(plain) == n_fields:
        return plain
    return fields or split_fields(line, separator)


def _escaped(line: str, separator: str) -> list[str]:
    """The fields of a line whose quotes within quotes have a backslash, as MySQL writes them; none if that fails."""
    try:
        row = next(csv.reader([line], delimiter=separator, escapechar="\\", doublequote=False, strict=True), [])
    except csv.Error:
        return []
    return [field.strip(BLANKS) for field in row]


def find_layout(
    lines: list[Line], where: str, separator: str | None, columns: Sequence[str | int | None], time: str | int | None
) -> Layout:
    """Find the layout from the first lines that are not blank.

    Parameters
    ----------
    lines : list of (int, str)
        At least one.
    where : str
        What messages call the file.
    separator : str or None
        As given by the caller.
    columns : sequence of three
        Names or numbers (from 1) of user, item and rating; None for each that is to be found.
    time : str, int or None
        The same for the time; None if it is not wanted.

    Raises
    ------
    ValueError
        No separator gives three fields, or a column is not found.
    """
    place = f"{where}, line {lines[0][0]}"
    if lines[0][1].lstrip()[:1] in ("%", "#"):
        raise ValueError(f"{place}: {quote(lines[0][1])}: a comment; remove the lines before the first rating")
    separator = _find_separator(lines, place) if separator is None else separator
    rows = list[list[str]]()
    for number, text in lines:
        try:
            rows.append(fields_of(text, separator, len(rows[-1]) if rows else None))
        except csv.Error as error:
            if not rows:
                raise ValueError(f"{where}, line {number}: {quote(text)}: wrong quotes ({error})") from None
            break  # the line is read again, and named, with all others
    names, data = rows[0], rows[1:]
    if data and all(len(row) == len(names) + 1 for row in data):  # R writes no name above the names of rows
        # Or each row ends with a separator, and the header does not.
        names = [*names, ""] if all(row[-1] == "" for row in data) else ["", *names]
    found = _Columns(names, data, place)
    told = any(column is not None for column in columns)
    positions = found.given(columns) if told else found.usual()
    wanted = [*positions] if time is None else [*positions, found.position(time, "time")]
    if len(set(wanted)) < len(wanted):
        raise ValueError(f"{place}: columns={tuple(columns)}: {_alone(time)}")
    header = found.header
    if max(wanted) >= len(names) and len(names) == len(rows[0]):
        raise ValueError(
            f"{place}: {quote(lines[0][1])}: {_fields(len(names))} where {max(wanted) + 1} or more are needed"
        )
    first = lines[1][0] if header and len(lines) > 1 else lines[0][0] + header
    return Layout(separator, tuple(wanted), len(names), header, first, told or header, tuple(names))


def _find_separator(lines: list[Line], place: str) -> str:
    for separator in SEPARATORS:
        try:
            if all(len(split_fields(text, separator)) >= 3 for _, text in lines[:8]):
                return separator
        except csv.Error:
            if all(text.count(separator) >= 2 for _, text in lines[:8]):
                return separator
    if len(lines) > 1:  # one bad line among the first must not hide the separator of the others
        return _find_separator(lines[:1], place)
    raise ValueError(
        f"{place}: {quote(lines[0][1])}: no separator out of '::', tab, ';', '|', ',' and blanks gives "
        "the three fields user, item and rating; pass sep= or look at the file"
    )


class _Columns:
    """Which columns are what."""

    def __init__(self, names: list[str], data: list[list[str]], place: str) -> None:
        self.names, self.data, self.place = names, data, place
        known = _known(names)
        filled = [name for name in names if name]
        texts = bool(filled) and not any(_is_number(name) or name.lower() in MISSING for name in filled)
        self.known = known
        self.header = len(names) >= 3 and (texts or any(known.values()))

    def given(self, columns: Sequence[str | int | None]) -> list[int]:
        """Return the positions of the columns that the caller named, those of the usual names for the others."""
        if all(str(column) in self.names for column in columns) and self._first_differs():
            self.header = True
        positions = [
            None if column is None else self.position(column, r) for column, r in zip(columns, ROLES, strict=True)
        ]
        if any(isinstance(c, str) and c in self.names and not _is_number(c) for c in columns):
            self.header = True
        for k, role in enumerate(ROLES):
            if positions[k] is None:
                if not self.known[role]:
                    self._refuse(f"the header has no column that is usually the {role}")
                positions[k] = self.known[role][0]
        return [position for position in positions if position is not None]

    def position(self, column: str | int, role: str) -> int:
        """Return where a column is that the caller named; a number counts from 1, and a header of that name wins."""
        number = isinstance(column, int) or re.fullmatch("[0-9]+", column) is not None
        # In a file without header, a number that is among the values of the first row names no column.
        if str(column) in self.names and (self.header or not number):
            if self.names.count(str(column)) > 1:
                self._refuse(f"the header has the column {column!r} more than once ({role}=); give its number")
            return self.names.index(str(column))
        if number:
            if not 1 <= int(column) <= len(self.names):
                raise ValueError(f"{self.place}: there is no column {column} ({role}=); there are {len(self.names)}")
            return int(column) - 1
        if not self.header:
            raise ValueError(
                f"{self.place}: there is no header, so no column {column!r} ({role}=); give numbers from 1, as in "
                "columns=(1, 2, 3)"
            )
        return self._refuse(f"the header has no column {column!r} ({role}=)")

    def _first_differs(self) -> bool:
        """Whether the first row has text where all others have numbers."""
        rows = [row for row in self.data if len(row) == len(self.names)]
        texts = [k for k, name in enumerate(self.names) if name and not _is_number(name)]
        return bool(rows) and any(all(_is_number(row[k]) for row in rows) for k in texts)

    def usual(self) -> list[int]:
        """Return the positions of user, item and rating where nothing else is possible."""
        if not self.header:
            return self._without_header()
        once = {role: places[0] for role, places in self.known.items() if len(places) == 1}
        if len(once) == 3:
            return [once[role] for role in ROLES]
        twice = [role for role, places in self.known.items() if len(places) > 1]
        if twice:
            self._refuse(f"the header names more than one column that may be the {twice[0]}")
        if not self.known["item"] and not self.known["rating"] and len(self.names) > 3:
            self._refuse("the header does not name user, item and rating (a table of users by items is for from_dense)")
        missing = [role for role in ROLES if not self.known[role]]
        return self._refuse(f"the header has no column that is usually the {' or the '.join(missing)}")

    def _without_header(self) -> list[int]:
        rows = [self.names, *self.data]
        if len(self.names) < 3:
            return [0, 1, 2]  # which are not there, as the caller says
        if any(MOMENT.match(row[0]) for row in rows if row):
            self._refuse("the first column holds dates or times, and there is no header that says what the others are")
        if len(self.names) == 4 and not all(_is_moment(row[3]) for row in rows if len(row) == 4 and row[3]):
            self._refuse("there are four columns without a header, and the fourth holds no time stamps")
        if len(self.names) > 4:
            self._refuse(f"there are {len(self.names)} columns without a header")
        numbers = [tuple(map(float, row[:3])) for row in rows if all(map(_is_number, row[:3])) and len(row) >= 3]
        pairs = {row[:2] for row in numbers}
        highest = max((row[2] for row in numbers), default=0.0)
        repeats = len(numbers) - len(pairs)
        if len(self.names) == 3 and repeats > max(2, 0.1 * len(numbers)) and all(max(p) <= highest for p in pairs):
            self._refuse(
                "there are three columns of like numbers, in which pairs repeat: a table of users by items is for "
                "from_dense"
            )
        return [0, 1, 2]

    def _refuse(self, fault: str) -> NoReturn:
        names = [name or "(no name)" for name in self.names] if self.header else self.names
        some = ", ".join(map(repr, names[:MOST_NAMES])) + (", ..." if len(names) > MOST_NAMES else "")
        what = "columns found" if self.header else "the first line has"
        raise ValueError(f"{self.place}: {fault}; {what}: {some}; {self._remedy()}")

    def _remedy(self) -> str:
        if not self.header:
            example = "1,2,3" if len(self.names) == 3 else "1,2,4"
            numbers = example.replace(",", ", ")
            return f"name them by number with columns=({numbers}), on the command line --columns {example}"
        plain = [plain_name(name) for name in self.names]
        guesses = []
        for role in ROLES:
            like = [k for k, name in enumerate(plain) if k not in guesses and any(word in name for word in LIKE[role])]
            like.sort(key=lambda k: not plain[k].endswith("id"))  # an id rather than a name
            guesses.append(like[0] if like else -1)
        likely = f" ({self.names[guesses[2]]!r} is plainly the rating)" if guesses[2] >= 0 else ""
        names = ",".join(self.names[k] if k >= 0 else role.upper() for k, role in zip(guesses, ROLES, strict=True))
        return f"name them with columns=(user, item, rating), on the command line --columns {typed(names)}{likely}"


def _fields(number: int) -> str:
    return f"{number} field{'' if number == 1 else 's'}"


def _is_number(field: str) -> bool:
    return NUMBER.match(field) is not None


def _is_moment(field: str) -> bool:
    return MOMENT.match(field) is not None or (_is_number(field) and abs(float(field)) >= EARLIEST)


def quote(line: str) -> str:
    """Return a line as a message shows it: shortened, its control characters visible."""
    text = line.rstrip("\r\n")
    return repr(text if len(text) <= 80 else text[:77] + "...")
