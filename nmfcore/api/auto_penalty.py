r"""``l2="auto"``: the penalty that predicts held-out entries best.

A tenth of the observed entries is held out, several times over (3 to 10 folds), and penalties are tried on the others,
from large to small. Each fit begins where that of the penalty before ended; components that a larger penalty had made
vanish begin again as small random numbers. The search ends when smaller penalties no longer predict better.

All observed entries are then fitted with the best penalty, from where its fits of the folds ended and from fresh
starts. These fits may end in several minima, of which one may predict several times worse than another. The start is
kept whose minimum predicts held-out entries best, and the fit from there goes on to the end.

**Folds.** Each has its share of the large entries, and never the last of a row or column. Everything that is computed
from the data, as the scale of a column, is computed anew from what a fold does not hold out: in a column whose one
large entry is missing, that entry is large beside the others, and only so does a fold tell what it costs to shrink it.
Where few large entries make most of the squares, there are more folds: :attr:`_Problem.effective` counts entries as
:math:`(Σ x^2)^2 / Σ x^4`. Errors are divided by the root mean square of the positive entries of their column.

**Column means.** Where there is little to learn, as of rows with two entries, every fit may predict worse than the
means of the columns: a penalty draws predictions towards 0, and not towards these. That is said by a warning.

**Counts.** The penalty counts once for every entry of a row and column (``l2_scaling="count"``). One value then suits
rows with few entries and with many, and the fit to all entries as well as that to nine tenths of them.

**Columns in different units.** One penalty would shrink a column in small units hardly, and one in large units to
nothing, as the loss sees only the latter. So columns are brought to about one scale first: ``Y_ij = X_ij / 4**k_j``,
with ``k_j`` a whole number, 0 for the largest columns and negative for smaller ones. ``Y ≈ W H_Y`` is fitted, and
``H_tj = 4**k_j (H_Y)_tj``. A column is as large as the root mean square of its positive entries: zeros have no unit.
Powers of four change no digit, so a column in another such unit gets exactly the same predictions in that unit. Sizes
that differ by less than four in all should be left as they are, wherever between powers of four they lie. So what
counts as the next power begins at the widest gap between the columns' sizes, all taken modulo powers of four. With
offsets, which are added to all columns alike, the columns have one unit and are left as they are.

**What is minimised** is the objective of that fit. In terms of X, with ``s_j = 4**k_j``:

.. math:: ½ Σ ω_{ij} (X_{ij} - (W H)_{ij})^2 / s_j^2 + ½ l_2 (Σ_i n_i ‖w_i‖^2 + Σ_j n_j ‖h_j‖^2 / s_j^2)

References
----------
Wold, "Cross-validatory estimation of the number of components in factor and principal components models",
Technometrics 20, 1978 (held-out entries). Mazumder, Hastie and Tibshirani, "Spectral regularization algorithms for
learning large incomplete matrices", JMLR 11, 2010 (the path of penalties with warm starts). Zhou, Wilkinson, Schreiber
and Pan, "Large-scale parallel collaborative filtering for the Netflix prize", AAIM 2008 (the penalty by counts).
"""

from __future__ import annotations

import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nmfcore import _arguments
from nmfcore._types import Array
from nmfcore.api.arguments import check_memory
from nmfcore.api.factorize import factorize
from nmfcore.api.result import Factorization
from nmfcore.api.undetermined import PredictionWarning
from nmfcore.holdout.entries import Entries, make_entries
from nmfcore.holdout.measure import AT_ONCE
from nmfcore.holdout.reading import kept_entries, read
from nmfcore.holdout.sparse import CSR
from nmfcore.loop.stopping import ConvergenceWarning
from nmfcore.machine import memory
from nmfcore.machine.streams import warn
from nmfcore.reading import arrays, missing
from nmfcore.reading.compressed import Compressed
from nmfcore.starts.svd import FAST

