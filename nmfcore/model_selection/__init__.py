"""How many components there are: choose the rank by what a fit was not shown.

The error on the entries that are fitted falls with every component that is added; that on held-out entries
(:mod:`nmfcore.holdout`) falls while components find structure, and rises when they only find noise.
"""

from nmfcore.model_selection.select import select_rank
from nmfcore.model_selection.selection import RankSelection

__all__ = ["RankSelection", "select_rank"]
