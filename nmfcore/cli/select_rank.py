"""``nmfcore select-rank``: how many features the ratings bear, by the error on held-out ratings."""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from nmfcore.cli import reading
from nmfcore.cli.words import count, ending, invoked_as
from nmfcore.machine import files
from nmfcore.machine.escapes import escaped, typed

if TYPE_CHECKING:
    from nmfcore.model_selection import RankSelection
    from nmfcore.ratings import Ratings

L2 = 0.025  # of a plain factorisation, for each rating, of their mean
AS_FIT = "frobenius"  # the loss of the Recommender
RULES = ("one-standard-error", "paired", "best")
LOSSES = ("frobenius", "kullback-leibler", "itakura-saito")
MOST_RANKS = 10_000  # in a range: a slip of the keyboard would fill the memory
OF_FIT = ("l2", "prior", "offsets", "tol", "max_iter")  # what a Recommender is told

_DESCRIPTION = """Choose the number of latent features by the error on held-out ratings. Every fold of them is held out
from the fits of all ranks. The smallest rank is chosen that is as good as the best within one standard error: of the
best rank's mean error, of the difference between the two from fold to fold (paired), or none at all (best). The model
is that of `fit`, with its penalty, offsets and means of users and items; with another loss than the frobenius loss, a
plain factorisation of the ratings with a penalty."""


def add_to(commands: Any) -> None:
    """Add this command to the parser's."""
    help_ = "choose the number of latent features on held-out ratings"
    parser = commands.add_parser("select-rank", help=help_, description=_DESCRIPTION)
    add = parser.add_argument
    add("ratings", metavar="RATINGS", help="file of ratings; .gz is read too")
    add(
        "--ranks",
        metavar="LIST",
        default="1,2,4,8,16,32",
        help="in rising order, such as 2,4,8 or 1-10 (default: %(default)s)",
    )
    add("--folds", type=int, default=5, metavar="K", help="how often to hold out (default: 5)")
    add("--test", type=float, metavar="SHARE", help="what share of the ratings each time (default: 0.1; at most 1/K)")
    add(
        "--patience",
        type=int,
        default=3,
        metavar="N",
        help="end after so many ranks without a lower error (default: 3)",
    )
    add("--rule", choices=RULES, default=RULES[0], help="which rank is chosen (default: %(default)s)")
    add("--loss", choices=LOSSES, default="frobenius", help="(default: frobenius)")
    add(
        "--l2",
        type=float,
        metavar="X",
        help=f"penalty for each rating (default: that of `fit`; with another --loss {L2} times the mean rating)",
    )
    add(
        "--prior",
        type=float,
        metavar="N",
        help="weight of a user's and an item's mean, in ratings (default: by how many ratings there are)",
    )
    add("--no-offsets", dest="offsets", action="store_false", default=None, help="without offsets of users and items")
    add("--seed", type=int, default=0, metavar="N", help="of the folds and of the starts (default: 0)")
    reading.add_to(parser)
    add("--max-iter", type=int, metavar="N", help="most iterations of a fit (default: 300; with another --loss 200)")
    add(
        "--tol",
        type=float,
        metavar="X",
        help="stop a fit at this KKT residual (default: 0.0125; with another --loss 0.001)",
    )
    add("--plot", metavar="IMAGE", help="draw the errors into this file (.png, .svg, .pdf); needs matplotlib")


