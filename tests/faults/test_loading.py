"""Model files that are damaged, hostile or not there: refused at once with what, where and the remedy, or sound.

Each key of the description and each array of a model file is removed, given another type, a value that cannot be, or
another length. Either the file is refused, or the model does all that it is for, and all it says is finite.
"""

from __future__ import annotations

import copy
import io
import os
import random
import socket
import subprocess
import sys
import textwrap
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import nmfcore
from nmfcore import Factorization, Ratings, Recommender
from nmfcore.__main__ import main
from nmfcore.api import archive, model_checks, result
from nmfcore.datasets import planted_ratings
from nmfcore.machine import memory
from nmfcore.recommender import saving
from tests.faults.budget import cases, seed

posix = pytest.mark.skipif(os.name == "nt", reason="files as POSIX has them")
X = np.random.default_rng(0).random((7, 5)) + 0.1
Parts = tuple[dict[str, np.ndarray], dict[str, Any]]


def made() -> dict[str, Any]:
    """Models of all kinds by name."""
    rng = np.random.default_rng(1)
    gaps = np.where(rng.random(X.shape) < 0.3, np.nan, X)
    units = rng.random((40, 1)) @ rng.random((1, 5)) * 4.0 ** np.arange(5)
    units[rng.random(units.shape) < 0.3] = np.nan
    asked = {"random_state": 0, "max_iter": 6, "tol": 0}
    ratings = planted_ratings(12, 9, 50)
    users, items, values = ratings.triplets()
    named = Ratings.from_triplets([f"u{u}" for u in users], [f"é{i}" for i in items], values, time=users)
    return {
        "plain": nmfcore.factorize(X, 2, **asked),
        "float32": nmfcore.factorize(X.astype(np.float32), 2, **asked),
        "divergence": nmfcore.factorize(X, 2, loss=1.5, **asked),
        "offsets": nmfcore.factorize(gaps, 2, missing_values=np.nan, offsets=True, l2=0.1, **asked),
        "auto": nmfcore.factorize(units, 1, missing_values=np.nan, l2="auto", random_state=0),
        "integers": Recommender(rank=2, random_state=0).fit(ratings),
        "texts": Recommender(rank=2, l2=0.1, prior=5.0, offsets=False).fit(named),
    }


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parts]:
    """What the file of each holds."""
    path = tmp_path_factory.mktemp("models") / "m.npz"
    found = {}
    for name, model in made().items():
        model.save(path)
        found[name] = archive.read(path, members(model))
    return found


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of files are written."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def members(model: object) -> dict[str, archive.Member]:
    return saving.MEMBERS if isinstance(model, Recommender) else result.MEMBERS


FITS, MODELS = ("plain", "float32", "divergence", "offsets", "auto"), ("integers", "texts")
EVERY = 7  # of so many changes the test suite makes one in each of as many models; `make fuzz` makes all in all


def mine(name: str, k: int) -> bool:
    """Whether the k-th change is made in this model."""
    return (k + (FITS + MODELS).index(name)) % cases(EVERY, 1) == 0


def load(name: str, path: Path) -> Any:
    return (Recommender if name in MODELS else nmfcore).load(path)


# ---- whether a model does what it is for -------------------------------------------------------------------------


def use(model: Any, folder: Path) -> None:
    """Whatever there is to do with it; all of it finite, all saved and loaded again."""
    again = folder / "again.npz"
    model.save(again)
    if isinstance(model, Recommender):
        use_recommender(model)
        assert repr(Recommender.load(again)) == repr(model)
    else:
        use_factorization(model)
        assert repr(nmfcore.load(again)) == repr(model)


def use_factorization(f: Factorization) -> None:
    m, n = f.W.shape[0], f.H.shape[1]
    assert np.isfinite(f.predict(np.arange(m)[:, None], np.arange(n))).all()
    assert np.isfinite(f.reconstruct()).all()
    rows = np.ones((2, n)) if f.settings["missing_values"] != 0 else np.full((2, n), 2.0)
    W = f.transform(rows)
    assert np.isfinite(W).all()
    assert (W >= 0).all()
    assert len(f.history) == f.n_iter + 1
    assert not np.isnan([f.objective, f.kkt, f.seconds]).any()
    assert f.status.name in repr(f)


