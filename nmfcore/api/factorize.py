"""Factorise a matrix: check, store, start, solve, report."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np

from nmfcore import _arguments, losses, starts
from nmfcore._arguments import check_flag
from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.api import undetermined
from nmfcore.api.arguments import (
    by_count,
    check_not_locked,
    check_rank,
    check_size_for_offsets,
    check_zeros,
    checked_solver,
    checked_stop,
    checked_threads,
    with_offsets,
)
from nmfcore.api.result import Factorization, History
from nmfcore.api.undetermined import PredictionWarning
from nmfcore.api.watch import Complete, State, Watch
from nmfcore.data.offsets import WithOffsets
from nmfcore.data.protocol import Data
from nmfcore.loop.mixed_precision import begun_in_single, pays, possible
from nmfcore.loop.solve import Plan, Run, solve
from nmfcore.loop.stopping import HALF, LAST, ConvergenceWarning, Status, Stop
from nmfcore.losses.scale import Scale
from nmfcore.machine.streams import warn
from nmfcore.reading import arrays, missing
from nmfcore.solvers import BaseSolver, Penalty
from nmfcore.starts.subsample import compressed

# A default fit ends within 2 % of where it would end if it went on (`python -m benchmarks defaults`).
TOL = 1e-3
MAX_ITER = 10_000
SPARSE = 0.1  # of all entries: an X with fewer that are not 0, however it is stored, is begun gently


def factorize(
    X: object,
    rank: int,
    *,
    solver: str | BaseSolver = "auto",
    loss: str | float = "frobenius",
    missing_values: object = None,
    mask: object = None,
    weights: object = None,
    l1: float | tuple[float, float] = 0.0,
    l2: float | tuple[float, float] | str = 0.0,
    l2_scaling: str | None = None,
    offsets: bool = False,
    init: str | Factorization = "auto",
    W: object = None,
    H: object = None,
    tol: float = TOL,
    max_iter: int = MAX_ITER,
    max_time: float | None = None,
    random_state: object = None,
    dtype: object = None,
    precision: str = "auto",
    n_threads: int | None = None,
    callback: Callable[[State], object] | None = None,
    progress: bool = False,
) -> Factorization:
    r"""Factorise a non-negative matrix: ``X ≈ W H`` with W and H non-negative.

    Minimises ``Σ ω_ij d(X_ij, (W H)_ij) + l1·Σ + ½·l2·‖·‖²`` (of each factor) over the entries that count, where ``d``
    is half the squared error or another :mod:`β-divergence <nmfcore.losses>`.

    Parameters
    ----------
    X : array_like, masked array, DataFrame or sparse matrix, shape (m, n)
        Non-negative. Never modified. float32 stays float32; everything else is float64 (see ``dtype``). A pandas frame
        with sparse columns, and an array of pydata/sparse, are sparse where their fill value is 0; where it is NaN and
        NaN is missing, what they do not store is missing.
    rank : int
        The number of components, r.
    solver : {"auto", "hals", "mu"} or a solver such as ``nmfcore.solvers.HALS(sweeps=1, extrapolate=False)``
        ``"auto"`` is HALS where there is one (``"frobenius"``, and ``"kullback-leibler"`` up to rank 32, from where on
        its models cost more than they save), and else MU.
    loss : {"frobenius", "kullback-leibler", "itakura-saito"} or float
        The loss of an entry, by name or by its β: half its squared error (β = 2); the Kullback-Leibler divergence
        (β = 1), for counts; that of Itakura and Saito (β = 0), for power spectra; or any β. For β <= 0 every entry
        that counts must be positive.
    missing_values : None, nan, 0 or "unstored"
        What stands for an entry that was not observed and is left out of the loss. ``None``: all entries are
        data. ``np.nan``. ``0``: every zero, stored or not. ``"unstored"``: of a sparse X, what is not stored;
        a stored 0 is a real 0. The mask of a numpy masked array is always honoured (True = missing there).
    mask : array_like of bool or sparse matrix, shape (m, n), optional
        True where X was observed. Values elsewhere are never read.
    weights : array_like or sparse matrix, shape (m, n), optional
        A non-negative weight ω for every entry; 0 and 1 behave exactly as a mask.
    l1, l2 : float or pair of float
        Penalties; a pair is for (W, H). Penalise both or neither: W can shrink at the expense of H.
        ``l2="auto"`` chooses the penalty that predicts observed entries best which are held out for that, with
        ``l2_scaling="count"`` and the Frobenius loss. It takes as long as 5 to 40 plain fits. Columns are brought to
        one scale by powers of four first, so their units do not matter, and the objective is that of the scaled columns
        (see :mod:`nmfcore.api.auto_penalty`). ``f.settings["l2"]`` is what was chosen; 0 where no entry is missing.
    l2_scaling : None or "count"
        With ``"count"``, ``l2`` counts once for every entry (its weight, if it has one) of the row of W or column of H:
        ``½·l2·(Σ_i n_i ‖w_i‖² + Σ_j n_j ‖h_j‖²)``, as in ALS-WR, so that one setting suits rows with few entries
        and with many.
    offsets : bool
        Add two components, ``x̂_ij = w_i · h_j + b_i + c_j``: ``W[:, rank] = b`` with ``H[rank] = 1``, and ``H[rank + 1]
        = c`` with ``W[:, rank + 1] = 1``, penalised as the rest is (see :mod:`nmfcore.data.offsets`). For data with
        missing entries or dense data, the Frobenius loss and HALS.
    init : {"auto", "compressed", "random", "nndsvd", "nndsvda", "nndsvdar", "fast-nndsvdar"} or Factorization
        The start. ``"auto"`` is ``"fast-nndsvdar"`` for complete data (see :mod:`nmfcore.starts`), ``"random"`` where
        entries are missing, one factor is given, ``rank > min(m, n)``, or most singular values are about equal; either
        is improved by fits of samples of X where X has the size and the entries per column for it to pay, as dense
        matrices have: that is ``"compressed"`` (see :mod:`nmfcore.starts.subsample`). ``"random"`` is scikit-learn's
        formula to the bit for an integer ``random_state``. A factorization: go on from its W and H.
        ``f.settings["init"]`` names what was chosen.
    W, H : array_like, shapes (m, r) and (r, n), optional
        Start from these instead; copied, never modified. If only one is given, ``init`` makes the other. A row of W
        or column of H without an observed entry is 0, given or made: nothing is known of it (as in ``f.transform``).
        A component of a size that the arithmetic cannot square is brought nearer to that of X.
    tol : float
        Stop when the KKT residual is at most this (see :func:`nmfcore.losses.kkt.kkt_residual`; of other losses than
        Frobenius, :func:`nmfcore.losses.kkt.divergence_residual`) and the objective hardly falls any more: by at most
        ``0.1 tol`` of itself in the last iteration, and by at most ``10 tol`` in the last half of all iterations. At
        the start, where nothing has fallen yet, the KKT residual alone decides. A fit that leaves less than
        ``1e-3 tol`` of ``‖X‖`` is exact, and its falls do not count.
    max_iter : int
        Stop after so many iterations. 0 only makes and assesses the start.
    max_time : float, optional
        Stop after so many seconds.
    random_state : int, RandomState, Generator, SeedSequence, optional
        What random numbers are drawn from.
    dtype : float32 or float64, optional
        Compute in this. By default float32 where X is, and else float64.
    precision : {"auto", "mixed", "full"}
        ``"full"``: all iterations in ``dtype``. ``"mixed"``: iterations in float32 first, then in float64, which
        decides on the end (HALS, the Frobenius loss, complete data in float64; see
        :mod:`nmfcore.loop.mixed_precision`).
        ``"auto"``: mixed where that saves time (X has up to ten million entries, a sparse one five, and iterations are
        of some size) and the start is made by ``init="auto"`` or ``"compressed"``. ``f.settings["precision"]`` names
        what was chosen.
    n_threads : int, optional
        Default: as many as the process may use, or ``NMFCORE_NUM_THREADS``. The result has the same bits for
        any number.
    callback : callable, optional
        Called after every iteration with a state that has ``n_iter``, ``objective``, ``kkt``, ``seconds``, ``W``
        and ``H`` (read-only). If it raises ``StopIteration``, the fit ends there.
    progress : bool
        Show a progress bar (needs tqdm).

    Returns
    -------
    Factorization
        ``f.W``, ``f.H``, ``f.objective``, ``f.kkt``, ``f.status``, ``f.history`` and more. The objective never rises
        from one iterate to the next, but for rounding: 1e-12 of it, or some eps²·‖X‖² where a fit is exact.

    Raises
    ------
    TypeError, ValueError
        If an argument breaks a rule; the message has the place and a remedy.
    FloatingPointError
        If the objective overflows, as it may from starting factors or penalties far beyond the size of the data.
    MemoryError
        If X, its transpose or factors of this rank do not fit the memory that the process may have; with the bytes that
        each takes, before they are taken.
    ImportError
        If ``progress`` needs tqdm and it is not installed.
    KeyboardInterrupt
        On Ctrl-C, with the last complete estimate as ``exc.factorization`` (None before there is one).

    Warns
    -----
    ConvergenceWarning
        If the fit ended before it converged (not with ``tol=0``, and not when the callback ended it).
    PredictionWarning
        If missing entries are predicted far beyond all that was observed: more than ten times as large as the largest
        entry of their column and, columns brought to one scale, of their row. The data do not determine such entries;
        a penalty does (see :mod:`nmfcore.api.undetermined`). With ``l2="auto"``, also if the column means predict
        better.

    References
    ----------
    Cichocki and Phan 2009, Gillis and Glineur 2012 (HALS); Lee and Seung 2001 (MU); derived in
    :mod:`nmfcore.solvers.hals` and :mod:`nmfcore.solvers.mu`.

    Examples
    --------
    >>> import numpy as np, nmfcore
    >>> ratings = np.array([[5, 3, 0, 1], [4, 0, 0, 1], [1, 1, 0, 5], [1, 0, 0, 4], [0, 1, 5, 4]])
    >>> f = nmfcore.factorize(ratings, 2, missing_values=0, l2=0.1, random_state=0)
    >>> f.W.shape, f.H.shape, f.converged
    ((5, 2), (2, 4), True)
    >>> f.predict([4], [0]).round(1)  # what User5 would give Movie1
    array([1.2])

    A penalty chosen by held-out entries:

    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((50, 2)) @ rng.random((2, 8))
    >>> X[rng.random(X.shape) < 0.5] = np.nan
    >>> f = nmfcore.factorize(X, 2, missing_values=np.nan, l2="auto", random_state=0)
    >>> f.settings["l2_auto"], f.settings["l2_scaling"], 0 < f.settings["l2"][0] < 0.1
    (True, 'count', True)
    """
    if isinstance(l2, str):
        arguments = dict(locals())
        from nmfcore.api import auto_penalty  # which fits by this function

        return auto_penalty.fit(arguments.pop("X"), arguments.pop("rank"), arguments)
    run, scale = Run(), Scale()
    errors = np.geterr()
    complete: Complete = _as_they_are
    settings = dict[str, Any]()
    try:
        rank = _arguments.whole(rank, "rank", 1)
        missing_values = missing.check_rule(missing_values)
        loss, beta = _arguments.beta(loss)
        solver = checked_solver(solver, beta, rank)
        if l2_scaling is not None:
            l2_scaling = _arguments.one_of(l2_scaling, "l2_scaling", (None, "count"))
        check_flag("offsets", offsets)
        if isinstance(init, Factorization):
            if W is None and H is None and init.rank != rank + 2 * bool(offsets):
                asked = f"rank={rank}, offsets=True asks" if offsets else f"rank={rank} asks"
                raise ValueError(
                    f"init is a factorization with {init.rank} components where {asked} for {rank + 2 * bool(offsets)}."
                )
            W, H, init = (init.W if W is None else W), (init.H if H is None else H), "auto"
        if offsets and (beta != 2.0 or not solver.by_entries):
            raise ValueError(f"offsets=True needs the Frobenius loss and HALS, not loss={loss!r} and {solver!r}.")
        penalties = tuple(map(Penalty, _arguments.factor_pair(l1, "l1"), _arguments.factor_pair(l2, "l2")))
        stop = checked_stop(tol, max_iter, max_time)
        init = _arguments.one_of(init, "init", starts.INITS)
        precision = _arguments.one_of(precision, "precision", ("auto", "mixed", "full"))
        threads = checked_threads(n_threads)
        if callback is not None and not callable(callback):
            raise TypeError(f"callback={callback!r} must be callable: it is called with a state after every iteration.")
        nothing_to_draw = random_state is None and W is not None and H is not None
        rng = None if nothing_to_draw else _arguments.generator(random_state)  # entropy takes a fifth of a small fit
        bar = _arguments.tqdm() if progress else None
        settings |= {
            "solver": repr(solver),
            "loss": loss,
            "missing_values": missing_values,
            "l1": (penalties[0].l1, penalties[1].l1),
            "l2": (penalties[0].l2, penalties[1].l2),
            "l2_scaling": l2_scaling,
            "offsets": bool(offsets),
            "tol": stop.tol,
            "max_iter": stop.max_iter,
            "max_time": stop.max_time,
        }
        own = bool(offsets) or l2_scaling == "count"  # what each row has by itself
        number = _arguments.float_dtype(dtype)
        read = missing.read(X, missing_values, mask, weights, number, degree=beta, row_by_row=own)
        data, scale = read.data, read.scale
        check_zeros(read, loss, beta)
        check_rank(rank, data, beta, init, W, H)
        if offsets:
            check_size_for_offsets(scale, data)
            one = float(np.ldexp(1.0, -scale.shift))
            data = with_offsets(data, (one, one))
        if l2_scaling == "count":
            for penalty, rows in zip(penalties, (data, data.T), strict=True):
                _check_counted(penalty, rows)
            penalties = tuple(map(by_count, penalties, (data, data.T)))
        complete = data.complete if isinstance(data, WithOffsets) else _as_they_are
        with Team(threads) as team, closing(Watch(callback, bar, stop, scale, complete)) as watch:
            penalty_W, penalty_H = map(scale.penalty, penalties)
            plan = Plan(solver, losses.make(beta, data), penalty_W, penalty_H, team, _gentle(solver, data))
            begin = starts.chosen(init, data, rank, given=W is not None or H is not None)
            own_start = init == "compressed" or (init == "auto" and (W is None or H is None))
            mixed = _is_mixed(precision, data, rank, plan, stop, own_start)
            settings |= {"dtype": data.dtype.name, "precision": "mixed" if mixed else "full"}
            own = own_start and begin == starts.FAST
            W0, Ht0, settings["init"] = _start(data, scale, rank, "own" if own else begin, W, H, rng, team)
            W0, Ht0 = starts.within_range(W0, Ht0, data.free(W0.shape[1]), data.summary.largest, beta)
            if stop.max_iter > 0:
                check_not_locked(solver, data, W0, Ht0)
            if own_start:
                deadline = math.inf if stop.max_time is None else run.began + stop.max_time
                made = W0
                W0, Ht0, plan = compressed(data, W0, Ht0, plan, deadline)
                settings["init"] = settings["init"] if W0 is made else "compressed"
            if mixed:
                W0, Ht0 = begun_in_single(data, W0, Ht0, plan, stop=stop, run=run, watch=watch)
            solve(data, W0, Ht0, plan, stop=stop, run=run, watch=watch)
        f = _result(run, scale, complete, settings)
        if not f.converged and f.status is not Status.CALLBACK and stop.tol > 0:
            warn(f"{_shortfall(f, stop)} {f.status.value}", ConvergenceWarning, stacklevel=2)
        if (said := _out_of_range(data, scale, f)) is not None:
            warn(said, PredictionWarning, stacklevel=2)
        return f
    except KeyboardInterrupt as interrupt:  # wherever it comes, it brings what there is
        np.seterr(**errors)  # it may have come between a block of np.errstate and its end
        interrupt.factorization = (  # type: ignore[attr-defined]
            _result(run, scale, complete, settings) if run.last else None
        )
        raise


def _out_of_range(data: Data, scale: Scale, f: Factorization) -> str | None:
    """What there is to say of missing entries that the data do not determine; None of a start, which is no fit."""
    if data.counts is None or f.settings["max_iter"] == 0:
        return None
    found = undetermined.find(data, scale.inward(f.W), scale.inward(f.H).T)
    if found is None:
        return None
    larger = "a larger l2" if f.settings["l2_scaling"] == "count" else "l2"
    remedy = f"Pass {larger} with l2_scaling='count'."
    if _arguments.beta(f.settings["loss"])[1] == 2.0:
        remedy = f"{remedy[:-1]}, or l2='auto', which chooses it."
    return undetermined.message(found, math.ldexp(1.0, 2 * scale.shift), remedy)


def _shortfall(f: Factorization, stop: Stop) -> str:
    """What kept a fit from converging: its residual, or an objective that still fell."""
    if f.kkt > stop.tol:
        return f"the KKT residual is {f.kkt:.2g} after {f.n_iter} iterations, above tol={stop.tol:g}."
    if not 0.0 < f.objective < math.inf:
        return (
            f"the KKT residual is {f.kkt:.2g} after {f.n_iter} iterations, but the objective still falls. (float64 "
            "does not hold it in the unit of X; divide X or its weights by a number to see it.)"
        )
    fallen = f.history.objective[: f.n_iter] / f.objective  # as many times as high as now
    half = f.n_iter // 2
    since, allowed = (half, HALF) if fallen[half] > 1.0 + HALF * stop.tol else (f.n_iter - 1, LAST)
    return (
        f"the KKT residual is {f.kkt:.2g} after {f.n_iter} iterations, but the objective still falls: at iteration "
        f"{since} it was {fallen[since]:.5g} times as high, where tol={stop.tol:g} allows "
        f"{1.0 + allowed * stop.tol:.5g}."
    )


def _gentle(solver: BaseSolver, data: Data) -> int:
    """Fuller data begin with a sample, or end about where they would anyway; masked, a sweep costs next to nothing."""
    sparse = data.known_rows is None and data.summary.nonzero < SPARSE * data.n_entries
    return solver.gentle if sparse else 0


def _is_mixed(precision: str, data: Data, rank: int, plan: Plan, stop: Stop, own_start: bool) -> bool:
    """Whether iterations are made in float32 first."""
    if precision == "mixed" and not possible(data, plan):
        raise ValueError(
            f"precision='mixed' needs complete data in float64, the Frobenius loss and HALS; X is {data.dtype}"
            f"{' with missing entries or weights' if data.counts is not None else ''}, β = {plan.loss.beta:g} and the "
            f"solver {plan.solver!r}. Pass precision='auto' or 'full', or dtype='float64' for a complete float32 X."
        )
    return precision == "mixed" or (precision == "auto" and own_start and pays(data, rank, plan, stop))


def _most_counts(data: Data) -> float:
    """How often a penalty by counts counts for a row, at most."""
    return float(data.shape[1] if data.counts is None else data.counts.max(initial=1.0))


def _check_counted(penalty: Penalty, data: Data) -> None:
    most = _most_counts(data)
    if not math.isfinite(penalty.l2 * most):
        raise losses.RangeError(
            f"l2={penalty.l2:.3g} counts {most:.3g} times for a row, which overflows: choose a smaller l2, or divide "
            "the weights by a number."
        )


def _as_they_are(W: Array, Ht: Array) -> tuple[Array, Array]:
    return W, Ht


def _start(
    data: Data, scale: Scale, rank: int, init: str, W: object, H: object, rng: Any, team: Team
) -> tuple[Array, Array, str]:
    """The factors that move, from those given or made, and what made them."""
    (m, n), r = data.shape, rank + 2 * isinstance(data, WithOffsets)
    W0 = None if W is None else scale.inward(arrays.factor(W, "W", (m, r), data.dtype))
    Ht0 = None if H is None else scale.inward(arrays.factor(H, "H", (r, n), data.dtype).T)
    if isinstance(data, WithOffsets):  # the components of ones do not move
        W0, Ht0 = None if W0 is None else W0[:, :-1], None if Ht0 is None else np.delete(Ht0, rank, axis=1)
    name = "given"
    if W0 is None or Ht0 is None:
        if init == "own":
            made_W, made_Ht, name = starts.own(data, rank, rng, team)
        else:
            (made_W, made_Ht), name = starts.start(data, rank, init, rng, team), init
        if isinstance(data, WithOffsets):
            made_W, made_Ht = data.start(made_W, made_Ht)
        W0 = made_W if W0 is None else W0
        Ht0 = made_Ht if Ht0 is None else Ht0
    W0, Ht0 = np.ascontiguousarray(W0), np.ascontiguousarray(Ht0)
    starts.clear_unknown(data, W0, Ht0)  # these are never the caller's own memory
    return W0, Ht0, name


def _result(run: Run, scale: Scale, complete: Complete, settings: dict[str, Any]) -> Factorization:
    last = run.last
    assert last is not None
    W, Ht = complete(last.W, last.Ht)
    # An interrupt may have come when an iterate was in the history, but not yet the last one.
    seen = [entry for entry in run.iterates if entry[0] <= last.n_iter]
    iterations, objectives, kkts, seconds = (np.array(column) for column in zip(*seen, strict=True))
    history = History(iterations.astype(np.int64), np.array([scale.objective(v) for v in objectives]), kkts, seconds)
    return Factorization(
        np.array(scale.outward(W)),
        np.ascontiguousarray(scale.outward(Ht.T)),
        float(history.objective[-1]),
        last.kkt,
        last.n_iter,
        run.status is Status.CONVERGED
        or (run.status is Status.STALLED and last.kkt <= float(np.sqrt(np.finfo(last.W.dtype).eps))),
        run.status,
        last.seconds,
        history,
        settings,
    )
