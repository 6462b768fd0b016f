"""Embedding tables of other systems: vectors as lists of numbers or as text.

In text, commas separate the numbers of a vector, and semicolons the vectors of a row. Ids become text, whatever they
are in the file, so that the 7 of one table is the "7" of another.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Ints, Uncastable, Vectors, cast, is_list, list_array
from recsys_assets.tzrec.table_files import UnreadableTable


def ids(file: Path, table: pa.Table, column: str) -> pa.Array:
    """(N,) the column as text.

    Raises:
        UnreadableTable: it holds neither integers nor text, or an id is missing.
    """
    values = text(file, column, table[column].combine_chunks())
    if values.null_count:
        raise UnreadableTable(f"{file}, row {_first(pc.is_null(values))}: {column} is missing")
    return values


def id_lists(file: Path, table: pa.Table, column: str) -> pa.Array:
    """(N,) lists of text, from a column of lists, of text separated by commas, or of single ids.

    An empty text or a missing value gives an empty list.

    Raises:
        UnreadableTable: the ids are neither integers nor text.
    """
    values = table[column].combine_chunks()
    if not is_list(values.type):
        values = pc.split_pattern(text(file, column, values), ",")
    flat, row = text(file, column, values.flatten()), pc.list_parent_indices(values).to_numpy()
    kept = pc.fill_null(pc.not_equal(flat, ""), False)
    counts = np.bincount(row[kept.to_numpy(zero_copy_only=False)], minlength=len(values))
    return list_array(flat.filter(kept), counts)


def integers(file: Path, table: pa.Table, column: str) -> Ints:
    """(N,) the column as integers.

    Raises:
        UnreadableTable: a value is not an integer, or is missing.
    """
    values = table[column].combine_chunks()
    try:
        whole = cast(values, pa.int64())
    except Uncastable as error:
        raise UnreadableTable(f"{file}, row {error.row + 1}: {column} is {error.value!r}, not an integer") from error
    if whole.null_count:
        raise UnreadableTable(f"{file}, row {_first(pc.is_null(whole))}: {column} is missing")
    numbers: Ints = whole.to_numpy()
    return numbers


def vectors(file: Path, table: pa.Table, column: str, each: int = 1) -> Vectors:
    """(N, each, D) vectors from a column of text, of lists of numbers, or of lists of such lists.

    Raises:
        UnreadableTable: a row does not have `each` vectors, or a vector does not have the length of the first, or
            holds something that is not a finite number.
    """
    values = table[column].combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.split_pattern(values, ";")
        _refuse_other_lengths(file, column, values, each, "vectors")
        values = pc.split_pattern(values.flatten(), ",")
    elif is_list(values.type) and is_list(values.type.value_type):
        _refuse_other_lengths(file, column, values, each, "vectors")
        values = values.flatten()
    elif each > 1 or not is_list(values.type):
        raise UnreadableTable(f"{file}: {column} is {values.type}, not {each} vectors per row")
    if not len(values):
        return np.empty((0, each, 0), np.float32)
    width = len(values[0]) if values[0].is_valid else 0
    _refuse_other_lengths(file, column, values, width, "numbers", each)
    try:
        numbers: Vectors = cast(values.flatten(), pa.float32()).to_numpy(zero_copy_only=False)
    except Uncastable as error:
        row = error.row // (each * width) + 1
        raise UnreadableTable(f"{file}, row {row}: {column} holds {error.value!r}, which is not a number") from error
    found = numbers.reshape(-1, each, width)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=(1, 2)))
    if wrong.size:
        raise UnreadableTable(f"{file}, row {wrong[0] + 1}: {column} holds a value that is not a finite number")
    return found


def _refuse_other_lengths(file: Path, column: str, lists: pa.Array, length: int, what: str, each: int = 1) -> None:
    """Refuse lists, `each` of them per row, that do not have `length` elements."""
    other = pc.fill_null(pc.not_equal(pc.list_value_length(lists), length), True)
    place = pc.index(other, True).as_py()
    if place >= 0 or not length:
        found = len(lists[place]) if lists[place].is_valid else "no"
        raise UnreadableTable(f"{file}, row {max(place, 0) // each + 1}: {column} has {found} {what}, not {length}")


def text(file: Path, column: str, values: pa.Array) -> pa.Array:
    """Integers or text as text.

    Raises:
        UnreadableTable: the values are neither integers nor text.
    """
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise UnreadableTable(f"{file}: {column} holds {kind}: ids are integers or text")
    return values.cast(pa.string())


def _first(wrong: pa.Array) -> int:
    """The row, from 1, of the first true value."""
    return int(pc.index(wrong, True).as_py()) + 1
