"""Ratings with the caller's ids, read from files, frames or triplets.

The recommender, baselines and error measures stand in :mod:`nmfcore.recommender`; their names can be imported from here
as well.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nmfcore.ratings.ids import parse_id
from nmfcore.ratings.ratings import Ratings
from nmfcore.ratings.titles import read_titles

if TYPE_CHECKING:
    from nmfcore.recommender import (
        Evaluation,
        Explanation,
        GlobalMean,
        Recommendations,
        RecommendationTable,
        Recommender,
        SimilarItems,
        UserItemMeans,
        evaluate,
        mae,
        rmse,
    )

_OF_RECOMMENDER = (
    "Evaluation",
    "Explanation",
    "GlobalMean",
    "RecommendationTable",
    "Recommendations",
    "Recommender",
    "SimilarItems",
    "UserItemMeans",
    "evaluate",
    "mae",
    "rmse",
)

__all__ = [
    "Evaluation",
    "Explanation",
    "GlobalMean",
    "Ratings",
    "RecommendationTable",
    "Recommendations",
    "Recommender",
    "SimilarItems",
    "UserItemMeans",
    "evaluate",
    "mae",
    "parse_id",
    "read_titles",
    "rmse",
]


def __getattr__(name: str) -> Any:
    if name not in _OF_RECOMMENDER:
        raise AttributeError(f"module 'nmfcore.ratings' has no attribute {name!r}; it has {', '.join(__all__)}.")
    value = getattr(importlib.import_module("nmfcore.recommender"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
