"""Memory is counted before it is taken: a MemoryError says how much, what for and what to do, and none was asked for.

The machine is made small here, and so are the problems: a thousandth of those that end a process.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore import Ratings, Recommender
from nmfcore.__main__ import main
from nmfcore.datasets import planted_ratings
from nmfcore.holdout.entries import spare_the_last
from nmfcore.machine import memory
from nmfcore.reading import missing
from nmfcore.recommender.selecting import select_rank_for

MIB = 2**20
ROOM = 16 * MIB
M = 3_000_000  # rows, of which three have an entry
X = np.random.default_rng(0).random((30, 20)) + 0.1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 16 MiB of memory."""
    monkeypatch.setattr(memory, "FREE", 0)
    monkeypatch.setattr(memory, "limit", lambda: ROOM)


@pytest.fixture(scope="module", autouse=True)
def compiled() -> None:
    """What is compiled takes time and memory the first time."""
    for kind in ("coo", "csr", "csc"):
        for rule in (None, "unstored"):
            nmfcore.factorize(three(6, 4, kind), 1, missing_values=rule, random_state=0, max_iter=1, tol=0)
    Recommender(rank=1, max_iter=1, tol=0).fit(planted_ratings(12, 9, 50))


@contextmanager
def refused(message: str) -> Iterator[None]:
    """A MemoryError with sizes and a remedy, at once, before anything of that size is asked for."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(MemoryError) as caught:
            yield
        seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ROOM
    assert seconds < 2
    sizes = r"needs [\d.e+-]+ GiB of memory \([\d.e+-]+ for .*\), and there are 0.0156; \w+"
    assert re.search(f"{message}.* {sizes}", str(caught.value)), str(caught.value)


def three(m: int, n: int, kind: str = "coo") -> Any:
    """A matrix of that shape with three entries."""
    rows, columns = np.linspace(0, m - 1, 3).astype(int), np.linspace(0, n - 1, 3).astype(int)
    return sp.coo_array((np.ones(3), (rows[::-1], columns[::-1])), shape=(m, n)).asformat(kind)


class Sparse:
    """Compressed rows that SciPy would sort."""

    format = "csr"

    def __init__(self, n: int) -> None:
        self.indptr, self.indices, self.data = np.array([0, 3]), np.array([n - 1, 0, 5]), np.ones(3)
        self.shape, self.dtype = (1, n), np.dtype(float)

    def tocsr(self) -> Sparse:
        return self


# ---- sparse shapes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "dok", "dia", "bsr"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rule", [None, "unstored"])
def test_a_fit_of_a_huge_sparse_matrix(small, kind, turned, rule):
    shape = (3, M) if turned else (M, 3)
    data = three(*shape, kind)
    # Of X in three rows, the transpose and H are what does not fit.
    with refused("rank=1" if turned and kind != "csc" else re.escape(f"X of shape {shape}")):
        nmfcore.factorize(data, 1, missing_values=rule)


def test_columns_that_have_to_be_sorted(small):
    with refused(f"a sparse matrix of {M} rows, or the transpose of one of {M} columns,"):
        nmfcore.factorize(Sparse(M), 1)


@pytest.mark.parametrize("loss", ["kullback-leibler", "itakura-saito", 0.5])
def test_other_losses(small, loss):
    with refused(f"X of shape .{M}, 3."):
        nmfcore.factorize(three(M, 3), 1, loss=loss)


@pytest.mark.parametrize("name", ["mask", "weights"])
def test_sparse_masks_and_weights(small, name):
    guide = three(M, 3).astype(bool if name == "mask" else float)
    with refused(f"{name} of shape .{M}, 3."):
        missing._guide(guide, (M, 3), name)


def test_a_transform_of_a_huge_sparse_matrix(small):
    f = nmfcore.factorize(X, 2, random_state=0)
    with refused(f"X of shape .{M}, 20."):
        f.transform(three(M, 20))
    rows = sp.csr_array((600_000, 20))
    with refused("transform of 600000 rows"):
        f.transform(rows)


@pytest.mark.parametrize("holdout", ["auto", "entries", "blocks"])
def test_a_choice_of_the_rank(small, holdout):
    with refused(f"X of shape .{M}, 3."):
        nmfcore.select_rank(three(M, 3), [1], holdout=holdout)
    with refused(f"X of shape .3, {M}.|rank=1"):
        nmfcore.select_rank(three(3, M), [1], holdout=holdout)


@pytest.mark.parametrize("shape", [(M, 3), (3, M)])
def test_ratings_of_a_huge_sparse_matrix(small, shape):
    with refused(re.escape(f"ratings of shape {shape}")):
        Ratings.from_sparse(three(*shape))


# ---- ranks ------------------------------------------------------------------------------------------------------

HUGE = 10**9
RATINGS = planted_ratings(12, 9, 50)


@pytest.mark.parametrize(
    "fit",
    [
        lambda: nmfcore.factorize(X, HUGE),
        lambda: nmfcore.factorize(X, HUGE, init="random", loss="kullback-leibler"),
        lambda: nmfcore.factorize(X, HUGE, offsets=True),
        lambda: nmfcore.factorize(sp.csr_array(X), HUGE),
        lambda: nmfcore.factorize(np.where(X > 0.9, np.nan, X), HUGE, missing_values=np.nan),
        lambda: nmfcore.factorize(np.where(X > 0.9, np.nan, X), HUGE, missing_values=np.nan, l2="auto"),
        lambda: nmfcore.factorize(RATINGS, HUGE, missing_values="unstored", l2="auto"),
        lambda: nmfcore.select_rank(X, [HUGE]),
        lambda: nmfcore.select_rank(X, [1, 2, HUGE], patience=None),
        lambda: nmfcore.select_rank(X, [1, 2, HUGE], patience=2),
        lambda: nmfcore.select_rank(sp.csr_array(X), [HUGE]),
        lambda: Recommender(rank=HUGE).fit(RATINGS),
        lambda: select_rank_for(Recommender(), RATINGS, [1, HUGE]),
    ],
)
def test_a_rank_that_does_not_fit(small, fit):
    with refused(f"rank={HUGE}"):
        fit()


def test_ranks_that_patience_may_spare_are_counted_when_they_come(small):
    seen: list[int] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with refused(f"rank={HUGE}"):
            nmfcore.select_rank(X, [1, HUGE], patience=1, n_folds=2, random_state=0, callback=lambda s: seen.append(1))
    assert seen == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        s = nmfcore.select_rank(
            X, [1, 2, 3, HUGE], patience=1, n_folds=2, random_state=0, max_iter=5, tol=0, callback=stop_at_two
        )
    assert s.ranks.tolist() == [1, 2]


def stop_at_two(s: Any) -> None:
    if len(s.ranks) == 2:
        raise StopIteration


def test_more_folds_than_there_is_room_for(small):
    with refused("n_folds=1000000"):
        nmfcore.select_rank(X, [1], n_folds=10**6)
    with refused("n_folds=20000"):
        spare_the_last(np.zeros(1, int), np.zeros(1, int), np.ones(1000, int), 20_000)


def test_the_command_line(small, tmp_path, capsys):
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n" + "".join(f"{k},{k % 3},{1 + k % 5}\n" for k in range(20)))
    assert main(["fit", str(path), "--rank", str(HUGE), "--out", str(tmp_path / "m.npz")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nmfcore: error: --rank {HUGE} needs ")
    assert error.endswith("; choose a smaller rank, or pass fewer rows and columns.\n")
    assert not (tmp_path / "m.npz").exists()
    assert main(["select-rank", str(path), "--ranks", f"1,{HUGE}", "--folds", "2"]) == 2
    assert capsys.readouterr().err.startswith(f"nmfcore: error: rank={HUGE} needs ")


# ---- dense data and what is made of them ---------------------------------------------------------------------------

SIDE = 1500  # squared, as float64: 17 MiB


def square(kind: str) -> Any:
    """A matrix that fits the machine, whose copy or dense form does not."""
    if kind == "uint8":
        return np.ones((SIDE, SIDE), np.uint8)
    if kind == "float32, Fortran":
        return np.ones((2 * SIDE, SIDE), np.float32, order="F")
    if kind == "float64 far from 1":
        return np.full((SIDE, SIDE), 1e200)
    return np.ones((SIDE, SIDE))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("uint8", "a copy in float64, row by row,"),
        ("float32, Fortran", "a copy in float32, row by row,"),
        ("float64 far from 1", re.escape(f"X of shape ({SIDE}, {SIDE})")),
        ("float64", "rank=2"),
    ],
)
def test_copies_of_dense_data(small, kind, message):
    data = square(kind)
    with refused(message):
        nmfcore.factorize(data, 2)


@pytest.mark.parametrize("rule", ["nan", "mask", "weights"])
@pytest.mark.parametrize("share", [0.9, 0.5])
def test_dense_data_of_which_some_is_missing(small, rule, share):
    data = np.ones((SIDE, SIDE))
    observed = np.arange(data.size).reshape(data.shape) % 10 < 10 * share
    options: dict[str, Any] = {"mask": observed}
    if rule == "nan":
        data[~observed] = np.nan
        options = {"missing_values": np.nan}
    elif rule == "weights":
        options = {"weights": 2.0 * observed}
    with refused(re.escape(f"X of shape ({SIDE}, {SIDE})")):
        nmfcore.factorize(data, 2, **options)


def test_offsets_of_dense_data(monkeypatch):
    monkeypatch.setattr(memory, "FREE", 0)
    monkeypatch.setattr(memory, "limit", lambda: int(1.5 * X.nbytes + 6 * 50 * 8 + 8))
    with pytest.raises(MemoryError, match=r"offsets=True needs .* one by one and the transpose.*; leave offsets out"):
        nmfcore.factorize(X, 1, offsets=True, random_state=0)
    nmfcore.factorize(X, 1, random_state=0)


def test_zeros_of_sparse_data_that_are_observed(small):
    data = three(SIDE, SIDE, "csr")
    data.data[0] = np.nan
    with refused(r"a sparse X of which zeros are observed, of shape .*"):
        nmfcore.factorize(data, 2, missing_values=np.nan)
    with refused("a dense matrix of 1500 x 1500"):
        nmfcore.select_rank(three(SIDE, SIDE), [1], holdout="entries")


def test_a_sparse_mask_of_dense_data(small, monkeypatch):
    data = np.ones((4 * SIDE, SIDE), np.float32)
    monkeypatch.setattr(memory, "limit", lambda: 4 * SIDE * SIDE - 1)
    with pytest.raises(MemoryError, match=r"a sparse mask, or sparse weights, of shape \(6000, 1500\) needs"):
        nmfcore.factorize(data, 2, mask=three(4 * SIDE, SIDE).astype(bool))


def test_sparse_data_with_a_fill_value_that_counts(small):
    column = pd.arrays.SparseArray(np.ones(10**6), fill_value=1.0)
    frame = pd.DataFrame({"a": column, "b": column, "c": column})
    with refused("X of shape .1000000, 3., sparse with a fill value that counts,"):
        nmfcore.factorize(frame, 1)

    class Coordinates:
        coords, data, shape, fill_value = np.zeros((2, 1), int), np.ones(1), (SIDE, SIDE), 2.0

        def todense(self) -> None:
            raise AssertionError

    with refused("sparse with a fill value that counts,"):
        nmfcore.factorize(Coordinates(), 1)


def test_a_penalty_chosen_by_folds(small, monkeypatch):
    monkeypatch.setattr(memory, "limit", lambda: 64 * 300)
    data = np.where(X > 0.9, np.nan, X)
    with pytest.raises(MemoryError, match=r"l2='auto' needs .* GiB .*\d+ entries.*; pass l2 as a number"):
        nmfcore.factorize(data, 1, missing_values=np.nan, l2="auto", random_state=0)


def test_ratings_of_dense_data(small):
    with refused("a dense matrix of ratings"):
        Ratings.from_dense(square("uint8"))
    with refused("the ratings of a dense matrix"):
        Ratings.from_dense(np.ones((1000, 1000)))


def test_predictions(small):
    f = nmfcore.factorize(X, 2, random_state=0)
    big = nmfcore.Factorization(np.ones((4000, 2)), np.ones((2, 4000)), *list(vars(f).values())[2:])
    with refused("W H"):
        big.reconstruct()
    with refused("16000000 predictions"):
        big.predict(np.arange(4000)[:, None], np.arange(4000))
    assert big.predict([0, 1], 3).tolist() == [2.0, 2.0]


def test_recommendations_for_everybody(small, monkeypatch):
    model = Recommender(rank=1, random_state=0).fit(RATINGS)
    left = 9 - np.diff(RATINGS.indptr)
    assert np.minimum(left, 3).sum() > 30
    monkeypatch.setattr(memory, "limit", lambda: 64 * int(np.minimum(left, 3).sum()) - 1)
    lines = int(np.minimum(left, 3).sum())
    with pytest.raises(MemoryError, match=rf"n=3 for 12 users needs .*{lines} recommendations.*ask for fewer items"):
        model.recommend(n=3)
    assert len(model.recommend(n=2)) == np.minimum(left, 2).sum()
    with pytest.raises(MemoryError, match=f"n={10**30} for 12 users needs .*{12 * 9 - 50} recommendations"):
        model.recommend(n=10**30)
    with pytest.raises(MemoryError, match="108 recommendations"):
        model.recommend(n=9, exclude_seen=False)


# ---- how much there is ------------------------------------------------------------------------------------------


def test_small_needs_are_not_looked_up(monkeypatch):
    def fail() -> int:
        raise AssertionError

    monkeypatch.setattr(memory, "limit", fail)
    memory.check({"much": memory.FREE}, "it", "do less")
    nmfcore.factorize(X, 2, random_state=0)
    with pytest.raises(AssertionError):
        memory.check({"more": memory.FREE + 1}, "it", "do less")


def test_the_message(small):
    with pytest.raises(MemoryError) as caught:
        memory.check({"W": 3 * 2**30, "H": 2**30, "a crumb": 1, "nothing": 0}, "rank=7", "choose less")
    assert str(caught.value) == "rank=7 needs 4 GiB of memory (3 for W, 1 for H), and there are 0.0156; choose less."
    memory.check({"W": ROOM - 1, "H": 1}, "rank=7", "choose less")


GROUPS = {
    "version 2": ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "12345\n", "memory.max": "99999\n"}, 12345),
    "version 2, root": ("0::/\n", {"memory.max": "777\n"}, 777),
    "version 2, none": ("0::/a\n", {"a/memory.max": "max\n"}, memory.UNKNOWN),
    "version 1": (
        "5:cpu:/x\n4:memory:/job\n0::/\n",
        {"memory/job/memory.limit_in_bytes": "555\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"},
        555,
    ),
    "version 1, in a container": ("4:memory:/docker/1\n", {"memory/memory.limit_in_bytes": "444\n"}, 444),
    "two": ("4:cpu,memory:/\n0::/\n", {"memory/memory.limit_in_bytes": "9\n", "memory.max": "8\n"}, 8),
    "nothing to read": ("4:memory:/job\n0::/x\n", {}, memory.UNKNOWN),
    "nonsense": ("0::/\n", {"memory.max": "many -1 \n"}, memory.UNKNOWN),
}


@pytest.mark.parametrize("name", GROUPS)
def test_limits_of_control_groups(tmp_path, name):
    membership, files, expected = GROUPS[name]
    (tmp_path / "cgroup").write_text(membership)
    for file, text in files.items():
        path = tmp_path / "root" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory._of_group(str(tmp_path / "cgroup"), str(tmp_path / "root")) == expected
    assert memory._of_group(str(tmp_path / "absent"), str(tmp_path)) == memory.UNKNOWN


@pytest.mark.skipif(sys.platform == "win32", reason="limits as POSIX has them")
def test_a_limit_of_the_process_counts_and_three_billion_rows_are_refused_at_once():
    code = """
        import resource, time
        import numpy as np, scipy.sparse as sp
        import nmfcore
        from nmfcore.machine import memory

        before = memory.limit()
        resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
        assert memory.limit() == min(before, 6 * 2**30)
        X = sp.coo_array((np.ones(3), ([0, 10**9, 3 * 10**9 - 1], [0, 1, 2])), shape=(3 * 10**9, 3))
        for call in (
            lambda: nmfcore.factorize(X, 2),
            lambda: nmfcore.factorize(X.T, 2),
            lambda: nmfcore.factorize(X, 2, missing_values="unstored"),
            lambda: nmfcore.select_rank(X, [1, 2]),
            lambda: nmfcore.Ratings.from_sparse(X),
        ):
            began = time.perf_counter()
            try:
                call()
            except MemoryError as error:
                print(error)
            assert time.perf_counter() - began < 5
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 5
    for line in done.stdout.splitlines():
        assert re.search(r"needs [\d.]+ GiB of memory \([\d.]+ for .*\), and there are [\d.]+; ", line)


