"""The source of a log to be landed: one big file, a database or several Parquet files, read in batches.

The rows are numbered from 1 and have the raw values of the source; lines that are no rows are set aside.
"""

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.json_lines import json_batches
from recsys_assets.datasets.landing_files import CODECS, form
from recsys_assets.datasets.log_postgres import POSTGRES, database_of, postgres_batches
from recsys_assets.datasets.log_queries import BATCH_ROWS, parquet_query_batches, sqlite_batches
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.tables import plain_table
from recsys_assets.datasets.text_files import Landed, landed_names, number_rows, refuse_columns, text_batches
from recsys_assets.uris import is_folder, safe_uri

SQLITE = "sqlite:///"
_NEEDS_QUERY = "needs --query: the SELECT that gives the log"


@dataclass(frozen=True)
class Source:
    """The source of a log.

    Attributes:
        name: the name of its file, folder or database; a landing replaces the rows of an earlier one of this name.
        shown: its path or address in messages, without secrets.
        batches: reads its rows, for the columns of the profile and the form of its files. Raises LandedFileError if
            the source lacks a column or cannot hold the declared types, LandingError if a query is not possible, and
            pa.ArrowException, OSError and UnicodeError if it cannot be read.
    """

    name: str
    shown: str
    batches: Callable[[dict[str, Column], Files], Iterator[Landed]]


def find_source(source: str, query: str | None) -> Source:
    """The source at a path, at `sqlite:///` with a path, at a `postgresql://` address, or at a pattern of paths.

    Raises:
        LandingError: there is no such file, it is on another machine, or the query is missing or does not fit.
    """
    if source.startswith(POSTGRES):
        shown = safe_uri(source)
        return Source(database_of(source), shown, partial(postgres_batches, source, _needed(query, shown)))
    if source.startswith(SQLITE):
        file = _file(source.removeprefix(SQLITE), f" (an absolute path begins with a fourth slash: {SQLITE}/)")
        return Source(file.name, str(file), partial(sqlite_batches, file, _needed(query, str(file))))
    if not is_folder(source):
        raise LandingError(
            f"--source {safe_uri(source)}: give a file of this machine, {SQLITE} and a path, or {POSTGRES[0]}USER@HOST/"
            "DATABASE"
        )
    if query:
        return _queried_files(source, query)
    file = _file(source)
    return Source(file.name, str(file), partial(file_batches, file))


def _needed(query: str | None, shown: str) -> str:
    if not query:
        raise LandingError(f"{shown} {_NEEDS_QUERY}")
    return query


def _file(path: str, hint: str = "") -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        pattern = f"; a pattern of Parquet files {_NEEDS_QUERY}" if glob.has_magic(path) else ""
        raise LandingError(f"{file} is not a file: give the path of one{hint}{pattern}")
    return file


def _queried_files(source: str, query: str) -> Source:
    """The Parquet files at a path or pattern, in the order of their paths; named after the last part that is plain."""
    pattern = Path(source).expanduser()
    found = sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207  Path's own are relative
    files = [pattern] if pattern.is_file() else [each for each in found if each.is_file()]
    if not files:
        raise LandingError(f"{pattern} is not a file, and no file has a path of this pattern: give one of both")
    if other := next((each for each in files if each.suffix.lower() != ".parquet"), None):
        raise LandingError(f"--query is for databases and Parquet files, and {other} is neither: leave out --query")
    plain = [each for each in pattern.parts if not glob.has_magic(each)]
    name = files[0].name if len(files) == 1 else plain[-1] if plain else "source"
    return Source(name, str(pattern), partial(parquet_query_batches, files, str(pattern), query))


def file_batches(path: Path, columns: dict[str, Column], files: Files) -> Iterator[Landed]:
    """The rows of a file of any form; one of an unknown suffix is taken for text with separators."""
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
        for batch in source.iter_batches(BATCH_ROWS, columns=list(dict.fromkeys(names))):
            table = pa.Table.from_batches([batch])
            yield number_rows(plain_table(file, table, columns, files), [], done)
            done += table.num_rows
