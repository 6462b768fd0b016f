"""The files of tables: Parquet, or CSV with a header."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from recsys_assets.arrays import slices
from recsys_assets.datasets.tables import RAW

Format = Literal["csv", "parquet"]
BLOCK = 1 << 18  # rows that are read at once


class UnreadableTable(ValueError):
    """A table that cannot be read; the message names the file, and the column and row that are wrong."""


def files(place: str, kind: Format | None = None) -> tuple[list[Path], Format]:
    """The files of a path (a file, a folder or a glob pattern), and their format, by default that of their names.

    Several paths are joined by commas; a file that two of them name is there once.

    Raises:
        UnreadableTable: there are no files, or their names do not show their format.
    """
    paths = [place] if Path(place).is_file() else place.split(",")
    found = list(dict.fromkeys(file for path in paths for file in _files_of(path)))
    endings = {file.suffix for file in found}
    if kind is None and endings not in ({".csv"}, {".parquet"}):
        raise UnreadableTable(f"{place}: neither all .csv nor all .parquet: say which with the reader type")
    return found, kind or ("csv" if endings == {".csv"} else "parquet")


def _files_of(place: str) -> list[Path]:
    """The files of one path, in the order of their names.

    Raises:
        UnreadableTable: there are no files.
    """
    path = Path(place)
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith((".", "_")))
    else:
        base = Path(path.anchor or ".")
        found = sorted(file for file in base.glob(str(path.relative_to(base))) if file.is_file())
    if not found:
        raise UnreadableTable(f"there is no file at {place or 'an empty path'}")
    return found


def read(file: Path, kind: Format, columns: Sequence[str]) -> pa.Table:
    """The named columns of a file; those of CSV are text, under the names in its first line.

    Raises:
        UnreadableTable: the file does not have the format, or lacks a column.
    """
    _check_columns(file, columns, column_names(file, kind))
    with _reading(file, kind):
        if kind == "parquet":
            with pq.ParquetFile(file) as source:
                return source.read(columns=list(columns)).combine_chunks()
        types = dict.fromkeys(columns, pa.string())
        options = csv.ConvertOptions(column_types=types, include_columns=list(columns), strings_can_be_null=False)
        return csv.read_csv(file, convert_options=options).combine_chunks()


def blocks(file: Path, kind: Format, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The same rows, at most `BLOCK` at a time: a large Parquet file need not fit into memory.

    Those of CSV say in their metadata that they are text of any type.

    Raises:
        UnreadableTable: the file does not have the format, or lacks a column.
    """
    if kind == "csv":
        table = read(file, kind, columns).replace_schema_metadata(RAW)
        yield from (table.slice(part.start, BLOCK) for part in slices(len(table), BLOCK))
        return
    _check_columns(file, columns, column_names(file, kind))
    with _reading(file, kind), pq.ParquetFile(file) as source:
        for batch in source.iter_batches(BLOCK, columns=list(columns)):
            yield pa.Table.from_batches([batch])


def column_names(file: Path, kind: Format) -> list[str]:
    """The names of a file's columns.

    Raises:
        UnreadableTable: the file does not have the format.
    """
    with _reading(file, kind):
        if kind == "parquet":
            return list(pq.read_schema(file).names)
        with file.open(encoding="utf-8", newline="") as lines:
            return list(csv.read_csv(pa.BufferReader(lines.readline().encode())).column_names)


@contextlib.contextmanager
def _reading(file: Path, kind: Format) -> Iterator[None]:
    """Name the file in errors of Arrow."""
    try:
        yield
    except pa.ArrowException as error:
        raise UnreadableTable(f"{file} cannot be read as {kind}: {error}") from error


def _check_columns(file: Path, columns: Sequence[str], there: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in there]:
        raise UnreadableTable(f"{file} has no column {missing[0]}: it has {', '.join(there)}")
