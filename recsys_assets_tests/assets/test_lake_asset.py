"""The asset decorator records and guards inputs without a word in the asset, and publishes all or nothing."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from recsys_assets.assets.lake_asset import lake_asset
from recsys_assets.datasets.profile import bundled_profiles, load_profile
from recsys_assets.io_managers import LakeIOManager, Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import Manifest, Partition, PartitionMissing
from recsys_assets.partitions import daily_partitions
from recsys_assets.resources import LakeStore, resources
from recsys_assets_tests.helpers.in_process import QUIET, failures
from recsys_assets_tests.helpers.worlds import write_profile

BIZDATE = daily_partitions(load_profile("sample"))
DAY = BIZDATE.get_first_partition_key() or ""
NEXT = (dt.date.fromisoformat(DAY) + dt.timedelta(days=1)).isoformat()


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A lake with the partitions `a` and `b` of two days."""
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    found = Lake(str(tmp_path / "lake"), "sample")
    for asset in ("a", "b"):
        for day in (DAY, NEXT):
            write(found, asset, day)
    return found


def write(lake: Lake, asset: str, day: str, text: str = "first") -> Manifest:
    with lake.draft(asset, day) as draft:
        draft.path("text").write_text(text)
    return lake.manifest(asset, day)


def run(body: Callable[..., None], **settings: Any) -> dg.ExecuteInProcessResult:
    """Materialize an asset `made` with this body for the second day."""
    made, provided = lake_asset(name="made", kinds={"python"}, **settings)(body), resources()
    return dg.materialize(
        [made.define(BIZDATE, "test"), *(dg.AssetSpec(asset, partitions_def=BIZDATE) for asset in ("a", "b"))],
        selection=["made"],
        resources={**provided, "io_manager": LakeIOManager(store=provided["lake"])},
        partition_key=NEXT,
        run_config=QUIET,
        raise_on_error=False,
    )


def copy_text(a: Partition, output: Output) -> None:
    output.path("text").write_text(a.path("text").read_text())


def list_inputs(output: Output, **inputs: Partition) -> None:
    output.path("text").write_text(" ".join(sorted(inputs)))


def test_inputs_are_recorded_whether_they_are_named_or_collected(lake: Lake) -> None:
    assert failures(run(copy_text)) == {}
    assert lake.manifest("made", NEXT).upstream.keys() == {f"a/{NEXT}"}
    assert run(list_inputs, ins={"a": dg.AssetIn(), "b": dg.AssetIn()}).success
    assert lake.manifest("made", NEXT).upstream.keys() == {f"a/{NEXT}", f"b/{NEXT}"}


@pytest.mark.parametrize("by_manifest", [True, False])
def test_what_is_read_otherwise_is_recorded_and_guarded_too(lake: Lake, by_manifest: bool) -> None:
    def body(output: Output, lake: LakeStore, a: Partition) -> None:  # noqa: ARG001 (an input that is not read)
        before = lake.read("b", DAY)
        output.add_inputs([before.manifest if by_manifest else before])
        if replaced:
            write(lake.lake, "b", DAY, "second")

    replaced = False
    assert run(body).success
    assert lake.manifest("made", NEXT).upstream.keys() == {f"a/{NEXT}", f"b/{DAY}"}
    replaced = True
    assert f"b/{DAY} changed while made {NEXT} was built from it" in failures(run(body))["made"]


def test_an_input_that_is_replaced_meanwhile_stops_the_publication(lake: Lake) -> None:
    def body(output: Output, a: Partition) -> None:
        write(lake, "a", NEXT, "second")
        copy_text(a, output)

    assert f"a/{NEXT} changed while made {NEXT} was built from it" in failures(run(body))["made"]
    with pytest.raises(PartitionMissing):
        lake.manifest("made", NEXT)


def test_an_asset_can_publish_before_it_ends_and_then_fail(lake: Lake) -> None:
    def body(output: Output, a: Partition) -> None:
        copy_text(a, output)
        output.publish()
        assert lake.read("made", NEXT).path("text").read_text() == "first"
        raise ValueError("too late to take it back")

    assert "too late" in failures(run(body))["made"]
    assert lake.manifest("made", NEXT).files.keys() == {"text"}


def test_columns_are_described_by_the_platform_and_by_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = yaml.safe_load(bundled_profiles()["sample"].read_text())["tables"]
    columns["items"]["year"] = {"type": "int64", "description": "the year of the premiere"}
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(tmp_path / "own.yaml", {"tables": columns}))

    def body(output: Output) -> None:
        pq.write_table(pa.table({"item_id": [1], "year": [1999], "colour": ["red"]}), output.path("data.parquet"))

    (made,) = run(body).asset_materializations_for_node("made")
    schema = made.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert {each.name: each.description for each in schema.columns} == {
        "item_id": "the item's id", "year": "the year of the premiere", "colour": None,
    }  # fmt: skip


def test_columns_name_those_of_the_inputs_that_they_come_from(lake: Lake) -> None:
    for day in (DAY, NEXT):
        with lake.draft("a", day) as draft:
            draft.path("data.parquet").write_bytes(b"")
            draft.manifest.schema = {"data.parquet": {"item_id": "int64", "score": "double", "other": "int64"}}

    def body(output: Output, a: Partition, b: Partition) -> None:  # noqa: ARG001 (only their manifests count)
        output.add_inputs([lake.read("a", DAY)])
        pq.write_table(pa.table({"item_id": [1], "score": [0.5], "new": [1]}), output.path("data.parquet"))

    (made,) = run(body).asset_materializations_for_node("made")
    lineage = made.metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column == {"item_id": [dg.TableColumnDep(dg.AssetKey("a"), "item_id")]}
