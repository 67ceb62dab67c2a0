"""Rows of which only some entries count: each has its own normal equations.

Entries stand in compressed rows. ``weights`` is empty when every entry counts once. ``shift`` is empty, or has what is
taken off the values of each column: the part of x̂ that does not depend on the row (an offset of the column).

**A row** with entries ``x_j`` is gathered into a tile ``T`` (r, entries), one component after the other, some entries
at a time, so that no temporary outgrows the cache; an entry that counts ω times is taken times √ω, together with its
row of ``B``, which makes all that follows right. From the tile come, for the row ``a`` as it is given,

    e = x - Tᵀa,      loss = ½ Σ e²,      g = -T e + l1 + ridge·a,

and either the Gram matrix ``G = T Tᵀ``, with which a sweep costs r² whatever the number of entries, or, where that
would cost more than it saves (few entries, large r), sweeps that keep ``e`` up to date instead: 4 r an entry. The
iterates are the same but for rounding.

Sums run over the entries of a tile in the dtype of the data; longer rows add these up in float64.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel
from nmfcore.kernels._vector import LANES, dots_block, transpose_block

AT_ONCE = 256  # entries at most,
TILE = 32768  # bytes of a tile: it stays in the first-level cache
LEAST = 64  # entries all the same


@kernel
def _tile(B: Array) -> tuple[Array, Array]:
    """An empty tile, of as many lines as ``B`` has columns, and residual; lines of the tile begin where cache lines do.

    They are an odd number of these apart: with a power of two, a column would fall on a few places of the cache.
    """
    r = B.shape[1]
    n = min(AT_ONCE, max(LEAST, TILE // (r * B.itemsize) // LANES * LANES))
    room = np.empty(r * (n + LANES) + LANES, B.dtype)
    skip = -(room.ctypes.data // B.itemsize) % LANES
    return room[skip : skip + r * (n + LANES)].reshape((r, n + LANES)), np.empty(n, B.dtype)


@kernel
def _gather(
    indices: Array, values: Array, weights: Array, shift: Array, B: Array, first: int, n: int, T: Array, x: Array
) -> None:
    """``T[t, q] = B[indices[first + q], t]``, 0 beyond the last up to whole vectors, and ``x[q]``."""
    r = B.shape[1]
    eights, full = n - n % 8, r - r % 8
    for q in range(0, eights, 8):
        for t in range(0, full, 8):
            transpose_block(B, indices, first + q, t, T, q)
    for q in range(n):
        b = B[np.uintp(indices[first + q])]
        for t in range(full if q < eights else 0, r):
            T[t, q] = b[t]
    for t in range(r):
        row = T[t]
        for q in range(n, n + -n % LANES):
            row[q] = 0
    for q in range(n):
        x[q] = values[first + q]
    if shift.size:
        for q in range(n):
            x[q] -= shift[np.uintp(indices[first + q])]
    if weights.size:
        for q in range(n):
            if weights[first + q] != 1:  # most are, where some entries stand for more than one
                root = np.sqrt(weights[first + q])
                x[q] *= root
                for t in range(r):
                    T[t, q] *= root


@kernel
def _dots(x: Array, T: Array, n: int, out: Array) -> None:
    """``out[t] += Σ_q x_q T[t, q]``, four sums at a time."""
    r = out.size
    zero = x.dtype.type(0)
    full = r - r % 4
    for t in range(0, full, 4):
        T0, T1, T2, T3 = T[t], T[t + 1], T[t + 2], T[t + 3]
        s0 = s1 = s2 = s3 = zero
        for q in range(n):
            s0 += x[q] * T0[q]
            s1 += x[q] * T1[q]
            s2 += x[q] * T2[q]
            s3 += x[q] * T3[q]
        out[t] += s0
        out[t + 1] += s1
        out[t + 2] += s2
        out[t + 3] += s3
    for t in range(full, r):
        T0 = T[t]
        s0 = zero
        for q in range(n):
            s0 += x[q] * T0[q]
        out[t] += s0


@kernel
def _gram(T: Array, n: int, G: Array) -> None:
    """``G[s, t] += Σ_q T[s, q] T[t, q]`` for t <= s (and some more), 4 x 4 sums at a time in registers."""
    r = G.shape[0]
    full, padded = r - r % 4, n + -n % LANES
    for s in range(0, full, 4):
        for t in range(0, s + 4, 4):
            dots_block(T, s, t, padded, G)
    for s in range(full, r):
        _dots(T[s], T, n, G[s])


@kernel
def _residual(a: Array, T: Array, n: int, e: Array) -> float:
    """``e_q -= Σ_t a_t T[t, q]``, four components to each load and store; returns ``Σ e²``."""
    r = a.size
    full = r - r % 4
    for t in range(0, full, 4):
        a0, a1, a2, a3 = a[t], a[t + 1], a[t + 2], a[t + 3]
        T0, T1, T2, T3 = T[t], T[t + 1], T[t + 2], T[t + 3]
        for q in range(n):
            e[q] -= a0 * T0[q] + a1 * T1[q] + a2 * T2[q] + a3 * T3[q]
    for t in range(full, r):
        a0, T0 = a[t], T[t]
        for q in range(n):
            e[q] -= a0 * T0[q]
    total = e.dtype.type(0)
    for q in range(n):
        total += e[q] * e[q]
    return np.float64(total)


@kernel
def _aim(a: float, g: float, h: float, v: float) -> float:
    """The minimum along a coordinate at ``a``, with slope ``g``, curvature ``h`` and its inverse ``v`` (0: flat)."""
    x = a - g * v
    x = x if x > 0 else a - a
    return a - a if v == 0 and g > h * a else x  # flat but for a penalty, which wants it gone


@kernel
def _sweep_model(a: Array, g: Array, G: Array, inverse: Array, sweeps: int, patience: float) -> float:
    """Coordinate descent on ``½ aᵀ G a``, gradient ``g`` (with the ridge on the diagonal of G); the decrease.

    The gradient is brought up to date once for four coordinates, each of which knows the steps of those before it.
    """
    r = a.size
    half = a.dtype.type(0.5)
    full = r - r % 4
    total, first = 0.0, 0.0
    for sweep in range(sweeps):
        fell = 0.0
        for t in range(0, full, 4):
            G0, G1, G2, G3 = G[t], G[t + 1], G[t + 2], G[t + 3]
            h0, h1, h2, h3 = G0[t], G1[t + 1], G2[t + 2], G3[t + 3]
            a0, a1, a2, a3 = a[t], a[t + 1], a[t + 2], a[t + 3]
            g0 = g[t]
            x0 = _aim(a0, g0, h0, inverse[t])
            d0 = x0 - a0
            g1 = g[t + 1] + d0 * G0[t + 1]
            x1 = _aim(a1, g1, h1, inverse[t + 1])
            d1 = x1 - a1
            g2 = g[t + 2] + d0 * G0[t + 2] + d1 * G1[t + 2]
            x2 = _aim(a2, g2, h2, inverse[t + 2])
            d2 = x2 - a2
            g3 = g[t + 3] + d0 * G0[t + 3] + d1 * G1[t + 3] + d2 * G2[t + 3]
            x3 = _aim(a3, g3, h3, inverse[t + 3])
            d3 = x3 - a3
            if d0 != 0 or d1 != 0 or d2 != 0 or d3 != 0:
                a[t], a[t + 1], a[t + 2], a[t + 3] = x0, x1, x2, x3
                fell -= np.float64(d0 * (g0 + half * h0 * d0) + d1 * (g1 + half * h1 * d1))
                fell -= np.float64(d2 * (g2 + half * h2 * d2) + d3 * (g3 + half * h3 * d3))
                for s in range(r):
                    g[s] += d0 * G0[s] + d1 * G1[s] + d2 * G2[s] + d3 * G3[s]
        for t in range(full, r):
            Gt = G[t]
            x = _aim(a[t], g[t], Gt[t], inverse[t])
            step = x - a[t]
            if step != 0:
                a[t] = x
                fell -= np.float64(step * (g[t] + half * Gt[t] * step))
                for s in range(r):
                    g[s] += step * Gt[s]
        total += fell
        if sweep == 0:
            first = fell
        elif fell <= patience * first:
            break
    return total


@kernel
def _sweep_entries(
    a: Array,
    e: Array,
    T: Array,
    n: int,
    diagonal: Array,
    inverse: Array,
    l1: float,
    ridge: float,
    sweeps: int,
    patience: float,
) -> float:
    """The same steps, with ``e = x - Tᵀa`` kept up to date in place of the gradient."""
    r = a.size
    zero, half = a.dtype.type(0), a.dtype.type(0.5)
    l1, ridge = a.dtype.type(l1), a.dtype.type(ridge)
    total, first = 0.0, 0.0
    for sweep in range(sweeps):
        fell = 0.0
        for t in range(r):
            row = T[t]
            g = l1 + ridge * a[t]
            pull = zero
            for q in range(n):
                pull += e[q] * row[q]
            g -= pull
            x = _aim(a[t], g, diagonal[t], inverse[t])
            step = x - a[t]
            if step != zero:
                a[t] = x
                fell -= np.float64(step * (g + half * diagonal[t] * step))
                for q in range(n):
                    e[q] -= step * row[q]
        total += fell
        if sweep == 0:
            first = fell
        elif fell <= patience * first:
            break
    return total


@kernel
def _add_squares(a: Array, g: Array, diagonal: Array, squares: Array) -> None:
    """Add ``ρ²`` of each coordinate."""
    for t in range(a.size):
        slope, bound = np.float64(g[t]), np.float64(diagonal[t]) * np.float64(a[t])
        rho = slope if slope < bound else bound
        squares[t] += rho * rho


@kernel
def _equations(
    indices: Array,
    values: Array,
    weights: Array,
    shift: Array,
    B: Array,
    a: Array,
    first: int,
    last: int,
    T: Array,
    e: Array,
    c: Array,
    squares: Array,
    G: Array,
    sums: Array,
) -> float:
    """Of one row: ``c = T e``, ``G = T Tᵀ`` (a triangle) or, if that is empty, its diagonal ``squares``, and ``Σ e²``.

    ``T`` and ``e`` hold the last entries that were gathered: all of them, if the tile has room for these. ``sums``
    (r + 2, r) is float64 to add up in.
    """
    r = c.size
    loss = 0.0
    long = last - first > e.size
    if long:
        sums[:] = 0.0
    c[:] = 0
    squares[:] = 0
    G[:] = 0
    for start in range(first, last, e.size):
        n = min(e.size, last - start)
        _gather(indices, values, weights, shift, B, start, n, T, e)
        loss += _residual(a, T, n, e)
        _dots(e, T, n, c)
        if G.size:
            _gram(T, n, G)
        else:
            for t in range(r):
                row, total = T[t], c.dtype.type(0)
                for q in range(n):
                    total += row[q] * row[q]
                squares[t] += total
        if long:
            for s in range(r):
                sums[r, s] += np.float64(c[s])
                sums[r + 1, s] += np.float64(squares[s])
                for t in range(G.shape[0]):
                    sums[s, t] += np.float64(G[s, t])
            c[:] = 0
            squares[:] = 0
            G[:] = 0
    if long:
        for s in range(r):
            c[s], squares[s] = sums[r, s], sums[r + 1, s]
            for t in range(G.shape[0]):
                G[s, t] = sums[s, t]
    return loss


@kernel
def hals_rows(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    shift: Array,
    B: Array,
    A: Array,
    l1: float,
    ridge: Array,
    sweeps: int,
    patience: float,
    few: float,
    lo: int,
    hi: int,
    out: Array,
    tally: Array,
) -> None:
    """Sweep over the rows ``lo <= i < hi`` of ``A`` into ``out``; see :mod:`nmfcore.solvers.hals`.

    ``B`` may have more columns than ``A``, which are 0: whole blocks are gathered faster.
    ``ridge`` is that of each of these rows, or one for all. ``tally`` (2 r + 2) takes ``Σ ρ²`` before and after, the
    decrease, and what the rows had of the objective. A row with fewer than ``few`` entries is swept over these.
    """
    r = A.shape[1]
    dtype = B.dtype.type
    zero, one = dtype(0), dtype(1)
    dead = dtype(1e-30) if B.itemsize == 4 else dtype(1e-200)
    # Where X is very large an offset's ones are very small (nmfcore.offsets), and no less alive.
    last_dead = dead if not shift.size else dtype(1.2e-38) if B.itemsize == 4 else dtype(2.3e-308)
    T, e = _tile(B)
    G, c, none = np.empty((r, r), B.dtype), np.empty(r, B.dtype), np.empty((0, r), B.dtype)
    g, inverse, diagonal = np.empty(r, B.dtype), np.empty(r, B.dtype), np.empty(r, B.dtype)
    sums = np.empty((r + 2, r))
    few = min(few, float(e.size))
    for i in range(lo, hi):
        a = out[i]
        a[:] = A[i]
        penalty = ridge[i - lo] if ridge.size > 1 else ridge[0]
        own = dtype(penalty)
        first, last = indptr[i], indptr[i + 1]
        n = last - first
        model = G if n >= few and sweeps > 0 else none
        loss = _equations(indices, values, weights, shift, B, a, first, last, T, e, c, diagonal, model, sums)
        value = 0.5 * loss
        for t in range(r):
            value += np.float64(a[t]) * (l1 + 0.5 * penalty * np.float64(a[t]))
            g[t] = dtype(l1) + own * a[t] - c[t]
        tally[2 * r + 1] += value
        for s in range(r):
            if model.size:
                for t in range(s):
                    G[t, s] = G[s, t]
                G[s, s] += own
                diagonal[s] = G[s, s]
            else:
                diagonal[s] += own
            inverse[s] = one / diagonal[s] if diagonal[s] > (dead if s < r - 1 else last_dead) else zero
        _add_squares(a, g, diagonal, tally[:r])
        if sweeps > 0 and model.size:
            tally[2 * r] += _sweep_model(a, g, G, inverse, sweeps, patience)
        elif sweeps > 0:
            tally[2 * r] += _sweep_entries(a, e, T, n, diagonal, inverse, l1, penalty, sweeps, patience)
            c[:] = 0
            _dots(e, T, n, c)
            for t in range(r):
                g[t] = dtype(l1) + own * a[t] - c[t]
        _add_squares(a, g, diagonal, tally[r : 2 * r])


@kernel
def row_systems(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    shift: Array,
    B: Array,
    lo: int,
    hi: int,
    C: Array,
    G: Array,
) -> None:
    """``C[k] = Σ_j ω_ij x_ij B[j]`` and ``G[k] = Σ_j ω_ij B[j] B[j]ᵀ`` for the rows ``i = lo + k < hi``."""
    r = C.shape[1]
    T, e = _tile(B)
    sums, nothing, squares = np.empty((r + 2, r)), np.zeros(r, B.dtype), np.empty(r, B.dtype)
    for i in range(lo, hi):
        system = G[i - lo]
        first, last, c = indptr[i], indptr[i + 1], C[i - lo]
        _equations(indices, values, weights, shift, B, nothing, first, last, T, e, c, squares, system, sums)
        for s in range(r):
            for t in range(s):
                system[t, s] = system[s, t]


@kernel
def squared_error(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    shift: Array,
    B: Array,
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
            if shift.size:
                error += np.float64(shift[j])
            for t in range(r):
                error += np.float64(A[i, t]) * np.float64(B[j, t])
            total += error * error * (np.float64(weights[p]) if weights.size else 1.0)
    return total
