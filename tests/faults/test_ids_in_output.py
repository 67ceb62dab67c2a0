"""Ids, titles and names from files are shown, and do nothing: no escape sequence, no formula."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nmfcore
from nmfcore import Ratings, Recommender
from nmfcore.__main__ import main
from nmfcore.cli.screen import going_on
from nmfcore.machine.escapes import cell, escaped, typed

# What a terminal obeys: colours, the title of the window, the line before, C1, direction of text, line ends.
ACTIVE = [
    "\x1b[31mred",
    "\x1b]0;title\x07",
    "up\x1b[A\x1b[2K",
    "back\b\b\b\b",
    "\x9b31m",
    "\x7fdel",
    "\u202eegap",
    "\u2067x\u2069",
    "one\u2028two",
    "a\u2029b",
    "new\x85line",
    "car\rriage",
    "tab\tbed",
    "line\nfeed",
]
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # all but the ends of lines
HARMLESS = ["Amélie", "東京物語", "שלום", "naïve (1995)", "C:\\new", "🎬 family", "a b"]


named = pytest.mark.skipif(os.name == "nt", reason="no such names of files")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.npz"
    users, items = [f"u{one}" for one in ACTIVE], [f"i{one}" for one in ACTIVE]
    pairs = [(u, i) for k, u in enumerate(users) for j, i in enumerate(items) if (k + 2 * j) % 3]
    ratings = Ratings.from_triplets(*zip(*pairs, strict=True), [1.0 + (k % 5) for k in range(len(pairs))])
    Recommender(rank=2, random_state=0).fit(ratings).save(path)
    return path


@pytest.fixture
def titles_file(tmp_path: Path) -> Path:
    path = tmp_path / "titles.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "title"), *((f"i{one}", f"film {one}") for one in ACTIVE)])
    return path


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, if nothing in it is obeyed."""
    text = "".join(capsys.readouterr())
    assert not OBEYED.search(text), OBEYED.findall(text)
    return text


# ---- how -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ACTIVE)
def test_control_characters_are_shown_as_python_writes_them(text):
    assert not OBEYED.search(escaped(text))
    assert "\n" not in escaped(text)
    assert escaped(text).encode().decode("unicode_escape") == text


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_obeyed_by_nothing_is_shown_as_it_is(text):
    assert escaped(text) == text


@given(st.text())
def test_no_text_is_obeyed_when_escaped(text):
    assert not OBEYED.search(escaped(text))
    escaped(text).encode()  # which halves of characters cannot be


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash")
@pytest.mark.parametrize("text", [*ACTIVE, *HARMLESS, 'it\'s\x1b[1m \\ "$HOME" `id`'])
def test_a_word_of_a_command_is_read_by_bash_as_it_was(text):
    assert not OBEYED.search(typed(text))
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    said = subprocess.run(["bash", "-c", f"printf %s {typed(text)}"], capture_output=True, env=environment, check=True)
    assert said.stdout.decode() == text


# ---- the command line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_titles", [False, True])
def test_tables_of_items(model_file, titles_file, with_titles, capsys):
    titles = ["--titles", str(titles_file)] if with_titles else []
    assert main(["recommend", str(model_file), *titles]) == 0
    assert "\\x" in shown(capsys)
    for one in ACTIVE:
        assert main(["recommend", str(model_file), "--user", f"u{one}", *titles]) == 0
        assert f"User u{escaped(one)}: " in shown(capsys)
        assert main(["similar", str(model_file), "--item", f"i{one}", *titles]) == 0
        assert f"Like item i{escaped(one)}{f' film {escaped(one)}' if with_titles else ''}:" in shown(capsys)
        assert main(["explain", str(model_file), "--user", f"u{one}", "--item", f"i{one}", *titles]) == 0
        assert f"User u{escaped(one)}, item i{escaped(one)}" in shown(capsys)


@named
@pytest.mark.parametrize("one", ACTIVE)
def test_errors(model_file, tmp_path, one, capsys):
    assert main(["recommend", str(model_file), "--user", one]) == 2
    assert "unknown user" in shown(capsys)
    assert main(["recommend", str(tmp_path / f"absent{one}")]) == 2
    assert "No such file" in shown(capsys)
    with pytest.raises(SystemExit):
        main(["recommend", str(model_file), one, "--user", "1"])  # as of *.npz in a folder with such a name
    assert "unrecognized arguments" in shown(capsys)


