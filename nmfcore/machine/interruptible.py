"""Long calls into compiled code, made so that Ctrl-C is heard while they last.

Python raises KeyboardInterrupt in the main thread only, and only between two of its instructions. A call into LAPACK
is one instruction, however long it takes. The compilation of a kernel and the import of Numba are many, and an
interrupt in their midst would leave Numba half made. So these run in a thread of their own while the main thread waits.
An interrupt ends the waiting at once. The call ends by itself, and its result is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

R = TypeVar("R")


def aside(function: Callable[..., R], *args: Any) -> R:
    """Return ``function(*args)``, called in another thread if this is the main thread.

    Parameters
    ----------
    function : callable
        It must leave everything sound if its result is never used.
    *args
        Its arguments.

    Examples
    --------
    >>> aside(sum, [1, 2, 3])
    6
    """
    if threading.current_thread() is not threading.main_thread():
        return function(*args)
    results: list[R] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function(*args))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="nmfcore-aside")
    try:
        thread.start()
    except RuntimeError:  # no thread is started while the interpreter shuts down
        return function(*args)
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
