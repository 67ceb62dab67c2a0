"""Compiled code on disk: Numba's cache, made so that no state of its files stops or misleads a fit.

Numba keeps an index of each function and numbers the files with its code. An index that is damaged stops the process;
one that two processes write at once may give one signature the code of another; and neither sees an edit in a file that
the function calls into. So here each compiled function is a file of its own, without an index. Its name is made of all
that the code depends on: the sources of the kernels, the versions, the signature and the processor. It begins with a
checksum of the rest, so that altered machine code is never run. What cannot be read or written is compiled again.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import stat
import sys
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import caching, serialize

from nmfcore.kernels import CacheWarning
from nmfcore.machine import streams

SIZE = 16  # bytes of a checksum
INSIDE = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parents[1], Path(numba.__file__).parent))

_caching: Any = caching  # without types
_dumps: Any = serialize.dumps
_told = False
_unsaid: list[str] = []  # what say() has to warn of


class Cache(_caching.FunctionCache):  # type: ignore[misc]
    """The compiled code of a function, as Numba asks for it and hands it over; an error is a warning.

    Parameters
    ----------
    function : function
        What is compiled.

    Raises
    ------
    RuntimeError
        If there is no folder to write to.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        own = self._impl.locator.get_source_stamp()  # of the function's own file, which need not be a kernel's
        versions = numba.__version__, llvmlite.__version__, np.__version__
        stamp = _checksum(repr((own, _sources(), versions)).encode()).hex()
        self._cache_file = _Files(self.cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the code for a signature, or None to have it compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:
            _tell(
                f"Compiled code in {self.cache_path} cannot be used ({_described(error)}), so it is compiled again, "
                "which takes seconds. If the next process says so again, call nmfcore.clear_cache(), or set "
                "NMFCORE_CACHE=0 to do without a cache."
            )
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature."""
        try:
            super().save_overload(sig, data)
        except Exception as error:
            _tell(
                f"Compiled code cannot be kept in {self.cache_path} ({_described(error)}), so every process compiles "
                "it again, which takes seconds. Make room there, call nmfcore.clear_cache(), set NUMBA_CACHE_DIR to "
                "another folder, or set NMFCORE_CACHE=0 to do without a cache."
            )


class _Files:
    """The files of one function, in place of Numba's IndexDataCacheFile."""

    def __init__(self, folder: str, base: str, stamp: str) -> None:
        self._folder, self._base, self._stamp = folder, base, stamp

    def load(self, key: object) -> Any:
        """Return what was saved under a key; None if nothing was."""
        identity, path = self._place(key)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # to open a pipe would be to wait for ever
                raise OSError(f"{path} is not a file")
            content = memoryview(Path(path).read_bytes())
        except FileNotFoundError:
            return None
        if content[:SIZE] != _checksum(identity, content[SIZE:]):
            raise OSError(f"{path} is damaged")
        return pickle.loads(content[SIZE:])

    def save(self, key: object, data: object) -> None:
        """Keep what is to be found under a key, at once or not at all, in place of what older sources left."""
        (identity, path), content = self._place(key), _dumps(data)
        temporary = f"{path}.tmp.{uuid.uuid4().hex[:16]}"
        try:
            with open(temporary, "wb") as file:
                file.write(_checksum(identity, content) + content)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        with suppress(OSError):
            _remove(path for path in self._all() if not path.startswith(self._current()))

    def flush(self) -> None:
        """Forget everything."""
        _remove(self._all())

    def _place(self, key: object) -> tuple[bytes, str]:
        """All that the code under a key depends on, which is part of the checksum, and the file named after it."""
        # Numba's types are equal if their names are, and their names are what repr gives.
        identity = f"{self._stamp} {key!r}".encode()
        return identity, f"{self._current()}{_checksum(identity).hex()}.nbc"

    def _current(self) -> str:
        """How the files begin that the present sources left."""
        return os.path.join(self._folder, f"{self._base}.{self._stamp[:8]}")

    def _all(self) -> list[str]:
        return _code_in(self._folder, re.escape(self._base))


def clear(functions: Iterable[Callable[..., Any]]) -> int:
    """Remove what is kept of the functions in the folders of these; return how many files that were."""
    removed = 0
    # Each folder with sources has one of its own for their code.
    for function in {os.path.dirname(function.__code__.co_filename): function for function in functions}.values():
        try:
            folder = _caching.CompileResultCacheImpl(function).locator.get_cache_path()
        except RuntimeError:  # no folder to write to
            continue
        removed += _remove(_code_in(folder, r"\w+\.[\w.]+-\d+\.py\d+[a-z]*"))
    return removed


def _code_in(folder: str, base: str) -> list[str]:
    """The files of a folder that are written here, or that Numba itself writes, for functions of this form."""
    form = re.compile(rf"{base}\.(nbi|\w+\.nbc)(\.tmp\.\w+)?")
    with os.scandir(folder) as entries:
        return [each.path for each in entries if form.fullmatch(each.name) and each.is_file(follow_symlinks=False)]


def _remove(paths: Iterable[str]) -> int:
    """Remove files, of which another process may have removed some; return how many there were."""
    removed = 0
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)
            removed += 1
    return removed


def _checksum(*parts: bytes | memoryview) -> bytes:
    found = hashlib.blake2b(digest_size=SIZE)
    for part in parts:
        found.update(part)
    return found.digest()


@cache
def _sources() -> bytes:
    """A checksum of all kernels: which of them call which is not followed."""
    return _checksum(*(part for path in sorted(Path(__file__).parent.rglob("*.py")) for part in _named(path)))


def _named(path: Path) -> tuple[bytes, bytes]:
    content = path.read_bytes()
    return f"{path.name} {len(content)} ".encode(), content


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _tell(message: str) -> None:
    """Warn, once in a process: one reason is likely to be that of all other kernels too."""
    global _told
    if not _told:
        _told = True
        _unsaid.append(message)


def say() -> None:
    """Warn of what went wrong in the thread that compiles, where the caller of this package sees it."""
    while _unsaid:
        streams.warn(_unsaid.pop(), CacheWarning, _outside())


def _outside() -> int:
    """The stacklevel, for who asks, of who called this package; or of the end of the stack, in a thread of its own."""
    level, outside, frame = 1, 1, sys._getframe(1)
    while frame.f_back is not None:
        inside = frame.f_code.co_filename.startswith(INSIDE)
        level, frame = level + 1, frame.f_back
        outside = level if inside else outside
    return outside
