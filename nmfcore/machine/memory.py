"""Memory is counted before it is taken.

A system that hands out more memory than it has ends the process when the memory is used, half a minute later and
without a word. So whoever is about to ask for arrays whose size a caller chose says here first what they take.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

if sys.platform != "win32":
    import resource

FREE = 2**26  # bytes that are not worth the look at how many there are
GIB = 2**30
UNKNOWN = 2**46  # bytes; more than any machine has, where that cannot be known
SHOWN = 0.02  # of the whole, the least part that a message names


def check(parts: Mapping[str, int], what: str, remedy: str) -> None:
    """Raise if arrays take more memory than this process can have.

    Parameters
    ----------
    parts : mapping of str to int
        What takes how many bytes, all at the same time.
    what : str
        What needs them, for the message.
    remedy : str
        What to do about it.

    Raises
    ------
    MemoryError
        With the size of all and of the largest of them.

    Examples
    --------
    >>> check({"W": 3 * 2**60, "H": 2**20}, "rank=10**9", "choose a smaller rank")
    Traceback (most recent call last):
    MemoryError: rank=10**9 needs 3.22e+09 GiB of memory (3.22e+09 for W), and there are ...; choose a smaller rank.
    """
    needed = sum(parts.values())
    if needed <= FREE:
        return
    there = limit()
    if needed <= there:
        return
    largest = sorted((size, name) for name, size in parts.items() if size >= SHOWN * needed)[::-1]
    said = ", ".join(f"{size / GIB:.3g} for {name}" for size, name in largest)
    raise MemoryError(
        f"{what} needs {needed / GIB:.3g} GiB of memory ({said}), and there are {there / GIB:.3g}; {remedy}."
    )


def limit() -> int:
    """Bytes of memory that this process can have: the machine's, or less where it was allowed less."""
    return min(_of_machine(), _of_group(), _of_process())


def _of_machine() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not on Windows
        return UNKNOWN


def _of_process() -> int:
    """What ``ulimit`` set."""
    if sys.platform == "win32":
        return UNKNOWN
    limits = (resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA))
    return min((size for size in limits if size != resource.RLIM_INFINITY), default=UNKNOWN)


def _of_group(membership: str = "/proc/self/cgroup", root: str = "/sys/fs/cgroup") -> int:
    """What the control groups of this process may have, as a container or a batch system sets it (Linux)."""
    try:
        lines = Path(membership).read_text().splitlines()
    except OSError:
        return UNKNOWN
    limits = [UNKNOWN]
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            folder, file = Path(root), "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = Path(root, "memory"), "memory.limit_in_bytes"
        else:
            continue
        group = Path(name.lstrip("/"))
        for place in (group, *group.parents):  # each group is limited by those above it, too
            limits += _numbers_in(folder / place / file)
    return min(limits)


def _numbers_in(file: Path) -> list[int]:
    try:
        return [int(word) for word in file.read_text().split() if word.isdigit()]
    except (OSError, UnicodeDecodeError):
        return []
