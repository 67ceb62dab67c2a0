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

Sums run over at most ``AT_ONCE`` entries in the dtype of the data; longer rows add these up in float64.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import kernel

AT_ONCE = 256  # entries; with r = 32 in float32, 32 KiB


@kernel
def _gather(
    indices: Array, values: Array, weights: Array, shift: Array, B: Array, first: int, n: int, T: Array, x: Array
) -> None:
    """``T[t, q] = B[indices[first + q], t]`` and ``x[q]``, by blocks of four rows and four components.

    Plain loops become scattered stores where a processor has them (AVX-512), which take ten times as long.
    """
    r = B.shape[1]
    fours, full = n - n % 4, r - r % 4
    for q in range(0, fours, 4):
        q1, q2, q3 = q + 1, q + 2, q + 3
        p = first + q
        b0, b1 = B[np.uintp(indices[p])], B[np.uintp(indices[p + 1])]
        b2, b3 = B[np.uintp(indices[p + 2])], B[np.uintp(indices[p + 3])]
        for t in range(0, full, 4):
            T0, T1, T2, T3 = T[t], T[t + 1], T[t + 2], T[t + 3]
            w0, x0, y0, z0 = b0[t], b0[t + 1], b0[t + 2], b0[t + 3]
            w1, x1, y1, z1 = b1[t], b1[t + 1], b1[t + 2], b1[t + 3]
            w2, x2, y2, z2 = b2[t], b2[t + 1], b2[t + 2], b2[t + 3]
            w3, x3, y3, z3 = b3[t], b3[t + 1], b3[t + 2], b3[t + 3]
            T0[q], T0[q1], T0[q2], T0[q3] = w0, w1, w2, w3
            T1[q], T1[q1], T1[q2], T1[q3] = x0, x1, x2, x3
            T2[q], T2[q1], T2[q2], T2[q3] = y0, y1, y2, y3
            T3[q], T3[q1], T3[q2], T3[q3] = z0, z1, z2, z3
        for t in range(full, r):
            T0 = T[t]
            T0[q], T0[q1], T0[q2], T0[q3] = b0[t], b1[t], b2[t], b3[t]
    for q in range(fours, n):
        b = B[np.uintp(indices[first + q])]
        for t in range(r):
            T[t, q] = b[t]
    for q in range(n):
        x[q] = values[first + q]
    if shift.size:
        for q in range(n):
            x[q] -= shift[np.uintp(indices[first + q])]
    if weights.size:
        for q in range(n):
            x[q] *= np.sqrt(weights[first + q])
        for t in range(r):
            row = T[t]
            for q in range(n):
                row[q] *= np.sqrt(weights[first + q])


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
    zero = T.dtype.type(0)
    full = r - r % 4
    for s in range(0, full, 4):
        A0, A1, A2, A3 = T[s], T[s + 1], T[s + 2], T[s + 3]
        for t in range(0, s + 4, 4):
            B0, B1, B2, B3 = T[t], T[t + 1], T[t + 2], T[t + 3]
            s00 = s01 = s02 = s03 = zero
            s10 = s11 = s12 = s13 = zero
            s20 = s21 = s22 = s23 = zero
            s30 = s31 = s32 = s33 = zero
            for q in range(n):
                a0, a1, a2, a3 = A0[q], A1[q], A2[q], A3[q]
                b0, b1, b2, b3 = B0[q], B1[q], B2[q], B3[q]
                s00 += a0 * b0
                s01 += a0 * b1
                s02 += a0 * b2
                s03 += a0 * b3
                s10 += a1 * b0
                s11 += a1 * b1
                s12 += a1 * b2
                s13 += a1 * b3
                s20 += a2 * b0
                s21 += a2 * b1
                s22 += a2 * b2
                s23 += a2 * b3
                s30 += a3 * b0
                s31 += a3 * b1
                s32 += a3 * b2
                s33 += a3 * b3
            G0, G1, G2, G3 = G[s], G[s + 1], G[s + 2], G[s + 3]
            G0[t] += s00
            G0[t + 1] += s01
            G0[t + 2] += s02
            G0[t + 3] += s03
            G1[t] += s10
            G1[t + 1] += s11
            G1[t + 2] += s12
            G1[t + 3] += s13
            G2[t] += s20
            G2[t + 1] += s21
            G2[t + 2] += s22
            G2[t + 3] += s23
            G3[t] += s30
            G3[t + 1] += s31
            G3[t + 2] += s32
            G3[t + 3] += s33
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
def _sweep_model(a: Array, g: Array, G: Array, inverse: Array, sweeps: int, patience: float) -> float:
    """Coordinate descent on ``½ aᵀ G a``, gradient ``g`` (with the ridge on the diagonal of G); the decrease."""
    r = a.size
    zero, half = a.dtype.type(0), a.dtype.type(0.5)
    total, first = 0.0, 0.0
    for sweep in range(sweeps):
        fell = 0.0
        for t in range(r):
            Gt = G[t]
            step = -g[t] * inverse[t]
            step = step if step > -a[t] else -a[t]
            if inverse[t] == zero:  # flat but for a penalty, which wants it gone
                step = -a[t] if g[t] > Gt[t] * a[t] else zero
            if step != zero:
                a[t] += step
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
            step = -g * inverse[t]
            step = step if step > -a[t] else -a[t]
            if inverse[t] == zero:
                step = -a[t] if g > diagonal[t] * a[t] else zero
            if step != zero:
                a[t] += step
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
    G: Array,
    sums: Array,
) -> float:
    """Of one row: ``c = T e``, ``G = T Tᵀ`` (a triangle) unless that is empty, and ``Σ e²``.

    ``T`` and ``e`` hold the last entries that were gathered: all of them, if they are at most ``AT_ONCE``. ``sums``
    (r + 1, r) is float64 to add up in.
    """
    r = c.size
    loss = 0.0
    long = last - first > AT_ONCE
    if long:
        sums[:] = 0.0
    c[:] = 0
    G[:] = 0
    for start in range(first, last, AT_ONCE):
        n = min(AT_ONCE, last - start)
        _gather(indices, values, weights, shift, B, start, n, T, e)
        loss += _residual(a, T, n, e)
        _dots(e, T, n, c)
        if G.size:
            _gram(T, n, G)
        if long:
            for s in range(r):
                sums[r, s] += np.float64(c[s])
                for t in range(G.shape[0]):
                    sums[s, t] += np.float64(G[s, t])
            c[:] = 0
            G[:] = 0
    if long:
        for s in range(r):
            c[s] = sums[r, s]
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

    ``ridge`` is that of each of these rows, or one for all. ``tally`` (2 r + 2) takes ``Σ ρ²`` before and after, the
    decrease, and what the rows had of the objective. A row with fewer than ``few`` entries is swept over these.
    """
    r = B.shape[1]
    dtype = B.dtype.type
    zero, one = dtype(0), dtype(1)
    dead = dtype(1e-30) if B.itemsize == 4 else dtype(1e-200)
    T, e = np.empty((r, AT_ONCE), B.dtype), np.empty(AT_ONCE, B.dtype)
    G, c, none = np.empty((r, r), B.dtype), np.empty(r, B.dtype), np.empty((0, r), B.dtype)
    g, inverse, diagonal = np.empty(r, B.dtype), np.empty(r, B.dtype), np.empty(r, B.dtype)
    sums = np.empty((r + 1, r))
    few = min(few, float(AT_ONCE))
    for i in range(lo, hi):
        a = out[i]
        a[:] = A[i]
        penalty = ridge[i - lo] if ridge.size > 1 else ridge[0]
        own = dtype(penalty)
        first, last = indptr[i], indptr[i + 1]
        n = last - first
        model = G if n >= few else none
        loss = _equations(indices, values, weights, shift, B, a, first, last, T, e, c, model, sums)
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
                row, total = T[s], own
                for q in range(n):
                    total += row[q] * row[q]
                diagonal[s] = total
            inverse[s] = one / diagonal[s] if diagonal[s] > dead else zero
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
    r = B.shape[1]
    T, e = np.empty((r, AT_ONCE), B.dtype), np.empty(AT_ONCE, B.dtype)
    sums, nothing = np.empty((r + 1, r)), np.zeros(r, B.dtype)
    for i in range(lo, hi):
        system = G[i - lo]
        _equations(indices, values, weights, shift, B, nothing, indptr[i], indptr[i + 1], T, e, C[i - lo], system, sums)
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
