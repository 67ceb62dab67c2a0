"""How good a fitted model is on ratings it has not seen: errors, and recommendations over all items."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nmfcore.parallel import Team, default_threads
from nmfcore.ratings import ranked
from nmfcore.ratings.ranking import Block, Positions, best_items, frozen
from nmfcore.ratings.ratings import Ratings

if TYPE_CHECKING:
    from nmfcore.ratings.recommender import Recommender

SLAB_RATINGS = 2**18  # test ratings predicted at once: some ten milliseconds
BATCH_RATINGS = 2**19  # test ratings whose users are recommended to at once: tens of megabytes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found; `print` shows it as a table.

    Attributes
    ----------
    rmse, mae : float
        Errors over all test ratings, in their unit.
    precision, recall, ndcg, map : float
        Means over ``n_users`` users of `precision_at_k` and so on; NaN if there are none.
    coverage : float
        Share of all items of the model that are recommended to at least one of these users; NaN if there are none.
    k : int
        Length of the lists.
    threshold : float
        Test ratings of at least this are relevant.
    n_ratings : int
        Number of test ratings.
    n_users : int
        Users with a relevant test rating.
    """

    rmse: float
    mae: float
    precision: float
    recall: float
    ndcg: float
    map: float
    coverage: float
    k: int
    threshold: float
    n_ratings: int
    n_users: int

    def __str__(self) -> str:
        lines = [
            f"{self.n_ratings:,} test ratings: RMSE {self.rmse:.4f}, MAE {self.mae:.4f}",
            f"{self.n_users:,} users with a test rating of {self.threshold:.4g} or more; best {self.k} of all items:",
        ]
        for name in ("precision", "recall", "ndcg", "map", "coverage"):
            shown = {"ndcg": "NDCG", "map": "MAP"}.get(name, name)
            lines.append(f"  {f'{shown}@{self.k}':14} {getattr(self, name):.4f}")
        return "\n".join(lines)


def evaluate(
    model: Recommender,
    test: Ratings,
    *,
    k: int = 10,
    threshold: float | None = None,
    clip: bool = True,
    n_threads: int | None = None,
) -> Evaluation:
    """Measure a fitted model on held-out ratings: errors, and the quality of what it recommends.

    Every user with a relevant test rating gets the k best of *all* items except those rated in training, and the means
    over these users are taken; the formulas are those of `nmfcore.metrics`. Users without one are left out of the
    ranking metrics, since recall is not defined for them. Test ratings of users and items that have few or no
    training ratings count like all others.

    Parameters
    ----------
    model : Recommender
        Fitted to training ratings.
    test : Ratings
        Not in the training ratings: what was seen there is never recommended, and would count as missed.
    k : int
        Length of the recommended lists.
    threshold : float, optional
        A test rating of at least this makes an item relevant to the user. Default: the mean of the training ratings,
        since on a scale of stars a rating of 1 says that the item should not have been recommended. With 0 every
        test rating is relevant, as is usual where ratings only say that there was contact.
    clip : bool
        Bring predictions into the range of the training ratings before errors are taken. (Lists do not depend on it.)
    n_threads : int, optional
        The same bits for any number; default as in :func:`nmfcore.factorize`.

    Returns
    -------
    Evaluation
        ``rmse, mae, precision, recall, ndcg, map, coverage`` and what they were taken over.

    Raises
    ------
    KeyError
        A test rating is of a user or an item that the model does not know; the message names it.
    RuntimeError
        The model is not fitted.
    TypeError, ValueError
        An argument breaks a rule.

    Examples
    --------
    >>> from nmfcore import Recommender
    >>> from nmfcore.datasets import planted_ratings
    >>> train, test = planted_ratings(200, 100, 6000).split(0.1, random_state=0)
    >>> result = evaluate(Recommender(rank=4, random_state=0).fit(train), test, k=5)
    >>> result.n_ratings, result.k, 0 < result.ndcg < 1
    (600, 5, True)
    """
    from nmfcore import validation  # it loads numba, which reading ratings does without

    k = validation.whole(k, "k", 1)
    if not isinstance(test, Ratings):
        raise TypeError(
            f"evaluate needs nmfcore.Ratings, not {type(test).__name__}: see Ratings.from_frame, from_triplets and "
            "from_csv."
        )
    if not hasattr(model, "factorization_"):
        raise TypeError(f"evaluate needs a fitted nmfcore.Recommender, not {type(model).__name__}.")
    train, f = model.ratings_, model.factorization_
    threshold = train.mean() if threshold is None else validation.non_negative(threshold, "threshold")
    users, items = _positions(train, test)
    limits = model.rating_range_ if clip else (-math.inf, math.inf)
    threads = default_threads() if n_threads is None else validation.whole(n_threads, "n_threads", 1)
    W, H = frozen(f.W), frozen(f.H)
    rmse, mae = errors(W, H, test, users, items, limits, threads)
    tally, seen = _Tally(k, train.shape[1]), (train.indptr, train.indices)
    for lo, hi in _slabs(test, BATCH_RATINGS):
        rows, relevant = _relevant(test, users, items, threshold, lo, hi)
        for block in best_items(W, H, rows, k, seen=seen, n_threads=threads):
            tally.add(block, *relevant)
    return Evaluation(rmse, mae, *tally.means(), k, threshold, test.nnz, tally.n_users)


