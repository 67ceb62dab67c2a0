"""Which entries count of what was passed in, as :mod:`nmfcore.reading.missing` reads it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nmfcore import _arguments
from nmfcore._types import Array
from nmfcore.holdout.sparse import CSR, dense_rows
from nmfcore.reading import arrays, compressed, fills, missing
from nmfcore.reading.compressed import Compressed


def read(
    X: Any, rule: Any, mask: Any, weights: Any, dtype: np.dtype[Any] | None
) -> tuple[Array | Compressed, Array | None, Array | None]:
    """X, which of its entries count (None: all do) and with what weights (None: 1).

    Dense: (m, n) arrays. Sparse: a compressed matrix, and arrays with an element for each entry it stores; such data
    are incomplete where the second is not None.
    """
    X, rule = fills.read(X, rule, "X")
    mask, weights = (fills.read(guide, None, name)[0] for guide, name in ((mask, "mask"), (weights, "weights")))
    nan = isinstance(rule, float) and math.isnan(rule)
    if not _arguments.is_sparse(X):
        return _read_dense(X, rule, mask, weights, dtype)
    guided = mask is not None or weights is not None
    stored = compressed.compressed(X, "X", dtype, duplicates="error" if guided or rule is not None else "sum")
    if rule is None or nan:
        if not guided and not np.isnan(stored.values).any():
            return stored, None, None
        guide = next((g for g in (mask, weights) if _arguments.is_sparse(g)), None)
        if guide is None:  # all cells of a dense mask, or all but the NaN: it takes a dense matrix to say which
            return _read_dense(dense_rows(CSR(*stored), 0, stored.shape[0]), rule, mask, weights, dtype)
        pattern = compressed.compressed(guide, "mask", np.dtype(np.float64), duplicates="error")
        stored = pattern._replace(values=_at(stored, pattern).astype(stored.values.dtype))
    observed = np.ones(stored.values.size, bool)
    if isinstance(rule, float):
        observed &= ~np.isnan(stored.values) if nan else stored.values != 0
    if mask is not None:
        observed &= _looked_up(mask, "mask", stored) != 0
    weight = None if weights is None else _looked_up(weights, "weights", stored)
    return stored, observed if weight is None else observed & (weight > 0), weight


def _read_dense(
    X: Any, rule: Any, mask: Any, weights: Any, dtype: np.dtype[Any] | None
) -> tuple[Array, Array | None, Array | None]:
    known: list[Array] = []
    if isinstance(X, np.ma.MaskedArray):
        known.append(~np.ma.getmaskarray(X))
        X = X.data
    array = arrays.as_float(arrays.array_2d(X, "X"), dtype)
    if mask is not None:
        known.append(missing.mask_array(mask, array.shape))
    weight = None if weights is None else missing.weights_array(weights, array.shape)
    if weight is not None:
        known.append(weight > 0)
        weight = None if np.all((weight == 0) | (weight == 1)) else np.ascontiguousarray(weight)
    if rule is not None:
        known.append(~np.isnan(array) if math.isnan(rule) else array != 0)
    observed = np.logical_and.reduce(known) if known else None
    return array, None if observed is None or observed.all() else np.ascontiguousarray(observed), weight


def _looked_up(guide: Any, name: str, X: Compressed) -> Array:
    """The values of a mask or of weights at the stored entries of ``X``."""
    if _arguments.is_sparse(guide):
        return _at(compressed.compressed(guide, name, np.dtype(np.float64), duplicates="error"), X)
    read_guide = missing.mask_array if name == "mask" else missing.weights_array
    return read_guide(guide, X.shape)[X.rows, X.indices]


def _at(there: Compressed, here: Compressed) -> Array:
    """The values of ``there`` at the places of ``here``, 0 where it stores none; both are sorted."""
    if not there.values.size:
        return np.zeros(here.values.size)
    wanted, stored = (c.rows * c.shape[1] + c.indices for c in (here, there))
    p = np.minimum(np.searchsorted(stored, wanted), stored.size - 1)
    return np.where(stored[p] == wanted, there.values[p], 0.0)


def kept_entries(X: Compressed, kept: Array, weights: Array | None) -> tuple[Compressed, Array | None]:
    """Only the entries where ``kept`` is True, and their weights."""
    before = np.concatenate(([0], np.cumsum(kept, dtype=np.int64)))
    matrix = Compressed(before[X.indptr], X.indices[kept], X.values[kept], X.shape)
    return matrix, None if weights is None else weights[kept]
