"""Single arrays of a model file: ``.npy`` files, written in pieces and read without trust.

What a file claims to be is checked against the bytes that are really there before memory is asked for.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAX_HEADER = 1 << 10  # bytes; NumPy writes 118 for an ordinary array
_KINDS = "biufSU"  # booleans, integers, floats, byte strings, text
_MAX_NUMBER = 8  # bytes; longdouble and complex have no place in a model, and longdouble differs by machine
_MAX_STRING = 1 << 16  # bytes of one string: 16 384 characters of text
_CHUNK = 1 << 20  # bytes read at a time
_PIECE = 1 << 18  # bytes written at a time: what is summed up and written stays in the caches

# The header as NumPy has always written it. Anything else is refused before NumPy's parser sees it, which
# evaluates a Python literal and may warn or run out of stack on what it does not like.
_HEADER = re.compile(
    rb"\{'descr': '[<>|=]?[biufcSUVO]\d{0,12}', 'fortran_order': (?:True|False), "
    rb"'shape': \((?:\d{1,19},|\d{1,19}(?:, \d{1,19})+,?)?\), \} *\n"
)


@dataclass(frozen=True)
class Member:
    """What a model file may hold under one name.

    Parameters
    ----------
    ndim : int
        Number of dimensions.
    kinds : str
        Permitted NumPy kinds, any of ``b i u f S U``; ``"f"`` is floating point, ``"iu"`` any integer.
    required : bool, default True
        Whether a file without this member is refused.

    Examples
    --------
    >>> Member(2, "f")
    Member(ndim=2, kinds='f', required=True)
    """

    ndim: int
    kinds: str
    required: bool = True


class Refusal(Exception):
    """What is wrong with the content and what to do; the path is put in front of it at the outer edge."""


def damaged(what: str) -> str:
    """What is said of a file that was a model."""
    return f"damaged nmfcore model: {what}. Copy or save the file again."


def foreign(what: str) -> str:
    """What is said of a file that never was one."""
    return f"not an nmfcore model: {what}. Check the path."


def pieces(array: NDArray[Any]) -> Iterator[Any]:
    """The ``.npy`` file of an array, in pieces: an interrupt does not wait for all of a large one."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(array))
    yield head.getvalue()
    order: Any = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    size = max(1, _PIECE // array.itemsize)
    flags: Any = ["external_loop", "buffered", "zerosize_ok"]
    for piece in np.nditer(array, flags=flags, buffersize=size, order=order):
        yield np.ascontiguousarray(piece).view(np.uint8)


def read(stream: IO[bytes], info: zipfile.ZipInfo, member: Member) -> NDArray[Any]:
    """Read one array whose every claim is checked before memory is asked for."""
    dtype, fortran_order, shape, start = _read_header(stream, info)
    if problem := dtype_problem(dtype):
        raise Refusal(foreign(f"{info.filename}: {problem}"))
    if len(shape) != member.ndim or dtype.kind not in member.kinds:
        found = f"a {len(shape)}-dimensional array of {dtype}"
        wanted = f"a {member.ndim}-dimensional one of kind {' or '.join(member.kinds)}"
        raise Refusal(foreign(f"{info.filename} is {found}, not {wanted}"))
    claimed, present = math.prod(shape) * dtype.itemsize, info.file_size - start
    if claimed != present:
        claim = f"claims shape {shape} of {dtype}, {claimed} bytes, but holds {present}"
        raise Refusal(damaged(f"{info.filename} {claim}"))
    array = _read_values(stream, info, dtype, math.prod(shape))
    array = array.astype(dtype.newbyteorder("="), copy=False)
    return array.reshape(shape, order="F" if fortran_order else "C")


def _read_header(stream: IO[bytes], info: zipfile.ZipInfo) -> tuple[np.dtype[Any], bool, tuple[int, ...], int]:
    start = stream.read(10)
    if len(start) < 10 or not start.startswith(np.lib.format.MAGIC_PREFIX):
        raise Refusal(foreign(f"{info.filename} is not a NumPy array"))
    # Versions 2 and 3 exist for structured dtypes, which no model has; their headers may claim 4 GiB.
    if np.lib.format.read_magic(io.BytesIO(start)) != (1, 0):
        raise Refusal(foreign(f"{info.filename} is of .npy version {start[6]}.{start[7]}, not 1.0"))
    size = int.from_bytes(start[8:], "little")
    header = stream.read(min(size, MAX_HEADER))
    if len(header) != size or not _HEADER.fullmatch(header):
        raise Refusal(foreign(f"{info.filename} has a header that is not a plain array's: {header[:80]!r}"))
    parsed = np.lib.format.read_array_header_1_0(io.BytesIO(start[8:] + header))
    shape, fortran_order, dtype = parsed
    return dtype, fortran_order, shape, len(start) + size


def dtype_problem(dtype: np.dtype[Any]) -> str | None:
    """Say why `dtype` has no place in a model file, if so."""
    if dtype.hasobject:
        return "it holds Python objects, which are never pickled"
    if dtype.kind not in _KINDS or dtype.names is not None or dtype.subdtype is not None:
        return f"its dtype is {dtype}, not plain numbers or strings"
    most = _MAX_STRING if dtype.kind in "SU" else _MAX_NUMBER
    if not 0 < dtype.itemsize <= most:
        return f"one item of its dtype {dtype} takes {dtype.itemsize} bytes, not 1 to {most}"
    return None


def _read_values(stream: IO[bytes], info: zipfile.ZipInfo, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    array = np.empty(count, dtype)
    raw = array.view(np.uint8)
    for start in range(0, raw.size, _CHUNK):
        chunk = stream.read(min(_CHUNK, raw.size - start))
        if len(chunk) < min(_CHUNK, raw.size - start):
            raise Refusal(damaged(f"{info.filename} ends early"))
        raw[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
    if stream.read(1):  # reading past the end also makes zipfile compare the checksum
        raise Refusal(damaged(f"{info.filename} is longer than it claims"))
    # Bits that are no value of the type give a bool that is neither, or text that raises when looked at.
    top = {"b": 1, "U": 0x10FFFF}.get(dtype.kind)
    units = array.view(dtype.str[0] + "u4") if dtype.kind == "U" else raw
    if top is not None and units.size and units.max() > top:
        raise Refusal(damaged(f"{info.filename} holds bits that are no value of {dtype}"))
    return array
