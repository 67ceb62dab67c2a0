"""Every solver once more in plain NumPy, reading as the equations of the papers.

These functions are for reading and for checking: they are the oracles of the tests and what the notebooks
show. The fast solvers must agree with them iterate by iterate.

The problem. Given X (m×n), find W (m×r) and H (r×n), both >= 0, that minimise

    f(W, H) = ½ ‖M ∘ (X − W H)‖² + l1_W ΣW + l1_H ΣH + ½ l2_W ‖W‖² + ½ l2_H ‖H‖²

where M is 1 at the observed entries and 0 at the missing ones (all ones when nothing is missing). The
gradient and the curvature along a single coordinate (i, t) of W are

    G_it = ((M ∘ (W H − X)) Hᵀ)_it + l1_W + l2_W W_it        B_it = Σ_j M_ij H_tj² + l2_W

and f is an exact parabola along that coordinate, whose minimum over W_it >= 0 is max(0, W_it − G_it / B_it).

HALS takes these exact steps one coordinate after the other: component t = 1..r in turn, all rows of it at
once, because the rows of W do not see each other while H is fixed. With all entries observed every row shares
one B = H Hᵀ; with entries missing each row has its own Gram matrix and nothing else changes.

MU splits the gradient into G = D − A with D = (M ∘ (W H)) Hᵀ + l1_W + l2_W W and A = (M ∘ X) Hᵀ, both >= 0,
and takes the step W_it / D_it along −G, so that W − (W / D) (D − A) = W A / D: the sign cannot change. This
is the minimum of a parabola that touches f at the current W and lies above it (its curvature D_it / W_it
bounds that of f by Jensen's inequality), hence f cannot rise.

H has the same equations with X transposed: f(W, H; X) = f(Hᵀ, Wᵀ; Xᵀ). Each iteration updates W first and
then H *from the new W*. Updating both from the old pair is not a descent method: for X = [[1]], w = h = 2 it
jumps between ½ and 2 for ever.

All arithmetic is in float64 with plain sums of squares, for magnitudes of X between about 1e-100 and 1e100.
Nothing here checks its input: `nmfcore.factorize` does.

References
----------
.. [1] D. D. Lee and H. S. Seung, "Algorithms for non-negative matrix factorization", NIPS 13 (2001).
.. [2] A. Cichocki and A.-H. Phan, "Fast local algorithms for large scale nonnegative matrix and tensor
   factorizations", IEICE Trans. Fundamentals E92-A (2009).
.. [3] S. Zhang, W. Wang, J. Ford and F. Makedon, "Learning from incomplete ratings using non-negative matrix
   factorization", SIAM Data Mining (2006).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["gradients", "hals", "kkt", "masked_hals", "masked_mu", "mu", "objective"]

NOTHING_LEFT = 1e-5  # of ‖X‖: a residual that counts as no smaller in `kkt`

Array: TypeAlias = NDArray[np.float64]
Pair: TypeAlias = tuple[float, float]


def mu(
    X: Array, W: Array, H: Array, n_iter: int, *, l1: Pair = (0.0, 0.0), l2: Pair = (0.0, 0.0)
) -> tuple[Array, Array]:
    """Multiplicative updates (Lee & Seung 2001): W ← W ∘ X Hᵀ / (W H Hᵀ + l1 + l2 W), then H alike.

    The step W / D along −G = X Hᵀ − D turns the gradient step into a product, which keeps signs and descends.
    An entry that is 0 stays 0.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data, >= 0.
    W : ndarray of shape (m, r)
        Start, >= 0; not modified.
    H : ndarray of shape (r, n)
        Start, >= 0; not modified.
    n_iter : int
        Number of iterations.
    l1, l2 : pair of float
        Penalties (of W, of H).

    Returns
    -------
    W : ndarray of shape (m, r)
        After `n_iter` iterations, float64.
    H : ndarray of shape (r, n)
        After `n_iter` iterations, float64.

    Raises
    ------
    ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> w, h = mu(np.array([[1.0]]), np.array([[2.0]]), np.array([[2.0]]), n_iter=1)
    >>> w @ h
    array([[1.]])
    """
    W, H = np.array(W, float), np.array(H, float)
    for _ in range(n_iter):
        W *= (X @ H.T) / _positive(W @ (H @ H.T) + l1[0] + l2[0] * W)
        H *= (W.T @ X) / _positive((W.T @ W) @ H + l1[1] + l2[1] * H)
    return W, H


def masked_mu(
    X: Array,
    mask: NDArray[np.bool_],
    W: Array,
    H: Array,
    n_iter: int,
    *,
    l1: Pair = (0.0, 0.0),
    l2: Pair = (0.0, 0.0),
) -> tuple[Array, Array]:
    """Multiplicative updates over the observed entries (Zhang et al. 2006).

    W ← W ∘ (M ∘ X) Hᵀ / ((M ∘ (W H)) Hᵀ + l1 + l2 W), then H alike: as `mu`, with both products summed over
    the observed entries only. A row without any becomes 0.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data, >= 0 where observed. What is missing is never read.
    mask : ndarray of bool, shape (m, n)
        True = observed.
    W : ndarray of shape (m, r)
        Start, >= 0; not modified.
    H : ndarray of shape (r, n)
        Start, >= 0; not modified.
    n_iter : int
        Number of iterations.
    l1, l2 : pair of float
        Penalties (of W, of H).

    Returns
    -------
    W : ndarray of shape (m, r)
        After `n_iter` iterations, float64.
    H : ndarray of shape (r, n)
        After `n_iter` iterations, float64.

    Raises
    ------
    ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> X = np.array([[1.0, 2.0], [2.0, np.nan]])
    >>> W, H = masked_mu(X, ~np.isnan(X), np.ones((2, 1)), np.ones((1, 2)), n_iter=100)
    >>> (W @ H).round(6)
    array([[1., 2.],
           [2., 4.]])
    """
    W, H = np.array(W, float), np.array(H, float)
    X = np.where(mask, X, 0.0)
    for _ in range(n_iter):
        W *= (X @ H.T) / _positive((mask * (W @ H)) @ H.T + l1[0] + l2[0] * W)
        H *= (W.T @ X) / _positive(W.T @ (mask * (W @ H)) + l1[1] + l2[1] * H)
    return W, H


def _positive(denominator: Array) -> Array:
    """Replace zeros by float32's epsilon, as scikit-learn does; the numerator there is 0 as well, or W is."""
    return np.where(denominator == 0, np.finfo(np.float32).eps, denominator)


