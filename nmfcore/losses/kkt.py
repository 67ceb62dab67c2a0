"""The KKT residual, the certificate of every fit."""

from __future__ import annotations

import math

import numpy as np

from nmfcore._types import Array


def nothing_left(dtype: np.dtype[np.floating]) -> float:
    """The share of ``‖X‖`` below which the KKT residual no longer counts a residual ``‖X - WH‖`` as smaller.

    Rounding of the gradient is some epsilons of ``‖X‖``, which must stay below ``tol`` of what it is compared with.
    """
    return 1e-5 if dtype == np.float64 else 1e-3


def kkt_residual(
    rho_W: Array, rho_H: Array, squares_W: Array, squares_H: Array, norm_X: float, left: float, least: float = 1e-5
) -> float:
    r"""How far ``(W, H)`` is from a stationary point: 0 exactly at one, the same for any scale of X.

    KKT stands for Karush, Kuhn and Tucker, whose conditions a stationary point meets. With ``G`` the gradient of the
    objective (penalties included) for a factor and ``B_t`` the curvature of its coordinates in column ``t`` (of that
    row, where entries are missing), each entry counts with

    .. math:: ρ_{it} = |G_{it}| \text{ if } G_{it} < 0 \text{ else } \min(G_{it}, B_t W_{it}),

    that is, with the gradient where the entry wants to grow, and else with what still has to go. (Where ``B_t = 0``
    and ``W_it > 0``, nothing bounds a step, and all of a positive gradient counts.) The residual is

    .. math:: \max\left( \frac{‖ρ_W‖}{‖X - WH‖ ‖H‖}, \frac{‖ρ_H‖}{‖X - WH‖ ‖W‖} \right)

    after the columns of W and the rows of H have been given equal norms, which changes neither ``W H`` nor what is
    stationary.

    **What it means.** Without penalties ``G = (WH - X) Hᵀ``, so the residual is a cosine, between 0 and 1: the part of
    what is left to explain that the components still see. A step along the gradient lowers the objective by
    about the square of it, as a share: where it is 1e-3, by a millionth. It is relative to ``‖X - WH‖``, not to
    ``‖X‖``: where the factors explain nearly all of X, a small share of ``‖X‖`` may be all of the residual. A small
    value says that a step promises little, not that many steps do; so a fit is called converged only when its
    objective has also ceased to fall (:meth:`Stop.settled`). It says nothing of other stationary points, some of which
    may be lower.

    **Exact fits.** Where nothing is left to explain, both sides of the quotient vanish, and rounding decides. So
    ``‖X - WH‖`` counts as at least ``least ‖X‖`` (:func:`nothing_left`), and falls of the objective are not asked for
    where it is ``1e-3 tol ‖X‖`` or less: a millionth of ``‖X‖`` at the default ``tol``.

    Parameters
    ----------
    rho_W, rho_H : ndarray (r,)
        ``Σ_i ρ_it²`` of each column of W, and of each row of H, before balancing.
    squares_W, squares_H : ndarray (r,)
        Squared norms of the columns of W and of the rows of H.
    norm_X : float
        Frobenius norm of the entries of X that count.
    left : float
        Frobenius norm of ``X - WH`` over the entries that count.
    least : float
        The share of ``norm_X`` that ``left`` counts as at least.

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
    size = max(left, least * norm_X) * math.sqrt(squared_size)
    return math.sqrt(rho) / size if size > 0.0 else math.inf


def divergence_residual(promise_W: float, promise_H: float, loss: float, size: float, least: float = 1e-5) -> float:
    r"""The same for a β-divergence: the fall that a step of each coordinate promises, as a share of the loss.

    The gradient of a factor has two parts, ``G = D - P``: with ``x̂ = W H``, for W,

    .. math:: P_{it} = Σ_j ω_{ij} x_{ij} x̂_{ij}^{β-2} h_{tj}, \qquad
        D_{it} = Σ_j ω_{ij} x̂_{ij}^{β-1} h_{tj} + l_1 + l_2 w_{it}.

    The curvature of a coordinate is made of ``Σ_j ω x x̂^{β-3} h_tj²`` and ``Σ_j ω x̂^{β-2} h_tj²``, which agree near a
    good fit. By the inequality of Cauchy and Schwarz they are at least

    .. math:: \frac{P_{it}^2}{Σ_s w_{is} P_{is}} \quad\text{and}\quad \frac{D_{it}^2}{Σ_s w_{is} D_{is}}.

    With ``B_it`` the first where the entry wants to grow, and else the second, a step of that coordinate alone lowers
    the objective by no more than about

    .. math:: \frac{ρ_{it}^2}{2 B_{it}}, \qquad
        ρ_{it} = |G_{it}| \text{ if } G_{it} < 0 \text{ else } \min(G_{it}, B_{it} w_{it}).

    The residual is ``Σ ρ² / 2 B`` over the loss, of W or of H, whichever is larger. It is 0 exactly at a stationary
    point, and no scale of X or of a component changes it. (For the Frobenius loss and one component it would be the
    square of :func:`kkt_residual`.) Where it is 1e-3, a step promises a thousandth of the loss; near the end, where
    falls are as small as that for long, it is the falls that tell (:meth:`Stop.settled`).

    Parameters
    ----------
    promise_W, promise_H : float
        ``Σ_it ρ_it² / 2 B_it`` of each factor.
    loss : float
        The divergence of X from W H.
    size : float
        ``Σ ω x^β``. The loss counts as at least ``½ least² size``: where nothing is left to explain, rounding decides.
    least : float
        As in :func:`kkt_residual`.

    Returns
    -------
    float
        0 at a stationary point, and at most 1: a step cannot lower the loss by more than all of it. ``inf`` where X = 0
        and the point is not stationary.
    """
    promise = max(promise_W, promise_H)
    if promise == 0.0:
        return 0.0
    whole = max(loss, 0.5 * least**2 * size)
    return min(promise / whole, 1.0) if whole > 0.0 else math.inf
