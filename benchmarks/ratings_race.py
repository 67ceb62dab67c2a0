"""Time to a held-out RMSE, beside recommenders' libraries: the second half of ``race --only masked``.

A round is a seed. In each, every peer runs whole calls over its settings; its best RMSE (and a margin) is the target of
that round, its time that of the shortest call that arrives there. nmfcore is then asked, from the seed's own start, for
the first iterate that is as good, and timed by whole calls of so many iterations. LIBMF's start is always the same; its
rounds differ by its threads.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import ratings_worker
from benchmarks.launch import environment, launch
from benchmarks.ratings_cases import STARS, Peer, RatingsCase
from benchmarks.ratings_contenders import CONTENDERS

MODULE = "benchmarks.ratings_worker"
TRACE = (1, 2, 3, 5, 8, 12, 20, 30)  # iterations of the peers' calls that are only drawn, in round 0


class RatingsRace:
    """All contenders on one case; ``pythons``: the interpreter of a contender by its name, where not this one."""

    def __init__(
        self, case: RatingsCase, seeds: int, threads: int, timeout: float, pythons: dict[str, str], trace: bool = True
    ) -> None:
        self.case, self.seeds, self.threads, self.timeout = case, seeds, threads, timeout
        self.pythons, self.trace, self.env = pythons, trace, environment(threads)
        self.runs: list[dict[str, Any]] = []

    def run(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        case = self.case
        entry: dict[str, Any] = {"name": case.name, "rank": case.rank, "settings": case.settings, "goal": case.goal}
        entry["peers"] = {
            p.name: {"l2s": p.l2s, "grid": p.grid, "margin": p.margin, "goal": p.goal} for p in case.peers
        }
        try:
            splits = case.load()
        except (OSError, ImportError) as error:
            missing = error if isinstance(error, ImportError) else "its file is not in the folder of --data"
            return entry | {"status": f"left out: {missing}"}, []
        train, test = splits[0]
        entry |= {"status": "ok", "shape": train.shape, "entries": int(train.nnz), "held_out": len(test[2])}
        with tempfile.TemporaryDirectory(prefix="race-") as name:
            self.folder = Path(name)
            if case.settings is None:
                ratings_worker.write(self.folder, train, test, STARS)
                self.race()
            else:
                self.defaults(splits)
        return entry, self.runs

    def race(self) -> None:
        peers = [p for p in self.case.peers if self.takes_part(p)]
        self.job("nmfcore", "nmfcore", seed=0, targets={})  # compiles, where nothing is compiled yet
        for block in range(self.seeds + 1):  # peers A, B, ours N: A B | N B A | A B N | N B A | ...
            late = block > 0 and block % 2 == 0
            if block % 2:
                self.ours(peers, block - 1)
            for peer in (peers[::-1] if block % 2 else peers) if block < self.seeds else []:
                self.peer(peer, block)
            if late:
                self.ours(peers, block - 1)

    def takes_part(self, peer: Peer) -> bool:
        about = self.job(peer.name, "about")
        if about["status"] != "ok":
            self.note(peer.name, None, {"status": about["status"], "reason": about.get("reason", "")})
        return bool(about["status"] == "ok")

    def peer(self, peer: Peer, seed: int) -> None:
        calls: list[dict[str, Any]] = []
        result: dict[str, Any] = {}
        drawn = [n for n in TRACE if n < max(peer.iterations)] if self.trace and seed == 0 else []
        for l2 in peer.l2s if seed % 2 == 0 else peer.l2s[::-1]:
            result = self.job(peer.name, "peer", l2=l2, iterations=sorted({*peer.iterations, *drawn}), seed=seed)
            if result["status"] != "ok":
                break
            calls += result["calls"]
        if result["status"] == "ok":
            result |= target_of(peer, calls)
        self.note(peer.name, seed, result | {"calls": calls})

    def ours(self, peers: list[Peer], seed: int) -> None:
        good = {r["contender"]: r for r in self.runs if r["seed"] == seed and r["status"] == "ok" and "target" in r}
        if peers and not good:
            self.note("nmfcore", seed, {"status": "failed", "reason": "nobody set a target"})
        elif good:
            targets = {name: r["target"] for name, r in good.items()}
            self.note("nmfcore", seed, self.job("nmfcore", "nmfcore", seed=seed, targets=targets, most=self.case.most))

    def defaults(self, splits: list[Any]) -> None:
        """One split: every seed. Several: every split once, from seed 0."""
        rounds = [(0, k) for k in range(len(splits))] if len(splits) > 1 else [(s, 0) for s in range(self.seeds)]
        for seed, k in rounds:
            ratings_worker.write(self.folder, *splits[k], STARS)
            result = self.job("nmfcore", "recommender", seed=seed, settings=self.case.settings)
            self.note("Recommender", seed, result | {"split": k})

    def job(self, contender: str, do: str, **options: Any) -> dict[str, Any]:
        job = {"contender": contender, "do": do, "data": str(self.folder), "threads": self.threads, **options}
        python = self.pythons.get(contender, sys.executable)
        return launch(MODULE, job | {"rank": self.case.rank}, self.folder, self.env, self.timeout, python)

    def note(self, contender: str, seed: int | None, result: dict[str, Any]) -> None:
        run = {"case": self.case.name, "contender": contender, "seed": seed, "turn": len(self.runs), **result}
        self.runs.append(run)
        print(f"{self.case.name:18} seed {seed} {contender:12} {run['status']} {_said(run)}", flush=True)


def target_of(peer: Peer, calls: list[dict[str, Any]]) -> dict[str, Any]:
    """The RMSE this peer sets, and its fastest whole call that is as good."""
    best = min((c for c in calls if c["n_iter"] in peer.grid), key=lambda c: c["rmse"])
    target = best["rmse"] + peer.margin
    fastest = min((c for c in calls if c["rmse"] <= target), key=lambda c: c["seconds"])
    return {"best": best, "target": target, "seconds": fastest["seconds"], "by": fastest}


def versions(pythons: dict[str, str], threads: int, timeout: float) -> dict[str, dict[str, Any]]:
    """Who is here, each asked in its own interpreter."""
    with tempfile.TemporaryDirectory(prefix="race-") as name:
        env, found = environment(threads), {}
        for contender in CONTENDERS:
            job = {"contender": contender, "do": "about"}
            python = pythons.get(contender, sys.executable)
            found[contender] = launch(MODULE, job, Path(name), env, timeout, python)
    return found


def parse_pythons(pairs: list[str]) -> dict[str, str]:
    """``NAME=PATH`` pairs."""
    found = dict(pair.partition("=")[::2] for pair in pairs)
    for name, path in found.items():
        if name not in CONTENDERS or not path:
            raise ValueError(f"--python takes NAME=PATH, NAME one of {', '.join(CONTENDERS)}; not {name}={path}")
    return found


def _said(run: dict[str, Any]) -> str:
    if "target" in run:
        best, by = run["best"], run["by"]
        return (
            f"best {best['rmse']:.4f} (l2 {best['l2']}, {best['n_iter']} iterations), to {run['target']:.4f} "
            f"in {run['seconds']:.3f} s by l2 {by['l2']}, {by['n_iter']} iterations"
        )
    if "to" in run:
        return ", ".join(
            f"{name}: {to['seconds']:.3f} s, {to['n_iter']} iterations" if to["reached"] else
            f"{name}: not reached, {to['best']:.4f}" for name, to in run["to"].items()
        )  # fmt: skip
    return f"{run['rmse']:.4f} in {run['seconds']:.2f} s" if "rmse" in run else str(run.get("reason", ""))
