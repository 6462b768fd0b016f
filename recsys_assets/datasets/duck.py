"""DuckDB in process: one short-lived in-memory connection per piece of work, never a shared database file.

A connection can reach the lake, its own spill folder and the folders that it is given, but no other file, no network
and no extension. Text that becomes SQL can therefore do no harm that its author could not do without it.
"""

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import fsspec
from fsspec.implementations.local import LocalFileSystem

from recsys_assets.engines.engine import Engine
from recsys_assets.settings import Settings, settings

_MAGIC = re.compile(r"([\[*?])")


class MemoryLimitInvalid(ValueError):
    """`RECSYS_MEMORY` is not a size."""


class UnreadableName(ValueError):
    """A file whose name cannot be given to DuckDB."""


@contextlib.contextmanager
def connect(*folders: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection in UTC that keeps row order and spills to disk past the memory limit (`RECSYS_MEMORY`).

    Args:
        folders: what it may read and write in addition to the lake; landing files are read by Arrow.

    Raises:
        MemoryLimitInvalid: the limit is not a size.
    """
    with connect_without_lake(*_lake_folders(settings()), *folders) as connection:
        yield connection


@contextlib.contextmanager
def connect_without_lake(*folders: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The same, but it can reach no other file than those in its spill folder and in `folders`.

    Raises:
        MemoryLimitInvalid: the limit is not a size.
    """
    place = settings()
    with tempfile.TemporaryDirectory(prefix="recsys_assets-spill-") as spill, duckdb.connect() as connection:
        try:
            connection.execute(f"SET memory_limit = {quote(place.memory)}")
        except duckdb.Error as error:
            raise MemoryLimitInvalid(f"RECSYS_MEMORY={place.memory}: give a size, like 4GB ({error})") from None
        seen = [spill, *(str(folder.absolute()) for folder in folders)]
        allowed = ", ".join(quote(each) for folder in seen for each in {folder: 0, _pattern(folder): 0})
        connection.execute(f"""
            SET TimeZone = 'UTC';
            SET enable_progress_bar = false;
            SET temp_directory = {quote(spill)};
            SET autoinstall_known_extensions = false;
            SET autoload_known_extensions = false;
            SET allowed_directories = [{allowed}];  -- before the next line, after which it cannot be set
            SET enable_external_access = false;
            SET lock_configuration = true;
        """)
        yield connection


def _lake_folders(place: Settings) -> list[Path]:
    """The folder in which partitions are read and written; for an object store, this machine's temporary folder."""
    protocol, _ = fsspec.core.split_protocol(place.lake)
    local = protocol in (None, "file", "local")
    return [Path(LocalFileSystem._strip_protocol(place.lake) if local else tempfile.gettempdir())]


def quote(text: str | Path) -> str:
    """A SQL string literal."""
    return "'" + str(text).replace("'", "''") + "'"


def quote_name(identifier: str) -> str:
    """A quoted SQL identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def scan(files: Sequence[Path]) -> str:
    """SQL for the rows of Parquet files, in the files' order; names are taken literally.

    Raises:
        UnreadableName: a name has both a backslash and a pattern character, which DuckDB cannot take literally.
    """
    # With partitioning on, DuckDB would add a column for each folder named like `bizdate=...`, even a draft's folder.
    return f"read_parquet([{', '.join(map(_quote_file, files))}], hive_partitioning = false)"


def _pattern(path: str) -> str:
    """The pattern that matches this path alone: DuckDB takes the names of files to read as patterns."""
    return _MAGIC.sub(r"[\1]", path)


def _quote_file(file: Path) -> str:
    pattern = _pattern(str(file))
    if pattern != str(file) and "\\" in pattern:
        raise UnreadableName(f"{file}: DuckDB cannot read a path with a backslash and one of [ * ?: rename the folder")
    return quote(pattern)


def write_parquet(connection: Engine, query: str, path: Path) -> int:
    """Write a query's rows to a Parquet file, the same bytes for the same ordered rows; returns the row count."""
    return int(only_row(connection, f"COPY ({query}) TO {quote(path)} (FORMAT parquet, COMPRESSION zstd)")[0])


def only_row(connection: Engine, query: str) -> tuple[Any, ...]:
    """The only row of a query; `fetchone` would leave its result open and the connection busy."""
    (row,) = connection.execute(query).fetchall()
    return tuple(row)
