"""Threads: fixed slabs of rows, run by a team that lives as long as one fit.

What a slab is follows from the data alone, never from the number of threads, and the results are handed back in
the order of the slabs; so sums over slabs have the same bits for any number of threads. The compiled kernels
release the GIL. An executor that outlived its fit would hang in a forked child.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

R = TypeVar("R")
Slab = tuple[int, int]  # rows lo <= i < hi

WORTH_A_THREAD = 2e7  # flop; below this, a millisecond, handing work over costs more than it saves
SLAB_WORK = 1e8  # flop; some ten to thirty milliseconds, so Ctrl-C is heard in time
LEAST_SLABS = 16  # so that a few threads end at about the same time


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

    Examples
    --------
    >>> with Team(2) as team:
    ...     team.map(lambda lo, hi: sum(range(lo, hi)), [(0, 3), (3, 5)])
    [3, 7]
    """

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._executor: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True)
            self._executor = None

    def map(self, function: Callable[[int, int], R], slabs: Sequence[Slab]) -> list[R]:
        """``[function(lo, hi) for lo, hi in slabs]``, in that order, by as many threads as there are."""
        if self.n_threads == 1 or len(slabs) == 1:
            return [function(lo, hi) for lo, hi in slabs]
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self.n_threads - 1, thread_name_prefix="nmfcore")
        return _share(function, slabs, self._executor, self.n_threads - 1)


def _share(
    function: Callable[[int, int], R], slabs: Sequence[Slab], executor: ThreadPoolExecutor, helpers: int
) -> list[R]:
    results: dict[int, R] = {}
    ticket = itertools.count()  # next() on it is atomic
    abandoned = False

    def work() -> None:
        while not abandoned and (k := next(ticket)) < len(slabs):
            results[k] = function(*slabs[k])

    futures: list[Future[None]] = []
    try:
        futures += [executor.submit(work) for _ in range(min(helpers, len(slabs) - 1))]
        work()
    finally:  # after Ctrl-C or an error the helpers end with the slab they are at
        abandoned = True
        for future in futures:
            future.exception()
    for future in futures:
        future.result()
    return [results[k] for k in range(len(slabs))]
