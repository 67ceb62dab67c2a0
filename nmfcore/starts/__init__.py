"""Where a fit starts: random numbers, singular vectors, a fit of some rows."""

from nmfcore.starts.begin import INITS, SINGULAR, chosen, clear_unknown, own, random, start, within_range
from nmfcore.starts.svd import FAST, about_equal, nndsvd, rough_svd, truncated_svd

__all__ = [
    "FAST",
    "INITS",
    "SINGULAR",
    "about_equal",
    "chosen",
    "clear_unknown",
    "nndsvd",
    "own",
    "random",
    "rough_svd",
    "start",
    "truncated_svd",
    "within_range",
]