def use_recommender(model: Recommender) -> None:
    use_factorization(model.factorization_)
    ratings = model.ratings_
    users, items = ratings.users.tolist(), ratings.items.tolist()
    for clip in (True, False):
        assert np.isfinite(model.predict(users[:3], items[:3], clip)).all()
    assert np.isfinite(model.predict([users[0]] * 2, items[:2], unknown="average")).all()
    assert np.isfinite(model.recommend(users[0], n=3).ratings).all()
    assert np.isfinite(model.similar_items(items[0], n=3).similarities).all()
    why = model.explain(users[0], items[0])
    assert np.isfinite([why.score, why.rest, why.others, *why.contributions, *why.features]).all()
    assert str(why)
    guest = model.fold_in({items[0]: 2.0, items[1]: 3.0})
    assert np.isfinite(guest.predict("new", items)).all()
    assert np.isfinite(model.level_)
    assert np.isfinite(model.rating_range_).all()


def refused_or_sound(name: str, path: Path, what: object) -> bool:
    """Whether a file is refused, in words; if not, that the model in it is sound."""
    try:
        model = load(name, path)
    except ValueError as error:
        message = str(error)
        assert message.startswith(f"{path}: "), what
        assert message.endswith((".", ".)")), what
        assert len(message) < 1000 + len(str(path)), what
        return True
    use(model, path.parent)
    return False


@pytest.mark.parametrize("name", FITS + MODELS)
def test_models_that_are_whole_are_sound(parts, name, tmp_path):
    archive.write(tmp_path / "m.npz", *parts[name])
    assert not refused_or_sound(name, tmp_path / "m.npz", "nothing")


# ---- every key --------------------------------------------------------------------------------------------------

ABSENT = object()
VALUES = [
    ABSENT,
    None,
    True,
    False,
    0,
    1,
    -1,
    7,
    10**30,
    10**400,
    0.5,
    -0.5,
    1e-320,
    1e308,
    np.nan,
    np.inf,
    -np.inf,
    "",
    "x",
    "x" * 2000,
    "\x1b[31m",
    "CONVERGED",
    "STALLED",
    "MAX_ITER",
    "count",
    "unstored",
    "frobenius",
    "kullback-leibler",
    "itakura-saito",
    [],
    [0.0],
    [0.0, 0.0],
    [0.5, 2.0],
    [1e308, 1e308],
    [np.nan, 0.0],
    [-1.0, -1.0],
    ["a", "b"],
    [0.0] * 3,
    [0] * 5,
    [1] * 5,
    [-600] * 5,
    {},
    {"a": 1},
]


def keys(meta: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """The keys of a description and of what is in it."""
    for key, value in meta.items():
        yield (key,)
        if isinstance(value, dict):
            yield from ((key, inner) for inner in value)
    yield from (("settings", "column_scale"), ("settings", "unheard of"), ("unheard of",))


def changed(meta: dict[str, Any], key: tuple[str, ...], value: object) -> dict[str, Any]:
    meta = copy.deepcopy(meta)
    inner = meta[key[0]] if len(key) == 2 else meta
    if value is ABSENT:
        inner.pop(key[-1], None)
    else:
        inner[key[-1]] = value
    return meta


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FITS + MODELS)
def test_every_key_with_every_value(parts, name, tmp_path):
    arrays, meta = parts[name]
    path = tmp_path / "m.npz"
    count = refused = 0
    for key in keys(meta):
        for value in VALUES:
            count += 1
            if mine(name, count):
                archive.write(path, arrays, changed(meta, key, value))
                refused += refused_or_sound(name, path, (key, value))
    assert count > 500
    assert refused > 0.6 * count / cases(EVERY, 1)


def of(name: str, *key: str) -> tuple[str, tuple[str, ...]]:
    return name, key


