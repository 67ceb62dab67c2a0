"""What a fit returns: the factors, what they are worth, and how it came about; saving and loading."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from reprlib import repr as shortly
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nmfcore._types import Array
from nmfcore.api import archive, model_checks
from nmfcore.loop.stopping import Status
from nmfcore.machine import memory
from nmfcore.machine.escapes import escaped

MEMBERS = {
    "W": archive.Member(2, "f"),
    "H": archive.Member(2, "f"),
    "iteration": archive.Member(1, "iu"),
    "objective": archive.Member(1, "f"),
    "kkt": archive.Member(1, "f"),
    "seconds": archive.Member(1, "f"),
}


@dataclass(frozen=True, slots=True)
class History:
    """One entry per iterate; entry 0 is the start.

    Attributes
    ----------
    iteration : ndarray of int, shape (n_iter + 1,)
    objective : ndarray of float64, shape (n_iter + 1,)
        What is minimised, penalties included.
    kkt : ndarray of float64, shape (n_iter + 1,)
        Of multiplicative updates for losses other than Frobenius, H's part is that of the H before, except in the
        last entry (unless the callback ended the fit, or Ctrl-C).
    seconds : ndarray of float64, shape (n_iter + 1,)
        Wall-clock time since the call.
    """

    iteration: Array
    objective: Array
    kkt: Array
    seconds: Array

    def __len__(self) -> int:
        return len(self.iteration)


@dataclass(frozen=True, eq=False)
class Factorization:
    r"""``X ≈ W H`` with a certificate. ``W, H = f`` unpacks it.

    Attributes
    ----------
    W : ndarray (m, r)
    H : ndarray (r, n)
        Finite and non-negative, float32 if X was float32 and float64 otherwise.
    objective : float
        ``Σ ω d(x, (W H))`` over the entries that count, plus ``l1·Σ`` and ``½·l2·‖·‖²`` of each factor; in
        float64, so ``inf`` where X is beyond about 1e154. Recomputed entry by entry close to an exact fit, unless X
        is a sparse matrix too large for that; then its error is some 1e-16 of ``½‖X‖²``. Of other losses it is a sum
        of terms that are never negative; but under Kullback-Leibler the zeros that a sparse X does not store count
        together, as a difference with an error of some epsilons of X's dtype times ``ΣX``, and by as much the history
        may rise.
    kkt : float
        How far (W, H) is from a stationary point, without unit: see
        :func:`nmfcore.losses.kkt.kkt_residual`, and for other losses :func:`nmfcore.losses.kkt.divergence_residual`.
    n_iter : int
    converged : bool
        Whether the KKT residual reached ``tol`` and the objective hardly falls any more
        (:meth:`nmfcore.loop.stopping.Stop.settled`), or the objective no longer falls beyond rounding and the KKT
        residual is below the square root of the machine precision.
    status : Status
        Why the fit ended, and what to do about it: ``f.status.value`` is a sentence.
    seconds : float
        Wall-clock time from the call on: reading X, making the start, iterating.
    history : History
        ``iteration``, ``objective``, ``kkt``, ``seconds`` of the start and of every iterate.
    settings : dict
        What the fit was asked, and what its defaults came to: ``solver``, ``loss``, ``missing_values``, ``l1``,
        ``l2``, ``l2_scaling``, ``offsets``, ``init``, ``tol``, ``max_iter``, ``max_time``, ``dtype``, ``precision``. A
        model saved by nmfcore 0.1.0 lacks ``init``, ``max_time``, ``dtype`` and ``precision``. After ``l2="auto"``
        also ``l2_auto`` (True) and ``column_scale``: the powers of four that the columns of X were divided by for the
        fit, or None; ``l2`` is then the penalty that was chosen, and the objective is that of the columns so scaled
        (see :mod:`nmfcore.api.auto_penalty`).
    """

    W: Array
    H: Array
    objective: float
    kkt: float
    n_iter: int
    converged: bool
    status: Status
    seconds: float
    history: History
    settings: dict[str, Any]

    def __iter__(self) -> Iterator[Array]:
        return iter((self.W, self.H))

    @property
    def rank(self) -> int:
        """How many components there are, those of offsets included."""
        return int(self.H.shape[0])

    def __repr__(self) -> str:
        (m, r), n = self.W.shape, self.H.shape[1]
        start, solver = self.history.objective[0], escaped(self.settings["solver"])
        return (
            f"Factorization: X ({m} x {n}) ≈ W ({m} x {r}) H ({r} x {n}), {self.W.dtype}, {solver}\n"
            f"  objective {self.objective:.6g} (from {start:.6g}), KKT residual {self.kkt:.2g}, "
            f"{self.n_iter} iteration{'' if self.n_iter == 1 else 's'} in {self.seconds:.3g} s\n"
            f"  {self.status.name}: {self.status.value}"
        )

    def reconstruct(self) -> Array:
        """``W H``, shape (m, n): all of it, so mind the memory; :meth:`predict` computes single entries.

        Raises
        ------
        MemoryError
            If it does not fit the machine's memory.

        Examples
        --------
        >>> import nmfcore
        >>> nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0).reconstruct().round(3)
        array([[1., 2.],
               [2., 4.]])
        """
        m, n = self.W.shape[0], self.H.shape[1]
        memory.check({f"{m} x {n} predictions": m * n * self.W.itemsize}, "W H", "predict some entries at a time")
        return self.W @ self.H

    def predict(self, rows: ArrayLike, cols: ArrayLike) -> Array:
        """The entries ``(W H)[rows, cols]``.

        Parameters
        ----------
        rows, cols : array_like of int
            Broadcast against each other as in ``X[rows, cols]``; negative ones count from the end.

        Returns
        -------
        ndarray
            Of the broadcast shape.

        Raises
        ------
        TypeError
            If they are not whole numbers.
        IndexError
            If one is out of range.
        MemoryError
            If the rows of W and columns of H for all of them do not fit the machine's memory.

        Examples
        --------
        >>> import nmfcore
        >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0)
        >>> f.predict([0, 1], 1).round(3)
        array([2., 4.])
        """
        m, n = self.W.shape[0], self.H.shape[1]
        i, j = np.broadcast_arrays(_positions(rows, m, "rows"), _positions(cols, n, "cols"))
        parts = {"their rows of W and columns of H": 2 * i.size * self.rank * self.W.itemsize}
        memory.check(parts, f"{i.size} predictions", "predict fewer at a time")
        return np.asarray(np.einsum("...t,...t->...", self.W[i], self.H.T[j]))

    def transform(
        self, X: object, *, mask: object = None, weights: object = None, n_threads: int | None = None
    ) -> Array:
        """The best W for other rows with the same H and the same loss, each row by itself.

        Parameters
        ----------
        X : array_like or sparse matrix (m_new, n)
            Read as the fit read its X: the same ``missing_values``. A row without an observed entry gets 0.
        mask : array_like of bool (m_new, n), optional
            True where observed.
        weights : array_like (m_new, n), optional
            A non-negative weight for every entry.
        n_threads : int, optional
            As in :func:`nmfcore.factorize`.

        Returns
        -------
        ndarray (m_new, r)
            The result for a row depends on no other row.

        Raises
        ------
        ValueError
            If X does not have ``n`` columns, an entry is not finite and non-negative, or the dtype does not hold W.
        MemoryError
            If X as it is stored, or W, does not fit the memory.

        Examples
        --------
        >>> import nmfcore
        >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0)
        >>> (f.transform([[3, 6]]) @ f.H).round(6)
        array([[3., 6.]])
        """
        from nmfcore.api.transform import transform

        return transform(self, X, mask, weights, n_threads)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a ``.npz`` file, at once or not at all; no pickle. :func:`nmfcore.load` reads it.

        Parameters
        ----------
        path : path
            Used as given. The permissions of an older file are kept.

        Raises
        ------
        ValueError
            If this is not what a fit leaves, so that :func:`nmfcore.load` would refuse it; an older file is left alone.
        OSError
            If the file cannot be written; an older file is intact.
        """
        arrays, meta = pack(self)
        archive.write(path, arrays, {"kind": "factorization", **meta})


