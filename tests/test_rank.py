"""Rank selection: planted ranks are found, errors are what plain arithmetic makes of the fits, folds are shared."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse as sp

import nmfcore
from nmfcore import ConvergenceWarning, RankSelection, select_rank
from nmfcore.__main__ import _parser, main
from nmfcore.cli.select_rank import parse_ranks
from nmfcore.holdout import blocks, entries, measure
from nmfcore.model_selection import afresh, select
from nmfcore.model_selection import path as rank_path
from nmfcore.ratings import UserItemMeans
from nmfcore.recommender.selecting import select_rank_for

# Results are compared here; that a fit ends at its tolerance is tested elsewhere.
QUICK = {"max_iter": 30, "tol": 0}


def planted(seed, m=60, n=50, r=3, noise=0.2):
    """Three parts, and errors in proportion to the entries."""
    rng = np.random.default_rng(seed)
    P = rng.gamma(1.0, size=(m, r)) @ rng.gamma(1.0, size=(r, n))
    return np.maximum(P * (1 + noise * rng.standard_normal((m, n))), 0), P, rng


class Spy:
    """Keeps what ``select_rank`` asks of ``factorize`` for the folds, and what it gets."""

    def __init__(self, monkeypatch):
        self.calls, self.folds = [], None
        monkeypatch.setattr(rank_path, "factorize", self.factorize)
        monkeypatch.setattr(select, "hold_out", self.hold_out)
        self._factorize, self._hold_out = nmfcore.factorize, nmfcore.holdout.hold_out

    def factorize(self, X, rank, **options):
        f = self._factorize(X, rank, **options)
        self.calls.append((X, rank, options, f))
        return f

    def hold_out(self, X, **options):
        self.folds = self._hold_out(X, **options)
        return self.folds


@pytest.fixture
def spy(monkeypatch):
    return Spy(monkeypatch)


def selection(errors, rule="best", ranks=None):
    errors = np.array(errors, float)
    ranks = np.arange(1, len(errors) + 1) if ranks is None else np.array(ranks)
    return RankSelection(ranks, errors, errors / 2, rule, (), {"loss": "frobenius"})


# ---- planted ranks ------------------------------------------------------------------------------------------------


def check(s, r):
    """The planted rank is chosen, and one less is worse by far."""
    assert s.best == r
    k = int(np.flatnonzero(s.ranks == r)[0])
    assert np.all(s.errors[k - 1] > 1.05 * s.errors[k])
    assert s.mean[-1] > 1.02 * s.mean[k]


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_rank_of_dense_data(seed):
    X, _, _ = planted(seed)
    s = select_rank(X, range(1, 7), random_state=seed)
    check(s, 3)
    assert s.settings["holdout"] == "entries"
    assert np.all(np.diff(s.train_errors.mean(axis=1)) < 0)  # what is fitted is fitted better with every component


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_rank_of_sparse_counts(seed):
    _, P, rng = planted(seed, 120, 90, 3)
    X = sp.csr_array(rng.poisson(2 * P))
    s = select_rank(X, range(1, 7), loss="kullback-leibler", random_state=seed)
    assert s.settings["holdout"] == "blocks"
    assert s.best == 3
    assert np.all(s.errors[1] > 1.03 * s.errors[2])


@pytest.mark.parametrize("seed", range(3))
def test_the_planted_rank_of_incomplete_data(seed):
    X, _, rng = planted(seed, 80, 70)
    X[rng.random(X.shape) < 0.5] = np.nan
    check(select_rank(X, range(1, 6), missing_values=np.nan, random_state=seed), 3)


def test_the_planted_rank_under_itakura_saito():
    _, P, rng = planted(0, 60, 50, 2)
    X = (P + 0.01) * rng.gamma(4.0, 0.25, P.shape)
    s = select_rank(X, [1, 2, 3], loss="itakura-saito", n_folds=3, random_state=0, **QUICK)
    assert s.lowest in (2, 3)  # the 0.01 is a part too
    assert s.mean[0] > 1.2 * s.mean[1]


def test_offsets_leave_the_rank_to_what_is_beside_them():
    """Two parts and offsets: with these given, two components are chosen, and without them more."""
    rng = np.random.default_rng(0)
    X = rng.gamma(1.0, size=(80, 2)) @ rng.gamma(1.0, size=(2, 70))
    X += rng.gamma(1.0, size=(80, 1)) + rng.gamma(1.0, size=70)
    X = np.maximum(X + 0.3 * rng.standard_normal(X.shape), 0)
    X[rng.random(X.shape) < 0.3] = np.nan
    options = {"missing_values": np.nan, "l2": 1e-3, "l2_scaling": "count", "n_folds": 3, "random_state": 0}
    check(select_rank(X, range(1, 6), offsets=True, **options), 2)
    assert select_rank(X, range(1, 6), **options).best > 2


def test_ratings_are_held_out_where_there_are_some():
    ratings = nmfcore.datasets.planted_ratings(80, 60, 2400, rank=3)
    s = select_rank(ratings, [1, 2, 4], missing_values="unstored", l2=2.0, n_folds=3, random_state=0)
    assert 0.3 < s.mean.min() < 1.5  # zeros as ratings would make it 3 and more
    assert s.settings["holdout"] == "entries"


# ---- what fits resolve ----------------------------------------------------------------------------------------------


def gamma_product(seed, r=5):
    rng = np.random.default_rng(seed)
    return rng.gamma(1.0, size=(200, r)) @ rng.gamma(1.0, size=(r, 100)), rng


def test_the_rank_of_exact_data():
    X, _ = gamma_product(0)
    s = select_rank(X, range(3, 11), n_folds=3, random_state=0)
    assert s.best == s.lowest == 5
    assert s.exact.tolist() == [False, False, True]
    assert s.not_tried == (6, 7, 8, 9, 10)
    assert "exact" in s.reason


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_the_rank_of_poisson_counts(loss):
    P, rng = gamma_product(1)
    assert select_rank(rng.poisson(P), range(3, 8), loss=loss, n_folds=3, patience=1, random_state=1).best == 5


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler"])
def test_the_rank_of_rounded_signatures(data_dir, loss):
    """Three signatures, rounded; a fifth of the samples."""
    X = np.loadtxt(data_dir / "signatures" / "catalogue.txt", skiprows=1, usecols=range(1, 1001, 5))
    assert select_rank(X, range(2, 6), loss=loss, n_folds=3, patience=1, random_state=0).best == 3


def test_a_poor_minimum_on_the_path_is_left(monkeypatch):
    """The warm fits of rank 3 get stuck; those from scratch are lower, and count."""
    X, _, _ = planted(0)
    fit = nmfcore.factorize

    def stuck(X, rank, **options):
        return fit(X, rank, **(options | ({"max_iter": 1, "tol": 1.0} if rank == 3 else {})))

    monkeypatch.setattr(rank_path, "factorize", stuck)
    assert select_rank(X, [1, 2, 3, 4], random_state=0).best == 3
    monkeypatch.setattr(rank_path, "SMALL", 0)
    s = select_rank(X, [1, 2, 3, 4], random_state=0)
    assert s.lowest == 4


def test_errors_that_are_not_resolved_are_equal():
    s = selection([[4, 4], [1.01, 1.01], [1, 1]])
    assert s.best == 3
    assert dataclasses.replace(s, unresolved=np.full((3, 2), 0.005)).best == 3
    assert dataclasses.replace(s, unresolved=np.full((3, 2), 0.02)).best == 2


def test_nothing_is_better_than_exact():
    s = selection([[4, 4], [1e-15, 1e-15], [1e-16, 1e-16]])
    assert s.best == 3
    assert dataclasses.replace(s, exact=np.array([False, True, True])).best == 2


def test_a_fit_that_only_gets_worse_is_ended():
    looks = iter([3.0, 1.0, 2.0, 3.0])
    watch = afresh.Overfit(lambda W, H: next(looks), 2.5)
    state = [dataclasses.make_dataclass("S", ["n_iter", "W", "H"])(n, None, None) for n in (0, 1, 16, 17, 32, 64)]
    for each in state:
        watch(each)
    with pytest.raises(StopIteration):
        watch(dataclasses.replace(state[-1], n_iter=128))


@pytest.mark.parametrize("options", [{}, {"loss": "kullback-leibler"}, {"holdout": "blocks"}, {"l2": 0.1}])
def test_a_power_of_four_changes_nothing(options):
    X, _, _ = planted(3, 30, 25, 2)
    plain = select_rank(X, range(1, 4), n_folds=2, random_state=0, **options)
    for power in (-480, 3, 260):
        c = 4.0**power
        more = {name: value * c if name == "l2" else value for name, value in options.items()}
        s = select_rank(X * c, range(1, 4), n_folds=2, random_state=0, **more)
        assert (s.best, s.lowest, s.not_tried) == (plain.best, plain.lowest, plain.not_tried)
        ratio = s.moderate / plain.moderate
        assert np.all(ratio == ratio[0, 0])
        assert math.frexp(ratio[0, 0])[0] == 0.5
        degree = 1 if options.get("loss") else 2
        with np.errstate(over="ignore", under="ignore"):
            for name in ("errors", "train_errors", "mean", "standard_error"):
                expected = np.ldexp(getattr(plain, name), 2 * degree * power)
                np.testing.assert_array_equal(getattr(s, name), expected)


@pytest.mark.parametrize("scale", [1e-300, 1e-165, 1e160, 1e300])
def test_the_rank_at_any_scale(scale):
    X, _, _ = planted(3, 40, 30)
    assert select_rank(X * scale, range(2, 5), n_folds=3, random_state=0).best == 3


# ---- the folds ----------------------------------------------------------------------------------------------------


def test_ranks_share_the_masks_of_the_folds(spy):
    X, _, _ = planted(0, 20, 15)
    select_rank(X, [1, 2, 3], n_folds=4, test=0.2, patience=None, random_state=0, **QUICK)
    masks = np.array([options["mask"] for _, _, options, _ in spy.calls]).reshape(3, 4, 20, 15)
    assert [rank for _, rank, _, _ in spy.calls] == [1] * 4 + [2] * 4 + [3] * 4
    assert np.all(masks == masks[0])
    assert (~masks[0]).sum(axis=(1, 2)).tolist() == [60] * 4
    assert (~masks[0]).sum(axis=0).max() == 1  # no entry is held out twice


def test_folds_may_part_the_entries(spy):
    X, _, _ = planted(0, 20, 15)
    select_rank(X, [1], n_folds=3, test=1 / 3, random_state=0, **QUICK)
    masks = np.array([options["mask"] for _, _, options, _ in spy.calls])
    assert np.all((~masks).sum(axis=0) == 1)


def test_ranks_share_the_blocks_of_the_folds(spy):
    X = sp.csr_array(planted(0, 20, 15)[0])
    select_rank(X, [1, 2], n_folds=5, test=0.04, patience=None, random_state=0, **QUICK)
    left_out = np.array(spy.folds.rows), np.array(spy.folds.columns)
    assert [part.sum(axis=0).tolist() for part in left_out] == [[1] * 20, [1] * 15]
    for k, (part, _, _, _) in enumerate(spy.calls):
        kept = X.toarray()[np.ix_(~left_out[0][k % 5], ~left_out[1][k % 5])]
        np.testing.assert_array_equal(sp.csr_array((part.data, part.indices, part.indptr), part.shape).toarray(), kept)


def test_windows_of_half_the_lines_leave_each_out_as_often():
    times = np.sum(blocks.windows(40, 0.5, 5, np.random.default_rng(0)), axis=0)
    assert (times.sum(), set(times.tolist())) == (100, {2, 3})


def test_no_line_loses_its_last_entry(spy):
    rng = np.random.default_rng(0)
    X = np.full((30, 12), np.nan)
    for i in range(30):
        X[i, rng.choice(12, 1 + i % 2, replace=False)] = 1 + rng.random()
    observed = ~np.isnan(X)
    select_rank(X, [1], missing_values=np.nan, n_folds=2, test=0.5, random_state=0, **QUICK)
    for _, _, options, _ in spy.calls:
        mask = options["mask"]
        assert not np.any(mask & ~observed)
        for axis in (0, 1):
            np.testing.assert_array_equal(mask.any(axis=axis), observed.any(axis=axis))
        assert np.count_nonzero(observed & ~mask) > 5


def test_only_a_line_in_one_fold_is_spared():
    line, fold = np.array([0, 0, 1, 1, 2, 3]), np.array([0, 0, 0, 1, 1, 1])
    stays = entries.spare_the_last(line, fold, np.array([2, 2, 1, 2, 0]), 2)
    assert stays.tolist() == [False, True, True, True, False, True]


def ways():
    """One incomplete matrix, in the ways that there are to say so."""
    X, _, rng = planted(5, 25, 20)
    X[rng.random(X.shape) < 0.1] = 0.0
    known = (rng.random(X.shape) < 0.7) & (X > 0)
    garbage = np.where(known, X, -7.0)
    zeros = np.where(known, X, 0.0)
    return {
        "nan": (np.where(known, X, np.nan), {"missing_values": np.nan}),
        "zero": (zeros, {"missing_values": 0}),
        "mask": (garbage, {"mask": known}),
        "sparse mask of a dense matrix": (garbage, {"mask": sp.csr_array(known)}),
        "masked array": (np.ma.masked_array(garbage, ~known), {}),
        "weights": (garbage, {"weights": known.astype(float)}),
        "unstored": (sp.csr_array(zeros), {"missing_values": "unstored"}),
        "zeros of a sparse matrix": (sp.coo_array(zeros), {"missing_values": 0}),
        "sparse mask": (sp.csc_array(X), {"mask": sp.csr_array(known)}),
        "dense mask of a sparse matrix": (sp.csr_array(X), {"mask": known}),
        "unstored, and a mask": (sp.csr_array(X), {"missing_values": "unstored", "mask": known}),
        "sparse weights": (sp.csr_array(X), {"weights": sp.csr_array(known.astype(float))}),
        "nan of a sparse matrix": (sp.csr_array(np.where(known, X, np.nan)), {"missing_values": np.nan}),
    }


# Of each entry that is not held out, and beside offsets.
COUNTED = {"l2": (0.03, 0.02), "l2_scaling": "count", "offsets": True}


@pytest.mark.parametrize("more", [{}, COUNTED], ids=["plain", "counted"])
@pytest.mark.parametrize("way", ways())
def test_what_counts_is_what_counts_for_factorize(way, more):
    X, which = ways()["nan"]
    options = {"ranks": [1, 2], "n_folds": 2, "random_state": 0, **QUICK, **more}
    expected = select_rank(X, **options, **which)
    X, which = ways()[way]
    s = select_rank(X, **options, **which)
    np.testing.assert_allclose(s.errors, expected.errors, rtol=1e-8)
    np.testing.assert_allclose(s.train_errors, expected.train_errors, rtol=1e-8)


def test_held_out_entries_of_complete_data_include_zeros(spy):
    X = sp.csr_array(np.eye(12)[:, :10] + np.eye(12, 10, 1))
    dense = select_rank(X.toarray(), [1, 2], random_state=0, **QUICK)
    sparse = select_rank(X, [1, 2], holdout="entries", random_state=0, **QUICK)
    np.testing.assert_allclose(sparse.errors, dense.errors, rtol=1e-10)
    held_out = ~spy.calls[0][2]["mask"]
    assert np.any(X.toarray()[held_out] == 0)


# ---- the errors ---------------------------------------------------------------------------------------------------


def divergence(x, y, beta, floor):
    """The textbook's, one entry at a time; squared error for β = 2."""
    if beta <= 1 and x > 0:
        y = max(y, floor)
    if beta == 2:
        return (x - y) ** 2
    if beta == 1:
        return (x * math.log(x / y) if x > 0 else 0.0) - x + y
    if beta == 0:
        return x / y - math.log(x / y) - 1
    cross = x * y ** (beta - 1) if x > 0 else 0.0
    return (x**beta + (beta - 1) * y**beta - beta * cross) / (beta * (beta - 1))


