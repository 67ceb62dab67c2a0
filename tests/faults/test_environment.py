"""Rows 132 to 152: interrupts, company, memory, and the machine around a fit.

What `tests/test_loop.py` and `tests/test_package.py` hold already is named here and not written twice.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from catalogue import Case, Held, Outcome, each, holds, nmf
from fits import X, ask, same
from processes import python

import nmfcore
from nmfcore import Recommender
from nmfcore.datasets import planted_ratings

RATINGS = planted_ratings(40, 30, 400)
OTHER_RATINGS = planted_ratings(40, 30, 400, random_state=1)
LARGER = np.random.RandomState(3).random_sample((400, 100))
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


# ---- scikit-learn ---------------------------------------------------------------------------------------------------


def their_interrupt() -> str:
    big = np.random.RandomState(0).random_sample((2000, 500))
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        nmf(big, 40, tol=0, max_iter=10**6)
    except KeyboardInterrupt as interrupt:
        return "no estimate is left" if not hasattr(interrupt, "factorization") else "an estimate is left"
    return "not interrupted"


def their_threads() -> str:
    alone = [nmf(LARGER, 4, random_state=seed)[1] for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        together = [H for _, H in pool.map(lambda seed: nmf(LARGER, 4, random_state=seed), range(4))]
    return _told(all(map(np.array_equal, alone, together)))


def their_estimator() -> str:
    from sklearn.decomposition import NMF

    model = NMF(3, random_state=0)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(model.fit, [LARGER, LARGER[::-1]]))
    alone = [NMF(3, random_state=0).fit(A).components_ for A in (LARGER, LARGER[::-1])]
    return "one of both fits" if any(np.array_equal(model.components_, H) for H in alone) else "a mixture"


def their_child() -> str:
    alone = nmf(LARGER, 4)[1]
    return _told(np.array_equal(in_fork(lambda: nmf(LARGER, 4)[1]), alone))


def their_pool() -> str:
    from joblib import Parallel, delayed

    alone = nmf(X)[1]
    (other,) = Parallel(n_jobs=2)(delayed(_their_fit)(X) for _ in range(1))
    return _told(np.allclose(other, alone, rtol=0, atol=0))


def their_limit() -> str:
    """In a process that ends with it."""
    import resource

    nmf(X)  # loads what a fit needs
    big = np.random.RandomState(0).random_sample((3000, 2000))
    with open("/proc/self/statm") as stream:
        pages = int(stream.read().split()[0])
    resource.setrlimit(
        resource.RLIMIT_AS,
        ((pages + 40_000) * resource.getpagesize(), resource.getrlimit(resource.RLIMIT_AS)[1]),
    )
    try:
        nmf(big, 1500, max_iter=2)
    except MemoryError:
        return "MemoryError"
    return "fitted"


def _their_fit(A: np.ndarray) -> np.ndarray:
    from sklearn.decomposition import NMF

    return NMF(2, random_state=0).fit(A).components_


def _told(equal: bool) -> str:
    return "the same bits as alone" if equal else "other bits than alone"


# ---- nmfcore --------------------------------------------------------------------------------------------------------


def in_fork(call: Any) -> Any:
    """What a forked child makes of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(call(), stream)
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        content = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    return pickle.loads(content)


def one_model() -> str:
    """Two threads fit one recommender: it is that of one of them."""
    model = Recommender(rank=3, random_state=0)
    alone = [Recommender(rank=3, random_state=0).fit(r).factorization_ for r in (RATINGS, OTHER_RATINGS)]
    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(model.fit, [RATINGS, OTHER_RATINGS]))
        f = model.factorization_
        g = alone[0] if np.array_equal(f.H, alone[0].H) else alone[1]
        same(f, g)
        assert model.ratings_ is (RATINGS if g is alone[0] else OTHER_RATINGS)
    return "one of both fits, whole"