def load(path: str | os.PathLike[str], *, max_bytes: int = 8 * 2**30) -> Factorization:
    """Read what :meth:`Factorization.save` wrote.

    Parameters
    ----------
    path : path
        A ``.npz`` file. It is not trusted: nothing in it is unpickled or run, and what it claims is checked
        before memory is asked for.
    max_bytes : int
        Refuse a file whose arrays would take more.

    Raises
    ------
    ValueError
        If it is no model, is damaged, or was written by a newer nmfcore.
    OSError
        If it cannot be read, or is no regular file.
    MemoryError
        If its arrays do not fit the machine's memory.

    Examples
    --------
    >>> import nmfcore, os, tempfile
    >>> f = nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
    >>> f.save(path)
    >>> bool((nmfcore.load(path).W == f.W).all())
    True
    """
    arrays, meta = archive.read(path, MEMBERS, max_bytes=max_bytes)
    if meta.get("kind") != "factorization":
        raise ValueError(f"{os.fspath(path)}: not a factorization but {shortly(meta.get('kind'))}.")
    return unpack(path, arrays, meta)


def pack(f: Factorization) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the settings that a model file holds of a factorization; ValueError if none would be read."""
    h = f.history
    arrays = {"W": f.W, "H": f.H, "iteration": h.iteration, "objective": h.objective}
    arrays |= {"kkt": h.kkt, "seconds": h.seconds}
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in f.settings.items()}
    meta = {"status": f.status.name, "converged": f.converged, "settings": settings}
    if problem := model_checks.fault(arrays, meta):
        raise ValueError(f"not saved, as no such model would be loaded: {problem}.")
    return arrays, meta


def unpack(path: str | os.PathLike[str], arrays: dict[str, Array], meta: dict[str, Any]) -> Factorization:
    """The factorization in a model file, its meaning checked: shapes that fit, finite and non-negative factors."""
    if problem := model_checks.fault(arrays, meta):
        raise ValueError(f"{os.fspath(path)}: damaged nmfcore model: {problem}. Save the model again.")
    history = History(*(arrays[key] for key in ("iteration", "objective", "kkt", "seconds")))
    return Factorization(
        np.ascontiguousarray(arrays["W"]),
        np.ascontiguousarray(arrays["H"]),
        float(history.objective[-1]),
        float(history.kkt[-1]),
        int(history.iteration[-1]),
        meta["converged"],
        Status[meta["status"]],
        float(history.seconds[-1]),
        history,
        {k: tuple(v) if isinstance(v, list) else v for k, v in meta["settings"].items()},
    )


def _positions(index: ArrayLike, size: int, name: str) -> Array:
    positions = np.asarray(index)
    if positions.size == 0:
        return positions.astype(np.intp)
    if positions.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, not {positions.dtype}.")
    bad = (positions < -size) | (positions >= size)
    if bad.any():
        first = positions[bad].flat[0]
        raise IndexError(f"{name} holds {first}, but there are {size} of them: 0 to {size - 1}.")
    return positions