REFUSED = [
    *((of("plain", "settings", key), ABSENT, f"the setting {key} is missing") for key in model_checks._NEEDED),
    (of("plain", "settings", "loss"), np.nan, "the setting loss is nan"),
    (of("plain", "settings", "loss"), "hinge", "the setting loss is 'hinge'"),
    (of("plain", "settings", "loss"), np.inf, "the setting loss is inf"),
    (of("plain", "settings", "loss"), 1e308, r"the setting loss is 1e\+308"),
    (of("plain", "settings", "missing_values"), "never", "the setting missing_values is 'never'"),
    (of("plain", "settings", "l1"), [0.1], r"the setting l1 is \[0.1\]"),
    (of("plain", "settings", "offsets"), True, "offsets is True, but W and H have no components of ones"),
    (of("divergence", "settings", "offsets"), True, "offsets is True where the setting loss is 1.5"),
    (
        of("offsets", "settings", "loss"),
        "kullback-leibler",
        "offsets is True where the setting loss is 'kullback-leibler'",
    ),
    (of("plain", "settings", "max_time"), -1, "the setting max_time is -1"),
    (of("plain", "settings", "dtype"), "float16", "the setting dtype is 'float16'"),
    (of("plain", "settings", "precision"), 3, "the setting precision is 3"),
    (of("plain", "settings", "init"), None, "the setting init is None"),
    (of("auto", "settings", "column_scale"), [0] * 4, "the setting column_scale is not 5 whole numbers"),
    (of("auto", "settings", "column_scale"), [-600] * 5, "column_scale is more than float64 holds"),
    (of("plain", "settings", "solver"), 5, "the setting solver is 5"),
    (of("plain", "settings"), "x" * 10**6, r"its settings are 'x+\.\.\.x+'"),
    (of("plain", "converged"), 1, "converged is 1"),
    (of("plain", "converged"), True, "converged is True where its status is MAX_ITER"),
    (of("plain", "status"), "CONVERGED", "converged is False where its status is CONVERGED"),
    (of("plain", "settings", "max_iter"), 5, "there are 6 iterations where the setting max_iter is 5"),
    (of("plain", "settings", "max_iter"), 7, "there are 6 iterations where the setting max_iter is 7 and .* MAX_ITER"),
    (of("integers", "recommender"), [1], r"the settings of its recommender are \[1\]"),
    (of("integers", "recommender", "rank"), ABSENT, "the setting rank of its recommender is missing"),
    (of("texts", "recommender", "prior"), 6.0, "a prior of 5.0 where its settings have 6.0"),
    (of("integers", "settings", "l2"), [1e40, 1e40], "the setting l2 of its fit is 1e\\+40, more than 1e\\+30"),
]


@pytest.mark.parametrize(("where", "value", "message"), REFUSED)
def test_what_is_said_of_a_key(parts, tmp_path, where, value, message):
    name, key = where
    arrays, meta = parts[name]
    archive.write(tmp_path / "m.npz", arrays, changed(meta, key, value))
    with pytest.raises(ValueError, match=rf"m\.npz: damaged nmfcore model: .*{message}.*\. Save the model again\.$"):
        load(name, tmp_path / "m.npz")


# ---- every array ------------------------------------------------------------------------------------------------

Change = Callable[[np.ndarray], np.ndarray]


def with_entry(value: float, place: int) -> Change:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[place] = value
        return array

    return change


def one_more(axis: int) -> Change:
    return lambda array: np.concatenate([array, np.take(array, [-1], axis)], axis)


def one_less(axis: int) -> Change:
    return lambda array: np.take(array, range(array.shape[axis] - 1), axis)