def _fit_elsewhere(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    f = ask(A)
    return f.W, f.H


def spawned() -> str:
    f = ask(X)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        W, H = pool.submit(_fit_elsewhere, X).result(timeout=120)
    np.testing.assert_array_equal(W, f.W)
    np.testing.assert_array_equal(H, f.H)
    return "the same bits as alone"


def worker() -> str:
    """A forked worker transforms, as those of a data loader do."""
    f = ask(X)
    np.testing.assert_array_equal(in_fork(lambda: f.transform(X)), f.transform(X))
    return "the same bits as in the parent"


def backwards() -> str:
    """The clock of the wall is set back during a fit."""
    real = time.time
    try:
        time.time = lambda: real() - 1e6 * (time.perf_counter() % 7)
        f = ask(X, max_iter=50, max_time=3600)
    finally:
        time.time = real
    same(f, ask(X, max_iter=50))
    assert f.seconds >= 0
    assert np.all(np.diff(f.history.seconds) >= 0)
    return "no effect"


LIMITED = """
    import resource
    import numpy as np
    import nmfcore

    rng = np.random.default_rng(0)
    X, small = rng.random((3000, 2000)), rng.random((6, 5))
    before = nmfcore.factorize(small, 2, random_state=0)
    nmfcore.factorize(X[:50], 3, random_state=0, max_iter=2, tol=0)
    pages = int(open("/proc/self/statm").read().split()[0])
    copy = X.copy()
    before_it = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, ((pages + 40_000) * resource.getpagesize(), before_it[1]))
    try:
        nmfcore.factorize(X, 1500, random_state=0, max_iter=2, tol=0, n_threads=1)
    except MemoryError as error:
        print("MemoryError")
    resource.setrlimit(resource.RLIMIT_AS, before_it)
    after = nmfcore.factorize(small, 2, random_state=0)
    print(np.array_equal(X, copy) and np.array_equal(before.W, after.W))
"""


def limited() -> str:
    assert python(LIMITED).split() == ["MemoryError", "True"]
    return "MemoryError, and the next fit is as before"


def modified() -> str:
    """X is used as it is: who changes it meanwhile gets finite factors, or is told."""
    for value in (7.0, 0.0, 1e6, np.nan, np.inf):
        A = X.copy()

        def change(state: Any, A: np.ndarray = A, value: float = value) -> None:
            A[1:3] = value

        outcome = Outcome.of(
            lambda A=A, change=change: nmfcore.factorize(A, 2, random_state=0, callback=change, tol=0, max_iter=30)
        )
        if np.isfinite(value):
            assert all(np.isfinite(factor).all() and factor.min() >= 0 for factor in outcome.value)
        else:
            assert isinstance(outcome.error, FloatingPointError)
            assert str(outcome.error).startswith("the objective became nan at iteration 2")
    return "finite factors of what it was in between; FloatingPointError after NaN and infinity"


COMMAS = """
    import locale, sys
    import numpy as np
    for name in ("de_DE.UTF-8", "de_DE.utf8", "fr_FR.UTF-8", "fr_FR.utf8"):
        try:
            locale.setlocale(locale.LC_ALL, name)
            break
        except locale.Error:
            pass
    else:
        print("absent")
        sys.exit()
    import nmfcore
    assert locale.localeconv()["decimal_point"] == ","
    path = sys.argv[1]
    open(path, "w").write("user,item,rating\\n1,1,4.5\\n1,2,2.5\\n2,1,1.5\\n")
    print(nmfcore.Ratings.from_file(path).data.tolist())
    f = nmfcore.factorize(np.arange(1.0, 31).reshape(6, 5), 2, random_state=0)
    print(f.W.sum().hex())
"""

DAMAGED_CACHE = """
    import pathlib, sys
    sys.path.insert(0, sys.argv[1])
    import small
    assert small.double(2.0) == 4.0
    print("good")
"""
SMALL = """
from nmfcore.kernels._jit import kernel

@kernel
def double(x):
    return 2.0 * x
"""


def spoilt_cache(folder: Any) -> None:
    (folder / "small.py").write_text(SMALL)
    cache = folder / "cache"
    for round_ in range(2):
        environment = {"NUMBA_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
        assert python_at(DAMAGED_CACHE, folder, **environment) == "good\n"
        files = [path for path in cache.rglob("*") if path.suffix in (".nbi", ".nbc")]
        assert files
        for path in files if round_ == 0 else ():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def python_at(code: str, folder: Any, **environment: str) -> str:
    return python(code.replace("sys.argv[1]", repr(str(folder))), **environment)


CASES = [
    Held(
        132,
        "Ctrl-C in the middle of a fit",
        "test_loop.py::test_ctrl_c_is_heard_at_once_and_loses_nothing",
        "heard within 0.2 s; the last estimate is `exc.factorization`",
        their_interrupt,
    ),
    Held(
        133,
        "two threads fit two models",
        "test_loop.py::test_two_fits_in_two_threads_equal_the_serial_ones",
        "the same bits as alone",
        their_threads,
    ),
    Case(134, "two threads fit one model", one_model, holds(lambda _: None), their_estimator),
    Held(
        135,
        "fork after a fit, the child fits",
        "test_loop.py::test_a_forked_child_fits_after_its_parent",
        "the same bits as alone",
        their_child,
    ),
    Case(136, "a process that is spawned", spawned, holds(lambda _: None), their_pool),
    Case(137, "a forked worker transforms", worker, holds(lambda _: None)),
    Held(
        138,
        "fits inside a pool of threads",
        "test_loop.py::test_a_fit_with_its_own_threads_inside_a_pool",
        "the same bits as alone",
    ),
    Case(139, "a limit on memory", limited, holds(lambda _: None), their_limit),
    Held(140, "nothing can be written", "test_package.py::test_where_nothing_can_be_written", "imports and fits"),
    Held(142, "NUMBA_DISABLE_JIT=1", "test_loop.py::test_without_compilation", "the same factors to 1e-12"),
    Held(
        143,
        "python -O, -W error, np.seterr(all='raise')",
        "test_loop.py::test_the_same_bits_under_strict_floating_point_optimisation_and_warnings",
        "the same bits",
    ),
    Held(
        144,
        "SciPy, pandas, scikit-learn, Matplotlib and tqdm are absent",
        "test_package.py::test_numpy_and_numba_are_all_it_needs",
        "fits, saves and loads; ImportError with the command that installs tqdm where it is asked for",
    ),
    Held(
        145,
        "Numba does not import",
        "test_package.py::test_a_numba_that_does_not_import_is_named_with_the_remedy",
        "ImportError: ... Remedy: python -m pip install --upgrade numba",
    ),
    Held(
        146,
        "an exception in a callback",
        "test_loop.py::test_other_exceptions_propagate_and_leave_nothing_behind",
        "propagates, and no thread is left",
    ),
    Held(
        147,
        "a callback keeps W",
        "test_loop.py::test_callbacks_see_every_iterate",
        "it stays what it was; it is read-only",
    ),
    Case(148, "X is modified during the fit", modified, holds(lambda _: None)),
    Held(
        150,
        "fewer processors than the machine has",
        "test_loop.py::test_number_of_threads",
        "as many threads as `os.sched_getaffinity` allows, or NMFCORE_NUM_THREADS",
    ),
    Case(151, "a clock that goes backwards", backwards, holds(lambda _: None)),
    Held(
        141,
        "a damaged cache of Numba",
        "faults/test_environment.py::test_a_damaged_cache_stops_nobody",
        "compiles again, and says so once",
    ),
    Held(
        152,
        "a locale with decimal commas",
        "faults/test_environment.py::test_a_locale_with_commas_has_no_effect",
        "no effect",
    ),
]


@POSIX
@each(CASES)
def test_environment(case):
    case.hold()


@POSIX
@pytest.mark.row(136)
def test_processes_of_joblib():
    joblib = pytest.importorskip("joblib")
    with joblib.parallel_config("loky", n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(_fit_elsewhere)(A) for A in (X, X[::-1].copy()))
    for (W, _), A in zip(found, (X, X[::-1]), strict=True):
        np.testing.assert_array_equal(W, ask(A).W)


@pytest.mark.row(141)
def test_a_damaged_cache_stops_nobody(tmp_path):
    spoilt_cache(tmp_path)


@pytest.mark.row(152)
def test_a_locale_with_commas_has_no_effect(tmp_path):
    said = python(COMMAS.replace("sys.argv[1]", repr(str(tmp_path / "r.csv")))).split("\n")
    if said[0] == "absent":
        pytest.skip("no locale with decimal commas is installed")
    assert said[0] == "[4.5, 2.5, 1.5]"
    f = nmfcore.factorize(np.arange(1.0, 31).reshape(6, 5), 2, random_state=0)
    assert said[1] == f.W.sum().hex()
