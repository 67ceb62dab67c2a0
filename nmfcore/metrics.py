"""Measures of predictions and recommendations: errors of ratings, and how good ranked lists are.

``rmse`` and ``mae`` compare ratings one by one; the others look at the list of one user. `nmfcore.evaluate` does all of
it for a model and held-out ratings.

>>> from nmfcore import metrics
>>> metrics.rmse([4, 3], [5, 3]), metrics.recall_at_k(["a", "b"], ["b", "c"], k=2)
(0.7071067811865476, 0.5)
"""

from nmfcore.recommender.metrics import mae, rmse
from nmfcore.recommender.ranked import coverage, map_at_k, ndcg_at_k, precision_at_k, recall_at_k

__all__ = ["coverage", "mae", "map_at_k", "ndcg_at_k", "precision_at_k", "recall_at_k", "rmse"]
