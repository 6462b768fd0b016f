"""Table columns as text in recsys_pipeline's plain form: `16,10` is a list, and other languages read it by splitting.

Numbers are written with enough digits to restore the same bits. In the texts of a list, the two characters that
splitting and decoding need are percent-encoded, `,` as `%2C` and `%` as `%25`, and an empty text is a single `%`,
because an empty text alone is the empty list. A text that is not in a list stays as it is.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list
from recsys_assets.stores.store import Unrepresentable

_TEXTS = pa.list_(pa.string())


def encode(name: str, column: pa.Array, keys: pa.Array) -> pa.Array:
    """The texts (N,) of a column, null where it is null.

    Args:
        name: the column's name.
        column: (N,) numbers, texts, booleans, dates, times, or lists of these.
        keys: (N,) the rows' keys, for the error's message.

    Raises:
        Unrepresentable: the column is of another type, or a list has a null in it.
    """
    try:
        decode(pa.array([], pa.string()), column.type)  # some types become text, but cannot be read back
        if not is_list(column.type):
            return column.cast(pa.string())
        lists = column.cast(_TEXTS)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise Unrepresentable(f"column {name}, {column.type}, from row {keys[0]} on: it has no text form") from error
    values = pc.list_flatten(lists)
    if values.null_count:
        row = pc.list_parent_indices(lists).filter(values.is_null())[0].as_py()
        raise Unrepresentable(f"column {name} of row {keys[row]}: a null in a list has no text form")
    return pc.binary_join(_with_values(lists, _quoted(values)) if _is_text(column.type.value_type) else lists, ",")


def decode(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column (N,) of type `kind` that was encoded as these texts."""
    if not is_list(kind):
        return texts.cast(kind)
    split = pc.split_pattern(texts, ",")
    lists = pc.if_else(pc.equal(texts, ""), pa.scalar([], _TEXTS), split)
    if _is_text(kind.value_type):
        lists = _with_values(lists, _unquoted(pc.list_flatten(lists)))
    return lists.cast(kind)


def _quoted(values: pa.Array) -> pa.Array:
    whole = pc.replace_substring(pc.replace_substring(values, "%", "%25"), ",", "%2C")
    return pc.if_else(pc.equal(values, ""), "%", whole)


def _unquoted(values: pa.Array) -> pa.Array:
    whole = pc.replace_substring(pc.replace_substring(values, "%2C", ","), "%25", "%")
    return pc.if_else(pc.equal(values, "%"), "", whole)


def _with_values(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """The lists with their values replaced, one for one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.append(0, np.cumsum(lengths)), pa.int32())
    return pa.ListArray.from_arrays(offsets, values, mask=lists.is_null())


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string())
