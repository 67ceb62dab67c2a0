"""From the runs to ``results.json``, ``table.md`` and the figures.

``python -m benchmarks report DIR`` redraws them; ``report DIR MORE ... --out NEW`` puts several runs into one.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import ratings_report
from benchmarks.cases import DEFAULTS_OBJECTIVE, DEFAULTS_TIME, GEOMETRIC_MEAN

OURS = "nmfcore"
NOT_ASKED = "left out: --others 0"
Runs = list[dict[str, Any]]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks report", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="of a race")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the first of them")
    args = parser.parse_args(argv)
    results = together([json.loads((folder / "results.json").read_text()) for folder in args.folders])
    out = args.out or args.folders[0]
    out.mkdir(parents=True, exist_ok=True)
    write(results, out)
    print((out / "table.md").read_text())
    return 0


def together(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Several races on one machine, as one: of a contender on a case the runs of the last race that had it."""
    first = runs[0]
    for more in runs[1:]:
        for key in ("cpu", "threads", "versions"):
            if more["machine"][key] != first["machine"][key]:
                raise ValueError(f"the races differ in {key}: {first['machine'][key]} and {more['machine'][key]}.")
        if more["settings"]["quick"] != first["settings"]["quick"]:
            raise ValueError("a quick race and a full one do not go together.")
        names = {case["name"] for case in more["cases"]}
        first["cases"] = [case for case in first["cases"] if case["name"] not in names] + more["cases"]
        had = {_who(r) for r in first["runs"]}
        news = [r for r in more["runs"] if r["status"] != NOT_ASKED or _who(r) not in had]
        again = {_who(r) for r in news}
        first["runs"] = [r for r in first["runs"] if _who(r) not in again] + news
        first["contenders"] |= more["contenders"]
        _ratings_together(first, more)
        for key in ("load_before", "load_after", "foreign"):
            values = [m[key] for m in (first["machine"], more["machine"]) if m.get(key) is not None]
            first["machine"][key] = max(values, default=None)
    return first


def _ratings_together(first: dict[str, Any], more: dict[str, Any]) -> None:
    """A case of ratings is taken whole from the last race that had it: its contenders set each other's targets."""
    if "ratings" not in more:
        return
    mine, theirs = first.setdefault("ratings", {"contenders": {}, "cases": [], "runs": []}), more["ratings"]
    mine["contenders"] |= theirs["contenders"]
    names = {case["name"] for case in theirs["cases"]}
    mine["cases"] = [c for c in mine["cases"] if c["name"] not in names] + theirs["cases"]
    mine["runs"] = [r for r in mine["runs"] if r["case"] not in names] + theirs["runs"]


def _who(run: dict[str, Any]) -> tuple[str, str]:
    return run["case"], run["contender"]


def write(results: dict[str, Any], out: Path) -> None:
    from benchmarks import figures

    (out / "results.json").write_text(json.dumps(results, indent=1, default=float) + "\n")
    (out / "table.md").write_text(table(results))
    figures.draw(results, out)


def pick(runs: Runs, case: str, contender: str) -> Runs:
    """The runs of a contender on a case that passed the gate."""
    return [r for r in runs if (r["case"], r["contender"], r["status"]) == (case, contender, "ok")]


def ratios(runs: Runs, case: dict[str, Any]) -> list[float]:
    """Per seed: the peer's time to its own stop, by ours to within 1.001 of its objective; 0 where not reached."""
    ours = {r["seed"]: r for r in runs if r["case"] == case["name"] and r["contender"] == OURS and "seed" in r}
    return [
        peer["warm"] / ours[peer["seed"]]["warm"] if ours[peer["seed"]].get("reached") else 0.0
        for peer in pick(runs, case["name"], case["peer"])
        if peer["seed"] in ours
    ]


def geometric_mean(values: Iterable[float]) -> float:
    values = list(values)
    if not values or min(values) <= 0:
        return 0.0 if values else math.nan
    return math.exp(statistics.fmean(map(math.log, values)))


def table(results: dict[str, Any]) -> str:
    parts = [_heading] + ([_targets, _defaults, _everyone, _contenders] if results["cases"] else [])
    return "\n\n".join(filter(None, (part(results) for part in (*parts, ratings_report.section)))) + "\n"


