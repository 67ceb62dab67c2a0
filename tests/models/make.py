"""Make the models in tests/models/0.1.0, and expected.npz: what they predict.

expected.npz holds, for each model, the text `<model>.facts` (JSON). For each factorization it also holds arrays:
new rows (X, and mask or weights), what transform makes of them, and the predictions at `places`.

It ran once, with nmfcore 0.1.0. Do not run it again: the files are there because that version wrote them. For a later
version that writes files differently, copy this script, change VERSION, and let it write a folder of its own.
tests/test_models.py reads every folder.

The data are planted: drawn from a seed. A model file holds no titles of items; a Recommender may have titles as ids.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.sparse as sp

import nmfcore
from nmfcore.datasets import planted_ratings
from nmfcore.solvers import HALS

VERSION = "0.1.0"
FOLDER = Path(__file__).parent / VERSION
M, N, RANK, NEW = 24, 18, 3, 4  # the fits have M rows; NEW more are for transform
PLACES = np.array([[0, 5, 11, M - 1, -2], [0, 7, N - 1, -3, 4]])  # where each predicts
NUMBERS = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0}

Fit = tuple[str, np.ndarray, dict[str, np.ndarray], dict[str, object]]


def planted(loss: str | float) -> np.ndarray:
    """M + NEW positive rows of rank RANK, with the noise that suits the loss."""
    rng = np.random.default_rng(20)
    X = (0.2 + rng.gamma(1.0, size=(M + NEW, RANK))) @ (0.2 + rng.gamma(1.0, size=(RANK, N)))
    beta = NUMBERS.get(loss, loss)
    if beta == 1.0:
        return rng.poisson(2 * X).astype(float)
    if beta == 2.0:
        return rounded(X * rng.uniform(0.9, 1.1, X.shape))
    return rounded(X * rng.gamma(20.0, 1 / 20, X.shape))


def rounded(X: np.ndarray) -> np.ndarray:
    """Positive multiples of 1/64: expected.npz gets smaller."""
    return np.maximum(np.rint(64 * X), 1.0) / 64


def storages(loss: str | float) -> Iterator[Fit]:
    """Name, X with the new rows last, what goes with X, and options: for each way to give data."""
    X, rng = planted(loss), np.random.default_rng(21)
    few, half = rng.random(X.shape) < 0.06, rng.random(X.shape) < 0.5
    half[:, 0] = True
    stored = np.where(half, X, np.nan)
    if NUMBERS.get(loss, loss) == 2.0:
        stored[half & (X < 2.0)] = 0.0  # zeros that are data
    yield "dense", X, {}, {}
    yield "float32", X.astype(np.float32), {}, {}
    yield "sparse", np.where(half, X, 0.0), {}, {}
    yield "unstored", stored, {}, {"missing_values": "unstored"}
    yield "nan", np.where(few, np.nan, X), {}, {"missing_values": np.nan}
    yield "mask", X, {"mask": half}, {}
    yield "weights", X, {"weights": np.where(few, 0.0, rng.integers(1, 5, X.shape) / 2)}, {}


def fits() -> Iterator[Fit]:
    """All factorizations: their names begin with the loss."""
    for fit in storages("frobenius"):
        yield f"frobenius_{fit[0]}", *fit[1:]
    for name, loss, kept in (
        ("kullback_leibler", "kullback-leibler", ("dense", "float32", "sparse", "unstored", "weights")),
        ("itakura_saito", "itakura-saito", ("dense", "unstored")),
        ("beta_half", 0.5, ("dense", "nan")),
    ):
        for storage, X, beside, options in storages(loss):
            if storage in kept:
                slow = {} if loss == "kullback-leibler" else {"tol": 5e-3}  # multiplicative updates
                yield f"{name}_{storage}", X, beside, options | {"loss": loss} | slow
    plain = {storage: (X, beside, options) for storage, X, beside, options in storages("frobenius")}
    for name, storage, options in (
        ("offsets_dense", "dense", {"offsets": True, "l2": 0.02}),
        ("offsets_unstored", "unstored", {"offsets": True, "l2": 0.02, "l2_scaling": "count"}),
        ("count", "mask", {"l2_scaling": "count", "l2": (0.01, 0.03)}),
        ("penalties", "dense", {"l1": (0.1, 0.2), "l2": 0.3}),
        ("mu", "dense", {"solver": "mu", "tol": 1e-2}),
        ("hals_instance", "dense", {"solver": HALS(sweeps=2, extrapolate=False)}),
        ("zero_is_missing", "sparse", {"missing_values": 0}),
        ("max_iter", "dense", {"max_iter": 3}),
        ("callback", "dense", {"callback": stop_at_two}),
        ("stalled", "dense", {"rank": 1, "tol": 0.0}),
    ):
        X, beside, more = plain[storage]
        yield f"frobenius_{name}", X, beside, more | options


def stop_at_two(state: object) -> None:
    if state.n_iter == 2:
        raise StopIteration


def given(name: str, X: np.ndarray, missing_values: object) -> object:
    """X as the fit gets it: NaN where a sparse X stores nothing."""
    if missing_values == "unstored":
        i, j = np.nonzero(~np.isnan(X))
        return sp.csr_array((X[i, j], (i, j)), shape=X.shape)
    return sp.csr_array(X) if name.endswith("_sparse") else X


def facts_of(f: nmfcore.Factorization) -> dict[str, object]:
    return {
        "objective": f.objective,
        "kkt": f.kkt,
        "n_iter": f.n_iter,
        "converged": f.converged,
        "status": f.status.name,
        "shapes": [f.W.shape, f.H.shape],
        "dtype": str(f.W.dtype),
        "settings": f.settings,
    }


def factorizations() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for name, X, beside, options in fits():
        rank = options.pop("rank", RANK)
        options = {"tol": 1e-3, "max_iter": 400, "random_state": 0} | options
        missing_values = options.get("missing_values")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if "max_iter" in name else "error")
            part = {key: value[:M] for key, value in beside.items()}
            f = nmfcore.factorize(given(name, X[:M], missing_values), rank, **part, **options)
        f.save(FOLDER / f"{name}.npz")
        rows = {key: value[M:] for key, value in beside.items()}
        arrays = {"facts": np.array(json.dumps(facts_of(f))), "X": X[M:], **rows, "predicted": f.predict(*PLACES)}
        yield name, arrays | {"transformed": f.transform(given(name, X[M:], missing_values), **rows)}


def models() -> Iterator[tuple[str, nmfcore.Recommender]]:
    ratings = planted_ratings(24, 16, 160, rank=2, random_state=22)
    users, items, stars = ratings.triplets()
    titles = np.array([f"Ciné {k}, «Ω» (19{k + 60})" for k in range(17)])
    text = nmfcore.Ratings.from_triplets([f"ü{k:02d}" for k in users], titles[items], stars)
    settings = {"rank": 2, "tol": 1e-2, "random_state": 0}
    yield "recommender_integers", nmfcore.Recommender(**settings).fit(ratings)
    yield "recommender_text", nmfcore.Recommender(**settings, l2=0.1, prior=5.0).fit(text)
    yield "recommender_no_offsets", nmfcore.Recommender(**settings, offsets=False).fit(ratings)
    more = nmfcore.Ratings.from_triplets([25, 25, 1], [1, 99, 2], [5.0, 0.5, 3.0])
    yield "recommender_partial_fit", nmfcore.Recommender(**settings).fit(ratings).partial_fit(more)
    guests = nmfcore.Ratings.from_triplets(["a", "a", "b"], [1, 2, 3], [5.0, 1.0, 4.0])
    yield "recommender_fold_in", nmfcore.Recommender(**settings).fit(ratings).fold_in(guests)


def recommenders() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for name, model in models():
        model.save(FOLDER / f"{name}.npz")
        users, items = model.ratings_.users[[0, -1]].tolist(), model.ratings_.items[[2, -1]].tolist()
        best = [model.recommend(user, n=4) for user in users]
        alike, why = model.similar_items(items[0], n=3), model.explain(users[0], items[0], n=3)
        stars = [4.0, 1.0]
        guest = model.fold_in(dict(zip(items, stars, strict=True)))
        facts = facts_of(model.factorization_)
        facts |= {"rating_range": model.rating_range_, "n_ratings": model.ratings_.nnz}
        facts |= {"recommender": {key: getattr(model, key) for key in ("rank", "l2", "prior", "offsets", "tol")}}
        facts |= {
            "users": users,
            "items": items,
            "predicted": model.predict(users, items).tolist(),
            "recommended": [found.items.tolist() for found in best],
            "ratings": [found.ratings.tolist() for found in best],
            "with_seen": [model.recommend(user, n=4, exclude_seen=False).items.tolist() for user in users],
            "similar": alike.items.tolist(),
            "similarities": alike.similarities.tolist(),
            "features": why.features.tolist(),
            "contributions": why.contributions.tolist(),
            "stars": stars,
            "guest": guest.predict("new", model.ratings_.items).tolist(),
        }
        yield name, {"facts": np.array(json.dumps(facts))}


def main() -> None:
    if nmfcore.__version__ != VERSION or FOLDER.exists():
        sys.exit(f"This made {FOLDER} with nmfcore {VERSION}, once; see the top of {__file__}.")
    FOLDER.mkdir()
    expected = {"places": PLACES}
    for make in (factorizations, recommenders):
        for name, arrays in make():
            expected |= {f"{name}.{key}": value for key, value in arrays.items()}
    np.savez_compressed(FOLDER / "expected.npz", **expected)


if __name__ == "__main__":
    main()
