"""The rank for a :class:`~nmfcore.ratings.Recommender`, by the error on held-out ratings of its own fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.api.arguments import check_memory
from nmfcore.api.result import Factorization
from nmfcore.holdout import Entries, Measure, hold_out
from nmfcore.model_selection.path import Path, Search, generators
from nmfcore.model_selection.selection import RankSelection
from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender.baselines import GlobalMean
from nmfcore.recommender.fitting import Task
from nmfcore.recommender.level import level_of, lowered
from nmfcore.recommender.model import own_part
from nmfcore.recommender.posing import LEVEL
from nmfcore.recommender.recommender import Recommender


def select_rank_for(
    model: Recommender,
    ratings: Ratings,
    ranks: Iterable[int],
    *,
    n_folds: int = 5,
    test: float | None = None,
    patience: int | None = 3,
    rule: str = "one-standard-error",
    random_state: object = None,
    callback: Callable[[RankSelection], object] | None = None,
    n_threads: int | None = None,
) -> RankSelection:
    """Choose the rank of a recommender by the error on held-out ratings.

    As :func:`nmfcore.select_rank`, but each fit is what ``model.fit`` would make of the ratings that are left: with its
    penalty and offsets, an average user and item at the means of these ratings, and from scratch. (A path from rank to
    rank took twice the iterations on MovieLens-100K, and foretold no better.)

    Parameters
    ----------
    model : Recommender
        Its ``l2``, ``prior``, ``offsets``, ``tol`` and ``max_iter`` count; its ``rank`` and ``random_state`` do not. It
        is not fitted, and stays as it is.
    ratings : Ratings
        Of which some are held out in each fold.
    ranks, n_folds, test, patience, rule, random_state, callback, n_threads
        As in :func:`nmfcore.select_rank`.

    Returns
    -------
    RankSelection
        The errors are of the ratings themselves, on both sides; what the average user and item add is left out.

    Raises
    ------
    TypeError, ValueError
        If an argument breaks a rule, or there are too few ratings to hold any out.
    KeyboardInterrupt
        On Ctrl-C, with the selection from the ranks that were complete as ``exc.selection`` (None before there is one).

    Warns
    -----
    ConvergenceWarning
        Once, with how many of the fits ended above ``tol``.

    Examples
    --------
    >>> from nmfcore.datasets import planted_ratings
    >>> ratings = planted_ratings(100, 80, 3000)
    >>> s = select_rank_for(Recommender(), ratings, [1, 2, 4], n_folds=3, random_state=0)
    >>> s.errors.shape, bool(s.mean.min() ** 0.5 < ratings.data.std())
    ((3, 3), True)
    """
    search = Search.checked(ranks, n_folds=n_folds, patience=patience, rule=rule, warm_start=False, callback=callback)
    mask_rng, *fold_rngs = generators(random_state, 1 + search.n_folds)
    m, n = ratings.shape
    check_memory(search.certain, (m + 1, n + 1), np.dtype(np.float32), 2.0)
    which: dict[str, Any] = {"missing_values": "unstored", "mask": None, "weights": None, "dtype": None}
    ratings = lowered(ratings, level_of(ratings))
    held_out = hold_out(ratings, kind="entries", n_folds=search.n_folds, test=test, rng=mask_rng, **which)
    assert isinstance(held_out, Entries)
    return search.along(Path(Posed(model, ratings, held_out), fold_rngs, {}, 2.0, n_threads), "frobenius")


@dataclass(frozen=True)
class Posed:
    """Held-out ratings; the others are posed as a recommender poses them, who knows of no more than these."""

    model: Recommender
    ratings: Ratings
    entries: Entries
    mean: float = LEVEL
    shift: int = 0

    @property
    def values(self) -> Array:
        """All ratings."""
        return self.entries.values

    @property
    def test(self) -> float:
        """The share of them that is held out."""
        return self.entries.test

    @property
    def kind(self) -> str:
        """What is held out, in a word."""
        return self.entries.kind

    def training(self, fold: int) -> dict[str, Any]:
        """The problem to solve, as arguments of :func:`nmfcore.factorize`."""
        model = self.model
        problem = Task.of(self._train(fold), model.l2, model.prior, level=0.0).problem()
        return problem | {"offsets": model.offsets, "tol": model.tol, "max_iter": model.max_iter}

    def training_error(self, fold: int, f: Factorization, measure: Measure) -> float:
        """The mean error of ``f``, the solution, on the ratings that were not held out."""
        places = np.flatnonzero(self.entries.kept(fold))
        return self.entries.mean_error(places, self._own_part(fold, f), measure, np.inf)

    def error(self, fold: int, f: Factorization, measure: Measure, n_threads: int | None) -> float:
        """The mean error of ``f`` on the ratings that were."""
        return self.entries.error(fold, self._own_part(fold, f), measure, n_threads)

    def _own_part(self, fold: int, f: Factorization) -> Factorization:
        return own_part(f, GlobalMean.fit(self._train(fold)))

    def _train(self, fold: int) -> Ratings:
        return self.ratings._subset(self.entries.kept(fold))
