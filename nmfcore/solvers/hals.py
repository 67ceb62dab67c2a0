r"""HALS: hierarchical alternating least squares, which is exact cyclic coordinate descent.

With ``B`` fixed, the objective of one row ``a`` of the factor that moves is a quadratic,

.. math:: f(a) = \tfrac12 aᵀ G a - cᵀ a + l_1 Σ a + \tfrac12 l_2 ‖a‖²,

with gradient ``g = G a - c + l1 + l2 a``. Along one coordinate ``t`` it is a parabola of curvature
``G_tt + l2``, so its minimum over ``a_t >= 0`` is known:

.. math:: a_t ← \max(0, a_t - g_t / (G_{tt} + l_2)).

That step changes the gradient by ``step · G[t]`` and lowers ``f`` by ``-step (g_t + ½ (G_tt + l2) step)``, which
is never negative. Rows do not see each other, so a sweep over the coordinates of each row in turn makes the same
iterates as the published form, which does one coordinate of all rows at a time.

**Kullback-Leibler.** There the objective of a row is ``Σ_j ω (x̂_j - x_j log x̂_j)``, with ``x̂ = B a``, and of its
Taylor expansion at the present ``a`` the same sweeps find the minimum ``a + d >= 0``:

.. math:: gᵀ d + \tfrac12 dᵀ G d, \qquad g = Σ_j ω (1 - x_j / x̂_j) b_j, \qquad G = Σ_j ω (x_j / x̂_j^2)\, b_j b_jᵀ,

which is Newton's method under ``a >= 0``. To form ``G`` costs no more than one sweep of scalar Newton steps (Hien and
Gillis) would, with its division for each entry and coordinate, up to a rank of some 50. The step is taken if the row's
objective, computed afresh, does not rise; else it is halved, three times at most. (It leads downhill, so some part of
it would do.) Then the multiplicative step is tried, which cannot raise the objective (with ``l2`` it might: then it is
halved), but cannot move an entry from 0 either. It also comes first where the sum of the row is off by a tenth, as at a
random start. Where ``x̂_j = 0 < x_j``, with entries of ``a`` that have sunk to nothing, Newton's step only doubles
``x̂_j``; such entries are brought back at a hundredth of the size of the row.

References
----------
Cichocki and Phan, "Fast local algorithms for large scale nonnegative matrix and tensor factorizations", IEICE
Trans. Fundamentals E92-A, 2009 (Fast HALS); Hsieh and Dhillon, KDD 2011 (coordinate descent). More than one sweep
while the products last: Gillis and Glineur, "Accelerated multiplicative updates and hierarchical ALS algorithms",
Neural Computation 24, 2012, section 4; here each row, or tile of rows, stops for itself. Rows that share G moved
together, and the gradient brought up to date once for several coordinates: Moon et al., "PL-NMF", 2019.
Kullback-Leibler: Hsieh and Dhillon, KDD 2011; Hien and Gillis, "Algorithms for nonnegative matrix factorization with
the Kullback-Leibler divergence", J. Sci. Comput. 87, 2021 (both with scalar steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from nmfcore._arguments import flag_or_share, number_of_sweeps
from nmfcore._types import Array
from nmfcore.data.protocol import Data, Entries, Rows
from nmfcore.kernels import divergence, observed
from nmfcore.kernels._jit import kernel
from nmfcore.kernels.vectors.sweeps import LINE, add_four_steps, add_step, into_tile, move_four, move_one, out_of_tile
from nmfcore.losses.penalty import Penalty
from nmfcore.solvers.base import BaseSolver

TILE_LINES = 16  # cache lines of one coordinate of the rows that move together; shorter loops hardly get going
LEAST_TILE = 24  # rows from which a tile pays, though some of its lanes stay empty
MOST_SWEEPS = 30
GENTLE = 10  # from the same ten starts 20 newsgroups ends at .994 to .996 of where scikit-learn does, not .993 to 1.001
MODEL_SWEEPS = 10  # of the model of a row (Kullback-Leibler), which is cheap beside making it
MODEL_PATIENCE = 1e-2
ROW_SWEEPS = 8  # of a row by its own entries; a held-out error is reached in four fifths of the iterations that 4 take
ROW_PATIENCE = 3e-3
PATIENCE = 0.003  # rows are left when a sweep lowers their objective by less than this share of the first sweep's,
# divided by how many sweeps the normal equations are worth


@dataclass(frozen=True, slots=True)
class HALS(BaseSolver):
    """Coordinate descent for the Frobenius loss; for Kullback-Leibler, on the quadratic model of each row.

    ``HALS(sweeps=1, extrapolate=False)`` is the textbook algorithm, equal to scikit-learn's ``solver="cd"``
    iterate by iterate.

    Parameters
    ----------
    sweeps : int or "auto"
        How often the coordinates of a row are gone through while its normal equations last. ``"auto"`` makes
        sweeps as long as they cost no more than the normal equations did, at most 30, and leaves
        rows whose objective no longer falls noticeably (where entries are missing at most 8; for Kullback-Leibler, of
        its model, at most 10), and lets the components be brought to their best scales in between; the first
        ten iterations of an X of few entries make one sweep. What a
        sparse X stores is cheaper to go through than a dense X, so the same matrix may get other sweeps, and end
        in another minimum, as the other storage. Where entries are missing, coordinates are gone through in blocks
        of sixteen, so often each, and unless ``sweeps`` is 1, H begins with the last block
        (:mod:`nmfcore.kernels.observed`).
    extrapolate : bool or float
        Carry each step of W on (Nesterov); a step that would raise the objective is replaced by a plain one. A number
        between 0 and 1: by this share of the step every time, and where entries are missing the steps of H too.

    Examples
    --------
    >>> import nmfcore
    >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, solver=nmfcore.solvers.HALS(sweeps=1), random_state=0)
    >>> f.reconstruct().round(6)
    array([[1., 2.],
           [2., 4.]])
    """

    sweeps: int | Literal["auto"] = "auto"
    extrapolate: bool | float = True

    by_entries: ClassVar[bool] = True

    def __post_init__(self) -> None:
        # Settings hold the repr: it reads the same whatever type of number was passed.
        object.__setattr__(self, "sweeps", number_of_sweeps(self.sweeps, "HALS: sweeps"))
        object.__setattr__(self, "extrapolate", flag_or_share(self.extrapolate, "HALS: extrapolate"))

    @property
    def gentle(self) -> int:
        """To meet a random H exactly is to commit W to it: fits that do so end in worse minima."""
        return GENTLE if self.sweeps == "auto" else 0

    @property
    def balances(self) -> bool:
        """Not where sweeps are counted, as in the textbook."""
        return self.sweeps == "auto"

    @property
    def imputes(self) -> bool:
        """Whether sweeps may be made with few missing entries imputed, instead of each row's own G."""
        return self.sweeps == "auto"

    def sweeps_for(self, data: Data, r: int) -> int:
        """As given, or by the cost of the normal equations against that of a sweep (Gillis & Glineur, 4.1)."""
        if self.sweeps != "auto":
            return self.sweeps
        sweep = 2.0 * data.shape[0] * r * r
        return int(min(ROW_SWEEPS if data.grams == "own" else MOST_SWEEPS, 1 + data.work(r) / sweep))

    def handles(self, beta: float) -> bool:
        """The Frobenius loss and Kullback-Leibler."""
        return beta in (1.0, 2.0)

    def descend(
        self, equations: Any, rows: Rows, A: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """A Newton step for every row of ``A`` (b, r), its model gone down by sweeps, into ``out``."""
        e, rounds = equations, min(sweeps, 1)
        most, patience = (MODEL_SWEEPS, MODEL_PATIENCE) if self.sweeps == "auto" else (sweeps, 0.0)
        l1, ridge = penalty.l1, penalty.ridge
        divergence.newton_rows(*rows, e.B, e.D, A, l1, ridge, e.floor, most, patience, rounds, 0.0, out, tally)

    def sweep_entries(
        self, entries: Entries, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Sweep over the rows ``lo <= i < hi`` of ``A``, each by its own entries, into ``out``."""
        patience = ROW_PATIENCE if self.sweeps == "auto" else 0.0
        l1, ridge = penalty.l1, penalty.rows(slice(lo, hi)).ridge
        backwards = entries.backwards and self.sweeps != 1  # as the textbook has it
        observed.hals_rows(*entries[:-1], A, l1, ridge, sweeps, patience, backwards, lo, hi, out, tally)

    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Sweep over every row of ``A`` (b, r), given ``C`` (b, r) and ``G`` (1 or b, r, r), into ``out``."""
        patience = PATIENCE / max(sweeps, 1) if self.sweeps == "auto" else 0.0
        tiles = len(G) == 1 and len(A) >= LEAST_TILE and penalty.counts is None
        sweep = _sweep_tiles if tiles else _sweep_rows
        sweep(A, C, G, penalty.l1, penalty.ridge, sweeps, patience, out, tally)


@kernel
def _sweep_rows(
    A: Array, C: Array, G: Array, l1: float, ridge: Array, sweeps: int, patience: float, out: Array, tally: Array
) -> None:
    rows, r = A.shape
    own = 1 if G.shape[0] > 1 else 0  # every row has its own G, or all share one
    own_ridge = 1 if ridge.size > 1 else 0
    zero = A.dtype.type(0)
    l1 = A.dtype.type(l1)
    dead = A.dtype.type(1e-30) if A.itemsize == 4 else A.dtype.type(1e-200)
    g = np.empty(r, A.dtype)
    for i in range(rows):
        Gi = G[i * own]
        l2 = A.dtype.type(ridge[i * own_ridge])
        a = out[i]
        c = C[i]
        for t in range(r):  # g = G a - c + l1 + l2 a
            a[t] = A[i, t]
            g[t] = l1 + l2 * a[t] - c[t]
        for s in range(r):
            if a[s] != zero:
                for t in range(r):
                    g[t] += a[s] * Gi[s, t]
        for t in range(r):
            slope = np.float64(g[t])
            bend = np.float64(Gi[t, t] + l2)
            bound = (
                bend * np.float64(a[t]) if bend > 0.0 or a[t] == zero else slope
            )  # where B = 0, nothing bounds a step
            rho = slope if slope < bound else bound
            tally[t] += rho * rho
            tally[2 * r + 1] += np.float64(a[t]) * (slope - l1 - l2 * np.float64(a[t]) - np.float64(c[t]))
        first = 0.0
        for sweep in range(sweeps):
            fell = 0.0
            for t in range(r):
                curvature = Gi[t, t] + l2
                step = zero
                if curvature > dead:
                    step = -g[t] / curvature
                    step = step if step > -a[t] else -a[t]
                elif g[t] > curvature * a[t]:  # flat but for the penalty, which wants it gone
                    step = -a[t]
                if step != zero:
                    a[t] += step
                    fell -= np.float64(step) * (np.float64(g[t]) + 0.5 * np.float64(curvature * step))
                    for s in range(r):
                        g[s] += step * Gi[t, s]
                    g[t] += l2 * step
            tally[2 * r] += fell
            if sweep == 0:
                first = fell
            elif fell <= patience * first:
                break
        for t in range(r):
            slope = np.float64(g[t])
            bend = np.float64(Gi[t, t] + l2)
            bound = (
                bend * np.float64(a[t]) if bend > 0.0 or a[t] == zero else slope
            )  # where B = 0, nothing bounds a step
            rho = slope if slope < bound else bound
            tally[r + t] += rho * rho


@kernel
def _sweep_tiles(
    A: Array, C: Array, G: Array, l1: float, ridge: Array, sweeps: int, patience: float, out: Array, tally: Array
) -> None:
    """The same steps as :func:`_sweep_rows` for rows that share ``G``, made by a tile of rows at a time."""
    rows, r = A.shape
    zero, one = A.dtype.type(0), A.dtype.type(1)
    l1, l2 = A.dtype.type(l1), A.dtype.type(ridge[0])
    dead = A.dtype.type(1e-30) if A.itemsize == 4 else A.dtype.type(1e-200)
    hessian = G[0].copy()
    inverse = np.zeros(r, A.dtype)  # of its diagonal; 0 where a coordinate is dead
    for t in range(r):
        hessian[t, t] += l2
        if hessian[t, t] > dead:
            inverse[t] = one / hessian[t, t]
    fours = r // 4 * 4
    lanes = _lanes(rows, 64 // A.itemsize)
    vector = LINE // A.itemsize
    spare = (vector + r - 2) // r  # rows that a vector of numbers beyond the one before may reach
    a = np.zeros((r, lanes), A.dtype)
    g = np.zeros((r, lanes), A.dtype)
    steps = np.zeros((4, lanes), A.dtype)
    for start in range(0, rows, lanes):
        width = min(lanes, rows - start)
        if width < lanes:  # the lanes that stay empty have nowhere to go
            a[:] = zero
            g[:] = zero
        whole = max(0, min(width, rows - start - spare)) // vector * vector
        into_tile(A, start, whole, a)
        into_tile(C, start, whole, g)
        for k in range(whole, width):
            for t in range(r):
                a[t, k] = A[start + k, t]
                g[t, k] = C[start + k, t]
        inner = 0.0
        for t in range(r):
            for k in range(width):
                inner -= np.float64(a[t, k]) * np.float64(g[t, k])
                g[t, k] = l1 - g[t, k]
        for t in range(0, r - 3, 4):
            add_four_steps(a[t : t + 4], hessian, t, g)
        for t in range(fours, r):
            add_step(a[t : t + 1], hessian, t, g)
        for t in range(r):
            inner += _add_squares(a[t], g[t], hessian[t, t], l1, l2, width, tally, t)
        tally[2 * r + 1] += inner
        first = 0.0
        for sweep in range(sweeps):
            fell = 0.0
            for t in range(0, r - 3, 4):
                fell += move_four(a, g, hessian, inverse, t, steps)
                add_four_steps(steps, hessian, t, g)
            for t in range(fours, r):
                fell += move_one(a, g, hessian, inverse, t, steps)
                add_step(steps, hessian, t, g)
            tally[2 * r] += fell
            if sweep == 0:
                first = fell
            elif fell <= patience * first:
                break
        for t in range(r):
            _add_squares(a[t], g[t], hessian[t, t], l1, l2, width, tally, r + t)
        out_of_tile(out, start, whole, a)
        for k in range(whole, width):
            for t in range(r):
                out[start + k, t] = a[t, k]


@kernel
def _lanes(rows: int, line: int) -> int:
    """How many rows a tile holds: as many in each, and whole cache lines of them.

    An odd number of lines: with a power of two, the numbers of one row would all fall on a few places of the cache.
    """
    tiles = -(-rows // (TILE_LINES * line))
    return (-(-rows // (tiles * line)) | 1) * line


@kernel
def _add_squares(
    a: Array, g: Array, curvature: float, l1: float, l2: float, width: int, tally: Array, place: int
) -> float:
    """Add ``Σ ρ²`` of a coordinate over the lanes that hold rows; returns ``Σ a (g - l1 - l2 a)``."""
    squares, inner, bend = 0.0, 0.0, np.float64(curvature)
    for k in range(width):
        x, slope = np.float64(a[k]), np.float64(g[k])
        bound = bend * x if bend > 0.0 or x == 0.0 else slope  # where B = 0, nothing bounds a step
        rho = slope if slope < bound else bound
        squares += rho * rho
        inner += x * (slope - l1 - l2 * x)
    tally[place] += squares
    return inner
