"""Rows 100 to 116: factors to start from, and a model between its fit and its use."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from catalogue import Case, alike, case, each, holds, nmf, refused
from fits import SOLVERS, X, ask, fit, same, sound

import nmfcore
from nmfcore import ConvergenceWarning, Factorization, Recommender, Status
from nmfcore.datasets import planted_ratings
from nmfcore.solvers import MU

W0 = np.random.RandomState(1).random_sample((6, 2)) + 0.1
H0 = np.random.RandomState(2).random_sample((2, 5)) + 0.1
NO_ROW = np.where(np.arange(6)[:, None] == 1, 0.0, W0)
RATINGS = planted_ratings(20, 15, 120)


def started(W: Any = W0, H: Any = H0, **options: Any) -> Callable[[], Any]:
    """scikit-learn's fit from given factors."""
    return lambda: nmf(X, W=copy.copy(W), H=copy.copy(H), init="custom", **options)


def untouched(fit_it: Callable[[np.ndarray, np.ndarray], Any]) -> str:
    W, H = W0.copy(), H0.copy()
    fit_it(W, H)
    unchanged = np.array_equal(W, W0) and np.array_equal(H, H0)
    return "W and H are as they were" if unchanged else "W and H are overwritten"


def frozen(A: np.ndarray) -> np.ndarray:
    A = A.copy()
    A.flags.writeable = False
    return A


def with_entry(A: np.ndarray, value: float) -> np.ndarray:
    A = A.copy()
    A[1, 1] = value
    return A


def edited(value: float) -> Callable[[], Any]:
    def ask_it() -> Any:
        f = ask(X)
        f.H[1, 2] = value
        return f.transform(X)

    return ask_it


def their_model(data: np.ndarray = X) -> Any:
    from sklearn.decomposition import NMF

    return NMF(2, random_state=0).fit(data)


def their_edited(value: float) -> Callable[[], Any]:
    def ask_it() -> Any:
        model = their_model()
        model.components_[1, 2] = value
        return model.transform(X)

    return ask_it


def mixed_precision(W: np.ndarray) -> None:
    assert W.dtype == np.float64
    np.testing.assert_array_equal(W, ask(X).transform(X.astype(np.float32).astype(float)))


def changed_since() -> str:
    model = Recommender(rank=3, random_state=0).fit(RATINGS)
    before = model.predict(1, RATINGS.items)
    model.rank = 5
    np.testing.assert_array_equal(model.predict(1, RATINGS.items), before)
    return "as it was fitted"


def their_changed() -> Any:
    return their_model().set_params(n_components=3).transform(X)


def copied() -> str:
    f, model = ask(X), Recommender(rank=3, random_state=0).fit(RATINGS)
    for way in (copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))):
        same(way(f), f)
        np.testing.assert_array_equal(way(f).transform(X), f.transform(X))
        np.testing.assert_array_equal(way(model).predict(1, RATINGS.items), model.predict(1, RATINGS.items))
    return "equal answers"


def their_copied() -> str:
    model = their_model()
    equal = all(
        np.array_equal(way(model).transform(X), model.transform(X))
        for way in (copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)))
    )
    return "equal answers" if equal else "other answers"


def fitted_twice() -> str:
    fresh = Recommender(rank=3, random_state=0).fit(RATINGS)
    again = Recommender(rank=3, random_state=0).fit(planted_ratings(9, 8, 40, random_state=5)).fit(RATINGS)
    same(again.factorization_, fresh.factorization_)
    return "the second fit is as without the first"


def their_twice() -> str:
    model = their_model(X[::-1]).fit(X)
    same_again = np.array_equal(model.components_, their_model().components_)
    return "the second fit is as without the first" if same_again else "the second fit is another"


def _anything(_: Any) -> None:
    pass


def _from_zeros(f: Factorization) -> None:
    assert not sound(f).W[1].any()
    assert f.status is not Status.CONVERGED


