"""Recommendations for one user, for many or for all, without ever forming users x items."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nmfcore._parallel import LEAST_SLABS, WORTH_A_THREAD, Team, default_threads
from nmfcore.machine import memory
from nmfcore.ratings.ratings import Ratings

Positions = NDArray[np.int64]

LINE = 2 * 4 * 8  # bytes of a recommendation: four columns, which are put together from blocks
BLOCK_BYTES = 2**23  # of results held at a time
LEAST_BLOCK = 32  # users, however long the lists
SLAB, LEAST_SLAB = (
    128,
    16,
)  # users that share the copies of the items' factors; some twenty milliseconds for 60,000 items


class Recommendations(NamedTuple):
    """Items and the ratings predicted for them, best first.

    Attributes
    ----------
    items : ndarray, shape (k,)
        The caller's ids.
    ratings : ndarray of float64, shape (k,)
        Predictions, not clipped.
    """

    items: NDArray[Any]
    ratings: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class RecommendationTable:
    """Recommendations for many users, a line for each user and item: in the order of the users, then best first.

    Attributes
    ----------
    users, items : ndarray, shape (k,)
        The caller's ids.
    ratings : ndarray of float64, shape (k,)
        Predictions, not clipped.
    ranks : ndarray of int64, shape (k,)
        1 for the best item of a user, 2 for the next.

    Examples
    --------
    >>> import numpy as np
    >>> RecommendationTable(np.array([7, 7]), np.array(["b", "a"]), np.array([4.5, 4.0]), np.array([1, 2]))
    RecommendationTable(2 recommendations for 1 user)
    """

    users: NDArray[Any]
    items: NDArray[Any]
    ratings: NDArray[np.float64]
    ranks: NDArray[np.int64]

    def __len__(self) -> int:
        return self.items.size

    def __repr__(self) -> str:
        users = np.unique(self.users).size
        lines = f"{len(self)} recommendation{'' if len(self) == 1 else 's'}"
        return f"RecommendationTable({lines} for {users} user{'' if users == 1 else 's'})"

    def to_frame(self) -> Any:
        """Return a pandas DataFrame with the columns user, item, rating.

        Raises
        ------
        ImportError
            pandas is not installed.
        """
        try:
            pd = importlib.import_module("pandas")
        except ImportError as error:
            raise ImportError("to_frame needs pandas: python -m pip install pandas") from error
        return pd.DataFrame({"user": self.users, "item": self.items, "rating": self.ratings})


class Block(NamedTuple):
    """The best items of the users ``lo <= i < hi`` of those asked for; row i is valid up to ``counts[i]``."""

    lo: int
    hi: int
    counts: Positions
    items: Positions
    scores: NDArray[Any]

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Where there is an item, shape (hi - lo, n)."""
        mask: NDArray[np.bool_] = np.arange(self.items.shape[1]) < self.counts[:, None]
        return mask


