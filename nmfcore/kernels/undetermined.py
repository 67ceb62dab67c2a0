"""Which missing entries a fit predicts beyond a bound; most are ruled out by norms, without their prediction."""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel


@kernel
def beyond(
    indptr: Array,
    indices: Array,
    listed: bool,
    rows: Array,
    W: Array,
    G: Array,
    norms_W: Array,
    norms_G: Array,
    most_W: Array,
    most_G: Array,
    work: float,
    found: Array,
) -> float:
    """Go through the missing entries of some rows, for those where ``W[i] · G[j] > max(most_W[i], most_G[j])``.

    ``indptr, indices`` list the missing entries of each row, or the observed ones if not ``listed``. ``norms_W`` and
    ``norms_G`` are the norms of the rows of ``W`` (m, r) and ``G`` (n, r). ``found`` (5,) receives how many there are,
    the row and column of the first, and how many entries and rows were looked at. Goes on until ``work`` flop are
    spent, at most to the end of a row. Returns the work left.
    """
    n, r = G.shape
    is_observed = np.zeros(n, np.bool_)
    found[:] = 0
    found[1] = W.shape[0]
    for i in rows:
        if work <= 0.0:
            break
        some = indices[indptr[i] : indptr[i + 1]]
        if not listed:
            for j in some:
                is_observed[j] = True
        count = some.size if listed else n
        first = -1
        for p in range(count):
            j = some[p] if listed else p
            bound = max(most_W[i], most_G[j])
            if norms_W[i] * norms_G[j] > bound and not is_observed[j]:
                value = 0.0
                for t in range(r):
                    value += W[i, t] * G[j, t]
                work -= 2.0 * r
                if value > bound:
                    found[0] += 1
                    if first < 0:
                        first = j
        work -= count
        found[3] += count if listed else n - some.size
        found[4] += 1
        if first >= 0 and i < found[1]:
            found[1], found[2] = i, first
        if not listed:
            for j in some:
                is_observed[j] = False
    return work


@kernel
def columns(indices: Array, values: Array, n: int) -> Array:
    """Of the entries of each column the sum of roots, how many are positive, and the largest: float64 (3, n)."""
    out = np.zeros((3, n))
    for p in range(values.size):
        j, x = indices[p], np.float64(values[p])
        out[0, j] += np.sqrt(x)
        out[1, j] += x > 0.0
        out[2, j] = max(out[2, j], x)
    return out


@kernel
def largest_of_rows(indptr: Array, indices: Array, values: Array, factors: Array) -> Array:
    """The largest entry of each row, each times the factor of its column."""
    out = np.zeros(indptr.size - 1)
    for i in range(out.size):
        for p in range(indptr[i], indptr[i + 1]):
            out[i] = max(out[i], np.float64(values[p]) * factors[indices[p]])
    return out
