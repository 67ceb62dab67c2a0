"""Ratings with the caller's ids, read from files or triplets; a recommender, baselines and error measures for them."""

from nmfcore.ratings.baselines import GlobalMean, UserItemMeans
from nmfcore.ratings.ids import parse_id
from nmfcore.ratings.metrics import mae, rmse
from nmfcore.ratings.ratings import Ratings
from nmfcore.ratings.recommender import Recommendations, Recommender
from nmfcore.ratings.titles import read_titles

__all__ = [
    "GlobalMean",
    "Ratings",
    "Recommendations",
    "Recommender",
    "UserItemMeans",
    "mae",
    "parse_id",
    "read_titles",
    "rmse",
]
