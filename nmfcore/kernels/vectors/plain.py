"""What ``gathered``, ``lines``, ``products`` and ``sweeps`` do, in NumPy: to read, to compare with, to run uncompiled.

In the first, ``B[indices[first + q]]`` for ``q < n`` are the rows that are gathered, ``ω`` their weights:
``weights[first + q]``, or ``weights[0]`` where ``step`` is 0. ``E`` (2, entries) holds their errors from place ``o``
on: as they are, and as they were at first. Lanes beyond the columns of ``B`` are left alone.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array

LANES = 16
HEIGHT = 8  # of a panel,
PANEL = 128  # and bytes of its width


def _gathered(B: Array, indices: Array, first: int, n: int, t: int, width: int) -> Array:
    return B[indices[first : first + n], t : t + width]


def _weights(weights: Array, step: int, first: int, n: int) -> Array:
    return weights[(first + np.arange(n)) * step]


def add_outer(
    B: Array,
    indices: Array,
    first: int,
    n: int,
    s: int,
    t: int,
    weights: Array,
    step: int,
    E: Array,
    o: int,
    out: Array,
    i: int,
) -> None:
    """``out[i, k] += Σ ω b_{s+k} b_{t:t+16}``, and in lines 16 and 17 ``Σ ω e b_{t:t+16}``, for either error."""
    left, right = (_gathered(B, indices, first, n, at, LANES) for at in (s, t))
    scaled = right * _weights(weights, step, first, n)[:, None]
    out[i, : left.shape[1], : right.shape[1]] += left.T @ scaled
    out[i, LANES : LANES + 2, : right.shape[1]] += E[:, o : o + n] @ scaled


def errors(
    B: Array, indices: Array, first: int, n: int, t: int, width: int, a: Array, values: Array, E: Array, o: int
) -> None:
    """``E[:, o + q] = x_q - b_{t:t+width}ᵀ a``."""
    b = _gathered(B, indices, first, n, t, width)
    E[:, o : o + n] = values[first : first + n] - b @ a[: b.shape[1]]


def subtract_dots(
    B: Array, indices: Array, first: int, n: int, t: int, width: int, a: Array, values: Array, E: Array, o: int
) -> None:
    """``E[0, o + q] -= b_{t:t+width}ᵀ a``."""
    b = _gathered(B, indices, first, n, t, width)
    E[0, o : o + n] -= b @ a[: b.shape[1]]


def add_rows(
    B: Array,
    indices: Array,
    first: int,
    n: int,
    t: int,
    weights: Array,
    step: int,
    E: Array,
    o: int,
    out: Array,
    i: int,
) -> None:
    """``out[i, 0] += Σ ω e b`` and ``out[i, 1] += Σ ω b²`` for the columns ``t:t+16``."""
    b = _gathered(B, indices, first, n, t, LANES)
    scaled = b * _weights(weights, step, first, n)[:, None]
    out[i, 0, : b.shape[1]] += E[0, o : o + n] @ scaled
    out[i, 1, : b.shape[1]] += (b * scaled).sum(axis=0)


def transpose_square(P: Array, s: int, G: Array) -> None:
    """``G[s, t, k] = P[k, s, t]`` for ``k, t < 16``."""
    G[s] = P[:, s].T


def sweep_lanes(a: Array, g: Array, G: Array, inverse: Array, width: int, fell: Array) -> None:
    """One sweep of coordinate descent in each of sixteen lanes, and how far each fell.

    ``a``, the gradient ``g`` and the inverse curvatures (0: flat) are (width, 16), ``G`` is (width, width, 16).
    """
    for t in range(width):
        h = G[t, t]
        new = np.maximum(a[t] - g[t] * inverse[t], 0)
        new[(inverse[t] == 0) & (g[t] > h * a[t])] = 0  # flat but for a penalty, which wants it gone
        step = new - a[t]
        fell -= step * (g[t] + 0.5 * h * step)
        a[t] = new
        g[:width] += step * G[t, :width]


def rows_panel(
    X: Array, i: int, end: int, B: Array, t: int, first: int, last: int, out: Array, o: int, add: int
) -> None:
    """``out[o + k, t:] = Σ_j X[i + k, j] B[j, t:]`` of some rows and columns; with ``add``, what was there is kept."""
    rows, columns = slice(i, min(i + HEIGHT, end)), slice(t, t + PANEL // B.itemsize)
    product = X[rows, first:last] @ B[first:last, columns]
    to = out[o : o + product.shape[0], columns]
    to[:] = (to if add else 0) + product


def columns_panel(X: Array, i: int, j: int, count: int, A: Array, first: int, t: int, sums: Array, c: int) -> None:
    """``sums[t + k, c + q] += Σ_i X[i, j + q] A[first + i, t + k]`` over ``count`` rows."""
    x, a = X[i : i + count, j : j + PANEL // X.itemsize], A[first : first + count, t : t + HEIGHT]
    sums[t : t + a.shape[1], c : c + x.shape[1]] += a.T @ x


def add_gathered(x: Array, indices: Array, first: int, last: int, B: Array, out: Array, i: int) -> None:
    """``out[i] += Σ_p x[p] B[indices[p]]`` for ``first <= p < last``."""
    out[i] += x[first:last] @ B[indices[first:last]]


def prefetch(X: Array, i: int, j: int) -> None:
    """Nothing."""


def prefetch_entries(X: Array, first: int) -> None:
    """Nothing."""


def copy_lines(B: Array, rows: Array, first: int, n: int, L: Array) -> None:
    """``L[q, t] = B[rows[first + q], t]`` for ``q < n``, as far as ``B`` goes."""
    L[:n, : B.shape[1]] = B[rows[first : first + n]]


def dot_lines(a: Array, L: Array, n: int, y: Array) -> None:
    """``y[q] = Σ_t a[t] L[q, t]`` for ``q < n``, a multiple of eight."""
    y[:n] = L[:n] @ a[: L.shape[1]]


def add_lines(u: Array, L: Array, n: int, p: Array) -> None:
    """``p[t] += Σ_q u[q] L[q, t]`` for ``q < n``, a multiple of eight."""
    p[: L.shape[1]] += u[:n] @ L[:n]


def outer_lines(w: Array, L: Array, n: int, r: int, G: Array) -> None:
    """``G[s, t] += Σ_q w[q] L[q, s] L[q, t]`` for ``t <= s < r`` (and more), ``q < n``, a multiple of two."""
    width = min(L.shape[1], *G.shape)
    G[:width, :width] += L[:n, :width].T @ (w[:n, None] * L[:n, :width])


def add_four_steps(steps: Array, hessian: Array, t: int, g: Array) -> None:
    """What steps (4, lanes) along the coordinates ``t`` to ``t + 3`` do to the gradient (r, lanes)."""
    g += hessian[t : t + 4].T @ steps[:4]


def add_step(steps: Array, hessian: Array, t: int, g: Array) -> None:
    """What the first of some steps does to it, along ``t``."""
    g += hessian[t, :, None] * steps[:1]


def move_four(a: Array, g: Array, hessian: Array, inverse: Array, t: int, steps: Array) -> float:
    """Minimise along four coordinates in turn, from ``t`` on, in each lane of a tile; how far all of them fell."""
    return _move(a, g, hessian, inverse, t, steps, 4)


def move_one(a: Array, g: Array, hessian: Array, inverse: Array, t: int, steps: Array) -> float:
    """Minimise along the coordinate ``t``."""
    return _move(a, g, hessian, inverse, t, steps, 1)


def _move(a: Array, g: Array, hessian: Array, inverse: Array, t: int, steps: Array, count: int) -> float:
    fell = 0.0
    for i in range(count):
        h = hessian[t + i, t + i]
        slope = g[t + i] + hessian[t : t + i, t + i] @ steps[:i]
        new = np.maximum(a[t + i] - slope * inverse[t + i], 0)
        new[(inverse[t + i] == 0) & (slope > h * a[t + i])] = 0  # flat but for a penalty, which wants it gone
        steps[i], a[t + i] = new - a[t + i], new
        fell -= float((steps[i] * (slope + a.dtype.type(0.5) * h * steps[i])).sum())
    return fell


def into_tile(A: Array, start: int, count: int, tile: Array) -> None:
    """``tile[t, k] = A[start + k, t]`` for ``k < count``."""
    tile[:, :count] = A[start : start + count].T


def out_of_tile(A: Array, start: int, count: int, tile: Array) -> None:
    """``A[start + k, t] = tile[t, k]`` for ``k < count``."""
    A[start : start + count] = tile[:, :count].T
