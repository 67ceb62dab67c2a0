"""What X is: dense, sparse, or observed in part. A mask is a storage, not a flag.

A half-step never sees X. It sees the normal equations of its rows: for the row ``a_i`` of the factor that moves,
with the other factor ``B`` fixed, the objective is

    ½ a_iᵀ G_i a_i - c_iᵀ a_i + const,      c_i = Σ_j ω_ij x_ij b_j,      G_i = Σ_j ω_ij b_j b_jᵀ

where the sums run over the entries that count. When all of them count, every row has the same ``G = BᵀB`` and
``C = X B`` is a product with a matrix; when some are missing, every row has its own ``G_i`` (which is why
masked data needs a storage of its own). ``data.normal(B)`` hands out these equations slab by slab.

``data.T`` is the same matrix with rows and columns exchanged, so that one half-step serves both factors.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from nmfcore._parallel import Slab, Team
from nmfcore._types import Array
from nmfcore.kernels import factors

Block = tuple[int, int, Array, Array]  # rows lo <= i < hi, C (hi - lo, r), G (1 or hi - lo, r, r)


class Rows(NamedTuple):
    """Some rows, compressed; ``indices`` are empty where every column is stored, ``weights`` where all are 1."""

    indptr: Array
    indices: Array
    values: Array
    weights: Array


class Entries(NamedTuple):
    """The observed entries of all rows and the factor that is fixed; see :mod:`nmfcore.kernels.observed`."""

    indptr: Array
    indices: Array
    values: Array
    weights: Array
    B: Array
    shifted: bool
    backwards: bool


class Summary(NamedTuple):
    """What one read of the stored entries tells."""

    valid: bool  # no NaN, infinity or negative number
    largest: float  # 0 if there is none
    smallest: float  # above 0; inf if there is none
    nonzero: int
    squares: float  # Σ x²


def summary(values: Array) -> Summary:
    """Of entries in an array of any shape."""
    with np.errstate(over="ignore", invalid="ignore"):  # where Numba is told not to compile
        return Summary(*factors.summary(values.reshape(-1)))


class Normal(Protocol):
    """The normal equations of all rows of one factor, for one fixed ``B``."""

    def blocks(self, lo: int, hi: int) -> Iterator[Block]:
        """The equations of the rows ``lo <= i < hi``, a block at a time."""


class Data(Protocol):
    """A non-negative m×n matrix, as far as a solver needs to know it."""

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    grams: str
    """The Gram matrices of rows: ``"shared"`` by all, ``"downdated"`` by what a row misses, or a row's ``"own"``.

    A pass over rows with their own goes through the entries, and so knows the loss of the factor it is given.
    """
    stores_zeros: bool
    """Whether every entry that counts is stored, zeros too."""

    @property
    def counts(self) -> Array | None:
        """How much of each row counts, (m,) float64; None where all of every row does."""

    @property
    def values(self) -> Array:
        """The entries that are stored, in an array of any shape."""

    def with_values(self, values: Array) -> Data:
        """The same matrix with other stored entries."""

    def some_rows(self, rows: Array) -> Data:
        """A copy of some rows."""

    def astype(self, dtype: np.dtype[Any]) -> Data:
        """The same matrix in another precision."""

    @property
    def T(self) -> Data:
        """The same entries with rows and columns exchanged."""

    @property
    def n_entries(self) -> int:
        """How many entries count."""

    @property
    def weight_shift(self) -> int:
        """Weights are stored divided by ``2**weight_shift``."""

    @property
    def known_rows(self) -> Array | None:
        """Which rows have an entry that counts; None where all have."""

    @property
    def mean(self) -> Any:
        """The mean of the entries that count, to the bits that NumPy and SciPy make of it."""

    @property
    def summary(self) -> Summary:
        """Of the entries that are stored."""

    @property
    def sum_squares(self) -> float:
        """``Σ ω x²`` over the entries that count."""

    def by_component(self, of_W: Array, of_H: Array, ones_W: float, ones_H: float) -> tuple[Array, Array]:
        """What there is to say of each column of W and each row of H, as pairs of equal length.

        They are, but for offsets: the columns of offsets pair with columns of ones, of which this says ``ones``.
        """

    def free(self, r: int) -> int:
        """How many of ``r`` components, the first ones, may be given another scale: all but offsets."""

    def work(self, r: int) -> float:
        """Flop to form the normal equations of all rows at rank ``r``."""

    def exact_work(self, r: int) -> float:
        """Flop of :meth:`squared_error` at rank ``r``."""

    def slabs(self, r: int, moving: float = 0.0) -> list[Slab]:
        """How a pass at rank ``r`` is cut, which takes ``moving`` flop besides the normal equations.

        By the work alone, never by the number of threads.
        """

    def normal(self, B: Array) -> Any:
        """The normal equations of the rows given ``B`` (n, r)."""

    def rows(self, lo: int, hi: int, zeros: bool) -> Iterator[tuple[int, int, Rows]]:
        """The entries of the rows ``lo <= i < hi``, some rows at a time; with ``zeros``, unstored zeros too."""

    @property
    def first_zero(self) -> tuple[int, int] | None:
        """Where the first entry is that counts and is 0."""

    def column_sums(self, B: Array) -> Array:
        """``Σ_j B_j`` (1, r), the sums that all rows share; (0, r) where every row has its own."""

    def squared_error(self, A: Array, B: Array, team: Team) -> float:
        """``Σ ω (x - A Bᵀ)²`` entry by entry, in float64: one read of X, no cancellation."""

    def times(self, B: Array, team: Team) -> Array:
        """``X B`` with missing entries at the mean of the observed ones, for starts."""