def file_with(path: Path, *rows: tuple[object, ...]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


@named
@pytest.mark.parametrize("one", [one for one in ACTIVE if "\n" not in one])
def test_names_of_files_and_columns(tmp_path, one, capsys):
    path = file_with(tmp_path / f"r{one}.csv", ("user", "item", "rating"), ("a" + one, "x", 5), ("b", "y", 3))
    out = tmp_path / f"m{one}.npz"
    assert main(["fit", str(path), "--rank", "1", "--out", str(out)]) == 0
    text = shown(capsys)
    assert f"r{escaped(one)}.csv: 2 ratings" in text
    assert f"--user {typed('a' + one)}" in text
    assert Recommender.load(out).ratings_.users.tolist() == ["a" + one, "b"]
    unnamed = file_with(tmp_path / "c.csv", (f"who{one}", f"book{one}", f"stars{one}"), ("a", "x", 5))
    assert main(["fit", str(unnamed), "--out", str(out)]) == 2
    assert "--columns" in shown(capsys)
    wrong = file_with(tmp_path / "w.csv", ("user", "item", "rating"), (one, "x", f"bad{one}"))
    assert main(["fit", str(wrong), "--out", str(out)]) == 2
    assert "w.csv, line 2: " in shown(capsys)
    assert main(["select-rank", str(path), "--ranks", "1", "--folds", "2"]) == 2
    shown(capsys)


def test_what_the_library_says_of_other_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "r.zip", "w") as archive:
        archive.writestr("\x1b[31m\u202e", "x")
    frame = pd.DataFrame({"user": ["a"], "item": ["x"], "rating": [{"\x1b[31m": 1}]})
    frame.to_parquet(tmp_path / "r.parquet")
    (tmp_path / "r.json").write_text('{"user": "a", "item": "x", "rating": "\\u001b[31m\\u202e"}\n')
    for name in ("r.zip", "r.parquet", "r.json"):
        with pytest.raises(ValueError, match=name) as caught:
            Ratings.from_file(tmp_path / name)
        assert not OBEYED.search(str(caught.value))


def test_explanations_and_factorizations_in_the_library(model_file, tmp_path):
    model = Recommender.load(model_file)
    for one in ACTIVE:
        why = model.explain(f"u{one}", f"i{one}")
        assert not OBEYED.search(str(why))
        assert not OBEYED.search(why.describe({f"i{one}": one}))
    f = nmfcore.factorize(np.ones((3, 3)), 1, random_state=0)
    f.settings["solver"] = "\x1b[31mHALS()\u202e"
    f.save(tmp_path / "f.npz")
    assert "\\x1b[31mHALS()\\u202e" in repr(nmfcore.load(tmp_path / "f.npz"))


@named
def test_warnings_and_interrupts(tmp_path, capsys, monkeypatch):
    rows = [(f"u{k}", f"i{k % 7}", 99 if k % 3 else k % 5) for k in range(40)]
    path = file_with(tmp_path / "r\x1b[31m.csv", ("user", "item", "rating"), *rows)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["fit", str(path), "--rank", "1", "--out", str(tmp_path / "m.npz")]) == 0
    assert shown(capsys).count("r\\x1b[31m.csv: ") == 2  # also in the warning of a value that is alone

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Recommender, "fit", interrupt)
    out = tmp_path / "m\x1b[31m.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main(["fit", str(path), "--rank", "1", "--test", "0.2", "--out", str(out)]) == 130
    assert "m\\x1b[31m.npz was not written" in shown(capsys)


