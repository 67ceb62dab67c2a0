"""Where commands print to: a stream that fails ends the printing, not the work; who watches sees that work goes on."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import TextIO

from nmfcore.machine.streams import Tolerant, is_closed, is_watched

PATIENCE = 1.0  # seconds before there is anything to say
EVERY = 0.5  # seconds between two signs of life


class Unread(Exception):
    """Nothing more can be printed, and the command is there for nothing else."""


class Screen(Tolerant):
    """A standard stream of a command: what it does not take is dropped, and remembered.

    Parameters
    ----------
    stream : text stream or None
        The real one.

    Attributes
    ----------
    patient : bool
        Whether the command goes on where the stream fails, because it also writes a file; else `Unread` is raised.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self.patient = True
        self._unseen = False
        self._error: OSError | None = None

    def write(self, text: str) -> int:
        """Write, if there is something to write to."""
        self._unseen = self._unseen or is_closed(self._stream)
        return super().write(text)

    @property
    def failed(self) -> OSError | None:
        """Why something was lost that a reader was there for; None where the stream is closed, or its reader left."""
        return None if isinstance(self._error, BrokenPipeError) else self._error

    def loss(self) -> str | None:
        """Return why something could not be printed; None if nothing was lost, or its reader left."""
        self.patient = True
        self.flush()
        if self.failed:
            return self.failed.strerror or str(self.failed)
        return "it is closed" if self._unseen else None

    def _fail(self, error: OSError) -> None:
        self._error = self._error or error
        _abandon(self._stream)
        if not self.patient:
            raise Unread from error


def _abandon(stream: TextIO | None) -> None:
    """Let a stream end nowhere: what it still holds would raise once more at the exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a stream of a test has no file behind it
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        finally:
            os.close(nowhere)


@contextlib.contextmanager
def screens() -> Iterator[tuple[Screen, Screen]]:
    """Put screens in the place of the standard output and the standard error; return them in this order."""
    _reserve()
    if isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError, ValueError):  # closed, or full before
            sys.stdout.reconfigure(errors="replace")  # a terminal that has no ≈ or é shows ? instead
    output, errors = Screen(sys.stdout), Screen(sys.stderr)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        yield output, errors


def _reserve() -> None:
    """Let no file that is opened get the number of a standard stream that is closed: C code may write there."""
    with contextlib.suppress(OSError):
        number = -1
        while number <= 2:
            number = os.open(os.devnull, os.O_RDWR)
        os.close(number)


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """Tell who watches, and nobody else, for how long something has been going on; the line is gone at the end.

    A thread of its own does that, twice a second: what is going on is not asked, and not slowed.
    """
    if not is_watched():
        yield
        return
    over, began = threading.Event(), time.perf_counter()
    thread = threading.Thread(target=_tell, args=(what, over, began, Tolerant(sys.stderr)), daemon=True)
    with contextlib.suppress(RuntimeError):  # as many threads as the system allows: nothing is told
        thread.start()
    try:
        yield
    finally:
        over.set()
        if thread.is_alive():
            thread.join()


def _tell(what: str, over: threading.Event, began: float, stream: Tolerant) -> None:
    line, pause = "", PATIENCE
    while not over.wait(pause):
        seconds = f": {time.perf_counter() - began:.0f} s"
        room = shutil.get_terminal_size().columns - len(seconds) - 1  # a line that is broken cannot be taken back
        line, pause = f"{what[: max(room, 0)]}{seconds}", EVERY
        stream.write(f"\r{line}")
        stream.flush()
    if line:
        stream.write(f"\r{' ' * len(line)}\r")
        stream.flush()
