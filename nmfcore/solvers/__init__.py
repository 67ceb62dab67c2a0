"""One file per algorithm: its derivation, its settings, its half-step, and the loop that is the equation."""

from nmfcore.losses.penalty import Penalty
from nmfcore.losses.step import Step
from nmfcore.solvers.base import DivergenceSolver, Solver
from nmfcore.solvers.hals import HALS
from nmfcore.solvers.mu import MU

__all__ = ["HALS", "MU", "DivergenceSolver", "Penalty", "Solver", "Step"]
