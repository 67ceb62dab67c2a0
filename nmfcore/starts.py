r"""Where a fit starts from: random, or from singular vectors (the NNDSVD family).

**Random** is scikit-learn's formula to the bit: ``|N(0, 1)| · sqrt(mean(X) / r)``, H drawn first.

**NNDSVD** takes the leading singular triplets. The first pair of vectors is non-negative. Of each further product
``u vᵀ`` the non-negative part is ``u₊ v₊ᵀ + u₋ v₋ᵀ``; the larger of the two is kept, with the norm it has:

.. math:: W_j = \sqrt{σ_j ‖u_±‖ ‖v_±‖}\; u_± / ‖u_±‖.

Its zeros stay (``"nndsvd"``, for HALS), become the mean of X (``"nndsvda"``), or small random numbers
(``"nndsvdar"``); multiplicative updates cannot leave a zero. What counts as zero is relative to the largest entry,
so a start scales with X.

A **rough** start is ``"nndsvda"`` from singular vectors that went through X and its transpose only twice: four
products, which cost what two or three iterations do. HALS begins with it where few entries are not zero
(``init="auto"``, Frobenius loss). Texts come to minima no worse than from random numbers, and some to better ones, in
the same time: the objective of reuters21578 (r = 20, five seeds) was at the median .15 % lower. With singular vectors
to more digits (seven rounds) a fit begins later and takes up to twice the iterations.

References
----------
Boutsidis and Gallopoulos, "SVD based initialization: a head start for nonnegative matrix factorization", Pattern
Recognition 41, 2008. Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53, 2011,
algorithms 4.4 and 5.1 (the truncated SVD).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data, Dense, gram
from nmfcore.kernels import factors
from nmfcore.parallel import Team

INITS = ("auto", "compressed", "random", "nndsvd", "nndsvda", "nndsvdar")
SINGULAR = INITS[3:]

_OVERSAMPLES = 10
_RELATIVE_ZERO = 1e-6  # scikit-learn's bound, taken relative to the largest entry of the factor


def start(data: Data, r: int, init: str, rng: Any, team: Team) -> tuple[Array, Array]:
    """``W`` (m, r) and ``Ht`` (n, r) of the data's dtype.

    Parameters
    ----------
    data : Data
        The m×n matrix.
    r : int
        The rank.
    init : str
        One of ``INITS``, or ``"rough"``; ``"auto"`` and ``"compressed"`` begin with random factors (see
        :mod:`nmfcore.compress`).
    rng : RandomState or Generator
        Where random numbers come from.
    team : Team
        Threads for the products with X.
    """
    return nndsvd(data, r, init, rng, team) if init in (*SINGULAR, "rough") else random(data, r, rng)


def clear_unknown(data: Data, W: Array, Ht: Array) -> None:
    """Make rows without an observed entry 0, in place: whether a step would depends on the penalty and the solver."""
    for A, known in ((W, data.known_rows), (Ht, data.T.known_rows)):
        if known is not None:
            A[~known] = 0.0


def random(data: Data, r: int, rng: Any) -> tuple[Array, Array]:
    """scikit-learn's ``init="random"``."""
    m, n = data.shape
    scale = np.sqrt(data.mean / r)
    H = np.abs(scale * rng.standard_normal(size=(r, n)).astype(data.dtype, copy=False))
    W = np.abs(scale * rng.standard_normal(size=(m, r)).astype(data.dtype, copy=False))
    return W.astype(data.dtype, copy=False), np.ascontiguousarray(H.T, dtype=data.dtype)


def nndsvd(data: Data, r: int, init: str, rng: Any, team: Team) -> tuple[Array, Array]:
    """The NNDSVD start; ``r <= min(m, n)``. Missing entries count as the mean of the observed ones."""
    U, S, V = (rough_svd if init == "rough" else truncated_svd)(data, r, rng, team)
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
        if init == "nndsvdar":
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
    Q = np.linalg.qr(rng.standard_normal(size=(n, size)))[0]
    for _ in range(powers):
        Q = np.linalg.qr(data.times(Q, team).astype(np.float64))[0]
        Q = np.linalg.qr(data.T.times(Q, team).astype(np.float64))[0]
    Q = np.linalg.qr(data.times(Q, team).astype(np.float64))[0]
    small = data.T.times(Q, team).astype(np.float64)  # Xᵀ Q (n, size): X ≈ Q smallᵀ
    V, S, Qt = np.linalg.svd(small, full_matrices=False)
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
    left, S, right = np.linalg.svd(R)
    U, V = (Dense(A).times(B[:, :r], team) for A, B in ((Q, right.T), (V, left)))
    return U, S[:r], V


def _orthonormal(Z: Array, team: Team) -> tuple[Array, Array]:
    """``Q`` and ``R`` with ``Z = Q R`` by the Cholesky factor of ``ZᵀZ``, good to half the digits.

    What lies below those is made 0 in ``Q``. BLAS is left out of it, and what LAPACK gets is small: its threads would
    go on turning for a tenth of a second, in which ours are slow.
    """
    G = gram(Z, team)
    shift = np.finfo(float).eps * len(G) * max(float(np.trace(G)), np.finfo(float).tiny)
    L = np.linalg.cholesky(G + shift * np.eye(len(G)))
    return Dense(Z).times(np.linalg.inv(L).T, team), L.T
