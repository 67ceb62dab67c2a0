"""The matrices that are timed: made here from a seed, brought by scikit-learn, or read from a folder outside.

The real data sets may not be packaged. They are looked for in ``../shared/data`` beside the project, or in
``NMFCORE_DATA``; a set that is not there is left out and named as such.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.sparse

HERE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """A matrix with the rank it is factorised at."""

    name: str
    rank: int
    load: Callable[[], Any]


def folder() -> Path:
    return Path(os.environ.get("NMFCORE_DATA") or HERE / ".." / "shared" / "data")


def cases() -> list[Case]:
    """All cases, small first."""
    return [
        Case("digits", 16, digits),
        Case("golub-all-aml", 5, golub),
        Case("planted-dense", 20, planted_dense),
        Case("olivetti-faces", 40, olivetti),
        Case("indian-pines", 20, indian_pines),
        Case("reuters21578", 20, reuters),
        Case("newsgroups20", 20, newsgroups),
        Case("kmnist-test", 50, kmnist),
    ]


def planted_dense(m: int = 2000, n: int = 1000, rank: int = 20, noise: float = 0.1, seed: int = 0) -> Any:
    """Sparse non-negative factors, and uniform noise of a share of the mean."""
    rng = np.random.default_rng(seed)
    W, H = (rng.random(shape) * (rng.random(shape) < 0.5) for shape in ((m, rank), (rank, n)))
    X = W @ H
    return X + rng.random(X.shape) * noise * X.mean()


def digits() -> Any:
    from sklearn.datasets import load_digits

    return load_digits().data


def golub() -> Any:
    return np.loadtxt(folder() / "golub-all-aml" / "ALL_AML_data.txt")


def olivetti() -> Any:
    return scipy.io.loadmat(folder() / "olivetti-faces" / "olivettifaces.mat")["faces"].astype(float)


def indian_pines() -> Any:
    return scipy.io.loadmat(folder() / "indian-pines" / "Pines.mat")["X"].astype(float)


def kmnist() -> Any:
    with np.load(folder() / "kmnist-test" / "kmnist-test-imgs.npz") as file:
        return file["arr_0"].reshape(10000, 784).astype(float)


def reuters() -> Any:
    return scipy.sparse.csr_array(
        scipy.io.loadmat(folder() / "reuters21578" / "Reuters21578.mat")["fea"].astype(float).tocsr()
    )


def newsgroups() -> Any:
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts = rdata.read_rda(folder() / "newsgroups20" / "newsgroups.RData")["counts"]
    columns = scipy.sparse.csc_matrix((counts.x, counts.i, counts.p), shape=tuple(counts.Dim))
    return scipy.sparse.csr_array(columns.tocsr().astype(float))
