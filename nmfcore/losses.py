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

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import numpy as np

from nmfcore._types import Array
from nmfcore.data import Data, Sparse
from nmfcore.kernels import divergence, factors
from nmfcore.parallel import Slab, Team
from nmfcore.punctured import DowndatedGrams
from nmfcore.solvers.base import Penalty, Step
from nmfcore.stopping import divergence_residual, kkt_residual, nothing_left

AFFORDABLE = 1e9  # flop; a sparse X may be so large that its unstored zeros cannot be gone through one by one
RESIDUAL_NOISE = 1e4  # epsilons of a gradient; a fall is a square of it
LEAST_SINGLE = 1e-30  # of the largest x: a float32 factor still has entries far below what such an x asks for
PIECE = 2**17  # entries of a row that one thread goes through at a time
NOISE = 4.0  # times r, squared epsilons of Σ x²: a decrease that is rounding
ROUNDING = 1.0  # epsilons of what is summed up; errors that add up over a fit come to a third of that, or less
SUMMED = 64.0  # numbers, so many of a long sum are added to one another before the next: see nmfcore.kernels.dense
TRUSTED = {4: 5e-5, 8: 2e-10}  # of the objective, by bytes of a number: where it may be off by more it is recomputed
ROUGH = 1e-2  # the same where float64 will look again


