"""The path from rank to rank, on all folds at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, Self

import numpy as np

from nmfcore import _arguments
from nmfcore._types import Array
from nmfcore.api.factorize import TOL, factorize
from nmfcore.api.result import Factorization
from nmfcore.api.undetermined import PredictionWarning
from nmfcore.data.offsets import START_SHARE
from nmfcore.holdout import LEAST_SHARE, Measure
from nmfcore.loop.stopping import EXACT, ConvergenceWarning, Status
from nmfcore.losses.scale import Scale
from nmfcore.machine import memory
from nmfcore.machine.streams import warn
from nmfcore.model_selection.afresh import Overfit, other_start
from nmfcore.model_selection.selection import RULES, RankSelection

# Times what a random start has. Coordinate descent forgets it in its first sweep; multiplicative updates, which have
# the most to unlearn in the components that are there, end as low as from scratch with this, and 4 % higher with 1.
LARGE = 3.0

STREAM = 500  # bytes of a random generator
SMALL = 10**6  # entries: up to here each fit is also begun from scratch


class Folds(Protocol):
    """What is held out of the fits in each fold, and how wrong they are."""

    @property
    def values(self) -> Array:
        """The entries that count, but for zeros that are not stored."""

    @property
    def mean(self) -> float:
        """That of the entries of a matrix to fit."""

    @property
    def test(self) -> float:
        """The share that is held out."""

    @property
    def kind(self) -> str:
        """What is held out, in a word."""

    @property
    def shift(self) -> int:
        """The caller's X is ``4**shift`` times the one that is fitted."""

    def training(self, fold: int) -> dict[str, Any]:
        """What is to be fitted, as arguments of :func:`nmfcore.factorize`."""

    def training_error(self, fold: int, f: Factorization, measure: Measure) -> float:
        """The mean error of ``f``, the fit to that, on what was fitted."""

    def error(self, fold: int, f: Factorization, measure: Measure, n_threads: int | None) -> float:
        """The mean error of ``f`` on what was held out."""


@dataclass(frozen=True)
class Search:
    """Which ranks are tried, and what is made of their errors."""

    ranks: tuple[int, ...]
    n_folds: int
    patience: int | None
    rule: str
    warm_start: bool
    callback: Callable[[RankSelection], object] | None

    @property
    def certain(self) -> int:
        """The largest rank that is tried in any case."""
        return self.ranks[-1] if self.patience is None else self.ranks[: self.patience + 1][-1]

    @classmethod
    def checked(
        cls, ranks: object, *, n_folds: object, patience: object, rule: object, warm_start: bool, callback: Any
    ) -> Self:
        """From arguments as they came.

        Raises
        ------
        TypeError, ValueError
            If one breaks a rule.
        """
        tried = _checked_ranks(ranks)
        number = _arguments.whole(n_folds, "n_folds", 2)
        limit = None if patience is None else _arguments.whole(patience, "patience", 1)
        rule = _arguments.one_of(rule, "rule", RULES)
        if callback is not None and not callable(callback):
            raise TypeError(
                f"callback={callback!r} must be callable: it is called with the selection after every rank."
            )
        return cls(tried, number, limit, rule, warm_start, callback)

    def along(self, path: Path, loss: str | float) -> RankSelection:
        """Try one rank after the other, until the last, or until patience ends.

        Raises
        ------
        KeyboardInterrupt
            On Ctrl-C, with the selection so far as ``exc.selection``.

        Warns
        -----
        ConvergenceWarning
            If fits ended above their ``tol``; for the caller's caller.
        """
        complete: list[RankSelection] = []
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                warnings.simplefilter("ignore", PredictionWarning)  # the held-out error says it
                self._walk(path, complete, loss)
            if path.unconverged:
                warn(path.shortfall, ConvergenceWarning, stacklevel=3)
            return complete[-1]
        except KeyboardInterrupt as interrupt:
            interrupt.selection = complete[-1] if complete else None  # type: ignore[attr-defined]
            raise

    def _walk(self, path: Path, complete: list[RankSelection], loss: str | float) -> None:
        """Add the selection after each rank to those that are ``complete``."""
        folds, rows = path.folds, list[Array]()
        settings: dict[str, Any] = {"loss": loss, "holdout": folds.kind, "test": folds.test, "n_folds": self.n_folds}
        settings |= {"patience": self.patience, "warm_start": self.warm_start}
        for k, rank in enumerate(self.ranks):
            rows.append(path.step(rank, self.warm_start))
            s = path.selection(rows, self.ranks, self.rule, settings)
            complete.append(s)
            try:
                if self.callback is not None:
                    self.callback(s)
            except StopIteration:
                return
            if self.patience is not None and (s.is_exact(k) or k - s.lowest_place >= self.patience):
                return


