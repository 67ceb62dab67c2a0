"""The benchmark suite measures what it says, and nobody drops out of it in silence."""

import itertools
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

from benchmarks import (
    contenders,
    datasets,
    figures,
    objective,
    race,
    ratings_cases,
    ratings_contenders,
    ratings_race,
    ratings_report,
    ratings_scaling,
    report,
    scaling,
)
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


@pytest.mark.slow
def test_a_quick_race_writes_its_files(results):
    out, found = results
    assert {p.name for p in out.iterdir()} >= {"results.json", "table.md", "profile.svg", "profile.png"}
    assert str(ROOT) not in (out / "results.json").read_text()
    table = (out / "table.md").read_text()
    for case in ("small-dense-f32", "small-ratings", "small-words-kl"):
        assert f"| {case} |" in table
    assert found["machine"]["cpu"]


@pytest.mark.slow
def test_nmfcore_reaches_the_target_from_the_peers_start(results):
    for case, peer in (("small-dense-f32", "sklearn-cd"), ("small-ratings", "numpy")):
        (ours,), (theirs,) = runs_of(results, "nmfcore", case), runs_of(results, peer, case)
        assert ours["reached"]
        assert ours["objective"] <= 1.001 * theirs["objective"] * (1 + 1e-5)
        assert ours["start"] == theirs["start"]
        assert ours["cold"] > 0
        assert ours["warm"] > 0
        assert ours["peak_mb"] > 0


@pytest.mark.slow
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


@pytest.mark.slow
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


# --- ratings ----------------------------------------------------------------------------------------------------------

