"""The way of the UI: `dagster dev` runs, days are backfilled through its GraphQL API, and the results are read."""

import re
import subprocess
import sys
from typing import Any

import pyarrow.parquet as pq
import pytest

from recsys_assets.datasets.folders import file_hash
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.dagster_dev import LINE, Backfilled, DagsterDev

every_asset = pytest.mark.parametrize("asset", LINE)


def test_a_range_of_days_is_ingested_in_one_run(platform: Backfilled) -> None:
    (run,) = platform.dev.runs("dagster/backfill", platform.ingestion)
    assert run["status"] == "SUCCESS"
    assert run["days"] == platform.ingested
    assert set(platform.ingested) <= set(platform.dev.lake.bizdates("interactions"))


def test_a_backfill_makes_each_asset_of_its_days_once_and_nothing_else(platform: Backfilled) -> None:
    assert platform.dev.backfill_ended(platform.backfill) == "COMPLETED_SUCCESS", platform.dev.log()
    runs = platform.dev.runs("dagster/backfill", platform.backfill)
    assert {run["status"] for run in runs} == {"SUCCESS"}
    made = sorted((asset, day) for run in runs for asset in run["assets"] for day in run["days"])
    assert made == [(asset, day) for asset in LINE for day in platform.days]


@every_asset
def test_the_lake_holds_the_files_that_the_manifests_list(platform: Backfilled, asset: str) -> None:
    for day in platform.days:
        partition = platform.dev.lake.read(asset, day)
        found = {
            str(path.relative_to(partition.folder)): path for path in partition.folder.rglob("*") if path.is_file()
        }
        del found["manifest.json"]
        assert {name: file_hash(path) for name, path in found.items()} == partition.manifest.files != {}
        tables = {name: pq.read_table(path) for name, path in found.items() if path.suffix == ".parquet"}
        schemas = {name: {column.name: str(column.type) for column in table.schema} for name, table in tables.items()}
        assert schemas == partition.manifest.schema
        assert partition.manifest.failed_checks == []


@every_asset
def test_what_a_partition_was_built_on_is_what_lies_in_the_lake(platform: Backfilled, asset: str) -> None:
    for day in platform.days:
        upstream = platform.dev.lake.manifest(asset, day).upstream
        assert all(name.rsplit("/", 1)[1] <= day for name in upstream)
        assert upstream == {name: platform.dev.lake.manifest(*name.rsplit("/", 1)).fingerprint for name in upstream}


def test_the_command_hands_days_to_the_daemon_once_and_cheap_ones_are_one_run(platform: Backfilled) -> None:
    dev, days = platform.dev, platform.ingested[-2:]
    span = ["items", "--from", days[0], "--to", days[1]]
    first, second = (backfill_command(dev, *span) for _ in range(2))
    asked = re.search(r"backfill (\w+) of 2 days", first)
    assert asked and f"backfill {asked[1]} is building these assets" in second
    status = dev.until("the backfill ends", 240, lambda: dev.backfill_ended(asked[1]))
    assert status == "COMPLETED_SUCCESS", dev.log()
    runs = dev.runs("dagster/backfill", asked[1])
    assert [(run["assets"], run["days"]) for run in runs] == [(["items"], days)]
    assert {run["tags"]["dagster/priority"] for run in runs} == {"-99991231"}
    assert "nothing is missing" in backfill_command(dev, *span, "--missing")


def backfill_command(dev: DagsterDev, *arguments: str) -> str:
    """The output of `recsys backfill`."""
    command = [sys.executable, "-m", "recsys_assets.cli", "backfill", *arguments]
    done = subprocess.run(command, env=dev.environment, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_ui_shows_the_days_as_materialized(platform: Backfilled) -> None:
    nodes = platform.dev.ask(
        """{ assetNodes { assetKey { path } assetPartitionStatuses { ... on TimePartitionStatuses {
            ranges { status startKey endKey } } } } }"""
    )
    shown = {node["assetKey"]["path"][0]: node["assetPartitionStatuses"]["ranges"] for node in nodes}
    for asset in LINE:
        assert all(has(shown[asset], "MATERIALIZED", day) for day in platform.days)
    assert all(has(shown["interactions"], "MATERIALIZED", day) for day in platform.ingested)


def test_the_ui_shows_each_check_of_a_daily_run_as_passed(platform: Backfilled) -> None:
    nodes = platform.dev.ask(
        """{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name
            partitionStatuses { ... on AssetCheckTimePartitionStatuses { ranges { status startKey endKey } } }
        } } } } }"""
    )
    shown = {
        (node["assetKey"]["path"][0], check["name"]): check["partitionStatuses"]["ranges"]
        for node in nodes
        for check in node["assetChecksOrError"]["checks"]
    }
    assert {asset for asset, _ in shown} >= set(LINE)
    # A run over a range gives one result for all its days, which Dagster attaches to none of them.
    daily = {key: ranges for key, ranges in shown.items() if key[0] in LINE and key[0] != "interactions"}
    assert [key for key, ranges in daily.items() for day in platform.days if not has(ranges, "SUCCEEDED", day)] == []


def has(ranges: list[dict[str, Any]], status: str, day: str) -> bool:
    """Whether a range of the status covers the day."""
    return any(found["status"] == status and found["startKey"] <= day <= found["endKey"] for found in ranges)
