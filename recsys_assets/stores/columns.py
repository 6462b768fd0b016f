"""Columns of tables in the forms that several stores need: texts, vectors of one width, and the schema as a text.

The texts have recsys_pipeline's plain form: `16,10` is a list, and other languages read it by splitting. Numbers are
written with enough digits to restore the same bits. In the texts of a list, the two characters that splitting and
decoding need are percent-encoded, `,` as `%2C` and `%` as `%25`, and an empty text is a single `%`, because an empty
text alone is the empty list. A text that is not in a list stays as it is.
"""

import base64

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import is_list, offsets
from recsys_assets.datasets.names import VECTOR
from recsys_assets.stores.store import KEY, Unrepresentable

_TEXTS = pa.list_(pa.string())


def encode_texts(name: str, column: pa.Array, keys: pa.Array) -> pa.Array:
    """The texts (N,) of a column, null where it is null.

    Args:
        name: the column's name.
        column: (N,) numbers, texts, booleans, dates, times, or lists of these.
        keys: (N,) the rows' keys, for the error's message.

    Raises:
        Unrepresentable: the column is of another type, or a list has a null in it.
    """
    try:
        decode_texts(pa.array([], pa.string()), column.type)  # some types become text, but cannot be read back
        if not is_list(column.type):
            return column.cast(pa.string())
        lists = column.cast(_TEXTS)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise Unrepresentable(f"column {name}, {column.type}, from row {keys[0]} on: it has no text form") from error
    values = pc.list_flatten(lists)
    if values.null_count:
        row = pc.list_parent_indices(lists).filter(values.is_null())[0].as_py()
        raise Unrepresentable(f"column {name} of row {keys[row]}: a null in a list has no text form")
    return pc.binary_join(_replace_values(lists, _quote(values)) if _is_text(column.type.value_type) else lists, ",")


def decode_texts(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    """The column (N,) of type `kind` that was encoded as these texts."""
    if not is_list(kind):
        return texts.cast(kind)
    split = pc.split_pattern(texts, ",")
    lists = pc.if_else(pc.equal(texts, ""), pa.scalar([], _TEXTS), split)
    if _is_text(kind.value_type):
        lists = _replace_values(lists, _unquote(pc.list_flatten(lists)))
    return lists.cast(kind)


def fix_vectors(table: pa.Table) -> pa.Table:
    """Return the table with its vectors as Arrow's lists of a fixed size, of float32.

    Raises:
        Unrepresentable: there is no such column, or no row; or a vector is missing, differs in width from the first, or
            holds a number that is not finite.
    """
    if VECTOR not in table.column_names or not len(table):
        raise Unrepresentable(f"a store of vectors needs a table with a column `{VECTOR}` and at least one row")
    column = table[VECTOR].combine_chunks()
    widths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    if wrong := np.flatnonzero((widths != widths[0]) | (widths == 0)).tolist():
        raise Unrepresentable(
            f"column {VECTOR} of row {table[KEY][wrong[0]]}: {widths[wrong[0]]} numbers, the first row has {widths[0]}"
        )
    numbers = pc.list_flatten(column).cast(pa.float32())
    finite = np.isfinite(numbers.to_numpy(zero_copy_only=False)).reshape(len(table), -1).all(axis=1)
    if not finite.all():
        raise Unrepresentable(f"column {VECTOR} of row {table[KEY][int(np.argmin(finite))]}: not all finite numbers")
    place = table.column_names.index(VECTOR)
    return table.set_column(place, VECTOR, pa.FixedSizeListArray.from_arrays(numbers, int(widths[0])))


def schema_text(schema: pa.Schema) -> str:
    """A schema as a text that `parse_schema` reads."""
    return base64.b64encode(schema.serialize()).decode()


def parse_schema(text: str | bytes) -> pa.Schema:
    """The schema from its text."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def _quote(values: pa.Array) -> pa.Array:
    whole = pc.replace_substring(pc.replace_substring(values, "%", "%25"), ",", "%2C")
    return pc.if_else(pc.equal(values, ""), "%", whole)


def _unquote(values: pa.Array) -> pa.Array:
    whole = pc.replace_substring(pc.replace_substring(values, "%2C", ","), "%25", "%")
    return pc.if_else(pc.equal(values, "%"), "", whole)


def _replace_values(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """The lists with their values replaced, one for one."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return pa.ListArray.from_arrays(pa.array(offsets(lengths), pa.int32()), values, mask=lists.is_null())


def _is_text(kind: pa.DataType) -> bool:
    return kind in (pa.string(), pa.large_string())
