"""Dense matrices, and transposes of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.data.complete import Complete
from nmfcore.data.normal import SharedGram, product
from nmfcore.data.protocol import Rows
from nmfcore.data.slabs import ALIGNED, LEAST_ROWS, ROWS_COPIED, cut_evenly, place_of
from nmfcore.kernels import dense

LEAST_COLUMNS = 96, 192  # of two slabs of a dense matrix along its columns, and of more: narrow loops take longer
COLUMNS_AT_ONCE = 512  # of a dense X: 64 rows of them, copied, stay in the second-level cache (kernels/dense.py)


class Dense(Complete):
    """A C-contiguous float32 or float64 matrix, or (``along="columns"``) the transpose of one."""

    def __init__(self, X: Array, along: str = "rows") -> None:
        self.X = self.values = X
        self.along = along
        self.dtype = X.dtype
        self.shape = (X.shape[0], X.shape[1]) if along == "rows" else (X.shape[1], X.shape[0])

    def with_values(self, values: Array) -> Dense:
        return Dense(values, self.along)

    def some_rows(self, rows: Array) -> Dense:
        return Dense(np.take(self.X, rows, axis=0 if self.along == "rows" else 1), self.along)

    def astype(self, dtype: np.dtype[Any]) -> Dense:
        return Dense(self.X.astype(dtype, copy=False), self.along)

    @property
    def T(self) -> Dense:
        flipped = Dense(self.X, "columns" if self.along == "rows" else "rows")
        flipped._summary = self._summary
        return flipped

    @property
    def mean(self) -> Any:
        return self.X.mean()

    def work(self, r: int) -> float:
        return 2.0 * self.n_entries * r

    def slabs(self, r: int, moving: float = 0.0) -> list[Slab]:
        fewest, least = LEAST_COLUMNS
        least = LEAST_ROWS if self.along == "rows" else min(max(self.shape[0] // 2, fewest), least)
        return cut_evenly(self.shape[0], self.work(r) + moving, least)

    def normal(self, B: Array) -> SharedGram:
        B = np.ascontiguousarray(B)
        if self.along == "rows":
            return SharedGram(partial(dense.rows_times, self.X, B), self.shape[0], B, self.shape[0])
        return SharedGram(partial(dense.columns_times, self.X, B), self.shape[0], B, COLUMNS_AT_ONCE)

    def rows(self, lo: int, hi: int, zeros: bool) -> Iterator[tuple[int, int, Rows]]:
        none, n = np.empty(0, np.int32), self.shape[1]
        step = hi - lo if self.along == "rows" else max(ALIGNED, ROWS_COPIED // n)
        for start in range(lo, hi, max(step, 1)):
            stop = min(start + step, hi)
            block = self.X[start:stop] if self.along == "rows" else np.ascontiguousarray(self.X[:, start:stop].T)
            yield start, stop, Rows(np.arange(stop - start + 1) * n, none, block.reshape(-1), block[:0, 0])

    @property
    def first_zero(self) -> tuple[int, int] | None:
        return None if not self.X.size or self.X.min() > 0 else place_of(int(np.argmin(self.X)), self.X.shape[1])

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        if self.along == "columns":
            return self.T.squared_error(B, A, team)
        Bt = np.ascontiguousarray(B.T)
        return sum(team.map(lambda lo, hi: dense.squared_error(self.X, A, Bt, lo, hi), self.slabs(A.shape[1])))

    def times(self, B: Array, team: Team) -> Array:
        return product(self, B, team)
