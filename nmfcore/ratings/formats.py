"""What a file is, by its first bytes: what can be read, and what is said of what cannot."""

from __future__ import annotations

import gzip
import json
import os
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, Literal

from nmfcore.machine.escapes import escaped
from nmfcore.ratings.duck import FETCH_AGAIN, all_lines

HEAD = 1 << 18  # bytes of text by which the layout is found

_REFUSED = {
    b"BZh": "bzip2 data: decompress it (bunzip2) first",
    b"\xfd7zXZ\0": "xz data: decompress it (unxz) first",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook or another Office file: save the sheet as CSV",
    b"SQLite format 3\0": "an SQLite database: export the table as CSV",
    b"\x89HDF": "an HDF5 file: read it with h5py or pandas and pass the columns to Ratings.from_triplets",
    b"\x93NUMPY": "a NumPy array: load it and pass it to Ratings.from_dense",
    b"%PDF": "a PDF document; a table of ratings is needed",
    b"ARROW1": "an Arrow (Feather) file: read it with pyarrow or pandas and pass it to Ratings.from_frame",
    b"\x80\x04": "a Python pickle: load it and pass it to Ratings.from_frame",
    b"\x80\x05": "a Python pickle: load it and pass it to Ratings.from_frame",
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
}


@dataclass(frozen=True)
class Format:
    """What a file is, how it is compressed, and the text it begins with."""

    kind: Literal["csv", "json", "parquet", "matrix-market"]
    compression: Literal["none", "gzip", "zstd"]
    head: bytes
    whole: bool  # whether the head is all of it


def find_format(path: str, name: str | os.PathLike[str]) -> Format:
    """Tell what a file is; ``name`` is what messages call it.

    Raises
    ------
    ValueError
        It is nothing that can be read, or damaged.
    """
    with open(path, "rb") as stream:
        magic = stream.read(16)
    if magic[:4] == b"PAR1":
        return Format("parquet", "none", b"", False)
    if magic[:4] == b"PK\x03\x04":
        raise ValueError(f"{name}: {_archive(path)}")
    for start, what in _REFUSED.items():
        if magic.startswith(start):
            raise ValueError(f"{name}: this is {what}")
    compression: Literal["none", "gzip", "zstd"] = "none"
    if magic[:2] == b"\x1f\x8b":
        compression = "gzip"
    elif magic[:4] == b"\x28\xb5\x2f\xfd":
        compression = "zstd"
        if not _zstd_is_whole(path):
            raise ValueError(f"{name}: cut off or changed; {FETCH_AGAIN}")
    elif os.fspath(name).endswith((".gz", ".zst")) and magic:
        raise ValueError(f"{name}: not compressed, whatever its name says; {FETCH_AGAIN}")
    head = _head(path, name, compression)
    whole, head = len(head) <= HEAD, head[:HEAD].removeprefix(b"\xef\xbb\xbf")
    return Format(_kind_of_text(head, name), compression, head, whole)


def opened(path: str, compression: str) -> IO[bytes]:
    """Open a file that is plain or compressed by gzip for reading."""
    return gzip.open(path, "rb") if compression == "gzip" else open(path, "rb")  # type: ignore[return-value]


def _head(path: str, name: str | os.PathLike[str], compression: str) -> bytes:
    if compression == "zstd":
        head = bytearray()
        for line, ended in all_lines(path, name):
            head += line + b"\n" * ended
            if len(head) > HEAD:
                break
        return bytes(head)
    try:
        with opened(path, compression) as stream:
            return stream.read(HEAD + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{name}: {error}; {FETCH_AGAIN}") from error


def _zstd_is_whole(path: str) -> bool:
    """Whether the frames of a zstd file are complete, by the sizes of their blocks (RFC 8878, section 3.1).

    DuckDB reads what is there of a file that is cut off.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as stream:
        while magic := stream.read(4):
            if magic[1:] == b"\x2a\x4d\x18" and 0x50 <= magic[0] <= 0x5F:  # a frame to be skipped
                stream.seek(int.from_bytes(stream.read(4), "little"), os.SEEK_CUR)
                continue
            descriptor = stream.read(1)
            if magic != b"\x28\xb5\x2f\xfd" or not descriptor:
                return False
            flags = descriptor[0]
            single, checksum = flags >> 5 & 1, flags >> 2 & 1
            content_size = (single, 2, 4, 8)[flags >> 6]
            stream.seek((1 - single) + (0, 1, 2, 4)[flags & 3] + content_size, os.SEEK_CUR)
            last = 0
            while not last:
                header = stream.read(3)
                if len(header) < 3:
                    return False
                number = int.from_bytes(header, "little")
                last, kind = number & 1, number >> 1 & 3
                stream.seek(1 if kind == 1 else number >> 3, os.SEEK_CUR)
            stream.seek(4 * checksum, os.SEEK_CUR)
            if stream.tell() > size:
                return False
    return True


def _archive(path: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "this is a damaged zip archive"
    if any(entry.startswith("xl/") for entry in inside):
        return "this is an Excel workbook: save the sheet as CSV"
    if any(entry.endswith(".npy") for entry in inside):
        return "this is a NumPy archive (.npz), such as a saved model; a table of ratings is needed"
    some = ", ".join(map(escaped, inside[:3])) + (", ..." if len(inside) > 3 else "")
    return f"this is a zip archive (of {some}): unpack it and pass a file"


def _kind_of_text(head: bytes, name: str | os.PathLike[str]) -> Literal["csv", "json", "matrix-market"]:
    if head.startswith(b"%%MatrixMarket"):
        return "matrix-market"
    text = head.lstrip()
    if text[:5].lower() in (b"<!doc", b"<html", b"<?xml", b"<head"):
        raise ValueError(f"{name}: this is a web page or XML; was the download refused? A table of ratings is needed")
    if text[:1] == b"[" and text[1:].lstrip()[:1] in (b"{", b"["):
        raise ValueError(f"{name}: this is one JSON array; write an object a line (JSON lines)")
    if text[:1] == b"{":
        try:
            json.loads(text.split(b"\n", 1)[0])
        except ValueError:
            raise ValueError(f"{name}: this is JSON, but not an object a line; write it so (JSON lines)") from None
        return "json"
    if b"\0" in head[:4096] and b"\n" not in head[:4096]:
        raise ValueError(f"{name}: this is no text file; a table of ratings is needed")
    return "csv"
