"""Rows of W for new rows of X."""

from __future__ import annotations

import math

import numpy as np

from nmfcore import _arguments, losses
from nmfcore._parallel import Team
from nmfcore._types import Array
from nmfcore.api.arguments import by_count, check_zeros, checked_threads, with_offsets
from nmfcore.api.factorize import _most_counts
from nmfcore.api.result import Factorization
from nmfcore.data.offsets import WithOffsets
from nmfcore.machine import memory
from nmfcore.reading import arrays, fills, missing
from nmfcore.solvers import Penalty
from nmfcore.solvers.nnls import solve_rows

ROWS_MADE = 2  # copies of what transform returns


def transform(f: Factorization, X: object, mask: object, weights: object, n_threads: int | None) -> Array:
    """:meth:`nmfcore.Factorization.transform`."""
    loss, beta = _arguments.beta(f.settings["loss"])
    rule, float64 = f.settings["missing_values"], np.dtype(np.float64)  # normal equations square what is lost
    fours = f.settings.get("column_scale")  # l2="auto" fitted X with its columns divided by these powers of four
    twos = None if fours is None else 2 * np.array(fours)
    H = f.H if twos is None else np.ldexp(f.H, -twos)
    X, rule = fills.read(X, rule, "X", guided=mask is not None or weights is not None)
    if not _arguments.is_sparse(X) and rule == "unstored":
        rule = np.nan  # a model of sparse ratings, asked about dense rows: there is no other sign of what is missing
    scaled = missing.read(
        X, rule, mask, weights, float64, least_rows=0, may_be_empty=True, degree=beta, row_by_row=True, columns=twos
    )
    if scaled.data.shape[1] != f.H.shape[1]:
        raise ValueError(f"X has {scaled.data.shape[1]} features, but the factorization expects {f.H.shape[1]}.")
    check_zeros(scaled, loss, beta)
    rows = scaled.data.shape[0]
    parts = {f"{ROWS_MADE} copies of W ({rows} x {f.rank})": ROWS_MADE * rows * f.rank * float64.itemsize}
    memory.check(parts, f"transform of {rows} rows", "transform fewer at a time")
    arrays.check_values(f.H, "H")
    features = H[:-2] if f.settings.get("offsets") else H  # ones and offsets have another unit
    largest = float(features.max()) if features.size else 0.0
    k = int(np.frexp(largest)[1]) if largest > 0 else 0  # H scaled to about 1: its Gram matrix must not overflow
    Ht = np.ldexp(np.ascontiguousarray(H.T, dtype=float64), -k)
    s = 2 * scaled.scale.shift
    penalty, data = scaled.scale.row_penalty(Penalty(f.settings["l1"][0], f.settings["l2"][0]), k), scaled.data
    if f.settings.get("offsets"):
        with np.errstate(over="ignore", under="ignore"):  # beside offsets so far above them rows come out as zeros
            heights = float(np.ldexp(1.0, -k)), float(np.ldexp(1.0, k - s))
        data, Ht = with_offsets(data, heights), np.delete(Ht, -2, axis=1)
    if f.settings.get("l2_scaling") == "count":
        held = math.isfinite(penalty.l2 * _most_counts(data))  # beside an H of next to nothing l2 is beyond that
        penalty = by_count(penalty, data) if held else penalty._replace(l2=math.inf)
    with Team(checked_threads(n_threads)) as team:
        W = solve_rows(losses.make(beta, data), data, Ht, penalty, team)
    with np.errstate(over="ignore", under="ignore"):
        W = np.ldexp(W, s - k)
        if isinstance(data, WithOffsets):
            W = np.hstack((W, np.ones((len(W), 1))))
        W = W.astype(f.H.dtype, copy=False)
    check_held(W)
    return W


def check_held(W: Array) -> None:
    """Refuse rows of W that their dtype does not hold."""
    if not np.isfinite(W).all():
        i, t = (int(k) for k in np.argwhere(~np.isfinite(W))[0])
        raise losses.RangeError(
            f"W[{i}, {t}] would be too large for {W.dtype}: X is far beyond the size of what was factorised. "
            "Divide X by a number, and multiply W by it in float64."
        )