@pytest.mark.parametrize("loss", ["frobenius", "kullback-leibler", "itakura-saito", -0.5, 0.5, 1.5, 3.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("sparse", [False, True])
def test_the_error_of_held_out_entries(spy, loss, weighted, sparse):
    X, _, rng = planted(1, 14, 11)
    X = X + 0.1
    beta = {"frobenius": 2, "kullback-leibler": 1, "itakura-saito": 0}.get(loss, loss)
    omega = rng.random(X.shape) + 0.5 if weighted else np.ones(X.shape)
    options = {"n_folds": 2, "loss": loss, "l1": 0.01, "l2": (0.02, 0.03), "random_state": 0, **QUICK}
    options |= {"weights": omega} if weighted else {}
    known = np.ones(X.shape, bool)
    if sparse:
        known = rng.random(X.shape) < 0.8
        s = select_rank(sp.csr_array(np.where(known, X, 0)), [2], missing_values="unstored", **options)
    else:
        s = select_rank(X, [2], **options)
    floor = min(1e-3 * X[known].mean(), X[known].min())
    for k, (part, _, asked, f) in enumerate(spy.calls):
        if sparse:
            fitted = sp.csr_array((np.ones(part.data.size), part.indices, part.indptr), part.shape).toarray() > 0
        else:
            fitted = asked["mask"]
        product = f.W @ f.H
        capped = np.minimum(product, X[known].max())
        for cells, Y, error in ((known & ~fitted, capped, s.errors[0, k]), (fitted, product, s.train_errors[0, k])):
            total = sum(omega[i, j] * divergence(X[i, j], Y[i, j], beta, floor) for i, j in np.argwhere(cells))
            assert error == pytest.approx(total / omega[cells].sum(), rel=1e-9)


def in_parts(f, offsets):
    """W H, as features and offsets where there are some."""
    if not offsets:
        return f.W @ f.H
    r = f.rank - 2
    np.testing.assert_array_equal(f.H[r], 1)
    np.testing.assert_array_equal(f.W[:, r + 1], 1)
    return f.W[:, :r] @ f.H[:r] + f.W[:, [r]] + f.H[[r + 1]]


@pytest.mark.parametrize("offsets", [False, True])
@pytest.mark.parametrize("scaling", [None, "count"])
@pytest.mark.parametrize("storage", ["dense", "float32", "nan", "weighted", "unstored", "unstored, weighted"])
def test_errors_beside_penalties_and_offsets(spy, storage, scaling, offsets):
    """Those of W H, on both sides of each fold, as the objective is made of them and of the penalties of the fold."""
    X, _, rng = planted(4, 16, 13)
    X += 1.0
    known = np.ones(X.shape, bool) if storage in ("dense", "float32") else rng.random(X.shape) < 0.8
    omega = rng.random(X.shape) + 0.5 if "weighted" in storage else np.ones(X.shape)
    which = {"weights": omega} if "weighted" in storage else {}
    if "unstored" in storage:
        which["missing_values"] = "unstored"
        given = sp.csr_array(np.where(known, X, 0))
    else:
        which["missing_values"] = np.nan
        given = np.where(known, X, np.nan)
    given, rel = (given.astype(np.float32), 1e-4) if storage == "float32" else (given, 1e-9)
    asked = {"l1": (0.01, 0.02), "l2": (0.04, 0.03), "l2_scaling": scaling, "offsets": offsets}
    s = select_rank(given, [1, 3], n_folds=2, patience=None, random_state=0, **asked, **which, **QUICK)
    assert {options["offsets"] for _, _, options, _ in spy.calls} == {offsets}
    for call, (part, _, options, f) in enumerate(spy.calls):
        k, fold = divmod(call, 2)
        if "unstored" in storage:
            fitted = sp.csr_array((np.ones(part.data.size), part.indices, part.indptr), part.shape).toarray() > 0
        else:
            fitted = options["mask"]
        squares = omega * (X - in_parts(f, offsets)) ** 2
        capped = omega * (X - np.minimum(in_parts(f, offsets), X[known].max())) ** 2
        held_out = known & ~fitted
        assert s.errors[k, fold] == pytest.approx(capped[held_out].sum() / omega[held_out].sum(), rel=rel)
        assert s.train_errors[k, fold] == pytest.approx(squares[fitted].sum() / omega[fitted].sum(), rel=rel)
        # That they are errors of fits to such an objective.
        W, H = (f.W[:, :-1], np.delete(f.H, -2, axis=0)) if offsets else f
        counted = omega * fitted if scaling else None
        of_rows, of_columns = (1.0, 1.0) if counted is None else (counted.sum(1)[:, None], counted.sum(0))
        penalty = 0.01 * W.sum() + 0.02 * H.sum() + 0.02 * (of_rows * W**2).sum() + 0.015 * (of_columns * H**2).sum()
        assert f.objective == pytest.approx(0.5 * squares[fitted].sum() + penalty, rel=rel)


@pytest.mark.parametrize("offsets", [False, True])
def test_the_folds_by_hand(spy, offsets):
    """The table is what fits to the training entries of each fold foretell, wherever they begin."""
    X, _, rng = planted(6, 40, 30, 2)
    X += rng.random((40, 1)) * 4 + rng.random(30) * 4
    known = rng.random(X.shape) < 0.7
    asked = {"l2": 0.3, "l2_scaling": "count", "offsets": offsets, "tol": 1e-7, "max_iter": 5000}
    options = {"n_folds": 3, "patience": None, "missing_values": np.nan, "random_state": 0}
    s = select_rank(np.where(known, X, np.nan), [1, 2, 3], **options, **asked)
    assert [rank for _, rank, _, _ in spy.calls] == [1] * 3 + [2] * 3 + [3] * 3
    for fold in range(3):
        fitted = spy.calls[fold][2]["mask"]
        assert np.all(fitted <= known)
        train, held_out = np.where(fitted, X, np.nan), known & ~fitted
        for k, rank in enumerate([1, 2]):
            f = nmfcore.factorize(train, rank, missing_values=np.nan, random_state=17, **asked)
            prediction = np.minimum(in_parts(f, offsets), X[known].max())
            rmse = np.sqrt(np.mean((X - prediction)[held_out] ** 2))
            assert np.sqrt(s.errors[k, fold]) == pytest.approx(rmse, rel=1e-4)
            fits = np.sqrt(np.mean((X - f.W @ f.H)[fitted] ** 2))
            assert np.sqrt(s.train_errors[k, fold]) == pytest.approx(fits, rel=1e-4)


def test_no_prediction_counts_as_more_than_the_largest_entry(spy, monkeypatch):
    """W H is 9 everywhere; X is 1, 2 or 4: what is held out is off by 3, 2 or 0, not 8, 7 or 5."""
    X = np.array([[1.0, 2.0, 4.0]] * 8)
    f = nmfcore.factorize(X, 1, random_state=0)
    object.__setattr__(f, "W", np.full((8, 1), 3.0))
    object.__setattr__(f, "H", np.full((1, 3), 3.0))
    monkeypatch.setattr(rank_path, "factorize", lambda *arguments, **options: f)
    s = select_rank(X, [1], n_folds=2, test=0.5, random_state=0)
    for k, places in enumerate(spy.folds.held_out):
        assert s.errors[0, k] == pytest.approx(np.mean((X.reshape(-1)[places] - 4) ** 2))


@pytest.mark.parametrize("sparse", [False, True])
def test_the_error_of_a_held_out_block(spy, sparse):
    X, _, _ = planted(2, 20, 16)
    X[X < 0.1] = 0
    s = select_rank(sp.csr_array(X) if sparse else X, [3], holdout="blocks", n_folds=3, random_state=0, **QUICK)
    for k, (_, _, _, f) in enumerate(spy.calls):
        I, J = spy.folds.rows[k], spy.folds.columns[k]
        assert (I.sum(), J.sum()) == (10, 8)
        W = np.array([scipy.optimize.nnls(f.H.T, x)[0] for x in X[np.ix_(I, ~J)]])
        H = np.array([scipy.optimize.nnls(f.W, x)[0] for x in X[np.ix_(~I, J)].T]).T
        assert s.errors[0, k] == pytest.approx(np.mean((X[np.ix_(I, J)] - W @ H) ** 2), rel=1e-8)
        assert s.train_errors[0, k] == pytest.approx(np.mean((X[np.ix_(~I, ~J)] - f.W @ f.H) ** 2), rel=1e-8)


def test_penalties_stay_with_their_factor_in_a_block(spy):
    X, _, _ = planted(3, 14, 12)
    s = select_rank(X, [2], holdout="blocks", n_folds=2, l2=(0.5, 0.1), random_state=0, **QUICK)
    (_, _, _, f), I, J = spy.calls[0], spy.folds.rows[0], spy.folds.columns[0]

    def ridge(A, b, l2):
        return scipy.optimize.nnls(np.vstack([A, math.sqrt(l2) * np.eye(2)]), np.append(b, [0, 0]))[0]

    W = np.array([ridge(f.H.T, x, 0.5) for x in X[np.ix_(I, ~J)]])
    H = np.array([ridge(f.W, x, 0.1) for x in X[np.ix_(~I, J)].T]).T
    assert s.errors[0, 0] == pytest.approx(np.mean((X[np.ix_(I, J)] - W @ H) ** 2), rel=1e-8)


@pytest.mark.parametrize("scaling", [None, "count"])
def test_offsets_of_a_block(spy, scaling):
    """Rows left out have their own, which the columns that were kept tell; columns likewise."""
    X, _, rng = planted(3, 14, 12)
    X += rng.random((14, 1)) * 5 + rng.random(12) * 3
    asked = {"l2": (0.05, 0.02), "l2_scaling": scaling, "offsets": True}
    s = select_rank(X, [2, 3], holdout="blocks", n_folds=2, patience=None, random_state=0, **asked, **QUICK)

    def described(x, features, offsets, l2):
        """The features and the offset of a line, given those of the lines that it crosses."""
        l2 *= x.size if scaling else 1
        A = np.hstack([features, np.ones((x.size, 1))])
        ridge = math.sqrt(l2) * np.eye(A.shape[1])
        return scipy.optimize.nnls(np.vstack([A, ridge]), np.append(x - offsets, np.zeros(A.shape[1])))[0]

    for call, (_, r, _, f) in enumerate(spy.calls):
        k, fold = divmod(call, 2)
        I, J = spy.folds.rows[fold], spy.folds.columns[fold]
        W, b, H, c = f.W[:, :r], f.W[:, r], f.H[:r].T, f.H[r + 1]
        of_rows = np.array([described(x, H, c, 0.05) for x in X[np.ix_(I, ~J)]])
        of_columns = np.array([described(x, W, b, 0.02) for x in X[np.ix_(~I, J)].T])
        foretold = of_rows[:, :r] @ of_columns[:, :r].T + of_rows[:, [r]] + of_columns[:, r]
        assert s.errors[k, fold] == pytest.approx(np.mean((X[np.ix_(I, J)] - foretold) ** 2), rel=1e-7)
        kept = X[np.ix_(~I, ~J)] - in_parts(f, offsets=True)
        assert s.train_errors[k, fold] == pytest.approx(np.mean(kept**2), rel=1e-8)


@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_a_block_too_large_for_its_zeros(monkeypatch, beta):
    rng = np.random.default_rng(0)
    X = rng.poisson(0.3, (9, 8)).astype(float)
    W, Ht = rng.random((9, 3)), rng.random((8, 3))
    W[0] = 0  # so x > 0 meets a prediction of 0
    floor = 1e-3
    expected = sum(divergence(X[i, j], (W @ Ht.T)[i, j], beta, floor) for i, j in np.ndindex(X.shape))
    assert X[0].sum() > 0
    S = sp.csr_array(X)
    S = nmfcore.holdout.sparse.CSR(S.indptr, S.indices, S.data, S.shape)
    for at_once in (measure.AT_ONCE, 20):
        monkeypatch.setattr(measure, "AT_ONCE", at_once)
        for block in (X, S):
            assert measure.block_error(block, W, Ht, measure.Measure(beta, floor)) == pytest.approx(expected, rel=1e-12)


def test_a_prediction_of_nothing_is_not_infinitely_wrong():
    X = np.zeros((12, 12))
    X[:6, :6] = X[6:, 6:] = 1.0
    X[0, 11] = 1.0  # foretold by nothing
    s = select_rank(X, [1, 2, 3], loss="kullback-leibler", test=0.2, patience=None, random_state=0)
    assert np.all(np.isfinite(s.errors))


# ---- the choice ---------------------------------------------------------------------------------------------------

# Means 9, 5, 4.2, 4, 4.5. Rank 4: deviations -1, 0, 1, so a standard deviation of 1 and a standard error of 0.577.
TABLE = [[8, 9, 10], [4.5, 5, 5.5], [3.2, 4.2, 5.2], [3, 4, 5], [4, 4.5, 5]]


def test_the_one_standard_error_rule():
    s = selection(TABLE, "one-standard-error")
    np.testing.assert_allclose(s.mean, [9, 5, 4.2, 4, 4.5])
    np.testing.assert_allclose(
        s.standard_error, [math.sqrt(1 / 3), 0.5 / math.sqrt(3)] + [math.sqrt(1 / 3)] * 2 + [0.5 / math.sqrt(3)]
    )
    assert (s.best, s.lowest) == (3, 4)  # 4.2 <= 4.577 < 5
    assert "within one standard error of the lowest held-out error (rank 4)" in s.reason


def test_the_best_rule():
    assert selection(TABLE, "best").best == 4


def test_the_paired_rule_sees_what_folds_share():
    assert selection(TABLE, "paired").best == 4  # rank 3 is worse by 0.2 in every fold
    s = selection([[3.2, 3.9, 5.3], [3, 4, 5]], "paired")  # excess 0.2, -0.1, 0.3: mean 0.133, standard error 0.120
    np.testing.assert_allclose(s.allowance, [math.sqrt((0.2**2 + 0.1**2 + 0.3**2 - 3 * (0.4 / 3) ** 2) / 6), 0])
    assert s.best == 2
    assert selection([[3.2, 3.8, 5.3], [3, 4, 5]], "paired").best == 1  # excess 0.2, -0.2, 0.3


def test_patience_ends_the_path(spy):
    X, _, _ = planted(0)
    options = {"ranks": [1, 2, 3, 4, 5, 6, 7, 8], "random_state": 0}
    s = select_rank(X, patience=2, **options)
    k = int(np.argmin(s.mean))
    assert s.ranks.tolist() == [1, 2, 3, 4, 5]
    assert (k, s.not_tried) == (2, (6, 7, 8))
    assert len(spy.calls) == 25
    complete = select_rank(X, patience=None, **options)
    np.testing.assert_array_equal(complete.errors[:5], s.errors)
    assert complete.not_tried == ()
    assert complete.best == s.best


def test_an_error_that_still_falls_is_mentioned():
    assert "still falling at the last rank" in selection([[3, 3], [1, 1]]).reason
    assert "falling" not in selection([[1, 1], [3, 3]]).reason


def test_a_choice_at_the_lower_end_of_the_ranks_is_mentioned():
    first = selection([[1, 1], [3, 3]])
    assert (first.best, first.reason) == (1, "the one with the lowest held-out error")  # there is no lower one
    later = selection([[1, 1], [3, 3]], ranks=[4, 8])
    assert later.reason.endswith("; it is the first that was tried, so lower ones may be as good")
    spared = dataclasses.replace(later, not_tried=(16,))
    assert spared.reason.endswith("lower ones may be as good; not tried: 16")


# ---- the path -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"solver": "mu"}, {"loss": "kullback-leibler"}, {"offsets": True}],
    ids=["hals", "mu", "kl", "offsets"],
)
def test_the_path_ends_no_higher_than_fits_from_scratch(options):
    """On the whole; a single fit may end in a better or a worse minimum than another."""
    ratios = []
    for seed in range(6):
        X, _, _ = planted(seed, 50, 40, 4)
        options |= {"n_folds": 2, "patience": None, "random_state": seed, "max_iter": 60, "tol": 0}
        warm, cold = (select_rank(X, [1, 2, 4, 5], warm_start=w, **options) for w in (True, False))
        np.testing.assert_array_equal(warm.errors[0], cold.errors[0])
        ratios += list(warm.train_errors[-1] / cold.train_errors[-1])
    assert np.exp(np.mean(np.log(ratios))) < 1.01


def test_a_fit_begins_where_the_one_before_ended(spy):
    X, _, _ = planted(0, 20, 15)
    select_rank(X, [2, 5], n_folds=2, random_state=0, **QUICK)
    for (_, _, first, f), (_, _, second, _) in zip(spy.calls[:2], spy.calls[2:], strict=True):
        assert "W" not in first
        np.testing.assert_array_equal(second["W"][:, :2], f.W)
        np.testing.assert_array_equal(second["H"][:2], f.H)
        assert second["W"][:, 2:].min() > 0
        assert second["W"][:, 2:].std() > 0


def test_offsets_go_on_where_they_ended(spy):
    X, _, _ = planted(0, 20, 15)
    select_rank(X + 1, [2, 5], n_folds=2, offsets=True, random_state=0, **QUICK)
    for (_, _, first, f), (_, _, second, g) in zip(spy.calls[:2], spy.calls[2:], strict=True):
        assert "W" not in first
        W, H = second["W"], second["H"]
        assert (W.shape, H.shape) == ((20, 7), (7, 15))
        np.testing.assert_array_equal(W[:, [0, 1, 5, 6]], f.W)
        np.testing.assert_array_equal(H[[0, 1, 5, 6]], f.H)
        assert W[:, 2:5].std() > 0
        assert g.rank == 7


def test_same_bits_for_any_number_of_threads_and_same_seed():
    _, P, rng = planted(0, 150, 120)
    for X, options in (
        (P, {"test": 0.2}),
        (sp.csr_array(rng.poisson(P)), {"loss": "kullback-leibler"}),
        (sp.csr_array(rng.poisson(P)), {"missing_values": "unstored", "l2": 1.0}),
        (sp.csr_array(rng.poisson(P)), {"missing_values": "unstored", **COUNTED}),
    ):
        runs = [select_rank(X, [1, 3], n_threads=t, random_state=7, n_folds=2, **QUICK, **options) for t in (1, 2, 3)]
        for run in runs[1:]:
            np.testing.assert_array_equal(run.errors, runs[0].errors)
            np.testing.assert_array_equal(run.train_errors, runs[0].train_errors)


def test_sources_of_randomness():
    X, _, _ = planted(0, 20, 15)
    make = (
        lambda: 3,
        lambda: np.random.RandomState(3),
        lambda: np.random.default_rng(3),
        lambda: np.random.SeedSequence(3),
    )
    for each in make:
        a, b = (select_rank(X, [1], random_state=each(), **QUICK).errors for _ in range(2))
        np.testing.assert_array_equal(a, b)
    a, b = (select_rank(X, [1], random_state=seed, **QUICK).errors for seed in (3, 4))
    assert not np.array_equal(a, b)
    a, b = (select_rank(X, [1], **QUICK).errors for _ in range(2))
    assert not np.array_equal(a, b)


def test_float32_stays_and_nothing_passed_in_changes(spy):
    X = planted(0, 20, 15)[0].astype(np.float32)
    mask = np.random.default_rng(0).random(X.shape) < 0.9
    before = X.copy(), mask.copy()
    s = select_rank(X, [1, 2], mask=mask, random_state=0, **QUICK)
    assert all(f.W.dtype == np.float32 for _, _, _, f in spy.calls)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(mask, before[1])
    wide = select_rank(X.astype(float), [1, 2], mask=mask, random_state=0, **QUICK)
    np.testing.assert_allclose(s.errors, wide.errors, rtol=1e-2)
    assert not s.errors.flags.writeable


def test_fits_that_did_not_converge_are_told_of_once():
    X, _, _ = planted(0)
    with pytest.warns(ConvergenceWarning) as caught:
        select_rank(X, [1, 2, 3], n_folds=2, tol=1e-12, max_iter=3, random_state=0)
    assert len(caught) == 1
    assert "6 of 6 fits ended with a KKT residual above tol=1e-12" in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        select_rank(X, [1, 2], n_folds=2, tol=1e-2, random_state=0)


def test_a_callback_sees_every_rank_and_may_end_it():
    X, _, _ = planted(0, 20, 15)
    seen = []

    def stop_at_two(s):
        seen.append(s.ranks.tolist())
        if len(s.ranks) == 2:
            raise StopIteration

    s = select_rank(X, [1, 2, 3], callback=stop_at_two, random_state=0, **QUICK)
    assert seen == [[1], [1, 2]]
    assert (s.ranks.tolist(), s.not_tried) == ([1, 2], (3,))


def test_ctrl_c_keeps_the_ranks_that_are_complete(monkeypatch):
    X, _, _ = planted(0, 20, 15)

    def interrupt(after):
        calls = itertools.count()

        def factorize(*arguments, **options):
            if next(calls) == after:
                raise KeyboardInterrupt
            return nmfcore.factorize(*arguments, **options)

        monkeypatch.setattr(rank_path, "factorize", factorize)
        with pytest.raises(KeyboardInterrupt) as caught:
            select_rank(X, [1, 2, 3], n_folds=2, random_state=0, **QUICK)
        return caught.value.selection

    assert interrupt(1) is None  # in the second fold
    assert interrupt(3).ranks.tolist() == [1]


# ---- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "options", "message"),
    [
        ([], {}, "ranks is empty"),
        ([0, 1], {}, r"ranks\[0\]=0 must be 1 or more"),
        ([2, 1], {}, r"ranks\[1\] = 1 follows ranks\[0\] = 2"),
        ([1, 2, 2], {}, r"ranks\[2\] = 2 follows ranks\[1\] = 2.*sorted\(set\(ranks\)\)"),
        ([1], {"n_folds": 1}, "n_folds=1 must be 2 or more"),
        ([1], {"test": 0.0}, "test=0.0: the share to hold out"),
        ([1], {"test": 0.3}, "test=0.3: .* with 5 disjoint folds, at most 0.2"),
        ([1], {"test": 1.0, "holdout": "blocks"}, "test=1.0: .*below 1"),
        ([1], {"test": 1e-4}, "too few entries: 0.0001 of the 300 entries"),
        ([1], {"patience": 0}, "patience=0 must be 1 or more"),
        ([1], {"rule": "1se"}, "rule='1se' is not one of"),
        ([1], {"holdout": "rows"}, "holdout='rows' is not one of"),
        ([1], {"holdout": "blocks", "mask": np.eye(20, 15) < 1}, "holdout='blocks' is for data that are complete"),
        ([1], {"loss": "huber"}, "loss='huber'"),
        ([1], {"missing_values": -1}, "missing_values=-1"),
        ([1], {"l2": -1}, "l2"),
    ],
)
def test_bad_arguments(ranks, options, message):
    with pytest.raises(ValueError, match=message):
        select_rank(planted(0, 20, 15)[0], ranks, **options)


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (ValueError, {"l2_scaling": "rows"}),
        (TypeError, {"offsets": "no"}),
        (ValueError, {"offsets": True, "solver": "mu"}),
        (ValueError, {"offsets": True, "loss": "kullback-leibler"}),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_front_door_says_what_is_wrong(error, options, sparse):
    X = planted(0, 20, 15)[0]
    X = sp.csr_array(X) if sparse else X
    with pytest.raises(error) as expected:
        nmfcore.factorize(X, 1, **options)
    with pytest.raises(error) as caught:
        select_rank(X, [1, 2], **options)
    assert str(caught.value) == str(expected.value)


