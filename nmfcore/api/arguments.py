"""Arguments of a fit that need the data, or each other, to be checked."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from nmfcore import _arguments, losses, starts
from nmfcore._parallel import default_threads
from nmfcore._types import Array
from nmfcore.data.dense import Dense
from nmfcore.data.observed import Observed
from nmfcore.data.offsets import WithOffsets, observed_in_full
from nmfcore.data.protocol import Data
from nmfcore.loop.stopping import Stop
from nmfcore.losses.scale import Scale
from nmfcore.machine import memory
from nmfcore.reading import missing
from nmfcore.solvers import HALS, MU, BaseSolver, Penalty

# What a fit takes at least, as measured: copies of its factors, under the Frobenius loss and others, and bytes of the
# index of an entry.
COPIES, COPIES_OF_OTHERS, INDEX = 6, 4, 4


# Kullback-Leibler: a Newton model takes rank² flop an entry, a multiplicative update 4 rank.
MOST_NEWTON = 32
_SOLVERS: dict[str, BaseSolver] = {"auto": HALS(), "hals": HALS(), "mu": MU()}


def checked_solver(solver: object, beta: float, rank: int) -> BaseSolver:
    """Return the solver that an argument names or is, if it minimises this β-divergence."""
    if isinstance(solver, str):
        chosen = _SOLVERS[_arguments.one_of(solver, "solver", tuple(_SOLVERS))]
        worth_it = chosen.handles(beta) and (beta == 2.0 or rank <= MOST_NEWTON)
        chosen = chosen if solver != "auto" or worth_it else MU()
        return _checked(chosen, beta)
    if not isinstance(solver, BaseSolver):
        raise TypeError(
            f"solver={solver!r} must be 'auto', 'hals', 'mu', or an instance such as nmfcore.solvers.HALS(), of a "
            "class that derives from nmfcore.solvers.BaseSolver."
        )
    return _checked(solver, beta)


def check_size_for_offsets(scale: Scale, data: Data) -> None:
    """Where X is brought to about 1, the ones beside offsets become as large as its root was small."""
    if math.log2(max(data.shape)) - 2 * scale.shift >= 1023:
        raise ValueError(
            f"offsets=True: the largest entry of X is about {math.ldexp(1.0, 2 * scale.shift):.0e}, so small that the "
            "squares of the ones beside the offsets overflow; multiply X by 1e100, and divide what is predicted by it."
        )


def _checked(solver: BaseSolver, beta: float) -> BaseSolver:
    if not solver.handles(beta):
        raise ValueError(f"{solver!r} does not minimise the β-divergence of β = {beta:g}: use solver='mu'.")
    return solver


def check_zeros(read: missing.Scaled, loss: str | float, beta: float) -> None:
    """Refuse a zero where the loss of one is infinite."""
    place = read.data.first_zero if beta <= 0.0 else None
    if place is None:
        return
    entry = f"X[{place[0]}, {place[1]}]"
    if read.lost:
        raise losses.RangeError(
            f"{entry} is 0, or so small beside the largest entry of X that {read.data.dtype} does not hold both. With "
            f"loss={loss!r} (β = {beta:g} <= 0) entries must be positive: raise smaller ones (numpy.maximum), leave "
            "them out (a mask), or use a loss with a larger β."
        )
    raise ValueError(
        f"{entry} = 0, and with loss={loss!r} (β = {beta:g} <= 0) a zero is infinitely far from "
        "any positive number. Leave zeros out (missing_values=0), add a small number to X, or use a loss with "
        "β > 0, such as 'kullback-leibler'."
    )


def checked_stop(tol: object, max_iter: object, max_time: object) -> Stop:
    """Return when a fit ends, by its arguments."""
    limit = None if max_time is None else _arguments.non_negative(max_time, "max_time")
    return Stop(_arguments.non_negative(tol, "tol"), _arguments.whole(max_iter, "max_iter", 0), limit)


def checked_threads(n_threads: object) -> int:
    """Return the number of threads to use."""
    if n_threads is None:
        return default_threads()
    return min(_arguments.whole(n_threads, "n_threads", 1), 4 * (os.cpu_count() or 1))


def check_rank(rank: int, data: Data, beta: float, init: str, W: object, H: object) -> None:
    """Raise if a start, or the memory, does not allow this rank."""
    m, n = data.shape
    if init in starts.SINGULAR and rank > min(m, n) and (W is None or H is None):
        raise ValueError(
            f"init={init!r} needs rank <= min(m, n) = {min(m, n)}, and rank={rank}. Use init='random' for more."
        )
    if data.values.ndim == 2:
        stored = {"the entries of X": data.values.nbytes}
    else:
        entries = 2 * data.values.size * (data.dtype.itemsize + INDEX)
        pointers = f"the row pointers of X ({m} x {n}) and its transpose"
        stored = {"the entries of both": entries, pointers: 8 * (m + 2 * n)}
    check_memory(rank, (m, n), data.dtype, beta, stored)


def check_memory(
    rank: int, shape: tuple[int, int], dtype: np.dtype[Any], beta: float, stored: dict[str, int] | None = None
) -> None:
    """Raise if a fit of this rank does not fit the memory; ``stored`` is what X takes, where that is known."""
    (m, n), copies = shape, COPIES if beta == 2.0 else COPIES_OF_OTHERS
    factors = f"{copies} copies of W ({m} x {rank}) and H ({rank} x {n})"
    parts = {factors: copies * (m + n) * rank * dtype.itemsize, "a Gram matrix": 8 * rank**2}
    remedy = "choose a smaller rank, or pass fewer rows and columns"
    memory.check(parts | (stored or {}), f"rank={rank}", remedy)


def with_offsets(data: Data, heights: tuple[float, float]) -> WithOffsets:
    """Return data that are fitted with offsets."""
    if isinstance(data, Dense):
        taken = 2 * data.values.size * (data.dtype.itemsize + INDEX)
        memory.check({"its entries one by one and the transpose": taken}, "offsets=True", "leave offsets out")
        data = observed_in_full(data)
    if not isinstance(data, Observed):
        raise ValueError(
            "offsets=True is for data with missing entries or dense data, and in this sparse X every zero counts. "
            "If what is not stored was not observed, pass missing_values='unstored'."
        )
    return WithOffsets(data, heights)


def by_count(penalty: Penalty, data: Data) -> Penalty:
    """Return a penalty whose l2 counts once for every entry of a row."""
    if data.counts is None:
        return penalty._replace(l2=penalty.l2 * data.shape[1])
    return penalty._replace(counts=data.counts)


def check_not_locked(solver: BaseSolver, data: Data, W: Array, Ht: Array) -> None:
    """Refuse a given factor of zeros where no step can leave one: the other factor would only follow it."""
    if solver.zeros_are_final and W.any() != Ht.any() and data.sum_squares > 0:
        raise ValueError(
            f"{'H' if W.any() else 'W'} = 0 everywhere, which {solver!r} cannot leave: start from positive numbers, "
            "or use solver='hals'."
        )
