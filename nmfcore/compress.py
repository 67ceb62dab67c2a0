r"""A start from a part of X: the fit of a few rows, before all of them are asked.

The rows of a matrix with many more entries per column than there are components say much the same about H. So the
start is first improved on every sixteenth row or so, in float32, where an iteration costs a thirtieth; then one
half-step finds W for all rows, and the iterations on X itself begin close to where they end. They decide where that
is: nothing of the sample is left in the result but the place it started from.

The long side is sampled (for a wide X, the columns). It needs several entries per component in each column of the
sample, so it pays for dense matrices, and not for most sparse ones; and where an iteration takes less than a
millisecond there is nothing to save. The rows are spread evenly, each drawn from its own stretch of X, so that an
ordered X is sampled from end to end and no period of its rows is mistaken for all.

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

import numpy as np

from nmfcore import losses, missing
from nmfcore._types import Array
from nmfcore.data import Data
from nmfcore.losses import Loss
from nmfcore.parallel import Team
from nmfcore.scale import Scale
from nmfcore.solve import Iterate, Run, solve
from nmfcore.solvers.base import Penalty, Solver, half_step
from nmfcore.stopping import Stop

SHARE = 1 / 16  # of the rows,
MOST_ENTRIES = 2**24  # or fewer, that is 64 MiB,
ENTRIES_PER_COMPONENT = 16  # but so many in each column of the sample, or its factors follow the noise
MOST_SHARE = 1 / 4  # more, and the sample costs what it saves
LEAST_WORK = 5e6  # flop of an iteration on X: half a millisecond with all that is around it
SETTLED = 1e-3  # the fit of the sample ends when its objective falls by less than this share of itself an iteration,
LOOK_BACK = 3  # on the average of so many,
MOST_ITERATIONS = 100  # or after these


def compressed(
    data: Data,
    W: Array,
    Ht: Array,
    *,
    solver: Solver,
    loss: Loss,
    penalty_W: Penalty,
    penalty_H: Penalty,
    max_time: float | None,
    team: Team,
) -> tuple[Array, Array]:
    """The start ``W`` (m, r), ``Ht`` (n, r), improved on a sample of the data; as it was where that does not pay.

    Parameters
    ----------
    data : Data
        The m×n matrix.
    W, Ht : ndarray (m, r), (n, r)
        The start; not written to.
    solver : Solver
        What moves the factors.
    loss : Loss
        What they are moved down.
    penalty_W, penalty_H : Penalty
        Of the fit to come.
    max_time : float, optional
        Seconds the fit of the sample may take.
    team : Team
        Threads.
    """
    m, r = W.shape
    options = {"solver": solver, "loss": loss, "max_time": max_time, "team": team}
    if m < Ht.shape[0]:
        Ht, W = compressed(data.T, Ht, W, penalty_W=penalty_H, penalty_H=penalty_W, **options)  # type: ignore[arg-type]
        return W, Ht
    stored = max(data.values.size, 1)
    share = max(min(SHARE, MOST_ENTRIES / stored), ENTRIES_PER_COMPONENT * r * Ht.shape[0] / stored)
    if share > MOST_SHARE or 2.0 * data.work(r) < LEAST_WORK:
        return W, Ht
    rows = _spread(m, int(share * m))
    read = missing.moderate(data.some_rows(rows, np.dtype(np.float32)), loss.beta)
    part, scale = (
        read.data,
        Scale(read.scale.shift, 0, loss.beta),
    )  # weights are as the data have them, and so are penalties
    run, objectives = Run(), list[float]()

    def settled(iterate: Iterate) -> bool:
        objectives.append(iterate.objective)
        fell = objectives[max(0, len(objectives) - 1 - LOOK_BACK)] - iterate.objective
        return len(objectives) > LOOK_BACK and fell < LOOK_BACK * SETTLED * iterate.objective

    try:
        with np.errstate(over="ignore"):
            solve(
                part,
                scale.inward(W[rows]).astype(part.dtype),
                scale.inward(Ht).astype(part.dtype),
                solver=solver,
                loss=losses.make(loss.beta, part),
                penalty_W=scale.penalty(penalty_W),
                penalty_H=scale.penalty(Penalty(share * penalty_H.l1, share * penalty_H.l2)),
                stop=Stop(tol=0.0, max_iter=MOST_ITERATIONS, max_time=max_time),
                team=team,
                run=run,
                watch=settled,
            )
    except FloatingPointError:  # a start far beyond the size of the data, which float64 may bear
        return W, Ht
    assert run.last is not None
    sampled, Ht = (scale.outward(A).astype(data.dtype) for A in (run.last.W, run.last.Ht))
    W = np.repeat(sampled.mean(axis=0)[None], m, axis=0)  # of the right size, and no zeros a solver could not leave
    if data.known_rows is not None:
        W[~data.known_rows] = 0.0
    return half_step(solver, loss.equations(data, Ht), data, W, penalty_W, team).A, Ht


def _spread(m: int, count: int) -> Array:
    """``count`` of the rows 0..m-1, one from each stretch of equal length; always the same ones."""
    cuts = np.linspace(0, m, count + 1).astype(np.int64)
    return np.asarray(cuts[:-1] + (np.random.RandomState(0).random_sample(count) * np.diff(cuts)).astype(np.int64))
