"""The recommender: better than means, defined for everybody, its model never lost."""

from __future__ import annotations

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import nmfcore
from nmfcore import Ratings, Recommender
from nmfcore.api import archive
from nmfcore.cli.fit import errors
from nmfcore.datasets import planted_ratings
from nmfcore.ratings import GlobalMean, UserItemMeans, rmse
from nmfcore.recommender import saving


@pytest.fixture(scope="module")
def ratings() -> Ratings:
    return planted_ratings(120, 90, 3000)


@pytest.fixture(scope="module")
def fitted(ratings: Ratings) -> Recommender:
    return Recommender(rank=4, random_state=0).fit(ratings)


def part(ratings: Ratings, users: slice) -> Ratings:
    """The ratings of some users only, everybody else still listed."""
    rows, columns, values = ratings.triplets()
    kept = np.isin(rows, np.arange(ratings.shape[0])[users])
    before = np.concatenate(([0], np.cumsum(kept)))
    return Ratings(ratings.users, ratings.items, before[ratings.indptr], columns[kept], values[kept])


# The model


def objective(ratings: Ratings, W: np.ndarray, H: np.ndarray, l2: float, prior: float, offsets: bool) -> float:
    """The problem as the docstring has it, average user (last row) and item (last column) included."""
    (m, n), means = ratings.shape, UserItemMeans.fit(ratings)
    X, weight = np.zeros((m + 1, n + 1)), np.zeros((m + 1, n + 1))
    rows, columns, values = ratings.triplets()
    X[rows, columns], weight[rows, columns] = values, 1
    X[:m, n], weight[:m, n] = means.mean + means.user_offsets, prior
    X[m, :n], weight[m, :n] = means.mean + means.item_offsets, prior
    X[:, n] = np.clip(X[:, n], values.min(), values.max())
    X[m] = np.clip(X[m], values.min(), values.max())
    X[:m, n], X[m, :n] = X[:m, n] + l2, X[m, :n] + l2  # what the penalty takes off predictions
    X *= 4 / values.mean()  # inside
    of_W, of_H = (W[:, :-1], np.delete(H, -2, axis=0)) if offsets else (W, H)  # without the components of ones
    penalty = (weight.sum(1) * (of_W**2).sum(1)).sum() + (weight.sum(0) * (of_H**2).sum(0)).sum()
    return 0.5 * float((weight * (X - W @ H) ** 2).sum() + l2 * 4 / values.mean() * penalty)


@pytest.mark.parametrize("offsets", [True, False])
def test_the_engine_minimises_the_documented_objective(ratings: Ratings, tmp_path: Path, offsets: bool) -> None:
    model = Recommender(rank=3, l2=0.07, prior=5, offsets=offsets, random_state=0, tol=1e-6, max_iter=5000).fit(ratings)
    model.save(tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as file:
        W, H, unit = file["W"], file["H"], ratings.mean() / 4
        stored = file["objective"][-1]
    assert stored == pytest.approx(objective(ratings, W, H, 0.07, 5.0, offsets), rel=1e-5)  # computed in float32
    assert model.factorization_.objective == pytest.approx(unit**2 * stored, rel=1e-12)
    assert model.factorization_.settings["l2"] == pytest.approx((0.07, 0.07), rel=1e-12)
    np.testing.assert_allclose(model.factorization_.reconstruct(), unit * (W @ H)[:-1, :-1], rtol=1e-12)
    if offsets:
        assert (model.factorization_.H[3] == 1).all()
        assert (model.factorization_.W[:, 4] == 1).all()
    rng = np.random.default_rng(0)
    for _ in range(5):  # a minimum: whatever direction, it is not lower there
        V, G = (np.clip(A + 0.02 * rng.standard_normal(A.shape), 0, None) for A in (W, H))
        if offsets:
            V[:, 4], G[3] = 1, 1
        assert objective(ratings, V, G, 0.07, 5.0, offsets) > stored


@pytest.mark.parametrize("offsets", [True, False])
@pytest.mark.parametrize(("scale", "rtol"), [(4.0, 1e-6), (20.0, 2e-3), (0.2, 2e-3), (2.0**300, 1e-6)])
def test_a_longer_scale_gives_predictions_as_much_larger(
    ratings: Ratings, scale: float, rtol: float, offsets: bool
) -> None:
    scaled = Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, scale * ratings.data)
    one, other = (Recommender(rank=4, random_state=0, offsets=offsets).fit(each) for each in (ratings, scaled))
    users, items = np.repeat(ratings.users, 90), np.tile(ratings.items, 120)
    np.testing.assert_allclose(other.predict(users, items), scale * one.predict(users, items), rtol=rtol)


