"""The only judge of what users pass in: the rule, what came, and the remedy. Nothing below checks again."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from nmfcore import frames, memory
from nmfcore._types import Array
from nmfcore.kernels import sparse as sparse_kernels
from nmfcore.streams import tolerant_bar

LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
NAN_REMEDY = (
    "Pass missing_values=np.nan if NaN stands for entries that were not observed (they are then ignored), or fill it."
)
SORTED_AT_ONCE = 2**20  # entries of a sparse matrix, or as many as it has columns
MOST_BETA = 10.0  # in size; certificates were checked up to here (tests/faults/test_extremes.py)
AS_GOOD_AS = 1e-6  # so near to one of these the general formula, divided by β (β - 1), has lost its digits


class Compressed(NamedTuple):
    """A checked matrix in compressed rows: sorted, without duplicates, dtype float32 or float64."""

    indptr: Array
    indices: Array
    values: Array
    shape: tuple[int, int]

    @property
    def rows(self) -> Array:
        """The row of each stored entry."""
        m, nnz = self.shape[0], self.indices.size
        taken = {"their numbers": 8 * (2 * m + nnz)}
        memory.check(taken, f"the rows of a sparse matrix of {m}", "leave out rows in which nothing is stored")
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))


# ---- numbers ------------------------------------------------------------------------------------------------


def whole(value: object, name: str, least: int) -> int:
    """``value`` as an int of at least ``least``."""
    if isinstance(value, (bool, np.bool_, np.ndarray)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r} must be a whole number, not {type(value).__name__}.")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name}={number} must be {least} or more.")
    return number


def non_negative(value: object, name: str) -> float:
    """``value`` as a finite float of at least 0."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be a number, not {type(value).__name__}.")
    number = _float(value)
    if not (math.isfinite(number) and number >= 0.0):
        raise ValueError(f"{name}={value!r} must be finite and 0 or more.")
    return number


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a Python int beyond float64
        return math.inf if value > 0 else -math.inf


def factor_pair(value: object, name: str) -> tuple[float, float]:
    """A number for both factors, or a pair of numbers for (W, H)."""
    if isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value):
        if len(value) != 2:
            raise ValueError(f"{name}={value!r} must be a number, or a pair of numbers for (W, H).")
        return non_negative(value[0], f"{name}[0]"), non_negative(value[1], f"{name}[1]")
    number = non_negative(value, name)
    return number, number


def one_of(value: object, name: str, choices: tuple[str | None, ...]) -> str:
    """``value`` if it is one of ``choices``, of which None is for messages: the caller has dealt with it."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}.")
    return str.__str__(value)  # not a subclass, such as np.str_


def beta(loss: object) -> tuple[str | float, float]:
    """A loss by its name or its β, as it is to be called, and β; within rounding of a named one it is that."""
    if isinstance(loss, str):
        name = one_of(loss, "loss", tuple(LOSSES))
        return name, LOSSES[name]
    if isinstance(loss, (bool, np.bool_)) or not isinstance(loss, numbers.Real) or not math.isfinite(loss):
        raise ValueError(f"loss={loss!r} is not one of {', '.join(map(repr, LOSSES))}, nor a finite number β.")
    value = float(loss)
    if abs(value) > MOST_BETA:
        raise ValueError(
            f"loss={loss!r} must lie between {-MOST_BETA:g} and {MOST_BETA:g}: powers of the entries beyond these "
            "overflow, or leave only the largest or the smallest entry. Choose a smaller β."
        )
    near = ((known_as, known) for known_as, known in LOSSES.items() if abs(value - known) < AS_GOOD_AS)
    return next(near, (value, value))


def float_dtype(value: object) -> np.dtype[Any] | None:
    """float32, float64, or None for what the data are."""
    if value is None:
        return None
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        try:
            if np.dtype(value) == dtype:  # type: ignore[call-overload]
                return dtype
        except TypeError:
            break
    raise ValueError(f"dtype={value!r} must be float32 or float64.")


# ---- dense arrays -------------------------------------------------------------------------------------------


def is_sparse(X: object) -> bool:
    """Whether ``X`` is a sparse matrix in SciPy's manner; SciPy itself is not needed to know."""
    return hasattr(X, "tocsr") and hasattr(X, "shape")


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


