"""Whole problems, drawn at random: the contract of ``factorize`` holds for each, or the refusal is documented.

The contract: finite, non-negative factors; an objective that never rises; inputs as they were; the same bits for any
number of threads; a model file that comes back; ``transform`` finite or refused. ``make fuzz`` draws many.
"""

from __future__ import annotations

import copy
import re
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import budget
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from fits import same
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

import nmfcore
from nmfcore import Factorization
from nmfcore import _parallel as parallel
from nmfcore.loop.solve import Overflow
from nmfcore.losses.protocol import RangeError
from nmfcore.solvers import HALS, MU

SOLVERS = {
    "auto": "auto",
    "hals": "hals",
    "mu": "mu",
    "one sweep": HALS(sweeps=1, extrapolate=False),
    "a share": HALS(sweeps=3, extrapolate=0.3),
    "plain mu": MU(extrapolate=False),
}
LOSSES: list[Any] = ["frobenius"] * 6 + ["kullback-leibler"] * 3 + ["itakura-saito", 0.5, 1.5, 3.0, -1.0]
BETAS = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
STORED: dict[str, Callable[[np.ndarray], Any]] = {
    "dense": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "every other": lambda A: np.repeat(np.repeat(A, 2, 0), 2, 1)[::2, ::2],
    "list": np.ndarray.tolist,
    "frame": pd.DataFrame,
    "csr": sp.csr_array,
    "csc": sp.csc_matrix,
    "coo": sp.coo_array,
    "lil": sp.lil_matrix,
}
SPARSE = ("csr", "csc", "coo", "lil")
MISSING = ["none"] * 4 + ["mask", "nan", "masked array", "zeros", "unstored", "weights", "weights of 0 and 1"]
KINDS = ["noisy", "low rank", "counts", "zeros", "constant", "spread"]
STARTS = ["auto"] * 4 + ["random", "nndsvd", "nndsvda", "nndsvdar", "fast-nndsvdar", "compressed"]
BEYOND = [""] * 9 + ["penalties", "weights", "W and H", "loss"]  # what is of a size that nobody means
GIVEN = ["none"] * 6 + ["W", "H", "both", "both, with zeros", "both, of zeros", "both, far off"]


@dataclass(frozen=True)
class Problem:
    """How to make a problem; its repr is what reproduces it."""

    shape: tuple[int, int]
    rank: int
    kind: str
    exponent: int  # of ten, of the size of X
    dtype: str
    stored: str
    missing: str
    share: float
    solver: str
    loss: Any
    l1: tuple[float, float]
    l2: tuple[float, float]
    by_count: bool
    offsets: bool
    init: str
    given: str
    precision: str
    max_iter: int
    tol: float
    beyond: str
    by: int  # powers of ten
    seed: int

    @property
    def beta(self) -> float:
        return float(BETAS.get(self.loss, self.loss))

    @property
    def far_off(self) -> bool:
        """Whether penalties, weights or a start are far beyond the size of the data, or far below."""
        off = self.exponent if self.seed % 2 and any(self.l1 + self.l2) else 0
        return bool(self.beyond) or abs(off) >= (30 if self.dtype == "f4" else 100)

    @property
    def components(self) -> int:
        return self.rank + 2 * self.offsets


