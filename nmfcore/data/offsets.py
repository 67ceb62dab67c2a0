r"""Offsets: ``x̂_ij = w_i · h_j + b_i + c_j``, all of it non-negative.

Most of a rating is who gives it and what it is given to. Two more components hold that: one whose row of H is all
ones, so that its column of W is an offset ``b`` of each row, and one whose column of W is all ones. A prediction stays
a sum of non-negative parts, which centring would end; what all ratings have in common is part of both.

A component of ones never moves, so the factors that do are ``A = [W, b]`` (m, r + 1) and ``B = [Hᵀ, c]`` (n, r + 1),
alike for both half-steps. For the rows of ``A`` the problem is the usual one, with ``[Hᵀ, 1]`` in place of ``B`` and
the offsets ``c`` taken off the values of each column; that is all this storage does. The offsets are penalised as the
rest of their factor is.

References
----------
Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", Computer 42, 2009 (offsets,
there of either sign).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.data.dense import Dense
from nmfcore.data.observed import Observed, RowGrams
from nmfcore.data.protocol import Rows, Summary

START_SHARE = 0.45  # of what a row has on average goes to its offset to begin with, and as much to that of the column
DAMPING = 5.0  # entries at the mean of all that are added to each row and column for that


class WithOffsets:
    """Observed entries, fitted with an offset for each row and column.

    ``heights`` are those of the ones in H, which the offsets of the rows are multiplied by, and of the ones in W.
    """

    grams = "own"
    stores_zeros = True

    def __init__(self, data: Observed, heights: tuple[float, float] = (1.0, 1.0)) -> None:
        self.data, self.heights = data, heights
        self.shape, self.dtype = data.shape, data.dtype

    @property
    def T(self) -> WithOffsets:
        return WithOffsets(self.data.T, self.heights[::-1])

    @property
    def values(self) -> Array:
        return self.data.values

    def with_values(self, values: Array) -> WithOffsets:
        return WithOffsets(self.data.with_values(values), self.heights)

    def some_rows(self, rows: Array) -> WithOffsets:
        return WithOffsets(self.data.some_rows(rows), self.heights)

    def astype(self, dtype: np.dtype[Any]) -> WithOffsets:
        return WithOffsets(self.data.astype(dtype), self.heights)

    @property
    def n_entries(self) -> int:
        return self.data.n_entries

    @property
    def weight_shift(self) -> int:
        return self.data.weight_shift

    @property
    def known_rows(self) -> Array | None:
        return self.data.known_rows

    @property
    def counts(self) -> Array | None:
        return self.data.counts

    @property
    def mean(self) -> Any:
        return self.data.mean

    @property
    def sum_squares(self) -> float:
        return self.data.sum_squares

    @property
    def summary(self) -> Summary:
        return self.data.summary

    @property
    def first_zero(self) -> tuple[int, int] | None:
        return self.data.first_zero

    def work(self, r: int) -> float:
        return self.data.work(r)

    def exact_work(self, r: int) -> float:
        return self.data.exact_work(r)

    def slabs(self, r: int, moving: float = 0.0) -> list[Slab]:
        return self.data.slabs(r, moving)

    def rows(self, lo: int, hi: int, zeros: bool) -> Iterator[tuple[int, int, Rows]]:
        return self.data.rows(lo, hi, zeros)

    def column_sums(self, B: Array) -> Array:
        return self.data.column_sums(B)

    def times(self, B: Array, team: Team) -> Array:
        return self.data.times(B, team)

    def normal(self, B: Array) -> RowGrams:
        # Rows may be so small beside what was fitted that the offsets are beyond any number in their unit.
        with np.errstate(over="ignore"):
            taken_off = np.minimum(B.dtype.type(self.heights[1]) * B[:, -1], np.finfo(B.dtype).max)
        return self.data.normal(self._with_ones(B), taken_off)

    def by_component(self, of_W: Array, of_H: Array, ones_W: float, ones_H: float) -> tuple[Array, Array]:
        in_H, in_W = (height**2 for height in self.heights)
        return np.append(of_W, ones_W * in_W), np.concatenate((of_H[:-1], [ones_H * in_H], of_H[-1:]))

    def free(self, r: int) -> int:
        return r - 1

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        return self.data.squared_error(*self.complete(A, B), team)

    def _with_ones(self, B: Array) -> Array:
        B = B.copy()
        B[:, -1] = self.heights[0]
        return B

    def complete(self, A: Array, B: Array) -> tuple[Array, Array]:
        """``A`` (m, r + 2) and ``B`` (n, r + 2) with ``x̂ = A Bᵀ``: the components of ones included."""
        ones = np.full((A.shape[0], 1), self.heights[1], A.dtype)
        return np.hstack((A, ones)), np.hstack((self._with_ones(B), B[:, -1:]))

    def start(self, W: Array, Ht: Array) -> tuple[Array, Array]:
        """``[W, b]`` and ``[Hᵀ, c]`` to begin with: most of ``x̂`` in the offsets, the rest in what was given."""
        share = np.sqrt(1.0 - 2.0 * START_SHARE)
        pairs = zip((self.data, self.data.T), self.heights, strict=True)
        b, c = ((_means(data) * (START_SHARE / height)).astype(W.dtype)[:, None] for data, height in pairs)
        return np.hstack((W * W.dtype.type(share), b)), np.hstack((Ht * Ht.dtype.type(share), c))


def without_ones(W: Array, Ht: Array) -> tuple[Array, Array]:
    """``[W, b]`` and ``[Hᵀ, c]`` of factors (m, r + 2) and (n, r + 2) with offsets, which `complete` made of them."""
    return W[:, :-1], np.delete(Ht, -2, axis=1)


def _means(data: Observed) -> Array:
    """The damped mean of each row; 0 where it has no entry."""
    indptr, _, values, weights = data.arrays
    counts = np.diff(indptr).astype(np.float64) if not weights.size else _row_sums(indptr, weights)
    sums = _row_sums(indptr, values * weights if weights.size else values)
    return np.where(counts > 0, (sums + DAMPING * float(data.mean)) / (counts + DAMPING), 0.0)


def observed_in_full(data: Dense) -> Observed:
    """A matrix without missing entries, stored as if it had some."""
    m, n = data.X.shape
    indices = np.tile(np.arange(n, dtype=np.int32), m)
    return Observed(np.arange(m + 1) * n, indices, data.X.reshape(-1), data.X[:0, 0], (m, n))


def _row_sums(indptr: Array, values: Array) -> Array:
    sums = np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))
    return np.asarray(sums[indptr[1:]] - sums[indptr[:-1]])
