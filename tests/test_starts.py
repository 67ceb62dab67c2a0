"""Where a fit starts: scikit-learn's random formula to the bit, and the singular vectors that NumPy alone computes."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.decomposition._nmf import _initialize_nmf

import nmfcore
from nmfcore import starts
from nmfcore._parallel import Team
from nmfcore.data.dense import Dense
from nmfcore.reading.missing import read

SVD = ["nndsvd", "nndsvda", "nndsvdar"]


def start(X, r, init="random", random_state=0, **options):
    """The start of a fit: what it holds after no iteration."""
    return tuple(nmfcore.factorize(X, r, init=init, random_state=random_state, tol=0, max_iter=0, **options))


def blocks(m=30, n=20, r=5, seed=0):
    """A non-negative matrix with well separated leading singular values, and zeros in its singular vectors' parts."""
    rng = np.random.default_rng(seed)
    U, V = rng.random((m, r)), rng.random((r, n))
    U[rng.random((m, r)) < 0.5], V[rng.random((r, n)) < 0.5] = 0, 0
    X = U @ (V * 3.0 ** -np.arange(r)[:, None])
    X[4], X[:, n // 3] = 0, 0
    S = np.linalg.svd(X, compute_uv=False)
    assert np.all(S[: r - 1] > 1.3 * S[1:r])
    return X


# ------------------------------------------------------------------------------------------------- random


@pytest.mark.parametrize("seed", [0, 1, 42, 2**32 - 1])
@pytest.mark.parametrize("rank", [1, 3, 25])
@pytest.mark.parametrize(
    "kind",
    [np.asarray, np.float32, sp.csr_array, sp.csr_matrix],
    ids=["float64", "float32", "csr_array", "csr_matrix"],
)
def test_random_is_scikit_learns_to_the_bit(kind, rank, seed):
    X = kind(np.round(blocks(), 2))
    theirs = _initialize_nmf(X, rank, init="random", random_state=seed)
    for ours, sk in zip(start(X, rank, random_state=seed), theirs, strict=True):
        assert ours.dtype == sk.dtype == X.dtype
        assert np.array_equal(ours, sk)


@pytest.mark.parametrize("kind", [sp.csc_array, sp.coo_array])
def test_random_of_other_sparse_formats_is_that_of_csr(kind):
    """SciPy adds up a CSC matrix column by column, so scikit-learn's start depends on the format, in the last bit."""
    X = np.round(blocks(), 2)
    assert same(start(kind(X), 3), start(sp.csr_array(X), 3))
    for ours, sk in zip(start(kind(X), 3), _initialize_nmf(kind(X), 3, init="random", random_state=0), strict=True):
        np.testing.assert_allclose(ours, sk, rtol=1e-15)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (257, 130)])
def test_random_is_scikit_learns_to_the_bit_for_any_shape(shape):
    X = np.random.default_rng(0).random(shape)
    for data in (X, X.astype(np.float32), sp.csr_array(np.where(X > 0.5, X, 0))):
        theirs = _initialize_nmf(data, 4, init="random", random_state=3)
        for ours, sk in zip(start(data, 4, random_state=3), theirs, strict=True):
            assert np.array_equal(ours, sk)


def test_random_of_a_few_numbers_by_hand():
    """H is drawn first."""
    rng = np.random.RandomState(42)
    X = np.array([[5.0, 3, 0, 1], [4, 0, 0, 1], [1, 1, 0, 5]])
    scale = np.sqrt(21 / 12 / 2)
    H = np.abs(scale * rng.standard_normal((2, 4)))
    W = np.abs(scale * rng.standard_normal((3, 2)))
    ours = start(X, 2, random_state=42)
    np.testing.assert_allclose(ours[0], W, rtol=1e-15)
    np.testing.assert_allclose(ours[1], H, rtol=1e-15)


