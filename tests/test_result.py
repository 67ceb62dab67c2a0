"""What a fit hands back: how it prints, unpacks, predicts, and survives on disk."""

from __future__ import annotations

import dataclasses
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nmfcore
from nmfcore import Factorization, Status, _arguments
from nmfcore.api import archive, model_checks
from nmfcore.api.result import pack

X = np.random.RandomState(0).random_sample((7, 5)) + 0.1


@pytest.fixture(scope="module")
def f() -> Factorization:
    return nmfcore.factorize(X, 2, random_state=0, l1=(0.0, 0.01), l2=0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.npz"


# ---- reading it ---------------------------------------------------------------------------------------------


def test_repr_tells_what_was_fitted_how_well_and_why_it_ended(f):
    first, second, third = repr(f).splitlines()
    assert "X (7 x 5) ≈ W (7 x 2) H (2 x 5), float64" in first
    assert "HALS(" in first
    assert f"objective {f.objective:.6g} (from {f.history.objective[0]:.6g})" in second
    assert f"KKT residual {f.kkt:.2g}" in second
    assert f"{f.n_iter} iterations" in second
    assert third.strip() == "CONVERGED: The KKT residual reached tol, and the objective hardly falls any more."


def test_unpacking(f):
    W, H = f
    assert W is f.W
    assert H is f.H
    assert f.rank == 2


def test_it_agrees_with_its_history(f):
    assert len(f.history) == f.n_iter + 1
    assert (f.objective, f.kkt, f.seconds) == (f.history.objective[-1], f.history.kkt[-1], f.history.seconds[-1])
    np.testing.assert_array_equal(f.history.iteration, np.arange(f.n_iter + 1))
    penalty = 0.01 * f.H.sum() + 0.05 * (np.sum(f.W**2) + np.sum(f.H**2))
    assert f.objective == pytest.approx(0.5 * np.sum((X - f.W @ f.H) ** 2) + penalty, rel=1e-12)


@pytest.mark.parametrize("options", [{}, {"tol": 0}, {"max_iter": 0}, {"max_time": 0}])
def test_scalars_are_pythons_own(options, path):
    """NumPy's would not go into a model file."""
    options = {"tol": 0, "max_iter": 3000, "random_state": 0} | options
    f = nmfcore.factorize(X, 1, **options)
    assert [type(x) for x in (f.objective, f.kkt, f.n_iter, f.converged, f.seconds)] == [float, float, int, bool, float]
    f.save(path)
    assert nmfcore.load(path).converged is f.converged


def test_it_is_frozen(f):
    with pytest.raises(dataclasses.FrozenInstanceError):
        f.W = f.W


def test_settings_say_what_was_asked(f):
    assert f.settings["l1"] == (0.0, 0.01)
    assert f.settings["l2"] == (0.1, 0.1)
    assert f.settings["missing_values"] is None
    assert f.settings["solver"].startswith("HALS(")


def test_pickle_and_copy(f):
    g = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(g.W, f.W)
    np.testing.assert_array_equal(dataclasses.replace(f).H, f.H)


# ---- predicting -----------------------------------------------------------------------------------------------


def test_reconstruct(f):
    np.testing.assert_allclose(f.reconstruct(), f.W @ f.H, rtol=1e-14)


@pytest.mark.parametrize(
    ("rows", "cols"),
    [
        (3, 2),
        ([0, 6, 3], [4, 0, 2]),
        (np.arange(7)[:, None], np.arange(5)),
        (2, [0, 1, 4]),
        ([-1, -7, 0], -5),
        (np.array([1, 2], np.uint8), np.array([[0], [3]], np.int32)),
        ([], []),
        (np.zeros((0, 3), int), 1),
    ],
)
def test_predict_indexes_as_numpy_does(f, rows, cols):
    index = tuple(np.asarray(i, dtype=np.int64) for i in (rows, cols))
    expected = f.reconstruct()[index]
    found = f.predict(rows, cols)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize(
    ("rows", "cols", "error", "message"),
    [
        (7, 0, IndexError, "rows holds 7, but there are 7 of them: 0 to 6"),
        ([0, -8], 0, IndexError, "rows holds -8, but there are 7"),
        (0, [[4, 5]], IndexError, "cols holds 5, but there are 5 of them: 0 to 4"),
        (0, -6, IndexError, "cols holds -6"),
        (np.array([2**63], np.uint64), 0, IndexError, "rows holds 9223372036854775808"),
        (1.0, 0, TypeError, "rows must be whole numbers, not float64"),
        (0, "a", TypeError, "cols must be whole numbers"),
        ([True] * 7, 0, TypeError, "rows must be whole numbers, not bool"),
        ([0, 1], [0, 1, 2], ValueError, "broadcast"),
    ],
)
def test_predict_refuses_what_is_no_place(f, rows, cols, error, message):
    with pytest.raises(error, match=message):
        f.predict(rows, cols)


# ---- saving and loading ---------------------------------------------------------------------------------------


def same(f: Factorization, g: Factorization) -> None:
    assert type(g) is type(f)
    for field in dataclasses.fields(Factorization):
        one, other = getattr(f, field.name), getattr(g, field.name)
        if field.name in ("W", "H"):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)
        elif field.name == "history":
            for column in dataclasses.fields(one):
                np.testing.assert_array_equal(getattr(one, column.name), getattr(other, column.name))
        elif field.name == "settings":
            assert repr(one) == repr(other)  # NaN equals itself here
        else:
            assert type(one) is type(other)
            assert one == other