def hals(
    X: Array, W: Array, H: Array, n_iter: int, *, l1: Pair = (0.0, 0.0), l2: Pair = (0.0, 0.0)
) -> tuple[Array, Array]:
    """Hierarchical alternating least squares (Cichocki & Phan 2009): exact coordinate descent.

    W_t ← max(0, W_t − G_t / (B_tt + l2)) for t = 1..r, with G_t = (W B)_t − A_t + l1 + l2 W_t, A = X Hᵀ and
    B = H Hᵀ: the minimum of the parabola that f is along each coordinate. Then H alike, as the W of Xᵀ.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data.
    W : ndarray of shape (m, r)
        Start, >= 0; not modified.
    H : ndarray of shape (r, n)
        Start, >= 0; not modified.
    n_iter : int
        Number of iterations.
    l1, l2 : pair of float
        Penalties (of W, of H).

    Returns
    -------
    W : ndarray of shape (m, r)
        After `n_iter` iterations, float64.
    H : ndarray of shape (r, n)
        After `n_iter` iterations, float64.

    Raises
    ------
    ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> w, h = hals(np.array([[1.0]]), np.array([[2.0]]), np.array([[2.0]]), n_iter=1)
    >>> w @ h
    array([[1.]])
    """
    W, Ht = np.array(W, float), np.array(H, float).T
    for _ in range(n_iter):
        _sweep(W, X @ Ht, Ht.T @ Ht, l1[0], l2[0])
        _sweep(Ht, X.T @ W, W.T @ W, l1[1], l2[1])
    return W, Ht.T


