r"""Where a fit starts from: random, or from singular vectors (the NNDSVD family).

**Random** is scikit-learn's formula to the bit: ``|N(0, 1)| · sqrt(mean(X) / r)``, H drawn first.

**NNDSVD** takes the leading singular triplets. The first pair of vectors is non-negative. Of each further product
``u vᵀ`` the non-negative part is ``u₊ v₊ᵀ + u₋ v₋ᵀ``; the larger of the two is kept, with the norm it has:

.. math:: W_j = \sqrt{σ_j ‖u_±‖ ‖v_±‖}\; u_± / ‖u_±‖.

Its zeros stay (``"nndsvd"``, for HALS), become the mean of X (``"nndsvda"``), or small random numbers
(``"nndsvdar"``); multiplicative updates cannot leave a zero. What counts as zero is relative to the largest entry,
so a start scales with X.

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
from nmfcore.data import Data
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
        One of ``INITS``; ``"auto"`` and ``"compressed"`` begin with random factors (see :mod:`nmfcore.compress`).
    rng : RandomState or Generator
        Where random numbers come from.
    team : Team
        Threads for the products with X.
    """
    return nndsvd(data, r, init, rng, team) if init in SINGULAR else random(data, r, rng)


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
    U, S, V = truncated_svd(data, r, rng, team)
    W, Ht = np.empty_like(U), np.empty_like(V)
    W[:, 0], Ht[:, 0] = np.sqrt(S[0]) * np.abs(U[:, 0]), np.sqrt(S[0]) * np.abs(V[:, 0])
    for j in range(1, r):
        pairs = ((np.maximum(s * U[:, j], 0), np.maximum(s * V[:, j], 0)) for s in (1, -1))
        u, v, size = max(
            ((u, v, float(np.linalg.norm(u) * np.linalg.norm(v))) for u, v in pairs), key=lambda pair: pair[2]
        )
        scale = np.sqrt(S[j] * size)
        W[:, j], Ht[:, j] = (scale * x / (np.linalg.norm(x) or 1.0) for x in (u, v))
    for A in (W, Ht):
        A[_RELATIVE_ZERO * A.max() > A] = 0
    if init != "nndsvd":
        _fill_zeros(W, Ht, float(data.mean), init, rng)
    return W.astype(data.dtype), Ht.astype(data.dtype)


def _fill_zeros(W: Array, Ht: Array, mean: float, init: str, rng: Any) -> None:
    # A factor has the unit of sqrt(X): so has the fill, and the start scales with X.
    typical = np.sqrt(mean / W.shape[1])
    for A in (W, Ht):
        zeros = A == 0
        if init == "nndsvda":
            A[zeros] = typical
        else:
            A[zeros] = np.abs(typical * rng.standard_normal(size=int(zeros.sum())) / 100)


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
