"""How the rows of a matrix are cut into slabs, by the work alone."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from nmfcore._parallel import WORTH_A_THREAD, Slab, slab_count
from nmfcore._types import Array

LEAST_ROWS = 64  # of a slab of a dense matrix: as many as a solver moves together
MOST_WORK = 5e8  # flop of a slab all the same: some 20 to 50 milliseconds
ALIGNED = 16  # where slabs are cut: a whole number of vector steps
ROWS_COPIED = 2**17  # numbers: rows of a transpose, or with their zeros, are copied so many at a time: 1 MiB
ENTRIES_AT_ONCE = 2**18  # of a sparse X, where an operation makes arrays as long as what it goes through: 2 MiB each


def place_of(p: int, n: int) -> tuple[int, int]:
    """Return the row and column of a flat position."""
    return divmod(p, n)


def cut_evenly(m: int, work: float, least: int) -> list[Slab]:
    """Slabs of about as many rows each, cut where vector steps end, none so heavy that Ctrl-C would wait."""
    if work < WORTH_A_THREAD:  # small problems spend their time here
        return [(0, m)]
    count = max(min(slab_count(work, m), m // least), min(m, int(work / MOST_WORK)), 1)
    if count == 1:
        return [(0, m)]
    step = ALIGNED if m >= count * ALIGNED else 1
    cuts = (np.linspace(0, m, count + 1) / step).astype(int) * step
    cuts[-1] = m
    return [(int(lo), int(hi)) for lo, hi in pairwise(cuts)]


def cut_by_entries(indptr: Array, count: int) -> list[Slab]:
    """Slabs of rows with about equally many stored entries each, none of them empty of rows."""
    m = indptr.size - 1
    if count == 1:
        return [(0, m)]
    targets = np.linspace(0, indptr[-1] + m, count + 1)[1:-1]
    # Rows without entries cost something too; counting each row once keeps slabs from growing without bound.
    inner = np.searchsorted(indptr + np.arange(m + 1), targets)
    cuts = np.unique(np.concatenate(([0], inner, [m])))
    return [(int(lo), int(hi)) for lo, hi in pairwise(cuts)]


def entries_of(indptr: Array, rows: Array) -> tuple[Array, Array]:
    """Of some rows: their ``indptr``, and where each of their entries is stored."""
    lengths = np.diff(indptr)[rows]
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(indptr.dtype)
    return starts, np.repeat(indptr[rows] - starts[:-1], lengths) + np.arange(starts[-1])
