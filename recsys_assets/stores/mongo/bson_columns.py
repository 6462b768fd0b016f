"""Encode Arrow columns as BSON without looking at single values: the numbers' bytes are joined with names and lengths.

BSON (bsonspec.org) writes a document as its length, its elements and a NUL; an element as its type, its name and its
value; an array as a document whose names are 0, 1, 2 ... All of it is little-endian, as Arrow is on the machines that
this runs on. pymongo needs a Python object for each number first, which takes ten times as long as a fast server needs.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list, offsets

BINARY = pa.binary()
DOUBLE, STRING, DOCUMENT, ARRAY, BLOB = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"  # the types of elements
BOOL, DATE, NULL, INT64 = b"\x08", b"\x09", b"\x0a", b"\x12"
FLOAT32_VECTOR = b"\x09\x27\x00"  # begins a vector: the blob's subtype, float32, and no padding
# Dates that Python and most languages know: the years 1 to 9999.
EARLIEST, LATEST = (np.datetime64(day, "ms").astype(np.int64) for day in ("0001-01-01", "9999-12-31T23:59:59.999"))


def encode_documents(fields: Sequence[tuple[str, pa.Array]]) -> pa.Array:
    """(N,) one document per row, from columns (N,) and their names.

    Raises:
        ValueError: BSON cannot hold a value.
    """
    return _frame(_join(*(_element(_scalar(name.encode() + b"\0"), column) for name, column in fields)))


def _element(name: pa.Array | pa.Scalar, column: pa.Array) -> pa.Array:
    """(N,) type, name and value; the name, with its NUL, is the same for all or (N,)."""
    kind, values = _values(column)
    return pc.coalesce(_join(_scalar(kind), name, values), _join(_scalar(NULL), name))


def _values(column: pa.Array) -> tuple[bytes, pa.Array]:
    """The BSON type of a column, and its values (N,) as bytes; null where they are null."""
    kind = column.type
    if pa.types.is_struct(kind):
        parts = zip((field.name for field in kind), column.flatten(), strict=True)
        return DOCUMENT, _keep_nulls(column, encode_documents(list(parts)))
    if is_list(kind):
        return (BLOB, _vectors(column)) if pa.types.is_float32(kind.value_type) else (ARRAY, _arrays(column))
    return _plain_values(column)


def _plain_values(column: pa.Array) -> tuple[bytes, pa.Array]:
    kind = column.type
    if pa.types.is_integer(kind):
        return INT64, _bytes(column.cast(pa.int64()))
    if pa.types.is_floating(kind):
        return DOUBLE, _bytes(column.cast(pa.float64()))
    if pa.types.is_timestamp(kind):
        return DATE, _dates(column)
    if pa.types.is_boolean(kind):
        return BOOL, pc.if_else(column, _scalar(b"\1"), _scalar(b"\0"))
    return STRING, _texts(column)


def _texts(column: pa.Array) -> pa.Array:
    text = column.cast(BINARY).cast(pa.string()).cast(BINARY)  # the cast back to text validates UTF-8
    return _join(_bytes(pc.add(pc.binary_length(text), 1).cast(pa.int32())), text, _scalar(b"\0"))


def _dates(column: pa.Array) -> pa.Array:
    numbers = column.cast(pa.timestamp("ms", column.type.tz)).cast(pa.int64())
    if pc.any(pc.or_(pc.less(numbers, EARLIEST), pc.greater(numbers, LATEST))).as_py():
        raise ValueError("the year of a date must be from 1 to 9999")
    return _bytes(numbers)


def _arrays(column: pa.Array) -> pa.Array:
    starts, flat = _offsets(column), column.flatten()
    place = np.arange(len(flat)) - np.repeat(starts[:-1], np.diff(starts))
    names = pa.array([b"%d\0" % number for number in range(place.max(initial=-1) + 1)], BINARY)
    elements = pa.ListArray.from_arrays(pa.array(starts), _element(names.take(pa.array(place)), flat))
    return _keep_nulls(column, _frame(pc.binary_join(elements, _scalar(b""))))


def _vectors(column: pa.Array) -> pa.Array:
    starts, flat = _offsets(column) * np.int32(4), column.flatten()
    if flat.null_count:
        raise ValueError("a vector cannot hold null")
    buffers = [None, pa.py_buffer(starts), pa.py_buffer(np.ascontiguousarray(flat.to_numpy()))]
    numbers = pa.Array.from_buffers(BINARY, len(column), buffers)
    length = pc.add(pc.binary_length(numbers), 2).cast(pa.int32())
    return _keep_nulls(column, _join(_bytes(length), _scalar(FLOAT32_VECTOR), numbers))


def _offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    """(N + 1,) the offsets at which the lists begin and end in the flattened column."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    return offsets(lengths).astype(np.int32)


def _frame(body: pa.Array) -> pa.Array:
    """Elements (N,) as documents: with the length, which counts itself, in front and a NUL at the end."""
    return _join(_bytes(pc.add(pc.binary_length(body), 5).cast(pa.int32())), body, _scalar(b"\0"))


def _bytes(numbers: pa.Array) -> pa.Array:
    """The bytes of the numbers, as they are in memory."""
    return numbers.view(pa.binary(numbers.type.bit_width // 8)).cast(BINARY)


def _keep_nulls(column: pa.Array, values: pa.Array) -> pa.Array:
    """The values, null where the column is null."""
    return pc.if_else(column.is_valid(), values, pa.scalar(None, BINARY)) if column.null_count else values


def _join(*parts: pa.Array | pa.Scalar) -> pa.Array:
    return pc.binary_join_element_wise(*parts, _scalar(b""))


def _scalar(value: bytes) -> pa.Scalar:
    return pa.scalar(value, BINARY)
