"""A log in one big file or in a SQLite database, read in batches: rows of raw values, and lines that are no rows."""

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import quote_name
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.json_lines import json_batches
from recsys_assets.datasets.landing_files import CODECS, form
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.tables import plain_table
from recsys_assets.datasets.text_files import Landed, landed_names, number_rows, refuse_columns, text_batches
from recsys_assets.uris import is_folder, safe_uri

SQLITE = "sqlite:///"
_ROWS = 250_000  # of a batch of a Parquet file or a query


def source_file(source: str) -> Path:
    """The file of a source: a path, or the path in `sqlite:///…`.

    Raises:
        LandingError: there is no such file, or it is on another machine.
    """
    path = Path(source.removeprefix(SQLITE)).expanduser()
    if not source.startswith(SQLITE) and not is_folder(source):
        raise LandingError(f"--source {safe_uri(source)}: give a file of this machine, or {SQLITE} and a path")
    if not path.is_file():
        absolute = f" (an absolute path begins with a fourth slash: {SQLITE}/)" if source.startswith(SQLITE) else ""
        raise LandingError(f"{path} is not a file: give the path of one{absolute}")
    return path


def log_batches(source: str, query: str | None, columns: dict[str, Column], files: Files) -> Iterator[Landed]:
    """The rows of a source in batches, numbered from 1.

    A file of an unknown suffix is taken for text with separators.

    Raises:
        LandingError: a query was given for a file, or none for a database, or the query is not possible.
        LandedFileError: the source lacks a column, or cannot hold the declared types.
        pa.ArrowException, OSError, UnicodeError: it cannot be read.
    """
    path = source_file(source)
    if source.startswith(SQLITE) != bool(query):
        raise LandingError(f"--query is for {SQLITE} sources, which need it: it is the SELECT that gives the log")
    if query:
        return _query_batches(path, query, columns)
    suffix, codec = form(path.name) or (path.suffix, CODECS.get(path.suffix.lower()))
    match suffix:
        case ".parquet":
            return _parquet_batches(path, columns, files)
        case ".jsonl" | ".ndjson":
            return json_batches(path, codec, columns, files)
        case _:
            return text_batches(path, ".tsv" if suffix == ".tsv" else ".csv", codec, columns, files)


def _parquet_batches(file: Path, columns: dict[str, Column], files: Files) -> Iterator[Landed]:
    names, done = landed_names(columns), 0
    with pq.ParquetFile(file) as source:
        refuse_columns(file, names, source.schema_arrow.names)
        for batch in source.iter_batches(_ROWS, columns=list(dict.fromkeys(names))):
            table = pa.Table.from_batches([batch])
            yield number_rows(plain_table(file, table, columns, files), [], done)
            done += table.num_rows


def _query_batches(file: Path, query: str, columns: dict[str, Column]) -> Iterator[Landed]:
    """The rows of a SELECT, all values as text, because a column of SQLite may hold values of any type."""
    names, done = landed_names(columns), 0
    inner = f"({query.rstrip().rstrip(';')}\n)"
    values = ", ".join(f"CAST({quote_name(name)} AS TEXT)" for name in names)
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    try:
        # SQLite takes a quoted name that is not a column for a text, so look first.
        found = connection.execute(f"SELECT * FROM {inner} LIMIT 0").description
        refuse_columns(file, names, [each[0] for each in found])
        rows = connection.execute(f"SELECT {values} FROM {inner}")
        for part in iter(partial(rows.fetchmany, _ROWS), []):
            table = pa.table([pa.array(each, pa.string()) for each in zip(*part, strict=True)], list(columns))
            yield number_rows(table, [], done)
            done += len(part)
    except sqlite3.Error as error:
        raise LandingError(f"--query cannot be answered by {file}: {error}") from None
    finally:
        connection.close()
