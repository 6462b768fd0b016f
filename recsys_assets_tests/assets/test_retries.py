"""A step that finds a store that does not answer is tried again; any other error ends it at once."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from recsys_assets import retries
from recsys_assets.assets.lake_asset import lake_asset
from recsys_assets.io_managers import LakeIOManager, Output
from recsys_assets.manifest import PartitionDamaged
from recsys_assets.resources import LakeStore
from recsys_assets.stores.registry import open_store
from recsys_assets_tests.helpers.in_process import failures

DAY = "2026-01-05"
BIZDATE = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-02-01")


def run(home: Path, work: Callable[[int], None]) -> tuple[dict[str, str], int, bool]:
    """Run an asset; returns its error, the number of attempts, and whether its partition is there."""
    seen: list[int] = []

    @lake_asset(kinds={"json"}, name="users")
    def users(context: dg.AssetExecutionContext, output: Output) -> None:
        seen.append(context.retry_number)
        work(context.retry_number)
        output.write_json("a.json", {})

    lake = LakeStore(profile="sample")
    result = dg.materialize(
        [users.define(BIZDATE, "ingest")],
        partition_key=DAY,
        resources={"lake": lake, "io_manager": LakeIOManager(store=lake)},
        raise_on_error=False,
    )
    assert seen == list(range(len(seen)))
    return failures(result), len(seen), (home / "lake" / "sample" / "users" / f"bizdate={DAY}").exists()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("MONGO_URI", "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200")
    monkeypatch.setattr(retries, "WAIT_SECONDS", 0.01)
    return tmp_path


def use_store() -> None:
    with open_store("mongo", "sample") as store:
        store.collections()


def test_a_store_that_answers_again_loses_nothing(home: Path) -> None:
    assert run(home, lambda attempt: use_store() if attempt < 2 else None) == ({}, 3, True)


def test_a_store_that_stays_away_fails_the_step_with_its_own_error(home: Path) -> None:
    found, attempts, there = run(home, lambda _: use_store())
    assert "127.0.0.1:1" in found["users"]
    assert (attempts, there) == (3, False)


def damaged() -> None:
    raise PartitionDamaged("a file is missing")


def test_a_permanent_error_is_not_tried_again(home: Path) -> None:
    found, attempts, there = run(home, lambda _: damaged())
    assert "a file is missing" in found["users"]
    assert (attempts, there) == (1, False)
