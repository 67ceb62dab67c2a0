"""Time to objective, beside real peers, each in a process of its own; see README.md in this folder."""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import ratings_cases, ratings_race, worker
from benchmarks.cases import GROUPS, Case, full, quick
from benchmarks.contenders import CONTENDERS, DEFAULTS, Contender, find, nmfcore_has
from benchmarks.launch import environment, launch
from benchmarks.report import NOT_ASKED, write
from nmfcore._parallel import default_threads


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks race", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="small cases, one seed, no trajectories: one to three minutes"
    )
    parser.add_argument("--only", choices=GROUPS, nargs="+", help="groups of cases")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="cases by name")
    parser.add_argument("--data", metavar="DIR", help="the real data (else NMFCORE_DATA, else ../shared/data)")
    parser.add_argument("--out", default="race", metavar="DIR", help="where results.json, table.md and figures go")
    parser.add_argument("--seeds", type=int, help="seeds 0 to N-1; 5, or 1 with --quick")
    parser.add_argument(
        "--others", type=int, metavar="N", help="seeds for those that set no target; as many as --seeds"
    )
    parser.add_argument("--threads", type=int, help="of every contender; as many as this process may use")
    parser.add_argument("--contender", nargs="+", default=[], metavar="MODULE:FUNCTION", help="race your own")
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="NAME=PATH", help="the interpreter of a recommender's library"
    )
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds for one process")
    args = parser.parse_args(argv)
    if args.data:
        os.environ["NMFCORE_DATA"] = args.data
    seeds = args.seeds or (1 if args.quick else 5)
    threads = args.threads or default_threads()
    extra = tuple(find(name) for name in args.contender)
    try:
        pythons = ratings_race.parse_pythons(args.python)
    except ValueError as error:
        parser.error(str(error))

    def wanted(case: Any) -> bool:
        return (not args.only or case.group in args.only) and (not args.cases or case.name in args.cases)

    chosen = [case for case in (quick() if args.quick else full()) if wanted(case)]
    rated = [case for case in (ratings_cases.quick() if args.quick else ratings_cases.full()) if wanted(case)]
    if not chosen and not rated:
        parser.error("no case of that name")
    results: dict[str, Any] = {
        "machine": machine(threads),
        "settings": {
            "quick": args.quick,
            "seeds": seeds,
            "others": seeds if args.others is None else args.others,
            "threads": threads,
            "within": worker.WITHIN,
        },
        "contenders": {c.name: {"version": c.version()} for c in CONTENDERS + DEFAULTS + extra},
        "cases": [],
        "runs": [],
    }
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    foreign = ForeignWork()
    for case in chosen:
        with tempfile.TemporaryDirectory(prefix="race-") as folder:
            entry, runs = Race(case, Path(folder), seeds, threads, args.timeout, not args.quick).run(extra, args.others)
        results["cases"].append(entry)
        results["runs"] += runs
        results["machine"] |= {"load_after": os.getloadavg(), "foreign": foreign.processors()}
        write(results, out)  # after every case: a long run that is broken off has something to show
    if rated:
        results["ratings"] = {"contenders": ratings_race.versions(pythons, threads, args.timeout)}
        results["ratings"] |= {"cases": [], "runs": []}
    for case in rated:
        entry, runs = ratings_race.RatingsRace(case, seeds, threads, args.timeout, pythons, not args.quick).run()
        results["ratings"]["cases"].append(entry)
        results["ratings"]["runs"] += runs
        results["machine"] |= {"load_after": os.getloadavg(), "foreign": foreign.processors()}
        write(results, out)
    print((out / "table.md").read_text())
    return 0


