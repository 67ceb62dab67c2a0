r"""What a fit is not shown, and how well it foretells that: held-out entries, or held-out blocks.

**Entries** (Wold 1978). Single entries are left out at random, whatever row and column they stand in, and a masked fit
to the others predicts them. This is the way for dense data, and the only one for data that are incomplete: of these,
entries that were observed are held out. A hold-out that would take the last entry of a row or of a column gives one
back, since nothing could be predicted there.

**Blocks** (Owen and Perry 2009, bi-cross-validation). Of a complete sparse matrix nearly all cells would have to be
written down as observed. Instead some rows ``I`` and some columns ``J`` are left out together. With the fit
``X[-I, -J] ≈ W H``, the rows and the columns left out are described by what is known of them,

.. math:: W_I = \arg\min_{A ≥ 0} D(X_{I,-J} | A H), \qquad H_J = \arg\min_{B ≥ 0} D(X_{-I,J} | W B),

and ``W_I H_J`` predicts ``X[I, J]``, which neither has seen. No mask is needed, every fit is of a plain matrix that is
smaller and as sparse as X, and the zeros of the block count like its other entries.

References
----------
Wold, "Cross-validatory estimation of the number of components in factor and principal components models",
Technometrics 20, 1978. Owen and Perry, "Bi-cross-validation of the SVD and the nonnegative matrix factorization",
Annals of Applied Statistics 3, 2009.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nmfcore import _arguments
from nmfcore._types import Array
from nmfcore.holdout.blocks import Blocks, make_blocks
from nmfcore.holdout.entries import Entries, make_entries
from nmfcore.holdout.measure import LEAST_SHARE, Measure
from nmfcore.holdout.reading import kept_entries, read
from nmfcore.holdout.sparse import CSR, dense_rows
from nmfcore.machine import memory
from nmfcore.reading import missing
from nmfcore.reading.compressed import Compressed

__all__ = ["HOLDOUTS", "LEAST_SHARE", "Blocks", "Entries", "Measure", "hold_out", "share_of_entries"]

HOLDOUTS = ("auto", "entries", "blocks")
EACH = 12  # bytes that are taken at least for each entry


def hold_out(
    X: Any,
    *,
    missing_values: Any,
    mask: Any,
    weights: Any,
    dtype: np.dtype[Any] | None,
    kind: str,
    n_folds: int,
    test: float | None,
    rng: np.random.Generator,
    rescale: bool = False,
) -> Entries | Blocks:
    """Deal what counts of ``X`` into folds; ``factorize`` has accepted the arguments before.

    With ``rescale``, the folds are of ``X / 4**folds.shift`` where the largest entry of X is far from 1: then no error
    overflows or vanishes.

    Raises
    ------
    ValueError
        If the share ``test`` is out of range, there are too few entries, or blocks of incomplete data are asked for.
    """
    matrix, observed, weight = read(X, missing.check_rule(missing_values), mask, weights, dtype)
    matrix, shift = _moderate(matrix, observed) if rescale else (matrix, 0)
    complete = observed is None and weight is None
    sparse = isinstance(matrix, Compressed)
    if kind == "blocks" and not complete:
        raise ValueError("holdout='blocks' is for data that are complete and unweighted: choose holdout='entries'.")
    if kind == "blocks" or (kind == "auto" and complete and sparse):
        return make_blocks(matrix, n_folds, _share(test, 0.25, 1.0, "holdout='blocks'"), rng, shift)
    if isinstance(matrix, Compressed):
        if complete:
            matrix = dense_rows(CSR(*matrix), 0, matrix.shape[0])
        elif observed is not None:
            matrix, weight = kept_entries(matrix, observed, weight)
    share = share_of_entries(test, n_folds)
    count = matrix.values.size if isinstance(matrix, Compressed) else matrix.size
    taken = {f"the order of {count} entries, and which are held out": EACH * count}
    memory.check(taken, "holdout='entries'", "pass fewer rows or columns, or, if X is complete, holdout='blocks'")
    where = None if isinstance(matrix, Compressed) else observed
    return make_entries(matrix, where, weight, n_folds, share, rng, shift)


def _moderate(X: Array | Compressed, observed: Array | None) -> tuple[Array | Compressed, int]:
    """``X`` divided by ``4**shift``, and ``shift``; what is not observed is never looked at."""
    values = X.values if isinstance(X, Compressed) else X
    largest = float(np.max(values, where=True if observed is None else observed, initial=0.0))
    shift = missing.moderate_shift(largest, 2.0, values.dtype)
    if shift == 0:
        return X, 0
    with np.errstate(over="ignore", invalid="ignore"):  # of what is not observed
        scaled = np.ldexp(values, -2 * shift)
    return X._replace(values=scaled) if isinstance(X, Compressed) else scaled, shift


def share_of_entries(test: float | None, n_folds: int) -> float:
    """The share of the entries to hold out in each fold; ValueError if there cannot be so many of ``test``."""
    return _share(test, min(0.1, 1.0 / n_folds), 1.0 / n_folds, f"{n_folds} disjoint folds")


def _share(test: float | None, default: float, most: float, what: str) -> float:
    if test is None:
        return default
    share = _arguments.non_negative(test, "test")
    if not 0.0 < share <= most or share == 1.0:
        raise ValueError(
            f"test={test!r}: the share to hold out in each fold must be above 0 and, with {what}, "
            f"{'below' if most == 1.0 else 'at most'} {most:g}."
        )
    return share
