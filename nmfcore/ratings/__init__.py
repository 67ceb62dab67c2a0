"""Ratings with the caller's ids, read from files or triplets; a recommender, baselines and error measures for them."""

from nmfcore.ratings.baselines import GlobalMean, UserItemMeans
from nmfcore.ratings.evaluation import Evaluation, evaluate
from nmfcore.ratings.explaining import Explanation, SimilarItems
from nmfcore.ratings.ids import parse_id
from nmfcore.ratings.metrics import mae, rmse
from nmfcore.ratings.ranking import Recommendations, RecommendationTable
from nmfcore.ratings.ratings import Ratings
from nmfcore.ratings.recommender import Recommender
from nmfcore.ratings.titles import read_titles

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
