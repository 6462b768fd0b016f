"""The deadline of the profile: what the sensor says before it, after it, and once the day is released."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from recsys_assets.datasets.files import Files
from recsys_assets.datasets.profile import ProfileError, load_profile
from recsys_assets.deadline import deadline_sensor
from recsys_assets.definitions import build_defs
from recsys_assets.lake import Lake
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.settings import settings
from recsys_assets.stores.live_sets import release_of
from recsys_assets.stores.mongo.embedded import run_server
from recsys_assets.stores.registry import open_store
from recsys_assets.stores.store import ReleaseStore
from recsys_assets_tests.helpers.worlds import write_profile

DAY, RELEASE = "2026-03-30", "mongo_release"
LATE = dt.datetime(2026, 3, 31, 6, 1, tzinfo=dt.UTC)  # 08:01 in Berlin


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("secantus", reason="needs a MongoDB server, which the extra `mongo-server` installs")
    with run_server(tmp_path_factory.mktemp("mongo")) as uri:
        yield uri


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str) -> Lake:
    """The lake of a profile whose days are those of Berlin and whose deadline is 08:00; it is 08:01 there."""
    changes: dict[str, Any] = {"name": tmp_path.name[:40].replace("_", "-"), "daily": {"hour": 3, "deadline": 8}}
    changes["files"] = {"timezone": "Europe/Berlin"}
    changes["source"] = None
    monkeypatch.setenv("RECSYS_PROFILE", write_profile(tmp_path / "own.yaml", changes))
    monkeypatch.setenv("RECSYS_DATA", str(tmp_path))
    monkeypatch.setenv("MONGO_URI", server)
    at(monkeypatch, LATE)
    return Lake(str(tmp_path / "lake"), load_profile().name)


def at(patch: pytest.MonkeyPatch, moment: dt.datetime) -> None:
    patch.setattr(Files, "now", lambda self: moment.astimezone(self.zone))


def tick(
    cursor: str = "", instance: dg.DagsterInstance | None = None
) -> tuple[list[dg.AssetCheckEvaluation], str | None, str]:
    """The events of a tick, its cursor, and why it skipped."""
    profile = settings().profile
    resources = {"dataset": Dataset(profile=profile), "lake": LakeStore(profile=profile)}
    with (
        contextlib.nullcontext(instance) if instance else dg.DagsterInstance.ephemeral() as known,
        dg.build_sensor_context(known, cursor, resources=resources) as context,
    ):
        result = deadline_sensor(context)
    if isinstance(result, dg.SkipReason):
        return [], cursor, str(result.skip_message)
    assert isinstance(result, dg.SensorResult)
    events = [event for event in result.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    skipped = result.skip_reason.skip_message if isinstance(result.skip_reason, dg.SkipReason) else ""
    return events, result.cursor, str(skipped)


def release(lake: Lake, day: str) -> None:
    """Record a release as the asset does, without collections."""
    with open_store("mongo", lake.profile) as store:
        assert isinstance(store, ReleaseStore)
        store.put_release(release_of({}, None) | {"bizdate": day}, store.release())


def because(event: dg.AssetCheckEvaluation) -> str:
    return str(event.metadata["because"].value)


@pytest.mark.usefixtures("lake")
def test_before_the_deadline_nothing_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, LATE - dt.timedelta(minutes=2))
    assert tick() == ([], "", f"{DAY} is not due yet")


@pytest.mark.usefixtures("lake")
def test_a_day_that_was_not_built_fails_the_check_once() -> None:
    (event,), cursor, _ = tick()
    assert (event.asset_key.to_user_string(), event.check_name, event.partition) == (RELEASE, "published_in_time", DAY)
    assert not event.passed and not event.blocking
    assert f"{RELEASE} has no partition for {DAY}" in because(event)
    assert tick(cursor or "") == ([], DAY, f"{DAY} was looked at")


@pytest.mark.usefixtures("lake")
def test_a_sensor_whose_cursor_was_lost_does_not_fail_the_check_again() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        (event,), _, _ = tick(instance=instance)
        instance.report_runless_asset_event(event)
        assert tick(instance=instance) == ([], DAY, "")


@pytest.mark.parametrize(
    ("failed", "declined", "said"),
    [(["store_matches_lake"], "", "failed store_matches_lake"), ([], "no users", "was declined: no users")],
)
def test_a_day_whose_gate_is_closed_is_late(lake: Lake, failed: list[str], declined: str, said: str) -> None:
    with lake.draft(RELEASE, DAY) as draft:
        draft.manifest.failed_checks, draft.manifest.declined = failed, declined
    (event,), _, _ = tick()
    assert said in because(event)


def test_a_day_that_is_built_must_be_released_too(lake: Lake) -> None:
    with lake.draft(RELEASE, DAY):
        pass
    release(lake, "2026-03-29")
    (event,), _, _ = tick()
    assert because(event) == f"MongoDB has no release of {DAY}, the newest is 2026-03-29"
    release(lake, DAY)
    assert tick() == ([], DAY, f"{DAY} is released")


def test_a_store_that_does_not_answer_is_named_without_its_password(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lake.draft(RELEASE, DAY):
        pass
    monkeypatch.setenv("MONGO_URI", "mongodb://me:sesame@127.0.0.1:1/?serverSelectionTimeoutMS=300")
    (event,), _, _ = tick()
    assert "127.0.0.1:1" in because(event) and "sesame" not in because(event)


@pytest.mark.usefixtures("lake")
def test_with_a_deadline_the_release_has_the_check_and_the_schedule_the_hour_of_the_profile() -> None:
    repository = build_defs().get_repository_def()
    schedule = repository.get_schedule_def("daily_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * *", "Europe/Berlin")
    node = repository.asset_graph.get(dg.AssetKey(RELEASE))
    assert dg.AssetCheckKey(node.key, "published_in_time") in node.check_keys
    assert isinstance(node.freshness_policy, dg.FreshnessPolicy)
    assert repository.has_sensor_def("deadline_sensor")


def test_a_deadline_before_the_run_is_refused(tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "own.yaml", {"daily": {"hour": 5, "deadline": 4}})
    with pytest.raises(ProfileError, match="the deadline 4 is not after the hour 5"):
        load_profile(profile)
