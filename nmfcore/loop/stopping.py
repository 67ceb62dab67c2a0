"""When a fit ends and what it says of itself: the status, the rule, the warning."""

from __future__ import annotations

import enum
from dataclasses import dataclass

HALF = 10.0  # times tol: the most that the last half of the iterations may have lowered the objective, as a share of it
LAST = 0.1  # times tol: the same for the last iteration
EXACT = 1e-3  # times tol: a fit that leaves no more of ‖X‖ than that is exact, however its objective still falls


class ConvergenceWarning(UserWarning):
    """A fit ended before it converged."""


class Status(enum.Enum):
    """Why a fit ended, and what to do if that is not what you wanted."""

    CONVERGED = "The KKT residual reached tol, and the objective hardly falls any more."
    STALLED = (
        "The objective no longer falls beyond rounding. If the KKT residual is not as small as you need: pass float64 "
        "data, or, with multiplicative updates, start without zeros (they cannot leave one) or use HALS."
    )
    MAX_ITER = "max_iter iterations were made before the fit converged; raise max_iter or tol."
    MAX_TIME = "max_time seconds passed before the fit converged; raise max_time or tol."
    CALLBACK = "The callback raised StopIteration."
    INTERRUPTED = "Interrupted; this is the last complete iterate. Pass W=f.W, H=f.H to factorize to go on from it."


@dataclass(frozen=True, slots=True)
class Stop:
    """The limits of a fit: its tolerance, a number of iterations, seconds of wall-clock time (or None)."""

    tol: float
    max_iter: int
    max_time: float | None = None

    def settled(self, objective: float, last: float, half: float) -> bool:
        """Whether the recent falls of the objective promise no more than ``10 tol`` of it.

        A residual that is small for a moment is not enough: on a plateau, and where steps crawl, each step promises
        next to nothing and a thousand of them a lot. A fall that shrinks as 1/n promises as much again as the last
        half of the iterations gave; one that shrinks faster promises less.

        Parameters
        ----------
        objective, last, half : float
            The objective now, one iteration ago, and when half of the iterations had been made.
        """
        return last - objective <= LAST * self.tol * objective and half - objective <= HALF * self.tol * objective
