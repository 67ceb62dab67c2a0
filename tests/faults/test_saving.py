"""Saving that is interrupted, killed, out of room or in company: the old file or the new one, private if it was."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmfcore
from nmfcore import Recommender
from nmfcore.__main__ import main
from nmfcore.api import zip_writer
from nmfcore.cli import select_rank
from nmfcore.datasets import planted_ratings
from nmfcore.machine import files
from tests.faults.budget import cases, seed

posix = pytest.mark.skipif(os.name == "nt", reason="permissions, locks and signals as POSIX has them")
OLD, NEW = b"old" * 1000, b"new" * 5000


@pytest.fixture(scope="module")
def models() -> dict[str, tuple[Any, Any, Callable[[Path], Any]]]:
    """Of each kind, two models and what loads them."""
    X = np.random.default_rng(0).random((7, 5))
    fits = [nmfcore.factorize(X, 2, random_state=k, max_iter=3, tol=0) for k in range(2)]
    ratings = planted_ratings(12, 9, 50)
    recommenders = [Recommender(rank=2, random_state=k).fit(ratings) for k in range(2)]
    return {"factorization": (*fits, nmfcore.load), "recommender": (*recommenders, Recommender.load)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.npz"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def temporaries(path: Path) -> list[str]:
    return [name for name in os.listdir(path.parent) if name.endswith(".tmp")]


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


# ---- what was private stays private -----------------------------------------------------------------------------


def by_command(models: Any, path: Path) -> None:
    models["recommender"][0].save(path.with_name("m.npz"))
    assert main(["recommend", str(path.with_name("m.npz")), "--all", "--out", str(path)]) == 0


def by_drawing(models: Any, path: Path) -> None:
    class Selection:
        def plot(self, axes: Any) -> None:
            axes.plot([1, 2])

    select_rank._draw(Selection(), str(path))


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "Factorization.save": lambda models, path: models["factorization"][0].save(path),
    "Recommender.save": lambda models, path: models["recommender"][0].save(path),
    "recommend --all": by_command,
    "select-rank --plot": by_drawing,
}


@posix
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o400])
def test_the_mode_of_a_file_that_is_written_over_is_kept(models, tmp_path, writer, mode):
    path = tmp_path / "file.svg"
    path.write_bytes(OLD)
    path.chmod(mode)
    WRITERS[writer](models, path)
    assert mode_of(path) == mode
    assert path.read_bytes() != OLD


@posix
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_new_files_follow_the_umask(models, tmp_path, writer, umask):
    path = tmp_path / "file.svg"
    before = os.umask(umask)
    try:
        WRITERS[writer](models, path)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o666 & ~umask


@posix
def test_a_link_is_followed_and_the_mode_is_that_of_its_target(path):
    path.write_bytes(OLD)
    path.chmod(0o600)
    path.with_name("link").symlink_to(path)
    files.replace(path.with_name("link"), lambda file: file.write(NEW))
    assert path.with_name("link").is_symlink()
    assert (path.read_bytes(), mode_of(path)) == (NEW, 0o600)


@posix
def test_nobody_reads_the_temporary_who_could_not_read_the_file(path):
    path.write_bytes(OLD)
    path.chmod(0o600)

    def fill(file: Any) -> None:
        (name,) = temporaries(path)
        assert mode_of(path.parent / name) == 0o600
        file.write(NEW)

    before = os.umask(0)
    try:
        files.replace(path, fill)
    finally:
        os.umask(before)
    assert path.read_bytes() == NEW


@posix
@pytest.mark.skipif(os.name != "nt" and os.geteuid() != 0, reason="only root gives files away")
def test_owner_and_group_are_kept(path):
    path.write_bytes(OLD)
    os.chown(path, 1234, 5678)
    path.chmod(0o640)
    files.replace(path, lambda file: file.write(NEW))
    found = path.stat()
    assert (found.st_uid, found.st_gid, mode_of(path)) == (1234, 5678, 0o640)


@posix
def test_a_group_that_cannot_be_given_has_no_permissions(path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    path.write_bytes(OLD)
    path.chmod(0o664)
    real = os.stat(path)
    other = os.stat_result((real.st_mode, *real[1:4], real.st_uid + 1, real.st_gid + 1, *real[6:]))
    monkeypatch.setattr(os, "fchown", refuse)
    with open(path, "r+b") as file:
        files._give_access(file.fileno(), str(path), other)
    assert mode_of(path) == 0o604


ACCESS = [(1, 6, 0xFFFFFFFF), (2, 4, 1234), (4, 0, 0xFFFFFFFF), (0x10, 4, 0xFFFFFFFF), (0x20, 0, 0xFFFFFFFF)]
LIST = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ACCESS)  # one more user may read


@posix
@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="access control lists as Linux keeps them")
def test_an_access_control_list_is_kept(path, monkeypatch):
    path.write_bytes(OLD)
    try:
        os.setxattr(path, files.ACL, LIST)
    except OSError:
        pytest.skip("no access control lists in this file system")
    assert mode_of(path) == 0o640  # of which the group itself may do nothing
    files.replace(path, lambda file: file.write(NEW))
    assert os.getxattr(path, files.ACL) == LIST

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(os, "setxattr", refuse)
    files.replace(path, lambda file: file.write(OLD))
    assert (path.read_bytes(), mode_of(path)) == (OLD, 0o600)


# ---- temporaries of processes that were killed ---------------------------------------------------------------------

KILLED = """
    import os, signal, sys
    from nmfcore.machine import files

    def fill(file):
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    files.replace(sys.argv[1], fill)
"""


@posix
def test_the_next_save_removes_what_a_killed_one_left_and_nothing_else(path):
    other = path.with_name("other.npz")
    for target in (path, other):
        assert python(KILLED, target).returncode == -9
    (mine,) = (name for name in temporaries(path) if name.startswith(files._beginning(str(path))))
    strange = [".nmfcore-0123456789abcdef.tmp", "x.tmp", f"{files._beginning(str(path))}0.npz"]
    for name in strange:
        path.with_name(name).write_bytes(b"")
    link = path.with_name(f"{files._beginning(str(path))}1.tmp")
    link.symlink_to(path.with_name("x.tmp"))
    before = set(os.listdir(path.parent))
    files.replace(path, lambda file: file.write(NEW))
    assert path.read_bytes() == NEW
    assert set(os.listdir(path.parent)) == before - {mine} | {path.name}
    files.replace(other, lambda file: file.write(NEW))
    assert set(os.listdir(path.parent)) == {path.name, other.name, link.name, *strange}


@posix
def test_each_killed_save_leaves_one_temporary_at_most(path):
    for _ in range(3):
        assert python(KILLED, path).returncode == -9
        assert len(temporaries(path)) == 1


@posix
@pytest.mark.parametrize("name", ["model.npz", "other.npz"])
def test_the_temporary_of_another_thread_is_left_alone(path, name):
    writing, saved = threading.Event(), threading.Event()

    def fill(file: Any) -> None:
        file.write(OLD)
        file.flush()
        writing.set()
        assert saved.wait(60)

    thread = threading.Thread(target=files.replace, args=(path.with_name(name), fill))
    thread.start()
    assert writing.wait(60)
    files.replace(path, lambda file: file.write(NEW))
    assert len(temporaries(path)) == 1
    assert path.read_bytes() == NEW
    saved.set()
    thread.join(60)
    assert path.with_name(name).read_bytes() == OLD
    assert temporaries(path) == []


@posix
def test_the_temporary_of_another_process_is_left_alone(path):
    code = """
        import sys
        from nmfcore.machine import files

        def fill(file):
            file.write(b"theirs")
            print("writing", flush=True)
            sys.stdin.read()

        files.replace(sys.argv[1], fill)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"writing\n"
        files.replace(path, lambda file: file.write(NEW))
        assert len(temporaries(path)) == 1
        assert path.read_bytes() == NEW
        process.communicate(b"")
    assert process.returncode == 0
    assert path.read_bytes() == b"theirs"
    assert temporaries(path) == []


