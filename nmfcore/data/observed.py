"""Data of which only some entries were observed: every row has normal equations of its own.

A row's Gram matrix is summed over the entries it has, so there are as many as rows, and none of them is kept: solvers
go through the entries themselves (:mod:`nmfcore.kernels.observed`), or are handed some rows' equations at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team, slab_count
from nmfcore._types import Array
from nmfcore.data.normal import product
from nmfcore.data.protocol import Block, Entries, Rows, Summary, summary
from nmfcore.data.slabs import cut_by_entries, entries_of
from nmfcore.data.sparse import Sparse
from nmfcore.kernels import factors, observed, sparse
from nmfcore.kernels.vectors.gathered import LANES

CACHE_LINE = 64  # bytes: a row of a factor that begins with one is gathered in fewer
GRAMS_AT_ONCE = 2**16  # numbers in a block of rows' own Gram matrices: half a MiB, in the second-level cache


class RowGrams:
    """Normal equations of observed entries: a Gram matrix for every row."""

    def __init__(self, data: Observed, B: Array, shift: Array | None) -> None:
        self.r = B.shape[1]
        self.entries = Entries(*data.weighted, _widened(B, shift), shift is not None, data.backwards)

    def blocks(self, lo: int, hi: int) -> Iterator[Block]:
        """``(lo, hi, C, G)`` of as many rows as fit the cache; the arrays are used again for the next block."""
        B, r = self.entries.B, self.r
        step = max(1, GRAMS_AT_ONCE // (r * r))
        C = np.empty((min(step, hi - lo), r), B.dtype)
        G = np.empty((min(step, hi - lo), r, r), B.dtype)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            observed.row_systems(*self.entries[:-1], start, stop, C, G)
            yield start, stop, C[: stop - start], G[: stop - start]

    def piece(self, a: Array, first: int, last: int) -> tuple[Array, Array, float]:
        """``C`` (1, r), ``G`` (1, r, r) and the loss of ``a`` (1, r) over some entries of one row, in float64."""
        ends = np.array([first, last])
        C, G = np.empty((1, self.r), a.dtype), np.empty((1, self.r, self.r), a.dtype)
        observed.row_systems(ends, *self.entries[1:-1], 0, 1, C, G)
        loss = 0.5 * float(observed.squared_error(ends, *self.entries[1:-1], a, 0, 1))
        return C.astype(np.float64), G.astype(np.float64), loss

    def loss(self, A: Array, lo: int, hi: int) -> float:
        """``½ Σ ω (x - x̂)²`` of some rows, for ``A`` (m, r)."""
        return 0.5 * float(observed.squared_error(*self.entries[:-1], A, lo, hi))


class Observed:
    """The observed entries of a matrix in compressed rows; what is not stored is missing and never read.

    ``weights`` is empty when every observed entry counts once, else one positive number per entry, which was
    divided by ``2**weight_shift``. ``backwards`` tells a transpose: the steps
    of its rows may run the other way.
    """

    grams = "own"
    stores_zeros = True

    def __init__(
        self,
        indptr: Array,
        indices: Array,
        values: Array,
        weights: Array,
        shape: tuple[int, int],
        weight_shift: int = 0,
        backwards: bool = False,
    ) -> None:
        self.weight_shift, self.backwards = weight_shift, backwards
        self.arrays = (indptr, indices, values, weights)
        self.shape = shape
        self.dtype = values.dtype
        self._turned: tuple[Array, Array, Array, Array] | None = None  # as in Sparse

    @property
    def T(self) -> Observed:
        if self._turned is None:
            self._turned = sparse.transposed_rows(*self.arrays, self.shape[1])
        flipped = Observed(*self._turned, self.shape[::-1], self.weight_shift, not self.backwards)
        flipped._turned = self.arrays
        return flipped

    @property
    def n_entries(self) -> int:
        return int(self.arrays[2].size)

    @property
    def known_rows(self) -> Array | None:
        return np.diff(self.arrays[0]) > 0

    def by_component(self, of_W: Array, of_H: Array, ones_W: float, ones_H: float) -> tuple[Array, Array]:
        return of_W, of_H

    def free(self, r: int) -> int:
        return r

    @property
    def counts(self) -> Array | None:
        indptr, _, _, weights = self.arrays
        if not weights.size:
            return np.diff(indptr).astype(np.float64)
        sums = np.concatenate(([0.0], np.cumsum(weights, dtype=np.float64)))
        return np.asarray(np.ldexp(sums[indptr[1:]] - sums[indptr[:-1]], self.weight_shift))

    @property
    def weighted(self) -> tuple[Array, Array, Array, Array]:
        """The arrays, with one weight for all entries where each counts once: a kernel goes through either."""
        indptr, indices, values, weights = self.arrays
        return indptr, indices, values, weights if weights.size else np.ones(1, values.dtype)

    @property
    def values(self) -> Array:
        return self.arrays[2]

    def with_values(self, values: Array) -> Observed:
        indptr, indices, _, weights = self.arrays
        return Observed(indptr, indices, values, weights, self.shape, self.weight_shift, self.backwards)

    def some_rows(self, rows: Array) -> Observed:
        indptr, indices, values, weights = self.arrays
        indptr, origin = entries_of(indptr, rows)
        weights = weights[origin] if weights.size else weights
        shape = (rows.size, self.shape[1])
        return Observed(indptr, indices[origin], values[origin], weights, shape, self.weight_shift, self.backwards)

    def astype(self, dtype: np.dtype[Any]) -> Observed:
        indptr, indices, *numbers = self.arrays
        values, weights = (numbers_.astype(dtype, copy=False) for numbers_ in numbers)
        return Observed(indptr, indices, values, weights, self.shape, self.weight_shift, self.backwards)

    @property
    def mean(self) -> Any:
        _, _, values, weights = self.arrays
        return np.average(values, weights=weights) if weights.size else values.mean()

    @cached_property
    def summary(self) -> Summary:
        return summary(self.values)

    @cached_property
    def sum_squares(self) -> float:
        _, _, values, weights = self.arrays
        return float(factors.sum_of_squares(values * np.sqrt(weights) if weights.size else values))

    def work(self, r: int) -> float:
        return 2.0 * self.n_entries * r * (r + 1)

    def exact_work(self, r: int) -> float:
        return 2.0 * self.n_entries * r

    def slabs(self, r: int, moving: float = 0.0) -> list[Slab]:
        return cut_by_entries(self.arrays[0], slab_count(self.work(r) + moving, self.shape[0]))

    def normal(self, B: Array, shift: Array | None = None) -> RowGrams:
        return RowGrams(self, B, shift)

    def rows(self, lo: int, hi: int, zeros: bool) -> Iterator[tuple[int, int, Rows]]:
        indptr, indices, values, weights = self.arrays
        yield lo, hi, Rows(indptr[lo : hi + 1], indices, values, weights)

    @property
    def first_zero(self) -> tuple[int, int] | None:
        indptr, indices, values, _ = self.arrays
        if not values.size or values.min() > 0:
            return None
        p = int(np.argmin(values))
        return int(np.searchsorted(indptr, p, side="right") - 1), int(indices[p])

    def column_sums(self, B: Array) -> Array:
        return B[:0]

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        return sum(
            team.map(lambda lo, hi: observed.squared_error(*self.weighted, B, False, A, lo, hi), self.slabs(A.shape[1]))
        )

    def times(self, B: Array, team: Team) -> Array:
        indptr, indices, values, _ = self.arrays
        mean = values.dtype.type(values.mean())
        centred = Sparse(indptr, indices, values - mean, self.shape)
        return np.asarray(product(centred, B, team) + mean * B.sum(axis=0))


def _widened(B: Array, shift: Array | None) -> Array:
    """``B`` (n, r) and ``shift`` (n,) side by side, with as much beyond the last row as is read there.

    Rows that are not much shorter than blocks are made whole blocks, so that each begins where a cache line does.
    """
    n, r = B.shape
    needed = r + (shift is not None)
    wide = needed if needed <= LANES // 2 else needed + -needed % LANES
    line = CACHE_LINE // B.itemsize
    room = np.zeros(n * wide + line + LANES, B.dtype)
    skip = -(room.ctypes.data // B.itemsize) % line
    out = room[skip : skip + n * wide].reshape(n, wide)
    out[:, :r] = B
    if shift is not None:
        out[:, r] = shift
    return out
