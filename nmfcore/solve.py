"""The one loop: iterations, stopping, history, time, callbacks and interrupts, for every solver and storage.

The two half-steps side by side are the algorithm; everything else here is keeping account of it:

    W  = half_step(data,   W,  Ht)
    Ht = half_step(data.T, Ht, W)

**Free certificates.** The step for H reports the KKT residual of the H it leaves, for the W it used; the next step
for W reports that of the W it is given, for the same H. So the certificate of an iterate is complete half a pass
after it, and the step for W that completed it is thrown away if it was the last.

**Free objective.** Each half-step reports the exact amount by which the objective fell. The objective is carried
forward by those amounts, and recomputed entry by entry only when it has fallen so far that rounding would show.

**Extrapolation** (Nesterov's, with restarts). The step that W made is carried on, ``Y = W + b (W - W_before)``, and
H is moved with ``Y`` in place of W. (What that changes in the objective follows from products at hand, or, where
entries are missing, from one pass over the observed ones, which costs little beside their Gram matrices.) If the
objective would be above where the iteration began, the momentum is dropped and H moved with the plain W instead,
which cannot raise it: so the objective never rises, and limit points are stationary. Only W is carried on: the pair
``(Y, H)`` is feasible, and its certificate remains free.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data
from nmfcore.kernels import factors
from nmfcore.parallel import Team
from nmfcore.solvers.base import Penalty, Solver, Step, half_step
from nmfcore.stopping import Status, Stop, kkt_residual

EXACT = 1e-9  # of Σ x²: below this the objective is recomputed at every iterate
AFFORDABLE = 1e9  # flop; a sparse X may be so large that its unstored zeros cannot be gone through one by one
REFRESH = 1e-3  # recompute the objective when it has fallen to this share of where it was last exact


@dataclass(frozen=True, slots=True)
class Iterate:
    """An estimate with its certificate: ``X ≈ W Htᵀ``."""

    W: Array
    Ht: Array
    objective: float
    kkt: float
    n_iter: int
    seconds: float


@dataclass(slots=True)
class Run:
    """What a fit has to show so far; complete at any time, so an interrupt loses only the iteration it hit."""

    iterates: list[tuple[int, float, float, float]] = field(default_factory=list)  # n_iter, objective, kkt, seconds
    last: Iterate | None = None
    status: Status = Status.INTERRUPTED
    began: float = field(default_factory=time.perf_counter)

    def record(self, iterate: Iterate) -> None:
        """Add an iterate to the history."""
        self.iterates.append((iterate.n_iter, iterate.objective, iterate.kkt, iterate.seconds))
        self.last = iterate


class Momentum:
    """Nesterov's sequence: 0 at first and after each restart, then rising towards 1."""

    def __init__(self) -> None:
        self._t = 1.0

    def next(self) -> float:
        """The share of the last step to carry on now."""
        t, self._t = self._t, (1.0 + math.sqrt(1.0 + 4.0 * self._t**2)) / 2.0
        return (t - 1.0) / self._t

    def restart(self) -> None:
        """Begin again from a plain step."""
        self._t = 1.0


class Objective:
    """The value of the objective, carried along by exact differences."""

    def __init__(self, data: Data, r: int, penalty_W: Penalty, penalty_H: Penalty, team: Team) -> None:
        self._data, self._team = data, team
        self._penalties = penalty_W, penalty_H
        self._affordable = data.exact_work(r) <= max(AFFORDABLE, 20.0 * data.work(r))
        self.value = self._reference = math.inf

    def start(self, W: Array, Ht: Array, fit: float) -> None:
        """Begin at ``½(Σ x² + fit)``, or entry by entry where that difference has lost too many digits."""
        size = self._data.sum_squares
        error = 0.5 * (size + fit)
        if error < REFRESH * size and self._affordable:
            error = 0.5 * self._data.squared_error(W, Ht, self._team)
        self.value = self._reference = max(error, 0.0) + self._penalty(W, Ht)

    def fall(self, amount: float, W: Array, Ht: Array) -> None:
        """Go down by an exact amount to the value at ``(W, Ht)``."""
        self.value = max(self.value - amount, 0.0)
        # Close to an exact fit the steps of components that nearly repeat each other cancel in the sum.
        if self._affordable and self.value < max(REFRESH * self._reference, EXACT * self._data.sum_squares):
            exact = 0.5 * self._data.squared_error(W, Ht, self._team) + self._penalty(W, Ht)
            self.value = self._reference = exact

    def _penalty(self, W: Array, Ht: Array) -> float:
        pairs = zip(self._penalties, (W, Ht), strict=True)
        return sum((p.of(factors.column_moments(A)) for p, A in pairs), start=0.0)


