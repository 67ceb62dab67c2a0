"""Half the squared error, and the normal equations of its rows."""

from __future__ import annotations

from dataclasses import dataclass

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.losses.account import CarriedAccount, MeasuredSquares
from nmfcore.losses.imputed import ImputedQuadratics
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.protocol import Account
from nmfcore.losses.quadratics import Quadratics, RowQuadratics

# By what the Gram matrices of the rows are: see nmfcore.data.protocol.Data.grams.
EQUATIONS: dict[str, type[Quadratics]] = {
    "shared": Quadratics,
    "downdated": ImputedQuadratics,
    "own": RowQuadratics,
}


@dataclass(frozen=True, slots=True)
class Frobenius:
    """``½ (x - x̂)²``."""

    beta: float = 2.0
    rough: bool = False

    def equations(self, data: Data, B: Array) -> Quadratics:
        """The normal equations."""
        return EQUATIONS[data.grams](data, data.normal(B))

    def account(self, data: Data, r: int, penalties: tuple[Penalty, Penalty], team: Team) -> Account:
        """One that is carried along by exact differences, or, where passes go through the entries, what they found."""
        if data.grams == "own":
            return MeasuredSquares(data, penalties, r, team, self)
        return CarriedAccount(data, r, penalties, team, self.rough)

    def exact(self, data: Data, W: Array, Ht: Array, team: Team) -> float:
        return 0.5 * data.squared_error(W, Ht, team)
