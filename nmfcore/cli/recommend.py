"""``nmfcore recommend``: the best of what a user has not rated, or of what each user has not."""

from __future__ import annotations

import argparse
import csv
import io
import shlex
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from nmfcore import archive
from nmfcore.cli import reading
from nmfcore.cli.words import count, invoked_as
from nmfcore.ratings import Ratings, Recommender, parse_id, read_titles
from nmfcore.ratings.ranking import best_items, table_of

WIDTH = 100


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks."""
    if arguments.n is not None and arguments.n < 1:
        raise ValueError(f"-n {arguments.n}: ask for 1 item or more")
    if arguments.all and arguments.out is None:
        raise ValueError("--all needs --out FILE to write to, or --out - for the screen")
    if arguments.out is not None and not arguments.all:
        raise ValueError("--out is where --all writes to: give both or neither")
    if arguments.out not in (None, "-"):
        reading.check_apart("--out", arguments.out, arguments.model, arguments.titles)
    model = Recommender.load(arguments.model)
    titles = titles_of(model, arguments.titles, sys.stderr if arguments.out == "-" else None)
    ratings = model.ratings_
    if arguments.all:
        write_all(model, arguments.out, arguments.n or 10, titles)
        return
    if arguments.user is not None:
        show(model, parse_id(arguments.user, ratings.users, "user"), arguments.n or 10, titles)
        return
    for user in ratings.users[np.argsort(-np.diff(ratings.indptr), kind="stable")[:3]].tolist():
        show(model, user, arguments.n or 5, titles)
        print()
    examples = ", ".join(str(user) for user in ratings.users[:3])
    print(f"These are the most active of {count(ratings.shape[0], 'user')}. For another (ids: {examples}, ...):")
    print(f"  {invoked_as()} recommend {shlex.quote(arguments.model)} --user ID" + ("" if titles else " --titles FILE"))


def titles_of(model: Recommender, path: str | None, note: TextIO | None = None) -> dict[Any, str]:
    """The titles of the model's items in a file, if one is given; says so, on the screen or in `note`, if none is."""
    if path is None:
        return {}
    titles = match_titles(model.ratings_.items, read_titles(path))
    if not titles:
        print(f"(No item of the model has a title in {path}.)\n", file=note)
    return titles


def write_all(model: Recommender, out: str, n: int, titles: Mapping[Any, str]) -> None:
    """Write the recommendations for every user, a block of users at a time; the file is there at the end or not at all.

    Predictions are written as they are, not brought into the range of the ratings, so that they tell the best apart.
    """
    if out == "-":
        try:
            _write_csv(model, sys.stdout, n, titles)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note("What was written is not complete.")
            raise
        return
    with archive.replacing(out) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        lines = _write_csv(model, text, n, titles)
        text.flush()
        text.detach()  # the file is closed by who opened it
    print(f"{out}: {count(lines, 'recommendation')} for {count(model.ratings_.shape[0], 'user')}.")


def _write_csv(model: Recommender, file: TextIO, n: int, titles: Mapping[Any, str]) -> int:
    ratings, f = model.ratings_, model.factorization_
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["user", "item", "rating"] + (["title"] if titles else []))
    rows, lines = np.arange(ratings.shape[0]), 0
    for block in best_items(f.W, f.H, rows, n, seen=(ratings.indptr, ratings.indices)):
        table = table_of(ratings, rows, block, model.level_)
        items = table.items.tolist()
        columns: list[Iterable[Any]] = [table.users.tolist(), items, (f"{x:.6g}" for x in table.ratings.tolist())]
        if titles:
            columns.append(titles.get(item, "") for item in items)
        writer.writerows(zip(*columns, strict=True))
        lines += len(table)
    return lines


def show(model: Recommender, user: int | str, n: int, titles: Mapping[Any, str]) -> None:
    """Print what a user thinks best of, and the best of the rest with the rating predicted."""
    ratings = model.ratings_
    row = ratings.user_index(user)
    items, predicted = model.recommend(user, n)
    own = ratings.data[ratings.indptr[row] : ratings.indptr[row + 1]]
    print(f"User {user}: {count(own.size, 'rating')}" + (f", mean {own.mean():.2f}" if own.size else ""))
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
        title = f"  {titles.get(item, '(no title)')}" if titles else ""
        print(shortened(f"  {number}  {item!s:{width}}{title}".rstrip()))


def id_width(items: NDArray[Any]) -> int:
    """Return how long the longest of these ids is."""
    return max(len(str(item)) for item in items.tolist())


def _best_rated(ratings: Ratings, row: int, titles: Mapping[Any, str]) -> Iterable[str]:
    part = slice(ratings.indptr[row], ratings.indptr[row + 1])
    best = np.argsort(-ratings.data[part], kind="stable")[:3]
    for item, rating in zip(ratings.items[ratings.indices[part][best]].tolist(), ratings.data[part][best], strict=True):
        yield f"{titles.get(item, item)} ({rating:g})"


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
