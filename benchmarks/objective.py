"""The judge: where every contender starts, and what its factors are worth, in float64, by one piece of code.

Nothing here is nmfcore's: the objective is the definition, formed block by block from X and W H.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import scipy.sparse

BLOCK = 2**22  # numbers of W H at a time: 32 MiB
FROBENIUS, KL = "frobenius", "kullback-leibler"


def start(X: Any, rank: int, seed: int, masked: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's ``init="random"``: |N(0, 1)|·√(mean / rank), H drawn first; only the observed have a mean."""
    rng = np.random.RandomState(seed)
    scale = np.sqrt((X.data if masked else X).mean() / rank)
    H = np.abs(scale * rng.standard_normal(size=(rank, X.shape[1])).astype(X.dtype, copy=False))
    W = np.abs(scale * rng.standard_normal(size=(X.shape[0], rank)).astype(X.dtype, copy=False))
    return W.astype(X.dtype, copy=False), H.astype(X.dtype, copy=False)


def fingerprint(*arrays: np.ndarray) -> str:
    """So that results.json shows that all began at the same place."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()[:16]


def objective(X: Any, W: np.ndarray, H: np.ndarray, loss: str = FROBENIUS, masked: bool = False) -> float:
    """``½ Σ (x - x̂)²``, or the generalised Kullback-Leibler divergence ``Σ x log(x / x̂) - x + x̂``.

    Over all entries; with ``masked`` over the stored ones of a sparse X only.
    """
    W, H = np.asarray(W, dtype=np.float64), np.asarray(H, dtype=np.float64)
    if masked:
        return _stored(X, W, H, loss)
    sparse = scipy.sparse.issparse(X)
    rows = max(1, BLOCK // X.shape[1])
    total = 0.0
    for lo in range(0, X.shape[0], rows):
        part = X[lo : lo + rows]
        x = part.toarray().astype(np.float64) if sparse else np.asarray(part, dtype=np.float64)
        total += _loss(x, W[lo : lo + rows] @ H, loss)
    return total


def _stored(X: Any, W: np.ndarray, H: np.ndarray, loss: str) -> float:
    X = X.tocsr()
    i = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    total, step = 0.0, max(1, BLOCK // H.shape[0])
    for lo in range(0, i.size, step):
        part = slice(lo, lo + step)
        xhat = np.einsum("pt,pt->p", W[i[part]], H.T[X.indices[part]])
        total += _loss(X.data[part].astype(np.float64), xhat, loss)
    return total


def _loss(x: np.ndarray, xhat: np.ndarray, loss: str) -> float:
    if loss == FROBENIUS:
        xhat -= x
        return 0.5 * float(np.vdot(xhat, xhat))
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(x > 0, x * np.log(x / xhat), 0.0)  # inf where x > 0 = x̂: that is its divergence
    return float(np.sum(logs - x + xhat))


def gate(
    X: Any,
    W: Any,
    H: Any,
    reported: float | None,
    begin: float,
    *,
    rank: int,
    loss: str = FROBENIUS,
    masked: bool = False,
    shared_start: bool = True,
) -> tuple[float, str]:
    """The objective, and what is wrong with these factors (nothing: "")."""
    W, H = np.asarray(W), np.asarray(H)
    if W.shape != (X.shape[0], rank) or H.shape != (rank, X.shape[1]):
        return np.nan, f"factors of the wrong shape: {W.shape}, {H.shape}"
    if not (np.isfinite(W).all() and np.isfinite(H).all()):
        return np.nan, "factors that are not finite"
    if W.min() < 0 or H.min() < 0:
        return np.nan, "negative factors"
    value = objective(X, W, H, loss, masked)
    if not np.isfinite(value) or (shared_start and value > begin):
        return value, f"objective {value:.6g}, above that of the start, {begin:.6g}"
    # Who reports ½(‖X‖² - ...) loses digits against ‖X‖², the size of the start's objective; in float32 that shows.
    allowed = tolerance(X.dtype) * (value + begin)
    if reported is not None and not abs(reported - value) <= allowed:
        return value, f"reports an objective of {reported:.9g}, but it is {value:.9g}"
    return value, ""


def tolerance(dtype: Any) -> float:
    """How far an objective may be off, relatively."""
    return 1e-8 if np.dtype(dtype) == np.float64 else 1e-5
