r"""Rows of a β-divergence: what is needed of them for multiplicative updates and for Newton's steps.

A row holds the entries ``x_j`` that count, and ``b_j`` are the rows of ``B`` that belong to them: all of ``B`` for a
dense row, gathered for others. Some at a time they are copied into the lines of a block ``L``, which stays in the
cache, and arithmetic goes along lines, that is over components: many a row has only a few entries. (Multiplicative
updates of dense rows go along ``Bt`` instead, four rows at a time.) One pass gives, of ``x̂_j = aᵀ b_j``,

    P = Σ_j ω x x̂^{β-2} b_j,     D = Σ_j ω x̂^{β-1} b_j,     value = Σ_j ω d_β(x | x̂),

the two parts of the gradient ``D - P`` and the loss itself. For β = 1 ``D`` does not depend on ``x̂``, so entries that
are 0 need not be visited: their part of the value is ``Σ_t a_t D_t`` less what the visited ones have of ``Σ x̂``.

**Digits of the value.** Near a good fit its terms cancel: ``x log (x/x̂) - x + x̂`` of numbers about 1000 is a thousandth
where x̂ is off by one. So they are not formed; with ``q = x/x̂ = 1 + f`` and ``t = f - log(1 + f)``, a by-product of
the logarithm that has all its digits, an entry counts ``x̂ (f² - q t)`` (β = 1) or ``t`` (β = 0), never less than 0, and
an error δ of x̂ only as ``f δ``. What of ``Σ x̂`` belongs to entries that are not visited is a difference; so ``P`` and
``D``, with the sums, are float64 always.

NumPy's log is a call for each number where Numba has no vector library; the two functions here are arithmetic on
the number and its bits, which LLVM vectorises: some 1 ns instead of 4 to 20.

References
----------
Sun Microsystems' fdlibm, ``e_log.c``: the reduction and the coefficients of ``log``.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.kernels._jit import inlined_kernel, kernel
from nmfcore.kernels.vectors.lines import EIGHT, add_lines, copy_lines, dot_lines, outer_lines

LINES = 128  # entries, whose rows of B are copied: with r = 20, 24 KiB of the first-level cache
ROW_AT_ONCE = 512  # columns, of four dense rows at a time: x̂, P and D take 48 KiB
TINY = 2.2250738585072014e-308
LN2_HIGH = 6.93147180369123816490e-01  # its last bits are zero: k LN2_HIGH is exact
LN2_LOW = 1.90821492927058770002e-10
ONE_OVER_LN2 = 1.4426950408889634
ROUNDER = 6755399441055744.0  # 1.5·2**52: added, it leaves a whole number in the last bits
HALVED = 4  # trials of Newton's step, ever shorter, until the multiplicative one replaces it
HALVINGS = 40
NEAR = 0.02  # x of x̂: a divergence of other β is summed up as a series, which takes nine terms to all digits
OUT_OF_REACH = 1e4  # a row whose gradient is so large has a positive entry where x̂ is next to nothing


@kernel
def _reduce(x: float) -> tuple[float, float, float]:
    """``k``, ``f`` and ``t = f - log(1 + f)`` of a positive normal float64 ``x = 2**k (1 + f)``."""
    bits = np.float64(x).view(np.int64)
    exponent = np.int64(np.uint64(bits - 0x3FE6A09E667F3BCD + (1024 << 52)) >> np.uint64(52))  # + 1024
    m = np.int64(bits - ((exponent - 1024) << 52)).view(np.float64)  # in [√½, √2)
    k = np.int64(exponent | 0x4330000000000000).view(np.float64) - (4503599627370496.0 + 1024.0)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    even = w * (0.3999999999940941908 + w * (0.2222219843214978396 + w * 0.1531383769920937332))
    odd = 0.2857142874366239149 + w * (0.1818357216161805012 + w * 0.1479819860511658591)
    odd = z * (0.6666666666666735130 + w * odd)
    half = 0.5 * f * f
    return k, f, half - s * (half + even + odd)


@kernel
def log(x: float) -> float:
    """``log x`` of a positive normal float64, to 1 unit in the last place."""
    k, f, t = _reduce(x)
    return k * LN2_HIGH - ((t - k * LN2_LOW) - f)


@kernel
def exp(x: float) -> float:
    """``exp x`` in float64, to 2 units in the last place; ends at about 1e-304 and 1e304."""
    x = x if x > -700.0 else -700.0
    x = x if x < 700.0 else 700.0
    rounded = x * ONE_OVER_LN2 + ROUNDER
    k = rounded - ROUNDER
    y = (x - k * LN2_HIGH) - k * LN2_LOW  # |y| <= ½ log 2
    total = 1.0 / 6227020800.0
    total = total * y + 1.0 / 479001600.0
    total = total * y + 1.0 / 39916800.0
    total = total * y + 1.0 / 3628800.0
    total = total * y + 1.0 / 362880.0
    total = total * y + 1.0 / 40320.0
    total = total * y + 1.0 / 5040.0
    total = total * y + 1.0 / 720.0
    total = total * y + 1.0 / 120.0
    total = total * y + 1.0 / 24.0
    total = total * y + 1.0 / 6.0
    total = total * y + 0.5
    total = y + y * y * total
    power = np.int64((np.float64(rounded).view(np.int64) - np.float64(ROUNDER).view(np.int64) + 1023) << 52)
    scale = power.view(np.float64)
    return scale + scale * total


@kernel
def _room(B: Array, lines: int) -> Array:
    """Zeros for so many rows of ``B``, each padded to whole vectors; it begins where a cache line does."""
    width = B.shape[1] + -B.shape[1] % EIGHT
    room = np.zeros(lines * width + 16, B.dtype)
    skip = -(room.ctypes.data // B.itemsize) % 16
    return room[skip : skip + lines * width].reshape((lines, width))


@kernel
def _combine_rows(A: Array, i: int, T: Array, at: int, y: Array) -> None:
    """:func:`_combine` of four rows of ``A`` from ``i`` on (the last one again, where it ends) into those of ``y``."""
    n, r = y.shape[1], A.shape[1]
    last = A.shape[0] - 1
    A0, A1, A2, A3 = A[i], A[min(i + 1, last)], A[min(i + 2, last)], A[min(i + 3, last)]
    y0, y1, y2, y3 = y[0], y[1], y[2], y[3]
    y[:] = 0
    full = r - r % 4
    for t in range(0, full, 4):
        T0, T1, T2, T3 = T[t], T[t + 1], T[t + 2], T[t + 3]
        a00, a01, a02, a03 = A0[t], A0[t + 1], A0[t + 2], A0[t + 3]
        a10, a11, a12, a13 = A1[t], A1[t + 1], A1[t + 2], A1[t + 3]
        a20, a21, a22, a23 = A2[t], A2[t + 1], A2[t + 2], A2[t + 3]
        a30, a31, a32, a33 = A3[t], A3[t + 1], A3[t + 2], A3[t + 3]
        for j in range(n):
            b0, b1, b2, b3 = T0[at + j], T1[at + j], T2[at + j], T3[at + j]
            y0[j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
            y1[j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
            y2[j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
            y3[j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3
    for t in range(full, r):
        T0 = T[t]
        for j in range(n):
            b0 = T0[at + j]
            y0[j] += A0[t] * b0
            y1[j] += A1[t] * b0
            y2[j] += A2[t] * b0
            y3[j] += A3[t] * b0


@kernel
def _add_products(u: Array, T: Array, at: int, P: Array, i: int) -> None:
    """:func:`_add_product` of four rows of ``u`` to those of ``P`` from ``i`` on, as far as there are."""
    n, r = u.shape[1], P.shape[1]
    zero = u.dtype.type(0)
    u0, u1, u2, u3 = u[0], u[1], u[2], u[3]
    for t in range(0, r, 4):
        T0, T1, T2, T3 = T[t], T[min(t + 1, r - 1)], T[min(t + 2, r - 1)], T[min(t + 3, r - 1)]
        s00 = s01 = s02 = s03 = zero
        s10 = s11 = s12 = s13 = zero
        s20 = s21 = s22 = s23 = zero
        s30 = s31 = s32 = s33 = zero
        for j in range(n):
            x0, x1, x2, x3 = u0[j], u1[j], u2[j], u3[j]
            b0, b1, b2, b3 = T0[at + j], T1[at + j], T2[at + j], T3[at + j]
            s00 += x0 * b0
            s01 += x0 * b1
            s02 += x0 * b2
            s03 += x0 * b3
            s10 += x1 * b0
            s11 += x1 * b1
            s12 += x1 * b2
            s13 += x1 * b3
            s20 += x2 * b0
            s21 += x2 * b1
            s22 += x2 * b2
            s23 += x2 * b3
            s30 += x3 * b0
            s31 += x3 * b1
            s32 += x3 * b2
            s33 += x3 * b3
        block = ((s00, s01, s02, s03), (s10, s11, s12, s13), (s20, s21, s22, s23), (s30, s31, s32, s33))
        for k in range(min(4, P.shape[0] - i)):
            for p in range(min(4, r - t)):
                P[i + k, t + p] += block[k][p]


@kernel
def _weigh(x: Array, w: Array, beta: float, floor: float, y: Array, u: Array, v: Array) -> float:
    """From ``y = x̂``: ``u = ω x x̂^{β-2}`` and ``v = ω x̂^{β-1}``; returns ``Σ ω d_β``."""
    weighted = w.size > 0
    low = y.dtype.type(floor)
    for j in range(y.size):
        y[j] = y[j] if y[j] > low else low
    value = 0.0
    if beta == 1.0:
        for j in range(y.size):
            weight = np.float64(w[j]) if weighted else 1.0
            xhat = np.float64(y[j])
            q = np.float64(x[j]) / xhat
            u[j] = weight * q
            v[j] = weight
            k, f, t = _reduce(q if q > TINY else TINY)
            far = 1.0 - q + q * (k * LN2_HIGH - ((t - k * LN2_LOW) - f))
            value += weight * xhat * (f * f - q * t if k == 0.0 else far)
    elif beta == 0.0:
        for j in range(y.size):
            weight = np.float64(w[j]) if weighted else 1.0
            e = 1.0 / np.float64(y[j])
            q = np.float64(x[j]) * e
            u[j] = weight * q * e
            v[j] = weight * e
            k, f, t = _reduce(q if q > TINY else TINY)
            far = q - 1.0 - (k * LN2_HIGH - ((t - k * LN2_LOW) - f))
            value += weight * (t if k == 0.0 else far)
    else:
        for j in range(y.size):
            weight = np.float64(w[j]) if weighted else 1.0
            xhat = np.float64(y[j])
            q = np.float64(x[j]) / xhat
            scale = weight * exp((beta - 1.0) * log(xhat))
            entry = np.float64(x[j])
            power = exp(beta * log(entry if entry > TINY else TINY)) if entry > 0.0 else 0.0
            u[j] = q * scale
            v[j] = scale
            far = (weight * power + scale * ((beta - 1.0) * xhat - beta * entry)) / (beta * (beta - 1.0))
            far = np.float64(far if far > 0.0 else 0.0)
            f = (entry - xhat) / xhat
            near = 1.0 + (beta - 7.0) / 8.0 * f * (1.0 + (beta - 8.0) / 9.0 * f)
            near = 1.0 + (beta - 6.0) / 7.0 * f * near
            near = 1.0 + (beta - 5.0) / 6.0 * f * near
            near = 1.0 + (beta - 4.0) / 5.0 * f * near
            near = 1.0 + (beta - 3.0) / 4.0 * f * near
            near = 1.0 + (beta - 2.0) / 3.0 * f * near
            value += scale * xhat * (0.5 * f * f * near) if abs(f) < NEAR else far
    return value


@kernel
def exact_value(
    indptr: Array, indices: Array, values: Array, weights: Array, A: Array, B: Array, beta: float, floor: float
) -> float:
    """``Σ ω d_β(x | x̂)`` of some rows, with ``x̂ = A Bᵀ`` in float64; the arrays are those of ``Rows``."""
    r, gathered = A.shape[1], indices.size > 0
    ys, us, vs = np.empty(LINES), np.empty(LINES), np.empty(LINES)
    total = 0.0
    for i in range(A.shape[0]):
        for first in range(indptr[i], indptr[i + 1], LINES):
            last = min(first + LINES, indptr[i + 1])
            for p in range(first, last):
                j = indices[p] if gathered else p - indptr[i]
                xhat = 0.0
                for t in range(r):
                    xhat += np.float64(A[i, t]) * np.float64(B[j, t])
                ys[p - first] = xhat
            n = last - first
            total += _weigh(values[first:last], weights[first:last], beta, floor, ys[:n], us[:n], vs[:n])
    return total


@kernel
def _sum(y: Array) -> float:
    total = 0.0
    for j in range(y.size):
        total += np.float64(y[j])
    return total


@kernel
def _unseen(a: Array, d: Array, seen: float) -> float:
    """``Σ x̂`` over the zeros that a row does not store: all of it but what is ``seen``."""
    total = 0.0
    for t in range(a.size):
        total += np.float64(a[t]) * d[t]
    return total - seen if total > seen else 0.0


@kernel
def products(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    Bt: Array,
    A: Array,
    shared: Array,
    beta: float,
    floor: float,
    P: Array,
    D: Array,
) -> float:
    """``P`` (rows, r), and ``D`` (rows, r) unless that has no rows; returns the value of all rows.

    ``shared`` is ``Σ_j B_j`` (1, r) if entries that are not stored are zeros that count (β = 1), else without rows.
    """
    r = B.shape[1]
    gathered = indices.size > 0
    L = _room(B, LINES if gathered else 0)
    ys, us, vs = np.empty(LINES, B.dtype), np.empty(LINES, B.dtype), np.empty(LINES, B.dtype)
    line, sums = np.zeros(L.shape[1], B.dtype), np.empty((2, L.shape[1]))
    total = 0.0
    P[:] = 0
    D[:] = 0
    if values.size == 0:
        for i in range(A.shape[0] if shared.shape[0] else 0):
            total += _unseen(A[i], shared[0], 0.0)
        return total
    if not gathered:  # rows that have every column share the tile, four at a time
        for i in range(0, A.shape[0], 4):
            for at in range(0, Bt.shape[1], ROW_AT_ONCE):
                n = min(ROW_AT_ONCE, Bt.shape[1] - at)
                Y, U, V = np.empty((4, n), B.dtype), np.empty((4, n), B.dtype), np.empty((4, n), B.dtype)
                _combine_rows(A, i, Bt, at, Y)
                for k in range(4):
                    row = min(i + k, A.shape[0] - 1)
                    first = indptr[row] + at
                    value = _weigh(values[first : first + n], weights[:0], beta, floor, Y[k], U[k], V[k])
                    total += value if row == i + k else 0.0
                _add_products(U, Bt, at, P, i)
                if D.shape[0]:
                    _add_products(V, Bt, at, D, i)
        return total
    for i in range(A.shape[0]):
        seen = 0.0
        sums[:] = 0
        line[:r] = A[i]
        for first in range(indptr[i], indptr[i + 1], LINES):
            last = min(first + LINES, indptr[i + 1])
            n, padded = last - first, last - first + -(last - first) % EIGHT
            copy_lines(B, indices, first, n, L)
            dot_lines(line, L, padded, ys)
            us[n:padded] = 0
            vs[n:padded] = 0
            total += _weigh(values[first:last], weights[first:last], beta, floor, ys[:n], us[:n], vs[:n])
            seen += _sum(ys[:n])
            add_lines(us, L, padded, sums[0])
            if D.shape[0]:
                add_lines(vs, L, padded, sums[1])
        P[i] = sums[0, :r]
        if D.shape[0]:
            D[i] = sums[1, :r]
        if shared.shape[0] and indptr[i + 1] - indptr[i] < Bt.shape[1]:
            total += _unseen(A[i], shared[0], seen)
    return total


@inlined_kernel
def _tally_row(a: Array, p: Array, d: Array, l1: float, l2: float, r: int, tally: Array, at: int) -> None:
    """Add to ``tally[at + t]`` by how much a step of coordinate t of one row promises to lower the objective.

    That is ``ρ² / 2 B`` of :func:`nmfcore.losses.kkt.divergence_residual`.
    """
    pulled, pushed = 0.0, 0.0
    for t in range(r):
        pulled += np.float64(a[t]) * (np.float64(d[t]) + l1 + l2 * np.float64(a[t]))
        pushed += np.float64(a[t]) * np.float64(p[t])
    for t in range(r):
        pull, push = np.float64(d[t]) + l1 + l2 * np.float64(a[t]), np.float64(p[t])
        if pull < push:
            wrong = 1.0 - pull / push
            # A row of zeros has no size yet: its first step promises more than any number.
            tally[at + t] += 0.5 * pushed * wrong * wrong if pushed > 0.0 else np.inf
        elif pull > 0.0 and pulled > 0.0:
            share, wrong = np.float64(a[t]) * pull / pulled, (pull - push) / pull
            wrong = wrong if wrong < share else share
            tally[at + t] += 0.5 * pulled * wrong * wrong


@kernel
def tally_violations(A: Array, P: Array, D: Array, l1: float, ridge: Array, tally: Array) -> None:
    """Add what steps of the coordinates of some rows promise to ``tally``; ``D`` has a row for each, or one for all."""
    rows, r = A.shape
    own = 1 if D.shape[0] == rows else 0
    own_ridge = 1 if ridge.size > 1 else 0
    for i in range(rows):
        _tally_row(A[i], P[i], D[i * own], l1, ridge[i * own_ridge], r, tally, 0)


@inlined_kernel
def _weigh_counts(x: Array, w: Array, weighted: bool, n: int, floor: float, y: Array, u: Array, h: Array) -> float:
    """:func:`_weigh` of β = 1 for ``n`` entries: ``u = ω x / x̂`` and ``h = ω x / x̂²``."""
    low = y.dtype.type(floor)
    value = 0.0
    for j in range(n):
        y[j] = y[j] if y[j] > low else low
        weight = np.float64(w[j]) if weighted else 1.0
        xhat = np.float64(y[j])
        inverse = 1.0 / xhat
        q = np.float64(x[j]) * inverse
        u[j] = weight * q
        h[j] = weight * q * inverse
        k, f, t = _reduce(q if q > TINY else TINY)
        far = 1.0 - q + q * (k * LN2_HIGH - ((t - k * LN2_LOW) - f))
        value += weight * xhat * (f * f - q * t if k == 0.0 else far)
    return value


@inlined_kernel
def _survey(
    indices: Array,
    values: Array,
    weights: Array,
    begin: int,
    end: int,
    skip: int,
    B: Array,
    a: Array,
    floor: float,
    fresh: bool,
    L: Array,
    x: Array,
    w: Array,
    y: Array,
    u: Array,
    h: Array,
    p: Array,
    modelling: bool,
    G: Array,
) -> tuple[float, float, int]:
    """``p`` of one row at ``a`` (β = 1), and ``G = Σ ω x / x̂² b bᵀ`` (a triangle) if it is to be modelled.

    Returns the value of what is stored, its part of ``Σ x̂``, and how many ``x > 0`` have ``x̂ = 0``.

    ``L`` holds the rows of ``B`` already, unless the row is ``fresh`` or too long for it. ``x`` to ``h`` are room for
    some entries. No view of an array is made here, nor anything done that may raise, so that no array is counted:
    for a short row that took longer than its arithmetic (:func:`nmfcore.kernels._jit.inlined_kernel`).
    """
    weighted, room = weights.size > 0, L.shape[0]
    value, seen, lost = 0.0, 0.0, 0
    above = max(1.0, 2.0 * floor)
    p[:] = 0
    if modelling:
        G[:] = 0
    first = begin
    while first < end:  # a range may raise
        n = min(room, end - first)
        padded = n + -n % EIGHT
        if fresh or end - begin > room:
            copy_lines(B, indices, first - skip, n, L)
        dot_lines(a, L, padded, y)
        for j in range(n):
            x[j] = values[first + j]
            lost += 1 if y[j] <= floor and x[j] > 0 else 0
        for j in range(n, padded):
            x[j] = y[j] = above  # has a value of 0
        for j in range(padded if weighted else 0):
            w[j] = weights[first + j] if j < n else 0
        value += _weigh_counts(x, w, weighted, padded, floor, y, u, h)
        for j in range(n):
            seen += np.float64(y[j])
        for j in range(n, padded):
            u[j] = h[j] = 0
        add_lines(u, L, padded, p)
        if modelling:
            outer_lines(h, L, padded, B.shape[1], G)
        first += n
    return value, seen, lost


@inlined_kernel
def _sum_lines(indices: Array, weights: Array, begin: int, end: int, B: Array, L: Array, ones: Array, d: Array) -> None:
    """``d = Σ_j ω B_j`` of one row."""
    d[:] = 0
    first = begin
    while first < end:
        n = min(L.shape[0], end - first)
        copy_lines(B, indices, first, n, L)
        for j in range(n):
            ones[j] = weights[first + j] if weights.size else 1
        for j in range(n, n + -n % EIGHT):
            ones[j] = 0
        add_lines(ones, L, n + -n % EIGHT, d)
        first += n


@inlined_kernel
def _descend(g: Array, G: Array, a: Array, inverse: Array, r: int, sweeps: int, patience: float) -> None:
    """Coordinate descent on ``gᵀd + ½ dᵀG d``, ``a + d >= 0``: moves ``a``, and ``g`` along with it.

    ``inverse`` is room for that of the diagonal, 0 where there is no curvature to speak of.
    """
    first, least = 0.0, 2.3e-308 if G.itemsize == 8 else 1.2e-38
    half = a.dtype.type(0.5)
    for t in range(r):
        inverse[t] = a.dtype.type(1) / G[t, t] if G[t, t] > least else a.dtype.type(0)
    for sweep in range(sweeps):
        fell = 0.0
        for t in range(r):
            slope, v = g[t], inverse[t]
            step = -slope * v
            step = step if step > -a[t] else -a[t]
            step = -a[t] if v == 0 and slope > 0 else step
            if step != 0:
                a[t] += step
                fell -= np.float64(step * (slope + half * G[t, t] * step))
                for s in range(g.size):
                    g[s] += step * G[t, s]
        if sweep == 0:
            first = fell
        elif fell <= patience * first:
            break


@kernel
def _penalty(a: Array, l1: float, l2: float) -> float:
    total = 0.0
    for t in range(a.size):
        total += np.float64(a[t]) * (l1 + 0.5 * l2 * np.float64(a[t]))
    return total


@inlined_kernel
def _wrong(a: Array, p: Array, d: Array, l1: float, l2: float) -> float:
    """The largest violation of the KKT conditions in a row, as a share of ``d``."""
    mass, worst = 0.0, 0.0
    for t in range(a.size):
        mass += np.float64(a[t]) * (np.float64(d[t]) + l1 + l2 * np.float64(a[t]))
    for t in range(a.size):
        pull = np.float64(d[t]) + l1 + l2 * np.float64(a[t])
        if pull > 0.0:
            share = np.float64(a[t]) * pull / mass if mass > 0.0 else 0.0
            worst = max(worst, abs(min(1.0 - np.float64(p[t]) / pull, share)))
    return worst


@inlined_kernel
def _revive(
    x: Array, w: Array, begin: int, end: int, a: Array, p: Array, d: Array, l1: float, l2: float, out: Array
) -> bool:
    """Bring in the components that pull beyond measure, at a hundredth of the row; False if there are none."""
    mass, lost = 0.0, False
    for t in range(a.size):
        if p[t] > OUT_OF_REACH * (d[t] + l1 + l2 * a[t]) and d[t] > 0:
            if not lost:
                for j in range(begin, end):
                    mass += np.float64(x[j]) * (np.float64(w[j]) if w.size else 1.0)
            lost = True
            reached = 0.01 * mass / (np.float64(d[t]) + l1)
            if l2 > 0.0:
                reached = min(reached, np.sqrt(0.01 * mass / l2))
            out[t] = a[t] + reached
        else:
            out[t] = a[t]
    return lost


@kernel
def newton_rows(
    indptr: Array,
    indices: Array,
    values: Array,
    weights: Array,
    B: Array,
    D: Array,
    A: Array,
    l1: float,
    ridge: Array,
    floor: float,
    sweeps: int,
    patience: float,
    rounds: int,
    tolerance: float,
    out: Array,
    tally: Array,
) -> None:
    """Up to ``rounds`` Newton steps for each row of a Kullback-Leibler divergence: :mod:`nmfcore.solvers.hals`.

    ``D = Σ_j ω B_j`` is one row for all, or none, and then each row sums its own.
    """
    r = B.shape[1]
    gathered = indices.size > 0
    J = indices if gathered else np.arange(B.shape[0]).astype(indices.dtype)
    L = _room(B, LINES)
    width = L.shape[1]
    x, w, y = np.empty(LINES, B.dtype), np.empty(LINES, B.dtype), np.empty(LINES, B.dtype)
    u, h = np.empty(LINES, B.dtype), np.empty(LINES, B.dtype)
    G, g, inverse = _room(B, width), np.zeros(width, B.dtype), np.empty(width, B.dtype)
    a, a2, before = np.zeros(width, B.dtype), np.zeros(width, B.dtype), np.zeros(width, B.dtype)
    p, p2, d = np.zeros(width), np.zeros(width), np.zeros(width)
    dtype = B.dtype.type
    noise = 1e-6 if B.itemsize == 4 else 1e-15
    own_ridge = 1 if ridge.size > 1 else 0
    for t in range(r if D.shape[0] else 0):
        d[t] = D[0, t]
    for i in range(A.shape[0]):
        l2 = ridge[i * own_ridge]
        begin, end = indptr[i], indptr[i + 1]
        zeros = D.shape[0] > 0 and end - begin < B.shape[0]  # that count and are not stored
        if not D.shape[0]:
            _sum_lines(J, weights, begin, end, B, L, u, d)
        # Look at a point (one call of _survey: every further one would be compiled once more), decide on the next.
        fit, lost, have, turn, trial = 0.0, 0, 0.0, 0, 0
        first_look, modelling, revived, multiply = True, True, False, False
        may_revive, risen_from, lost_from = True, np.inf, 0
        for t in range(r):
            a[t] = a2[t] = A[i, t]
        while True:
            fit2, seen, lost2 = _survey(
                J, values, weights, begin, end, 0 if gathered else begin, B, a2, floor, first_look, L, x, w, y, u, h,
                p2, modelling and rounds > 0, G,
            )  # fmt: skip
            fit2 += _penalty(a2, l1, l2)
            slack = noise * (fit + np.sqrt(fit * have) + noise * have)  # an error δ of x̂ moves the value by f δ
            if zeros:
                fit2 += _unseen(a2, d, seen)
                slack = noise * (fit + have)
            if first_look:
                tally[2 * r] += fit2
                _tally_row(a2, p2, d, l1, l2, r, tally, 0)
            # The floor bounds what an x > 0 is charged for x̂ = 0, and no gain in others may pay for that.
            if not modelling and not (fit2 <= fit + slack and lost2 <= lost):  # NaN neither
                trial += 1
                if trial == HALVINGS and fit > risen_from and lost >= lost_from:
                    for t in range(r):
                        a2[t] = before[t]
                    may_revive, risen_from, modelling = False, np.inf, True
                    continue
                if trial == HALVINGS:
                    break
                for t in range(r):
                    if trial == HALVED and not multiply:
                        pull = d[t] + l1 + l2 * np.float64(a[t])
                        a2[t] = a[t] * (p[t] / pull) if a[t] > 0 and pull > 0 else a[t]
                    else:
                        a2[t] = dtype(0.5) * (a[t] + a2[t])
                continue
            for t in range(r):
                a[t], p[t] = a2[t], p2[t]
            fit, lost = fit2, lost2
            if rounds == 0:
                break
            if not modelling and fit > risen_from + slack and lost >= lost_from:
                # To bring components in has cost more than the step behind it gained: once more, without them.
                for t in range(r):
                    a2[t] = before[t]
                may_revive, risen_from, modelling = False, np.inf, True
                continue
            if not modelling:
                turn += 1
                risen_from = np.inf
                if turn == rounds or _wrong(a, p, d, l1, l2) <= tolerance:
                    break
                modelling = True
                continue
            # An entry x > 0 that no component of the row reaches pulls beyond measure: bring those in that reach it.
            if may_revive and not revived and _revive(values, weights, begin, end, a, p, d, l1, l2, a2):
                for t in range(r):
                    before[t] = a[t]
                first_look, revived, risen_from, lost_from = False, True, fit, lost
                continue
            first_look = revived = False
            have, want = 0.0, 0.0
            for t in range(r):
                pull = d[t] + l1 + l2 * np.float64(a[t])
                have += np.float64(a[t]) * pull
                want += np.float64(a[t]) * p[t]
                g[t] = pull - p[t]
                a2[t] = a[t]
                G[t, t] += dtype(l2)
                for s in range(t):
                    G[s, t] = G[t, s]
            multiply = abs(have - want) > 0.1 * max(have, want)  # far from the size of the row
            if multiply:
                for t in range(r):
                    pull = d[t] + l1 + l2 * np.float64(a[t])
                    if a[t] > 0 and pull > 0:  # else none of the row's entries sees the component
                        a2[t] *= p[t] / pull
            else:
                _descend(g, G, a2, inverse, r, sweeps, patience)
            modelling, trial = False, 0
        for t in range(r):
            out[i, t] = a[t]
        tally[2 * r + 1] += fit
        _tally_row(a, p, d, l1, l2, r, tally, r)
