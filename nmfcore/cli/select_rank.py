"""``nmfcore select-rank``: how many features the ratings bear, by the error on held-out ratings."""

from __future__ import annotations

import argparse
import errno
import os
import shlex
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

from nmfcore.cli.words import count, invoked_as

if TYPE_CHECKING:
    from nmfcore.rank import RankSelection
    from nmfcore.ratings import Ratings

L2 = 0.025  # for each rating, of their mean
RULES = ("one-standard-error", "paired", "best")
LOSSES = ("frobenius", "kullback-leibler", "itakura-saito")

_DESCRIPTION = """Choose the number of latent features by the error on held-out ratings. Every fold of them is held out
from the fits of all ranks. The smallest rank is chosen that is as good as the best within one standard error: of the
best rank's mean error, of the difference between the two from fold to fold (paired), or none at all (best). The model
is a plain factorisation of the ratings, with an l2 penalty on the features of each user and item."""


def add_to(commands: Any) -> None:
    """Add this command to the parser's."""
    help_ = "choose the number of latent features on held-out ratings"
    add = commands.add_parser("select-rank", help=help_, description=_DESCRIPTION).add_argument
    add("ratings", metavar="FILE", help="file of ratings; .gz is read too")
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
    add("--l2", type=float, metavar="X", help=f"penalty for each rating (default: {L2} times the mean rating)")
    add("--seed", type=int, default=0, metavar="N", help="of the folds and of the starts (default: 0)")
    add(
        "--duplicates",
        choices=("error", "last", "mean"),
        default="error",
        help="where a user rated an item more than once (default: error)",
    )
    add("--max-iter", type=int, metavar="N", help="most iterations of a fit (default: 200)")
    add("--tol", type=float, metavar="X", help="stop a fit at this KKT residual (default: 0.0002)")
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
            ranks += range(int(first), int(last) + 1) if dash else [int(first)]
        except ValueError:
            raise ValueError(f"--ranks {text}: {part.strip()!r} is not a rank; type 2,4,8,16 or 1-10") from None
    return ranks


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks."""
    from nmfcore.rank import select_rank
    from nmfcore.ratings import Ratings
    from nmfcore.stopping import ConvergenceWarning

    ranks = parse_ranks(arguments.ranks)
    if arguments.plot is not None:
        _check_plot(arguments.plot)  # now, not after the work
    began = time.perf_counter()
    ratings = Ratings.from_csv(arguments.ratings, duplicates=arguments.duplicates)
    m, n = ratings.shape
    size = f"{count(ratings.nnz, 'rating')} of {count(n, 'item')} by {count(m, 'user')}"
    print(f"{arguments.ratings}: {size}, read in {time.perf_counter() - began:.2f} s\n")
    given = {name: getattr(arguments, name) for name in ("max_iter", "tol")}
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            s = select_rank(
                ratings,
                ranks,
                n_folds=arguments.folds,
                test=arguments.test,
                patience=arguments.patience,
                rule=arguments.rule,
                random_state=arguments.seed,
                loss=arguments.loss,
                missing_values="unstored",
                l2=_penalties(ratings, arguments.l2),
                callback=_report,
                **{name: value for name, value in given.items() if value is not None},
            )
    except KeyboardInterrupt as interrupt:
        done = getattr(interrupt, "selection", None)
        interrupt.add_note("No rank was complete." if done is None else f"Of the ranks so far, {done.best} is chosen.")
        raise
    for warning in caught:
        print(f"nmfcore: {warning.message}", file=sys.stderr)
    _conclude(s, arguments)


def _penalties(ratings: Ratings, l2: float | None) -> tuple[float, float]:
    """For the rows of W and of H: so much for each rating that the average user, and the average item, has."""
    each = L2 * ratings.mean() if l2 is None else l2
    return each * ratings.nnz / ratings.shape[0], each * ratings.nnz / ratings.shape[1]


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
        print(f"Drawn into {arguments.plot}.")
    print(
        "\nThis was a plain factorisation of the ratings. `fit` draws little-known users and items to the means and"
        "\nmay bear a higher rank: see its error with --test."
    )
    print(f"\nNext:\n  {invoked_as()} fit {shlex.quote(arguments.ratings)} --rank {s.best} --test 0.1 --out model.npz")


def _draw(s: RankSelection, path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")  # without pyplot: no window, whatever the backend
    s.plot(figure.subplots())
    figure.savefig(path)


def _check_plot(path: str) -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError('--plot needs matplotlib: pip install "nmfcore[plot]"') from error
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if os.path.splitext(path)[1][1:].lower() not in kinds:
        raise ValueError(f"--plot {path}: the name must end in the kind of image, one of .{', .'.join(sorted(kinds))}")
    folder = os.path.dirname(os.path.realpath(path))
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, "there is no such folder to draw into", folder)
