r"""A start from a part of X: the fit of a few rows, before all of them are asked.

The rows of a matrix with many more entries per column than there are components say much the same about H. So the
start is first improved on one row in thirty-two, then on one in four, in float32, where an iteration costs a
sixtieth and an eighth; then one half-step finds W for all rows, and the iterations on X itself begin close to where
they end. They decide where that is: nothing of the samples is left in the result but the place it started from.

The long side is sampled (for a wide X, the columns). It needs several entries per component in each column of the
sample, so it pays for dense matrices, and not for most sparse ones. The rows are spread evenly, each drawn from its own
stretch of X, so that an ordered X is sampled from end to end and no period of it is mistaken for all.

Where a few rows hold most of X (genes, words) such a sample tells little, and what it did tell led every second fit of
such counts to a worse minimum. There the heaviest rows, which hold nine tenths of the objective, are the sample, if X
is dense and complete and they are an eighth of its rows or fewer: golub-all-aml (5000 genes, of which 400 do) is
met after one or two iterations on all of X instead of 8 to 15, in the same minimum. In between, evenly spread rows have
to be more: X counts as the ``(Σ q)² / Σ q²`` rows alike that would be as uneven as rows of weights ``q``.

Where an iteration takes less than a third of a millisecond there is nothing to save.

Measured against the compression of X by random projections (Tepper and Sapiro, IEEE TSP 64, 2016; the warm start of
Zhou, Cichocki and Xie, IEEE TSP 60, 2012): the projections cost several products with all of X, their factors are
dense in every iteration, and what they leave out is not noise in data such as images, where they saved a fifth of the
iterations on X and the sample half to nine tenths.

References
----------
Mensch et al., "Stochastic subsampling for factorizing huge matrices", IEEE TSP 66, 2018, section III (factors from
samples of rows and columns; there to the end, here to begin with).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace

import numpy as np

from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.loop.mixed_precision import Single
from nmfcore.loop.solve import Iterate, Plan
from nmfcore.loop.stopping import Stop

SHARES = 1 / 32, 1 / 4  # of the rows, one after the other;
MOST_ENTRIES = 2**22  # or fewer, which with their copy in float32 take 48 MiB
ENTRIES_PER_COMPONENT = 16  # needed in each column of a sample, in even rows: with 8, one fit in ten ended worse
HEAVY = 0.9  # of the objective: where so much belongs to few rows, the sample is these rows,
MOST_HEAVY = 1 / 8  # to this share of all rows
LEAST_WORK = 3e6  # flop of an iteration on X: a third of a millisecond with all that is around it
SETTLED = 1e-3  # the fit of a sample ends when its objective falls by less than this share of itself an iteration,
LOOK_BACK = 3  # on the average of so many,
MOST_ITERATIONS = 100  # or after these


def compressed(data: Data, W: Array, Ht: Array, plan: Plan, deadline: float) -> tuple[Array, Array, Plan]:
    """The start ``W`` (m, r), ``Ht`` (n, r), improved on samples of the data; as it was where that does not pay.

    With it comes the plan for going on from there.

    Parameters
    ----------
    data : Data
        The m×n matrix.
    W, Ht : ndarray (m, r), (n, r)
        The start; not written to.
    plan : Plan
        Of the fit to come.
    deadline : float
        When, on the clock of ``time.perf_counter``, no fit of a sample may be going on.
    """
    m, r = W.shape
    if m < Ht.shape[0]:
        Ht, W, turned = compressed(data.T, Ht, W, plan.T, deadline)
        return W, Ht, turned.T
    start_W, start_Ht, first = W, Ht, plan
    for rows, share in _samples(data, r, plan):
        if time.perf_counter() >= deadline:
            break
        penalties = plan.penalty_W.rows(rows), plan.penalty_H.shared(share)
        try:
            part = replace(plan, penalty_W=penalties[0], penalty_H=penalties[1])
            sampled, Ht = _fit(data.some_rows(rows), W[rows], Ht, part, deadline)
        except FloatingPointError:  # a start far beyond the size of the data, which float64 may bear
            return start_W, start_Ht, first
        plan = replace(plan, gentle=0)
        W = np.repeat(sampled.mean(axis=0)[None], m, axis=0)  # of the right size
        if plan.solver.zeros_are_final:  # what the sample knows nothing of must not be lost for good
            W, Ht = np.where(W > 0, W, start_W), np.where(Ht > 0, Ht, start_Ht)
        if data.known_rows is not None:
            W[~data.known_rows] = 0.0
    if W is start_W:
        return W, Ht, plan
    return plan.step(data, W, Ht).A, Ht, plan


def _samples(data: Data, r: int, plan: Plan) -> list[tuple[Array, float]]:
    """Which rows to fit first, one sample after the other, and what share of the loss is theirs."""
    if 2.0 * data.work(r) < LEAST_WORK:
        return []
    m, stored = data.shape[0], max(data.values.size, 1)
    least = ENTRIES_PER_COMPONENT * r * data.shape[1] / stored  # as a share of the rows
    if least > SHARES[-1]:
        return []
    weights = _weights(data, plan)
    if not weights.any():
        return []
    heaviest = np.sort(weights)[::-1]
    heavy = max(int(np.searchsorted(np.cumsum(heaviest), HEAVY)) + 1, math.ceil(least * m))
    rows = np.flatnonzero(weights >= heaviest[min(heavy, m) - 1])
    # Where entries are missing or weigh more and less, a row's sum does not tell; a sparse X is mostly its heaviest.
    dense = data.counts is None and data.values.ndim == 2
    if dense and rows.size <= MOST_HEAVY * m and rows.size * data.shape[1] <= MOST_ENTRIES:
        return [(rows, float(weights[rows].sum()))]
    least *= m * float((weights**2).sum())  # as many rows that weigh alike would be as uneven as 1 / Σ q²
    shares = [min(max(share, least), MOST_ENTRIES / stored) for share in SHARES]
    shares = [share for share in sorted(set(shares)) if least <= share <= SHARES[-1]]
    return [(_spread(m, int(share * m)), share) for share in shares]


def _weights(data: Data, plan: Plan) -> Array:
    """What share of the objective is each row's, about: the sum of its entries to the power β."""
    sums = data.times(np.ones((data.shape[1], 1), data.dtype), plan.team)[:, 0].astype(np.float64)
    sums = np.maximum(sums, 0.0)  # rounding, where missing entries count as the mean
    weights = (sums / max(sums.max(), np.finfo(float).tiny)) ** max(plan.loss.beta, 0.0)
    return np.asarray(weights / max(weights.sum(), np.finfo(float).tiny))


def _fit(data: Data, W: Array, Ht: Array, plan: Plan, deadline: float) -> tuple[Array, Array]:
    """Both factors of such data when the objective has settled, found in float32."""
    objectives = list[float]()

    def settled(iterate: Iterate) -> bool:
        objectives.append(iterate.objective)
        fell = objectives[max(0, len(objectives) - 1 - LOOK_BACK)] - iterate.objective
        return len(objectives) > LOOK_BACK and fell < LOOK_BACK * SETTLED * iterate.objective

    stop = Stop(tol=0.0, max_iter=MOST_ITERATIONS, max_time=max(0.0, deadline - time.perf_counter()))
    single = Single.of(data, plan)
    last = single.outward(single.solve(W, Ht, stop=stop, watch=settled))
    return last.W.astype(data.dtype, copy=False), last.Ht.astype(data.dtype, copy=False)


def _spread(m: int, count: int) -> Array:
    """``count`` of the rows 0..m-1, one from each stretch of equal length; always the same ones."""
    cuts = np.linspace(0, m, count + 1).astype(np.int64)
    return np.asarray(cuts[:-1] + (np.random.RandomState(0).random_sample(count) * np.diff(cuts)).astype(np.int64))
