"""Streams that may be absent, closed or full: what cannot be printed there ends no work.

``sys.stderr`` is None under pythonw, a closed file in some services, and full where its disk is.
"""

from __future__ import annotations

import sys
import warnings
from functools import partial
from typing import Any, TextIO


class Tolerant:
    r"""A stream to which anything can be written; what the real one does not take is dropped.

    Parameters
    ----------
    stream : text stream or None
        The real one. Everything but writing is left to it.

    Examples
    --------
    >>> import io
    >>> real = io.StringIO()
    >>> stream = Tolerant(real)
    >>> print("shown", file=stream)
    >>> real.getvalue()
    'shown\n'
    >>> real.close()
    >>> print("dropped", file=stream)
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __eq__(self, other: object) -> bool:
        return self is other or self._stream is other  # tqdm asks so whether it writes to the terminal

    def __hash__(self) -> int:
        return hash(self._stream)

    def write(self, text: str) -> int:
        """Write what the stream takes."""
        if not is_closed(self._stream):
            try:
                self._stream.write(text)  # type: ignore[union-attr]
            except OSError as error:
                self._fail(error)
        return len(text)

    def flush(self) -> None:
        """Flush what the stream takes."""
        if not is_closed(self._stream):
            try:
                self._stream.flush()  # type: ignore[union-attr]
            except OSError as error:
                self._fail(error)

    def isatty(self) -> bool:
        """Whether a person sees what is written."""
        return not is_closed(self._stream) and self._stream.isatty()  # type: ignore[union-attr]

    def _fail(self, error: OSError) -> None:
        """Pass over an error: the stream takes nothing more."""


def is_closed(stream: TextIO | None) -> bool:
    """Whether nothing can be written to a stream, or there is none."""
    try:
        return stream is None or bool(getattr(stream, "closed", False))
    except ValueError:  # detached from what was below it
        return True


def is_watched() -> bool:
    """Whether a person sees what is written to the standard error."""
    return Tolerant(sys.stderr).isatty()


def warn(message: Warning | str, category: type[Warning], stacklevel: int) -> None:
    """Call :func:`warnings.warn`, which would raise where the standard error is closed.

    Parameters
    ----------
    message, category, stacklevel
        As there; a stacklevel of 2 is the caller of who calls this.
    """
    try:
        warnings.warn(message, category, stacklevel + 1)
    except ValueError:
        if not is_closed(sys.stderr):
            raise


def tolerant_bar(bar: Any) -> Any:
    """Return how to make a progress bar of tqdm's class ``bar`` that raises nothing where it cannot be drawn.

    An error inside tqdm would also leave its lock locked, and with it every other bar of the process.
    """
    if any(base.__module__ == "tqdm.notebook" for base in bar.__mro__):
        return bar  # drawn by the notebook, on no stream
    drawn = not is_closed(sys.stderr) and _flushes(sys.stderr) and _flushes(sys.stdout)  # as tqdm does at first
    return partial(bar, file=Tolerant(sys.stderr), disable=not drawn)


def _flushes(stream: TextIO | None) -> bool:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        return False
    return True
