"""The command line, ``nmfcore`` or ``python -m nmfcore``: demo, fit, recommend, explain, similar, select-rank."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NoReturn

from nmfcore._version import __version__
from nmfcore.cli import reading, screen, select_rank
from nmfcore.cli.words import as_options, invoked_as
from nmfcore.machine.escapes import escaped

# What bad input, numbers too large, a full disk or a missing package raise. Anything else is a fault of this program,
# and shows itself.
_INPUT_ERRORS = (ValueError, KeyError, OSError, ImportError, MemoryError, FloatingPointError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        0 if all went well. 1 if something could not be printed because the standard output or error failed,
        as on a full disk; a file that the command writes is written all the same. (A stream that was closed from the
        beginning, and a reader that leaves early, are no failure.) 2 for bad input, or none at all: then the help is
        shown. 130 after Ctrl-C. ``--help``, ``--version`` and unknown options raise SystemExit, as argparse does.
    """
    with screen.screens() as (output, errors):
        try:
            return _ended(*_main(argv, output), output, errors)
        except SystemExit as leaving:
            leaving.code = leaving.code or _ended(0, None, output, errors)
            raise


def _main(argv: Sequence[str] | None, output: screen.Screen) -> tuple[int, str | None]:
    """Run the command line; return its status and the file that it is there to write."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2, None
    written = _written(arguments)
    output.patient = written is not None
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show_warning, vars(arguments))
        return _run(arguments), written


def _ended(status: int, written: str | None, output: screen.Screen, errors: screen.Screen) -> int:
    """Say, where that can be said, that the output could not be printed; return the status with that in it."""
    lost = output.loss()
    if lost is not None:
        done = f" {written} was written." if written is not None and status == 0 else ""
        print(f"nmfcore: could not print to the standard output: {lost}.{done}", file=errors)
    errors.flush()
    return status or int(bool(output.failed or errors.failed))


def _show_warning(options: Collection[str], message: Warning | str, *_: object) -> None:
    """Print what the library warns of as it prints errors, in a line and with options in place of arguments."""
    print(f"nmfcore: {escaped(as_options(str(message), options))}", file=sys.stderr)


def _run(arguments: argparse.Namespace) -> int:
    try:
        _command(arguments.command)(arguments)
        sys.stdout.flush()
    except screen.Unread:  # the disk is full, or the reader has had enough: `nmfcore recommend ... | head`
        pass
    except KeyboardInterrupt as interrupt:
        notes = getattr(interrupt, "__notes__", None) or ["Nothing was written."]
        print(f"\nnmfcore: interrupted. {escaped(notes[-1])}", file=sys.stderr)
        return 130
    except _INPUT_ERRORS as error:
        print(f"nmfcore: error: {escaped(as_options(_one_line(error), vars(arguments)))}", file=sys.stderr)
        return 2
    return 0


def _written(arguments: argparse.Namespace) -> str | None:
    """Return the file that a command writes, for which it has work left when nobody reads what it prints."""
    files = (getattr(arguments, name, None) for name in ("out", "plot"))
    return next((file for file in files if file not in (None, "-")), None)


def _command(name: str) -> Callable[[argparse.Namespace], None]:
    if name == "demo":
        from nmfcore.cli.demo import run
    elif name == "fit":
        from nmfcore.cli.fit import run
    elif name == "explain":
        from nmfcore.cli.explain import run
    elif name == "similar":
        from nmfcore.cli.explain import run_similar as run
    elif name == "select-rank":
        from nmfcore.cli.select_rank import run
    else:
        from nmfcore.cli.recommend import run
    return run


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    text = " ".join(str(error).split())
    return text or ("out of memory" if isinstance(error, MemoryError) else type(error).__name__)


class _Parser(argparse.ArgumentParser):
    """A parser that shows words of the command line escaped: names of files may come from anywhere."""

    def error(self, message: str) -> NoReturn:
        super().error(escaped(message))


def _parser() -> argparse.ArgumentParser:
    command = invoked_as().replace("%", "%%")  # argparse formats its texts
    parser = _Parser(
        prog="nmfcore",
        description="Non-negative matrix factorisation of ratings: fit, predict, recommend.",
        epilog=f"Start with `{command} demo`. `{command} COMMAND --help` has the options of a command.",
    )
    parser.add_argument("--version", action="version", version=f"nmfcore {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser(
        "demo",
        help="show on a small table, then on 100,000 planted ratings, what this does",
        description="Factorise a table of five users and four movies in two ways, then 100,000 planted ratings.",
    )
    _add_fit(commands.add_parser("fit", help="fit a model to a file of ratings", description=_FIT))
    _add_recommend(commands.add_parser("recommend", help="recommend items with a fitted model", description=_RECOMMEND))
    _add_explain(commands.add_parser("explain", help="show what a predicted rating is made of", description=_EXPLAIN))
    _add_similar(commands.add_parser("similar", help="show items that are like another", description=_SIMILAR))
    select_rank.add_to(commands)
    return parser


_FIT = """Fit a model to a file of ratings and write it to a file. The file has a user, an item and a rating on each
line: MovieLens' u.data, ratings.dat and ratings.csv as they come, or any delimited text."""
_RECOMMEND = """Show the items that a user has not rated, highest predicted rating first. Without --user: for the
three most active users. With --all: for every user, as a file of comma-separated values with the columns user, item,
rating (and title); ratings as predicted there, brought into the range of the ratings here."""
_EXPLAIN = """Show the parts that add up to a predicted rating, and which of the user's own ratings they come from."""
_SIMILAR = """Show the items that the same users like: by the cosine of their features, 1 for the same direction."""


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("ratings", metavar="RATINGS", help="file of ratings; .gz is read too")
    add("--out", metavar="MODEL", required=True, help="where to write the model (.npz)")
    add("--rank", type=int, metavar="R", help="number of latent features (default: 32)")
    add(
        "--test",
        type=float,
        metavar="SHARE",
        help="first hold out this share, such as 0.1, and measure the error on it",
    )
    add(
        "--evaluate",
        action="store_true",
        help="also measure what is recommended, by precision, recall, NDCG, MAP and coverage of the best 10 on the "
        "share held out (--test; 0.1 if not given)",
    )
    add("--l2", type=float, metavar="X", help="penalty for each rating (default: 0.0185 times the mean rating)")
    add(
        "--prior",
        type=float,
        metavar="N",
        help="weight of a user's and an item's mean, in ratings (default: by how many ratings there are)",
    )
    add("--no-offsets", dest="offsets", action="store_false", default=None, help="without offsets of users and items")
    add("--seed", type=int, default=0, metavar="N", help="seed of the split and of the start (default: 0)")
    reading.add_to(parser)
    add("--max-iter", type=int, metavar="N", help="most iterations (default: 300)")
    add("--tol", type=float, metavar="X", help="stop at this KKT residual (default: 0.0125)")
    add("--json", action="store_true", help="print every figure, at the end, as JSON instead of text")