def test_random_takes_the_mean_of_what_is_observed():
    """Of masked data the mean of the observed entries sets the scale, of weighted data the weighted mean."""
    X = blocks() + 1
    mask = np.random.default_rng(0).random(X.shape) < 0.5
    assert mask.any(axis=1).all()
    full, part = start(X, 3), start(X, 3, mask=mask)
    for a, b in zip(part, full, strict=True):
        np.testing.assert_allclose(a, b * np.sqrt(X[mask].mean() / X.mean()), rtol=1e-13)
    weighted = start(X, 3, weights=1 + mask)
    for a, b in zip(weighted, full, strict=True):
        np.testing.assert_allclose(a, b * np.sqrt(np.average(X, weights=1 + mask) / X.mean()), rtol=1e-13)


def test_random_leaves_rows_and_columns_without_entries_zero():
    X = blocks() + 1
    mask = np.ones(X.shape, bool)
    mask[3], mask[:, 5] = False, False
    W, H = start(X, 3, mask=mask)
    assert not W[3].any()
    assert not H[:, 5].any()
    assert np.delete(W, 3, axis=0).all()
    assert np.delete(H, 5, axis=1).all()


def test_random_of_zeros_is_zero():
    for X in (np.zeros((4, 3)), sp.csr_array((4, 3))):
        W, H = start(X, 2)
        assert not W.any()
        assert not H.any()


# ----------------------------------------------------------------------------------------- where randomness comes from


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("init", ["random", "nndsvdar"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: 7,
        lambda: np.int64(7),
        lambda: np.random.default_rng(7),
        lambda: np.random.RandomState(7),
        lambda: np.random.SeedSequence(7),
        lambda: np.random.PCG64(7),
    ],
    ids=["int", "int64", "Generator", "RandomState", "SeedSequence", "BitGenerator"],
)
def test_the_same_source_gives_the_same_start(init, make):
    X = blocks()
    assert same(start(X, 3, init, make()), start(X, 3, init, make()))


def test_a_seed_is_the_legacy_stream():
    X = blocks()
    assert same(start(X, 3, random_state=7), start(X, 3, random_state=np.random.RandomState(7)))
    assert not same(start(X, 3, random_state=7), start(X, 3, random_state=8))
    assert not same(start(X, 3, random_state=7), start(X, 3, random_state=np.random.default_rng(7)))


@pytest.mark.parametrize("make", [np.random.default_rng, np.random.RandomState])
def test_a_stream_goes_on(make):
    X, stream, twin = blocks(), make(7), make(7)
    first, second = start(X, 3, random_state=stream), start(X, 3, random_state=stream)
    assert not same(first, second)
    twin.standard_normal(2 * (3 * 20 + 30 * 3))
    assert stream.standard_normal() == twin.standard_normal()


def test_the_global_stream_is_left_alone():
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    start(blocks(), 3, random_state=None)
    start(blocks(), 3, random_state=5)
    start(blocks(), 3, "nndsvdar", random_state=5)
    assert np.random.random() == expected


def test_no_seed_means_another_start_each_time():
    X = blocks()
    assert not same(start(X, 3, random_state=None), start(X, 3, random_state=None))


@pytest.mark.parametrize("bad", [-1, 2**32, 1.5, "7", True, [1, 2]])
def test_sources_that_are_none(bad):
    with pytest.raises((TypeError, ValueError), match="random_state"):
        start(blocks(), 3, random_state=bad)


# ------------------------------------------------------------------------------------------------- nndsvd


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (40, 8)])
@pytest.mark.parametrize("kind", [np.asarray, sp.csr_array], ids=["dense", "csr"])
def test_nndsvd_is_scikit_learns(kind, shape):
    X = blocks(*shape)
    theirs = _initialize_nmf(kind(X), 5, init="nndsvd", random_state=0)
    for ours, sk in zip(start(kind(X), 5, "nndsvd"), theirs, strict=True):
        np.testing.assert_allclose(ours, sk, rtol=1e-8, atol=1e-9)
        assert np.array_equal(ours == 0, sk == 0)


