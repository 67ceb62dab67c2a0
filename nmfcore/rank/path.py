"""The path from rank to rank, on all folds at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from nmfcore import validation
from nmfcore._types import Array
from nmfcore.front_door import factorize
from nmfcore.holdout import LEAST_SHARE, Measure
from nmfcore.offsets import START_SHARE
from nmfcore.rank.selection import RULES, RankSelection
from nmfcore.result import Factorization
from nmfcore.stopping import ConvergenceWarning

# Times what a random start has. Coordinate descent forgets it in its first sweep; multiplicative updates, which have
# the most to unlearn in the components that are there, end as low as from scratch with this, and 4 % higher with 1.
LARGE = 3.0


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
        number = validation.whole(n_folds, "n_folds", 2)
        limit = None if patience is None else validation.whole(patience, "patience", 1)
        rule = validation.one_of(rule, "rule", RULES)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            s = self._walk(path, self._nothing(path.folds, loss))
        if path.unconverged:
            warnings.warn(path.shortfall, ConvergenceWarning, stacklevel=3)
        return s

    def _nothing(self, folds: Folds, loss: str | float) -> RankSelection:
        settings: dict[str, Any] = {"loss": loss, "holdout": folds.kind, "test": folds.test, "n_folds": self.n_folds}
        settings |= {"patience": self.patience, "warm_start": self.warm_start}
        empty = np.empty((0, self.n_folds))
        return RankSelection(np.empty(0, int), empty, empty, self.rule, self.ranks, settings)

    def _walk(self, path: Path, s: RankSelection) -> RankSelection:
        rows: list[Array] = []
        try:
            for k, rank in enumerate(self.ranks):
                rows.append(path.step(rank, self.warm_start))
                errors, train_errors = np.moveaxis(np.array(rows), 2, 0)
                done, left = _read_only(np.array(self.ranks[: k + 1])), self.ranks[k + 1 :]
                s = RankSelection(done, _read_only(errors), _read_only(train_errors), s.rule, left, s.settings)
                if self.callback is not None:
                    self.callback(s)
                if self.patience is not None and k - int(np.argmin(s.mean)) >= self.patience:
                    break
        except StopIteration:
            pass
        except KeyboardInterrupt as interrupt:
            interrupt.selection = s if rows else None  # type: ignore[attr-defined]
            raise
        return s


class Path:
    """The fits of one rank after the other, of all folds, which are all asked for as ``fit`` says."""

    def __init__(
        self, folds: Folds, rngs: list[np.random.Generator], fit: dict[str, Any], beta: float, n_threads: int | None
    ) -> None:
        positive = folds.values[folds.values > 0]
        smallest = float(positive.min()) if positive.size else 0.0
        self.measure = Measure(beta, min(LEAST_SHARE * folds.mean, smallest))
        self.folds, self.rngs, self.fit, self.n_threads = folds, rngs, fit, n_threads
        self.fits: list[Factorization | None] = [None] * len(rngs)
        self.n_fits, self.unconverged, self.largest_kkt, self.tol = 0, 0, 0.0, 0.0

    def step(self, rank: int, warm_start: bool) -> Array:
        """The held-out and the training error of each fold (n_folds, 2)."""
        errors = np.empty((len(self.rngs), 2))
        for fold, rng in enumerate(self.rngs):
            before = self.fits[fold]
            start: dict[str, Any] = {} if before is None else _grown(before, rank, self.folds.mean, rng)
            asked = self.fit | self.folds.training(fold) | start
            f = factorize(rank=rank, random_state=rng, n_threads=self.n_threads, **asked)
            self._note(f)
            self.fits[fold] = f if warm_start else None
            errors[fold, 0] = self.folds.error(fold, f, self.measure, self.n_threads)
            errors[fold, 1] = self.folds.training_error(fold, f, self.measure)
        return errors

    def _note(self, f: Factorization) -> None:
        self.n_fits, self.tol = self.n_fits + 1, f.settings["tol"]
        if not f.converged and self.tol > 0:
            self.unconverged, self.largest_kkt = self.unconverged + 1, max(self.largest_kkt, f.kkt)

    @property
    def shortfall(self) -> str:
        """How many fits did not converge, and whether that matters."""
        return (
            f"{self.unconverged} of {self.n_fits} fits ended with a KKT residual above tol={self.tol:g}, the largest "
            f"{self.largest_kkt:.2g}. Held-out errors seldom depend on it; to be sure, raise max_iter or tol."
        )


def generators(random_state: object, number: int) -> list[np.random.Generator]:
    """Independent streams: what one draws does not depend on what the others have drawn."""
    source = validation.generator(random_state)
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
    checked = tuple(validation.whole(rank, f"ranks[{k}]", 1) for k, rank in enumerate(ranks))
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
