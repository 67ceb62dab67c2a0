"""Where commands print to: who stops reading ends the printing, not the work; who watches sees that work goes on."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

PATIENCE = 1.0  # seconds before there is anything to say
EVERY = 0.5  # seconds between two signs of life


class Screen:
    """A stream that nobody need read to the end: once its reader has left, what is written to it is thrown away."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if somebody reads."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            abandon(self._stream)
            return len(text)

    def flush(self) -> None:
        """Hand on what was written, if somebody reads."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            abandon(self._stream)


def abandon(stream: TextIO) -> None:
    """Let a stream whose reader has left end nowhere: what it still holds would raise once more at the exit."""
    with contextlib.suppress(OSError, ValueError):  # a stream of a test has no file behind it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


@contextlib.contextmanager
def patient(*, output: bool) -> Iterator[None]:
    """While this lasts, the end of who reads the errors raises nothing; with ``output``, of who reads that neither."""
    with contextlib.ExitStack() as stack:
        if sys.stderr is not None:
            stack.enter_context(contextlib.redirect_stderr(Screen(sys.stderr)))
        if output and sys.stdout is not None:
            stack.enter_context(contextlib.redirect_stdout(Screen(sys.stdout)))
        yield


def is_watched() -> bool:
    """Whether a person sees what is written to the standard error."""
    return sys.stderr is not None and sys.stderr.isatty()


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Tell who watches, and nobody else, for how long something has been going on; the line is gone at the end.

    A thread of its own does that, twice a second: what is going on is not asked, and not slowed.
    """
    if not is_watched():
        yield
        return
    over, began = threading.Event(), time.perf_counter()
    thread = threading.Thread(target=_tell, args=(what, over, began, sys.stderr), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _tell(what: str, over: threading.Event, began: float, stream: TextIO) -> None:
    line, pause = "", PATIENCE
    with contextlib.suppress(OSError):  # the terminal may be gone; the work goes on
        while not over.wait(pause):
            seconds = f": {time.perf_counter() - began:.0f} s"
            room = shutil.get_terminal_size().columns - len(seconds) - 1  # a line that is broken cannot be taken back
            line, pause = f"{what[: max(room, 0)]}{seconds}", EVERY
            stream.write(f"\r{line}")
            stream.flush()
        if line:
            stream.write(f"\r{' ' * len(line)}\r")
            stream.flush()
