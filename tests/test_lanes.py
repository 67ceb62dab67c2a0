"""The blocks in vectors do what their plain twins do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError

from nmfcore.kernels import dense, factors
from nmfcore.kernels._jit import njit
from nmfcore.kernels.vectors import gathered as _lanes
from nmfcore.kernels.vectors import lines as _lines
from nmfcore.kernels.vectors import plain as _plain
from nmfcore.kernels.vectors import products as _panels
from nmfcore.kernels.vectors import sweeps as _tiles

DTYPES = [np.float32, np.float64]
LENGTHS = [0, 1, 3, 4, 5, 17, 300]
RTOL = {np.float32: 2e-5, np.float64: 1e-13}


@njit
def outer(*args: Any) -> None:
    _lanes.add_outer(*args)


@njit
def narrow(*args: Any) -> None:
    _lanes.add_outer_narrow(*args)


@njit
def errors(*args: Any) -> None:
    _lanes.errors(*args)


@njit
def less(*args: Any) -> None:
    _lanes.subtract_dots(*args)


@njit
def rows(*args: Any) -> None:
    _lanes.add_rows(*args)


@njit
def square(*args: Any) -> None:
    _lanes.transpose_square(*args)


@njit
def sweep(*args: Any) -> None:
    _lanes.sweep_lanes(*args)


def entries(n: int, dtype: Any, weighted: bool) -> tuple[Any, ...]:
    """``B``, indices, weights and errors of ``n`` entries from place 2 on; more is there before and after."""
    rng = np.random.default_rng(n)
    B = rng.random((40, 48)).astype(dtype)
    indices = rng.integers(0, 40, n + 4).astype(np.int32)
    weights = (rng.random(n + 4) + 0.5 if weighted else np.ones(1)).astype(dtype)
    return B, indices, weights, rng.standard_normal((2, n + 9)).astype(dtype)


@njit
def gathered(*args: Any) -> None:
    _panels.prefetch_entries(args[0], args[2])  # asks, and does nothing else, beyond the last entry too
    _panels.add_gathered(*args)


@pytest.mark.parametrize("r", [1, 3, 8, 10, 16, 20, 31, 33, 65, 130])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gathered_rows_are_added_up(dtype: Any, n: int, r: int) -> None:
    rng = np.random.default_rng(n)
    B, x = rng.random((40, r)).astype(dtype), rng.random(n + 2).astype(dtype)
    for kind in (np.int32, np.int64):
        indices = rng.integers(0, 40, n + 2).astype(kind)
        out, expected = np.ones((2, 3, r), dtype)
        gathered(x, indices, 2, n + 2, B, out, 1)
        _plain.add_gathered(x, indices, 2, n + 2, B, expected, 1)
        np.testing.assert_allclose(out, expected, RTOL[dtype])
        np.testing.assert_array_equal(expected[::2], 1)
        np.testing.assert_allclose(
            expected[1], 1 + sum(a * B[j] for a, j in zip(x[2:], indices[2:], strict=True)), 1e-5
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_gathered_rows(dtype: Any, n: int, weighted: bool) -> None:
    B, indices, weights, E = entries(n, dtype, weighted)
    for s, t in ((0, 0), (16, 16), (32, 16), (32, 0)):
        for compiled, lines in ((outer, range(18)), (narrow, (0, 1, 2, 3, 16, 17))):
            out, expected = np.ones((2, 2, 18, 16), dtype)
            compiled(B, indices, 2, n, s, t, weights, int(weighted), E, 3, out, 1)
            _plain.add_outer(B, indices, 2, n, s, t, weights, int(weighted), E, 3, expected, 1)
            np.testing.assert_allclose(out[1, lines], expected[1, lines], RTOL[dtype], 100 * RTOL[dtype])
            assert (out[0] == 1).all()
        out, expected = np.ones((2, 1, 2, 16), dtype)
        rows(B, indices, 2, n, t, weights, int(weighted), E, 3, out, 0)
        _plain.add_rows(B, indices, 2, n, t, weights, int(weighted), E, 3, expected, 0)
        np.testing.assert_allclose(out, expected, RTOL[dtype], 100 * RTOL[dtype])


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_errors_of_gathered_rows(dtype: Any, n: int) -> None:
    B, indices, values, E = entries(n, dtype, weighted=True)
    a = np.random.default_rng(1).random(48).astype(dtype)
    for t, width in ((0, 48), (16, 16), (16, 32)):
        for compiled, plain in ((errors, _plain.errors), (less, _plain.subtract_dots)):
            out, expected = E.copy(), E.copy()
            compiled(B, indices, 2, n, t, width, a, values, out, 3)
            plain(B, indices, 2, n, t, width, a, values, expected, 3)
            np.testing.assert_allclose(out, expected, RTOL[dtype], 100 * RTOL[dtype])
            changed = slice(3, 3 + n)
            np.testing.assert_array_equal(np.delete(out, changed, 1), np.delete(E, changed, 1))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_square_of_lanes(dtype: Any) -> None:
    P = np.random.default_rng(0).random((16, 18, 16)).astype(dtype)
    out, expected = np.zeros((2, 16, 16, 16), dtype)
    for s in (0, 3, 15):
        square(P, s, out)
        _plain.transpose_square(P, s, expected)
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("width", [1, 5, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_sweep_in_lanes(dtype: Any, width: int) -> None:
    """Dead coordinates, lanes without rows and steps to the bound among them; the decrease is what the model says."""
    rng = np.random.default_rng(width)
    T = rng.random((16, width, 40))
    T[3, 0] = 0
    grams = T @ T.transpose(0, 2, 1)
    grams[15] = 0  # no row
    a = rng.random((16, width)) * (rng.random((16, width)) < 0.7)
    g = rng.standard_normal((16, width)) * 20 * (grams.diagonal(0, 1, 2) > 0)
    if width > 1:
        a[3, 0], g[3, 0] = 1, 0.5  # flat, but for a penalty
    inverse = np.divide(1, grams.diagonal(0, 1, 2), out=np.zeros((16, width)), where=grams.diagonal(0, 1, 2) > 0)
    G = np.zeros((16, 16, 16), dtype)
    G[:width, :width] = grams.transpose(1, 2, 0)
    start = [np.zeros((16, 16), dtype) for _ in range(3)]
    for lanes, numbers in zip(start, (a, g, inverse), strict=True):
        lanes[:width] = numbers.T
    ends = []
    for run in (sweep, _plain.sweep_lanes):
        A, slopes, inverses = (lanes.copy() for lanes in start)
        fell = np.zeros(16, dtype)
        run(A, slopes, G, inverses, width, fell)
        ends.append((A, slopes, fell))
    for compiled, plain in zip(*ends, strict=True):
        np.testing.assert_allclose(compiled, plain, RTOL[dtype], 1000 * RTOL[dtype])
    step = ends[1][0][:width].T.astype(float) - a.astype(dtype)
    model = -(g * step).sum(1) - 0.5 * np.einsum("ks,kst,kt->k", step, grams, step)
    np.testing.assert_allclose(ends[0][2], model, 50 * RTOL[dtype], 1000 * RTOL[dtype])
    if width > 1:
        assert ends[0][0][0, 3] == 0


@njit
def rows_panel(*args: Any) -> None:
    _panels.rows_panel(*args)


@njit
def rows_panel_narrow(*args: Any) -> None:
    _panels.rows_panel_narrow(*args)


@njit
def columns_panel(*args: Any) -> None:
    _panels.columns_panel(*args)


@njit
def columns_panel_low(*args: Any) -> None:
    _panels.columns_panel_low(*args)


@pytest.fixture
def same_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain blocks as large as the compiled ones."""
    monkeypatch.setattr(_plain, "HEIGHT", _panels.HEIGHT)