def test_a_stored_zero_is_a_rating() -> None:
    ratings = Ratings.from_triplets([1, 1, 2, 2, 3, 3, 4], [1, 2, 1, 2, 1, 2, 1], [0.0, 5, 0, 4, 1, 5, 0])
    model = Recommender(rank=1, prior=0.5, random_state=0, max_iter=1000).fit(ratings)
    assert model.rating_range_ == (0, 5)
    assert model.predict(4, 1) < 1 < 3 < model.predict(1, 2)


@pytest.mark.parametrize("offsets", [True, False])
def test_the_same_bits_for_any_number_of_threads(offsets: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ratings, fits = planted_ratings(900, 700, 60_000), []
    for threads in ("1", "2", "3"):
        monkeypatch.setenv("NMFCORE_NUM_THREADS", threads)
        model = Recommender(rank=16, offsets=offsets, random_state=0, tol=0, max_iter=3).fit(ratings)
        fits.append((model, model.fold_in(ratings)))
    for model, guest in fits[1:]:
        for a, b in zip(fits[0], (model, guest), strict=True):
            assert np.array_equal(a.factorization_.W, b.factorization_.W)
            assert np.array_equal(a.factorization_.H, b.factorization_.H)


def test_it_beats_the_means_on_planted_ratings() -> None:
    train, test = planted_ratings().split(0.1, random_state=0)
    users, items, values = test.triplets()
    means = rmse(values, np.clip(UserItemMeans.fit(train).predict(users, items), 1, 5))
    model = Recommender(rank=20, random_state=0).fit(train)
    assert rmse(values, model.predict(train.users[users], train.items[items], clip=True)) < means - 0.03


@pytest.mark.parametrize(
    ("name", "means", "most"), [("ml-100k/u.data", 0.9434, 0.910), ("ml-latest-small/ratings.csv", 0.8943, 0.880)]
)
def test_the_default_beats_the_means_on_movielens(data_dir: Path, name: str, means: float, most: float) -> None:
    if not (data_dir / name).is_file():
        pytest.skip(f"{name} is not in {data_dir}")
    train, test = Ratings.from_csv(data_dir / name).split(0.1, random_state=0)
    model = Recommender(random_state=0).fit(train)
    users, items, values = test.triplets()
    baseline = np.clip(UserItemMeans.fit(train).predict(users, items), *model.rating_range_)
    assert rmse(values, baseline) == pytest.approx(means, abs=2e-4)
    assert rmse(values, model.predict(train.users[users], train.items[items], clip=True)) < most


def test_the_table_in_the_readme_is_what_is_measured(data_dir: Path) -> None:
    if not (data_dir / "ml-100k/u.data").is_file():
        pytest.skip(f"ml-100k is not in {data_dir}")
    train, test = Ratings.from_csv(data_dir / "ml-100k/u.data").split(0.1, random_state=0)
    predictions = (
        GlobalMean.fit(train).predict,
        UserItemMeans.fit(train).predict,
        nmfcore.factorize(train, 20, random_state=0).predict,
        nmfcore.factorize(train, 20, missing_values="unstored", l2=10, random_state=0).predict,
        Recommender(rank=20, random_state=0).fit(train).factorization_.predict,
    )
    readme = (Path(__file__).parents[1] / "docs" / "guide.md").read_text(encoding="utf-8")
    section = readme.split("## Ratings from the command line")[1].split("\n## ")[0]
    rows = re.findall(r"^\|.*\| \**(\d\.\d{3})\** \| \**(\d\.\d{3})\** \|", section, re.M)
    for row, predict in zip(rows, predictions, strict=True):
        assert tuple(map(float, row)) == pytest.approx(errors(predict, test, (1, 5)), abs=6e-4)
    without = Recommender(rank=20, prior=1e-6, random_state=0).fit(train).factorization_.predict
    stated = float(re.findall(r"beat the means \(RMSE (\d\.\d{3}), with `prior=1e-6`\)", section)[0])
    assert stated == pytest.approx(errors(without, test, (1, 5))[0], abs=6e-4)


def test_the_same_seed_gives_the_same_model(ratings: Ratings, fitted: Recommender) -> None:
    again = Recommender(rank=4, random_state=0).fit(ratings)
    assert np.array_equal(again.factorization_.W, fitted.factorization_.W)
    assert np.array_equal(again.factorization_.H, fitted.factorization_.H)


# Predictions


def test_predict(ratings: Ratings, fitted: Recommender) -> None:
    f = fitted.factorization_
    W, H = f
    u, i = ratings.user_index(7), ratings.item_index(9)
    one = fitted.predict(7, 9)
    assert np.ndim(one) == 0
    assert one == pytest.approx(W[u] @ H[:, i], rel=1e-14)
    assert fitted.predict([7, 8], 9).tolist() == [one, fitted.predict(8, 9)]
    assert fitted.predict(7, [9, 9]).tolist() == [one, one]
    everything = fitted.predict(np.repeat(ratings.users, 90), np.tile(ratings.items, 120))
    clipped = fitted.predict(np.repeat(ratings.users, 90), np.tile(ratings.items, 120), clip=True)
    assert everything.max() > 5
    assert np.array_equal(clipped, np.clip(everything, 1, 5))
    with pytest.raises(KeyError, match="unknown user 1000"):
        fitted.predict([7, 1000], [9, 9])
    with pytest.raises(KeyError, match="unknown item 'x'"):
        fitted.predict(7, "x")
    assert fitted.predict([1], [1, 2, 3]).shape == (3,)
    with pytest.raises(ValueError, match="2 users for 3 items: give as many of both, or a single one"):
        fitted.predict([1, 2], [1, 2, 3])


def test_recommend(ratings: Ratings, fitted: Recommender) -> None:
    row = ratings.user_index(5)
    seen = set(ratings.items[ratings.indices[ratings.indptr[row] : ratings.indptr[row + 1]]].tolist())
    items, predicted = fitted.recommend(5, n=7)
    assert len(items) == len(predicted) == 7
    assert not seen & set(items.tolist())
    assert (np.diff(predicted) <= 0).all()
    np.testing.assert_allclose(predicted, fitted.predict(5, items), rtol=1e-14)
    left = [item for item in ratings.items.tolist() if item not in seen]
    assert predicted.min() >= max(fitted.predict(5, [item for item in left if item not in items]))
    assert sorted(fitted.recommend(5, n=1000).items.tolist()) == left  # never padded
    assert len(fitted.recommend(5, n=1000, exclude_seen=False).items) == 90
    with pytest.raises(KeyError, match="unknown user 'ann'"):
        fitted.recommend("ann")
    with pytest.raises(ValueError, match="n=0"):
        fitted.recommend(5, n=0)


def test_nothing_is_left_for_who_has_seen_all() -> None:
    model = Recommender(rank=1, random_state=0).fit(Ratings.from_triplets([1, 1, 2], ["a", "b", "a"], [1, 2, 3]))
    items, predicted = model.recommend(1)
    assert items.size == predicted.size == 0
    assert model.recommend(2).items.tolist() == ["b"]


def test_who_has_no_training_ratings_gets_what_the_average_would(ratings: Ratings) -> None:
    some = part(ratings, slice(0, 60))
    model = Recommender(rank=4, random_state=0).fit(some)
    new = model.predict(np.repeat(ratings.users[60:], 90), np.tile(ratings.items, 60)).reshape(60, 90)
    assert np.isfinite(new).all()
    np.testing.assert_allclose(new, np.broadcast_to(new[0], new.shape), rtol=0.05)  # all alike
    means = UserItemMeans.fit(some)
    assert new.mean() == pytest.approx(means.mean, rel=0.05)
    assert np.corrcoef(new[0], means.item_offsets)[0, 1] > 0.8  # and near the means of the items


def test_an_item_without_ratings_is_near_the_mean_of_the_user() -> None:
    # Item 3 is known and unrated.
    ratings = Ratings(np.arange(3), np.arange(4), [0, 3, 5, 6], [0, 1, 2, 0, 2, 1], [5.0, 4, 5, 1, 2, 3])
    model = Recommender(rank=2, random_state=0).fit(ratings)
    predicted = model.predict([0, 1, 2], 3)
    assert np.isfinite(predicted).all()
    assert predicted[0] > predicted[2] > predicted[1]
    assert 1 < predicted[1] < predicted[0] < 5


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [3.0, 3.0, 3.0], [0.0, 1e-300, 1e300]])
@pytest.mark.filterwarnings("ignore:all .* ratings are")
def test_odd_ratings_give_finite_predictions(values: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        model = Recommender(rank=2, random_state=0).fit(Ratings.from_triplets([1, 1, 2], [1, 2, 2], values))
    assert np.isfinite(model.predict([1, 1, 2, 2], [1, 2, 1, 2])).all()


# Bad input, interrupts


def test_not_fitted() -> None:
    for use in (
        lambda model: model.predict(1, 1),
        lambda model: model.recommend(1),
        lambda model: model.save("x.npz"),
        lambda model: model.factorization_,
        lambda model: model.ratings_,
    ):
        with pytest.raises(RuntimeError, match="not fitted"):
            use(Recommender())


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"rank": 0}, ValueError, "rank=0"),
        ({"rank": 2.5}, TypeError, "rank=2.5"),
        ({"l2": -1}, ValueError, "l2=-1"),
        ({"prior": 0}, ValueError, "prior=0"),
        ({"prior": float("nan")}, ValueError, "prior=nan"),
        ({"prior": 1e40}, ValueError, r"prior=1e\+40 is not between"),
        ({"prior": 1e-50}, ValueError, "prior=1e-50 is not between"),
        ({"offsets": "yes"}, TypeError, "offsets='yes'"),
        ({"tol": "x"}, TypeError, "tol='x'"),
        ({"max_iter": -1}, ValueError, "max_iter=-1"),
        ({"l2": 10**400}, ValueError, "l2=10"),
        ({"random_state": -1}, ValueError, "random_state=-1"),
        ({"random_state": "x"}, TypeError, "random_state='x'"),
    ],
)
def test_bad_settings(settings: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        Recommender(**settings)


def test_a_penalty_that_overflows_is_named_as_it_was_given(ratings: Ratings) -> None:
    with pytest.raises(ValueError, match=r"l2=1e\+308 for each rating is too large"):
        Recommender(rank=2, l2=1e308).fit(ratings)


def test_a_failed_fit_leaves_the_last_model(ratings: Ratings) -> None:
    model = Recommender(rank=2, random_state=0).fit(ratings)
    before = model.factorization_
    with pytest.raises(TypeError, match=r"nmfcore\.Ratings, not list"):
        model.fit([[1, 2]])
    model.rank = -3
    with pytest.raises(ValueError, match="rank=-3"):
        model.fit(ratings)
    assert model.factorization_ is before


def test_an_interrupt_keeps_the_last_complete_estimate(ratings: Ratings) -> None:
    def stop_at(n: int) -> object:
        def callback(state: object) -> None:
            if state.n_iter == n:
                raise KeyboardInterrupt

        return callback

    model = Recommender(rank=2, random_state=0)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(ratings, callback=stop_at(3))
    assert caught.value.__notes__ == ["The fit was interrupted; the model is that of iteration 3."]
    assert model.factorization_.n_iter == 3
    assert caught.value.factorization is model.factorization_
    assert len(model.recommend(1).items) == 10
    three = Recommender(rank=2, random_state=0, max_iter=3, tol=0).fit(ratings)
    assert np.array_equal(three.factorization_.W, model.factorization_.W)


def test_an_interrupt_before_the_first_iteration_keeps_the_model_before(
    ratings: Ratings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    model = Recommender(rank=2, random_state=0).fit(ratings)
    before = model.factorization_
    monkeypatch.setattr("nmfcore.api.factorize.factorize", interrupt)
    with pytest.raises(KeyboardInterrupt) as caught:
        model.fit(ratings)
    assert "the model is the one before" in caught.value.__notes__[0]
    assert model.factorization_ is before
    with pytest.raises(KeyboardInterrupt) as caught:
        Recommender().fit(ratings)
    assert "there is no model" in caught.value.__notes__[0]


def test_too_few_iterations_warn(ratings: Ratings) -> None:
    with pytest.warns(nmfcore.ConvergenceWarning):
        Recommender(rank=3, max_iter=2, random_state=0).fit(ratings)


def test_the_front_door_stays_open() -> None:
    # The module nmfcore.factorize, imported by itself, would take the place of the function of that name.
    program = (
        "import nmfcore; r = nmfcore.Ratings.from_triplets([1, 2], [1, 2], [3, 5]);"
        "nmfcore.Recommender(rank=1).fit(r); print(nmfcore.factorize([[1.0]], 1).n_iter)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stderr == ""
    assert run.stdout.strip().isdigit()


# Files


@pytest.mark.parametrize("text", [False, True])
def test_save_and_load(ratings: Ratings, tmp_path: Path, text: bool) -> None:
    if text:
        rows, columns, values = ratings.triplets()
        ratings = Ratings.from_triplets([f"ü{u}" for u in rows], [f"{i:03}" for i in columns], values)
    model = Recommender(rank=np.int64(3), l2=0.2, random_state=np.int32(5)).fit(ratings)
    model.save(tmp_path / "model.npz")
    loaded = Recommender.load(tmp_path / "model.npz")
    assert repr(loaded) == repr(Recommender(rank=3, l2=0.2, random_state=5))
    for name in ("users", "items", "indptr", "indices", "data"):
        assert np.array_equal(getattr(loaded.ratings_, name), getattr(ratings, name))
    user = ratings.users[4]
    for a, b in zip(loaded.recommend(user, 20), model.recommend(user, 20), strict=True):
        assert np.array_equal(a, b)
    assert loaded.rating_range_ == model.rating_range_
    again = loaded.fit(ratings)  # its settings are there
    assert np.array_equal(again.factorization_.W, model.factorization_.W)


def test_a_generator_is_not_saved(ratings: Ratings, tmp_path: Path) -> None:
    Recommender(rank=2, random_state=np.random.default_rng(0)).fit(ratings).save(tmp_path / "m.npz")
    assert Recommender.load(tmp_path / "m.npz").random_state is None


DAMAGE = {
    "users_too_few": lambda a, meta: a.update(users=a["users"][1:]),
    "users_repeat": lambda a, meta: a.update(users=np.repeat(a["users"][:1], a["users"].size)),
    "users_descend": lambda a, meta: a.update(users=a["users"][::-1].copy()),
    "items_more": lambda a, meta: a.update(items=np.append(a["items"], 10**6)),
    "indices_outside": lambda a, meta: a.update(indices=np.append(a["indices"][:-1], 90)),
    "indices_negative": lambda a, meta: a.update(indices=np.append(-1, a["indices"][1:])),
    "indices_repeat": lambda a, meta: a.update(indices=np.zeros_like(a["indices"])),
    "indptr_falls": lambda a, meta: a["indptr"].__setitem__(3, 10**6),
    "indptr_short": lambda a, meta: a.update(indptr=a["indptr"][:-1]),
    "indptr_empty": lambda a, meta: a.update(indptr=a["indptr"][:0]),
    "ratings_nan": lambda a, meta: a["ratings"].__setitem__(0, np.nan),
    "ratings_negative": lambda a, meta: a["ratings"].__setitem__(0, -1),
    "ratings_none": lambda a, meta: a.update(ratings=a["ratings"][:0], indices=a["indices"][:0]),
    "W_rows": lambda a, meta: a.update(W=a["W"][1:]),
    "H_columns": lambda a, meta: a.update(H=a["H"][:, 1:]),
    "W_negative": lambda a, meta: a["W"].__setitem__((0, 0), -1.0),
    "settings_missing": lambda a, meta: meta.pop("recommender"),
    "settings_kind": lambda a, meta: meta.update(recommender=[1, 2]),
    "settings_unknown": lambda a, meta: meta["recommender"].update(colour="red"),
    "settings_text": lambda a, meta: meta["recommender"].update(rank="many"),
    "settings_rank": lambda a, meta: meta["recommender"].update(rank=7),
    "another_kind": lambda a, meta: meta.update(kind="something"),
}


def test_a_file_of_the_other_kind_is_refused_with_what_reads_it(fitted: Recommender, tmp_path: Path) -> None:
    fitted.save(tmp_path / "recommender.npz")
    nmfcore.factorize(np.ones((3, 3)), 1, random_state=0).save(tmp_path / "factorization.npz")
    with pytest.raises(
        ValueError, match=r"npz: it says that it is a recommender: nmfcore\.Recommender\.load reads those"
    ):
        nmfcore.load(tmp_path / "recommender.npz")
    with pytest.raises(ValueError, match=r"factorization: nmfcore\.load reads those"):
        Recommender.load(tmp_path / "factorization.npz")


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_model_is_refused_by_name(fitted: Recommender, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "model.npz"
    fitted.save(path)
    arrays, meta = archive.read(path, saving.MEMBERS)
    DAMAGE[damage](arrays, meta)
    archive.write(path, arrays, meta)
    with pytest.raises(ValueError, match=r"model\.npz: "):
        Recommender.load(path)


NO_NUMBER = ("many", None, True, [1], {}, float("nan"), float("inf"), -1, 10**400)
UNUSABLE = [
    *(("recommender", "rank", bad) for bad in (*NO_NUMBER, 0, 3.0)),
    *(("recommender", "l2", bad) for bad in (*NO_NUMBER, 1e308) if bad is not None),
    *(("recommender", "prior", bad) for bad in (*NO_NUMBER, 0, 1e40) if bad is not None),
    *(("recommender", "offsets", bad) for bad in ("yes", None, 1, [])),
    *(("recommender", "tol", bad) for bad in NO_NUMBER),
    *(("recommender", "max_iter", bad) for bad in (*NO_NUMBER[:-1], 2.5)),  # as many iterations as one likes
    *(("recommender", "random_state", bad) for bad in (*NO_NUMBER, 2.5, 2**32) if bad is not None),
    *(("settings", "loss", bad) for bad in ("kullback-leibler", "x", 1.0, float("nan"), 1e308, None)),
    *(("settings", "missing_values", bad) for bad in (None, 0, False, float("nan"), "x")),
    *(("settings", "l1", bad) for bad in ([0.1, 0.1], [0, 10**400], 0, [0])),
    *(("settings", "l2", bad) for bad in ([0.1, 0.2], [10**400] * 2, [True, True], [0.1], "x", None)),
    *(("settings", "l2_scaling", bad) for bad in (None, "size", ["count"])),
    *(("settings", "offsets", bad) for bad in ("x", 1, None)),
    *(("settings", "tol", bad) for bad in NO_NUMBER),
    *(("settings", "max_iter", bad) for bad in NO_NUMBER[:-1]),
    *(("settings", "column_scale", bad) for bad in ([0] * 90, [0] * 91, "x")),
    *(("settings", "solver", bad) for bad in (None, 3)),
    *(("recommender", name, ...) for name in saving.SETTINGS),
    *(("settings", name, ...) for name in ("solver", "loss", "missing_values", "l1", "l2", "l2_scaling")),
]


@pytest.mark.parametrize(("where", "name", "value"), UNUSABLE, ids=lambda value: repr(value)[:20])
def test_a_setting_that_cannot_be_used_is_refused_when_it_is_read(
    fitted: Recommender, tmp_path: Path, where: str, name: str, value: object
) -> None:
    path = tmp_path / "model.npz"
    fitted.save(path)
    arrays, meta = archive.read(path, saving.MEMBERS)
    if value is ...:
        del meta[where][name]
    else:
        meta[where][name] = value
    archive.write(path, arrays, meta)
    with pytest.raises(ValueError, match=rf"model\.npz: damaged nmfcore model: .*{name}.*\. Save the model again\.$"):
        Recommender.load(path)


@pytest.mark.parametrize(
    ("name", "value"), [("l2", 1e308), ("tol", "x"), ("max_iter", -1), ("random_state", -1), ("prior", 0)]
)
def test_a_file_that_would_be_refused_is_not_written(
    ratings: Ratings, tmp_path: Path, name: str, value: object
) -> None:
    model = Recommender(rank=2, random_state=0).fit(ratings)
    setattr(model, name, value)
    with pytest.raises((TypeError, ValueError), match=f"{name}="):
        model.save(tmp_path / "model.npz")
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_recommender(fitted: Recommender, tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    fitted.factorization_.save(path)
    with pytest.raises(ValueError, match=r"model\.npz: "):
        Recommender.load(path)
    fitted.save(path)
    with pytest.raises(ValueError, match=r"model\.npz: "):
        nmfcore.load(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"model\.npz: "):
        Recommender.load(path)
    with pytest.raises(FileNotFoundError):
        Recommender.load(tmp_path / "absent.npz")


def test_ratings_whose_sum_is_beyond_float64_are_refused() -> None:
    """Before, by an error about an l2 that nobody had given."""
    ratings = Ratings.from_triplets([1, 1, 2], [1, 2, 1], [1e308, 5e307, 1e308])
    model = Recommender(rank=1, random_state=0)
    with pytest.raises(ValueError, match=r"largest rating is 1e\+308: the sum of 3 .* less than 5\.99e\+307"):
        model.fit(ratings)
    small = Ratings.from_triplets([1, 1, 2], [1, 2, 1], [5e307, 2.5e307, 5e307])
    assert np.isfinite(model.fit(small).predict(2, 2))
