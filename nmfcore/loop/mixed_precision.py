"""Iterations in float32 on float64 data: vectors hold twice as many numbers, and half as much is read.

Where an iterate came from does not matter to what it is worth; that is found out in float64. So HALS on complete
float64 data, the Frobenius loss, goes on from its start in float32 until it converges, or its steps come near what
rounding does to them. Then it goes on in float64 from the last iterate, which is looked at again: its objective and
residual are found with all digits, and it ends the fit only if these say so. ``precision="auto"`` does this where it
saves time and the start is nmfcore's own.

Measured on two threads with AVX2: default fits of Olivetti faces (rank 40), 10,000 characters (rank 50) and 20
newsgroups (rank 20) take .6 to .7 of the time, with as many iterations, to the same objective; fits that end after
one or two iterations take up to a sixth longer. What a callback, or an interrupt, is told of an objective meanwhile
is off by 1e-9 to 1e-8 of ``Σ x²``, by up to 1e-5 where columns of half a million entries are summed up, nearly all of
it from the beginning. In the history that is put right when float64 takes over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from nmfcore import losses
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.loop.solve import Estimate, Iterate, Overflow, Plan, Run, solve
from nmfcore.loop.stopping import Stop
from nmfcore.losses.scale import Scale
from nmfcore.reading import missing

SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
MOST_ENTRIES = 10_000_000  # to be copied: 40 MB; a sparse X is stored by columns too
LEAST_WORK = 2e7  # flop of an iteration
FEWEST = 3  # iterations, with which the conversion is worth it
NEGLIGIBLE = 2.0**-64  # of the largest entry of X: what belongs to smaller ones may be 0 in float32
SETTLED = 2e-8  # of Σ x²: iterations that lower the objective by less are left to float64, on the average
LOOK_BACK = 3  # of so many


class Single(NamedTuple):
    """A problem in float32: its data and plan, and the scale of both."""

    data: Data
    plan: Plan
    scale: Scale

    @classmethod
    def of(cls, data: Data, plan: Plan) -> Single:
        """The same problem; weights and the counts of penalties stay as they are."""
        beta = plan.loss.beta
        with np.errstate(over="ignore", under="ignore"):
            read = missing.moderate(data, beta, SINGLE)
            part, scale = read.data.astype(SINGLE), Scale(read.scale.shift, 0, beta)
        penalty_W, penalty_H = scale.penalty(plan.penalty_W), scale.penalty(plan.penalty_H)
        return cls(
            part,
            replace(plan, loss=losses.make(beta, part, rough=True), penalty_W=penalty_W, penalty_H=penalty_H),
            scale,
        )

    def solve(
        self, W: Array, Ht: Array, *, stop: Stop, watch: Callable[[Iterate], bool], began: float | None = None
    ) -> Estimate:
        """The last iterate of :func:`nmfcore.loop.solve.solve`, in float32 and this scale, as ``watch`` sees them all.

        Raises
        ------
        Overflow
            If float32 does not hold what float64 does.
        """
        run = Run() if began is None else Run(began=began)
        theirs = np.geterr()

        def as_they_have_it(iterate: Iterate) -> bool:
            with np.errstate(**theirs):
                return watch(iterate)

        with np.errstate(over="ignore", under="ignore"):
            W, Ht = (self.scale.inward(A).astype(SINGLE) for A in (W, Ht))
            solve(self.data, W, Ht, self.plan, stop=stop, run=run, watch=as_they_have_it)
        assert run.last is not None
        return run.last

    def outward(self, iterate: Estimate) -> Outside:
        """An iterate as the data have it."""
        return Outside(iterate, self.scale)


class Outside:
    """An iterate of float32 in float64 and the scale of the data; its factors are converted when they are looked at.

    Seldom is more than the last one looked at, and to convert large factors takes a tenth of an iteration.
    """

    def __init__(self, inside: Estimate, scale: Scale) -> None:
        self._inside, self._scale = inside, scale
        self.objective, self.off = scale.objective(inside.objective), scale.objective(inside.off)
        self.kkt, self.n_iter, self.seconds = inside.kkt, inside.n_iter, inside.seconds

    @property
    def W(self) -> Array:
        """(m, r)."""
        return self._scale.outward(self._inside.W.astype(DOUBLE))

    @property
    def Ht(self) -> Array:
        """(n, r)."""
        return self._scale.outward(self._inside.Ht.astype(DOUBLE))


def begun_in_single(
    data: Data, W: Array, Ht: Array, plan: Plan, *, stop: Stop, run: Run, watch: Callable[[Estimate], bool]
) -> tuple[Array, Array]:
    """Where the fit goes on after iterations in float32.

    They are iterations like others: they count, ``run`` has them and ``watch`` sees them and may end them. Arguments
    as for :func:`nmfcore.loop.solve.solve`.
    """
    single = Single.of(data, plan)
    least = LOOK_BACK * SETTLED * data.sum_squares

    def settled(inside: Iterate) -> bool:
        iterate = single.outward(inside)
        run.record(iterate)
        before = run.iterates[-1 - LOOK_BACK][1] if iterate.n_iter >= LOOK_BACK else math.inf
        return watch(iterate) or before - iterate.objective < least

    # If float32 overflows, float64 may bear it, or will say what is wrong.
    with suppress(Overflow):
        single.solve(W, Ht, stop=stop, watch=settled, began=run.began)
    return (run.last.W, run.last.Ht) if run.last is not None and run.last.n_iter > 0 else (W, Ht)


def possible(data: Data, plan: Plan) -> bool:
    """Whether a fit can begin in float32: HALS, the Frobenius loss, and complete data in float64."""
    return (
        data.counts is None
        and data.dtype == DOUBLE
        and plan.loss.beta == 2.0
        and not plan.solver.zeros_are_final  # what float32 rounds to 0 would be lost
    )


def pays(data: Data, r: int, plan: Plan, stop: Stop) -> bool:
    """Whether iterations in float32 save time, and X is within its range."""
    return (
        possible(data, plan)
        and stop.max_iter >= FEWEST
        and data.values.size * (1 if data.stores_zeros else 2) <= MOST_ENTRIES
        and 2.0 * data.work(r) >= LEAST_WORK
        and data.summary.smallest >= NEGLIGIBLE * data.summary.largest
    )
