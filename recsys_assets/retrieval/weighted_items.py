r"""TorchEasyRec's table for its negative sampler: items with weights and attributes.

    id:int64 <TAB> weight:float <TAB> attrs:string
    42       <TAB> 3.5          <TAB> Toy Story \x02 1995 \x02 Animation \x1d Comedy

The first line is the header, with tabs and no blanks. The attributes of an item follow the order of the
sampler's `attr_fields`; a multi-valued one has \x1d between its values; a missing one is empty. The format has
no escapes, so no value may hold one of its separators, and an empty text is read as missing.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from recsys_assets.arrays import Doubles, Ints, Uncastable, cast, list_array
from recsys_assets.datasets.duck import connect

HEADER = "id:int64\tweight:float\tattrs:string"
BETWEEN_ATTRIBUTES, BETWEEN_VALUES = "\x02", "\x1d"
_MARKS = "[\x02\x1d\t\r\n]"
_LINES = 1 << 16  # written at once


class WeightedItemsError(ValueError):
    """A table that cannot be written or read; the message names the line, or the item, that is wrong."""


class TextIds(ValueError):
    """Ids are text where integers are needed, and hashing is off."""


@dataclass(frozen=True)
class WeightedItems:
    """I items.

    Attributes:
        ids: (I,) distinct.
        weights: (I,) finite, not negative.
        attributes: a table of I rows; its columns hold text, numbers, or lists of these.
    """

    ids: Ints
    weights: Doubles
    attributes: pa.Table


def write(path: Path, items: WeightedItems) -> None:
    """Write a table.

    Raises:
        WeightedItemsError: an id is there twice, a weight is negative or not finite, or an attribute has one of
            the format's separators in it.
    """
    _check(items, f"{path}: item ", 0)
    columns = [
        _as_text(items.ids, name, items.attributes[name].combine_chunks()) for name in items.attributes.column_names
    ]
    attributes = pc.binary_join_element_wise(*columns, BETWEEN_ATTRIBUTES) if columns else ""
    ids, weights = (pa.array(values).cast(pa.string()) for values in (items.ids, items.weights))
    lines = pc.binary_join_element_wise(ids, weights, attributes, "\t")
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(HEADER + "\n")
        for first in range(0, len(lines), _LINES):
            file.writelines(f"{line}\n" for line in lines[first : first + _LINES].to_pylist())


def read(path: Path, attributes: pa.Schema, hash_ids: bool = False) -> WeightedItems:
    """Read a table.

    Args:
        path: the file.
        attributes: names and types of the attributes, in their order.
        hash_ids: the ids are text, to be hashed (`hash_texts`).

    Raises:
        WeightedItemsError: a line does not have the format, or a value does not have its type.
    """
    ids, weights, texts = _lines(path)
    columns = _attributes(path, texts, attributes)
    found = WeightedItems(
        ids=hash_texts(ids) if hash_ids else _cast(path, "the id", ids, pa.int64()).to_numpy(),
        weights=_cast(path, "the weight", weights, pa.float64()).to_numpy(),
        attributes=pa.Table.from_arrays(columns, schema=attributes),
    )
    _check(found, f"{path}, line ", 2)
    return found


def integer_ids(ids: pa.Array, hash_text: bool) -> Ints:
    """(N,) ids as integers: integers unchanged, text hash_texts.

    Raises:
        TextIds: the ids are text, and `hash_text` is off.
    """
    if pa.types.is_integer(ids.type):
        numbers: Ints = ids.cast(pa.int64()).to_numpy()
        return numbers
    if not hash_text:
        raise TextIds(f"ids such as {ids[0].as_py()!r} are text, and 64-bit integers are needed: turn hash_ids on")
    return hash_texts(ids)


def hash_texts(ids: pa.Array) -> Ints:
    """(N,) text as 64 bits: the last eight bytes of its MD5, the first of them the lowest, as a signed integer.

    It is the same on every machine and in every version. (With USE_HASH_NODE_ID=1 of TorchEasyRec, GraphLearn hashes
    in a different way; a table with these integers does not need that.)
    """
    given = pa.table({"id": ids, "place": np.arange(len(ids))})
    with connect() as connection:
        connection.register("given", given)
        found = connection.sql("SELECT md5_number_lower(id) AS hash FROM given ORDER BY place").to_arrow_table()
    hashes: Ints = found["hash"].to_numpy().view(np.int64)
    return hashes


def _check(items: WeightedItems, where: str, first: int) -> None:
    """Refuse invalid weights, and ids that are there twice."""
    wrong = np.flatnonzero(~(np.isfinite(items.weights) & (items.weights >= 0)))
    if wrong.size:
        place, weight = wrong[0], items.weights[wrong[0]]
        raise WeightedItemsError(f"{where}{place + first}: the weight is {weight}, but must be finite and not negative")
    order = np.argsort(items.ids, kind="stable")
    again = order[1:][np.diff(items.ids[order]) == 0]
    if again.size:
        place = again.min()
        raise WeightedItemsError(f"{where}{place + first}: the id {items.ids[place]} occurs a second time")


def _lines(path: Path) -> list[pa.Array]:
    """The three columns as text."""
    wrong: list[csv.InvalidRow] = []

    def refuse(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    with path.open(encoding="utf-8", newline="") as file:
        header = file.readline().rstrip("\r\n")
    names, expected = header.split("\t"), HEADER.split("\t")
    if len(names) != len(expected) or names[:2] != expected[:2]:
        raise WeightedItemsError(f"{path}, line 1: the header is {header!r}, not {HEADER!r}")
    reading = csv.ReadOptions(use_threads=False)  # threads lose the number of a wrong row
    parsing = csv.ParseOptions(delimiter="\t", quote_char=False, ignore_empty_lines=False, invalid_row_handler=refuse)
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False)
    try:
        table = csv.read_csv(path, reading, parsing, as_text)
    except pa.ArrowInvalid as error:
        if not wrong:
            raise WeightedItemsError(f"{path} cannot be read: {error}") from error
        row = wrong[0]
        found = f"{row.actual_columns} columns, not {row.expected_columns}: {row.text!r}"
        raise WeightedItemsError(f"{path}, line {row.number}: {found}") from error
    return [column.combine_chunks() for column in table.columns]


def _attributes(path: Path, texts: pa.Array, schema: pa.Schema) -> list[pa.Array]:
    """The attributes of each line, with the types of the schema."""
    if not len(schema):
        return []
    parts = pc.split_pattern(texts, BETWEEN_ATTRIBUTES)
    other = pc.index(pc.not_equal(pc.list_value_length(parts), len(schema)), True).as_py()
    if other >= 0:
        raise WeightedItemsError(
            f"{path}, line {other + 2}: {len(parts[other])} attributes, not {len(schema)} ({', '.join(schema.names)})"
        )
    columns = []
    for place, field in enumerate(schema):
        values = pc.list_element(parts, place)
        values = pc.if_else(pc.equal(values, ""), None, values)
        if pa.types.is_list(field.type):
            values = pc.split_pattern(values, BETWEEN_VALUES)
        columns.append(_cast(path, field.name, values, field.type))
    return columns


def _cast(path: Path, what: str, values: pa.Array, kind: pa.DataType) -> pa.Array:
    try:
        return cast(values, kind)
    except Uncastable as error:
        raise WeightedItemsError(
            f"{path}, line {error.row + 2}: {what} is {error.value!r}, which is not {kind}"
        ) from error


def _as_text(ids: Ints, name: str, column: pa.Array) -> pa.Array:
    """An attribute in the table's format, empty if it is missing."""
    is_list = pa.types.is_list(column.type)
    values = (column.flatten() if is_list else column).cast(pa.string())
    broken = pc.index(pc.match_substring_regex(values, _MARKS), True).as_py()
    if broken >= 0:
        place = pc.list_parent_indices(column)[broken].as_py() if is_list else broken
        found = f"item {ids[place]}: {name} is {values[broken].as_py()!r}"
        raise WeightedItemsError(f"{found}: in this format tabs, line breaks, \\x02 and \\x1d separate the values")
    if is_list:
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
        values = pc.binary_join(list_array(pc.fill_null(values, ""), lengths), BETWEEN_VALUES)
    return pc.fill_null(values, "")