PEERS = """
import numpy as np
from benchmarks.ratings_contenders import Model
class Means:
    package = distribution = "numpy"
    def __init__(self, train, threads):
        self.train = train
    def fit(self, rank, l2, n_iter, seed):
        n = np.diff(self.train.indptr)
        return (self.train.sum(axis=1) + n_iter / 100) / np.maximum(n, 1)  # fewer iterations, better: to be seen
    def model(self, means):
        W = np.zeros((self.train.shape[0], 6))
        W[:, 0] = means
        return Model(W, np.eye(6)[0][:, None] * np.ones(self.train.shape[1]))
class Negative(Means):
    def model(self, means):
        W, H, *offsets = super().model(means)
        return Model(-W, -H, *offsets)
class Absent(Means):
    package = "no_such_package_at_all"
"""


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """A race on small ratings, with peers of our own."""
    folder = tmp_path_factory.mktemp("ratings")
    (folder / "peers.py").write_text(PEERS)
    names = ("Means", "Negative", "Absent")
    peers = tuple(ratings_cases.Peer(f"peers:{name}", (0.1,), (4,), (2, 4), 0.001) for name in names)
    small = ratings_cases.quick()[0]
    cases = [ratings_cases.RatingsCase("small", small.load, 6, peers, most=30), ratings_cases.quick()[1]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        done = [ratings_race.RatingsRace(case, 2, 1, 300.0, {}, trace=False).run() for case in cases]
    entries, runs = zip(*done, strict=True)
    return {"contenders": {}, "cases": list(entries), "runs": [*itertools.chain(*runs)]}


def ratings_runs(rated, contender):
    return [r for r in rated["runs"] if r["contender"] == contender]


@pytest.mark.slow
def test_a_race_to_a_held_out_rmse(rated):
    train, (users, items, ratings) = ratings_cases.quick()[0].load()[0]
    n = np.diff(train.indptr)
    theirs, ours = ratings_runs(rated, "peers:Means"), ratings_runs(rated, "nmfcore")
    assert [r["seed"] for r in theirs] == [r["seed"] for r in ours] == [0, 1]
    assert [r["turn"] for r in theirs + ours] != sorted(r["turn"] for r in theirs + ours)  # ours in between
    plain = (train.sum(axis=1) + 0.04) / np.maximum(n, 1)
    known = (n > 0)[users] & (np.bincount(train.indices, minlength=train.shape[1]) > 0)[items]
    expected = np.sqrt(np.mean((np.clip(np.where(known, plain[users], train.data.mean()), 1, 5) - ratings) ** 2))
    for peer, us in zip(theirs, ours, strict=True):
        assert [(c["l2"], c["n_iter"]) for c in peer["calls"]] == [(0.1, 2), (0.1, 4)]
        assert peer["best"]["n_iter"] == 4  # of the grid; 2 is better, but only an intermediate count
        assert peer["best"]["rmse"] == pytest.approx(expected, abs=1e-6)
        to = us["to"]["peers:Means"]
        assert to["reached"]
        assert to["rmse"] <= peer["target"] == peer["best"]["rmse"] + 0.001
        assert us["curve"]["rmse"][to["n_iter"] - 1] == pytest.approx(to["rmse"], rel=1e-12)
        assert all(value > peer["target"] for value in us["curve"]["rmse"][: to["n_iter"] - 1])


@pytest.mark.slow
def test_the_table_of_ratings_names_who_failed_and_why(rated, tmp_path):
    (negative,) = {r["reason"] for r in ratings_runs(rated, "peers:Negative")}
    assert "negative factors" in negative
    assert ratings_runs(rated, "peers:Absent")[0]["status"] == "not installed"
    section = ratings_report.section({"ratings": rated})
    assert "| small | 6 | peers:Absent | | | | | | | | | not installed |" in section
    assert "negative factors" in section
    assert "| small-default | rank=6 |" in section
    figures.draw({"cases": [], "runs": [], "settings": {"within": 1.001}, "ratings": rated}, tmp_path)
    assert (tmp_path / "ratings.png").stat().st_size > 5000


@pytest.mark.slow
def test_the_recommender_is_judged_by_what_it_predicts(rated):
    import nmfcore

    train, (users, items, ratings) = ratings_cases.quick()[1].load()[0]
    runs = ratings_runs(rated, "Recommender")
    ids = map(np.arange, train.shape)
    model = nmfcore.Recommender(rank=6, random_state=1)
    model.fit(nmfcore.Ratings(*ids, train.indptr, train.indices, train.data))
    known = (np.diff(train.indptr) > 0)[users] & (np.bincount(train.indices, minlength=train.shape[1]) > 0)[items]
    predicted = np.where(known, model.predict(users, items), train.data.mean())
    assert runs[1]["rmse"] == pytest.approx(np.sqrt(np.mean((np.clip(predicted, 1, 5) - ratings) ** 2)), rel=1e-9)


@pytest.mark.parametrize(
    ("W", "H", "fault"),
    [
        (np.ones((3, 2)), np.ones((2, 3)), "wrong shape"),
        (np.full((3, 2), np.nan), np.ones((2, 4)), "not finite"),
        (np.ones((3, 2)), -np.ones((2, 4)), "negative"),
    ],
)
def test_the_judge_of_ratings_refuses(W, H, fault):
    train = scipy.sparse.csr_array(np.eye(3, 4))
    held_out = objective.HeldOut(train, (np.array([0]), np.array([1]), np.array([2.0])), (1.0, 5.0))
    assert fault in held_out.judge(2, W, H)[1]


def test_the_rmse_is_that_of_the_definition(monkeypatch):
    monkeypatch.setattr(objective, "BLOCK", 7)
    rng = np.random.default_rng(0)
    dense = rng.integers(1, 6, (9, 8)) * (rng.random((9, 8)) < 0.6)
    dense[2], dense[:, 5] = 0, 0  # without a rating
    train = scipy.sparse.csr_array(dense.astype(np.float32))
    W, H = rng.random((9, 3)), 4 * rng.random((3, 8))
    user, item = rng.random(9), rng.random(8)
    test = rng.integers(0, 9, 40), rng.integers(0, 8, 40), rng.integers(1, 6, 40)
    total = 0.0
    for u, i, r in zip(*test, strict=True):
        guess = (
            train.data.mean(dtype=float)
            if u == 2 or i == 5
            else 0.5 + user[u] + item[i] + sum(W[u, t] * H[t, i] for t in range(3))
        )
        total += (min(max(float(guess), 1.0), 5.0) - r) ** 2
    value = objective.HeldOut(train, test, (1.0, 5.0)).rmse(W, H, 0.5, user, item)
    assert value == pytest.approx(np.sqrt(total / 40), rel=1e-12)


def test_a_target_is_the_best_of_the_grid_and_its_time_the_shortest_that_arrives():
    peer = ratings_cases.Peer("p", (0.1,), (20, 40), (10, 20, 30, 40), 0.01)
    calls = [
        {"l2": 0.1, "n_iter": n, "rmse": rmse, "seconds": s}
        for n, rmse, s in ((10, 0.95, 1.0), (20, 0.91, 2.0), (30, 0.905, 2.5), (40, 0.90, 4.0))
    ]
    found = ratings_race.target_of(peer, calls)
    assert (found["best"]["n_iter"], found["target"], found["seconds"]) == (40, pytest.approx(0.91), 2.0)


def test_a_ratio_of_ratings_counts_only_where_the_target_is_reached():
    runs = [{"case": "c", "contender": "p", "seed": s, "status": "ok", "seconds": 6.0} for s in range(2)]
    to = [{"reached": True, "seconds": 2.0}, {"reached": False}]
    runs += [{"case": "c", "contender": "nmfcore", "seed": s, "status": "ok", "to": {"p": to[s]}} for s in range(2)]
    assert ratings_report.ratios(runs, "c", "p") == [3.0, 0.0]


def test_splits_hold_every_rating_out_once():
    A = datasets.planted_ratings(40, 30, 500)
    parts = ratings_cases.folds(lambda: A)
    total = sum(
        (scipy.sparse.coo_array((r, (i, j)), shape=A.shape).toarray() for _, (i, j, r) in parts), np.zeros(A.shape)
    )
    np.testing.assert_array_equal(total, A.toarray())
    for train, (i, j, _) in (*parts, *ratings_cases.one(lambda: A, 1)):
        held = np.zeros(A.shape, bool)
        held[i, j] = True
        np.testing.assert_array_equal(train.toarray(), np.where(held, 0, A.toarray()))
    order = A.tocoo()
    chosen = np.random.default_rng(1).random(A.nnz) < 0.1
    np.testing.assert_array_equal(ratings_cases.one(lambda: A, 1)[0][1][0], order.coords[0][chosen])


@pytest.mark.parametrize("name", ["surprise", "cornac", "cmfrec"])
def test_factors_predict_what_the_peer_predicts(name):
    pytest.importorskip(name)
    train, (users, items, _) = ratings_cases.quick()[0].load()[0]
    contender = ratings_contenders.CONTENDERS[name](train, 1)
    fitted = contender.fit(6, 0.06, 3, 0)
    model = contender.model(fitted)
    for u, i in zip(users[:20].tolist(), items[:20].tolist(), strict=True):
        theirs = {
            "surprise": lambda u=u, i=i: fitted.predict(u, i, clip=False).est,
            "cornac": lambda u=u, i=i: fitted.score(contender.data.uid_map[u], contender.data.iid_map[i]),
            "cmfrec": lambda u=u, i=i: float(fitted.predict(u, i)),
        }[name]()
        assert model.W[u] @ model.H[:, i] == pytest.approx(theirs, rel=1e-5)


def test_long_tailed_ratings():
    X = datasets.long_tailed_ratings(3000, 2000, 200_000, seed=3)
    again = datasets.long_tailed_ratings(3000, 2000, 200_000, seed=3)
    for one, other in zip((X.data, X.indices, X.indptr), (again.data, again.indices, again.indptr), strict=True):
        np.testing.assert_array_equal(one, other)
    assert X.nnz == pytest.approx(200_000, rel=0.03)
    assert set(np.unique(X.data)) == {1, 2, 3, 4, 5}
    X.sum_duplicates()
    assert X.nnz == again.nnz  # pairs are distinct
    per_user, per_item = np.sort(np.diff(X.indptr)), np.sort(np.bincount(X.indices, minlength=2000))
    assert per_user[-1] > 10 * np.median(per_user)
    assert per_item[-20:].sum() > 0.1 * X.nnz


def test_the_file_of_ratings_says_what_the_matrix_says(tmp_path):
    X = datasets.long_tailed_ratings(300, 200, 5000)
    ratings_scaling.write_csv(X, tmp_path / "ratings.csv", rows=70)
    users, items, stars = np.loadtxt(tmp_path / "ratings.csv", delimiter=",", skiprows=1).T
    back = scipy.sparse.coo_array((stars, (users.astype(int) - 1, items.astype(int) - 1)), shape=X.shape)
    np.testing.assert_array_equal(back.toarray(), X.toarray())


@pytest.mark.slow
def test_ratings_by_the_million_on_a_small_scale(tmp_path, capsys):
    ratings_scaling.run(4e4, str(tmp_path))
    said = capsys.readouterr().out
    assert "seconds grow with ratings to the power" in said
    assert "failed" not in said
    assert "GB of the whole process" in said
    assert list(tmp_path.iterdir()) == []


def test_counts_are_made_in_pieces_that_leave_no_trace():
    """With 32-bit indices, so that 2e8 entries take 2.4 GB, and a transpose as much again."""
    m = 25_000  # pieces have 10,000 rows
    X = scaling._counts(m * scaling.LENGTH)
    rng = np.random.default_rng(0)
    stretch = scaling.WORDS // scaling.LENGTH
    columns = np.floor((np.arange(scaling.LENGTH) + rng.random((m, scaling.LENGTH))) * stretch)
    np.testing.assert_array_equal(X.indices, columns.ravel())
    np.testing.assert_array_equal(X.data, 1 + rng.poisson(1.0, X.nnz))
    np.testing.assert_array_equal(np.diff(X.indptr), scaling.LENGTH)
    assert X.indices.dtype == X.indptr.dtype == np.int32


@pytest.mark.filterwarnings("ignore::nmfcore.ConvergenceWarning")
def test_growth_on_a_small_scale(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "SIZES", (1e5, 3e5, 1e6))
    scaling.size(3e5)
    said = capsys.readouterr().out
    assert said.count("seconds grow with entries to the power") == 2
    assert [line.split()[0] for line in said.splitlines() if line.endswith(("dense", "counts"))] == [
        "100000",
        "300000",
    ] * 2


def test_ratings_of_several_races_put_together() -> None:
    first, more = race_of("a", 1.0), race_of("b", 1.0)
    for results, seconds in ((first, 1.0), (more, 2.0)):
        run = {"case": "r", "contender": "nmfcore", "seconds": seconds}
        results["ratings"] = {"contenders": {}, "cases": [{"name": "r"}], "runs": [run]}
    first["ratings"]["cases"].append({"name": "kept"})
    both = report.together([first, more])["ratings"]
    assert [c["name"] for c in both["cases"]] == ["kept", "r"]
    assert [r["seconds"] for r in both["runs"]] == [2.0]


def test_an_interpreter_for_nobody_is_refused():
    assert ratings_race.parse_pythons(["libmf=/usr/bin/python"]) == {"libmf": "/usr/bin/python"}
    for wrong in ("nobody=/usr/bin/python", "libmf"):
        with pytest.raises(ValueError, match="--python takes NAME=PATH"):
            ratings_race.parse_pythons([wrong])


@pytest.mark.slow
def test_every_kernel_is_called_as_it_is_timed():
    """The kernels' benchmarks, once each and at one size, untimed: a kernel that takes other arguments shows here."""
    command = [sys.executable, "-m", "pytest", "benchmarks/test_kernels.py", "--benchmark-disable", "-q"]
    done = subprocess.run([*command, "-k", "float32 and 5"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "passed" in done.stdout
