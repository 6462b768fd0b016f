"""The daily report of days that are built in part: what is there is shown, and what is not as usual is named."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from recsys_assets.cli import main
from recsys_assets.datasets.landing import landing_files
from recsys_assets.reports import served
from recsys_assets.reports.day import PAGE, REPORT, TABLE, Day
from recsys_assets.settings import settings
from recsys_assets_tests.helpers.worlds import DAY, YESTERDAY, World, open_world

DAYS = [(dt.date.fromisoformat(DAY) - dt.timedelta(days=n)).isoformat() for n in range(6, -1, -1)]
SCHEMA = ["event_features", "factors", "rank_samples", "feature_schema", "feature_boundaries"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A world with the tables of a week, the features of its last day, and the reports of the last two days."""
    with open_world(tmp_path_factory.mktemp("world"), users=120, items=150, events=9000, days=14) as world:
        for day in DAYS:
            world.run(["users", "items"], day)
        world.run([REPORT], YESTERDAY)
        world.run(["splits", *SCHEMA])
        world.result = world.run([REPORT])
        yield world


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {each.check_name: each.passed for each in result.get_asset_check_evaluations()}


def page(world: World) -> str:
    return world.read(REPORT).path(PAGE).read_text(encoding="utf-8")


def test_the_report_of_an_unfinished_day_says_what_is_missing_and_fails_nothing(world: World) -> None:
    assert "is not finished" in page(world)
    assert "funnel_report has no partition" in page(world)
    found = checks(world.result)
    assert (found["nothing_is_unusual"], found["sections_are_made"]) == (False, True)
    manifest = world.read(REPORT).manifest
    assert manifest.failed_checks == []
    assert manifest.metrics["things_to_look_at"] >= 1
    assert {"splits", "users", "items"} <= {name.partition("/")[0] for name in manifest.upstream}
    assert "interactions" not in {name.partition("/")[0] for name in manifest.upstream}


def test_the_table_has_the_drift_of_every_column_with_what_is_usual(world: World) -> None:
    rows = [row for row in world.table(REPORT, TABLE).to_pylist() if row["section"] == "Drift"]
    distances = {row["name"]: row for row in rows if row["metric"] == "distance"}
    expected = {"interactions.rating", "interactions.timestamp", "users.age", "items.genres", "items.year", "label"}
    assert expected <= distances.keys()
    assert all(0 <= row["value"] <= 1 and row["high"] > 0 and row["bizdate"] == DAY for row in distances.values())
    assert "items.true_probability" not in distances
    quality = next(row for row in rows if row["name"] == "the whole day")
    assert 0.3 < quality["low"] < quality["value"] < quality["high"] < 0.75


def test_features_are_compared_on_the_newest_day_that_has_them(world: World) -> None:
    rows = [row for row in world.table(REPORT, TABLE).to_pylist() if row["section"] == "Features of models"]
    assert {"user_count", "item_positive_rate", "genres"} <= {row["name"] for row in rows}
    assert "The newest rows with features are of 2026-03-29, 2 days before" in page(world)


def test_the_manifest_says_how_long_the_partition_took_and_the_fingerprint_does_not(world: World) -> None:
    manifest = world.read("splits").manifest
    assert manifest.seconds is not None
    before = manifest.fingerprint
    manifest.seconds += 1
    assert manifest.seal().fingerprint == before
    assert any(row["metric"] == "seconds" for row in world.table(REPORT, TABLE).to_pylist())


@pytest.mark.fails_check("daily_report:nothing_is_unusual")
def test_a_column_with_other_values_is_named_and_outdated_partitions_are_listed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path, monkeypatch)
    profile = copy.profile.model_copy(update={"landing": tmp_path / "landing" / "sample"})
    (file,) = landing_files(profile, "interactions", DAY)
    events = pq.read_table(file)
    low = pc.fill_null(pc.min_element_wise(events["rating"], pa.scalar(2.0, pa.float32())), 1.0)
    pq.write_table(events.set_column(events.column_names.index("rating"), "rating", low), file)
    copy.run(["interactions"])
    result = copy.run([REPORT])
    metadata = result.asset_materializations_for_node(REPORT)[0].metadata["look at"].value
    assert "interactions.rating is not distributed as last week" in str(metadata)
    assert "label is not distributed as last week" in str(metadata)
    assert "partitions are outdated (" in str(metadata)
    assert checks(result)["nothing_is_unusual"] is False
    assert not {"splits/" + DAY, "rank_samples/" + DAY} & copy.read(REPORT).manifest.upstream.keys()


@pytest.mark.fails_check("daily_report:sections_are_made")
def test_a_section_that_fails_is_named_and_the_day_goes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = world.copy(tmp_path, monkeypatch)

    def broken(day: Day) -> None:
        raise ZeroDivisionError(f"on {day.bizdate}")

    monkeypatch.setattr(served, "published", broken)
    found = checks(copy.run([REPORT]))
    assert found["sections_are_made"] is False
    assert f"Not shown, as it could not be made: on {DAY}" in page(copy)
    assert "Columns, the most unusual first" in page(copy)


def test_answers_of_the_day_are_counted(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = world.copy(tmp_path, monkeypatch)
    folder = settings().requests("sample") / f"date={DAY}" / "hour=07"
    folder.mkdir(parents=True)
    item = {"item_id": 3, "probability": 0.5}
    rows = {
        "time": [dt.datetime.fromisoformat(f"{DAY}T07:00:0{second}") for second in (0, 1, 2)],
        "milliseconds": [4.0, 6.0, 30.0],
        "release": [1, 1, 1],
        "bizdate": [YESTERDAY] * 3,
        "served_by": ["personal", "personal", "popular"],
        "left_out": [[], ["ranking: too late"], []],
        "items": [[item, {**item, "item_id": 4}], [item], [item]],
    }
    pq.write_table(pa.table(rows), folder / "requests-070000-1.parquet")
    copy.run([REPORT])
    found = {
        (row["name"], row["metric"]): row["value"]
        for row in copy.table(REPORT, TABLE).to_pylist()
        if row["section"] == "Requests"
    }
    assert found["answers", "all"] == 3
    assert found["answers", "degraded"] == pytest.approx(1 / 3)
    assert (found["latency in ms", "p50"], found["latency in ms", "max"]) == (6, 30)
    assert "07:00" in page(copy)
    assert found["shown items", "all"] == 2
    assert found["shown items", "gini"] == pytest.approx(0.25)
    assert "ranking: too late" in page(copy)


def test_the_command_names_the_page_and_compares_two_days(world: World) -> None:
    said = CliRunner().invoke(main, ["report", DAY])
    assert said.exit_code == 0, said.output
    assert said.output.splitlines()[-1] == str(world.read(REPORT).path(PAGE))
    assert "to look at" in said.output
    compared = CliRunner().invoke(main, ["report", YESTERDAY, DAY]).output
    assert "figures differ" in compared
    assert "interactions" in compared
    missing = CliRunner().invoke(main, ["report", "2026-03-20"])
    assert missing.exit_code == 1
    assert "no partition for 2026-03-20" in missing.output
