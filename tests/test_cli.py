"""The command line: what it prints, what it refuses in one line, what it keeps when interrupted."""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import nmfcore
from nmfcore import Recommender
from nmfcore.__main__ import main
from nmfcore.cli import demo, fit, reading, recommend, screen
from nmfcore.cli.recommend import match_titles
from nmfcore.cli.words import invoked_as
from nmfcore.datasets import planted_ratings
from nmfcore.recommender import ranking
from nmfcore.recommender.fitting import L2_PER_MEAN

NMFCORE = [sys.executable, "-m", "nmfcore"]
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONUTF8": "1"}


@pytest.fixture(scope="module")
def ratings_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Planted ratings in MovieLens' newest format."""
    ratings = planted_ratings(60, 50, 1200)
    users, items, values = ratings.triplets()
    path = tmp_path_factory.mktemp("cli") / "ratings.csv"
    rows = zip(ratings.users[users], ratings.items[items], values, strict=True)
    path.write_text("userId,movieId,rating\n" + "".join(f"{u},{i},{r:g}\n" for u, i, r in rows))
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.npz"
    Recommender(rank=3, random_state=0).fit(planted_ratings(60, 50, 1200)).save(path)
    return path


def error_of(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that bad input gets."""
    assert main([str(one) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("nmfcore: error: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    return error


# Demo


@pytest.fixture(scope="module")
def demo_text() -> str:
    run = subprocess.run([*NMFCORE, "demo"], capture_output=True, text=True, encoding="utf-8", env=ENVIRONMENT)
    assert (run.returncode, run.stderr) == (0, "")
    return run.stdout


@pytest.mark.slow
def test_the_demo_shows_the_known_factors(demo_text: str) -> None:
    left = [line.split("|")[0].split() for line in demo_text.split("\n") if "|" in line]
    for row in (
        ["User1", "3.5644", "0.0000"],
        ["User3", "0.8905", "1.2318"],
        ["feature", "1", "1.4745", "0.5592", "0.0000", "0.4083"],
        ["on", "all", "20", "cells,", "zeros", "as", "0", "0.914435"],
        ["User5:", "Movie1,", "predicted", "0.00"],
    ):
        assert row in left


@pytest.mark.slow
def test_the_demo_predicts_what_is_missing(demo_text: str) -> None:
    table = nmfcore.datasets.movie_table()
    f = nmfcore.factorize(table.ratings, 2, missing_values=0, l2=demo.L2, random_state=42, tol=1e-8)
    right = [line.split("|")[1].split() for line in demo_text.split("\n") if "|" in line]
    for user, row, predicted in zip(table.users, table.ratings, f.reconstruct(), strict=True):
        cells = [f"{p:.2f}{'' if x else '*'}" for x, p in zip(row, predicted, strict=True)]
        assert [user, *cells] in right
        unrated = np.flatnonzero(row == 0)
        best = unrated[np.argmax(predicted[unrated])]
        assert [f"{user}:", f"{table.movies[best]},", "predicted", f"{predicted[best]:.2f}"] in right
    observed = table.ratings > 0
    error = np.mean((table.ratings - f.reconstruct())[observed] ** 2)
    assert ["on", "the", "13", "rated", "cells", f"{error:.6f}"] in right
    shares = [100 * row / row.sum() for row in f.H]
    for t, share in enumerate(shares):
        k = int(np.argmax(share))
        assert any(line[:3] == [f"{t + 1}:", table.movies[k], f"{share[k]:.0f}%,"] for line in right)


@pytest.mark.slow
def test_the_calls_shown_give_the_factors_shown(demo_text: str) -> None:
    imports, assignment = re.findall(r"^from nmfcore import .*$", demo_text, re.M)[0].split("; ")
    names: dict[str, object] = {}
    exec(f"{imports}\n{assignment}", names)
    calls = re.findall(r"^   (factorize\(X, 2.*(?:\n {10,}.*)?)$", demo_text, re.M)
    assert len(calls) == 2
    for side, call in enumerate(calls):
        f = eval(call, names)
        shown = [line.split("|")[side].split() for line in demo_text.split("\n") if "|" in line]
        for i, row in enumerate(f.W):
            assert [f"User{i + 1}", *(f"{x:.4f}" for x in row)] in shown
        for t, row in enumerate(f.H):
            assert ["feature", f"{t + 1}", *(f"{x:.4f}" for x in row)] in shown


def test_thirteen_ratings_are_too_few_to_predict_from() -> None:
    X = nmfcore.datasets.movie_table().ratings
    errors = []
    for cell in np.argwhere(X > 0):
        left_out = X.copy()
        left_out[tuple(cell)] = 0
        a = nmfcore.factorize(left_out, 2, random_state=42)
        b = nmfcore.factorize(left_out, 2, missing_values=0, l2=demo.L2, random_state=42, max_iter=10_000)
        answers = a.predict(*cell), b.predict(*cell), left_out[left_out > 0].mean()
        errors.append(np.array(answers) - X[tuple(cell)])
    a, b, mean = np.sqrt(np.mean(np.square(errors), axis=0))
    assert mean < 0.7 * min(a, b)  # as the demo, the README and the notebook say


@pytest.mark.slow
def test_the_demo_ends_with_the_recommender_ahead(demo_text: str) -> None:
    names = (
        "mean of all ratings",
        "user and item means",
        "NMF, zeros as ratings",
        "NMF, zeros as unknown",
        re.escape("Recommender (NMF around the means)"),
    )
    found = [re.search(rf"^{name}.*? (\d\.\d{{4}}) +(\d\.\d{{4}}) +(\d+\.\d\d)$", demo_text, re.M) for name in names]
    assert all(found)
    mean, means, zeros, masked, recommender = (float(match[1]) for match in found if match)
    assert recommender < means - 0.03 < means < masked < mean < zeros


@pytest.mark.slow
def test_the_penalty_of_the_plain_fit_is_the_best_of_those_named() -> None:
    train, test = planted_ratings().split(0.1, random_state=0)
    errors = {}
    for l2 in (1, 3, 6, 10, 15):
        f = nmfcore.factorize(train, demo.PLANTED_RANK, missing_values="unstored", l2=l2, random_state=0)
        errors[l2] = fit.errors(f.predict, test, (1, 5))[0]
    assert min(errors, key=errors.__getitem__) == demo.PLANTED_L2


@pytest.mark.slow
def test_the_demo_fits_a_page(demo_text: str) -> None:
    assert max(map(len, demo_text.split("\n"))) <= 100
    assert not re.search(r"\x1b|nan|inf\b", demo_text)
    assert len(demo_text.split("\n")) < 110


def test_the_demo_says_when_it_compiles(capsys: pytest.CaptureFixture[str]) -> None:
    with demo._compiling():
        pass
    assert capsys.readouterr().out == ""
    with demo._compiling():
        time.sleep(1.3)
    assert "compiling" in capsys.readouterr().out


@pytest.mark.slow
def test_a_terminal_without_mathematics() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    run = subprocess.run([*NMFCORE, "demo"], capture_output=True, text=True, env=environment)
    assert run.returncode == 0
    assert "X ? W H" in run.stdout


# Fit


def test_fit(ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.npz"
    arguments = ["fit", ratings_file, "--rank", "3", "--test", "0.1", "--seed", "4", "--out", out]
    assert main([str(one) for one in arguments]) == 0
    text = capsys.readouterr()
    assert "1,200 ratings of 50 items by 60 users" in text.out
    assert "40 % of all pairs are rated; from 1 to 5, mean" in text.out
    for name in ("mean of all ratings", "user and item means", "Recommender, 3 features"):
        assert re.search(rf"^  {name} +\d\.\d{{4}}  \d\.\d{{4}} +\d+\.\d\d$", text.out, re.M)
    assert "Fitting to all 1,200 ratings, the held-out ones included.\n" in text.out
    assert f"Written to {out}" in text.out
    assert re.search(r"KKT residual \d\.\de-\d\d \(0 = nothing left to improve\)", text.out)
    assert text.err == ""  # nobody is watching
    model = Recommender.load(out)
    ratings = nmfcore.Ratings.from_csv(ratings_file)
    expected = Recommender(rank=3, random_state=4).fit(ratings)
    assert np.array_equal(model.factorization_.W, expected.factorization_.W)
    assert model.ratings_.nnz == 1200


def test_a_bar_for_who_is_watching(
    ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tqdm")
    assert not fit.bar_is_possible()  # nobody watches a test
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert fit.bar_is_possible()
    assert main(["fit", str(ratings_file), "--rank", "2", "--out", str(tmp_path / "m.npz")]) == 0
    error = capsys.readouterr().err
    assert f"/{Recommender().max_iter} [" in error
    assert "iteration" not in error
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert not fit.bar_is_possible()
    assert main(["fit", str(ratings_file), "--rank", "2", "--out", str(tmp_path / "m.npz")]) == 0
    assert "iteration    1: KKT residual" in capsys.readouterr().err


def test_a_long_read_says_that_it_goes_on(
    ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = reading.read

    def slowly(arguments: argparse.Namespace) -> nmfcore.Ratings:
        time.sleep(0.3)
        return real(arguments)

    monkeypatch.setattr(reading, "read", slowly)
    monkeypatch.setattr(screen, "PATIENCE", 0.05)
    monkeypatch.setattr(screen, "EVERY", 0.05)
    command = ["fit", str(ratings_file), "--rank", "2", "--out", str(tmp_path / "m.npz")]
    assert main(command) == 0
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(fit, "bar_is_possible", lambda: True)
    monkeypatch.setattr(Recommender, "fit", lambda self, *arguments, **options: self._go(arguments[0], progress=False))
    assert main(command) == 0
    line = f"reading {ratings_file.name}, 0 MB: 0 s"
    shown = capsys.readouterr().err
    assert shown.startswith(f"\r{line}\r{line}\r")
    assert shown.endswith(f"\r{' ' * len(line)}\r")  # and nothing of it stays
    monkeypatch.setattr(screen, "PATIENCE", 60.0)
    assert main(command) == 0
    assert capsys.readouterr().err == ""  # a short read says nothing, and is not waited for


def test_every_figure_as_json(ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.npz"
    command = ["fit", str(ratings_file), "--rank", "2", "--evaluate", "--test", "0.2", "--out", str(out)]
    assert main(command) == 0
    text = capsys.readouterr().out
    out.unlink()
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    found = json.loads(captured.out)
    assert Recommender.load(out).rank == 2
    ratings = nmfcore.Ratings.from_csv(ratings_file)
    train, test = ratings.split(0.2, random_state=0)
    matrix = np.zeros(ratings.shape)
    matrix[ratings.triplets()[:2]] = 1
    seconds = found["ratings"].pop("seconds")
    assert seconds > 0
    assert found["ratings"] == {
        "file": str(ratings_file),
        "n_ratings": 1200,
        "n_items": 50,
        "n_users": 60,
        "density": 0.4,
        "min": 1,
        "max": 5,
        "mean": ratings.data.mean(),
        "median_of_user": np.median(matrix.sum(1)),
        "most_of_user": matrix.sum(1).max(),
        "median_of_item": np.median(matrix.sum(0)),
        "most_of_item": matrix.sum(0).max(),
    }
    model = Recommender(rank=2, random_state=0).fit(train)
    users, items, values = test.triplets()
    error = values - model.predict(train.users[users], train.items[items], clip=True)
    assert (found["test"]["n_held_out"], found["test"]["n_fitted"]) == (240, 960)
    *_, last = found["test"]["predictions"]
    assert last["prediction"] == "Recommender, 2 features"
    assert last["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert last["mae"] == pytest.approx(np.mean(abs(error)), rel=1e-12)
    scores = nmfcore.evaluate(model, test)
    for name in ("k", "n_users", "threshold", "precision", "recall", "ndcg", "map", "coverage"):
        assert found["recommendations"][name] == getattr(scores, name)
    f = Recommender(rank=2, random_state=0).fit(ratings).factorization_
    for name in ("n_iter", "kkt", "converged"):
        assert found["fit"][name] == getattr(f, name)
    assert found["fit"]["model"] == str(out)
    # Whatever number the text has, seconds apart, is one of these as it is printed there.
    shown = [f"{row[name]:6.4f}" for row in found["test"]["predictions"] for name in ("rmse", "mae")]
    shown += [f"{found['recommendations'][name]:.4f}" for name in ("precision", "recall", "ndcg", "map", "coverage")]
    assert re.findall(r"\b\d\.\d{4}\b", text) == shown
    assert f"{found['fit']['n_iter']} iterations in " in text
    assert f"KKT residual {found['fit']['kkt']:.1e}" in text
    assert found["fit"]["status"] in text


def test_json_of_a_plain_fit(ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(ratings_file), "--rank", "2", "--json", "--out", str(tmp_path / "m.npz")]) == 0
    assert json.loads(capsys.readouterr().out).keys() == {"ratings", "fit"}
    assert "--rank 0 must be" in error_of(["fit", ratings_file, "--rank", 0, "--json", "--out", tmp_path / "x"], capsys)


def test_the_table_of_errors_is_right(ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(ratings_file), "--rank", "2", "--test", "0.2", "--out", str(tmp_path / "m.npz")]) == 0
    text = capsys.readouterr().out
    train, test = nmfcore.Ratings.from_csv(ratings_file).split(0.2, random_state=0)
    users, items, values = test.triplets()
    model = Recommender(rank=2, random_state=0).fit(train)
    error = values - model.predict(train.users[users], train.items[items], clip=True)
    assert f"{np.sqrt(np.mean(error**2)):6.4f}  {np.mean(abs(error)):6.4f}" in text
    error = values - train.data.mean()
    assert f"{np.sqrt(np.mean(error**2)):6.4f}  {np.mean(abs(error)):6.4f}" in text


def test_fit_settings_reach_the_model(ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.npz"
    options = ["--rank", "2", "--l2", "0.5", "--max-iter", "4", "--tol", "1e-9", "--prior", "7"]
    assert main(["fit", str(ratings_file), *options, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "4 iterations" in text
    assert "raise --max-iter or --tol." in text
    assert "Fitting to all 1,200 ratings.\n" in text
    assert "eld-out" not in text
    assert "Held out" not in text
    model = Recommender.load(out)
    assert (model.rank, model.l2, model.max_iter, model.tol) == (2, 0.5, 4, 1e-9)
    assert (model.prior, model.offsets, model.factorization_.rank) == (7, True, 4)
    assert main(["fit", str(ratings_file), *options, "--no-offsets", "--out", str(out)]) == 0
    model = Recommender.load(out)
    assert (model.offsets, model.factorization_.rank) == (False, 2)
    capsys.readouterr()
    assert "--prior 0 leaves" in error_of(["fit", ratings_file, "--prior", "0", "--out", out], capsys)


def test_the_help_has_the_defaults_of_the_recommender(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fit", "--help"])
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    default = Recommender()
    assert f"latent features (default: {default.rank})" in text
    assert f"(default: {L2_PER_MEAN:g} times the mean rating)" in text
    assert default.prior is None
    assert "in ratings (default: by how many ratings there are)" in text
    assert f"most iterations (default: {default.max_iter})" in text
    assert f"KKT residual (default: {default.tol:g})" in text


def test_duplicates(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.csv"
    path.write_text("1,1,5\n1,1,1\n1,2,4\n2,1,3\n")
    out = tmp_path / "m.npz"
    assert "user 1 and item 1, 2 times" in error_of(["fit", path, "--out", out], capsys)
    assert not out.exists()
    for rule, value in (("last", 1.0), ("mean", 3.0)):
        assert main(["fit", str(path), "--rank", "1", "--duplicates", rule, "--out", str(out)]) == 0
        assert Recommender.load(out).ratings_.data[0] == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rank", "0"], "--rank 0 must be 1 or more"),
        (["--l2", "-1"], "--l2 -1"),
        (["--l2", "nan"], "--l2 nan"),
        (["--l2", "1e308"], "--l2 1e+308"),
        (["--max-iter", "-3"], "--max-iter -3"),
        (["--columns", "reader,book"], "--columns reader,book: give three names"),
        (["--test", "1.5"], "--test 1.5"),
        (["--test", "nan"], "--test nan"),
        (["--test", "0.00001"], "leaves none for test: choose a larger share"),
        (["--seed", "-3"], "--seed -3 must be 0 or more"),
        (["--rank", "99999999999999"], "smaller rank"),
    ],
)
def test_bad_options(
    options: list[str], message: str, ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in error_of(["fit", ratings_file, *options, "--out", tmp_path / "m.npz"], capsys)
    assert list(tmp_path.iterdir()) == []


def test_what_can_be_refused_is_refused_before_the_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent, out = tmp_path / "absent.csv", tmp_path / "m.npz"
    for option, value in (("--seed", "-1"), ("--seed", str(2**32)), ("--rank", "0"), ("--tol", "nan"), ("--test", "2")):
        assert f"{option} {value}" in error_of(["fit", absent, option, value, "--out", out], capsys)


def test_a_file_with_other_names_and_separators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "r.txt", tmp_path / "m.npz"
    path.write_text("points~reader~book\n5~ann~up\n3~bob~up\n4~bob~heat\n")
    assert "pass --sep or look at the file" in error_of(["fit", path, "--out", out], capsys)
    named = ["--sep", "~", "--columns", "reader, book,points"]
    assert main(["fit", str(path), "--rank", "1", "--out", str(out), *named]) == 0
    ratings = Recommender.load(out).ratings_
    assert (ratings.users.tolist(), ratings.items.tolist()) == (["ann", "bob"], ["heat", "up"])
    assert ratings.data.tolist() == [5, 4, 3]
    capsys.readouterr()
    path.write_text("stars,reader,book\n5,ann,up\n3,bob,up\n")
    error = error_of(["fit", path, "--out", out], capsys)
    assert "name them with --columns reader,book,stars ('stars' is plainly the rating)" in error
    path.write_text("5,ann,up,9,9\n-1,bob,up,9,9\n")
    error = error_of(["fit", path, "--out", out], capsys)
    assert "5 columns without a header; the first line has: '5', 'ann', 'up', '9', '9'; name them by number" in error
    numbers = ["--columns", "2,3,1", "--rank", "1"]
    assert "if -1 stands for 'not rated', pass --not-rated -1)" in error_of(
        ["fit", path, "--out", out, *numbers], capsys
    )
    assert main(["fit", str(path), "--out", str(out), *numbers, "--not-rated", "-1"]) == 0
    assert Recommender.load(out).ratings_.users.tolist() == ["ann"]


def test_nothing_that_is_read_is_replaced(
    ratings_file: Path, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model may be fitted anew over an old one, but not over the ratings."""
    ratings, model, titles, link = (tmp_path / name for name in ("r.csv", "m.npz", "movies.csv", "link.csv"))
    ratings.write_bytes(ratings_file.read_bytes())
    model.write_bytes(model_file.read_bytes())
    titles.write_text("movieId,title\n1,One\n")
    link.symlink_to(ratings)
    before = {path: path.read_bytes() for path in (ratings, model, titles)}
    for out in (ratings, link):
        assert "would be lost" in error_of(["fit", ratings, "--rank", "1", "--out", out], capsys)
    for out in (model, titles):
        command = ["recommend", model, "--all", "--titles", titles, "--out", out]
        assert f"--out {out}: this file is read here" in error_of(command, capsys)
    assert {path: path.read_bytes() for path in (ratings, model, titles)} == before
    assert main(["fit", str(ratings), "--rank", "1", "--max-iter", "1", "--out", str(model)]) == 0
    assert model.read_bytes() != before[model]


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "recommend items with a fitted model" in captured.err


def test_bad_files(tmp_path: Path, ratings_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.npz"
    absent = tmp_path / "absent.csv"
    assert f"{absent}: No such file" in error_of(["fit", absent, "--out", out], capsys)
    assert "directory" in error_of(["fit", tmp_path, "--out", out], capsys)
    bad = tmp_path / "bad.csv"
    bad.write_text("1,2,3\n4,5,6\n7,8,good\n")
    assert "bad.csv, line 3: '7,8,good': the rating 'good'" in error_of(["fit", bad, "--out", out], capsys)
    folder = tmp_path / "nowhere"
    assert f"{folder / 'm.npz'}: No such folder" in error_of(["fit", absent, "--out", folder / "m.npz"], capsys)
    assert f"{tmp_path}: Not a regular file" in error_of(["fit", absent, "--out", tmp_path], capsys)  # before the work
    assert not out.exists()


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"nmfcore {nmfcore.__version__}\n"
    for arguments in (["fly"], ["fit"], ["fit", "x", "--out", "y", "--duplicates", "first"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def test_an_input_error_without_words(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(demo, "run", fail)
    assert error_of(["demo"], capsys) == "nmfcore: error: out of memory\n"


def test_numbers_too_large_are_an_input_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> None:
        raise FloatingPointError("the objective overflows")

    monkeypatch.setattr(demo, "run", fail)
    assert error_of(["demo"], capsys) == "nmfcore: error: the objective overflows\n"


def test_an_id_that_looks_like_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "r.csv", tmp_path / "m.npz"
    path.write_text("-bob,up,3\n-bob,heat,4\ncid,up,2\n")
    assert main(["fit", str(path), "--rank", "1", "--out", str(out)]) == 0
    shown = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert main(shown[shown.index("recommend") :]) == 0
    assert "User -bob: 2 ratings" in capsys.readouterr().out


def test_one_rating_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "r.csv", tmp_path / "m.npz"
    path.write_text("7,8,3\n")
    assert main(["fit", str(path), "--rank", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "1 rating of 1 item by 1 user, read in" in text
    assert "Fitting to all 1 rating.\n" in text
    assert main(["recommend", str(out), "--user", "7"]) == 0
    assert "User 7: 1 rating, mean 3.00" in capsys.readouterr().out


# Commands to type next


def test_commands_are_those_of_this_invocation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_ = tmp_path / "a folder" / "bin"
    bin_.mkdir(parents=True)
    script, python = bin_ / "nmfcore", bin_ / "python"
    for file in (script, python):
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.chdir(tmp_path)
    assert invoked_as() == "'a folder/bin/nmfcore'"
    monkeypatch.chdir(bin_)
    assert invoked_as() == "./nmfcore"
    monkeypatch.chdir(bin_.parent)
    assert invoked_as() == "bin/nmfcore"
    monkeypatch.setattr(sys, "argv", [nmfcore.__file__.replace("__init__", "__main__")])
    assert invoked_as() == "bin/python -m nmfcore"
    monkeypatch.setenv("PATH", str(bin_))
    assert invoked_as() == "python -m nmfcore"
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert invoked_as() == "nmfcore"


@pytest.mark.slow
def test_the_command_shown_works(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("1,1,5\n1,2,4\n2,1,3\n")
    ways = [[sys.executable, "-m", "nmfcore"]]
    script = shutil.which("nmfcore", path=sysconfig.get_path("scripts"))
    ways += [[script]] if script else []
    for way in ways:
        command = [*way, "fit", "r.csv", "--rank", "1", "--out", "m.npz"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        shown = done.stdout.rstrip().split("\n")[-1]
        again = subprocess.run(shown, shell=True, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "User 1: 2 ratings" in again.stdout


# Interrupts and pipes


def test_a_reader_of_the_progress_may_leave(
    ratings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(fit, "is_watched", lambda: True)
    monkeypatch.setattr(sys, "stderr", Closed())
    assert main(["fit", str(ratings_file), "--rank", "2", "--out", str(tmp_path / "m.npz")]) == 0
    assert Recommender.load(tmp_path / "m.npz").rank == 2


def interrupt_at(monkeypatch: pytest.MonkeyPatch, fit_number: int, iteration: int) -> None:
    fits = []

    def report(state: object) -> None:
        if state.n_iter == 1:
            fits.append(state)
        if len(fits) == fit_number and state.n_iter == iteration:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "is_watched", lambda: True)
    monkeypatch.setattr(fit, "_report", report)


def test_an_interrupted_fit_writes_what_it_has(
    ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.npz"
    interrupt_at(monkeypatch, 2, 3)
    assert main(["fit", str(ratings_file), "--rank", "3", "--test", "0.1", "--out", str(out)]) == 130
    assert f"nmfcore: interrupted. The model of iteration 3 was written to {out}." in capsys.readouterr().err
    assert Recommender.load(out).factorization_.n_iter == 3


def test_an_interrupted_assessment_writes_nothing(
    ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.npz"
    out.write_text("what was there before")
    interrupt_at(monkeypatch, 1, 2)
    assert main(["fit", str(ratings_file), "--rank", "3", "--test", "0.1", "--out", str(out)]) == 130
    assert f"{out} was not written" in capsys.readouterr().err
    assert out.read_text() == "what was there before"


@contextlib.contextmanager
def watched(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process with a terminal for its errors, as a person has it."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(other_end, (24, 100))  # in a terminal of no width nothing is shown
    with subprocess.Popen(command, stderr=other_end, stdout=subprocess.DEVNULL) as process:
        os.close(other_end)
        try:
            yield process, terminal
        finally:
            os.close(terminal)


def read(terminal: int) -> str:
    """What is there to be read; nothing at the end, which Linux calls an error."""
    try:
        return os.read(terminal, 2**16).decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_control_c(tmp_path: Path) -> None:
    ratings = planted_ratings(400, 300, 30_000)
    users, items, values = ratings.triplets()
    path, out = tmp_path / "r.csv", tmp_path / "m.npz"
    path.write_text("".join(f"{u},{i},{r:g}\n" for u, i, r in zip(users, items, values, strict=True)))
    command = [*NMFCORE, "fit", str(path), "--tol", "0", "--max-iter", "10000000", "--out", str(out)]
    with watched(command) as (process, terminal):
        shown = ""
        while not re.search(r"\b[1-9]\d+/10000000|iteration   20", shown):  # a bar if tqdm is there, or a line
            more = read(terminal)
            assert more, shown
            shown += more
        process.send_signal(signal.SIGINT)
        rest = "".join(iter(lambda: read(terminal), ""))
        assert process.wait(timeout=20) == 130
    assert "Traceback" not in rest
    kept = re.search(r"interrupted\. The model of iteration (\d+) was written", rest)
    assert kept
    assert Recommender.load(out).factorization_.n_iter == int(kept[1])


def test_a_closed_pipe_is_no_error(model_file: Path) -> None:
    command = [*NMFCORE, "recommend", str(model_file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()  # before anything is written
        assert process.stderr.read() == ""
        assert process.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize("also_errors", [False, True])
def test_a_closed_pipe_ends_output_and_not_work(
    ratings_file: Path, model_file: Path, tmp_path: Path, also_errors: bool
) -> None:
    model, table, image = tmp_path / "m.npz", tmp_path / "all.csv", tmp_path / "errors.svg"
    few = ["--ranks", "1,2", "--folds", "2", "--max-iter", "3"]
    commands = {
        model: ["fit", ratings_file, "--rank", "2", "--test", "0.1", "--evaluate", "--max-iter", "3", "--out", model],
        table: ["recommend", model_file, "--all", "--out", table],
    }
    if importlib.util.find_spec("matplotlib"):
        commands[image] = ["select-rank", ratings_file, *few, "--plot", image]
    for written, command in commands.items():
        for how in (["-u"],) if also_errors else ([], ["-u"]):  # found at the end, or at the first line
            called = [sys.executable, *how, "-m", "nmfcore", *map(str, command)]
            with subprocess.Popen(called, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                process.stdout.close()  # before anything is written
                if also_errors:
                    process.stderr.close()
                else:
                    said = process.stderr.read()
                    assert said == "" or said.startswith("nmfcore: 4 of 4 fits")
                assert process.wait() == 0
            assert written.stat().st_size > 0
            written.unlink()
    main([str(part) for part in commands[model]])
    assert Recommender.load(model).ratings_.nnz == 1200


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-", "| head -1", "2>&1 | head -1"])
def test_without_an_output(ratings_file: Path, tmp_path: Path, closed: str) -> None:
    command = shlex.join([*NMFCORE, "fit", str(ratings_file), "--rank", "2", "--out", "m.npz"])
    run = subprocess.run(f"{command} {closed}", shell=True, cwd=tmp_path, capture_output=True, text=True)
    said = "nmfcore: could not print to the standard output: it is closed. m.npz was written.\n"
    assert (run.returncode, run.stderr) == (0, said if closed == ">&-" else "")
    assert run.stdout.count("\n") == ("head" in closed)
    assert Recommender.load(tmp_path / "m.npz").rank == 2


def test_a_closed_pipe_is_no_error_of_a_table_either(model_file: Path) -> None:
    with subprocess.Popen(
        [*NMFCORE, "recommend", str(model_file), "--all", "--out", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


# Recommend


def test_recommend(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Recommender.load(model_file)
    titles = tmp_path / "movies.csv"
    titles.write_text("movieId,title\n" + "".join(f'{i},"Film, No. {i}"\n' for i in model.ratings_.items))
    assert main(["recommend", str(model_file), "--user", "7", "-n", "4", "--titles", str(titles)]) == 0
    text = capsys.readouterr().out
    items, predicted = model.recommend(7, 4)
    rows = [
        (float(row[1]), int(row[2]), row[3]) for row in re.finditer(r"^ +(\d+\.\d\d)  (\d+) +(Film.*)$", text, re.M)
    ]
    limits = model.rating_range_
    expected = [
        (round(float(np.clip(p, *limits)), 2), i, f"Film, No. {i}")
        for i, p in zip(items.tolist(), predicted, strict=True)
    ]
    assert rows == expected
    assert "rated highest: Film, No." in text


def test_recommend_without_a_user_shows_the_most_active(model_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", str(model_file)]) == 0
    text = capsys.readouterr().out
    ratings = Recommender.load(model_file).ratings_
    shown = [int(user) for user in re.findall(r"^User (\d+):", text, re.M)]
    assert shown == ratings.users[np.argsort(-np.diff(ratings.indptr), kind="stable")[:3]].tolist()
    assert f"nmfcore recommend {model_file} --user ID" in text


def test_recommend_when_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "r.tsv", tmp_path / "my model.npz"
    path.write_text("ann\tx\t5\nann\ty\t4\nbob\tx\t3\n")
    assert main(["fit", str(path), "--rank", "1", "--out", str(out)]) == 0
    assert f"nmfcore recommend '{out}' --user ann" in capsys.readouterr().out
    assert main(["recommend", str(out), "--user", "ann"]) == 0
    assert "has rated every item" in capsys.readouterr().out
    assert main(["recommend", str(out), "--user", "bob"]) == 0
    assert re.search(r"^ +\d\.\d\d  y$", capsys.readouterr().out, re.M)


def test_recommend_errors(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = error_of(["recommend", model_file, "--user", "1000"], capsys)
    assert "unknown user 1000: 60 users are known, for example 1 (an id)" in unknown  # not "60 are known, such as 60"
    word = error_of(["recommend", model_file, "--user", "ann"], capsys)
    assert "unknown user 'ann': the users' ids are integers, such as 1" in word
    assert "-n 0" in error_of(["recommend", model_file, "-n", "0"], capsys)
    assert "No such file" in error_of(["recommend", tmp_path / "absent.npz"], capsys)
    assert "No such file" in error_of(["recommend", model_file, "--titles", tmp_path / "absent.csv"], capsys)
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(model_file.read_bytes()[:-100])
    assert "damaged.npz: " in error_of(["recommend", damaged], capsys)
    nmfcore.factorize([[1, 2], [2, 4]], 1, random_state=0).save(damaged)
    assert "damaged.npz: " in error_of(["recommend", damaged], capsys)


def test_titles_are_matched_across_kinds_of_ids() -> None:
    numbers, texts = np.array([7, 114508]), np.array(["0114508", "7", "x"])
    assert match_titles(numbers, {7: "a", 114508: "b"}) == {7: "a", 114508: "b"}
    assert match_titles(numbers, {"0114508": "b", "x": "c"}) == {114508: "b"}
    assert match_titles(texts, {114508: "b", 7: "a"}) == {"0114508": "b", "7": "a"}
    assert match_titles(texts, {"0114508": "b", "114508": "other", "x": "c"}) == {"0114508": "b", "x": "c"}
    assert match_titles(numbers, {"0114508": "b", "00114508": "other"}) == {}  # which of the two?


def test_titles_of_something_else(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "titles.csv"
    path.write_text("id,title\nq1,One\n")
    assert main(["recommend", str(model_file), "--user", "7", "--titles", str(path)]) == 0
    assert "No item of the model has a title" in capsys.readouterr().out
    assert main(["recommend", str(model_file), "--all", "--out", "-", "--titles", str(path)]) == 0
    text = capsys.readouterr()
    assert "No item of the model has a title" in text.err  # not among the values
    assert text.out.startswith("user,item,rating\n")


# Recommendations for all


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_recommend_all(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = Recommender.load(model_file), tmp_path / "all.csv"
    assert main(["recommend", str(model_file), "--all", "--out", str(out), "-n", "3"]) == 0
    assert capsys.readouterr().out == f"{out}: 180 recommendations for 60 users.\n"
    header, *rows = rows_of(out.read_text(encoding="utf-8"))
    assert header == ["user", "item", "rating"]
    expected = []
    for user in model.ratings_.users.tolist():
        items, ratings = model.recommend(user, 3)
        expected += [[str(user), str(i), f"{r:.6g}"] for i, r in zip(items.tolist(), ratings.tolist(), strict=True)]
    assert rows == expected
    assert main(["recommend", str(model_file), "--all", "--out", "-", "-n", "3"]) == 0
    assert capsys.readouterr().out == out.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [out]


def test_recommend_all_with_titles_and_ids_that_need_quotes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, titles, out = tmp_path / "m.npz", tmp_path / "t.csv", tmp_path / "o.csv"
    ratings = nmfcore.Ratings.from_triplets(['a "b"', "c,d", "c,d"], ["x", "x", "y;é"], [4, 5, 3])
    Recommender(rank=1, random_state=0).fit(ratings).save(model)
    titles.write_text('id,title\ny;é,"Heat, 1995"\n', encoding="utf-8")
    assert main(["recommend", str(model), "--all", "--out", str(out), "--titles", str(titles)]) == 0
    assert capsys.readouterr().out == f"{out}: 1 recommendation for 2 users.\n"
    header, row = rows_of(out.read_text(encoding="utf-8"))
    assert header == ["user", "item", "rating", "title"]
    assert row[:2] + row[3:] == ['a "b"', "y;é", "Heat, 1995"]


def test_recommend_all_is_written_at_once_or_not_at_all(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "all.csv"
    out.write_text("what was there before")
    real = ranking.best_items

    def interrupted(*arguments: object, **options: object) -> Iterator[object]:
        yield from real(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(recommend, "best_items", interrupted)
    assert main(["recommend", str(model_file), "--all", "--out", str(out)]) == 130
    assert "interrupted. Nothing was written." in capsys.readouterr().err
    assert out.read_text() == "what was there before"
    assert list(tmp_path.iterdir()) == [out]
    assert main(["recommend", str(model_file), "--all", "--out", "-"]) == 130
    text = capsys.readouterr()
    assert "What was written is not complete." in text.err
    assert text.out.startswith("user,item,rating\n1,")
    nowhere = tmp_path / "nowhere" / "all.csv"
    assert f"{nowhere}: No such folder" in error_of(["recommend", model_file, "--all", "--out", nowhere], capsys)


def test_recommend_all_errors(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "--all needs --out" in error_of(["recommend", model_file, "--all"], capsys)
    assert "--out is where --all" in error_of(["recommend", model_file, "--out", tmp_path / "x"], capsys)
    assert "-n 0" in error_of(["recommend", model_file, "--all", "--out", tmp_path / "x", "-n", "0"], capsys)
    with pytest.raises(SystemExit):
        main(["recommend", str(model_file), "--all", "--user", "3", "--out", str(tmp_path / "x")])
    assert list(tmp_path.iterdir()) == []


# Explain, similar, evaluate


def test_explain(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, titles = Recommender.load(model_file), tmp_path / "movies.csv"
    assert main(["explain", str(model_file), "--user", "7", "--item", "9"]) == 0
    assert capsys.readouterr().out == f"{model.explain(7, 9)}\n"
    titles.write_text("movieId,title\n" + "".join(f"{i},Film {i}\n" for i in model.ratings_.items))
    arguments = ["explain", str(model_file), "--user", "7", "--item", "9", "-n", "2", "--titles", str(titles)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith("User 7, item 9 Film 9: predicted ")
    listed = [int(item) for item in re.findall(r"rated \d: \d+ Film (\d+)$", text, re.M)]
    assert listed == model.explain(7, 9, n=2).items.tolist()


def test_similar(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, titles = Recommender.load(model_file), tmp_path / "movies.csv"
    titles.write_text("movieId,title\n9,Film\n")
    assert main(["similar", str(model_file), "--item", "9", "-n", "4", "--titles", str(titles)]) == 0
    first, *rows = capsys.readouterr().out.rstrip().split("\n")
    assert first == "Like item 9 Film:"
    items, similarities = model.similar_items(9, 4)
    expected = [[f"{s:.3f}", str(i), "(no", "title)"] for i, s in zip(items.tolist(), similarities, strict=True)]
    assert [row.split() for row in rows] == expected


def test_explain_and_similar_errors(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whose = ["--user", "7", "--item"]
    assert "unknown item 999" in error_of(["explain", model_file, *whose, "999"], capsys)
    assert "unknown user 999" in error_of(["explain", model_file, "--user", "999", "--item", "9"], capsys)
    assert "unknown item 'x'" in error_of(["similar", model_file, "--item", "x"], capsys)
    for command in (["explain", model_file, *whose, "9"], ["similar", model_file, "--item", "9"]):
        assert "-n 0" in error_of([*command, "-n", "0"], capsys)
    assert "No such file" in error_of(["similar", tmp_path / "absent.npz", "--item", "9"], capsys)


def test_fit_and_evaluate(ratings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fit", str(ratings_file), "--rank", "2", "--out", str(tmp_path / "m.npz"), "--evaluate"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    train, test = nmfcore.Ratings.from_csv(ratings_file).split(0.1, random_state=0)
    found = nmfcore.evaluate(Recommender(rank=2, random_state=0).fit(train), test)
    shown = (found.precision, found.recall, found.ndcg, found.map, found.coverage)
    assert re.search(r" +".join(f"{value:.4f}" for value in shown) + r" +\d+\.\d\d$", text, re.M)
    assert f"{found.n_users} users with a held-out rating of {found.threshold:.4g} (the mean) or more" in text
    assert "Fitting to all 1,200 ratings, the held-out ones included.\n" in text
    assert main([*arguments, "--test", "0.3"]) == 0
    assert "Held out: 360 ratings" in capsys.readouterr().out


# Real files


@pytest.mark.parametrize(
    ("ratings", "titles", "user", "facts"),
    [
        ("ml-100k/u.data", "ml-100k/u.item", "196", "100,000 ratings of 1,682 items by 943 users"),
        ("ml-latest-small/ratings.csv", "ml-latest-small/movies.csv", "5", "100,004 ratings of 9,066 items by 671"),
        ("movietweetings-100k/ratings.dat", "movietweetings-100k/movies.dat", "1", "by 16,554 users"),
    ],
)
def test_real_files(
    ratings: str,
    titles: str,
    user: str,
    facts: str,
    data_dir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (ratings, titles):
        if not (data_dir / name).is_file():
            pytest.skip(f"{name} is not in {data_dir}")
    monkeypatch.chdir(tmp_path)
    out = "model.npz"
    options = ["--rank", "4", "--max-iter", "10", "--test", "0.1"]
    assert main(["fit", str((data_dir / ratings).resolve()), *options, "--out", out]) == 0
    assert facts in capsys.readouterr().out
    for arguments in (["--user", user, "-n", "5"], []):
        assert main(["recommend", out, *arguments, "--titles", str((data_dir / titles).resolve())]) == 0
        text = capsys.readouterr().out
        assert len(re.findall(r"^ +\d+\.\d\d  \d+ +\S.* \(\d{4}\)$", text, re.M)) >= 5  # titles end in a year
        assert "(no title)" not in text
        assert max(map(len, text.split("\n"))) <= 100


def test_the_columns_of_a_file_without_header_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "u.data"
    path.write_text("1\t2\t5\t881250949\n1\t3\t4\t881250949\n2\t2\t1\t881250949\n")
    told = "without header: user, item and rating are columns 1, 2 and 3"
    options = ["--rank", "1", "--out", str(tmp_path / "m.npz")]
    assert main(["fit", str(path), *options]) == 0
    assert told in capsys.readouterr().out
    assert main(["fit", str(path), *options, "--columns", "1,2,3"]) == 0
    assert told not in capsys.readouterr().out
    path.write_text("user,item,rating\n1,2,5\n1,3,4\n")
    assert main(["fit", str(path), *options]) == 0
    assert told not in capsys.readouterr().out


def test_a_warning_is_a_line_with_options(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [(u, i, 0 if rng.random() < 0.7 else rng.integers(5, 11)) for u in range(30) for i in range(10)]
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n" + "".join(f"{u},{i},{r}\n" for u, i, r in rows))
    command = [*NMFCORE, "fit", str(path), "--rank", "1", "--out", str(tmp_path / "m.npz")]
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONWARNINGS"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert done.stderr.startswith(f"nmfcore: {path}: ")
    assert done.stderr.endswith("% of the ratings are 0. If it stands for 'not rated', pass --not-rated 0.\n")
    assert done.stderr.count("\n") == 1


def test_library_warnings_point_at_the_caller(tmp_path: Path) -> None:
    ratings = planted_ratings(60, 50, 1200)
    far = nmfcore.Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, 75.0 + ratings.data)
    model = Recommender(rank=1, random_state=0).fit(far)
    low = nmfcore.Ratings.from_triplets([1], [1], [3.0])
    equal = nmfcore.Ratings(ratings.users, ratings.items, ratings.indptr, ratings.indices, np.ones(ratings.nnz))
    path = tmp_path / "r.csv"
    path.write_text("user,item,rating\n" + "".join(f"{u},{u % 7},{0 if u % 3 else 4 + u % 2}\n" for u in range(60)))
    acts = [
        lambda: model.fold_in(low),
        lambda: model.partial_fit(low),
        lambda: Recommender(rank=1, random_state=0).fit(equal),
        lambda: nmfcore.Ratings.from_file(path),
    ]
    for act in acts:
        with pytest.warns(UserWarning, match="level|nothing to learn|not rated") as caught:
            act()
        assert [w.filename for w in caught] == [__file__]
