"""Rows that are in a table, in one Parquet file, or in several that follow one another, such as one for each day."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

RowFiles: TypeAlias = Path | Sequence[Path]
RowSource: TypeAlias = pa.Table | RowFiles


def files_of(source: RowFiles) -> list[Path]:
    """The files, the first rows first."""
    return [source] if isinstance(source, Path) else list(source)


def column_names(source: RowSource) -> list[str]:
    """The columns of the rows, in order."""
    names = source.column_names if isinstance(source, pa.Table) else pq.read_schema(files_of(source)[0]).names
    return list(names)


def read_columns(source: RowSource, columns: Collection[str]) -> pa.Table:
    """Those of the columns that the rows have, in the order of `columns`."""
    there = set(column_names(source))
    chosen = [column for column in columns if column in there]
    if isinstance(source, pa.Table):
        return source.select(chosen)
    # Permissive, because DuckDB declares a column as not null in some files and not in others.
    tables = [pq.read_table(file, columns=chosen) for file in files_of(source)]
    return pa.concat_tables(tables, promote_options="permissive")
