"""Iterates, as callbacks and the progress bar are shown them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.loop.solve import Estimate
from nmfcore.loop.stopping import Stop
from nmfcore.losses.scale import Scale

Complete = Callable[[Array, Array], tuple[Array, Array]]  # the factors with the components that do not move


@dataclass(frozen=True, slots=True)
class State:
    """What a callback sees of an iterate; the arrays are read-only, and keep their values when the fit goes on."""

    n_iter: int
    objective: float
    kkt: float
    seconds: float
    W: Array
    H: Array


class Watch:
    """Shows each iterate, in the caller's scale, to the callback and the progress bar; True ends the fit."""

    def __init__(
        self, callback: Callable[[State], object] | None, bar: Any, stop: Stop, scale: Scale, complete: Complete
    ) -> None:
        self._callback, self._scale, self._complete = callback, scale, complete
        self._shown, self._ended = 0, False
        self._bar = bar(total=stop.max_iter, unit="it", desc="factorize") if bar else None

    def __call__(self, iterate: Estimate) -> bool:
        """Show an iterate, and return whether the fit is to end."""
        if iterate.n_iter == self._shown:  # the start, or an iterate that is looked at once more
            return self._ended
        self._shown = iterate.n_iter
        self._ended = self._show(iterate)
        return self._ended

    def _show(self, iterate: Estimate) -> bool:
        if self._bar is not None:
            # Not drawn at each iteration, which may be shorter than the drawing, but when the bar thinks it is time.
            self._bar.set_postfix(objective=f"{iterate.objective:.6g}", kkt=f"{iterate.kkt:.1e}", refresh=False)
            self._bar.update()
        if self._callback is None:
            return False
        W, Ht = self._complete(iterate.W, iterate.Ht)
        W, H = (_copy_to_show(self._scale, A) for A in (W, Ht.T))
        objective = self._scale.objective(iterate.objective)
        try:
            self._callback(State(iterate.n_iter, objective, iterate.kkt, iterate.seconds, W, H))
        except StopIteration:
            return True
        return False

    def close(self) -> None:
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()


def _copy_to_show(scale: Scale, A: Array) -> Array:
    """A factor as the caller has it, read-only, in memory of its own: a callback that writes to it changes no fit."""
    B = scale.outward(A)
    B = np.array(B) if B is A else B
    B.flags.writeable = False
    return B
