"""The matrix that the faults are made of, fits of it, and what every fit must be."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

import nmfcore
from nmfcore import Factorization

X = np.random.RandomState(0).random_sample((6, 5)) + 0.1
SOLVERS = ["hals", "mu"]
STORED = {
    "dense": lambda A: A,
    "float32": lambda A: A.astype(np.float32),
    "csr": sp.csr_array,
    "csc": sp.csc_matrix,
    "coo": sp.coo_array,
    "lil": sp.lil_matrix,
}


def ask(data: object, rank: Any = 2, **options: Any) -> Factorization:
    """Fit as a user would, with the defaults."""
    return nmfcore.factorize(data, rank, **({"random_state": 0} | options))


def fit(data: object, rank: Any = 2, **options: Any) -> Factorization:
    """Fit with twenty iterations, so that no warning says that it did not converge."""
    return ask(data, rank, **({"max_iter": 20, "tol": 0} | options))


def sound(f: Factorization) -> Factorization:
    """Assert finite, non-negative factors and an objective that never rises."""
    for A in f:
        assert np.isfinite(A).all()
        assert A.min() >= 0
    assert np.isfinite(f.kkt)
    assert np.all(np.diff(f.history.objective) <= 1e-12 * f.history.objective[0])
    return f


def same(f: Factorization, g: Factorization) -> None:
    """Assert the same factors, to the bit."""
    assert f.W.dtype == g.W.dtype
    np.testing.assert_array_equal(f.W, g.W)
    np.testing.assert_array_equal(f.H, g.H)


def changed(row: int, column: int, value: Any) -> np.ndarray:
    """Return X with another entry."""
    A = X.astype(np.result_type(X, type(value)) if not isinstance(value, float) else float)
    A[row, column] = value
    return A


def relative_error(A: np.ndarray, W: np.ndarray, H: np.ndarray) -> float:
    """Return ``‖A - W H‖ / ‖A‖`` for numbers of any size."""
    A, W, H = (np.asarray(B, np.longdouble) for B in (A, W, H))
    size = np.sqrt(np.sum(A**2))
    return float(np.sqrt(np.sum((A - W @ H) ** 2)) / size) if size else float(np.abs(W @ H).max())