def make(beta: float, data: Data, rough: bool = False) -> Loss:
    """The loss of this β, for such data; ``rough`` if its value need not be right to more than two digits or so.

    Raises
    ------
    RangeError
        If β <= 0 and the smallest x is so far below the largest that its powers overflow.
    """
    if beta == 2.0:
        return Frobenius(rough=rough)
    # x̂ is kept above a tiny share of the largest x; the powers that are formed of it must not overflow.
    single = data.dtype == np.float32
    bits = (100 if single and beta >= 1.0 else 800) / (2.0 + max(0.0, 1.0 - beta))
    largest = data.summary.largest
    scale = 2 * (math.frexp(largest)[1] // 2) if largest > 0.0 else 0
    floor = math.ldexp(1.0, scale - int(bits))
    if beta <= 0.0 and largest > 0.0:
        _check_range(float(data.values.min()) / largest, floor / largest, beta, single)
    return Divergence(beta, floor, rough)


def _affordable(data: Data, r: int) -> bool:
    """Whether the entries may be gone through one by one now and then."""
    return data.exact_work(r) <= max(AFFORDABLE, 20.0 * data.work(r))


class RangeError(ValueError, FloatingPointError):
    """X spans more than the arithmetic holds."""


def _check_range(smallest: float, floor: float, beta: float, single: bool) -> None:
    """Under β <= 0 an x that x̂ cannot come down to would be far from it for ever."""
    least = max(floor, LEAST_SINGLE) if single else floor
    if smallest < least:
        remedy = "pass dtype=float64, " if smallest >= floor else ""
        raise RangeError(
            f"The smallest entry of X is {smallest:.2g} of its largest, but with β = {beta:g} <= 0 it must be "
            f"{least:.2g} of it or more{' in float32' if remedy else ''}: {remedy}raise smaller entries to that "
            "(numpy.maximum), leave them out (a mask), or use a loss with a larger β."
        )


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


# ---- half the squared error ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Frobenius:
    """``½ (x - x̂)²``."""

    beta: float = 2.0
    rough: bool = False

    def equations(self, data: Data, B: Array) -> Quadratics:
        """The normal equations."""
        return (RowQuadratics if data.by_entries else Quadratics)(data, data.normal(B))

    def account(self, data: Data, r: int, penalties: tuple[Penalty, Penalty], team: Team) -> Account:
        """One that is carried along by exact differences, or, where passes go through the entries, what they found."""
        if data.by_entries:
            return MeasuredSquares(data, penalties, r, team, self)
        return CarriedAccount(data, r, penalties, team, self.rough)

    def exact(self, data: Data, W: Array, Ht: Array, team: Team) -> float:
        return 0.5 * data.squared_error(W, Ht, team)


class Quadratics:
    """``½ aᵀ G a - cᵀ a`` for every row: the normal equations of the rows."""

    def __init__(self, data: Data, normal: Any) -> None:
        self.data, self.normal = data, normal

    def prepare(self, A: Array, team: Team) -> None:
        """Sum up what all rows share."""
        self.normal.shared(team)

    def slabs(self, r: int, sweeps: int) -> list[Slab]:
        return self.data.slabs(r, 2.0 * self.data.shape[0] * r * r * (sweeps + 2))

    def tally(self, r: int) -> Array:
        return np.zeros(2 * r + 2)

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        if isinstance(self.normal, DowndatedGrams):
            self.normal.move(solver, A, lo, hi, penalty, sweeps, out, tally)
            return
        for start, stop, C, G in self.normal.blocks(lo, hi):
            own = penalty.rows(slice(start, stop))
            solver.update(A[start:stop], C, G, own, sweeps, out[start:stop], tally)

    def report(self, out: Array, tally: Array) -> Step:
        r = out.shape[1]
        return Step(out, self, tally[:r], tally[r : 2 * r], float(tally[2 * r + 1]), float(tally[2 * r]))

    def change(self, A: Array, Y: Array, penalty: Penalty, team: Team) -> float:
        """What the objective changes by when the rows go from ``A`` to ``Y``, exactly."""
        slabs = self.data.slabs(A.shape[1])
        changes = team.map(lambda lo, hi: float(self.normal.change(A, Y, penalty.l1, penalty.l2, lo, hi)), slabs)
        return sum(changes)


class RowQuadratics(Quadratics):
    """The same where every row has a Gram matrix of its own; a pass also finds the loss of the rows it is given.

    A row of very many entries is not left to one thread: its normal equations are made in pieces, of the same length
    for any number of threads, before the rows are shared out.
    """

    def __init__(self, data: Data, normal: Any) -> None:
        super().__init__(data, normal)
        self._long: dict[int, tuple[Array, Array, float]] = {}

    def prepare(self, A: Array, team: Team) -> None:
        indptr = self.normal.entries.indptr
        for i in np.flatnonzero(np.diff(indptr) > 2 * PIECE).tolist():
            cuts = [*range(int(indptr[i]), int(indptr[i + 1]) - PIECE, PIECE), int(indptr[i + 1])]
            parts = team.map(partial(self.normal.piece, A[i : i + 1]), list(pairwise(cuts)))
            C, G = (np.asarray(sum(part[k] for part in parts)).astype(A.dtype) for k in (0, 1))
            self._long[i] = C, G, sum(part[2] for part in parts)

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        start = lo
        for i in [i for i in self._long if lo <= i < hi]:
            self._move_rows(solver, A, start, i, penalty, sweeps, out, tally)
            row, (C, G, loss), value = slice(i, i + 1), self._long[i], float(tally[2 * A.shape[1] + 1])
            solver.update(A[row], C, G, penalty.rows(row), sweeps, out[row], tally)
            tally[2 * A.shape[1] + 1] = value + loss + penalty.rows(row).of(A[row])
            start = i + 1
        self._move_rows(solver, A, start, hi, penalty, sweeps, out, tally)

    def _move_rows(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        if hasattr(solver, "sweep_entries"):
            solver.sweep_entries(self.normal.entries, A, lo, hi, penalty, sweeps, out, tally)
            return
        place = 2 * A.shape[1] + 1
        value = float(tally[place])
        super().move(solver, A, lo, hi, penalty, sweeps, out, tally)
        tally[place] = value + self.normal.loss(A, lo, hi) + penalty.rows(slice(lo, hi)).of(A[lo:hi])


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
        self._affordable = _affordable(data, r)
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
        if self._affordable and self._doubt > self._trusted * self.value:
            exact = 0.5 * self._data.squared_error(W, Ht, self._team) + self._penalty(W, Ht)
            self.off, self.value, self._doubt = exact - self.value, exact, 0.0

    def _penalty(self, W: Array, Ht: Array) -> float:
        return self._penalties[0].of(W) + self._penalties[1].of(Ht)


# ---- other divergences --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Divergence:
    """``d_β(x | x̂)``, with ``x̂`` kept above ``floor``: a tiny share of the largest x."""

    beta: float
    floor: float
    rough: bool = False

    def equations(self, data: Data, B: Array) -> Divergences:
        """The entries themselves, with ``B``."""
        return Divergences(data, B, self.beta, self.floor)

    def account(self, data: Data, r: int, penalties: tuple[Penalty, Penalty], team: Team) -> Account:
        """One that reads what each pass has found."""
        return MeasuredAccount(data, penalties, r, team, self)

    def exact(self, data: Data, W: Array, Ht: Array, team: Team) -> float:
        def of_some(lo: int, hi: int) -> float:
            blocks = data.rows(lo, hi, zeros=True)
            return sum(
                divergence.exact_value(*rows, W[start:stop], Ht, self.beta, self.floor) for start, stop, rows in blocks
            )

        return sum(team.map(of_some, data.slabs(W.shape[1])))


class Divergences:
    """The divergence of every row from what ``B`` makes of it; ``D`` is ``Σ_j B_j`` where all rows share that.

    ``Bt`` is ``B.T``, or, where rows are gathered and nobody reads that, has none of its rows.

    For β < 1 a float32 ``B`` is taken in float64: the powers of a small x̂ are beyond float32.
    """

    def __init__(self, data: Data, B: Array, beta: float, floor: float) -> None:
        exact = B.astype(np.float64, copy=False)
        self.data, self.B, self.beta, self.floor = data, exact if beta < 1.0 else B, beta, floor
        gathered = data.by_entries or (beta == 1.0 and isinstance(data, Sparse))
        self.Bt = np.ascontiguousarray((self.B[:, :0] if gathered else self.B).T)
        self.D = data.column_sums(exact) if beta == 1.0 else exact[:0]

    def prepare(self, A: Array, team: Team) -> None:
        """Nothing."""

    def slabs(self, r: int, sweeps: int) -> list[Slab]:
        entries = self.data.values.size if self.beta == 1.0 else self.data.n_entries
        return self.data.slabs(r, entries * (r * (r + 1.0 if sweeps > 1 else 4.0) + 40.0))

    def tally(self, r: int) -> Array:
        return np.zeros(2 * r + 2)

    def move(
        self, solver: Any, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        for start, stop, rows in self.data.rows(lo, hi, zeros=self.beta != 1.0):
            solver.descend(self, rows, A[start:stop], penalty, sweeps, out[start:stop], tally)

    def report(self, out: Array, tally: Array) -> Step:
        r = out.shape[1]
        before, after = tally[:r], tally[r : 2 * r]
        value, least = float(tally[2 * r]), float(tally[2 * r + 1])
        return Step(out, self, before, None if np.isnan(after[0]) else after, value, value - least)


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
        self._differs = loss.beta == 1.0 and isinstance(data, Sparse)
        self._mendable = _affordable(data, r) and (self._differs or data.dtype == np.float32)
        self._size = _size(data, loss.beta)

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


def _size(data: Data, beta: float) -> float:
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
