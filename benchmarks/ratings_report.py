"""The ratings part of ``table.md``, and ``ratings.png``: held-out RMSE against seconds."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

STYLE = {
    "nmfcore": ("#000000", "o", "-"),
    "libmf": ("#D55E00", "s", "--"),
    "cmfrec": ("#0072B2", "^", "-."),
    "surprise": ("#009E73", "D", ":"),
    "cornac": ("#CC79A7", "P", ":"),
}
KKT = 1e-4
STEPS = (1, 2, 3, 5, 8, 12, 20, 30, 50, 80)  # iterations of ours that are listed, and marked in the figure
Runs = list[dict[str, Any]]

PUBLISHED = """\
### What others have published

Other machines, other splits: for orientation, not to compare digit by digit.

| data | method | RMSE | seconds | source |
|---|---|--:|--:|---|
| ML-100K, 5 folds | Surprise NMF / SVD / SVD++ | .963 / .934 / .919 | 6 (NMF, all folds) | README of Surprise |
| ML-1M, 5 folds | the same; its bias baseline | .916 / .873 / .862; .909 | 99 (NMF, all folds) | README of Surprise |
| ML-10M, k = 50, 15 iterations, 16 threads (Ryzen 2700) | LIBMF | .7856 | 1.79 | cmfrec, benchmark/README |
| same | cmfrec ALS-CG | .788 to .791 | 12.6 to 13.6 | cmfrec, benchmark/README |
| same | cmfrec ALS-Cholesky | .7869 | 30.9 | cmfrec, benchmark/README |
| same | rsparse | .7869 | 30 | cmfrec, benchmark/README |
| same | Spark | .7913 | 81 | cmfrec, benchmark/README |
| same | LensKit | .796 | 26.8 | cmfrec, benchmark/README |
| same | Surprise SVD | | 178 | cmfrec, benchmark/README |
| ML-10M | SGD-MF, 512 factors | .7720 | | Rendle et al. 2019, On the difficulty of evaluating baselines |
| same | Bayesian MF; timeSVD++ flipped | .7633; .7485 | | same |
| Netflix | ALS-WR, 1000 factors | .8985 | | Zhou et al. 2008 |

None of these but Surprise's NMF has non-negative factors."""


def section(results: dict[str, Any]) -> str:
    ratings = results.get("ratings")
    if not ratings:
        return ""
    parts = [
        _race(ratings),
        _defaults(ratings),
        _certificates(ratings),
        _everyone(ratings),
        _contenders(ratings),
        PUBLISHED,
    ]
    return "\n\n".join(["## Ratings: time to a held-out RMSE", *filter(None, parts)])


def ratios(runs: Runs, case: str, peer: str) -> list[float]:
    """Per round: the peer's time to its target by ours; 0 where not reached."""
    ours = {r["seed"]: r for r in _good(runs, case, "nmfcore")}
    theirs = [r for r in _good(runs, case, peer) if r["seed"] in ours]
    to = [ours[r["seed"]]["to"][peer] for r in theirs]
    return [r["seconds"] / t["seconds"] if t["reached"] else 0.0 for r, t in zip(theirs, to, strict=True)]


