"""The matrices that are timed: made here from a seed, brought by scikit-learn, or read from a folder outside.

The real data sets may not be packaged. They are looked for in ``../shared/data`` beside the project, or in
``NMFCORE_DATA``; a set that is not there is left out and named as such.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import scipy.io.wavfile
import scipy.signal
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


def pbmc() -> Any:
    import rdata

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counts = rdata.read_rda(folder() / "pbmc-facs" / "pbmc_facs.RData")["pbmc_facs"]["counts"]
    columns = scipy.sparse.csc_matrix((counts.x, counts.i, counts.p), shape=tuple(counts.Dim))
    return scipy.sparse.csr_array(columns.tocsr().astype(float))


def movielens() -> Any:
    """ml-100k: stored = observed."""
    user, item, rating, _ = np.loadtxt(folder() / "ml-100k" / "u.data").T
    return scipy.sparse.csr_array(scipy.sparse.coo_array((rating, (user.astype(int) - 1, item.astype(int) - 1))))


def movielens_1m() -> Any:
    """ml-1m, in the order of the file (column by column): stored = observed."""
    return scipy.sparse.coo_array(scipy.io.loadmat(folder() / "ml-1m" / "movielens1m.mat")["data"])


def planted_ratings(n_users: int = 943, n_items: int = 1682, n_ratings: int = 100_000, seed: int = 0) -> Any:
    """Ratings of a planted taste, long-tailed in users and items: stored = observed."""
    rng = np.random.default_rng(seed)
    W, H = rng.gamma(0.5, size=(n_users, 6)), rng.gamma(0.5, size=(6, n_items))
    active, popular = (rng.permutation(k) + 1.0 + k / 3 for k in (n_users, n_items))
    odds = rng.standard_exponential((n_users, n_items)) * np.outer(active, popular) ** 2
    i, j = np.divmod(np.sort(np.argpartition(odds.ravel(), n_ratings - 1)[:n_ratings]), n_items)
    taste = 1.0 + np.einsum("pt,pt->p", W[i], H.T[j])
    stars = np.clip(np.rint(taste + rng.normal(0, 0.8, n_ratings)), 1, 5)
    return scipy.sparse.csr_array(scipy.sparse.coo_array((stars, (i, j)), shape=(n_users, n_items)))


def long_tailed_ratings(n_users: int, n_items: int, n_ratings: int, rank: int = 6, seed: int = 0) -> Any:
    """About so many ratings of a planted taste, as a CSR array of float32; some seconds for ten million.

    Tails as long as MovieLens-25M's: a user has 20 ratings and a log-normal number more, the k-th most popular item is
    drawn in proportion to ``(k + n_items / 200)^-2``. An item drawn twice is rated once: busy users draw more often.
    """
    rng = np.random.default_rng(seed)
    least = min(20.0, n_ratings / n_users / 2)
    more = rng.lognormal(sigma=1.4, size=n_users)
    wanted = np.minimum(least + more * ((n_ratings - least * n_users) / more.sum()), 0.5 * n_items)
    popular = (rng.permutation(n_items) + n_items / 200) ** -2.0
    table = np.repeat(  # an item as often as it is popular: drawing one is a look-up
        np.arange(n_items, dtype=np.int32), np.maximum(1, np.rint(popular * 2**22 / popular.sum())).astype(int)
    )
    draws = _draws_for(wanted, np.bincount(table) / table.size)
    W, H = (rng.gamma(0.4, size=(rank, k)).astype(np.float32) for k in (n_users, n_items))
    a, b = (np.abs(rng.normal(1.3, 0.4, k)).astype(np.float32) for k in (n_users, n_items))
    indices, data, lengths = [], [], np.zeros(n_users, np.int64)
    for rows in np.array_split(np.arange(n_users), max(1, draws.sum() // 2**21)):
        keys = np.repeat(rows * n_items, draws[rows]) + table[rng.integers(table.size, size=draws[rows].sum())]
        keys.sort()
        i, j = np.divmod(keys[np.diff(keys, prepend=-1) > 0], n_items)
        taste = a[i] + b[j] + np.float32(0.6) * rng.standard_normal(i.size, dtype=np.float32)
        for w, h in zip(W, H, strict=True):
            taste += w[i] * h[j]
        indices.append(j.astype(np.int32))
        data.append(np.clip(np.rint(taste), 1, 5))
        lengths[rows] = np.bincount(i - rows[0], minlength=rows.size)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    if indptr[-1] < 2**31:
        indptr = indptr.astype(np.int32)
    return scipy.sparse.csr_array((np.concatenate(data), np.concatenate(indices), indptr), shape=(n_users, n_items))


def _draws_for(wanted: Any, chances: Any) -> Any:
    """How often to draw, with repetition, for so many distinct items: ``E = Σ 1 - (1 - p)^draws``, inverted."""
    grid = np.geomspace(1, 50 * wanted.max(), 60)
    distinct = [-np.expm1(draws * np.log1p(-chances)).sum() for draws in grid]
    return np.rint(np.interp(wanted, distinct, grid)).astype(np.int64)


def planted_sparse(m: int = 6000, n: int = 4000, rank: int = 20, share: float = 0.05, seed: int = 0) -> Any:
    """A product of sparse factors, of which each stored entry is off by up to a tenth."""
    rng = np.random.default_rng(seed)
    W, H = (rng.random(shape) * (rng.random(shape) < share) for shape in ((m, rank), (rank, n)))
    X = scipy.sparse.csr_array(scipy.sparse.csr_array(W) @ scipy.sparse.csr_array(H))
    X.data *= rng.uniform(0.9, 1.1, X.nnz)
    return X


def planted_words(m: int = 6000, n: int = 20_000, rank: int = 20, length: int = 120, seed: int = 0) -> Any:
    """Word counts: a document mixes few topics, and each topic has Zipf's law over an order of words of its own."""
    rng = np.random.default_rng(seed)
    mixture = np.cumsum(rng.dirichlet(np.full(rank, 0.1), m), axis=1)
    document = np.repeat(np.arange(m), 1 + rng.poisson(length, m))
    topic = (rng.random(document.size)[:, None] > mixture[document, :-1]).sum(axis=1)
    zipf = np.cumsum(1.0 / np.arange(1, n + 1))
    place = np.searchsorted(zipf, rng.random(document.size) * zipf[-1])
    order = np.array([rng.permutation(n) for _ in range(rank)])
    words = order[topic, np.minimum(place, n - 1)]
    return scipy.sparse.csr_array(scipy.sparse.coo_array((np.ones(words.size), (document, words)), shape=(m, n)))