# Chosen on planted matrices: gamma, sparse, heavy-tailed, smooth, decaying and count factors, with noise and without,
# 4 to 100 columns in equal and in different units, at one to three times the rank they have.
LARGEST = 0.3  # times the root mean square of Y, the first penalty: from the mean of Y on, every component vanishes
STEP = 10**-0.5  # from one penalty to the next
SMALLEST = 1e-5  # times that, the last to be tried
PATIENCE = 2  # penalties after the best before the search ends
SHARE = 0.1  # of the observed entries held out at a time,
ENOUGH = 1000  # in so many folds, from 3 to 10, that all of them hold out this many
LEAST_FOLDS, MOST_FOLDS = 3, 10
TOL = 3e-3  # of the fits of the search, or that of the caller if it is larger
MAX_ITER = 500  # of these fits
ROUGHLY = 10.0  # times that, the tolerance of the fits that tell which start is best
SAME = 1e-3  # of the objective: fits that differ by less end in the same minimum
WORSE = 1.1  # times as wrong as the means of columns is worth a warning
GONE = 1e-3  # of the largest component: smaller ones begin again, with
SEED = 0.1  # times the numbers of a random start
EACH = 64  # bytes that are taken at least for each entry


def fit(X: object, rank: int, asked: dict[str, Any]) -> Factorization:
    """:func:`nmfcore.factorize` with ``l2="auto"``; ``asked`` are its other arguments.

    Raises
    ------
    TypeError, ValueError
        If an argument breaks a rule, or no entry can be held out.
    KeyboardInterrupt
        On Ctrl-C, with the last complete estimate of the fit to all entries as ``exc.factorization``, or None.
    """
    began, f, searches = time.perf_counter(), None, True
    try:
        _check(asked)
        which = {name: asked[name] for name in ("missing_values", "mask", "weights")}
        with _Quiet():  # the front door judges the arguments, and what it says of X is said of the X that came
            judged = {"W": None, "H": None, "init": "random", "max_iter": 0, "random_state": 0, "progress": False}
            one = factorize(X, 1, **asked | judged | {"l2": 0.0, "callback": None})
        check_memory(_arguments.whole(rank, "rank", 1), (len(one.W), one.H.shape[1]), one.W.dtype, 2.0)
        problem = _Problem.of(X, which, asked)
        asked = asked | {"random_state": _arguments.generator(asked["random_state"])}
        l2, start, init = 0.0, dict[str, Any](), None
        if problem.unit > 0.0:
            search = _Search(problem, rank, asked, began)
            l2, start, init = search.run()
            if search.beside_means > WORSE and search.finished:
                warn(_of_means(search.beside_means, rank, asked["offsets"]), PredictionWarning, stacklevel=3)
        searches = False
        f = _final(problem, rank, asked | start | {"l2": l2}, began)
        settings = f.settings | {"missing_values": asked["missing_values"], "max_time": asked["max_time"]}
        settings |= {"l2_auto": True, "column_scale": problem.column_scale, "init": init or f.settings["init"]}
        return dataclasses.replace(f, settings=settings)
    except KeyboardInterrupt as interrupt:
        last = getattr(interrupt, "factorization", f)
        interrupt.factorization = None if searches else last  # type: ignore[attr-defined]
        raise


def _of_means(times: float, rank: int, offsets: bool) -> str:
    less = "a smaller rank" if offsets else "a smaller rank or offsets=True"
    return (
        f"l2='auto': held-out entries are predicted {times:.3g} times as wrong as by the mean of their column, with "
        f"any penalty. The data tell too little for rank={rank}: pass {less}, or predict by the means."
    )


def _check(asked: dict[str, Any]) -> None:
    loss, beta = _arguments.beta(asked["loss"])
    if asked["l2"] != "auto":
        raise ValueError(f"l2={asked['l2']!r} must be a number, a pair of numbers for (W, H), or 'auto'.")
    if beta != 2.0:
        raise ValueError(f"l2='auto' is for the Frobenius loss, not loss={loss!r}: pass l2 as a number.")


def _check_room(n_entries: int) -> None:
    """Raise if the folds of so many entries do not fit the memory."""
    parts = {f"{n_entries} entries, where they are and what is computed of each": EACH * n_entries}
    memory.check(parts, "l2='auto'", "pass l2 as a number, or choose it by fewer rows")


