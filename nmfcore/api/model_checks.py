"""What a model file says of a factorization, judged: the code that uses a model relies on what is checked here.

A file is refused when it is read, and what would be refused is not written over a file that is not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from reprlib import repr as shortly
from typing import Any

import numpy as np

from nmfcore._types import Array
from nmfcore.loop.stopping import Status

LOSSES, MOST_BETA = ("frobenius", "kullback-leibler", "itakura-saito"), 10.0  # those of validation, which loads numba
MOST_PREDICTED, AT_ONCE = 2**26, 2**20  # predictions, where their sizes may be beyond the dtype
BELOW_ZERO = 1e-3  # of the largest objective: what rounding may take one of a sparse X below 0


def fault(arrays: Mapping[str, Array], meta: Mapping[str, Any]) -> str | None:
    """The first thing that no fit leaves, if there is one.

    Parameters
    ----------
    arrays, meta : mappings
        As :func:`nmfcore.api.archive.read` returns them.

    Examples
    --------
    >>> import numpy as np
    >>> fault({"W": np.ones((3, 2)), "H": np.ones((1, 4))}, {})
    'W is (3, 2) and H is (1, 4)'
    """
    return (
        _of_factors(arrays["W"], arrays["H"])
        or _of_history(*(arrays[name] for name in ("iteration", "objective", "kkt", "seconds")))
        or _of_settings(meta.get("settings"), arrays["W"], arrays["H"])
        or _of_the_end(meta, int(arrays["iteration"][-1]))
    )


# ---- factors ------------------------------------------------------------------------------------------------


def _of_factors(W: Array, H: Array) -> str | None:
    if W.shape[1] != H.shape[0] or 0 in (*W.shape, *H.shape):
        return f"W is {W.shape} and H is {H.shape}"
    if W.dtype != H.dtype or W.dtype.itemsize < 4:
        return f"W is {W.dtype} and H is {H.dtype}"
    largest = W.max(), H.max()
    for name, A, top in zip("WH", (W, H), largest, strict=True):
        if not (A.min() >= 0 and top < np.inf):  # false with a NaN anywhere
            return f"{name} has a negative or non-finite entry"
    if not predicts(W, H, largest):
        return f"W and H are so large that {W.dtype} does not hold what they predict"
    return None


def predicts(W: Array, H: Array, largest: tuple[Any, Any] | None = None) -> bool:
    """Whether the dtype holds all predictions; ``largest`` are the largest entries, if they are known."""
    (m, r), n = W.shape, H.shape[1]
    top_W, top_H = largest or (W.max(), H.max())
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        # The largest of all are found in a third of the time that those of each component take.
        if np.isfinite(top_W * top_H * r) or np.isfinite(W.max(axis=0) @ H.max(axis=1)):
            return True
        if m * n > MOST_PREDICTED:  # it would take too long to see whether these largest ever meet
            return False
        step = max(1, AT_ONCE // n)
        return all(bool(np.isfinite(W[lo : lo + step] @ H).all()) for lo in range(0, m, step))


# ---- history ------------------------------------------------------------------------------------------------


def _of_history(iteration: Array, objective: Array, kkt: Array, seconds: Array) -> str | None:
    count = len(iteration)
    if count == 0 or any(len(column) != count for column in (objective, kkt, seconds)):
        return "the history has columns of different lengths"
    if not np.array_equal(iteration, np.arange(count)):
        return f"the iterations of its history are not 0 to {count - 1}"
    if not (objective.min() >= -BELOW_ZERO * objective.max()):  # which may be infinite, of X beyond 1e154
        return "an objective of its history is negative or NaN"
    if not kkt.min() >= 0:  # infinite at a start of zeros
        return "a KKT residual of its history is negative or NaN"
    if not (seconds[0] >= 0 and seconds[-1] < np.inf and (np.diff(seconds) >= 0).all()):
        return "the seconds of its history do not ascend"
    return None


def _of_the_end(meta: Mapping[str, Any], n_iter: int) -> str | None:
    """Why the fit ended, and whether that fits what else is said."""
    name, converged, most = meta.get("status"), meta.get("converged"), meta["settings"]["max_iter"]
    if not isinstance(name, str) or name not in Status.__members__:
        return f"its status is {shortly(name)}"
    if not isinstance(converged, bool):
        return f"converged is {shortly(converged)}"
    status = Status[name]
    if status is not Status.STALLED and converged != (status is Status.CONVERGED):
        return f"converged is {converged} where its status is {name}"
    if n_iter > most or (status is Status.MAX_ITER and n_iter < most):
        return f"there are {n_iter} iterations where the setting max_iter is {shortly(most)} and its status is {name}"
    return None


# ---- settings -----------------------------------------------------------------------------------------------


def _of_settings(settings: Any, W: Array, H: Array) -> str | None:
    """The first setting that cannot be that of a fit; ``transform`` relies on them."""
    if not isinstance(settings, dict):
        return f"its settings are {shortly(settings)}"
    for name, sound in _SOUND.items():
        if name in _NEEDED and name not in settings:
            return f"the setting {name} is missing"
        if name in settings and not sound(settings[name]):
            return f"the setting {name} is {shortly(settings[name])}"
    return _of_columns(settings.get("column_scale"), H) or (
        _of_offsets(settings, W, H) if settings["offsets"] else None
    )


def _of_columns(fours: Any, H: Array) -> str | None:
    """What is wrong with the powers of four that the columns were divided by."""
    if fours is None:
        return None
    n = H.shape[1]
    # Whole numbers that an exponent of two may be twice of.
    if not (
        isinstance(fours, (list, tuple)) and len(fours) == n and all(type(k) is int and abs(k) < 2**16 for k in fours)
    ):
        return f"the setting column_scale is not {n} whole numbers"
    with np.errstate(over="ignore", under="ignore"):
        held = np.isfinite(np.ldexp(H.max(axis=0), -2 * np.array(fours))).all()
    return None if held else f"H divided by four to the power of the setting column_scale is more than {H.dtype} holds"


def _of_offsets(settings: dict[str, Any], W: Array, H: Array) -> str | None:
    """What is wrong with a factorization with offsets, which stand beside components of ones."""
    if settings["loss"] != "frobenius":
        return f"the setting offsets is True where the setting loss is {settings['loss']!r}"
    if len(H) < 3 or not ((H[-2] == 1).all() and (W[:, -1] == 1).all()):
        return "the setting offsets is True, but W and H have no components of ones"
    return None


def _is_number(value: Any) -> bool:
    """Whether this is a finite number of at least 0; JSON has whole numbers beyond float64."""
    return type(value) in (int, float) and 0 <= value <= sys.float_info.max


def _is_pair(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(map(_is_number, value))


def _is_loss(value: Any) -> bool:
    """Whether this is the name of a loss, or a β."""
    return value in LOSSES if isinstance(value, str) else type(value) is float and abs(value) <= MOST_BETA


def _is_rule(value: Any) -> bool:
    """Whether this says what counts as missing: nothing, 0, NaN, what is not stored."""
    return value is None or value == "unstored" or (type(value) in (int, float) and (value == 0 or value != value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


_SOUND: dict[str, Callable[[Any], bool]] = {
    "solver": _is_text,
    "loss": _is_loss,
    "missing_values": _is_rule,
    "l1": _is_pair,
    "l2": _is_pair,
    "l2_scaling": lambda value: value in (None, "count"),
    "offsets": _is_flag,
    "tol": _is_number,
    "max_iter": lambda value: type(value) is int and value >= 0,
    "max_time": lambda value: value is None or _is_number(value),
    "init": _is_text,
    "dtype": lambda value: value in ("float32", "float64"),
    "precision": lambda value: value in ("mixed", "full"),
    "l2_auto": _is_flag,
}
_NEEDED = tuple(_SOUND)[:9]  # those of the first version
