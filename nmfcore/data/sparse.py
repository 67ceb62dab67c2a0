"""Sparse matrices whose zeros count."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from nmfcore._parallel import LEAST_SLABS, Slab, Team, slab_count
from nmfcore._types import Array
from nmfcore.data.complete import Complete
from nmfcore.data.normal import SharedGram, product
from nmfcore.data.protocol import Rows
from nmfcore.data.slabs import ENTRIES_AT_ONCE, MOST_WORK, ROWS_COPIED, cut_by_entries, entries_of, place_of
from nmfcore.kernels import sparse


class Sparse(Complete):
    """Compressed rows (CSR) in which an entry that is not stored is a zero like any other."""

    stores_zeros = False

    def __init__(self, indptr: Array, indices: Array, values: Array, shape: tuple[int, int]) -> None:
        self.indptr, self.indices, self.values = indptr, indices, values
        self.shape = shape
        self.dtype = values.dtype
        self._slabs: dict[int, list[Slab]] = {}  # by how many there are
        self._turned_slabs: dict[int, list[Slab]] = {}
        self._turned: tuple[Array, Array, Array] | None = None  # arrays, not the object: see T

    @property
    def T(self) -> Sparse:
        # Two objects that held each other would hold all of X twice until the garbage collector comes by.
        if self._turned is None:
            arrays = (self.indptr, self.indices, self.values, self.values[:0])
            self._turned = sparse.transposed_rows(*arrays, self.shape[1])[:3]
        flipped = Sparse(*self._turned, self.shape[::-1])
        flipped._turned = self.indptr, self.indices, self.values
        flipped._slabs, flipped._turned_slabs = self._turned_slabs, self._slabs
        flipped._summary = self._summary
        return flipped

    def with_values(self, values: Array) -> Sparse:
        return Sparse(self.indptr, self.indices, values, self.shape)

    def some_rows(self, rows: Array) -> Sparse:
        indptr, origin = entries_of(self.indptr, rows)
        return Sparse(indptr, self.indices[origin], self.values[origin], (rows.size, self.shape[1]))

    def astype(self, dtype: np.dtype[Any]) -> Sparse:
        converted = self.with_values(self.values.astype(dtype, copy=False))
        if self._turned is not None:
            indptr, indices, values = self._turned
            converted._turned = indptr, indices, values.astype(dtype, copy=False)
        return converted

    @property
    def mean(self) -> Any:
        return _sum_of_shares(self.values, 1.0 / self.n_entries)

    def work(self, r: int) -> float:
        return 2.0 * self.values.size * r

    def slabs(self, r: int, moving: float = 0.0) -> list[Slab]:
        work = self.work(r) + moving
        most = max(LEAST_SLABS, int(work / MOST_WORK))  # each slab brings all of a large factor near once more
        count = min(slab_count(work, self.shape[0]), most)
        if count not in self._slabs:  # looked up in every half-step
            self._slabs[count] = cut_by_entries(self.indptr, count)
        return self._slabs[count]

    def normal(self, B: Array) -> SharedGram:
        product = partial(sparse.rows_times, self.indptr, self.indices, self.values, B)
        return SharedGram(product, self.shape[0], B, self.shape[0])

    def rows(self, lo: int, hi: int, zeros: bool) -> Iterator[tuple[int, int, Rows]]:
        none, n = self.values[:0], self.shape[1]
        if not zeros:
            yield lo, hi, Rows(self.indptr[lo : hi + 1], self.indices, self.values, none)
            return
        step = max(1, ROWS_COPIED // n)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            block = np.zeros((stop - start, n), self.dtype)
            stored = slice(self.indptr[start], self.indptr[stop])
            counts = np.diff(self.indptr[start : stop + 1])
            block[np.repeat(np.arange(stop - start), counts), self.indices[stored]] = self.values[stored]
            yield start, stop, Rows(np.arange(stop - start + 1) * n, self.indices[:0], block.reshape(-1), none)

    @property
    def first_zero(self) -> tuple[int, int] | None:
        for i in np.flatnonzero(np.diff(self.indptr) < self.shape[1]):
            there = self.indices[self.indptr[i] : self.indptr[i + 1]]
            return int(i), int(np.setdiff1d(np.arange(there.size + 1), there)[0])
        if not self.values.size or self.values.min() > 0:
            return None
        return place_of(int(np.argmin(self.values)), self.shape[1])

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        Bt = np.ascontiguousarray(B.T)
        count = slab_count(2.0 * self.n_entries * A.shape[1], self.shape[0])
        return sum(
            team.map(
                lambda lo, hi: sparse.squared_error(self.indptr, self.indices, self.values, A, Bt, lo, hi),
                cut_by_entries(self.indptr, count),
            )
        )

    def times(self, B: Array, team: Team) -> Array:
        return product(self, B, team)


def _sum_of_shares(values: Array, share: float) -> Any:
    """``(values * share).sum()``, SciPy's mean: the same bits, from the halves that NumPy's pairwise sum is made of."""
    if values.size <= ENTRIES_AT_ONCE:
        return (values * share).sum()
    half = values.size // 2 // 8 * 8
    return _sum_of_shares(values[:half], share) + _sum_of_shares(values[half:], share)
