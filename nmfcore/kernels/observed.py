"""Rows of which only some entries count: each has its own normal equations.

Entries stand in compressed rows. ``weights`` has one number where all entries count alike. ``B`` has the columns
of ``A`` (m, r) and perhaps more. Where it is ``shifted``, the next one holds what is taken off the values: the part of
x̂ that does not depend on the row (an offset of the column). Sixteen numbers are read from wherever a block begins, be
it those of the next row, and after the last row there are so many more; what is made of those beyond is not used.

**A row** ``a`` with entries ``x_j`` has the errors ``e_j = x_j - b_jᵀ a``. Its coordinates are gone through in blocks
of sixteen. From the errors as they are now and from the columns ``b`` of the block come

    g = l1 + ridge·a - Σ ω e b,      G = Σ ω b bᵀ + ridge,

the quadratic that the sweeps over the coordinates of the block go down; then the errors follow its step,
``e -= bᵀ d``. That costs some ``32 r`` flop an entry where the Gram matrix of all coordinates takes ``r²``, and about
the same number of iterations. If W begins with the first block, and H with the last, even fewer: at rank 64
MovieLens-1M takes six to a held-out error that takes eight where both begin with the first, and seven where one Gram
matrix serves a row.

**A row of more than ``ROOM`` entries** finds none of its ``b`` in the cache when the next block asks for them, and
waits for memory at every block. All of its ``g`` and ``G`` (r, r) are summed up in one pass instead, chunk by chunk,
and after a block ``g += G d``: the same steps. With a hundred million long-tailed ratings at rank 32, an update of the
columns takes half the time.

**Sixteen rows** stand side by side in the lanes of a vector when they are swept over: a coordinate of all of them is
one vector. Sums over the entries of a row are kept in the dtype of the data, and those of many taken on in float64.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel
from nmfcore.kernels.vectors.gathered import (
    LANES,
    add_outer,
    add_outer_narrow,
    add_rows,
    errors,
    subtract_dots,
    sweep_lanes,
    transpose_square,
)

AT_ONCE = 512  # entries of a row until their sums are taken on in float64
ROOM = 4096  # entries of rows that are swept over together, whose rows of B stay in the cache for the next block
NARROW = 4  # columns of the last block, if it has no more


@kernel
def _errors(
    indices: Array, values: Array, weights: Array, B: Array, a: Array, first: int, last: int, E: Array, o: int
) -> float:
    """``E[:, o + q] = x_q - b_qᵀ a`` of one row, and ``Σ ω e²``."""
    errors(B, indices, first, last - first, 0, a.size, a, values, E, o)
    total = 0.0
    for start in range(first, last, AT_ONCE):
        n, at = min(AT_ONCE, last - start), o + start - first
        e, part = E[0, at : at + n], E.dtype.type(0)
        if weights.size > 1:
            w = weights[start : start + n]  # with a sum for an index, which might be negative, the loop would gather
            for q in range(n):
                part += w[q] * e[q] * e[q]
        else:
            for q in range(n):
                part += e[q] * e[q]
            part *= weights[0]
        total += np.float64(part)
    return total


@kernel
def _model(
    indices: Array,
    weights: Array,
    B: Array,
    s: int,
    t: int,
    narrow: bool,
    first: int,
    last: int,
    E: Array,
    o: int,
    models: Array,
    k: int,
    sums: Array,
) -> None:
    """``models[k, p] = Σ ω b_{s+p} b_{t:t+16}``, and in lines 16 and 17 ``Σ ω e b_{t:t+16}``: now, and at first."""
    step = 1 if weights.size > 1 else 0
    for p in range(LANES + 2):
        for q in range(LANES):
            models[k, p, q] = 0
    if last - first <= AT_ONCE:
        if narrow:
            add_outer_narrow(B, indices, first, last - first, s, t, weights, step, E, o, models, k)
        else:
            add_outer(B, indices, first, last - first, s, t, weights, step, E, o, models, k)
        return
    sums[:] = 0.0
    for start in range(first, last, AT_ONCE):
        add_outer(B, indices, start, min(AT_ONCE, last - start), s, t, weights, step, E, o + start - first, models, k)
        for p in range(LANES + 2):
            for q in range(LANES):
                sums[p, q] += np.float64(models[k, p, q])
                models[k, p, q] = 0
    for p in range(LANES + 2):
        for q in range(LANES):
            models[k, p, q] = sums[p, q]


@kernel
def _whole_model(
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    r: int,
    a: Array,
    first: int,
    last: int,
    E: Array,
    models: Array,
    sums: Array,
    pulls: Array,
    gram: Array,
) -> float:
    """``pulls[t] = Σ ω e b_t`` and ``gram[s, t] = Σ ω b_s b_t`` of one row, in one pass over it, and ``Σ ω e²``."""
    total = 0.0
    for start in range(first, max(last, first + 1), AT_ONCE):
        stop = min(start + AT_ONCE, last)
        total += _errors(indices, values, weights, B, a, start, stop, E, 0)
        for s in range(0, r, LANES):
            for t in range(0, s + LANES, LANES):
                _model(indices, weights, B, s, t, r - s <= NARROW, start, stop, E, 0, models, 0, sums)
                for p in range(min(LANES, r - s)):
                    for q in range(LANES):
                        before = gram[s + p, t + q] if start > first else 0.0
                        gram[s + p, t + q] = before + np.float64(models[0, p, q])
            for q in range(LANES):  # of the last, where s = t
                pulls[s + q] = (pulls[s + q] if start > first else 0.0) + np.float64(models[0, LANES, q])
    for s in range(r):
        for t in range(s):
            gram[t, s] = gram[s, t]
    return total


@kernel
def _part(gram: Array, pulls: Array, first_pulls: Array, block: int, models: Array) -> None:
    """The model of one block of coordinates, as :func:`_model` has it."""
    for q in range(LANES):
        for p in range(LANES):
            models[0, p, q] = gram[block + p, block + q]
        models[0, LANES, q], models[0, LANES + 1, q] = pulls[block + q], first_pulls[block + q]


@kernel
def _less_products(gram: Array, block: int, width: int, step: Array, pulls: Array) -> None:
    """``pulls -= gram[:, block : block + width] step``."""
    for s in range(width):
        d = np.float64(step[s])
        for t in range(pulls.size):
            pulls[t] -= gram[block + s, t] * d


@kernel
def _slopes(
    indices: Array, weights: Array, B: Array, t: int, first: int, last: int, E: Array, o: int, part: Array, sums: Array
) -> None:
    """``sums[0] = Σ ω e b_{t:t+16}`` and ``sums[1] = Σ ω b²_{t:t+16}``."""
    step = 1 if weights.size > 1 else 0
    for p in range(2):
        for q in range(LANES):
            sums[p, q] = 0.0
    for start in range(first, last, AT_ONCE):
        n, at = min(AT_ONCE, last - start), o + start - first
        for p in range(2):
            for q in range(LANES):
                part[0, p, q] = 0
        add_rows(B, indices, start, n, t, weights, step, E, at, part, 0)
        for p in range(2):
            for q in range(LANES):
                sums[p, q] += np.float64(part[0, p, q])


@kernel
def _rho(g: float, curvature: float, a: float) -> float:
    """The square of what is wrong with a coordinate; see :func:`nmfcore.losses.kkt.kkt_residual`."""
    bound = curvature * a if curvature > 0.0 or a == 0.0 else g  # where the curvature is 0, nothing bounds a step
    worst = g if g < bound else bound
    return worst * worst


@kernel
def _whole_blocks(r: int) -> int:
    """So many columns, or as many more as blocks have."""
    return r + -r % LANES


@kernel
def _together(indptr: Array, lo: int, hi: int) -> int:
    """Where the rows end that are swept over together from ``lo`` on."""
    stop = lo + 1
    while stop < hi and stop < lo + LANES and indptr[stop + 1] - indptr[lo] <= ROOM:
        stop += 1
    return stop


@kernel
def hals_rows(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    shifted: bool,
    A: Array,
    l1: float,
    ridge: Array,
    sweeps: int,
    patience: float,
    backwards: bool,
    lo: int,
    hi: int,
    out: Array,
    tally: Array,
) -> None:
    """Sweep over the rows ``lo <= i < hi`` of ``A`` into ``out``; see :mod:`nmfcore.solvers.hals`.

    ``ridge`` is that of each of these rows, or one for all. ``backwards`` begins with the last block of coordinates.
    ``tally`` (2 r + 2) takes ``Σ ρ²`` before and after, the
    decrease, and what the rows had of the objective.
    """
    # No views of rows within the loops: each counts its references, one atomic step up and one down.
    r = A.shape[1]
    wide = _whole_blocks(r)
    dtype = B.dtype.type
    dead = dtype(1e-30) if B.itemsize == 4 else dtype(1e-200)
    # Where X is very large an offset's ones are very small (nmfcore.data.offsets), and no less alive.
    last_dead = dead if not shifted else dtype(1.2e-38) if B.itemsize == 4 else dtype(2.3e-308)
    E, sums = np.empty((2, ROOM), B.dtype), np.empty((LANES + 2, LANES))
    models, G = np.zeros((LANES, LANES + 2, LANES), B.dtype), np.empty((LANES, LANES, LANES), B.dtype)
    a, g, inverse = np.zeros((3, LANES, LANES), B.dtype)
    own, fell, first_fell = np.zeros((3, LANES), B.dtype)
    diagonal, whole, step = (
        np.zeros((LANES, wide), B.dtype),
        np.zeros(_whole_blocks(r + shifted), B.dtype),
        np.zeros(LANES, B.dtype),
    )
    pulls, first_pulls = np.zeros((2, wide))
    gram = np.zeros((wide, wide))
    if shifted:
        whole[r] = 1
    start = lo
    while start < hi:
        stop = _together(indptr, start, hi)
        base = indptr[start]
        long = indptr[start + 1] - base > ROOM  # and alone
        for i in range(start, stop):
            k, first, last = i - start, indptr[i], indptr[i + 1]
            own[k] = dtype(ridge[i - lo] if ridge.size > 1 else ridge[0])
            value = 0.0
            for t in range(r):
                whole[t] = A[i, t]
                value += np.float64(whole[t]) * (l1 + 0.5 * np.float64(own[k]) * np.float64(whole[t]))
            if long:
                value += 0.5 * _whole_model(
                    indices, values, weights, B, r, whole, first, last, E, models, sums, pulls, gram
                )
                first_pulls[:] = pulls
            else:
                value += 0.5 * _errors(indices, values, weights, B, whole, first, last, E, first - base)
            tally[2 * r + 1] += value
            for t in range(r):
                out[i, t] = whole[t]
        for turn in range(0, r if sweeps > 0 else 0, LANES):
            block = wide - LANES - turn if backwards else turn
            width = min(LANES, r - block)
            for i in range(start, stop):
                k, first, last = i - start, indptr[i], indptr[i + 1]
                if long:
                    _part(gram, pulls, first_pulls, block, models)
                else:
                    narrow = width <= NARROW
                    _model(indices, weights, B, block, block, narrow, first, last, E, first - base, models, k, sums)
                for t in range(width):
                    h = models[k, t, t] + own[k]
                    models[k, t, t] = h
                    diagonal[k, block + t] = h
                    inverse[t, k] = dtype(1) / h if h > (dead if block + t < r - 1 else last_dead) else dtype(0)
                    a[t, k] = out[i, block + t]
                    pull = dtype(l1) + own[k] * a[t, k]
                    g[t, k] = pull - models[k, LANES, t]
                    slope = np.float64(pull - models[k, LANES + 1, t])
                    tally[block + t] += _rho(slope, np.float64(h), np.float64(a[t, k]))
            for s in range(width):
                transpose_square(models, s, G)
            for sweep in range(sweeps):
                fell[:] = 0
                sweep_lanes(a, g, G, inverse, width, fell)
                going = False
                for k in range(stop - start):
                    tally[2 * r] += np.float64(fell[k])
                    if sweep == 0:
                        first_fell[k] = fell[k]
                    going |= fell[k] > dtype(patience) * first_fell[k]
                if not going:
                    break
            for i in range(start, stop):
                k, first, last = i - start, indptr[i], indptr[i + 1]
                for t in range(LANES):
                    step[t] = a[t, k] - out[i, block + t] if t < width else dtype(0)
                for t in range(width):
                    out[i, block + t] = a[t, k]
                if long:
                    _less_products(gram, block, width, step, pulls)
                elif r > LANES:
                    subtract_dots(B, indices, first, last - first, block, LANES, step, values, E, first - base)
        for i in range(start, stop):
            k, first, last = i - start, indptr[i], indptr[i + 1]
            for block in range(0, r, LANES):
                if long:
                    for t in range(LANES):
                        sums[0, t], sums[1, t] = pulls[block + t], gram[block + t, block + t]
                elif r > LANES or sweeps == 0:
                    _slopes(indices, weights, B, block, first, last, E, first - base, models, sums)
                for t in range(min(LANES, r - block)):
                    x = out[i, block + t]
                    slope = dtype(l1) + own[k] * x - dtype(sums[0, t]) if r > LANES or sweeps == 0 else g[t, k]
                    h = diagonal[k, block + t] if sweeps > 0 else dtype(sums[1, t]) + own[k]
                    rho = _rho(np.float64(slope), np.float64(h), np.float64(x))
                    tally[r + block + t] += rho
                    if sweeps == 0:
                        tally[block + t] += rho
        start = stop


@kernel
def row_systems(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    shifted: bool,
    lo: int,
    hi: int,
    C: Array,
    G: Array,
) -> None:
    """``C[k] = Σ_j ω_ij x_ij B[j]`` and ``G[k] = Σ_j ω_ij B[j] B[j]ᵀ`` for the rows ``i = lo + k < hi``."""
    r = C.shape[1]
    wide = _whole_blocks(r)
    pulls, gram = np.zeros(wide), np.zeros((wide, wide))
    E, nothing = np.empty((2, AT_ONCE), B.dtype), np.zeros(_whole_blocks(r + shifted), B.dtype)
    models, sums = np.empty((1, LANES + 2, LANES), B.dtype), np.empty((LANES + 2, LANES))
    if shifted:
        nothing[r] = 1
    for i in range(lo, hi):
        k, first, last = i - lo, indptr[i], indptr[i + 1]
        _whole_model(indices, values, weights, B, r, nothing, first, last, E, models, sums, pulls, gram)
        for t in range(r):
            C[k, t] = pulls[t]
            for s in range(r):
                G[k, t, s] = gram[t, s]


@kernel
def squared_error(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    shifted: bool,
    A: Array,
    lo: int,
    hi: int,
) -> float:
    """``Σ ω (x - A[i]·B[j])²`` over the observed entries of the rows ``lo <= i < hi``, in float64."""
    r = A.shape[1]
    total = 0.0
    for i in range(lo, hi):
        for p in range(indptr[i], indptr[i + 1]):
            j = np.uintp(indices[p])
            error = -np.float64(values[p])
            if shifted:
                error += np.float64(B[j, r])
            for t in range(r):
                error += np.float64(A[i, t]) * np.float64(B[j, t])
            total += error * error * np.float64(weights[p if weights.size > 1 else 0])
    return total
