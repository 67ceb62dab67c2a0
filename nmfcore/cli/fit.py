"""``nmfcore fit``: read, assess on held-out ratings, fit to all of them, save."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmfcore import archive, validation
from nmfcore.cli import reading
from nmfcore.cli.words import count, ending, invoked_as
from nmfcore.ratings import GlobalMean, Ratings, Recommender, UserItemMeans, evaluate, mae, rmse
from nmfcore.ratings.fitting import bar_is_possible
from nmfcore.stopping import ConvergenceWarning

Predict = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
EVALUATED = 0.1  # held out for --evaluate where --test does not say
SHOWN = (1, 2, 5, 10, 20, 50)  # iterations worth a line where there is no progress bar; then every hundredth


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks."""
    model = Recommender(random_state=arguments.seed, **_settings(arguments))
    if arguments.evaluate and arguments.test is None:
        arguments.test = EVALUATED
    if arguments.test is not None and not 0 < arguments.test < 1:
        raise ValueError(f"--test {arguments.test:g}: the share to hold out is between 0 and 1, such as 0.1")
    validation.generator(arguments.seed)
    archive.check_target(arguments.out)  # now, not after the work
    reading.check_apart("--out", arguments.out, arguments.ratings)
    began = time.perf_counter()
    ratings = reading.read(arguments)
    _describe(arguments.ratings, ratings, time.perf_counter() - began)
    if arguments.test is not None:
        try:
            train, test = ratings.split(arguments.test, random_state=arguments.seed)
            _assess(model, train, test)
            if arguments.evaluate:
                _assess_lists(model, test)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"It was the fit to the training part; {arguments.out} was not written.")
            raise
    _fit_all(model, ratings, arguments.out, after_test=arguments.test is not None)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given; the rest is as Recommender has it."""
    given = {name: getattr(arguments, name) for name in ("rank", "l2", "prior", "offsets", "tol", "max_iter")}
    return {name: value for name, value in given.items() if value is not None}


def _describe(path: str, ratings: Ratings, seconds: float) -> None:
    m, n = ratings.shape
    low, high = ratings.data.min(), ratings.data.max()
    per_user = np.diff(ratings.indptr)
    per_item = np.bincount(ratings.indices, minlength=n)
    size = f"{count(ratings.nnz, 'rating')} of {count(n, 'item')} by {count(m, 'user')}"
    print(f"{path}: {size}, read in {seconds:.2f} s")
    print(
        f"  {100 * ratings.density:.3g} % of all pairs are rated; from {low:g} to {high:g}, mean {ratings.mean():.3f}"
    )
    print(f"  ratings of a user: median {np.median(per_user):g}, most {per_user.max():,}; ", end="")
    print(f"of an item: median {np.median(per_item):g}, most {per_item.max():,}")


def _assess(model: Recommender, train: Ratings, test: Ratings) -> None:
    """Fit to the training part; print errors on the test part beside those of the baselines."""
    held_out = count(test.nnz, "rating")
    print(f"\nHow good are predictions? Held out: {held_out}, chosen at random; fitted to the other {train.nnz:,}.")
    rows: list[tuple[str, Predict, float]] = []
    for name, baseline in (("mean of all ratings", GlobalMean), ("user and item means", UserItemMeans)):
        began = time.perf_counter()
        rows.append((name, baseline.fit(train).predict, time.perf_counter() - began))
    began = time.perf_counter()
    fit(model, train)
    rows.append(
        (f"Recommender, {count(model.rank, 'feature')}", model.factorization_.predict, time.perf_counter() - began)
    )
    print(f"\n  {'prediction':26}   RMSE     MAE   seconds")
    for name, predict, seconds in rows:
        error = errors(predict, test, model.rating_range_)
        print(f"  {name:26} {error[0]:6.4f}  {error[1]:6.4f}  {seconds:8.2f}")
    print("  (predictions brought into the range of the ratings; less is better)")


def _assess_lists(model: Recommender, test: Ratings) -> None:
    """Print how good the recommendations are that the held-out ratings speak about."""
    began = time.perf_counter()
    found = evaluate(model, test)
    print(f"\nHow good are recommendations? The best {found.k} of all items but those rated in training, for")
    print(f"{count(found.n_users, 'user')} with a held-out rating of {found.threshold:.4g} (the mean) or more.\n")
    names = (f"precision@{found.k}", f"recall@{found.k}", f"NDCG@{found.k}", f"MAP@{found.k}", "coverage", "seconds")
    values = (found.precision, found.recall, found.ndcg, found.map, found.coverage)
    print("  " + "".join(f"{name:>14}" for name in names))
    print("  " + "".join(f"{value:14.4f}" for value in values) + f"{time.perf_counter() - began:14.2f}")


def errors(predict: Predict, test: Ratings, limits: tuple[float, float]) -> tuple[float, float]:
    """RMSE and MAE on held-out ratings, with predictions clipped to the range of the training ratings."""
    users, items, values = test.triplets()
    predicted = np.clip(predict(users, items), *limits)
    return rmse(values, predicted), mae(values, predicted)


def _fit_all(model: Recommender, ratings: Ratings, out: str, *, after_test: bool) -> None:
    print(f"\nFitting to all {count(ratings.nnz, 'rating')}" + (", the held-out ones included." if after_test else "."))
    try:
        fit(model, ratings)
    except KeyboardInterrupt as interrupt:
        f = getattr(interrupt, "factorization", None)
        if f is None or f.n_iter == 0:
            interrupt.add_note(f"There was no complete iteration yet; {out} was not written.")
        else:
            model.save(out)
            interrupt.add_note(f"The model of iteration {f.n_iter} was written to {out}.")
        raise
    model.save(out)
    f = model.factorization_
    certificate = f"KKT residual {f.kkt:.1e} (0 = nothing left to improve)"
    print(f"  {count(f.n_iter, 'iteration')} in {f.seconds:.2f} s, {certificate}.")
    print(f"  {ending(f.status.value)}")
    out, user = shlex.quote(out), str(ratings.users[0])
    joint = "=" if user.startswith("-") else " "  # else it would be taken for an option
    print(f"\nWritten to {out}. Next:\n  {invoked_as()} recommend {out} --user{joint}{shlex.quote(user)}")


def fit(model: Recommender, ratings: Ratings) -> None:
    """Fit with a progress bar where a person is watching and tqdm is there, else with a few lines."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the status is printed
        bar = bar_is_possible()
        model.fit(ratings, progress=bar, callback=None if bar else _report)


def _report(state: Any) -> None:
    if state.n_iter in SHOWN or state.n_iter % 100 == 0:
        with contextlib.suppress(BrokenPipeError):  # whoever reads this has had enough; the model is still wanted
            print(f"  iteration {state.n_iter:4}: KKT residual {state.kkt:.1e}, {state.seconds:.1f} s", file=sys.stderr)
