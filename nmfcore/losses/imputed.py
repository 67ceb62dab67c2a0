r"""Rows that miss few entries, moved with these imputed.

With each missing entry at what the fit makes of it, ``x̂_ij = a_i · b_j``, the row is complete, and
shares ``G`` with the others: ``C`` gains ``Σ x̂_ij b_j``. The objective of the filled row,

.. math:: \tilde f(a) = f(a) + \tfrac12 Σ_{j\ \text{missing}} (a · b_j - x̂_ij)^2,

lies above the true one and meets it, gradient included, where ``a`` is now. So what lowers it lowers ``f``, by
``½ Σ Δx̂²`` more. HALS that is free to choose its sweeps makes them in three rounds, and imputes afresh before each: so
a half-step ends about where sweeps of the row's own equations would. (One round takes more iterations, and meets a
tolerance on the KKT residual at up to twice the objective.) The residual reported is that of ``f``, by the gradient
at hand and the row's own curvature. Rows that miss most of what a component has in B would be long in coming: they
are downdated, and so are all where the solver has no such freedom.

References
----------
Zhang, Wang, Ford and Makedon, "Learning from incomplete ratings using non-negative matrix factorization", SDM 2006
(imputation as an EM algorithm).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.data.imputed import MOST_GONE, DowndatedGrams
from nmfcore.data.slabs import LEAST_ROWS
from nmfcore.kernels import imputed
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.quadratics import Quadratics

ROUNDS = 3  # in which sweeps are made, with missing entries imputed afresh before each
PATIENCE = 0.01  # rounds end when one lowers the objective by less than this share of the first


class ImputedQuadratics(Quadratics):
    """Normal equations that rows share once their few missing entries are imputed."""

    normal: DowndatedGrams

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Let ``solver`` move the rows ``lo <= i < hi`` of ``A`` into ``out``; rows that can share ``G`` do so."""
        imputes = solver.imputes
        for start, stop, C, G in self.normal.complete.blocks(lo, hi):
            rows = np.arange(start, stop)
            gone = np.empty(C.shape)
            imputed.absent(*self.normal.data.missing, self.normal.B, start, stop, gone)
            most = MOST_GONE * np.diag(self.normal.exact_G) if imputes else 0.0
            sharing = np.all(gone <= most, axis=1)
            if np.count_nonzero(sharing) < LEAST_ROWS:
                sharing[:] = False
            mine = rows[sharing]
            if mine.size:
                given, moved = A[mine], np.empty((mine.size, A.shape[1]), A.dtype)
                if imputes:
                    self._rounds(solver, mine, given, C[sharing], G, gone[sharing], penalty, sweeps, moved, tally)
                else:
                    solver.update(given, C[sharing], G, penalty, sweeps, moved, tally)
                out[mine] = moved
            mine = rows[~sharing]
            for part, own in self.normal.grams(mine, self.normal.B.dtype):
                given, moved = A[mine[part]], np.empty((len(own), A.shape[1]), A.dtype)
                solver.update(given, C[mine[part] - start], own, penalty, sweeps, moved, tally)
                out[mine[part]] = moved

    def _rounds(
        self,
        solver: Any,
        rows: Array,
        A: Array,
        C: Array,
        G: Array,
        gone: Array,
        penalty: Penalty,
        sweeps: int,
        out: Array,
        tally: Array,
    ) -> None:
        """Sweeps with missing entries at what the fit makes of them; then these are brought up to date, and again.

        ``C`` is written to.
        """
        r = A.shape[1]
        impute = partial(imputed.impute, *self.normal.data.missing, self.normal.B, rows)
        tally[2 * r + 1] += impute(A, np.zeros_like(A), C)
        tally[2 * r + 1] += imputed.violations(A, C, G[0], gone, penalty.l1, penalty.l2, tally[:r])
        before, first, each = A, 0.0, -(-sweeps // ROUNDS)
        out[:] = A
        for left in range(sweeps, 0, -max(each, 1)):
            part = np.zeros_like(tally)
            solver.update(before, C, G, penalty, min(each, left), out, part)
            # The parabola that was minimised lies above the objective, and meets it where the round began.
            fell = float(part[2 * r]) + 0.5 * impute(out, before, C)
            tally[2 * r] += fell
            if fell <= PATIENCE * first:
                break
            before, first = out.copy(), first or fell
        imputed.violations(out, C, G[0], gone, penalty.l1, penalty.l2, tally[r : 2 * r])
