"""The best items of each user, without a matrix of users x items; and how far predictions are from ratings.

A tile of items is copied together once, and scored for four users at a time while it is in the second-level cache.
What is kept of the scores is a heap of the ``n`` best for each user, whose worst is the threshold for the rest: most
scores are looked at only to be counted as too small, which is vectorised.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel

TILE = 512  # items; their factors at rank 32 take 64 or 128 KiB, the scores of four users 8 or 16
CHUNK = 64  # scores compared with the threshold at once; divides TILE


@kernel
def best_items(
    W: Array,
    H: Array,
    users: Array,
    candidates: Array,
    place: Array,
    indptr: Array,
    indices: Array,
    lo: int,
    hi: int,
    counts: Array,
    items: Array,
    scores: Array,
) -> None:
    """The items with the highest ``W[users[i]] · H[:, j]`` for ``lo <= i < hi``, best first.

    Equal scores stand in the order of the items. ``items`` and ``scores`` (n_users, n) are written up to
    ``counts[i]``. ``candidates`` are ascending item positions, ``place`` says where an item stands among them (-1: it
    does not), and what ``indptr, indices`` hold for a user is left out.
    """
    r = W.shape[1]
    padded = (r + 3) // 4 * 4
    zero = H.dtype.type(0)
    tile = np.zeros((padded, TILE), H.dtype)
    weights = np.zeros((4, padded), H.dtype)
    sums = np.empty((4, TILE), H.dtype)
    reached = np.empty(hi - lo, np.int64)  # in each user's list of what is left out
    for i in range(lo, hi):
        reached[i - lo] = indptr[users[i]]
        counts[i] = 0
    for first in range(0, candidates.size, TILE):
        width = min(TILE, candidates.size - first)
        for t in range(r):
            for j in range(width):
                tile[t, j] = H[t, candidates[first + j]]
        for i in range(lo, hi, 4):
            # The last users are done in a group that repeats one, and a tile has its full width: the same sums in
            # the same order wherever a user stands.
            for a in range(4):
                row = W[users[min(i + a, hi - 1)]]
                for t in range(r):
                    weights[a, t] = row[t]
            sums[:] = zero
            for t in range(0, padded, 4):
                _add_four(weights, tile, t, sums)
            for a in range(min(4, hi - i)):
                end = indptr[users[i + a] + 1]
                reached[i + a - lo] = _leave_out(
                    indices, reached[i + a - lo], end, place, first, first + width, sums[a]
                )
                here = candidates[first : first + width]
                counts[i + a] = _keep_best(sums[a], here, counts[i + a], items[i + a], scores[i + a])
    for i in range(lo, hi):
        _sort(counts[i], items[i], scores[i])


@kernel
def _add_four(weights: Array, tile: Array, t: int, sums: Array) -> None:
    """Add four components to the scores of four users."""
    s0, s1, s2, s3 = sums[0], sums[1], sums[2], sums[3]
    h0, h1, h2, h3 = tile[t], tile[t + 1], tile[t + 2], tile[t + 3]
    a00, a01, a02, a03 = weights[0, t], weights[0, t + 1], weights[0, t + 2], weights[0, t + 3]
    a10, a11, a12, a13 = weights[1, t], weights[1, t + 1], weights[1, t + 2], weights[1, t + 3]
    a20, a21, a22, a23 = weights[2, t], weights[2, t + 1], weights[2, t + 2], weights[2, t + 3]
    a30, a31, a32, a33 = weights[3, t], weights[3, t + 1], weights[3, t + 2], weights[3, t + 3]
    for j in range(TILE):
        # Read once: for all LLVM knows, a sum that is stored might be one of them.
        x0, x1, x2, x3 = h0[j], h1[j], h2[j], h3[j]
        s0[j] += x0 * a00 + x1 * a01 + x2 * a02 + x3 * a03
        s1[j] += x0 * a10 + x1 * a11 + x2 * a12 + x3 * a13
        s2[j] += x0 * a20 + x1 * a21 + x2 * a22 + x3 * a23
        s3[j] += x0 * a30 + x1 * a31 + x2 * a32 + x3 * a33


@kernel
def _leave_out(indices: Array, p: int, end: int, place: Array, first: int, last: int, scores: Array) -> int:
    """Give the items of one user's list that stand in this tile no chance; return how far the list was read."""
    while p < end:
        j = place[indices[p]]
        if j >= last:
            break
        if j >= first:
            scores[j - first] = -np.inf
        p += 1
    return p