def solve(
    data: Data,
    W: Array,
    Ht: Array,
    *,
    solver: Solver,
    penalty_W: Penalty,
    penalty_H: Penalty,
    stop: Stop,
    team: Team,
    run: Run,
    watch: Callable[[Iterate], bool],
) -> None:
    """Move ``W`` (m, r) and ``Ht`` (n, r) until a limit of ``stop`` is met, recording each iterate in ``run``.

    Parameters
    ----------
    data : Data
        What is factorised.
    W, Ht : ndarray (m, r), (n, r)
        The start; not written to.
    solver : Solver
        What moves one factor.
    penalty_W, penalty_H : Penalty
        Added to the objective.
    stop : Stop
        When to end.
    team : Team
        Threads.
    run : Run
        Where the iterates go; it is complete whenever this function is left, by an exception too.
    watch : callable
        Called with each iterate; True ends the fit.
    """
    norm_X = math.sqrt(data.sum_squares)
    # The share of decrease that is noise: each gradient carries an error of about eps·‖X‖.
    noise = 4.0 * W.shape[1] * float(np.finfo(data.dtype).eps) ** 2 * data.sum_squares
    objective = Objective(data, W.shape[1], penalty_W, penalty_H, team)
    momentum = Momentum()
    before: Array | None = None  # the W of the iteration before, not carried on

    step_H = half_step(solver, data.T, Ht, W, penalty_H, team, move=False)
    objective.start(W, Ht, step_H.fit)
    rho_H, decrease, n_iter = step_H.before, math.inf, 0
    while True:
        step_W = half_step(solver, data, W, Ht, penalty_W, team, move=n_iter < stop.max_iter)
        if not math.isfinite(objective.value):
            raise FloatingPointError(_overflow(objective.value, n_iter))
        squares_W, squares_H = factors.column_moments(W)[1], factors.column_moments(Ht)[1]
        kkt = kkt_residual(step_W.before, rho_H, squares_W, squares_H, norm_X)
        iterate = Iterate(W, Ht, objective.value, kkt, n_iter, time.perf_counter() - run.began)
        run.record(iterate)
        ended = _ended(iterate, stop, stalled=decrease <= noise)
        if watch(iterate):
            ended = ended or Status.CALLBACK
        if ended:
            run.status = ended
            return

        plain, rise = step_W.A, 0.0
        W = plain
        if solver.extrapolate and before is not None:
            W, rise = _carry_on(step_W, before, momentum.next(), solver.floor, data, penalty_W, team)
        step_H = half_step(solver, data.T, Ht, W, penalty_H, team)
        decrease = step_W.decrease - rise + step_H.decrease
        if W is not plain and not decrease >= 0.0:
            momentum.restart()
            W = plain
            step_H = half_step(solver, data.T, Ht, W, penalty_H, team)
            decrease = step_W.decrease + step_H.decrease
        Ht, rho_H, before = step_H.A, step_H.after, plain
        objective.fall(decrease, W, Ht)
        n_iter += 1


def _carry_on(
    step: Step, before: Array, momentum: float, floor: float, data: Data, penalty: Penalty, team: Team
) -> tuple[Array, float]:
    """``Y = W + momentum (W - before)``, and how far that raises the objective (often less than nothing)."""
    if momentum == 0.0:
        return step.A, 0.0
    Y = factors.extrapolate(step.A, before, momentum, floor)
    slabs = data.slabs(Y.shape[1])
    rise = sum(team.map(lambda lo, hi: step.normal.change(step.A, Y, *penalty, lo, hi), slabs))
    return Y, rise


def _ended(iterate: Iterate, stop: Stop, *, stalled: bool) -> Status | None:
    if iterate.kkt <= stop.tol:
        return Status.CONVERGED
    if stalled:
        return Status.STALLED
    if iterate.n_iter >= stop.max_iter:
        return Status.MAX_ITER
    if stop.max_time is not None and iterate.seconds >= stop.max_time:
        return Status.MAX_TIME
    return None


def _overflow(value: float, n_iter: int) -> str:
    return (
        f"the objective became {value} at iteration {n_iter}: the arithmetic overflowed. Give starting factors and "
        "penalties of the size of the data, or use float64."
    )
