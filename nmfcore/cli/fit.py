"""``nmfcore fit``: read, assess on held-out ratings, fit to all of them, save."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nmfcore.cli import reading
from nmfcore.cli.report import Report
from nmfcore.cli.screen import going_on
from nmfcore.cli.words import count, ending, invoked_as
from nmfcore.loop.stopping import ConvergenceWarning
from nmfcore.machine import files
from nmfcore.machine.escapes import escaped, typed
from nmfcore.machine.streams import is_watched
from nmfcore.ratings import Ratings
from nmfcore.recommender import GlobalMean, Recommender, UserItemMeans, evaluate, mae, rmse
from nmfcore.recommender.fitting import bar_is_possible

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
    files.check_target(arguments.out)  # now, not after the work
    reading.check_apart("--out", arguments.out, arguments.ratings)
    report = Report(arguments.json)
    began = time.perf_counter()
    with going_on(_reading(arguments.ratings)):
        ratings = reading.read(arguments)
    _describe(report, arguments.ratings, ratings, time.perf_counter() - began)
    if taken := reading.columns_taken(arguments):
        report.say(f"  {taken}")
    if arguments.test is not None:
        try:
            train, test = ratings.split(arguments.test, random_state=arguments.seed)
            _assess(report, model, train, test)
            if arguments.evaluate:
                _assess_lists(report, model, test)
        except KeyboardInterrupt as interrupt:
            interrupt.add_note(f"It was the fit to the training part; {arguments.out} was not written.")
            raise
    _fit_all(report, model, ratings, arguments.out, after_test=arguments.test is not None)
    report.close()


def _reading(path: str) -> str:
    """What to tell who waits for a file to be read."""
    with contextlib.suppress(OSError):  # the reader says what is wrong with it
        return f"reading {escaped(os.path.basename(path))}, {os.path.getsize(path) / 1e6:,.0f} MB"
    return f"reading {escaped(os.path.basename(path))}"


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was given; the rest is as Recommender has it."""
    given = {name: getattr(arguments, name) for name in ("rank", "l2", "prior", "offsets", "tol", "max_iter")}
    return {name: value for name, value in given.items() if value is not None}


def _describe(report: Report, path: str, ratings: Ratings, seconds: float) -> None:
    m, n = ratings.shape
    low, high, mean = float(ratings.data.min()), float(ratings.data.max()), ratings.mean()
    counts = {"user": np.diff(ratings.indptr), "item": np.bincount(ratings.indices, minlength=n)}
    (of_user, most_of_user), (of_item, most_of_item) = (
        (float(np.median(each)), int(each.max())) for each in counts.values()
    )
    report.figures["ratings"] = {
        "file": path,
        "seconds": seconds,
        "n_ratings": ratings.nnz,
        "n_items": n,
        "n_users": m,
        "density": ratings.density,
        "min": low,
        "max": high,
        "mean": mean,
        "median_of_user": of_user,
        "most_of_user": most_of_user,
        "median_of_item": of_item,
        "most_of_item": most_of_item,
    }
    size = f"{count(ratings.nnz, 'rating')} of {count(n, 'item')} by {count(m, 'user')}"
    report.say(f"{escaped(path)}: {size}, read in {seconds:.2f} s")
    report.say(f"  {100 * ratings.density:.3g} % of all pairs are rated; from {low:g} to {high:g}, mean {mean:.3f}")
    of_users = f"ratings of a user: median {of_user:g}, most {most_of_user:,}"
    report.say(f"  {of_users}; of an item: median {of_item:g}, most {most_of_item:,}")