def test_nndsvd_from_an_svd_written_out():
    X = blocks()
    U, S, Vt = np.linalg.svd(X)
    W, H = start(X, 4, "nndsvd")
    np.testing.assert_allclose(np.outer(W[:, 0], H[0]), S[0] * np.outer(U[:, 0], Vt[0]), rtol=1e-9, atol=1e-12)
    for j in range(1, 4):
        sides = [(np.maximum(s * U[:, j], 0), np.maximum(s * Vt[j], 0)) for s in (1, -1)]
        u, v = max(sides, key=lambda side: np.linalg.norm(side[0]) * np.linalg.norm(side[1]))
        # u and v each have the norm sqrt(σ |u| |v|), so their product is σ u vᵀ.
        np.testing.assert_allclose(np.outer(W[:, j], H[j]), S[j] * np.outer(u, v), rtol=1e-7, atol=1e-6)
        assert np.linalg.norm(W[:, j]) == pytest.approx(np.linalg.norm(H[j]))


def test_zeros_of_nndsvd_are_filled_and_nothing_else():
    X = blocks()
    W, H = start(X, 5, "nndsvd")
    typical = np.sqrt(X.mean() / 5)
    for init in ("nndsvda", "nndsvdar"):
        for zeros, filled in zip((W, H), start(X, 5, init), strict=True):
            gap = zeros == 0
            assert 0.1 < gap.mean() < 0.9
            assert np.array_equal(filled[~gap], zeros[~gap])
            assert filled.all()
            if init == "nndsvda":
                np.testing.assert_allclose(filled[gap], typical, rtol=1e-14)
            else:
                assert filled[gap].max() < 0.05 * typical
                assert np.unique(filled[gap]).size == gap.sum()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("storage", [np.asarray, sp.csr_array], ids=["dense", "csr"])
@pytest.mark.parametrize("init", ["random", *SVD])
def test_a_start_has_the_scale_of_the_data(init, storage, dtype):
    X = blocks().astype(dtype)
    W, H = start(storage(X), 4, init)
    assert W.dtype == H.dtype == dtype
    for j in (-20, -3, 1, 5, 20):
        scaled = start(storage(np.ldexp(X, 2 * j)), 4, init)
        assert np.array_equal(scaled[0], np.ldexp(W, j))
        assert np.array_equal(scaled[1], np.ldexp(H, j))
    rtol = 1e-8 if dtype == np.float64 else 1e-3
    for c in (10.0, 1e-5):
        scaled = start(storage(X * dtype(c)), 4, init)
        for a, b in zip(scaled, (W, H), strict=True):
            np.testing.assert_allclose(a, np.sqrt(c) * b, rtol=rtol, atol=1e-2 * rtol * np.sqrt(c) * b.max())


@pytest.mark.parametrize("init", SVD)
def test_a_start_at_the_ends_of_the_range(init):
    X = blocks()
    W, H = start(X, 4, init)
    for j in (-499, 498):
        scaled = start(np.ldexp(X, 2 * j), 4, init)
        assert np.array_equal(scaled[0], np.ldexp(W, j))
        assert np.array_equal(scaled[1], np.ldexp(H, j))


