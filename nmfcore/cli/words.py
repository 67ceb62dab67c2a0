"""What all commands say alike: numbers of things, and commands as the caller would type them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection

# Options that are called otherwise than the argument of the library.
RENAMED = {"max_iter": "max-iter", "n_folds": "folds", "random_state": "seed"}


def as_options(message: str, names: Collection[str]) -> str:
    """Return an error of the library with the options of a command, whose names these are, in place of arguments.

    Examples
    --------
    >>> as_options("random_state=-1 must be 0 or more.", {"rank", "seed"})
    '--seed -1 must be 0 or more.'
    >>> as_options("pass sep= or look at the file", {"sep"}), as_options("pass sep= or look at the file", {"rank"})
    ('pass --sep or look at the file', 'pass sep= or look at the file')
    """
    if "columns" in names:
        message = re.sub(r"columns=\([^)]*\), on the command line (?=--columns)", "", message)
        message = re.sub(r"not_rated=\S+, on the command line (?=--not-rated)", "", message)
    for name in sorted({*names, *RENAMED} - {"command"}):
        option = RENAMED.get(name, name)
        if option.replace("-", "_") in names:
            message = re.sub(rf"(?<![\w'\"-]){name}= ?(?=\S)", f"{'-' if len(option) == 1 else '--'}{option} ", message)
    return message


def ending(sentence: str) -> str:
    """Return what the library says of how a fit ended, with options in place of arguments.

    Examples
    --------
    >>> ending("A KKT residual above tol=0.1; raise max_iter or tol.")
    'A KKT residual above --tol 0.1; raise --max-iter or --tol.'
    """
    return as_options(sentence, ("max_iter", "tol")).replace(" tol", " --tol").replace("max_iter", "--max-iter")


def count(number: int, noun: str) -> str:
    """Return a number and its noun.

    Examples
    --------
    >>> count(1, "rating"), count(1200, "rating")
    ('1 rating', '1,200 ratings')
    """
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def invoked_as() -> str:
    """Return what to type for this program: ``nmfcore`` if the shell finds it, else as it was called this time."""
    called = sys.argv[0]
    if os.path.splitext(os.path.basename(called))[0] == "nmfcore" and os.path.isfile(called):
        return _as_typed(called)
    return f"{_as_typed(sys.executable)} -m nmfcore"


def _as_typed(path: str) -> str:
    """The shortest of a program's name, if the shell finds this one by it, its relative and its absolute path."""
    path, name = os.path.abspath(path), os.path.basename(path)
    found = shutil.which(name)
    if found is not None and os.path.isabs(found) and os.path.abspath(found) == path:
        return shlex.quote(name)
    try:
        near = os.path.relpath(path)
    except ValueError:  # another drive
        near = path
    if os.sep not in near:
        near = os.path.join(os.curdir, near)  # without it the shell would look elsewhere
    return shlex.quote(min(near, path, key=len))
