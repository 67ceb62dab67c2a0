"""The threads of a fit: that it ends as it would with one, whenever it begins and whatever befalls them."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import nmfcore
from nmfcore import _parallel as parallel
from nmfcore._parallel import Team

SLABS = [(k, k + 1) for k in range(16)]

FIT = """
    import atexit, hashlib, os, sys, threading, time, warnings
    import numpy as np
    import nmfcore
    from nmfcore import _parallel as parallel

    parallel.WORTH_A_THREAD = 0.0  # even this small fit is shared out
    X = np.random.RandomState(0).random_sample((60, 40))
    X[X < 0.5] = 0

    def fit(n_threads=3, callback=None):
        options = dict(missing_values=0, init="random", random_state=0, tol=0, max_iter=4)
        f = nmfcore.factorize(X, 3, n_threads=n_threads, callback=callback, **options)
        print(hashlib.sha256(f.W.tobytes() + f.H.tobytes()).hexdigest(), flush=True)
"""


@pytest.fixture(scope="module")
def alone() -> str:
    """The bits of a fit with one thread."""
    return python("fit(n_threads=1)")


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_team() -> Iterator[None]:
    yield
    assert not remaining()


def python(code: str, *options: str) -> str:
    """What a fresh interpreter prints that can make a small fit."""
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(FIT) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("nmfcore")]


def remaining(seconds: float = 5.0) -> list[threading.Thread]:
    """The threads of teams, after as much time as those need that are about to end."""
    end = time.perf_counter() + seconds
    while our_threads() and time.perf_counter() < end:
        time.sleep(0.001)
    return our_threads()


# ---- when the interpreter is shutting down ------------------------------------------------------------------------


def test_a_fit_in_a_thread_outlives_the_main_thread(alone: str) -> None:
    code = """
        def later():
            threading.main_thread().join()
            fit()
            fit()  # another team

        threading.Thread(target=later).start()
    """
    assert python(code) == 2 * alone


def test_a_fit_that_is_going_on_when_the_main_thread_ends(alone: str) -> None:
    code = """
        began = threading.Event()

        def wait(state):
            if state.n_iter == 2:
                began.set()
                threading.main_thread().join()

        threading.Thread(target=lambda: fit(callback=wait)).start()
        began.wait()
    """
    assert python(code) == alone


def test_a_fit_at_exit(alone: str) -> None:
    assert python("atexit.register(fit)") == alone
    assert python("fit(); atexit.register(fit)") == 2 * alone


def test_a_first_fit_at_exit_does_without_scipy(alone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba imports it, and it imports an executor, which cannot be done any more then."""
    refused = "can't register atexit after shutdown"
    (tmp_path / "scipy.py").write_text(f"raise RuntimeError({refused!r})")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    assert python("atexit.register(fit)") == alone
    (tmp_path / "scipy.py").write_text("raise RuntimeError('another reason')")
    assert "another reason" in python("try: fit()\nexcept RuntimeError as error: print(error)")


def test_a_fit_in_a_daemon_thread_does_not_keep_the_process() -> None:
    """Its helpers are daemons as it is."""
    code = """
        def hold(state):
            print([thread.daemon for thread in threading.enumerate() if thread.name.startswith("nmfcore")])
            begun.set()
            time.sleep(60)

        begun = threading.Event()
        threading.Thread(target=lambda: fit(callback=hold), daemon=True).start()
        begun.wait()
    """
    assert python(code) == "[True, True]\n"


