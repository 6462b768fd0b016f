"""TorchEasyRec's table of weighted items: exact bytes, writing and reading back, and faults reported by line."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recsys_assets.retrieval.weighted_items import (
    TextIds,
    WeightedItems,
    WeightedItemsError,
    hash_texts,
    integer_ids,
    read,
    write,
)

ATTRIBUTES = pa.table(
    {
        "title": ['Toy "Story"', None, "Amélie"],
        "year": pa.array([1995, None, 2001], pa.int64()),
        "genres": pa.array([["Animation", "Comedy"], None, ["Romance"]], pa.list_(pa.string())),
        "rating": pa.array([4.25, 1 / 3, None], pa.float32()),
    }
)
ITEMS = WeightedItems(np.array([42, -7, 2**63 - 1]), np.array([3.5, 0.0, 1 / 3]), ATTRIBUTES)
TEXT = (
    "id:int64\tweight:float\tattrs:string\n"
    '42\t3.5\tToy "Story"\x021995\x02Animation\x1dComedy\x024.25\n'
    "-7\t0\t\x02\x02\x020.33333334\n"
    "9223372036854775807\t0.3333333333333333\tAmélie\x022001\x02Romance\x02\n"
)
HEADER = TEXT.splitlines()[0] + "\n"


def table(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "items.tsv"
    file.write_text(text, encoding="utf-8")
    return file


def test_what_is_written_is_the_format(tmp_path: Path) -> None:
    write(tmp_path / "items.tsv", ITEMS)
    assert (tmp_path / "items.tsv").read_bytes().decode() == TEXT


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    found = read(table(tmp_path, TEXT), ATTRIBUTES.schema)
    np.testing.assert_array_equal(found.ids, ITEMS.ids)
    np.testing.assert_array_equal(found.weights, ITEMS.weights)
    assert found.attributes.equals(ATTRIBUTES)


def test_attributes_take_the_names_and_types_that_are_asked_for(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.string()), ("b", pa.float64()), ("c", pa.string()), ("d", pa.string())])
    found = read(table(tmp_path, TEXT.replace("attrs:string", "feature:string")), schema).attributes
    assert found["b"].to_pylist() == [1995.0, None, 2001.0]
    assert found["c"].to_pylist() == ["Animation\x1dComedy", None, "Romance"]


def test_items_may_have_no_attributes(tmp_path: Path) -> None:
    bare = WeightedItems(np.array([1, 2]), np.array([1.0, 2.0]), pa.table({}))
    write(tmp_path / "items.tsv", bare)
    assert (tmp_path / "items.tsv").read_text() == HEADER + "1\t1\t\n2\t2\t\n"
    assert read(tmp_path / "items.tsv", pa.schema([])).ids.tolist() == [1, 2]


def test_a_hundred_thousand_items_come_back(tmp_path: Path) -> None:
    numbers = np.arange(100_000)
    attributes = pa.table({"name": pa.array(numbers).cast(pa.string())})
    write(tmp_path / "items.tsv", WeightedItems(numbers, np.sqrt(numbers), attributes))
    found = read(tmp_path / "items.tsv", attributes.schema)
    np.testing.assert_array_equal(found.weights, np.sqrt(numbers))
    assert found.attributes.equals(attributes)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("1\t2\ta\n3\t4\n", "line 3: 2 columns, not 3: '3\\\\t4'"),
        ("1\t2\ta\n\n", "line 3: the id is ''"),
        ("1\t2\ta\n2\tx\ta\n", "line 3: the weight is 'x'"),
        ("1\t-2\ta\n", "line 2: the weight is -2.0"),
        ("1\tnan\ta\n", "line 2: the weight is nan"),
        ("1\tinf\ta\n", "line 2: the weight is inf"),
        ("1\t2\ta\n1.5\t2\ta\n", "line 3: the id is '1.5', which is not int64"),
        ("99999999999999999999\t2\ta\n", "line 2: the id is '99999999999999999999'"),
        ("1\t2\ta\n2\t2\ta\n1\t3\tb\n", "line 4: the id 1 occurs a second time"),
        ("1\t2\ta\n2\t2\ta\x02b\n", r"line 3: 2 attributes, not 1 \(name\)"),
    ],
)
def test_a_wrong_line_is_named(lines: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(WeightedItemsError, match=message):
        read(table(tmp_path, HEADER + lines), pa.schema([("name", pa.string())]))


def test_a_wrong_header_or_attribute_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightedItemsError, match=r"line 1: the header is 'id\\tweight\\tattrs'"):
        read(table(tmp_path, "id\tweight\tattrs\n"), pa.schema([]))
    with pytest.raises(WeightedItemsError, match="line 1"):
        read(table(tmp_path, ""), pa.schema([]))
    with pytest.raises(WeightedItemsError, match="line 3: year is '19x', which is not int64"):
        read(table(tmp_path, HEADER + "1\t1\t7\n2\t1\t19x\n"), pa.schema([("year", pa.int64())]))


@pytest.mark.parametrize("mark", ["\t", "\n", "\r", "\x02", "\x1d"])
def test_values_with_the_marks_of_the_format_are_refused(mark: str, tmp_path: Path) -> None:
    for values in (pa.array(["a", f"b{mark}c"]), pa.array([["a", "b"], [f"b{mark}c"]])):
        items = WeightedItems(np.array([7, 8]), np.ones(2), pa.table({"name": values}))
        with pytest.raises(WeightedItemsError, match="item 8: name is"):
            write(tmp_path / "items.tsv", items)


def test_items_that_no_sampler_takes_are_refused(tmp_path: Path) -> None:
    for ids, weights, message in (([7, 7], [1.0, 1.0], "id 7 occurs"), ([7, 8], [1.0, -1.0], "weight is -1.0")):
        with pytest.raises(WeightedItemsError, match=message):
            write(tmp_path / "items.tsv", WeightedItems(np.array(ids), np.array(weights), pa.table({})))


def test_text_ids_are_hashed_when_asked(tmp_path: Path) -> None:
    names = pa.array(["B00X", "ä", ""])
    digests = [hashlib.md5(name.encode(), usedforsecurity=False).digest() for name in names.to_pylist()]
    expected = [int.from_bytes(digest[8:], "little", signed=True) for digest in digests]
    assert hash_texts(names).tolist() == integer_ids(names, hash_text=True).tolist() == expected
    assert integer_ids(pa.array([3, 4], pa.int32()), hash_text=True).tolist() == [3, 4]
    with pytest.raises(TextIds, match="'B00X' are text"):
        integer_ids(names, hash_text=False)
    found = read(table(tmp_path, HEADER + "B00X\t1\t\nä\t2\t\n"), pa.schema([]), hash_ids=True)
    assert found.ids.tolist() == expected[:2]
