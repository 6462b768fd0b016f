"""Arrow types: which of them can hold each of the platform's types, and casts to the few that DuckDB reads exactly."""

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from recsys_assets.arrays import offsets
from recsys_assets.datasets.profile_parts import ColumnType

# From these sizes on, not every integer has a float of its own: a value may be a rounded neighbour.
_EXACT_BELOW = {pa.float16(): 2**11, pa.float32(): 2**24, pa.float64(): 2**53}
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
    if types.is_null(kind):
        return True
    match declared:
        case "int64" | "float32":
            return is_number(kind)
        case "string":
            return is_text(kind) or bool(types.is_integer(kind))
        case "strings":
            return is_text(kind) or (is_any_list(kind) and _can_hold_text(kind))
        case "timestamp":
            return bool(types.is_timestamp(kind) or types.is_date(kind)) or is_number(kind)


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
        values = pa.chunked_array([_to_lists(chunk) for chunk in values.chunks], pa.large_list(pa.large_string()))
    elif types.is_decimal(kind):
        values = _digits(values) if declared == "int64" else values.cast(pa.float64())
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


def _can_hold_text(lists: pa.DataType) -> bool:
    """Whether lists hold text, or can hold only nulls: a column of empty lists may be written with such a type."""
    return is_text(_value_type(lists.value_type)) or bool(types.is_null(lists.value_type))


def _to_lists(lists: pa.Array) -> pa.Array:
    """Convert lists of any layout to lists of text. Arrow's own cast from a list view loses values."""
    lengths = pc.list_value_length(lists)
    starts = pa.array(offsets(pc.fill_null(lengths, 0).to_numpy(zero_copy_only=False)), pa.int64())
    flat = to_plain(pa.chunked_array([pc.list_flatten(lists)]), "string").combine_chunks()
    return pa.LargeListArray.from_arrays(starts, flat, mask=pc.is_null(lengths))


def _digits(decimals: pa.ChunkedArray) -> pa.ChunkedArray:
    """Decimals as text, without decimal places that are all zero."""
    wide = decimals.cast(pa.decimal256(76, decimals.type.scale))
    whole = pc.trunc(wide)
    return pc.if_else(pc.equal(whole, wide), whole.cast(pa.decimal256(76, 0)).cast(pa.string()), wide.cast(pa.string()))
