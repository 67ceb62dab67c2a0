"""A recommender for others and with more: `fold_in` and `partial_fit`, against least squares by SciPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import nnls

import nmfcore
import nmfcore.solvers
from nmfcore import Ratings, Recommender
from nmfcore.api import archive
from nmfcore.datasets import planted_ratings
from nmfcore.ratings import UserItemMeans
from nmfcore.recommender import saving

PRIOR, L2 = 12.0, 0.07


def fit(ratings: Ratings, offsets: bool = True, **settings: object) -> Recommender:
    return Recommender(
        rank=4, l2=L2, prior=PRIOR, offsets=offsets, random_state=0, **{"tol": 1e-6, "max_iter": 5000} | settings
    ).fit(ratings)


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return planted_ratings(60, 50, 1200)


@pytest.fixture(scope="module", params=[True, False], ids=["offsets", "no_offsets"])
def model(ratings: Ratings, request: pytest.FixtureRequest) -> Recommender:
    return fit(ratings, request.param)


def of_user(ratings: Ratings, user: object) -> dict[int, float]:
    u = ratings.user_index(user)
    part = slice(ratings.indptr[u], ratings.indptr[u + 1])
    return dict(zip(ratings.items[ratings.indices[part]].tolist(), ratings.data[part].tolist(), strict=True))


def only(ratings: Ratings, users: list[int]) -> Ratings:
    parts = [(user, item, value) for user in users for item, value in of_user(ratings, user).items()]
    return Ratings.from_triplets(*(list(column) for column in zip(*parts, strict=True)))


def whole(model: Recommender, folder: Path) -> tuple[np.ndarray, np.ndarray, float]:
    """W and H with the average user and item, as the file has them, and the unit they are in: the mean is 4 there."""
    model.save(folder / "whole.npz")
    with np.load(folder / "whole.npz") as file:
        return file["W"], file["H"], float(file["levels"][0] / 4)


def best_row(model: Recommender, given: dict[int, float], folder: Path) -> np.ndarray:
    """min ½ Σ (r - w·h)² + ½ prior (level + l2 - w·h_average)² + ½ l2 (n + prior) ‖w‖², w >= 0."""
    _, H, unit = whole(model, folder)
    all_ratings = model.ratings_
    means = UserItemMeans.fit(all_ratings)
    places = [int(all_ratings.item_index(item)) for item in given]
    values = np.array(list(given.values()))
    left = (values - means.mean - means.item_offsets[places]).sum() / (values.size + 5.0)
    level = np.clip(means.mean + left, all_ratings.data.min(), all_ratings.data.max())
    target, root = np.append(values, level + L2) / unit, np.sqrt(np.append(np.ones(values.size), PRIOR))
    B = H[:, [*places, -1]]
    if model.offsets:  # the last component is that of the items' offsets; its column of W is ones
        target, B = target - B[-1], B[:-1]
    ridge = np.sqrt(L2 / unit * (values.size + PRIOR)) * np.eye(B.shape[0])
    w = nnls(np.vstack([root[:, None] * B.T, ridge]), np.append(root * target, np.zeros(B.shape[0])))[0]
    return np.append(w, 1.0) if model.offsets else w


# fold_in


@pytest.mark.parametrize("user", [1, 23, 60])
def test_a_folded_in_user_is_a_least_squares_solution(model: Recommender, tmp_path: Path, user: int) -> None:
    given = of_user(model.ratings_, user)
    guest = model.fold_in(given)
    w, (_, H, unit) = best_row(model, given, tmp_path), whole(model, tmp_path)
    items = model.ratings_.items
    np.testing.assert_allclose(guest.predict("new", items), unit * (w @ H[:, :-1]), rtol=1e-6)
    # The fit has the same problem for that user, so it ends at the same row.
    np.testing.assert_allclose(guest.predict("new", items), model.predict(user, items), rtol=2e-3)
    fitted, mine = model.factorization_.W[model.ratings_.user_index(user)], guest.factorization_.W[0]
    np.testing.assert_allclose(mine, fitted, atol=5e-3)


def test_company_does_not_matter(model: Recommender) -> None:
    together = model.fold_in(only(model.ratings_, [3, 8, 40, 41]))
    alone = model.fold_in(only(model.ratings_, [40]))
    assert np.array_equal(together.factorization_.W[2], alone.factorization_.W[0])
    by_mapping = model.fold_in(of_user(model.ratings_, 40))
    assert np.array_equal(by_mapping.factorization_.W, alone.factorization_.W)
    assert by_mapping.ratings_.users.tolist() == ["new"]


def test_a_guest_is_a_model(model: Recommender, tmp_path: Path) -> None:
    before = [A.copy() for A in model.factorization_]
    given = {int(item): float(value) for item, value in zip(model.ratings_.items[:5], (5, 1, 4, 2, 3), strict=True)}
    guest = model.fold_in(given)
    for a, b in zip(before, model.factorization_, strict=True):
        assert np.array_equal(a, b)
    assert guest.rating_range_ == model.rating_range_ == (1, 5)
    assert np.array_equal(guest.factorization_.H, model.factorization_.H)
    items, predicted = guest.recommend("new", n=50)
    assert sorted(items.tolist()) == model.ratings_.items[5:].tolist()
    np.testing.assert_allclose(predicted, guest.predict("new", items), rtol=1e-13)
    why = guest.explain("new", items[0])
    assert why.score == pytest.approx(predicted[0], rel=1e-13)
    assert set(why.items.tolist()) == set(given)
    guest.save(tmp_path / "guest.npz")
    again = Recommender.load(tmp_path / "guest.npz")
    assert np.array_equal(again.predict("new", items), guest.predict("new", items))
    other = {int(model.ratings_.items[7]): 2.0}
    assert np.array_equal(again.fold_in(other).factorization_.W, model.fold_in(other).factorization_.W)


def test_higher_ratings_are_predicted_for_who_gives_them(model: Recommender) -> None:
    items = model.ratings_.items
    low, high = (model.fold_in(dict.fromkeys(items[:20].tolist(), value)) for value in (1.0, 5.0))
    assert high.predict("new", items).mean() > low.predict("new", items).mean() + 1


def test_what_cannot_be_folded_in(model: Recommender) -> None:
    with pytest.raises(KeyError, match="unknown item 999"):
        model.fold_in({1: 4.0, 999: 3.0})
    with pytest.raises(KeyError, match="unknown item 'x'"):
        model.fold_in({"x": 4.0})
    for bad in ({1: -1.0}, {1: float("nan")}, {}):
        with pytest.raises(ValueError, match=r".+"):
            model.fold_in(bad)
    with pytest.raises(TypeError, match="not list"):
        model.fold_in([(1, 4.0)])
    with pytest.raises(RuntimeError, match="not fitted"):
        Recommender().fold_in({1: 4.0})


# partial_fit


def test_without_an_iteration_nothing_moves_and_the_new_are_average(ratings: Ratings, tmp_path: Path) -> None:
    model = fit(ratings)
    W, H, unit = whole(model, tmp_path)
    before = model.factorization_
    new = Ratings.from_triplets([1000, 1000, 1], [1, 2000, 2000], [5.0, 5.0, 5.0])
    model.partial_fit(new, max_iter=0)
    after = model.factorization_
    np.testing.assert_allclose(after.W[:-1], before.W, rtol=1e-5)  # the start is in float32
    np.testing.assert_allclose(after.H[:, :-1], before.H, rtol=1e-5)
    users, items = ratings.users, ratings.items
    np.testing.assert_allclose(model.predict(1000, items), unit * (W[-1] @ H[:, :-1]), rtol=1e-5)
    np.testing.assert_allclose(model.predict(users, 2000), unit * (W[:-1] @ H[:, -1]), rtol=1e-5)


def test_new_users_items_and_ratings_are_taken_in(ratings: Ratings) -> None:
    model = fit(ratings)
    item, old = next(iter(of_user(ratings, 5).items()))
    new = Ratings.from_triplets([5, 1000, 1000, 5], [item, item, 2000, 2000], [6 - old, 5.0, 1.0, 2.0])
    assert model.partial_fit(new) is model
    assert model.ratings_.shape == (61, 51)
    assert model.ratings_.nnz == ratings.nnz + 3
    assert of_user(model.ratings_, 5) == {**of_user(ratings, 5), item: 6 - old, 2000: 2.0}
    assert of_user(model.ratings_, 1000) == {item: 5.0, 2000: 1.0}
    assert model.predict(1000, item) > model.predict(1000, 2000)
    assert np.isfinite(model.factorization_.predict(np.arange(61)[:, None], np.arange(51))).all()
    cold = fit(ratings.merge(new), max_iter=5, tol=0)
    assert model.factorization_.objective <= 1.001 * cold.factorization_.objective
    full = fit(ratings.merge(new))
    assert model.factorization_.objective == pytest.approx(full.factorization_.objective, rel=0.02)


def test_going_on_is_what_the_engine_does_from_there(ratings: Ratings, tmp_path: Path) -> None:
    """The problem written out as a dense matrix with weights, from the factors in the file."""
    model = fit(ratings, max_iter=5, tol=0)
    W, H, unit = whole(model, tmp_path)
    (m, n), means = ratings.shape, UserItemMeans.fit(ratings)
    X, weights = np.zeros((m + 1, n + 1)), np.zeros((m + 1, n + 1))
    rows, columns, values = ratings.triplets()
    X[rows, columns], weights[rows, columns] = values, 1
    X[:m, n], weights[:m, n] = np.clip(means.mean + means.user_offsets, 1, 5) + L2, PRIOR
    X[m, :n], weights[m, :n] = np.clip(means.mean + means.item_offsets, 1, 5) + L2, PRIOR
    expected = nmfcore.factorize(
        X / unit, 4, weights=weights, l2=L2 / unit, l2_scaling="count", offsets=True, W=W, H=H, tol=0, max_iter=5,
        solver=nmfcore.solvers.HALS(sweeps=8, extrapolate=0.3),
    )  # fmt: skip
    start = model.factorization_.objective
    model.tol = 0.0
    model.partial_fit(only(ratings, [3]), max_iter=5)  # ratings that are there already
    assert model.factorization_.n_iter == 5
    assert model.factorization_.objective == pytest.approx(unit**2 * expected.objective, rel=1e-5)
    assert model.factorization_.objective < start
    W, H, _ = whole(model, tmp_path)
    np.testing.assert_allclose(W, expected.W, atol=1e-3)  # in float32 there
    np.testing.assert_allclose(H, expected.H, atol=1e-3)


def test_an_unfitted_model_is_fitted(ratings: Ratings, model: Recommender) -> None:
    if not model.offsets:
        pytest.skip("once is enough")
    again = Recommender(rank=4, l2=L2, prior=PRIOR, random_state=0, tol=1e-6, max_iter=5000).partial_fit(ratings)
    assert np.array_equal(again.factorization_.W, model.factorization_.W)


def test_an_error_leaves_the_model(ratings: Ratings) -> None:
    model = fit(ratings, max_iter=50, tol=1e-3)
    before = model.factorization_
    with pytest.raises(TypeError, match="make them one kind"):
        model.partial_fit(Ratings.from_triplets(["a"], [1], [3.0]))
    with pytest.raises(TypeError, match=r"partial_fit needs nmfcore\.Ratings, not list: see Ratings\.from_frame"):
        model.partial_fit([(1, 1, 3.0)])
    with pytest.raises(ValueError, match=r"rating .*-1"):
        model.partial_fit(Ratings.from_triplets([1], [1], [-1.0]))
    with pytest.raises(ValueError, match="max_iter=-1"):
        model.partial_fit(ratings, max_iter=-1)
    for name, value in (("rank", 6), ("offsets", False)):
        other = getattr(model, name)
        setattr(model, name, value)
        with pytest.raises(ValueError, match="not those of the fit"):
            model.partial_fit(ratings)
        setattr(model, name, other)
    assert model.factorization_ is before
    assert model.ratings_ is ratings


def test_a_rank_that_makes_up_for_offsets_is_refused(ratings: Ratings) -> None:
    model = fit(ratings, max_iter=50, tol=1e-3)
    model.rank, model.offsets = 6, False  # as many components, of other kinds
    with pytest.raises(ValueError, match="not those of the fit"):
        model.partial_fit(ratings)


def test_an_interrupt(ratings: Ratings, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop_at_2(state: object) -> None:
        if state.n_iter == 2:
            raise KeyboardInterrupt

    model = fit(ratings, max_iter=50, tol=1e-3)
    model.tol = 0.0
    new = Ratings.from_triplets([1000], [1], [5.0])
    with pytest.raises(KeyboardInterrupt) as caught:
        model.partial_fit(new, callback=stop_at_2)
    assert caught.value.__notes__ == ["The fit was interrupted; the model is that of iteration 2."]
    assert model.ratings_.shape == (61, 50)
    before = model.factorization_

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nmfcore.api.factorize.factorize", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.partial_fit(Ratings.from_triplets([1001], [1], [5.0]))
    assert "the model is the one before" in caught.value.__notes__[0]
    assert model.factorization_ is before
    assert model.ratings_.shape == (61, 50)


# Files


DAMAGE = {
    "item_offsets_missing": lambda a, meta: a.pop("item_offsets"),
    "item_offsets_short": lambda a, meta: a.update(item_offsets=a["item_offsets"][1:]),
    "item_offsets_nan": lambda a, meta: a["item_offsets"].__setitem__(0, np.nan),
    "levels_missing": lambda a, meta: a.pop("levels"),
    "levels_short": lambda a, meta: a.update(levels=a["levels"][:3]),
    "levels_nan": lambda a, meta: a["levels"].__setitem__(0, np.nan),
    "levels_mean_outside": lambda a, meta: a["levels"].__setitem__(0, 5.5),
    "levels_damping": lambda a, meta: a["levels"].__setitem__(1, -1),
    "levels_below_zero": lambda a, meta: a["levels"].__setitem__(2, -1),
    "levels_infinite": lambda a, meta: a["levels"].__setitem__(3, np.inf),
    "offsets_not_those_of_the_fit": lambda a, meta: meta["settings"].update(offsets=False),
    "offsets_not_those_of_the_model": lambda a, meta: meta["recommender"].update(offsets=False, rank=6),
    "offsets_text": lambda a, meta: meta["recommender"].update(offsets="yes"),
    "another_penalty": lambda a, meta: meta["settings"].update(l2_scaling=None),
    "no_average_user": lambda a, meta: a.update(W=a["W"][:-1]),
    "no_average_item": lambda a, meta: a.update(H=a["H"][:, :-1].copy()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_refused_by_name(ratings: Ratings, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.npz"
    fit(ratings, max_iter=50, tol=1e-2).save(path)
    arrays, meta = archive.read(path, saving.MEMBERS)
    Recommender.load(path)
    DAMAGE[damage](arrays, meta)
    archive.write(path, arrays, meta)
    with pytest.raises(ValueError, match=r"model\.npz: "):
        Recommender.load(path)


@pytest.mark.parametrize("offsets", [True, False])
def test_what_is_loaded_goes_on_as_what_was_saved(ratings: Ratings, tmp_path: Path, offsets: bool) -> None:
    model = fit(ratings, offsets, max_iter=100, tol=1e-3)
    model.save(tmp_path / "m.npz")
    loaded = Recommender.load(tmp_path / "m.npz")
    new = Ratings.from_triplets([1000], [1], [5.0])
    for a, b in zip(model.partial_fit(new).factorization_, loaded.partial_fit(new).factorization_, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("value", [0.1, 0.7, 4.7])
@pytest.mark.filterwarnings("ignore:all .* ratings are")
def test_a_mean_that_is_rounded_is_no_damage(tmp_path: Path, value: float) -> None:
    ratings = Ratings.from_triplets([1, 1, 2, 2, 3, 3, 4, 4, 5, 5], [1, 2] * 5, [value] * 10)
    for some in (ratings, Ratings.from_triplets([1, 2, 3], [1, 1, 2], [value] * 3)):
        model = Recommender(rank=1, random_state=0, max_iter=1000).fit(some)
        model.save(tmp_path / "m.npz")
        assert Recommender.load(tmp_path / "m.npz").predict(1, 1) == model.predict(1, 1)


def test_a_prior_changed_since_the_fit_is_for_the_next_one(ratings: Ratings, tmp_path: Path) -> None:
    model, given = fit(ratings, max_iter=50, tol=1e-3), of_user(ratings, 5)
    row, parts = model.fold_in(given).factorization_.W, model.explain(5, 4).contributions
    model.prior = 1.0
    model.save(tmp_path / "m.npz")
    guest = model.fold_in(given)
    for same in (model, guest, Recommender.load(tmp_path / "m.npz")):
        assert np.array_equal(same.fold_in(given).factorization_.W, row)
    assert np.array_equal(model.explain(5, 4).contributions, parts)
    np.testing.assert_allclose(guest.explain("new", 4).contributions, parts, rtol=0.1)  # near the fit's row
    model.partial_fit(only(ratings, [3]))
    assert not np.allclose(model.fold_in(given).factorization_.W, row, rtol=0.01)
    model.save(tmp_path / "m.npz")
    assert Recommender.load(tmp_path / "m.npz").prior == 1


def test_settings_changed_since_the_fit_do_not_spoil_the_file(ratings: Ratings, tmp_path: Path) -> None:
    model = fit(ratings, max_iter=50, tol=1e-3)
    model.rank, model.offsets = 9, False
    model.save(tmp_path / "m.npz")
    loaded = Recommender.load(tmp_path / "m.npz")
    assert (loaded.rank, loaded.offsets) == (4, True)
    assert loaded.predict(1, 1) == model.predict(1, 1)


@pytest.mark.filterwarnings("ignore:.* ratings are below the level of the model")
@pytest.mark.parametrize("low", [30.0, 78.0, 1.0])
def test_a_model_with_ratings_below_its_level_is_saved_loaded_and_folds_in(tmp_path: Path, low: float) -> None:
    some = Ratings.from_triplets([1, 1, 2, 2, 3], [1, 2, 1, 3, 2], [80.0, 85.0, 100.0, 95.0, 90.0])
    model = Recommender(rank=1, random_state=0).fit(some)
    assert model.level_ > 70
    model.partial_fit(Ratings.from_triplets([1, 4, 4, 5], [1, 1, 2, 4], [low] * 4))
    assert model.rating_range_ == (low, 100.0)
    model.save(tmp_path / "m.npz")
    loaded = Recommender.load(tmp_path / "m.npz")
    assert loaded.rating_range_ == model.rating_range_
    for given in ({1: low}, {1: low, 3: 95.0}):
        guest, same = (one.fold_in(given).predict("new", [1, 2, 3]) for one in (model, loaded))
        np.testing.assert_array_equal(guest, same)
        assert np.isfinite(guest).all()


@pytest.mark.filterwarnings("ignore::nmfcore.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e9, 1e-9])
def test_ratings_of_another_scale_leave_nothing_to_go_on_from(scale: float) -> None:
    """Factors of the old scale would be beyond what float32 holds, or far from every rating."""
    users, items, values = [1, 1, 2, 2, 3], [1, 2, 1, 3, 2], np.array([5.0, 3.0, 4.0, 1.0, 2.0])
    model = Recommender(rank=1, random_state=0).fit(Ratings.from_triplets(users, items, values * scale))
    model.partial_fit(Ratings.from_triplets(users, items, values))
    fresh = Recommender(rank=1, random_state=0, max_iter=5).fit(Ratings.from_triplets(users, items, values))
    np.testing.assert_array_equal(model.predict(users, items), fresh.predict(users, items))
