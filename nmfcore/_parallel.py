"""Threads: fixed slabs of rows, run by a team that lives as long as one fit.

What a slab is follows from the data alone, never from the number of threads, and the results are handed back in
the order of the slabs; so sums over slabs have the same bits for any number of threads. The compiled kernels
release the GIL. Threads that outlived their fit would be missed in a forked child. A team has its own, and no executor:
the interpreter closes every executor when the main thread ends, and a fit in another thread may still go on then.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

R = TypeVar("R")
Slab = tuple[int, int]  # rows lo <= i < hi
Calls: TypeAlias = "SimpleQueue[Callable[[], None] | None]"  # what helpers are to do; None: to end

WORTH_A_THREAD = 2e7  # flop; below this, a millisecond, handing work over costs more than it saves
SLAB_WORK = 1e8  # flop; some ten to thirty milliseconds, so Ctrl-C is heard in time
LEAST_SLABS = 16  # so that a few threads end at about the same time
IDLE = 0.5  # seconds without work after which a helper ends, should an interrupt have kept its team from saying so


def slab_count(work: float, rows: int) -> int:
    """How many slabs a pass of ``work`` flop over ``rows`` rows is cut into."""
    if work < WORTH_A_THREAD:
        return 1
    return max(1, min(rows, max(LEAST_SLABS, int(work / SLAB_WORK))))


def default_threads() -> int:
    """``NMFCORE_NUM_THREADS`` if set, else the number of processors this process may use."""
    asked = os.environ.get("NMFCORE_NUM_THREADS", "").strip()
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"NMFCORE_NUM_THREADS={asked!r} is not a number of threads; set it to 1 or more.")
        return int(asked)
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


class Team:
    """Threads that share out slabs; the calling thread takes its part of them.

    Helpers are started when there is something to share. Where the system starts none (there are as many threads as it
    allows, or the interpreter is shutting down), the calling thread does all the work.

    Examples
    --------
    >>> with Team(2) as team:
    ...     team.map(lambda lo, hi: sum(range(lo, hi)), [(0, 3), (3, 5)])
    [3, 7]
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._calls: Calls = SimpleQueue()
        self._helpers: list[threading.Thread] = []
        self._most_helpers = n_threads - 1
        self._job: _Job[Any] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._dismiss()
        finally:
            self._dismiss()  # once more: Ctrl-C may have ended the first
        self._calls, self._helpers = SimpleQueue(), []

    def map(self, function: Callable[[int, int], R], slabs: Sequence[Slab]) -> list[R]:
        """``[function(lo, hi) for lo, hi in slabs]``, in that order, by as many threads as there are."""
        if self.n_threads == 1 or len(slabs) <= 1:
            return [function(lo, hi) for lo, hi in slabs]
        job = _Job(function, slabs, self._hired(len(slabs) - 1))
        self._job = job
        try:
            for seat in job.seats:
                self._calls.put(partial(job.help, seat))
            job.work()
        finally:
            job.end()
            self._job = None  # what it holds may be large
        return job.results()

    def _hired(self, wanted: int) -> int:
        """How many helpers there are, after starting as many as are wanted and allowed."""
        self._helpers = [helper for helper in self._helpers if helper.is_alive()]
        try:
            while len(self._helpers) < min(wanted, self._most_helpers):
                # Not a daemon unless its caller is: the interpreter waits for both, or for neither.
                helper = threading.Thread(target=_help, args=(self._calls,), name=f"nmfcore-{len(self._helpers)}")
                helper.start()
                self._helpers.append(helper)
        except RuntimeError:  # the system starts no more threads
            self._most_helpers = len(self._helpers)
        return min(wanted, len(self._helpers))

    def _dismiss(self) -> None:
        """Let the helpers end, with the slab they are at, and wait for that."""
        self._calls.put(None)
        if self._job is not None:  # Ctrl-C came between its end and ours
            self._job.abandon()
        for helper in self._helpers:
            helper.join()


class _Job(Generic[R]):
    """Slabs that some threads take in turn, each the next one that is left.

    A helper works on it while it holds its seat, one of ``seats``. Who gave the job takes all of them at the end: that
    waits for the helpers that hold one, and keeps out those that come later.
    """

    def __init__(self, function: Callable[[int, int], R], slabs: Sequence[Slab], helpers: int) -> None:
        self.seats = [threading.RLock() for _ in range(helpers)]  # taken twice where `end` is called twice
        self._function, self._slabs = function, slabs
        self._left = deque(range(len(slabs)))
        self._results: dict[int, R] = {}
        self._errors: dict[int, BaseException] = {}

    def work(self) -> None:
        """Take slabs until there is none left; the first error leaves none."""
        while True:
            try:
                k = self._left.popleft()  # atomic
            except IndexError:
                return
            try:
                self._results[k] = self._function(*self._slabs[k])
            except BaseException as error:
                self.abandon()
                self._errors[k] = error

    def help(self, seat: threading.RLock) -> None:
        """Work, unless the job is over."""
        if seat.acquire(blocking=False):
            try:
                self.work()
            finally:
                seat.release()

    def abandon(self) -> None:
        """Leave nothing to be taken: who is at a slab ends with it."""
        self._left.clear()

    def end(self) -> None:
        """Leave nothing to be taken, and wait for who is at a slab."""
        self.abandon()
        for seat in self.seats:
            seat.acquire()

    def results(self) -> list[R]:
        """What the slabs gave, in their order, or the error of the first slab that has one; Ctrl-C comes before it."""
        if self._errors:
            error = self._errors[min(self._errors, key=lambda k: (isinstance(self._errors[k], Exception), k))]
            try:
                raise error
            finally:
                self._errors.clear()  # an error and what holds it would keep each other, and large arrays, alive
                del error
        return [self._results[k] for k in range(len(self._slabs))]


def _help(calls: Calls) -> None:
    """Do what comes, until that is None, which is left for the next helper, or nothing comes."""
    with suppress(Empty):
        while (call := calls.get(timeout=IDLE)) is not None:
            call()
            del call  # it holds arrays
        calls.put(None)
