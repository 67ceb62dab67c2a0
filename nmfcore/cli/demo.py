"""``nmfcore demo``: what the factors are, what a zero means, and what that is worth on 100,000 ratings."""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
from numpy.typing import NDArray

from nmfcore import datasets
from nmfcore.api.factorize import factorize
from nmfcore.api.result import Factorization
from nmfcore.cli.fit import Predict, errors
from nmfcore.cli.screen import Unread
from nmfcore.cli.words import invoked_as
from nmfcore.datasets import MovieTable
from nmfcore.ratings import Ratings
from nmfcore.recommender import GlobalMean, Recommender, UserItemMeans
from nmfcore.solvers import HALS

Matrix = NDArray[np.float64]

RANK, SEED, L2 = 2, 42, 0.1
TEXTBOOK_ITERATIONS = 20  # where scikit-learn's NMF stops on this table; the same factors, to the last digit shown
PLANTED_RANK = 20
PLANTED_L2 = 6  # on these hidden ratings the best of 1, 3, 6, 10 and 15
NOISE_FLOOR = 0.78  # RMSE of the expected rating on the hidden ones, as computed in tests/test_datasets.py
GAP = "   |   "


def run(arguments: argparse.Namespace) -> None:
    """Both parts."""
    part_one()
    part_two()


def part_one() -> None:
    """The movie table, both readings of a zero side by side."""
    table = datasets.movie_table()
    X = table.ratings
    print(_title("Part 1: five users, four movies"))
    print(table)
    print(
        "\nA number is a rating of 1 to 5. A 0 is where a user has not rated a movie. We look for two"
        f"\nnon-negative factors, X ≈ W H: W says how much each user has of {RANK} latent features, H how much"
        "\neach movie has of them. Multiplied, they give a rating for every user and movie.\n"
    )
    with _compiling():
        textbook = HALS(sweeps=1, extrapolate=False)
        a = factorize(X, RANK, solver=textbook, init="random", random_state=SEED, tol=0, max_iter=TEXTBOOK_ITERATIONS)
        b = factorize(X, RANK, missing_values=0, l2=L2, random_state=SEED, tol=1e-8, max_iter=10_000)
    print("from nmfcore import datasets, factorize, solvers; X = datasets.movie_table().ratings")
    print("A. Every 0 is taken for a rating (textbook HALS)")
    print(f"   factorize(X, {RANK}, solver=solvers.HALS(sweeps=1, extrapolate=False),")
    print(f"             init='random', random_state={SEED}, tol=0, max_iter={TEXTBOOK_ITERATIONS})")
    print("B. Every 0 is taken for unknown")
    print(f"   factorize(X, {RANK}, missing_values=0, l2={L2}, random_state={SEED}, tol=1e-8, max_iter=10_000)\n")
    print(_beside(["A. Zeros as ratings"], ["B. Zeros as unknown"]))
    for left, right in zip(_sections(table, a), _sections(table, b), strict=True):
        print()
        print(_beside(left, right))
    print(_beside([], ["  (not what B minimises)"]))
    highest = b.reconstruct().max()
    print(
        "\n* marks a cell without a rating. A was told that these are ratings of 0, and has learnt to predict"
        "\nlittle there. B was told that they are unknown: its numbers there are predictions, sums of what the"
        f"\nuser and the movie have of each feature. (One is {highest:.2f}: no model is told that 5 is the most.)"
        "\nThe penalty l2 keeps factors small that few ratings hold; it is why B does not fit its ratings"
        "\nexactly. Features have no names: what they weigh on is all that is known of them."
        "\n\nThirteen ratings are too few to predict from: leave them out one at a time, and the mean of the"
        "\nothers comes closer to them than A or B does. The table shows what the two readings mean; part 2"
        "\nmeasures what they are worth."
    )
    print("\nWhat each would recommend, the unrated movie with its highest prediction:\n")
    print(_beside(_picks(table, a), _picks(table, b)))


def _sections(table: MovieTable, f: Factorization) -> Iterator[list[str]]:
    """W; H; what the features weigh on; the predictions; the errors."""
    yield ["W", *_grid(table.users, [f"feature {t + 1}" for t in range(f.rank)], f.W)]
    yield ["H", *_grid([f"feature {t + 1}" for t in range(f.rank)], table.movies, f.H)]
    yield ["Each feature's weight, by movie", *_weights(table.movies, f.H)]
    X, product = table.ratings, f.reconstruct()
    yield ["Predicted ratings, W H", *_grid(table.users, table.movies, product, X == 0, digits=2)]
    rated = (X - product)[X > 0]
    yield [
        "Mean squared error",
        f"  on the {rated.size} rated cells         {np.mean(rated**2):.6f}",
        f"  on all {X.size} cells, zeros as 0   {np.mean((X - product) ** 2):.6f}",
    ]


def _grid(
    rows: list[str] | tuple[str, ...],
    columns: list[str] | tuple[str, ...],
    values: Matrix,
    marked: NDArray[np.bool_] | None = None,
    digits: int = 4,
) -> list[str]:
    label = max(map(len, rows))
    width = max(map(len, columns)) + 1
    lines = [" " * label + "".join(f"{column:>{width}} " for column in columns).rstrip()]
    for i, row in enumerate(rows):
        cells = (
            f"{values[i, j]:{width}.{digits}f}" + ("*" if marked is not None and marked[i, j] else " ")
            for j in range(len(columns))
        )
        lines.append(f"{row:{label}}" + "".join(cells).rstrip())
    return lines