# ---- sparse matrices ----------------------------------------------------------------------------------------


def compressed(X: Any, name: str, dtype: np.dtype[Any] | None, *, duplicates: str) -> Compressed:
    """A sparse matrix of any format in checked compressed rows, values unchecked.

    ``duplicates`` is ``"sum"`` (what SciPy does) or ``"error"`` (two ratings for one cell are a mistake).
    """
    if len(X.shape) != 2:
        raise ValueError(f"{name} is a {len(X.shape)}-dimensional sparse array; a matrix is needed.")
    m, n = (int(size) for size in X.shape)
    kind = getattr(X, "format", None)
    made = {"csr": m, "csc": n + 2 * m}.get(str(kind), 2 * m)  # those of the caller are copied, and others made of them
    what, remedy = f"{name} of shape ({m}, {n})", "leave out rows and columns in which nothing is stored"
    memory.check({"row pointers": 8 * made}, what, remedy)
    if kind == "csc":
        _check_structure(X, n, m, name)
        indptr, indices, values = _own(X, dtype, name)
        indptr, indices, values, _ = sparse_kernels.transposed_rows(indptr, indices, values, values[:0], m)
    elif kind == "coo":
        indptr, indices, values = _from_coordinates(X, m, n, name, dtype)
    else:
        X = X.tocsr() if kind != "csr" else X
        _check_structure(X, m, n, name)
        indptr, indices, values = _own(X, dtype, name)
    return Compressed(*_canonical(indptr, indices, values, n, name, duplicates), (m, n))


def _own(X: Any, dtype: np.dtype[Any] | None, name: str) -> tuple[Array, Array, Array]:
    values = np.asarray(X.data)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {values.dtype}; a matrix of real numbers is needed.")
    return np.asarray(X.indptr).astype(np.int64), _index_array(X.indices, X.shape), as_float(values, dtype)


def _index_array(indices: object, shape: tuple[int, ...]) -> Array:
    narrow = max(shape) <= np.iinfo(np.int32).max
    return np.require(np.asarray(indices), np.int32 if narrow else np.int64, ["C_CONTIGUOUS", "ALIGNED"])


def _check_structure(X: Any, major: int, minor: int, name: str) -> None:
    """An index out of range would read memory that is not ours; SciPy's own check lets some through."""
    indptr, indices, values = (np.asarray(part) for part in (X.indptr, X.indices, X.data))
    _check_whole(indptr, f"{name}.indptr")
    if indptr.shape != (major + 1,) or indptr[0] != 0 or np.any(np.diff(indptr) < 0):
        raise ValueError(f"{name}.indptr is not {major + 1} rising numbers from 0: the sparse matrix is damaged.")
    if not indices.shape == values.shape == (int(indptr[-1]),):
        raise ValueError(
            f"{name} has {indices.size} indices and {values.size} values where indptr counts {indptr[-1]}: "
            "the sparse matrix is damaged."
        )
    _check_range(indices, minor, f"{name}.indices")


def _check_whole(indices: Array, name: str) -> None:
    if indices.dtype.kind not in "iu" and indices.size:
        raise ValueError(f"{name} has dtype {indices.dtype}, not whole numbers: the sparse matrix is damaged.")


def _check_range(indices: Array, size: int, name: str) -> None:
    _check_whole(indices, name)
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        p = int(np.argmax((indices < 0) | (indices >= size)))
        raise ValueError(f"{name}[{p}] = {indices[p]} is out of range for size {size}: the sparse matrix is damaged.")


def _from_coordinates(X: Any, m: int, n: int, name: str, dtype: np.dtype[Any] | None) -> tuple[Array, Array, Array]:
    rows, columns, values = (np.asarray(part) for part in (X.row, X.col, X.data))
    if not rows.shape == columns.shape == values.shape:
        raise ValueError(f"{name}.row, .col and .data differ in length: the sparse matrix is damaged.")
    for indices, size, axis in ((rows, m, "row"), (columns, n, "col")):
        _check_range(indices, size, f"{name}.{axis}")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"{name} holds {values.dtype}; a matrix of real numbers is needed.")
    rows, columns, values = _index_array(rows, (m, n)), _index_array(columns, (m, n)), as_float(values, dtype)
    return sparse_kernels.by_rows(rows, columns, values, m)


