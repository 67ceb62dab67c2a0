"""One file per algorithm: its derivation, its settings, its half-step, and the loop that is the equation."""

from nmfcore.solvers.base import DivergenceSolver, Penalty, Solver, Step
from nmfcore.solvers.hals import HALS
from nmfcore.solvers.mu import MU

__all__ = ["HALS", "MU", "DivergenceSolver", "Penalty", "Solver", "Step"]
