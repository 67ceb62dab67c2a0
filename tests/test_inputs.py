"""What X, masks, weights and settings may come as: read as pandas, SciPy or NumPy say that they are to be read.

What is read is compared with what their own conversions make of it, not with another way through the same code.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import nmfcore
from nmfcore import missing
from nmfcore.holdout import reading
from nmfcore.solvers import HALS, MU

RNG = np.random.RandomState(0)
FULL = RNG.random_sample((9, 7)) + 0.1
HOLES = (
    np.random.RandomState(1).random_sample(FULL.shape) < 0.4
)  # no row and no column without an entry, or without a hole
A = np.where(HOLES, 0.0, FULL)
assert all(HOLES.any(axis=k).all() and (~HOLES).any(axis=k).all() for k in (0, 1))
pytestmark = pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning")  # rows with hardly an entry


def fit(X: object, rank: Any = 2, **options: Any) -> nmfcore.Factorization:
    return nmfcore.factorize(X, rank, **({"random_state": 0, "max_iter": 20, "tol": 0} | options))


def same(f: nmfcore.Factorization, g: nmfcore.Factorization) -> None:
    assert f.W.dtype == g.W.dtype
    np.testing.assert_array_equal(f.W, g.W)
    np.testing.assert_array_equal(f.H, g.H)


def read(X: object, rule: Any = None, **options: Any) -> Any:
    return missing.read(X, rule, **options).data


# ---- entries that are stored more than once ---------------------------------------------------------------------


REPEATED = [
    (np.bool_, [True, True, True]),
    (np.uint8, [200, 100, 255]),
    (np.int8, [127, 127, -100]),
    (np.int16, [32767, 32767, 32767]),
    (np.uint16, [65535, 65535, 1]),
    (np.int32, [2**31 - 1, 2**31 - 1, 7]),
    (np.uint32, [2**32 - 1, 2**32 - 1, 9]),
]


@pytest.mark.parametrize("kind", ["coo", "csr", "csc", "bsr", "coo_matrix"])
@pytest.mark.parametrize(("dtype", "values"), REPEATED)
def test_repeated_entries_are_summed_in_a_type_that_holds_the_sum(dtype, values, kind):
    """As SciPy sums them when they are made floats first; in their own type it lets them wrap around."""
    data = np.array([*values, 1], dtype)
    rows, columns = np.array([0, 0, 0, 1]), np.array([0, 0, 0, 1])
    wide = sp.coo_array((data.astype(np.float64), (rows, columns)), shape=(2, 2)).toarray()
    assert wide[0, 0] == sum(float(dtype(value)) for value in values)
    X: Any
    if kind in ("coo", "coo_matrix"):
        X = (sp.coo_array if kind == "coo" else sp.coo_matrix)((data, (rows, columns)), shape=(2, 2))
    elif kind == "bsr":
        X = sp.bsr_array((data.reshape(-1, 1, 1), columns, np.array([0, 3, 4])), shape=(2, 2))
    else:
        X = (sp.csr_array if kind == "csr" else sp.csc_array)((data, columns, np.array([0, 3, 4])), shape=(2, 2))
    data = read(X)
    np.testing.assert_array_equal(sp.csr_array((data.values, data.indices, data.indptr), shape=(2, 2)).toarray(), wide)
    matrix, observed, _ = reading.read(X, None, None, None, None)  # as `select_rank` reads it
    assert observed is None
    np.testing.assert_array_equal(matrix.values, wide[wide != 0])


# ---- scalars ----------------------------------------------------------------------------------------------------


SETTINGS = {
    "missing_values": [
        0,
        0.0,
        np.int64(0),
        np.uint8(0),
        np.float32(0),
        np.float32("nan"),
        np.float64("nan"),
        np.float16("nan"),
        np.str_("unstored"),
        None,
    ],
    "l1": [
        np.float32(0.1),
        np.float64(0.1),
        np.int64(1),
        Fraction(1, 3),
        (np.float32(0.1), np.uint8(1)),
        np.array([0.1, 0.2]),
    ],
    "l2": [np.float32(0.1), np.float16(0.1), (np.int8(1), 0.5), np.str_("auto")],
    "l2_scaling": [np.str_("count")],
    "loss": [np.float32(1.5), np.int64(1), Fraction(3, 2), np.str_("frobenius")],
    "tol": [np.float32(0.1), np.float64(0.1), np.int64(0)],
    "max_iter": [np.int64(5), np.uint8(5)],
    "max_time": [np.float32(5), np.int64(5), Fraction(7, 2)],
    "offsets": [np.bool_(True)],
    "init": [np.str_("random")],
    "precision": [np.str_("full")],
    "solver": [
        np.str_("hals"),
        HALS(sweeps=np.int64(2), extrapolate=np.float32(0.5)),
        HALS(extrapolate=np.bool_(True)),
        MU(np.bool_(False)),
    ],
    "n_threads": [np.int64(1)],
}


def plain(value: Any) -> Any:
    if isinstance(value, tuple):
        assert type(value) is tuple
        return all(map(plain, value))
    return type(value) in (bool, int, float, str, type(None))


@pytest.mark.filterwarnings("ignore::nmfcore.PredictionWarning", "ignore::nmfcore.ConvergenceWarning")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in SETTINGS.items() for value in values])
def test_a_model_is_saved_whatever_type_a_setting_came_in(name, value, tmp_path):
    X = sp.csr_array(FULL) if name == "missing_values" else FULL
    f = fit(X, **{name: value})
    assert all(map(plain, f.settings.values())), f.settings
    assert "np." not in f.settings["solver"]
    f.save(tmp_path / "f.npz")
    g = nmfcore.load(tmp_path / "f.npz")
    same(f, g)
    assert {k: v for k, v in g.settings.items() if v == v} == {k: v for k, v in f.settings.items() if v == v}
    np.testing.assert_array_equal(g.transform(X), f.transform(X))
