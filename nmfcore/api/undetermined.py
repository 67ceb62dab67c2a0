r"""A warning where missing entries are predicted that the data do not determine.

What is observed of a row may say next to nothing of one of its components. Without a penalty the component's part in
the row is then anything, and so is what it predicts. A fit says so where a prediction leaves the range of what was
observed by far.

**By far.** The columns may have different units, and a row may be larger than all others. So each column is divided
by its typical entry, the square of the mean root of its positive entries (which a few large entries hardly sway). A
prediction is out of range where it is more than ten times the largest observed entry of its column and also more than
ten times that of its row. A row that is larger throughout shows that in its other entries, and a column in its own.
Predictions that combine components as observed entries do stay within.

**Cheap.** ``w · h <= ‖w‖ ‖h‖``, and non-negative vectors are never far from parallel. So norms alone acquit nearly
every entry of an ordinary fit, and leave a few rows. These are gone through, the most suspicious first, for as long as
a quarter of an iteration takes. Where that was not enough for all of them, the number found is said to be "at least"
that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nmfcore._types import Array
from nmfcore.data.imputed import Imputed
from nmfcore.data.observed import Observed
from nmfcore.data.offsets import WithOffsets
from nmfcore.data.protocol import Data
from nmfcore.kernels import undetermined

FAR = 10.0  # times the largest observed entry
SHARE = 0.25  # of the flop of an iteration, the most that is spent on this
LEAST_WORK = 1e7  # flop that are spent anyway: some milliseconds


class PredictionWarning(UserWarning):
    """A fit predicts missing entries far beyond what was observed: the data do not determine them."""


class Finding(NamedTuple):
    """Missing entries that are predicted beyond the range."""

    number: int
    n_missing: int
    row: int
    column: int
    prediction: float
    of_column: float  # the largest observed entry there
    complete: bool  # whether all that could be out of range were looked at


def find(data: Data, W: Array, Ht: Array) -> Finding | None:
    """What ``W`` (m, r) and ``Ht`` (n, r) predict beyond the range of such data; None if nothing was found.

    Parameters
    ----------
    data : Data
        The m×n matrix.
    W, Ht : ndarray (m, r), (n, r)
        All components, those of ones included.
    """
    stored: Any = data.data if isinstance(data, WithOffsets) else data
    m, n = stored.shape
    n_missing = m * n - stored.n_entries
    if n_missing == 0 or not isinstance(stored, (Observed, Imputed)):
        return None
    typical, largest = _columns(stored)
    per_row = _rows(stored, typical)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        W, G = (np.ascontiguousarray(A, np.float64) for A in _balanced(W.astype(np.float64), Ht / typical[:, None]))
        norms_W, norms_G = np.sqrt((W * W).sum(axis=1)), np.sqrt((G * G).sum(axis=1))
        most_W, most_G = FAR * per_row, FAR * largest / typical
        reach = norms_W * norms_G.max()
        rows = np.flatnonzero(reach > np.maximum(most_W, most_G.min()))
        rows = rows[np.argsort(-reach[rows] / np.maximum(most_W[rows], np.finfo(float).tiny), kind="stable")]
    found = np.zeros(5, np.int64)
    listed = isinstance(stored, Imputed)
    places = stored.missing if isinstance(stored, Imputed) else stored.arrays[:2]
    work = max(2.0 * SHARE * stored.work(W.shape[1]), LEAST_WORK)
    undetermined.beyond(*places, listed, rows, W, G, norms_W, norms_G, most_W, most_G, work, found)
    number, i, j, _, seen = (int(each) for each in found)
    if number == 0:
        return None
    return Finding(number, n_missing, i, j, float(W[i] @ G[j] * typical[j]), float(largest[j]), seen == rows.size)


def message(found: Finding, unit: float, remedy: str) -> str:
    """What there is to say of it, with entries in the unit of the caller: ``unit`` times those found."""
    x, largest = found.prediction * unit, found.of_column * unit
    return (
        f"{'' if found.complete else 'at least '}{found.number:,} of {found.n_missing:,} missing entries are predicted "
        f"more than {FAR:g} times as large as all that was observed in their row and column: the first, "
        f"[{found.row}, {found.column}], as {x:.3g}, where the largest observed value of the column is {largest:.3g}. "
        f"The data do not determine them. {remedy}"
    )


def _columns(data: Observed | Imputed) -> tuple[Array, Array]:
    """The typical and the largest observed entry of each column, in float64."""
    if isinstance(data, Imputed):
        roots, counts, largest = np.zeros((3, data.shape[1]))
        for X in _blocks(data):
            roots += np.sqrt(X).sum(axis=0, dtype=np.float64)
            counts += np.count_nonzero(X, axis=0)
            np.maximum(largest, X.max(axis=0), out=largest)
    else:
        _, indices, values, _ = data.arrays
        roots, counts, largest = undetermined.columns(indices, values, data.shape[1])
    typical = (roots / np.maximum(counts, 1)) ** 2
    known = typical > 0
    typical[~known] = typical[known].mean() if known.any() else 1.0
    return typical, largest


def _rows(data: Observed | Imputed, typical: Array) -> Array:
    """The largest observed entry of each row, each divided by the typical one of its column."""
    if isinstance(data, Imputed):
        return np.concatenate([(X / typical).max(axis=1) for X in _blocks(data)])
    indptr, indices, values, _ = data.arrays
    return np.asarray(undetermined.largest_of_rows(indptr, indices, values, 1.0 / typical))


def _blocks(data: Imputed) -> list[Array]:
    """The rows, with 0 where an entry is missing, some at a time."""
    X = data.dense.X if data.dense.along == "rows" else data.dense.X.T
    step = max(1, 2**18 // X.shape[1])
    return [X[lo : lo + step] for lo in range(0, X.shape[0], step)]


def _balanced(W: Array, G: Array) -> tuple[Array, Array]:
    """The same products from components that have the same norm in both: their rows are as short as they get."""
    norms = np.sqrt((W * W).sum(axis=0)), np.sqrt((G * G).sum(axis=0))
    both = (norms[0] > 0) & (norms[1] > 0)
    scale = np.sqrt(np.divide(norms[1], norms[0], out=np.ones_like(norms[0]), where=both))
    return W * scale, G / scale
