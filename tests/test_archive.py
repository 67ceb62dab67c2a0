"""Model files: what is written comes back; what is wrong is refused, cheaply and in words."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tracemalloc
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nmfcore.api import archive
from nmfcore.api.archive import Member, read, write

EXPECTED = {"W": Member(2, "f"), "H": Member(2, "f"), "ids": Member(1, "iuSU", required=False)}
ARRAYS = {
    "W": np.arange(12.0).reshape(6, 2),
    "H": np.ones((2, 5), np.float32),
    "ids": np.array(["ä", "b" * 40]),
}
META = {"format": "nmfcore", "version": 2}


def npy(descr: str, shape: str, data: bytes = b"", *, fortran: bool = False, version: int = 1) -> bytes:
    """A .npy file with exactly this header, whether or not it makes sense."""
    header = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    size = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + size + header + data


def good(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


def jsonic(meta: object) -> bytes:
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    return good(np.frombuffer(text, np.uint8))


def pack(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def model(**changes: bytes | None) -> dict[str, bytes]:
    """The members of a valid file, some replaced (bytes) or left out (None)."""
    members = {"meta": jsonic(META), "W": good(ARRAYS["W"]), "H": good(ARRAYS["H"])} | changes
    return {f"{name}.npy": data for name, data in members.items() if data is not None}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.npz"


def refuse(path: Path, match: str, **options: int) -> str:
    with pytest.raises(ValueError, match=match) as caught:
        read(path, EXPECTED, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.endswith(".")  # a sentence that says what to do
    return message


# ---------------------------------------------------------------------------------------- round trip


def test_round_trip(path):
    write(path, ARRAYS, {"l2": 0.5, "seed": None, "nested": {"a": [1, True, "ü"]}})
    arrays, meta = read(path, EXPECTED)
    assert meta == {"l2": 0.5, "seed": None, "nested": {"a": [1, True, "ü"]}}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
        assert arrays[name].flags.writeable


def test_numpy_opens_it_and_the_name_is_exactly_the_one_given(tmp_path):
    path = tmp_path / "model.v2"
    write(str(path), ARRAYS, {})
    assert os.listdir(tmp_path) == ["model.v2"]
    with np.load(path) as file:
        assert np.array_equal(file["W"], ARRAYS["W"])
        assert json.loads(file["meta"].tobytes()) == META


def test_same_model_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name, ARRAYS, {"a": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_optional_members_may_be_absent(path):
    write(path, {"W": ARRAYS["W"], "H": ARRAYS["H"]}, {})
    assert read(path, EXPECTED)[0].keys() == {"W", "H"}


def test_deflated_files_are_read(path):
    pack(path, model(W=good(np.zeros((1000, 2)))), zipfile.ZIP_DEFLATED)
    assert np.array_equal(read(path, EXPECTED)[0]["W"], np.zeros((1000, 2)))


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6.0).reshape(2, 3).astype(">f8"),
        np.arange(12.0).reshape(2, 6)[:, ::2],
        np.zeros((0, 3)),
        np.array([[np.nan, np.inf, -0.0]]),
        np.arange(300_000.0).reshape(2, -1),  # more than one chunk
    ],
    ids=["fortran", "big-endian", "strided", "empty", "special", "large"],
)
def test_layouts(path, array):
    write(path, {"W": array}, {})
    back = read(path, {"W": Member(2, "f")})[0]["W"]
    assert np.array_equal(back, array, equal_nan=True)
    assert back.dtype == np.float64
    assert back.dtype.isnative


numbers = st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.bool_, np.dtype("U7"), np.dtype("S3")])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
documents = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@given(
    array=numbers.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))),
    value=documents,
)
@settings(max_examples=100, deadline=None)
def test_whatever_is_written_comes_back(tmp_path_factory, array, value):
    path = tmp_path_factory.mktemp("archive") / "m.npz"
    write(path, {"A": array}, {"value": value})
    arrays, meta = read(path, {"A": Member(array.ndim, "biufSU")})
    assert arrays["A"].dtype == array.dtype
    assert arrays["A"].shape == array.shape
    assert arrays["A"].tobytes() == array.tobytes()
    assert repr(meta) == repr({"value": value})  # repr tells 1 from True and 1.0, and nan equals nan


def test_infinite_and_missing_numbers_in_meta(path):
    write(path, {}, {"values": (np.inf, -np.inf, np.nan, 5e-324, np.float64(0.1))})
    assert repr(read(path, {})[1]["values"]) == "[inf, -inf, nan, 5e-324, 0.1]"


def test_meta_may_be_any_mapping(path):
    write(path, {}, types.MappingProxyType({"inner": types.MappingProxyType({"a": 1})}))
    assert read(path, {})[1] == {"inner": {"a": 1}}


# ------------------------------------------------------------------------------------------- writing


loop: list[object] = []
loop.append(loop)


@pytest.mark.parametrize(
    ("meta", "match"),
    [
        ({"version": 2}, r"meta\['version'\] is written by nmfcore itself"),
        ({"a": {1: 2}}, r"meta\['a'\] has the key 1, which is not a string"),
        ({"a": [0, np.float32(1)]}, r"meta\['a'\]\[1\] is a numpy.float32, which JSON has no word for"),
        ({"a": np.bool_(1)}, "is a numpy.bool"),
        ({"a": loop}, "contains itself"),
        ({"a": 10**5000}, "digits"),
        ({"a": "x" * (1 << 24)}, "save large things as arrays"),
    ],
)
def test_meta_that_cannot_be_saved(path, meta, match):
    with pytest.raises(ValueError, match=match):
        write(path, {}, meta)
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("meta", np.ones(1), "'meta' cannot be saved"),
        ("../W", np.ones(1), "'../W' cannot be saved"),
        ("W", np.array([None]), "Python objects"),
        ("W", np.ones(1, complex), "complex128"),
        ("W", np.ones(1, [("a", "f8")]), "not plain numbers"),
        ("W", np.array(["x" * 20_000]), "one item of its dtype <U20000 takes 80000 bytes"),
    ],
)
def test_arrays_that_cannot_be_saved(path, name, array, match):
    with pytest.raises(ValueError, match=match):
        write(path, {name: array}, {})
    assert not path.exists()


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_crash_while_saving_leaves_the_old_file(path, monkeypatch, where, error):
    def crash(*_):
        raise error

    write(path, ARRAYS, {"old": True})
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, where, crash)
        with pytest.raises(type(error)):
            write(path, {"W": ARRAYS["W"]}, {"old": False})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_crash_within_an_array_leaves_the_old_file(path, monkeypatch):
    def crash(*_, **__):
        raise MemoryError

    write(path, ARRAYS, {})
    before = path.read_bytes()
    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", crash)
    with pytest.raises(MemoryError):
        write(path, ARRAYS, {})
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_the_new_file_is_on_the_disk_before_it_takes_the_place(path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: (calls.append(name), real(*a)))
    write(path, ARRAYS, {})
    assert calls == ["fsync", "replace"]


def test_writing_where_one_cannot(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*model\.npz"):
        write(tmp_path / "nowhere" / "model.npz", ARRAYS, {})
    with pytest.raises(IsADirectoryError):
        write(tmp_path, ARRAYS, {})
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="devices, modes and links are POSIX")
def test_devices_links_and_modes(tmp_path):
    with pytest.raises(OSError, match="Not a regular file"):
        write("/dev/null", ARRAYS, {})
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write(tmp_path / "link", ARRAYS, {})
    assert (tmp_path / "link").is_symlink()
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o666 & ~umask


# ------------------------------------------------------------------------------------------- reading


def test_operating_system_errors_stay_what_they_are(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing.npz", EXPECTED)
    with pytest.raises(OSError, match=r"[Dd]irectory|[Dd]enied"):
        read(tmp_path, EXPECTED)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)  # chmod would not stop root
    with pytest.raises(PermissionError):
        read(tmp_path / "secret.npz", EXPECTED)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"P",
        b"user,item,rating\n1,2,5\n",
        pickle.dumps(Trap()),
        good(ARRAYS["W"]),
        b"PK\x05\x06" + bytes(18),
    ],
    ids=["empty", "byte", "text", "pickle", "npy", "empty zip"],
)
def test_not_an_archive(path, content):
    path.write_bytes(content)
    refuse(path, "not an nmfcore model: this is no .npz file. Check the path")


def test_truncated(path):
    write(path, ARRAYS, {})
    whole = path.read_bytes()
    for keep in (10, len(whole) // 2, len(whole) - 30, len(whole) - 1):
        path.write_bytes(whole[:keep])
        refuse(path, "not an nmfcore model, or a damaged one: .* copy or save the file again")


def test_a_table_of_contents_outside_the_file(path):
    pack(path, model())
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, len(data) - 10, len(data) * 2)  # the size of the table
    path.write_bytes(data)
    refuse(path, "not an nmfcore model, or a damaged one")


def test_a_failing_disk_is_not_called_damage(path, monkeypatch):
    def fail(*_, **__):
        raise OSError(5, "Input/output error")

    write(path, ARRAYS, {})
    monkeypatch.setattr(zipfile, "ZipFile", fail)
    with pytest.raises(OSError, match="Input/output error"):
        read(path, EXPECTED)


def test_a_wrong_checksum(path):
    write(path, ARRAYS, {})
    data = path.read_bytes()
    at = data.index(ARRAYS["W"].tobytes())
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    refuse(path, "damaged nmfcore model: W.npy: Bad CRC-32")


def test_another_npz(path):
    np.savez(path, W=ARRAYS["W"], H=ARRAYS["H"])
    refuse(path, "not an nmfcore model: this .npz file has no member 'meta'")


def test_objects_are_never_unpickled(path):
    pack(path, model(W=good(np.array([[Trap()]]))))
    refuse(path, "W.npy: it holds Python objects, which are never pickled")


STRANGE = {
    "1e11 elements": npy("'<f8'", "(100000000000, 1)", bytes(16)),
    "int64 overflow": npy("'<f8'", "(4294967296, 4294967296)"),
    "20 digits": npy("'<f8'", "(99999999999999999999, 1)"),
    "0 times much": npy("'<f8'", "(0, 9999999999999999999)"),
    "huge item": npy("'|S2000000000'", "(1, 1)"),
    "many empty items": npy("'<U0'", "(100000000000, 1)"),
    "impossible item": npy("'<U99999999999'", "(1, 1)"),
    "negative shape": npy("'<f8'", "(-1, 1)", bytes(8)),
    "two negatives": npy("'<f8'", "(-1, -1)", bytes(8)),
    "bool in shape": npy("'<f8'", "(True, 1)", bytes(8)),
    "float in shape": npy("'<f8'", "(1.0, 1)", bytes(8)),
    "python 2 header": npy("'<f8'", "(1L, 1L)", bytes(8)),
    "shape list": npy("'<f8'", "[1, 1]", bytes(8)),
    "deep header": npy("'<f8'", "(" * 900 + ")" * 900),
    "long header": npy("'<f8'", "(1, 1)" + " " * 9000, bytes(8)),
    "calls": npy("__import__('os')", "(1, 1)", bytes(8)),
    "old alias": npy("'|a8'", "(1, 1)", bytes(8)),
    "structured": npy("[('a', '<f8')]", "(1, 1)", bytes(8)),
    "void": npy("'|V8'", "(1, 1)", bytes(8)),
    "complex": npy("'<c16'", "(1, 1)", bytes(16)),
    "longdouble": npy("'<f16'", "(1, 1)", bytes(16)),
    "integers": npy("'<i8'", "(1, 1)", bytes(8)),
    "vector": npy("'<f8'", "(1,)", bytes(8)),
    "scalar": npy("'<f8'", "()", bytes(8)),
    "33 dimensions": npy("'<f8'", "(" + "1, " * 33 + ")", bytes(8)),
    "too short": npy("'<f8'", "(1, 2)", bytes(15)),
    "too long": npy("'<f8'", "(1, 2)", bytes(17)),
    "version 2": npy("'<f8'", "(1, 1)", bytes(8), version=2),
    "version 9": npy("'<f8'", "(1, 1)", bytes(8), version=9),
    "no array": b"hello",
    "nothing": b"",
    "only the magic": b"\x93NUMPY\x01\x00\xff\xff",
}


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("strange", STRANGE)
def test_strange_arrays_are_refused_before_memory_is_asked_for(path, strange, compression):
    pack(path, model(W=STRANGE[strange]), compression)
    tracemalloc.start()
    try:
        refuse(path, r"W\.npy")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_headers_that_are_fine(path):
    data = np.arange(6.0).tobytes()
    pack(path, model(W=npy("'<f8'", "(2, 3)", data, fortran=True)))
    assert np.array_equal(read(path, EXPECTED)[0]["W"], np.arange(6.0).reshape(3, 2).T)


def test_bits_that_are_no_value(path):
    pack(path, model(ids=npy("'<U1'", "(1,)", b"\xff\xff\xff\xff")))
    refuse(path, "damaged.*ids.npy holds bits that are no value of <U1")
    pack(path, {"meta.npy": jsonic(META), "b.npy": npy("'|b1'", "(1,)", b"\x02")})
    with pytest.raises(ValueError, match="no value of bool"):
        read(path, {"b": Member(1, "b")})


@pytest.mark.parametrize("lacking", ["W", "H"])
def test_a_missing_member(path, lacking):
    pack(path, model(**{lacking: None}))
    refuse(path, f"lacks '{lacking}'")


@pytest.mark.parametrize("name", ["extra.npy", "../x.npy", "/etc/x.npy", "W", "W.npy.npy", "W.npy/", "ids.txt"])
def test_an_unknown_member(path, name):
    pack(path, model() | {name: good(np.ones(1))})
    refuse(path, "which this kind of model does not have")
    assert os.listdir(path.parent) == [path.name]  # nothing is extracted


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["W.npy", "meta.npy"])
def test_a_member_twice(path, name):
    pack(path, model())
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, good(np.ones((1, 1))))
    refuse(path, f"damaged.*holds '{name}' twice")


def patch_directory(path: Path, name: bytes, offset: int, layout: str, value: int) -> None:
    """Overwrite one field of the entry of `name` in the table at the end of a zip file."""
    data = bytearray(path.read_bytes())
    at = data.rindex(name) - 46  # the table stands last; an entry has 46 bytes before the name
    assert data[at : at + 4] == b"PK\x01\x02"
    struct.pack_into(layout, data, at + offset, value)
    path.write_bytes(data)


def test_encrypted(path):
    patch_directory(pack(path, model()), b"W.npy", 8, "<H", 1)
    refuse(path, "W.npy is encrypted")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unsupported_compression(path, method):
    pack(path, model(), method)
    refuse(path, f"compression method {method}")


def test_an_unknown_compression(path):
    patch_directory(pack(path, model()), b"W.npy", 10, "<H", 99)
    refuse(path, "W.npy uses compression method 99")


def test_too_large(path):
    write(path, {"W": np.ones((1000, 10)), "H": np.ones((10, 3))}, {})
    message = refuse(path, "too large: its arrays take 80496 bytes, max_bytes is 80000", max_bytes=80_000)
    assert "pass max_bytes=80496" in message
    read(path, EXPECTED, max_bytes=80_496)


def test_a_zip_bomb(path):
    pack(path, model(W=npy("'<f8'", "(6250000, 1)", bytes(50_000_000))), zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 60_000
    tracemalloc.start()
    try:
        refuse(path, "too large", max_bytes=10**7)
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_bomb_as_meta(path):
    pack(path, model(meta=npy("'|u1'", "(50000000,)", bytes(50_000_000))), zipfile.ZIP_DEFLATED)
    tracemalloc.start()
    try:
        refuse(path, "'meta' takes 50")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_a_directory_that_claims_more_than_there_is(path, compression):
    count = 375_000_000
    claim = npy("'<f8'", f"({count}, 1)")
    pack(path, model(W=claim + bytes(64)), compression)
    patch_directory(path, b"W.npy", 24, "<I", len(claim) + 8 * count)  # 3 GB, below max_bytes
    tracemalloc.start()
    try:
        refuse(path, "W.npy claims 30000000.. bytes")
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_a_stream_shorter_than_its_claim(path):
    claim = npy("'<f8'", "(10, 1)")
    pack(path, model(W=claim + bytes(72)), zipfile.ZIP_DEFLATED)
    patch_directory(path, b"W.npy", 24, "<I", len(claim) + 80)  # short enough to pass as deflated
    refuse(path, r"damaged")


@pytest.mark.parametrize(
    ("meta", "match"),
    [
        (b"", "damaged.*not JSON"),
        (b"{", "damaged.*not JSON"),
        (b"\xff\xfe", "damaged.*not JSON"),
        (b"[" * 100_000, "damaged.*not JSON"),
        (b"1" * 5000, "damaged.*not JSON"),
        ([1, 2], "not an nmfcore model.*format 'nmfcore'"),
        ("nmfcore", "not an nmfcore model"),
        ({}, "not an nmfcore model"),
        ({"format": "pickle", "version": 1}, "not an nmfcore model"),
        ({"format": "nmfcore"}, "damaged.*version is None"),
        ({"format": "nmfcore", "version": True}, "damaged.*version is True"),
        ({"format": "nmfcore", "version": 0}, "damaged.*version is 0"),
        ({"format": "nmfcore", "version": 1.0}, r"damaged.*version is 1\.0"),
    ],
)
def test_meta_that_is_wrong(path, meta, match):
    pack(path, model(meta=jsonic(meta)))
    refuse(path, match)


def test_meta_that_is_no_bytes(path):
    pack(path, model(meta=good(np.array(json.dumps(META)))))
    refuse(path, "meta.npy is a 0-dimensional array")


def test_a_newer_version_is_told_apart_from_damage(path):
    newer = jsonic({"format": "nmfcore", "version": 3})
    pack(path, model(meta=newer, bias=good(np.ones(3)), H=None))
    refuse(path, "written by a newer nmfcore: format version 3, this one reads up to 2. Upgrade nmfcore")


def test_version_is_what_the_tests_assume():
    assert (archive.FORMAT, archive.VERSION) == ("nmfcore", 2)


# ---------------------------------------------------------------------------------------------- fuzz


def mutations(whole: bytes, seed: int, count: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = rng.integers(256) if rng.random() < 0.5 else data[at] ^ (1 << rng.integers(8))
        if rng.random() < 0.2:
            del data[rng.integers(len(data)) :]
        elif rng.random() < 0.2:
            at = rng.integers(len(data))
            del data[at : at + rng.integers(1, 20)]
        yield bytes(data)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_fuzz(path, compression):
    pack(path, model(ids=good(ARRAYS["ids"])), compression)
    seen = {"read": 0, "refused": 0}
    for data in mutations(path.read_bytes(), seed=0, count=500):
        path.write_bytes(data)
        try:
            arrays, meta = read(path, EXPECTED, max_bytes=10**7)
        except ValueError as error:
            seen["refused"] += str(error).startswith(f"{path}: ")
        else:  # the change hit a date, or nothing that matters
            seen["read"] += 1
            assert meta == {}
            assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in arrays)
    assert sum(seen.values()) == 500
    assert min(seen.values()) > 10
