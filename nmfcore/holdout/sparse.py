"""A sparse matrix that the front door takes, without SciPy; parts of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nmfcore._types import Array
from nmfcore.machine import memory
from nmfcore.reading.compressed import Compressed


@dataclass(frozen=True)
class CSR:
    """A sparse matrix as far as :func:`nmfcore.factorize` asks; ``format`` "csc": the arrays go by columns."""

    indptr: Array
    indices: Array
    data: Array
    shape: tuple[int, int]
    format: str = "csr"

    def tocsr(self) -> CSR:
        """What makes it a sparse matrix."""
        return self


def dense_rows(X: Array | CSR, lo: int, hi: int) -> Array:
    """The rows ``lo <= i < hi`` with their zeros."""
    if not isinstance(X, CSR):
        return X[lo:hi]
    indptr = X.indptr[lo : hi + 1]
    part = slice(indptr[0], indptr[-1])
    shape = (indptr.size - 1, X.shape[1])
    what, remedy = f"a dense matrix of {shape[0]} x {shape[1]}", "pass holdout='blocks', or missing_values='unstored'"
    memory.check({"its zeros and all": shape[0] * shape[1] * X.data.itemsize}, what, remedy)
    out = np.zeros(shape, X.data.dtype)
    out[np.repeat(np.arange(indptr.size - 1), np.diff(indptr)), X.indices[part]] = X.data[part]
    return out


def part(X: Array | Compressed, rows: Array, columns: Array) -> Array | CSR:
    """The rows and columns where these are True."""
    if not isinstance(X, Compressed):
        return np.ascontiguousarray(X[np.ix_(rows, columns)])
    lengths = np.diff(X.indptr)
    kept = np.repeat(rows, lengths) & columns[X.indices]
    before = np.concatenate(([0], np.cumsum(kept, dtype=np.int64)))
    counts = (before[X.indptr[1:]] - before[X.indptr[:-1]])[rows]
    number = np.cumsum(columns) - 1
    shape = (int(rows.sum()), int(columns.sum()))
    indptr = np.concatenate(([0], np.cumsum(counts)))
    return CSR(indptr, number[X.indices[kept]].astype(X.indices.dtype), X.values[kept], shape)


def transpose(X: Array | CSR) -> Array | CSR:
    """The transpose; of compressed rows, which are its compressed columns, without a copy."""
    return CSR(X.indptr, X.indices, X.data, X.shape[::-1], "csc") if isinstance(X, CSR) else np.ascontiguousarray(X.T)
