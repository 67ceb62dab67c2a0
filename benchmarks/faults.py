"""Every row of the fault catalogue, asked of nmfcore and of scikit-learn's NMF, and what came of it.

Writes ``benchmarks/faults.md`` beside this file; ``--rows 42 70`` prints those rows. The cases are those that the tests
in ``tests/faults`` assert. Each runs in a process of its own: some end the interpreter.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import nmfcore

TESTS = Path(__file__).parents[1] / "tests"
TABLE = Path(__file__).with_name("faults.md")
MEMORY = 12 * 2**30  # bytes that a case may take
SECONDS = 120.0
LONGEST = 230  # characters of a message
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
HEAD = """# Faults

What comes of the {n} rows of the fault catalogue that apply, here and in scikit-learn's NMF, both at their defaults but
for what a row says. A relative error is ‖X - WH‖ / ‖X‖. Written by `python -m benchmarks faults` ({date}: nmfcore
{nmfcore}, scikit-learn {sklearn}, NumPy {numpy}, Python {python}); `tests/faults` asserts the column of nmfcore.
"""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__)
    parser.add_argument("--rows", nargs="*", type=int, metavar="ROW", help="print these rows and write nothing")
    args = parser.parse_args(argv)
    catalogue = cases()
    found = [case for case in catalogue.everything() if not args.rows or case.row in args.rows]
    lines = [*table(found, catalogue)]
    if args.rows:
        print("\n".join(lines))
        return 0
    TABLE.write_text("\n".join([head(found), *lines, ""]), encoding="utf-8")
    print(f"{TABLE}: {len(lines)} lines")
    return 0


def cases() -> Any:
    """The module ``tests/faults/catalogue.py``."""
    for folder in (TESTS, TESTS / "faults"):
        sys.path.insert(0, str(folder))
    import catalogue

    return catalogue


def head(found: list[Any]) -> str:
    import sklearn

    return HEAD.rstrip().format(
        n=len({case.row for case in found}),
        date=time.strftime("%Y-%m-%d"),
        nmfcore=nmfcore.__version__,
        sklearn=sklearn.__version__,
        numpy=np.__version__,
        python=platform.python_version(),
    )


def table(found: list[Any], catalogue: Any) -> Iterable[str]:
    """The lines: a heading for each group, a line for each case that is shown, the rows that do not apply."""
    held = results_of([case.test for case in found if isinstance(case, catalogue.Held)])
    for name, (_, rows) in catalogue.GROUPS.items():
        here = [case for case in found if case.row in rows]
        if not here:
            continue
        yield from (f"\n## {name.capitalize()}\n", "| row | fault | nmfcore | scikit-learn |", "|---|---|---|---|")
        for case in here:
            if isinstance(case, catalogue.Held):
                ours = held.get(case.test, case.outcome)
            elif not case.shown:
                continue
            else:
                ours = "does not hold yet: " + case.fails if case.fails else told(case, case.ours, catalogue)
            note = f" ({case.note})" if case.note else ""
            theirs = "–" if case.theirs is None else told(case, case.theirs, catalogue)
            yield f"| {case.row} | {cell(case.fault)} | {cell(ours + note)} | {cell(theirs)} |"
    yield "\n## Rows that do not apply\n"
    for row, reason in sorted(catalogue.NOT_APPLICABLE.items()):
        yield f"- {row}: {reason}."


def cell(text: str) -> str:
    """Text for a cell of the table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def told(case: Any, call: Callable[[], Any], catalogue: Any) -> str:
    """What came of a call, made in a process of its own, in words."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    child = context.Process(target=_answer, args=(case, call, catalogue, writer))
    child.start()
    writer.close()
    try:
        if not reader.poll(SECONDS):
            return f"still running after {SECONDS:g} s"
        return str(reader.recv())
    except EOFError:
        child.join()
        code = child.exitcode or 0
        return f"**the interpreter dies** ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"
    finally:
        child.kill()
        child.join()


def _answer(case: Any, call: Callable[[], Any], catalogue: Any, writer: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what an allocator says as it dies
    writer.send(described(catalogue.Outcome.of(call), getattr(case, "A", None)))


def described(outcome: Any, A: Callable[[], np.ndarray] | None) -> str:
    """An outcome in words that are the same on any machine."""
    if outcome.error is not None:
        said = ADDRESS.sub("", " ".join(str(outcome.error).split()))
        said = said if len(said) <= LONGEST else said[:LONGEST].rsplit(" ", 1)[0] + " ..."
        words = f"{type(outcome.error).__name__}: {said}"
    else:
        words = _of_value(outcome.value, A)
    warned = ", ".join(sorted(kind.__name__ for kind in outcome.warned))
    return f"{words}; warns: {warned}" if warned else words


def _of_value(value: Any, A: Callable[[], np.ndarray] | None) -> str:
    if isinstance(value, str):
        return value
    factors = (value.W, value.H) if hasattr(value, "W") else value
    if isinstance(factors, np.ndarray):
        return ("finite" if np.isfinite(factors).all() else "**not finite**") + f", shape {factors.shape}"
    if not isinstance(factors, tuple):
        return f"accepted: {value!r}"
    if not all(np.isfinite(factor).all() for factor in factors):
        return "**factors that are not finite**"
    rows, columns = factors[0].shape[0], factors[1].shape[1]
    if A is None or rows * columns > 10**6:
        return "finite"
    from fits import relative_error

    try:
        error = relative_error(A(), *factors)
    except (TypeError, ValueError):  # of what is no matrix of numbers to NumPy either
        return "finite"
    return f"finite, relative error {error:.2g}" if error > 1e-4 else "finite, relative error below 1e-4"


def results_of(tests: list[str]) -> dict[str, str]:
    """What came of tests that stand elsewhere, where they did not pass."""
    if not tests:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", f"--junitxml={report}", *(str(TESTS / test) for test in tests)]
        subprocess.run(command, cwd=TESTS.parent, capture_output=True, check=False)
        found = list(ElementTree.parse(report).iter("testcase"))
    results = {}
    for test in tests:
        here = [one for one in found if str(one.get("name")).split("[")[0] == test.split("::")[1]]
        said = [_trouble(child) for one in here for child in one if child.tag in ("failure", "error", "skipped")]
        if said or not here:
            results[test] = said[0] if said else "is not there"
    return results


def _trouble(child: ElementTree.Element) -> str:
    message = str(child.get("message"))
    if child.get("type") == "pytest.skip":
        return f"not tested here: {message}"
    return f"does not hold yet: {message}" if child.get("type") == "pytest.xfail" else "**does not hold**"