def _weights(movies: tuple[str, ...], H: Matrix) -> list[str]:
    """Every row of H in per cent of its sum, the heaviest first."""
    lines = []
    for t, row in enumerate(H):
        share = 100 * row / row.sum() if row.sum() > 0 else row
        parts = (f"{movies[j]} {share[j]:.0f}%" for j in np.argsort(-share, kind="stable") if share[j] >= 0.5)
        lines.append(f"{t + 1}: {', '.join(parts)}")
    return lines


def _picks(table: MovieTable, f: Factorization) -> list[str]:
    lines, product = [], f.reconstruct()
    for i, user in enumerate(table.users):
        unrated = np.flatnonzero(table.ratings[i] == 0)
        if unrated.size:
            best = unrated[np.argmax(product[i, unrated])]
            lines.append(f"{user}: {table.movies[best]}, predicted {product[i, best]:.2f}")
        else:
            lines.append(f"{user}: has rated everything")
    return lines


def part_two() -> None:
    """Planted ratings: held-out errors of two baselines, of both readings and of the recommender."""
    ratings = datasets.planted_ratings()
    train, test = ratings.split(0.1, random_state=0)
    m, n = ratings.shape
    print("\n" + _title("Part 2: does it predict? 100,000 planted ratings"))
    print(
        f"{n:,} items and {m} users as in MovieLens-100K: {100 * ratings.density:.1f} % of all pairs are rated; a few"
        "\nusers and items have many ratings, most have few. The ratings were made from known non-negative"
        "\nfactors, offsets and noise. Of ten ratings one is hidden, at random; the others have to predict it.\n"
    )
    with _compiling():
        factorize(train, 1, max_iter=1, tol=0, random_state=0)
        factorize(train, 1, missing_values="unstored", max_iter=1, tol=0, random_state=0)
        Recommender(rank=1, max_iter=1, tol=0).fit(train)
    print(f"{'':33}{'error on hidden ratings':>23}")
    print(f"{'prediction':34}{'RMSE':>9}{'MAE':>9}{'seconds':>10}")
    limits = float(train.data.min()), float(train.data.max())
    for name, predict, seconds in _contestants(train):
        rmse, mae = errors(predict, test, limits)
        print(f"{name:34}{rmse:9.4f}{mae:9.4f}{seconds:10.2f}")
    print(
        "\nAn error is in stars; predictions are brought into 1 to 5. Who knew the planted factors would still"
        f"\nbe off by {NOISE_FLOOR}, because of the noise. With zeros as ratings, NMF learns above all who has rated"
        "\nwhat: right for counts and images, where a 0 is a 0, and wrong here.\n"
        "\nWith zeros as unknown, plain NMF is far ahead of that, and yet does not reach the means, although"
        "\nits l2 is the best of 1, 3, 6, 10 and 15 on these very hidden ratings, which flatters it:"
        f'\n  factorize(train, {PLANTED_RANK}, missing_values="unstored", l2={PLANTED_L2}, random_state=0)'
        "\n\nThe Recommender is that NMF with two changes: l2 counts once for each rating, and an average user"
        "\nand an average item are added, at the means; so what is little known goes there instead of to 0."
        f"\n(Recommender(rank={PLANTED_RANK}, random_state=0).fit(train); l2 is the default, and users and items"
        "\nhave offsets too.)\n"
        f"\nNext, your own file:\n  {invoked_as()} fit RATINGS --test 0.1 --out model.npz"
        f"\n  {invoked_as()} recommend model.npz --user ID"
    )


def _contestants(train: Ratings) -> Iterator[tuple[str, Predict, float]]:
    began = time.perf_counter()
    mean = GlobalMean.fit(train)
    yield "mean of all ratings", mean.predict, time.perf_counter() - began
    began = time.perf_counter()
    means = UserItemMeans.fit(train)
    yield "user and item means", means.predict, time.perf_counter() - began
    began = time.perf_counter()
    f = factorize(train, PLANTED_RANK, random_state=0)
    yield f"NMF, zeros as ratings, rank {f.rank}", f.predict, time.perf_counter() - began
    began = time.perf_counter()
    f = factorize(train, PLANTED_RANK, missing_values="unstored", l2=PLANTED_L2, random_state=0)
    yield f"NMF, zeros as unknown, rank {f.rank}", f.predict, time.perf_counter() - began
    began = time.perf_counter()
    model = Recommender(rank=PLANTED_RANK, random_state=0).fit(train)
    yield "Recommender (NMF around the means)", model.factorization_.predict, time.perf_counter() - began


def _title(text: str) -> str:
    return f"{text}\n{'=' * len(text)}\n"


def _beside(left: list[str], right: list[str]) -> str:
    lines = max(len(left), len(right))
    left, right = (side + [""] * (lines - len(side)) for side in (left, right))
    return "\n".join((f"{a:42}{GAP}{b}").rstrip() for a, b in zip(left, right, strict=True))


@contextmanager
def _compiling() -> Iterator[None]:
    """Say so, if what follows takes so long that it must be Numba at work for the first time on this machine."""
    hint = "(compiling for this machine; only the first run has to)\n"
    timer = threading.Timer(1.0, _show, args=[hint])
    with suppress(RuntimeError):  # as many threads as the system allows: nothing is said
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _show(hint: str) -> None:
    with suppress(Unread):  # who prints next will meet it
        print(hint, flush=True)
