"""What is raced on, and what the race must show there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import datasets
from benchmarks.objective import FROBENIUS, KL

GROUPS = ("dense", "sparse", "kl", "masked")
GEOMETRIC_MEAN, DEFAULTS_TIME, DEFAULTS_OBJECTIVE = 10.0, 5.0, 1.001  # goals over all cases


@dataclass(frozen=True)
class Case:
    """A matrix, its rank, and the peer whose objective is the target; ``goal`` is a ratio of times, or None."""

    name: str
    group: str
    rank: int
    load: Callable[[], Any]
    peer: str = "sklearn-cd"
    goal: float | None = None
    dtype: str = "float64"

    @property
    def loss(self) -> str:
        return KL if self.group == "kl" else FROBENIUS

    @property
    def masked(self) -> bool:
        return self.group == "masked"


def full() -> list[Case]:
    large = partial(datasets.planted_dense, 8000, 4000)
    return [
        Case("digits", "dense", 16, datasets.digits, goal=5),
        Case("golub-all-aml", "dense", 5, datasets.golub, goal=5),
        Case("olivetti-faces", "dense", 40, datasets.olivetti, goal=10),
        Case("indian-pines", "dense", 20, datasets.indian_pines, goal=10),
        Case("kmnist-test", "dense", 50, datasets.kmnist, goal=6),
        Case("planted-dense", "dense", 20, large, goal=8),
        Case("planted-dense-f32", "dense", 20, large, goal=8, dtype="float32"),
        Case("reuters21578", "sparse", 20, datasets.reuters, goal=8),
        Case("newsgroups20", "sparse", 20, datasets.newsgroups, goal=8),
        Case("planted-sparse", "sparse", 20, datasets.planted_sparse),
        Case("planted-words", "sparse", 20, datasets.planted_words),
        Case("newsgroups20-kl", "kl", 20, datasets.newsgroups, "sklearn-mu", 40),
        Case("pbmc-facs-kl", "kl", 6, datasets.pbmc, "sklearn-mu", 40),
        Case("kmnist-test-kl", "kl", 50, datasets.kmnist, "sklearn-mu", 8),
        Case("planted-ratings", "masked", 10, datasets.planted_ratings, "numpy"),
        Case("ml-100k", "masked", 10, datasets.movielens, "numpy"),
    ]


def quick() -> list[Case]:
    """Small, and without a goal: to see that everything runs."""
    return [
        Case("digits", "dense", 16, datasets.digits),
        Case("small-dense-f32", "dense", 8, partial(datasets.planted_dense, 600, 400, 8), dtype="float32"),
        Case("small-words", "sparse", 8, partial(datasets.planted_words, 800, 2000, 8, 60)),
        Case("small-words-kl", "kl", 8, partial(datasets.planted_words, 800, 2000, 8, 60), "sklearn-mu"),
        Case("small-ratings", "masked", 6, partial(datasets.planted_ratings, 200, 300, 5000), "numpy"),
    ]
