"""The path from rank to rank, on all folds at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nmfcore import validation
from nmfcore._types import Array
from nmfcore.front_door import MAX_ITER, TOL, factorize
from nmfcore.holdout import HOLDOUTS, LEAST_SHARE, Blocks, Entries, Measure, hold_out
from nmfcore.rank.selection import RULES, RankSelection
from nmfcore.result import Factorization
from nmfcore.solvers import Solver
from nmfcore.stopping import ConvergenceWarning


def select_rank(
    X: object,
    ranks: Iterable[int],
    *,
    n_folds: int = 5,
    test: float | None = None,
    holdout: str = "auto",
    patience: int | None = 3,
    rule: str = "one-standard-error",
    warm_start: bool = True,
    random_state: object = None,
    callback: Callable[[RankSelection], object] | None = None,
    solver: str | Solver = "auto",
    loss: str | float = "frobenius",
    missing_values: object = None,
    mask: object = None,
    weights: object = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    init: str = "auto",
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    dtype: object = None,
    n_threads: int | None = None,
) -> RankSelection:
    r"""Choose the rank by the error on held-out entries.

    Every fold holds the same entries out of the fits of all ranks, so that these are compared on the same ground. The
    fit of a rank begins where that of the rank before ended, with random components added.

    Parameters
    ----------
    X : array_like, masked array, DataFrame, sparse matrix or Ratings, shape (m, n)
        As in :func:`nmfcore.factorize`: all entries are data, the zeros of a sparse X included, but for those that
        ``missing_values``, ``mask``, ``weights`` or a masked array call missing; those are never held out.
    ranks : iterable of int
        The ranks to try, in rising order.
    n_folds : int
        How many times something is held out, 2 or more.
    test : float, optional
        The share of the entries that count which is held out in each fold. Held-out *entries* of different folds are
        disjoint, so it is 1 / n_folds at most (then every entry is held out once); 0.1 by default, or that where it
        is less. *Blocks* have a share √test of the rows and of the columns; 0.25 by default, half of both.
    holdout : {"auto", "entries", "blocks"}
        What is held out. ``"entries"``: single ones at random, by a mask (Wold 1978); no row and no column loses the
        last entry that counts. ``"blocks"``: some rows and columns together, predicted from the others (bi-cross-
        validation, Owen and Perry 2009; see :mod:`nmfcore.holdout`), for complete data only. ``"auto"`` is blocks for
        a complete sparse X, which so stays sparse, and else entries. (``"entries"`` of a complete sparse X makes it
        dense.)
    patience : int, optional
        End when the mean held-out error has not fallen below its lowest for so many ranks. None: try all.
    rule : {"one-standard-error", "paired", "best"}
        ``"best"``: choose the rank of the lowest mean error. ``"one-standard-error"``: the smallest rank whose mean
        error exceeds the lowest by no more than the standard error of the lowest (Breiman et al. 1984). ``"paired"``:
        by no more than the standard error of the difference, which leaves out what all ranks find hard in a fold.
    warm_start : bool
        False: every fit starts from scratch, as ``init`` says.
    random_state : int, RandomState, Generator, SeedSequence, optional
        What the folds and the starts are drawn from. The result has the same bits for any ``n_threads``.
    callback : callable, optional
        Called after every rank with the selection so far. If it raises ``StopIteration``, that is the result.
    solver, loss, missing_values, mask, weights, l1, l2, init, tol, max_iter, dtype, n_threads
        As in :func:`nmfcore.factorize`. ``init`` is for the first rank, or all without ``warm_start``.

    Returns
    -------
    RankSelection
        ``s.best`` is the rank chosen, ``s.table()`` and ``s.plot()`` show why.

    Raises
    ------
    TypeError, ValueError
        If an argument breaks a rule, or there are too few entries to hold any out.
    KeyboardInterrupt
        On Ctrl-C, with the selection from the ranks that were complete as ``exc.selection`` (None before there is one).

    Warns
    -----
    ConvergenceWarning
        Once, with how many of the fits ended above ``tol``.

    Notes
    -----
    Where some folds are harder than others for every rank, as with few large entries, or when blocks are held out of
    long-tailed counts, the standard error is large and the default rule frugal; ``"paired"`` sees past that.

    The error of an entry is the loss itself, but for the Frobenius loss the squared error, which is twice that. Where a
    prediction of 0 for a positive entry would be infinitely wrong (β <= 1), it counts as a thousandth of the mean entry
    of X, or as the smallest positive entry if that is less. And the prediction of a held-out entry counts as no more
    than the largest entry of X: what is left of a row or column may say next to nothing of a component, and its part in
    the row is then anything. That is a sign that ``l2`` is wanted, for this choice as for the fit to incomplete data.

    A path from rank to rank costs less than fits from scratch, and may stay in a worse local minimum: fit the rank that
    was chosen afresh, from several starts.

    References
    ----------
    Wold, "Cross-validatory estimation of the number of components in factor and principal components models",
    Technometrics 20, 1978. Owen and Perry, "Bi-cross-validation of the SVD and the nonnegative matrix factorization",
    Annals of Applied Statistics 3, 2009. Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees",
    1984, section 3.4.3 (the one-standard-error rule).

    Examples
    --------
    >>> import numpy as np, nmfcore
    >>> rng = np.random.default_rng(0)
    >>> X = rng.gamma(0.5, size=(60, 3)) @ rng.gamma(0.5, size=(3, 50)) + rng.random((60, 50))
    >>> s = nmfcore.select_rank(X, range(1, 7), random_state=0)
    >>> s.best, s.errors.shape
    (4, (6, 5))
    """
    tried = _checked_ranks(ranks)
    n_folds = validation.whole(n_folds, "n_folds", 2)
    patience = None if patience is None else validation.whole(patience, "patience", 1)
    validation.one_of(rule, "rule", RULES)
    validation.one_of(holdout, "holdout", HOLDOUTS)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback={callback!r} must be callable: it is called with the selection after every rank.")
    mask_rng, *fold_rngs = _generators(random_state, 1 + n_folds)
    loss, beta = validation.beta(loss)
    which: dict[str, Any] = {"missing_values": missing_values, "mask": mask, "weights": weights}
    fit: dict[str, Any] = {"solver": solver, "loss": loss, "l1": l1, "l2": l2, "tol": tol, "max_iter": max_iter}
    fit |= {"dtype": dtype, "n_threads": n_threads}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The front door judges the arguments, and what it says of X is said of the X that came.
        factorize(X, 1, init="random", random_state=0, **which, **(fit | {"max_iter": 0}))
        which["dtype"] = validation.float_dtype(dtype)
        folds = hold_out(X, kind=holdout, n_folds=n_folds, test=test, rng=mask_rng, **which)
        path = _Path(folds, fold_rngs, fit | {"init": init}, beta, warm_start, n_threads)
        settings: dict[str, Any] = {"loss": loss, "holdout": folds.kind, "test": folds.test, "n_folds": n_folds}
        settings |= {"patience": patience, "warm_start": warm_start}
        s = _walk(path, tried, RankSelection(*_NOTHING, rule, tried, settings), callback)
    if path.unconverged and tol > 0:
        warnings.warn(
            f"{path.unconverged} of {path.n_fits} fits ended with a KKT residual above tol={tol:g}, the largest "
            f"{path.largest_kkt:.2g}. Held-out errors seldom depend on it; to be sure, raise max_iter or tol.",
            ConvergenceWarning,
            stacklevel=2,
        )
    return s


# Times what a random start has. Coordinate descent forgets it in its first sweep; multiplicative updates, which have
# the most to unlearn in the components that are there, end as low as from scratch with this, and 4 % higher with 1.
LARGE = 3.0

_NOTHING = np.empty(0, int), np.empty((0, 0)), np.empty((0, 0))


def _walk(
    path: _Path, ranks: tuple[int, ...], s: RankSelection, callback: Callable[[RankSelection], object] | None
) -> RankSelection:
    """Try one rank after the other, until the last, or until patience ends."""
    rows: list[Array] = []
    patience = s.settings["patience"]
    try:
        for k, rank in enumerate(ranks):
            rows.append(path.step(rank))
            errors, train_errors = np.moveaxis(np.array(rows), 2, 0)
            done, left = _read_only(np.array(ranks[: k + 1])), ranks[k + 1 :]
            s = RankSelection(done, _read_only(errors), _read_only(train_errors), s.rule, left, s.settings)
            if callback is not None:
                callback(s)
            if patience is not None and k - int(np.argmin(s.mean)) >= patience:
                break
    except StopIteration:
        pass
    except KeyboardInterrupt as interrupt:
        interrupt.selection = s if rows else None  # type: ignore[attr-defined]
        raise
    return s


class _Path:
    """The fits of one rank after the other, of all folds."""

    def __init__(
        self,
        folds: Entries | Blocks,
        rngs: list[np.random.Generator],
        fit: dict[str, Any],
        beta: float,
        warm_start: bool,
        n_threads: int | None,
    ) -> None:
        positive = folds.values[folds.values > 0]
        smallest = float(positive.min()) if positive.size else 0.0
        self.measure = Measure(beta, min(LEAST_SHARE * folds.mean, smallest))
        self.folds, self.rngs, self.fit, self.warm_start, self.n_threads = folds, rngs, fit, warm_start, n_threads
        self.fits: list[Factorization | None] = [None] * len(rngs)
        self.n_fits, self.unconverged, self.largest_kkt = 0, 0, 0.0

    def step(self, rank: int) -> Array:
        """The held-out and the training error of each fold (n_folds, 2)."""
        errors = np.empty((len(self.rngs), 2))
        for fold, rng in enumerate(self.rngs):
            before = self.fits[fold]
            start: dict[str, Any] = {} if before is None else _grown(before, rank, self.folds.mean, rng)
            f = factorize(**self.folds.training(fold), rank=rank, random_state=rng, **start, **self.fit)
            self._note(f)
            self.fits[fold] = f if self.warm_start else None
            errors[fold] = self.folds.error(fold, f, self.measure, self.n_threads), self._training_error(f, fold)
        return errors

    def _note(self, f: Factorization) -> None:
        self.n_fits += 1
        if not f.converged:
            self.unconverged, self.largest_kkt = self.unconverged + 1, max(self.largest_kkt, f.kkt)

    def _training_error(self, f: Factorization, fold: int) -> float:
        """The objective without its penalties: the engine has it for nothing."""
        penalties = 0.0
        for A, l1, l2 in zip(f, f.settings["l1"], f.settings["l2"], strict=True):
            A = A.astype(np.float64)
            penalties += l1 * float(A.sum()) + 0.5 * l2 * float(np.vdot(A, A))
        unit = 2.0 if self.measure.beta == 2.0 else 1.0
        return unit * max(0.0, f.objective - penalties) / self.folds.weight(fold)


def _grown(f: Factorization, rank: int, mean: float, rng: np.random.Generator) -> dict[str, Any]:
    """The factors of ``f`` and new random components."""
    scale = LARGE * math.sqrt(mean / rank)
    W, H = (np.abs(scale * rng.standard_normal((size, rank - f.rank))) for size in (f.W.shape[0], f.H.shape[1]))
    return {"W": np.hstack([f.W, W.astype(f.W.dtype)]), "H": np.vstack([f.H, H.T.astype(f.H.dtype)])}


def _checked_ranks(ranks: object) -> tuple[int, ...]:
    if isinstance(ranks, (str, bytes)) or not isinstance(ranks, Iterable):
        raise TypeError(f"ranks={ranks!r} must be some whole numbers, such as range(1, 11) or [2, 4, 8, 16].")
    checked = tuple(validation.whole(rank, f"ranks[{k}]", 1) for k, rank in enumerate(ranks))
    if not checked:
        raise ValueError("ranks is empty; give the ranks to try, such as range(1, 11).")
    for k in range(1, len(checked)):
        if checked[k] <= checked[k - 1]:
            raise ValueError(
                f"ranks[{k}] = {checked[k]} follows ranks[{k - 1}] = {checked[k - 1]}, but each must be larger than "
                "the one before: pass sorted(set(ranks))."
            )
    return checked


def _generators(random_state: object, number: int) -> list[np.random.Generator]:
    """Independent streams: what one draws does not depend on what the others have drawn."""
    source = validation.generator(random_state)
    draw = source.integers if isinstance(source, np.random.Generator) else source.randint
    seed = np.random.SeedSequence([int(x) for x in draw(0, 2**31 - 1, size=4)])
    return [np.random.default_rng(child) for child in seed.spawn(number)]


def _read_only(A: Array) -> Array:
    A = np.ascontiguousarray(A)
    A.flags.writeable = False
    return A
