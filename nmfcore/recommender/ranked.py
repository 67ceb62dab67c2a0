"""How good ranked lists are: what of the first k items is relevant, and where it stands.

For one user, with ``hit_p = 1`` if the item at rank p is relevant and 0 if not, and R relevant items in all. Nothing
is sampled: a list is the best of all items. If it is shorter than k, the ranks that are not there are no hits.
Implementations with the same names differ in what they divide by (Tamm et al. 2021), so each formula is written out.

References
----------
Tamm, Damdinov and Vasilev, Quality metrics in recommender systems: do we calculate metrics consistently?, RecSys 2021.
Krichene and Rendle, On sampled metrics for item recommendation, KDD 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Hits = NDArray[np.bool_]  # (n_users, k): whether the item at each rank is relevant
Values = NDArray[np.float64]


def precision_at_k(recommended: ArrayLike, relevant: ArrayLike, k: int = 10) -> float:
    """Return the share of the first k ranks that hold a relevant item, ``Σ_{p≤k} hit_p / k``.

    Parameters
    ----------
    recommended : array-like of ids, shape (n,)
        Items for one user, best first, none twice.
    relevant : array-like of ids, shape (R,)
        The items that should be there.
    k : int
        Ranks that count, at least 1.

    Returns
    -------
    float
        Between 0 and 1; less than 1 whenever R < k.

    Raises
    ------
    ValueError
        There is no relevant item, an item is recommended twice, or k < 1.

    Examples
    --------
    >>> precision_at_k(["a", "b", "c"], ["a", "c", "z"], k=2)
    0.5
    """
    return _of_one(precisions, recommended, relevant, k)


def recall_at_k(recommended: ArrayLike, relevant: ArrayLike, k: int = 10) -> float:
    """Return the share of the relevant items that stand in the first k ranks, ``Σ_{p≤k} hit_p / R``.

    Parameters
    ----------
    recommended, relevant, k
        As for `precision_at_k`, whose errors it raises too.

    Returns
    -------
    float
        Between 0 and 1; less than 1 whenever R > k.

    Examples
    --------
    >>> recall_at_k(["a", "b", "c"], ["a", "c", "y", "z"], k=3)
    0.5
    """
    return _of_one(recalls, recommended, relevant, k)


def ndcg_at_k(recommended: ArrayLike, relevant: ArrayLike, k: int = 10) -> float:
    """Return the discounted gain of the hits over that of the best possible list (Järvelin and Kekäläinen 2002).

    ``Σ_{p≤k} hit_p / log2(p + 1)`` divided by ``Σ_{p≤min(k,R)} 1 / log2(p + 1)``. A relevant item has a gain of 1.

    Parameters
    ----------
    recommended, relevant, k
        As for `precision_at_k`, whose errors it raises too.

    Returns
    -------
    float
        Between 0 and 1, which is the best list.

    Examples
    --------
    >>> round(ndcg_at_k(["b", "a"], ["a"], k=2), 4)  # 1 / log2(3)
    0.6309
    """
    return _of_one(ndcgs, recommended, relevant, k)


def map_at_k(recommended: ArrayLike, relevant: ArrayLike, k: int = 10) -> float:
    """Return the average precision, ``Σ_{p≤k} hit_p · (Σ_{q≤p} hit_q / p) / min(k, R)``; its mean over users is MAP@k.

    Parameters
    ----------
    recommended, relevant, k
        As for `precision_at_k`, whose errors it raises too.

    Returns
    -------
    float
        Between 0 and 1, which is the best list.

    Examples
    --------
    >>> map_at_k(["a", "x", "b"], ["a", "b"], k=3)  # (1/1 + 2/3) / 2
    0.8333333333333333
    """
    return _of_one(average_precisions, recommended, relevant, k)


def coverage(recommended: Iterable[ArrayLike], n_items: int) -> float:
    """Return the share of all items that are recommended to at least one user, ``|∪_u list_u| / n_items``.

    Parameters
    ----------
    recommended : iterable of array-like of ids
        The list of each user; cut them at k for the coverage at k.
    n_items : int
        How many items there are.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        There are no items, or fewer than are recommended.

    Examples
    --------
    >>> coverage([["a", "b"], ["a", "c"]], n_items=6)
    0.5
    """
    distinct: set[Any] = set()
    for items in recommended:
        distinct.update(_listed(items))
    if n_items < max(1, len(distinct)):
        raise ValueError(f"n_items={n_items}, but {len(distinct)} different items are recommended; give how many exist")
    return len(distinct) / n_items


def precisions(hits: Hits, n_relevant: NDArray[np.int64], k: int) -> Values:
    """Precision@k of each user; ``hits`` may have fewer than k columns."""
    return np.asarray(hits.sum(axis=1) / k)


def recalls(hits: Hits, n_relevant: NDArray[np.int64], k: int) -> Values:
    """Recall@k of each user."""
    return np.asarray(hits.sum(axis=1) / n_relevant)


def ndcgs(hits: Hits, n_relevant: NDArray[np.int64], k: int) -> Values:
    """NDCG@k of each user."""
    most = int(np.minimum(n_relevant, k).max(initial=1))  # k may be huge
    gains = 1 / np.log2(np.arange(2, max(most, hits.shape[1]) + 2))
    ideal = np.cumsum(gains)[np.minimum(n_relevant, k) - 1]
    return np.asarray((hits * gains[: hits.shape[1]]).sum(axis=1) / ideal)


def average_precisions(hits: Hits, n_relevant: NDArray[np.int64], k: int) -> Values:
    """Average precision at k of each user."""
    ranks = np.arange(1, hits.shape[1] + 1)
    return np.asarray((hits * np.cumsum(hits, axis=1) / ranks).sum(axis=1) / np.minimum(n_relevant, k))


def _of_one(
    metric: Callable[[Hits, NDArray[np.int64], int], Values], recommended: ArrayLike, relevant: ArrayLike, k: int
) -> float:
    from nmfcore import _arguments  # it loads numba, which reading ratings does without

    k = _arguments.whole(k, "k", 1)
    items, wanted = _listed(recommended), set(_listed(relevant))
    if not wanted:
        raise ValueError("relevant is empty: the metric is not defined; leave out users without a relevant item")
    if len(set(items)) < len(items):
        twice = next(item for place, item in enumerate(items) if item in items[:place])
        raise ValueError(
            f"recommended holds {twice!r} twice, first at position {items.index(twice)}; list an item once"
        )
    hits = np.array([[item in wanted for item in items[:k]]], dtype=bool).reshape(1, -1)
    return float(metric(hits, np.array([len(wanted)]), k)[0])


def _listed(items: Any) -> list[Any]:
    if isinstance(items, (str, bytes)):
        raise TypeError(f"{items!r} is one id; give a list of them")
    return list(items.tolist()) if hasattr(items, "tolist") else list(items)
