"""Model files: the only place that reads or writes them.

A model file is an ordinary ``.npz``: a zip archive with one ``.npy`` member per array, so that ``np.load``
opens it too, and a member ``meta`` (bytes of UTF-8 JSON) that says ``"format": "nmfcore"``, the version of
the format and whatever the caller adds. Members are stored, not deflated: factors are nearly incompressible,
and deflating them costs more time than the disk saves. Files deflated by other tools are read as well.

Writing is atomic (:mod:`nmfcore.machine.files`): a crash leaves either the old model or the new one, never half of one.

Reading trusts nothing. A model file may come from a mail or a download; therefore nothing is unpickled,
nothing is extracted to disk, only the expected members are looked at, and what a member claims to be is
checked against the bytes that are really there before memory is asked for.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from reprlib import repr as shortly
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nmfcore.api import npy, zip_writer
from nmfcore.api.npy import MAX_HEADER, Member, Refusal, damaged, dtype_problem, foreign
from nmfcore.machine import files, memory

__all__ = ["FORMAT", "JSON", "VERSION", "Member", "read", "write"]

FORMAT = "nmfcore"
VERSION = 2  # 2: texts of ids are bytes and offsets; 1 is still read
LOADERS = {"factorization": "nmfcore.load", "recommender": "nmfcore.Recommender.load"}  # by what a file says it is

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

_MAX_META = 1 << 24  # bytes of JSON
_MAX_RATIO = 1032  # deflate cannot expand further: a longer claim is a lie
_ON_DISK = "give the name of a model file on the disk"

# What zipfile, zlib and NumPy raise on bytes that make no sense (RecursionError is a RuntimeError).
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


# ---------------------------------------------------------------------------------------------- writing


def write(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, JSON]) -> None:
    """Write a model file, or leave the old one as it was.

    Parameters
    ----------
    path : str or path-like
        Where to write: exactly this name, nothing is appended. A symbolic link is followed.
    arrays : mapping of str to ndarray
        Arrays of any shape; booleans, integers, floats of at most 64 bits or strings. The names must be
        identifiers other than ``meta``.
    meta : mapping of str to JSON
        Everything else: None, bool, int, float (inf and nan included), str, lists and dicts of these. A tuple
        comes back as a list. The keys ``format`` and ``version`` belong to the file itself.

    Raises
    ------
    ValueError
        If a name, a dtype or a piece of `meta` is not something that a model file can hold.
    OSError
        If the file cannot be written; an older file at `path` is then intact.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.npz")
    >>> write(path, {"W": np.eye(2)}, {"l2": 0.5})
    >>> read(path, {"W": Member(2, "f")})
    ({'W': array([[1., 0.],
           [0., 1.]])}, {'l2': 0.5})
    """
    members = {name: _writable(name, array) for name, array in arrays.items()}
    text = _encode(meta)
    contents = {"meta": np.frombuffer(text, np.uint8), **members}

    def fill(file: IO[bytes]) -> None:
        zip_writer.write(file, {f"{name}.npy": npy.pieces(array) for name, array in contents.items()})

    files.replace(path, fill)


def _writable(name: str, array: NDArray[Any]) -> NDArray[Any]:
    if not name.isidentifier() or name == "meta":
        raise ValueError(f"the array name {name!r} cannot be saved: use an identifier other than 'meta'")
    array = np.asarray(array)
    if problem := dtype_problem(array.dtype):
        raise ValueError(f"the array {name!r} cannot be saved: {problem}; convert it first")
    return array


def _encode(meta: Mapping[str, JSON]) -> bytes:
    for key in ("format", "version"):
        if key in meta:
            raise ValueError(f"meta[{key!r}] is written by nmfcore itself: use another name")
    try:
        text = json.dumps({"format": FORMAT, "version": VERSION, **_plain(meta, "meta")}).encode()
        json.loads(text)  # what cannot be read back (an integer of 5000 digits) must not be written
    except RecursionError:
        raise ValueError("meta is nested too deeply to be saved, or contains itself: flatten it") from None
    if len(text) > _MAX_META:
        raise ValueError(f"meta takes {len(text)} bytes of at most {_MAX_META}: save large things as arrays")
    return text


def _plain(value: object, where: str) -> Any:
    """Return `value` in plain Python, or refuse what JSON would change on the way (a key 1 becomes "1")."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}, which is not a string: JSON keys are strings")
        return {key: _plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ValueError(f"{where} is a {kind}, which JSON has no word for: convert it or save it as an array")


# ---------------------------------------------------------------------------------------------- reading


def read(
    path: str | os.PathLike[str], expected: Mapping[str, Member], *, max_bytes: int = 8 * 2**30
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """Read a model file that may be damaged or hostile.

    Parameters
    ----------
    path : str or path-like
        The file.
    expected : mapping of str to Member
        The arrays that the file may or must hold. Any other member is refused.
    max_bytes : int, default 8 GiB
        Most bytes that the members may take in memory, together.

    Returns
    -------
    arrays : dict of str to ndarray
        The members present, in native byte order, owned by the caller. Only their form has been checked:
        whether the values mean anything (shapes that fit, no NaN) is for the caller to judge.
    meta : dict
        What the writer passed as `meta`.

    Raises
    ------
    ValueError
        If the content is not a readable model: not an nmfcore file, damaged, of a newer version, too large.
        The message begins with the path.
    OSError
        If the file is missing, not readable, or no regular file but a directory, a pipe or a device.
    MemoryError
        If the arrays do not fit the machine's memory.

    Examples
    --------
    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "notes.npz")
    >>> with open(path, "w") as file:
    ...     print("dear diary", file=file)
    >>> read(path, {})
    Traceback (most recent call last):
    ValueError: ...notes.npz: not an nmfcore model: this is no .npz file. Check the path.
    """
    with files.open_regular(path, _ON_DISK) as file:
        try:
            return _read(file, expected, max_bytes)
        except Refusal as refusal:
            raise ValueError(f"{os.fspath(path)}: {refusal}") from None
        except _DAMAGE as error:
            raise ValueError(f"{os.fspath(path)}: {_unreadable(str(error))}") from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # a damaged table makes zipfile seek to before the start
                raise
            problem = _unreadable("its table of contents points outside the file")
            raise ValueError(f"{os.fspath(path)}: {problem}") from error


def _unreadable(what: str) -> str:
    """For an archive so broken that nobody can say whose it was."""
    return f"not an nmfcore model, or a damaged one: {what}. Check the path; copy or save the file again."


def _read(
    file: IO[bytes], expected: Mapping[str, Member], max_bytes: int
) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    if file.read(4) != b"PK\x03\x04":
        raise Refusal(foreign("this is no .npz file"))
    length = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        infos = _index(archive)
        # The version comes first: a newer file may well hold members unknown to this one.
        meta = _read_meta(archive, infos.pop("meta.npy"), length)
        _check_names(infos.keys(), expected, str(meta.get("kind")))
        for info in infos.values():
            _check_entry(info, length)
        total = sum(info.file_size for info in infos.values())
        if total > max_bytes:
            raise Refusal(
                f"too large: its arrays take {total} bytes, max_bytes is {max_bytes}. "
                f"If you trust the file, pass max_bytes={total}."
            )
        memory.check({"its arrays": total}, os.fspath(file.name), "load it on a larger machine")
        arrays = {
            name: _read_member(archive, infos[f"{name}.npy"], member)
            for name, member in expected.items()
            if f"{name}.npy" in infos
        }
    return arrays, meta


def _index(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    infos: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        if info.filename in infos:
            raise Refusal(damaged(f"it holds {info.filename!r} twice"))
        infos[info.filename] = info
    if "meta.npy" not in infos:
        raise Refusal(foreign("this .npz file has no member 'meta'"))
    return infos


def _check_names(found: Collection[str], expected: Mapping[str, Member], kind: str) -> None:
    misfit = _misfit(found, expected)
    asked = "recommender" if "indptr" in expected else "factorization"
    if misfit and kind == asked:
        raise Refusal(damaged(misfit))
    if misfit and kind in LOADERS:
        raise Refusal(f"it says that it is a {kind}: {LOADERS[kind]} reads those. ({misfit[0].upper()}{misfit[1:]}.)")
    if misfit:
        raise Refusal(foreign(misfit))


def _misfit(found: Collection[str], expected: Mapping[str, Member]) -> str | None:
    """Say which member is too many or missing, if one is."""
    known = {f"{name}.npy" for name in expected}
    for name in found:
        if name not in known:
            return f"it holds {name!r}, which this kind of model does not have"
    for name, member in expected.items():
        if member.required and f"{name}.npy" not in found:
            return f"it lacks {name!r}, which this kind of model must have"
    return None


def _read_meta(archive: zipfile.ZipFile, info: zipfile.ZipInfo, length: int) -> dict[str, Any]:
    if info.file_size > _MAX_META + MAX_HEADER:
        raise Refusal(foreign(f"its member 'meta' takes {info.file_size} bytes"))
    _check_entry(info, length)
    text = _read_member(archive, info, Member(1, "u")).tobytes()
    try:
        meta = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Refusal(damaged(f"its member 'meta' is not JSON ({error})")) from None
    if not isinstance(meta, dict) or meta.pop("format", None) != FORMAT:
        raise Refusal(foreign(f"its member 'meta' does not say format {FORMAT!r}"))
    version = meta.pop("version", None)
    if type(version) is not int or version < 1:
        raise Refusal(damaged(f"its format version is {shortly(version)}"))
    if version > VERSION:
        raise Refusal(
            f"written by a newer nmfcore: format version {shortly(version)}, this one reads up to {VERSION}. "
            "Upgrade nmfcore."
        )
    return meta


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, member: Member) -> NDArray[Any]:
    try:
        with archive.open(info) as stream:
            return npy.read(stream, info, member)
    except _DAMAGE as error:
        raise Refusal(damaged(f"{info.filename}: {error}")) from error


def _check_entry(info: zipfile.ZipInfo, length: int) -> None:
    """Refuse what zipfile cannot or should not open, and sizes that the file cannot contain."""
    if info.flag_bits & 0x1:
        raise Refusal(foreign(f"{info.filename} is encrypted"))
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Refusal(foreign(f"{info.filename} uses compression method {info.compress_type}"))
    stored = info.compress_type == zipfile.ZIP_STORED
    most = info.compress_size * (1 if stored else _MAX_RATIO)
    if info.compress_size > length or info.file_size > most or (stored and info.file_size != most):
        raise Refusal(damaged(f"{info.filename} claims {info.file_size} bytes, more or fewer than it can hold"))