def _canonical(
    indptr: Array, indices: Array, values: Array, n: int, name: str, duplicates: str
) -> tuple[Array, Array, Array]:
    """Columns rising within each row, each at most once."""
    if sparse_kernels.columns_rise(indptr, indices):
        return indptr, indices, values
    starts, kept, sums = np.zeros_like(indptr), np.empty_like(indices), np.empty_like(values)
    stored, twice = 0, ""
    for lo, hi in _blocks(indptr, max(SORTED_AT_ONCE, n)):  # only what is returned grows with the entries
        starts_here, columns, numbers = _in_order(indptr, indices, values, n, lo, hi)
        counts = np.diff(starts_here)
        if not sparse_kernels.columns_rise(starts_here, columns):
            rows = np.repeat(np.arange(lo, hi), counts)
            first = np.ones(columns.size, bool)
            first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
            if not twice:
                p = int(np.argmin(first))
                times = 1 + int(np.argmax(first[p:]) or first[p:].size)
                twice = f"{name}[{rows[p]}, {columns[p]}] is stored {times} times"
            places = np.flatnonzero(first)
            rows, columns, numbers = rows[places], columns[places], np.add.reduceat(numbers, places)
            counts = np.bincount(rows - lo, minlength=hi - lo)
        part = slice(stored, stored + columns.size)
        kept[part], sums[part] = columns, numbers
        starts[lo + 1 : hi + 1] = counts
        stored += columns.size
    if twice and duplicates == "error":
        raise ValueError(
            f"{twice} ({indices.size - stored} such entries in all); one value per observed entry is needed. "
            "Keep the last or the mean, for example with nmfcore.Ratings.from_triplets(..., duplicates='last')."
        )
    return np.cumsum(starts), kept[:stored], sums[:stored]


def _in_order(indptr: Array, indices: Array, values: Array, n: int, lo: int, hi: int) -> tuple[Array, Array, Array]:
    """Some rows in compressed form, sorted by column."""
    part = slice(indptr[lo], indptr[hi])
    block = indptr[lo : hi + 1] - indptr[lo], indices[part], values[part], values[:0]
    for size in (n, hi - lo):  # transposing twice is a counting sort by row and column that keeps duplicates in order
        block = sparse_kernels.transposed_rows(*block, size)
    return block[:3]


def _blocks(indptr: Array, entries: int) -> Iterator[tuple[int, int]]:
    """Rows in blocks of about so many stored entries, or of one row that has more."""
    m, lo = indptr.size - 1, 0
    while lo < m:
        hi = max(lo + 1, int(np.searchsorted(indptr, indptr[lo] + entries, side="right")) - 1)
        yield lo, hi
        lo = hi


def row_of(indptr: Array, p: int) -> int:
    """The row in which the ``p``-th stored entry stands."""
    return int(np.searchsorted(indptr, p, side="right") - 1)


# ---- factors and randomness ---------------------------------------------------------------------------------


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


def generator(random_state: object) -> Any:
    """Something with ``standard_normal``: NumPy's legacy RandomState for an int, as in scikit-learn, or as given."""
    if random_state is None:
        return np.random.RandomState()
    if isinstance(random_state, (np.random.Generator, np.random.RandomState)):
        return random_state
    if isinstance(random_state, (np.random.SeedSequence, np.random.BitGenerator)):
        return np.random.default_rng(random_state)
    seed = whole(random_state, "random_state", 0)
    if seed >= 2**32:
        raise ValueError(f"random_state={seed} must be below 2**32; pass numpy.random.default_rng({seed}) for more.")
    return np.random.RandomState(seed)


def tqdm() -> Any:
    """The progress bar, or a remedy."""
    try:
        from tqdm.auto import tqdm as bar
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: python -m pip install tqdm") from error
    return tolerant_bar(bar)
