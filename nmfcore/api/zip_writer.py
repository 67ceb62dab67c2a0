"""Zip archives of members that are stored as they are.

Python's ``zipfile`` has one object for an archive and one for the member that is written. It cannot close the first
while the second is open: an interrupt comes out as "Can't close the ZIP file while there is an open writing handle".
Here there is nothing to close.

References
----------
PKWARE, APPNOTE.TXT, .ZIP File Format Specification, 6.3.10, 2022, sections 4.3 (records) and 4.5.3 (Zip64).
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterable, Mapping
from typing import IO, Any

LIMIT = (1 << 31) - 1  # larger sizes and offsets are written as Zip64 has them
FULL = 0xFFFFFFFF  # says so
VERSION = 45  # of the format: 4.5 has Zip64
SYSTEM = 0 if sys.platform == "win32" else 3
UTF_8 = 0x800  # the flag of names that are not ASCII
DATE = 1 << 5 | 1  # 1 January 1980: the same content gives the same bytes
MODE = 0o600 << 16


def write(file: IO[bytes], members: Mapping[str, Iterable[Any]]) -> None:
    """Write an archive to a file that is empty.

    Parameters
    ----------
    file : binary file
        Open for writing, at any place of it.
    members : mapping of str to iterable
        For each name the content, in pieces that have the buffer protocol.

    Examples
    --------
    >>> import io, zipfile
    >>> file = io.BytesIO()
    >>> write(file, {"a.txt": [b"one ", b"two"]})
    >>> zipfile.ZipFile(file).read("a.txt")
    b'one two'
    """
    directory, offset = b"", 0
    for name, pieces in members.items():
        checksum, size = 0, 0
        file.write(_head(name, checksum, size))
        for piece in pieces:
            checksum, size = zlib.crc32(piece, checksum), size + memoryview(piece).nbytes
            file.write(piece)
        end = file.tell()
        file.seek(offset)
        file.write(_head(name, checksum, size))  # now that they are known
        file.seek(end)
        directory += _entry(name, checksum, size, offset)
        offset = end
    file.write(directory)
    file.write(_end(len(members), len(directory), offset))


def _name(name: str) -> tuple[bytes, int]:
    """A name as it is written, and the flag that says how."""
    return (name.encode(), 0) if name.isascii() else (name.encode(), UTF_8)


def _head(name: str, checksum: int, size: int) -> bytes:
    """What stands before the content of a member; always with its sizes in 64 bits."""
    encoded, flags = _name(name)
    extra = struct.pack("<2H2Q", 1, 16, size, size)
    fields = VERSION, flags, 0, 0, DATE, checksum, FULL, FULL, len(encoded), len(extra)
    return b"PK\x03\x04" + struct.pack("<5H3L2H", *fields) + encoded + extra


def _entry(name: str, checksum: int, size: int, offset: int) -> bytes:
    """What the table of contents says of a member."""
    encoded, flags = _name(name)
    wide = ([size, size] if size > LIMIT else []) + ([offset] if offset > LIMIT else [])
    extra = struct.pack(f"<2H{len(wide)}Q", 1, 8 * len(wide), *wide) if wide else b""
    shown, place = (FULL if number > LIMIT else number for number in (size, offset))
    fields = VERSION | SYSTEM << 8, VERSION, flags, 0, 0, DATE, checksum, shown, shown, len(encoded), len(extra)
    return b"PK\x01\x02" + struct.pack("<6H3L5H2L", *fields, 0, 0, 0, MODE, place) + encoded + extra


def _end(count: int, size: int, offset: int) -> bytes:
    """What stands after the table of contents, which has that size and begins there."""
    wide = b""
    if offset > LIMIT:
        wide = b"PK\x06\x06" + struct.pack("<Q2H2L4Q", 44, VERSION, VERSION, 0, 0, count, count, size, offset)
        wide += b"PK\x06\x07" + struct.pack("<LQL", 0, offset + size, 1)
    return wide + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, count, count, size, min(offset, FULL), 0)
