"""The rank of a matrix: its entries are held out, and ranks tried on the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nmfcore import _arguments
from nmfcore.api.arguments import check_memory
from nmfcore.api.factorize import MAX_ITER, TOL, factorize
from nmfcore.holdout import HOLDOUTS, hold_out
from nmfcore.loop.stopping import ConvergenceWarning
from nmfcore.losses.scale import Scale
from nmfcore.model_selection.path import Path, Search, generators
from nmfcore.model_selection.selection import RankSelection
from nmfcore.solvers import BaseSolver, Penalty


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
    solver: str | BaseSolver = "auto",
    loss: str | float = "frobenius",
    missing_values: object = None,
    mask: object = None,
    weights: object = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] = 0.0,
    l2_scaling: str | None = None,
    offsets: bool = False,
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
        End when the mean held-out error has not fallen below its lowest for so many ranks, or when the fits of a rank
        are exact. None: try all.
    rule : {"one-standard-error", "paired", "best"}
        ``"best"``: choose the rank of the lowest mean error. ``"one-standard-error"``: the smallest rank whose mean
        error exceeds the lowest by no more than the standard error of the lowest (Breiman et al. 1984). ``"paired"``:
        by no more than the standard error of the difference, which leaves out what all ranks find hard in a fold. By
        every rule, errors that the fits do not resolve are equal, and the smallest rank among equals wins.
    warm_start : bool
        False: every fit starts from scratch, as ``init`` says, and runs to its end.
    random_state : int, RandomState, Generator, SeedSequence, optional
        What the folds and the starts are drawn from. The result has the same bits for any ``n_threads``.
    callback : callable, optional
        Called after every rank with the selection so far. If it raises ``StopIteration``, that is the result.
    solver, loss, missing_values, mask, weights, l1, l2, l2_scaling, offsets, init, tol, max_iter, dtype, n_threads
        As in :func:`nmfcore.factorize`. ``init`` is for the first rank, or all without ``warm_start``. With
        ``l2_scaling="count"`` a penalty counts for each entry that was not held out. ``offsets`` come besides the
        components of every rank, and are part of what is foretold.

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
    MemoryError
        If the fits of a rank do not fit the memory that the process may have; at once for ranks that are tried anyway.

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

    A fit resolves its error to the share that the last half of its iterations took from its objective. Where the fits
    of a rank leave 1e-8 of X or so (float64), nothing is left to explain, and no larger rank is chosen.

    A path from rank to rank may stay in a poor local minimum, and the ranks on it then look worse than they are. So up
    to a million entries, fits are also begun from scratch, and the lower one counts (not with ``tol=0``, where
    iterations are counted). Larger data are fitted once a rank and fold. Fit the rank that was chosen afresh, from
    several starts.

    A fit to entries ends early when the error on those held out rises in two looks in a row, the second twice as many
    iterations on, to above that of the best rank so far: it then only fits noise.

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
    search = Search.checked(
        ranks, n_folds=n_folds, patience=patience, rule=rule, warm_start=warm_start, callback=callback
    )
    _arguments.one_of(holdout, "holdout", HOLDOUTS)
    mask_rng, *fold_rngs = generators(random_state, 1 + search.n_folds)
    loss, beta = _arguments.beta(loss)
    if isinstance(l2, str):
        raise ValueError(
            f"l2={l2!r} is for one fit: ranks are compared under one penalty. Pass a number, such as the l2 and "
            "l2_scaling in the settings of factorize(X, rank, l2='auto') at a rank of about the right size."
        )
    which: dict[str, Any] = {"missing_values": missing_values, "mask": mask, "weights": weights}
    fit: dict[str, Any] = {"solver": solver, "loss": loss, "l1": l1, "l2": l2, "l2_scaling": l2_scaling}
    fit |= {"offsets": offsets, "tol": tol, "max_iter": max_iter, "dtype": dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        # The front door judges the arguments, and what it says of X is said of the X that came.
        one = factorize(X, 1, init="random", random_state=0, n_threads=n_threads, **which, **(fit | {"max_iter": 0}))
    check_memory(search.certain, (len(one.W), one.H.shape[1]), one.W.dtype, beta)
    penalties = _arguments.factor_pair(l1, "l1"), _arguments.factor_pair(l2, "l2")
    which["dtype"] = _arguments.float_dtype(dtype)
    folds = hold_out(X, kind=holdout, n_folds=search.n_folds, test=test, rng=mask_rng, rescale=True, **which)
    scale = Scale(folds.shift, 0, beta)
    fit["l1"], fit["l2"] = zip(*(_inside(scale, l1, l2) for l1, l2 in zip(*penalties, strict=True)), strict=True)
    return search.along(Path(folds, fold_rngs, fit | {"init": init}, beta, n_threads), loss)


def _inside(scale: Scale, l1: float, l2: float) -> tuple[float, float]:
    """The penalties of a factor where X is divided by ``scale``; at most what float64 holds."""
    penalty = scale.penalty(Penalty(l1, l2))
    most = float(np.finfo(np.float64).max)
    return min(penalty.l1, most), min(penalty.l2, most)