class Race:
    """All contenders on one case, for all seeds."""

    def __init__(self, case: Case, folder: Path, seeds: int, threads: int, timeout: float, trace: bool) -> None:
        self.case, self.folder, self.seeds, self.timeout, self.trace = case, folder, seeds, timeout, trace
        self.environment = environment(threads)
        self.runs: list[dict[str, Any]] = []

    def run(self, extra: tuple[Contender, ...], others: int | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        case = self.case
        entry: dict[str, Any] = {k: getattr(case, k) for k in ("name", "group", "rank", "dtype", "peer", "goal")}
        if not nmfcore_has(case.loss):
            return entry | {"status": f"not available: nmfcore has no {case.loss} loss yet"}, []
        try:
            X = case.load().astype(case.dtype)
        except (OSError, ImportError) as error:
            missing = error if isinstance(error, ImportError) else "its file is not in the folder of --data"
            return entry | {"status": f"left out: {missing}"}, []
        entries = int(getattr(X, "nnz", X.size))
        entry |= {"status": "ok", "shape": X.shape, "entries": entries, "nbytes": _bytes(X)}
        worker.save(X, self.folder)
        del X
        take_part = []
        for contender in (*CONTENDERS, *DEFAULTS, *extra):
            reason = contender.lacks(case.group, entries)
            if not reason:
                take_part.append(contender)
            elif contender not in DEFAULTS:
                self.runs.append({"case": case.name, "contender": contender.name, "status": reason})
        self.job(take_part[0], 0, prime=True, max_time=1.0)
        needed = {"nmfcore", case.peer, *(c.name for c in DEFAULTS)}
        for contender in take_part if others == 0 else []:
            if contender.name not in needed:
                self.runs.append({"case": case.name, "contender": contender.name, "status": NOT_ASKED})
        for turn, seed, contender in order(take_part, case.peer, self.seeds):
            if others is None or seed < others or contender.name in needed:
                self.timed(contender, seed, turn)
        return entry, self.runs

    def timed(self, contender: Contender, seed: int, turn: int) -> None:
        options: dict[str, Any] = {}
        if contender.name == "nmfcore":
            peer = [r for r in self.runs if (r["contender"], r.get("seed")) == (self.case.peer, seed)]
            if not peer or peer[0]["status"] != "ok":
                self.note(contender, seed, turn, {"status": "failed", "reason": f"{self.case.peer} set no target"})
                return
            options = {"target": peer[0]["objective"], "max_time": max(10.0, 3 * peer[0]["warm"])}
        if self.trace and seed == 0:
            options["trace"] = 20 if self.case.masked and contender.name == "numpy" else 200
        self.note(contender, seed, turn, self.job(contender, seed, **options) | options)

    def note(self, contender: Contender, seed: int, turn: int, result: dict[str, Any]) -> None:
        run = {"case": self.case.name, "contender": contender.name, "seed": seed, "turn": turn, **result}
        self.runs.append(run)
        took = f"{run['warm']:9.4f} s" if "warm" in run else run.get("reason", "")
        print(f"{self.case.name:18} seed {seed} {contender.name:18} {run['status']:7} {took}", flush=True)

    def job(self, contender: Contender, seed: int, **options: Any) -> dict[str, Any]:
        case = self.case
        job = {"contender": contender.name, "data": str(self.folder), "seed": seed, **options}
        job |= {"quick": not self.trace, "rank": case.rank, "loss": case.loss, "masked": case.masked}
        return launch("benchmarks.worker", job, self.folder, self.environment, self.timeout)


def order(take_part: list[Contender], peer: str, seeds: int) -> list[tuple[int, int, Contender]]:
    """Who runs when: peers A, B and nmfcore N as ``A B | N B A | A B N | ...``.

    N of a seed needs the target its peer sets, so it runs one block later, and in turns before and after the others.
    """
    ours = [c for c in take_part if c.name == "nmfcore"]
    others = sorted((c for c in take_part if c.name != "nmfcore"), key=lambda c: c.name != peer)
    line: list[tuple[int, Contender]] = []
    for block in range(seeds + 1):
        theirs = [(block, c) for c in others] if block < seeds else []
        late = [(block - 1, c) for c in ours] if block else []
        line += late + theirs[::-1] if block % 2 else theirs + late
    return [(turn, seed, contender) for turn, (seed, contender) in enumerate(line)]


class ForeignWork:
    """How many processors, on average, were busy with work that is not this race's."""

    def __init__(self) -> None:
        self._began, self._busy = time.monotonic(), self._foreign()

    def processors(self) -> float | None:
        now = self._foreign()
        if now is None or self._busy is None:
            return None
        return max(0.0, now - self._busy) / (time.monotonic() - self._began)

    @staticmethod
    def _foreign() -> float | None:
        try:
            user, nice, system, _, _, irq, softirq, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
        except (OSError, ValueError):
            return None
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - sum(t for t in os.times()[:4])  # of this process and of the children that have ended


def machine(threads: int) -> dict[str, Any]:
    from importlib.metadata import version

    names = ("nmfcore", "numpy", "scipy", "numba", "scikit-learn")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "cpu": _cpu(),
        "processors": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        "versions": {name: version(name) for name in names},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = {k.strip(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return (
        f"{found.get('model name', platform.machine())} (family {found.get('cpu family')}, model {found.get('model')})"
    )


def _bytes(X: Any) -> int:
    return int(sum(getattr(X, k).nbytes for k in ("data", "indices", "indptr")) if hasattr(X, "nnz") else X.nbytes)
