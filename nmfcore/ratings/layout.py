"""How a text file of ratings is laid out, found from its first lines: separator, header, columns."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import NoReturn

from nmfcore.ratings.fields import NUMBER, UNIT

WHITESPACE = " "
# The first of these that cuts every sampled line into three fields is it; a comma may be a decimal comma, so
# it comes late.
SEPARATORS = ("::", "\t", ";", "|", ",", WHITESPACE)
ROLES = ("user", "item", "rating")
NAMES = {
    "user": {"user", "users", "userid", "uid"},
    "item": {"item", "items", "itemid", "iid", "movie", "movies", "movieid"},
    "rating": {"rating", "ratings", "score", "scores", "stars"},
}


def plain_name(name: str) -> str:
    """Return a name without case, blanks, underscores and hyphens: userId, user_id and "User ID" are one."""
    return re.sub(r"[\s_-]", "", name).lower()


@dataclass(frozen=True)
class Layout:
    """Separator, positions of (user, item, rating), fields in the first line, whether it is a header."""

    separator: str
    columns: tuple[int, int, int]
    n_fields: int
    header: bool


def split_fields(line: bytes, separator: str) -> list[bytes]:
    """Split one line; csv.Error where a quote is not closed."""
    if separator == WHITESPACE:
        return line.split()
    if b'"' in line and len(separator) == 1:
        row = next(csv.reader([line.decode("latin-1")], delimiter=separator, skipinitialspace=True, strict=True), [])
        return [field.encode("latin-1").strip() for field in row]
    return [field.strip() for field in line.split(separator.encode())]


def unify(text: bytes, separator: str) -> tuple[bytes, bytes]:
    """Rewrite whole lines so that one byte separates their fields, line for line; return them and that byte.

    A line whose quotes are wrong is left unsplit, so that it is found to have too few fields.
    """
    if separator == WHITESPACE:
        return _single_blanks(text), b" "
    if len(separator) > 1:
        return text.replace(separator.encode(), UNIT), UNIT
    if b'"' not in text:
        return text, separator.encode()
    return b"\n".join(_unquoted(line, separator) for line in text.split(b"\n")), UNIT


def _single_blanks(text: bytes) -> bytes:
    text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text.replace(b"\n ", b"\n").replace(b" \n", b"\n").removeprefix(b" ")


def _unquoted(line: bytes, separator: str) -> bytes:
    if b'"' not in line:
        return line.replace(separator.encode(), UNIT)
    try:
        return UNIT.join(split_fields(line, separator))
    except csv.Error:
        return line


def find_layout(
    sample: list[bytes], where: str, separator: str | None, names: tuple[str | None, str | None, str | None]
) -> Layout:
    """Find the layout from the first lines that are not blank; `where` names the first of them.

    Raises
    ------
    ValueError
        No separator gives three fields, or a column is not found.
    """
    separator = _find_separator(sample, where) if separator is None else separator
    try:
        first = split_fields(sample[0], separator)
    except csv.Error as error:
        raise ValueError(f"{where}: {quote(sample[0])}: {error}") from None
    fields = [field.decode("utf-8", "replace") for field in first]
    if any(name is not None for name in names):
        return Layout(separator, _named(fields, where, names), len(fields), header=True)
    known = known_columns(fields)
    if len(known) == 3:
        return Layout(separator, (known["user"], known["item"], known["rating"]), len(fields), header=True)
    if set(known) == {"user"} and len(fields) > 3:  # taken for three columns, it would be read without a word
        _refuse_header(
            fields, where, "names a user, but no item and no rating (a table of users by items is for from_dense)"
        )
    header = len(fields) >= 3 and all(field and not NUMBER.match(field) and not _is_nan(field) for field in first[:3])
    if header and any(ROLES.index(role) != column for role, column in known.items()):
        _refuse_header(fields, where, "does not tell which columns are user, item and rating")
    return Layout(separator, (0, 1, 2), len(fields), header)


def _find_separator(sample: list[bytes], where: str) -> str:
    for separator in SEPARATORS:
        try:
            if all(len(split_fields(line, separator)) >= 3 for line in sample):
                return separator
        except csv.Error:
            continue
    if len(sample) > 1:  # one bad line among the first must not hide the separator of the others
        return _find_separator(sample[:1], where)
    raise ValueError(
        f"{where}: {quote(sample[0])}: no separator out of '::', tab, ';', '|', ',' and blanks gives "
        "the three fields user, item and rating; pass sep= or look at the file"
    )


def _is_nan(field: bytes) -> bool:
    return field.lower().lstrip(b"+-") in (b"nan", b"inf", b"infinity", b"na", b"null", b"none")


def known_columns(fields: list[str]) -> dict[str, int]:
    """Return the position of the first column that has a usual name, for each role that has one."""
    plain = [plain_name(field) for field in fields]
    found = {role: [k for k, name in enumerate(plain) if name in NAMES[role]] for role in ROLES}
    return {role: columns[0] for role, columns in found.items() if columns}


def _named(fields: list[str], where: str, names: tuple[str | None, ...]) -> tuple[int, int, int]:
    known = known_columns(fields)
    columns = []
    for role, name in zip(ROLES, names, strict=True):
        if name is not None and name not in fields:
            _refuse_header(fields, where, f"has no column {name!r} ({role}=)")
        if name is None and role not in known:
            _refuse_header(fields, where, f"has no column that is usually the {role}")
        columns.append(known[role] if name is None else fields.index(name))
    return columns[0], columns[1], columns[2]


def _refuse_header(fields: list[str], where: str, fault: str) -> NoReturn:
    found = ", ".join(map(repr, fields[:20]))
    raise ValueError(f"{where}: the header {fault}; columns found: {found}; name them with user=, item=, rating=")


def quote(line: bytes | str) -> str:
    """Return a line as a message shows it: decoded, shortened, its control characters visible."""
    text = (line if isinstance(line, str) else line.decode("utf-8", "replace")).rstrip("\r\n")
    return repr(text if len(text) <= 80 else text[:77] + "...")
