"""Held-out entries, the others staying with a mask or as what is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.holdout.measure import AT_ONCE, Fit, Measure
from nmfcore.holdout.sparse import CSR
from nmfcore.machine import memory
from nmfcore.reading.compressed import Compressed


def deal(n_entries: int, n_folds: int, test: float, rng: np.random.Generator) -> Array:
    """Disjoint random sets (n_folds, size) of a share ``test`` of the positions ``0 <= p < n_entries``."""
    size = int(test * n_entries * (1 + 1e-12))
    if size < 1:
        raise ValueError(
            f"too few entries: {test:g} of the {n_entries} entries that count is less than one. "
            f"Choose a larger test, up to 1 / n_folds = {1 / n_folds:g}, or fewer folds."
        )
    return rng.choice(n_entries, size=(n_folds, size), replace=False)


def deal_by_size(values: Array, n_folds: int, test: float, rng: np.random.Generator) -> Array:
    """Disjoint random sets (n_folds, size) of positions in ``values``, each with its share of the large entries.

    The entries are sorted and cut into groups of ``1 / test`` neighbours; each fold takes a random one of each group.
    Where a few large entries make most of a squared error, folds dealt without regard to size differ by chance alone
    (stratified sampling; Cochran, "Sampling techniques", 1977, chapter 5).
    """
    size = max(int(1.0 / test * (1 + 1e-12)), 1)
    order = np.argsort(values, kind="stable")
    groups = order[values.size % size :].reshape(-1, size)  # what is left over is the smallest
    picks = rng.permuted(np.tile(np.arange(size), (groups.shape[0], 1)), axis=1)[:, :n_folds]
    return np.ascontiguousarray(np.take_along_axis(groups, picks, axis=1).T)


def spare_the_last(line: Array, fold: Array, n_entries: Array, n_folds: int) -> Array:
    """Which held-out entries may stay so: of a line whose entries are all in one fold, the first is given back.

    Parameters
    ----------
    line, fold : ndarray of int (n_held_out,)
        The row (or column) of each held-out entry, and its fold.
    n_entries : ndarray of int (n_lines,)
        How many entries of each line count, held out or not.
    n_folds : int
    """
    table = {f"{n_entries.size} counts of each fold": 8 * n_entries.size * n_folds}
    memory.check(table, f"n_folds={n_folds}", "choose fewer folds")
    key = line.astype(np.int64) * n_folds + fold
    held_out = np.bincount(key, minlength=n_entries.size * n_folds).reshape(-1, n_folds)
    lost = np.flatnonzero(held_out == np.maximum(n_entries, 1)[:, None])  # of a line, one fold at most
    _, first = np.unique(key, return_index=True)
    stays = np.ones(line.size, bool)
    stays[first[np.isin(key[first], lost)]] = False
    return stays


@dataclass(frozen=True)
class Entries:
    """Held-out entries of a dense matrix, or of those that a sparse matrix stores."""

    X: Array | Compressed
    observed: Array | None  # of a dense X: where it counts; None for everywhere
    weights: Array | None  # (m, n) for a dense X, one for each entry of a sparse one
    held_out: tuple[Array, ...]  # flat positions in a dense X, positions among the entries of a sparse one
    values: Array  # the entries that count
    mean: float
    test: float
    kind: str = "entries"
    shift: int = 0  # the caller's X is X · 4**shift

    def training(self, fold: int) -> dict[str, Any]:
        """The part to fit, as arguments of :func:`nmfcore.factorize`."""
        kept = self.kept(fold)
        if not isinstance(self.X, Compressed):
            return {"X": self.X, "mask": kept, "weights": self.weights}
        before = np.concatenate(([0], np.cumsum(kept, dtype=np.int64)))
        shared = before[self.X.indptr], self.X.indices[kept]
        X = CSR(*shared, self.X.values[kept], self.X.shape)
        weights = None if self.weights is None else CSR(*shared, self.weights[kept], self.X.shape)
        return {"X": X, "missing_values": "unstored", "weights": weights}

    def kept(self, fold: int) -> Array:
        """True for the entries of that part: in the shape of a dense X, or one for each entry of a sparse one."""
        if isinstance(self.X, Compressed):
            kept = np.ones(self.X.values.size, bool)
        else:
            kept = np.ones(self.X.shape, bool) if self.observed is None else self.observed.copy()
        kept.reshape(-1)[self.held_out[fold]] = False
        return kept

    def counts(self, fold: int) -> tuple[Array, Array]:
        """How much of each row and of each column counts in that part: entries, or their weights; float64."""
        kept = self.kept(fold)
        weights = kept if self.weights is None else np.where(kept, self.weights, 0.0)
        if isinstance(self.X, Compressed):
            (m, n), rows, columns = self.X.shape, self.X.rows, self.X.indices
            return np.bincount(rows, weights, m), np.bincount(columns, weights, n)
        return weights.sum(axis=1, dtype=np.float64), weights.sum(axis=0, dtype=np.float64)

    def training_error(self, fold: int, f: Fit, measure: Measure) -> float:
        """The mean error of ``f``, the fit to that part, on that part."""
        return measure.of_fit(f, self.counts(fold))

    def error(self, fold: int, f: Fit, measure: Measure, n_threads: int | None) -> float:
        """The mean error of ``f``, the fit to that part, on what was held out."""
        return self.mean_error(self.held_out[fold], f, measure, float(self.values.max()))

    def mean_error(self, places: Array, f: Fit, measure: Measure, largest: float) -> float:
        """That of ``f`` at some of the entries, predicting no more than ``largest``."""
        step = max(1, AT_ONCE // f.rank)
        total, count = 0.0, 0.0
        for start in range(0, places.size, step):
            p = places[start : start + step]
            rows, columns, x = self.at(p)
            errors = measure(x, np.minimum(f.predict(rows, columns), largest))
            weights = np.ones(p.size) if self.weights is None else self.weights.reshape(-1)[p]
            total, count = total + float((weights * errors).sum()), count + float(weights.sum())
        return total / count

    def at(self, p: Array) -> tuple[Array, Array, Array]:
        """The rows, columns and values of entries."""
        if not isinstance(self.X, Compressed):
            return *np.divmod(p, self.X.shape[1]), self.X.reshape(-1)[p]
        rows = np.searchsorted(self.X.indptr, p, side="right") - 1
        return rows, self.X.indices[p], self.X.values[p]


def make_entries(
    X: Array | Compressed,
    observed: Array | None,
    weights: Array | None,
    n_folds: int,
    test: float,
    rng: Any,
    shift: int = 0,
    may_be_empty: bool = False,
    by_size: bool = False,
) -> Entries:
    """Deal the entries that count into folds; with ``may_be_empty``, some may come out without any."""
    m, n = X.shape
    if isinstance(X, Compressed):
        values, where = X.values, None
    else:
        values = X.reshape(-1) if observed is None else X[observed]
        where = None if observed is None else np.flatnonzero(observed)
    dealt = deal_by_size(values, n_folds, test, rng) if by_size else deal(values.size, n_folds, test, rng)
    fold = np.repeat(np.arange(n_folds), dealt.shape[1])
    places = dealt.reshape(-1) if where is None else where[dealt.reshape(-1)]
    if isinstance(X, Compressed):
        rows, columns = np.searchsorted(X.indptr, places, side="right") - 1, X.indices[places]
        totals = np.diff(X.indptr), np.bincount(X.indices, minlength=n)
    else:
        rows, columns = np.divmod(places, n)
        totals = (np.full(m, n), np.full(n, m)) if observed is None else (observed.sum(axis=1), observed.sum(axis=0))
    for axis in (0, 1):
        stays = spare_the_last((rows, columns)[axis], fold, totals[axis], n_folds)
        places, rows, columns, fold = places[stays], rows[stays], columns[stays], fold[stays]
    held_out = tuple(np.sort(places[fold == k]) for k in range(n_folds))
    for k, part in enumerate(held_out):
        if not part.size and not may_be_empty:
            raise ValueError(
                f"too few entries: nothing can be held out in fold {k}, as every entry there is the last of its row "
                "or column. Choose a larger test, fewer folds, or leave out rows and columns with one entry."
            )
    mean = float(values.mean(dtype=np.float64))
    return Entries(X, observed, weights, held_out, values, mean, test, shift=shift)
