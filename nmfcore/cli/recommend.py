"""``nmfcore recommend``: the best of what a user has not rated, or of what each user has not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nmfcore.cli import reading
from nmfcore.cli.words import count, invoked_as
from nmfcore.machine import files
from nmfcore.machine.escapes import cell, escaped, escaped_lines, typed
from nmfcore.ratings import Ratings, parse_id, read_titles
from nmfcore.recommender import Recommender
from nmfcore.recommender.ranking import best_items

WIDTH = 100
AT_ONCE = 2**16  # lines of a table


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks."""
    if arguments.n is not None and arguments.n < 1:
        raise ValueError(f"-n {arguments.n}: ask for 1 item or more")
    if arguments.all and arguments.out is None:
        raise ValueError("--all needs --out FILE to write to, or --out - for the screen")
    if arguments.out is not None and not arguments.all:
        raise ValueError("--out is where --all writes to: give both or neither")
    if arguments.raw and not arguments.all:
        raise ValueError("--raw is about the values that --all writes: give both or neither")
    if arguments.out not in (None, "-"):
        reading.check_apart("--out", arguments.out, arguments.model, arguments.titles)
    model = Recommender.load(arguments.model)
    titles = titles_of(model, arguments.titles, sys.stderr if arguments.out == "-" else None)
    ratings = model.ratings_
    if arguments.all:
        write_all(model, arguments.out, arguments.n or 10, titles, arguments.raw)
        return
    if arguments.user is not None:
        show(model, parse_id(arguments.user, ratings.users, "user"), arguments.n or 10, titles)
        return
    for user in ratings.users[np.argsort(-np.diff(ratings.indptr), kind="stable")[:3]].tolist():
        show(model, user, arguments.n or 5, titles)
        print()
    examples = ", ".join(escaped(user) for user in ratings.users[:3])
    print(f"These are the most active of {count(ratings.shape[0], 'user')}. For another (ids: {examples}, ...):")
    print(f"  {invoked_as()} recommend {typed(arguments.model)} --user ID" + ("" if titles else " --titles FILE"))


def titles_of(model: Recommender, path: str | None, note: TextIO | None = None) -> dict[Any, str]:
    """The titles of the model's items in a file, if one is given; says so, on the screen or in `note`, if none is."""
    if path is None:
        return {}
    titles = match_titles(model.ratings_.items, read_titles(path))
    if not titles:
        print(f"(No item of the model has a title in {escaped(path)}.)\n", file=note)
    return titles


def write_all(model: Recommender, out: str, n: int, titles: Mapping[Any, str], raw: bool) -> None:
    """Write the recommendations for every user, a block of users at a time; the file is there at the end or not at all.

    Predictions are written as they are, not brought into the range of the ratings, so that they tell the best apart.
    """
    if out == "-":
        shown = escaped_lines if sys.stdout.isatty() and not raw else str
        try:
            for text, _ in _csv(model, n, titles, raw):
                sys.stdout.write(shown(text))
        except KeyboardInterrupt as interrupt:
            interrupt.add_note("What was written is not complete.")
            raise
        return
    lines = 0

    def fill(file: IO[bytes]) -> None:
        nonlocal lines
        for text, number in _csv(model, n, titles, raw):
            file.write(text.encode("utf-8", "surrogatepass"))
            lines += number

    files.replace(out, fill)
    print(f"{escaped(out)}: {count(lines, 'recommendation')} for {count(model.ratings_.shape[0], 'user')}.")


