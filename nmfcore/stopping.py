"""When a fit ends and what it says of itself: the KKT residual, the status, the warning."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

import numpy as np

from nmfcore._types import Array


class ConvergenceWarning(UserWarning):
    """A fit ended before its KKT residual reached ``tol``."""


class Status(enum.Enum):
    """Why a fit ended, and what to do if that is not what you wanted."""

    CONVERGED = "The KKT residual reached tol."
    STALLED = (
        "The objective no longer falls beyond rounding. If the KKT residual is not as small as you need: pass float64 "
        "data, or, with multiplicative updates, start without zeros (they cannot leave one) or use HALS."
    )
    MAX_ITER = "max_iter iterations were made before the KKT residual reached tol; raise max_iter or tol."
    MAX_TIME = "max_time seconds passed before the KKT residual reached tol; raise max_time or tol."
    CALLBACK = "The callback raised StopIteration."
    INTERRUPTED = "Interrupted; this is the last complete iterate. Pass W=f.W, H=f.H to factorize to go on from it."


@dataclass(frozen=True, slots=True)
class Stop:
    """The limits of a fit: a KKT residual, a number of iterations, seconds of wall-clock time (or None)."""

    tol: float
    max_iter: int
    max_time: float | None = None


def kkt_residual(rho_W: Array, rho_H: Array, squares_W: Array, squares_H: Array, norm_X: float) -> float:
    r"""How far ``(W, H)`` is from a stationary point: 0 exactly at one, the same for any scale of X.

    With ``G`` the gradient of the objective (penalties included) for a factor and ``B_t`` the curvature of its
    coordinates in column ``t`` (of that row, where entries are missing), each entry counts with

    .. math:: ρ_{it} = |G_{it}| \text{ if } G_{it} < 0 \text{ else } \min(G_{it}, B_t W_{it}),

    that is, with the gradient where the entry wants to grow, and else with what still has to go. The residual is
    ``max(‖ρ_W‖ / (‖X‖ ‖H‖), ‖ρ_H‖ / (‖X‖ ‖W‖))`` after the columns of W and the rows of H have been given equal
    norms, which changes neither ``W H`` nor what is stationary.

    Parameters
    ----------
    rho_W, rho_H : ndarray (r,)
        ``Σ_i ρ_it²`` of each column of W, and of each row of H, before balancing.
    squares_W, squares_H : ndarray (r,)
        Squared norms of the columns of W and of the rows of H.
    norm_X : float
        Frobenius norm of the entries of X that count.

    Returns
    -------
    float
        0 at a stationary point; ``inf`` where W H = 0 or X = 0 and the point is not stationary.
    """
    norms = np.sqrt(squares_W), np.sqrt(squares_H)
    of_W, of_H, squared_size = 0.0, 0.0, 0.0
    # Python's own numbers: these are a few, and NumPy's calls would take longer than an iteration of a small problem.
    for w, h, norm_W, norm_H in zip(*(sums.tolist() for sums in (rho_W, rho_H, *norms)), strict=True):
        squared_scale = norm_H / norm_W if norm_W > 0 and norm_H > 0 else 1.0  # s²: W_t s and H_t / s are as long
        squared_scale = squared_scale or 1.0  # beyond the ends of the scale
        of_W += w / squared_scale
        of_H += h * squared_scale
        squared_size += norm_W * norm_H
    rho = max(of_W, of_H)
    if rho == 0.0:
        return 0.0
    size = norm_X * math.sqrt(squared_size)
    return math.sqrt(rho) / size if size > 0.0 else math.inf


def relative_kkt(sums_W: Array, sums_H: Array, squares_W: Array, squares_H: Array) -> float:
    r"""The same for a β-divergence, which has no curvature that holds everywhere.

    The gradient of a factor has two parts, ``G = D - P``: with ``x̂ = W H``, for W,

    .. math:: P_{it} = Σ_j ω_{ij} x_{ij} x̂_{ij}^{β-2} h_{tj}, \qquad
        D_{it} = Σ_j ω_{ij} x̂_{ij}^{β-1} h_{tj} + l_1 + l_2 w_{it}.

    An entry counts with ``ρ_it = |G_it|`` where it wants to grow, and else with ``min(G_it, D_it s_it)`` for the share
    ``s_it = w_it D_it / Σ_s w_is D_is`` that it has in its row: an entry with next to no share may be as wrong as it
    likes. The residual is the larger of ``‖ρ‖ / ‖min(P, D)‖`` for W and for H, with the columns of W and the rows of H
    balanced. It is 0 exactly at a stationary point, and no scale of X changes it.

    Parameters
    ----------
    sums_W, sums_H : ndarray (2, r)
        ``Σ_i ρ_it²`` and ``Σ_i min(P, D)_it²`` of each column of W, and of each row of H.
    squares_W, squares_H : ndarray (r,)
        Squared norms of the columns of W and of the rows of H.

    Returns
    -------
    float
        0 at a stationary point; ``inf`` where there is nothing to compare with.
    """
    norms_W, norms_H = np.sqrt(squares_W), np.sqrt(squares_H)
    both = (norms_W > 0) & (norms_H > 0)
    scale = np.ones_like(norms_W)
    scale[both] = norms_H[both] / norms_W[both]
    worst = 0.0
    for rho, size in ((sums_W / scale).sum(axis=1), (sums_H * scale).sum(axis=1)):
        if rho > 0.0:
            worst = max(worst, float(np.sqrt(rho / size)) if size > 0.0 else float("inf"))
    return worst
