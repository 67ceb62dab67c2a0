"""Rows 153 to 165: model files that are none, damaged or made up. Damage at random: test_loading.py.

A model file is not trusted: nothing in it is run, and what it claims is checked before memory is asked for. What
`tests/test_archive.py` holds already is named here and not written twice.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import pickle
import tempfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catalogue import Case, Check, Held, each, refused
from fits import X, ask
from test_archive import good, npy

import nmfcore
from nmfcore.__main__ import main


def members() -> dict[str, bytes]:
    """The parts of a sound file."""
    buffer = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        ask(X).save(Path(folder) / "model.npz")
        buffer.write((Path(folder) / "model.npz").read_bytes())
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(compression: int = zipfile.ZIP_STORED, **changes: bytes | None) -> bytes:
    """A model file, some members replaced (bytes) or left out (None)."""
    parts = members() | {f"{name.replace('__', '/')}.npy": content for name, content in changes.items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in parts.items():
            if content is not None:
                archive.writestr(name, content)
    return buffer.getvalue()


def meta(**changes: Any) -> bytes:
    """The description of a sound file, changed."""
    description = json.loads(np.load(io.BytesIO(members()["meta.npy"])).tobytes())
    return good(np.frombuffer(json.dumps(description | changes).encode(), np.uint8))


def bomb() -> bytes:
    content = packed(zipfile.ZIP_DEFLATED, W=npy("'<f8'", "(1250000, 2)", bytes(20_000_000)))
    assert len(content) < 50_000
    return content


class Trap:
    """What unpickling would run."""

    def __reduce__(self) -> Any:
        return (pytest.fail, ("unpickled",))


def load(content: Callable[[], bytes] | None, **options: Any) -> Callable[[], Any]:
    """A call of ``load("model.npz")`` in a folder of its own, without the memory that a false claim would take."""

    def call() -> Any:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            if content is not None:
                Path("model.npz").write_bytes(content())
            tracemalloc.start()
            try:
                return nmfcore.load("model.npz", **options)
            finally:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < 10e6

    return call


def load_folder() -> Any:
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        os.mkdir("model.npz")
        return nmfcore.load("model.npz")


def damaged(what: str) -> Check:
    return refused(ValueError, rf"^model.npz: damaged nmfcore model: {what}.* (Copy or s|S)ave the .* again.$")


def foreign(what: str) -> Check:
    return refused(ValueError, rf"^model.npz: not an nmfcore model: {what}.*Check the path.$")


def of(row: int, fault: str, content: Callable[[], bytes], check: Check, *, fails: str = "", **options: Any) -> Case:
    return Case(row, fault, load(content, **options), check, fails=fails)


NO_FILE = foreign("this is no .npz file")
W, H = np.ones((6, 2)), np.ones((2, 5))
CASES = [
    Case(153, "no such file", load(None), refused(FileNotFoundError, r"No such file or directory: 'model.npz'")),
    Case(
        153,
        "a folder",
        load_folder,
        refused(
            IsADirectoryError,
            r"Not a regular file but a directory: give the name of a model file on the disk: 'model.npz'",
        ),
    ),
    Held(
        153,
        "no permission",
        "test_archive.py::test_operating_system_errors_stay_what_they_are",
        "PermissionError: [Errno 13] Permission denied",
    ),
    of(154, "an empty file", lambda: b"", NO_FILE),
    of(154, "text", lambda: b"user,item,rating\n1,2,5\n", NO_FILE),
    of(
        154,
        "a file cut off",
        lambda: packed()[:-30],
        refused(ValueError, r"^model.npz: not an nmfcore model, or a damaged one: .*copy or save the file again.$"),
    ),
    of(154, "another zip archive", lambda: packed(meta=None), foreign("this .npz file has no member 'meta'")),
    of(155, "a pickle named .npz", lambda: pickle.dumps(Trap()), NO_FILE),
    of(
        156,
        "an array of objects inside",
        lambda: packed(W=good(np.array([[Trap()]], object))),
        foreign(r"W.npy: it holds Python objects, which are never pickled"),
    ),
    of(
        157,
        "a header that claims 1e11 numbers",
        lambda: packed(W=npy("'<f8'", "(100000000000, 1)")),
        damaged(r"W.npy claims shape \(100000000000, 1\) of float64, 800000000000 bytes, but holds 0"),
    ),
    of(
        158,
        "a header that claims items of 2 GB",
        lambda: packed(W=npy("'|S2000000000'", "(1, 1)")),
        foreign(r"W.npy: one item of its dtype \|S2000000000 takes 2000000000 bytes, not 1 to 65536"),
    ),
    of(
        159,
        "a zip bomb: 20 MB of zeros",
        bomb,
        refused(
            ValueError,
            r"^model.npz: too large: its arrays take 200\d+ bytes, max_bytes is 1000000. If you trust "
            r"the file, pass max_bytes=200\d+.$",
        ),
        max_bytes=10**6,
    ),
    of(
        160,
        "a negative shape",
        lambda: packed(W=npy("'<f8'", "(-1, 1)", bytes(8))),
        foreign("W.npy has a header that is not a plain array's"),
    ),
    of(
        160,
        "a member missing",
        lambda: packed(W=None),
        damaged("it lacks 'W', which this kind of model must have"),
    ),
    of(
        160,
        "a member too many",
        lambda: packed(extra=good(W)),
        damaged("it holds 'extra.npy', which this kind of model does not have"),
    ),
    of(
        160,
        "one dimension",
        lambda: packed(W=good(np.ones(6))),
        foreign("W.npy is a 1-dimensional array of float64, not a 2-dimensional one of kind f"),
    ),
    of(
        160,
        "shapes that do not fit",
        lambda: packed(W=good(np.ones((6, 3)))),
        damaged(r"W is \(6, 3\) and H is \(2, 5\)"),
    ),
    of(161, "NaN in W", lambda: packed(W=good(W * np.nan)), damaged("W has a negative or non-finite entry")),
    of(161, "a negative H", lambda: packed(H=good(-H)), damaged("H has a negative or non-finite entry")),
    of(
        162,
        "a newer version",
        lambda: packed(meta=meta(version=99)),
        refused(ValueError, r"^model.npz: written by a newer nmfcore: format version 99, .* Upgrade nmfcore.$"),
    ),
    of(
        163,
        "a member named ../x",
        lambda: packed(**{"..__x": good(W)}),
        damaged("it holds '../x.npy', which this kind of model does not have"),
    ),
    Held(
        164,
        "a crash while saving",
        "test_archive.py::test_a_crash_while_saving_leaves_the_old_file",
        "the old file is as it was, and no temporary is left",
    ),
    Held(
        165,
        "ids that begin as a formula, in CSV",
        "faults/test_model_files.py::test_no_cell_of_a_csv_begins_as_a_formula",
        "no cell begins as a formula",
    ),
]


@each(CASES)
def test_model_files(case):
    case.hold()


@pytest.mark.row(163)
def test_the_members_made_here_are_a_model(tmp_path):
    """Else everything would be refused for another reason than the one that is tested."""
    (tmp_path / "model.npz").write_bytes(packed())
    np.testing.assert_array_equal(nmfcore.load(tmp_path / "model.npz").W, ask(X).W)


@pytest.mark.row(165)
def test_no_cell_of_a_csv_begins_as_a_formula(tmp_path, capsys):
    users, items = ["=1+1", "@x", "ann"], ["+a", "-b", "c"]
    ratings = nmfcore.Ratings.from_triplets([*users, "ann"], [*items, "+a"], [1.0, 2.0, 3.0, 4.0])
    nmfcore.Recommender(rank=1, random_state=0).fit(ratings).save(tmp_path / "m.npz")
    assert main(["recommend", str(tmp_path / "m.npz"), "--all", "--out", str(tmp_path / "all.csv")]) == 0
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert len(rows) > 3
    assert not [cell for row in rows for cell in row if cell[:1] in ("=", "+", "-", "@")]