def _csv(model: Recommender, n: int, titles: Mapping[Any, str], raw: bool) -> Iterator[tuple[str, int]]:
    """The text of a CSV file, some users at a time, and how many recommendations are in it."""
    yield f"user,item,rating{',title' if titles else ''}\n", 0
    ratings, f, level = model.ratings_, model.factorization_, model.level_
    users, items = ([cell(one, raw) for one in ids.tolist()] for ids in (ratings.users, ratings.items))
    ends = [f",{cell(titles.get(item, ''), raw)}\n" if titles else "\n" for item in ratings.items.tolist()]
    rows = np.arange(ratings.shape[0])
    for block in best_items(f.W, f.H, rows, n, seen=(ratings.indptr, ratings.indices)):
        best = block.valid
        columns = np.repeat(rows[block.lo : block.hi], block.counts), block.items[best], block.scores[best]
        for lo in range(0, columns[0].size, AT_ONCE):
            whose, what, predicted = (column[lo : lo + AT_ONCE].tolist() for column in columns)
            lines = zip(whose, what, predicted, strict=True)
            yield "".join(f"{users[u]},{items[i]},{level + x:.6g}{ends[i]}" for u, i, x in lines), len(what)


def show(model: Recommender, user: int | str, n: int, titles: Mapping[Any, str]) -> None:
    """Print what a user thinks best of, and the best of the rest with the rating predicted."""
    ratings = model.ratings_
    row = ratings.user_index(user)
    items, predicted = model.recommend(user, n)
    own = ratings.data[ratings.indptr[row] : ratings.indptr[row + 1]]
    print(f"User {escaped(user)}: {count(own.size, 'rating')}" + (f", mean {own.mean():.2f}" if own.size else ""))
    if own.size:
        print(shortened(f"  rated highest: {'; '.join(_best_rated(ratings, row, titles))}"))
    if not items.size:
        print("  has rated every item: there is nothing left to recommend")
        return
    width = id_width(items)
    print(f"  {'predicted':>9}  {'item':{width if titles else 0}}" + ("  title" if titles else ""))
    show_items(items, (f"{rating:9.2f}" for rating in np.clip(predicted, *model.rating_range_)), titles)


def show_items(items: NDArray[Any], numbers: Iterable[str], titles: Mapping[Any, str]) -> None:
    """Print a line for each item: its number, id and title."""
    width = id_width(items)
    for item, number in zip(items.tolist(), numbers, strict=True):
        title = f"  {escaped(titles.get(item, '(no title)'))}" if titles else ""
        print(shortened(f"  {number}  {escaped(item):{width}}{title}".rstrip()))


def id_width(items: NDArray[Any]) -> int:
    """Return how long the longest of these ids is."""
    return max(len(escaped(item)) for item in items.tolist())


def _best_rated(ratings: Ratings, row: int, titles: Mapping[Any, str]) -> Iterable[str]:
    part = slice(ratings.indptr[row], ratings.indptr[row + 1])
    best = np.argsort(-ratings.data[part], kind="stable")[:3]
    for item, rating in zip(ratings.items[ratings.indices[part][best]].tolist(), ratings.data[part][best], strict=True):
        yield f"{escaped(titles.get(item, item))} ({rating:g})"


def shortened(line: str) -> str:
    """Return the line, cut where a terminal would break it."""
    return line if len(line) <= WIDTH else line[: WIDTH - 3] + "..."


def match_titles(items: np.ndarray[Any, Any], titles: Mapping[int, str] | Mapping[str, str]) -> dict[Any, str]:
    """Titles by the model's own ids.

    An id is looked up as it is written; if it is not there, without its leading zeros, since one file's 0114508 is
    another's 114508, unless that would name two titles.

    Examples
    --------
    >>> match_titles(np.array([7, 114508]), {"0114508": "Species (1995)", "tt7": "?"})
    {114508: 'Species (1995)'}
    """
    exact = {str(key): title for key, title in titles.items()}
    loose: dict[str, str | None] = {}
    for key, title in exact.items():
        plain = _plain(key)
        loose[plain] = None if plain in loose else title
    found = {item: exact.get(str(item)) or loose.get(_plain(str(item))) for item in items.tolist()}
    return {item: title for item, title in found.items() if title}


def _plain(text: str) -> str:
    return (text.lstrip("0") or "0") if text.isdigit() else text