NUMBERS: dict[str, Change] = {
    **{f"[{k}] = {v:g}": with_entry(v, k) for k in (0, -1, 1) for v in (np.nan, np.inf, -np.inf, -1, 0, 1e300, 1e-320)},
    **{f"[{k}] = {v}": with_entry(v, k) for k in (0, -1, 1) for v in (-1, 0, 2, 127, 10**9, -(2**63), 2**63 - 1)},
    **{f"all {v:g}": lambda array, v=v: np.full_like(array, v) for v in (0, 1, -1, 2)},
    "all nan": lambda array: np.full(array.shape, np.nan),
    "all huge": lambda array: np.full(array.shape, np.finfo(float).max),
    "times 1e155": lambda array: array * 1e155,
    "times 1e-300": lambda array: array * 1e-300,
    "plus a half": lambda array: array + 0.5,
}
FORMS: dict[str, Change] = {
    **{
        f"as {kind}": lambda array, kind=kind: array.astype(kind) for kind in ("f2", "f4", "f8", "i1", "i8", "u1", "u8")
    },
    **{f"as {kind}": lambda array, kind=kind: array.astype(kind) for kind in ("?", "U5", "S5", ">f8", ">i8")},
    "none": lambda array: array[:0],
    "first": lambda array: array[:1],
    "one more": one_more(0),
    "one less": one_less(0),
    "twice": lambda array: np.concatenate([array, array]),
    "reversed": lambda array: array[::-1],
    "one more column": one_more(-1),
    "one less column": one_less(-1),
    "transposed": lambda array: array.T,
    "in Fortran's order": np.asfortranarray,
    "flat": lambda array: array.reshape(-1),
    "deep": lambda array: array[None],
    "a number": lambda array: array.reshape(-1)[:1].reshape(()),
}


