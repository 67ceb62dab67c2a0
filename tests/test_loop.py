"""The loop around the half-steps: when a fit ends, what it tells on the way, and how it behaves in a crowd."""

from __future__ import annotations

import builtins
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from processes import python

import nmfcore
from nmfcore import ConvergenceWarning, Factorization, Status
from nmfcore._parallel import Team, default_threads
from nmfcore.loop import solve as loop
from nmfcore.solvers import HALS, MU

X = np.random.RandomState(0).random_sample((30, 20))
MASK = np.random.RandomState(1).random_sample(X.shape) < 0.7
DATA: dict[str, dict[str, Any]] = {
    "dense": {"X": X},
    "csr": {"X": sp.csr_array(np.where(X > 0.6, X, 0))},
    "masked": {"X": X, "mask": MASK},
}


def fit(kind: str = "dense", **options: Any) -> Factorization:
    return nmfcore.factorize(**({"rank": 4, "random_state": 0} | DATA[kind] | options))


def same(f: Factorization, g: Factorization) -> None:
    np.testing.assert_array_equal(f.W, g.W)
    np.testing.assert_array_equal(f.H, g.H)
    np.testing.assert_array_equal(f.history.objective, g.history.objective)
    np.testing.assert_array_equal(f.history.kkt, g.history.kkt)


def our_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("nmfcore")]


# ---- ends -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DATA)
def test_tol(kind):
    f = fit(kind, tol=1e-3, max_iter=5000)
    assert f.status is Status.CONVERGED
    assert f.converged
    assert f.kkt <= 1e-3 < f.history.kkt[:-1].min()  # the first iterate that met it


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stall(kind, dtype):
    """Where not even rounding is left to gain, more iterations are a waste, whatever tol asks."""
    rng = np.random.RandomState(0)
    A: Any = rng.random_sample((30, 3)) @ rng.random_sample((3, 20)) + 0.1 * rng.random_sample((30, 20))
    A = sp.csr_array(np.where(A > 0.8, A, 0)) if kind == "csr" else A
    f = fit(kind, X=A, rank=3, tol=0, max_iter=20_000, dtype=dtype)
    assert f.status is Status.STALLED
    assert f.converged
    assert f.n_iter < 20_000
    assert f.kkt < (1e-5 if dtype is np.float32 else 1e-12)


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_stall_is_no_excuse(l2):
    """A fit that says it converged is near a stationary point, whatever ended it."""
    mask = np.random.RandomState(1).random_sample(X.shape) < 0.3
    f = fit(mask=mask, l2=l2, solver="mu", tol=0, max_iter=2000)
    assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()
    assert f.kkt < 1e-6 or not f.converged


def test_max_iter_warns_with_what_is_missing_and_what_to_do():
    with pytest.warns(
        ConvergenceWarning, match=r"KKT residual is [\d.e-]+ after 5 iterations, above tol=1e-08\. .*raise max_iter"
    ) as caught:
        f = fit(tol=1e-8, max_iter=5)
    assert caught[0].filename == __file__  # the caller's line, not ours
    assert f.status is Status.MAX_ITER
    assert not f.converged
    assert f.n_iter == 5
    assert f"{f.kkt:.2g}" in str(caught[0].message)


def test_tol_0_asks_for_exactly_max_iter_and_is_not_warned():
    f = fit(tol=0, max_iter=5)
    assert f.n_iter == 5
    assert f.status is Status.MAX_ITER


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_max_iter_0_assesses_the_start(kind, solver):
    W, H = np.full((30, 4), 0.3), np.full((4, 20), 0.5)
    f = fit(kind, W=W, H=H, max_iter=0, tol=0, solver=solver)
    np.testing.assert_array_equal(f.W, W)
    np.testing.assert_array_equal(f.H, H)
    A = DATA[kind]["X"].toarray() if kind == "csr" else X
    error = (A - W @ H) * (MASK if kind == "masked" else 1)
    assert f.objective == pytest.approx(0.5 * np.sum(error**2), rel=1e-12)
    assert f.n_iter == 0
    assert len(f.history) == 1


