"""Rows of a version as MongoDB documents: encoded, written where they are missing, and found with the same types.

A document holds the row under its column names, the key again as `_id`, and the bizdate. Integers are 64-bit; floats
are doubles, which hold a float32 exactly. A list of float32 is a BSON vector (binary subtype 9: the numbers as they are
in memory, a third of the size of an array), other lists are arrays, structs are sub-documents. Timestamps are UTC
dates, which count milliseconds; a finer timestamp is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list
from recsys_assets.datasets.names import BIZDATE, ID
from recsys_assets.stores.mongo.bson_columns import FLOAT32_VECTOR, encode_documents
from recsys_assets.stores.store import KEY, Unrepresentable

if TYPE_CHECKING:
    from bson.codec_options import CodecOptions
    from bson.raw_bson import RawBSONDocument
    from pymongo.collection import Collection

_ENCODED = 1000  # documents that are encoded at once
_LARGEST_DOCUMENT = 16 * 1024 * 1024  # bytes
# The next two were chosen for SecantusDB, the project's own server (`embedded.py`).
_MESSAGE = 400_000  # bytes sent at once: with 8 MB it takes 1.5 times as long, for its garbage collector
_KEYS_PER_QUERY = 50  # it takes 0.06 ms per document with 50 keys, 0.5 ms with 1,000
_DUPLICATE = 11000  # DuplicateKey
Item = TypeVar("Item")
Fields = Sequence[tuple[str, pa.Array]]


def check_table(collection: str, table: pa.Table) -> None:
    """Check a table's names and types of columns, and its keys, before anything is written.

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


def encode_rows(collection: str, bizdate: str, table: pa.Table) -> "Iterator[list[RawBSONDocument]]":
    """Encode the rows of a checked table, up to `_ENCODED` at once.

    Raises:
        Unrepresentable: a row cannot be a document; the message names column and key.
    """
    from bson.raw_bson import RawBSONDocument

    rows = max(1, min(_ENCODED, _LARGEST_DOCUMENT * len(table) // max(table.nbytes, 1)))
    for first in range(0, len(table), rows):
        block = table.slice(first, rows).combine_chunks()
        columns = {name: block[name].chunk(0) for name in block.column_names}
        fields = [(ID, columns[KEY]), *columns.items(), (BIZDATE, pa.repeat(bizdate, len(block)))]
        try:
            encoded = encode_documents(fields)
        except ValueError as error:
            raise _unfit_value(collection, fields, columns[KEY]) or error from None
        sizes = pc.binary_length(encoded).to_numpy()
        if sizes.max() > _LARGEST_DOCUMENT:
            raise Unrepresentable(
                f"{collection}: the document of {columns[KEY][int(sizes.argmax())]} has {sizes.max():,} bytes; "
                f"MongoDB holds up to {_LARGEST_DOCUMENT:,}: make its lists shorter"
            )
        yield [RawBSONDocument(each) for each in encoded.to_pylist()]


def to_table(found: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """(N rows) the documents, from `find_documents`, as a table with the columns and types that were written."""
    return pa.table([pa.array([each[field.name] for each in found], field.type) for field in schema], schema)


def write_missing(rows: "Collection[dict[str, Any]]", collection: str, bizdate: str, table: pa.Table) -> None:
    """Write those rows of a table that are not there yet, with an index on `KEY`.

    The index need not be unique, which would take 1.5 times as long: `_id`, the same text, is unique.

    Raises:
        Unrepresentable: a row cannot be held. Then no rows are left.
    """
    there = pa.array([each["_id"] for each in rows.find({}, {"_id": 1})], table[KEY].type)
    missing = table.filter(pc.invert(pc.is_in(table[KEY], value_set=there))) if len(there) else table  # no copy of it
    try:
        for block in _read_ahead(encode_rows(collection, bizdate, missing)):
            _insert(rows, block)
    except Unrepresentable:
        rows.drop()
        raise
    rows.create_index(KEY)  # after the rows: building it takes half as long as keeping it up to date


def find_documents(rows: "Collection[dict[str, Any]]", keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The documents of those keys that are there, by key."""
    rows = rows.with_options(_codec())
    parts = (keys[first : first + _KEYS_PER_QUERY] for first in range(0, len(keys), _KEYS_PER_QUERY))
    return {each["_id"]: each for part in parts for each in rows.find({"_id": {"$in": part}})}


def _unfit_value(collection: str, fields: Fields, keys: pa.Array) -> Unrepresentable | None:
    """The error for the first value that BSON cannot hold."""
    for name, column in fields:
        for place in range(len(column)):
            try:
                encode_documents([(name, column.slice(place, 1))])
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


def _codec() -> "CodecOptions[dict[str, Any]]":
    """The options for reading documents: vectors become float32 arrays."""
    from bson.binary import VECTOR_SUBTYPE, Binary
    from bson.codec_options import CodecOptions, TypeDecoder, TypeRegistry

    class Vectors(TypeDecoder):
        bson_type = Binary

        def transform_bson(self, value: Any) -> Any:
            is_vector = value.subtype == VECTOR_SUBTYPE
            return np.frombuffer(value, "<f4", offset=len(FLOAT32_VECTOR) - 1) if is_vector else value

    return CodecOptions(type_registry=TypeRegistry([Vectors()]))


def _insert(rows: "Collection[dict[str, Any]]", block: "list[RawBSONDocument]") -> None:
    """Insert documents; one that is there already was put there by another writer of the same version."""
    from pymongo.errors import BulkWriteError

    size = max(1, _MESSAGE * len(block) // sum(len(each.raw) for each in block))
    for first in range(0, len(block), size):
        try:
            rows.insert_many(block[first : first + size], ordered=False)
        except BulkWriteError as error:
            others = [each for each in error.details["writeErrors"] if each["code"] != _DUPLICATE]
            if others or error.details["writeConcernErrors"]:
                raise


def _read_ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items, each made by a second thread while the caller works on the one before."""
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(next, items, None)
        while (item := coming.result()) is not None:
            coming = thread.submit(next, items, None)
            yield item
