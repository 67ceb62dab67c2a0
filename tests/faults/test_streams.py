"""Output streams that are absent, closed or full: what cannot be printed ends no work, and is told where it can be."""

from __future__ import annotations

import errno
import io
import os
import shlex
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest

import nmfcore
from nmfcore import Recommender, _arguments, datasets
from nmfcore.__main__ import main
from nmfcore.cli import demo, fit
from nmfcore.datasets import planted_ratings
from nmfcore.machine import streams
from nmfcore.machine.streams import Tolerant
from nmfcore.recommender.fitting import bar_is_possible

X = np.random.RandomState(0).random_sample((6, 5))
NMFCORE = [sys.executable, "-m", "nmfcore"]

needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
KINDS = [pytest.param("full", marks=needs_full), "closed", "absent"]
MANY = ["fine", *KINDS]


@pytest.fixture
def stream() -> Iterator[Any]:
    """Make streams of these kinds, of which none is left to raise once more when it is closed."""
    made: list[TextIO] = []

    def make(kind: str) -> TextIO | None:
        if kind == "absent":
            return None
        if kind == "fine":
            return io.StringIO()
        one = open("/dev/full" if kind == "full" else os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        made.append(one)
        if kind == "closed":
            one.close()
        return one

    yield make
    for one in made:
        if not one.closed:
            os.dup2(os.open(os.devnull, os.O_WRONLY), one.fileno())
            one.close()


# ---- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With ratings, with a model of them, and with ratings of which a warning tells."""
    folder, ratings = tmp_path_factory.mktemp("streams"), planted_ratings(60, 50, 1200)
    users, items, values = ratings.triplets()
    rows = [f"{u},{i},{r:g}\n" for u, i, r in zip(users, items, values, strict=True)]
    (folder / "r.csv").write_text("user,item,rating\n" + "".join(rows))
    few = [(u, i, 0 if (u + i) % 4 else 5 + u % 6) for u in range(30) for i in range(10)]
    (folder / "zeros.csv").write_text("user,item,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in few))
    Recommender(rank=3, random_state=0).fit(ratings).save(folder / "model.npz")
    return folder


FIT = "fit r.csv --rank 2 --max-iter 3"
COMMANDS = {  # and the file that each writes
    f"{FIT} --test 0.1 --evaluate --out m.npz": "m.npz",
    f"{FIT} --json --out m.npz": "m.npz",
    "recommend model.npz --user 7": None,
    "recommend model.npz": None,
    "recommend model.npz --all --out all.csv": "all.csv",
    "recommend model.npz --all --out -": None,
    "explain model.npz --user 7 --item 9": None,
    "similar model.npz --item 9": None,
    "select-rank r.csv --ranks 1,2 --folds 2 --tol 1": None,
    "demo": None,
}


@pytest.mark.parametrize("errors", MANY)
@pytest.mark.parametrize("output", MANY)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_with_every_pair_of_streams(
    command: str, output: str, errors: str, folder: Path, stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets, "planted_ratings", partial(planted_ratings, 60, 50, 1200))
    written = COMMANDS[command]
    out, err = stream(output), stream(errors)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        status = main(command.split())
        assert (sys.stdout, sys.stderr) == (out, err)  # as they were
    # What is said where nothing can be read is lost too.
    assert status == int(output == "full" or (output != "fine" and errors == "full"))
    if output == "fine":
        assert out.getvalue().count("\n") > 2 or written == "all.csv"
    if errors == "fine":
        reason = {"full": "No space left on device", "closed": "it is closed", "absent": "it is closed"}.get(output)
        done = f" {written} was written." if written else ""
        assert err.getvalue() == (
            f"nmfcore: could not print to the standard output: {reason}.{done}\n" if reason else ""
        )
    if written is not None:
        path = folder / written
        assert path.stat().st_size > 1000
        assert written != "m.npz" or Recommender.load(path).factorization_.n_iter == 3
        path.unlink()


def run(command: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, which opens and closes streams as is said there."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    called = shlex.join([sys.executable, *options, "-m", "nmfcore"])
    return subprocess.run(
        f"{called} {command}", shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


LOST = "nmfcore: could not print to the standard output: "


@needs_full
@pytest.mark.parametrize(
    ("command", "status", "error"),
    [
        (f"{FIT} --out m.npz >/dev/full", 1, f"{LOST}No space left on device. m.npz was written.\n"),
        (f"{FIT} --out m.npz >/dev/full 2>/dev/full", 1, ""),
        (f"{FIT} --out m.npz 2>/dev/full", 0, ""),
        (f"{FIT} --out m.npz >&-", 0, f"{LOST}it is closed. m.npz was written.\n"),
        (f"{FIT} --out m.npz >&- 2>&- <&-", 0, ""),
        ("recommend model.npz >/dev/full", 1, f"{LOST}No space left on device.\n"),
        ("fit absent.csv --out m.npz 2>/dev/full", 2, ""),
        ("--help >/dev/full", 1, f"{LOST}No space left on device.\n"),
        ("--version >/dev/full", 1, f"{LOST}No space left on device.\n"),
        ("--unknown 2>/dev/full", 2, ""),
    ],
)
def test_processes_as_a_shell_starts_them(command: str, status: int, error: str, folder: Path) -> None:
    done = run(command, folder)
    assert (done.returncode, done.stderr) == (status, error)  # and nothing that Python says when it exits
    if "m.npz" in command and status != 2:
        assert Recommender.load(folder / "m.npz").rank == 2
        (folder / "m.npz").unlink()
        assert ("Written to m.npz" in done.stdout) is ("2>/dev/full" in command and ">/dev/full 2" not in command)


@needs_full
def test_a_full_disk_is_found_at_the_first_line_too(folder: Path) -> None:
    done = run(f"{FIT} --out m.npz >/dev/full", folder, "-u")
    assert (done.returncode, done.stderr) == (1, f"{LOST}No space left on device. m.npz was written.\n")
    assert Recommender.load(folder / "m.npz").rank == 2


@needs_full
def test_a_warning_that_cannot_be_shown(folder: Path) -> None:
    for lost, status in (("2>/dev/full", 1), ("2>&-", 0)):
        done = run(f"fit zeros.csv --rank 1 --out m.npz {lost}", folder)
        assert done.returncode == status
        assert "\nWritten to m.npz." in done.stdout


@needs_full
def test_an_interrupt_that_cannot_be_told_of(folder: Path, stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(state: Any) -> None:
        if state.n_iter == 2:
            raise KeyboardInterrupt

    monkeypatch.chdir(folder)
    monkeypatch.setattr(fit, "is_watched", lambda: True)
    monkeypatch.setattr(fit, "_report", interrupt)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream("full"))
        assert main([*FIT.split(), "--out", "m.npz"]) == 130
    assert Recommender.load("m.npz").factorization_.n_iter == 2


def test_bad_input_and_a_full_disk(stream: Any, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """What was wrong comes first."""

    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.chdir(folder)
    errors = io.StringIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Full())
        patch.setattr(sys, "stderr", errors)
        assert main([*FIT.split(), "--out", "nowhere/m.npz"]) == 2
    first, second = errors.getvalue().splitlines()
    assert first.startswith("nmfcore: error: nowhere")
    assert second == f"{LOST}No space left on device."


def test_what_a_stream_cannot_encode_is_a_fault_of_the_program() -> None:
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with pytest.raises(UnicodeEncodeError):
        Tolerant(ascii_only).write("é")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """What a library written in C prints there would be written into it."""
    code = """
        import os, sys
        from nmfcore.cli.screen import screens
        for number in (0, 1, 2):
            os.close(number)
        with screens():
            with open(sys.argv[1], "w") as file:
                os.write(1, b"printed")
                os.write(2, b"printed")
                file.write(str(file.fileno() > 2))
    """
    path = tmp_path / "model"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=False)
    assert path.read_text() == "True"


def test_the_demo_says_nothing_of_compiling_to_who_left(monkeypatch: pytest.MonkeyPatch) -> None:
    class Left(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    found: list[object] = []
    monkeypatch.setattr(threading, "excepthook", found.append)
    monkeypatch.setattr(sys, "stdout", demo_screen := demo_output(Left()))
    thread = threading.Thread(target=demo._show, args=["(compiling)"])
    thread.start()
    thread.join()
    assert (found, demo_screen.failed) == ([], None)


def demo_output(real: TextIO) -> Any:
    from nmfcore.cli.screen import Screen

    screen = Screen(real)
    screen.patient = False
    return screen


def test_where_no_thread_can_be_started_nothing_is_told_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from nmfcore.cli import screen

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(screen, "is_watched", lambda: True)
    done = []
    with screen.going_on("reading"), demo._compiling():
        done.append("work")
    assert done == ["work"]


# ---- the library --------------------------------------------------------------------------------------------------

LIBRARY = """
    import sys, warnings
    import numpy as np
    import nmfcore
    from nmfcore.kernels import _cache

    X = np.random.RandomState(0).random_sample((6, 5))
    ratings = nmfcore.datasets.planted_ratings(60, 50, 1200)
    far = nmfcore.Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, 75.0 + ratings.data)
    low = nmfcore.Ratings.from_triplets([1], [1], [3.0])
    model = nmfcore.Recommender(rank=1, random_state=0).fit(far)

    def acts():
        yield nmfcore.factorize(X, 2, max_iter=2, random_state=0)  # not converged
        yield nmfcore.factorize(X, 2, max_iter=2, random_state=0, progress=True)
        yield nmfcore.select_rank(X, [1, 2], max_iter=2, random_state=0)
        yield nmfcore.Recommender(rank=1, max_iter=2, random_state=0).fit(ratings, progress=True).factorization_
        yield model.fold_in(low)  # below the level
        _cache._told = False
        yield _cache._tell("A cache that cannot be used.") or "told"

    def digest():
        return [str(one).split("in ")[0] for one in acts()]

    warnings.simplefilter("ignore")
    real, wanted = sys.stdout, digest()
    warnings.simplefilter("always")
    shown = []
    for kind in sys.argv[1:]:
        stream = None if kind == "absent" else open("/dev/full" if kind == "full" else "/dev/null", "w")
        if kind == "closed":
            stream.close()
        sys.stderr = stream
        if kind != "full":  # nothing of the library goes there, but tqdm flushes it
            sys.stdout = stream
        found = digest()
        sys.stdout = real
        print(kind, found == wanted)
    sys.stderr = open("/dev/null", "w")
"""


def test_no_warning_and_no_bar_ends_a_fit() -> None:
    kinds = ["closed", "absent", *(["full"] if os.path.exists("/dev/full") else [])]
    code = textwrap.dedent(LIBRARY)
    done = subprocess.run([sys.executable, "-c", code, *kinds], capture_output=True, text=True, check=False)
    assert done.stdout == "".join(f"{kind} True\n" for kind in kinds), done.stderr


class Filling(io.StringIO):
    """A disk that is full after some bytes."""

    room = 200

    def write(self, text: str) -> int:
        if self.tell() + len(text) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


def test_a_bar_whose_disk_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", filling := Filling())
    seen = []
    bar = _arguments.tqdm()
    made = partial(bar, mininterval=0.0, miniters=1)
    monkeypatch.setattr(_arguments, "tqdm", lambda: made)
    f = nmfcore.factorize(X, 2, max_iter=30, tol=0, random_state=0, progress=True, callback=lambda s: seen.append(1))
    assert len(seen) == f.n_iter == 30
    assert "factorize" in filling.getvalue()

    def take() -> None:
        with tqdm.tqdm.get_lock():
            pass

    thread = threading.Thread(target=take, daemon=True)
    thread.start()  # an error within tqdm would leave its lock locked, for ever, for all other threads
    thread.join(5)
    assert not thread.is_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_nobody_watches_a_stream_that_shows_nothing(kind: str, stream: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream(kind))
    assert not streams.is_watched()
    assert not bar_is_possible()


def test_a_bar_is_drawn_as_before_where_it_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    bar = _arguments.tqdm()(total=3)
    assert bar.fp == sys.stderr  # by which tqdm knows the terminal, and what tqdm.write has to clear
    assert bar.fp != sys.stdout
    assert not bar.disable
    bar.close()
    assert "0/3" in sys.stderr.getvalue()


def test_a_bar_of_a_notebook_is_left_to_it() -> None:
    class Bar:
        pass

    Bar.__module__ = "tqdm.notebook"
    assert streams.tolerant_bar(Bar) is Bar


def test_errors_of_who_shows_warnings_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("a fault of the caller's own")

    monkeypatch.setattr(streams.warnings, "warn", fail)
    with pytest.raises(ValueError, match="the caller's own"):
        streams.warn("something", UserWarning, 2)
