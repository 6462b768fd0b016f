"""Differences between a store and the lake: which are reported, and which are within tolerance."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from recsys_assets.stores.compare import count_differing
from recsys_assets.stores.consistency import STORE_TOLERANCE
from recsys_assets.stores.store import KEY

NEIGHBOURS = pa.list_(pa.struct([("item_id", pa.int64()), ("score", pa.float32())]))
VECTORS = pa.large_list(pa.float32())
COLUMNS: dict[str, tuple[list[Any], pa.DataType]] = {
    KEY: (["1", "2", "3"], pa.string()),
    "age": ([25, None, 35], pa.int64()),
    "rate": ([0.5, float("nan"), None], pa.float32()),
    "terms": ([["War", "Drama"], [], None], pa.list_(pa.string())),
    "vector": ([[0.25, -1.0], [1.0, 2.0], [0.0, 0.0]], VECTORS),
    "shares": ([[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]], pa.list_(pa.float32(), 2)),
    "value": ([[{"item_id": 7, "score": 0.5}], [], [{"item_id": 8, "score": 0.25}] * 2], NEIGHBOURS),
}


def table(**changed: list[Any]) -> pa.Table:
    return pa.table(
        {name: pa.array(changed.get(name, values), kind) for name, (values, kind) in COLUMNS.items()},
    )


def test_equal_tables_do_not_differ_nor_do_floats_within_the_tolerance() -> None:
    assert count_differing(table(), table()) == 0
    near = table(vector=[[0.25 + 5e-6, -1.0], [1.0, 2.0], [0.0, 0.0]])
    assert count_differing(table(), near, STORE_TOLERANCE) == 0
    assert count_differing(table(), near) == 1


PLANTED: dict[str, Callable[[], pa.Table]] = {
    "another number": lambda: table(age=[25, None, 36]),
    "a null that was none": lambda: table(age=[None, None, 35]),
    "a number that was null": lambda: table(rate=[0.5, float("nan"), 0.0]),
    "a float beyond the tolerance": lambda: table(rate=[0.5 + 2e-5, float("nan"), None]),
    "a NaN that was none": lambda: table(rate=[float("nan"), float("nan"), None]),
    "another order in a list": lambda: table(terms=[["Drama", "War"], [], None]),
    "an empty list that was null": lambda: table(terms=[["War", "Drama"], [], []]),
    "a longer list": lambda: table(terms=[["War", "Drama"], ["War"], None]),
    "another float in a vector": lambda: table(vector=[[0.25, -1.0], [1.0, 2.0], [0.0, 1e-3]]),
    "another float in a list of one size": lambda: table(shares=[[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]]),
    "another neighbour": lambda: table(
        value=[[{"item_id": 9, "score": 0.5}], [], [{"item_id": 8, "score": 0.25}] * 2],
    ),
    "another score": lambda: table(
        value=[[{"item_id": 7, "score": 0.6}], [], [{"item_id": 8, "score": 0.25}] * 2],
    ),
    "a row that is missing": lambda: table().slice(1),
}


@pytest.mark.parametrize("found", PLANTED.values(), ids=PLANTED)
def test_one_row_differs_by(found: Callable[[], pa.Table]) -> None:
    assert count_differing(table(), found(), STORE_TOLERANCE) == 1


def test_two_faults_of_a_row_are_one_row_and_a_missing_column_is_all_rows() -> None:
    assert count_differing(table(), table(age=[26, None, 35], terms=[["War"], [], None]), STORE_TOLERANCE) == 1
    assert count_differing(table(), table(age=[26, 1, 35], terms=[["War", "Drama"], [], []]), STORE_TOLERANCE) == 3
    assert count_differing(table(), table().drop(["age"]), STORE_TOLERANCE) == 3
    assert count_differing(table(), table().set_column(1, "age", table()["age"].cast(pa.int32())), STORE_TOLERANCE) == 3
