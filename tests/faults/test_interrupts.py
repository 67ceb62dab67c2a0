"""Ctrl-C at any moment leaves a usable process and the last estimate.

A tracer raises KeyboardInterrupt at one line of nmfcore after the other. The test suite tries some of the lines of each
work, `make fuzz` tries all of them.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from budget import cases, seed

import nmfcore
from nmfcore import datasets
from nmfcore.ratings import Recommender

HOME = str(Path(nmfcore.__file__).parent)
QUICK, ALL = 60, 10**6  # lines to interrupt at, of each work

RNG = np.random.default_rng(0)
X = RNG.gamma(0.5, size=(9, 2)) @ RNG.gamma(0.5, size=(2, 7)) + 0.01
HOLES = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
RATINGS = datasets.planted_ratings(12, 10, 60)


class Interrupt:
    """A tracer that raises KeyboardInterrupt at the line of nmfcore with a number, and counts the lines."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.lines, self.where = at, 0, ""

    def __call__(self, frame: Any, event: str, argument: object) -> Any:
        return self._line if frame.f_code.co_filename.startswith(HOME) else None

    def _line(self, frame: Any, event: str, argument: object) -> Any:
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self._line

    def during(self, work: Callable[[], object]) -> KeyboardInterrupt | None:
        """Run the work in this thread; return the interrupt that came out of it."""
        before = sys.gettrace()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sys.settrace(self)
            try:
                work()
            except KeyboardInterrupt as interrupt:
                return interrupt
            finally:
                sys.settrace(before)
        return None


def moments(work: Callable[[], object], quick: int = QUICK) -> list[int]:
    """Lines of the work to interrupt at: the first and the last ones, and some in between."""
    Interrupt(0).during(work)  # the first time compiles
    count = Interrupt()
    assert count.during(work) is None
    n = cases(quick, ALL)
    if n >= count.lines:
        return list(range(1, count.lines + 1))
    edge = n // 4
    between = np.random.default_rng(seed()).integers(edge, count.lines - edge, n - 2 * edge)
    return [*range(1, edge), *sorted(set(between.tolist())), *range(count.lines - edge, count.lines + 1)]


def fit(data: object = X, **options: Any) -> Callable[[], Any]:
    return lambda: nmfcore.factorize(data, 2, **{"random_state": 0, "max_iter": 6, "n_threads": 1} | options)


WORKS = {
    "hals": fit(),
    "mu": fit(solver="mu"),
    "kullback-leibler": fit(loss="kullback-leibler"),
    "itakura-saito": fit(loss="itakura-saito"),
    "mixed": fit(precision="mixed"),
    "sparse": fit(sp.csr_array(np.where(np.median(X) < X, X, 0))),
    "masked": fit(HOLES, missing_values=np.nan, l2=0.01),
    "masked mu": fit(HOLES, missing_values=np.nan, l2=0.01, solver="mu"),
    "weights": fit(weights=X),
    "offsets": fit(HOLES, missing_values=np.nan, l2=0.1, l2_scaling="count", offsets=True),
    "callback": fit(callback=lambda state: None),
    "penalties": fit(l1=0.01, l2=0.01),
    "threads": fit(n_threads=2),
}


def sound(f: nmfcore.Factorization) -> None:
    """What an interrupt brings is an iterate: its history ends with it, and its objective is that of its factors."""
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    assert min(f.W.min(), f.H.min()) >= 0
    assert f.history.iteration[-1] == f.n_iter
    assert f.history.objective[-1] == f.objective
    assert (np.diff(f.history.objective) <= 1e-12 * f.history.objective[0]).all()


@pytest.mark.parametrize("name", WORKS)
def test_a_fit_brings_its_last_estimate(name: str) -> None:
    work = WORKS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = work()
    threads, brought = threading.active_count(), 0
    errors = np.geterr()
    for at in moments(work):
        tracer = Interrupt(at)
        interrupt = tracer.during(work)
        assert interrupt is not None, tracer.where
        f = getattr(interrupt, "factorization", None)
        if f is not None:
            sound(f)
            brought += 1
            places = np.flatnonzero(whole.history.iteration == f.n_iter)
            assert abs(f.objective - whole.history.objective[places[0]]) <= 1e-6 * whole.history.objective[0]
        assert threading.active_count() == threads, tracer.where
    assert brought > 0
    assert np.geterr() == errors
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = work()
    np.testing.assert_array_equal(again.W, whole.W)
    np.testing.assert_array_equal(again.H, whole.H)


