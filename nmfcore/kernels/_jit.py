"""The only njit configuration of the package.

``fastmath`` is limited to re-association and contraction: that is what lets LLVM vectorise a sum, while the
full set would also assume that NaN does not exist. ``error_model="numpy"`` keeps divisions vectorisable.
``parallel=True`` is never used: it costs a second of compilation per kernel, kills forked children, and its
sums depend on the number of threads.

Numba is imported, and kernels are compiled or loaded, aside (:mod:`nmfcore.machine.interruptible`): Ctrl-C in their
midst would leave Numba half made for the rest of the process.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from nmfcore.machine.interruptible import aside


def _import_numba() -> Any:
    try:
        return importlib.import_module("numba")
    except RuntimeError as error:
        # Numba imports SciPy where it is installed, and SciPy an executor, which is refused once the main thread has
        # ended. Nothing here needs SciPy, and nobody can import it any more.
        if "shutdown" not in str(error):
            raise
        sys.modules["scipy"] = None  # type: ignore[assignment]
        return importlib.import_module("numba")


try:
    njit = aside(_import_numba).njit  # an interrupt would leave Numba half imported
except ImportError as error:  # numba refuses a NumPy newer than it knows
    raise ImportError(
        f"nmfcore needs numba, which failed to import: {error}. "
        "Remedy: python -m pip install --upgrade numba, or install the NumPy version that numba names."
    ) from error

from nmfcore.kernels._cache import Cache, say  # noqa: E402  (it imports Numba)

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"reassoc", "contract"},
}
_CACHE = os.environ.get("NMFCORE_CACHE", "1").lower() not in ("0", "false", "")

KERNELS: list[Callable[..., Any]] = []  # the functions behind all kernels that were imported


def kernel(function: F) -> F:
    """Compile ``function`` on its first call, with the result kept on disk where a folder is writable."""
    KERNELS.append(function)
    compiled = njit(**_OPTIONS)(function)
    if _CACHE and hasattr(compiled, "enable_caching"):  # not where NUMBA_DISABLE_JIT leaves it uncompiled
        try:
            compiled._cache = Cache(function)  # what enable_caching does, with Numba's own
        except OSError:  # the sources cannot be read
            pass
        except RuntimeError as error:  # a read-only installation without a home directory
            if "cannot cache" not in str(error):
                raise
    if hasattr(compiled, "_compile_for_args"):  # what a call for new types compiles or loads with
        compiled._compile_for_args = partial(_compile_aside, compiled._compile_for_args)
    return compiled  # type: ignore[no-any-return]


def _compile_aside(compile_for: Callable[..., Any], *args: Any) -> Any:
    entry_point = aside(compile_for, *args)
    say()
    return entry_point


def inlined_kernel(function: F) -> F:
    """A part of the kernels of its file, which LLVM must compile into each of those that call it.

    Where LLVM leaves a call a call, an error may come back from it for all Numba knows, and then each array that it
    is given is counted up before and down after, in the caller and in the function: four atomic operations. Where
    little is done with an array that is most of the time. (The same goes for whatever may raise inside: a tuple
    indexed by a variable, a range whose step is one.)
    """
    return njit(forceinline=True, **_OPTIONS)(function)  # type: ignore[no-any-return]
