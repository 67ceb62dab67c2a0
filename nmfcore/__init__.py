"""Non-negative matrix factorisation, ``X ≈ W H``: fast, monotone, certified; dense, sparse and incomplete data.

>>> import nmfcore
>>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0)
>>> f.converged
True

Public names load on first use, so that importing the package costs little more than importing NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from nmfcore import datasets, metrics, plot, reference, solvers
    from nmfcore.front_door import factorize
    from nmfcore.kernels import CacheWarning
    from nmfcore.rank import RankSelection, select_rank
    from nmfcore.ratings import Ratings, Recommender, evaluate
    from nmfcore.result import Factorization, load
    from nmfcore.stopping import ConvergenceWarning, Status
    from nmfcore.undetermined import PredictionWarning
    from nmfcore.warm import clear_cache, warmup

_HOME = {
    "CacheWarning": "nmfcore.kernels",
    "ConvergenceWarning": "nmfcore.stopping",
    "Factorization": "nmfcore.result",
    "PredictionWarning": "nmfcore.undetermined",
    "RankSelection": "nmfcore.rank",
    "Ratings": "nmfcore.ratings",
    "Recommender": "nmfcore.ratings",
    "Status": "nmfcore.stopping",
    "clear_cache": "nmfcore.warm",
    "datasets": "",
    "evaluate": "nmfcore.ratings",
    "factorize": "nmfcore.front_door",
    "load": "nmfcore.result",
    "metrics": "",
    "plot": "",
    "reference": "",
    "select_rank": "nmfcore.rank",
    "solvers": "",
    "warmup": "nmfcore.warm",
}

__all__ = [
    "CacheWarning",
    "ConvergenceWarning",
    "Factorization",
    "PredictionWarning",
    "RankSelection",
    "Ratings",
    "Recommender",
    "Status",
    "clear_cache",
    "datasets",
    "evaluate",
    "factorize",
    "load",
    "metrics",
    "plot",
    "reference",
    "select_rank",
    "solvers",
    "warmup",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nmfcore' has no attribute {name!r}; it has {', '.join(sorted(_HOME))}.")
    home = _HOME[name]
    value = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"nmfcore.{name}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