class _Quiet(warnings.catch_warnings):
    """What fits of the search have to say is not of interest: they are judged by what was held out."""

    def __enter__(self) -> None:
        super().__enter__()
        for kind in (ConvergenceWarning, PredictionWarning):
            warnings.simplefilter("ignore", kind)


@dataclasses.dataclass(frozen=True)
class _Problem:
    """X with its columns at one scale, and which of its entries count."""

    Y: Array | Compressed
    observed: Array | None  # of a dense Y; None for everywhere
    weights: Array | None
    column_scale: tuple[int, ...] | None  # X = Y · 4**column_scale; None where X = Y
    unit: float  # the root mean square of Y; 0 where there is nothing to choose a penalty by
    sizes: Array  # (n,) what errors in the columns of X are measured by
    effective: float  # how many entries of one size would tell as much of a mean square

    @classmethod
    def of(cls, X: object, which: dict[str, Any], asked: dict[str, Any]) -> _Problem:
        """Of what the caller passed in, and the front door accepted."""
        rule = missing.check_rule(which["missing_values"])
        dtype = _arguments.float_dtype(asked["dtype"])
        return cls.scaled(*read(X, rule, which["mask"], which["weights"], dtype), one_unit=asked["offsets"])

    @classmethod
    def scaled(
        cls, matrix: Array | Compressed, observed: Array | None, weights: Array | None, one_unit: bool
    ) -> _Problem:
        """Of what :func:`nmfcore.holdout.reading.read` returns; ``one_unit`` leaves the columns as they are."""
        if isinstance(matrix, Compressed):
            complete = observed is None
            if observed is not None:
                matrix, weights = kept_entries(matrix, observed, weights)
                observed = None
                complete = matrix.values.size == matrix.shape[0] * matrix.shape[1]
        else:
            complete = observed is None or bool(observed.all())
        n = matrix.shape[1]
        if complete:
            return cls(matrix, observed, weights, None, 0.0, np.ones(n), 0.0)
        if isinstance(matrix, Compressed):
            _check_room(matrix.values.size)
            values, columns = matrix.values, matrix.indices
        else:
            assert observed is not None  # or it would be complete
            _check_room(int(np.count_nonzero(observed)))
            values, columns = matrix[observed], np.nonzero(observed)[1]
        k = np.zeros(n, np.int64) if one_unit else column_exponents(values, columns, n)
        unit = _root_mean_square(np.ldexp(values.astype(np.float64), -2 * k[columns]))
        sizes = np.full(n, unit)
        if not one_unit:
            mantissas, exponents, known = _column_sizes(values, columns, n)
            sizes = np.where(known, np.ldexp(mantissas, exponents), np.ldexp(unit, 2 * k))
        sizes[sizes == 0.0] = 1.0  # of columns of zeros
        squares = (values / sizes[columns]) ** 2
        effective = float(squares.sum() ** 2 / max(np.square(squares).sum(), np.finfo(float).tiny))
        if not k.any():
            return cls(matrix, observed, weights, None, unit, sizes, effective)
        if isinstance(matrix, Compressed):
            Y: Array | Compressed = matrix._replace(values=np.ldexp(values, -2 * k[columns]))
        else:
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):  # of what is missing
                Y = np.ldexp(matrix, -2 * k)
        return cls(Y, observed, weights, tuple(k.tolist()), unit, sizes, effective)

    def folds(self, rng: np.random.Generator) -> Entries:
        """Entries to hold out, none of them the last of its row or column."""
        if isinstance(self.Y, Compressed):
            n_entries = self.Y.values.size
        else:
            n_entries = self.Y.size if self.observed is None else int(self.observed.sum())
        share = max(SHARE, 1.0 / n_entries)
        n_folds = min(max(math.ceil(ENOUGH / (share * self.effective)), LEAST_FOLDS), MOST_FOLDS, n_entries)
        return make_entries(self.Y, self.observed, self.weights, n_folds, share, rng, may_be_empty=True, by_size=True)

    def whole(self) -> dict[str, Any]:
        """All of it, as arguments of :func:`nmfcore.factorize`."""
        if not isinstance(self.Y, Compressed):
            return {"X": self.Y, "missing_values": None, "mask": self.observed, "weights": self.weights}
        X = CSR(self.Y.indptr, self.Y.indices, self.Y.values, self.Y.shape)
        weights = None if self.weights is None else dataclasses.replace(X, data=self.weights)
        return {"X": X, "missing_values": "unstored", "mask": None, "weights": weights}

    def inward(self, H: Any) -> Any:
        """H as Y has it."""
        if self.column_scale is None or H is None:
            return H
        H = arrays.array_2d(H, "H")
        # What has another shape is refused by the fit, which knows what it needs.
        return np.ldexp(H, -2 * np.array(self.column_scale)) if H.shape[1] == len(self.column_scale) else H

    def outward(self, H: Array) -> Array:
        """H as X has it."""
        if self.column_scale is None:
            return H
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(np.ldexp(H, 2 * np.array(self.column_scale)))


