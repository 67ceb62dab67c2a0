"""The cache of compiled code on disk: whatever befalls its files, a fit is made, and what it runs is right."""

from __future__ import annotations

import errno
import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import pytest

import nmfcore
import nmfcore._warmup
from nmfcore import CacheWarning
from nmfcore.kernels import _cache, _jit

ROOT = Path(nmfcore.__file__).parent
SMALL = """
def double(x):
    return x + x

def triple(x):
    return x + x + x
"""
FORM = r"small\.double-2\.py\d+\w*\.[0-9a-f]{40}\.nbc"

pytestmark = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="without compilation there is no cache"
)


class Small:
    """Two kernels in a file of their own, and the folder where they are kept."""

    def __init__(self, source: Path) -> None:
        spec = importlib.util.spec_from_file_location(source.stem, source)
        assert spec is not None
        assert spec.loader is not None
        self.module: ModuleType = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.folder = Path(self.fresh()._cache.cache_path)

    def fresh(self, name: str = "double") -> Any:
        """A kernel as another process has it: with nothing in memory."""
        return _jit.kernel(getattr(self.module, name))

    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if not path.name.startswith("other"))

    def file(self) -> Path:
        """The one file there is, after a first use."""
        assert self.fresh()(1.5) == 3.0
        (path,) = self.files()
        return path


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_jit, "KERNELS", [])
    monkeypatch.setattr("nmfcore._warmup.KERNELS", _jit.KERNELS)
    monkeypatch.setattr(_jit, "_CACHE", True)
    monkeypatch.setattr(_cache, "_told", False)
    (tmp_path / "small.py").write_text(SMALL)
    small = Small(tmp_path / "small.py")
    monkeypatch.setitem(sys.modules, "small", small.module)  # by its name Numba finds it when it reads code
    return small


def loaded(kernel: Any) -> bool:
    """Whether a kernel, used for the first time, was read from disk; else it was compiled."""
    assert kernel(1.5) == 3.0
    hits, misses = kernel.stats.cache_hits.total(), kernel.stats.cache_misses.total()
    assert hits + misses == 1
    return bool(hits)


# ---- what is kept -------------------------------------------------------------------------------------------------


def test_code_is_kept_and_found(small: Small) -> None:
    assert not loaded(small.fresh())
    assert [bool(re.fullmatch(FORM, path.name)) for path in small.files()] == [True]
    assert loaded(small.fresh())
    ints, triple = small.fresh(), small.fresh("triple")
    assert (ints(2), triple(1.5)) == (4, 4.5)  # other code
    assert len(small.files()) == 3
    ints = small.fresh()
    assert ints(3) == 6
    assert ints.stats.cache_hits.total() == 1


