"""What a solver is: how the rows of one factor move.

A solver of one's own derives from :class:`BaseSolver` and defines :meth:`~BaseSolver.update`. The loop, the storages,
the certificate and the history come with it. The other members say what a solver can do besides; their defaults are
those of a solver that can do nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from nmfcore._types import Array
from nmfcore.data.protocol import Data, Entries, Rows
from nmfcore.losses.penalty import Penalty


class BaseSolver(ABC):
    """An algorithm: how the rows of one factor move.

    Examples
    --------
    Gradient descent with a step that cannot overshoot:

    >>> import numpy as np, nmfcore
    >>> from nmfcore.solvers import BaseSolver
    >>> class Gradient(BaseSolver):
    ...     def update(self, A, C, G, penalty, sweeps, out, tally):
    ...         r, G = A.shape[1], G[0] + penalty.l2 * np.eye(A.shape[1])
    ...         slope = A @ G - C + penalty.l1
    ...         out[:] = np.maximum(A - slope / np.linalg.norm(G, 2), 0)
    ...         end = out @ G - C + penalty.l1
    ...         for place, a, g in ((0, A, slope), (r, out, end)):
    ...             rho = np.minimum(g, np.diag(G) * a)
    ...             tally[place : place + r] += (rho**2).sum(axis=0)
    ...         tally[2 * r] += 0.5 * ((A - out) * (slope + end)).sum()
    ...         tally[2 * r + 1] += (A * (slope - penalty.l1 - penalty.l2 * A - C)).sum()
    >>> X = np.random.default_rng(0).random((30, 4)) @ np.random.default_rng(1).random((4, 20))
    >>> f = nmfcore.factorize(X, 4, solver=Gradient(), random_state=0, max_iter=50, tol=0)
    >>> f.n_iter, bool(np.all(np.diff(f.history.objective) <= 0))
    (50, True)
    """

    __slots__ = ()

    extrapolate: bool | float = False
    """Whether the loop carries steps on beyond where the update ends; by a share of the step, if it is a number."""

    floor: ClassVar[float] = 0.0
    """Extrapolation leaves every entry at least this fraction of its value."""

    zeros_are_final: ClassVar[bool] = False
    """Whether an entry that is 0 stays 0."""

    by_entries: ClassVar[bool] = False
    """Whether :meth:`sweep_entries` goes through the observed entries of rows, instead of their Gram matrices."""

    @property
    def balances(self) -> bool:
        """Whether the loop may bring the components to their best scales in between."""
        return False

    @property
    def gentle(self) -> int:
        """How many iterations from a start that knows nothing of X are better made with one sweep each."""
        return 0

    @property
    def imputes(self) -> bool:
        """Whether sweeps may be made with few missing entries imputed, instead of each row's own G."""
        return False

    def sweeps_for(self, data: Data, r: int) -> int:
        """Return the most updates worth making of one factor while its normal equations last."""
        return 1

    def handles(self, beta: float) -> bool:
        """Return whether it minimises this β-divergence; the Frobenius loss is 2."""
        return beta == 2.0

    @abstractmethod
    def update(self, A: Array, C: Array, G: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array) -> None:
        """Move the rows ``A`` (b, r) into ``out``, ``sweeps`` times, and add to ``tally`` (2 r + 2,).

        Parameters
        ----------
        A : ndarray (b, r)
            Rows of the factor that moves; not written to.
        C : ndarray (b, r)
            ``X B`` of these rows.
        G : ndarray (1 or b, r, r)
            ``BᵀB``, of all rows or of each.
        penalty : Penalty
            Of these rows.
        sweeps : int
            How many updates to make; with 0, only report.
        out : ndarray (b, r)
            Where the rows go.
        tally : ndarray (2 r + 2,)
            Sums over rows, to be added to: of ``ρ²`` of each column before and after the update, the amount by which
            the objective fell, and ``<A, A G> - 2 <A, C>``.
        """

    def sweep_entries(
        self, entries: Entries, A: Array, lo: int, hi: int, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Move the rows ``lo <= i < hi`` of ``A`` into ``out`` by their entries; needed if ``by_entries``."""
        raise NotImplementedError(f"{type(self).__name__} says by_entries = True, but has no sweep_entries.")

    def descend(
        self, equations: Any, rows: Rows, A: Array, penalty: Penalty, sweeps: int, out: Array, tally: Array
    ) -> None:
        """Move the rows ``A`` (b, r) into ``out`` by the entries of another loss; needed for other losses.

        With no sweeps only report.
        """
        raise NotImplementedError(f"{type(self).__name__} handles other losses, but has no descend.")