def test_max_time():
    began = time.perf_counter()
    with pytest.warns(ConvergenceWarning, match="raise max_time"):
        f = fit(tol=1e-300, max_time=0.05, max_iter=10**9, solver=MU(extrapolate=False))
    assert f.status is Status.MAX_TIME
    assert f.seconds >= 0.05
    assert f.n_iter > 0
    assert time.perf_counter() - began < 2.0
    assert (f.history.seconds[:-1] < 0.05).all()


def test_max_time_0_still_gives_the_start():
    with pytest.warns(ConvergenceWarning):
        assert fit(max_time=0).n_iter == 0


# ---- history ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("solver", ["hals", "mu"])
def test_history(kind, solver):
    f, start = fit(kind, solver=solver, tol=0, max_iter=17), fit(kind, max_iter=0, tol=0)
    h = f.history
    assert len(h) == len(h.objective) == len(h.kkt) == len(h.seconds) == 18
    np.testing.assert_array_equal(h.iteration, np.arange(18))
    assert h.objective[0] == pytest.approx(start.objective, rel=1e-14)
    assert h.kkt[0] == pytest.approx(start.kkt, rel=1e-12)
    assert (np.diff(h.seconds) >= 0).all()
    assert h.seconds[0] >= 0
    assert (np.diff(h.objective) <= 1e-12 * h.objective[0]).all()
    for k in (1, 5, 17):  # an entry is what a fit that ended there says
        g = fit(kind, solver=solver, tol=0, max_iter=k)
        assert (g.objective, g.kkt) == (h.objective[k], h.kkt[k])


# ---- callbacks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("scale", [1.0, 4.0**100])
def test_callbacks_see_every_iterate(kind, scale):
    states: list[Any] = []
    f = fit(kind, tol=0, max_iter=6, callback=states.append, X=DATA[kind]["X"] * scale)
    assert [s.n_iter for s in states] == [1, 2, 3, 4, 5, 6]
    assert [s.objective for s in states] == f.history.objective[1:].tolist()
    assert [s.kkt for s in states] == f.history.kkt[1:].tolist()
    assert [s.seconds for s in states] == f.history.seconds[1:].tolist()
    np.testing.assert_array_equal(states[-1].W, f.W)
    np.testing.assert_array_equal(states[-1].H, f.H)
    for s in states:  # kept, not copied: they are still what they were
        g = fit(kind, tol=0, max_iter=s.n_iter, X=DATA[kind]["X"] * scale)
        np.testing.assert_array_equal(s.W, g.W)
        np.testing.assert_array_equal(s.H, g.H)
        for A in (s.W, s.H):
            with pytest.raises(ValueError, match="read-only"):
                A[0, 0] = 1.0


def test_a_callback_changes_nothing():
    same(fit(callback=lambda state: "ignored", tol=0, max_iter=9), fit(tol=0, max_iter=9))


def test_a_callback_ends_the_fit():
    def stop(state: Any) -> None:
        if state.n_iter == 3:
            raise StopIteration

    f = fit(callback=stop, tol=1e-12, max_iter=50)
    assert f.status is Status.CALLBACK
    assert f.n_iter == 3
    assert not f.converged
    same(f, fit(tol=0, max_iter=3))


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3)])
def test_other_exceptions_propagate_and_leave_nothing_behind(error):
    def fail(state: Any) -> None:
        raise error

    big = np.random.RandomState(0).random_sample((4000, 400))
    with pytest.raises(type(error)) as caught:
        nmfcore.factorize(big, 20, random_state=0, n_threads=3, callback=fail)
    assert caught.value is error
    assert not our_threads()


def test_progress(capsys):
    pytest.importorskip("tqdm")
    f = fit(progress=True, tol=0, max_iter=7)
    shown = capsys.readouterr().err
    assert "factorize" in shown
    assert "7/7" in shown
    assert "objective=" in shown
    same(f, fit(tol=0, max_iter=7))


