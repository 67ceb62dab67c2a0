"""Dense arrays and factors as users pass them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nmfcore._arguments import is_sparse
from nmfcore._types import Array
from nmfcore.machine import memory
from nmfcore.reading import frames

NAN_REMEDY = (
    "Pass missing_values=np.nan if NaN stands for entries that were not observed (they are then ignored), or fill it."
)


def array_2d(X: object, name: str) -> Array:
    """``X`` as a two-dimensional numeric array, values unchecked; objects such as None and NA become NaN."""
    if X is None or isinstance(X, (str, bytes, Mapping, set)) or hasattr(X, "__next__"):
        raise TypeError(_no_matrix(X, name))
    if isinstance(X, np.matrix):
        raise TypeError(f"{name} is an np.matrix, whose * means something else; pass np.asarray({name}).")
    if is_sparse(X):
        raise TypeError(f"{name} is a sparse matrix ({_kind(X)}) where a dense one is needed; pass {name}.toarray().")
    array = plain(X, name)
    if array.dtype.kind in "SU":
        array = np.asarray(X, dtype=object)  # to tell a text among numbers from the numbers
    if array.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {array.dtype}. Pass its magnitude.")
    if array.dtype.kind not in "biufO":
        raise TypeError(
            f"{name} has dtype {array.dtype}; every argument must be a number, not a string, date or record that "
            "stands for a number. Convert it first."
        )
    if array.ndim == 0 and array.dtype.kind == "O":
        raise TypeError(_no_matrix(X, name))
    if array.shape == (0,):
        check_size(array.shape, name)
    if array.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {array.ndim}D array instead: {name} has shape {array.shape}. "
            f"{_reshaped(X, array, name)}"
        )
    return frames.from_objects(array, lambda i: f"{name}[{i[0]}, {i[1]}]") if array.dtype.kind == "O" else array


def _no_matrix(X: object, name: str) -> str:
    return f"{name} must be a matrix (array, DataFrame, sparse matrix, list of lists), not {_kind(X)}."


def _kind(X: object) -> str:
    return "None" if X is None else type(X).__name__


def _reshaped(X: object, array: Array, name: str) -> str:
    """How to make a matrix of what has another number of dimensions."""
    shape = array.shape
    if len(shape) == 1 and is_sparse(array[0]):
        return f"It holds sparse matrices: pass scipy.sparse.vstack({name}), or one of them."
    if len(shape) == 1 and isinstance(array[0], (np.ndarray, list, tuple)):
        return f"It holds rows of its own: pass np.vstack({name}) if they are of one length."
    given = name if hasattr(X, "reshape") else f"np.asarray({name})"
    if len(shape) == 0:
        return f"A single number is [[{name}]]."
    if len(shape) == 1:
        return f"Reshape your data: {given}.reshape(1, -1) for one row, (-1, 1) for one column."
    rows = f"{given}.reshape({shape[0]}, -1)"
    return f"Reshape your data: {rows} makes a row of each of the {shape[0]} arrays in {name}; or pass one of them."


def plain(X: Any, name: str) -> Array:
    """``X`` as an array of whatever it holds; data frames by column."""
    if hasattr(X, "collect") and not (hasattr(X, "__array__") or hasattr(X, "__len__")):
        raise TypeError(f"{name} is a {_kind(X)}, which holds no values yet; pass {name}.collect().")
    table = frames.columns(X)
    if table is not None and not (frames.is_pandas(X) and frames.is_plain(X)):
        return frames.dense(table, len(X))
    if isinstance(X, (list, tuple)) and any(isinstance(row, np.ma.MaskedArray) for row in X):
        raise TypeError(f"{name} is a {_kind(X)} of masked arrays, which loses their masks; pass np.ma.stack({name}).")
    try:
        return np.asarray(X)
    except ValueError as error:
        if isinstance(X, (list, tuple)):
            lengths = [len(row) if hasattr(row, "__len__") else None for row in X]
            for i, length in enumerate(lengths):
                if length != lengths[0]:
                    raise ValueError(f"{name}[{i}] {_extent(X[i])} where {name}[0] {_extent(X[0])}.") from error
        raise


def _extent(row: Any) -> str:
    return f"has {len(row)} entries" if hasattr(row, "__len__") else f"is {row!r}"


def unmasked(A: Any, name: str, remedy: str) -> Any:
    """``A``, which may be a masked array as long as nothing in it is masked: a mask would be lost without a word."""
    if not isinstance(A, np.ma.MaskedArray):
        return A
    masked = np.ma.getmaskarray(A)
    if masked.any():
        place = ", ".join(str(int(k)) for k in np.argwhere(masked)[0])
        raise ValueError(f"{name}[{place}] is masked: {name} must have a value everywhere. {remedy}")
    return A.data


def as_float(array: Array, dtype: np.dtype[Any] | None) -> Array:
    """C-contiguous, aligned, native float32 (if it is that, or asked for) or float64; a copy only if needed."""
    if dtype is None:
        dtype = np.dtype(np.float32 if array.dtype.newbyteorder("=") == np.float32 else np.float64)
    if array.dtype != dtype or not array.flags.c_contiguous:
        copy = {f"{array.size} numbers": array.size * dtype.itemsize}
        memory.check(copy, f"a copy in {dtype}, row by row,", f"pass a C-contiguous array of {dtype}")
    with np.errstate(over="ignore", under="ignore"):
        return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])


def check_size(shape: tuple[int, ...], name: str, least_rows: int = 1) -> None:
    """Refuse a matrix without columns, or with fewer rows than that."""
    for count, least, kind in zip(shape, (least_rows, 1), ("sample", "feature"), strict=True):
        if count < least:
            raise ValueError(
                f"Found array with 0 {kind}(s) (shape={shape}) while a minimum of 1 is required: {name} is empty."
            )


def check_values(values: Array, name: str, where: Any = None, *, remedy: str = "") -> None:
    """Refuse NaN, infinities and negative numbers; ``where(p)`` turns a flat position into a place."""
    flat = values.reshape(-1)
    if flat.size == 0 or (flat.min() >= 0 and flat.max() < np.inf):  # false with a NaN anywhere
        return
    p = int(np.argmax(~((flat >= 0) & (flat < np.inf))))
    index = where(p) if where else np.unravel_index(p, values.shape)
    place = f"{name}[{', '.join(str(int(k)) for k in index)}] = {flat[p]:g}"
    if np.isnan(flat[p]):
        raise ValueError(f"Input contains NaN: {place.split(' = ')[0]} is missing. {remedy}".rstrip())
    if flat[p] < 0:
        raise ValueError(
            f"Negative values in data passed to NMF: {place}, but every entry must be 0 or more. "
            f"Use {name}.clip(0) if that is round-off, or subtract the minimum."
        )
    raise ValueError(f"Input contains infinity: {place}, but every entry must be finite (of {flat.dtype}).")


def factor(A: object, name: str, shape: tuple[int, int], dtype: np.dtype[Any]) -> Array:
    """A starting factor of the given shape: finite, non-negative, never the caller's own memory."""
    if hasattr(A, "W") and hasattr(A, "H"):
        raise TypeError(f"{name} is a whole factorization f; pass W=f.W, H=f.H.")
    array = array_2d(unmasked(A, name, f"Pass {name}.filled(0), or other numbers to start from."), name)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape} where {shape} is needed for this X and rank.")
    made = as_float(array, dtype)
    check_values(made, name)
    return np.array(made)  # never the caller's own memory
