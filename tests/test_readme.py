"""The README, the guide and the other pages: code runs, links and make targets exist, published numbers agree."""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted(
    ROOT / name
    for name in (
        "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benchmarks/README.md", "docs/guide.md", "notebooks/README.md",
    )
)  # fmt: skip
WITH_CODE = [README, ROOT / "docs" / "guide.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M)


def prose(text: str) -> list[str]:
    """The words that a reader reads: no code blocks, tables or images; of a link its text."""
    text = re.sub(r"!\[.*?\]\(.*?\)", "", without_code(text), flags=re.S)
    text = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", text, flags=re.S)
    lines = [line for line in text.splitlines() if not line.startswith("|")]
    return [word for word in " ".join(lines).split() if re.search(r"\w", word)]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(text_of(page)), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_every_snippet_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a snippet saves a model
    options = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    results = doctest.testfile(str(page), module_relative=False, optionflags=options)
    assert results.attempted > 20
    assert results.failed == 0


@pytest.mark.parametrize("page", WITH_CODE, ids=lambda page: page.name)
def test_python_code_stands_in_snippets_that_are_run(page: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", text_of(page), flags=re.S)
    assert len(blocks) >= 4
    for block in blocks:
        assert block.startswith(">>> ")


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", without_code(text_of(page)))
    for target in (t for t in targets if not t.startswith("https://")):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), target


@each_page
def test_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"\bmake ([a-z][\w-]*)`", text_of(page)))
    targets |= set(re.findall(r"^make ([a-z][\w-]*)", text_of(page), flags=re.M))
    if page == README:
        assert targets >= {"demo", "test"}
    makefile = text_of(ROOT / "Makefile")
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_the_readme_is_short() -> None:
    assert 600 <= len(prose(text_of(README))) <= 900


def test_prose_leaves_out_code_tables_and_images() -> None:
    page = "# One\n\n![alt text](a.png) two [three](b.md) -\n| four |\n```sh\nfive\n```\nsix"
    assert prose(page) == ["One", "two", "three", "six"]


# ---- published numbers ----------------------------------------------------------------------------------------------

FIGURES = ROOT / "benchmarks" / "figures"
PUBLISHED = json.loads(text_of(FIGURES / "headline.json"))


def rows(page: Path) -> list[list[str]]:
    """The cells of every table row."""
    lines = (line for line in text_of(page).splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("race", [*PUBLISHED["races"], PUBLISHED["ratings"]], ids=["frobenius", "kl", "ratings"])
def test_the_headline_figure_has_the_numbers_of_the_benchmark_tables(race: dict) -> None:
    benchmarks = ROOT / "benchmarks" / "README.md"
    assert race["date"].split()[0] in text_of(benchmarks)
    for case in race["cases"]:
        wanted = [float(case[key]) for key in ("peer_seconds", "nmfcore_seconds", "ratio")]
        found = [numbers(row) for row in rows(benchmarks) if row[0] == case["name"]]
        assert any(set(wanted) <= row for row in found), (case, found)


def numbers(row: list[str]) -> set[float]:
    """The leading number of every cell that has one."""
    matches = (re.match(r"\**(\d*\.?\d+)", cell) for cell in row)
    return {float(match.group(1)) for match in matches if match}


def test_every_case_of_the_race_is_in_the_figure() -> None:
    cases = pytest.importorskip("benchmarks.cases", exc_type=ImportError).full()
    named = {case["name"] for race in PUBLISHED["races"] for case in race["cases"]}
    assert named == {case.name for case in cases if not case.masked}


def test_the_readme_states_the_means_and_ranges_of_the_figure() -> None:
    figures = pytest.importorskip("benchmarks.figures", exc_type=ImportError)
    text = " ".join(text_of(README).split())
    frobenius, counts = PUBLISHED["races"]
    assert f"{figures.mean_ratio(frobenius):.0f} times as fast as scikit-learn" in text
    assert f"geometric mean of all {len(frobenius['cases'])} cases" in text
    assert (
        f"{figures.mean_ratio(counts):.0f} times as fast, by the geometric mean of all {len(counts['cases'])}" in text
    )
    ratios = [case["ratio"] for case in PUBLISHED["ratings"]["cases"]]
    assert f"{min(ratios):g} to {max(ratios):.0f} times as fast as LIBMF" in text
    everything = [case["ratio"] for race in PUBLISHED["races"] for case in race["cases"]]
    assert f"{min(everything):g} to {max(everything):.0f} times faster" in text


def test_the_headline_figure_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = pytest.importorskip("benchmarks.figures", exc_type=ImportError)
    assert figures.main(["--out", str(tmp_path)]) == 0
    open_image = pytest.importorskip("PIL.Image").open
    with open_image(tmp_path / "headline.png") as image, open_image(FIGURES / "headline.png") as committed:
        assert image.size == committed.size == (1800, 960)
        assert len(image.convert("RGB").getcolors(2**20)) > 100  # something is drawn
