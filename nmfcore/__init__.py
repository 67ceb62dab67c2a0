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

from nmfcore._version import __version__ as __version__

if TYPE_CHECKING:
    from nmfcore import datasets, metrics, plot, reference, solvers
    from nmfcore._warmup import clear_cache, warmup
    from nmfcore.api.factorize import factorize
    from nmfcore.api.result import Factorization, load
    from nmfcore.api.undetermined import PredictionWarning
    from nmfcore.kernels import CacheWarning
    from nmfcore.loop.stopping import ConvergenceWarning, Status
    from nmfcore.model_selection import RankSelection, select_rank
    from nmfcore.ratings import Ratings
    from nmfcore.recommender import Recommender, evaluate

_HOME = {
    "CacheWarning": "nmfcore.kernels",
    "ConvergenceWarning": "nmfcore.loop.stopping",
    "Factorization": "nmfcore.api.result",
    "PredictionWarning": "nmfcore.api.undetermined",
    "RankSelection": "nmfcore.model_selection",
    "Ratings": "nmfcore.ratings",
    "Recommender": "nmfcore.recommender",
    "Status": "nmfcore.loop.stopping",
    "clear_cache": "nmfcore._warmup",
    "datasets": "",
    "evaluate": "nmfcore.recommender",
    "factorize": "nmfcore.api.factorize",
    "load": "nmfcore.api.result",
    "metrics": "",
    "plot": "",
    "reference": "",
    "select_rank": "nmfcore.model_selection",
    "solvers": "",
    "warmup": "nmfcore._warmup",
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
