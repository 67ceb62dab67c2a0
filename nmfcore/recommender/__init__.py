"""A recommender for ratings, baselines, and measures of its predictions and rankings."""

from nmfcore.recommender.baselines import GlobalMean, UserItemMeans
from nmfcore.recommender.evaluation import Evaluation, evaluate
from nmfcore.recommender.explaining import Explanation, SimilarItems
from nmfcore.recommender.metrics import mae, rmse
from nmfcore.recommender.ranking import Recommendations, RecommendationTable
from nmfcore.recommender.recommender import Recommender

__all__ = [
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
]