def test_the_last_line_of_a_fit_brings_its_end() -> None:
    work = WORKS["hals"]
    last = moments(work)[-1]
    interrupt = Interrupt(last).during(work)
    f = getattr(interrupt, "factorization", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = work()
    assert f is not None
    np.testing.assert_array_equal(f.W, whole.W)
    assert f.status is whole.status


def test_history_and_factors_agree_wherever_an_iterate_is_recorded() -> None:
    """The objective that comes with an interrupt is that of the factors beside it, by the definition."""
    work = fit(max_iter=2)
    count = Interrupt()
    count.during(work)
    for at in range(count.lines // 2, count.lines + 1):
        tracer = Interrupt(at)
        interrupt = tracer.during(work)
        f = getattr(interrupt, "factorization", None)
        if f is not None and "solve.py" in tracer.where:
            assert f.objective == pytest.approx(0.5 * ((X - f.W @ f.H) ** 2).sum(), rel=1e-9), tracer.where


def test_transform_leaves_its_model_as_it_was() -> None:
    f = nmfcore.factorize(X, 2, random_state=0)
    W, H, expected = f.W.copy(), f.H.copy(), f.transform(X)
    for at in moments(lambda: f.transform(X, n_threads=1)):
        assert Interrupt(at).during(lambda: f.transform(X, n_threads=1)) is not None
    np.testing.assert_array_equal(f.W, W)
    np.testing.assert_array_equal(f.H, H)
    np.testing.assert_array_equal(f.transform(X), expected)


def test_select_rank_brings_the_ranks_that_are_complete() -> None:
    def work() -> nmfcore.RankSelection:
        return nmfcore.select_rank(X, [1, 2, 3], n_folds=2, max_iter=5, random_state=0, n_threads=1, warm_start=False)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = work()
    lengths = set()
    for at in moments(work):
        tracer = Interrupt(at)
        interrupt = tracer.during(work)
        assert interrupt is not None
        s = getattr(interrupt, "selection", None)
        if s is not None:
            lengths.add(len(s.ranks))
            assert len(s.ranks) > 0, tracer.where
            np.testing.assert_array_equal(s.errors, whole.errors[: len(s.ranks)])
    assert max(lengths) == 3  # the last lines come after the last rank


def test_auto_penalty_brings_an_estimate_in_the_unit_of_X() -> None:
    holes = HOLES * 4.0 ** np.arange(-3, 4)
    work = fit(holes, missing_values=np.nan, l2="auto", max_iter=5)
    brought = 0
    for at in moments(work, 16):
        interrupt = Interrupt(at).during(work)
        assert interrupt is not None
        f = getattr(interrupt, "factorization", None)
        if f is not None:
            brought += 1
            wrong = np.nanmean(np.abs(f.W @ f.H - holes) / holes)
            assert wrong < 5, wrong
    assert brought > 0


def test_a_recommender_keeps_the_last_good_model() -> None:
    model = Recommender(rank=2, max_iter=5, random_state=0)

    def work() -> None:
        nonlocal model
        model = Recommender(rank=2, max_iter=5, random_state=0)
        model.fit(RATINGS)

    for at in moments(work):
        assert Interrupt(at).during(work) is not None
        if model._model is None:
            with pytest.raises(RuntimeError, match="not fitted"):
                model.predict(RATINGS.users[0], RATINGS.items[0])
        else:
            assert np.isfinite(model.predict(RATINGS.users[0], RATINGS.items[0]))


def test_a_fitted_recommender_keeps_answering() -> None:
    def made() -> Recommender:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return Recommender(rank=2, max_iter=5, random_state=0).fit(RATINGS)

    model = made()
    more = datasets.planted_ratings(12, 10, 70, random_state=1)
    user, item = RATINGS.users[0], RATINGS.items[0]
    old = model.predict(user, item)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for at in moments(lambda: made().fit(more)):
            model = made()
            Interrupt(at).during(lambda model=model: model.fit(more))  # type: ignore[misc]
            ratings = model.ratings_
            assert ratings is RATINGS or ratings is more or ratings.nnz in (RATINGS.nnz, more.nnz)
            assert np.isfinite(model.predict(user, item))
            if ratings.nnz == RATINGS.nnz:
                assert model.predict(user, item) == old


FIRST_FIT = """
import signal, sys, time
import numpy as np

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
began = time.perf_counter()
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[1]))
try:
    import nmfcore
    f = nmfcore.factorize([[1.0, 2.0], [2.0, 4.0]], 1, random_state=0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("done", time.perf_counter() - began)
except KeyboardInterrupt:
    print("interrupted", time.perf_counter() - began)
import nmfcore
f = nmfcore.factorize([[1.0, 2.0], [2.0, 4.0]], 1, random_state=0)
g = nmfcore.factorize(np.eye(4) + 1.0, 2, random_state=0, loss="kullback-leibler", max_iter=3, tol=0)
print(f.converged, g.n_iter)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that interrupts")
def test_the_first_fit_of_a_process_can_be_interrupted_at_any_time() -> None:
    """Numba is then not half imported, and a kernel not half loaded."""
    rng = np.random.default_rng(seed())
    heard = []
    for at in rng.uniform(0.15, 0.9, cases(4, 60)):
        run = [sys.executable, "-c", FIRST_FIT, f"{at:.3f}"]
        done = subprocess.run(run, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, (at, done.stderr)
        first, second = done.stdout.splitlines()
        assert second == "True 3", (at, done.stdout, done.stderr)
        heard.append(first.split()[0])
    assert "interrupted" in heard