def test_eight_threads_save_to_one_path(models, path):
    first, second, load = models["factorization"]
    errors: list[BaseException] = []

    def save(model: Any) -> None:
        try:
            for _ in range(20):
                model.save(path)
                load(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=save, args=(model,)) for model in (first, second) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert os.listdir(path.parent) == [path.name]


@posix
def test_where_files_cannot_be_locked_no_temporary_is_removed(path, monkeypatch):
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = path.with_name(f"{files._beginning(str(path))}0123456789abcdef.tmp")
    left.write_bytes(b"half")
    files.replace(path, lambda file: file.write(NEW))
    assert path.read_bytes() == NEW
    assert temporaries(path) == [left.name]


@posix
@pytest.mark.parametrize("there", [True, False])
def test_a_temporary_that_is_removed_before_it_is_locked_is_made_anew(path, monkeypatch, there):
    real, calls, filled = files._lock, list[str](), list[int]()

    def lose(file: Any) -> bool | None:
        calls.append(file.name)
        if len(calls) == 1:
            if not there:
                os.unlink(file.name)
                return real(file)
            return False  # the other has locked it, and is about to remove it
        return real(file)

    monkeypatch.setattr(files, "_lock", lose)
    files.replace(path, lambda file: filled.append(file.write(NEW)))
    assert len(set(calls)) == 2
    assert filled == [len(NEW)]
    assert path.read_bytes() == NEW


