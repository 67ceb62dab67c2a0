"""Files on the disk: written at once or not at all, and read only where they are files.

A new file grows under a temporary name in the same folder and takes the place of the old one in a single step. So a
crash leaves either the old file or the new one, never half of one. Whoever could not read the old file cannot read the
new one, nor the temporary.

**Temporaries of processes that were killed** are removed by the next write to the same path. Their names begin with a
hash of the name of the file that they were to become. Whoever writes one holds a lock on it, which the system takes
back when the process ends, however it ends. So a temporary that can be locked belongs to nobody. Where files cannot
be locked, none is removed. Windows has no such locks, but does not remove a file that is open.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, Any

if sys.platform != "win32":
    import fcntl

__all__ = ["check_regular", "check_target", "open_regular", "replace"]

PREFIX, SUFFIX = ".nmfcore-", ".tmp"
ACL = "system.posix_acl_access"  # the extended attribute in which Linux keeps who else may do what
CLOSED_FOR = 60.0  # seconds that a temporary has not changed: on Windows it is closed just before it takes its place

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class _Taken(Exception):
    """A temporary was removed before it was locked."""


# ---------------------------------------------------------------------------------------------- writing


def check_target(path: str | os.PathLike[str]) -> str:
    """Where a file of this name goes, links followed; OSError if it can be seen that none will.

    Never is anything replaced that is not a file, such as a folder, or /dev/null.
    """
    target = os.path.realpath(path)
    if os.path.exists(target) and not os.path.isfile(target):
        raise OSError(errno.EISDIR, "Not a regular file: give the name of one to write", os.fspath(path))
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(errno.ENOENT, "No such folder to write it to: make it first", os.fspath(path))
    return target


def replace(path: str | os.PathLike[str], fill: Callable[[IO[bytes]], object]) -> None:
    """Write a file, or leave the old one as it was.

    Parameters
    ----------
    path : str or path-like
        Where to write. A symbolic link is followed. The permissions of an older file are kept; those of a new one
        follow the umask.
    fill : callable
        Called with the open file, to write its content.

    Raises
    ------
    OSError
        If the file cannot be written; it names `path`. Whatever `fill` raises, an interrupt too, comes as it is.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "notes.txt")
    >>> replace(path, lambda file: file.write(b"dear diary"))
    >>> os.path.getsize(path)
    10
    """
    target = check_target(path)
    _remove_abandoned(target)
    temporary = os.path.join(os.path.dirname(target), f"{_beginning(target)}{secrets.token_hex(8)}{SUFFIX}")
    try:
        _fill_and_move(temporary, target, fill)
    except _Taken:
        replace(path, fill)
    except BaseException as error:  # an interrupt must not leave the temporary behind either
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename in (None, temporary):
            error.filename = os.fspath(path)  # the name that the caller knows
            if error.filename2 is not None:
                del error.filename2
        raise


def _fill_and_move(temporary: str, target: str, fill: Callable[[IO[bytes]], object]) -> None:
    old = os.stat(target) if os.path.exists(target) else None
    # Nobody may read it before it is known who may. The opener is one call in C: no interrupt loses what it returns.
    opener = partial(os.open, mode=0o666 if old is None else 0o600)
    file = None
    try:
        file = open(temporary, "xb", opener=opener)  # noqa: SIM115  (an interrupt may come just before a with ends)
        if _lock(file) is False or not os.path.exists(temporary):
            raise _Taken
        if old is not None:
            _give_access(file.fileno(), target, old)
        fill(file)
        file.flush()
        os.fsync(file.fileno())
        if sys.platform != "win32":  # still locked
            os.replace(temporary, target)
        file.close()
    except BaseException:
        if file is not None:
            file.raw.close()  # closing the file would write the rest, and might raise in place of this error
        raise
    if sys.platform == "win32":  # where no file that is open can be moved
        os.replace(temporary, target)


def _give_access(file: int, target: str, old: os.stat_result) -> None:
    """Let a new file be read and written by those who could read and write the old one, and nobody else."""
    if sys.platform == "win32":
        return
    mode, new = stat.S_IMODE(old.st_mode) & 0o777, os.fstat(file)
    owners = [(old.st_uid, old.st_gid), (-1, old.st_gid)]  # only root may give a file away
    if (new.st_uid, new.st_gid) != owners[0] and not any(_succeeds(os.fchown, file, *owner) for owner in owners):
        mode &= 0o707  # what its group could do is not for another group
    if hasattr(os, "setxattr"):
        acl = _attribute(target, ACL)
        if acl is None:
            _succeeds(os.removexattr, file, ACL)  # one that the folder gives to new files
        elif not _succeeds(os.setxattr, file, ACL, acl):
            mode &= 0o707  # beside a list, the bits of the group are the most that anybody on the list may do
    _succeeds(os.fchmod, file, mode)  # where there are no permissions, that is no reason not to save


def _succeeds(function: Callable[..., object], *arguments: Any) -> bool:
    try:
        function(*arguments)
    except OSError:
        return False
    return True


def _attribute(path: str, name: str) -> bytes | None:
    try:
        return os.getxattr(path, name)
    except OSError:
        return None


# ---------------------------------------------------------------------------------------------- temporaries


def _beginning(target: str) -> str:
    """How the names of the temporaries of a file begin."""
    name = os.fsencode(os.path.normcase(os.path.basename(target)))
    return f"{PREFIX}{hashlib.sha256(name).hexdigest()[:16]}"


def _lock(file: IO[bytes]) -> bool | None:
    """Lock a file until it is closed: True, or False if somebody else does; None where files cannot be locked."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _remove_abandoned(target: str) -> None:
    """Remove the temporaries of this file that no living process writes."""
    beginning = _beginning(target)
    with suppress(OSError), os.scandir(os.path.dirname(target)) as entries:  # a folder that cannot be listed
        for entry in entries:
            if entry.name.startswith(beginning) and entry.name.endswith(SUFFIX):
                with suppress(OSError):  # it is gone, or somebody else's
                    _remove_if_abandoned(entry)


