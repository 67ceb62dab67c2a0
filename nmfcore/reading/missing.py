"""Which entries of X count: the one contract for missing data, and the storage that follows from it.

Everything a caller can say about missing entries (NaN, a mask, zeros, "unstored", weights, a numpy masked array)
ends in the same list of observed entries; so equivalent inputs make the same factors. Values that are missing are
never looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore import _arguments
from nmfcore._types import Array
from nmfcore.data.dense import Dense
from nmfcore.data.imputed import Imputed, nearly_complete
from nmfcore.data.observed import Observed
from nmfcore.data.protocol import Data
from nmfcore.data.sparse import Sparse
from nmfcore.losses.scale import Scale
from nmfcore.machine import memory
from nmfcore.reading import arrays, compressed, fills
from nmfcore.reading.compressed import Compressed

SMALLER = "pass fewer rows or columns"

# X is worked on as it is while its largest entry lies within these powers of two of 1: no square or sum comes near
# overflow, and no copy is made.
_SAFE_EXPONENT = {np.dtype(np.float64): 100, np.dtype(np.float32): 16}


@dataclass(frozen=True, slots=True)
class Scaled:
    """Data whose largest entry and weight are of moderate size, and what they were divided by.

    ``lost`` tells that positive entries became 0 by that, far below the largest.
    """

    data: Data
    scale: Scale
    lost: bool = False


def check_rule(missing_values: object) -> float | str | None:
    """``None``, NaN, 0 or ``"unstored"``, as plain Python has them: a model file holds the rule."""
    if missing_values is None or (isinstance(missing_values, str) and missing_values == "unstored"):
        return None if missing_values is None else "unstored"
    if isinstance(missing_values, (int, float, np.integer, np.floating)) and not isinstance(missing_values, bool):
        value = float(missing_values)
        if np.isnan(value) or value == 0.0:
            return value
    raise ValueError(
        f"missing_values={missing_values!r} must be None (all entries are data), np.nan, 0 (every zero is missing) "
        "or 'unstored' (sparse X: what is not stored is missing). For anything else pass mask=, True where observed."
    )


def read(
    X: object,
    missing_values: object = None,
    mask: object = None,
    weights: object = None,
    dtype: np.dtype[Any] | None = None,
    name: str = "X",
    least_rows: int = 1,
    may_be_empty: bool = False,
    degree: float = 2.0,
    row_by_row: bool = False,
    columns: Array | None = None,
) -> Scaled:
    """Check ``X`` and store the entries that count.

    Parameters
    ----------
    X : array_like, masked array, DataFrame or sparse matrix (m, n)
        Never modified; used as it is where it is C-contiguous float32 or float64.
    missing_values, mask, weights
        As in :func:`nmfcore.factorize`.
    dtype : dtype or None
        float32 or float64; None keeps float32 and makes everything else float64.
    name : str
        What messages call X.
    least_rows : int
        0 allows a matrix without rows.
    may_be_empty : bool
        Whether a matrix without a single observed entry is allowed.
    degree : float
        That of the loss, β.
    row_by_row : bool
        Whether each row must come out to the bit as it would alone: then how X is stored may not depend on how much
        the other rows miss.
    columns : ndarray of int (n,) or None
        Each column is divided by 2 to the power of this. An X with another number of columns stays as it is.

    Raises
    ------
    TypeError, ValueError
        With the rule, the first offending entry and a remedy.
    """
    X, rule = fills.read(X, check_rule(missing_values), name, guided=mask is not None or weights is not None)
    mask, weights = (fills.read(guide, None, said)[0] for guide, said in ((mask, "mask"), (weights, "weights")))
    may_puncture = degree == 2.0 and not row_by_row
    if _arguments.is_sparse(X):
        data = _read_sparse(X, rule, mask, weights, dtype, name, may_puncture)
    else:
        if rule == "unstored":
            raise ValueError(
                f"missing_values='unstored' is for sparse {name}, and this is {type(X).__name__}. "
                "For dense data use np.nan, 0, or mask=."
            )
        data = _read_dense(X, rule, mask, weights, dtype, name, least_rows, may_puncture)
    arrays.check_size(data.shape, name, least_rows)
    if data.n_entries == 0 and not may_be_empty:
        raise ValueError(f"No observed entries: every entry of {name} is missing, so there is nothing to fit.")
    if columns is not None and columns.size == data.shape[1]:
        data = data.with_values(_divided(data, columns))
    return moderate(data, degree)


def _divided(data: Data, columns: Array) -> Array:
    """The values that are stored, those of each column divided by its power of two."""
    powers = columns
    if isinstance(data, Sparse):
        powers = columns[data.indices]
    elif isinstance(data, Observed):
        powers = columns[data.arrays[1]]
    return np.asarray(np.ldexp(data.values, -powers))


# ---- dense --------------------------------------------------------------------------------------------------


def _read_dense(
    X: object,
    rule: Any,
    mask: object,
    weights: object,
    dtype: np.dtype[Any] | None,
    name: str,
    least_rows: int,
    may_puncture: bool,
) -> Data:
    observed: Array | None = None
    if isinstance(X, np.ma.MaskedArray):
        observed = ~np.ma.getmaskarray(X)
        X = X.data
    raw = arrays.array_2d(X, name)
    arrays.check_size(raw.shape, name, least_rows)
    array = arrays.as_float(raw, dtype)
    if mask is not None:
        observed = _and(observed, mask_array(mask, array.shape))
    weight = None if weights is None else weights_array(weights, array.shape)
    if weight is not None:
        observed = _and(observed, weight > 0)
    if rule is not None:
        present = ~np.isnan(array) if np.isnan(rule) else array != 0
        observed = _and(observed, present)
    unit = weight is None or bool(np.all((weight == 1) | (weight == 0)))
    if observed is None or (unit and observed.all()):
        return _checked(Dense(array), name)
    count = int(np.count_nonzero(observed))
    if unit and may_puncture and nearly_complete(count, array.shape):
        memory.check({"a copy of X": array.nbytes}, _given(array.shape, name), SMALLER)
        array = np.where(observed, array, array.dtype.type(0))
        arrays.check_values(array, name, remedy=arrays.NAN_REMEDY)
        return Imputed.of(array, observed)
    one_by_one = count * (2 * 8 + array.dtype.itemsize * (1 if weight is None else 2))
    memory.check({f"{count} observed entries and where they are": one_by_one}, _given(array.shape, name), SMALLER)
    rows, columns = np.nonzero(observed)
    indptr = np.concatenate(([0], np.cumsum(observed.sum(axis=1)))).astype(np.int64)
    values = array[rows, columns]
    arrays.check_values(values, name, lambda p: (rows[p], columns[p]), remedy=arrays.NAN_REMEDY)
    chosen = np.ones(0) if weight is None else weight[rows, columns]
    kept, weight_shift = _moderate_weights(chosen, array.dtype)
    shape = (array.shape[0], array.shape[1])
    return Observed(indptr, columns.astype(np.int32), values, kept, shape, weight_shift)


def _given(shape: tuple[int, ...], name: str) -> str:
    return f"{name} of shape {tuple(map(int, shape))}"


def _checked(data: Dense | Sparse, name: str, where: Any = None) -> Data:
    """The data, whose summary has told whether there is anything to say of a value."""
    if not data.summary.valid:
        arrays.check_values(data.values, name, where, remedy=arrays.NAN_REMEDY)
    return data


def _and(left: Array | None, right: Array) -> Array:
    return right if left is None else left & right


def mask_array(mask: Any, shape: tuple[int, ...], name: str = "mask") -> Array:
    """A mask as an array: True where X was observed."""
    if _arguments.is_sparse(mask):
        return _filled_up(_guide(mask, shape, name), bool)
    array = arrays.plain(arrays.unmasked(mask, name, f"Pass {name}.filled(False) if that is missing."), name)
    if array.dtype != bool:
        unknown = np.argwhere(np.isnan(array)) if array.dtype.kind == "f" else np.empty(0)
        if unknown.size:
            place = ", ".join(map(str, unknown[0]))
            raise TypeError(f"{name}[{place}] is neither True nor False. Fill it, with False if that is missing.")
        raise TypeError(_not_bool(name, array.dtype))
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape} where X has {tuple(shape)}.")
    return array


def _not_bool(name: str, dtype: object) -> str:
    return f"{name} has dtype {dtype}; it must be bool, True where X was observed: pass {name}.astype(bool)."


def weights_array(weights: Any, shape: tuple[int, ...]) -> Array:
    """Weights as an array of float64."""
    if _arguments.is_sparse(weights):
        return _filled_up(_guide(weights, shape, "weights"), np.float64)
    remedy = "Pass weights.filled(0) to leave such entries out."
    dense = arrays.array_2d(arrays.unmasked(weights, "weights", remedy), "weights")
    array = arrays.as_float(dense, np.dtype(np.float64))
    if array.shape != shape:
        raise ValueError(f"weights has shape {array.shape} where X has {tuple(shape)}.")
    arrays.check_values(array, "weights", remedy="Fill it, with 0 to leave such entries out.")
    return array


def _filled_up(guide: Compressed, dtype: type) -> Array:
    size = math.prod(guide.shape) * np.dtype(dtype).itemsize
    memory.check({"it as a dense matrix": size}, _given(guide.shape, "a sparse mask, or sparse weights,"), SMALLER)
    array: Array = np.zeros(guide.shape, dtype)
    array[guide.rows, guide.indices] = guide.values
    return array


# ---- sparse -------------------------------------------------------------------------------------------------


def _read_sparse(
    X: Any, rule: Any, mask: object, weights: object, dtype: np.dtype[Any] | None, name: str, may_puncture: bool
) -> Data:
    incomplete = rule is not None or mask is not None or weights is not None
    X = compressed.compressed(X, name, dtype, duplicates="error" if incomplete else "sum")
    if rule is not None and rule != "unstored" and np.isnan(rule) and not np.isnan(X.values).any():
        rule = None  # no NaN is stored, and an entry that is not stored is a 0
    if rule is None and mask is None and weights is None:
        return _checked(Sparse(*X), name, _place(X))
    stored = X
    if rule is None or (rule != "unstored" and np.isnan(rule)):
        X = _filled(X, mask, weights)
    kept: list[Array] = []
    if rule is not None and rule != "unstored":
        kept.append(~np.isnan(X.values) if np.isnan(rule) else X.values != 0)
    if mask is not None:
        kept.append(_looked_up(mask, X, "mask") != 0)
    weight = None if weights is None else _looked_up(weights, X, "weights")
    if weight is not None:
        kept.append(weight > 0)
    keep = None if all(each.all() for each in kept) else np.logical_and.reduce(kept)
    data = _observed(X, keep, weight, name, may_puncture)
    # A mask that is true everywhere is no mask: then X is as sparse as it came.
    return Sparse(*stored) if isinstance(data, Dense) and X is not stored else data


def _observed(X: Compressed, keep: Array | None, weight: Array | None, name: str, may_puncture: bool) -> Data:
    """What of ``X`` is observed; all that is stored if ``keep`` is None."""
    indptr, indices, values = X.indptr, X.indices, X.values
    if keep is not None:
        before = np.concatenate(([0], np.cumsum(keep)))
        indptr, indices, values = before[indptr], indices[keep], values[keep]
        weight = None if weight is None else weight[keep]
    arrays.check_values(values, name, lambda p: (compressed.row_of(indptr, p), indices[p]), remedy=arrays.NAN_REMEDY)
    kept, weight_shift = _moderate_weights(np.ones(0) if weight is None else weight, values.dtype)
    if values.size == X.shape[0] * X.shape[1] and not kept.size:
        return Dense(values.reshape(X.shape))
    if may_puncture and not kept.size and nearly_complete(values.size, X.shape):
        array, observed = np.zeros(X.shape, values.dtype), np.zeros(X.shape, bool)
        rows = np.repeat(np.arange(X.shape[0]), np.diff(indptr))
        array[rows, indices], observed[rows, indices] = values, True
        return Imputed.of(array, observed)
    return Observed(indptr, indices, values, kept, X.shape, weight_shift)


def _place(X: Compressed) -> Any:
    return lambda p: (compressed.row_of(X.indptr, p), X.indices[p])


def _filled(X: Compressed, mask: object, weights: object) -> Compressed:
    """``X`` with the zeros stored that a mask or weights call observed (all of them if neither is given)."""
    for guide, name in ((mask, "mask"), (weights, "weights")):
        if _arguments.is_sparse(guide):
            there = _guide(guide, X.shape, name)
            return there._replace(values=_at(X, there).astype(X.values.dtype))
    taken = {"all its zeros": math.prod(X.shape) * (X.values.itemsize + 1)}
    remedy = "pass a sparse mask or sparse weights, or missing_values='unstored'"
    memory.check(taken, _given(X.shape, "a sparse X of which zeros are observed,"), remedy)
    pattern = np.ones(X.shape, bool)
    if mask is not None:
        pattern &= mask_array(mask, X.shape)
    if weights is not None:
        pattern &= weights_array(weights, X.shape) > 0
    dense = np.zeros(X.shape, X.values.dtype)
    dense[X.rows, X.indices] = X.values
    rows, columns = np.nonzero(pattern)
    indptr = np.concatenate(([0], np.cumsum(pattern.sum(axis=1)))).astype(np.int64)
    return Compressed(indptr, columns.astype(np.int32), dense[rows, columns], X.shape)


def _looked_up(other: object, X: Compressed, name: str) -> Array:
    """The values of a mask or of weights at the stored entries of ``X``; sparse ones are 0 where not stored."""
    if _arguments.is_sparse(other):
        return _at(_guide(other, X.shape, name), X)
    check = mask_array if name == "mask" else weights_array
    return check(other, X.shape)[X.rows, X.indices]


def _guide(other: Any, shape: tuple[int, ...], name: str) -> Compressed:
    """A sparse mask or sparse weights, checked."""
    if name == "mask" and other.dtype != bool:
        raise TypeError(_not_bool(name, other.dtype))
    if tuple(other.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(other.shape)} where X has {shape}.")
    there = compressed.compressed(other, name, np.dtype(np.float64), duplicates="error")
    arrays.check_values(there.values, name, _place(there))
    return there


def _at(there: Compressed, here: Compressed) -> Array:
    """The values of ``there`` at the places of ``here``, 0 where it stores none; both are sorted."""
    if not there.values.size:
        return np.zeros(here.values.size)
    if np.array_equal(there.indptr, here.indptr) and np.array_equal(there.indices, here.indices):
        return there.values
    n = here.shape[1]
    wanted, stored = here.rows * n + here.indices, there.rows * n + there.indices
    p = np.minimum(np.searchsorted(stored, wanted), stored.size - 1)
    return np.where(stored[p] == wanted, there.values[p], 0.0)


# ---- scale --------------------------------------------------------------------------------------------------


def moderate(data: Data, degree: float, dtype: np.dtype[Any] | None = None) -> Scaled:
    """Data scaled by a power of four where its largest entry is far from 1, so that nothing over- or underflows.

    ``dtype`` is what it will be computed in, if not in its own.
    """
    shift = moderate_shift(data.summary.largest, degree, dtype or data.dtype)
    if shift == 0:
        return Scaled(data, Scale(0, data.weight_shift, degree))
    copy = {"a copy of it at another scale": data.values.nbytes}
    memory.check(copy, f"X of shape {data.shape}", "multiply X by a number, so that its largest entry is near 1")
    lost = not np.ldexp(data.dtype.type(data.summary.smallest), -2 * shift) > 0
    scale = Scale(shift, data.weight_shift, degree)
    return Scaled(data.with_values(np.ldexp(data.values, -2 * shift)), scale, lost)


def moderate_shift(largest: float, degree: float, dtype: np.dtype[Any]) -> int:
    """Divide X by four to the power of this; 0 where its largest entry is near enough to 1."""
    exponent = _exponent(largest)
    # Powers other than these round differently at another scale: there X is always worked on at the same one.
    if degree in (0.0, 1.0, 2.0) and abs(exponent) <= _SAFE_EXPONENT[dtype]:
        return 0
    return exponent // 2


def _moderate_weights(weights: Array, dtype: np.dtype[Any]) -> tuple[Array, int]:
    """Weights of the data's dtype, divided by a power of two where the largest is far from 1; all 1: none at all."""
    if np.all(weights == 1):
        return np.empty(0, dtype), 0
    exponent = _exponent(float(weights.max()) if weights.size else 0.0)
    shift = 0 if abs(exponent) <= _SAFE_EXPONENT[dtype] else exponent
    moderate = np.ldexp(weights, -shift)
    if shift > 0 and _exponent(float(moderate.sum())) + shift > np.finfo(np.float64).maxexp:
        raise ValueError(
            f"The weights add up to more than float64 holds: the largest is {float(weights.max()):.3g}. "
            "Divide all weights by one number; only their ratios matter."
        )
    return moderate.astype(dtype), shift


def _exponent(largest: float) -> int:
    return int(np.frexp(largest)[1]) if largest > 0 else 0
