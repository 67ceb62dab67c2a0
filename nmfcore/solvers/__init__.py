"""One file per algorithm: its derivation, its settings, its half-step, and the loop that is the equation."""

from nmfcore.losses.penalty import Penalty
from nmfcore.losses.step import Step
from nmfcore.solvers.base import BaseSolver
from nmfcore.solvers.hals import HALS
from nmfcore.solvers.mu import MU

Solver = DivergenceSolver = BaseSolver  # names of versions before 0.2

__all__ = ["HALS", "MU", "BaseSolver", "DivergenceSolver", "Penalty", "Solver", "Step"]