class Path:
    """The fits of one rank after the other, of all folds, which are all asked for as ``fit`` says."""

    def __init__(
        self, folds: Folds, rngs: list[np.random.Generator], fit: dict[str, Any], beta: float, n_threads: int | None
    ) -> None:
        positive = folds.values[folds.values > 0]
        smallest = float(positive.min()) if positive.size else 0.0
        self.measure = Measure(beta, min(LEAST_SHARE * folds.mean, smallest))
        self.scale = Scale(folds.shift, 0, beta)
        self.folds, self.rngs, self.fit, self.n_threads = folds, rngs, fit, n_threads
        self.fits: list[Factorization | None] = [None] * len(rngs)
        self.n_fits, self.unconverged, self.largest_kkt, self.tol = 0, 0, 0.0, 0.0
        self.least = np.full(len(rngs), math.inf)  # the held-out errors of the best rank so far
        self.small = folds.values.size <= SMALL
        self._size = _mean_power(folds, beta)

    def step(self, rank: int, warm_start: bool) -> Array:
        """Of each fold: the held-out and the training error, and the share that is not resolved (n_folds, 3)."""
        errors = np.empty((len(self.rngs), 3))
        for fold, rng in enumerate(self.rngs):
            f = self._fit(rank, fold, rng)
            self._note(f)
            self.fits[fold] = f if warm_start else None
            errors[fold, 0] = self.folds.error(fold, f, self.measure, self.n_threads)
            errors[fold, 1] = self.folds.training_error(fold, f, self.measure)
            errors[fold, 2] = _unresolved(f)
        if errors[:, 0].mean() < self.least.mean():
            self.least = errors[:, 0].copy()
        return errors

    def _fit(self, rank: int, fold: int, rng: np.random.Generator) -> Factorization:
        asked = {"random_state": rng, "n_threads": self.n_threads} | self.fit | self.folds.training(fold)
        before = self.fits[fold]
        if before is None:
            return factorize(rank=rank, **asked)
        start = _grown(before, rank, self.folds.mean, rng)
        if asked["tol"] == 0.0:  # iterations are counted, not judged: so many, of one fit
            return factorize(rank=rank, **(asked | start))
        watch = partial(self._watch, before, fold)
        f = factorize(rank=rank, callback=watch(), **(asked | start))
        return other_start(f, rank, asked, watch) if self.small else f

    def _watch(self, f: Factorization, fold: int) -> Overfit | None:
        """Ends a fit that only gets worse at what was held out; None where it takes a fit to find that out."""
        if self.folds.kind != "entries":
            return None

        def error(W: Array, H: Array) -> float:
            return self.folds.error(fold, replace(f, W=W, H=H), self.measure, self.n_threads)

        return Overfit(error, self.least[fold])

    def selection(
        self, rows: list[Array], ranks: tuple[int, ...], rule: str, settings: dict[str, Any]
    ) -> RankSelection:
        """What the ``rows`` of :meth:`step` say of the first of ``ranks``."""
        errors, train_errors, unresolved = np.moveaxis(np.array(rows), 2, 0)
        done, left = np.array(ranks[: len(rows)]), ranks[len(rows) :]
        exact = np.all(train_errors <= self._exact, axis=1)
        return RankSelection(
            _read_only(done),
            _read_only(self.scale.errors(errors)),
            _read_only(self.scale.errors(train_errors)),
            rule,
            left,
            settings,
            self.scale,
            moderate=_read_only(errors),
            unresolved=_read_only(unresolved),
            exact=_read_only(exact),
        )

    @property
    def _exact(self) -> float:
        """The training error below which a fit counts as exact: twice the residual at which one ends as such."""
        share = 2.0 * EXACT * max(self.tol, TOL)
        return (1.0 if self.measure.beta == 2.0 else 0.5) * share**2 * self._size

    def _note(self, f: Factorization) -> None:
        self.n_fits, self.tol = self.n_fits + 1, f.settings["tol"]
        if not f.converged and f.status is not Status.CALLBACK and self.tol > 0:
            self.unconverged, self.largest_kkt = self.unconverged + 1, max(self.largest_kkt, f.kkt)

    @property
    def shortfall(self) -> str:
        """How many fits did not converge, and whether that matters."""
        return (
            f"{self.unconverged} of {self.n_fits} fits ended with a KKT residual above tol={self.tol:g}, the largest "
            f"{self.largest_kkt:.2g}. Held-out errors seldom depend on it; to be sure, raise max_iter or tol."
        )


