r"""Dense, but for some missing entries: X is kept whole, with 0 at missing places, and a list of these.

Where every row has its own Gram matrix, ``2 n r²`` flop of each row go into that. But of rows that miss few entries the
matrices differ little from the one of complete rows, ``G = BᵀB``, and ``C = X B`` is a product like any other. Two
ways make use of that:

**Downdating.** ``G_i = G - Σ b_j b_jᵀ`` over what row i misses, in float64. These are the normal equations themselves,
so any solver makes the steps that it would have made with the observed entries one by one. Where next to nothing of a
diagonal would be left, the observed entries are summed instead.

**Imputation.** With each missing entry at what the fit makes of it, ``x̂_ij = a_i · b_j``, the row is complete, and
shares ``G`` with the others: ``C`` gains ``Σ x̂_ij b_j``. The objective of the filled row,

.. math:: \tilde f(a) = f(a) + \tfrac12 Σ_{j\ \text{missing}} (a · b_j - x̂_ij)^2,

lies above the true one and meets it, gradient included, where ``a`` is now. So what lowers it lowers ``f``, by
``½ Σ Δx̂²`` more. HALS that is free to choose its sweeps makes them in three rounds, and imputes afresh before each: so
a half-step ends about where sweeps of the row's own equations would. (One round takes more iterations, and meets a
tolerance on the KKT residual at up to twice the objective.) The residual reported is that of ``f``, by the gradient
at hand and the row's own curvature. Rows that miss most of what a component has in B would be long in coming: they
are downdated, and so are all where the solver has no such freedom.

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
from functools import cached_property, partial
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.data.dense import Dense
from nmfcore.data.normal import gram
from nmfcore.data.observed import GRAMS_AT_ONCE, Observed
from nmfcore.data.protocol import Block, Rows, Summary
from nmfcore.data.slabs import LEAST_ROWS, entries_of
from nmfcore.data.sparse import Sparse
from nmfcore.kernels import factors, sparse
from nmfcore.kernels import imputed as punctured
from nmfcore.losses.penalty import Penalty

MOST_MISSING = 1 / 3  # of all entries: with more, solvers that do not impute are faster on observed entries one by one
ROUNDS = 3  # in which sweeps are made, with missing entries imputed afresh before each
MOST_GONE = 0.8  # of a component's sum of squares: a round takes a row the rest of the way to where it should be
PATIENCE = 0.01  # rounds end when one lowers the objective by less than this share of the first


def nearly_complete(n_observed: int, shape: tuple[int, ...]) -> bool:
    """Whether so few entries are missing that :class:`Punctured` is the faster storage."""
    n_entries = shape[0] * shape[1]
    return n_entries - n_observed <= MOST_MISSING * n_entries


class DowndatedGrams:
    """Normal equations of rows that miss few entries: one ``C = X B``, and ``G = BᵀB`` less what a row misses."""

    def __init__(self, data: Punctured, B: Array) -> None:
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
            for part, G in self._grams(np.arange(start, stop), self.B.dtype):
                yield start + part.start, start + part.stop, C[part], G

    def _grams(self, rows: Array, dtype: np.dtype[Any]) -> Iterator[tuple[slice, Array]]:
        """The Gram matrices of some rows, as many at a time as fit the cache; the array is used again."""
        r = self.B.shape[1]
        step = max(1, min(rows.size, GRAMS_AT_ONCE // (r * r)))
        G = np.empty((step, r, r), dtype)
        for start in range(0, rows.size, step):
            part = slice(start, min(start + step, rows.size))
            punctured.row_grams(*self.data.missing, self.exact_B, self.exact_G, rows[part], G)
            yield part, G[: part.stop - start]

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Let ``solver`` move the rows ``lo <= i < hi`` of ``A`` into ``out``; rows that can share ``G`` do so."""
        imputes = getattr(solver, "imputes", False)
        for start, stop, C, G in self.complete.blocks(lo, hi):
            rows = np.arange(start, stop)
            gone = np.empty(C.shape)
            punctured.absent(*self.data.missing, self.B, start, stop, gone)
            most = MOST_GONE * np.diag(self.exact_G) if imputes else 0.0
            sharing = np.all(gone <= most, axis=1)
            if np.count_nonzero(sharing) < LEAST_ROWS:
                sharing[:] = False
            mine = rows[sharing]
            if mine.size:
                given, moved = A[mine], np.empty((mine.size, A.shape[1]), A.dtype)
                if imputes:
                    self._rounds(solver, mine, given, C[sharing], G, gone[sharing], penalty, sweeps, moved, tally)
                else:
                    solver.update(given, C[sharing], G, penalty, sweeps, moved, tally)
                out[mine] = moved
            mine = rows[~sharing]
            for part, own in self._grams(mine, self.B.dtype):
                given, moved = A[mine[part]], np.empty((len(own), A.shape[1]), A.dtype)
                solver.update(given, C[mine[part] - start], own, penalty, sweeps, moved, tally)
                out[mine[part]] = moved

    def _rounds(
        self,
        solver: Any,
        rows: Array,
        A: Array,
        C: Array,
        G: Array,
        gone: Array,
        penalty: Penalty,
        sweeps: int,
        out: Array,
        tally: Array,
    ) -> None:
        """Sweeps with missing entries at what the fit makes of them; then these are brought up to date, and again.

        ``C`` is written to.
        """
        r = A.shape[1]
        impute = partial(punctured.impute, *self.data.missing, self.B, rows)
        tally[2 * r + 1] += impute(A, np.zeros_like(A), C)
        tally[2 * r + 1] += punctured.violations(A, C, G[0], gone, penalty.l1, penalty.l2, tally[:r])
        before, first, each = A, 0.0, -(-sweeps // ROUNDS)
        out[:] = A
        for left in range(sweeps, 0, -max(each, 1)):
            part = np.zeros_like(tally)
            solver.update(before, C, G, penalty, min(each, left), out, part)
            # The parabola that was minimised lies above the objective, and meets it where the round began.
            fell = float(part[2 * r]) + 0.5 * impute(out, before, C)
            tally[2 * r] += fell
            if fell <= PATIENCE * first:
                break
            before, first = out.copy(), first or fell
        punctured.violations(out, C, G[0], gone, penalty.l1, penalty.l2, tally[r : 2 * r])

    def change(self, A: Array, Y: Array, l1: float, l2: float, lo: int, hi: int) -> float:
        """Exact change of the objective between two factors, from the products already made."""
        gone = np.empty((hi - lo, A.shape[1]))
        punctured.absent(*self.data.missing, self.B, lo, hi, gone)
        # Taken off the sum over all entries, a fit of missing ones that is far above X would leave only rounding.
        own = lo + np.flatnonzero(np.any(gone > MOST_GONE * np.diag(self.exact_G), axis=1))
        change = 0.0
        for part, G in self._grams(own, self.exact_B.dtype):
            rows = own[part]
            change += punctured.change_by_grams(A[rows], Y[rows], self.complete.C[rows], G, l1, l2)
        if own.size:
            Y = Y.copy()
            Y[own] = A[own]
        change += factors.change(A, Y, self.complete.C, self.exact_G, l1, l2, lo, hi)
        return float(change - punctured.change(*self.data.missing, A, Y, self.B, lo, hi))


class Punctured:
    """A dense matrix with 0 where an entry is missing, and where that is: ``missing`` is ``indptr`` and ``indices``."""

    weight_shift = 0
    by_entries = False

    def __init__(self, dense: Dense, missing: tuple[Array, Array]) -> None:
        self.dense, self.missing = dense, missing
        self.shape, self.dtype = dense.shape, dense.dtype
        self._turned: tuple[Array, Array] | None = None  # arrays, not the object: the two would hold each other

    @classmethod
    def of(cls, X: Array, observed: Array) -> Punctured:
        """``X`` where ``observed``, both (m, n); elsewhere ``X`` is 0 already."""
        rows, columns = np.nonzero(~observed)
        counts = np.bincount(rows, minlength=X.shape[0])
        return cls(Dense(X), (np.concatenate(([0], np.cumsum(counts))), columns.astype(np.int32)))

    @property
    def T(self) -> Punctured:
        if self._turned is None:
            nothing = np.zeros(self.missing[1].size, self.dtype)
            self._turned = sparse.transposed_rows(*self.missing, nothing, nothing[:0], self.shape[1])[:2]
        flipped = Punctured(self.dense.T, self._turned)
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
        return sum(team.map(lambda lo, hi: punctured.squared_error(*arrays, lo, hi), self.dense.slabs(A.shape[1])))