def _add_recommend(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `nmfcore fit` wrote")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--user", metavar="ID", help="a user id, as in the file of ratings")
    who.add_argument("--all", action="store_true", help="every user, into a file")
    add("--out", metavar="FILE", help="where to write them with --all, at once or not at all; - for the screen")
    add(
        "--raw",
        action="store_true",
        help="write ids and titles with --all as they are, also those that a spreadsheet would take for formulas; "
        "without it, texts that begin with = + - @ begin with a ' before it",
    )
    add("-n", type=int, metavar="N", help="how many items (default: 10; without --user and --all: 5)")
    _add_titles(parser)


def _add_explain(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `nmfcore fit` wrote")
    add("--user", metavar="ID", required=True, help="a user id, as in the file of ratings")
    add("--item", metavar="ID", required=True, help="an item id, as in the file of ratings")
    add("-n", type=int, default=5, metavar="N", help="how many of the user's ratings to list (default: 5)")
    _add_titles(parser)


def _add_similar(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="what `nmfcore fit` wrote")
    add("--item", metavar="ID", required=True, help="an item id, as in the file of ratings")
    add("-n", type=int, default=10, metavar="N", help="how many items (default: 10)")
    _add_titles(parser)


def _add_titles(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--titles", metavar="FILE", help="file of the items' titles, such as MovieLens' movies.csv, u.item, movies.dat"
    )


if __name__ == "__main__":
    sys.exit(main())