@pytest.mark.usefixtures("same_size")
@pytest.mark.parametrize("add", [0, 1])
@pytest.mark.parametrize("columns", [1, 3, 8, 9, 16, 31, 40])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_panel_of_rows(monkeypatch: pytest.MonkeyPatch, dtype: Any, columns: int, add: int) -> None:
    """Nothing beyond the columns or rows there are is written."""
    rng = np.random.default_rng(columns)
    X, B = rng.random((13, 50)).astype(dtype), rng.random((50, columns)).astype(dtype)
    lanes = _panels.LINE // B.itemsize
    for compiled, width in ((rows_panel, 2 * lanes), (rows_panel_narrow, lanes)):
        monkeypatch.setattr(_plain, "PANEL", width * B.itemsize)
        for i, t in ((0, 0), (3, 0), (10, 0), (0, columns // 2)):
            if compiled is rows_panel and columns - t <= lanes:
                continue  # where the narrow one is called
            out = np.full((20, columns), 7, dtype)
            expected = out.copy()
            compiled(X, i, 12, B, t, 4, 47, out, i + 2, add)
            _plain.rows_panel(X, i, 12, B, t, 4, 47, expected, i + 2, add)
            np.testing.assert_allclose(out, expected, RTOL[dtype])


@pytest.mark.usefixtures("same_size")
@pytest.mark.parametrize("columns", [1, 3, 4, 5, 8, 9, 17])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_panel_of_columns(monkeypatch: pytest.MonkeyPatch, dtype: Any, columns: int) -> None:
    rng = np.random.default_rng(columns)
    X, A = rng.random((30, 37)).astype(dtype), rng.random((40, columns)).astype(dtype)
    width = 2 * _panels.LINE // X.itemsize
    monkeypatch.setattr(_plain, "PANEL", width * X.itemsize)
    for compiled, height in ((columns_panel, _panels.HEIGHT), (columns_panel_low, _panels.HEIGHT // 2)):
        monkeypatch.setattr(_plain, "HEIGHT", height)
        for j, t in ((0, 0), (30, 0), (36, columns // 2)):
            sums = np.ones((columns, 2 * width), dtype)
            expected = sums.copy()
            compiled(X, 3, j, 21, A, 5, t, sums, width)
            _plain.columns_panel(X, 3, j, 21, A, 5, t, expected, width)
            np.testing.assert_allclose(sums, expected, RTOL[dtype])


@pytest.mark.parametrize("r", [1, 2, 5, 8, 20, 33])
@pytest.mark.parametrize("shape", [(1, 1), (9, 7), (70, 40), (65, 1200), (3, 0), (0, 3), (129, 513)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_with_a_dense_matrix(dtype: Any, shape: tuple[int, int], r: int) -> None:
    rng = np.random.default_rng(r)
    (m, n), X = shape, rng.random(shape).astype(dtype)
    A, B = rng.random((m, r)).astype(dtype), rng.random((n, r)).astype(dtype)
    rows, columns = np.full((m, r), np.nan, dtype), np.full((n, r), np.nan, dtype)
    for lo, hi in ((0, m // 3), (m // 3, m)):
        dense.rows_times(X, B, lo, hi, rows[lo:hi])
    for lo, hi in ((0, n // 3), (n // 3, n)):
        dense.columns_times(X, A, lo, hi, columns[lo:hi])
    np.testing.assert_allclose(rows, X.astype(float) @ B, RTOL[dtype])
    np.testing.assert_allclose(columns, X.T.astype(float) @ A, RTOL[dtype])


@njit
def copy_lines(*args: Any) -> None:
    _lines.copy_lines(*args)


@njit
def dot_lines(*args: Any) -> None:
    _lines.dot_lines(*args)


@njit
def add_lines(*args: Any) -> None:
    _lines.add_lines(*args)


@njit
def outer_lines(*args: Any) -> None:
    _lines.outer_lines(*args)


@pytest.mark.parametrize("r", [1, 3, 4, 7, 8, 13, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_lines(dtype: Any, r: int) -> None:
    rng = np.random.default_rng(r)
    wide = r + -r % 8
    B, indices = rng.random((30, r)).astype(dtype), rng.integers(0, 30, 40).astype(np.int32)
    L, expected = np.zeros((2, 32, wide), dtype)
    copy_lines(B, indices, 3, 21, L)
    _plain.copy_lines(B, indices, 3, 21, expected)
    np.testing.assert_array_equal(L, expected)
    a, u = rng.random(wide).astype(dtype), rng.random(32).astype(dtype)
    for compiled, plain, factor, out in (
        (dot_lines, _plain.dot_lines, a, np.zeros(32, dtype)),
        (add_lines, _plain.add_lines, u, np.ones(wide)),
    ):
        one, other = out.copy(), out.copy()
        compiled(factor, L, 24, one)
        plain(factor, L, 24, other)
        np.testing.assert_allclose(one, other, RTOL[dtype])
    for n in (2, 24):
        G, G_expected = np.ones((2, wide, wide), dtype)
        outer_lines(u, L, n, r, G)
        _plain.outer_lines(u, L, n, r, G_expected)
        lower = np.tril_indices(r)
        np.testing.assert_allclose(G[lower], G_expected[lower], RTOL[dtype])


@njit
def add_four_steps(*args: Any) -> None:
    _tiles.add_four_steps(*args)


@njit
def add_step(*args: Any) -> None:
    _tiles.add_step(*args)


@njit
def move_four(*args: Any) -> Any:
    return _tiles.move_four(*args)


@njit
def move_one(*args: Any) -> Any:
    return _tiles.move_one(*args)


@njit
def into_tile(*args: Any) -> None:
    _tiles.into_tile(*args)


@njit
def out_of_tile(*args: Any) -> None:
    _tiles.out_of_tile(*args)


@pytest.mark.parametrize("r", [1, 4, 5, 11])
@pytest.mark.parametrize("dtype", DTYPES)
def test_steps_of_a_tile(dtype: Any, r: int) -> None:
    rng = np.random.default_rng(r)
    lanes = 3 * _tiles.LINE // np.dtype(dtype).itemsize
    steps, hessian = rng.random((4, lanes)).astype(dtype), rng.random((r, r)).astype(dtype)
    for compiled, plain, t in ((add_four_steps, _plain.add_four_steps, r - 4), (add_step, _plain.add_step, r - 1)):
        if t < 0:
            continue
        g, expected = np.ones((2, r, lanes), dtype)
        compiled(steps, hessian, t, g)
        plain(steps, hessian, t, expected)
        np.testing.assert_allclose(g, expected, RTOL[dtype])


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("r", [1, 4, 5, 11])
@pytest.mark.parametrize("dtype", DTYPES)
def test_moves_of_a_tile(dtype: Any, r: int, flat: bool) -> None:
    """Steps down to 0 and up, and along a coordinate without curvature where the penalty wants it gone, or not."""
    rng = np.random.default_rng(r)
    lanes = 3 * _tiles.LINE // np.dtype(dtype).itemsize
    hessian = np.cov(rng.random((r, 30))).reshape(r, r).astype(dtype)
    inverse = (1 / np.diag(hessian)).astype(dtype)
    if flat:
        hessian[-1], hessian[:, -1], inverse[-1] = 0, 0, 0
    a, g = rng.random((r, lanes)).astype(dtype), (rng.random((r, lanes)) - 0.5).astype(dtype) / 10
    for compiled, plain, t in ((move_four, _plain.move_four, r - 4), (move_one, _plain.move_one, r - 1)):
        if t < 0:
            continue
        (one, other), steps = (a.copy() for _ in range(2)), np.zeros((2, 4, lanes), dtype)
        fell = compiled(one, g, hessian, inverse, t, steps[0]), plain(other, g, hessian, inverse, t, steps[1])
        np.testing.assert_allclose(fell[0], fell[1], 10 * RTOL[dtype])
        np.testing.assert_allclose(one, other, RTOL[dtype], atol=10 * RTOL[dtype])
        np.testing.assert_allclose(steps[0], steps[1], RTOL[dtype], atol=10 * RTOL[dtype])
        assert (one == 0).any()
        assert (one[-1] > 0).any()
        assert fell[0] > 0


@pytest.mark.parametrize("r", [1, 2, 3, 4, 5, 8, 9, 16, 17, 37])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_into_a_tile_and_out_of_it(dtype: Any, r: int) -> None:
    """Beyond the last row a vector of numbers may be written over, and nothing else."""
    lanes = _tiles.LINE // np.dtype(dtype).itemsize
    A = np.random.default_rng(r).random((7 * lanes, r)).astype(dtype)
    tile = np.full((r, 4 * lanes), 7, dtype)
    into_tile(A, 3, 2 * lanes, tile)
    np.testing.assert_array_equal(tile[:, : 2 * lanes], A[3 : 3 + 2 * lanes].T)
    assert np.all(tile[:, 2 * lanes :] == 7)
    out = np.full_like(A, 7)
    out_of_tile(out, 3, 2 * lanes, tile)
    np.testing.assert_array_equal(out[3 : 3 + 2 * lanes], A[3 : 3 + 2 * lanes])
    assert np.all(out[:3] == 7)
    assert np.all(out.reshape(-1)[(3 + 2 * lanes) * r + lanes - 1 :] == 7)


def test_a_block_takes_arrays_of_one_dtype_only() -> None:
    if _lanes.add_rows is _plain.add_rows:
        pytest.skip("not compiled")
    X, B, out = np.ones((8, 4)), np.ones((4, 16)), np.ones((8, 16))
    with pytest.raises(TypingError, match="rows_panel: arrays of float32 and float64"):
        rows_panel(X, 0, 8, B.astype(np.float32), 0, 0, 4, out, 0, 0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (70, 8), (200, 20), (65, 50)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_change_of_a_quadratic(dtype: Any, shape: tuple[int, int]) -> None:
    m, r = shape
    rng = np.random.default_rng(m)
    A, Y, C = (rng.random(shape).astype(dtype) for _ in range(3))
    B = rng.random((30, r))
    G = (B.T @ B).astype(dtype)
    lo, hi = m // 3, max(m - 1, 1)

    def f(A: Any) -> Any:
        A = A.astype(float)
        return np.sum(A * (0.5 * A @ G - C + 0.3 + 0.35 * A), axis=1)

    expected = (f(Y) - f(A))[lo:hi].sum()
    for gram in (G, G.astype(np.float64)):
        assert factors.change(A, Y, C, gram, 0.3, 0.7, lo, hi) == pytest.approx(expected, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (15, 5), (16, 4), (70, 9), (321, 2)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_moments(dtype: Any, shape: tuple[int, int]) -> None:
    A = np.random.default_rng(0).random(shape).astype(dtype)
    exact = A.astype(float)
    np.testing.assert_allclose(factors.column_moments(A), [exact.sum(axis=0), (exact**2).sum(axis=0)], 1e-13)
