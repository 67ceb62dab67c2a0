"""``transform`` of rows of any size by a model of any size: finite, or refused with words."""

from __future__ import annotations

import re
from typing import Any

import budget
import numpy as np
import pytest
import scipy.sparse as sp
from catalogue import Outcome
from hypothesis import HealthCheck, example, given, seed, settings
from hypothesis import strategies as st

import nmfcore

BASE = np.random.RandomState(0).random_sample((8, 6)) + 0.1
ROWS = np.random.RandomState(1).random_sample((5, 6)) + 0.1
EXPONENTS = {"f8": st.integers(-300, 300), "f4": st.integers(-30, 30)}
DOCUMENTED = re.compile(r"so small that the squares of the ones|Give starting factors and penalties of the size")
WAYS = ["dense", "csr", "mask", "offsets", "l2"]
LOSSES = ["frobenius", "kullback-leibler", "itakura-saito", 0.5, 3.0]


@st.composite
def sizes(draw: Any) -> tuple[str, str, Any, int, int]:
    """The dtype and way of a model, its loss, and the powers of ten of what it was fitted to and of its new rows."""
    dtype, way = draw(st.sampled_from(sorted(EXPONENTS))), draw(st.sampled_from(WAYS))
    loss = "frobenius" if way == "offsets" else draw(st.sampled_from(LOSSES))
    of_model, of_rows = draw(EXPONENTS[dtype]), draw(EXPONENTS["f8"])
    if way == "offsets":  # further off than 1e300 is a test of its own in tests/test_offsets.py
        of_rows = min(max(of_rows, of_model - 290), of_model + 290)
    return dtype, way, loss, of_model, of_rows


def model(dtype: str, way: str, loss: Any, exponent: int) -> Outcome:
    A: Any = (BASE * 10.0**exponent).astype(dtype)
    options: dict[str, Any] = {"loss": loss, "random_state": 0, "max_iter": 5, "tol": 0}
    if way == "csr":
        A = sp.csr_array(A)
    elif way == "mask":
        options["mask"] = BASE < 1.0
    elif way == "offsets":
        options["offsets"] = True
    elif way == "l2":
        options["l2"] = 0.1
    return Outcome.of(lambda: nmfcore.factorize(A, 2, **options))


@pytest.mark.row(48)
@seed(budget.seed())
@given(drawn=sizes())
@example(drawn=("f8", "dense", "frobenius", -300, 300))
@settings(max_examples=budget.cases(60, 1500), database=None, suppress_health_check=list(HealthCheck))
def test_rows_of_any_size(drawn):
    dtype, way, loss, of_model, of_rows = drawn
    fitted = model(dtype, way, loss, of_model)
    assert {*fitted.warned} <= {nmfcore.PredictionWarning}
    if fitted.error is not None:
        assert DOCUMENTED.search(str(fitted.error)), fitted.error
        return
    outcome = Outcome.of(lambda: fitted.value.transform(ROWS * 10.0**of_rows))
    assert outcome.warned == ()
    if outcome.error is not None:
        assert isinstance(outcome.error, (ValueError, FloatingPointError)), repr(outcome.error)
        assert re.match(r".*\bX\b.*\.$", str(outcome.error)), outcome.error
    else:
        assert np.isfinite(outcome.value).all()
        assert outcome.value.min() >= 0
