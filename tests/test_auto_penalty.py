"""Missing entries that the data do not determine are said; ``l2="auto"`` predicts them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits, load_iris

import nmfcore
from nmfcore import ConvergenceWarning, PredictionWarning, factorize
from nmfcore.api.auto_penalty import _Problem, column_exponents
from nmfcore.api.undetermined import find
from nmfcore.data.dense import Dense
from nmfcore.holdout.entries import deal_by_size
from nmfcore.kernels import undetermined as kernels


def planted(seed: int, m: int = 60, n: int = 20, rank: int = 3, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """A matrix, and which half of it is observed."""
    rng = np.random.default_rng(seed)
    X = rng.gamma(1.0, size=(m, rank)) @ rng.gamma(1.0, size=(rank, n))
    X = np.maximum(X + noise * X.std() * rng.standard_normal((m, n)), 0.0)
    observed = rng.random((m, n)) < 0.5
    observed[np.arange(m), rng.integers(0, n, m)] = True
    return X, observed


def error(f: nmfcore.Factorization, X: np.ndarray, where: np.ndarray, scale: Any = 1.0) -> float:
    return float(np.sqrt((((f.W @ f.H - X) / scale)[where] ** 2).mean()))


# ---- the warning --------------------------------------------------------------------------------------------


def brute(W: np.ndarray, H: np.ndarray, X: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """The missing entries beyond the range, one by one."""
    positive = np.maximum((observed & (X > 0)).sum(axis=0), 1)
    typical = (np.where(observed, np.sqrt(np.where(observed, X, 0)), 0).sum(axis=0) / positive) ** 2
    typical[typical == 0] = typical[typical > 0].mean()
    known = np.where(observed, X, 0.0)
    bound = 10 * np.maximum(known.max(axis=0)[None], (known / typical).max(axis=1)[:, None] * typical)
    return np.argwhere(~observed & (bound < W @ H))


@pytest.mark.parametrize("missing_share", [0.2, 0.6])
def test_what_is_found_is_what_is_beyond_the_range(missing_share: float) -> None:
    rng = np.random.default_rng(1)
    X = rng.gamma(1.0, size=(50, 30)) * 10.0 ** rng.integers(-3, 3, 30)
    observed = rng.random(X.shape) >= missing_share
    read = nmfcore.reading.missing.read(X, mask=observed)
    W, H = rng.gamma(0.2, size=(50, 4)), rng.gamma(0.2, size=(4, 30)) * X.mean(axis=0)
    W[[7, 31]] *= 300
    expected = brute(W, H, X, observed)
    found = find(read.data, W, np.ascontiguousarray(H.T))
    assert found is not None
    assert len(expected) == found.number > 0
    assert found.complete
    assert found.n_missing == (~observed).sum()
    assert (found.row, found.column) == tuple(expected[0])
    assert found.prediction == pytest.approx((W @ H)[tuple(expected[0])])
    assert found.of_column == X[:, found.column][observed[:, found.column]].max()
    assert find(read.data, W / 1e6, np.ascontiguousarray(H.T)) is None
    assert find(Dense(X), 1e9 * W, np.ascontiguousarray(H.T)) is None


def test_the_work_is_bounded() -> None:
    rng = np.random.default_rng(2)
    X = scipy.sparse.random(2000, 3000, density=0.002, random_state=0, format="csr")
    data = nmfcore.reading.missing.read(X, "unstored").data
    indptr, indices = data.arrays[:2]
    W, G = 100 * rng.random((2000, 3)), rng.random((3000, 3))
    norms = np.linalg.norm(W, axis=1), np.linalg.norm(G, axis=1)
    found = np.zeros(5, np.int64)
    bounds = np.ones(2000), np.ones(3000)
    left = kernels.beyond(indptr, indices, False, np.arange(2000), W, G, *norms, *bounds, 1e5, found)
    assert -1e5 < left <= 0
    assert 0 < found[4] < 20
    finding = find(data, 1e4 * W, 1e4 * G)
    assert finding is not None
    assert not finding.complete
    with pytest.warns(PredictionWarning, match="at least"):
        warnings.warn(nmfcore.api.undetermined.message(finding, 1.0, ""), PredictionWarning, stacklevel=1)


def test_a_fit_warns_of_entries_that_nothing_determines() -> None:
    X, observed = load_digits().data[:400], np.random.default_rng(0).random((400, 64)) < 0.5
    with pytest.warns(PredictionWarning) as caught:
        f = factorize(np.where(observed, X, np.nan), 16, missing_values=np.nan, random_state=0, tol=0, max_iter=300)
    message = str(caught[0].message)
    assert caught[0].filename == __file__
    expected = brute(f.W, f.H, X, observed)
    i, j = expected[0]
    assert message.startswith(f"{len(expected):,} of {(~observed).sum():,} missing entries")
    assert f"the first, [{i}, {j}], as {(f.W @ f.H)[i, j]:.3g}" in message
    assert f"largest observed value of the column is {X[:, j][observed[:, j]].max():.3g}" in message
    assert "l2_scaling='count'" in message
    assert "l2='auto'" in message


def test_the_warning_has_the_unit_of_the_caller() -> None:
    X, observed = load_digits().data[:200] * 4.0**150, np.random.default_rng(0).random((200, 64)) < 0.4
    with pytest.warns(PredictionWarning, match=r"as \d\.\d+e\+9\d, where .* is [\d.]+e\+9[01]"):
        factorize(X, 16, mask=observed, random_state=0, max_iter=100, tol=0)


@pytest.mark.parametrize("l2", [0.1, 0.01])
def test_an_ordinary_fit_does_not_warn(l2: float) -> None:
    X, observed = planted(0)
    factorize(X, 3, mask=observed, l2=l2, l2_scaling="count", random_state=0)
    ratings = np.array([[5, 3, 0, 1], [4, 0, 0, 1], [1, 1, 0, 5], [1, 0, 0, 4], [0, 1, 5, 4]])
    factorize(ratings, 2, missing_values=0, l2=0.1, random_state=0)


def test_a_row_or_column_in_another_unit_does_not_warn() -> None:
    X, observed = planted(1, rank=1, noise=0.0)
    X[3] *= 1e4
    X[:, 5] *= 1e6
    f = factorize(X, 1, mask=observed, random_state=0)
    assert (f.W @ f.H)[~observed].max() > 10 * np.median(X[observed])


def test_a_start_does_not_warn() -> None:
    X, observed = planted(0)
    f = factorize(X, 3, mask=observed, W=np.full((60, 3), 1e3), H=np.full((3, 20), 1e3), max_iter=0, tol=0)
    assert f.n_iter == 0


# ---- the penalty --------------------------------------------------------------------------------------------


def best_of_grid(Y: np.ndarray, observed: np.ndarray, rank: int) -> float:
    unit = np.sqrt((Y[observed] ** 2).mean())
    errors = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for share in (1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1):
            asked: dict[str, Any] = {"l2": share * unit, "l2_scaling": "count", "max_iter": 200}
            errors.append(error(factorize(Y, rank, mask=observed, random_state=0, **asked), Y, ~observed))
    return min(errors)


@pytest.mark.parametrize(("noise", "rank"), [(0.03, 3), (0.3, 6)])
def test_auto_predicts_as_well_as_the_best_of_a_grid(noise: float, rank: int) -> None:
    X, observed = planted(3, noise=noise)
    k = column_exponents(X[observed], np.nonzero(observed)[1], X.shape[1])
    f = factorize(X, rank, mask=observed, l2="auto", random_state=0)
    assert error(f, X, ~observed, 4.0**k) <= 1.1 * best_of_grid(X / 4.0**k, observed, rank)


@pytest.mark.filterwarnings("ignore:l2='auto'. held-out entries are predicted")  # of iris, by two entries a row
@pytest.mark.parametrize(("load", "rank"), [(load_iris, 3), (load_digits, 10)])
def test_auto_predicts_real_data(load: Any, rank: int) -> None:
    X = load().data[:300]
    observed = np.random.default_rng(0).random(X.shape) < 0.5
    k = column_exponents(X[observed], np.nonzero(observed)[1], X.shape[1])
    f = factorize(X, rank, mask=observed, l2="auto", random_state=0)
    assert f.settings["column_scale"] == (tuple(k) if k.any() else None)
    assert error(f, X, ~observed, 4.0**k) <= 1.1 * best_of_grid(X / 4.0**k, observed, rank)


def test_it_is_said_where_the_means_predict_better() -> None:
    rng = np.random.default_rng(0)
    X, observed = 10.0 + rng.standard_normal((40, 5)), rng.random((40, 5)) < 0.4
    observed[~observed.any(axis=1), 0] = True
    with pytest.warns(PredictionWarning, match=r"times as wrong as by the mean .* rank=4: .* offsets=True") as caught:
        factorize(X, 4, mask=observed, l2="auto", random_state=0)
    assert caught[0].filename == __file__
    sparse = scipy.sparse.csr_array(np.where(observed, X, 0.0))
    with pytest.warns(PredictionWarning, match="times as wrong as by the mean"):
        factorize(sparse, 4, l2="auto", random_state=0, weights=np.where(observed, 2.0, 0.0))


def test_the_result_is_told_and_can_be_had_without_auto() -> None:
    X, observed = planted(4)
    X = X * 4.0 ** np.arange(20)
    f = factorize(X, 3, mask=observed, l2="auto", random_state=0)
    l2, k = f.settings["l2"], np.array(f.settings["column_scale"])
    assert f.settings["l2_auto"] is True
    assert f.settings["l2_scaling"] == "count"
    assert f.settings["missing_values"] is None
    assert f.settings["init"] == "random"
    assert l2[0] == l2[1] > 0
    Y, H = X / 4.0**k, f.H / 4.0**k
    asked: dict[str, Any] = {"mask": observed, "l2": l2, "l2_scaling": "count", "max_iter": 0, "tol": 0}
    plain = factorize(Y, 3, W=f.W, H=H, **asked)
    assert plain.objective == pytest.approx(f.objective, rel=1e-12)
    assert plain.kkt == pytest.approx(f.kkt, rel=1e-6)
    counts = observed.sum(axis=1), observed.sum(axis=0)
    loss = (((X - f.W @ f.H) / 4.0**k)[observed] ** 2).sum()
    penalty = l2[0] * ((f.W**2).sum(axis=1) @ counts[0] + (H**2).sum(axis=0) @ counts[1])
    assert f.objective == pytest.approx((loss + penalty) / 2, rel=1e-10)


def test_the_unit_of_x_or_of_a_column_changes_no_digit() -> None:
    X, observed = planted(5, 30, 10)
    X = X * np.exp(np.random.default_rng(0).standard_normal(10))
    f = factorize(X, 3, mask=observed, l2="auto", random_state=0)
    whole = factorize(X * 4.0**20, 3, mask=observed, l2="auto", random_state=0)
    assert np.array_equal(whole.W, 2.0**20 * f.W)
    assert np.array_equal(whole.H, 2.0**20 * f.H)
    assert whole.settings["l2"][0] == 4.0**20 * f.settings["l2"][0]
    powers = np.random.default_rng(1).integers(-9, 9, 10)
    mixed = factorize(X * 4.0**powers, 3, mask=observed, l2="auto", random_state=0)
    assert np.array_equal(mixed.W @ mixed.H, (f.W @ f.H) * 4.0**powers)


def test_sizes_that_differ_by_less_than_four_are_left_as_they_are() -> None:
    columns = np.tile(np.arange(4), 5)
    for unit in (1.0, 1.7, 3.0, 4.0, 5.0, 1e-200, 1e200):
        assert not column_exponents(unit * np.tile([1.0, 1.5, 2.0, 2.5], 5), columns, 4).any()
    assert column_exponents(np.tile([1.0, 0.0, 1024.0, 66.0], 5), columns, 4).tolist() == [-5, 0, 0, -2]
    assert column_exponents(np.zeros(20), columns, 4).tolist() == [0, 0, 0, 0]


def test_equivalent_inputs_have_the_same_result() -> None:
    X, observed = planted(6, 24, 8)
    X = X * 8.0 ** np.arange(8)
    asked: dict[str, Any] = {"l2": "auto", "random_state": 0}
    f = factorize(X, 2, mask=observed, **asked)
    there = scipy.sparse.csr_array(np.where(observed, X, 0.0))
    others = [
        factorize(np.where(observed, X, np.nan), 2, missing_values=np.nan, **asked),
        factorize(np.ma.masked_array(X, ~observed), 2, **asked),
        factorize(X, 2, weights=observed.astype(float), **asked),
    ]
    for other in others:
        assert np.array_equal(f.W, other.W)
        assert np.array_equal(f.H, other.H)
    stored = factorize(there, 2, missing_values="unstored", **asked)  # other entries are held out
    assert stored.settings["column_scale"] == f.settings["column_scale"]
    assert stored.settings["missing_values"] == "unstored"
    assert stored.settings["l2"][0] == pytest.approx(f.settings["l2"][0], rel=10)


def test_it_is_saved_and_transforms_new_rows(tmp_path: Any) -> None:
    X, observed = planted(7, 40, 10)
    X = X * 16.0 ** np.arange(10)
    f = factorize(np.where(observed, X, np.nan), 2, missing_values=np.nan, l2="auto", random_state=0, tol=1e-8)
    f.save(tmp_path / "model.npz")
    g = nmfcore.load(tmp_path / "model.npz")
    same = {key: value for key, value in g.settings.items() if key != "missing_values"}  # NaN is not itself
    assert same == {key: value for key, value in f.settings.items() if key != "missing_values"}
    W = g.transform(np.where(observed, X, np.nan))
    assert pytest.approx(f.W, rel=1e-3, abs=1e-5 * f.W.max()) == W
    sparse = scipy.sparse.csr_array(np.where(observed, X, 0.0))
    h = factorize(sparse, 2, missing_values="unstored", l2="auto", random_state=0, tol=1e-8)
    assert h.transform(sparse) == pytest.approx(h.W, rel=1e-3, abs=1e-5 * h.W.max())
    full = g.transform(f.W @ f.H)  # all entries there: one storage more
    assert full.shape == (40, 2)
    with pytest.raises(ValueError, match="3 features"):
        g.transform(np.ones((2, 3)))


def test_a_fit_goes_on_from_one() -> None:
    X, observed = planted(8, 40, 10)
    X = X * 16.0 ** np.arange(10)
    f = factorize(X, 2, mask=observed, l2="auto", random_state=0, tol=1e-6)
    g = factorize(X, 2, mask=observed, l2="auto", random_state=0, tol=1e-6, init=f)
    assert g.settings["init"] == "given"
    assert g.settings["column_scale"] == f.settings["column_scale"]
    if g.settings["l2"] == f.settings["l2"]:
        assert g.n_iter <= 3
        assert g.objective == pytest.approx(f.objective, rel=1e-6)
    h = factorize(X, 2, mask=observed, l2="auto", random_state=0, W=f.W, H=f.H, tol=1e-6)
    assert np.array_equal(g.W, h.W)


def test_complete_data_need_none() -> None:
    X, _ = planted(9)
    plain = factorize(X, 3, random_state=0)
    for options in ({}, {"mask": np.ones(X.shape, bool)}, {"weights": np.full(X.shape, 1.0)}):
        f = factorize(X, 3, l2="auto", random_state=0, **options)  # type: ignore[arg-type]
        assert f.settings["l2"] == (0.0, 0.0)
        assert f.settings["l2_auto"] is True
        assert f.settings["column_scale"] is None
        assert np.array_equal(f.W, plain.W)
    sparse = factorize(scipy.sparse.csr_array(X), 3, l2="auto", random_state=0)
    assert sparse.settings["l2"] == (0.0, 0.0)
    nothing = np.array([[0.0, np.nan], [0.0, 0.0]])
    assert factorize(nothing, 1, missing_values=np.nan, l2="auto", random_state=0).settings["l2"] == (0.0, 0.0)


@pytest.mark.filterwarnings("ignore:l2='auto'. held-out entries are predicted")  # by offsets in the wrong unit
def test_float32_weights_offsets_and_callback() -> None:
    X, observed = planted(10, 30, 10)
    weights = np.where(observed, 1.0 + np.arange(10), 0.0)
    f = factorize(X.astype(np.float32), 2, weights=weights, l2="auto", random_state=0)
    assert f.W.dtype == f.H.dtype == np.float32
    g = factorize(X * 64.0 ** np.arange(10), 2, mask=observed, offsets=True, l2="auto", random_state=0)
    assert g.settings["column_scale"] is None
    assert (g.H[2] == 1).all()
    states: list[Any] = []
    X = X * 16.0 ** np.arange(10)
    h = factorize(X, 2, mask=observed, l2="auto", random_state=0, callback=states.append, max_time=60)
    assert [s.n_iter for s in states][-1] == h.n_iter
    assert np.array_equal(states[-1].H, h.H)
    assert h.settings["max_time"] == 60
    assert 0 < h.history.seconds[0] <= h.seconds


def test_what_the_last_fit_warns_of_is_said_where_the_caller_is() -> None:
    X, observed = planted(11, 30, 10)
    with pytest.warns(ConvergenceWarning, match="KKT residual") as caught:
        factorize(X, 2, mask=observed, l2="auto", random_state=0, tol=1e-14, max_iter=3)
    assert [w.filename for w in caught] == [__file__]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"l2": "automatic"}, "l2='automatic' must be a number, a pair of numbers for .W, H., or 'auto'"),
        ({"loss": "kullback-leibler"}, "l2='auto' is for the Frobenius loss, not loss='kullback-leibler'"),
        ({"l2_scaling": "entries"}, "l2_scaling='entries' is not one of None, 'count'"),
        ({"mask": np.eye(4, dtype=bool)}, "each is the last of its row or column"),
        ({"mask": None}, r"Input contains NaN: X\[0, 1\]"),
    ],
)
def test_errors(options: dict[str, Any], message: str) -> None:
    X = np.full((4, 4), 2.0)
    X[0, 1] = np.nan
    asked: dict[str, Any] = {"mask": ~np.isnan(X), "l2": "auto", "random_state": 0} | options
    with pytest.raises(ValueError, match=message):
        factorize(X, 1, **asked)


def test_choosing_a_rank_takes_a_number() -> None:
    with pytest.raises(ValueError, match="l2='auto' is for one fit"):
        nmfcore.select_rank(np.ones((5, 5)), [1, 2], l2="auto")  # type: ignore[arg-type]


# ---- folds --------------------------------------------------------------------------------------------------


def test_every_fold_has_its_share_of_the_large_entries() -> None:
    values = np.random.default_rng(0).pareto(1.0, 1007)
    folds = deal_by_size(values, 10, 0.1, np.random.default_rng(1))
    assert folds.shape == (10, 100)
    assert np.unique(folds).size == 1000
    largest = np.argsort(values)[-50:]
    assert (np.isin(folds, largest).sum(axis=1) == 5).all()
    assert deal_by_size(values[:3], 3, 1 / 3, np.random.default_rng(1)).shape == (3, 1)


def test_few_large_entries_make_more_folds() -> None:
    rng = np.random.default_rng(0)
    n_folds = []
    for X in (1.0 + rng.random((200, 100)), rng.pareto(1.2, (200, 100))):
        problem = _Problem.scaled(X, rng.random(X.shape) < 0.9, None, one_unit=False)
        n_folds.append(len(problem.folds(rng).held_out))
    assert n_folds == [3, 10]


def test_a_fold_is_read_as_if_there_were_nothing_else() -> None:
    X, observed = planted(12, 40, 6)
    X[3, 2], observed[3, 2] = 1e4, True  # the only entry that makes column 2 a large one
    problem = _Problem.scaled(X, observed, None, one_unit=False)
    without = observed.copy()
    without[3, 2] = False
    part = _Problem.scaled(problem.Y, without, None, one_unit=False)
    assert part.sizes[2] * 4.0 ** problem.column_scale[2] == pytest.approx(
        np.sqrt((X[:, 2][without[:, 2]] ** 2).sum() / (X[:, 2][without[:, 2]] > 0).sum())
    )
    assert part.sizes[2] < 0.1 * problem.sizes[2]


def test_spectra_are_predicted_as_well_as_by_a_grid() -> None:
    """Few large entries, of which some are missing: folds that ignored that chose penalties that shrink too much."""
    rng = np.random.default_rng(0)
    at = np.arange(120)
    lines = [sum(np.exp(-(((at - f * h) / 1.2) ** 2)) / h for h in range(1, 6)) for f in (11, 17, 23)]
    X = rng.gamma(0.3, size=(80, 3)) @ np.array(lines) + 1e-4 * rng.random((80, 120))
    observed = rng.random(X.shape) < 0.6
    k = column_exponents(X[observed], np.nonzero(observed)[1], X.shape[1])
    f = factorize(X, 3, mask=observed, l2="auto", random_state=0)
    assert error(f, X, ~observed, 4.0**k) <= 1.1 * best_of_grid(X / 4.0**k, observed, 3)