def _race(ratings: dict[str, Any]) -> str:
    lines = [
        "The peer's time is that of its shortest whole call within the margin of its best RMSE (over its grid, per "
        "round); ours that of a whole call from scipy's CSR array that is at least as good. Medians over rounds.",
        "",
        "| case | r | peer | its best RMSE (range) | l2 and iterations of it | margin | peer s | nmfcore s "
        "| iterations | ratio: median (range) | goal | reached |",
        "|---|--:|---|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    runs = ratings["runs"]
    first = _median([r for r in runs if r["contender"] == "nmfcore"], "first", ".2f")
    lines[0] += f" nmfcore's first call in a process, of one iteration, takes {first} s." if first else ""
    for case in (c for c in ratings["cases"] if c["settings"] is None):
        for name, peer in case["peers"].items():
            head = f"| {case['name']} | {case['rank']} | {name} "
            theirs, values = _good(runs, case["name"], name), ratios(runs, case["name"], name)
            if case["status"] != "ok" or not theirs or not values:
                why = case["status"] if case["status"] != "ok" else _reasons(runs, case["name"], name)
                lines.append(head + "| " * 8 + f"| {why} |")
                continue
            best = [r["best"]["rmse"] for r in theirs]
            which = sorted({f"{r['best']['l2']:g}, {r['best']['n_iter']}" for r in theirs})
            to = [r["to"][name] for r in _good(runs, case["name"], "nmfcore") if name in r["to"]]
            reached = [t for t in to if t["reached"]]
            median = statistics.median(values)
            missed = f" (missed from {values.count(0.0)} of {len(values)} seeds)" if 0.0 in values else ""
            verdict = "" if peer["goal"] is None else "yes" if median >= peer["goal"] else "**no**"
            lines.append(
                f"{head}| {statistics.median(best):.4f} ({min(best):.4f} to {max(best):.4f}) | {'; '.join(which)} "
                f"| {peer['margin']:g} | {_median(theirs, 'seconds', '.3g')} | {_median(reached, 'seconds', '.3g')} "
                f"| {_median(reached, 'n_iter', '.0f')} | {median:.1f} ({min(values):.1f} to {max(values):.1f}) "
                f"| {peer['goal'] or ''} | {verdict}{missed} |"
            )
    return "\n".join(lines) if len(lines) > 4 else ""


def _defaults(ratings: dict[str, Any]) -> str:
    lines = [
        "### `Recommender()`",
        "",
        "| case | settings | RMSE: mean (range) | runs | s | iterations | goal at most | reached |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for case in (c for c in ratings["cases"] if c["settings"] is not None):
        good = _good(ratings["runs"], case["name"], "Recommender")
        said = ", ".join(f"{k}={v}" for k, v in case["settings"].items()) or "as it comes"
        if not good:
            why = case["status"] if case["status"] != "ok" else _reasons(ratings["runs"], case["name"], "Recommender")
            lines.append(f"| {case['name']} | {said} " + "| " * 5 + f"| {why} |")
            continue
        values = [r["rmse"] for r in good]
        mean, goal = statistics.fmean(values), case["goal"]
        verdict = "" if goal is None else "yes" if mean <= goal else "**no**"
        lines.append(
            f"| {case['name']} | {said} | {mean:.4f} ({min(values):.4f} to {max(values):.4f}) | {len(values)} "
            f"| {_median(good, 'seconds', '.3g')} | {_median(good, 'n_iter', '.0f')} | {goal or ''} | {verdict} |"
        )
    return "\n".join(lines) if len(lines) > 4 else ""


def _certificates(ratings: dict[str, Any]) -> str:
    """What the gate has seen of nmfcore's own promises: a run whose objective rises is listed as failed."""
    lines = []
    for case in (c for c in ratings["cases"] if c["settings"] is None):
        for run in _good(ratings["runs"], case["name"], "nmfcore")[:1]:
            kkt = run["curve"]["kkt"]
            there = next((k for k, value in enumerate(kkt, 1) if value <= KKT), None)
            lines.append(
                f"- {case['name']}: no rise of the objective in {len(kkt)} iterations; KKT residual "
                + (f"{KKT:g} after {there}." if there else f"{min(kkt):.1e} at best, {KKT:g} not reached.")
            )
    return "\n".join(["### Certificates", "", *lines]) if lines else ""


def _everyone(ratings: dict[str, Any]) -> str:
    lines = [
        "### Every setting",
        "",
        "Medians over rounds of whole calls; RMSE of nmfcore along its iterations, seed 0, seconds by its own clock.",
        "",
        "| case | contender | l2 | RMSE after iterations (seconds) | MB |",
        "|---|---|--:|---|--:|",
    ]
    for case in (c for c in ratings["cases"] if c["settings"] is None):
        for name in (*case["peers"], "nmfcore"):
            good = _good(ratings["runs"], case["name"], name)
            if not good:
                continue
            if name == "nmfcore":
                curve = good[0]["curve"]
                steps = [k for k in STEPS if k <= len(curve["rmse"])]
                said = [f"{curve['rmse'][k - 1]:.4f} after {k} ({curve['seconds'][k - 1]:.3g})" for k in steps]
                lines.append(f"| {case['name']} | {name} | | {', '.join(said)} | {_median(good, 'peak_mb', '.0f')} |")
                continue
            calls: dict[tuple[float, int], Runs] = {}
            for call in (c for r in good for c in r["calls"]):
                calls.setdefault((call["l2"], call["n_iter"]), []).append(call)
            for l2 in sorted({key[0] for key in calls}):
                said = [
                    f"{_median(group, 'rmse', '.4f')} after {n} ({_median(group, 'seconds', '.3g')})"
                    for (penalty, n), group in sorted(calls.items()) if penalty == l2
                ]  # fmt: skip
                megabytes = _median(good, "peak_mb", ".0f")
                lines.append(f"| {case['name']} | {name} | {l2:g} | {', '.join(said)} | {megabytes} |")
    return "\n".join(lines) if len(lines) > 6 else ""


def _contenders(ratings: dict[str, Any]) -> str:
    lines = ["### Libraries", ""]
    for name, about in ratings["contenders"].items():
        where = f" (Python {about['python']}, NumPy {about['numpy']})" if "python" in about else ""
        lines.append(f"- {name} {about.get('version', '')}{where}: {_why(about)}")
    return "\n".join(lines)


def draw(results: dict[str, Any], out: Path, save: Any) -> None:
    """One panel per case: whole calls of the peers at their best l2, and nmfcore's iterates, of round 0."""
    from matplotlib import pyplot

    ratings = results.get("ratings") or {"cases": [], "runs": []}
    cases = [c for c in ratings["cases"] if _good(ratings["runs"], c["name"], "nmfcore")]
    if not cases:
        return
    columns = min(2, len(cases))
    rows = -(-len(cases) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1 + 4.2 * columns, 0.9 + 3 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(cases) :]:
        ax.remove()
    handles: dict[str, Any] = {}
    for ax, case in zip(axes.flat, cases, strict=False):
        curves = {}
        for name in (*case["peers"], "nmfcore"):
            for run in _good(ratings["runs"], case["name"], name)[:1]:
                seconds, rmse = curves[name] = _curve(run)
                color, marker, line = STYLE.get(name, ("#666666", "*", ":"))
                marked = [k - 1 for k in STEPS if k <= len(rmse)] if name == "nmfcore" else None
                (handles[name],) = ax.semilogx(
                    seconds, rmse, color=color, marker=marker, linestyle=line, markersize=3.5, linewidth=1.2,
                    markevery=marked, label=name,
                )  # fmt: skip
                if "target" in run:
                    ax.axhline(run["target"], color=color, linewidth=0.7, alpha=0.6, zorder=0)
        top = max(min(rmse) for _, rmse in curves.values()) + 0.06
        shown = [s for seconds, rmse in curves.values() for s, value in zip(seconds, rmse, strict=True) if value <= top]
        ax.set_xlim(0.8 * min(shown), 1.25 * max(shown))
        ax.set_ylim(min(min(rmse) for _, rmse in curves.values()) - 0.004, top)
        ax.set_title(f"{case['name']}, r={case['rank']}", fontsize=9)
        ax.grid(True, which="major", color="0.92")
        ax.xaxis.set_minor_formatter("")  # where little more than a decade is shown they would overlap
    figure.supxlabel("seconds", fontsize=9)
    figure.supylabel("held-out RMSE (lines: the targets)", fontsize=9)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles), frameon=False)
    save(figure, out, "ratings")


def _curve(run: dict[str, Any]) -> tuple[list[float], list[float]]:
    if "curve" in run:
        return run["curve"]["seconds"], run["curve"]["rmse"]
    calls = [c for c in run["calls"] if c["l2"] == run["best"]["l2"]]
    calls.sort(key=lambda c: c["n_iter"])
    return [c["seconds"] for c in calls], [c["rmse"] for c in calls]


def _good(runs: Runs, case: str, contender: str) -> Runs:
    return [r for r in runs if (r["case"], r["contender"], r["status"]) == (case, contender, "ok")]


def _why(run: dict[str, Any]) -> str:
    return f"{run['status']}: {run['reason']}" if run.get("reason") else str(run["status"])


def _reasons(runs: Runs, case: str, contender: str) -> str:
    bad = [r for r in runs if r["case"] == case and r["contender"] in (contender, "nmfcore") and r["status"] != "ok"]
    return "; ".join(sorted({_why(r) for r in bad})) or "no run"


def _median(runs: Runs, key: str, form: str) -> str:
    values = [r[key] for r in runs if r.get(key) is not None]
    return f"{statistics.median(values):{form}}" if values else ""
