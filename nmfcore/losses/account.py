"""Accounts of the objective: carried along by exact differences, or measured by each pass."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.data.protocol import Data
from nmfcore.kernels import factors
from nmfcore.losses.kkt import divergence_residual, kkt_residual, nothing_left
from nmfcore.losses.penalty import Penalty
from nmfcore.losses.protocol import Loss
from nmfcore.losses.step import Step

AFFORDABLE = 1e9  # flop; a sparse X may be so large that its unstored zeros cannot be gone through one by one
RESIDUAL_NOISE = 1e4  # epsilons of a gradient; a fall is a square of it
NOISE = 4.0  # times r, squared epsilons of Σ x²: a decrease that is rounding
ROUNDING = 1.0  # epsilons of what is summed up; errors that add up over a fit come to a third of that, or less
SUMMED = 64.0  # numbers, so many of a long sum are added to one another before the next: see nmfcore.kernels.dense
TRUSTED = {4: 5e-5, 8: 2e-10}  # of the objective, by bytes of a number: where it may be off by more it is recomputed
ROUGH = 1e-2  # the same where float64 will look again


def affordable(data: Data, r: int) -> bool:
    """Whether the entries may be gone through one by one now and then."""
    return data.exact_work(r) <= max(AFFORDABLE, 20.0 * data.work(r))


class CarriedAccount:
    """The value of the objective, carried along by exact differences.

    A difference is the step times a gradient, and rounding in the gradient is relative to the terms it is summed from.
    A half-step that lowers the objective by ``d`` moves the fit by about ``‖Δx̂‖ = √(2 d)``, because no curvature of
    what it minimises is below that of the objective. So rounding changes the difference by some
    ``ε √d (‖X‖ + ‖x̂‖)``. These errors are added up, and the objective is recomputed entry by entry where their sum is
    no longer a small share of it: hardly ever while the fit is far from exact, and in every iteration where it is near.
    """

    measures: ClassVar[bool] = False

    def __init__(self, data: Data, r: int, penalties: tuple[Penalty, Penalty], team: Team, rough: bool = False) -> None:
        self._data, self._team, self._penalties = data, team, penalties
        self._norm = math.sqrt(data.sum_squares)
        self.affordable = affordable(data, r)
        self.value = self.left = math.inf
        self._least = nothing_left(data.dtype)
        self.off = 0.0
        eps = float(np.finfo(data.dtype).eps)
        self._unit = ROUNDING * eps * math.sqrt(1.0 + max(data.shape) / SUMMED)
        self._trusted = ROUGH if rough else TRUSTED[data.dtype.itemsize]
        self._doubt = 0.0  # how far rounding may have taken the value from the objective
        self._moved = 0.0  # by how much the parts of the next fall lower and raise the objective
        # The share of decrease that is noise: each gradient carries an error of about eps·‖X‖.
        self._noise = NOISE * r * eps**2 * data.sum_squares

    def start(self, W: Array, Ht: Array, step_H: Step) -> None:
        """Begin at ``½(Σ x² + fit)``, or entry by entry where that difference has lost too many digits."""
        size = self._data.sum_squares
        self.value = max(0.5 * (size + step_H.value), 0.0) + self._penalty(W, Ht)
        self._doubt = self._error(size)
        self._settle(W, Ht)
        self.off = 0.0

    def look(self, step_W: Step, W: Array, Ht: Array) -> None:
        """Nothing: what the step will have done is known already."""

    def kkt(self, rho_W: Array, rho_H: Array, W: Array, Ht: Array) -> float:
        left = math.sqrt(2.0 * max(self.value - self._penalty(W, Ht), 0.0))
        self.left = left / self._norm if self._norm > 0.0 else 0.0
        squares = factors.column_moments(W)[1], factors.column_moments(Ht)[1]
        return kkt_residual(rho_W, rho_H, *squares, self._norm, left, self._least)

    def decrease(self, step_W: Step, Y: Array, step_H: Step) -> float:
        rise = 0.0
        if Y is not step_W.A:
            rise = step_W.equations.change(step_W.A, Y, self._penalties[0], self._team)
        self._moved = abs(step_W.decrease) + abs(rise) + abs(step_H.decrease)
        return step_W.decrease - rise + step_H.decrease

    def stalled(self, decrease: float, kkt: float) -> bool:
        return decrease <= self._noise

    def fall(self, amount: float, W: Array, Ht: Array) -> None:
        # What made no step (a change of scale) rounds every entry, as a step by the size of the residual would.
        self._doubt += self._error(self._moved or self.value)
        self._moved = 0.0
        self.value = max(self.value - amount, 0.0)
        self._settle(W, Ht)

    def _error(self, moved: float) -> float:
        """What rounding does to a difference whose parts add up to ``moved``."""
        return self._unit * math.sqrt(moved) * (self._norm + math.sqrt(2.0 * self.value))

    def _settle(self, W: Array, Ht: Array) -> None:
        """Recompute the objective at ``(W, Ht)`` if the value may be off by too much."""
        self.off = 0.0
        if self.affordable and self._doubt > self._trusted * self.value:
            exact = 0.5 * self._data.squared_error(W, Ht, self._team) + self._penalty(W, Ht)
            self.off, self.value, self._doubt = exact - self.value, exact, 0.0

    def _penalty(self, W: Array, Ht: Array) -> float:
        return self._penalties[0].of(W) + self._penalties[1].of(Ht)


class MeasuredAccount:
    """The value of the objective as the passes over the data find it.

    Rounding in a sum of divergences adds up to some epsilons of ``√(f Σ x^β)``, as ``x̂`` is off by epsilons of itself
    and the gradient of a divergence is 0 at ``x̂ = x``. Where that is too much of ``f``, the entries are gone through
    once more in float64.
    """

    measures: ClassVar[bool] = True

    def __init__(self, data: Data, penalties: tuple[Penalty, Penalty], r: int, team: Team, loss: Loss) -> None:
        self._data, self._penalties, self._team, self._loss = data, penalties, team, loss
        self._eps = float(np.finfo(data.dtype).eps)
        self.value = self.left = math.inf
        self._least = nothing_left(data.dtype)
        self.off = 0.0
        self._doubt = 0.0  # how far rounding may have taken what a pass finds from the objective, where that is too far
        self._unit = ROUNDING * math.sqrt(r) * self._eps
        self._trusted = ROUGH if loss.rough else TRUSTED[data.dtype.itemsize]
        # What x̂ has where zeros are not stored is found as a difference of sums.
        self._differs = loss.beta == 1.0 and not data.stores_zeros
        self._mendable = affordable(data, r) and (self._differs or data.dtype == np.float32)
        self._size = size_of(data, loss.beta)

    def start(self, W: Array, Ht: Array, step_H: Step) -> None:
        """Nothing: the first step for W will tell."""

    def look(self, step_W: Step, W: Array, Ht: Array) -> None:
        self.value = step_W.value + self._penalties[1].of(Ht)
        size = max(self._size, self.value)
        doubt = self._unit * (size if self._differs else math.sqrt(2.0 * self.value * size) + self._unit * size)
        self._doubt = 0.0
        if self._mendable and doubt > self._trusted * self.value:
            penalty_W, penalty_H = self._penalties
            self.value = self._loss.exact(self._data, W, Ht, self._team) + penalty_W.of(W) + penalty_H.of(Ht)
            self._doubt = doubt

    def _left_over(self, W: Array, Ht: Array) -> float:
        """The loss of the last look, and ``left`` with it."""
        loss = max(self.value - self._penalties[0].of(W) - self._penalties[1].of(Ht), 0.0)
        self.left = math.sqrt(2.0 * loss / self._size) if self._size > 0.0 else 0.0
        return loss

    def kkt(self, rho_W: Array, rho_H: Array, W: Array, Ht: Array) -> float:
        loss = self._left_over(W, Ht)
        return divergence_residual(float(rho_W.sum()), float(rho_H.sum()), loss, self._size, self._least)

    def decrease(self, step_W: Step, Y: Array, step_H: Step) -> float:
        fell = self.value - (step_H.value - step_H.decrease + self._penalties[0].of(Y))
        return fell if Y is step_W.A or fell > self._doubt else -math.inf  # too little to be seen: a plain step tells

    def fall(self, amount: float, W: Array, Ht: Array) -> None:
        """Nothing: the next step for W will tell."""

    def stalled(self, decrease: float, kkt: float) -> bool:
        # The value carries rounding of its own size: near the end only the residual still tells progress.
        return decrease <= 0.0 and kkt <= (RESIDUAL_NOISE * self._eps) ** 2


def size_of(data: Data, beta: float) -> float:
    """``Σ ω x^β``, by which rounding of a sum of divergences goes; of some size for other β than 1 and 2."""
    if beta == 2.0:
        return data.sum_squares
    counts = data.counts
    total = data.n_entries if counts is None else math.ldexp(float(counts.sum()), -data.weight_shift)
    return math.pow(float(data.mean), beta) * total


class MeasuredSquares(MeasuredAccount):
    """The same for half the squared error of observed entries."""

    def __init__(self, data: Data, penalties: tuple[Penalty, Penalty], r: int, team: Team, loss: Loss) -> None:
        super().__init__(data, penalties, r, team, loss)
        self._norm = math.sqrt(data.sum_squares)
        self._noise = NOISE * r * float(np.finfo(data.dtype).eps) ** 2 * data.sum_squares

    def kkt(self, rho_W: Array, rho_H: Array, W: Array, Ht: Array) -> float:
        squares = factors.column_moments(W)[1], factors.column_moments(Ht)[1]
        rho_W, rho_H = self._data.by_component(rho_W, rho_H, 0.0, 0.0)
        squares = self._data.by_component(*squares, *self._data.shape)
        return kkt_residual(rho_W, rho_H, *squares, self._norm, math.sqrt(2.0 * self._left_over(W, Ht)), self._least)

    def decrease(self, step_W: Step, Y: Array, step_H: Step) -> float:
        if Y is step_W.A:
            return step_W.decrease + step_H.decrease
        fell = super().decrease(step_W, Y, step_H)
        return fell if fell > self._eps * self.value else -math.inf  # too little to be seen: a plain step tells

    def stalled(self, decrease: float, kkt: float) -> bool:
        return decrease <= self._noise
