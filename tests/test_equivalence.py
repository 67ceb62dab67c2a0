"""The engine equals scikit-learn, its own NumPy oracles, and itself in every storage, layout, scale and team."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from sklearn.decomposition import non_negative_factorization
from sklearn.exceptions import ConvergenceWarning

import nmfcore
from nmfcore import reference
from nmfcore.solvers import HALS, MU

TEXTBOOK = {"hals": HALS(sweeps=1, extrapolate=False), "mu": MU(extrapolate=False)}
FAST = {"hals": HALS(sweeps=3, extrapolate=True), "mu": MU(extrapolate=True)}
MILESTONES = (1, 2, 10, 50)

both_solvers = pytest.mark.parametrize("name", ["hals", "mu"])
textbook_and_fast = pytest.mark.parametrize(
    "solver", [*TEXTBOOK.values(), *FAST.values()], ids=["hals", "mu", "hals-fast", "mu-fast"]
)
NONE = {"l1": (0.0, 0.0), "l2": (0.0, 0.0)}
SOME = {"l1": (0.3, 0.1), "l2": (0.2, 0.5)}
penalties = pytest.mark.parametrize("penalty", [NONE, SOME], ids=["plain", "penalised"])


def problem(m=14, n=11, r=3, seed=0, zeros=0.3, missing=0.3):
    """A noisy matrix with zeros in it, a mask, and a start: the fit is not exact, so 50 iterations do not stall."""
    rng = np.random.default_rng(seed)
    X = rng.random((m, r)) @ rng.random((r, n)) + 0.5 * rng.random((m, n))
    X[rng.random((m, n)) < zeros] = 0
    return X, rng.random((m, n)) >= missing, rng.random((m, r)) + 0.1, rng.random((r, n)) + 0.1


def fit(X, rank, solver, max_iter, **options):
    return nmfcore.factorize(X, rank, solver=solver, tol=0, max_iter=max_iter, **options)


def iterates(X, solver, W, H, max_iter=MILESTONES[-1], **options):
    """``{n_iter: (W, H)}`` of one fit."""
    kept = {}

    def keep(state):
        kept[state.n_iter] = state.W.copy(), state.H.copy()

    f = fit(X, W.shape[1], solver, max_iter, W=W, H=H, callback=keep, **options)
    assert f.n_iter == max_iter
    return kept


def assert_close(ours, theirs, rtol=1e-10):
    """Relative ``rtol`` entry by entry; an entry next to 0 is a difference of large ones, so rtol/100 of the largest
    entry of its factor is granted to each (an entry that one side rounds to exactly 0 has no relative error)."""
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0.01 * rtol * np.max(b))


def assert_same_bits(f, g):
    assert f.W.dtype == g.W.dtype
    assert np.array_equal(f.W, g.W)
    assert np.array_equal(f.H, g.H)
    assert np.array_equal(f.history.objective, g.history.objective)
    assert np.array_equal(f.history.kkt, g.history.kkt)


# ------------------------------------------------------------------------------------------ scikit-learn


@pytest.mark.parametrize(
    "alphas",
    [(0.0, 0.0, 0.0), (0.02, 0.03, 0.4), (0.01, 0.0, 1.0), (0.0, 0.05, 0.0)],
    ids=["plain", "both", "l1", "l2"],
)
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array], ids=["dense", "csr"])
@both_solvers
def test_equals_scikit_learn_iterate_by_iterate(name, storage, alphas):
    X, _, W, H = problem()
    (m, n), (alpha_W, alpha_H, l1_ratio) = X.shape, alphas
    ours = iterates(
        storage(X),
        TEXTBOOK[name],
        W,
        H,
        l1=(n * alpha_W * l1_ratio, m * alpha_H * l1_ratio),
        l2=(n * alpha_W * (1 - l1_ratio), m * alpha_H * (1 - l1_ratio)),
    )
    for n_iter in MILESTONES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            W_sk, H_sk, done = non_negative_factorization(
                storage(X),
                W=W.copy(),
                H=H.copy(),
                n_components=3,
                init="custom",
                solver={"hals": "cd", "mu": "mu"}[name],
                tol=0,
                max_iter=n_iter,
                shuffle=False,
                alpha_W=alpha_W,
                alpha_H=alpha_H,
                l1_ratio=l1_ratio,
            )
        assert done == n_iter
        assert_close(ours[n_iter], (W_sk, H_sk))


@both_solvers
def test_equals_scikit_learn_with_dead_parts(name):
    """A zero row, a zero column and a dead component meet the same guards as in scikit-learn."""
    X, _, W, H = problem()
    X[2], X[:, 3], H[1] = 0, 0, 0
    ours = iterates(X, TEXTBOOK[name], W, H, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        W_sk, H_sk, _ = non_negative_factorization(
            X, W.copy(), H.copy(), 3, init="custom", solver={"hals": "cd", "mu": "mu"}[name], tol=0, max_iter=5
        )
    assert_close(ours[5], (W_sk, H_sk))


# --------------------------------------------------------------------------------------- the NumPy oracles


@penalties
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array], ids=["dense", "csr"])
@both_solvers
def test_equals_the_reference_iterate_by_iterate(name, storage, penalty):
    X, _, W, H = problem(m=17, n=13, r=5)
    ours = iterates(storage(X), TEXTBOOK[name], W, H, **penalty)
    theirs = W, H
    for n_iter in range(1, 51):
        theirs = getattr(reference, name)(X, *theirs, 1, **penalty)
        assert_close(ours[n_iter], theirs)


@penalties
@both_solvers
def test_masked_equals_the_reference_iterate_by_iterate(name, penalty):
    X, mask, W, H = problem(m=17, n=13, r=5)
    X[~mask] = np.nan
    ours = iterates(X, TEXTBOOK[name], W, H, missing_values=np.nan, **penalty)
    theirs = W, H
    for n_iter in range(1, 51):
        theirs = getattr(reference, f"masked_{name}")(X, mask, *theirs, 1, **penalty)
        assert_close(ours[n_iter], theirs)


@pytest.mark.parametrize("rank", [1, 2, 4, 6, 7, 16])
@pytest.mark.parametrize("shape", [(1, 9), (9, 1), (5, 530), (530, 5), (7, 6)])
@both_solvers
def test_equals_the_reference_for_every_size_of_block(name, shape, rank):
    """Kernels work in blocks of rows, columns and components: the ragged ends of all of them.

    Penalised, because a single row or column is fitted exactly, and then rounding decides whether a component that
    is not needed ends at 0 or at 1e-17 (and its partner, unpenalised, anywhere)."""
    X, mask, W, H = problem(*shape, rank)
    mask[0, 0] = True
    theirs = getattr(reference, name)(X, W, H, 2, **SOME)
    assert_close(iterates(X, TEXTBOOK[name], W, H, 2, **SOME)[2], theirs)
    assert_close(iterates(sp.csr_array(X), TEXTBOOK[name], W, H, 2, **SOME)[2], theirs)
    masked = iterates(X, TEXTBOOK[name], W, H, 2, mask=mask, **SOME)[2]
    assert_close(masked, getattr(reference, f"masked_{name}")(X, mask, W, H, 2, **SOME))


@penalties
def test_more_sweeps_are_the_references_sweeps_with_the_other_factor_fixed(penalty):
    """``HALS(sweeps=3)``: three passes over W's coordinates, then three over H's."""
    X, _, W, H = problem()
    ours = iterates(X, HALS(sweeps=3, extrapolate=False), W, H, 4, **penalty)
    W, Ht = W.copy(), H.T.copy()
    for n_iter in range(1, 5):
        for A, B, Y, k in ((W, Ht, X, 0), (Ht, W, X.T, 1)):
            for _ in range(3):
                reference._sweep(A, Y @ B, B.T @ B, penalty["l1"][k], penalty["l2"][k])
        assert_close(ours[n_iter], (W, Ht.T))


# ---------------------------------------------------------------------------------------------- storages


@penalties
@textbook_and_fast
def test_every_storage_gives_the_same_factors(solver, penalty):
    X, _, W, H = problem(m=23, n=19, r=4)
    dense = iterates(X, solver, W, H, 30, **penalty)
    for kind in (sp.csr_array, sp.csc_array, sp.coo_array, sp.csr_matrix, sp.lil_array, sp.dok_array, sp.bsr_array):
        stored = iterates(kind(X), solver, W, H, 30, **penalty)
        for n_iter in (1, 10, 30):
            assert_close(stored[n_iter], dense[n_iter])


def test_compressed_storages_agree_to_the_bit():
    X, _, _, _ = problem()
    rows = fit(sp.csr_array(X), 3, "hals", 20, random_state=0)
    columns = sp.csc_array(X)
    shuffled = sp.coo_array(X)
    order = np.random.default_rng(0).permutation(shuffled.nnz)
    shuffled = sp.coo_array((shuffled.data[order], (shuffled.row[order], shuffled.col[order])), shape=X.shape)
    for stored in (columns, shuffled, sp.csr_matrix(X)):
        assert_same_bits(fit(stored, 3, "hals", 20, random_state=0), rows)


def test_sparse_duplicates_are_summed_as_in_scipy():
    X = sp.coo_array(([1.0, 2.0, 4.0, 3.0], ([0, 0, 1, 0], [0, 0, 1, 2])), shape=(2, 3))
    assert_same_bits(fit(X, 1, "hals", 5, random_state=0), fit(sp.csr_array(X.toarray()), 1, "hals", 5, random_state=0))


# ----------------------------------------------------------------------------------------------- layouts


def strided(X):
    wide = np.full((2 * X.shape[0], 3 * X.shape[1]), np.nan)
    wide[::2, ::3] = X
    return wide[::2, ::3]


def unaligned(X):
    buffer = np.zeros(X.nbytes + 1, np.uint8)
    array = buffer[1:].view(X.dtype).reshape(X.shape)
    array[:] = X
    assert not array.flags.aligned
    return array


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "strided": strided,
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "big-endian": lambda X: X.astype(">f8"),
    "little-endian": lambda X: X.astype("<f8"),
    "unaligned": unaligned,
    "read-only": read_only,
    "list of lists": lambda X: X.tolist(),
    "tuple of arrays": tuple,
    "DataFrame": pd.DataFrame,
    "object": lambda X: X.astype(object),
    "int64": lambda X: X.astype(np.int64),
    "uint8": lambda X: X.astype(np.uint8),
    "big-endian int16": lambda X: X.astype(">i2"),
    "float16": lambda X: X.astype(np.float16),
    "masked array without a mask": np.ma.asarray,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@both_solvers
def test_every_layout_gives_the_same_bits(name, layout):
    X = np.round(4 * problem()[0])  # whole numbers: every dtype holds the same matrix
    assert_same_bits(fit(LAYOUTS[layout](X), 3, name, 10, random_state=0), fit(X, 3, name, 10, random_state=0))


def test_bool_is_zeros_and_ones():
    X = problem()[0] > 0.7
    assert 0 < X.mean() < 1
    assert_same_bits(fit(X, 3, "hals", 10, random_state=0), fit(X.astype(float), 3, "hals", 10, random_state=0))


@pytest.mark.parametrize("layout", ["Fortran", "strided", "negative strides", "unaligned", "read-only", "big-endian"])
def test_every_layout_of_a_start_and_of_a_mask_gives_the_same_bits(layout):
    X, mask, W, H = problem()
    change = LAYOUTS[layout]
    laid = fit(X, 3, "hals", 10, W=change(W), H=change(H), mask=change(mask.astype(float)).astype(bool))
    assert_same_bits(laid, fit(X, 3, "hals", 10, W=W, H=H, mask=mask))


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_float32_stays_float32(byte_order):
    X = problem()[0].astype(np.float32)
    f = fit(X.astype(f"{byte_order}f4"), 3, "hals", 10, random_state=0)
    assert_same_bits(f, fit(np.asfortranarray(X), 3, "hals", 10, random_state=0))
    assert f.W.dtype == f.H.dtype == np.float32
    assert f.W.dtype.isnative


@pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])
@textbook_and_fast
def test_float32_arrives_where_float64_does(solver, storage):
    X, mask, W, H = problem(m=40, n=30, r=4)
    X = X.astype(np.float32)
    options = {"W": W, "H": H, **({"mask": mask} if storage == "masked" else {})}
    stored = sp.csr_array(X) if storage == "sparse" else X
    single = fit(stored, 4, solver, 60, **options)
    double = fit(stored.astype(np.float64), 4, solver, 60, **options)
    assert single.W.dtype == np.float32
    assert double.W.dtype == np.float64
    assert single.objective == pytest.approx(double.objective, rel=1e-4)
    assert_same_bits(fit(stored, 4, solver, 60, dtype=np.float64, **options), double)


# ------------------------------------------------------------------------------------------------- scale


def stored_as(storage, X, mask):
    """``X`` in a storage, and the options that go with it."""
    return (sp.csr_array(X), {}) if storage == "sparse" else (X, {"mask": mask} if storage == "masked" else {})


@pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])
@pytest.mark.parametrize("solver", ["hals", "mu", *TEXTBOOK.values()], ids=str)
@pytest.mark.parametrize(
    ("dtype", "exponents"),
    [
        (np.float64, (-499, -251, -52, -51, -50, -49, -1, 1, 48, 49, 50, 51, 300, 498)),
        (np.float32, (-50, -30, -10, -9, -8, -7, -1, 1, 6, 7, 8, 9, 30, 49)),
    ],
    ids=["float64", "float32"],
)
def test_a_power_of_four_scales_the_result_exactly(dtype, exponents, solver, storage):
    """From 1e-300 to 1e300 in float64 and from 1e-30 to 1e30 in float32; the exponents meet the bounds of 100 and 16
    from both sides, beyond which the data are scaled inside."""
    X, mask, _, _ = problem()
    X = X.astype(dtype)
    reach = {np.float64: 1e300, np.float32: 1e30}[dtype]
    assert np.ldexp(X, 2 * exponents[0]).max() < 2 / reach
    assert np.ldexp(X, 2 * exponents[-1]).max() > 0.5 * reach
    plain, options = stored_as(storage, X, mask)
    f = fit(plain, 3, solver, 15, random_state=1, **options)
    assert f.n_iter == 15
    for j in exponents:
        scaled, options = stored_as(storage, np.ldexp(X, 2 * j), mask)
        g = fit(scaled, 3, solver, 15, random_state=1, **options)
        assert g.W.dtype == dtype
        assert np.array_equal(g.W, np.ldexp(f.W, j)), j
        assert np.array_equal(g.H, np.ldexp(f.H, j)), j
        assert np.array_equal(g.history.kkt, f.history.kkt), j
        with np.errstate(over="ignore", under="ignore"):  # squares of such data leave float64: inf or 0
            assert np.array_equal(g.history.objective, np.ldexp(f.history.objective, 4 * j)), j


@pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])
@both_solvers
def test_penalties_and_starts_scale_too(name, storage):
    """Where X has the unit u², the factors have u, the objective u⁴, and so l1 has u³ and l2 has u²."""
    X, mask, W, H = problem()
    plain, options = stored_as(storage, X, mask)
    f = fit(plain, 3, name, 15, W=W, H=H, l1=(0.3, 0.1), l2=0.2, **options)
    for j in (-60, 3, 60, 150):
        scaled, options = stored_as(storage, np.ldexp(X, 2 * j), mask)
        l1 = tuple(np.ldexp((0.3, 0.1), 3 * j))
        g = fit(scaled, 3, name, 15, W=np.ldexp(W, j), H=np.ldexp(H, j), l1=l1, l2=np.ldexp(0.2, 2 * j), **options)
        assert np.array_equal(g.W, np.ldexp(f.W, j))
        assert np.array_equal(g.H, np.ldexp(f.H, j))
        assert np.array_equal(g.history.kkt, f.history.kkt)
        assert np.array_equal(g.history.objective, np.ldexp(f.history.objective, 4 * j))


# ----------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])
@both_solvers
def test_any_number_of_threads_gives_the_same_bits(name, storage, dtype):
    rng = np.random.default_rng(0)
    if storage == "dense":
        X, rank, options = rng.random((1500, 800), dtype), 20, {}
    elif storage == "sparse":
        X, rank, options = sp.random_array((1500, 800), density=0.5, rng=rng, dtype=dtype).tocsr(), 24, {}
    else:
        X = sp.random_array((1500, 800), density=0.1, rng=rng, dtype=dtype).tocsr()
        rank, options = 12, {"missing_values": "unstored"}
    helpers = []

    def look(state):
        helpers.append(sum(thread.name.startswith("nmfcore") for thread in threading.enumerate()))

    one, two, three = (fit(X, rank, name, 2, random_state=0, n_threads=k, callback=look, **options) for k in (1, 2, 3))
    assert helpers == [0, 0, 1, 1, 2, 2]  # the data are large enough to be cut: threads were at work
    assert_same_bits(two, one)
    assert_same_bits(three, one)


def test_small_data_start_no_threads():
    helpers = []

    def look(state):
        helpers.append(sum(thread.name.startswith("nmfcore") for thread in threading.enumerate()))

    fit(problem()[0], 3, "hals", 2, random_state=0, n_threads=3, callback=look)
    assert helpers == [0, 0]


def test_a_fit_repeats_itself_to_the_bit():
    X, mask, _, _ = problem()
    for options in ({}, {"mask": mask}):
        assert_same_bits(
            fit(X, 3, "hals", 20, random_state=7, **options), fit(X, 3, "hals", 20, random_state=7, **options)
        )


# ---------------------------------------------------------------------------------------------- manners


@pytest.mark.parametrize("solver", ["hals", "mu"])
@pytest.mark.parametrize("storage", ["dense", "sparse", "mask", "weights", "nan", "large", "csc", "float32"])
def test_what_is_passed_in_is_left_as_it_was(storage, solver):
    X, mask, W, H = problem()
    inputs = {"X": X, "W": W, "H": H}
    if storage == "mask":
        inputs["mask"] = mask
    if storage == "weights":
        inputs["weights"] = mask * 1.5
    if storage == "nan":
        X[~mask] = np.nan
        inputs["missing_values"] = np.nan
    if storage == "large":  # scaled inside
        X *= 1e200
        W *= 1e100
        H *= 1e100
    if storage == "float32":
        inputs |= {key: inputs[key].astype(np.float32) for key in "XWH"}
    if storage in ("sparse", "csc"):
        inputs["X"] = sp.csr_array(X) if storage == "sparse" else sp.csc_array(X)
    arrays = [a for a in inputs.values() if isinstance(a, np.ndarray)]
    if storage in ("sparse", "csc"):
        arrays += [inputs["X"].data, inputs["X"].indices, inputs["X"].indptr]
    copies = [a.copy() for a in arrays]
    for a in arrays:
        a.flags.writeable = False
    f = fit(inputs.pop("X"), 3, solver, 5, **inputs)
    assert f.n_iter == 5
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(arrays, copies, strict=True))
    for a in arrays:
        assert not np.shares_memory(f.W, a)
        assert not np.shares_memory(f.H, a)
    f.W[:] = 0  # the result is the caller's own


def test_without_iterations_the_start_comes_back_as_a_copy():
    X, _, W, H = problem()
    f = fit(X, 3, "hals", 0, W=W, H=H)
    assert np.array_equal(f.W, W)
    assert np.array_equal(f.H, H)
    assert not np.shares_memory(f.W, W)
    assert not np.shares_memory(f.H, H)


def test_what_a_callback_sees_is_read_only_and_stays_as_it_was():
    X, _, W, H = problem()
    seen = []
    fit(X, 3, "hals", 5, W=W, H=H, callback=lambda s: seen.append((s, s.W.copy(), s.H.copy())))
    assert [s.n_iter for s, _, _ in seen] == [1, 2, 3, 4, 5]
    for s, W_then, H_then in seen:
        assert np.array_equal(s.W, W_then)
        assert np.array_equal(s.H, H_then)
        with pytest.raises(ValueError, match="read-only"):
            s.W[0, 0] = 1
        with pytest.raises(ValueError, match="read-only"):
            s.H[0, 0] = 1


# --------------------------------------------------------------------------------------- the transposed problem


@pytest.mark.parametrize("masked", [False, True])
@penalties
def test_the_transposed_problem_has_the_same_measures(penalty, masked):
    """Objective and KKT residual at any point do not know which factor is called W."""
    X, mask, W, H = problem()
    one, other = ({"mask": mask}, {"mask": mask.T}) if masked else ({}, {})
    swapped = {key: pair[::-1] for key, pair in penalty.items()}
    f = fit(X, 3, "hals", 0, W=W, H=H, **one, **penalty)
    g = fit(X.T, 3, "hals", 0, W=H.T, H=W.T, **other, **swapped)
    assert g.objective == pytest.approx(f.objective, rel=1e-12)
    assert g.kkt == pytest.approx(f.kkt, rel=1e-12)


@penalties
@both_solvers
def test_the_transposed_problem_makes_the_transposed_steps(name, penalty):
    """One iteration on X from (W, H) ends with H moved; on Xᵀ from there, W moves next as it would have on X."""
    X, _, W, H = problem()
    swapped = {key: pair[::-1] for key, pair in penalty.items()}
    on_X = iterates(X, TEXTBOOK[name], W, H, 1, **penalty)[1]
    # Of the transposed problem, H.T is the first factor: its first half-step moves H for the given W.
    moved = iterates(X.T, TEXTBOOK[name], H.T, on_X[0].T, 1, **swapped)[1]
    assert_close((moved[0].T,), (on_X[1],))


@both_solvers
def test_the_transposed_problem_has_the_same_solution(name):
    """Of rank 1 and positive, the best fit is unique (Perron): both ways must find it."""
    X = problem(zeros=0)[0]
    f = nmfcore.factorize(X, 1, solver=name, tol=1e-12, max_iter=500, random_state=0)
    g = nmfcore.factorize(X.T, 1, solver=name, tol=1e-12, max_iter=500, random_state=1)
    U, S, Vt = np.linalg.svd(X)
    np.testing.assert_allclose(f.reconstruct(), S[0] * np.outer(U[:, 0], Vt[0]), rtol=1e-8)
    np.testing.assert_allclose(g.reconstruct().T, f.reconstruct(), rtol=1e-8)


def test_with_default_sweeps_dense_and_sparse_end_equally_low():
    """``sweeps="auto"`` follows the cost of the products, so iterates differ by storage; what is reached does not."""
    rng = np.random.default_rng(0)
    X = rng.random((60, 40)) * (rng.random((60, 40)) < 0.2)
    dense, csr = (nmfcore.factorize(A, 3, random_state=0, tol=1e-8, max_iter=5000) for A in (X, sp.csr_array(X)))
    assert dense.objective == pytest.approx(csr.objective, rel=1e-6)


def test_a_product_piece_by_piece_is_the_product():
    """Large enough a factor that the sparse product goes through it in pieces, with rows that skip some of them."""
    from nmfcore.kernels import sparse

    rng = np.random.default_rng(0)
    n, r = 60_000, 36
    assert n * r * 8 > sparse.MUCH
    X = sp.random_array((7, n), density=0.001, format="csr", rng=rng)
    X = sp.vstack([X, X[:2] * 0, sp.csr_array(([1.0, 2.0], [0, n - 1], [0, 2]), shape=(1, n))])
    X = X.tocsr()
    B = rng.random((n, r))
    out = np.full((X.shape[0] - 1, r), np.nan)
    sparse.rows_times(X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data, B, 1, X.shape[0], out)
    np.testing.assert_allclose(out, (X @ B)[1:], rtol=1e-13)


def test_a_row_of_a_product_piece_by_piece_does_not_depend_on_its_neighbours():
    """Beside rows with next to nothing, which are not gone through in pieces, or alone."""
    from nmfcore.kernels import sparse

    rng = np.random.default_rng(0)
    n, r = 150_000, 16
    B = rng.random((n, r))
    lengths = np.full(2001, 2)
    lengths[1000] = 300
    X = sp.csr_array(
        (
            rng.random(lengths.sum()),
            np.concatenate([np.sort(rng.choice(n, k, replace=False)) for k in lengths]),
            np.concatenate(([0], np.cumsum(lengths))),
        ),
        shape=(lengths.size, n),
    )
    parts = X.indptr.astype(np.int64), X.indices.astype(np.int32), X.data, B
    out, alone = np.empty((lengths.size, r)), np.empty((1, r))
    sparse.rows_times(*parts, 0, lengths.size, out)
    sparse.rows_times(*parts, 1000, 1001, alone)
    np.testing.assert_array_equal(alone[0], out[1000])
    np.testing.assert_allclose(out, X @ B, rtol=1e-13)
