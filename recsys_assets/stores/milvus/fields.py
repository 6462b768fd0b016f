"""Arrow columns as Milvus' fields: which types it holds, and how long a text and an array may be."""

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list
from recsys_assets.datasets.names import VECTOR
from recsys_assets.stores.store import KEY, Unrepresentable

if TYPE_CHECKING:
    from pymilvus import CollectionSchema
    from pymilvus.milvus_client import IndexParams

_TEXT_BYTES, _ARRAY_ENTRIES = 65_535, 4096  # of a text, and of an array, at most
_MILVUS_TYPES = {
    pa.bool_(): "BOOL",
    pa.int8(): "INT8",
    pa.int16(): "INT16",
    pa.int32(): "INT32",
    pa.int64(): "INT64",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
}


def collection_schema(table: pa.Table) -> "CollectionSchema":
    """The fields of a table whose column `vector` is of a fixed size, with `KEY` as the primary key.

    Raises:
        Unrepresentable: Milvus cannot hold a column's type, or a row exceeds its bounds.
    """
    from pymilvus import CollectionSchema, FieldSchema

    fields = [FieldSchema(column.name, **_field(column, table)) for column in table.schema]
    return CollectionSchema(fields, enable_dynamic_field=False)


def flat_index() -> "IndexParams":
    """An index that compares a query with all vectors, by inner product."""
    from pymilvus.milvus_client import IndexParams

    index = IndexParams()
    index.add_index(VECTOR, index_type="FLAT", metric_type="IP")
    return index


def _field(column: pa.Field, table: pa.Table) -> dict[str, Any]:
    """Milvus' options for a column."""
    from pymilvus import DataType

    kind, rows = column.type, table[column.name]
    if column.name == VECTOR:
        return {"dtype": DataType.FLOAT_VECTOR, "dim": kind.list_size}
    if is_list(kind):
        _refuse_longer(column.name, table[KEY], pc.list_value_length(rows), _ARRAY_ENTRIES, "entries")
        entries = {"element_type": DataType[_type_name(column.name, kind.value_type)], "max_capacity": _ARRAY_ENTRIES}
        values, keys = pc.list_flatten(rows), table[KEY].take(pc.list_parent_indices(rows))
        if values.null_count:
            raise Unrepresentable(f"column {column.name} of row {keys.filter(values.is_null())[0]}: a null in a list")
        return {"dtype": DataType.ARRAY, "nullable": True, **entries, **_text_bound(column.name, keys, values)}
    scalar = {"dtype": DataType[_type_name(column.name, kind)], **_text_bound(column.name, table[KEY], rows)}
    return {**scalar, "is_primary": True} if column.name == KEY else {**scalar, "nullable": True}


def _type_name(column: str, kind: pa.DataType) -> str:
    """Milvus' name of a scalar type."""
    if kind not in _MILVUS_TYPES:
        raise Unrepresentable(f"column {column}: Milvus has no type for {kind}: cast it, to text for instance")
    return _MILVUS_TYPES[kind]


def _text_bound(column: str, keys: pa.ChunkedArray, values: pa.ChunkedArray) -> dict[str, int]:
    """The bound on the length of texts, if the values are texts; `keys` are the keys of their rows."""
    if _MILVUS_TYPES[values.type] != "VARCHAR":
        return {}
    _refuse_longer(column, keys, pc.binary_length(values), _TEXT_BYTES, "bytes")
    return {"max_length": _TEXT_BYTES}


def _refuse_longer(column: str, keys: pa.ChunkedArray, sizes: pa.ChunkedArray, most: int, unit: str) -> None:
    longer = keys.filter(pc.greater(sizes, most))
    if len(longer):
        raise Unrepresentable(f"column {column} of row {longer[0]}: Milvus holds at most {most:,} {unit}")