@kernel
def _keep_best(scores: Array, here: Array, count: int, items: Array, kept: Array) -> int:
    """Put into the heap what belongs among the best; return how many it holds."""
    n = items.size
    threshold = kept[0] if count == n else kept.dtype.type(-np.inf)  # of one type: a wider one would be compared slower
    for first in range(0, here.size, CHUNK):
        last = min(first + CHUNK, here.size)
        hits = 0
        for j in range(first, last):
            hits += scores[j] > threshold
        if hits == 0:
            continue
        for j in range(first, last):
            # Items come in ascending order: one that equals the worst of a full heap comes after it.
            if not scores[j] > threshold:
                continue
            if count < n:
                _rise(count, items, kept, here[j], scores[j])
                count += 1
            else:
                _sink(count, items, kept, here[j], scores[j])
            if count == n:
                threshold = kept[0]
    return count


@kernel
def _is_worse(score: float, item: int, other_score: float, other_item: int) -> bool:
    return score < other_score or (score == other_score and item > other_item)


@kernel
def _rise(count: int, items: Array, scores: Array, item: int, score: float) -> None:
    """Add to the heap of ``count``, whose root is the worst."""
    k = count
    while k > 0:
        parent = (k - 1) // 2
        if not _is_worse(score, item, scores[parent], items[parent]):
            break
        items[k], scores[k] = items[parent], scores[parent]
        k = parent
    items[k], scores[k] = item, score


@kernel
def _sink(count: int, items: Array, scores: Array, item: int, score: float) -> None:
    """Replace the root of the heap of ``count``."""
    k = 0
    while 2 * k + 1 < count:
        child = 2 * k + 1
        if child + 1 < count and _is_worse(scores[child + 1], items[child + 1], scores[child], items[child]):
            child += 1
        if not _is_worse(scores[child], items[child], score, item):
            break
        items[k], scores[k] = items[child], scores[child]
        k = child
    items[k], scores[k] = item, score


@kernel
def _sort(count: int, items: Array, scores: Array) -> None:
    """Turn the heap into a list, best first: the worst goes to the end, again and again."""
    for last in range(count - 1, 0, -1):
        item, score = items[last], scores[last]
        items[last], scores[last] = items[0], scores[0]
        _sink(last, items, scores, item, score)


@kernel
def error_sums(
    W: Array,
    Ht: Array,
    users: Array,
    places: Array,
    indptr: Array,
    indices: Array,
    data: Array,
    low: float,
    high: float,
    unit: float,
    lo: int,
    hi: int,
    out: Array,
) -> None:
    """``out = Σ e², Σ |e|`` in float64 over the ratings of the rows ``lo <= i < hi``.

    Row i is predicted as ``W[users[i]] · Ht[places[j]]``, brought into ``low`` to ``high``; an error e is counted in
    ``unit``.
    """
    r = W.shape[1]
    squares = 0.0
    sizes = 0.0
    for i in range(lo, hi):
        if indptr[i] == indptr[i + 1]:
            continue
        w = W[users[i]]
        for p in range(indptr[i], indptr[i + 1]):
            h = Ht[places[indices[p]]]
            score = 0.0
            for t in range(r):
                score += np.float64(w[t]) * np.float64(h[t])
            error = (min(max(score, low), high) - data[p]) / unit
            squares += error * error
            sizes += abs(error)
    out[0] = squares
    out[1] = sizes
