"""Columns of tables as PostgreSQL has them, and rows as COPY takes them."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list
from recsys_assets.datasets.names import VECTOR
from recsys_assets.stores.store import Unrepresentable

ROWS_AT_ONCE = 10_000  # that are in memory as Python's objects
_TYPES = {
    pa.string(): "text",
    pa.large_string(): "text",
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.date32(): "date",
}


def column_type(name: str, kind: pa.DataType) -> str:
    """The type of a column.

    Raises:
        Unrepresentable: there is none for it.
    """
    if name == VECTOR and pa.types.is_fixed_size_list(kind):
        return f"vector({kind.list_size})"
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{column_type(name, kind.value_type)}[]"
    if pa.types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    if kind not in _TYPES:
        raise Unrepresentable(f"column {name}: PostgreSQL has no type for {kind}")
    return _TYPES[kind]


def to_rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of a table, a vector as pgvector's text.

    Raises:
        Unrepresentable: a text holds the sign NUL.
    """
    for name in table.column_names:
        _refuse_nul(name, table[name])
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        columns = [_values(name, column) for name, column in zip(table.column_names, batch.columns, strict=True)]
        yield from zip(*columns, strict=True)


def _refuse_nul(name: str, column: pa.ChunkedArray) -> None:
    texts = pc.list_flatten(column) if is_list(column.type) else column
    if pa.types.is_string(texts.type) and pc.any(pc.match_substring(texts, "\0")).as_py():
        raise Unrepresentable(f"column {name}: a text holds the sign NUL, which PostgreSQL does not take")


def _values(name: str, column: pa.Array) -> list[Any]:
    if name == VECTOR and pa.types.is_fixed_size_list(column.type):
        # Python's shortest form of a float32 as a double is exact.
        return [str(vector) for vector in column.to_pylist()]
    found: list[Any] = column.to_pylist()
    return found
