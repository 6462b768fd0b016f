"""A run that makes several days of the assets that train nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.definitions import defs
from recsys_assets_tests.helpers.in_process import failures, materialize
from recsys_assets_tests.helpers.worlds import DAY, World, open_world

DAYS = ["2026-03-29", "2026-03-30", DAY]
CHEAP = ["users", "items", "splits", "event_features", "recall_samples", "negative_items", "recall_term"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three days that one run made."""
    with open_world(tmp_path_factory.mktemp("ranges"), users=60, items=80, events=2500, days=14) as world:
        world.result = world.run(CHEAP, DAYS[0], DAY)
        yield world


def test_days_of_a_range_are_those_that_runs_of_one_day_make(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_by_one = world.copy(tmp_path, monkeypatch)
    for asset in CHEAP:
        for day in DAYS:
            one_by_one.lake.remove(asset, day)
    for day in DAYS:
        one_by_one.run(CHEAP, day)
    for asset in CHEAP:
        for day in DAYS:
            at_once, alone = world.read(asset, day).manifest, one_by_one.read(asset, day).manifest
            assert (at_once.files, at_once.fingerprint) == (alone.files, alone.fingerprint), (asset, day)
    assert world.read("event_features").manifest.extended  # by the day before, which the same step made


def test_dagster_knows_of_every_day_and_check(world: World) -> None:
    made = [event.partition for event in world.result.asset_materializations_for_node("splits")]
    assert made == DAYS
    checks = {each.check_name: each for each in world.result.get_asset_check_evaluations()}
    assert checks["rows_match_splits"].passed
    assert checks["rows_match_splits"].metadata["days"].value == len(DAYS)


def test_a_day_that_fails_does_not_keep_the_others_from_being_made(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = world.copy(tmp_path, monkeypatch)
    for day in DAYS:
        own.lake.remove("recall_samples", day)
    own.read("splits", DAYS[1]).path(ROWS).write_bytes(b"no parquet")
    result = materialize(["recall_samples"], DAYS[0], DAY)
    (said,) = failures(result).values()
    assert "1 of 3 days could not be made; the others were. 2026-03-30: " in said
    assert f"recsys materialize splits --bizdate {DAYS[1]}" in said
    assert own.lake.bizdates("recall_samples") == [DAYS[0], DAY]


def test_what_a_month_is_built_of_is_built_by_months_too() -> None:
    """Otherwise one run would wait for the days of another one."""
    graph = defs.resolve_asset_graph()
    by_month = {key for key in graph.materializable_asset_keys if graph.get(key).backfill_policy == BY_MONTH}
    assert {key.to_user_string() for key in by_month} == set(CHEAP)
    of = {parent for key in by_month for parent in graph.get(key).parent_keys} - by_month
    assert {key.to_user_string() for key in of} <= {"interactions"}