def masked_hals(
    X: Array,
    mask: NDArray[np.bool_],
    W: Array,
    H: Array,
    n_iter: int,
    *,
    l1: Pair = (0.0, 0.0),
    l2: Pair = (0.0, 0.0),
) -> tuple[Array, Array]:
    """Coordinate descent over the observed entries, row by row.

    Row i sees only its observed columns Ω_i. It has its own Gram matrix Σ_{j∈Ω_i} h_j h_jᵀ and right side
    Σ_{j∈Ω_i} x_ij h_j, and takes the coordinate steps of `hals` with them. A row without entries has no
    curvature and stays as it is, unless l2 > 0 pulls it to 0.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data. What is missing is never read.
    mask : ndarray of bool, shape (m, n)
        True = observed.
    W : ndarray of shape (m, r)
        Start, >= 0; not modified.
    H : ndarray of shape (r, n)
        Start, >= 0; not modified.
    n_iter : int
        Number of iterations.
    l1, l2 : pair of float
        Penalties (of W, of H).

    Returns
    -------
    W : ndarray of shape (m, r)
        After `n_iter` iterations, float64.
    H : ndarray of shape (r, n)
        After `n_iter` iterations, float64.

    Raises
    ------
    IndexError, ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> X = np.array([[1.0, 2.0], [2.0, np.nan]])
    >>> W, H = masked_hals(X, ~np.isnan(X), np.ones((2, 1)), np.ones((1, 2)), n_iter=100)
    >>> (W @ H).round(6)
    array([[1., 2.],
           [2., 4.]])
    """
    W, Ht = np.array(W, float), np.array(H, float).T
    for _ in range(n_iter):
        _masked_sweep(X, mask, W, Ht, l1[0], l2[0])
        _masked_sweep(X.T, mask.T, Ht, W, l1[1], l2[1])
    return W, Ht.T


def _masked_sweep(X: Array, mask: NDArray[np.bool_], W: Array, Ht: Array, l1: float, l2: float) -> None:
    for i, observed in enumerate(mask):
        h = Ht[observed]
        _sweep(W[i : i + 1], X[i : i + 1, observed] @ h, h.T @ h, l1, l2)


def _sweep(W: Array, A: Array, B: Array, l1: float, l2: float) -> None:
    """Minimise over one column of `W` after the other, in place, for A = X Hᵀ and B = H Hᵀ."""
    for t in range(W.shape[1]):
        curvature = B[t, t] + l2
        if curvature == 0:  # the data do not depend on this column: leave it, unless it is penalised
            if l1 > 0:
                W[:, t] = 0.0
            continue
        gradient = W @ B[:, t] - A[:, t] + l1 + l2 * W[:, t]
        W[:, t] = np.maximum(0.0, W[:, t] - gradient / curvature)


def objective(
    X: Array,
    W: Array,
    H: Array,
    *,
    mask: NDArray[np.bool_] | None = None,
    l1: Pair = (0.0, 0.0),
    l2: Pair = (0.0, 0.0),
) -> float:
    """Compute what is minimised: ½ ‖M ∘ (X − W H)‖² + Σ l1 · sum + ½ l2 ‖·‖² of each factor.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data.
    W : ndarray of shape (m, r)
        Left factor.
    H : ndarray of shape (r, n)
        Right factor.
    mask : ndarray of bool, shape (m, n), optional
        True = observed. What is missing is never read.
    l1, l2 : pair of float
        Penalties (of W, of H).

    Returns
    -------
    float
        The objective, in units of X squared.

    Raises
    ------
    ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> objective(np.array([[1.0]]), np.array([[2.0]]), np.array([[2.0]]), l1=(1.0, 0.0))
    6.5
    """
    loss = 0.5 * np.sum(_residual(X, W, H, mask) ** 2)
    penalty = sum(a * np.sum(F) + 0.5 * b * np.sum(F**2) for F, a, b in zip((W, H), l1, l2, strict=True))
    return float(loss + penalty)


def gradients(
    X: Array,
    W: Array,
    H: Array,
    *,
    mask: NDArray[np.bool_] | None = None,
    l1: Pair = (0.0, 0.0),
    l2: Pair = (0.0, 0.0),
) -> tuple[Array, Array]:
    """Compute the derivatives of `objective` with respect to W and H.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data.
    W : ndarray of shape (m, r)
        Left factor.
    H : ndarray of shape (r, n)
        Right factor.
    mask : ndarray of bool, shape (m, n), optional
        True = observed. What is missing is never read.
    l1, l2 : pair of float
        Penalties (of W, of H).

    Returns
    -------
    G_W : ndarray of shape (m, r)
        (M ∘ (W H − X)) Hᵀ + l1 + l2 W.
    G_H : ndarray of shape (r, n)
        Wᵀ (M ∘ (W H − X)) + l1 + l2 H.

    Raises
    ------
    ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> gradients(np.array([[1.0]]), np.array([[2.0]]), np.array([[2.0]]))
    (array([[6.]]), array([[6.]]))
    """
    R = _residual(X, W, H, mask)
    return l1[0] + l2[0] * W - R @ H.T, l1[1] + l2[1] * H - W.T @ R


