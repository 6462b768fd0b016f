"""Rows of Arrow tables as MongoDB documents, and back with the same types.

A document holds the row under its column names, the key again as `_id`, and the bizdate. Integers are 64-bit; floats
are doubles, which hold a float32 exactly. A list of float32 is a BSON vector (binary subtype 9: the numbers as they are
in memory, a third of the size of an array), other lists are arrays, structs are sub-documents. Timestamps are UTC
dates, which count milliseconds; a finer timestamp is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list
from recsys_assets.datasets import names
from recsys_assets.stores.bson_columns import VECTOR, document
from recsys_assets.stores.store import KEY, Unrepresentable

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument

ID, BIZDATE = names.ID, names.BIZDATE  # what a document holds in addition to the columns
BLOCK = 1000  # documents that are encoded at once
LARGEST = 16 * 1024 * 1024  # bytes of a document
Fields = Sequence[tuple[str, pa.Array]]


def check(collection: str, table: pa.Table) -> None:
    """Check the columns' names and types, and the keys, before anything is written.

    Raises:
        Unrepresentable: documents cannot hold them.
    """
    given = table.column_names
    for name in given:
        if name in (ID, BIZDATE) or given.count(name) > 1:
            raise Unrepresentable(f"{collection}: a document has only one field {name}: rename the column")
    for field in table.schema:
        reason = _obstacle(field)
        if reason:
            raise Unrepresentable(f"{collection}: MongoDB cannot hold column {field.name}: {reason}")
    counted = pc.value_counts(table[KEY].combine_chunks())
    unfit = counted.filter(pc.or_(pc.greater(counted.field("counts"), 1), pc.is_null(counted.field("values"))))
    if len(unfit):
        raise Unrepresentable(f"{collection}: column {KEY} must be distinct and not null: {unfit[0].as_py()}")


def documents(collection: str, bizdate: str, table: pa.Table) -> "Iterator[list[RawBSONDocument]]":
    """Encode the rows of a checked table, up to `BLOCK` at once.

    Raises:
        Unrepresentable: a row cannot be a document; the message names column and key.
    """
    from bson.raw_bson import RawBSONDocument

    rows = max(1, min(BLOCK, LARGEST * len(table) // max(table.nbytes, 1)))
    for first in range(0, len(table), rows):
        block = table.slice(first, rows).combine_chunks()
        columns = {name: block[name].chunk(0) for name in block.column_names}
        fields = [(ID, columns[KEY]), *columns.items(), (BIZDATE, pa.repeat(bizdate, len(block)))]
        try:
            encoded = document(fields)
        except ValueError as error:
            raise _unfit(collection, fields, columns[KEY]) or error from None
        sizes = pc.binary_length(encoded).to_numpy()
        if sizes.max() > LARGEST:
            raise Unrepresentable(
                f"{collection}: the document of {columns[KEY][int(sizes.argmax())]} has {sizes.max():,} bytes; "
                f"MongoDB holds up to {LARGEST:,}: make its lists shorter"
            )
        yield [RawBSONDocument(each) for each in encoded.to_pylist()]


def to_table(found: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """(N rows) the documents, read with `codec`, as a table with the columns and types that were written."""
    return pa.table([pa.array([each[field.name] for each in found], field.type) for field in schema], schema)


def codec() -> "CodecOptions[dict[str, Any]]":
    """The options for reading documents: vectors become float32 arrays."""
    from bson.binary import VECTOR_SUBTYPE, Binary
    from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry

    class Vectors(TypeDecoder):
        bson_type = Binary

        def transform_bson(self, value: Any) -> Any:
            is_vector = value.subtype == VECTOR_SUBTYPE
            return np.frombuffer(value, "<f4", offset=len(VECTOR) - 1) if is_vector else value

    return CodecOptions(type_registry=TypeRegistry([Vectors()]))


def _unfit(collection: str, fields: Fields, keys: pa.Array) -> Unrepresentable | None:
    """The error for the first value that BSON cannot hold."""
    for name, column in fields:
        for place in range(len(column)):
            try:
                document([(name, column.slice(place, 1))])
            except ValueError as error:
                row = f"row {place}" if name in (ID, KEY) else keys[place]
                return Unrepresentable(
                    f"{collection}: MongoDB cannot hold column {name} of {row}: {error}: change it or leave it out"
                )
    return None


def _obstacle(field: pa.Field) -> str | None:
    """Why a field cannot be held, or None."""
    name, kind = field.name, field.type
    if not name or any(sign in name for sign in "$.\0"):
        return "a field's name must not be empty or contain a dollar, dot or NUL"
    inner = list(kind) if pa.types.is_struct(kind) else [kind.value_field] if is_list(kind) else []
    if inner:
        return next(filter(None, map(_obstacle, inner)), None)
    known = ("integer", "floating", "boolean", "timestamp", "string", "large_string")
    return None if any(getattr(pa.types, f"is_{each}")(kind) for each in known) else f"its type is {kind}: cast it"
