"""Compile ahead of time what the first fits of a process would otherwise wait for; forget what was compiled."""

from __future__ import annotations

import numpy as np

from nmfcore import _arguments, losses
from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.api.undetermined import find
from nmfcore.data.dense import Dense
from nmfcore.data.imputed import Imputed
from nmfcore.data.protocol import Data
from nmfcore.data.sparse import Sparse
from nmfcore.kernels._cache import clear
from nmfcore.kernels._jit import KERNELS
from nmfcore.kernels.sparse import by_rows, columns_rise
from nmfcore.loop.solve import Plan, Run, solve
from nmfcore.loop.stopping import Stop
from nmfcore.ratings import Ratings
from nmfcore.recommender import evaluation, ranking
from nmfcore.solvers import HALS, MU, Penalty
from nmfcore.solvers.nnls import solve_rows

BETAS = (2.0, 1.0, 0.5)  # all β but the first two share the code of the last
SHAPE, RANK = (30, 26), 3  # as many rows as a tile needs


def warmup(dtype: object = None, loss: str | float | None = None) -> None:
    """Compile every kernel, or load it from the cache on disk.

    The first fit after an installation compiles the kernels it needs, which takes seconds; the first fit of any later
    process loads them from the cache, which takes a fraction of one. Call this where that time is better spent: while
    an image is built, when a service starts, before something is timed. What a Recommender recommends and is evaluated
    with is among them. With ``NMFCORE_CACHE=0`` in the environment there is no cache, and it compiles every time.

    Parameters
    ----------
    dtype : float32 or float64, optional
        Only for data of this type; both if not given. (The fit of a float64 matrix of some size begins in float32: it
        needs both.)
    loss : str or float, optional
        Only for this loss, as :func:`nmfcore.factorize` has them; all if not given. (A Recommender's is the Frobenius
        loss.)

    Raises
    ------
    ValueError
        If there is no such dtype or loss.

    See Also
    --------
    clear_cache : Remove what was compiled, and where that is kept.

    Examples
    --------
    >>> import nmfcore
    >>> nmfcore.warmup(dtype="float64", loss="frobenius")
    """
    only = _arguments.float_dtype(dtype)
    betas = BETAS if loss is None else (_arguments.beta(loss)[1],)
    with Team(1) as team:
        for each in ("float32", "float64") if only is None else (only,):
            for data in _of_every_kind(np.dtype(each)):
                for beta in betas:
                    _use(data, beta, team)
    if 2.0 in betas:
        _rank()


def clear_cache() -> int:
    """Remove the compiled code that is kept on disk; the next fit compiles again.

    Nobody needs this after an update: code of other sources or versions is never used. It is the remedy where
    :class:`nmfcore.CacheWarning` comes back in every process, and it frees the room.

    Returns
    -------
    int
        How many files were removed. No others than those of this package's kernels are.

    Raises
    ------
    OSError
        If a file cannot be removed.

    See Also
    --------
    warmup : Compile every kernel, or load it from the cache.

    Notes
    -----
    The cache is in folders ``__pycache__`` beside the modules where these are writable, else in the user's folder for
    caches. The environment variable ``NUMBA_CACHE_DIR`` names another folder. ``NMFCORE_CACHE=0``, set before Python
    starts, does without a cache: every process then compiles what it needs, for some seconds.

    Examples
    --------
    >>> import nmfcore
    >>> nmfcore.clear_cache()  # doctest: +SKIP
    38
    """
    return clear(KERNELS)


def _of_every_kind(dtype: np.dtype[np.floating]) -> tuple[Data, ...]:
    X: Array = (1.0 + np.arange(SHAPE[0] * SHAPE[1]).reshape(SHAPE) % 7).astype(dtype)
    rows = np.arange(0, X.size + 1, SHAPE[1])
    columns = np.tile(np.arange(SHAPE[1], dtype=np.int32), SHAPE[0])
    stored = rows, columns, X.reshape(-1)
    columns_rise(rows, columns)
    by_rows(columns, columns, X.reshape(-1), SHAPE[1])
    punctured = Imputed.of(X, X > 1.0)
    return Dense(X), Sparse(*stored, SHAPE), punctured.observed, punctured


def _use(data: Data, beta: float, team: Team) -> None:
    loss, penalty = losses.make(beta, data), Penalty(l2=0.01)
    W, Ht = (1.0 + np.arange(n * RANK).reshape(n, RANK).astype(data.dtype) % 5 for n in SHAPE)
    for solver in (HALS(), MU()):
        if solver.handles(beta):
            plan = Plan(solver, loss, penalty, penalty, team)
            solve(data, W, Ht, plan, stop=Stop(0.0, 8), run=Run(), watch=lambda iterate: False)
    data.squared_error(W, Ht, team)
    find(data, W, 1e3 * Ht)
    data.times(Ht, team)
    if data.dtype == np.float64:  # transform works in nothing else
        solve_rows(loss, data, Ht, Penalty(), team)


def _rank() -> None:
    """What a Recommender does with its factors, which are float64 whatever they were fitted in."""
    one, users = np.ones((1, 1)), np.zeros(1, np.int64)
    for _ in ranking.best_items(one, one, users, 1, n_threads=1):
        pass
    ratings = Ratings.from_triplets([0], [0], [1.0])
    evaluation.errors(ranking.frozen(one), ranking.frozen(one), ratings, users, users, (0.0, 1.0), 1)
