"""Rebuild and execute the notebooks from their sources: ``python notebooks/build.py [--check] [NAME ...]``.

``notebooks/src/NAME.py`` (jupytext, percent format) is what people edit and review; ``notebooks/NAME.ipynb`` is the
same with its outputs, for readers. What changes from run to run and from machine to machine (times, versions, random
ids) is left out, so that a rebuild changes only what the source changed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE / "src"
TIMEOUT = 120  # seconds for a cell

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}

try:
    import jupytext
    import nbformat
    from nbclient import NotebookClient
    from nbformat import NotebookNode
except ImportError as error:
    raise SystemExit(f'notebooks/build.py needs {error.name}: pip install -e ".[notebooks]"') from error


def pair(source: Path) -> Path:
    """Where the notebook of a source stands."""
    return HERE / f"{source.stem}.ipynb"


def read(source: Path) -> NotebookNode:
    """The notebook that a source describes, without outputs."""
    notebook = jupytext.read(source)
    formats = notebook.metadata.get("jupytext", {}).get("formats")
    notebook.metadata = nbformat.from_dict(
        {"jupytext": {"formats": formats}, "kernelspec": KERNEL, "language_info": LANGUAGE}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    section, place = 0, 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            section, place = section + 1, 0
        cell.id = f"section-{section}-cell-{place}"  # an inserted cell renumbers its section only
        cell.metadata = nbformat.from_dict({})
        place += 1
    return notebook


def execute(notebook: NotebookNode) -> None:
    """Run the cells in a fresh kernel, from the folder of the notebooks; raise if one fails."""
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name=KERNEL["name"],
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    notebook.metadata.kernelspec = nbformat.from_dict(KERNEL)
    notebook.metadata.language_info = nbformat.from_dict(LANGUAGE)


def difference(source: Path) -> str:
    """What keeps a notebook from being its source, in a few words; empty if nothing does."""
    target = pair(source)
    if not target.exists():
        return "has not been built"
    wanted = read(source)
    found = nbformat.read(target, as_version=4)
    for number, (a, b) in enumerate(zip(wanted.cells, found.cells, strict=False)):
        if (a.cell_type, a.source, a.id) != (b.cell_type, b.source, b.get("id")):
            return f"differs from its source first in cell {number} ({a.id})"
    if len(wanted.cells) != len(found.cells):
        return f"has {len(found.cells)} cells, its source {len(wanted.cells)}"
    if wanted.metadata != found.metadata:
        return "has other metadata than its source"
    return ""


def build(source: Path) -> str:
    """Execute a source, write its notebook, and say what came of it."""
    began = time.perf_counter()
    notebook = read(source)
    execute(notebook)
    text = nbformat.writes(notebook) + "\n"
    target = pair(source)
    changed = not target.exists() or target.read_text(encoding="utf-8") != text
    if changed:
        target.write_text(text, encoding="utf-8")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    figures = sum("image/png" in output.get("data", {}) for output in outputs)
    return (
        f"{len(notebook.cells)} cells, {figures} figures, {len(text.encode()) / 1000:.0f} kB, "
        f"executed in {time.perf_counter() - began:.1f} s, {'written' if changed else 'unchanged'}"
    )


def main(argv: list[str] | None = None) -> int:
    """Build or check the named notebooks, or all; 0 if all is well."""
    parser = argparse.ArgumentParser(description="Rebuild and execute the notebooks from notebooks/src.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 01_movie_ratings; default: all")
    parser.add_argument("--check", action="store_true", help="only say whether each notebook has its source's cells")
    options = parser.parse_args(argv)
    sources = sorted(SOURCES.glob("*.py"))
    unknown = set(options.names) - {source.stem for source in sources}
    if unknown:
        parser.error(f"no source {', '.join(sorted(unknown))} in {SOURCES}")
    failures = 0
    for source in sources:
        if options.names and source.stem not in options.names:
            continue
        if options.check:
            problem = difference(source)
            print(f"{source.stem}: {problem + '; run make notebooks' if problem else 'in sync'}")
        else:
            print(f"{source.stem}: {build(source)}")
            problem = ""
        failures += bool(problem)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