@pytest.mark.parametrize("init", SVD)
def test_sparse_starts_like_dense(init):
    X = blocks()
    dense = start(X, 5, init)
    for kind in (sp.csr_array, sp.csc_array, sp.coo_array):
        for a, b in zip(start(kind(X), 5, init), dense, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


def test_missing_entries_count_as_the_mean_of_the_others():
    X = blocks() + 0.5
    mask = np.random.default_rng(1).random(X.shape) < 0.8
    filled = np.where(mask, X, X[mask].mean())
    for a, b in zip(start(X, 3, "nndsvd", mask=mask), start(filled, 3, "nndsvd"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("init", SVD)
def test_nndsvd_of_special_matrices_is_finite(init):
    for X in (np.zeros((4, 3)), np.ones((4, 3)), np.eye(5), np.outer([1.0, 2, 3], [1.0, 0, 2]), np.array([[3.0]])):
        W, H = start(X, min(X.shape), init)
        assert np.isfinite(W).all()
        assert np.isfinite(H).all()
        assert min(W.min(), H.min()) >= 0
    np.testing.assert_allclose(np.outer(*start(np.array([[3.0]]), 1, init)), [[3.0]])


@pytest.mark.parametrize("init", SVD)
def test_nndsvd_starts_below_random(init):
    X = blocks()
    by_svd = nmfcore.factorize(X, 3, init=init, random_state=0, tol=0, max_iter=0).objective
    assert by_svd < nmfcore.factorize(X, 3, init="random", random_state=0, tol=0, max_iter=0).objective


@pytest.mark.parametrize("init", SVD)
@pytest.mark.parametrize("shape", [(3, 9), (9, 3)])
def test_nndsvd_has_no_more_components_than_there_are_singular_values(init, shape):
    X = np.random.default_rng(0).random(shape)
    with pytest.raises(ValueError, match=r"min\(m, n\) = 3, and rank=4.*init='random'"):
        start(X, 4, init)
    assert start(X, 3, init)[0].shape == (shape[0], 3)
    assert start(X, 4, "random")[0].shape == (shape[0], 4)
    W, H = np.ones((shape[0], 4)), np.ones((4, shape[1]))
    assert same(start(X, 4, init, W=W, H=H), (W, H))  # both given: the init is not needed
    with pytest.raises(ValueError, match="rank"):
        start(X, 4, init, W=W)


def test_inits_that_are_none():
    for bad in ("nndsvdx", "custom", "", None, 3):
        with pytest.raises(ValueError, match="init"):
            start(blocks(), 2, bad)


# ------------------------------------------------------------------------------------------- one factor given


@pytest.mark.parametrize("init", ["random", "nndsvd", "nndsvda"])
def test_if_one_factor_is_given_the_other_is_made(init):
    X = blocks()
    made = start(X, 3, init)
    W, H = np.full((30, 3), 0.5), np.full((3, 20), 0.25)
    assert same(start(X, 3, init, W=W), (W, made[1]))
    assert same(start(X, 3, init, H=H), (made[0], H))
    assert same(start(X, 3, init, W=W, H=H), (W, H))
    assert (W == 0.5).all()
    assert (H == 0.25).all()


def test_a_given_factor_is_cast_to_the_dtype_of_the_data():
    X = blocks().astype(np.float32)
    W, H = start(X, 3, W=np.full((30, 3), 0.1), H=np.ones((3, 20), int))
    assert W.dtype == H.dtype == np.float32
    assert (np.float32(0.1) == W).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"W": np.ones((3, 30))}, r"W has shape \(3, 30\) where \(30, 3\)"),
        ({"H": np.ones((20, 3))}, r"H has shape \(20, 3\) where \(3, 20\)"),
        ({"W": np.full((30, 3), -1.0)}, r"W\[0, 0\] = -1"),
        ({"H": np.full((3, 20), np.nan)}, r"H\[0, 0\]"),
        ({"H": np.full((3, 20), np.inf)}, r"H\[0, 0\]"),
        ({"W": np.ones(30)}, "2D"),
    ],
)
def test_factors_that_are_none(given, message):
    with pytest.raises(ValueError, match=message):
        start(blocks(), 3, **given)


def test_a_start_too_large_for_float32_is_refused():
    """1e300 is finite, as the rule asks, but not in float32: an error, rather than an infinity to start from."""
    X = blocks().astype(np.float32)
    with pytest.raises((ValueError, FloatingPointError), match=r"W|overflow"):
        start(X, 3, W=np.full((30, 3), 1e300))


# ------------------------------------------------------------------------------------------- truncated SVD


