"""Embedding tables of other systems: Parquet or CSV, vectors as lists of numbers or as text.

In text, commas separate the numbers of a vector, and semicolons the vectors of a row. Ids become text, whatever they
are in the file, so that the 7 of one table is the "7" of another.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from recsys_assets.arrays import Ints, Uncastable, Vectors, cast, is_list, list_array, slices
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


def ids(file: Path, table: pa.Table, column: str) -> pa.Array:
    """(N,) the column as text.

    Raises:
        UnreadableTable: it holds neither integers nor text, or an id is missing.
    """
    values = text(file, column, table[column].combine_chunks())
    if values.null_count:
        raise UnreadableTable(f"{file}, row {_first(pc.is_null(values))}: {column} is missing")
    return values


def id_lists(file: Path, table: pa.Table, column: str) -> pa.Array:
    """(N,) lists of text, from a column of lists, of text separated by commas, or of single ids.

    An empty text or a missing value gives an empty list.

    Raises:
        UnreadableTable: the ids are neither integers nor text.
    """
    values = table[column].combine_chunks()
    if not is_list(values.type):
        values = pc.split_pattern(text(file, column, values), ",")
    flat, row = text(file, column, values.flatten()), pc.list_parent_indices(values).to_numpy()
    kept = pc.fill_null(pc.not_equal(flat, ""), False)
    counts = np.bincount(row[kept.to_numpy(zero_copy_only=False)], minlength=len(values))
    return list_array(flat.filter(kept), counts)


def integers(file: Path, table: pa.Table, column: str) -> Ints:
    """(N,) the column as integers.

    Raises:
        UnreadableTable: a value is not an integer, or is missing.
    """
    values = table[column].combine_chunks()
    try:
        whole = cast(values, pa.int64())
    except Uncastable as error:
        raise UnreadableTable(f"{file}, row {error.row + 1}: {column} is {error.value!r}, not an integer") from error
    if whole.null_count:
        raise UnreadableTable(f"{file}, row {_first(pc.is_null(whole))}: {column} is missing")
    numbers: Ints = whole.to_numpy()
    return numbers


def vectors(file: Path, table: pa.Table, column: str, each: int = 1) -> Vectors:
    """(N, each, D) vectors from a column of text, of lists of numbers, or of lists of such lists.

    Raises:
        UnreadableTable: a row does not have `each` vectors, or a vector does not have the length of the first, or
            holds something that is not a finite number.
    """
    values = table[column].combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.split_pattern(values, ";")
        _refuse_other_lengths(file, column, values, each, "vectors")
        values = pc.split_pattern(values.flatten(), ",")
    elif is_list(values.type) and is_list(values.type.value_type):
        _refuse_other_lengths(file, column, values, each, "vectors")
        values = values.flatten()
    elif each > 1 or not is_list(values.type):
        raise UnreadableTable(f"{file}: {column} is {values.type}, not {each} vectors per row")
    if not len(values):
        return np.empty((0, each, 0), np.float32)
    width = len(values[0]) if values[0].is_valid else 0
    _refuse_other_lengths(file, column, values, width, "numbers", each)
    try:
        numbers: Vectors = cast(values.flatten(), pa.float32()).to_numpy(zero_copy_only=False)
    except Uncastable as error:
        row = error.row // (each * width) + 1
        raise UnreadableTable(f"{file}, row {row}: {column} holds {error.value!r}, which is not a number") from error
    found = numbers.reshape(-1, each, width)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))
    if wrong.size:
        raise UnreadableTable(f"{file}, row {wrong[0] + 1}: {column} holds a value that is not a finite number")
    return found


def _refuse_other_lengths(file: Path, column: str, lists: pa.Array, length: int, what: str, each: int = 1) -> None:
    """Refuse lists, `each` of them per row, that do not have `length` elements."""
    other = pc.fill_null(pc.not_equal(pc.list_value_length(lists), length), True)
    place = pc.index(other, True).as_py()
    if place >= 0 or not length:
        found = len(lists[place]) if lists[place].is_valid else "no"
        raise UnreadableTable(f"{file}, row {max(place, 0) // each + 1}: {column} has {found} {what}, not {length}")


def text(file: Path, column: str, values: pa.Array) -> pa.Array:
    """Integers or text as text.

    Raises:
        UnreadableTable: the values are neither integers nor text.
    """
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UnreadableTable(f"{file}: {column} holds {kind}: ids are integers or text")
    return values.cast(pa.string())


def _check_columns(file: Path, columns: Sequence[str], there: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in there]:
        raise UnreadableTable(f"{file} has no column {missing[0]}: it has {', '.join(there)}")


def _first(wrong: pa.Array) -> int:
    """The row, from 1, of the first true value."""
    return int(pc.index(wrong, True).as_py()) + 1
