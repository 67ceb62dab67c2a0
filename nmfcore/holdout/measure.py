"""How wrong predictions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from nmfcore._types import Array
from nmfcore.data.offsets import without_ones
from nmfcore.holdout.sparse import CSR, dense_rows
from nmfcore.solvers import Penalty

AT_ONCE = 2**22  # numbers in a temporary: 32 MiB
LEAST_SHARE = 1e-3  # of the mean entry: no x > 0 is predicted lower where a prediction of 0 would be infinitely wrong


class Fit(Protocol):
    """What of a factorization the error on held-out entries takes."""

    @property
    def W(self) -> Array:
        """(m, r)."""

    @property
    def H(self) -> Array:
        """(r, n)."""

    @property
    def objective(self) -> float:
        """What was minimised, penalties included."""

    @property
    def settings(self) -> dict[str, Any]:
        """What was asked for."""

    @property
    def rank(self) -> int:
        """The number of components."""

    def predict(self, rows: Any, cols: Any) -> Array:
        """Return entries of ``W H``."""

    def transform(self, X: object, *, n_threads: int | None = None) -> Array:
        """Return the best W for other rows."""


@dataclass(frozen=True)
class Measure:
    """The error of a prediction: the squared error under the Frobenius loss, else the divergence itself."""

    beta: float
    floor: float

    def __call__(self, x: Array, predicted: Array) -> Array:
        """The error of each entry, in float64."""
        x, y, b = x.astype(np.float64), predicted.astype(np.float64), self.beta
        if b == 2.0:
            with np.errstate(over="ignore"):  # infinitely wrong, where float64 does not hold the square
                return np.asarray((x - y) ** 2)
        y = self.lifted(x, y)
        positive = x > 0
        x1, y1 = (np.where(positive, a, 1.0) for a in (x, y))
        if b == 1.0:
            return np.where(positive, x1 * np.log(x1 / y1) - x1 + y1, y)
        if b == 0.0:
            return np.asarray(x1 / y1 - np.log(x1 / y1) - 1.0)  # no x is 0
        if b < 1.0:
            return np.where(positive, self._general(x1, y1), y**b / b)  # with b < 0, no x is 0, and no y
        return self._general(x, y)

    def _general(self, x: Array, y: Array) -> Array:
        b = self.beta
        return np.asarray((x**b + (b - 1.0) * y**b - b * x * y ** (b - 1.0)) / (b * (b - 1.0)))

    def lifted(self, x: Array, y: Array) -> Array:
        """Predictions, no lower than the floor where β <= 1 and x > 0."""
        return np.where(x > 0, np.maximum(y, self.floor), y) if self.beta <= 1.0 else y

    def of_fit(self, f: Fit, counts: tuple[Array, Array]) -> float:
        """The mean error of a fit on what it was fitted to: its objective, which it has anyway, without its penalties.

        ``counts`` is how much of each row and of each column counted there.
        """
        unit = 2.0 if self.beta == 2.0 else 1.0
        return unit * max(0.0, f.objective - _penalty(f, counts)) / float(counts[0].sum())


def _penalty(f: Fit, counts: tuple[Array, Array]) -> float:
    """What the objective of a fit has of penalties; the components of ones that offsets stand beside have none."""
    moving = without_ones(f.W, f.H.T) if f.settings["offsets"] else (f.W, f.H.T)
    per_row = counts if f.settings["l2_scaling"] == "count" else (None, None)
    penalties = map(Penalty, f.settings["l1"], f.settings["l2"], per_row)
    return sum(p.of(np.ascontiguousarray(A, np.float64)) for p, A in zip(penalties, moving, strict=True))


def block_error(X: Array | CSR, W: Array, Ht: Array, measure: Measure) -> float:
    """The sum of the errors of ``W Htᵀ`` over all cells of ``X``.

    A sparse block too large to go through its zeros is summed over what is stored; what its zeros add follows from
    sums over the factors, for the Frobenius and the Kullback-Leibler loss.
    """
    m, n = X.shape
    if isinstance(X, CSR) and measure.beta in (1.0, 2.0) and m * n > AT_ONCE:
        return _stored_error(X, W.astype(np.float64), Ht.astype(np.float64), measure)
    step = max(1, AT_ONCE // max(n, 1))
    return sum(float(measure(dense_rows(X, lo, lo + step), W[lo : lo + step] @ Ht.T).sum()) for lo in range(0, m, step))


def _stored_error(X: CSR, W: Array, Ht: Array, measure: Measure) -> float:
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    step = max(1, AT_ONCE // W.shape[1])
    total = 0.0
    for lo in range(0, rows.size, step):
        part = slice(lo, lo + step)
        x, y = X.data[part].astype(np.float64), np.einsum("pt,pt->p", W[rows[part]], Ht[X.indices[part]])
        total += float((x * (x - 2.0 * y)).sum() if measure.beta == 2.0 else (measure(x, y) - y).sum())
    everywhere = (W.T @ W) * (Ht.T @ Ht) if measure.beta == 2.0 else W.sum(axis=0) * Ht.sum(axis=0)
    return max(0.0, total + float(everywhere.sum()))
