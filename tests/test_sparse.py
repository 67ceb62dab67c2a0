"""Large sparse matrices: what reading one and fitting it adds to its memory, and that pieces leave no trace."""

import gc
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore.data.slabs import MOST_WORK
from nmfcore.data.sparse import Sparse
from nmfcore.reading import compressed

M, N, LENGTH = 4000, 1000, 250


def counts(rows=M, columns=N, length=LENGTH):
    """As many entries in each row, and 32-bit indices."""
    rng = np.random.default_rng(0)
    first = (np.arange(length) * (columns // length))[None]
    indices = (first + rng.integers(0, columns // length, (rows, length))).astype(np.int32).ravel()
    indptr = np.arange(0, rows * length + 1, length, dtype=np.int32)
    return sp.csr_array((1.0 + rng.poisson(1.0, indices.size), indices, indptr), shape=(rows, columns))


def uneven(dtype=np.float64):
    """Empty rows at both ends and in between, rows of one entry and of many."""
    rng = np.random.default_rng(3)
    lengths = np.array([0, 0, 1, 300, 0, 7, 1, 1, 0, 120, 40, 0])
    indptr = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    indices = np.concatenate([np.sort(rng.choice(400, k, replace=False)) for k in lengths]).astype(np.int32)
    return sp.csr_array((rng.random(indices.size).astype(dtype), indices, indptr), shape=(lengths.size, 400))


def shuffled(X):
    """Compressed rows whose columns are in no order, some of them twice."""
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    again = rng.choice(X.nnz, 100)
    rows, columns = np.concatenate((rows, rows[again])), np.concatenate((X.indices, X.indices[again]))
    values = np.concatenate((X.data, rng.random(100)))
    order = np.lexsort((rng.random(rows.size), rows))
    indptr = np.searchsorted(rows[order], np.arange(X.shape[0] + 1))
    A = sp.csr_array((values[order], columns[order], indptr), shape=X.shape)
    A.has_sorted_indices = A.has_canonical_format = False
    return A


def added(X):
    """Bytes that a fit adds to X at most."""
    tracemalloc.start()
    try:
        nmfcore.factorize(X, 2, init="random", random_state=0, max_iter=2, tol=0.0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore::nmfcore.ConvergenceWarning")
@pytest.mark.parametrize(
    ("make", "copies"),
    [
        (lambda X: X, 12),  # the transpose: a float64 and an int32 for every entry
        (lambda X: _wide(X), 12 + 4),  # indices are made 32 bits
        (lambda X: X.astype(np.float32), 8),
        (lambda X: X.tocsc(), 2 * 12),  # compressed rows, and their transpose
        (lambda X: X.tocoo(), 2 * 12),
        (lambda X: _turned(X), 2 * 12),  # a sorted copy
    ],
    ids=["csr", "64-bit indices", "float32", "csc", "coo", "unsorted"],
)
def test_reading_and_fitting_add_no_more_than_copies_of_x(make, copies, monkeypatch):
    """Everything else that grows with the entries would show: a byte for each of them is a megabyte."""
    monkeypatch.setattr("nmfcore.data.sparse.ENTRIES_AT_ONCE", 2**14)
    monkeypatch.setattr(compressed, "SORTED_AT_ONCE", 2**14)
    X = make(counts())
    nmfcore.factorize(X, 2, init="random", random_state=0, max_iter=2, tol=0.0)  # compiles
    factors = 8 * (M + N) * 2 * X.dtype.itemsize
    assert copies * X.nnz < added(X) < (copies + 0.5) * X.nnz + factors + 300_000


@pytest.mark.filterwarnings("ignore::nmfcore.ConvergenceWarning")
@pytest.mark.parametrize(
    ("kind", "options"),
    [("sparse", {}), ("observed", {"missing_values": "unstored"}), ("punctured", {"missing_values": np.nan})],
)
def test_a_fit_leaves_nothing_behind_for_the_garbage_collector(kind, options):
    X = counts(1000)
    if kind == "punctured":
        X = X.toarray()
        X[3, 4] = np.nan
    nmfcore.factorize(X, 2, init="random", random_state=0, max_iter=1, tol=0.0, **options)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        f = nmfcore.factorize(X, 2, init="random", random_state=0, max_iter=1, tol=0.0, **options)
        left = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        gc.enable()
    assert f.n_iter == 1
    assert left < 250_000  # bytes; X has as many entries, of which a transpose would take twelve for each


def test_a_transpose_is_made_once_and_turned_back_into_the_same_arrays():
    X = uneven()
    there = Sparse(X.indptr.astype(np.int64), X.indices, X.data, X.shape)
    assert there.T.values is there.T.values
    assert there.T.T.values is there.values
    np.testing.assert_array_equal(there.T.indices, X.tocsc().indices)


def _wide(X):
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


def _turned(X):
    X.indices, X.data = (part.reshape(M, LENGTH)[:, ::-1].ravel() for part in (X.indices, X.data))
    X.has_sorted_indices = False
    return X


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("size", [1, 129, 1000, 4097, 123_457])
def test_the_mean_is_numpys_sum_to_the_bit_however_it_is_cut(size, dtype, monkeypatch):
    """As SciPy 1.17 has it: each entry is divided, then all are added up pairwise."""
    monkeypatch.setattr("nmfcore.data.sparse.ENTRIES_AT_ONCE", 128)
    values = np.random.default_rng(0).random(size).astype(dtype)
    X = Sparse(np.array([0, size]), np.arange(size, dtype=np.int32), values, (1, 3 * size))
    assert X.mean == np.sum(values * (1.0 / (3 * size)))
    assert X.mean.dtype == dtype


def test_the_mean_of_nothing_stored():
    X = sp.csr_array((3, 4))
    assert Sparse(X.indptr.astype(np.int64), X.indices, X.data, X.shape).mean == 0.0


@pytest.mark.parametrize("step", [1, 500, 2**20])
def test_rows_are_sorted_and_summed_alike_however_they_are_cut(step, monkeypatch):
    monkeypatch.setattr(compressed, "SORTED_AT_ONCE", step)
    A = shuffled(uneven())
    before = [part.copy() for part in (A.indptr, A.indices, A.data)]
    made = compressed.compressed(A, "X", None, duplicates="sum")
    tidy = A.copy()
    tidy.sum_duplicates()
    np.testing.assert_array_equal(made.indptr, tidy.indptr)
    np.testing.assert_array_equal(made.indices, tidy.indices)
    np.testing.assert_allclose(made.values, tidy.data, rtol=1e-14)
    for part, old in zip((A.indptr, A.indices, A.data), before, strict=True):
        np.testing.assert_array_equal(part, old)


@pytest.mark.parametrize("step", [1, 2**20])
def test_the_first_duplicate_is_named_and_all_are_counted_however_rows_are_cut(step, monkeypatch):
    monkeypatch.setattr(compressed, "SORTED_AT_ONCE", step)
    columns = [5, 3, 9, 3, 8, 7, 1, 7, 7]
    A = sp.csr_array((np.ones(9), columns, [0, 1, 5, 9]), shape=(3, 10))
    with pytest.raises(ValueError, match=r"X\[1, 3\] is stored 2 times \(3 such entries in all\)"):
        compressed.compressed(A, "X", None, duplicates="error")


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_coordinates_in_any_order_are_the_matrix(index):
    X = uneven()
    A = X.tocoo()
    order = np.random.default_rng(2).permutation(A.nnz)
    A = sp.coo_array((A.data[order], (A.row[order].astype(index), A.col[order].astype(index))), shape=X.shape)
    made = compressed.compressed(A, "X", None, duplicates="error")
    for part, expected in zip(made[:3], (X.indptr, X.indices, X.data), strict=True):
        np.testing.assert_array_equal(part, expected)
    assert made.indices.dtype == np.int32


def test_slabs_of_a_large_sparse_matrix_are_few_and_share_out_the_entries():
    """Each slab brings a large factor near once more: they grow with X until Ctrl-C would wait."""
    indptr = np.arange(0, 10**8 + 1, 10**4)
    X = Sparse(indptr, np.empty(0, np.int32), np.broadcast_to(1.0, 10**8), (10**4, 10**7))
    slabs = X.slabs(10)
    assert len(slabs) == 16
    assert {hi - lo for lo, hi in slabs} == {10**4 // 16}
    assert len(X.slabs(100)) == 2 * 10**10 / MOST_WORK