# ---- when the system starts no thread -----------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [0, 1])
def test_where_no_more_threads_can_be_started(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the limit of the system's threads, and at exit from Python 3.12 on: who is there does the work."""
    expected, asked, real = fit(1), [], threading.Thread.start

    def start(thread: threading.Thread) -> None:
        asked.append(thread)
        if len(asked) > allowed:
            raise RuntimeError("can't create new thread at interpreter shutdown")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert fit(3) == expected
    assert len(asked) == allowed + 1  # and not again for every part of the work


def fit(n_threads: int) -> str:
    """The bits of a fit that is shared out."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "WORTH_A_THREAD", 0.0)
        X = np.random.RandomState(0).random_sample((60, 40))
        X[X < 0.5] = 0
        options: dict[str, Any] = {"missing_values": 0, "init": "random", "random_state": 0, "tol": 0, "max_iter": 4}
        f = nmfcore.factorize(X, 3, n_threads=n_threads, **options)
    return hashlib.sha256(f.W.tobytes() + f.H.tobytes()).hexdigest()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_in_the_middle_of_a_fit_goes_on_with_it(alone: str) -> None:
    """Its helpers stayed with the parent."""
    code = """
        def fork(state):
            if state.n_iter == 2 and (child := os.fork()) != 0:
                assert os.waitpid(child, 0)[1] == 0

        fit(callback=fork)
    """
    assert python(code, "-W", "ignore::DeprecationWarning") == 2 * alone


# ---- errors -------------------------------------------------------------------------------------------------------


def test_nothing_more_is_begun_after_an_error() -> None:
    """Neither after one of the caller nor after one of a helper; who is at a slab ends with it before map does."""
    for fails in (True, False):
        caller, begun, ended = threading.current_thread(), [], []
        both = threading.Barrier(2)

        def work(lo: int, hi: int) -> None:
            begun.append(lo)  # noqa: B023
            if lo <= 1:  # one of them is the caller's, the other the helper's
                both.wait(5)  # noqa: B023
            if (threading.current_thread() is caller) is fails:  # noqa: B023
                raise ArithmeticError(f"slab {lo}")
            time.sleep(0.05)
            ended.append(lo)  # noqa: B023

        with Team(2) as team:
            with pytest.raises(ArithmeticError, match="slab"):
                team.map(work, SLABS)
            assert sorted(begun) == [0, 1]
            assert len(ended) == 1


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_the_error_is_that_of_the_first_slab_that_has_one(n_threads: int) -> None:
    def work(lo: int, hi: int) -> int:
        time.sleep(0.001 * (16 - lo))  # the later, the faster
        if lo >= 3:
            raise ArithmeticError(f"slab {lo}")
        return lo

    with Team(n_threads) as team:
        for _ in range(5):
            with pytest.raises(ArithmeticError, match="slab 3"):
                team.map(work, SLABS)
        assert team.map(lambda lo, hi: hi, SLABS) == [hi for _, hi in SLABS]  # and the team goes on


def test_whatever_a_helper_raises_reaches_the_caller() -> None:
    caller = threading.current_thread()

    def leave(lo: int, hi: int) -> None:
        if threading.current_thread() is caller:
            time.sleep(0.05)
        else:
            raise SystemExit(3)

    with Team(2) as team, pytest.raises(SystemExit, match="3"):
        team.map(leave, SLABS)


def test_an_error_keeps_nothing_alive() -> None:
    """No circle of errors and frames that would hold large arrays until the garbage collector comes."""

    class Large:
        pass

    def attempt() -> weakref.ref[Large]:
        large = Large()

        def work(lo: int, hi: int) -> None:
            raise ArithmeticError(str(large))

        with Team(2) as team, pytest.raises(ArithmeticError):
            team.map(work, SLABS)
        return weakref.ref(large)

    gc.collect()
    gc.disable()
    try:
        assert attempt()() is None
    finally:
        gc.enable()


# ---- Ctrl-C -------------------------------------------------------------------------------------------------------


def use_a_team() -> list[list[int]]:
    with Team(3) as team:
        return [team.map(lambda lo, hi: hi, SLABS[:4]) for _ in range(2)]


def interrupted(act: Callable[[], object], *moments: int) -> bool:
    """Whether an act was interrupted, by Ctrl-C at these steps of the code in parallel.py."""
    steps = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal steps
        if frame.f_code.co_filename != parallel.__file__:
            return None
        steps += 1
        if steps in moments:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("again", [0, 1, 2, 7])
def test_ctrl_c_at_any_step_leaves_no_thread(again: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a second one, soon after it."""
    monkeypatch.setattr(parallel, "IDLE", 0.1)
    expected, moment = use_a_team(), 1
    while interrupted(use_a_team, moment, moment + again):
        assert not remaining(), f"after step {moment}"
        assert use_a_team() == expected
        moment += 1
    assert moment > 100  # it was interrupted all along


def test_ctrl_c_comes_before_an_error_of_an_earlier_slab() -> None:
    caller, begun, interrupted, of_helper = threading.current_thread(), threading.Event(), threading.Event(), []

    def work(lo: int, hi: int) -> None:
        if threading.current_thread() is not caller:
            of_helper.append(lo)
            begun.set()
            interrupted.wait(5)
            raise ArithmeticError
        begun.wait(5)
        if lo > of_helper[0]:
            interrupted.set()
            raise KeyboardInterrupt

    with Team(2) as team, pytest.raises(KeyboardInterrupt):
        team.map(work, SLABS)


def test_helpers_stop_where_ctrl_c_kept_their_job_from_being_called_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaving the team does that."""
    caller, real, begun, done = threading.current_thread(), parallel._Job.work, threading.Event(), []

    def work(job: Any) -> None:
        if threading.current_thread() is caller:
            begun.wait(5)
            raise KeyboardInterrupt
        real(job)

    def interrupt(job: object) -> None:
        raise KeyboardInterrupt

    def slab(lo: int, hi: int) -> None:
        begun.set()
        done.append(lo)
        time.sleep(0.01)

    monkeypatch.setattr(parallel._Job, "work", work)
    monkeypatch.setattr(parallel._Job, "end", interrupt)
    with pytest.raises(KeyboardInterrupt), Team(2) as team:
        team.map(slab, [(k, k + 1) for k in range(500)])
    assert not our_threads()
    assert len(done) < 250


def test_ctrl_c_while_helpers_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, real = [], threading.Thread.join

    def join(thread: threading.Thread) -> None:
        waits.append(thread)
        if len(waits) == 1:
            raise KeyboardInterrupt
        real(thread)

    monkeypatch.setattr(parallel, "IDLE", 60.0)
    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(KeyboardInterrupt), Team(3) as team:
        team.map(lambda lo, hi: None, SLABS)
    assert not our_threads()


# ---- ordinary lives -----------------------------------------------------------------------------------------------


def test_helpers_end_with_their_team() -> None:
    with Team(3) as team:
        team.map(lambda lo, hi: time.sleep(0.001), SLABS)
        assert len(our_threads()) == 2
        team.map(lambda lo, hi: None, SLABS)
        assert len(our_threads()) == 2  # the same ones
    assert not our_threads()
    assert team.map(lambda lo, hi: lo, SLABS) == [lo for lo, _ in SLABS]  # as before it was left
    with team:
        team.map(lambda lo, hi: time.sleep(0.001), SLABS)
        assert len(our_threads()) == 2
    assert not our_threads()


def test_no_more_helpers_than_slabs() -> None:
    with Team(9) as team:
        team.map(lambda lo, hi: lo, SLABS[:3])
        assert len(our_threads()) <= 2
        assert team.map(lambda lo, hi: lo, []) == []


def test_helpers_that_nobody_dismissed_end_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "IDLE", 0.05)
    team = Team(3)
    team.map(lambda lo, hi: None, SLABS)
    assert not remaining()
    monkeypatch.setattr(parallel, "IDLE", 60.0)
    with team:
        assert team.map(lambda lo, hi: lo, SLABS) == [lo for lo, _ in SLABS]
        assert len(our_threads()) == 2  # new ones


def test_nothing_is_kept_of_work_that_is_done() -> None:
    """It may hold large arrays, and a team has other work to do."""

    class Large:
        pass

    def use(team: Team) -> weakref.ref[Large]:
        large = Large()
        team.map(lambda lo, hi: large, SLABS)
        return weakref.ref(large)

    with Team(3) as team:
        kept, end = use(team), time.perf_counter() + 5
        while kept() is not None and time.perf_counter() < end:  # helpers that were late are about to see it is over
            time.sleep(0.001)
        assert kept() is None
        assert len(our_threads()) == 2


def test_teams_of_many_sizes_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "IDLE", 0.0005)  # helpers end and are started all the time
    expected = [lo * hi for lo, hi in SLABS]
    for n_threads in (1, 2, 3, 8):
        with Team(n_threads) as team:
            for _ in range(50):
                assert team.map(lambda lo, hi: lo * hi, SLABS) == expected


def test_a_map_within_a_map() -> None:
    with Team(3) as team:
        inner = lambda lo, hi: sum(team.map(lambda a, b: a, SLABS))  # noqa: E731
        assert team.map(inner, SLABS[:6]) == [120] * 6
