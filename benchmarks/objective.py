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


class HeldOut:
    """Held-out ratings, and the one prediction that is not the contenders' business.

    A user or an item without a rating in the training part is predicted at the training mean, for everybody: some
    libraries leave such rows undefined, and what they put there says nothing about their fit.
    """

    def __init__(self, train: Any, test: tuple[np.ndarray, np.ndarray, np.ndarray], clip: tuple[float, float]) -> None:
        self.users, self.items, ratings = test
        self.ratings, self.clip, self.shape = ratings.astype(np.float64), clip, train.shape
        known = np.diff(train.indptr) > 0, np.bincount(train.indices, minlength=train.shape[1]) > 0
        self.known = known[0][self.users] & known[1][self.items]
        self.mean = float(train.data.mean(dtype=np.float64))

    def rmse(self, W: Any, H: Any, level: float = 0.0, user: Any = None, item: Any = None) -> float:
        """Of ``level + user_u + item_i + w_u · h_i``, clipped, in float64."""
        W, Ht = np.asarray(W, dtype=np.float64), np.ascontiguousarray(np.asarray(H, dtype=np.float64).T)
        predicted = np.full(self.ratings.shape, float(level))
        step = max(1, BLOCK // W.shape[1])
        for lo in range(0, predicted.size, step):
            part = slice(lo, lo + step)
            predicted[part] += np.einsum("pt,pt->p", W[self.users[part]], Ht[self.items[part]])
        for offsets, index in ((user, self.users), (item, self.items)):
            if offsets is not None:
                predicted += np.asarray(offsets, dtype=np.float64)[index]
        return self.score(predicted)

    def score(self, predicted: Any) -> float:
        clipped = np.clip(np.where(self.known, predicted, self.mean), *self.clip)
        return float(np.sqrt(np.mean((clipped - self.ratings) ** 2)))

    def judge(self, rank: int, W: Any, H: Any, *offsets: Any) -> tuple[float, str]:
        """The RMSE, and what is wrong with these factors (nothing: "")."""
        W, H = np.asarray(W), np.asarray(H)
        if W.shape != (self.shape[0], rank) or H.shape != (rank, self.shape[1]):
            return np.nan, f"factors of the wrong shape: {W.shape}, {H.shape}"
        if not (np.isfinite(W).all() and np.isfinite(H).all()):
            return np.nan, "factors that are not finite"
        if W.min() < 0 or H.min() < 0:
            return np.nan, "negative factors"
        value = self.rmse(W, H, *offsets)
        return value, "" if np.isfinite(value) else "predictions that are not finite"