def _unresolved(f: Factorization) -> float:
    """The share of its objective that a fit may still have before it: what the last half of its iterations took."""
    falls = f.history.objective
    fell, now = float(falls[len(falls) // 2] - f.objective), f.objective
    return min(1.0, fell / now) if fell > 0.0 and now > 0.0 else 0.0


def _mean_power(folds: Folds, beta: float) -> float:
    """The mean of ``x**beta`` over the entries of a matrix to fit, without zeros."""
    x = folds.values[folds.values > 0].astype(np.float64)
    total = float(x.sum())
    return float((x**beta).sum()) / total * folds.mean if total > 0.0 else 0.0


def generators(random_state: object, number: int) -> list[np.random.Generator]:
    """Independent streams: what one draws does not depend on what the others have drawn."""
    memory.check({"random numbers of their own": STREAM * number}, f"n_folds={number - 1}", "choose fewer folds")
    source = _arguments.generator(random_state)
    draw = source.integers if isinstance(source, np.random.Generator) else source.randint
    seed = np.random.SeedSequence([int(x) for x in draw(0, 2**31 - 1, size=4)])
    return [np.random.default_rng(child) for child in seed.spawn(number)]


def _grown(f: Factorization, rank: int, mean: float, rng: np.random.Generator) -> dict[str, Any]:
    """The factors of ``f`` and new random components; offsets, the last two components, stay the last."""
    r = f.rank - 2 * f.settings["offsets"]
    share = 1.0 - 2.0 * START_SHARE * f.settings["offsets"]  # of what is to be explained, as in a start
    scale = LARGE * math.sqrt(share * mean / rank)
    W, H = (np.abs(scale * rng.standard_normal((size, rank - r))) for size in (f.W.shape[0], f.H.shape[1]))
    return {
        "W": np.hstack([f.W[:, :r], W.astype(f.W.dtype), f.W[:, r:]]),
        "H": np.vstack([f.H[:r], H.T.astype(f.H.dtype), f.H[r:]]),
    }


def _checked_ranks(ranks: object) -> tuple[int, ...]:
    if isinstance(ranks, (str, bytes)) or not isinstance(ranks, Iterable):
        raise TypeError(f"ranks={ranks!r} must be some whole numbers, such as range(1, 11) or [2, 4, 8, 16].")
    checked = tuple(_arguments.whole(rank, f"ranks[{k}]", 1) for k, rank in enumerate(ranks))
    if not checked:
        raise ValueError("ranks is empty; give the ranks to try, such as range(1, 11).")
    for k in range(1, len(checked)):
        if checked[k] <= checked[k - 1]:
            raise ValueError(
                f"ranks[{k}] = {checked[k]} follows ranks[{k - 1}] = {checked[k - 1]}, but each must be larger than "
                "the one before: pass sorted(set(ranks))."
            )
    return checked


def _read_only(A: Array) -> Array:
    A = np.ascontiguousarray(A)
    A.flags.writeable = False
    return A