def _heading(results: dict[str, Any]) -> str:
    m, s = results["machine"], results["settings"]
    versions = ", ".join(f"{k} {v}" for k, v in m["versions"].items())
    before, after = m["load_before"][0], m.get("load_after", m["load_before"])[0]
    timed = results["runs"] + results.get("ratings", {}).get("runs", [])
    loads = [r["load"] for r in timed if "load" in r]
    return (
        f"{m['date']}. {m['cpu']}, {m['processors']} processors, {s['threads']} threads for everyone; {m['system']}, "
        f"Python {m['python']}; {versions}. {_seeds(results)} "
        f"Load average {before:.2f} before, {after:.2f} after, {max(loads, default=before):.2f} at most."
        + (f" Other work kept {m['foreign']:.2f} processors busy." if m.get("foreign") is not None else "")
        + (" **Too much to trust these times.**" if (m.get("foreign") or 0.0) > 0.1 else "")
        + (" **Quick run: sizes too small to conclude from.**" if s["quick"] else "")
    )


def _seeds(results: dict[str, Any]) -> str:
    """How many seeds each group of cases has a target from."""
    counts: dict[str, int] = {}
    if not results["cases"]:
        return f"Seeds 0 to {results['settings']['seeds'] - 1}."
    for case in results["cases"]:
        seeds = [r["seed"] for r in pick(results["runs"], case["name"], case["peer"])]
        if seeds:
            counts[case["group"]] = max(counts.get(case["group"], 0), 1 + max(seeds))
    if len(set(counts.values())) < 2:
        return f"Seeds 0 to {max(counts.values(), default=1) - 1}."
    return "Seeds " + ", ".join(f"{group} 0 to {count - 1}" for group, count in counts.items()) + "."