@posix
def test_a_folder_that_cannot_be_listed(path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    files.replace(path, lambda file: file.write(NEW))
    assert path.read_bytes() == NEW


# ---- out of room ------------------------------------------------------------------------------------------------


class Full(io.FileIO):
    """A file of which only so many bytes find room."""

    room = 0

    def write(self, data: Any) -> int:
        data = memoryview(data).cast("B")[: max(0, Full.room - self.tell())]
        if not len(data):
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data)


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def leave(room: int) -> None:
        Full.room = room

    def opened(path: str, mode: str, opener: Any, buffering: int = -1) -> Any:
        return io.BufferedWriter(Full(path, "x", opener=opener)) if "x" in mode else open(path, mode, opener=opener)

    monkeypatch.setattr(files, "open", opened, raising=False)
    return leave


@pytest.mark.parametrize("kind", ["factorization", "recommender"])
def test_no_space_left_names_the_file_wherever_it_ends(models, path, kind, full):
    first, second, _ = models[kind]
    full(10**6)
    second.save(path)
    size = path.stat().st_size
    first.save(path)
    before = path.read_bytes()
    for room in range(0, size, 101):
        full(room)
        with pytest.raises(OSError, match="No space left on device") as caught:
            second.save(path)
        assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: {str(path)!r}"
        assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (errno.ENOSPC, str(path), None)
        assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == before
    full(size)
    second.save(path)
    assert path.read_bytes() != before


@pytest.mark.parametrize("where", ["fsync", "replace"])
@pytest.mark.parametrize("name", ["/elsewhere", None])
def test_an_error_at_the_end_names_the_file_too(path, monkeypatch, where, name):
    def fail(*arguments: object) -> None:
        names = arguments if where == "replace" else (name, *[None] * (name is None))
        raise OSError(errno.ENOSPC, "No space left on device", *(names[:1] if names[0] else ()))

    path.write_bytes(OLD)
    monkeypatch.setattr(os, where, fail)
    with pytest.raises(OSError, match="No space left on device") as caught:
        files.replace(path, lambda file: file.write(NEW))
    expected = name if where == "fsync" and name else str(path)  # what has a name of its own keeps it
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, expected)
    assert os.listdir(path.parent) == [path.name]
    assert path.read_bytes() == OLD