def _positions(train: Ratings, test: Ratings) -> tuple[Positions, Positions]:
    """Where the model has the users and the items of the test part; -1 for who is listed there without a rating."""
    users, items = np.full(test.shape[0], -1), np.full(test.shape[1], -1)
    rated = np.flatnonzero(np.diff(test.indptr))
    users[rated] = train.user_index(test.users[rated])
    listed = np.zeros(items.size, dtype=bool)
    listed[test.indices] = True  # bincount would copy all of them first
    rated = np.flatnonzero(listed)
    items[rated] = train.item_index(test.items[rated])
    return users, items


def errors(
    W: NDArray[Any],
    H: NDArray[Any],
    test: Ratings,
    users: Positions,
    items: Positions,
    limits: tuple[float, float],
    n_threads: int,
) -> tuple[float, float]:
    """RMSE and MAE in one pass, without an array of predictions."""
    from nmfcore.kernels import ranking as kernels

    # Squares of very large or small errors would leave the range of float64; a power of two changes no bit.
    unit = 2.0 ** math.frexp(float(test.data.max()))[1] if test.data.max() > 0 else 1.0
    Ht = frozen(H.T)

    def work(lo: int, hi: int) -> NDArray[np.float64]:
        sums = np.empty(2)
        kernels.error_sums(W, Ht, users, items, test.indptr, test.indices, test.data, *limits, unit, lo, hi, sums)
        return sums

    with Team(n_threads) as team:
        parts = team.map(work, _slabs(test, SLAB_RATINGS))
    squares, sizes = np.sum(parts, axis=0) / test.nnz
    return unit * math.sqrt(squares), unit * float(sizes)


def _slabs(test: Ratings, size: int) -> list[tuple[int, int]]:
    """Slabs of rows with some ``size`` ratings each."""
    inner = np.searchsorted(test.indptr, np.arange(size, test.nnz, size))
    ends = np.unique(np.concatenate(([0], inner, [test.shape[0]])))
    return [(int(lo), int(hi)) for lo, hi in itertools.pairwise(ends)]


def _relevant(
    test: Ratings, users: Positions, items: Positions, threshold: float, lo: int, hi: int
) -> tuple[Positions, tuple[Positions, Positions]]:
    """Of some rows of the test part, those with relevant ratings as users of the model; what these are, as CSR."""
    part = slice(int(test.indptr[lo]), int(test.indptr[hi]))
    kept = test.data[part] >= threshold
    before = np.concatenate(([0], np.cumsum(kept)))
    counts = np.diff(before[test.indptr[lo : hi + 1] - part.start])
    listed = np.flatnonzero(counts)
    # The model's order of items is that of the ids, as in the test part: rows stay ascending.
    return users[lo + listed], (np.concatenate(([0], np.cumsum(counts[listed]))), items[test.indices[part][kept]])


class _Tally:
    """Sums of the metrics over users, a block at a time."""

    def __init__(self, k: int, n_items: int) -> None:
        self.k = k
        self.n_items = n_items
        self.n_users = 0
        self.sums = np.zeros(4)
        self.recommended = np.zeros(n_items, dtype=bool)

    def add(self, block: Block, indptr: Positions, indices: Positions) -> None:
        """Count the lists of a block in, given all relevant items in compressed rows."""
        valid = block.valid
        n_relevant = np.diff(indptr[block.lo : block.hi + 1])
        # A user and an item as one number, ascending: a look-up for all users of the block together.
        keys = np.repeat(np.arange(n_relevant.size) * self.n_items, n_relevant)
        keys += indices[indptr[block.lo] : indptr[block.hi]]
        wanted = np.arange(n_relevant.size)[:, None] * self.n_items + block.items
        place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
        hits = valid & (keys[place] == wanted)
        metrics = (ranked.precisions, ranked.recalls, ranked.ndcgs, ranked.average_precisions)
        self.sums += [metric(hits, n_relevant, self.k).sum() for metric in metrics]
        self.recommended[block.items[valid]] = True
        self.n_users += n_relevant.size

    def means(self) -> tuple[float, float, float, float, float]:
        """Precision, recall, NDCG, MAP and coverage."""
        if self.n_users == 0:
            return math.nan, math.nan, math.nan, math.nan, math.nan
        precision, recall, ndcg, average = (self.sums / self.n_users).tolist()
        return precision, recall, ndcg, average, float(self.recommended.mean())