GIVEN = alike(lambda: ask(X, W=W0, H=H0))
CASES = [
    Case(
        100,
        "W and H given",
        lambda: untouched(lambda W, H: ask(X, W=W, H=H)),
        holds(lambda said: _equal(said, "W and H are as they were")),
        lambda: untouched(lambda W, H: nmf(X, W=W, H=H, init="custom")),
    ),
    case(101, "read-only W", X, GIVEN, W=frozen(W0), H=H0, theirs=started(frozen(W0))),
    case(
        102,
        "W of another shape",
        X,
        refused(ValueError, r"W has shape \(5, 2\) where \(6, 2\) is needed for this X"),
        W=W0[:5],
        H=H0,
        theirs=started(W0[:5]),
    ),
    case(
        102,
        "W of another rank",
        X,
        refused(ValueError, r"W has shape \(6, 1\) where \(6, 2\) is needed"),
        W=W0[:, :1],
        shown=False,
    ),
    case(
        102,
        "H transposed",
        X,
        refused(ValueError, r"H has shape \(5, 2\) where \(2, 5\) is needed"),
        W=W0,
        H=H0.T,
        theirs=started(H=H0.T.copy()),
    ),
    case(102, "a row for W", X, refused(ValueError, r"Expected 2D array.* W has shape \(2,\)"), W=W0[0], shown=False),
    case(
        103,
        "negative W",
        X,
        refused(ValueError, r"W\[0, 0\] = -0.5.*every entry must be 0 or more.*W.clip\(0\)"),
        W=-W0,
        H=H0,
        theirs=started(-W0),
    ),
    case(
        104,
        "NaN in H",
        X,
        refused(ValueError, r"NaN: H\[1, 1\] is missing"),
        W=W0,
        H=with_entry(H0, np.nan),
        theirs=started(H=with_entry(H0, np.nan)),
    ),
    case(
        104,
        "infinity in H",
        X,
        refused(ValueError, r"H\[1, 1\] = inf, but every entry must be finite"),
        W=W0,
        H=with_entry(H0, np.inf),
        theirs=started(H=with_entry(H0, np.inf)),
    ),
    case(
        105,
        "W = 0, mu",
        X,
        refused(ValueError, r"W = 0 everywhere, which MU\(.*positive numbers, or use solver='hals'"),
        W=0 * W0,
        H=H0,
        solver="mu",
        theirs=started(0 * W0, solver="mu"),
    ),
    case(
        105,
        "a row of zeros in W, mu",
        X,
        holds(_from_zeros, (ConvergenceWarning,)),
        W=NO_ROW,
        H=H0,
        solver="mu",
        max_iter=200,
        theirs=started(NO_ROW, solver="mu"),
    ),
    case(
        106,
        "W and H of integers",
        X,
        alike(lambda: ask(X, W=np.ones((6, 2)), H=np.full((2, 5), 2.0))),
        W=np.ones((6, 2), int),
        H=np.ones((2, 5), np.int8) * 2,
        theirs=started(np.ones((6, 2), int), np.ones((2, 5), np.int8) * 2),
    ),
    case(
        106,
        "W and H of float32",
        X,
        alike(lambda: ask(X, W=W0.astype("f4").astype(float), H=H0)),
        W=W0.astype("f4"),
        H=H0,
        theirs=started(W0.astype("f4")),
    ),
    case(107, "W alone", X, holds(sound), W=W0, theirs=started(H=None)),
    case(107, "H alone", X, holds(sound), H=H0, theirs=started(None)),
    case(
        108,
        "W and H beside init='nndsvda'",
        X,
        GIVEN,
        W=W0,
        H=H0,
        init="nndsvda",
        theirs=lambda: nmf(X, W=W0.copy(), H=H0.copy(), init="nndsvda"),
    ),
    Case(
        109,
        "a model that is not fitted",
        lambda: Recommender().predict(1, 1),
        refused(RuntimeError, r"this Recommender is not fitted: call fit\(ratings\), or use Recommender.load"),
        lambda: _unfitted().transform(X),
    ),
    Case(
        110,
        "`transform` of float32 by a model of float64",
        lambda: ask(X).transform(X.astype(np.float32)),
        holds(mixed_precision),
        lambda: their_model().transform(X.astype(np.float32)),
    ),
    Case(
        111,
        "H edited to NaN, then `transform`",
        edited(np.nan),
        refused(ValueError, r"H\[1, 2\] is missing"),
        their_edited(np.nan),
    ),
    Case(
        112,
        "H edited to -1, then `transform`",
        edited(-1.0),
        refused(ValueError, r"H\[1, 2\] = -1"),
        their_edited(-1.0),
    ),
    Case(113, "rank changed after the fit, then `predict`", changed_since, holds(_anything), their_changed),
    Case(115, "pickle, copy, deepcopy", copied, holds(_anything), their_copied),
    Case(116, "fitted twice", fitted_twice, holds(_anything), their_twice),
]


def _equal(one: object, other: object) -> None:
    assert one == other


def _unfitted() -> Any:
    from sklearn.decomposition import NMF

    return NMF(2)


@each(CASES)
def test_factors(case):
    case.hold()


@pytest.mark.row(100)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1.0, 4.0**100])
def test_given_factors_are_never_modified(solver, scale):
    W, H, A = W0.copy(), H0.copy(), X * scale
    fit(A, solver=solver, W=W, H=H)
    np.testing.assert_array_equal(W, W0)
    np.testing.assert_array_equal(H, H0)
    np.testing.assert_array_equal(A, X * scale)


@pytest.mark.row(100)
@pytest.mark.parametrize("max_iter", [0, 1])
def test_results_share_no_memory_with_what_was_given(max_iter):
    f = fit(X, W=W0, H=H0, max_iter=max_iter)
    assert not np.shares_memory(f.W, W0)
    assert not np.shares_memory(f.H, H0)


