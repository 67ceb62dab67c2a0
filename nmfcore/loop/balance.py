r"""The best scale of every component: ``w_t s_t`` and ``h_t / s_t`` have the same product, and other penalties.

With ``a`` and ``c`` what the penalties ``l1`` and ``l2`` make of column t of W, ``b`` and ``d`` what they make of row t
of H,

.. math:: φ(s) = a s + \frac{b}{s} + \tfrac12 \left( c s^2 + \frac{d}{s^2} \right)

is convex in ``log s``, where Newton's method finds its minimum; without ``l1`` it is ``s = (d/c)^{1/4}``. At a
stationary point every ``s`` is 1, so this only leads there sooner.
"""

from __future__ import annotations

import numpy as np

from nmfcore._types import Array
from nmfcore.losses.penalty import Penalty

ROUNDS = 60
MOST_STEP = 1.0  # of log s: far from the minimum the exponentials outrun Newton's parabola


def balanced(W: Array, Ht: Array, penalty_W: Penalty, penalty_H: Penalty, free: int) -> tuple[Array, Array, float]:
    """``W`` (m, r) and ``Ht`` (n, r) with the first ``free`` components at their best scale, and what that saves.

    They stay as they are where their penalties are beyond float64.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return _balanced(W, Ht, penalty_W, penalty_H, free)


def _balanced(W: Array, Ht: Array, penalty_W: Penalty, penalty_H: Penalty, free: int) -> tuple[Array, Array, float]:
    a, c = _parts(W[:, :free], penalty_W)
    b, d = _parts(Ht[:, :free], penalty_H)
    both = (a + c > 0.0) & (b + d > 0.0)
    u = np.zeros(free)
    for _ in range(ROUNDS):
        s = np.exp(u)
        slope, bend = a * s - b / s + c * s**2 - d / s**2, a * s + b / s + 2.0 * (c * s**2 + d / s**2)
        step = np.divide(slope, bend, out=np.zeros(free), where=both & (bend > 0.0))
        u -= np.clip(step, -MOST_STEP, MOST_STEP)
        if np.abs(step).max(initial=0.0) < 1e-14:
            break
    s = np.exp(u)
    gain = a + b + 0.5 * (c + d) - (a * s + b / s + 0.5 * (c * s**2 + d / s**2))
    if not np.all(np.isfinite(s)) or not gain.sum() > 0.0:
        return W, Ht, 0.0
    scale = np.concatenate((s, np.ones(W.shape[1] - free)))
    return W * scale.astype(W.dtype), Ht / scale.astype(W.dtype), float(gain.sum())


def _parts(A: Array, penalty: Penalty) -> tuple[Array, Array]:
    """What ``l1`` and ``l2`` make of each column: ``l1·Σ a`` and ``l2·Σ counts a²``."""
    counts = np.ones(1) if penalty.counts is None else penalty.counts
    squares = np.einsum("i,it,it->t", np.broadcast_to(counts, A.shape[:1]), A, A, dtype=np.float64)
    return penalty.l1 * A.sum(axis=0, dtype=np.float64), penalty.l2 * squares
