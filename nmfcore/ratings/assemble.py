"""From triplets in any order to canonical CSR, and what may be a rating."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmfcore.ratings.ids import Ids, Positions

Duplicates: TypeAlias = Literal["error", "last", "mean"]
Csr: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def check_values(ratings: ArrayLike) -> NDArray[np.float64]:
    """Return ratings as float64, or raise naming the first that is not a finite number of at least 0."""
    if isinstance(ratings, np.ma.MaskedArray) and np.ma.getmaskarray(ratings).any():
        row = int(np.argmax(np.ma.getmaskarray(ratings).reshape(-1)))
        raise ValueError(f"rating in row {row} is masked; leave the row out: what is not rated is not listed")
    array = np.asarray(ratings)
    if array.ndim != 1:
        raise ValueError(f"ratings have {array.ndim} dimensions; give a 1-D sequence of numbers")
    values = _from_objects(array) if array.dtype.kind == "O" else array
    if array.size and values.dtype.kind not in "iuf":
        raise TypeError(f"ratings have dtype {array.dtype} (row 0 is {array[0]!r}); convert them to numbers")
    values = values.astype(np.float64, copy=False)
    if array.size and not (values.min() >= 0 and values.max() < np.inf):  # NaN fails the first
        row = int(np.argmin((values >= 0) & (values < np.inf)))
        remedy = "shift the scale so that it starts at 0" if values[row] < 0 else "drop or repair that rating"
        raise ValueError(f"rating in row {row} is {array[row]}; ratings are finite and at least 0: {remedy}")
    return values


def _from_objects(array: NDArray[Any]) -> NDArray[np.float64]:
    values = np.empty(array.size)
    for row, value in enumerate(array.tolist()):
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError
            values[row] = float(value)
        except (TypeError, ValueError):
            raise TypeError(f"rating in row {row} is {value!r}; drop that rating or convert it to a number") from None
    return values


def assemble(
    users: Ids,
    rows: Positions,
    items: Ids,
    columns: Positions,
    values: NDArray[np.float64],
    duplicates: Duplicates,
) -> Csr:
    """Sort ratings by user and item, settle duplicates; return indptr, indices and data."""
    if duplicates not in ("error", "last", "mean"):
        raise ValueError(f"duplicates={duplicates!r}: choose 'error', 'last' or 'mean'")
    key = rows.astype(np.int64) * items.size + columns  # below 2^63 for whatever fits in memory
    if (key[1:] < key[:-1]).any():  # many files are sorted as they come
        order = np.argsort(key, kind="stable")  # stable: "last" means last in the input
        key = key[order]
        values = values[order]
        del order  # at a hundred million ratings every array counts
    repeats = key[1:] == key[:-1]
    if repeats.any():
        if duplicates == "error":
            raise ValueError(_describe_repeats(users, items, key, repeats))
        key, values = _merge(key, values, repeats, duplicates)
    indptr = np.searchsorted(key, np.arange(users.size + 1) * items.size)
    return indptr, np.remainder(key, items.size, out=key), values


def _merge(
    key: NDArray[np.int64], values: NDArray[np.float64], repeats: NDArray[np.bool_], duplicates: Duplicates
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    if duplicates == "last":
        last = np.append(~repeats, True)
        return key[last], values[last]
    first = np.flatnonzero(np.insert(~repeats, 0, True))
    count = np.diff(np.append(first, key.size))
    exponent = 64 if values.max() > 1e300 else 0  # such sums would overflow; a power of two changes no bit
    sums = np.add.reduceat(np.ldexp(values, -exponent), first)
    return key[first], np.ldexp(sums / count, exponent)


def _describe_repeats(users: Ids, items: Ids, key: NDArray[np.int64], repeats: NDArray[np.bool_]) -> str:
    row, column = divmod(int(key[np.argmax(repeats)]), items.size)
    times = int(np.count_nonzero(key == key[np.argmax(repeats)]))
    return (
        f"{np.count_nonzero(repeats)} ratings repeat a user and item already rated, for example user "
        f"{users[row].item()!r} and item {items[column].item()!r}, {times} times; "
        "pass duplicates='last' or 'mean', or remove them"
    )
