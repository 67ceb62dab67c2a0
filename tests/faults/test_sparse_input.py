"""Rows 69 to 83: sparse matrices of any make, and those that are damaged."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from catalogue import Case, alike, case, each, equal, holds, nmf, refused
from fits import X, ask, changed, fit, same, sound

import nmfcore
from nmfcore import Factorization, Ratings
from nmfcore.data.slabs import cut_by_entries
from nmfcore.reading import compressed

HALF = np.where(X > 0.5, X, 0.0)
FORMATS = ["csr", "csc", "coo", "bsr", "lil", "dok"]
STORED_ZERO = sp.csr_array(([1.0, 0.0, 2.0], [0, 1, 1], [0, 2, 3]), shape=(2, 2))
NO_ZERO = sp.csr_array(np.array([[1.0, 0.0], [0.0, 2.0]]))
RATED = np.random.RandomState(2).random_sample(X.shape) < 0.8
RATED[2, 1] = True
ONE_ZERO = changed(2, 1, 0.0)
POISSON = {"loss": "kullback-leibler"}
SUMMED = np.array([[0.0, 5.0], [2.0, 0.0], [0.0, 3.0]])
UNSTORED = {"missing_values": "unstored"}


def damaged(kind: str, **parts: Any) -> Any:
    """A 3×4 matrix (4×3 for csc) with entries at (0, 1), (1, 0), (1, 3), (2, 2), parts of it overwritten."""
    A = sp.csr_array(([1.0, 2.0, 3.0, 4.0], [1, 0, 3, 2], [0, 1, 3, 4]), shape=(3, 4))
    A = A.T if kind == "csc" else A
    assert A.format == kind
    for name, part in parts.items():
        setattr(A, name, np.array(part))
    return A


DAMAGES: list[tuple[int, dict[str, Any], str]] = [
    (70, {"indices": [1, 0, 99, 2]}, r"X.indices\[2\] = 99 is out of range for size 4.*damaged"),
    (70, {"indices": [1, 0, 2_000_000_000, 2]}, r"X.indices\[2\] = 2000000000 is out of range"),
    (70, {"indices": [1, 0, 2**32 + 1, 2]}, r"X.indices\[2\] = 4294967297 is out of range"),
    (71, {"indices": [1, -1, 3, 2]}, r"X.indices\[1\] = -1 is out of range for size 4.*damaged"),
    (72, {"indptr": [0, 3, 1, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
    (72, {"indptr": [0, 1, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
    (72, {"indptr": [0, 1, 3, 4, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
    (72, {"indptr": [1, 1, 3, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
    (72, {"indptr": [-1, 1, 3, 4]}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
    (72, {"indptr": []}, r"X.indptr is not 4 rising numbers from 0.*damaged"),
    (72, {"indices": [1.0, 0.0, 3.0, 2.0]}, r"X.indices .*float64.*damaged"),
    (72, {"indices": [1.0, np.nan, 3.0, 2.0]}, r"X.indices .*float64.*damaged"),
    (73, {"data": [1.0, 2.0]}, r"4 indices and 2 values where indptr counts 4.*damaged"),
    (73, {"indptr": [0, 1, 3, 10**9]}, r"4 indices and 4 values where indptr counts 1000000000.*damaged"),
    (73, {"data": [1.0, 2.0, 3.0, 4.0, 5.0]}, r"4 indices and 5 values where indptr counts 4.*damaged"),
    (73, {"indptr": [0, 1, 3, 3]}, r"4 indices and 4 values where indptr counts 3.*damaged"),
]


def and_then(parts: dict[str, Any]) -> Any:
    """Ask scikit-learn for the damaged matrix, and then for sound ones: memory that is overwritten shows late."""

    def ask_them() -> tuple[np.ndarray, np.ndarray]:
        A = sp.csr_array(np.random.RandomState(0).random_sample((60, 8)))
        index = np.array(parts["indices"])[np.array(parts["indices"]) != np.array([1, 0, 3, 2])][0]
        dtype = np.int32 if abs(index) < 2**31 else np.int64
        A.indices, A.indptr = A.indices.astype(dtype), A.indptr.astype(dtype)
        A.indices[0] = index
        first = nmf(A, 3)
        for seed in range(20):
            nmf(np.random.RandomState(seed).random_sample((60, 40)), 5)
        return first

    return ask_them


def of_damage(row: int, parts: dict[str, Any], message: str) -> Case:
    """A case of one damage; the table has those that end the interpreter, and the first of the other rows."""
    theirs = and_then(parts) if row in (70, 71) else {}
    fault = ", ".join(f"{name} = {value}" for name, value in parts.items())
    shown = row in (70, 71) or parts is next(first for number, first, _ in DAMAGES if number == row)
    note = "scikit-learn's outcome varies: it reads and writes memory that is not its own" if row in (70, 71) else ""
    check = refused(ValueError, message)
    return case(row, fault, lambda: damaged("csr", **parts), check, theirs=theirs, shown=shown, note=note)


def untidy(make: Any, sort: bool = True, wide: bool = False) -> Any:
    """Columns falling within each row; 64-bit indices."""
    A = make(HALF)
    for lo, hi in zip(A.indptr[:-1], A.indptr[1:], strict=True):
        if sort:
            A.indices[lo:hi] = A.indices[lo:hi][::-1].copy()
            A.data[lo:hi] = A.data[lo:hi][::-1].copy()
    A.has_sorted_indices = not sort
    if wide:
        A.indices, A.indptr = A.indices.astype(np.int64), A.indptr.astype(np.int64)
    return A


def repeated(make: Any) -> Any:
    """The entry (0, 1) stored twice."""
    if make is sp.csr_array:
        A = sp.csr_array(([1.0, 4.0, 2.0, 3.0], [1, 1, 0, 1], [0, 2, 3, 4]), shape=(3, 2))
    elif make is sp.csc_array:
        A = sp.csc_array(([2.0, 1.0, 4.0, 3.0], [1, 0, 0, 2], [0, 1, 4]), shape=(3, 2))
    else:
        A = sp.coo_array(([1.0, 2.0, 4.0, 3.0], ([0, 1, 0, 2], [1, 0, 1, 1])), shape=(3, 2))
    assert A.nnz == 4
    return A


def their_sum() -> str:
    equal_factors = np.array_equal(nmf(repeated(sp.coo_array))[1], nmf(sp.csr_array(SUMMED))[1])
    return "summed" if equal_factors else "not summed"


def _nothing(f: Factorization) -> None:
    assert not sound(f).reconstruct().any()


def stored_where(observed: np.ndarray) -> sp.csr_array:
    rows, columns = np.nonzero(observed)
    A = sp.csr_array(sp.coo_array((ONE_ZERO[rows, columns], (rows, columns)), X.shape))
    assert A.nnz == observed.sum() > np.count_nonzero(A.data)
    return A


def near(other: Any) -> Any:
    """The product of another fit, but for the order of its sums."""
    return holds(lambda f: np.testing.assert_allclose(sound(f).reconstruct(), other().reconstruct(), rtol=1e-9))


def beyond_32_bits() -> str:
    """More entries than 32 bits count, by what is known of them only."""
    indptr = np.array([0, 2**31, 2**31 + 7, 2**33])
    assert compressed.row_of(indptr, 2**31 - 1) == 0
    assert compressed.row_of(indptr, 2**31) == 1
    assert compressed.row_of(indptr, 2**32) == 2
    assert cut_by_entries(indptr, 4) == [(0, 1), (1, 3)]
    assert list(compressed._blocks(indptr, 2**31 + 7)) == [(0, 2), (2, 3)]
    narrow = sp.csr_array(HALF)
    assert narrow.indptr.dtype == np.int32
    assert compressed.compressed(narrow, "X", None, duplicates="sum").indptr.dtype == np.int64
    return "entries are counted in 64 bits, whatever X counts them in"


def vast() -> sp.csr_array:
    rng = np.random.RandomState(0)
    m, n, nnz = 300_000, 200_000, 1000
    places = rng.choice(m, nnz, replace=False), rng.choice(n, nnz, replace=False)
    return sp.csr_array((rng.random_sample(nnz) + 0.5, places), shape=(m, n))


def _vast(f: Factorization) -> None:
    assert f.W.shape == (300_000, 2)
    assert np.isfinite(f.objective)
    assert f.objective < f.history.objective[0]


CASES = [
    *(
        equal(
            69,
            f"scipy.sparse.{kind}_array",
            getattr(sp, f"{kind}_array")(HALF),
            sp.csr_array(HALF),
            shown=kind in ("csr", "csc", "coo"),
        )
        for kind in FORMATS
    ),
    *(
        equal(
            69,
            f"scipy.sparse.{kind}_matrix",
            getattr(sp, f"{kind}_matrix")(HALF),
            sp.csr_array(HALF),
            shown=kind == "csr",
        )
        for kind in FORMATS
    ),
    equal(
        69,
        "scipy.sparse.dia_array",
        sp.dia_array(np.diag([1.0, 2.0, 3.0])),
        sp.csr_array(np.diag([1.0, 2.0, 3.0])),
        shown=False,
    ),
    *(of_damage(*damage) for damage in DAMAGES),
    equal(74, "unsorted indices", lambda: untidy(sp.csr_array), sp.csr_array(HALF)),
    equal(75, "an entry stored twice, COO", repeated(sp.coo_array), sp.csr_array(SUMMED), theirs=their_sum),
    equal(75, "the same, CSR", repeated(sp.csr_array), sp.csr_array(SUMMED), shown=False),
    equal(75, "the same, CSC", repeated(sp.csc_array), sp.csr_array(SUMMED), shown=False),
    case(
        76,
        "the same, as ratings",
        repeated(sp.coo_array),
        refused(ValueError, r"X\[0, 1\] is stored 2 times .*Keep the last or the mean"),
        **UNSTORED,
    ),
    Case(
        76,
        "`Ratings.from_sparse` of it",
        lambda: Ratings.from_sparse(repeated(sp.coo_array)),
        refused(ValueError, r"user 0 and item 1, 2 times; pass duplicates='last' or 'mean', or remove them"),
    ),
    case(77, "a stored zero", STORED_ZERO, near(lambda: ask(NO_ZERO))),
    case(77, "a stored zero, Kullback-Leibler", STORED_ZERO, near(lambda: ask(NO_ZERO, **POISSON)), **POISSON),
    case(
        77,
        "a stored zero, as a rating",
        stored_where(RATED),
        alike(lambda: ask(np.ma.MaskedArray(ONE_ZERO, ~RATED))),
        **UNSTORED,
    ),
    equal(78, "64-bit indices", lambda: untidy(sp.csr_array, sort=False, wide=True), sp.csr_array(HALF)),
    case(79, "nothing stored", sp.csr_array((6, 5)), holds(_nothing)),
    case(79, "nothing stored, mu", sp.csr_array((6, 5)), holds(_nothing), solver="mu"),
    case(
        79,
        "nothing stored, as ratings",
        sp.csr_array((6, 5)),
        refused(ValueError, "No observed entries: every entry of X is missing"),
        **UNSTORED,
    ),
    Case(80, "more than 2^31 entries", beyond_32_bits, holds(lambda _: None)),
    *(
        case(81, f"{value:g} in CSR", sp.csr_array(changed(4, 1, value)), refused(ValueError, message))
        for value, message in [
            (np.nan, r"X\[4, 1\] is missing"),
            (np.inf, r"X\[4, 1\] = inf"),
            (-2.0, r"X\[4, 1\] = -2"),
        ]
    ),
    case(82, "300,000 x 200,000 with 1,000 entries", vast, holds(_vast, (nmfcore.ConvergenceWarning,)), max_iter=2),
    case(
        83,
        "one-dimensional sparse array",
        sp.coo_array(np.array([1.0, 0.0, 2.0])),
        refused(ValueError, "X is a 1-dimensional sparse array; a matrix is needed"),
    ),
]


@each(CASES)
def test_sparse_matrices(case):
    case.hold()


@pytest.mark.row(69)
@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, sp.coo_array, sp.bsr_array, sp.lil_array, sp.dok_array])
@pytest.mark.parametrize("matrix", [False, True])
def test_sparse_formats_with_multiplicative_updates(make, matrix):
    make = getattr(sp, make.__name__.replace("array", "matrix")) if matrix else make
    same(fit(make(HALF), solver="mu"), fit(sp.csr_array(HALF), solver="mu"))


@pytest.mark.row(70)
@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize(("parts", "message"), [(parts, message) for _, parts, message in DAMAGES])
def test_damaged_compressed_matrices_are_refused(kind, parts, message):
    with pytest.raises(ValueError, match=message):
        fit(damaged(kind, **parts))
    with pytest.raises(ValueError, match=message):
        fit(damaged(kind, **parts), missing_values="unstored")


class Coordinates:
    """A duck-typed COO matrix, which nobody has checked."""

    format = "coo"
    shape = (3, 4)

    def __init__(self, row: list[float], col: list[float], data: list[float]) -> None:
        self.row, self.col, self.data = np.array(row), np.array(col), np.array(data)

    def tocsr(self) -> object:
        raise AssertionError("not needed")


@pytest.mark.row(70)
@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (([0, 3], [0, 1], [1.0, 2.0]), r"X.row\[1\] = 3 is out of range for size 3.*damaged"),
        (([0, -1], [0, 1], [1.0, 2.0]), r"X.row\[1\] = -1 is out of range for size 3.*damaged"),
        (([0, 1], [4, 1], [1.0, 2.0]), r"X.col\[0\] = 4 is out of range for size 4.*damaged"),
        (([0, 1], [0, -5], [1.0, 2.0]), r"X.col\[1\] = -5 is out of range for size 4.*damaged"),
        (([0, 1], [0], [1.0, 2.0]), r"X.row, .col and .data differ in length.*damaged"),
        (([0, 1], [0, 1], [1.0]), r"X.row, .col and .data differ in length.*damaged"),
        (([0, 1.5], [0, 1], [1.0, 2.0]), r"X.row .*float64.*damaged"),
    ],
)
def test_damaged_coordinates_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        fit(Coordinates(*parts))
    with pytest.raises(ValueError, match=message):
        fit(Coordinates(*parts), missing_values="unstored")


@pytest.mark.row(69)
def test_coordinates_need_no_scipy():
    A = np.zeros((3, 4))
    A[[0, 1, 2], [1, 0, 3]] = [1.0, 2.0, 3.0]
    same(fit(Coordinates([2, 0, 1], [3, 1, 0], [3.0, 1.0, 2.0])), fit(sp.csr_array(A)))


@pytest.mark.row(74)
@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array])
def test_unsorted_and_64_bit_indices(make):
    A = untidy(make, wide=True)
    before = [part.copy() for part in (A.indptr, A.indices, A.data)]
    same(fit(A), fit(make(HALF)))
    for part, old in zip((A.indptr, A.indices, A.data), before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.row(75)
@pytest.mark.parametrize("make", [sp.csr_array, sp.csc_array, sp.coo_array])
def test_duplicates_are_summed_as_data_and_refused_as_observations(make):
    A = repeated(make)
    same(fit(A), fit(sp.csr_array(SUMMED)))
    assert A.nnz == 4
    with pytest.raises(ValueError, match=r"X\[0, 1\] is stored 2 times .*Keep the last or the mean"):
        fit(A, missing_values="unstored")


@pytest.mark.row(75)
def test_negative_parts_of_a_sum_are_summed_before_they_are_judged():
    A = sp.csr_array(([3.0, -1.0, 2.0], [0, 0, 1], [0, 2, 3]), shape=(2, 2))
    same(fit(A, 1), fit(sp.csr_array(np.array([[2.0, 0.0], [0.0, 2.0]])), 1))


@pytest.mark.row(77)
def test_explicit_zeros_are_data_like_any_other():
    np.testing.assert_allclose(fit(STORED_ZERO, 1).W, fit(NO_ZERO, 1).W, rtol=1e-12)


@pytest.mark.row(69)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint16, np.int64])
def test_sparse_integers(dtype):
    A = np.random.RandomState(1).randint(0, 2, (6, 5))
    same(fit(sp.csr_array(A.astype(dtype))), fit(sp.csr_array(A.astype(float))))


@pytest.mark.row(81)
def test_sparse_complex_and_objects():
    with pytest.raises(TypeError, match="X holds complex128; a matrix of real numbers"):
        fit(sp.csr_array(X.astype(complex)))
    A = sp.csr_array(X)
    A.data = A.data.astype(object)
    with pytest.raises(TypeError, match="X holds object; a matrix of real numbers"):
        fit(A)


@pytest.mark.row(76)
def test_unstored_needs_sparse_data():
    with pytest.raises(
        ValueError, match=r"missing_values='unstored' is for sparse X, .*ndarray.*use np.nan, 0, or mask"
    ):
        fit(X, missing_values="unstored")


@pytest.mark.row(82)
@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")
@pytest.mark.parametrize("missing_values", [None, "unstored"])
def test_huge_and_almost_empty(missing_values):
    """Memory and time follow the stored entries and the factors, never m·n."""
    m, n, r, nnz = 3_000_000, 2_000_000, 2, 1000
    rng = np.random.RandomState(0)
    row, col = rng.choice(m, nnz, replace=False), rng.choice(n, nnz, replace=False)
    A = sp.csr_array((rng.random_sample(nnz) + 0.5, (row, col)), shape=(m, n))
    tracemalloc.start()
    began = time.perf_counter()
    f = fit(A, r, max_iter=2, missing_values=missing_values)
    seconds, peak = time.perf_counter() - began, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(f.objective)
    assert f.objective < f.history.objective[0]
    assert peak < 16 * (m + n) * r * 8
    assert seconds < 20


@pytest.mark.row(82)
def test_huge_sparse_fitted_exactly():
    """An objective of 0 must not be confirmed by forming m·n entries."""
    for size in (100, 100_000):  # the first compiles
        A = sp.csr_array(([5.0], ([7], [9])), shape=(size, size))
        began = time.perf_counter()
        f = nmfcore.factorize(A, 1, random_state=0)
        seconds = time.perf_counter() - began
    assert seconds < 1.5
    assert f.converged
    assert f.predict(7, 9) == pytest.approx(5.0, rel=1e-3)