@named
def test_json_is_valid_and_has_names_as_they_are(tmp_path, capsys):
    path = file_with(tmp_path / "r\x1b\u202e\x85.csv", ("user", "item", "rating"), ("a", "x", 5), ("b", "y", 3))
    assert main(["fit", str(path), "--rank", "1", "--out", str(tmp_path / "m.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ratings"]["file"] == str(path)


def test_signs_of_life(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    from nmfcore.cli.fit import _reading

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr("nmfcore.cli.screen.PATIENCE", 0.0)
    with going_on(_reading("folder/\x1b[31m.csv")):
        pass
    assert _reading("folder/\x1b[31m.csv") == "reading \\x1b[31m.csv"


# ---- tables for spreadsheets -----------------------------------------------------------------------------------

FORMULAS = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    '=HYPERLINK("http://x","y")',
    "=cmd|' /C calc'!A0",
]
PLAIN = ["x=1", "a", "'=1", "1-2", "é", 'say "hi"', "a,b", "a;b", "two\nlines", "car\rriage", "\ud800"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text):
    (row,) = csv.reader(io.StringIO(cell(text) + "\n", newline=""))
    assert row == ["'" + text]


@given(st.text(st.characters(blacklist_characters="\0")))
def test_a_cell_is_read_back(text):
    for raw in (False, True):
        rows = list(csv.reader(io.StringIO(f"{cell(text, raw)},x\n", newline="")))
        assert len(rows) == 1
        assert rows[0][0].removeprefix("" if raw or rows[0][0] == text else "'") == text
    assert not cell(text).lstrip('"').startswith(tuple("=+-@\t\r"))


@pytest.fixture(scope="module")
def formulas(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Recommender]:
    """A model whose ids are formulas, and a file of titles that are."""
    folder = tmp_path_factory.mktemp("formulas")
    ids = FORMULAS + PLAIN
    pairs = [(u, i) for k, u in enumerate(ids) for j, i in enumerate(ids) if (k + j) % 4]
    ratings = Ratings.from_triplets(*zip(*pairs, strict=True), [1.0 + (k % 5) for k in range(len(pairs))])
    model = Recommender(rank=2, random_state=0).fit(ratings)
    model.save(folder / "m.npz")
    with (folder / "t.csv").open("w", newline="", encoding="utf-8", errors="surrogatepass") as file:
        file.write(
            "id,title\n" + "".join(f"{cell(one, True)},{cell(one, True)}\n" for one in ids if one.strip() == one)
        )
    return folder / "m.npz", folder / "t.csv", model


def table_of(path: Path) -> list[list[str]]:
    text = path.read_bytes().decode("utf-8", "surrogatepass")
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("titles", [False, True])
def test_recommendations_for_a_spreadsheet(formulas, tmp_path, titles):
    path, titles_path, model = formulas
    with_titles = ["--titles", str(titles_path)] if titles else []
    out, raw = tmp_path / "o.csv", tmp_path / "raw.csv"
    assert main(["recommend", str(path), "--all", "--out", str(out), *with_titles]) == 0
    assert main(["recommend", str(path), "--all", "--raw", "--out", str(raw), *with_titles]) == 0
    rows, raw_rows = table_of(out), table_of(raw)
    users = np.repeat(model.ratings_.users, [len(model.recommend(u).items) for u in model.ratings_.users.tolist()])
    items = np.concatenate([model.recommend(u).items for u in model.ratings_.users.tolist()])
    assert [row[:2] for row in raw_rows[1:]] == [
        list(pair) for pair in zip(users.tolist(), items.tolist(), strict=True)
    ]
    assert len(rows) == len(raw_rows)
    formula = tuple("=+-@\t\r")
    assert any(text.startswith(formula) for row in raw_rows for text in row)
    for row, faithful in zip(rows, raw_rows, strict=True):
        for text, real in zip(row, faithful, strict=True):
            assert not text.startswith(formula)
            assert text == (f"'{real}" if real in FORMULAS else real)


def test_ids_that_are_numbers_and_own_figures_are_left_as_they_are(tmp_path):
    ratings = Ratings.from_triplets([-5, -5, 7], [-1, 2, 2], [4, 5, 3])
    Recommender(rank=1, random_state=0).fit(ratings).save(tmp_path / "m.npz")
    assert main(["recommend", str(tmp_path / "m.npz"), "--all", "--out", str(tmp_path / "o.csv")]) == 0
    ((user, item, rating),) = table_of(tmp_path / "o.csv")[1:]
    assert (user, item) == ("7", "-1")
    assert float(rating) > 0
    assert cell(-1) == "-1"


def test_values_on_the_screen(formulas, monkeypatch, capsys):
    path, _, _ = formulas

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for raw in ([], ["--raw"]):
        terminal = Terminal()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", terminal)
            assert main(["recommend", str(path), "--all", "--out", "-", *raw]) == 0
        assert bool(OBEYED.search(terminal.getvalue())) == bool(raw)
        assert (
            main(["recommend", str(path), "--all", "--out", "-", *raw]) == 0
        )  # no terminal: a file, or another program
        assert "\r=1" in capsys.readouterr().out


def test_raw_is_for_all(formulas, capsys):
    assert main(["recommend", str(formulas[0]), "--raw"]) == 2
    assert "--raw is about the values that --all writes" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["recommend", "--help"])
    assert "--raw" in capsys.readouterr().out
