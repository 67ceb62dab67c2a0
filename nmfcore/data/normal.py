"""Normal equations that all rows share: ``C = X B`` and one ``G = BᵀB``."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Block, Data
from nmfcore.data.slabs import LEAST_ROWS, cut_evenly
from nmfcore.kernels import dense, factors


def gram(B: Array, team: Team | None = None) -> Array:
    """``BᵀB`` of ``B`` (n, r) in float64: only r² numbers, so exactness is cheap."""
    n, r = B.shape
    B = np.ascontiguousarray(B)

    def of_some(lo: int, hi: int) -> Array:
        G = np.empty((r, r))
        dense.gram(B[lo:hi], G)
        return G

    slabs = cut_evenly(n, 2.0 * n * r * r, LEAST_ROWS)
    return reduce(add, team.map(of_some, slabs) if team is not None else [of_some(*slab) for slab in slabs])


class SharedGram:
    """Normal equations of data without missing entries: ``C = X B``, and one ``G = BᵀB`` for all rows."""

    def __init__(self, product: Any, m: int, B: Array, step: int) -> None:
        self._product = product  # (lo, hi, out) -> None
        self._step = step
        self._B = B
        self._G: Array | None = None
        self.C: Array = np.empty((m, B.shape[1]), B.dtype)

    @property
    def G(self) -> Array:
        """``BᵀB`` (1, r, r)."""
        return self.shared() if self._G is None else self._G

    def shared(self, team: Team | None = None) -> Array:
        """Sum up ``G``, with the threads of a team if there is one."""
        self._G = gram(self._B, team)[None].astype(self._B.dtype, copy=False)
        return self._G

    def blocks(self, lo: int, hi: int) -> Iterator[Block]:
        """``(lo, hi, C, G)`` of some rows; ``C`` is kept for :meth:`change`."""
        for start in range(lo, hi, self._step):
            stop = min(start + self._step, hi)
            self.products(start, stop)
            yield start, stop, self.C[start:stop], self.G

    def products(self, lo: int, hi: int) -> None:
        """Fill ``C`` for some rows."""
        for start in range(lo, hi, self._step):
            stop = min(start + self._step, hi)
            self._product(start, stop, self.C[start:stop])

    def change(self, A: Array, Y: Array, l1: float, l2: float, lo: int, hi: int) -> float:
        """Exact change of the objective between two factors, from the products already made."""
        return float(factors.change(A, Y, self.C, self.G[0], l1, l2, lo, hi))


def product(data: Data, B: Array, team: Team) -> Array:
    """``X B``."""
    normal = data.normal(np.ascontiguousarray(B, dtype=data.dtype))
    team.map(normal.products, data.slabs(B.shape[1]))
    C: Array = normal.C
    return C
