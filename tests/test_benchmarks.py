"""The benchmark suite measures what it says, and nobody drops out of it in silence."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from benchmarks import contenders, objective, race, report
from nmfcore import reference

ROOT = Path(__file__).parents[1]
CHEATS = """
import numpy as np
def negative(p, W, H, n_iter):
    return -W, H
def overstated(p, W, H, n_iter):
    return *__import__("nmfcore").reference.hals(p.X, W, H, 5), 1.0, 5
def broken(p, W, H, n_iter):
    raise RuntimeError("no such luck")
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("race")
    (folder / "cheats.py").write_text(CHEATS)
    names = [f"cheats:{name}" for name in ("negative", "overstated", "broken")]
    command = [sys.executable, "-m", "benchmarks", "race", "--quick", "--seeds", "1", "--out", folder / "out"]
    command += ["--cases", "small-dense-f32", "small-ratings", "small-words-kl", "--contender", *names]
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return folder / "out", json.loads((folder / "out" / "results.json").read_text())


def runs_of(results, contender, case="small-dense-f32"):
    return [r for r in results[1]["runs"] if (r["case"], r["contender"]) == (case, contender)]


def test_a_quick_race_writes_its_files(results):
    out, found = results
    assert {p.name for p in out.iterdir()} >= {"results.json", "table.md", "profile.svg", "profile.png"}
    assert str(ROOT) not in (out / "results.json").read_text()
    table = (out / "table.md").read_text()
    for case in ("small-dense-f32", "small-ratings", "small-words-kl"):
        assert f"| {case} |" in table
    assert found["machine"]["cpu"]


def test_nmfcore_reaches_the_target_from_the_peers_start(results):
    for case, peer in (("small-dense-f32", "sklearn-cd"), ("small-ratings", "numpy")):
        (ours,), (theirs,) = runs_of(results, "nmfcore", case), runs_of(results, peer, case)
        assert ours["reached"]
        assert ours["objective"] <= 1.001 * theirs["objective"] * (1 + 1e-5)
        assert ours["start"] == theirs["start"]
        assert ours["cold"] > 0
        assert ours["warm"] > 0
        assert ours["peak_mb"] > 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [("negative", "negative factors"), ("overstated", "reports an objective"), ("broken", "no such luck")],
)
def test_a_contender_that_fails_is_reported(results, name, reason):
    (run,) = runs_of(results, f"cheats:{name}")
    assert run["status"] == "failed"
    assert reason in run["reason"]
    assert "warm" not in run
    assert reason in (results[0] / "table.md").read_text()


def test_every_contender_is_listed(results):
    for contender in contenders.CONTENDERS:
        assert runs_of(results, contender.name), contender.name
        assert f"- {contender.name} " in (results[0] / "table.md").read_text()
    (absent,) = runs_of(results, "sklearn-cd", "small-ratings")
    assert absent["status"].startswith("not available")


def test_a_peer_that_is_not_installed_says_so():
    ghost = contenders.Contender("ghost", "no_such_package_at_all", contenders.tensorly, frozenset({"dense"}))
    assert ghost.lacks("dense", 10) == "not installed"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_objective_is_that_of_the_reference(dtype, monkeypatch):
    monkeypatch.setattr(objective, "BLOCK", 100)  # several blocks
    rng = np.random.default_rng(0)
    X = (rng.random((37, 23)) * (rng.random((37, 23)) < 0.4)).astype(dtype)
    W, H = rng.random((37, 4)).astype(dtype), rng.random((4, 23)).astype(dtype)
    exact = [A.astype(float) for A in (X, W, H)]
    stored = scipy.sparse.csr_array(X)
    for given in (X, stored):
        assert objective.objective(given, W, H) == pytest.approx(reference.objective(*exact), rel=1e-12)
    masked = reference.objective(*exact, mask=X > 0)
    assert objective.objective(stored, W, H, masked=True) == pytest.approx(masked, rel=1e-12)


def test_the_divergence_is_that_of_scikit_learn():
    from sklearn.decomposition._nmf import _beta_divergence

    rng = np.random.default_rng(0)
    X = rng.poisson(0.7, (30, 20)).astype(float)
    W, H = rng.random((30, 3)) + 0.1, rng.random((3, 20)) + 0.1
    expected = _beta_divergence(X, W, H, 1)
    for given in (X, scipy.sparse.csr_array(X)):
        assert objective.objective(given, W, H, objective.KL) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_the_start_is_scikit_learns(masked):
    from sklearn.decomposition._nmf import _initialize_nmf

    X = np.random.default_rng(0).random((12, 9))
    for given in (X, X.astype(np.float32)):
        W, H = _initialize_nmf(given, 3, init="random", random_state=5)
        mine = objective.start(scipy.sparse.csr_array(given) if masked else given, 3, 5, masked)
        for a, b in zip(mine, (W, H), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
            assert a.dtype == b.dtype


def test_the_order_alternates_and_the_target_comes_first():
    names = ("sklearn-cd", "sklearn-mu", "nmfcore")
    line = [(seed, c.name) for _, seed, c in race.order([contenders.find(n) for n in names], "sklearn-cd", 4)]
    assert sorted(line) == sorted((seed, name) for seed in range(4) for name in names)
    for seed in range(4):
        assert line.index((seed, "sklearn-cd")) < line.index((seed, "nmfcore"))
    turns = [line.index((0, "nmfcore")) < line.index((1, "sklearn-cd"))]
    turns.append(line.index((1, "nmfcore")) < line.index((2, "sklearn-cd")))
    assert turns == [True, False]


def test_a_ratio_counts_only_where_the_objective_is_reached():
    case = {"name": "c", "peer": "p"}
    runs = [{"case": "c", "contender": "p", "seed": s, "status": "ok", "warm": 6.0, "objective": 1.0} for s in range(3)]
    runs += [
        {"case": "c", "contender": "nmfcore", "seed": s, "status": "ok", "warm": 2.0, "reached": s != 1}
        for s in range(3)
    ]
    assert report.ratios(runs, case) == [3.0, 0.0, 3.0]
    assert report.geometric_mean([1.0, 100.0]) == pytest.approx(10.0)
    assert report.geometric_mean([1.0, 0.0]) == 0.0


def race_of(case: str, seconds: float, *left_out: str) -> dict[str, Any]:
    machine = {"cpu": "x", "threads": 2, "versions": {}, "load_before": (0.0, 0, 0), "foreign": seconds}
    runs = [{"case": case, "contender": "nmfcore", "status": "ok", "warm": seconds}]
    runs += [{"case": case, "contender": name, "status": report.NOT_ASKED} for name in left_out]
    settings = {"quick": False}
    return {"machine": machine, "settings": settings, "contenders": {}, "cases": [{"name": case}], "runs": runs}


def test_races_put_together() -> None:
    other = {"case": "a", "contender": "other", "status": "ok", "warm": 5.0}
    first = race_of("a", 1.0)
    first["runs"].append(other)
    both = report.together([first, race_of("a", 2.0, "other"), race_of("b", 3.0, "other")])
    assert [case["name"] for case in both["cases"]] == ["a", "b"]
    assert other in both["runs"]  # which the later race left out
    assert [r["warm"] for r in both["runs"] if r["contender"] == "nmfcore"] == [2.0, 3.0]
    assert both["machine"]["foreign"] == 3.0
    slower = race_of("c", 1.0)
    slower["machine"]["threads"] = 1
    with pytest.raises(ValueError, match="the races differ in threads"):
        report.together([both, slower])
