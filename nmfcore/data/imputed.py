r"""Dense, but for some missing entries: X is kept whole, with 0 at missing places, and a list of these.

Where every row has its own Gram matrix, ``2 n r²`` flop of each row go into that. But of rows that miss few entries the
matrices differ little from the one of complete rows, ``G = BᵀB``, and ``C = X B`` is a product like any other. Two
ways make use of that:

**Downdating.** ``G_i = G - Σ b_j b_jᵀ`` over what row i misses, in float64. These are the normal equations themselves,
so any solver makes the steps that it would have made with the observed entries one by one. Where next to nothing of a
diagonal would be left, the observed entries are summed instead.

**Imputation** needs no Gram matrix but the shared one: :mod:`nmfcore.losses.imputed`.

Milliseconds of one thread for an iteration, float64, and iterations to a KKT residual of 1e-3 from the same start:

================  =======  ================  ============  ============
shape, rank       missing  one by one        downdated     imputed
================  =======  ================  ============  ============
500×300, 10       1 %      6.7 (14)          1.6 (14)      1.0 (14)
500×300, 10       5 %      7.3 (15)          1.8 (15)      1.1 (14)
500×300, 10       30 %     6.5 (19)          3.2 (19)      3.2 (16)
500×300, 10       50 %     5.8 (13)          5.7 (13)      5.8 (13)
2000×1000, 20     1 %      159 (20)          26 (20)       10 (18)
2000×1000, 20     5 %      153 (16)          30 (16)       14 (17)
2000×1000, 20     30 %     116 (16)          85 (16)       48 (13)
2000×1000, 20     50 %     89 (13)           138 (13)      134 (13)
4096×400, 40      5 %      410               87 (21)       32 (26)
4096×400, 40      30 %     303 (18)          243 (18)      78 (17)
4096×400, 40      40 %     284 (15)          313 (15)      96 (14)
================  =======  ================  ============  ============

References
----------
Zhang, Wang, Ford and Makedon, "Learning from incomplete ratings using non-negative matrix factorization", SDM 2006
(imputation as an EM algorithm).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.data.dense import Dense
from nmfcore.data.normal import gram
from nmfcore.data.observed import GRAMS_AT_ONCE, Observed
from nmfcore.data.protocol import Block, Rows, Summary
from nmfcore.data.slabs import entries_of
from nmfcore.data.sparse import Sparse
from nmfcore.kernels import factors, imputed, sparse

MOST_MISSING = 1 / 3  # of all entries: with more, solvers that do not impute are faster on observed entries one by one
MOST_GONE = 0.8  # of a component's sum of squares: a round takes a row the rest of the way to where it should be


def nearly_complete(n_observed: int, shape: tuple[int, ...]) -> bool:
    """Whether so few entries are missing that :class:`Imputed` is the faster storage."""
    n_entries = shape[0] * shape[1]
    return n_entries - n_observed <= MOST_MISSING * n_entries


class DowndatedGrams:
    """Normal equations of rows that miss few entries: one ``C = X B``, and ``G = BᵀB`` less what a row misses."""

    def __init__(self, data: Imputed, B: Array) -> None:
        self.data, self.B = data, B
        self.complete = data.dense.normal(B)
        self.exact_B: Array = B.astype(np.float64, copy=False)
        self.exact_G = gram(B)

    def shared(self, team: Team | None = None) -> Array:
        """Sum up ``BᵀB``."""
        return self.complete.shared(team)

    def blocks(self, lo: int, hi: int) -> Iterator[Block]:
        """``(lo, hi, C, G)`` of some rows, each with its own ``G``."""
        for start, stop, C, _ in self.complete.blocks(lo, hi):
            for part, G in self.grams(np.arange(start, stop), self.B.dtype):
                yield start + part.start, start + part.stop, C[part], G

    def grams(self, rows: Array, dtype: np.dtype[Any]) -> Iterator[tuple[slice, Array]]:
        """The Gram matrices of some rows, as many at a time as fit the cache; the array is used again."""
        r = self.B.shape[1]
        step = max(1, min(rows.size, GRAMS_AT_ONCE // (r * r)))
        G = np.empty((step, r, r), dtype)
        for start in range(0, rows.size, step):
            part = slice(start, min(start + step, rows.size))
            imputed.row_grams(*self.data.missing, self.exact_B, self.exact_G, rows[part], G)
            yield part, G[: part.stop - start]

    def change(self, A: Array, Y: Array, l1: float, l2: float, lo: int, hi: int) -> float:
        """Exact change of the objective between two factors, from the products already made."""
        gone = np.empty((hi - lo, A.shape[1]))
        imputed.absent(*self.data.missing, self.B, lo, hi, gone)
        # Taken off the sum over all entries, a fit of missing ones that is far above X would leave only rounding.
        own = lo + np.flatnonzero(np.any(gone > MOST_GONE * np.diag(self.exact_G), axis=1))
        change = 0.0
        for part, G in self.grams(own, self.exact_B.dtype):
            rows = own[part]
            change += imputed.change_by_grams(A[rows], Y[rows], self.complete.C[rows], G, l1, l2)
        if own.size:
            Y = Y.copy()
            Y[own] = A[own]
        change += factors.change(A, Y, self.complete.C, self.exact_G, l1, l2, lo, hi)
        return float(change - imputed.change(*self.data.missing, A, Y, self.B, lo, hi))


class Imputed:
    """A dense matrix with 0 where an entry is missing, and where that is: ``missing`` is ``indptr`` and ``indices``."""

    weight_shift = 0
    grams = "downdated"
    stores_zeros = True

    def __init__(self, dense: Dense, missing: tuple[Array, Array]) -> None:
        self.dense, self.missing = dense, missing
        self.shape, self.dtype = dense.shape, dense.dtype
        self._turned: tuple[Array, Array] | None = None  # arrays, not the object: the two would hold each other

    @classmethod
    def of(cls, X: Array, observed: Array) -> Imputed:
        """``X`` where ``observed``, both (m, n); elsewhere ``X`` is 0 already."""
        rows, columns = np.nonzero(~observed)
        counts = np.bincount(rows, minlength=X.shape[0])
        return cls(Dense(X), (np.concatenate(([0], np.cumsum(counts))), columns.astype(np.int32)))

    @property
    def T(self) -> Imputed:
        if self._turned is None:
            nothing = np.zeros(self.missing[1].size, self.dtype)
            self._turned = sparse.transposed_rows(*self.missing, nothing, nothing[:0], self.shape[1])[:2]
        flipped = Imputed(self.dense.T, self._turned)
        flipped._turned = self.missing
        return flipped

    @property
    def counts(self) -> Array:
        """How many entries of each row are observed."""
        return self.shape[1] - np.diff(self.missing[0]).astype(np.float64)

    def by_component(self, of_W: Array, of_H: Array, ones_W: float, ones_H: float) -> tuple[Array, Array]:
        return of_W, of_H

    def free(self, r: int) -> int:
        return r

    @property
    def n_entries(self) -> int:
        return self.dense.n_entries - int(self.missing[1].size)

    @property
    def known_rows(self) -> Array | None:
        return self.counts > 0

    @property
    def values(self) -> Array:
        return self.dense.X

    def with_values(self, values: Array) -> Imputed:
        return Imputed(self.dense.with_values(values), self.missing)

    def some_rows(self, rows: Array) -> Imputed:
        indptr, origin = entries_of(self.missing[0], rows)
        return Imputed(self.dense.some_rows(rows), (indptr, self.missing[1][origin]))

    def astype(self, dtype: np.dtype[Any]) -> Imputed:
        return Imputed(self.dense.astype(dtype), self.missing)

    @cached_property
    def observed(self) -> Observed:
        """The same entries, stored one by one."""
        present = np.ones(self.shape, bool)
        present[np.repeat(np.arange(self.shape[0]), np.diff(self.missing[0])), self.missing[1]] = False
        rows, columns = np.nonzero(present)
        X = self.dense.X if self.dense.along == "rows" else self.dense.X.T
        indptr = np.concatenate(([0], np.cumsum(self.counts.astype(np.int64))))
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

    @property
    def summary(self) -> Summary:
        return self.dense.summary

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        if self.dense.along == "columns":
            return self.T.squared_error(B, A, team)
        Bt = np.ascontiguousarray(B.T)
        arrays = self.dense.X, *self.missing, A, Bt
        return sum(team.map(lambda lo, hi: imputed.squared_error(*arrays, lo, hi), self.dense.slabs(A.shape[1])))