def test_progress_without_tqdm(monkeypatch):
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.split(".")[0] == "tqdm":
            raise ImportError("blocked")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"progress=True needs tqdm: python -m pip install tqdm"):
        fit(progress=True)
    assert fit(progress=False, max_iter=1, tol=0).n_iter == 1


# ---- extrapolation ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("solver", [HALS(), MU()], ids=["hals", "mu"])
def test_a_step_too_far_is_rejected(kind, solver, monkeypatch):
    restarts: list[int] = []
    plain = loop.Momentum.restart

    def spy(self: loop.Momentum) -> None:
        restarts.append(1)
        plain(self)

    monkeypatch.setattr(loop.Momentum, "restart", spy)
    mask = np.random.RandomState(1).random_sample(X.shape) < 0.5
    f = fit(kind, solver=solver, init="random", tol=0, max_iter=2000, **({"mask": mask} if kind == "masked" else {}))
    assert restarts, "no step was rejected: this test shows nothing"
    assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()
    A = DATA[kind]["X"].toarray() if kind == "csr" else X
    error = (A - f.reconstruct()) * (mask if kind == "masked" else 1)
    assert f.objective == pytest.approx(0.5 * np.sum(error**2), rel=1e-10)


@pytest.mark.parametrize("solver", [HALS, MU])
def test_extrapolation_gets_further(solver):
    plain, fast = (fit(solver=solver(extrapolate=e), tol=0, max_iter=60) for e in (False, True))
    assert fast.objective < plain.objective


# ---- Ctrl-C -----------------------------------------------------------------------------------------------------