# ---- what the defaults are judged by, and what they were chosen by --------------------------------------------------


def reported() -> list[Case]:
    """The sets by which defaults are reported, small first."""
    return [
        Case("iris", 3, bundled("load_iris")),
        Case("wine", 3, bundled("load_wine")),
        Case("breast-cancer", 5, bundled("load_breast_cancer")),
        Case("signatures", 4, signatures),
        Case("signatures-3", 3, signatures),
        Case("mary", 8, partial(spectrogram, "Mary.wav")),
        Case("piano", 8, partial(spectrogram, "Piano.wav")),
        Case("digits", 16, digits),
        Case("golub-all-aml", 5, golub),
        Case("swimmer", 17, swimmer),
        Case("cbcl-faces", 49, cbcl),
        Case("olivetti-faces", 40, olivetti),
        Case("indian-pines", 20, indian_pines),
        Case("kmnist-test", 50, kmnist),
        Case("reuters21578", 20, reuters),
        Case("newsgroups20", 20, newsgroups),
    ]


def planted() -> list[Case]:
    """The sets by which the constants of the stopping rule and the default start were chosen."""
    return [
        Case("smooth", 6, smooth_mixture),
        Case("smooth-noisy", 4, partial(smooth_mixture, rank=6, noise=0.2, seed=1)),
        Case("gamma-counts", 5, gamma_counts),
        Case("gamma-low-rank", 4, partial(gamma_counts, noise="none")),
        Case("units", 5, units),
        Case("log-normal", 6, log_normal),
        Case("hyperspectral", 5, hyperspectral),
        Case("planted-dense", 20, partial(planted_dense, 1000, 500)),
    ]


