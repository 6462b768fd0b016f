"""Arrow types: which of them can hold each of the platform's types, and casts to the few that DuckDB reads exactly."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from recsys_assets.arrays import offsets
from recsys_assets.datasets.profile_parts import ColumnType

# From these sizes on, not every integer has a float of its own: a value may be a rounded neighbour.
_EXACT_BELOW = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
_EXACT = ("int64", "int32", "float64")  # types that take decimals by their digits; Arrow rounds a decimal twice
_TEXTS = (types.is_string, types.is_large_string, types.is_string_view)
_BINARY = (types.is_binary, types.is_large_binary, types.is_binary_view)
_LISTS = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)


def is_text(kind: pa.DataType) -> bool:
    """Whether a column is text; bytes count, as older writers of Parquet do not mark theirs as text."""
    return any(test(kind) for test in (*_TEXTS, *_BINARY))


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers."""
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind))


def is_any_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists, in any layout."""
    return any(test(kind) for test in _LISTS)


def can_hold(kind: pa.DataType, declared: ColumnType) -> bool:
    """Whether a Parquet column of type `kind` can hold values of the declared type."""
    kind = _value_type(kind)
    return bool(types.is_null(kind)) or _HOLDS[declared](kind)


def _is_time(kind: pa.DataType) -> bool:
    return bool(types.is_timestamp(kind) or types.is_date(kind))


def _lists_of(inner: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    """The test for lists of what is wanted, or of nulls: a column of empty lists may be written with such a type."""

    def are_lists(kind: pa.DataType) -> bool:
        return is_any_list(kind) and (inner(_value_type(kind.value_type)) or bool(types.is_null(kind.value_type)))

    return are_lists


def _any_of(*tests: Callable[[pa.DataType], bool]) -> Callable[[pa.DataType], bool]:
    return lambda kind: any(test(kind) for test in tests)


_HOLDS: dict[ColumnType, Callable[[pa.DataType], bool]] = {
    "int64": is_number,
    "int32": is_number,
    "float32": is_number,
    "float64": is_number,
    "bool": _any_of(types.is_boolean, is_number, is_text),
    "date": _any_of(_is_time, is_text),
    "timestamp": _any_of(_is_time, is_number),
    "string": _any_of(is_text, types.is_integer),
    "text": _any_of(is_text, types.is_integer),
    "strings": _any_of(is_text, _lists_of(is_text)),
    "path": _any_of(is_text, _lists_of(is_text)),
    "vector": _any_of(is_text, _lists_of(is_number)),
}


def to_plain(values: pa.ChunkedArray, declared: ColumnType) -> pa.ChunkedArray:
    """The same values as text, lists of text, numbers or timestamps that DuckDB reads as they are.

    Raises:
        pa.ArrowException: bytes are not text, or a timestamp is out of the range of microseconds.
    """
    kind = _value_type(values.type)
    if isinstance(values.type, pa.BaseExtensionType):
        values = pa.chunked_array([chunk.storage for chunk in values.chunks], kind)
    if values.type != kind:
        values = values.cast(kind)
    if is_text(kind) or types.is_null(kind):
        values = values.cast(pa.large_string())
        values.validate(full=True)
    elif is_any_list(kind):
        inner = pa.float64() if declared == "vector" else pa.large_string()
        values = pa.chunked_array([_to_lists(chunk, inner) for chunk in values.chunks], pa.large_list(inner))
    elif types.is_decimal(kind):
        values = _digits(values) if declared in _EXACT else values.cast(pa.float64())
    elif types.is_float16(kind):
        values = values.cast(pa.float32())
    elif types.is_timestamp(kind) or types.is_date(kind):
        target = pa.timestamp("us", kind.tz if types.is_timestamp(kind) else None)
        values = values.cast(options=pc.CastOptions(target_type=target, allow_time_truncate=True))
    return values


def largest_inexact(values: pa.ChunkedArray) -> float | None:
    """The largest value of a column of floats, if floats of its size cannot hold every integer."""
    if not types.is_floating(values.type) or not len(values):
        return None
    numbers = values.cast(pa.float64())
    size = pc.max(pc.abs(pc.if_else(pc.is_finite(numbers), numbers, None))).as_py()
    return size if size is not None and size >= _EXACT_BELOW[values.type] else None


def _value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values themselves: that of a dictionary's entries or of an extension's storage."""
    if isinstance(kind, pa.BaseExtensionType):
        return _value_type(kind.storage_type)
    return _value_type(kind.value_type) if types.is_dictionary(kind) else kind


def _to_lists(lists: pa.Array, inner: pa.DataType) -> pa.Array:
    """Convert lists of any layout to lists of text or numbers. Arrow's own cast from a list view loses values."""
    lengths = pc.list_value_length(lists)
    starts = pa.array(offsets(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)), pa.int64())
    plain = to_plain(pa.chunked_array([pc.list_flatten(lists)]), "float64" if inner == pa.float64() else "string")
    flat = plain.cast(inner).combine_chunks()
    return pa.LargeListArray.from_arrays(starts, flat, mask=pc.is_null(lengths))


def _digits(decimals: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals as text, without decimal places that are all zero."""
    wide = decimals.cast(pa.decimal256(76, decimals.type.scale))
    whole = pc.trunc(wide)
    return pc.if_else(pc.equal(whole, wide), whole.cast(pa.decimal256(76, 0)).cast(pa.string()), wide.cast(pa.string()))
