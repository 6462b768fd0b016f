"""The asset `negative_items` on partitions that the test writes."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.assets.data.negatives import NEGATIVE_ITEMS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.lake import Lake
from recsys_assets.retrieval import weighted_items
from recsys_assets.retrieval.weighted_items import HEADER, hash_texts, read
from recsys_assets_tests.helpers import in_process
from recsys_assets_tests.helpers.in_process import failures

DAY = "2026-03-31"
EVENTS = [  # item's place, part
    *[(0, "train")] * 16, *[(1, "train")] * 80, (1, "validation"), (2, "validation"), *[(3, "test")] * 9, (2, "test"),
]  # fmt: skip
Run = Callable[..., tuple[dg.ExecuteInProcessResult, Lake]]


def profile(kind: str) -> dict[str, Any]:
    return {
        "name": "tiny", "first_bizdate": dt.date(2026, 3, 1), "landing": "nowhere", "label": "true",
        "tables": {
            "interactions": {"user_id": "int64", "item_id": kind, "timestamp": "timestamp"},
            "users": {"user_id": "int64", "age": "int64"},
            "items": {"item_id": kind, "year": "int64", "tags": "strings", "title": "string", "price": "float32"},
        },
        "features": {"categorical": ["age", "title"], "multi_valued": ["tags"], "numeric": ["price"]},
        "split": {"strategy": "leave_last_n"},
    }  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Materialize the asset with item ids of the given type."""

    def materialize(ids: list[Any], config: dict[str, Any] | None = None) -> tuple[dg.ExecuteInProcessResult, Lake]:
        file = tmp_path / "tiny.yaml"
        file.write_text(yaml.safe_dump(profile("string" if isinstance(ids[0], str) else "int64")))
        monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
        monkeypatch.setenv("RECSYS_PROFILE", str(file))
        lake = Lake(str(tmp_path / "lake"), "tiny")
        publish(lake, ids)
        settings = {"negative_items": config} if config else None
        return in_process.materialize(["negative_items"], DAY, config=settings), lake

    return materialize


def publish(lake: Lake, ids: list[Any]) -> None:
    """Publish the day's `recall_samples` and `items`; item 4 has no events, and item 1 has no attributes."""
    items, parts = zip(*EVENTS, strict=True)
    events = pa.table(
        {
            "user_id": np.arange(len(EVENTS)),
            "item_id": [ids[place] for place in items],
            "timestamp": [dt.datetime(2026, 3, 2)] * len(EVENTS),  # noqa: DTZ001  the lake's times have no zone
            "label": np.ones(len(EVENTS), np.int8),
            "part": list(parts),
        }
    )
    table = pa.table(
        {
            "item_id": [ids[0], *ids[2:]],
            "year": [1, 2, 3, 4],
            "tags": pa.array([["a", "b"], [], ["c"], None]),
            "title": ["Amélie", None, "C", "D"],
            "price": pa.array([1.5, 2.0, None, 3.0], pa.float32()),
        }
    )
    for asset, rows in (("recall_samples", events), ("items", table)):
        with lake.draft(asset, DAY) as draft:
            pq.write_table(rows, draft.path(ROWS))


def test_weights_are_events_before_the_test_part_and_attributes_the_profiles_item_features(run: Run) -> None:
    result, lake = run([10, 30, 40, 50, 60])
    assert result.success
    assert all(check.passed for check in result.get_asset_check_evaluations())
    partition = lake.read("negative_items", DAY)
    expected = [HEADER, "10\t8\tAmélie\x02a\x1db\x021.5", "30\t27\t\x02\x02", "40\t1\t\x02\x022"]
    assert partition.path(NEGATIVE_ITEMS).read_text().split("\n") == [*expected, ""]
    assert partition.manifest.rows == 3
    assert partition.manifest.metrics == {"total_weight": 36.0}
    assert partition.manifest.config == {"power": 0.75, "hash_ids": True}


def test_the_metadata_names_the_attributes_in_their_order(run: Run) -> None:
    result, _ = run([10, 30, 40, 50, 60])
    (event,) = result.asset_materializations_for_node("negative_items")
    rows = str(event.metadata["attr_fields"].value).splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| title", "| tags", "| price"]


def test_another_power_is_another_weight(run: Run) -> None:
    _, lake = run([10, 30, 40, 50, 60], {"power": 0.0})
    assert lake.manifest("negative_items", DAY).metrics == {"total_weight": 3.0}


def test_text_ids_are_hashed(run: Run) -> None:
    names = ["x", "y", "z", "v", "w"]
    result, lake = run(names)
    assert result.success
    schema = pa.schema([("title", pa.string()), ("tags", pa.list_(pa.string())), ("price", pa.float32())])
    found = read(lake.read("negative_items", DAY).path(NEGATIVE_ITEMS), schema)
    assert found.ids.tolist() == hash_texts(pa.array(names[:3])).tolist()
    assert found.weights.tolist() == [8.0, 27.0, 1.0]


def test_text_ids_are_refused_where_they_are_not_to_be_hashed(run: Run) -> None:
    result, _ = run(["x", "y", "z", "v", "w"], {"hash_ids": False})
    assert not result.success
    assert "turn hash_ids on" in failures(result)["negative_items"]


@pytest.mark.fails_check("negative_items:unique_ids", "negative_items:reads_back")
def test_ids_that_hash_alike_close_the_gate(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weighted_items, "hash_texts", lambda ids: np.zeros(len(ids), np.int64))
    result, lake = run(["x", "y", "z", "v", "w"])
    assert {check.check_name for check in result.get_asset_check_evaluations() if not check.passed} == {
        "unique_ids",
        "reads_back",
    }
    assert lake.manifest("negative_items", DAY).failed_checks == ["unique_ids", "reads_back"]
