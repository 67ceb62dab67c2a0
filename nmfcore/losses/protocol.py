r"""What a fit minimises: half the squared error, or another β-divergence; and the account the loop keeps of it.

.. math:: d_β(x | x̂) = \frac{x^β + (β-1) x̂^β - β x x̂^{β-1}}{β (β-1)}, \qquad
    d_1 = x \log\frac{x}{x̂} - x + x̂, \qquad d_0 = \frac{x}{x̂} - \log\frac{x}{x̂} - 1;

``d_2`` is half the squared error (Frobenius), ``d_1`` the Kullback-Leibler divergence, for counts, ``d_0`` that of
Itakura and Saito, for power spectra, where only the ratio of x to x̂ matters.

A loss makes of the data and the factor that is fixed the *equations* of the rows of the other, which a solver moves
by. For the Frobenius loss these are normal equations, in which X no longer appears, and from which every difference
of the objective follows exactly. The other divergences go through the entries each time: the value comes with every
pass, of the factor that the pass was given.

References
----------
Févotte and Idier, "Algorithms for nonnegative matrix factorization with the β-divergence", Neural Computation 23, 2011.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.step import Step


class RangeError(ValueError, FloatingPointError):
    """X spans more than the arithmetic holds."""


class Account(Protocol):
    """The value of the objective, as the loop goes on; ``measures`` tells that each pass finds it out afresh.

    ``off`` is by how much the value came out higher as it was last recomputed; 0 if the last fall did not recompute it.
    """

    value: float
    left: float  # what `kkt` found left to explain, as a share of X
    off: float
    measures: ClassVar[bool]

    def start(self, W: Array, Ht: Array, step_H: Step) -> None:
        """Begin at ``(W, Ht)``, which ``step_H`` looked at."""

    def look(self, step_W: Step, W: Array, Ht: Array) -> None:
        """Learn what there is to learn from a step for W that was given ``(W, Ht)``."""

    def kkt(self, rho_W: Array, rho_H: Array, W: Array, Ht: Array) -> float:
        """The KKT residual, from the sums of both half-steps."""

    def decrease(self, step_W: Step, Y: Array, step_H: Step) -> float:
        """How far the objective falls by going from W to ``Y`` instead of ``step_W.A``, and on by ``step_H``."""

    def fall(self, amount: float, W: Array, Ht: Array) -> None:
        """Go on to ``(W, Ht)``, that much lower."""

    def stalled(self, decrease: float, kkt: float) -> bool:
        """Whether a decrease as small as this is rounding, and nothing more is to be had."""


class Loss(Protocol):
    """A loss, and what the loop needs it for."""

    @property
    def beta(self) -> float:
        """Which β-divergence it is."""

    @property
    def rough(self) -> bool:
        """Whether two digits or so of its value will do."""

    def equations(self, data: Data, B: Array) -> Any:
        """The equations of the rows, for one fixed ``B``."""

    def account(self, data: Data, r: int, penalties: tuple[Penalty, Penalty], team: Team) -> Account:
        """An account of the objective."""

    def exact(self, data: Data, W: Array, Ht: Array, team: Team) -> float:
        """The loss entry by entry, in float64."""
