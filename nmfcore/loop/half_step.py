"""What every solver shares: a half-step over all rows of one factor, and what it reports.

A half-step moves one factor ``A`` (m, r) with the other, ``B`` (n, r), fixed. Its rows do not see each other, so
they are done slab by slab. Besides the new factor it reports what it knows anyway: the KKT residual of the factor
it was given and of the one it leaves, and the exact decrease it made; the loop need not go over the work again to
learn how it is doing.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.step import Equations, Step
from nmfcore.solvers.base import BaseSolver

MANY = 2**30  # sweeps: as many as the solver likes


def half_step(
    solver: BaseSolver, equations: Equations, data: Data, A: Array, penalty: Penalty, team: Team, most: int = MANY
) -> Step:
    """Move ``A`` by its equations; with ``most=0`` only report on it.

    Parameters
    ----------
    solver : BaseSolver
        The algorithm.
    equations : Equations
        What a loss makes of the data and the factor that is fixed.
    data : Data
        The m×n matrix.
    A : ndarray (m, r)
        The factor that moves; not written to.
    penalty : Penalty
        Of ``A``.
    team : Team
        Whose threads share out the slabs.
    most : int
        Sweeps to make at most.
    """
    r = A.shape[1]
    sweeps = min(solver.sweeps_for(data, r), most)
    out = np.empty_like(A)
    equations.prepare(A, team)

    def slab(lo: int, hi: int) -> Array:
        tally = equations.tally(r)
        equations.move(solver, A, lo, hi, penalty, sweeps, out, tally)
        return tally

    # In the order of the slabs: the same bits for any team.
    return equations.report(out, reduce(add, team.map(slab, equations.slabs(r, sweeps))))
