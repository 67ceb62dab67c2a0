"""Rows 84 to 99: settings that no fit can have, and other ways to say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from catalogue import Case, alike, case, each, holds, nmf, refused
from fits import SOLVERS, X, ask, fit, same

import nmfcore
from nmfcore import Factorization, Status
from nmfcore.solvers import HALS

SEQUENCE = np.random.SeedSequence(5)


def seeded(source: Any) -> Factorization:
    return ask(X, init="random", random_state=source)


def penalised(kind: str, **options: Any) -> Factorization:
    data = sp.csr_array(X) if kind == "csr" else X
    if kind == "masked":
        options["mask"] = X < 0.9
    f = nmfcore.factorize(data, 2, random_state=0, tol=0, max_iter=100, **options)
    _gone(f)
    return f


def _gone(f: Factorization) -> None:
    for A in f:
        assert np.isfinite(A).all()
        assert A.min() >= 0
    assert np.isfinite(f.objective)
    assert np.all(np.diff(f.history.objective) <= 1e-12 * f.history.objective[0])
    assert f.reconstruct().max() < 1e-6


def _the_start(f: Factorization) -> None:
    assert f.n_iter == 0
    assert f.status is Status.MAX_ITER
    assert f.objective == pytest.approx(0.5 * np.sum((X - f.reconstruct()) ** 2))


def _all_of_them(f: Factorization) -> None:
    assert f.n_iter == 20
    assert f.status is Status.MAX_ITER


def advancing() -> str:
    stream = np.random.RandomState(0)
    first, second = ask(X, init="random", random_state=stream), ask(X, init="random", random_state=stream)
    assert not np.array_equal(first.W, second.W)
    return "the stream goes on: another start"


def their_stream() -> str:
    stream = np.random.RandomState(0)
    first, second = (nmf(X, init="random", random_state=stream, tol=1e-9, max_iter=2000) for _ in range(2))
    return "the same factors again" if np.array_equal(first[0], second[0]) else "the stream goes on: another start"


def bad(row: int, name: str, value: Any, error: type[Exception], message: str, **more: Any) -> Case:
    fault = f"{name}={value!r}"
    return case(row, fault, X, refused(error, message), **{name: value}, **more)


def penalty(name: str, value: Any) -> dict[str, Any]:
    """The same penalty of scikit-learn, which multiplies it by the number of rows or columns."""
    share = {"l1": 1.0, "l2": 0.0}[name]
    return {"alpha_W": value, "l1_ratio": share}


CASES = [
    bad(84, "rank", 0, ValueError, "rank=0 must be 1 or more"),
    bad(84, "rank", -1, ValueError, "rank=-1 must be 1 or more"),
    bad(84, "rank", 1.5, TypeError, "rank=1.5 must be a whole number, not float"),
    bad(84, "rank", "3", TypeError, "rank='3' must be a whole number, not str"),
    bad(84, "rank", np.nan, TypeError, "rank=nan must be a whole number"),
    bad(84, "rank", 2.0, TypeError, "rank=2.0 must be a whole number, not float", shown=False),
    bad(84, "rank", None, TypeError, "rank=None must be a whole number", shown=False),
    bad(84, "rank", np.array([2]), TypeError, "rank=.*must be a whole number", shown=False),
    bad(85, "rank", True, TypeError, "rank=True must be a whole number, not bool"),
    bad(85, "rank", np.True_, TypeError, "must be a whole number, not bool", shown=False),
    case(86, "rank=np.int64(2)", X, alike(lambda: ask(X, 2)), rank=np.int64(2)),
    case(86, "rank=np.uint8(2)", X, alike(lambda: ask(X, 2)), rank=np.uint8(2), shown=False),
    case(
        87,
        "max_iter=0",
        X,
        holds(_the_start, (nmfcore.ConvergenceWarning,)),
        max_iter=0,
        note="only makes and assesses the start, as documented",
    ),
    bad(88, "max_iter", -1, ValueError, "max_iter=-1 must be 0 or more"),
    bad(88, "max_iter", 1.5, TypeError, "max_iter=1.5 must be a whole number"),
    bad(88, "max_iter", True, TypeError, "max_iter=True must be a whole number", shown=False),
    bad(88, "max_iter", None, TypeError, "max_iter=None must be a whole number", shown=False),
    bad(89, "tol", -1, ValueError, "tol=-1 must be finite and 0 or more"),
    bad(89, "tol", np.nan, ValueError, "tol=nan must be finite"),
    bad(89, "tol", np.inf, ValueError, "tol=inf must be finite"),
    bad(89, "tol", "1e-4", TypeError, "tol='1e-4' must be a number, not str", shown=False),
    bad(89, "tol", None, TypeError, "tol=None must be a number", shown=False),
    bad(89, "tol", True, TypeError, "tol=True must be a number, not bool", shown=False),
    case(90, "tol=0, max_iter=20", X, holds(_all_of_them), tol=0, max_iter=20),
    bad(91, "l1", -1, ValueError, "l1=-1 must be finite and 0 or more", theirs=penalty("l1", -1)),
    bad(91, "l1", np.inf, ValueError, "l1=inf must be finite", theirs=penalty("l1", np.inf)),
    bad(91, "l2", np.nan, ValueError, "l2=nan must be finite", theirs=penalty("l2", np.nan)),
    bad(91, "l2", (1.0, -2.0), ValueError, r"l2\[1\]=-2.0 must be finite and 0 or more"),
    bad(
        91,
        "l1",
        (1.0, 2.0, 3.0),
        ValueError,
        r"l1=\(1.0, 2.0, 3.0\) must be a number, or a pair of numbers for \(W, H\)",
    ),
    bad(91, "l1", (), ValueError, r"l1=\(\) must be a number, or a pair", shown=False),
    bad(91, "l1", "big", TypeError, "l1='big' must be a number", shown=False),
    bad(91, "l1", np.array(1.0), TypeError, "l1=.* must be a number", shown=False),
    case(
        92,
        "l1=1e3",
        X,
        holds(_gone),
        l1=1e3,
        theirs=penalty("l1", 1e3),
        note="no warning: W H = 0 is the minimum that was asked for",
    ),
    bad(93, "solver", "cd", ValueError, "solver='cd' is not one of 'auto', 'hals', 'mu'", theirs={"solver": "hals"}),
    bad(
        93,
        "init",
        "custom",
        ValueError,
        "init='custom' is not one of 'auto', 'compressed', 'random', 'nndsvd'",
        theirs={"init": "compressed"},
    ),
    bad(
        93,
        "loss",
        "kullback",
        ValueError,
        "loss='kullback' is not one of 'frobenius'",
        theirs={"solver": "mu", "beta_loss": "kullback"},
    ),
    bad(
        93,
        "solver",
        None,
        TypeError,
        r"solver=None must be 'auto', 'hals', 'mu', or an instance such as .*HALS\(\)",
        shown=False,
    ),
    bad(93, "solver", HALS, TypeError, r"solver=.* must be 'auto', 'hals', 'mu', or an instance", shown=False),
    bad(93, "init", None, ValueError, "init=None is not one of 'auto'", shown=False),
    case(
        94,
        "HALS with Itakura and Saito's loss",
        X,
        refused(ValueError, r"HALS\(.*\) does not minimise the β-divergence of β = 0: use solver='mu'"),
        solver="hals",
        loss="itakura-saito",
        theirs={"solver": "cd", "beta_loss": "itakura-saito"},
        note="HALS has Kullback-Leibler",
    ),
    *(
        Case(
            95,
            f"random_state={name}",
            lambda seed=source: seeded(seed()),
            alike(lambda: seeded(SEQUENCE)),
            lambda seed=source: nmf(X, init="random", random_state=seed()),
            lambda: X,
        )
        for name, source in [("Generator", lambda: np.random.default_rng(5)), ("SeedSequence", lambda: SEQUENCE)]
    ),
    bad(96, "random_state", -1, ValueError, "random_state=-1 must be 0 or more"),
    bad(96, "random_state", "a", TypeError, "random_state='a' must be a whole number"),
    bad(96, "random_state", 1.0, TypeError, "random_state=1.0 must be a whole number"),
    bad(96, "random_state", True, TypeError, "random_state=True must be a whole number", shown=False),
    bad(96, "random_state", 2**32, ValueError, r"must be below 2\*\*32; pass numpy.random.default_rng", shown=False),
    Case(97, "one RandomState for two fits", advancing, holds(lambda _: None), their_stream),
    Case(
        98,
        "unknown setting",
        lambda: nmfcore.factorize(X, 2, alpha=1.0),
        refused(TypeError, "unexpected keyword argument 'alpha'"),
        lambda: nmf(X, alpha=1.0),
        note="Python 3.13 adds the nearest name",
    ),
    Case(
        98,
        "the name that scikit-learn has",
        lambda: nmfcore.factorize(X, n_components=2),
        refused(TypeError, "unexpected keyword argument 'n_components'"),
        shown=False,
    ),
    bad(99, "n_threads", 0, ValueError, "n_threads=0 must be 1 or more"),
    bad(99, "n_threads", -5, ValueError, "n_threads=-5 must be 1 or more"),
    bad(99, "n_threads", 1.5, TypeError, "n_threads=1.5 must be a whole number", shown=False),
    case(
        99,
        "n_threads=10**6",
        X,
        alike(lambda: ask(X)),
        n_threads=10**6,
        note="no more are started than pay; no warning, since no bit depends on it",
    ),
]


@each(CASES)
def test_parameters(case):
    case.hold()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_time": -1.0}, ValueError, "max_time=-1.0 must be finite and 0 or more"),
        ({"max_time": np.nan}, ValueError, "max_time=nan must be finite"),
        ({"max_time": "1"}, TypeError, "max_time='1' must be a number"),
        ({"dtype": "float16"}, ValueError, "dtype='float16' must be float32 or float64"),
        ({"dtype": int}, ValueError, "dtype=.*int.* must be float32 or float64"),
        ({"dtype": "nonsense"}, ValueError, "dtype='nonsense' must be float32 or float64"),
        ({"missing_values": "nan"}, ValueError, "missing_values='nan' must be None .*np.nan, 0 .*pass mask="),
        ({"missing_values": -1}, ValueError, "missing_values=-1 must be None"),
        ({"missing_values": False}, ValueError, "missing_values=False must be None"),
        ({"missing_values": np.array([0.0, 1.0])}, ValueError, "missing_values=.* must be None"),
        ({"weights": np.ones((2, 2))}, ValueError, r"weights has shape \(2, 2\) where X has \(6, 5\)"),
        ({"weights": -np.ones((6, 5))}, ValueError, r"weights\[0, 0\] = -1"),
        ({"weights": np.full((6, 5), np.nan)}, ValueError, r"weights\[0, 0\] is missing"),
        ({"weights": np.full((6, 5), np.inf)}, ValueError, r"weights\[0, 0\] = inf"),
        ({"callback": 3}, TypeError, "callback=3 must be callable"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, dict) else "",
)
def test_bad_parameters_are_named_with_the_rule(options, error, message):
    with pytest.raises(error, match=message):
        fit(X, **options)


@pytest.mark.row(93)
def test_solver_settings_are_checked_where_they_are_made():
    for sweeps in (0, -1, 1.5, True, "many"):
        with pytest.raises(ValueError, match=rf"sweeps={sweeps!r} must be 'auto' or a whole number of 1 or more"):
            HALS(sweeps=sweeps)


@pytest.mark.parametrize(
    "options",
    [
        {"rank": np.int64(2)},
        {"rank": np.uint8(2)},
        {"max_iter": np.int32(20)},
        {"tol": np.float32(0)},
        {"l1": np.float64(0)},
        {"l2": [0, 0]},
        {"l2": np.zeros(2)},
        {"solver": HALS()},
        {"random_state": np.int64(0)},
        {"random_state": np.random.RandomState(0)},
        {"n_threads": 10**6},
        {"max_time": 3600},
        {"dtype": "f8"},
        {"mask": np.ones((6, 5), bool).tolist()},
        {"weights": np.ones((6, 5), int)},
    ],
    ids=lambda options: " ".join(f"{name} {type(value).__name__}" for name, value in options.items()),
)
def test_other_ways_to_say_the_same(options):
    same(fit(X, **({"rank": 2} | options)), fit(X, 2))


@pytest.mark.row(95)
def test_sources_of_randomness():
    seed = np.random.SeedSequence(5)
    same(fit(X, random_state=np.random.default_rng(5)), fit(X, random_state=seed))
    same(fit(X, random_state=np.random.PCG64(5)), fit(X, random_state=seed))
    stream = np.random.RandomState(0)
    first, second = fit(X, random_state=stream), fit(X, random_state=stream)
    assert not np.array_equal(first.W, second.W)  # a stream advances
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    fit(X, random_state=None)
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # NumPy's global stream is not ours


@pytest.mark.row(92)
@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1e3, 1e100, 1e300])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_huge_penalty_leaves_nothing(name, size, solver, kind):
    penalised(kind, solver=solver, **{name: size})


@pytest.mark.row(92)
@pytest.mark.parametrize("kind", ["dense", "csr", "masked"])
@pytest.mark.parametrize("size", [1e3, 1e100, 1e300])
@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_huge_penalty_costs_nothing_in_the_end(name, size, kind):
    """A factor beside one that is 0 costs its penalty and fits nothing: to keep it is not stationary."""
    f = penalised(kind, **{name: size})
    assert f.objective <= 0.5 * np.sum(X**2) * (1 + 1e-6)
