"""Rows of Arrow tables as MongoDB documents, and back with the same types.

A document is the row under its column names, with the key as `_id` too and the bizdate. Numbers keep their width:
integers are 64-bit, float32 becomes a double, which holds it exactly. A list of float32 becomes a BSON vector (binary
subtype 9: the numbers as they lie in memory, a third of the size of an array), other lists become arrays, structs
sub-documents, and timestamps UTC dates, which count whole milliseconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.stores.store import KEY, Unrepresentable

if TYPE_CHECKING:
    from bson.raw_bson import RawBSONDocument

ID, BIZDATE = "_id", "bizdate"  # what a document holds beside the columns
BATCH = 1000  # documents
LARGEST = 16 * 1024 * 1024  # bytes of a document
_FLOAT32 = b"\x27\x00"  # begins a vector: the type of its numbers, and no padding


def check(collection: str, table: pa.Table) -> None:
    """Look at the columns' names and types and at the keys, before anything is written.

    Raises:
        Unrepresentable: no document can hold them.
    """
    names = table.column_names
    for name in names:
        if name in (ID, BIZDATE) or names.count(name) > 1:
            raise Unrepresentable(f"{collection}: a document has one field {name}: rename the column")
    for field in table.schema:
        reason = _obstacle(field)
        if reason:
            raise Unrepresentable(f"{collection}: MongoDB cannot hold column {field.name}: {reason}")
    counted = pc.value_counts(table[KEY].combine_chunks())
    unfit = counted.filter(pc.or_(pc.greater(counted.field("counts"), 1), pc.is_null(counted.field("values"))))
    if len(unfit):
        raise Unrepresentable(f"{collection}: column {KEY} must tell rows apart: {unfit[0].as_py()}")


def documents(collection: str, bizdate: str, table: pa.Table) -> "Iterator[list[RawBSONDocument]]":
    """The rows of a table that was checked, encoded, in batches of `BATCH`.

    Raises:
        Unrepresentable: a row cannot be a document; names column and key.
    """
    from bson import encode
    from bson.raw_bson import RawBSONDocument

    for first in range(0, len(table), BATCH):
        rows = table.slice(first, BATCH).combine_chunks()
        keys = _column(collection, rows, KEY, range(first, first + len(rows)))
        columns = [keys, *(_column(collection, rows, name, keys) for name in rows.column_names)]
        names = [ID, *rows.column_names, BIZDATE]
        encoded = [encode(dict(zip(names, (*row, bizdate), strict=True))) for row in zip(*columns, strict=True)]
        for key, document in zip(keys, encoded, strict=True):
            if len(document) > LARGEST:
                raise Unrepresentable(
                    f"{collection}: the document of {key} has {len(document):,} bytes; "
                    f"MongoDB holds up to {LARGEST:,}: make its lists shorter"
                )
        yield [RawBSONDocument(document) for document in encoded]


def to_table(found: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """(N rows) documents with the columns and types of the table that they were made of."""
    columns = []
    for field in schema:
        values = [document[field.name] for document in found]
        if _is_vector(field.type):
            values = [None if each is None else np.frombuffer(each, "<f4", offset=len(_FLOAT32)) for each in values]
        columns.append(pa.array(values, field.type))
    return pa.table(columns, schema)


def _column(collection: str, rows: pa.Table, name: str, keys: Sequence[Any]) -> list[Any]:
    """A column's values as BSON takes them; `keys` names the rows when one of them cannot be had."""
    column = rows[name].combine_chunks()
    values = _vectors if _is_vector(column.type) else _plain
    try:
        return values(column)
    except (ValueError, OverflowError):
        for place, key in enumerate(keys):
            try:
                values(column.slice(place, 1))
            except (ValueError, OverflowError) as error:
                raise Unrepresentable(
                    f"{collection}: MongoDB cannot hold column {name} of {key}: {error}: change or leave out the value"
                ) from error
        raise


def _plain(array: pa.Array) -> list[Any]:
    """Values of an array, of any type that `_obstacle` lets pass."""
    from bson.int64 import Int64

    kind = array.type
    if pa.types.is_integer(kind):
        return [None if value is None else Int64(value) for value in array.cast(pa.int64()).to_pylist()]
    if pa.types.is_timestamp(kind):
        dates: list[Any] = array.cast(pa.timestamp("ms", kind.tz)).cast(pa.timestamp("ms")).to_pylist()
        return dates
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        parts = [_plain(part) for part in array.flatten()]
        there = array.is_valid().to_pylist()
        return [
            dict(zip(names, values, strict=True)) if valid else None
            for valid, *values in zip(there, *parts, strict=True)
        ]
    if _is_list(kind):
        return _cut(_plain(array.flatten()), array)
    values: list[Any] = array.to_pylist()
    return values


def _vectors(array: pa.Array) -> list[Any]:
    """Lists of float32 as BSON vectors."""
    from bson.binary import VECTOR_SUBTYPE, Binary

    numbers = array.flatten()
    if numbers.null_count:
        raise ValueError("a vector has no place for null")
    cut = _cut(numbers.to_numpy().astype("<f4", copy=False), array)
    return [None if part is None else Binary(_FLOAT32 + part.tobytes(), VECTOR_SUBTYPE) for part in cut]


def _cut(flat: Any, array: pa.Array) -> list[Any]:
    """The flattened values of an array of lists as one piece a list; None for a list that is null."""
    lengths = pc.list_value_length(array)
    ends = np.cumsum(pc.fill_null(lengths, 0).to_numpy()).tolist()
    pieces = zip([0, *ends[:-1]], ends, lengths.is_valid().to_pylist(), strict=True)
    return [flat[start:end] if there else None for start, end, there in pieces]


def _obstacle(field: pa.Field) -> str | None:
    """Why a field cannot be held, or None."""
    name, kind = field.name, field.type
    if not name or any(sign in name for sign in "$.\0"):
        return "a field's name is not empty and has no dollar, dot or NUL"
    inner = list(kind) if pa.types.is_struct(kind) else [kind.value_field] if _is_list(kind) else []
    if inner:
        return next(filter(None, map(_obstacle, inner)), None)
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_timestamp)
    if any(test(kind) for test in (*tests, pa.types.is_string, pa.types.is_large_string)):
        return None
    return f"its type is {kind}: cast it"


def _is_list(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list))


def _is_vector(kind: pa.DataType) -> bool:
    return _is_list(kind) and bool(pa.types.is_float32(kind.value_type))
