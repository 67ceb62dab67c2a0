"""The connection to DuckDB, which reads local files only and leaves nothing behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nmfcore.machine.escapes import escaped

REMEDY = 'reading a file of ratings needs duckdb: pip install "nmfcore[files]"'
FETCH_AGAIN = "the compressed file is damaged or incomplete: fetch it again"
LONGEST_LINE = 1 << 24


def connection(folder: str) -> Any:
    """Return a database in memory that reads local files only and spills into ``folder``."""
    try:
        import duckdb
    except ImportError as error:
        raise ImportError(REMEDY) from error
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": str(Path(folder, "spilled")),
        "preserve_insertion_order": "true",
    }
    database = duckdb.connect(":memory:", config=config)
    database.execute("SET enable_progress_bar = false")  # it would go to the standard output, after two seconds
    return database


def literal(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def quoted_name(column: str) -> str:
    """Return the name of a column as SQL writes it."""
    return '"' + column.replace('"', '""') + '"'


def all_lines(path: str, name: str | Any) -> Iterator[tuple[bytes, bool]]:
    """Yield the lines of a text file compressed by zstd."""
    source = (
        f"read_csv({literal(path)}, auto_detect=false, header=false, delim='\x1f', quote='', escape='', "
        f"columns={{'line': 'VARCHAR'}}, compression='zstd', max_line_size={LONGEST_LINE}, "
        f"buffer_size={2 * LONGEST_LINE})"
    )
    with tempfile.TemporaryDirectory(prefix="nmfcore-") as folder, connection(folder) as database:
        import duckdb

        try:
            cursor = database.execute(f"SELECT line FROM {source}")
            while rows := cursor.fetchmany(1 << 16):
                yield from (((line or "").encode(), True) for (line,) in rows)
        except duckdb.Error as error:
            raise ValueError(f"{name}: {escaped(str(error).splitlines()[0])}; {FETCH_AGAIN}") from None
