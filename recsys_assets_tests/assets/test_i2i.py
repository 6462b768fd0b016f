"""The assets of item-to-item methods on a small generated world, all run in process."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow.parquet as pq
import pytest

from recsys_assets.assets.recall import i2i
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.i2i import neighbours
from recsys_assets.i2i.itemcf import ItemCF, itemcf
from recsys_assets.i2i.swing import Swing, swing
from recsys_assets.retrieval.interactions import Interactions, read
from recsys_assets_tests.helpers.in_process import failed_checks, materialize
from recsys_assets_tests.helpers.worlds import DAY, World, open_world

ASSETS = [f"i2i_{method}" for method in i2i.I2I_METHODS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world"), users=150, items=120, events=6000, days=8) as world:
        world.run(["users", "items", "splits", "recall_samples"])
        world.result = world.run(ASSETS)
        yield world


def known(world: World) -> Interactions:
    """The rows that the methods may learn from."""
    return read(world.read("recall_samples").path(ROWS)).before("test")


def test_all_are_made_and_every_check_passes(world: World) -> None:
    checks = world.result.get_asset_check_evaluations()
    assert {check.asset_key.to_user_string() for check in checks} == set(ASSETS)
    assert failed_checks(world.result) == set()


@pytest.mark.parametrize("method", i2i.I2I_METHODS)
def test_the_file_holds_what_the_method_finds_in_the_rows_before_the_test_rows(world: World, method: str) -> None:
    events = known(world)
    assert 0 < len(events) < len(read(world.read("recall_samples").path(ROWS)))
    settings = world.read(f"i2i_{method}").manifest.config
    find = {"itemcf": lambda: itemcf(events, ItemCF(**settings)), "swing": lambda: swing(events, Swing(**settings))}
    found = find[method]().lists
    written = neighbours.read(world.read(f"i2i_{method}").path(ROWS), events.item_ids)
    width = written.items.shape[1]
    np.testing.assert_array_equal(written.items, found.items[:, :width])
    np.testing.assert_array_equal(written.scores, found.scores[:, :width])
    assert (found.items[:, width:] == -1).all()


@pytest.mark.parametrize("asset", ASSETS)
class TestPartition:
    """Tests of one partition per method."""

    def test_rows_are_in_order_of_the_item_and_lists_in_order_of_the_score(self, world: World, asset: str) -> None:
        table = world.table(asset)
        assert table.schema.names == ["item_id", "neighbours"]
        ids = table["item_id"].to_pylist()
        assert ids == sorted(set(ids))
        for item_id, listed in zip(ids, table["neighbours"].to_pylist(), strict=True):
            order = [(-pair["score"], pair["item_id"]) for pair in listed]
            assert order == sorted(order)
            assert item_id not in [pair["item_id"] for pair in listed]

    def test_the_manifest_says_what_was_found_and_what_was_cut(self, world: World, asset: str) -> None:
        manifest = world.read(asset).manifest
        metrics = manifest.metrics
        assert manifest.rows == metrics["items_with_neighbours"] <= metrics["items"]
        assert metrics["mean_list_length"] > 1
        assert metrics["users_cut"] == metrics["rows_cut"] == 0
        assert manifest.config["top_n"] == 200
        assert {name.split("/")[0] for name in manifest.upstream} == {"recall_samples", "items"}

    def test_the_metadata_names_neighbours_by_their_titles(self, world: World, asset: str) -> None:
        shown = table_of(world.result, asset)
        titles = world.table("items")["title"].to_pylist()
        assert len(shown) == i2i.ITEMS_SHOWN
        assert all(row[0] in titles for row in shown)
        assert all(cell.partition(" ")[2] in titles for row in shown for cell in row[1:])


def table_of(result: dg.ExecuteInProcessResult, asset: str) -> list[list[str]]:
    """The cells of the neighbour table, without its header."""
    (event,) = result.asset_materializations_for_node(asset)
    lines = str(event.metadata["neighbours"].value).splitlines()
    return [line.strip("| ").split(" | ") for line in lines[2:]]


@pytest.fixture
def other(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return world.copy(tmp_path, monkeypatch)


def test_without_titles_the_metadata_names_neighbours_by_their_ids(other: World) -> None:
    items = other.table("items")
    with other.lake.draft("items", DAY) as draft:
        pq.write_table(items.drop_columns(["title"]), draft.path(ROWS))
    shown = table_of(other.run(["i2i_swing"]), "i2i_swing")
    ids = {str(item_id) for item_id in items["item_id"].to_pylist()}
    assert {row[0] for row in shown} <= ids
    assert {cell.partition(" ")[2] for row in shown for cell in row[1:]} <= ids


def test_a_cap_that_acts_is_in_the_manifest(other: World) -> None:
    other.run(["i2i_itemcf"], config={"i2i_itemcf": {"max_history": 5, "top_n": 3}})
    metrics = other.read("i2i_itemcf").manifest.metrics
    assert 0 < metrics["users_cut"] <= (np.bincount(known(other).users) > 5).sum()
    assert metrics["rows_cut"] > 0
    assert metrics["mean_list_length"] <= 3


@pytest.mark.usefixtures("world")
def test_a_setting_that_is_none_is_refused() -> None:
    with pytest.raises(dg.DagsterInvalidConfigError, match="halflife"):
        materialize(["i2i_itemcf"], DAY, config={"i2i_itemcf": {"halflife": 3}})
