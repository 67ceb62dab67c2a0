"""The one loop: iterations, stopping, history, time, callbacks and interrupts, for every solver and storage.

The two half-steps side by side are the algorithm; everything else here is keeping account of it:

    W  = plan.step(data,     W,  Ht)
    Ht = plan.T.step(data.T, Ht, W)

**Free certificates.** The step for H reports the KKT residual of the H it leaves, for the W it used; the next step
for W reports that of the W it is given, for the same H. So the certificate of an iterate is complete half a pass
after it, and the step for W that completed it is thrown away if it was the last. (Multiplicative updates of a loss
other than the quadratic know only the residual of the H they were given. It stands in, until it would end the fit:
what ends a fit is certified by half a pass more.)

**Free objective.** Each half-step reports the exact amount by which a quadratic objective fell. It is carried forward
by those amounts, and recomputed entry by entry only when it has fallen so far that rounding would show. Other losses
are measured by each pass, at the factors it was given: :mod:`nmfcore.losses` keeps either account.

**Extrapolation** (Nesterov's, with restarts). The step that W made is carried on, ``Y = W + b (W - W_before)``, and
H is moved with ``Y`` in place of W. (What that changes in the objective follows from products at hand, or, where
entries are missing, from one pass over the observed ones, which costs little beside their Gram matrices.) If the
objective would be above where the iteration began, the momentum is dropped and H moved with the plain W instead,
which cannot raise it: so the objective never rises, and limit points are stationary. Only W is carried on where that
leaves the certificate of ``(Y, H)`` free. Where it is not free anyway (multiplicative updates of other losses), the
step for H is carried on too, and taken back if the next pass measures more than before. So it is where a solver asks
for the same share of every step (over-relaxation) and the passes measure the objective.

**Balance.** ``w_t s`` and ``h_t / s`` have the same product and other penalties. Steps of one factor at a time find the
best ``s`` slowly, where a penalty is small; :func:`nmfcore.loop.balance.balanced` finds it at once. It is asked after
iterations 1, 2, 4, 8 and so on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.kernels import factors
from nmfcore.loop.balance import balanced
from nmfcore.loop.half_step import MANY, half_step
from nmfcore.loop.stopping import EXACT, Status, Stop
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.protocol import Loss
from nmfcore.losses.step import Step
from nmfcore.solvers.base import BaseSolver


class Estimate(Protocol):
    """An estimate with its certificate: ``X ≈ W Htᵀ``."""

    @property
    def W(self) -> Array:
        """(m, r)."""

    @property
    def Ht(self) -> Array:
        """(n, r)."""

    @property
    def objective(self) -> float:
        """What is minimised, penalties included."""

    @property
    def kkt(self) -> float:
        """Its KKT residual."""

    @property
    def n_iter(self) -> int:
        """How many iterations led to it."""

    @property
    def seconds(self) -> float:
        """Since the fit began."""

    @property
    def off(self) -> float:
        """By how much the objective came out higher as it was recomputed here; 0 where it was not."""


@dataclass(frozen=True, slots=True)
class Iterate:
    """An estimate of the loop."""

    W: Array
    Ht: Array
    objective: float
    kkt: float
    n_iter: int
    seconds: float
    off: float = 0.0


@dataclass(slots=True)
class Run:
    """What a fit has to show so far; complete at any time, so an interrupt loses only the iteration it hit."""

    iterates: list[tuple[int, float, float, float]] = field(default_factory=list)  # n_iter, objective, kkt, seconds
    last: Estimate | None = None
    status: Status = Status.INTERRUPTED
    began: float = field(default_factory=time.perf_counter)
    exact: int = 0  # the last iterate whose objective was recomputed

    def record(self, iterate: Estimate) -> None:
        """Add an iterate to the history.

        One that is looked at again, with more digits, takes the place of what was seen of it. The objectives before
        were carried along by differences, so they are off by about as much, and brought into line. Where the objective
        was recomputed and came out higher, those since the last recomputation that are below it were too low: no step
        led up.
        """
        before = self.iterates
        if self.last is not None and self.last.n_iter == iterate.n_iter:
            off = iterate.objective - self.last.objective
            before = [(n, objective + off, kkt, at) for n, objective, kkt, at in before[:-1]]
        elif iterate.off > 0.0:
            since = next((k for k, entry in enumerate(before) if entry[0] > self.exact), len(before))
            for k in range(since, len(before)):
                n, objective, kkt, at = before[k]
                before[k] = n, max(objective, min(objective + iterate.off, iterate.objective)), kkt, at
        if iterate.off != 0.0:
            self.exact = iterate.n_iter
        before.append((iterate.n_iter, iterate.objective, iterate.kkt, iterate.seconds))
        self.iterates, self.last = before, iterate

    def settled(self, iterate: Estimate, stop: Stop) -> bool:
        """Whether the falls so far promise no more to ``iterate``, which is not recorded yet; a start had none."""
        n, now = iterate.n_iter, iterate.objective
        if n == 0:
            return True
        if self.last is not None and self.last.n_iter == n:  # looked at again: falls are differences of one account
            now = self.last.objective
        return stop.settled(now, self.iterates[n - 1][1], self.iterates[n // 2][1])


class Overflow(FloatingPointError):
    """The arithmetic did not hold the objective of an iterate."""


class Momentum:
    """What share of a step to carry on: 0 at first and after each restart, then rising towards 1 (Nesterov's)."""

    def __init__(self) -> None:
        self._t = 1.0

    def next(self) -> float:
        """The share of the last step to carry on now."""
        t, self._t = self._t, (1.0 + math.sqrt(1.0 + 4.0 * self._t**2)) / 2.0
        return (t - 1.0) / self._t

    def restart(self) -> None:
        """Begin again from a plain step."""
        self._t = 1.0


class Steady:
    """The same share every time, but for a plain step after each restart."""

    def __init__(self, share: float) -> None:
        self.share, self._now = share, share

    def next(self) -> float:
        """The share of the last step to carry on now."""
        now, self._now = self._now, self.share
        return now

    def restart(self) -> None:
        """Begin again from a plain step."""
        self._now = 0.0


class Carry:
    """The steps of one factor, carried on."""

    def __init__(self, plan: Plan) -> None:
        self.momentum: Momentum | Steady = Steady(float(plan.solver.extrapolate)) if plan.steady else Momentum()
        self._floor = plan.floor
        self._before: Array | None = None  # where the last step led, not carried on

    def on(self, A: Array) -> Array:
        """``A + b (A - before)``; ``A`` itself where there is nothing to carry on."""
        before, self._before = self._before, A
        if before is None:
            return A
        b = self.momentum.next()
        return A if b == 0.0 else factors.extrapolate(A, before, b, self._floor)


@dataclass(frozen=True, slots=True)
class Plan:
    """How the factors move: by which solver, down which loss and penalties, with whose threads."""

    solver: BaseSolver
    loss: Loss
    penalty_W: Penalty
    penalty_H: Penalty
    team: Team
    gentle: int = 0  # iterations to begin with, of one sweep each

    @property
    def T(self) -> Plan:
        """The same for the transposed problem."""
        return replace(self, penalty_W=self.penalty_H, penalty_H=self.penalty_W)

    @property
    def steady(self) -> bool:
        """Whether steps are carried on by the same share every time."""
        return self.solver.extrapolate not in (True, False)

    @property
    def floor(self) -> float:
        """The share of itself below which carrying a step on may not take an entry."""
        # Multiplied by less than 1 for long, an entry is as long in coming back: there only growth is carried on.
        return 1.0 if self.solver.zeros_are_final and self.loss.beta != 2.0 else self.solver.floor

    @property
    def balances(self) -> bool:
        """Whether the scales of the components are worth a look; textbook solvers leave them as they are."""
        return self.solver.balances and all(p.l1 + p.l2 > 0.0 for p in (self.penalty_W, self.penalty_H))

    def sweeps(self, n_iter: int) -> int:
        """The most sweeps that an iteration makes of each factor."""
        return 1 if n_iter < self.gentle else MANY

    def step(self, data: Data, A: Array, B: Array, most: int = MANY) -> Step:
        """The half-step for ``A`` (m, r) with ``B`` (n, r) fixed; with ``most=0`` only a look at ``A``."""
        return half_step(self.solver, self.loss.equations(data, B), data, A, self.penalty_W, self.team, most)


def solve(
    data: Data, W: Array, Ht: Array, plan: Plan, *, stop: Stop, run: Run, watch: Callable[[Iterate], bool]
) -> None:
    """Move ``W`` (m, r) and ``Ht`` (n, r) until a limit of ``stop`` is met, recording each iterate in ``run``.

    Parameters
    ----------
    data : Data
        What is factorised.
    W, Ht : ndarray (m, r), (n, r)
        The start; not written to.
    plan : Plan
        How the factors move.
    stop : Stop
        When to end.
    run : Run
        Where the iterates go; it is complete whenever this function is left, by an exception too. One that has
        iterates goes on counting from the last of them, which is ``(W, Ht)``.
    watch : callable
        Called with each iterate; True ends the fit.
    """
    turned, plan_H = data.T, plan.T
    account = plan.loss.account(data, W.shape[1], (plan.penalty_W, plan.penalty_H), plan.team)
    carry_W, carry_H = Carry(plan), Carry(plan)

    step_H = plan_H.step(turned, Ht, W, most=0)
    account.start(W, Ht, step_H)
    rho_H, exact, decrease, n_iter = step_H.before, True, math.inf, run.last.n_iter if run.last else 0
    plain_H, lowest = Ht, math.inf
    while True:
        most = plan.sweeps(n_iter) if n_iter < stop.max_iter else 0
        step_W = plan.step(data, W, Ht, most)
        account.look(step_W, W, Ht)
        if Ht is not plain_H and not account.value <= lowest:
            carry_H.momentum.restart()
            Ht = plain_H
            step_W = plan.step(data, W, Ht, most)
            account.look(step_W, W, Ht)
        lowest = account.value
        if not math.isfinite(account.value):
            raise Overflow(_overflow(account.value, n_iter))
        while True:
            kkt = account.kkt(step_W.before, rho_H, W, Ht)
            seconds = time.perf_counter() - run.began
            iterate = Iterate(W, Ht, account.value, kkt, n_iter, seconds, account.off)
            stalled = account.stalled(decrease, kkt)
            exact_fit = account.left <= EXACT * stop.tol
            settled = stalled or exact_fit or run.settled(iterate, stop)
            ended = _ended(iterate, stop, settled=settled, stalled=stalled)
            if exact or not ended:
                break
            rho_H, exact = plan_H.step(turned, Ht, W, most=0).before, True
        run.record(iterate)
        if watch(iterate):
            ended = ended or Status.CALLBACK
        if ended:
            run.status = ended
            return

        plain_W = step_W.A
        W = carry_W.on(plain_W) if plan.solver.extrapolate else plain_W
        step_H = plan_H.step(turned, Ht, W, most)
        decrease = account.decrease(step_W, W, step_H)
        if W is not plain_W and not decrease >= 0.0:
            carry_W.momentum.restart()
            W = plain_W
            step_H = plan_H.step(turned, Ht, W, most)
            decrease = account.decrease(step_W, W, step_H)
        account.fall(decrease, W, step_H.A)
        plain_H = Ht = step_H.A
        exact, rho_H = step_H.after is not None, step_H.before if step_H.after is None else step_H.after
        n_iter += 1
        if plan.balances and n_iter & (n_iter - 1) == 0:
            W, plain_H, gain = balanced(W, plain_H, plan.penalty_W, plan.penalty_H, data.free(W.shape[1]))
            Ht = plain_H
            account.fall(gain, W, Ht)
            rho_H, exact = plan_H.step(turned, Ht, W, most=0).before, True
            carry_W, carry_H = Carry(plan), Carry(plan)
        elif plan.solver.extrapolate and (not exact or (plan.steady and account.measures)):
            Ht, exact = carry_H.on(plain_H), False


def _ended(iterate: Iterate, stop: Stop, *, settled: bool, stalled: bool) -> Status | None:
    if iterate.kkt <= stop.tol and settled:
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
