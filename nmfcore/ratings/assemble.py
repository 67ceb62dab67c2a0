"""From triplets in any order to canonical CSR, and what may be a rating.

At a hundred million ratings an array of eight bytes for each takes 800 MB. So pairs of positions are joined into
one integer that is sorted in place, and what is temporary is made for `BLOCK` ratings at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmfcore.ratings.ids import BLOCK, Ids, plain_id

Duplicates: TypeAlias = Literal["error", "last", "mean"]
Keys: TypeAlias = NDArray[np.int64]  # user position times the number of items, plus item position
Values: TypeAlias = NDArray[np.float64] | NDArray[np.float32]
Csr: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


def check_values(ratings: ArrayLike, where: Callable[[int], str] = "row {}".format) -> NDArray[np.float64]:
    """Return ratings as float64, or raise naming the first that is not a finite number of at least 0."""
    if isinstance(ratings, np.ma.MaskedArray) and np.ma.getmaskarray(ratings).any():
        row = int(np.argmax(np.ma.getmaskarray(ratings).reshape(-1)))
        raise ValueError(f"rating in {where(row)} is masked; leave the row out: what is not rated is not listed")
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
        raise ValueError(f"rating in {where(row)} is {array[row]}; ratings are finite and at least 0: {remedy}")
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


def blocks(size: int) -> Iterator[slice]:
    """Cut `size` ratings into slices of at most `BLOCK`."""
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))


def join(rows: NDArray[Any], columns: NDArray[Any], n_items: int) -> Keys:
    """Return the keys of pairs of positions: below 2^63 for whatever fits in memory."""
    key = np.empty(rows.size, dtype=np.int64)
    for part in blocks(key.size):
        np.multiply(rows[part], n_items, out=key[part], dtype=np.int64)
        key[part] += columns[part]
    return key


def assemble(users: Ids, items: Ids, key: Keys, values: Values, duplicates: Duplicates) -> Csr:
    """Sort ratings by user and item, settle duplicates; return indptr, indices and data. `key` is used up."""
    check_duplicates(duplicates)
    if (key[1:] < key[:-1]).any():  # many files are sorted as they come
        data = _sort(key, values, users.size * items.size)
    else:
        data = np.array(values, dtype=np.float64)  # a copy: these may be the caller's
    repeats = key[1:] == key[:-1]
    if repeats.any():
        if duplicates == "error":
            raise ValueError(_describe_repeats(users, items, key, repeats))
        key, data = _settle(key, data, repeats, duplicates)
    return compress(key, data, users.size, items.size)


def assemble_timed(
    users: Ids, items: Ids, key: Keys, values: Values, times: NDArray[np.int64] | None, duplicates: Duplicates
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64] | None]:
    """As :func:`assemble`, with the time of each rating; of those of duplicates, the last."""
    if times is None:
        return *assemble(users, items, key, values, duplicates), None
    order = np.argsort(key, kind="stable")
    key, values, times = key[order], values[order], times[order]
    last = np.append(key[1:] != key[:-1], True)
    return *assemble(users, items, key, values, duplicates), times[last]


def check_duplicates(duplicates: str) -> None:
    """Raise if that is no way to settle duplicates."""
    if duplicates not in ("error", "last", "mean"):
        raise ValueError(f"duplicates={duplicates!r}: choose 'error', 'last' or 'mean'")


def compress(key: Keys, data: NDArray[np.float64], n_users: int, n_items: int) -> Csr:
    """Return indptr, indices and data of ascending distinct keys; the indices take the place of the keys."""
    indptr = np.searchsorted(key, np.arange(n_users + 1) * n_items)
    return indptr, np.remainder(key, n_items, out=key), data


def _sort(key: Keys, values: Values, n_cells: int) -> NDArray[np.float64]:
    """Sort the keys in place, equal ones in the order they come; return the values in that order."""
    bits = (key.size - 1).bit_length()
    data = np.empty(key.size)
    if (n_cells - 1).bit_length() + bits > 63:
        order = np.argsort(key, kind="stable")
        key[:] = key[order]
        return np.take(values, order, out=data) if values.dtype == data.dtype else values[order].astype(np.float64)
    # With its place in the lower bits a key sorts in place and stably by the fastest sort there is, and brings
    # along what an argsort would take another array for.
    for part in blocks(key.size):
        key[part] <<= bits
        key[part] |= np.arange(part.start, part.stop)
    key.sort()
    for part in blocks(key.size):
        data[part] = values[key[part] & ((1 << bits) - 1)]
        key[part] >>= bits
    return data


def _settle(
    key: Keys, values: NDArray[np.float64], repeats: NDArray[np.bool_], duplicates: Duplicates
) -> tuple[Keys, NDArray[np.float64]]:
    if duplicates == "last":
        last = np.append(~repeats, True)
        return key[last], values[last]
    first = np.flatnonzero(np.insert(~repeats, 0, True))
    count = np.diff(np.append(first, key.size))
    exponent = 64 if values.max() > 1e300 else 0  # such sums would overflow; a power of two changes no bit
    sums = np.add.reduceat(np.ldexp(values, -exponent), first)
    return key[first], np.ldexp(sums / count, exponent)


def _describe_repeats(users: Ids, items: Ids, key: Keys, repeats: NDArray[np.bool_]) -> str:
    row, column = divmod(int(key[np.argmax(repeats)]), items.size)
    times, number = int(np.count_nonzero(key == key[np.argmax(repeats)])), int(np.count_nonzero(repeats))
    return (
        f"{number} {'rating repeats' if number == 1 else 'ratings repeat'} a user and item already rated, "
        f"for example user {plain_id(users[row])!r} and item {plain_id(items[column])!r}, {times} times; "
        "pass duplicates='last' or 'mean', or remove them"
    )
