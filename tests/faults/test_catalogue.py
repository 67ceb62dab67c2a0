"""No row of the fault catalogue is forgotten, and the table that is written of it says what there is."""

from __future__ import annotations

import ast
import os
import re
import signal

import catalogue
import numpy as np
import pytest
from catalogue import Case, Held, Outcome
from fits import X, ask

CASES = catalogue.everything()
ROWS = range(1, 171)


def test_every_row_has_a_case_or_a_reason():
    assert {case.row for case in CASES} | catalogue.NOT_APPLICABLE.keys() == set(ROWS)
    assert not {case.row for case in CASES} & catalogue.NOT_APPLICABLE.keys()


def test_every_group_holds_its_rows():
    for module, rows in catalogue.GROUPS.values():
        found = {case.row for case in catalogue.cases_in(module)} if module else set()
        assert found == {row for row in rows if row not in catalogue.NOT_APPLICABLE}
    assert sorted(row for _, rows in catalogue.GROUPS.values() for row in rows) == list(ROWS)


def test_every_case_has_a_name_of_its_own():
    names = [(case.row, case.fault) for case in CASES]
    assert len(set(names)) == len(names)


def test_tests_that_stand_elsewhere_are_there():
    for case in CASES:
        if isinstance(case, Held):
            file, name = case.test.split("::")
            source = ast.parse((catalogue.folder() / file).read_text(encoding="utf-8"))
            assert name in {node.name for node in source.body if isinstance(node, ast.FunctionDef)}, case.test


def refusal(row: int) -> Case:
    return next(case for case in CASES if case.row == row)


def test_a_case_tells_other_errors_messages_and_warnings_apart():
    """An assertion that always held would show nothing."""
    case = refusal(2)
    said = Outcome.of(case.ours).error
    for outcome in (
        Outcome(value=ask(X)),
        Outcome(error=TypeError(str(said))),
        Outcome(error=ValueError("another message")),
        Outcome(error=said, warned=(RuntimeWarning,)),
    ):
        with pytest.raises(AssertionError):
            case.check(outcome)
    with pytest.raises(AssertionError):
        refusal(1).check(Outcome(value=ask(X[::-1])))
    with pytest.raises(ZeroDivisionError):
        refusal(1).check(Outcome(error=ZeroDivisionError()))


table = pytest.importorskip("benchmarks.faults") if (catalogue.folder().parent / "benchmarks").is_dir() else None


@pytest.mark.skipif(table is None or not hasattr(os, "fork"), reason="benchmarks are not there, or no fork")
class TestTable:
    def test_it_has_every_row_that_is_shown(self):
        text = table.TABLE.read_text(encoding="utf-8")
        lines = re.findall(r"^\| (\d+) \| (.*?) \| ", text, re.MULTILINE)
        shown = [(str(case.row), table.cell(case.fault)) for case in CASES if isinstance(case, Held) or case.shown]
        assert lines == shown
        for row, reason in catalogue.NOT_APPLICABLE.items():
            assert f"- {row}: {reason}." in text

    def test_an_outcome_in_words(self):
        case = refusal(2)
        assert table.told(case, case.ours, catalogue).startswith("ValueError: X[1] has 1 entries where X[0] has 2")
        case = refusal(1)
        assert table.told(case, case.ours, catalogue).startswith("finite, relative error 0.")
        assert table.told(case, lambda: (np.full((2, 2), np.nan), X), catalogue) == "**factors that are not finite**"
        assert table.described(Outcome("said", None, (UserWarning,)), None) == "said; warns: UserWarning"

    def test_who_kills_the_interpreter_is_named(self):
        def die() -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        assert table.told(refusal(1), die, catalogue) == "**the interpreter dies** (SIGKILL)"