INTERRUPTED = """
    import json, os, signal, sys, threading, time
    import numpy as np
    import nmfcore
    from nmfcore.solvers import HALS, MU

    kind, n_threads = sys.argv[1], int(sys.argv[2])
    rng = np.random.default_rng(0)
    options = {}
    if kind == "dense":
        X, rank = rng.random((6000, 2500)), 40
    elif kind == "masked":
        import scipy.sparse as sp
        X, rank = sp.random_array((20_000, 4000), density=0.03, rng=rng, format="csr"), 40
        options = {"missing_values": "unstored"}
    else:
        import scipy.sparse as sp
        X, rank = sp.random_array((60_000, 20_000), density=0.004, rng=rng, format="csr"), 40
    nmfcore.factorize(X[:50, :60], 3, max_iter=20, tol=0, random_state=0, **options)  # compile

    sent = []
    def send():
        sent.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    def arm(state):  # the signal comes at an arbitrary moment of an iteration after the first
        if state.n_iter == 1:
            threading.Timer(float(sys.argv[3]) * max(state.seconds, 0.05), send).start()

    try:
        nmfcore.factorize(X, rank, tol=0, max_iter=10**6, random_state=0, n_threads=n_threads, callback=arm, **options)
    except KeyboardInterrupt as interrupt:
        late = time.perf_counter() - sent[0]
        f = interrupt.factorization
        sound = all(bool(np.isfinite(A).all() and A.min() >= 0) for A in f)
        left = [t.name for t in threading.enumerate() if t.name.startswith("nmfcore")]
        print(json.dumps([late, sound, f.n_iter, f.status.name, len(f.history), f.converged, left, list(f.W.shape)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", DATA)
def test_ctrl_c_is_heard_at_once_and_loses_nothing(kind, n_threads):
    late = 9.0
    for share in ("0.37", "0.81", "1.23"):  # one sample may meet a busy machine; three are slow only if we are
        out = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(INTERRUPTED), kind, str(n_threads), share],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert out.returncode == 0, out.stderr
        late, sound, n_iter, status, length, converged, left, shape = json.loads(out.stdout)
        assert sound
        assert n_iter >= 1
        assert length == n_iter + 1
        assert status == "INTERRUPTED"
        assert not converged
        assert left == []
        assert shape[1] == 40
        if late <= 0.25:  # 0.2 s, and 0.05 s for the scheduler
            break
    assert late <= 0.25


def test_ctrl_c_in_a_callback_carries_the_last_iterate():
    def interrupt(state: Any) -> None:
        if state.n_iter == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as caught:
        fit(tol=0, max_iter=50, callback=interrupt)
    f = caught.value.factorization
    assert f.status is Status.INTERRUPTED
    assert f.n_iter == 2
    assert "Interrupted" in repr(f)
    same(f, fit(tol=0, max_iter=2))


def test_ctrl_c_before_there_is_anything(monkeypatch):
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "half_step", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        fit()
    assert caught.value.factorization is None


# ---- in company -------------------------------------------------------------------------------------------------

BIG = np.random.RandomState(3).random_sample((3000, 300))


def big(seed: int = 0, **options: Any) -> Factorization:
    return nmfcore.factorize(BIG, 8, random_state=seed, tol=0, max_iter=8, **options)


def test_two_fits_in_two_threads_equal_the_serial_ones():
    serial = [big(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        for f, g in zip(pool.map(big, range(4)), serial, strict=True):
            same(f, g)
    assert not our_threads()


def test_a_fit_with_its_own_threads_inside_a_pool():
    expected = big(n_threads=1)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(big, n_threads=2) for _ in range(4)]
        for future in futures:
            same(future.result(timeout=60), expected)


def _in_child(queue: Any) -> None:
    f = big(n_threads=2)
    queue.put((f.W, f.H))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_fits_after_its_parent():
    expected = big(n_threads=2)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    W, H = queue.get(timeout=60)
    child.join(timeout=60)
    assert child.exitcode == 0
    np.testing.assert_array_equal(W, expected.W)
    np.testing.assert_array_equal(H, expected.H)


def test_errors_in_helpers_reach_the_caller():
    def fail(lo: int, hi: int) -> int:
        if lo >= 3:
            raise ArithmeticError(f"slab {lo}")
        return lo

    with Team(3) as team:
        with pytest.raises(ArithmeticError, match="slab"):
            team.map(fail, [(i, i + 1) for i in range(8)])
        assert team.map(lambda lo, hi: hi, [(0, 1), (1, 2)]) == [1, 2]  # and the team goes on
    assert not our_threads()


# ---- circumstances ----------------------------------------------------------------------------------------------

DIGEST = """
    import hashlib, numpy as np
    {before}
    import nmfcore
    X = np.random.RandomState(0).random_sample((30, 20))
    X[X < 0.3] = 0
    digest = hashlib.sha256()
    for solver in ("hals", "mu"):
        for options in ({{}}, {{"missing_values": 0}}, {{"l1": 0.1, "l2": 0.2}}, {{"dtype": "f4"}}):
            f = nmfcore.factorize(X, 4, random_state=0, tol=0, max_iter=15, solver=solver, **options)
            for A in (f.W, f.H, f.transform(X)):
                digest.update(A.tobytes())
    f = nmfcore.factorize(np.zeros((3, 4)), 2, random_state=0)
    digest.update(f.W.tobytes())
    print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_under_strict_floating_point_optimisation_and_warnings():
    expected = python(DIGEST.format(before=""))
    assert python(DIGEST.format(before="np.seterr(all='raise')")) == expected
    assert python(DIGEST.format(before=""), "-W", "error", "-O") == expected


def test_global_state_is_left_as_it_was():
    np.random.seed(5)
    before = np.geterr(), np.random.get_state()[1].tolist(), signal.getsignal(signal.SIGINT)
    fit(tol=0, max_iter=3, n_threads=2)
    assert (np.geterr(), np.random.get_state()[1].tolist(), signal.getsignal(signal.SIGINT)) == before


