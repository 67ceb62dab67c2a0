"""Two sets of ratings made one: both are sorted, so that the smaller is inserted into the larger."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from nmfcore.ratings.assemble import Duplicates, Keys, blocks
from nmfcore.ratings.ids import Ids, distinct, plain_id

T = TypeVar("T", np.float64, np.int64)


def union_ids(here: Ids, there: Ids, noun: str) -> Ids:
    """Return the sorted ids of both, which are of one kind."""
    if (here.dtype.kind == "i") != (there.dtype.kind == "i"):
        kinds = [
            f"{'integers' if ids.dtype.kind == 'i' else 'strings'} ({plain_id(ids[0])!r})" for ids in (here, there)
        ]
        raise TypeError(f"{noun} ids are {kinds[0]} in these ratings, {kinds[1]} in the other; make them one kind")
    return distinct(np.concatenate([here, there]))


def keys_among(
    users: Ids, items: Ids, old_users: Ids, old_items: Ids, indptr: NDArray[np.int64], indices: NDArray[np.int64]
) -> Keys:
    """Return the keys of ratings given by CSR among more users and items; they ascend as they did."""
    rows, columns = np.searchsorted(users, old_users), np.searchsorted(items, old_items)
    key = np.repeat(rows * items.size, np.diff(indptr))
    for part in blocks(key.size):
        key[part] += columns[indices[part]]
    return key


def refuse_known(users: Ids, items: Ids, key: Keys, new_key: Keys) -> None:
    """Raise naming the first of the new keys that was there before."""
    _, known = _places(key, new_key)
    if known.any():
        row, column = divmod(int(new_key[np.argmax(known)]), items.size)
        raise ValueError(
            f"{np.count_nonzero(known)} ratings are in both, the first of user {plain_id(users[row])!r} and item "
            f"{plain_id(items[column])!r}; pass duplicates='last' or 'mean', or remove them"
        )


def insert(
    key: Keys, values: NDArray[T], new_key: Keys, new_values: NDArray[T], duplicates: Duplicates
) -> tuple[Keys, NDArray[T]]:
    """Return keys and values of both, ascending; where a key is in both, the new value or the mean."""
    place, known = _places(key, new_key)
    if known.any():
        values = values.copy()
        old, new = values[place[known]], new_values[known]
        values[place[known]] = new if duplicates == "last" else old / 2 + new / 2  # a sum might overflow
    place, fresh = place[~known], ~known
    return np.insert(key, place, new_key[fresh]), np.insert(values, place, new_values[fresh])


def _places(key: Keys, new_key: Keys) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where each new key belongs, and whether it is there."""
    place = np.searchsorted(key, new_key)
    return place, key[np.minimum(place, key.size - 1)] == new_key
