"""Held-out blocks of a complete matrix, dense or sparse."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.holdout.measure import Fit, Measure, block_error
from nmfcore.holdout.sparse import part, transpose
from nmfcore.reading.compressed import Compressed


@dataclass(frozen=True)
class Blocks:
    """Held-out blocks of a complete matrix: windows on its rows and columns in random order."""

    X: Array | Compressed
    rows: tuple[Array, ...]  # of each fold, True for those left out (m,)
    columns: tuple[Array, ...]  # (n,)
    values: Array  # the entries of X, without the zeros that it does not store
    mean: float  # with them
    test: float
    kind: str = "blocks"
    shift: int = 0  # the caller's X is X · 4**shift

    def training(self, fold: int) -> dict[str, Any]:
        """The part to fit, as arguments of :func:`nmfcore.factorize`."""
        return {"X": part(self.X, ~self.rows[fold], ~self.columns[fold])}

    def training_error(self, fold: int, f: Fit, measure: Measure) -> float:
        """The mean error of ``f``, the fit to that part, on that part."""
        m, n = (int((~left_out[fold]).sum()) for left_out in (self.rows, self.columns))
        return measure.of_fit(f, (np.full(m, float(n)), np.full(n, float(m))))

    def error(self, fold: int, f: Fit, measure: Measure, n_threads: int | None) -> float:
        """The mean error of ``f``, the fit to that part, on what was held out."""
        I, J = self.rows[fold], self.columns[fold]
        W = f.transform(part(self.X, I, ~J), n_threads=n_threads)
        Ht = _turned(f).transform(transpose(part(self.X, ~I, J)), n_threads=n_threads)[:, _turned_components(f)]
        return block_error(part(self.X, I, J), W, Ht, measure) / (len(W) * len(Ht))


def windows(size: int, share: float, n_folds: int, rng: np.random.Generator) -> tuple[Array, ...]:
    """Of each fold, which of ``size`` lines are left out: a share of them, each line as often as any other.

    In a random order that goes round, windows begin at equal distances: disjoint up to a share of 1 / n_folds.
    """
    width = min(max(1, round(share * size)), size - 1)
    order = rng.permutation(size)
    made = []
    for k in range(n_folds):
        chosen = np.zeros(size, bool)
        chosen[order[(k * size // n_folds + np.arange(width)) % size]] = True
        made.append(chosen)
    return tuple(made)


def make_blocks(X: Array | Compressed, n_folds: int, test: float, rng: np.random.Generator, shift: int = 0) -> Blocks:
    """Choose the rows and the columns to leave out in each fold; ``test`` is their share of the cells."""
    m, n = X.shape
    if min(m, n) < 2:
        raise ValueError(f"too few entries: of a {m} x {n} matrix no block can be held out; it takes 2 x 2 or more.")
    rows, columns = (windows(size, math.sqrt(test), n_folds, rng) for size in (m, n))
    values = X.values if isinstance(X, Compressed) else X.reshape(-1)
    return Blocks(X, rows, columns, values, float(values.sum(dtype=np.float64)) / (m * n), test, shift=shift)


def _turned(f: Any) -> Any:
    """The same fit, of the transpose."""
    swapped = {name: f.settings[name][::-1] for name in ("l1", "l2")}
    order = _turned_components(f)
    W, H = np.ascontiguousarray(f.H.T[:, order]), np.ascontiguousarray(f.W.T[order])
    return dataclasses.replace(f, W=W, H=H, settings={**f.settings, **swapped})


def _turned_components(f: Fit) -> Array:
    """The order in which the transpose has the components: the offsets of its rows are those of the columns here."""
    order, offsets = np.arange(f.rank), 2 * f.settings["offsets"]
    return np.append(order[: f.rank - offsets], order[f.rank - offsets :][::-1])
