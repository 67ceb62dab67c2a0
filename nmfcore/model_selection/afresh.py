"""What keeps a path from rank to rank honest: fits from scratch beside it, and an end to fits that overfit."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from nmfcore._types import Array
from nmfcore.api.factorize import factorize
from nmfcore.api.result import Factorization
from nmfcore.api.watch import State
from nmfcore.loop.stopping import ConvergenceWarning, Status

LOOKS = 16  # iterations before the first look at what was held out; then twice as many each time
TRIAL = (32, 256)  # the least and the most iterations of a fit from scratch before it has to be the lower one


class Overfit:
    """A callback that ends a fit which foretells ever less.

    It looks after 16, 32, 64 iterations and so on. Two rises in a row, to above the error of the best rank so far, end
    the fit: it fits noise, and the rest of its iterations would only raise the error further. An error that ended so
    is above the lowest, so it never makes a rank the best.
    """

    def __init__(self, error: Callable[[Array, Array], float], least: float) -> None:
        self._error, self._least = error, least
        self._seen: list[float] = []

    def __call__(self, state: State) -> None:
        """Look, if it is time to."""
        n = state.n_iter
        if n < LOOKS or n & (n - 1):
            return
        self._seen.append(self._error(state.W, state.H))
        last = self._seen[-3:]
        if len(last) == 3 and last[0] < last[1] < last[2] and last[2] > self._least:
            raise StopIteration


def other_start(
    f: Factorization, rank: int, asked: dict[str, Any], watch: Callable[[], Overfit | None]
) -> Factorization:
    """``f``, or a fit from scratch if that ends lower.

    A fit that goes on from the rank before may stay in a poor minimum, and the rank then looks worse than it is. The
    one from scratch is given up if it is not the lower one after twice the iterations.
    """
    least, most = TRIAL
    trial = min(asked["max_iter"], max(least, min(most, 2 * f.n_iter)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        g = factorize(rank=rank, callback=watch(), **(asked | {"max_iter": trial}))
        if g.objective < f.objective and g.status is Status.MAX_ITER and trial < asked["max_iter"]:
            left = asked["max_iter"] - trial
            g = factorize(rank=rank, callback=watch(), **(asked | {"init": g, "max_iter": left}))
    return g if g.objective < f.objective else f