def _assess(report: Report, model: Recommender, train: Ratings, test: Ratings) -> None:
    """Fit to the training part; tell errors on the test part beside those of the baselines."""
    held_out = count(test.nnz, "rating")
    report.say(
        f"\nHow good are predictions? Held out: {held_out}, chosen at random; fitted to the other {train.nnz:,}."
    )
    rows: list[tuple[str, Predict, float]] = []
    for name, baseline in (("mean of all ratings", GlobalMean), ("user and item means", UserItemMeans)):
        began = time.perf_counter()
        rows.append((name, baseline.fit(train).predict, time.perf_counter() - began))
    began = time.perf_counter()
    fit(model, train)
    seconds = time.perf_counter() - began
    f, level = model.factorization_, model.level_
    rows.append((f"Recommender, {count(model.rank, 'feature')}", lambda u, i: level + f.predict(u, i), seconds))
    report.say(f"\n  {'prediction':26}   RMSE     MAE   seconds")
    predictions: list[dict[str, Any]] = []
    for name, predict, seconds in rows:
        error = errors(predict, test, model.rating_range_)
        predictions.append({"prediction": name, "rmse": error[0], "mae": error[1], "seconds": seconds})
        report.say(f"  {name:26} {error[0]:6.4f}  {error[1]:6.4f}  {seconds:8.2f}")
    report.figures["test"] = {"n_held_out": test.nnz, "n_fitted": train.nnz, "predictions": predictions}
    report.say("  (predictions brought into the range of the ratings; less is better)")


def _assess_lists(report: Report, model: Recommender, test: Ratings) -> None:
    """Tell how good the recommendations are that the held-out ratings speak about."""
    began = time.perf_counter()
    with going_on("recommending to who has ratings held out"):
        found = evaluate(model, test)
    seconds = time.perf_counter() - began
    figures = {name: getattr(found, name) for name in ("precision", "recall", "ndcg", "map", "coverage")}
    report.figures["recommendations"] = {
        "k": found.k,
        "n_users": found.n_users,
        "threshold": found.threshold,
        **figures,
        "seconds": seconds,
    }
    report.say(f"\nHow good are recommendations? The best {found.k} of all items but those rated in training, for")
    report.say(f"{count(found.n_users, 'user')} with a held-out rating of {found.threshold:.4g} (the mean) or more.\n")
    names = (f"precision@{found.k}", f"recall@{found.k}", f"NDCG@{found.k}", f"MAP@{found.k}", "coverage", "seconds")
    report.say("  " + "".join(f"{name:>14}" for name in names))
    report.say("  " + "".join(f"{value:14.4f}" for value in figures.values()) + f"{seconds:14.2f}")


def errors(predict: Predict, test: Ratings, limits: tuple[float, float]) -> tuple[float, float]:
    """RMSE and MAE on held-out ratings, with predictions clipped to the range of the training ratings."""
    users, items, values = test.triplets()
    predicted = np.clip(predict(users, items), *limits)
    return rmse(values, predicted), mae(values, predicted)


def _fit_all(report: Report, model: Recommender, ratings: Ratings, out: str, *, after_test: bool) -> None:
    included = ", the held-out ones included." if after_test else "."
    report.say(f"\nFitting to all {count(ratings.nnz, 'rating')}{included}")
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
    report.figures["fit"] = {
        "n_ratings": ratings.nnz,
        "rank": model.rank,
        "n_iter": f.n_iter,
        "seconds": f.seconds,
        "kkt": f.kkt,
        "converged": f.converged,
        "status": ending(f.status.value),
        "model": out,
    }
    certificate = f"KKT residual {f.kkt:.1e} (0 = nothing left to improve)"
    report.say(f"  {count(f.n_iter, 'iteration')} in {f.seconds:.2f} s, {certificate}.")
    report.say(f"  {ending(f.status.value)}")
    out, user = typed(out), str(ratings.users[0])
    joint = "=" if user.startswith("-") else " "  # else it would be taken for an option
    report.say(f"\nWritten to {out}. Next:\n  {invoked_as()} recommend {out} --user{joint}{typed(user)}")


def fit(model: Recommender, ratings: Ratings) -> None:
    """Fit; who watches is shown a progress bar if tqdm is there, else a few lines. Nobody else is shown anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the status is printed
        bar = bar_is_possible()
        model.fit(ratings, progress=bar, callback=None if bar or not is_watched() else _report)


def _report(state: Any) -> None:
    if state.n_iter in SHOWN or state.n_iter % 100 == 0:
        print(f"  iteration {state.n_iter:4}: KKT residual {state.kkt:.1e}, {state.seconds:.1f} s", file=sys.stderr)
