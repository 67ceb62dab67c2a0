"""The fault catalogue: what users hand in by mistake, and what is odd but right; a case or more for every row.

A case says what nmfcore is asked, what must come of it, and how scikit-learn's NMF is asked the same. The test files
beside this one hold the cases of a group of rows each, as a list ``CASES``, and assert them; ``python -m benchmarks
faults`` runs both sides and writes the table ``benchmarks/faults.md``.

The rule is one: finite, non-negative factors, or an exception that names the place and the remedy.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fits import STORED, X, ask, same

GROUPS = {
    "containers and dtypes": ("test_containers", range(1, 36)),
    "values": ("test_values", range(36, 60)),
    "shapes": ("test_shapes", range(60, 69)),
    "sparse matrices": ("test_sparse_input", range(69, 84)),
    "parameters": ("test_parameters", range(84, 100)),
    "initial factors and the state of a model": ("test_factors", range(100, 117)),
    "ratings and missing entries": ("test_ratings_faults", range(117, 132)),
    "environment": ("test_environment", range(132, 153)),
    "files": ("test_model_files", range(153, 166)),
    "distributed": (None, range(166, 171)),
}

_ESTIMATOR = "this concerns the estimator `nmfcore.sklearn`, which is not there yet"
_DISTRIBUTED = "this concerns distributed fits, which are not there yet"
NOT_APPLICABLE = {
    32: f"a factorization keeps no column names; {_ESTIMATOR}",
    114: f"`reconstruct` takes no W; {_ESTIMATOR}",
    149: "free-threaded Python is neither supported nor tested",
    **dict.fromkeys(range(166, 171), _DISTRIBUTED),
}


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a value or an error, and the kinds of warnings."""

    value: Any = None
    error: Exception | None = None
    warned: tuple[type[Warning], ...] = ()

    @classmethod
    def of(cls, call: Callable[[], Any]) -> Outcome:
        """Return that of a call."""
        value, error = None, None
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                value = call()
            except Exception as caught:
                error = caught
        return cls(value, error, tuple(dict.fromkeys(warning.category for warning in said)))


Check = Callable[[Outcome], None]


@dataclass(frozen=True)
class Case:
    """One fault.

    Attributes
    ----------
    row : int
        Of the catalogue.
    fault : str
        What is handed in.
    ours : callable
        What nmfcore is asked.
    check : callable
        Asserts what must come of it, given the `Outcome`.
    theirs : callable or None
        The same asked of scikit-learn's NMF, which returns ``(W, H)``; None where it has no such thing.
    A : callable or None
        Returns the dense matrix that is to be fitted, for the error in the table.
    note : str
        Why the outcome is another than the catalogue expects, and as good or better.
    shown : bool
        Whether the table has a line of its own for it.
    fails : str
        Why it does not hold yet; empty if it does.
    """

    row: int
    fault: str
    ours: Callable[[], Any]
    check: Check
    theirs: Callable[[], Any] | None = None
    A: Callable[[], np.ndarray] | None = None
    note: str = ""
    shown: bool = True
    fails: str = ""

    def hold(self) -> None:
        """Assert that it comes out as it must."""
        self.check(Outcome.of(self.ours))


@dataclass(frozen=True)
class Held:
    """A fault whose test is elsewhere: ``test`` names it, ``outcome`` says what it asserts."""

    row: int
    fault: str
    test: str
    outcome: str
    theirs: Callable[[], Any] | None = None
    note: str = ""


# ---- what must come of it -------------------------------------------------------------------------------------------


def refused(error: type[Exception], message: str) -> Check:
    """Exactly this kind of exception, with a message that matches, and no warning before it."""

    def check(outcome: Outcome) -> None:
        assert outcome.error is not None, f"not refused: {outcome.value!r}"
        assert type(outcome.error) is error, repr(outcome.error)
        assert re.search(message, str(outcome.error), re.DOTALL), f"{message!r} is not in: {outcome.error}"
        assert outcome.warned == ()

    return check