def kkt(
    X: Array,
    W: Array,
    H: Array,
    *,
    mask: NDArray[np.bool_] | None = None,
    l1: Pair = (0.0, 0.0),
    l2: Pair = (0.0, 0.0),
    least: float = NOTHING_LEFT,
) -> float:
    """Measure how far (W, H) is from a stationary point, without units.

    At a stationary point every coordinate has W_it > 0 and G_it = 0, or W_it = 0 and G_it >= 0. With B_it the
    curvature, the violation is ρ_it = |G_it| where G_it < 0, else min(G_it, B_it W_it): how much of the
    gradient a step that stops at 0 could use. (Where B_it = 0 and W_it > 0 nothing bounds the step: ρ_it = G_it.)
    Columns of W and rows of H are first brought to equal norms: the factor s_t = √(‖H_t‖ / ‖W_t‖) multiplies W_t
    and divides H_t, hence divides ρ_W,t and multiplies ρ_H,t, and both balanced factors have the norm
    N = √Σ_t ‖W_t‖ ‖H_t‖. The result is max(‖ρ_W‖, ‖ρ_H‖) / (max(‖M ∘ (X − W H)‖, least ‖M ∘ X‖) N): it is
    relative to what is left to explain, and where nothing is left rounding decides, hence the bound.

    It does not change for X → c X with W, H → √c W, √c H, nor for W_t → c W_t, H_t → H_t / c (without
    penalties, which themselves change under either). A component with ‖W_t‖ = 0 or ‖H_t‖ = 0 cannot be
    balanced and keeps s_t = 1.

    Parameters
    ----------
    X : ndarray of shape (m, n)
        Data.
    W : ndarray of shape (m, r)
        Left factor, >= 0.
    H : ndarray of shape (r, n)
        Right factor, >= 0.
    mask : ndarray of bool, shape (m, n), optional
        True = observed. What is missing is never read.
    l1, l2 : pair of float
        Penalties (of W, of H); part of gradient and curvature.
    least : float
        The share of ‖M ∘ X‖ that counts as left at least; `nmfcore.factorize` has 1e-3 for float32.

    Returns
    -------
    float
        0 exactly at a stationary point. Where the divisor is 0 (no data, or no component alive) there is
        nothing to compare with: 0 if no coordinate violates its condition, else inf.

    Raises
    ------
    ValueError
        If the shapes do not fit (from NumPy).

    Examples
    --------
    >>> X, w = np.array([[4.0]]), np.array([[2.0]])
    >>> kkt(X, w, w)
    0.0
    >>> kkt(X, w, 2 * w) == kkt(X, 2 * w, w) > 0
    True
    """
    observed = np.ones(X.shape) if mask is None else mask.astype(float)
    G_W, G_H = gradients(X, W, H, mask=mask, l1=l1, l2=l2)
    rho_W = _violation(G_W, observed @ (H**2).T + l2[0], W)
    rho_H = _violation(G_H, (W**2).T @ observed + l2[1], H)

    norm_W, norm_H = np.linalg.norm(W, axis=0), np.linalg.norm(H, axis=1)
    alive = (norm_W > 0) & (norm_H > 0)
    s = np.sqrt(np.where(alive, norm_H, 1.0) / np.where(alive, norm_W, 1.0))
    worst = max(_norm(rho_W / s), _norm(rho_H * s[:, None]))

    left = max(_norm(_residual(X, W, H, mask)), least * _norm(np.where(observed, X, 0.0)))
    scale = left * float(np.sqrt(norm_W @ norm_H))
    if scale == 0:
        return 0.0 if worst == 0 else float("inf")
    return worst / scale


def _residual(X: Array, W: Array, H: Array, mask: NDArray[np.bool_] | None) -> Array:
    """M ∘ (X − W H), without reading X where it is missing."""
    WH: Array = W @ H
    return (X if mask is None else np.where(mask, X, WH)) - WH


def _violation(G: Array, B: Array, W: Array) -> Array:
    step_at_most = np.where((B == 0) & (W > 0), np.inf, B * W)  # where B = 0, nothing bounds a step
    return np.where(G < 0, -G, np.minimum(G, step_at_most))


def _norm(A: NDArray[Any]) -> float:
    return float(np.linalg.norm(A))
