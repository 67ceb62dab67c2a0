"""Parameters as users pass them: whole numbers, losses, dtypes, random states; needs no Numba."""

from __future__ import annotations

import math
import numbers
import operator
from typing import Any

import numpy as np

from nmfcore.machine.streams import tolerant_bar

LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}
MOST_BETA = 10.0  # in size; certificates were checked up to here (tests/faults/test_extremes.py)
AS_GOOD_AS = 1e-6  # so near to one of these the general formula, divided by β (β - 1), has lost its digits


def whole(value: object, name: str, least: int) -> int:
    """``value`` as an int of at least ``least``."""
    if isinstance(value, (bool, np.bool_, np.ndarray)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r} must be a whole number, not {type(value).__name__}.")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name}={number} must be {least} or more.")
    return number


def non_negative(value: object, name: str) -> float:
    """``value`` as a finite float of at least 0."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}={value!r} must be a number, not {type(value).__name__}.")
    number = _float(value)
    if not (math.isfinite(number) and number >= 0.0):
        raise ValueError(f"{name}={value!r} must be finite and 0 or more.")
    return number


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # a Python int beyond float64
        return math.inf if value > 0 else -math.inf


def factor_pair(value: object, name: str) -> tuple[float, float]:
    """A number for both factors, or a pair of numbers for (W, H)."""
    if isinstance(value, (tuple, list, np.ndarray)) and np.ndim(value):
        if len(value) != 2:
            raise ValueError(f"{name}={value!r} must be a number, or a pair of numbers for (W, H).")
        return non_negative(value[0], f"{name}[0]"), non_negative(value[1], f"{name}[1]")
    number = non_negative(value, name)
    return number, number


def one_of(value: object, name: str, choices: tuple[str | None, ...]) -> str:
    """``value`` if it is one of ``choices``, of which None is for messages: the caller has dealt with it."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}.")
    return str.__str__(value)  # not a subclass, such as np.str_


def beta(loss: object) -> tuple[str | float, float]:
    """A loss by its name or its β, as it is to be called, and β; within rounding of a named one it is that."""
    if isinstance(loss, str):
        name = one_of(loss, "loss", tuple(LOSSES))
        return name, LOSSES[name]
    if isinstance(loss, (bool, np.bool_)) or not isinstance(loss, numbers.Real) or not math.isfinite(loss):
        raise ValueError(f"loss={loss!r} is not one of {', '.join(map(repr, LOSSES))}, nor a finite number β.")
    value = float(loss)
    if abs(value) > MOST_BETA:
        raise ValueError(
            f"loss={loss!r} must lie between {-MOST_BETA:g} and {MOST_BETA:g}: powers of the entries beyond these "
            "overflow, or leave only the largest or the smallest entry. Choose a smaller β."
        )
    near = ((known_as, known) for known_as, known in LOSSES.items() if abs(value - known) < AS_GOOD_AS)
    return next(near, (value, value))


def check_flag(name: str, value: object, allowed: str = "True or False") -> None:
    """Refuse what is neither True nor False; ``"no"`` would count as True."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} must be {allowed}.")


def number_of_sweeps(value: Any, name: str) -> Any:
    """``"auto"``, or a whole number of at least 1."""
    if isinstance(value, str) and value == "auto":
        return value
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < 1:
        raise ValueError(f"{name}={value!r} must be 'auto' or a whole number of 1 or more.")
    return int(value)


def flag_or_share(value: object, name: str) -> bool | float:
    """True, False, or a number between 0 and 1."""
    if isinstance(value, (float, np.floating)) and 0.0 < value < 1.0:
        return float(value)
    check_flag(name, value, "True, False or a number between 0 and 1")
    return bool(value)


def float_dtype(value: object) -> np.dtype[Any] | None:
    """float32, float64, or None for what the data are."""
    if value is None:
        return None
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        try:
            if np.dtype(value) == dtype:  # type: ignore[call-overload]
                return dtype
        except TypeError:
            break
    raise ValueError(f"dtype={value!r} must be float32 or float64.")


def is_sparse(X: object) -> bool:
    """Whether ``X`` is a sparse matrix in SciPy's manner; SciPy itself is not needed to know."""
    return hasattr(X, "tocsr") and hasattr(X, "shape")


def generator(random_state: object) -> Any:
    """Something with ``standard_normal``: NumPy's legacy RandomState for an int, as in scikit-learn, or as given."""
    if random_state is None:
        return np.random.RandomState()
    if isinstance(random_state, (np.random.Generator, np.random.RandomState)):
        return random_state
    if isinstance(random_state, (np.random.SeedSequence, np.random.BitGenerator)):
        return np.random.default_rng(random_state)
    seed = whole(random_state, "random_state", 0)
    if seed >= 2**32:
        raise ValueError(f"random_state={seed} must be below 2**32; pass numpy.random.default_rng({seed}) for more.")
    return np.random.RandomState(seed)


def tqdm() -> Any:
    """The progress bar, or a remedy."""
    try:
        from tqdm.auto import tqdm as bar
    except ImportError as error:
        raise ImportError("progress=True needs tqdm: python -m pip install tqdm") from error
    return tolerant_bar(bar)