def test_without_compilation():
    code = """
        import json, numpy as np, nmfcore
        X = np.random.RandomState(0).random_sample((6, 5))
        X[X < 0.3] = 0
        out = []
        for solver in ("hals", "mu"):
            for options in ({}, {"missing_values": 0}, {"missing_values": 0, "loss": "kullback-leibler"}):
                f = nmfcore.factorize(X, 2, random_state=0, tol=0, max_iter=4, solver=solver, **options)
                out += [f.W.tolist(), f.transform(X).tolist()]
        print(json.dumps(out))
    """
    compiled, interpreted = json.loads(python(code)), json.loads(python(code, NUMBA_DISABLE_JIT="1"))
    for A, B in zip(compiled, interpreted, strict=True):
        np.testing.assert_allclose(B, A, rtol=1e-12, atol=1e-14)


def test_dense_products_without_compilation():
    """With more rows and columns than a panel, of either precision."""
    code = """
        import numpy as np
        from nmfcore.kernels import dense
        rng = np.random.default_rng(0)
        for dtype, rtol in ((np.float64, 1e-13), (np.float32, 1e-5)):
            X, A, B = (rng.random(shape).astype(dtype) for shape in ((19, 45), (19, 41), (45, 41)))
            C, D, G = np.empty((19, 41), dtype), np.empty((45, 41), dtype), np.empty((41, 41))
            dense.rows_times(X, B, 0, 19, C)
            dense.columns_times(X, A, 0, 45, D)
            dense.gram(B, G)
            for made, exact in ((C, X @ B), (D, X.T @ A), (G, B.T.astype(float) @ B)):
                np.testing.assert_allclose(made, exact, rtol)
            error = dense.squared_error(X, A, np.ascontiguousarray(B.T), 0, 19)
            np.testing.assert_allclose(error, np.sum((X.astype(float) - A.astype(float) @ B.T) ** 2), rtol)
        print("good")
    """
    for environment in ({}, {"NUMBA_DISABLE_JIT": "1"}):
        assert "good" in python(code, **environment)


def test_number_of_threads(monkeypatch):
    monkeypatch.delenv("NMFCORE_NUM_THREADS", raising=False)
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert default_threads() == usable
    monkeypatch.setenv("NMFCORE_NUM_THREADS", "3")
    assert default_threads() == 3
    seen: list[int] = []
    real = Team.__init__

    def spy(self: Team, n_threads: int) -> None:
        seen.append(n_threads)
        real(self, n_threads)

    monkeypatch.setattr(Team, "__init__", spy)
    fit(max_iter=1, tol=0)
    fit(max_iter=1, tol=0, n_threads=2)
    assert seen == [3, 2]


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5", "²"])
def test_a_bad_number_of_threads_is_named(monkeypatch, value):
    monkeypatch.setenv("NMFCORE_NUM_THREADS", value)
    with pytest.raises(
        ValueError, match=rf"NMFCORE_NUM_THREADS='{value}' is not a number of threads; set it to 1 or more"
    ):
        fit(max_iter=1, tol=0)


def test_ctrl_c_while_the_start_is_made(monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nmfcore.starts.own", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        nmfcore.factorize(X, 2, random_state=0)
    assert caught.value.factorization is None


def test_a_sparse_fit_begins_with_single_sweeps() -> None:
    rng = np.random.default_rng(0)
    X = rng.random((60, 400)) * (rng.random((60, 400)) < 0.08)
    options = {"init": "random", "random_state": 0, "tol": 0.0}
    single = nmfcore.solvers.HALS(sweeps=1)
    for n_iter, alike in ((10, True), (11, False)):
        for A in (X, sp.csr_array(X)):  # however it is stored
            f, g = (nmfcore.factorize(A, 6, solver=s, max_iter=n_iter, **options) for s in ("hals", single))
            assert np.array_equal(f.W, g.W) is alike
    f, g = (nmfcore.factorize(X + 0.1, 6, solver=s, max_iter=3, **options) for s in ("hals", single))
    assert not np.array_equal(f.W, g.W)
    asked = nmfcore.solvers.HALS(sweeps=4)  # what is asked for is made
    f, g = (nmfcore.factorize(A, 6, solver=asked, max_iter=5, **options) for A in (X, sp.csr_array(X)))
    np.testing.assert_allclose(f.W, g.W, rtol=1e-9, atol=1e-12)
