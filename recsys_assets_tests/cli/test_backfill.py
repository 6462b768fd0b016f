"""`recsys backfill` without a daemon: which days, in which runs; and the request that a daemon takes."""

import datetime as dt
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result
from dagster._daemon.types import DaemonHeartbeat

from recsys_assets import backfills
from recsys_assets.cli import main
from recsys_assets.cli.running import open_instance
from recsys_assets.datasets.landing import land
from recsys_assets.definitions import build_defs
from recsys_assets.lake import Lake
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.worlds import World, world_in

FIRST, LAST = "2026-01-05", "2026-01-09"
DAYS = [f"2026-01-{day:02}" for day in range(5, 10)]
RANGE = ["--from", FIRST, "--to", LAST]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Five landed days, of which nothing is ingested."""
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    shutil.copy(PROJECT / "dagster.yaml", tmp_path)
    with world_in(tmp_path / "data") as made:
        land(made.profile, last=dt.date.fromisoformat(LAST), users=40, items=60, events=1_000, days=5)
        yield made


def recsys(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["backfill", *arguments])


def runs() -> list[tuple[list[str], str, dict[str, str]]]:
    """The assets, the day or days, and the tags of each run, oldest first."""
    with open_instance() as instance:
        found = instance.get_runs(ascending=True)
    return [
        (
            sorted(key.to_user_string() for key in run.asset_selection or ()),
            run.tags.get("dagster/partition") or run.tags["dagster/asset_partition_range_start"],
            dict(run.tags),
        )
        for run in found
    ]


def test_days_are_built_oldest_first_after_the_events_before_them_were_ingested(world: World) -> None:
    result = recsys("users or items", "--from", DAYS[3], "--to", LAST)
    assert result.exit_code == 0, result.output
    assert "2 of 2 days are built" in result.stdout
    assert [(assets, day) for assets, day, _ in runs()] == [(["items", "users"], day) for day in DAYS[3:]]
    tags = runs()[0][2]
    assert (tags["recsys/turn"], int(tags["dagster/priority"])) == ("later", -99991231)
    assert world.lake.bizdates("items") == world.lake.bizdates("users") == DAYS[3:]


def test_events_are_one_run_per_stretch_and_a_day_that_has_not_landed_is_named(world: World) -> None:
    for folder in (world.profile.landing / "interactions").glob(f"bizdate={DAYS[2]}"):
        shutil.rmtree(folder)
    result = recsys("interactions", *RANGE)
    assert result.exit_code == 0, result.output
    assert f"have not landed, and are left out: {DAYS[2]}" in result.stderr
    assert [(assets, day) for assets, day, _ in runs()] == [(["interactions"], day) for day in (DAYS[0], DAYS[3])]
    assert world.lake.bizdates("interactions") == [*DAYS[:2], *DAYS[3:]]


def test_missing_partitions_alone_are_built_and_a_dry_run_names_them(world: World) -> None:
    for day in DAYS[:4]:
        with world.lake.draft("users", day), world.lake.draft("items", day):
            pass
    shutil.rmtree(world.lake.location("items", DAYS[1]))
    said = recsys("users or items", "--from", FIRST, "--to", DAYS[3], "--missing", "--dry-run").stdout
    assert DAYS[1] in said and "users" not in said
    assert runs() == []
    assert recsys("users or items", "--from", FIRST, "--to", DAYS[3], "--missing").exit_code == 0
    assert [(assets, day) for assets, day, _ in runs()][-1] == (["items"], DAYS[1])
    assert "nothing is missing" in recsys("items", "--from", FIRST, "--to", DAYS[3], "--missing").stdout


def test_the_days_after_one_that_fails_are_tried_too_and_all_that_failed_are_named(world: World) -> None:
    (spoilt,) = (world.profile.landing / "items" / f"bizdate={DAYS[3]}").iterdir()
    spoilt.write_bytes(b"no parquet")  # the items of later days are made from it too
    result = recsys("items", "--from", DAYS[3], "--to", LAST)
    assert result.exit_code == 1
    assert "0 of 2 days are built" in result.stdout
    assert all(f"{day}: " in result.stderr for day in DAYS[3:]) and "--missing" in result.stderr


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", LAST, "--to", FIRST], "is after --to"),
        (["items", "--from", "2026-02-01", "--to", "2026-02-03"], "no events of 2026-02-01 have landed"),
        (["item", *RANGE], "no asset 'item'"),
        (["items", "--from", FIRST, "--to", "2999-01-01"], "2999-01-01 is not over yet"),
    ],
)
def test_a_range_that_cannot_be_built_is_refused(arguments: list[str], said: str) -> None:
    result = recsys(*arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr


def test_where_a_daemon_runs_it_is_asked_once(world: World) -> None:
    for day in DAYS:
        with world.lake.draft("interactions", day):
            pass
    with open_instance() as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "BACKFILL", "1", []))
    asked, again = recsys("items", *RANGE), recsys("items", *RANGE)
    assert asked.exit_code == 0, asked.output
    other = recsys("items", "--from", DAYS[1], "--to", LAST)
    with open_instance() as instance:
        backfill, first = instance.get_backfills()
    assert f"backfill {first.backfill_id} of 5 days" in asked.stdout
    assert f"backfill {first.backfill_id} is building these assets for {FIRST} to {LAST} already" in again.stdout
    assert f"backfill {backfill.backfill_id} of 4 days" in other.stdout
    assert runs() == []
    assert first.tags["recsys/turn"] == "later"


def test_a_daemon_counts_as_running_only_if_it_reported_lately() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert not backfills.daemon_runs(instance)
        now = time.time()
        for seconds, runs in ((3_600, False), (20, True)):
            instance.add_daemon_heartbeat(DaemonHeartbeat(now - seconds, "BACKFILL", "1", []))
            assert backfills.daemon_runs(instance) is runs


def test_a_backfill_of_a_hundred_days_has_each_day_of_each_asset(tmp_path: Path) -> None:
    days = [f"2026-{month:02}-{day:02}" for month in (1, 2, 3) for day in range(1, 29)]
    lake, keys = Lake(str(tmp_path), "sample"), frozenset({dg.AssetKey("items"), dg.AssetKey("splits")})
    with lake.draft("items", days[0]):
        pass
    planned = backfills.plan(keys, days, lake, (days[0], days[-1]), only_missing=True)
    graph = build_defs().resolve_asset_graph()
    with dg.DagsterInstance.ephemeral() as instance:
        made = instance.get_backfill(backfills.request(instance, graph, planned, "test"))
        assert made
        target = made.get_asset_backfill_data(graph).target_subset
        wanted = {key: sorted(target.get_partitions_subset(key).get_partition_keys()) for key in keys}
    assert wanted == {dg.AssetKey("items"): days[1:], dg.AssetKey("splits"): days}
