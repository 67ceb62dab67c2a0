"""Users and items that a model does not know, and what may be done about them.

A model knows whom its ratings list. Whom they list without a rating it knows from a fit that had nothing but the
average item or user to go by: `evaluate` counts these to the unknown. An id of the other kind, a text where all are
integers, is always refused: it is no newcomer but a slip, and would make everybody unknown.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmfcore.ratings.ids import Ids, encode_ids, find_ids
from nmfcore.recommender.model import Model

Unknown: TypeAlias = Literal["average", "drop", "error"]
Positions: TypeAlias = NDArray[np.int64]

CHOICES = ("average", "drop", "error")
NOWHERE = -1  # the position of an id that is not known


def check(unknown: object) -> None:
    """Raise if this is not one of the choices."""
    from nmfcore import _arguments  # it loads numba, which reading ratings does without

    _arguments.one_of(unknown, "unknown", CHOICES)


def find(wanted: ArrayLike, known: Ids, noun: str) -> Any:
    """Return the positions of ids among the ``known`` ones, `NOWHERE` for others: an int for one id, else int64.

    Raises
    ------
    KeyError
        The ids are of the other kind.
    TypeError, ValueError
        They are no ids.

    Examples
    --------
    >>> find([20, 7, 10], np.array([10, 20]), "item")
    array([ 1, -1,  0])
    """
    scalar = np.ndim(wanted) == 0
    values = [np.asarray(wanted).item()] if scalar else wanted
    if np.size(values) == 0:
        return np.empty(np.shape(values), dtype=np.int64)
    distinct, codes = encode_ids(values, noun)
    positions = find_distinct(distinct, known, noun)[codes]
    return int(positions[0]) if scalar else positions


def find_distinct(distinct: Ids, known: Ids, noun: str) -> Positions:
    """Return the same of an array of ids as `Ratings` has them."""
    if distinct.size and (distinct.dtype.kind == "i") != (known.dtype.kind == "i"):
        find_ids(distinct, known, noun)  # it raises, and says what is wrong
    places = np.minimum(np.searchsorted(known, distinct), known.size - 1).astype(np.int64, copy=False)
    return np.where(known[places] == distinct, places, NOWHERE)


def predict(model: Model, users: ArrayLike, items: ArrayLike, unknown: Unknown) -> NDArray[np.float64]:
    """What `Recommender.predict` returns, before it is clipped; its arguments, and the model."""
    check(unknown)
    ratings = model.ratings
    if unknown == "error":
        rows, columns = ratings.user_index(users), ratings.item_index(items)
    else:
        rows, columns = find(users, ratings.users, "user"), find(items, ratings.items, "item")
    sizes = np.size(rows), np.size(columns)
    if len({*sizes} - {1}) > 1:
        raise ValueError(f"{sizes[0]} users for {sizes[1]} items: give as many of both, or a single one.")
    if unknown == "error":
        return model.level + model.f.predict(rows, columns)
    i, j = np.broadcast_arrays(rows, columns)
    predicted = model.f.predict(np.maximum(i, 0), np.maximum(j, 0))
    new = (i == NOWHERE) | (j == NOWHERE)
    predicted[new] = np.nan if unknown == "drop" else _with_averages(model, i[new], j[new])
    return model.level + predicted


def _with_averages(model: Model, rows: Positions, columns: Positions) -> NDArray[np.float64]:
    """Predictions where users or items are average."""
    w, h = model.average()
    of_users = np.where((rows == NOWHERE)[:, None], w, model.f.W[rows])
    of_items = np.where((columns == NOWHERE)[:, None], h, model.f.H.T[columns])
    predicted: NDArray[np.float64] = np.einsum("kt,kt->k", of_users, of_items)
    return predicted
