"""The notebooks: they run, they are their sources, and what readers see is committed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

for needed in ("jupytext", "nbclient", "nbformat", "nbmake", "ipykernel", "matplotlib", "pandas"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed (extra: notebooks)", allow_module_level=True)

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def build():
    spec = importlib.util.spec_from_file_location("notebooks_build", FOLDER / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cells(path, kind="code"):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


def outputs(path):
    return [output for cell in cells(path) for output in cell["outputs"]]


def source(cell):
    return "".join(cell["source"])


def test_every_notebook_has_a_source_and_every_source_a_notebook(build):
    assert NOTEBOOKS
    assert [build.pair(s) for s in sorted(build.SOURCES.glob("*.py"))] == NOTEBOOKS


@pytest.mark.slow
@each_notebook
def test_it_runs(path, tmp_path):
    # In a process of its own, so that the warnings of Jupyter's machinery are not held against this suite.
    command = [sys.executable, "-m", "pytest", "--nbmake", "--nbmake-timeout=120", "-q", "-p", "no:cacheprovider"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    environment["PYTHONWARNINGS"] = "default"
    done = subprocess.run(
        [*command, "-c", os.devnull, f"--rootdir={FOLDER}", str(path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@each_notebook
def test_it_is_its_source(path, build):
    assert build.difference(build.SOURCES / f"{path.stem}.py") == ""


@each_notebook
def test_every_cell_ran_in_order_on_a_fresh_kernel(path):
    assert [cell["execution_count"] for cell in cells(path)] == list(range(1, len(cells(path)) + 1))


@each_notebook
def test_every_cell_that_displays_has_its_output(path):
    for cell in cells(path):
        body = ast.parse(source(cell)).body
        shows = isinstance(body[-1], ast.Expr) or any(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("print", "display")
            for node in ast.walk(ast.Module(body, []))
        )
        assert bool(cell["outputs"]) == shows, cell["id"]


@each_notebook
def test_outputs_hold_figures_and_neither_errors_nor_warnings(path):
    kinds = [output["output_type"] for output in outputs(path)]
    assert "error" not in kinds
    assert [output for output in outputs(path) if output.get("name") == "stderr"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs(path))


@each_notebook
def test_it_is_small_and_nothing_in_it_is_of_this_machine_or_moment(path):
    assert path.stat().st_size < 1_000_000
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert "version" not in json.dumps(notebook["metadata"])
    assert all(cell["metadata"] == {} for cell in notebook["cells"])
    texts = [json.dumps([output.get("data"), output.get("text")]) for output in outputs(path)]
    legible = "\n".join(re.sub(r'"image/png": "[^"]*"', "", text) for text in texts)
    for place in (str(ROOT), str(Path.home()) + os.sep, "/tmp/", "/home/", "/Users/", "site-packages", "ipykernel_"):
        assert place not in legible
    assert not re.search(r"object at 0x|<Axes|<Figure size 0", legible)


@each_notebook
def test_the_mended_source_is_noticed(path, build, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "HERE", tmp_path)
    text = (build.SOURCES / f"{path.stem}.py").read_text(encoding="utf-8")
    changed = tmp_path / f"{path.stem}.py"
    changed.write_text(text, encoding="utf-8")
    assert build.difference(changed) == "has not been built"
    (tmp_path / path.name).write_bytes(path.read_bytes())
    assert build.difference(changed) == ""
    changed.write_text(text.replace("import numpy as np", "import numpy as np  # changed", 1), encoding="utf-8")
    assert "differs from its source first in cell 1" in build.difference(changed)
    changed.write_text(text + "\n# %%\nprint(1)\n", encoding="utf-8")
    assert "cells, its source" in build.difference(changed)


def test_check_says_what_it_found(build, capsys):
    assert build.main(["--check"]) == 0
    assert capsys.readouterr().out == "".join(f"{path.stem}: in sync\n" for path in NOTEBOOKS)
    with pytest.raises(SystemExit):
        build.main(["--check", "no_such_notebook"])
