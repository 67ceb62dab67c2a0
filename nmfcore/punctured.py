"""Dense, but for some missing entries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.data import GRAMS_AT_ONCE, LEAST_ROWS, Block, Dense, Observed, Rows, Sparse, entries_of, gram
from nmfcore.kernels import factors, punctured, sparse
from nmfcore.parallel import Slab, Team


MOST_MISSING = 0.25  # of all entries


def nearly_complete(n_observed: int, shape: tuple[int, ...], degree: float) -> bool:
    """Whether so few entries are missing that :class:`Punctured` is the faster storage for such a loss."""
    n_entries = shape[0] * shape[1]
    return degree == 2.0 and n_entries - n_observed <= MOST_MISSING * n_entries


class DowndatedGrams:
    """Normal equations of rows that miss few entries: one ``C = X B``, and ``G = BᵀB`` less what a row misses."""

    def __init__(self, data: Punctured, B: Array) -> None:
        self.data, self.B = data, B
        self.complete = data.dense.normal(B)
        self.exact_B: Array = B.astype(np.float64, copy=False)
        self.exact_G = gram(B)

    def blocks(self, lo: int, hi: int) -> Iterator[Block]:
        """``(lo, hi, C, G)`` of some rows: long runs of complete rows share ``G``, the others have their own."""
        for start, stop, C, G in self.complete.blocks(lo, hi):
            last = start
            for first, end in self.data.complete_runs(start, stop):
                yield from self._own(last, first, C[last - start : first - start])
                yield first, end, C[first - start : end - start], G
                last = end
            yield from self._own(last, stop, C[last - start :])

    def _own(self, lo: int, hi: int, C: Array) -> Iterator[Block]:
        r = self.B.shape[1]
        step = max(1, min(hi - lo, GRAMS_AT_ONCE // (r * r)))
        G = np.empty((step, r, r), self.B.dtype)
        for start in range(lo, hi, step):
            stop = min(start + step, hi)
            punctured.row_grams(*self.data.missing, self.exact_B, self.exact_G, start, stop, G)
            yield start, stop, C[start - lo : stop - lo], G[: stop - start]

    def change(self, A: Array, Y: Array, l1: float, l2: float, lo: int, hi: int) -> float:
        """Exact change of the objective between two factors, from the products already made."""
        change = factors.change(A, Y, self.complete.C, self.exact_G, l1, l2, lo, hi)
        return float(change - punctured.change(*self.data.missing, A, Y, self.B, lo, hi))


class Punctured:
    """A dense matrix with 0 where an entry is missing, and where that is: ``missing`` is ``indptr`` and ``indices``."""

    weight_shift = 0

    def __init__(self, dense: Dense, missing: tuple[Array, Array]) -> None:
        self.dense, self.missing = dense, missing
        self.shape, self.dtype = dense.shape, dense.dtype

    @classmethod
    def of(cls, X: Array, observed: Array) -> Punctured:
        """``X`` where ``observed``, both (m, n); elsewhere ``X`` is 0 already."""
        rows, columns = np.nonzero(~observed)
        counts = np.bincount(rows, minlength=X.shape[0])
        return cls(Dense(X), (np.concatenate(([0], np.cumsum(counts))), columns.astype(np.int32)))

    @cached_property
    def T(self) -> Punctured:
        nothing = np.zeros(self.missing[1].size, self.dtype)
        indptr, indices, _, _ = sparse.transposed_rows(*self.missing, nothing, nothing[:0], self.shape[1])
        flipped = Punctured(self.dense.T, (indptr, indices))
        flipped.__dict__["T"] = self
        return flipped

    @property
    def counts(self) -> Array:
        """How many entries of each row are observed."""
        return self.shape[1] - np.diff(self.missing[0])

    @property
    def n_entries(self) -> int:
        return self.dense.n_entries - int(self.missing[1].size)

    @property
    def known_rows(self) -> Array | None:
        return self.counts > 0

    @property
    def values(self) -> Array:
        return self.dense.X

    def with_values(self, values: Array) -> Punctured:
        return Punctured(self.dense.with_values(values), self.missing)

    def some_rows(self, rows: Array) -> Punctured:
        indptr, origin = entries_of(self.missing[0], rows)
        return Punctured(self.dense.some_rows(rows), (indptr, self.missing[1][origin]))

    def astype(self, dtype: np.dtype[Any]) -> Punctured:
        return Punctured(self.dense.astype(dtype), self.missing)

    @cached_property
    def observed(self) -> Observed:
        """The same entries, stored one by one."""
        present = np.ones(self.shape, bool)
        present[np.repeat(np.arange(self.shape[0]), np.diff(self.missing[0])), self.missing[1]] = False
        rows, columns = np.nonzero(present)
        X = self.dense.X if self.dense.along == "rows" else self.dense.X.T
        indptr = np.concatenate(([0], np.cumsum(self.counts)))
        return Observed(indptr, columns.astype(np.int32), X[rows, columns], np.empty(0, self.dtype), self.shape)

    def rows(self, lo: int, hi: int, zeros: bool) -> Iterator[tuple[int, int, Rows]]:
        return self.observed.rows(lo, hi, zeros)

    @property
    def first_zero(self) -> tuple[int, int] | None:
        return self.observed.first_zero

    def column_sums(self, B: Array) -> Array:
        return self.observed.column_sums(B)

    def times(self, B: Array, team: Team) -> Array:
        indptr, indices = self.missing
        means = np.full(indices.size, self.mean, self.dtype)
        return self.dense.times(B, team) + Sparse(indptr, indices, means, self.shape).times(B, team)

    def work(self, r: int) -> float:
        return self.dense.work(r) + float(self.missing[1].size) * r * (r + 1)

    def exact_work(self, r: int) -> float:
        return self.dense.exact_work(r)

    def slabs(self, r: int, moving: float = 0.0) -> list[Slab]:
        return self.dense.slabs(r, moving + self.work(r) - self.dense.work(r))

    def normal(self, B: Array) -> DowndatedGrams:
        return DowndatedGrams(self, B)

    @property
    def mean(self) -> Any:
        return self.dense.X.sum() / self.dtype.type(self.n_entries)

    @property
    def sum_squares(self) -> float:
        return self.dense.sum_squares

    @cached_property
    def _runs(self) -> tuple[Array, Array]:
        whole = np.diff(self.missing[0], prepend=-1, append=self.missing[0][-1] + 1) == 0
        starts = np.flatnonzero(whole[1:] & ~whole[:-1])
        stops = np.flatnonzero(whole[:-1] & ~whole[1:])
        long = stops - starts >= LEAST_ROWS
        return starts[long], stops[long]

    def complete_runs(self, lo: int, hi: int) -> Iterator[Slab]:
        """Where many rows in a row miss nothing, between ``lo`` and ``hi``."""
        starts, stops = self._runs
        for k in range(np.searchsorted(stops, lo, side="right"), np.searchsorted(starts, hi)):
            yield max(lo, int(starts[k])), min(hi, int(stops[k]))

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        if self.dense.along == "columns":
            return self.T.squared_error(B, A, team)
        Bt = np.ascontiguousarray(B.T)
        arrays = self.dense.X, *self.missing, A, Bt
        return sum(team.map(lambda lo, hi: punctured.squared_error(*arrays, lo, hi), self.dense.slabs(A.shape[1])))