def best_items(
    W: NDArray[Any],
    H: NDArray[Any],
    users: Positions,
    n: int,
    *,
    seen: tuple[Positions, Positions] | None = None,
    candidates: Positions | None = None,
    n_threads: int | None = None,
) -> Iterator[Block]:
    """Yield the items with the highest predictions, for a block of users at a time.

    Parameters
    ----------
    W, H : ndarray, shape (n_users, R) and (R, n_items)
        Factors; the prediction is ``W H``. Equal ones are given in the order of the items.
    users : ndarray of int, shape (k,)
        Rows of W.
    n : int
        How many items for each, at least 1.
    seen : (indptr, indices), optional
        In compressed rows, what is not to be recommended to whom.
    candidates : ndarray of int, optional
        Ascending columns of H; all if not given.
    n_threads : int, optional
        The answer has the same bits for any number.

    Yields
    ------
    Block
        Positions of items.
    """
    from nmfcore.kernels import ranking as kernels  # here and below: it loads numba, which ratings do without

    columns = np.arange(H.shape[1]) if candidates is None else candidates
    if not columns.size:
        yield Block(0, users.size, *_room(users.size, 0, H.dtype))
        return
    place = np.full(H.shape[1], -1)
    place[columns] = np.arange(columns.size)
    indptr, indices = (np.zeros(W.shape[0] + 1, np.int64), np.empty(0, np.int64)) if seen is None else seen
    W, H, *shared = (frozen(array) for array in (W, H, columns, place, indptr, indices))
    n = min(n, columns.size)
    step = max(LEAST_BLOCK, BLOCK_BYTES // (n * 16) // SLAB * SLAB)
    with Team(default_threads() if n_threads is None else n_threads) as team:
        for start in range(0, users.size, step):
            stop = min(start + step, users.size)
            counts, items, scores = _room(stop - start, n, H.dtype)
            given, found = (W, H, frozen(users[start:stop]), *shared), (counts, items, scores)
            work = functools.partial(_work, kernels.best_items, given, found)
            team.map(work, _slabs(stop - start, 2.0 * H.shape[0] * columns.size))
            yield Block(start, stop, counts, items, scores)


def _work(kernel: Callable[..., None], given: tuple[Any, ...], found: tuple[Any, ...], lo: int, hi: int) -> None:
    kernel(*given, lo, hi, *found)


def _room(k: int, n: int, dtype: Any) -> tuple[Positions, Positions, NDArray[Any]]:
    return np.zeros(k, np.int64), np.zeros((k, n), np.int64), np.zeros((k, n), dtype)


def _slabs(users: int, work: float) -> list[tuple[int, int]]:
    """Slabs of users; one of all of them where a thread would not be worth it."""
    step = min(SLAB, max(LEAST_SLAB, users // LEAST_SLABS // 4 * 4)) if users * work > WORTH_A_THREAD else users
    return [(lo, min(lo + step, users)) for lo in range(0, users, max(step, 1))]


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only view: numba compiles once more for arrays that may be written to."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def recommend(
    ratings: Ratings,
    W: NDArray[Any],
    H: NDArray[Any],
    users: ArrayLike | None,
    n: object,
    exclude_seen: bool,
    items: ArrayLike | None,
    level: float = 0.0,
) -> Any:
    """What `Recommender.recommend` returns; its arguments, and the model's ratings, factors and level."""
    from nmfcore import _arguments

    n = _arguments.whole(n, "n", 1)
    candidates = candidate_positions(ratings, items)
    seen = (ratings.indptr, ratings.indices) if exclude_seen else None
    if users is not None and np.ndim(users) == 0:
        row = np.array([ratings.user_index(users)])
        (block,) = best_items(W, H, row, n, seen=seen, candidates=candidates)
        best = slice(0, int(block.counts[0]))
        return Recommendations(ratings.items[block.items[0, best]], level + block.scores[0, best].astype(np.float64))
    rows = np.arange(ratings.shape[0]) if users is None else ratings.user_index(users)
    _check_room(ratings, rows, n, ratings.shape[1] if candidates is None else candidates.size, exclude_seen)
    blocks = best_items(W, H, rows, n, seen=seen, candidates=candidates)
    table = _joined(ratings, [table_of(ratings, rows, block, level) for block in blocks])
    return table if sys.modules.get("pandas") is None else table.to_frame()


def _check_room(ratings: Ratings, rows: Positions, n: int, n_candidates: int, exclude_seen: bool) -> None:
    """Raise if the answer for these users does not fit the memory; each gets so many items, or those that are left."""
    left = n_candidates - np.diff(ratings.indptr)[rows] if exclude_seen else np.full(rows.size, n_candidates)
    lines = int(np.clip(left, 0, min(n, n_candidates)).sum())
    parts = {f"{lines} recommendations": LINE * lines}
    memory.check(parts, f"n={n} for {rows.size} users", "ask for fewer items, or for some users at a time")


def candidate_positions(ratings: Ratings, items: ArrayLike | None) -> Positions | None:
    """Ascending positions of the items that may be recommended; an id given twice counts once."""
    if items is None:
        return None
    if isinstance(items, (set, frozenset)):
        items = list(items)
    positions: Positions = np.unique(np.atleast_1d(ratings.item_index(items)))
    return positions


def table_of(ratings: Ratings, rows: Positions, block: Block, level: float = 0.0) -> RecommendationTable:
    """The recommendations of a block with the caller's ids."""
    valid = block.valid
    ranks = np.broadcast_to(np.arange(1, valid.shape[1] + 1), valid.shape)[valid]
    users = np.repeat(ratings.users[rows[block.lo : block.hi]], block.counts)
    scores = level + block.scores[valid].astype(np.float64, copy=False)
    return RecommendationTable(users, ratings.items[block.items[valid]], scores, ranks)


def _joined(ratings: Ratings, tables: list[RecommendationTable]) -> RecommendationTable:
    if not tables:
        return RecommendationTable(ratings.users[:0], ratings.items[:0], np.empty(0), np.empty(0, np.int64))
    columns = zip(*((t.users, t.items, t.ratings, t.ranks) for t in tables), strict=True)
    return RecommendationTable(*(np.concatenate(column) for column in columns))
