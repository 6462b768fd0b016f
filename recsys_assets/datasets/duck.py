"""DuckDB in process: one short-lived in-memory connection a piece of work, never a shared database file."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from recsys_assets.settings import settings


@contextlib.contextmanager
def connect() -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in UTC that keeps row order and spills to disk past the memory limit (`RECSYS_MEMORY`)."""
    with tempfile.TemporaryDirectory(prefix="recsys_assets-spill-") as spill, duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"SET memory_limit = '{settings().memory}'")
        connection.execute(f"SET temp_directory = {quoted(spill)}")
        yield connection


def quoted(text: str | Path) -> str:
    """A SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def name(identifier: str) -> str:
    """A quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def scan(files: list[Path]) -> str:
    """SQL for the rows of Parquet files, in the files' order."""
    # DuckDB would make a column of each folder named like `bizdate=...`, of a draft's folder too.
    return f"read_parquet([{', '.join(quoted(file) for file in files)}], hive_partitioning = false)"


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    """Write a query's rows to a Parquet file, the same bytes for the same ordered rows; returns the row count."""
    return int(one(connection, f"COPY ({query}) TO {quoted(path)} (FORMAT parquet, COMPRESSION zstd)")[0])


def one(connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[Any] = ()) -> tuple[Any, ...]:
    """The only row of a query; `fetchone` would leave its result open and the connection busy."""
    (row,) = connection.execute(query, parameters).fetchall()
    return tuple(row)