def test_a_full_disk_in_the_command_line(models, path, full, capsys):
    full(10**6)
    models["recommender"][0].save(path)
    out = path.with_name("all.csv")
    full(100)
    assert main(["recommend", str(path), "--all", "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"nmfcore: error: {out}: No space left on device\n"
    assert os.listdir(path.parent) == [path.name]


def test_an_interrupt_on_a_full_disk_is_an_interrupt(path, full):
    def fill(file: Any) -> None:
        file.write(b"in the buffer")
        raise KeyboardInterrupt

    path.write_bytes(OLD)
    full(0)
    with pytest.raises(KeyboardInterrupt):
        files.replace(path, fill)
    assert path.read_bytes() == OLD
    assert os.listdir(path.parent) == [path.name]


@posix
def test_a_limit_of_the_system_on_the_size_of_files(path):
    code = """
        import resource, sys
        import numpy as np
        from nmfcore.api import archive

        archive.write(sys.argv[1], {"W": np.ones(100)}, {})
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
        try:
            archive.write(sys.argv[1], {"W": np.ones(2**20)}, {})
        except OSError as error:
            print(error.filename, archive.read(sys.argv[1], {"W": archive.Member(1, "f")})[0]["W"].sum())
    """
    done = python(code, path)
    assert (done.stdout, done.stderr) == (f"{path} 100.0\n", "")
    assert os.listdir(path.parent) == [path.name]


# ---- interrupted ------------------------------------------------------------------------------------------------


def lines_of(action: Callable[[], object], interrupted: int | None = None) -> list[tuple[str, int]]:
    """Do it, and raise KeyboardInterrupt at that one of the lines it runs, counted from 0; return all lines."""
    lines: list[tuple[str, int]] = []

    def trace(frame: Any, event: str, _: object) -> Any:
        if event == "line":
            lines.append((frame.f_code.co_filename, frame.f_lineno))
            if len(lines) - 1 == interrupted:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    gc.disable()  # what it calls back would be traced, and interrupted, too
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return lines


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["factorization", "recommender"])
def test_an_interrupt_at_any_line_of_a_save(models, path, kind, monkeypatch):
    first, second, load = models[kind]
    monkeypatch.setattr(os, "fsync", lambda _: None)  # for time
    contents = []
    for model in (first, second):
        model.save(path)
        contents.append(path.read_bytes())
    lines = lines_of(lambda: first.save(path))
    modules = {Path(name).stem for name, _ in lines}
    assert modules >= {"result", "model_checks", "archive", "files", "zip_writer", "npy"}
    once = sorted({*{line: k for k, line in enumerate(lines)}.values(), *map(lines.index, set(lines))})
    outcomes = set()
    every = cases(0, 1)
    for place in range(len(lines)) if every else once:  # in the test suite each line twice, when it runs first and last
        path.write_bytes(contents[1])
        with pytest.raises(KeyboardInterrupt):
            lines_of(lambda: first.save(path), place)
        outcomes.add(contents.index(path.read_bytes()))  # the one or the other, complete
        assert os.listdir(path.parent) == [path.name], lines[place]
    assert outcomes == {0, 1}
    load(path)


@pytest.mark.fuzz
@posix
def test_interrupts_at_random_moments(models, path):
    models["factorization"][0].save(path.with_name("a.npz"))
    models["factorization"][1].save(path.with_name("b.npz"))
    code = """
        import os, random, signal, sys, threading, time
        import nmfcore

        folder, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
        path, draw = os.path.join(folder, "model.npz"), random.Random(seed)
        models = [nmfcore.load(os.path.join(folder, name)) for name in ("a.npz", "b.npz")]
        models[0].save(path)
        known = [m.W.tobytes() for m in models]
        for k in range(count):
            wait = draw.uniform(0, 0.004)
            timer = threading.Timer(wait, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                while True:
                    models[k % 2].save(path)
            except KeyboardInterrupt:
                pass
            timer.join()
            assert nmfcore.load(path).W.tobytes() in known
            left = sorted(os.listdir(folder))
            assert left == ["a.npz", "b.npz", "model.npz"], left
        print("done")
    """
    done = python(code, path.parent, cases(40, 200), seed())
    assert (done.stdout, done.stderr) == ("done\n", "")


# ---- killed -----------------------------------------------------------------------------------------------------


@pytest.mark.fuzz
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes as POSIX has them")
@pytest.mark.parametrize("kind", ["factorization", "recommender"])
def test_killed_at_random_moments(models, path, kind):
    models[kind][0].save(path.with_name("a.npz"))
    models[kind][1].save(path.with_name("b.npz"))
    code = """
        import os, random, signal, sys, time
        import nmfcore

        load = nmfcore.load if sys.argv[1] == "factorization" else nmfcore.Recommender.load
        folder, count, seed = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
        path, draw = os.path.join(folder, "model.npz"), random.Random(seed)
        models = [load(os.path.join(folder, name)) for name in ("a.npz", "b.npz")]
        contents = [open(os.path.join(folder, name), "rb").read() for name in ("a.npz", "b.npz")]
        models[0].save(path)
        left = 0
        for k in range(count):
            child = os.fork()
            if child == 0:
                while True:
                    for model in models:
                        model.save(path)
            time.sleep(draw.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            load(path)
            assert open(path, "rb").read() in contents
            left += len(os.listdir(folder)) - 3
            models[k % 2].save(path)
            assert sorted(os.listdir(folder)) == ["a.npz", "b.npz", "model.npz"]
        print(left)
    """
    done = python(code, kind, path.parent, cases(30, 200), seed())
    assert done.stderr == ""
    assert int(done.stdout) > 0  # kills did leave temporaries, which are gone


# ---- archives ---------------------------------------------------------------------------------------------------


def by_zipfile(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as stream:
                stream.write(content)
    return file.getvalue()


def by_writer(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    zip_writer.write(file, {name: [content[:3], content[3:]] for name, content in members.items()})
    return file.getvalue()


MEMBERS = {"meta.npy": b"m" * 100, "W.npy": b"w" * 300, "é.npy": b"", "H.npy": b"h" * 60}
LARGE = (40, 100, 299, 300, 800, 10**6)  # counts as too large for 32 bits; past all members, past some, none


@contextlib.contextmanager
def limited(limit: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zip_writer, "LIMIT", limit)
        patch.setattr(zipfile, "ZIP64_LIMIT", limit)
        yield


@pytest.mark.parametrize("limit", LARGE)
def test_archives_of_any_size_are_read_by_zipfile(limit):
    with limited(limit):
        written = by_writer(MEMBERS)
    with zipfile.ZipFile(io.BytesIO(written)) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="versions of zipfile differ in what they write")
@pytest.mark.parametrize("limit", LARGE)
def test_archives_have_the_bytes_of_zipfile(limit):
    with limited(limit):
        assert by_writer(MEMBERS) == by_zipfile(MEMBERS)
