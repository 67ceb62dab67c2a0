"""What dense and sparse data have in common."""

from __future__ import annotations

from nmfcore._types import Array
from nmfcore.data.protocol import Summary, summary
from nmfcore.kernels import factors


class Complete:
    """What dense and sparse data have in common: every entry counts, none is missing."""

    shape: tuple[int, int]
    weight_shift = 0
    known_rows = None
    counts = None
    grams = "shared"
    stores_zeros = True
    values: Array
    _summary: Summary | None = None

    @property
    def summary(self) -> Summary:
        if self._summary is None:
            self._summary = summary(self.values)
        return self._summary

    @property
    def sum_squares(self) -> float:
        return self.summary.squares

    def by_component(self, of_W: Array, of_H: Array, ones_W: float, ones_H: float) -> tuple[Array, Array]:
        return of_W, of_H

    def free(self, r: int) -> int:
        return r

    @property
    def n_entries(self) -> int:
        return self.shape[0] * self.shape[1]

    def exact_work(self, r: int) -> float:
        return 2.0 * self.n_entries * r

    def column_sums(self, B: Array) -> Array:
        return factors.column_moments(B)[:1].astype(B.dtype)