def parse_ranks(text: str) -> list[int]:
    """Ranks as they are typed.

    Examples
    --------
    >>> parse_ranks("1-4, 8,16")
    [1, 2, 3, 4, 8, 16]
    """
    ranks: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            more = range(int(first), int(last if dash else first) + 1)
        except ValueError:
            raise ValueError(f"--ranks {text}: {part.strip()!r} is not a rank; type 2,4,8,16 or 1-10") from None
        if more and more[-1] - more[0] >= MOST_RANKS:
            raise ValueError(f"--ranks {text}: {part.strip()} is more than {MOST_RANKS:,} ranks; type fewer")
        ranks += more
    return ranks


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks."""
    from nmfcore.loop.stopping import ConvergenceWarning

    ranks = parse_ranks(arguments.ranks)
    _check(arguments, ranks)
    select = _as_fit_does(arguments) if arguments.loss == AS_FIT else _plainly(arguments)
    if arguments.plot is not None:
        _check_plot(arguments.plot)  # now, not after the work
        reading.check_apart("--plot", arguments.plot, arguments.ratings)
    began = time.perf_counter()
    ratings = reading.read(arguments)
    m, n = ratings.shape
    size = f"{count(ratings.nnz, 'rating')} of {count(n, 'item')} by {count(m, 'user')}"
    print(f"{escaped(arguments.ratings)}: {size}, read in {time.perf_counter() - began:.2f} s\n")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            s = select(
                ratings,
                ranks,
                n_folds=arguments.folds,
                test=arguments.test,
                patience=arguments.patience,
                rule=arguments.rule,
                random_state=arguments.seed,
                callback=_report,
            )
    except KeyboardInterrupt as interrupt:
        done = getattr(interrupt, "selection", None)
        interrupt.add_note("No rank was complete." if done is None else f"Of the ranks so far, {done.best} is chosen.")
        raise
    for warning in caught:
        print(f"nmfcore: {ending(str(warning.message))}", file=sys.stderr)
    _conclude(s, arguments)


def _check(arguments: argparse.Namespace, ranks: list[int]) -> None:
    """Refuse now, and not after a long read, what the choice would refuse."""
    from nmfcore import _arguments
    from nmfcore.holdout import share_of_entries
    from nmfcore.model_selection.path import Search
    from nmfcore.recommender import Recommender

    asked = {"n_folds": arguments.folds, "patience": arguments.patience, "rule": arguments.rule}
    search = Search.checked(ranks, **asked, warm_start=False, callback=None)
    share_of_entries(arguments.test, search.n_folds)
    _arguments.generator(arguments.seed)
    Recommender(**_given(arguments, *OF_FIT))  # a factorisation with another loss has the same rules for l2 and so on


def _as_fit_does(arguments: argparse.Namespace) -> Callable[..., RankSelection]:
    """The choice for the Recommender that ``nmfcore fit`` makes of the same options."""
    from nmfcore.recommender import Recommender
    from nmfcore.recommender.selecting import select_rank_for

    return partial(select_rank_for, Recommender(**_given(arguments, *OF_FIT)))


def _plainly(arguments: argparse.Namespace) -> Callable[..., RankSelection]:
    """The choice for a factorisation with another loss, which has a penalty and nothing else."""
    from nmfcore.model_selection import select_rank

    if _given(arguments, "prior", "offsets"):
        raise ValueError(f"--prior and --no-offsets are for the loss of `fit`, {AS_FIT}; leave them or --loss out")

    def select(ratings: Ratings, ranks: list[int], **options: Any) -> RankSelection:
        asked = {"l2": L2 * ratings.mean(), "loss": arguments.loss} | _given(arguments, "l2", "max_iter", "tol")
        return select_rank(ratings, ranks, missing_values="unstored", l2_scaling="count", **asked, **options)

    return select


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Which of these options were given; the others are as the function that is called has them."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _report(s: RankSelection) -> None:
    """Print the newest row of the table, above it the head where it is the first."""
    lines = s.table().split("\n")
    if len(s.ranks) == 1:
        print(lines[0])
    print(f"   {lines[-1][3:]}", flush=True)


def _conclude(s: RankSelection, arguments: argparse.Namespace) -> None:
    print(f"\nRank {s.best}: {s.reason}.")
    if s.settings["loss"] == "frobenius":
        print(f"RMSE on held-out ratings at this rank: {s.mean[s.ranks == s.best][0] ** 0.5:.4f}")
    if arguments.plot is not None:
        _draw(s, arguments.plot)
        print(f"Drawn into {escaped(arguments.plot)}.")
    if s.settings["loss"] != AS_FIT:
        print(
            f"\nThis was a plain factorisation of the ratings. `fit` has the {AS_FIT} loss and draws little-known users"
            "\nand items to the means: it may bear another rank, which `select-rank` without --loss says."
        )
    print(f"\nNext:\n  {_next(s, arguments)}")


def _next(s: RankSelection, arguments: argparse.Namespace) -> str:
    """The command that fits this rank to all ratings, with what was given here."""
    same = {"l2": "--l2", "prior": "--prior", "tol": "--tol", "max_iter": "--max-iter"}
    given = _given(arguments, *same) if s.settings["loss"] == AS_FIT else {}
    words = [f"{same[name]} {value}" for name, value in given.items()]
    words += ["--no-offsets"] if arguments.offsets is False else []
    words += reading.given(arguments)
    options = " ".join([f"--rank {s.best}", *words, "--test 0.1 --out model.npz"])
    return f"{invoked_as()} fit {typed(arguments.ratings)} {options}"


def _draw(s: RankSelection, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")  # without pyplot: no window, whatever the backend
    s.plot(figure.subplots())
    kind = os.path.splitext(path)[1][1:].lower()
    files.replace(path, lambda file: figure.savefig(file, format=kind))


def _check_plot(path: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('--plot needs matplotlib: pip install "nmfcore[plot]"') from error
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if os.path.splitext(path)[1][1:].lower() not in kinds:
        raise ValueError(f"--plot {path}: the name must end in the kind of image, one of .{', .'.join(sorted(kinds))}")
    files.check_target(path)