@pytest.mark.parametrize("shape", [(60, 45), (45, 60), (200, 30), (12, 9)])
@pytest.mark.parametrize("storage", ["dense", "sparse", "masked"])
def test_truncated_svd_is_numpys(shape, storage):
    """With singular values that fall by half: 10 spare dimensions and 4 powers leave errors of 2^-80 and rounding."""
    rng = np.random.default_rng(0)
    k = min(shape)
    X = np.abs((rng.standard_normal((shape[0], k)) * 0.5 ** np.arange(k)) @ rng.standard_normal((k, shape[1])))
    X[rng.random(shape) < 0.1] = 0
    expected, options = X, {}
    if storage == "masked":
        mask = rng.random(shape) < 0.9
        expected, options = np.where(mask, X, X[mask].mean()), {"mask": mask}
    data = read(sp.csr_array(X) if storage == "sparse" else X, **options).data
    with Team(1) as team:
        U, S, V = starts.truncated_svd(data, 3, np.random.default_rng(1), team)
    assert U.shape == (shape[0], 3)
    assert V.shape == (shape[1], 3)
    u, s, vt = np.linalg.svd(expected)
    assert np.all(s[:3] > 1.02 * s[1:4])
    np.testing.assert_allclose(S, s[:3], rtol=1e-6)
    np.testing.assert_allclose(U.T @ U, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(V.T @ V, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(U[:, 0] * u[:, 0])), 1, rtol=1e-12)
    np.testing.assert_allclose(np.abs(np.sum(V[:, 0] * vt[0])), 1, rtol=1e-12)
    largest = np.argmax(np.abs(U), axis=0)
    assert (U[largest, range(3)] > 0).all()


@pytest.mark.parametrize("shape", [(14, 8), (8, 14), (6, 6)])
def test_a_full_truncated_svd_is_the_svd(shape):
    X = np.random.default_rng(0).random(shape)
    k = min(shape)
    with Team(1) as team:
        U, S, V = starts.truncated_svd(Dense(X), k, np.random.default_rng(1), team)
    np.testing.assert_allclose((U * S) @ V.T, X, rtol=1e-11, atol=1e-12)
    u, s, vt = np.linalg.svd(X, full_matrices=False)
    np.testing.assert_allclose(S, s, rtol=1e-11)
    np.testing.assert_allclose(np.abs(np.sum(U * u, axis=0)), 1, rtol=1e-10)
    np.testing.assert_allclose(np.abs(np.sum(V * vt.T, axis=0)), 1, rtol=1e-10)


def test_truncated_svd_of_an_exact_rank():
    rng = np.random.default_rng(0)
    X = rng.random((50, 3)) @ rng.random((3, 40))
    with Team(1) as team:
        U, S, V = starts.truncated_svd(Dense(X), 5, rng, team)
    np.testing.assert_allclose((U * S) @ V.T, X, rtol=1e-12)
    assert S[3] < 1e-12 * S[0]


def test_starts_have_the_same_bits_for_any_number_of_threads():
    X = np.random.default_rng(0).random((1500, 700))
    one, two = (start(X, 20, "nndsvda", n_threads=k) for k in (1, 2))
    assert same(one, two)
    few = sp.csr_array(X * (X > 0.7))
    one, two = (start(few, 20, "auto", n_threads=k) for k in (1, 2))
    assert same(one, two)


# ------------------------------------------------------------------------------------------- rough start


def few(m=60, n=45, seed=0):
    """Few entries, of which a part has low rank."""
    rng = np.random.default_rng(seed)
    X = (rng.random((m, 6)) ** 4 @ (rng.random((6, n)) ** 4 * 3.0 ** -np.arange(6)[:, None])) * (
        rng.random((m, n)) < 0.09
    )
    X[5], X[:, 7] = 0, 0
    return X


@pytest.mark.parametrize("shape", [(60, 45), (45, 60), (40, 8), (8, 40)])
def test_rough_singular_vectors_tell_nearly_as_much(shape):
    X = few(*shape)
    with Team(1) as team:
        U, S, V = starts.rough_svd(read(sp.csr_array(X)).data, 4, np.random.default_rng(1), team)
    assert (U.shape, S.shape, V.shape) == ((shape[0], 4), (4,), (shape[1], 4))
    u, s, vt = np.linalg.svd(X)
    least = np.linalg.norm(X - (u[:, :4] * s[:4]) @ vt[:4])
    assert least <= np.linalg.norm(X - (U * S) @ V.T) * (1 + 1e-9)
    assert np.linalg.norm(X - (U * S) @ V.T) < 1.05 * least
    for Q in (U, V):
        np.testing.assert_allclose(Q.T @ Q, np.eye(4), atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"solver": "mu"}, {"loss": "kullback-leibler"}], ids=["HALS", "MU", "KL"])
