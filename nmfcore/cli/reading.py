"""What the commands that read a file of ratings ask alike about it."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from nmfcore.machine.escapes import typed

if TYPE_CHECKING:
    from nmfcore.ratings import Ratings


def add_to(parser: argparse.ArgumentParser) -> None:
    """Add the options of a file of ratings to those of a command."""
    add = parser.add_argument
    add(
        "--duplicates",
        choices=("error", "last", "mean"),
        default="error",
        help="where a user rated an item more than once (default: error)",
    )
    add("--sep", metavar="TEXT", help="what separates the fields of the file (default: found from its first lines)")
    add(
        "--columns",
        metavar="USER,ITEM,RATING",
        help="names of these columns in the header, or their numbers from 1; needed where the header has no such names "
        "as userId, movieId, rating",
    )
    add(
        "--not-rated",
        metavar="VALUE",
        type=float,
        action="append",
        help="a value that stands for 'not rated', such as -1 or 99; may be given several times",
    )


def given(arguments: argparse.Namespace) -> list[str]:
    """Return these options as they were given, for a command that reads the same file."""
    duplicates = None if arguments.duplicates == "error" else arguments.duplicates
    asked = {"--duplicates": duplicates, "--sep": arguments.sep, "--columns": arguments.columns}
    options = [f"{name}={typed(value)}" for name, value in asked.items() if value is not None]
    return options + [f"--not-rated={value:g}" for value in arguments.not_rated or ()]


def read(arguments: argparse.Namespace) -> Ratings:
    """The ratings in the file that the command line names."""
    from nmfcore.ratings import Ratings

    if arguments.columns is not None:
        names = arguments.columns.split(",")
        if len(names) != 3 or not all(name.strip() for name in names):
            raise ValueError(
                f"--columns {arguments.columns}: give three names or numbers, as in --columns reader,book,stars"
            )
    return Ratings.from_file(
        arguments.ratings,
        columns=arguments.columns,
        sep=arguments.sep,
        not_rated=arguments.not_rated,
        duplicates=arguments.duplicates,
    )


def columns_taken(arguments: argparse.Namespace) -> str | None:
    """Which columns of a file without header are read, where they were not told."""
    from nmfcore.ratings.reader import columns_without_header

    if arguments.columns is not None:
        return None
    numbers = columns_without_header(arguments.ratings, arguments.sep, (None, None, None))
    return (
        None if numbers is None else "without header: user, item and rating are columns {}, {} and {}".format(*numbers)
    )


def check_apart(option: str, path: str, *read: str | None) -> None:
    """Refuse to write where one of the files is that are read: a slip of the keyboard would cost the only copy."""
    for other in read:
        if other is not None and os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other):
            raise ValueError(f"{option} {path}: this file is read here, and would be lost. Choose another name.")