def column_exponents(values: Array, columns: Array, n: int) -> Array:
    """The whole numbers ``k`` (n,) for which the columns divided by ``4**k`` have about one size; the largest is 0.

    Parameters
    ----------
    values, columns : ndarray (n_entries,)
        The observed entries, and in which columns they stand.
    n : int
        How many columns there are.
    """
    mantissas, power, known = _column_sizes(values, columns, n)
    k = np.zeros(n, np.int64)
    if not known.any():
        return k
    mantissa, power = mantissas[known], power[known]
    digits, fours = mantissa * 2.0 ** (power % 2), power // 2  # size = digits · 4**fours, digits in [1/2, 2)
    ascending = np.unique(digits)
    gaps = np.append(ascending[1:], 4.0 * ascending[0]) / ascending
    fours += digits > ascending[np.argmax(gaps)]
    k[known] = fours - fours.max()
    return k


def _column_sizes(values: Array, columns: Array, n: int) -> tuple[Array, Array, Array]:
    """The root mean square of the positive entries of each column as m · 2**e, and which columns have any."""
    largest = np.zeros(n)
    np.maximum.at(largest, columns, values)
    exponent = np.frexp(largest)[1]  # squares of what is divided by that neither over- nor underflow
    shares = np.ldexp(values.astype(np.float64), -exponent[columns])
    squares, counts = np.bincount(columns, shares**2, n), np.bincount(columns, values > 0, n)
    mantissas, more = np.frexp(np.sqrt(squares / np.maximum(counts, 1)))
    return mantissas, more + exponent, squares > 0