def test_complete_data_begin_with_fast_singular_vectors(options):
    X = few()
    for kind in (sp.csr_array, np.asarray):
        W, H = start(kind(X), 4, "auto", **options)
        expected = starts.start(read(sp.csr_array(X)).data, 4, starts.FAST, np.random.RandomState(0), Team(1))
        np.testing.assert_allclose(W, expected[0], rtol=1e-6)
        np.testing.assert_allclose(H, expected[1].T, rtol=1e-6)
        assert W.min() > 0
        assert H.min() > 0
        best, random = (np.linalg.norm(X - a @ b) for a, b in (start(X, 4, "nndsvdar"), start(X, 4, "random")))
        assert np.linalg.norm(X - W @ H) < 0.5 * (best + random)
        assert start(kind(X), 4, "auto", dtype=np.float32, **options)[0].dtype == np.float32
        f = nmfcore.factorize(kind(X), 4, random_state=0, max_iter=0, tol=0, **options)
        assert f.settings["init"] == "fast-nndsvdar"


@pytest.mark.parametrize(
    "options", [{"missing_values": "unstored"}, {"rank": 46}], ids=["missing entries", "more components than columns"]
)
def test_others_begin_with_random_numbers(options):
    X, rank = sp.csr_array(few()), options.pop("rank", 4)
    assert same(start(X, rank, "auto", **options), start(X, rank, "random", **options))
    f = nmfcore.factorize(X, rank, random_state=0, max_iter=0, tol=0, **options)
    assert f.settings["init"] == "random"


def test_a_factor_that_is_not_given_is_random_too():
    X = sp.csr_array(few())
    W, H = start(X, 4, "random")
    assert same(start(X, 4, "auto", H=H), (W, H))
    assert nmfcore.factorize(X, 4, W=W, H=H, max_iter=0, tol=0).settings["init"] == "given"


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_a_rough_start_of_less_rank_or_of_nothing(rank):
    u, v = np.arange(20.0) % 5, np.arange(9.0) % 3
    for X in (np.outer(u, v), np.zeros((20, 9)), np.outer(u, v) * 1e-300, np.outer(u, v) * 1e300):
        f = nmfcore.factorize(sp.csr_array(X), rank, random_state=0, max_iter=200)
        assert np.isfinite(f.W).all()
        assert np.isfinite(f.H).all()
        assert np.linalg.norm((f.W @ f.H - X) / (X.max() or 1.0)) <= 0.1


def parts_in_equal_shares(rows: int) -> np.ndarray:
    """Rows that have one of four parts in each of four places, and one part that all share: rank 17."""
    rng = np.random.default_rng(0)
    X = np.zeros((rows, 17, 20))
    X[:, 16] = 1
    for place in range(4):
        X[np.arange(rows), 4 * place + rng.integers(0, 4, rows)] = 1
    return X.reshape(rows, -1)


def test_where_singular_values_are_equal_the_default_start_is_random() -> None:
    X = parts_in_equal_shares(2000)
    singular = np.linalg.svd(X, compute_uv=False)[:17]
    assert starts.about_equal(singular)
    f = nmfcore.factorize(X, 17, random_state=0)
    assert f.settings["init"] in ("random", "compressed")
    g = nmfcore.factorize(X, 17, init="fast-nndsvdar", random_state=0)
    assert g.settings["init"] == "fast-nndsvdar"
    assert f.objective < 1e-6 * (X**2).sum() < 1e-3 * g.objective


@pytest.mark.parametrize("S", [[5.0], [5.0, 1.0], [5.0, 1.0, 1.0], [5.0, 0.0, 0.0, 0.0, 0.0], [9, 8, 7, 6, 5, 4, 3.0]])
def test_few_or_falling_singular_values_are_not_equal(S: list[float]) -> None:
    assert not starts.about_equal(np.array(S))