@st.composite
def problems(draw: Any) -> Problem:
    side = st.one_of(st.integers(1, 9), st.integers(1, 40))
    penalty = st.sampled_from([0.0, 0.0, 0.0, 1e-6, 0.01, 1.0, 1e3])
    p = Problem(
        shape=(draw(side), draw(side)),
        rank=draw(st.integers(1, 8)),
        kind=draw(st.sampled_from(KINDS)),
        exponent=draw(st.sampled_from([0, 0, 0, 0, -3, 3, -30, 30, -150, 150, -290, 290])),
        dtype=draw(st.sampled_from(["f8", "f8", "f4", "i8", "?"])),
        stored=draw(st.sampled_from(sorted(STORED))),
        missing=draw(st.sampled_from(MISSING)),
        share=draw(st.sampled_from([0.02, 0.2, 0.6, 0.95])),
        solver=draw(st.sampled_from(sorted(SOLVERS))),
        loss=draw(st.sampled_from(LOSSES)),
        l1=(draw(penalty), draw(penalty)),
        l2=(draw(penalty), draw(penalty)),
        by_count=draw(st.booleans()),
        offsets=draw(st.sampled_from([False, False, False, True])),
        init=draw(st.sampled_from(STARTS)),
        given=draw(st.sampled_from(GIVEN)),
        precision=draw(st.sampled_from(["auto", "auto", "auto", "full", "mixed"])),
        max_iter=draw(st.sampled_from([0, 1, 5, 5, 20, 60])),
        tol=draw(st.sampled_from([0.0, 0.0, 1e-3])),
        beyond=draw(st.sampled_from(BEYOND)),
        by=draw(st.sampled_from([-300, -150, -30, 30, 150, 300])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )
    return p if draw(st.integers(0, 19)) == 19 else fitting(p)


def fitting(p: Problem) -> Problem:
    """The problem without what would be refused: of twenty, one is left as it was drawn."""
    if p.beyond == "loss":
        p = replace(p, loss=p.by / 10.0)
    if p.beyond == "weights":
        p = replace(p, missing="weights", stored="dense" if p.stored == "list" else p.stored)
    by_updates = p.beta not in (1.0, 2.0)
    p = replace(p, solver="mu" if by_updates and "mu" not in p.solver else p.solver)
    p = replace(p, kind="noisy", dtype="f8" if p.dtype == "?" else p.dtype) if p.beta <= 0.0 else p
    p = replace(p, offsets=p.offsets and p.beta == 2.0 and "mu" not in p.solver and p.stored not in SPARSE)
    p = replace(p, init="random" if p.rank > min(p.shape) else p.init)
    complete = p.missing == "none" and p.beta == 2.0 and "mu" not in p.solver and not p.offsets
    return (
        p if complete and p.dtype != "f4" else replace(p, precision="auto" if p.precision == "mixed" else p.precision)
    )


# ---- making it ------------------------------------------------------------------------------------------------------


def matrix(p: Problem, rng: np.random.Generator) -> np.ndarray:
    """The matrix, before anything of it is missing."""
    (m, n), r = p.shape, max(1, p.rank // 2)
    X = rng.random((m, r)) @ rng.random((r, n))
    if p.kind == "noisy":
        X += 0.3 * rng.random((m, n))
    elif p.kind == "counts":
        X = rng.poisson(X).astype(float)
    elif p.kind == "zeros":
        X *= (rng.random((m, 1)) < 0.7) * (rng.random(n) < 0.7) * (rng.random((m, n)) < 0.5)
    elif p.kind == "constant":
        X[:] = rng.random()
    elif p.kind == "spread":
        X *= 10.0 ** rng.uniform(-4, 4, (m, 1)) * 10.0 ** rng.uniform(-4, 4, n)
    if p.dtype == "?":
        return np.median(X) < X
    if p.dtype == "i8":
        return np.floor(10 * X).clip(0, 1e9).astype(np.int64)
    exponent = int(np.clip(p.exponent, -30, 30)) if p.dtype == "f4" else p.exponent
    return (X * 10.0**exponent).astype(p.dtype)


def asked(p: Problem) -> tuple[Any, dict[str, Any], np.ndarray, np.ndarray]:
    """X as it is given, the options, the dense float64 matrix, and the weight of each of its entries."""
    rng = np.random.default_rng(p.seed)
    X = matrix(p, rng)
    observed = rng.random(X.shape) >= p.share
    observed.flat[p.seed % (X.size + 1) - 1] = True  # nearly always one is
    given, options, weights = with_gaps(p, X, observed, rng)
    size = float(X.max()) or 1.0
    options |= {"solver": SOLVERS[p.solver], "loss": p.loss, "init": p.init, "precision": p.precision}
    options |= {"l1": scaled(p, p.l1, size, p.beta - 0.5), "l2": scaled(p, p.l2, size, p.beta - 1.0)}
    if p.beyond == "penalties":
        options["l1"], options["l2"] = (tuple(v * 10.0 ** (p.by - 4) for v in pair) for pair in (p.l1, p.l2))
    if p.beyond == "weights" and "weights" in options:
        options["weights"] = options["weights"] * 10.0**p.by
        weights = options["weights"]
    options |= {"l2_scaling": "count" if p.by_count else None, "offsets": p.offsets, "random_state": p.seed}
    options |= {"max_iter": p.max_iter, "tol": p.tol} | factors(p, size, rng)
    return given, options, X.astype(float), weights


def scaled(p: Problem, pair: tuple[float, float], size: float, power: float) -> tuple[float, float]:
    """Penalties as strong as they would be on data of about 1; of every other problem, whatever they are there."""
    if p.seed % 2:
        return pair
    with np.errstate(over="ignore", under="ignore"):
        unit = min(np.float64(size) ** power, 1e290)
    return float(pair[0] * unit), float(pair[1] * unit)


def with_gaps(
    p: Problem, X: np.ndarray, observed: np.ndarray, rng: np.random.Generator
) -> tuple[Any, dict[str, Any], np.ndarray]:
    """X in its storage with what is missing, the options that say so, and the weights of all entries."""
    store, all_of_it = STORED[p.stored], np.ones(X.shape)
    if p.missing == "none":
        return store(X), {}, all_of_it
    if p.missing == "mask":
        return store(X), {"mask": observed}, observed.astype(float)
    if p.missing == "nan" and X.dtype.kind == "f":
        return store(np.where(observed, X, X.dtype.type(np.nan))), {"missing_values": np.nan}, observed.astype(float)
    if p.missing == "masked array":
        return np.ma.MaskedArray(X, ~observed), {}, observed.astype(float)
    if p.missing == "unstored" and p.stored in SPARSE:
        rows, columns = np.nonzero(observed)
        S = sp.coo_array((X[rows, columns], (rows, columns)), X.shape)
        return S.asformat(p.stored), {"missing_values": "unstored"}, observed.astype(float)
    if p.missing.startswith("weights"):
        drawn = 10.0 ** rng.uniform(-3, 3, X.shape) if p.missing == "weights" else all_of_it
        return store(X), {"weights": drawn * observed}, drawn * observed
    return store(X), {"missing_values": 0}, (X != 0).astype(float)


def factors(p: Problem, size: float, rng: np.random.Generator) -> dict[str, Any]:
    """The factors that are given."""
    (m, n), r, root = p.shape, p.components, np.sqrt(size)
    W, H = root * rng.random((m, r)), root * rng.random((r, n))
    if p.offsets:
        W[:, -1], H[-2] = 1.0, 1.0
    if p.given == "both, with zeros":
        W[rng.random(m) < 0.3], H[:, rng.random(n) < 0.3] = 0.0, 0.0
    elif p.given == "both, of zeros":
        W *= 0.0
    elif p.given == "both, far off":
        W, H = W * 1e6, H * 1e-9
    elif p.beyond == "W and H":
        W, H = W * 10.0 ** (p.by / 2), H * 10.0 ** (-p.by / 2 if p.seed % 3 else p.by / 2)
    if p.given == "none":
        return {}
    return {"W": W, "H": H} if p.given.startswith("both") else {p.given: {"W": W, "H": H}[p.given]}


# ---- what must come of it -------------------------------------------------------------------------------------------

# What may be refused, with which words, and when.
REFUSALS: list[tuple[type[Exception], str, Callable[[Problem, np.ndarray, np.ndarray], bool]]] = [
    (ValueError, r"^No observed entries: every entry of X is missing", lambda p, X, weights: not weights.any()),
    (ValueError, r"^init='.*' needs rank <= min\(m, n\) = \d+, and rank=\d+\. Use init='random' for more\.$",
     lambda p, X, weights: p.rank > min(p.shape)),
    (ValueError, r"^X\[\d+, \d+\] = 0, and with loss=.* Leave zeros out",
     lambda p, X, weights: p.beta <= 0 and bool((X[weights > 0] == 0).any())),
    (ValueError, r"^offsets=True needs the Frobenius loss and HALS, not loss=",
     lambda p, X, weights: p.offsets and (p.beta != 2.0 or "mu" in p.solver)),
    (ValueError, r"^offsets=True is for data with missing entries or dense data.* pass missing_values='unstored'\.$",
     lambda p, X, weights: p.offsets and p.stored in SPARSE),
    (ValueError, r"^offsets=True: the largest entry of X is about .*multiply X by 1e100",
     lambda p, X, weights: p.offsets and p.exponent < -100),
    (ValueError, r"^precision='mixed' needs complete data in float64, .* Pass precision='auto' or 'full'",
     lambda p, X, weights: p.precision == "mixed"),
    (ValueError, r"does not minimise the β-divergence of β = .*: use solver='mu'\.$",
     lambda p, X, weights: "mu" not in p.solver and p.beta != 2.0),
    (ValueError, r"^[WH] = 0 everywhere, which MU\(.* start from positive numbers, or use solver='hals'\.$",
     lambda p, X, weights: "zeros" in p.given or p.beyond == "W and H"),
    (RangeError, r"^The smallest entry of X is .* of its largest, but with β = .* raise smaller entries",
     lambda p, X, weights: p.beta <= 0),
    (Overflow, r"^the objective became (nan|-?inf) at iteration \d+: .* Give starting factors and penalties of",
     lambda p, X, weights: p.far_off),
    (RangeError, r"^X\[\d+, \d+\] is 0, or so small beside the largest entry of X that .*: raise smaller ones",
     lambda p, X, weights: p.beta <= 0),
    (RangeError, r"^l2=.* counts .* times for a row, which overflows: choose a smaller l2, or divide the weights",
     lambda p, X, weights: p.far_off and p.by_count and any(p.l2)),
    (ValueError, r"^loss=.* must lie between", lambda p, X, weights: p.beyond == "loss"),
    (ValueError, r"weights add up to more than float64 holds.*Divide", lambda p, X, weights: p.beyond == "weights"),
    (ValueError, r"^Input contains infinity: [WH]\[\d+, \d+\] = inf, but every entry must be finite \(of float32\)",
     lambda p, X, weights: p.beyond == "W and H" and X.dtype != np.float64),
]  # fmt: skip


def judge(error: Exception, p: Problem, X: np.ndarray, weights: np.ndarray) -> None:
    """Assert that a refusal is documented and deserved."""
    for kind, words, deserved in REFUSALS:
        if type(error) is kind and re.search(words, str(error), re.DOTALL) and deserved(p, X, weights):
            return
    raise error


def parts(given: Any) -> list[np.ndarray]:
    """The arrays that an input is made of."""
    if isinstance(given, np.ma.MaskedArray):
        return [given.data, np.ma.getmaskarray(given)]
    if sp.issparse(given) and given.format == "lil":
        return [np.concatenate([np.empty(0), *map(np.asarray, given.data)])]
    if sp.issparse(given):
        names = ("data", "indices", "indptr", "row", "col")
        return [getattr(given, name) for name in names if hasattr(given, name)]
    return [np.asarray(given)]


def sound(f: Factorization) -> None:
    for A in f:
        assert np.isfinite(A).all()
        assert A.min() >= 0
    assert not np.isnan(f.kkt)
    assert not np.isnan(f.history.objective).any()
    assert not np.isnan(f.history.kkt).any()
    assert len(f.history) == f.n_iter + 1


def never_rises(f: Factorization, p: Problem, X: np.ndarray, weights: np.ndarray) -> None:
    """The objective may rise by rounding only: the estimate that `tests/test_accounts.py` derives."""
    h = f.history.objective.astype(np.longdouble)
    if not np.isfinite(h).all():  # beyond float64 in the scale of X
        assert np.all(np.isinf(h[: np.flatnonzero(np.isinf(h))[-1] + 1]))
        return
    seen = weights > 0
    x = X[seen].astype(np.longdouble)
    powers = x[x > 0] ** np.longdouble(p.beta) if p.beta else np.ones(x.size, np.longdouble)
    S = np.sum(powers * weights[seen][x > 0] if p.beta else powers * weights[seen])
    single = f.W.dtype == np.float32 or f.settings["precision"] == "mixed"
    eps = float(np.finfo(np.float32 if single else np.float64).eps)
    delta = (p.components + 2) * eps * (np.sqrt(S) + np.sqrt(S + 2 * h[:-1]))
    allowed = (4e-7 if single else 1e-12) * h[:-1] + np.sqrt(2 * h[:-1]) * delta + delta**2 + 5e-324
    if p.beta == 1.0:
        allowed += 8 * eps * S
    if p.far_off and p.beta < 2.0:  # x̂ is at its floor, where a step can promise no more: 1e-5 was seen
        allowed += 0.01 * h[:-1]
    rise = np.diff(h)
    assert np.all(rise <= allowed), f"rises by up to {float((rise / allowed).max()):.3g} of what rounding may do"


def same_bits(p: Problem, given: Any, options: dict[str, Any]) -> None:
    """The same bits for one thread and for more, where work is cut into as many pieces as it can be."""
    with (
        mock.patch.object(parallel, "WORTH_A_THREAD", 1.0),
        mock.patch("nmfcore.data.slabs.WORTH_A_THREAD", 1.0),
        mock.patch("nmfcore.data.dense.LEAST_ROWS", 4),
        mock.patch("nmfcore.data.dense.LEAST_COLUMNS", (4, 4)),
    ):
        try:
            one, three = (nmfcore.factorize(given, p.rank, n_threads=k, **options) for k in (1, 3))
        except Overflow:  # sums of other pieces may, at the end of the scale
            if not p.far_off:
                raise
            return
    same(one, three)
    np.testing.assert_array_equal(one.history.objective, three.history.objective)
    sound(one)


def comes_back(f: Factorization) -> Factorization:
    with tempfile.TemporaryDirectory() as folder:
        f.save(Path(folder) / "m.npz")
        g = nmfcore.load(Path(folder) / "m.npz")
    same(f, g)
    assert repr(f.settings) == repr(g.settings)
    assert repr(f) == repr(g)
    return g


def transforms(p: Problem, f: Factorization, g: Factorization, given: Any, options: dict[str, Any]) -> None:
    if p.by_count and any(p.l2) and (p.far_off or f.H.max() < 1e-100):
        return  # test_rows_of_a_model_of_next_to_nothing_are_zeros
    guides = {name: options[name] for name in ("mask", "weights") if name in options}
    W = f.transform(given, **guides)
    assert np.isfinite(W).all()
    assert W.size == 0 or W.min() >= 0
    assert W.shape == f.W.shape
    np.testing.assert_array_equal(W, g.transform(given, **guides))


@seed(budget.seed())
@given(p=problems())
@settings(max_examples=budget.cases(120, 2000), database=None, suppress_health_check=list(HealthCheck), print_blob=True)
def test_any_problem(p):
    given, options, X, weights = asked(p)
    before = copy.deepcopy([*parts(given), *(np.asarray(v) for v in options.values() if isinstance(v, np.ndarray))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        warnings.simplefilter("ignore", nmfcore.PredictionWarning)
        try:
            f = nmfcore.factorize(given, p.rank, **options)
        except (TypeError, ValueError, FloatingPointError, MemoryError) as error:
            judge(error, p, X, weights)
        else:
            sound(f)
            never_rises(f, p, X, weights)
            same_bits(p, given, options)
            transforms(p, f, comes_back(f), given, options)
    after = [*parts(given), *(np.asarray(v) for v in options.values() if isinstance(v, np.ndarray))]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_judge_refuses():
    """A refusal that is not deserved, or says another thing, is a fault."""
    p = Problem((2, 2), 1, "noisy", 0, "f8", "dense", "none", 0.2, "auto", "frobenius", (0.0, 0.0), (0.0, 0.0), False,
                False, "auto", "none", "auto", 5, 0.0, "", 30, 0)  # fmt: skip
    X, weights = np.ones((2, 2)), np.ones((2, 2))
    for error in (
        ValueError("No observed entries: every entry of X is missing, so there is nothing to fit."),
        ValueError("operands could not be broadcast together"),
        Overflow("the objective became inf at iteration 3"),
    ):
        with pytest.raises(type(error)):
            judge(error, p, X, weights)
    judge(ValueError("No observed entries: every entry of X is missing"), p, X, 0 * weights)
