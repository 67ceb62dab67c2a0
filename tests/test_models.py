"""Models that older versions saved: they load, and predict what they did then."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore

FOLDER = Path(__file__).parent / "models"
FILES = sorted(path for path in FOLDER.glob("*/*.npz") if path.name != "expected.npz")
MODELS = [path for path in FILES if path.stem.startswith("recommender_")]
FITS = [path for path in FILES if path not in MODELS]


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=lambda path: f"{path.parent.name}/{path.stem}")


def expected(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The facts and the arrays that were saved beside this model."""
    prefix = f"{path.stem}."
    with np.load(path.with_name("expected.npz"), allow_pickle=False) as file:
        arrays = {key.removeprefix(prefix): file[key] for key in file.files if key.startswith(prefix)}
        arrays["places"] = file["places"]
    return json.loads(arrays.pop("facts").item()), arrays


def given(path: Path, X: np.ndarray, rule: object) -> object:
    """X as the fit got it: a sparse one if that was sparse."""
    if rule == "unstored":
        i, j = np.nonzero(~np.isnan(X))
        return sp.csr_array((X[i, j], (i, j)), shape=X.shape)
    return sp.csr_array(X) if path.stem.endswith("_sparse") else X


def close(actual: Any, wanted: Any, rtol: float = 1e-9) -> None:
    np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=rtol * np.abs(wanted).max(initial=0.0))


def check_facts(f: nmfcore.Factorization, facts: dict[str, Any]) -> None:
    assert [list(f.W.shape), list(f.H.shape)] == facts["shapes"]
    assert f.W.dtype == f.H.dtype == facts["dtype"]
    assert (f.status.name, f.converged, f.n_iter) == (facts["status"], facts["converged"], facts["n_iter"])
    assert len(f.history) == f.n_iter + 1
    close([f.objective, f.kkt], [facts["objective"], facts["kkt"]], 1e-12)
    kept = {key: f.settings[key] for key in facts["settings"]}  # a later version may have more
    assert json.dumps(kept) == json.dumps(facts["settings"])  # as text, nan equals nan
    assert f"  {facts['status']}: " in repr(f)


def test_there_are_models_of_each_kind():
    names = {path.stem for path in FILES}
    assert {path.parent.name for path in FILES} >= {"0.1.0"}
    assert len(FITS) >= 26
    assert len(MODELS) >= 5
    assert names >= {"frobenius_dense", "kullback_leibler_sparse", "itakura_saito_dense", "beta_half_nan"}
    assert sum(path.stat().st_size for path in (FOLDER / "0.1.0").iterdir()) < 200_000


@each(FITS)
def test_a_factorization_is_what_it_was(path):
    facts, arrays = expected(path)
    f = nmfcore.load(path)
    check_facts(f, facts)
    close(f.predict(*arrays["places"]), arrays["predicted"], 1e-4 if facts["dtype"] == "float32" else 1e-9)


@each(FITS)
def test_a_factorization_transforms_new_rows_as_it_did(path):
    facts, arrays = expected(path)
    f = nmfcore.load(path)
    beside = {key: arrays[key] for key in ("mask", "weights") if key in arrays}
    rows = f.transform(given(path, arrays["X"], facts["settings"]["missing_values"]), **beside)
    assert rows.dtype == facts["dtype"]
    # A later version may solve the rows of other losses better.
    rtol = 1e-9 if facts["settings"]["loss"] == "frobenius" else 1e-5
    close(rows, arrays["transformed"], 1e-4 if facts["dtype"] == "float32" else rtol)


@each(FITS)
def test_a_factorization_is_saved_again(path, tmp_path):
    f = nmfcore.load(path)
    f.save(tmp_path / "again.npz")
    again = nmfcore.load(tmp_path / "again.npz")
    assert np.array_equal(again.W, f.W)
    assert np.array_equal(again.H, f.H)
    assert repr(again) == repr(f)


@pytest.mark.parametrize("name", ["frobenius_max_iter", "frobenius_offsets_dense", "kullback_leibler_dense"])
@pytest.mark.parametrize("folder", sorted({path.parent for path in FITS}), ids=lambda path: path.name)
def test_a_fit_goes_on_from_a_factorization(folder, name):
    f = nmfcore.load(folder / f"{name}.npz")
    offsets = f.settings["offsets"]
    options = {key: f.settings[key] for key in ("loss", "l1", "l2", "offsets")}
    X = f.reconstruct() * np.random.default_rng(0).uniform(0.9, 1.1, (len(f.W), f.H.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", nmfcore.ConvergenceWarning)
        start = nmfcore.factorize(X, f.rank - 2 * offsets, init=f, max_iter=0, **options)
        after = nmfcore.factorize(X, f.rank - 2 * offsets, init=f, max_iter=5, **options)
    close(start.predict(*np.indices(X.shape)), f.reconstruct())  # it began where the file ended
    assert 1 <= after.n_iter <= 5
    assert after.objective < start.objective


@each(MODELS)
def test_a_recommender_is_what_it_was(path):
    facts, _ = expected(path)
    model = nmfcore.Recommender.load(path)
    check_facts(model.factorization_, facts)
    assert {key: getattr(model, key) for key in facts["recommender"]} == facts["recommender"]
    assert list(model.rating_range_) == facts["rating_range"]
    assert model.ratings_.nnz == facts["n_ratings"]
    assert repr(model).startswith("Recommender(rank=2, ")


@each(MODELS)
def test_a_recommender_answers_as_it_did(path):
    facts, _ = expected(path)
    model = nmfcore.Recommender.load(path)
    users, items = facts["users"], facts["items"]
    close(model.predict(users, items), np.array(facts["predicted"]))
    for user, best, ratings, with_seen in zip(
        users, facts["recommended"], facts["ratings"], facts["with_seen"], strict=True
    ):
        found = model.recommend(user, n=4)
        assert found.items.tolist() == best
        close(found.ratings, np.array(ratings))
        assert model.recommend(user, n=4, exclude_seen=False).items.tolist() == with_seen
    alike = model.similar_items(items[0], n=3)
    assert alike.items.tolist() == facts["similar"]
    close(alike.similarities, np.array(facts["similarities"]))
    why = model.explain(users[0], items[0], n=3)
    close(why.features, np.array(facts["features"]))
    close(why.contributions, np.array(facts["contributions"]))
    guest = model.fold_in(dict(zip(items, facts["stars"], strict=True)))
    close(guest.predict("new", model.ratings_.items), np.array(facts["guest"]))


@each(MODELS)
def test_a_recommender_is_saved_again(path, tmp_path):
    model = nmfcore.Recommender.load(path)
    model.save(tmp_path / "again.npz")
    again = nmfcore.Recommender.load(tmp_path / "again.npz")
    assert np.array_equal(again.factorization_.W, model.factorization_.W)
    assert np.array_equal(again.factorization_.H, model.factorization_.H)
    assert np.array_equal(again.ratings_.users, model.ratings_.users)
    assert np.array_equal(again.ratings_.items, model.ratings_.items)
    assert repr(again) == repr(model)


@each([path for path in MODELS if path.stem == "recommender_integers"])
def test_a_recommender_takes_in_new_ratings(path):
    model = nmfcore.Recommender.load(path)
    m, n = model.ratings_.shape
    model.partial_fit(nmfcore.Ratings.from_triplets([m + 1, m + 1], [1, n + 1], [5.0, 1.0]))
    assert model.ratings_.shape == (m + 1, n + 1)
    assert np.isfinite(model.predict(m + 1, n + 1))
