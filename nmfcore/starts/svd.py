"""Singular vectors of X, and the NNDSVD starts made of them; derived in :mod:`nmfcore.starts.begin`."""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.dense import Dense
from nmfcore.data.normal import gram
from nmfcore.data.protocol import Data
from nmfcore.kernels import factors
from nmfcore.machine.interruptible import aside

FAST = "fast-nndsvdar"
_OVERSAMPLES = 10


# Chosen by planted parts (the median ratio is .991 or more) and by mixtures, images and noise (up to .98).
LARGE, EQUAL = 0.25, 0.985  # of the second singular value: of those above that, what share each is of the one before
LONG = 1e7  # m n² of a factorisation by LAPACK: from some milliseconds on, it is made aside
_RELATIVE_ZERO = 1e-6  # scikit-learn's bound, taken relative to the largest entry of the factor


def about_equal(S: Array) -> bool:
    """Whether most of the singular values ``S`` (r,), in falling order, hardly fall after the first."""
    large = S[1:][LARGE * S[1:2] < S[1:]]
    return large.size > max(2, (S.size - 1) // 2) and float(np.median(large[1:] / large[:-1])) > EQUAL


def nndsvd(
    data: Data, r: int, init: str, rng: Any, team: Team, triplets: tuple[Array, Array, Array] | None = None
) -> tuple[Array, Array]:
    """The NNDSVD start; ``r <= min(m, n)``. Missing entries count as the mean of the observed ones.

    ``triplets`` are the singular ones ``U`` (m, r), ``S`` (r,) and ``V`` (n, r), if they are known already.
    """
    U, S, V = triplets or (rough_svd if init == FAST else truncated_svd)(data, r, rng, team)
    U, V = np.ascontiguousarray(U), np.ascontiguousarray(V)
    U[:, 0], V[:, 0] = np.abs(U[:, 0]), np.abs(V[:, 0])
    # Squared norms of the non-negative parts of u, v and of -u, -v.
    squares = np.array([[factors.column_moments(np.maximum(s * A, 0.0))[1] for A in (U, V)] for s in (1.0, -1.0)])
    sizes = np.sqrt(squares).prod(axis=1)
    kept, columns = np.argmax(sizes, axis=0), np.arange(r)
    scale, norms = np.sqrt(S * sizes[kept, columns]), np.sqrt(squares[kept, :, columns])
    norms[norms == 0.0] = 1.0
    W, Ht = (
        np.maximum(A * (np.where(kept == 0, 1.0, -1.0) * scale / norm), 0.0)
        for A, norm in zip((U, V), norms.T, strict=True)
    )
    for A in (W, Ht):
        A[_RELATIVE_ZERO * A.max() > A] = 0
    if init != "nndsvd":
        _fill_zeros(W, Ht, float(data.mean), init, rng)
    return W.astype(data.dtype, copy=False), Ht.astype(data.dtype, copy=False)


def _fill_zeros(W: Array, Ht: Array, mean: float, init: str, rng: Any) -> None:
    # A factor has the unit of sqrt(X): so has the fill, and the start scales with X.
    typical = np.sqrt(mean / W.shape[1])
    for A in (W, Ht):
        zeros = A == 0
        if init in ("nndsvdar", FAST):
            A[zeros] = np.abs(typical * rng.standard_normal(size=int(zeros.sum())) / 100)
        else:
            A[zeros] = typical


def truncated_svd(data: Data, r: int, rng: Any, team: Team) -> tuple[Array, Array, Array]:
    """The leading ``r`` singular triplets ``U`` (m, r), ``S`` (r,), ``V`` (n, r), in float64.

    A random subspace of ``r + 10`` dimensions is put through X and its transpose until it holds the leading
    singular vectors; the SVD of X within it is small.
    """
    m, n = data.shape
    size = min(r + _OVERSAMPLES, m, n)
    powers = 7 if r < 0.1 * min(m, n) else 4
    Q = _qr(rng.standard_normal(size=(n, size)))
    for _ in range(powers):
        Q = _qr(data.times(Q, team).astype(np.float64))
        Q = _qr(data.T.times(Q, team).astype(np.float64))
    Q = _qr(data.times(Q, team).astype(np.float64))
    small = data.T.times(Q, team).astype(np.float64)  # Xᵀ Q (n, size): X ≈ Q smallᵀ
    V, S, Qt = _svd(small)
    U = Q @ Qt.T
    signs = np.sign(U[np.argmax(np.abs(U), axis=0), np.arange(size)])  # as scikit-learn's svd_flip
    signs[signs == 0] = 1.0
    return (U * signs)[:, :r], S[:r], (V * signs)[:, :r]


def rough_svd(data: Data, r: int, rng: Any, team: Team) -> tuple[Array, Array, Array]:
    """About the leading ``r`` singular triplets ``U`` (m, r), ``S`` (r,), ``V`` (n, r), in four products with X."""
    m, n = data.shape
    if m < n:  # random numbers for the short side
        V, S, U = rough_svd(data.T, r, rng, team)
        return U, S, V
    Q = rng.standard_normal(size=(n, min(r + _OVERSAMPLES, n)))
    for matrix in (data, data.T, data):
        Q, _ = _orthonormal(matrix.times(Q, team).astype(np.float64), team)
    V, R = _orthonormal(data.T.times(Q, team).astype(np.float64), team)  # X ≈ Q (V R)ᵀ
    left, S, right = _svd(R)
    U, V = (Dense(A).times(B[:, :r], team) for A, B in ((Q, right.T), (V, left)))
    return U, S[:r], V


def _qr(Z: Array) -> Array:
    """An orthonormal basis of the columns of ``Z``."""
    return aside(np.linalg.qr, Z)[0] if _is_long(Z) else np.linalg.qr(Z)[0]


def _svd(Z: Array) -> tuple[Array, Array, Array]:
    """The thin SVD of ``Z``."""
    return tuple(aside(np.linalg.svd, Z, False) if _is_long(Z) else np.linalg.svd(Z, False))  # type: ignore[return-value]


def _is_long(Z: Array) -> bool:
    return bool(Z.shape[0] * float(Z.shape[1]) ** 2 > LONG)


def _orthonormal(Z: Array, team: Team) -> tuple[Array, Array]:
    """``Q`` and ``R`` with ``Z = Q R`` by the Cholesky factor of ``ZᵀZ``, good to half the digits.

    What lies below those is made 0 in ``Q``. BLAS is left out of it, and what LAPACK gets is small: its threads would
    go on turning for a tenth of a second, in which ours are slow.
    """
    G = gram(Z, team)
    shift = np.finfo(float).eps * len(G) * max(float(np.trace(G)), np.finfo(float).tiny)
    L = np.linalg.cholesky(G + shift * np.eye(len(G)))
    return Dense(Z).times(np.linalg.inv(L).T, team), L.T
