"""What stands around the code agrees: versions, workflows, hooks and the Makefile."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import nmfcore

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)


def load(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_the_version_is_the_same_everywhere() -> None:
    assert load(ROOT / "CITATION.cff")["version"] == nmfcore.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.M)
    assert newest
    assert newest.group(1) == nmfcore.__version__


def test_the_address_is_the_same_everywhere() -> None:
    address = load(ROOT / "CITATION.cff")["repository-code"]
    assert PROJECT["urls"]["Repository"] == address
    assert all(url.startswith(address) for url in PROJECT["urls"].values())


def test_the_floor_is_what_is_required() -> None:
    floor = dict(re.findall(r'"(\w+)==([\d.]+)\.\*"', MAKEFILE))
    required = dict(re.fullmatch(r"(\w+)>=([\d.]+)", each).groups() for each in PROJECT["dependencies"])  # type: ignore[union-attr]
    assert required == {name: floor[name] for name in required}


def test_the_workflows_are_there() -> None:
    assert [path.name for path in WORKFLOWS] == ["release.yml", "tests.yml"]


@each_workflow
def test_workflows_call_what_the_makefile_has(path: Path) -> None:
    commands = [step["run"] for step in steps(path) if "run" in step]
    made = {target for command in commands for target in re.findall(r"^make ([a-z][\w-]*)", command)}
    made |= set(re.findall(r"target: ([\w-]+)", path.read_text(encoding="utf-8")))
    assert made
    for target in made:
        assert re.search(rf"^{target}:", MAKEFILE, flags=re.M), target
    others = [command for command in commands if not command.startswith("make ")]
    assert all(command.startswith("choco install make") for command in others)


@each_workflow
def test_actions_are_pinned_to_commits(path: Path) -> None:
    used = [step["uses"] for step in steps(path) if "uses" in step]
    assert used
    assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", each) for each in used)


def test_every_python_that_is_promised_is_tested() -> None:
    tested = load(ROOT / ".github" / "workflows" / "tests.yml")["jobs"]["test"]["strategy"]["matrix"]["python"]
    promised = [c.rsplit(" ", 1)[1] for c in PROJECT["classifiers"] if re.search(r"Python :: 3\.\d+$", c)]
    assert set(promised) <= set(tested)
    assert PROJECT["requires-python"] == f">={promised[0]}" == f">={tested[0]}"


def test_hooks_need_no_environment_of_ours_and_are_pinned() -> None:
    repos = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert {hook["id"] for repo in repos for hook in repo["hooks"]} >= {
        "ruff-format",
        "ruff-check",
        "mypy",
        "codespell",
    }
    for repo in repos:
        assert repo["repo"].startswith("https://")
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", repo["rev"])


def test_ci_runs_every_test_and_the_lint() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\S+)", script, flags=re.M) == ["test-all", "lint"]
    assert re.search(r"^test-all: test test-slow$", MAKEFILE, flags=re.M)
