"""What came of it: held-out errors by rank, and the rank they speak for."""

from __future__ import annotations

import importlib
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from nmfcore._types import Array
from nmfcore.losses.scale import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RULES = ("one-standard-error", "paired", "best")

_MEASURES = {
    "frobenius": "mean squared error",
    "kullback-leibler": "Kullback-Leibler divergence",
    "itakura-saito": "Itakura-Saito divergence",
}


@dataclass(frozen=True, eq=False)
class RankSelection:
    """Held-out errors by rank, and the rank they speak for.

    Attributes
    ----------
    ranks : ndarray of int (n_ranks,)
        The ranks that were tried, in rising order.
    errors : ndarray (n_ranks, n_folds)
        The error per held-out entry: its mean squared error for the Frobenius loss, the mean of the divergence for any
        other loss; weighted, where there are weights.
    train_errors : ndarray (n_ranks, n_folds)
        The same on the entries that were fitted, penalties left out.
    rule : {"one-standard-error", "paired", "best"}
        How ``best`` is chosen.
    not_tried : tuple of int
        Ranks that ``patience`` spared, or a callback or Ctrl-C.
    settings : dict
        ``loss``, ``holdout``, ``test`` (of a fold, the share of all entries that count), ``n_folds``, ``patience``,
        ``warm_start``.
    scale : Scale
        What lies between ``moderate`` and ``errors``.
    moderate : ndarray (n_ranks, n_folds), optional
        The held-out errors where X has a moderate scale. The choice is made by these, as ``errors`` may overflow.
    unresolved : ndarray (n_ranks, n_folds), optional
        The share of its objective that a fit may still fall by: what the last half of its iterations took.
    exact : ndarray of bool (n_ranks,), optional
        Whether the fits of all folds are exact: nothing is left for more components to explain.
    """

    ranks: Array
    errors: Array
    train_errors: Array
    rule: str
    not_tried: tuple[int, ...]
    settings: dict[str, Any]
    scale: Scale = field(default=Scale(), repr=False)
    moderate: Array | None = field(default=None, repr=False)
    unresolved: Array | None = None
    exact: Array | None = None

    @cached_property
    def mean(self) -> Array:
        """The mean over the folds of ``errors`` (n_ranks,)."""
        return self.scale.errors(self._mean)

    @cached_property
    def standard_error(self) -> Array:
        """That of ``mean``: the standard deviation over the folds, over the square root of their number (n_ranks,)."""
        return self.scale.errors(_standard_error(self._errors))

    @cached_property
    def lowest(self) -> int:
        """The rank whose mean held-out error is the lowest, of those up to the first that is exact."""
        return int(self.ranks[self.lowest_place])

    @cached_property
    def lowest_place(self) -> int:
        """The place of ``lowest`` in ``ranks``."""
        last = self.ranks.size if self.exact is None or not self.exact.any() else int(np.argmax(self.exact)) + 1
        return int(np.argmin(self._mean[:last]))

    @cached_property
    def allowance(self) -> Array:
        """By how much the mean error of each rank may exceed the lowest for the rule to let it pass (n_ranks,).

        It is at least what the fits of the rank leave unresolved.
        """
        return self.scale.errors(self._allowance)

    @cached_property
    def best(self) -> int:
        """The rank chosen: the smallest whose mean held-out error the rule lets pass."""
        return int(self.ranks[np.argmax(self._mean <= self._mean[self.lowest_place] + self._allowance)])

    @cached_property
    def _errors(self) -> Array:
        """Where X has a moderate scale, so that none is inf or 0 for being out of range."""
        return self.errors if self.moderate is None else self.moderate

    @cached_property
    def _mean(self) -> Array:
        return np.asarray(self._errors.mean(axis=1))

    @cached_property
    def _allowance(self) -> Array:
        k, size = self.lowest_place, self._mean.size
        unresolved = np.zeros(size)
        if self.unresolved is not None:
            unresolved = (self.unresolved * self._errors).mean(axis=1)
        by_rule = np.zeros(size)
        if self.rule == "one-standard-error":
            by_rule = np.full(size, _standard_error(self._errors)[k])
        elif self.rule == "paired":
            by_rule = _standard_error(self._errors - self._errors[k])
        return np.maximum(by_rule, unresolved)

    @property
    def measure(self) -> str:
        """What the errors are, in words."""
        loss = self.settings["loss"]
        return _MEASURES.get(loss, f"β-divergence (β = {loss})")

    @property
    def reason(self) -> str:
        """Why this rank, and what else there is to know, in words."""
        if self.best == self.lowest:
            why = "the one with the lowest held-out error"
        else:
            paired = " of the difference" if self.rule == "paired" else ""
            why = f"the smallest within one standard error{paired} of the lowest held-out error (rank {self.lowest})"
        if self.best == self.ranks[0] > 1:
            why += "; it is the first that was tried, so lower ones may be as good"
        if self.is_exact(self.lowest_place):
            why += "; the fits are exact, so more components cannot explain more"
        if self.not_tried:
            return f"{why}; not tried: {', '.join(map(str, self.not_tried))}"
        if self.lowest == self.ranks[-1] and len(self.ranks) > 1 and not self.is_exact(self.lowest_place):
            return f"{why}; the error was still falling at the last rank, so higher ones may be better"
        return why

    def is_exact(self, place: int) -> bool:
        """Whether the rank at this place explains all there is, in every fold."""
        return self.exact is not None and bool(self.exact[place])

    def __repr__(self) -> str:
        return f"RankSelection: rank {self.best}, {self.reason}\n{self.table()}"

    def table(self) -> str:
        """The errors of every rank as text.

        Returns
        -------
        str
            A line for each rank: mean held-out error, its standard error, mean training error. The rank chosen is
            marked with an arrow, the lowest error with an asterisk.

        Examples
        --------
        >>> import numpy as np, nmfcore
        >>> rng = np.random.default_rng(0)
        >>> X = rng.gamma(0.5, size=(60, 3)) @ rng.gamma(0.5, size=(3, 50)) + rng.random((60, 50))
        >>> s = nmfcore.select_rank(X, range(1, 7), random_state=0)
        >>> print(s.table().splitlines()[0])
           rank    held out  ± std. error    training  (mean squared error per entry)
        """
        lines = [
            f"   {'rank':>4}  {'held out':>10}  {'± std. error':>12}  {'training':>10}  ({self.measure} per entry)"
        ]
        training = self.train_errors.mean(axis=1)
        for rank, mean, error, train in zip(self.ranks, self.mean, self.standard_error, training, strict=True):
            sign = ("→" if rank == self.best else " ") + ("*" if rank == self.lowest else " ")
            lines.append(f"{sign} {rank:4}  {mean:10.5g}  {error:12.2g}  {train:10.5g}")
        return "\n".join(lines)

    def to_frame(self) -> Any:
        """The table as a pandas DataFrame.

        Returns
        -------
        pandas.DataFrame
            Indexed by rank: ``mean``, ``standard_error``, ``training``, ``chosen``, and ``fold_0``, ``fold_1``, ...

        Raises
        ------
        ImportError
            Without pandas.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_frame needs pandas: python -m pip install pandas") from error
        columns = {
            "mean": self.mean,
            "standard_error": self.standard_error,
            "training": self.train_errors.mean(axis=1),
            "chosen": self.ranks == self.best,
        }
        folds = {f"fold_{k}": self.errors[:, k] for k in range(self.errors.shape[1])}
        return pandas.DataFrame({**columns, **folds}, index=pandas.Index(self.ranks, name="rank"))

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the errors over the ranks: see :func:`nmfcore.plot.rank_selection`."""
        from nmfcore.plot import rank_selection

        return rank_selection(self, ax=ax)


def _standard_error(errors: Array) -> Array:
    return np.asarray(errors.std(axis=1, ddof=1) / math.sqrt(errors.shape[1]))
