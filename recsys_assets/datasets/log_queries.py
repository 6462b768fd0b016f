"""A log as the answer to a SELECT on this machine: of a SQLite database, or over Parquet files through DuckDB.

A query can change nothing: SQLite's file is opened for reading, and DuckDB sees the files only through Arrow, on a
connection that can reach no file at all.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import duckdb
import pyarrow as pa

from recsys_assets.datasets.duck import connect_without_lake, quote_name
from recsys_assets.datasets.feed import LandingError
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.profile_parts import Column
from recsys_assets.datasets.tables import plain_table
from recsys_assets.datasets.text_files import Landed, landed_names, number_rows, refuse_columns

BATCH_ROWS = 250_000


def nested(query: str) -> str:
    """A query in brackets, from which a further SELECT can be made; it may end in a comment."""
    return f"({query.rstrip().rstrip(';')}\n)"


def sqlite_batches(file: Path, query: str, columns: dict[str, Column], _: Files) -> Iterator[Landed]:
    """The rows of a SELECT, all values as text, because a column of SQLite may hold values of any type.

    Raises:
        LandingError: the database cannot answer the query.
        LandedFileError: the answer lacks a column.
    """
    names, done = landed_names(columns), 0
    values = ", ".join(f"CAST({quote_name(name)} AS TEXT)" for name in names)
    connection = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
    try:
        # SQLite takes a quoted name that is not a column for a text, so look first.
        found = connection.execute(f"SELECT * FROM {nested(query)} LIMIT 0").description
        refuse_columns(file, names, [each[0] for each in found])
        rows = connection.execute(f"SELECT {values} FROM {nested(query)}")
        for part in iter(partial(rows.fetchmany, BATCH_ROWS), []):
            table = pa.table([pa.array(each, pa.string()) for each in zip(*part, strict=True)], list(columns))
            yield number_rows(table, [], done)
            done += len(part)
    except sqlite3.Error as error:
        raise LandingError(f"--query cannot be answered by {file}: {error}") from None
    finally:
        connection.close()


def parquet_query_batches(
    paths: Sequence[Path], shown: str, query: str, columns: dict[str, Column], files: Files
) -> Iterator[Landed]:
    """The rows of a SELECT over `source`, which has the rows of all the Parquet files, in order.

    The files must have columns of the same types; one that the first file lacks is not there.

    Raises:
        LandingError: the query is not possible, or a file cannot be read.
        LandedFileError: the answer lacks a column, or cannot hold the declared types.
    """
    import pyarrow.dataset as ds  # loads pandas: 0.5 s, which a look at the definitions does not need

    names, done = landed_names(columns), 0
    with connect_without_lake() as connection:
        try:
            connection.register("source", ds.dataset([str(path) for path in paths], format="parquet"))
            rows = connection.sql(f"SELECT * FROM {nested(query)}")
            refuse_columns(shown, names, rows.columns)
            for batch in rows.to_arrow_reader(BATCH_ROWS):
                table = pa.Table.from_batches([batch]).select(list(dict.fromkeys(names)))
                yield number_rows(plain_table(shown, table, columns, files), [], done)
                done += table.num_rows
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            said = " ".join(str(error).split())[:300]
            raise LandingError(f"--query cannot be answered by {shown}: {said}") from None