def test_code_of_other_versions_is_not_used_and_makes_room(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    before = small.file()
    monkeypatch.setattr(numba, "__version__", "0.0.1")
    assert not loaded(small.fresh())
    after = small.file()
    assert after != before
    assert loaded(small.fresh())


def test_what_numba_itself_kept_is_not_used_and_makes_room(small: Small) -> None:
    assert numba.njit(cache=True)(small.module.double)(1.5) == 3.0
    assert {path.suffix for path in small.files()} == {".nbi", ".nbc"}
    assert not loaded(small.fresh())
    assert re.fullmatch(FORM, small.file().name)


def test_recompiling_forgets_what_was_kept(small: Small) -> None:
    small.file()
    kernel = small.fresh()
    assert loaded(kernel)
    kernel.recompile()
    assert kernel.stats.cache_misses.total() == 1
    assert loaded(small.fresh())


def test_an_edit_of_any_kernel_is_seen(tmp_path: Path) -> None:
    """Also of one in another file, whose code is part of the kernel's."""
    copy = tmp_path / "nmfcore"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = """
        import numpy as np
        from nmfcore.kernels import sparse
        sparse.columns_rise(np.array([0, 2]), np.array([0, 1], np.int32))
        print(sparse.columns_rise.stats.cache_hits.total())
    """
    environment = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert [python(code, cwd=tmp_path, **environment) for _ in range(2)] == ["0\n", "1\n"]
    for name in ("vectors/sweeps.py", "_jit.py"):  # what is called, and how it is compiled
        with open(copy / "kernels" / name, "a") as file:
            file.write("# another comment\n")
        assert [python(code, cwd=tmp_path, **environment) for _ in range(2)] == ["0\n", "1\n"]


def python(code: str, cwd: Path | None = None, **environment: str) -> str:
    """What a fresh interpreter prints; nothing on the standard error."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=os.environ | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


# ---- damage -------------------------------------------------------------------------------------------------------


def flipped(content: bytes, place: int) -> bytes:
    altered = bytearray(content)
    altered[place] ^= 1
    return bytes(altered)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "cut within the checksum": lambda content: content[:7],
    "halved": lambda content: content[: len(content) // 2],
    "longer": lambda content: content + b"\0",
    "a bit of the checksum": lambda content: flipped(content, 3),
    "a bit of the code": lambda content: flipped(content, len(content) // 2),
    "the last bit": lambda content: flipped(content, -1),
    "zeros": lambda content: bytes(len(content)),
    "text": lambda content: b"<html>404 Not Found</html>\n" * 99,
    "a pickle": lambda content: pickle.dumps({"as Numba": "kept it"}),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_file_is_told_of_and_replaced(how: str, small: Small) -> None:
    path = small.file()
    content = path.read_bytes()
    path.write_bytes(DAMAGE[how](content))
    with pytest.warns(CacheWarning) as caught:
        assert not loaded(small.fresh())
    said = str(caught[0].message)
    assert said == (
        f"Compiled code in {small.folder} cannot be used (OSError: {path} is damaged), so it is compiled again, which "
        "takes seconds. If the next process says so again, call nmfcore.clear_cache(), or set NMFCORE_CACHE=0 to do "
        "without a cache."
    )
    assert caught[0].filename == __file__  # and not a place inside this package or Numba
    assert small.file() == path
    assert loaded(small.fresh())


def test_no_altered_byte_goes_unnoticed(small: Small) -> None:
    path, files = small.file(), small.fresh()._cache._cache_file
    content = path.read_bytes()
    key: Any = None

    def spy(asked: object) -> None:
        nonlocal key
        key = asked

    kernel = small.fresh()
    kernel._cache._cache_file.load = spy
    kernel(1.5)
    path.write_bytes(content)
    assert files.load(key) is not None
    for place in [*range(40), *range(40, len(content), 97)]:
        path.write_bytes(flipped(content, place))
        with pytest.raises(OSError, match="is damaged"):
            files.load(key)


def test_code_of_another_signature_is_not_run(small: Small) -> None:
    """As after two processes had written to Numba's index at once."""
    of_floats = small.file()
    small.fresh()(2)
    (of_ints,) = set(small.files()) - {of_floats}
    shutil.copyfile(of_ints, of_floats)
    with pytest.warns(CacheWarning, match="is damaged"):
        assert not loaded(small.fresh())


@pytest.mark.parametrize(
    "error",
    [
        EOFError("Ran out of input"),
        pickle.UnpicklingError("invalid load key"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        AttributeError("Can't get attribute"),
        ModuleNotFoundError("No module named 'numba.gone'"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
        RecursionError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_error_of_reading_stops_a_kernel(error: Exception, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    small.file()

    def fail(content: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(_cache.pickle, "loads", fail)
        with pytest.warns(CacheWarning, match=re.escape(f"({type(error).__name__}: ")):
            assert not loaded(small.fresh())
    assert loaded(small.fresh())


def in_its_place(path: Path, what: str) -> None:
    path.unlink()
    if what == "a folder":
        path.mkdir()
    elif what == "a folder of something":
        path.mkdir()
        (path / "precious").write_text("kept")
    elif what == "a pipe":
        os.mkfifo(path)
    elif what == "a link to nowhere":
        path.symlink_to("nowhere")
    else:
        path.symlink_to(path.name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a POSIX file system")
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("a folder", "is not a file"),
        ("a folder of something", "is not a file"),
        ("a pipe", "is not a file"),
        ("a circle of links", "levels of symbolic links"),
    ],
)
def test_something_else_in_the_place_of_a_file(what: str, reason: str, small: Small) -> None:
    path = small.file()
    in_its_place(path, what)
    with pytest.warns(CacheWarning, match=rf"{reason}.*\), so it is compiled again") as caught:
        assert not loaded(small.fresh())
    assert len(caught) == 1  # although a folder cannot be replaced either
    if what.startswith("a folder"):
        assert path.is_dir()
        assert not loaded(small.fresh())
        assert ("precious" in os.listdir(path)) is (what == "a folder of something")
    else:
        assert loaded(small.fresh())
    assert small.files() == [path]  # and no temporary


@pytest.mark.skipif(sys.platform == "win32", reason="links")
def test_a_link_to_nowhere_is_no_file(small: Small) -> None:
    path = small.file()
    in_its_place(path, "a link to nowhere")
    assert not loaded(small.fresh())
    assert small.files() == [path]
    assert not path.is_symlink()
    assert loaded(small.fresh())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is unreadable for root")
def test_a_file_that_must_not_be_read(small: Small) -> None:
    path = small.file()
    path.chmod(0)
    with pytest.warns(CacheWarning, match="PermissionError"):
        assert not loaded(small.fresh())
    assert loaded(small.fresh())


# ---- no room ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("open", OSError(errno.ENOSPC, "No space left on device")),
        ("open", PermissionError(errno.EACCES, "Permission denied")),
        ("_dumps", pickle.PicklingError("Can't pickle")),
        ("_dumps", MemoryError()),
    ],
)
def test_no_error_of_writing_stops_a_kernel(
    name: str, error: Exception, small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(_cache, name, fail, raising=False)
        with pytest.warns(CacheWarning) as caught:
            assert not loaded(small.fresh())
        assert not loaded(small.fresh())  # said once in a process
    assert [str(each.message) for each in caught] == [
        f"Compiled code cannot be kept in {small.folder} ({type(error).__name__}: {error}), so every process compiles "
        "it again, which takes seconds. Make room there, call nmfcore.clear_cache(), set NUMBA_CACHE_DIR to another "
        "folder, or set NMFCORE_CACHE=0 to do without a cache."
    ]
    assert small.files() == []
    assert not loaded(small.fresh())
    assert loaded(small.fresh())


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_no_temporary_stays(error: BaseException, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    kernel = small.fresh()
    with monkeypatch.context() as patch:
        patch.setattr(_cache.os, "replace", fail)
        if isinstance(error, KeyboardInterrupt):
            with pytest.raises(KeyboardInterrupt):
                kernel(1.5)
        else:
            with pytest.warns(CacheWarning, match="No space left on device"):
                kernel(1.5)
    assert kernel(1.5) == 3.0
    assert small.files() == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files is the nearest that a test can have."""
    code = """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
        import numpy as np
        from nmfcore.kernels import sparse
        from nmfcore import CacheWarning
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sparse.columns_rise(np.array([0, 2]), np.array([0, 1], np.int32))
            sparse.columns_rise(np.array([0, 2]), np.array([0, 1], np.int64))
        (only,) = caught
        print(only.category is CacheWarning, "File too large" in str(only.message), only.filename)
    """
    assert python(code, NUMBA_CACHE_DIR=str(tmp_path)) == "True True <string>\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_folder_may_go_in_the_meantime(small: Small) -> None:
    kernel = small.fresh()
    shutil.rmtree(small.folder)
    assert not loaded(kernel)
    assert loaded(small.fresh())


def test_sources_that_cannot_be_read_mean_no_cache(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(_cache, "_sources", fail)
    assert type(small.fresh()._cache).__name__ == "NullCache"


# ---- company ------------------------------------------------------------------------------------------------------


def test_processes_that_compile_at_once(tmp_path: Path) -> None:
    """Different signatures, and the same ones; nobody is told anything, and everything is kept."""
    code = """
        import sys, time
        import numpy as np
        from nmfcore.kernels import sparse
        print("ready", flush=True)
        sys.stdin.readline()
        kinds = [np.int32, np.int64] if sys.argv[1] == "0" else [np.int64, np.int32]
        for kind in kinds:
            assert sparse.columns_rise(np.array([0, 2]), np.array([0, 1], kind))
            assert not sparse.columns_rise(np.array([0, 2]), np.array([1, 0], kind))
        print(sparse.columns_rise.stats.cache_hits.total())
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    crowd = [subprocess.Popen([*command, str(k % 2)], env=environment, text=True, bufsize=1, **pipes) for k in range(4)]
    for process in crowd:
        assert process.stdout.readline() == "ready\n"
    for process in crowd:
        process.stdin.write("go\n")
    for process in crowd:
        out, error = process.communicate(timeout=120)
        assert (process.returncode, error) == (0, "")
        assert out.strip() in ("0", "1", "2")
    kept = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) == 2
    assert all(name.endswith(".nbc") for name in kept)
    last = subprocess.run([*command, "0"], env=environment, input="go\n", capture_output=True, text=True, check=True)
    assert last.stdout == "ready\n2\n"


# ---- clear_cache --------------------------------------------------------------------------------------------------


def test_clear_cache_removes_its_own_files_alone(small: Small) -> None:
    path = small.file()
    assert numba.njit(cache=True)(small.module.triple)(1.5) == 4.5  # of an older nmfcore
    (small.folder / f"{path.name}.tmp.0123456789abcdef").write_bytes(b"of a process that was killed")
    (small.folder / path.name.replace("double-2", "gone-9")).write_bytes(b"of a kernel that is no more")
    spared = ["other.nbc", "small.txt", "small.cpython-311.pyc", "small.nbc.txt", "small.f-2.py311.nbc"]
    for name in spared:
        (small.folder / name).write_text("kept")
    in_its_place(small.folder / "small.txt", "a folder of something")
    folder, link = (small.folder / path.name.replace("double", name) for name in ("folder", "link"))
    folder.mkdir()
    link.symlink_to(small.folder / "other.nbc")
    assert nmfcore.clear_cache() == 5
    assert sorted(os.listdir(small.folder)) == sorted([*spared, folder.name, link.name])
    assert nmfcore.clear_cache() == 0
    assert not loaded(small.fresh())
    assert nmfcore.clear_cache() == 1


def test_clear_cache_heals_what_is_damaged(small: Small) -> None:
    small.file().write_bytes(b"")
    assert nmfcore.clear_cache() == 1
    assert not loaded(small.fresh())  # and no warning
    assert loaded(small.fresh())


def test_clear_cache_where_nothing_can_be_kept(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    caching = _cache._caching
    monkeypatch.setattr(getattr(caching, "CacheImpl", None) or caching._CacheImpl, "_locator_classes", [])
    assert nmfcore.clear_cache() == 0


def test_clear_cache_says_what_it_cannot_remove(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small.file()

    def fail(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    with monkeypatch.context() as patch:
        patch.setattr(_cache.os, "unlink", fail)
        with pytest.raises(PermissionError, match=re.escape(str(path))):
            nmfcore.clear_cache()


def test_clear_cache_is_no_race(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process may remove a file first."""
    small.file()
    real = os.unlink

    def twice(path: str) -> None:
        real(path)
        real(path)

    monkeypatch.setattr(_cache.os, "unlink", twice)
    assert nmfcore.clear_cache() == 0
    assert small.files() == []


def test_clear_cache_knows_every_kernel() -> None:
    """Those that are imported late stand in the folders of others."""
    files = [path for path in ROOT.rglob("*.py") if re.search(r"^@kernel$", path.read_text("utf-8"), re.M)]
    folders = {path.parent for path in files}
    assert {Path(function.__code__.co_filename).parent for function in _jit.KERNELS} == folders
    assert folders >= {ROOT / "kernels", ROOT / "solvers"}


# ---- the whole ----------------------------------------------------------------------------------------------------

WHOLE = """
    import warnings, nmfcore, sys
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        f = nmfcore.factorize([[1, 2], [3, 4.0]], 1, random_state=0)
    print(f.H.tobytes().hex(), [w.category.__name__ for w in caught], [w.filename for w in caught])
"""


def test_a_fit_whose_cache_is_damaged(tmp_path: Path) -> None:
    environment = {"NUMBA_CACHE_DIR": str(tmp_path)}
    bits = python(WHOLE, **environment).split()[0]
    files = [path for path in sorted(tmp_path.rglob("*.nbc")) if path.name.startswith(("dense._", "factors."))]
    assert len(files) > 2
    for path, damage in zip(files, [*DAMAGE.values()], strict=False):
        path.write_bytes(damage(path.read_bytes()))
    assert python(WHOLE, **environment) == f"{bits} ['CacheWarning'] ['<string>']\n"
    assert python(WHOLE, **environment) == f"{bits} [] []\n"
    kept = len([path for path in tmp_path.rglob("*") if path.is_file()])
    clear = "import nmfcore; print(nmfcore.clear_cache())"
    assert python(clear, NMFCORE_CACHE="0", **environment) == f"{kept}\n"  # whether or not it is used
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
