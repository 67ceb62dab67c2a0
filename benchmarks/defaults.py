"""What the defaults are worth: where a default fit ends, beside where it would end if it went on.

Without options this prints, for every set, the objective of default fits divided by that of

- the same fit, continued until it falls by less than 1e-6 of itself over 100 iterations (``limit``),
- the lowest of random and NNDSVD starts, all continued so (``best``; with ``--best N``),
- scikit-learn's default fit (``sklearn``; Frobenius and Kullback-Leibler).

``--missing SHARE`` takes that share of the entries away and prints, for ``l2="auto"``, the error on them divided by
that of the best of seven penalties, in X's units and in those of the scaled columns.

``--constants`` prints what the constants were chosen by, on planted data that are not among these sets: where fits end
under other tolerances and from other starts.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import nmfcore
from benchmarks import datasets
from benchmarks.datasets import Case

LOSSES = {"frobenius": 2.0, "kullback-leibler": 1.0, "itakura-saito": 0.0, "0.5": 0.5}
FALL, WINDOW = 1e-6, 100  # a limit: the objective falls by less than that share over so many iterations
STARTS = ("fast-nndsvdar", "nndsvd", "nndsvda", "random")
PENALTIES = (1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # of the root mean square of what is observed
TOLERANCES = (1e-2, 3e-3, 1e-3, 3e-4)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks defaults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2, help="default fits of each set (default: 2)")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="names of data sets")
    parser.add_argument("--loss", choices=LOSSES, default="frobenius")
    parser.add_argument(
        "--best", type=int, default=0, metavar="N", help="random starts to compare with (default: none)"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="the most that a limit may take (default: 60)")
    parser.add_argument("--missing", type=float, default=0.0, metavar="SHARE", help="what l2='auto' is worth")
    parser.add_argument("--constants", action="store_true", help="what the constants were chosen by")
    args = parser.parse_args(argv)
    cases = datasets.planted() if args.constants else datasets.reported()
    unknown = set(args.only or ()) - {case.name for case in cases}
    if unknown:
        parser.error(f"no data set {', '.join(sorted(unknown))}; there are {', '.join(case.name for case in cases)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a fit did not converge is in the table
        for case, X in _loaded(cases, args):
            if args.missing:
                held_out(case, X, args)
            elif args.constants:
                constants(case, X, args)
            else:
                report(case, X, args)
    return 0


def _loaded(cases: list[Case], args: argparse.Namespace) -> Iterator[tuple[Case, Any]]:
    for case in cases:
        if args.only and case.name not in args.only:
            continue
        try:
            X = case.load()
        except (OSError, ImportError) as error:
            print(f"{case.name:18} left out: {error}")
            continue
        yield case, np.maximum(X, 1e-3 * X.mean()) if LOSSES[args.loss] < 1.0 else X


def limit(X: Any, f: nmfcore.Factorization, seconds: float) -> nmfcore.Factorization:
    """Where a fit ends if it is let run."""
    objectives, began = [f.objective], time.perf_counter()

    def ended(state: Any) -> None:
        objectives.append(state.objective)
        flat = len(objectives) > WINDOW and objectives[-1 - WINDOW] - state.objective < FALL * state.objective
        if flat or time.perf_counter() - began > seconds:
            raise StopIteration

    loss = f.settings["loss"]
    return nmfcore.factorize(X, f.rank, loss=loss, init=f, tol=0, max_iter=10**9, callback=ended)


def report(case: Case, X: Any, args: argparse.Namespace) -> None:
    """A line of the table."""
    loss = float(args.loss) if args.loss[0].isdigit() else args.loss
    fits = [nmfcore.factorize(X, case.rank, loss=loss, random_state=seed) for seed in range(args.seeds)]
    limits = [limit(X, f, args.seconds).objective for f in fits]
    line = f"{case.name:18}{case.rank:5}"
    line += f"{np.median([f.n_iter for f in fits]):8.0f} its{np.median([f.seconds for f in fits]):9.3f} s"
    line += f"{sum(f.converged for f in fits):4}/{len(fits)} converged"
    line += "   limit " + _spread([f.objective / end for f, end in zip(fits, limits, strict=True)])
    if args.best:
        starts = [("random", seed) for seed in range(args.best)]
        starts += [(init, 0) for init in ("nndsvd", "nndsvda")] * (case.rank <= min(X.shape))
        begun = [
            nmfcore.factorize(X, case.rank, loss=loss, init=init, random_state=100 + seed) for init, seed in starts
        ]
        best = min([*limits, *(limit(X, f, args.seconds).objective for f in begun)])
        line += "   best " + _spread([f.objective / best for f in fits])
    if LOSSES[args.loss] >= 1.0:
        peers = [_sklearn(X, case.rank, args.loss, seed) for seed in range(args.seeds)]
        line += "   sklearn " + _spread([f.objective / peer for f, peer in zip(fits, peers, strict=True)])
    print(line, flush=True)


def _spread(ratios: list[float]) -> str:
    return f"{np.median(ratios):.4f} (worst {max(ratios):.4f})"


def _sklearn(X: Any, rank: int, loss: str, seed: int) -> float:
    from sklearn.decomposition import NMF

    solver = "cd" if loss == "frobenius" else "mu"
    error = float(NMF(rank, solver=solver, beta_loss=loss, random_state=seed).fit(X).reconstruction_err_)
    return 0.5 * error**2  # scikit-learn's is the root of twice the divergence


def held_out(case: Case, X: Any, args: argparse.Namespace) -> None:
    """The errors of ``l2="auto"`` beside those of the best of the penalties."""
    X, plain, scaled, times, singles = np.asarray(X.toarray() if hasattr(X, "toarray") else X, float), [], [], [], []
    for seed in range(args.seeds):
        observed = np.random.default_rng(100 + seed).random(X.shape) >= args.missing
        began = time.perf_counter()
        auto = nmfcore.factorize(X, case.rank, mask=observed, l2="auto", random_state=seed)
        times.append(time.perf_counter() - began)
        scale = 4.0 ** np.array(auto.settings["column_scale"] or np.zeros(X.shape[1]))
        Y = X / scale
        unit = np.sqrt((Y[observed] ** 2).mean())
        fits, began = [], time.perf_counter()
        for share in PENALTIES:
            options: dict[str, Any] = {"mask": observed, "l2": share * unit, "l2_scaling": "count"}
            fits.append(nmfcore.factorize(Y, case.rank, random_state=seed, **options))
        singles.append((time.perf_counter() - began) / len(fits))
        for ratios, size in ((plain, 1.0 / scale), (scaled, np.ones_like(scale))):
            errors = [_wrong(f.W @ f.H - Y, ~observed, size) for f in fits]
            ratios.append(_wrong(auto.W @ (auto.H / scale) - Y, ~observed, size) / min(errors))
    line = f"{case.name:18}{case.rank:5}   {args.missing:.0%} missing   X " + _spread(plain) + "   columns "
    print(line + _spread(scaled) + f"{np.median(np.divide(times, singles)):8.0f} fits' time", flush=True)


def _wrong(differences: Any, where: Any, size: Any) -> float:
    return float(np.sqrt(((differences / size)[where] ** 2).mean()))


def constants(case: Case, X: Any, args: argparse.Namespace) -> None:
    """How many iterations fits of a planted set take, and how far above the lowest end they end."""
    loss = float(args.loss) if args.loss[0].isdigit() else args.loss
    rows = {}
    for name, options in [(f"tol={tol:g}", {"tol": tol}) for tol in TOLERANCES] + [(s, {"init": s}) for s in STARTS]:
        rows[name] = [
            nmfcore.factorize(X, case.rank, loss=loss, random_state=seed, **options) for seed in range(args.seeds)
        ]
    best = min(limit(X, f, args.seconds).objective for fits in rows.values() for f in fits)
    for name, fits in rows.items():
        ratios = _spread([f.objective / best for f in fits])
        print(
            f"{case.name:18}{case.rank:5}  {name:16}{np.median([f.n_iter for f in fits]):8.0f} its   {ratios}",
            flush=True,
        )