def changes(array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    for what, change in (NUMBERS | FORMS).items():
        with np.errstate(all="ignore"):
            try:
                yield what, change(array)
            except (OverflowError, ValueError):  # what this type does not hold
                continue


@pytest.mark.fuzz
@pytest.mark.parametrize("name", FITS + MODELS)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_every_array_with_every_change(parts, name, tmp_path):
    arrays, meta = parts[name]
    path = tmp_path / "m.npz"
    count = refused = 0
    for key in arrays:
        archive.write(path, {other: array for other, array in arrays.items() if other != key}, meta)
        assert refused_or_sound(name, path, key) or key == "times"
        for what, array in changes(arrays[key]):
            count += 1
            if mine(name, count):
                archive.write(path, arrays | {key: array}, meta)
                refused += refused_or_sound(name, path, (key, what))
    assert count > 200
    assert refused > 0.4 * count / cases(EVERY, 1)


SPOILT: list[tuple[str, str, Change, str]] = [
    ("plain", "W", lambda W: W[:, :1], r"W is \(7, 1\) and H is \(2, 5\)"),
    ("plain", "H", lambda H: H[:1], r"W is \(7, 2\) and H is \(1, 5\)"),
    ("plain", "W", lambda W: W[:0], r"W is \(0, 2\) and H is \(2, 5\)"),
    ("plain", "H", lambda H: H[:, :0], r"W is \(7, 2\) and H is \(2, 0\)"),
    ("plain", "H", lambda H: H.astype("f4"), "W is float64 and H is float32"),
    ("plain", "W", with_entry(-1, 0), "W has a negative or non-finite entry"),
    ("plain", "H", with_entry(np.nan, -1), "H has a negative or non-finite entry"),
    ("plain", "W", lambda W: np.full_like(W, 1.7e308), "so large that float64 does not hold what they predict"),
    ("float32", "W", lambda W: np.full_like(W, 3e38), "so large that float32 does not hold what they predict"),
    ("plain", "iteration", lambda a: a + 1, "the iterations of its history are not 0 to 6"),
    ("plain", "iteration", lambda a: a[::-1], "the iterations of its history are not 0 to 6"),
    ("plain", "objective", with_entry(np.nan, 2), "an objective of its history is negative or NaN"),
    ("plain", "objective", with_entry(-5, 6), "an objective of its history is negative or NaN"),
    ("plain", "kkt", with_entry(np.nan, 0), "a KKT residual of its history is negative or NaN"),
    ("plain", "kkt", with_entry(-1, 3), "a KKT residual of its history is negative or NaN"),
    ("plain", "seconds", with_entry(np.inf, 6), "the seconds of its history do not ascend"),
    ("plain", "seconds", lambda a: a[::-1], "the seconds of its history do not ascend"),
    ("plain", "kkt", one_less(0), "the history has columns of different lengths"),
    ("offsets", "H", lambda H: H * 2, "W and H have no components of ones"),
    ("offsets", "W", lambda W: W * 2, "W and H have no components of ones"),
    ("integers", "levels", lambda a: a[:5], "there are 5 levels instead of 7"),
    ("integers", "levels", lambda a: np.append(a, 0), "there are 8 levels instead of 7"),
    ("integers", "levels", with_entry(np.inf, 5), "l2=inf for each rating is too large|a lift of inf"),
    ("integers", "levels", with_entry(1e-300, 6), "a prior of 1e-300"),
    ("integers", "item_offsets", with_entry(100, 0), "an item's offset is not a number within"),
    ("integers", "item_offsets", with_entry(np.nan, 0), "an item's offset is not a number within"),
    ("integers", "indptr", with_entry(3, 0), "indptr does not ascend from 0 to 50 in 1. steps"),
    ("integers", "indices", with_entry(9, 0), "indices leave the range 0 to 8"),
    ("integers", "indices", lambda a: a[::-1], "indices are not ascending and distinct within each user"),
    ("integers", "ratings", with_entry(-1, 0), "rating in row 0 is -1.0"),
    ("integers", "users", with_entry(2, 0), "users are not distinct and ascending"),
    ("texts", "times", one_less(0), "49 times for 50 ratings"),
    ("texts", "users_text", with_entry(0, 0), "users_ends do not cut the .* bytes of users_text into texts"),
    ("texts", "users_text", with_entry(255, 0), "utf-8"),
    ("texts", "users_ends", with_entry(-1, 0), "users_ends do not cut"),
    ("texts", "users_ends", with_entry(0, 0), "users_ends do not cut"),
    (
        "texts",
        "users_text",
        lambda a: a.astype("u2"),
        "the ids of its users are neither integers nor the bytes of texts",
    ),
]


@pytest.mark.parametrize(("name", "key", "change", "message"), SPOILT)
def test_what_is_said_of_an_array(parts, tmp_path, name, key, change, message):
    arrays, meta = parts[name]
    archive.write(tmp_path / "m.npz", arrays | {key: change(arrays[key])}, meta)
    with pytest.raises(ValueError, match=rf"m\.npz: damaged nmfcore model: .*({message}).*\. Save the model again\.$"):
        load(name, tmp_path / "m.npz")


@pytest.mark.parametrize("kept", [(), ("users_text",), ("users_ends",), ("users", "users_text", "users_ends")])
def test_ids_that_are_not_there_or_twice(parts, tmp_path, kept):
    arrays, meta = parts["texts"]
    ids = {"users": np.arange(12), "users_text": arrays["users_text"], "users_ends": arrays["users_ends"]}
    rest = {key: array for key, array in arrays.items() if not key.startswith("users")}
    archive.write(tmp_path / "m.npz", rest | {key: ids[key] for key in kept}, meta)
    with pytest.raises(ValueError, match="the ids of its users are neither integers nor the bytes of texts") as caught:
        Recommender.load(tmp_path / "m.npz")
    assert str(list(kept)) in str(caught.value)


# ---- what load would refuse is not saved ---------------------------------------------------------------------------


def test_a_factorization_that_would_not_load_is_not_saved(parts, tmp_path):
    path = tmp_path / "m.npz"
    f = nmfcore.factorize(X, 2, random_state=0)
    f.save(path)
    before = path.read_bytes()
    f.W[0, 0] = np.nan
    with pytest.raises(ValueError, match=r"not saved, .*: W has a negative or non-finite entry\."):
        f.save(path)
    f.W[0, 0] = 1.0
    del f.settings["missing_values"]
    with pytest.raises(ValueError, match=r"not saved, .*: the setting missing_values is missing\."):
        f.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("users", [["", "a"], ["a", "a\0b"]])
def test_ids_that_would_not_load_are_not_saved(tmp_path, users):
    ratings = Ratings(np.array(users), np.arange(2), np.array([0, 1, 2]), np.array([0, 1]), np.array([5.0, 4.0]))
    model = Recommender(rank=1, random_state=0).fit(ratings)
    with pytest.raises(ValueError, match=r"not saved, .* an id among the users is empty or holds a NUL"):
        model.save(tmp_path / "m.npz")
    assert os.listdir(tmp_path) == []


# ---- random damage ----------------------------------------------------------------------------------------------


def damaged(data: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, cut out, put in or moved, in one to three places."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        at, length = draw.randrange(len(changed) + 1), draw.choice([1, 1, 2, 4, 8, 64])
        how = draw.randrange(6)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            changed[at : at + length] = draw.randbytes(min(length, len(changed) - at))
        elif how == 2:
            del changed[at : at + length]
        elif how == 3:
            changed[at:at] = draw.randbytes(length)
        elif how == 4:
            changed[at : at + length] = bytes([draw.choice([0, 255, 127, 128])]) * min(length, len(changed) - at)
        else:
            changed[at:at] = changed[draw.randrange(len(changed) + 1) :][:length]
        if not changed:
            break
    return bytes(changed)


def repacked(data: bytes, draw: random.Random) -> bytes:
    """A member damaged within an archive that is whole, so that its checksum does not tell."""
    file, out = io.BytesIO(data), io.BytesIO()
    with zipfile.ZipFile(file) as archive_in, zipfile.ZipFile(out, "w") as archive_out:
        chosen = draw.choice(archive_in.namelist())
        for name in archive_in.namelist():
            content = archive_in.read(name)
            archive_out.writestr(name, damaged(content, draw) if name == chosen else content)
    return out.getvalue()


@pytest.mark.fuzz
@pytest.mark.parametrize("spoil", [damaged, repacked])
@pytest.mark.parametrize("name", ["plain", "integers", "texts"])
def test_random_damage(parts, tmp_path, name, spoil):
    path, draw = tmp_path / "m.npz", random.Random(seed())
    archive.write(path, *parts[name])
    whole, loaded, count = path.read_bytes(), 0, cases(150, 400)
    for k in range(count):
        path.write_bytes(spoil(whole, draw))
        model, error = None, None
        try:
            model = load(name, path)
        except (ValueError, OSError, MemoryError) as caught:
            error = caught
        if model is None:
            assert str(path) in str(error), k
            continue
        loaded += 1
        if spoil is repacked:  # else the checksum says that nothing is changed but what nobody reads
            use(model, tmp_path)
    assert loaded < count / 2


# ---- what is no file --------------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "null", "zero", "directory"])
def test_what_is_no_file_is_refused_at_once(tmp_path, kind):
    path = {"null": Path("/dev/null"), "zero": Path("/dev/zero"), "directory": tmp_path}.get(kind, tmp_path / "m.npz")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
    said = {"null": "device", "zero": "device"}.get(kind, kind.removeprefix("link to a "))
    code = f"""
        import sys, nmfcore
        from nmfcore.__main__ import main
        for load in (nmfcore.load, nmfcore.Recommender.load):
            try:
                load({str(path)!r})
            except OSError as error:
                print(error.filename, "|", error.strerror)
        sys.exit(main(["recommend", {str(path)!r}]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60, check=False
    )
    message = f"Not a regular file but a {said}: give the name of a model file on the disk"
    assert done.stdout == f"{path} | {message}\n" * 2
    assert done.stderr == f"nmfcore: error: {path}: {message}\n"
    assert done.returncode == 2


@posix
def test_the_standard_input_is_read_where_it_is_a_file(parts, tmp_path):
    archive.write(tmp_path / "m.npz", *parts["integers"])
    command = [sys.executable, "-m", "nmfcore", "similar", "/dev/stdin", "--item", "1"]
    with (tmp_path / "m.npz").open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Like item 1:\n")
    piped = subprocess.run(command, input=b"", capture_output=True, timeout=60, check=False)
    assert piped.stderr == b"nmfcore: error: /dev/stdin: " + (
        b"Not a regular file but a pipe: give the name of a model file on the disk\n"
    )


@posix
def test_a_file_that_turns_into_a_pipe_before_it_is_opened(tmp_path, monkeypatch):
    path = tmp_path / "m.npz"
    os.mkfifo(path)
    monkeypatch.setattr(os.path, "exists", lambda _: False)  # as if it had not been there before
    with pytest.raises(OSError, match="Not a regular file but a pipe"):
        nmfcore.load(path)


@posix
@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_ratings_and_titles_are_not_read_from_devices(parts, tmp_path, device, capsys):
    with pytest.raises(OSError, match="Not a regular file but a device: give the name of a file or a pipe"):
        Ratings.from_file(device)
    with pytest.raises(OSError, match="Not a regular file but a device"):
        nmfcore.ratings.read_titles(device)
    archive.write(tmp_path / "m.npz", *parts["integers"])
    assert main(["recommend", str(tmp_path / "m.npz"), "--titles", device]) == 2
    assert capsys.readouterr().err.startswith(f"nmfcore: error: {device}: Not a regular file but a device")


@posix
def test_ratings_and_titles_are_read_from_pipes(tmp_path):
    for read, text, expected in (
        (lambda path: Ratings.from_file(path).triplets()[2].tolist(), "user,item,rating\n1,2,3\n2,2,5\n", [3.0, 5.0]),
        (nmfcore.ratings.read_titles, "id,title\n7,Heat\n", {7: "Heat"}),
    ):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_text, args=(text,))
        writer.start()
        assert read(pipe) == expected
        writer.join(60)
        pipe.unlink()


# ---- more than there is room for ----------------------------------------------------------------------------------


def test_arrays_that_do_not_fit_the_memory(parts, tmp_path, monkeypatch):
    for name in ("plain", "integers"):
        archive.write(tmp_path / "m.npz", *parts[name])
        with monkeypatch.context() as patch:
            patch.setattr(memory, "FREE", 0)
            patch.setattr(memory, "limit", lambda: 100)
            with pytest.raises(
                MemoryError, match=r"m\.npz needs .* GiB of memory .* for its arrays.*on a larger machine"
            ):
                load(name, tmp_path / "m.npz")


# ---- columns ----------------------------------------------------------------------------------------------------

TABLE = "user,item,rating,day\n1,2,3,4\n2,3,4,5\n"


@pytest.mark.parametrize(
    ("options", "name", "first", "second"),
    [
        ({"columns": "user,item,user"}, "'user'", "user", "rating"),
        ({"columns": ("user", "item", "item")}, "'item'", "item", "rating"),
        ({"columns": (1, 1, 3)}, "1", "user", "item"),
        ({"columns": "1,2,1"}, "'1'", "user", "rating"),
        ({"columns": "user,item,rating", "time": "rating"}, "'rating'", "rating", "time"),
    ],
)
def test_a_column_that_is_named_twice_is_refused_before_the_file_is_opened(options, name, first, second):
    with pytest.raises(
        ValueError, match=f"the column {name} is named as {first} and as {second}: one column cannot be"
    ):
        Ratings.from_file("absent.csv", **options)


@pytest.mark.parametrize("columns", [("user", "item", 1), "user,2,2", "user,item,rating"])
def test_a_column_that_is_named_and_numbered(tmp_path, columns):
    (tmp_path / "r.csv").write_text(TABLE)
    with pytest.raises(ValueError, match="one column cannot be two of user, item"):
        Ratings.from_file(tmp_path / "r.csv", columns=columns, time=3 if columns == "user,item,rating" else None)


def test_columns_of_tables_that_are_named_twice():
    table = {"user": [1, 2], "item": [3, 4], "rating": [4, 5], 1: [1, 2], "1": [3, 4]}
    for data in (table, pd.DataFrame(table)):
        for options, first, second in (
            ({"rating": "user"}, "user", "rating"),
            ({"user": "item"}, "user", "item"),
            ({"time": "rating"}, "rating", "time"),
        ):
            with pytest.raises(ValueError, match=f"is named as {first} and as {second}: one column cannot be two of"):
                Ratings.from_frame(data, **options)
        assert Ratings.from_frame(data, user=1, item="1").items.tolist() == [3, 4]  # two names
    with pytest.raises(ValueError, match="the column 'user' is named as user and as item"):
        Ratings.from_csv("absent.csv", user="user", item="user")


@pytest.mark.parametrize("command", ["fit", "select-rank"])
def test_columns_named_twice_on_the_command_line(tmp_path, command, capsys):
    (tmp_path / "r.csv").write_text(TABLE)
    out = ["--out", str(tmp_path / "m.npz")] if command == "fit" else []
    assert main([command, str(tmp_path / "r.csv"), "--columns", "user,item,user", *out]) == 2
    assert capsys.readouterr().err == (
        "nmfcore: error: the column 'user' is named as user and as rating: "
        "one column cannot be two of user, item and rating\n"
    )
