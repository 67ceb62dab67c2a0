"""How good a fitted model is on ratings it has not seen: errors, and recommendations over all items."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from nmfcore._parallel import Team, default_threads
from nmfcore.ratings.ids import Ids, find_ids
from nmfcore.ratings.ratings import Ratings
from nmfcore.recommender import ranked, unknown_ids
from nmfcore.recommender.model import Model
from nmfcore.recommender.ranking import Block, Positions, best_items, frozen
from nmfcore.recommender.unknown_ids import NOWHERE, Unknown

if TYPE_CHECKING:
    from nmfcore.recommender.recommender import Recommender

SLAB_RATINGS = 2**18  # test ratings predicted at once: some ten milliseconds
BATCH_RATINGS = 2**19  # test ratings whose users are recommended to at once: tens of megabytes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What `evaluate` found; `print` shows it as a table.

    Attributes
    ----------
    rmse, mae : float
        Errors over ``n_ratings`` test ratings, in their unit; NaN if there are none.
    precision, recall, ndcg, map : float
        Means over ``n_users`` users of `precision_at_k` and so on; NaN if there are none.
    coverage : float
        Share of all items of the model that are recommended to at least one of these users; NaN if there are none.
    k : int
        Length of the lists.
    threshold : float
        Test ratings of at least this are relevant.
    n_ratings : int
        Number of test ratings that count.
    n_users : int
        Users with a relevant test rating that counts.
    unknown : {"average", "drop", "error"}
        Whether ratings of users and items without a training rating count.
    n_unknown_users, n_unknown_items : int
        How many users and items have a test rating and no training rating.
    n_unknown_ratings : int
        Test ratings by one of these users or of one of these items.
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
    unknown: str = "average"
    n_unknown_users: int = 0
    n_unknown_items: int = 0
    n_unknown_ratings: int = 0

    def __str__(self) -> str:
        lines = [
            f"{self.n_ratings:,} test ratings: RMSE {self.rmse:.4f}, MAE {self.mae:.4f}",
            *self._about_unknown(),
            f"{self.n_users:,} users with a test rating of {self.threshold:.4g} or more; best {self.k} of all items:",
        ]
        for name in ("precision", "recall", "ndcg", "map", "coverage"):
            shown = {"ndcg": "NDCG", "map": "MAP"}.get(name, name)
            lines.append(f"  {f'{shown}@{self.k}':14} {getattr(self, name):.4f}")
        return "\n".join(lines)

    def _about_unknown(self) -> list[str]:
        if not self.n_unknown_ratings:
            return []
        what = "further ones were left out" if self.unknown == "drop" else "of them were predicted by averages"
        users, items = (
            f"{number:,} {noun}{'' if number == 1 else 's'}"
            for number, noun in ((self.n_unknown_users, "user"), (self.n_unknown_items, "item"))
        )
        return [f"  {self.n_unknown_ratings:,} {what}: {users} and {items} without a training rating"]


def evaluate(
    model: Recommender,
    test: Ratings,
    *,
    k: int = 10,
    threshold: float | None = None,
    clip: bool = True,
    n_threads: int | None = None,
    unknown: Unknown = "average",
) -> Evaluation:
    """Measure a fitted model on held-out ratings: errors, and the quality of what it recommends.

    Every user with a relevant test rating gets the k best of *all* items except those rated in training, and the means
    over these users are taken; the formulas are those of `nmfcore.metrics`. Users without one are left out of the
    ranking metrics, since recall is not defined for them. Test ratings of users and items that have few or no
    training ratings count like all others, also of those that the model does not list at all, as after a split by
    time: such a user is recommended what the model's average user would be, and a relevant item that the model does not
    list is one that nobody is recommended.

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
    unknown : {"average", "drop", "error"}
        What to do about test ratings of users and items that training never saw: count them, predicted by the model's
        average user and average item; leave them out; or raise. (Whom the training ratings list without a rating, as
        those of `Ratings.split` may, the model has near the average ones, and is predicted from there.)

    Returns
    -------
    Evaluation
        ``rmse, mae, precision, recall, ndcg, map, coverage``, what they were taken over, and how much of the test part
        is of users and items that training never saw.

    Raises
    ------
    KeyError
        With ``unknown="error"``, a test rating is of a user or an item that training never saw; the message names it.
        With any, the ids are texts where the model's are integers or the other way round.
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

    Somebody new, and an item that came out later:

    >>> later = test.merge(Ratings.from_triplets([201, 201, 7], [1, 101, 101], [4, 5, 3]))
    >>> result = evaluate(Recommender(rank=4, random_state=0).fit(train), later)
    >>> result.n_ratings, result.n_unknown_users, result.n_unknown_items, result.n_unknown_ratings
    (603, 1, 1, 3)
    """
    from nmfcore import _arguments  # it loads numba, which reading ratings does without

    k = _arguments.whole(k, "k", 1)
    if not isinstance(test, Ratings):
        raise TypeError(
            f"evaluate needs nmfcore.Ratings, not {type(test).__name__}: see Ratings.from_frame, from_triplets and "
            "from_csv."
        )
    if not hasattr(model, "factorization_"):
        raise TypeError(f"evaluate needs a fitted nmfcore.Recommender, not {type(model).__name__}.")
    unknown_ids.check(unknown)
    train, f = model.ratings_, model.factorization_
    threshold = train.mean() if threshold is None else _arguments.non_negative(threshold, "threshold")
    part = _locate(model._fitted(), test, unknown)
    limits = model.rating_range_ if clip else (-math.inf, math.inf)
    threads = default_threads() if n_threads is None else _arguments.whole(n_threads, "n_threads", 1)
    tally = _Tally(k, train.shape[1])
    if part.test is None:
        return Evaluation(math.nan, math.nan, *tally.means(), k, threshold, 0, 0, unknown, *part.n_unknown)
    W, H, indptr = f.W, f.H, train.indptr
    if any(part.n_unknown) and unknown == "average":  # one more user, who has seen nothing, and one more item
        w, h = model._fitted().average()
        W, H, indptr = np.vstack((W, w)), np.column_stack((H, h)), np.append(indptr, indptr[-1])
    rmse, mae = errors(frozen(W), frozen(H), part.test, part.users, part.items, limits, threads, model.level_)
    W, H, seen = frozen(W), frozen(f.H), (indptr, train.indices)  # who knows an item that does not is not told
    for lo, hi in _slabs(part.test, BATCH_RATINGS):
        rows, relevant = _relevant(part, train.shape[1], threshold, lo, hi)
        for block in best_items(W, H, rows, k, seen=seen, n_threads=threads):
            tally.add(block, relevant)
    return Evaluation(rmse, mae, *tally.means(), k, threshold, part.test.nnz, tally.n_users, unknown, *part.n_unknown)


class _Part(NamedTuple):
    """What counts of a test part, None if nothing does, and where the model has its users and items.

    Whom it does not list is one more, after all that it does; the place of who has no test rating means nothing.
    """

    test: Ratings | None
    users: Positions
    items: Positions
    n_unknown: tuple[int, int, int]


def _locate(model: Model, test: Ratings, unknown: Unknown) -> _Part:
    """Find the users and the items of the test part in the model."""
    train = model.ratings
    users, new_users = _places(test.users, np.diff(test.indptr) > 0, train.users, "user", unknown)
    items, new_items = _places(test.items, _rated(test), train.items, "item", unknown)
    _add_listed(new_users, users, np.diff(train.indptr) == 0, train.users, "user", unknown)
    # The offset of an item without ratings is 0. Others may have it too: then their ratings tell. These alone do not:
    # the model of users who were folded in has items that others rated.
    never = model.means.item_offsets == 0
    if never[items[items < never.size]].any():
        never &= ~_rated(train)
    _add_listed(new_items, items, never, train.items, "item", unknown)
    if not (new_users.any() or new_items.any()):
        return _Part(test, users, items, (0, 0, 0))
    known = ~(np.repeat(new_users, np.diff(test.indptr)) | new_items[test.indices])
    n_known = int(np.count_nonzero(known))
    n_unknown = int(np.count_nonzero(new_users)), int(np.count_nonzero(new_items)), test.nnz - n_known
    if unknown == "average":
        return _Part(test, users, items, n_unknown)
    return _Part(test._subset(known) if n_known else None, users, items, n_unknown)


def _rated(ratings: Ratings) -> NDArray[np.bool_]:
    """Which items have a rating."""
    rated = np.zeros(ratings.shape[1], dtype=bool)
    rated[ratings.indices] = True  # bincount would copy all of them first
    return rated


def _places(
    ids: Ids, rated: NDArray[np.bool_], known: Ids, noun: str, unknown: Unknown
) -> tuple[Positions, NDArray[np.bool_]]:
    """Where the model lists these users or items, and which of them it does not; who has no rating does not matter."""
    if unknown == "error":
        found = find_ids(ids[rated], known, noun)
    else:
        found = unknown_ids.find_distinct(ids[rated], known, noun)
    places, new = np.full(ids.size, known.size), np.zeros(ids.size, dtype=bool)
    new[rated] = found == NOWHERE
    places[rated] = np.where(found == NOWHERE, known.size, found)
    return places, new


def _add_listed(
    new: NDArray[np.bool_], places: Positions, never: NDArray[np.bool_], known: Ids, noun: str, unknown: Unknown
) -> None:
    """Count to the new ones those at places that were never rated in training; raise if there is to be none."""
    listed = np.flatnonzero(places < never.size)
    listed = listed[never[places[listed]]]
    if listed.size and unknown == "error":
        raise KeyError(
            f"{noun} {known[places[listed[0]]].item()!r} has no training rating; pass unknown='average' to predict by "
            f"what the model makes of any {noun}, or unknown='drop' to leave such ratings out"
        )
    new[listed] = True


def errors(
    W: NDArray[Any],
    H: NDArray[Any],
    test: Ratings,
    users: Positions,
    items: Positions,
    limits: tuple[float, float],
    n_threads: int,
    level: float = 0.0,
) -> tuple[float, float]:
    """RMSE and MAE in one pass, without an array of predictions, to which ``level`` is to be added."""
    from nmfcore.kernels import ranking as kernels

    # Squares of very large or small errors would leave the range of float64; a power of two changes no bit.
    unit = 2.0 ** math.frexp(float(test.data.max()))[1] if test.data.max() > 0 else 1.0
    Ht, data = frozen(H.T), test.data if level == 0.0 else frozen(test.data - level)
    limits = limits[0] - level, limits[1] - level

    def work(lo: int, hi: int) -> NDArray[np.float64]:
        sums = np.empty(2)
        kernels.error_sums(W, Ht, users, items, test.indptr, test.indices, data, *limits, unit, lo, hi, sums)
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


class _Relevant(NamedTuple):
    """Relevant items of some users: in compressed rows those that the model knows, and how many there are in all."""

    indptr: Positions
    indices: Positions
    counts: Positions


def _relevant(part: _Part, n_items: int, threshold: float, lo: int, hi: int) -> tuple[Positions, _Relevant]:
    """Of some rows of the test part, those with relevant ratings as users of the model; what these are."""
    test = part.test
    assert test is not None
    own = slice(int(test.indptr[lo]), int(test.indptr[hi]))
    kept = test.data[own] >= threshold
    counts = _counted(kept, test.indptr[lo : hi + 1] - own.start)
    listed = np.flatnonzero(counts)
    # The model's order of items is that of the ids, as in the test part: rows stay ascending.
    places = part.items[test.indices[own][kept]]
    known = places < n_items
    of_known = _counted(known, np.concatenate(([0], np.cumsum(counts[listed]))))
    indptr = np.concatenate(([0], np.cumsum(of_known)))
    return part.users[lo + listed], _Relevant(indptr, places[known], counts[listed])


def _counted(kept: NDArray[np.bool_], indptr: Positions) -> Positions:
    """How many are kept of each row."""
    before = np.concatenate(([0], np.cumsum(kept)))
    counts: Positions = np.diff(before[indptr])
    return counts


class _Tally:
    """Sums of the metrics over users, a block at a time."""

    def __init__(self, k: int, n_items: int) -> None:
        self.k = k
        self.n_items = n_items
        self.n_users = 0
        self.sums = np.zeros(4)
        self.recommended = np.zeros(n_items, dtype=bool)

    def add(self, block: Block, relevant: _Relevant) -> None:
        """Count the lists of a block in, given all relevant items."""
        valid = block.valid
        indptr, n_relevant = relevant.indptr, relevant.counts[block.lo : block.hi]
        # A user and an item as one number, ascending: a look-up for all users of the block together.
        keys = np.repeat(np.arange(n_relevant.size) * self.n_items, np.diff(indptr[block.lo : block.hi + 1]))
        keys += relevant.indices[indptr[block.lo] : indptr[block.hi]]
        keys = np.append(keys, n_relevant.size * self.n_items)  # beyond all that may be looked for
        wanted = np.arange(n_relevant.size)[:, None] * self.n_items + block.items
        hits = valid & (keys[np.searchsorted(keys, wanted)] == wanted)
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