@pytest.mark.row(111)
@pytest.mark.parametrize("l2_scaling", [None, "count"])
def test_rows_of_a_model_of_next_to_nothing_are_zeros(l2_scaling):
    """What a penalty has left of H is far below 1e-154: beside it, any W that is not 0 costs more than it fits."""
    f = ask(X, l2=0.1, l2_scaling=l2_scaling)
    assert not dataclasses.replace(f, H=f.H * 1e-200).transform(X).any()


@pytest.mark.row(106)
def test_given_factors_of_any_layout_or_dtype():
    expected = fit(X, W=W0, H=H0)
    for W, H in [(frozen(W0), H0), (np.asfortranarray(W0), H0[:, ::-1][:, ::-1]), (W0.tolist(), pd.DataFrame(H0))]:
        same(fit(X, W=W, H=H), expected)
    same(
        fit(X, W=np.ones((6, 2), int), H=np.ones((2, 5), np.int8) * 2),
        fit(X, W=np.ones((6, 2)), H=np.full((2, 5), 2.0)),
    )
    assert fit(X.astype(np.float32), W=W0, H=H0).W.dtype == np.float32
    same(fit(X, W=W0, H=H0, init="nndsvda"), expected)


@pytest.mark.row(107)
def test_one_factor_given_makes_the_other():
    both = fit(X, init="random", max_iter=0)
    given_W, given_H = fit(X, W=W0, max_iter=0), fit(X, H=H0, max_iter=0)
    np.testing.assert_array_equal(given_W.W, W0)
    np.testing.assert_array_equal(given_W.H, both.H)
    np.testing.assert_array_equal(given_H.H, H0)
    np.testing.assert_array_equal(given_H.W, both.W)
    sound(fit(X, W=W0, init="nndsvda"))


@pytest.mark.row(104)
@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ({"H": np.where(np.isclose(H0, H0[1, 3]), np.nan, H0)}, ValueError, r"NaN: H\[1, 3\]"),
        ({"H": np.where(np.isclose(H0, H0[1, 3]), np.inf, H0)}, ValueError, r"H\[1, 3\] = inf"),
        ({"W": W0.astype(complex)}, ValueError, "Complex data not supported: W"),
        ({"W": W0.astype(str)}, TypeError, r"W\[0, 0\] is '0.5"),
        ({"W": "random"}, TypeError, "W must be a matrix"),
    ],
)
def test_bad_factors_are_named(factors, error, message):
    with pytest.raises(error, match=message):
        fit(X, **factors)


@pytest.mark.row(104)
def test_given_factors_too_large_for_the_dtype():
    with pytest.raises(ValueError, match=r"W\[0, 0\] = inf.*float32"):
        fit(X.astype(np.float32), W=np.full((6, 2), 1e300))


@pytest.mark.row(100)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150])
def test_given_factors_of_another_scale(scale, solver):
    """The first objective would be 1e600, or the first gradient 0: components of such a size are rescaled."""
    f = fit(X, W=W0 * scale, H=H0 * scale, solver=solver)
    assert np.isfinite(f.W).all()
    assert np.isfinite(f.H).all()
    assert f.n_iter > 0
    assert f.objective <= 1.05 * fit(X, W=W0, H=H0, solver=solver).objective


@pytest.mark.row(105)
def test_multiplicative_updates_keep_zeros():
    W = W0.copy()
    W[1, 0] = W[4, 1] = 0.0
    f = sound(fit(X, W=W, H=H0, solver=MU(extrapolate=False)))
    np.testing.assert_array_equal(f.W == 0, W == 0)
    g = sound(fit(X, W=W, H=H0, solver="hals"))
    assert (g.W[[1, 4], [0, 1]] > 0).any()


@pytest.mark.row(105)
@pytest.mark.parametrize(
    ("name", "factors"), [("W", {"W": 0 * W0}), ("W", {"W": 0 * W0, "H": H0}), ("H", {"H": 0 * H0})]
)
def test_multiplicative_updates_refuse_a_factor_of_zeros(name, factors):
    with pytest.raises(ValueError, match=rf"{name} = 0 everywhere, which MU\(.*positive numbers, or use solver='hals'"):
        fit(X, solver="mu", **factors)
    assert not sound(fit(0 * X, solver="mu", **factors)).reconstruct().any()  # unless nothing is to be fitted


@pytest.mark.row(105)
def test_locked_zeros_do_not_pass_for_convergence():
    W = W0.copy()
    W[1] = 0.0
    with pytest.warns(ConvergenceWarning, match="KKT residual"):
        f = nmfcore.factorize(X, 2, W=W, H=H0, solver="mu", max_iter=5000)
    assert not f.converged
    assert f.status is not Status.CONVERGED
    assert not f.W[1].any()


@pytest.mark.row(105)
@pytest.mark.parametrize("factors", [{"W": np.zeros((6, 2))}, {"H": np.zeros((2, 5))}])
def test_hals_leaves_zeros(factors):
    f = sound(fit(X, max_iter=200, **factors))
    assert np.linalg.norm(X - f.reconstruct()) < 0.5 * np.linalg.norm(X)