def holds(check: Callable[[Any], object], warned: tuple[type[Warning], ...] = ()) -> Check:
    """A value of which this can be asserted, and these warnings and no others."""

    def checked(outcome: Outcome) -> None:
        if outcome.error is not None:
            raise outcome.error
        assert outcome.warned == warned
        check(outcome.value)

    return checked


def alike(other: Callable[[], Any]) -> Check:
    """The same factors as those of another fit, to the bit."""
    return holds(lambda f: same(f, other()))


# ---- cases ----------------------------------------------------------------------------------------------------------

SAME: Any = object()  # scikit-learn is given the same data, and the same settings by its own names
_SOLVERS = {"hals": "cd", "mu": "mu", "auto": "cd"}


def case(
    row: int,
    fault: str,
    data: Any,
    check: Check,
    *,
    theirs: Any = SAME,
    note: str = "",
    shown: bool = True,
    fails: str = "",
    **options: Any,
) -> Case:
    """Return a case of ``factorize(data, **options)``; data that are a function are made when they are needed.

    ``theirs`` is `SAME`, None, a function, or a dictionary of settings of scikit-learn's NMF.
    """
    if theirs is SAME:
        theirs = _translated(options)
    ask_them = theirs if theirs is None or callable(theirs) else lambda: nmf(made(data), **theirs)
    return Case(
        row, fault, lambda: ask(made(data), **options), check, ask_them, lambda: dense(data), note, shown, fails
    )


def equal(row: int, fault: str, data: Any, like: Any = X, **more: Any) -> Case:
    """Return a case of data that are to be fitted as other data are, to the bit."""
    options = {name: value for name, value in more.items() if name not in ("theirs", "note", "shown", "fails")}
    return case(row, fault, data, alike(lambda: ask(made(like), **options)), **more)


def in_storages(row: int, fault: str, A: np.ndarray, check: Check, **more: Any) -> list[Case]:
    """Return a case for each way to store a matrix; the table shows a dense and a sparse one."""
    shown = ("dense", "csr")
    return [case(row, f"{fault}, {kind}", of(A), check, shown=kind in shown, **more) for kind, of in STORED.items()]


def made(data: Any) -> Any:
    """Return the data, or what a function returns that makes them."""
    return data() if callable(data) else data


def dense(data: Any) -> np.ndarray:
    """Return data as a dense matrix."""
    A = made(data)
    return A.toarray() if hasattr(A, "toarray") else np.asarray(A, float)


def nmf(data: Any, rank: Any = 2, W: Any = None, H: Any = None, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Fit scikit-learn's NMF and return ``(W, H)``."""
    from sklearn.decomposition import NMF

    model = NMF(rank, **({"random_state": 0} | options))
    return model.fit_transform(data, W=W, H=H), model.components_


def _translated(options: dict[str, Any]) -> dict[str, Any] | None:
    """Return settings as NMF has them; None if it has no such thing."""
    theirs: dict[str, Any] = {}
    for name, value in options.items():
        if name == "solver" and isinstance(value, str):
            theirs["solver"] = _SOLVERS.get(value, value)
        elif name == "loss":
            theirs |= {"beta_loss": value, "solver": "mu"}
        elif name in ("rank", "init", "tol", "max_iter", "random_state"):
            theirs[name] = value
        else:
            return None
    return theirs


# ---- all of them ----------------------------------------------------------------------------------------------------


def each(cases: Iterable[Case]) -> Any:
    """Return the decorator that runs a test for each of these cases, named by row and fault."""
    found = [
        pytest.param(
            c, id=f"{c.row}-{c.fault}", marks=pytest.mark.xfail(strict=True, reason=c.fails) if c.fails else ()
        )
        for c in cases
        if isinstance(c, Case)
    ]
    return pytest.mark.parametrize("case", found)


def cases_in(module: str) -> list[Case | Held]:
    """Return the cases of a test file."""
    return list(importlib.import_module(module).CASES)


def everything() -> list[Case | Held]:
    """Return all cases, by row."""
    modules = [module for module, _ in GROUPS.values() if module]
    return sorted((case for module in modules for case in cases_in(module)), key=lambda case: case.row)


def folder() -> Path:
    """Return the folder of all tests."""
    return Path(__file__).parents[1]
