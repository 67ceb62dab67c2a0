"""Where a default fit ends, beside scikit-learn's default stop from the same start: what ``tol`` is chosen by."""

from __future__ import annotations

import argparse
import statistics
import time
import warnings

import nmfcore
from benchmarks.datasets import Case, cases


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks defaults", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="names of data sets")
    args = parser.parse_args(argv)
    print(f"{'data':16}{'rank':>5}{'iterations':>11}{'KKT':>9}{'seconds':>9}{'objective / sklearn':>21}{'its, s':>13}")
    for case in cases():
        if args.only and case.name not in args.only:
            continue
        try:
            X = case.load()
        except (OSError, ImportError) as error:
            print(f"{case.name:16} left out: {error}")
            continue
        report(case, X, args.seeds)
    return 0


def report(case: Case, X: object, seeds: int) -> None:
    from sklearn.decomposition import NMF

    ours, peers = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # both warn at max_iter; the iterations are in the table
        for seed in range(seeds):
            ours.append(nmfcore.factorize(X, case.rank, random_state=seed))
            start = time.perf_counter()
            peer = NMF(case.rank, init="random", random_state=seed).fit(X)
            peers.append((0.5 * peer.reconstruction_err_**2, peer.n_iter_, time.perf_counter() - start))
    ratios = [f.objective / p[0] for f, p in zip(ours, peers, strict=True)]
    median = statistics.median
    print(
        f"{case.name:16}{case.rank:5}{median(f.n_iter for f in ours):11.0f}{median(f.kkt for f in ours):9.1e}"
        f"{median(f.seconds for f in ours):9.2f}{median(ratios):12.4f} ({min(ratios):.3f})"
        f"{median(p[1] for p in peers):6.0f},{median(p[2] for p in peers):6.2f}"
    )