MASK = np.random.RandomState(1).random_sample(X.shape) < 0.8
FITS: dict[str, dict[str, Any]] = {
    "plain": {},
    "penalties": {"l1": (0.0, 0.5), "l2": 0.1},
    "mu": {"solver": "mu", "max_iter": 3, "tol": 0},
    "settings": {"solver": nmfcore.solvers.HALS(sweeps=2, extrapolate=False)},
    "NaN": {"missing_values": np.nan, "mask": MASK},
    "zero": {"missing_values": 0},
    "start only": {"max_iter": 0, "tol": 0},
    "float32": {"dtype": np.float32},
}


@pytest.mark.parametrize("name", FITS)
def test_what_is_saved_comes_back(name, path):
    f = nmfcore.factorize(X, 2, **({"random_state": 0} | FITS[name]))
    f.save(path)
    g = nmfcore.load(path)
    same(f, g)
    np.testing.assert_array_equal(f.transform(X), g.transform(X))
    assert repr(f) == repr(g)


def test_objectives_beyond_float64_come_back(path):
    f = nmfcore.factorize(X * 4.0**300, 2, random_state=0)
    assert np.isinf(f.objective)
    f.save(path)
    same(f, nmfcore.load(path))


def test_a_fit_goes_on_from_a_file(path):
    whole = nmfcore.factorize(X, 2, random_state=0, max_iter=20, tol=0, solver=nmfcore.solvers.HALS(1, False))
    half = nmfcore.factorize(X, 2, random_state=0, max_iter=10, tol=0, solver=nmfcore.solvers.HALS(1, False))
    half.save(path)
    W, H = nmfcore.load(path)
    g = nmfcore.factorize(X, 2, W=W, H=H, max_iter=10, tol=0, solver=nmfcore.solvers.HALS(1, False))
    np.testing.assert_allclose(g.W, whole.W, rtol=1e-12)


def rewrite(f: Factorization, path: Path, meta: dict[str, Any] | None = None, **arrays: Any) -> Path:
    """A file as ``save`` writes it, with parts replaced, or (None) left out."""
    old, description = pack(f)
    new = {name: array for name, array in (old | arrays).items() if array is not None}
    description = {"kind": "factorization", **description} | (meta or {})
    archive.write(path, new, {key: value for key, value in description.items() if value is not ...})
    return path


def test_the_tests_own_writer_writes_what_save_does(f, path):
    same(f, nmfcore.load(rewrite(f, path)))