def test_offsets_are_not_for_the_zeros_of_a_sparse_matrix():
    with pytest.raises(ValueError, match="in this sparse X every zero counts"):
        select_rank(sp.csr_array(planted(0, 20, 15)[0]), [1], offsets=True)


def test_bad_types():
    for ranks in (3, "1,2", None):
        with pytest.raises(TypeError, match="some whole numbers"):
            select_rank(np.ones((5, 5)), ranks)
    with pytest.raises(TypeError, match=r"ranks\[1\]=1.5"):
        select_rank(np.ones((5, 5)), [1, 1.5])
    with pytest.raises(TypeError, match="callback=3 must be callable"):
        select_rank(np.ones((5, 5)), [1], callback=3)


def test_bad_data():
    X = planted(0, 20, 15)[0]
    X[3, 4] = -1
    with pytest.raises(ValueError, match=r"X\[3, 4\] = -1"):
        select_rank(X, [1])
    with pytest.raises(ValueError, match="every entry there is the last of its row or column"):
        select_rank(np.diag(np.arange(1.0, 21)), [1], missing_values=0)
    with pytest.raises(ValueError, match="of a 1 x 9 matrix no block"):
        select_rank(sp.csr_array(np.ones((1, 9))), [1])


# ---- what is shown ------------------------------------------------------------------------------------------------