class _Search:
    """The path of penalties."""

    def __init__(self, problem: _Problem, rank: int, asked: dict[str, Any], began: float) -> None:
        self.problem, self.rank, self.began = problem, rank, began
        stream = asked["random_state"]
        draw = stream.integers if isinstance(stream, np.random.Generator) else stream.randint
        self.rng = np.random.default_rng([int(x) for x in draw(0, 2**31 - 1, size=4)])
        self.entries = problem.folds(self.rng)
        self.folds = [k for k, part in enumerate(self.entries.held_out) if part.size]
        if not self.folds:
            raise ValueError(
                "l2='auto' holds observed entries out, and here each is the last of its row or column: pass l2 as a "
                "number."
            )
        self.asked = asked | {"callback": None, "progress": False, "l2_scaling": "count"}
        self.asked |= {"tol": max(asked["tol"], TOL), "max_iter": min(asked["max_iter"], MAX_ITER)}
        # Half of the time is for the fit to all entries.
        self.limit = math.inf if asked["max_time"] is None else asked["max_time"] / 2.0
        given = asked["W"] is not None or asked["H"] is not None or isinstance(asked["init"], Factorization)
        self.walks = not given  # factors that the caller gave are where every fit begins
        self.finished = True  # whether no fit of the search was cut off, so that its errors can be judged
        self.beside_means = 0.0  # the best held-out error, as so many times that of the means of the columns

    def run(self) -> tuple[float, dict[str, Any], str | None]:
        """The best penalty, from where to fit all entries with it, and how the first fit began."""
        errors, init = list[float](), None
        path = [dict[str, Any]() for _ in self.folds]
        best = path
        while LARGEST * STEP ** len(errors) >= 0.99 * SMALLEST:
            share, wrong, fits = LARGEST * STEP ** len(errors), 0.0, list[Factorization]()
            for fold, start in zip(self.folds, path, strict=True):
                part = self._part(fold)
                f = self._fit(part, share, start)
                wrong += self._error(fold, part, _by(f, part))
                fits.append(f)
            init = init or fits[0].settings["init"]
            self.finished = self.finished and all(f.converged for f in fits) and self.asked["tol"] <= ROUGHLY * TOL
            errors.append(wrong)
            if wrong <= min(errors):
                best = [{"W": f.W, "H": self._part(k).outward(f.H)} for k, f in zip(self.folds, fits, strict=True)]
            if len(errors) - 1 - int(np.argmin(errors)) >= PATIENCE or self._late() or wrong == 0.0:
                break
            path = [self._next(f) if self.walks else {} for f in fits]
        of_means = sum(self._error_of_means(fold) for fold in self.folds)
        self.beside_means = math.sqrt(min(errors) / of_means) if of_means > 0.0 else 0.0
        share = LARGEST * STEP ** int(np.argmin(errors))
        return share * self.problem.unit, self._start(share, best) if self.walks else {}, init

    def _start(self, share: float, starts: list[dict[str, Any]]) -> dict[str, Any]:
        """Where the fit to all entries begins: of those starts and fresh ones, what leads to the best predictions.

        Fits to all entries end in several minima. Each is judged as the penalty was: by fits to what the folds do not
        hold out, which begin there.
        """
        starts = [start | {"init": "auto"} for start in starts[:LEAST_FOLDS]] + [{}]
        if self.asked["init"] == "auto" and self.rank <= min(self.problem.Y.shape):
            starts.append({"init": FAST})
        roughly = {"tol": ROUGHLY * self.asked["tol"]}
        ends = list[Factorization]()
        for start in starts:
            f = self._fit(self.problem, share, start | roughly)
            if all(abs(f.objective - other.objective) > SAME * f.objective for other in ends):
                ends.append(f)
        errors = np.zeros(len(ends))
        for fold in self.folds if len(ends) > 1 else ():
            part = self._part(fold)
            for k, f in enumerate(ends):
                begin = {"W": f.W, "H": part.inward(f.H), "init": "auto"}
                errors[k] += self._error(fold, part, _by(self._fit(part, share, begin | roughly), part))
        f = ends[int(np.argmin(errors))]
        return {"W": f.W, "H": self.problem.outward(f.H), "init": "auto"}

    def _part(self, fold: int) -> _Problem:
        """What is not held out in a fold, read as if there were nothing else."""
        kept, Y, weights = self.entries.kept(fold), self.problem.Y, self.problem.weights
        return _Problem.scaled(Y, kept, weights, self.asked["offsets"])

    def _fit(self, problem: _Problem, share: float, start: dict[str, Any]) -> Factorization:
        left = None if math.isinf(self.limit) else max(0.0, self.limit - (time.perf_counter() - self.began))
        asked = self.asked | {"l2": share * problem.unit, "max_time": left}
        if not self.walks:
            asked |= _given(problem, _given(self.problem, self.asked))
        with _Quiet():
            return factorize(rank=self.rank, **asked | problem.whole() | start)

    def _error(self, fold: int, part: _Problem, predict: Callable[[Array, Array], Array]) -> float:
        """The squared error on what a fold held out, in units of the columns of the others, summed."""
        total, held_out = 0.0, self.entries.held_out[fold]
        for start in range(0, held_out.size, max(1, AT_ONCE // self.rank)):
            places = held_out[start : start + max(1, AT_ONCE // self.rank)]
            rows, columns, x = self.entries.at(places)
            squares = ((x - predict(rows, columns)) / part.sizes[columns]) ** 2
            weights = self.entries.weights
            total += float((squares if weights is None else squares * weights.reshape(-1)[places]).sum())
        return total

    def _error_of_means(self, fold: int) -> float:
        """That of predicting each by the mean of the others of its column."""
        Y, kept, weights = self.problem.Y, self.entries.kept(fold), self.entries.weights
        _, of_columns = self.entries.counts(fold)
        if isinstance(Y, Compressed):
            parts = Y.values[kept], Y.indices[kept], None if weights is None else weights[kept]
        else:
            parts = Y[kept], np.nonzero(kept)[1], None if weights is None else weights[kept]
        values, columns, weights_kept = parts
        totals = np.bincount(columns, values if weights_kept is None else values * weights_kept, Y.shape[1])
        means = totals / np.maximum(of_columns, np.finfo(float).tiny)
        return self._error(fold, self._part(fold), lambda rows, columns: means[columns])

    def _late(self) -> bool:
        return time.perf_counter() - self.began >= self.limit

    def _next(self, f: Factorization) -> dict[str, Any]:
        """Where the fit with the next penalty begins: components that are gone begin again."""
        W, H = f.W.copy(), f.H.copy()
        free = self.rank  # offsets, the last two components, stay
        sizes = np.linalg.norm(W[:, :free], axis=0) * np.linalg.norm(H[:free], axis=1)
        gone = np.flatnonzero(sizes <= GONE * sizes.max())
        scale = SEED * math.sqrt(self.entries.mean / self.rank)
        W[:, gone] = np.abs(scale * self.rng.standard_normal((W.shape[0], gone.size)))
        H[gone] = np.abs(scale * self.rng.standard_normal((gone.size, H.shape[1])))
        return {"W": W, "H": H, "init": "auto"}


def _by(f: Factorization, part: _Problem) -> Callable[[Array, Array], Array]:
    """The predictions of a fit of a part, in the unit of all."""
    scale = np.ones(f.H.shape[1]) if part.column_scale is None else np.ldexp(1.0, 2 * np.array(part.column_scale))
    return lambda rows, columns: f.predict(rows, columns) * scale[columns]


def _given(problem: _Problem, asked: dict[str, Any]) -> dict[str, Any]:
    """Where the caller has fits begin, as Y has it."""
    init = asked["init"]
    if isinstance(init, Factorization):
        init = dataclasses.replace(init, H=problem.inward(init.H))
    return {"W": asked["W"], "H": problem.inward(asked["H"]), "init": init}


def _final(problem: _Problem, rank: int, asked: dict[str, Any], began: float) -> Factorization:
    """The fit to all observed entries, in the unit of X; what it warns of is said to the caller's caller."""
    before, left = time.perf_counter() - began, asked["max_time"]
    asked = asked | _given(problem, asked) | problem.whole() | {"l2_scaling": "count"}
    asked |= {"max_time": None if left is None else max(0.0, left - before)}
    callback = asked["callback"]
    if callback is not None:
        asked["callback"] = lambda state: callback(
            dataclasses.replace(state, H=problem.outward(state.H), seconds=state.seconds + before)
        )

    def finished(f: Factorization) -> Factorization:
        history = dataclasses.replace(f.history, seconds=f.history.seconds + before)
        return dataclasses.replace(f, H=problem.outward(f.H), seconds=f.seconds + before, history=history)

    f: Factorization | None = None
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            f = factorize(rank=rank, **asked)
        for warning in caught:
            warn(warning.message, warning.category, stacklevel=4)
        return finished(f)
    except KeyboardInterrupt as interrupt:
        last = getattr(interrupt, "factorization", f)
        interrupt.factorization = None if last is None else finished(last)  # type: ignore[attr-defined]
        raise


def _root_mean_square(values: Array) -> float:
    exponent = int(np.frexp(values.max())[1])
    return math.ldexp(math.sqrt(float(np.mean(np.ldexp(values, -exponent) ** 2))), exponent)
