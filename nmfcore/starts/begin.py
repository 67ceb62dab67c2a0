r"""Where a fit starts from: random, or from singular vectors (the NNDSVD family).

**Random** is scikit-learn's formula to the bit: ``|N(0, 1)| · sqrt(mean(X) / r)``, H drawn first.

**NNDSVD** takes the leading singular triplets. The first pair of vectors is non-negative. Of each further product
``u vᵀ`` the non-negative part is ``u₊ v₊ᵀ + u₋ v₋ᵀ``; the larger of the two is kept, with the norm it has:

.. math:: W_j = \sqrt{σ_j ‖u_±‖ ‖v_±‖}\; u_± / ‖u_±‖.

Its zeros stay (``"nndsvd"``, for HALS), become the mean of X (``"nndsvda"``), or small random numbers
(``"nndsvdar"``); multiplicative updates cannot leave a zero. What counts as zero is relative to the largest entry,
so a start scales with X.

**The default** is ``"fast-nndsvdar"``: NNDSVDar from singular vectors that went through X and its transpose only
twice, four products in all, which cost what two or three iterations do. Complete data of every loss and solver begin
with it; data with missing entries begin with random numbers, and so does a fit of more components than X has rows or
columns. A random start leads one fit in six of small data to a plateau or to a minimum that is a tenth to several
times higher; NNDSVD starts do not (``python -m benchmarks defaults``). Singular vectors to more digits lead to the same
minima in as many iterations. With the mean in place of zeros (``"nndsvda"``) fits of smooth data take two to three
times the iterations: the start no longer approximates X. Where most singular values are about equal, their vectors are
arbitrary combinations of the parts of X, and the default start is random (:func:`own`).

References
----------
Boutsidis and Gallopoulos, "SVD based initialization: a head start for nonnegative matrix factorization", Pattern
Recognition 41, 2008. Halko, Martinsson and Tropp, "Finding structure with randomness", SIAM Review 53, 2011,
algorithms 4.4 and 5.1 (the truncated SVD).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.starts.svd import FAST, about_equal, nndsvd, rough_svd

SINGULAR = ("nndsvd", "nndsvda", "nndsvdar", FAST)
INITS = ("auto", "compressed", "random", *SINGULAR)
SPAN = {4: 40, 8: 200}  # by the bytes of a number: how far its exponent may be from 0 for β = 2


def chosen(init: str, data: Data, r: int, given: bool) -> str:
    """The start that ``"auto"`` and ``"compressed"`` begin with; ``given`` tells that one of the factors is."""
    if init not in ("auto", "compressed"):
        return init
    return FAST if data.known_rows is None and r <= min(data.shape) and not given else "random"


def own(data: Data, r: int, rng: Any, team: Team) -> tuple[Array, Array, str]:
    """The default start of complete data, ``W`` (m, r) and ``Ht`` (n, r), and its name.

    It is ``"fast-nndsvdar"``, but ``"random"`` where most singular values after the first are about equal. Planted
    parts that all appear equally often have such; fits that begin with their singular vectors end at a few per cent of
    X where random starts lead to an exact fit.
    """
    triplets = rough_svd(data, r, rng, team)
    if about_equal(triplets[1]):
        return *random(data, r, rng), "random"
    return *nndsvd(data, r, FAST, rng, team, triplets), FAST


def start(data: Data, r: int, init: str, rng: Any, team: Team) -> tuple[Array, Array]:
    """``W`` (m, r) and ``Ht`` (n, r) of the data's dtype.

    Parameters
    ----------
    data : Data
        The m×n matrix.
    r : int
        The rank.
    init : str
        One of ``INITS``, as :func:`chosen`.
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


def within_range(W: Array, Ht: Array, free: int, largest: float, beta: float) -> tuple[Array, Array]:
    """Given factors, their components brought to where the arithmetic holds their squares and products.

    ``w_t 2^k`` and ``h_t / 2^k`` have the same product, so a component whose factors differ too much in size has its
    size shared out evenly. One whose product is far beyond the largest entry of X, or nothing beside it, is given the
    size of that. Others stay as they are, to the bit; those that are 0 too.

    Parameters
    ----------
    W, Ht : ndarray (m, r), (n, r)
        A start; not written to.
    free : int
        How many components, the first ones, may be given another scale: all but offsets.
    largest : float
        The largest entry of X.
    beta : float
        Of the loss, which forms powers of the product.
    """
    most = SPAN[W.dtype.itemsize] * 3.0 / (2.0 + max(1.0, abs(beta - 1.0)))  # of the exponent
    of_W, of_H = (np.frexp(A.max(axis=0, initial=0.0).astype(np.float64)) for A in (W, Ht))
    alive = (of_W[0] > 0) & (of_H[0] > 0)
    wrong = alive & (np.maximum(abs(of_W[1]), abs(of_H[1])) > most) & (np.arange(len(alive)) < free)
    if not wrong.any():
        return W, Ht
    unit = int(np.frexp(largest)[1])
    product = of_W[1] + of_H[1]
    product = np.where(abs(product - unit) > most, unit, product)
    shift_W = np.where(wrong, product // 2 - of_W[1], 0)
    shift_H = np.where(wrong, product - product // 2 - of_H[1], 0)
    return np.ldexp(W, shift_W), np.ldexp(Ht, shift_H)


def random(data: Data, r: int, rng: Any) -> tuple[Array, Array]:
    """scikit-learn's ``init="random"``."""
    m, n = data.shape
    scale = np.sqrt(data.mean / r)
    H = np.abs(scale * rng.standard_normal(size=(r, n)).astype(data.dtype, copy=False))
    W = np.abs(scale * rng.standard_normal(size=(m, r)).astype(data.dtype, copy=False))
    return W.astype(data.dtype, copy=False), np.ascontiguousarray(H.T, dtype=data.dtype)