# ---- what is counted is taken -------------------------------------------------------------------------------------

FITS: dict[str, Callable[[], Any]] = {
    "sparse": lambda: (three(60_000, 8, "csr"), {}),
    "unstored": lambda: (three(60_000, 8, "csr"), {"missing_values": "unstored", "l2": 0.1}),
    "Kullback-Leibler": lambda: (three(60_000, 8, "csr"), {"loss": "kullback-leibler"}),
    "multiplicative": lambda: (three(60_000, 8, "csr"), {"solver": "mu"}),
    "dense": lambda: (np.random.default_rng(0).random((60_000, 8)), {"init": "random"}),
    "float32": lambda: (np.random.default_rng(0).random((60_000, 8), np.float32), {}),
    "offsets": lambda: (three(60_000, 8, "csr"), {"missing_values": "unstored", "offsets": True, "l2": 0.1}),
}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.filterwarnings("ignore")
def test_no_fit_that_fits_is_refused(name, monkeypatch):
    data, options = FITS[name]()
    counted: list[int] = []
    monkeypatch.setattr(memory, "check", lambda parts, what, remedy: counted.append(sum(parts.values())))
    given = data.nbytes if isinstance(data, np.ndarray) else 0
    nmfcore.factorize(data[:200], 8, random_state=0, max_iter=1, tol=0, **options)  # loads what is compiled
    counted.clear()
    tracemalloc.start()
    try:
        nmfcore.factorize(data, 8, random_state=0, max_iter=4, tol=0, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.4 * peak < max(counted) <= 1.02 * (peak + given)