def _targets(results: dict[str, Any]) -> str:
    lines = [
        f"## Time to {results['settings']['within']} times the objective at which the peer stops by default",
        "",
        "Seconds are medians over seeds; cold is the first call in a process, after the imports.",
        "",
        "| case | size | entries | r | dtype | peer | peer cold | peer warm | nmfcore cold | nmfcore warm "
        "| ratio: median (range) | goal | reached |",
        "|---|---|--:|--:|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    medians = []
    for case in results["cases"]:
        if case["status"] != "ok":
            lines.append(f"| {case['name']} | | | {case['rank']} | {case['dtype']} | {case['peer']} {_blank(7)} "
                         f"{case['status']} |")  # fmt: skip
            continue
        peers, ours = (pick(results["runs"], case["name"], name) for name in (case["peer"], OURS))
        values = ratios(results["runs"], case)
        median = statistics.median(values) if values else math.nan
        if case["peer"].startswith("sklearn"):
            medians.append(median if values else 0.0)
        if not values or not ours:
            verdict = "failed: " + _reasons(results["runs"], case["name"])
        else:
            verdict = "" if case["goal"] is None else "yes" if median >= case["goal"] else "**no**"
            if 0.0 in values:
                verdict += f" (objective missed from {values.count(0.0)} of {len(values)} seeds)"
        m, n = case["shape"]
        span = f"{median:.1f} ({min(values):.1f} to {max(values):.1f})" if values else ""
        seconds = " | ".join(_median(who, key) for who in (peers, ours) for key in ("cold", "warm"))
        lines.append(
            f"| {case['name']} | {m}x{n} | {case['entries']} | {case['rank']} | {case['dtype']} | {case['peer']} "
            f"| {seconds} | {span} | {case['goal'] or ''} | {verdict} |"
        )
    if medians:
        mean = f"Geometric mean of all {len(medians)} medians beside scikit-learn: {geometric_mean(medians):.1f}"
        lines += ["", f"{mean} (goal {GEOMETRIC_MEAN:g})."]
    return "\n".join(lines)


def _defaults(results: dict[str, Any]) -> str:
    lines = [
        "## Default against default",
        "",
        "`nmfcore.factorize(X, r, random_state=s)` beside `sklearn.decomposition.NMF(r, random_state=s)`, each with "
        "its own start and its own stop.",
        "",
        "| case | scikit-learn s | nmfcore s | time ratio | iterations | objective ratio: median (worst) |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    times, worst = [], []
    for case in results["cases"]:
        theirs, ours = (pick(results["runs"], case["name"], f"{name}-default") for name in ("sklearn", OURS))
        both = [(t, o) for t in theirs for o in ours if t["seed"] == o["seed"]]
        if not both:
            continue
        time = statistics.median(t["warm"] / o["warm"] for t, o in both)
        objectives = [o["objective"] / t["objective"] for t, o in both]
        times.append(time)
        worst.append(statistics.median(objectives))
        lines.append(
            f"| {case['name']} | {_median(theirs, 'warm')} | {_median(ours, 'warm')} | {time:.1f} "
            f"| {_median(theirs, 'n_iter', '.0f')}, {_median(ours, 'n_iter', '.0f')} "
            f"| {statistics.median(objectives):.5f} ({max(objectives):.5f}) |"
        )
    if times:
        lines += [
            "",
            f"Geometric mean of the time ratios: {geometric_mean(times):.1f} (goal {DEFAULTS_TIME:g}). "
            f"Largest median of an objective ratio: {max(worst):.5f} (goal at most {DEFAULTS_OBJECTIVE}).",
        ]
    return "\n".join(lines)


def _everyone(results: dict[str, Any]) -> str:
    lines = [
        "## Everyone, from the same start to their own stop",
        "",
        "nmfcore stops at the target. Objective: divided by that of the peer that sets the target. The last column "
        "divides this contender's time by nmfcore's to 1.001 times *this* contender's objective, by the history of its "
        "default fit from seed 0 (empty where there is none, as in a quick run, or it does not get there). "
        "MB: peak of the process, and what the call added.",
        "",
        "| case | contender | cold s | warm s | iterations | objective | MB | call MB | nmfcore is faster by |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    runs = results["runs"]
    for case in results["cases"]:
        target = {r["seed"]: r["objective"] for r in pick(runs, case["name"], case["peer"])}
        names = dict.fromkeys(r["contender"] for r in runs if r["case"] == case["name"])
        for name in (n for n in names if not n.endswith("-default")):
            good = pick(runs, case["name"], name)
            if not good:
                lines.append(f"| {case['name']} | {name} {_blank(7)} {_reasons(runs, case['name'], name)} |")
                continue
            share = [r["objective"] / target[r["seed"]] for r in good if r["seed"] in target]
            objective = f"{statistics.median(share):.4f}" if share else ""
            failed = _reasons(runs, case["name"], name)
            lines.append(
                f"| {case['name']} | {name} | {_median(good, 'cold')} | {_median(good, 'warm')} "
                f"| {_median(good, 'n_iter', '.0f')} | {objective} | {_median(good, 'peak_mb', '.0f')} "
                f"| {_median(good, 'call_mb', '.1f')} | {_by_history(runs, case['name'], good)} {failed}|"
            )
    return "\n".join(lines)


def _contenders(results: dict[str, Any]) -> str:
    lines = ["## Contenders", ""]
    for name, about in results["contenders"].items():
        seen = {_why(r) for r in results["runs"] if r["contender"] == name}
        notes = sorted(seen - {"ok"})
        lines.append(
            f"- {name} {about['version']}: {'; '.join((['ran'] if 'ok' in seen else []) + notes) or 'no case'}"
        )
    return "\n".join(lines)


def _by_history(runs: Runs, case: str, good: Runs) -> str:
    ours = next((r["trajectory"] for r in pick(runs, case, OURS) if "trajectory" in r), None)
    peer = next((r for r in good if r["seed"] == 0 and r["contender"] != OURS), None)
    if not ours or not peer:
        return ""
    reached = (s for s, f in zip(ours["seconds"], ours["objective"], strict=True) if f <= 1.001 * peer["objective"])
    seconds = next(reached, None)
    return f"{peer['warm'] / seconds:.1f}" if seconds else ""


def _why(run: dict[str, Any]) -> str:
    return f"{run['status']}: {run['reason']}" if run.get("reason") else str(run["status"])


def _reasons(runs: Runs, case: str, contender: str = OURS) -> str:
    bad = [r for r in runs if (r["case"], r["contender"]) == (case, contender) and r["status"] != "ok"]
    return "; ".join(sorted({_why(r) for r in bad}))


def _median(runs: Runs, key: str, form: str = "") -> str:
    values = [r[key] for r in runs if r.get(key) is not None]
    if not values:
        return ""
    value = statistics.median(values)
    return f"{value:{form}}" if form else f"{value:.4f}" if value < 1 else f"{value:.3g}"


def _blank(columns: int) -> str:
    return "| " * columns