@pytest.mark.parametrize(
    "arrays",
    [
        {"W": np.full((7, 2), np.nan)},
        {"W": np.full((7, 2), np.inf)},
        {"H": np.full((2, 5), -1.0)},
        {"W": np.ones((7, 3))},
        {"H": np.ones((5, 2))},
        {"W": np.ones((7, 0)), "H": np.ones((0, 5))},
        {"W": np.ones(7)},
        {"W": np.ones((7, 2), int)},
        {"W": np.ones((7, 2), np.float32)},
        {"W": np.array([["a"] * 2] * 7)},
        {"kkt": np.zeros(1)},
        {"iteration": np.zeros((2, 2), int)},
        {"objective": None},
        {"W": None},
        {"extra": np.zeros(3)},
        {"iteration": np.zeros(0, int), "objective": np.zeros(0), "kkt": np.zeros(0), "seconds": np.zeros(0)},
    ],
    ids=lambda arrays: ",".join(f"{k}:{None if v is None else (v.dtype.str, v.shape)}" for k, v in arrays.items()),
)
def test_arrays_that_make_no_factorization_are_refused(f, path, arrays):
    rewrite(f, path, **arrays)
    with pytest.raises(ValueError, match=r"nmfcore model|model of this kind|this kind of model") as caught:
        nmfcore.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({"kind": "ratings"}, "not a factorization but 'ratings'"),
        ({"kind": ...}, "not a factorization but None"),
        ({"status": "PERFECT"}, "damaged nmfcore model"),
        ({"status": 3}, "damaged nmfcore model"),
        ({"status": ["CONVERGED"]}, "damaged nmfcore model"),
        ({"status": ...}, "damaged nmfcore model"),
        ({"settings": [1, 2]}, "damaged nmfcore model"),
        ({"settings": ...}, "damaged nmfcore model"),
        ({"settings": {}}, "damaged nmfcore model"),
        (
            {"settings": {"solver": "HALS()", "missing_values": None, "l1": "big", "l2": [0, 0]}},
            "damaged nmfcore model",
        ),
        ({"settings": {"solver": "HALS()", "missing_values": None, "l1": [0], "l2": [0, 0]}}, "damaged nmfcore model"),
        ({"settings": {"solver": "HALS()", "missing_values": 7, "l1": [0, 0], "l2": [0, 0]}}, "damaged nmfcore model"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(f, path, meta, message):
    rewrite(f, path, meta)
    with pytest.raises(ValueError, match=message) as caught:
        nmfcore.load(path)
    assert str(path) in str(caught.value)


def test_the_setting_that_makes_no_sense_is_named(f, path):
    for name, value in (("l2", [1, "x"]), ("l1", [10**400, 0]), ("loss", "x"), ("missing_values", False), ("tol", -1)):
        rewrite(f, path, {"settings": {**pack(f)[1]["settings"], name: value}})
        with pytest.raises(ValueError, match=f"the setting {name} is ") as caught:
            nmfcore.load(path)
        assert str(path) in str(caught.value)


def test_the_losses_are_those_of_validation():
    # Written twice, so that reading a file does not load numba.
    assert (tuple(_arguments.LOSSES), _arguments.MOST_BETA) == (model_checks.LOSSES, model_checks.MOST_BETA)


def test_a_file_of_a_newer_version(f, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(archive, "VERSION", archive.VERSION + 1)
        f.save(path)
    with pytest.raises(ValueError, match=r"written by a newer nmfcore.*Upgrade nmfcore") as caught:
        nmfcore.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no more", pickle.dumps({"W": 1})])
def test_files_that_are_no_model(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="nmfcore model") as caught:
        nmfcore.load(path)
    assert str(path) in str(caught.value)


def test_a_file_larger_than_allowed(f, path):
    f.save(path)
    with pytest.raises(ValueError, match="max_bytes"):
        nmfcore.load(path, max_bytes=100)


def test_missing_files_and_folders_are_the_systems_errors(tmp_path):
    with pytest.raises(FileNotFoundError):
        nmfcore.load(tmp_path / "absent.npz")
    with pytest.raises(OSError, match=str(tmp_path)):
        nmfcore.load(tmp_path)


def test_flipped_bytes_never_give_anything_but_a_model_or_a_refusal(f, path):
    f.save(path)
    whole = path.read_bytes()
    refused = 0
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        path.write_bytes(bytes(damaged))
        try:
            g = nmfcore.load(path)
        except ValueError:
            refused += 1
        else:
            assert np.isfinite(g.W).all()
            assert g.W.min() >= 0
            assert g.status in Status
    assert refused > len(whole) / 7 / 2


def test_no_pickle_in_the_file(f, path):
    f.save(path)
    with zipfile.ZipFile(path) as file:
        assert set(file.namelist()) == {f"{name}.npy" for name in [*pack(f)[0], "meta"]}
    with np.load(path, allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["W"], f.W)
        assert json.loads(arrays["meta"].tobytes())["kind"] == "factorization"