def _remove_if_abandoned(entry: os.DirEntry[str]) -> None:
    if not entry.is_file(follow_symlinks=False):
        return
    if sys.platform == "win32":
        if time.time() - entry.stat().st_mtime > CLOSED_FOR:
            os.unlink(entry.path)  # refused while it is open
        return
    with open(entry.path, "r+b", buffering=0) as file:
        if _lock(file):
            os.unlink(entry.path)


# ---------------------------------------------------------------------------------------------- reading


def check_regular(path: str | os.PathLike[str], mode: int, kinds: tuple[str, ...], remedy: str) -> None:
    """Raise if a file of this mode is one of some kinds that are no regular files.

    Parameters
    ----------
    path : str or path-like
        What messages call it.
    mode : int
        As ``os.stat`` has it.
    kinds : tuple of str
        Of ``"a directory"``, ``"a pipe"``, ``"a socket"`` and ``"a device"`` those that are refused.
    remedy : str
        What to do about it.

    Raises
    ------
    OSError
        IsADirectoryError for a directory.
    """
    kind = _KINDS.get(stat.S_IFMT(mode), "a regular file")
    if kind in kinds:
        number = errno.EISDIR if kind == "a directory" else errno.ESPIPE
        raise OSError(number, f"Not a regular file but {kind}: {remedy}", os.fspath(path))


def open_regular(path: str | os.PathLike[str], remedy: str) -> IO[bytes]:
    """Open a regular file for reading; whatever else there is is refused at once, where opening it may never end.

    Parameters
    ----------
    path : str or path-like
        The file.
    remedy : str
        What to do if it is something else.

    Raises
    ------
    OSError
        If it is no regular file, or cannot be opened.

    Examples
    --------
    >>> open_regular(".", "give the name of a file")
    Traceback (most recent call last):
    IsADirectoryError: [Errno 21] Not a regular file but a directory: give the name of a file: '.'
    """
    kinds = tuple(_KINDS.values())
    if os.path.exists(path):  # before it is opened: that has effects on some devices
        check_regular(path, os.stat(path).st_mode, kinds, remedy)
    file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  (closed by the caller)
    try:
        check_regular(path, os.fstat(file.fileno()).st_mode, kinds, remedy)
    except OSError:
        file.close()
        raise
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