def bundled(name: str) -> Callable[[], Any]:
    """A set that scikit-learn brings."""

    def load() -> Any:
        import sklearn.datasets

        return getattr(sklearn.datasets, name)().data

    return load


def signatures() -> Any:
    lines = (folder() / "signatures" / "catalogue.txt").read_text().splitlines()[1:]
    return np.array([[float(x) for x in line.split("\t")[1:]] for line in lines])


def spectrogram(name: str) -> Any:
    """The magnitudes of the short-time Fourier transform of a recording."""
    rate, sound = scipy.io.wavfile.read(folder() / "audio" / name)
    return np.abs(scipy.signal.stft(sound / 32768.0, rate, nperseg=1024)[2])


def swimmer() -> Any:
    return np.ascontiguousarray(scipy.io.loadmat(folder() / "swimmer" / "swim.mat")["X"].astype(float))


def cbcl() -> Any:
    return np.ascontiguousarray(scipy.io.loadmat(folder() / "cbcl-faces" / "CBCL_Face.mat")["M"].astype(float))


def smooth_mixture(m: int = 300, n: int = 400, rank: int = 6, noise: float = 1e-3, seed: int = 0) -> Any:
    """Mixtures of bell-shaped spectra, as in chromatography."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, n)
    H = np.array([np.exp(-(((at - c) / w) ** 2)) for c, w in zip(rng.random(rank), 0.03 + 0.1 * rng.random(rank))])  # noqa: B905
    X = rng.gamma(0.7, size=(m, rank)) @ H
    return np.abs(X + noise * X.mean() * rng.normal(size=X.shape))


def gamma_counts(m: int = 200, n: int = 100, rank: int = 5, noise: str = "poisson", seed: int = 0) -> Any:
    """Factors from a gamma distribution, and Poisson counts of their product, or the product itself."""
    rng = np.random.default_rng(seed)
    X = 3.0 * rng.gamma(1.0, size=(m, rank)) @ rng.gamma(1.0, size=(rank, n))
    return rng.poisson(X).astype(float) if noise == "poisson" else X


def units(m: int = 400, n: int = 20, rank: int = 5, seed: int = 0) -> Any:
    """Columns in units that differ by up to 1e6."""
    rng = np.random.default_rng(seed)
    X = rng.gamma(2.0, size=(m, rank)) @ rng.gamma(0.6, size=(rank, n))
    return X * np.exp(0.1 * rng.normal(size=X.shape)) * 10.0 ** rng.integers(-3, 4, size=n)


def log_normal(m: int = 500, n: int = 60, seed: int = 0) -> Any:
    """Expression levels: the logarithm has low rank."""
    rng = np.random.default_rng(seed)
    return np.exp(0.5 * rng.normal(size=(m, 4)) @ rng.normal(size=(4, n)) + 0.3 * rng.normal(size=(m, n)))


def hyperspectral(n_pixels: int = 5000, n_bands: int = 150, rank: int = 5, seed: int = 0) -> Any:
    """Pixels that mix a few smooth spectra, and noise."""
    rng = np.random.default_rng(seed)
    at = np.linspace(0, 1, n_bands)
    waves = (0.3 + 0.2 * np.sin(2 * np.pi * (3 * rng.random() * at + rng.random())) for _ in range(rank))
    spectra = np.array([wave + 0.2 * np.exp(-(((at - rng.random()) / 0.05) ** 2)) for wave in waves])
    X = rng.dirichlet(np.full(rank, 0.4), n_pixels) @ spectra
    return np.maximum(X + 0.005 * rng.normal(size=X.shape), 0)