def test_the_table():
    s = selection(TABLE, "one-standard-error", ranks=[1, 2, 4, 8, 16])
    lines = s.table().split("\n")
    assert "mean squared error per entry" in lines[0]
    assert [line.split() for line in lines[3:5]] == [["→", "4", "4.2", "0.58", "2.1"], ["*", "8", "4", "0.58", "2"]]
    assert repr(s).startswith("RankSelection: rank 4, ")


def test_a_frame():
    frame = selection(TABLE).to_frame()
    assert frame.index.tolist() == [1, 2, 3, 4, 5]
    assert frame.loc[4, ["mean", "training", "fold_0", "fold_2"]].tolist() == [4, 2, 3, 5]
    assert frame.index[frame["chosen"]].tolist() == [4]


def test_a_frame_needs_pandas(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        selection(TABLE).to_frame()


def test_a_plot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    s = selection(TABLE, "one-standard-error", ranks=[1, 2, 4, 8, 16])
    try:
        figure, ax = plt.subplots()
        assert s.plot(ax) is ax
        bars = ax.containers[0]
        np.testing.assert_array_equal(bars[0].get_xydata(), np.column_stack([s.ranks, s.mean]))
        labels = [text.get_text() for text in ax.get_legend().get_texts()]
        assert labels == ["held out ± std. error", "fitted", "chosen: 4", "lowest + std. error"]
        np.testing.assert_array_equal(ax.collections[-1].get_offsets(), [[4, s.mean[2]]])
        (limit,) = (line for line in ax.lines if line.get_label() == "lowest + std. error")
        np.testing.assert_allclose(limit.get_ydata(), 4 + math.sqrt(1 / 3))
        assert [text.get_text() for text in ax.get_xticklabels()] == ["1", "2", "4", "8", "16"]
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
        figure.canvas.draw()
        other = selection(TABLE, "best").plot()
        assert other.get_xscale() == "linear"
        assert "lowest" in [text.get_text() for text in other.get_legend().get_texts()]
    finally:
        plt.close("all")


def test_a_plot_needs_matplotlib(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "nmfcore\[plot\]"'):
        selection(TABLE).plot()


# ---- for a recommender --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"offsets": False, "l2": 0.3, "prior": 2.0}], ids=["as it comes", "told"])
def test_the_rank_of_a_recommender_by_hand(monkeypatch, options):
    """Held-out ratings are foretold by recommenders that were fitted to the others, and knew of no more."""
    ratings = nmfcore.datasets.planted_ratings(60, 50, 1500, rank=2)
    more = {"tol": 1e-9, "max_iter": 3000}
    kept = []
    monkeypatch.setattr(UserItemMeans, "fit", lambda train, fit=UserItemMeans.fit: kept.append(train) or fit(train))
    model = nmfcore.Recommender(rank=7, **options, **more)
    s = select_rank_for(model, ratings, [1, 2], n_folds=3, patience=None, random_state=0)
    monkeypatch.undo()
    assert s.errors.shape == (2, 3)
    assert len(kept) == 6
    users, items, values = ratings.triplets()
    for call, train in enumerate(kept):
        k, fold = divmod(call, 3)
        observed = np.zeros(ratings.shape, bool)
        observed[tuple(train.triplets()[:2])] = True
        assert (~observed[users, items]).sum() == 150  # a tenth
        by_hand = nmfcore.Recommender(rank=k + 1, random_state=5, **options, **more).fit(train)
        predictions = by_hand.predict(ratings.users[users], ratings.items[items])
        held_out = ~observed[users, items]
        errors = (values - np.minimum(predictions, values.max())) ** 2
        assert s.errors[k, fold] == pytest.approx(errors[held_out].mean(), rel=1e-3)
        assert s.train_errors[k, fold] == pytest.approx(((values - predictions) ** 2)[~held_out].mean(), rel=1e-3)
    with pytest.raises(RuntimeError, match="not fitted"):
        model.predict(1, 1)


def test_the_rank_of_a_recommender_is_refused_and_told_of_as_any_other():
    ratings = nmfcore.datasets.planted_ratings(30, 20, 200)
    with pytest.raises(ValueError, match="n_folds=1 must be 2 or more"):
        select_rank_for(nmfcore.Recommender(), ratings, [1], n_folds=1)
    with pytest.raises(ValueError, match="l2=1e\\+40 for each rating is too large"):
        select_rank_for(nmfcore.Recommender(l2=1e40), ratings, [1], n_folds=2)
    with pytest.warns(ConvergenceWarning, match="2 of 2 fits ended .* above tol=1e-12") as caught:
        select_rank_for(nmfcore.Recommender(tol=1e-12, max_iter=2), ratings, [1], n_folds=2, random_state=0)
    assert caught[0].filename == __file__


# ---- the command line ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ratings_file(tmp_path_factory) -> Path:
    ratings = nmfcore.datasets.planted_ratings(60, 50, 1500)
    users, items, values = ratings.triplets()
    path = tmp_path_factory.mktemp("rank") / "ratings.csv"
    path.write_text("".join(f"{u},{i},{r:g}\n" for u, i, r in zip(users, items, values, strict=True)))
    return path


def test_select_rank_from_the_command_line(ratings_file, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    image = tmp_path / "errors.png"
    command = ["select-rank", str(ratings_file), "--ranks", "1,2-3,8", "--folds", "3", "--plot", str(image)]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert err == ""
    ratings = nmfcore.Ratings.from_csv(ratings_file)
    s = select_rank_for(nmfcore.Recommender(), ratings, [1, 2, 3, 8], n_folds=3, random_state=0)
    for line in s.table().split("\n"):
        assert line[3:] in out
    assert f"Rank {s.best}: {s.reason}." in out
    assert f"{math.sqrt(s.mean[s.ranks == s.best][0]):.4f}" in out
    assert f"nmfcore fit {ratings_file} --rank {s.best} --test 0.1 --out model.npz" in out
    assert image.read_bytes().startswith(b"\x89PNG")


def test_the_command_line_chooses_for_the_fit_it_goes_on_to(ratings_file, capsys):
    given = ["--l2", "0.2", "--prior", "4.5", "--no-offsets", "--tol", "0.01", "--max-iter", "40"]
    command = ["select-rank", str(ratings_file), "--ranks", "1,2", "--folds", "2", "--duplicates", "last", *given]
    assert main(command) == 0
    out = capsys.readouterr().out
    model = nmfcore.Recommender(l2=0.2, prior=4.5, offsets=False, tol=0.01, max_iter=40)
    s = select_rank_for(model, nmfcore.Ratings.from_csv(ratings_file), [1, 2], n_folds=2, random_state=0)
    for line in s.table().split("\n"):
        assert line[3:] in out
    assert "plain factorisation" not in out
    fit = shlex.split(out.splitlines()[-1].strip())
    fit = fit[fit.index("fit") + 1 :]
    assert fit[:3] == [str(ratings_file), "--rank", str(s.best)]
    asked = _parser().parse_args(["fit", *fit])
    assert (asked.l2, asked.prior, asked.offsets, asked.tol, asked.max_iter) == (0.2, 4.5, False, 0.01, 40)
    assert asked.duplicates == "last"


def test_the_command_line_reads_and_hands_on_what_fit_reads(ratings_file, tmp_path, capsys):
    odd = tmp_path / "odd ratings.txt"
    rows = [line.split(",") for line in ratings_file.read_text().splitlines()]
    odd.write_text("stars~my reader~book\n" + "".join(f"{r}~{u}~{i}\n" for u, i, r in rows))
    fast = ["--ranks", "1,2", "--folds", "2", "--max-iter", "3"]
    assert main(["select-rank", str(odd), *fast, "--sep", "~"]) == 2
    assert "name them with --columns 'my reader,book,stars'" in capsys.readouterr().err
    assert main(["select-rank", str(odd), *fast, "--sep", "~", "--columns", "my reader,book,stars"]) == 0
    out = capsys.readouterr().out
    assert main(["select-rank", str(ratings_file), *fast]) == 0
    plain = capsys.readouterr().out
    tables = [[line for line in text.splitlines() if line.startswith("   ")] for text in (out, plain)]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 3
    fit = shlex.split(out.splitlines()[-1].strip())
    asked = _parser().parse_args(fit[fit.index("fit") :])
    assert (asked.ratings, asked.sep, asked.columns) == (str(odd), "~", "my reader,book,stars")


@pytest.mark.parametrize("command", ["fit", "select-rank"])
def test_the_defaults_that_the_command_line_tells_are_those_of_the_recommender(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    told = " ".join(capsys.readouterr().out.split())
    options = {"tol": "--tol X", "max_iter": "--max-iter N"}
    for name, option in options.items():
        default = told.rpartition(f"{option} ")[2].partition("(default: ")[2]
        assert float(default.replace(";", " ").replace(")", " ").split()[0]) == getattr(nmfcore.Recommender, name)


def test_a_drawing_does_not_replace_the_ratings(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "ratings.png"
    path.write_text("1,1,5\n1,2,3\n2,1,4\n2,2,4\n")
    assert main(["select-rank", str(path), "--ranks", "1", "--folds", "2", "--plot", str(path)]) == 2
    assert "this file is read here, and would be lost" in capsys.readouterr().err
    assert path.read_text().startswith("1,1,5")


def test_another_loss_from_the_command_line(ratings_file, capsys):
    command = ["select-rank", str(ratings_file), "--ranks", "1,2", "--folds", "2", "--loss", "kullback-leibler"]
    assert main(command) == 0
    out = capsys.readouterr().out
    ratings = nmfcore.Ratings.from_csv(ratings_file)
    options = {"loss": "kullback-leibler", "missing_values": "unstored", "l2_scaling": "count"}
    s = select_rank(ratings, [1, 2], n_folds=2, l2=0.025 * ratings.mean(), random_state=0, **options)
    for line in s.table().split("\n"):
        assert line[3:] in out
    assert "plain factorisation of the ratings" in out


def test_select_rank_tells_of_fits_that_did_not_converge(ratings_file, capsys):
    options = ["--ranks", "1,2", "--folds", "2", "--max-iter", "2", "--rule", "best", "--l2", "0.1"]
    assert main(["select-rank", str(ratings_file), *options]) == 0
    err = capsys.readouterr().err
    assert "4 of 4 fits ended with a KKT residual above" in err
    assert "raise --max-iter or --tol." in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ranks", "2,x"], "--ranks 2,x: 'x' is not a rank"),
        (["--ranks", "4,2"], "ranks[1] = 2 follows ranks[0] = 4"),
        (["--ranks", "5-2"], "ranks is empty"),
        (["--folds", "1"], "--folds 1 must be 2 or more"),
        (["--plot", "/absent/folder/errors.png"], "No such folder to write it to"),
        (["--l2", "-1"], "--l2 -1.0 must"),
        (["--prior", "0"], "--prior 0 leaves a user without ratings nothing to go by"),
        (["--loss", "itakura-saito", "--no-offsets"], "--prior and --no-offsets are for the loss of `fit`"),
        (["--loss", "itakura-saito", "--prior", "3"], "--prior and --no-offsets are for the loss of `fit`"),
        (["--plot", "errors.xyz"], "--plot errors.xyz: the name must end in the kind of image"),
        (["--ranks", "0,2"], "ranks[0]=0 must be 1 or more"),
        (["--ranks", "1-99999999999999"], "--ranks 1-99999999999999: 1-99999999999999 is more than 10,000 ranks"),
        (["--folds", "0"], "--folds 0 must be 2 or more"),
        (["--seed", "-1"], "--seed -1 must be 0 or more"),
        (["--seed", str(2**32)], "--seed 4294967296 must be below 2**32"),
        (["--patience", "0"], "--patience 0 must be 1 or more"),
        (["--test", "0.9"], "--test 0.9: the share to hold out in each fold must be above 0 and"),
        (["--loss", "itakura-saito", "--l2", "-1"], "--l2 -1.0 must"),
        (["--loss", "itakura-saito", "--max-iter", "-1"], "--max-iter -1 must"),
    ],
)
def test_what_the_command_line_refuses(capsys, options, message):
    """Before the file is read: there is none."""
    assert main(["select-rank", "absent.csv", *options]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == 1
    assert "held out" not in out  # before the work, not after it


def test_an_interrupt_on_the_command_line(ratings_file, capsys, monkeypatch):
    calls = itertools.count()

    def factorize(*arguments, **options):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return nmfcore.factorize(*arguments, **options)

    monkeypatch.setattr(rank_path, "factorize", factorize)
    assert main(["select-rank", str(ratings_file), "--ranks", "1,2", "--folds", "2"]) == 130
    assert "interrupted. Of the ranks so far, 1 is chosen." in capsys.readouterr().err


def test_ranks_as_they_are_typed():
    assert parse_ranks("2,4") == [2, 4]
    assert parse_ranks(" 1-3, 6 ") == [1, 2, 3, 6]
