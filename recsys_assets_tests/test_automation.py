"""What runs by itself: the sensor and the schedule, as functions and under the real daemon."""

import contextlib
import datetime as dt
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import ScheduleInstigatorData

from recsys_assets import sensors
from recsys_assets.datasets.landing import landing_files
from recsys_assets.definitions import defs
from recsys_assets.lake import MANIFEST, Lake
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.sensors import new_data_sensor
from recsys_assets_tests.dagster_dev import REPOSITORY, Backfilled, DagsterDev

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
CLOCK = 0.02  # seconds; file times are as coarse as the kernel's clock, 1 to 10 ms


class Watched:
    """A landing folder and a lake that the sensor looks at."""

    def __init__(self, folder: Path) -> None:
        self.landing, self.lake = folder / "landing" / "sample", Lake(str(folder / "lake"), "sample")
        resources = {
            "dataset": Dataset(profile="sample"),
            "lake": LakeStore(profile="sample"),
        }
        self._resources = resources

    def put(self, day: str, text: str = "user_id", table: str = "interactions", name: str = "a.csv") -> Path:
        time.sleep(CLOCK)
        path = self.landing / table / f"bizdate={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def tick(self, cursor: str | None = None) -> dg.SensorResult:
        with dg.build_sensor_context(cursor=cursor, resources=self._resources) as context:
            result = new_data_sensor(context)
        assert isinstance(result, dg.SensorResult)
        assert bool(result.run_requests) is (result.skip_reason is None)
        return result


def days_of(result: dg.SensorResult) -> list[str]:
    return [str(request.partition_key) for request in result.run_requests or []]


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.0)
    return Watched(tmp_path)


def test_days_that_landed_are_requested_once_and_in_order(watched: Watched) -> None:
    for day in reversed(DAYS):
        watched.put(day)
    first = watched.tick()
    assert days_of(first) == DAYS
    assert days_of(watched.tick(first.cursor)) == []


def test_on_the_first_tick_days_that_the_lake_has_are_not_run_again(watched: Watched) -> None:
    for day in DAYS:
        watched.put(day)
    with watched.lake.draft("interactions", DAYS[0]):
        pass
    first = watched.tick()
    assert days_of(first) == DAYS[1:]
    watched.put(DAYS[0], "changed")
    assert days_of(watched.tick(first.cursor)) == [DAYS[0]]


def test_with_nothing_landed_the_next_file_is_seen(watched: Watched) -> None:
    first = watched.tick()
    assert days_of(first) == []
    watched.put(DAYS[0])
    assert days_of(watched.tick(first.cursor)) == [DAYS[0]]


@pytest.mark.parametrize(("table", "name"), [("interactions", "a.csv"), ("interactions", "b.csv"), ("users", "a.csv")])
def test_a_changed_or_further_file_runs_its_day_again_under_another_key(
    watched: Watched, table: str, name: str
) -> None:
    for day in DAYS:
        watched.put(day)
    before = watched.tick()
    watched.put(DAYS[1], "changed", table, name)
    after = watched.tick(before.cursor)
    assert days_of(after) == [DAYS[1]]
    keys = {request.run_key for result in (before, after) for request in result.run_requests or []}
    assert len(keys) == 4


def test_the_same_files_have_the_same_run_key_so_that_dagster_starts_them_once(watched: Watched) -> None:
    file = watched.put(DAYS[0])
    before = watched.tick()
    file.chmod(0o600)
    again = watched.tick()
    assert [request.run_key for request in before.run_requests or []] == [
        request.run_key for request in again.run_requests or []
    ]


def test_a_file_moved_in_with_an_old_time_is_seen(watched: Watched, tmp_path: Path) -> None:
    watched.put(DAYS[1])
    cursor = watched.tick().cursor
    watched.put(DAYS[0]).rename(tmp_path / "elsewhere.csv")
    os.utime(tmp_path / "elsewhere.csv", (0, 0))
    assert days_of(watched.tick(cursor)) == []
    (tmp_path / "elsewhere.csv").rename(watched.landing / "interactions" / f"bizdate={DAYS[0]}" / "a.csv")
    assert days_of(watched.tick(cursor)) == [DAYS[0]]


def test_hidden_and_temporary_files_are_left_alone(watched: Watched) -> None:
    for name in (".a.csv.tmp", "_a.csv", "a.csv.tmp", ".a.csv"):
        watched.put(DAYS[0], name=name)
    assert days_of(watched.tick()) == []


def test_a_day_that_is_being_written_waits_and_holds_nobody_up(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(file: Path, seconds: float) -> None:
        now = file.stat().st_ctime + seconds
        monkeypatch.setattr("recsys_assets.sensors.time.time", lambda: now)

    # A file counts as settled this long after its change: longer than this test's own files are apart.
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 3_600.0)
    settled = watched.put(DAYS[0])
    watched.put(DAYS[1])
    at(settled, 3_600 + CLOCK / 2)
    first = watched.tick()
    assert days_of(first) == [DAYS[0]]
    file = watched.put(DAYS[1], "still being written")
    at(file, 3_600 - CLOCK / 2)
    second = watched.tick(first.cursor)
    assert days_of(second) == []
    at(file, 3_600 + CLOCK / 2)
    assert days_of(watched.tick(second.cursor)) == [DAYS[1]]


def test_a_day_that_is_not_over_is_requested_once_it_is(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    today = dt.datetime.now(dt.UTC).date()
    watched.put(today.isoformat())
    watched.put("2999-01-01")
    watched.put(DAYS[0])
    first = watched.tick()
    assert days_of(first) == [DAYS[0]]
    tomorrow = time.time() + 86_400
    monkeypatch.setattr("recsys_assets.sensors.time.time", lambda: tomorrow)
    assert days_of(watched.tick(first.cursor)) == [today.isoformat()]


@pytest.mark.filterwarnings("ignore:Asset job everything", "ignore:.*run_request_for_partition:DeprecationWarning")
@pytest.mark.parametrize(
    ("now", "bizdate"),
    [("2026-11-20T02:00", "2026-11-19"), ("2026-03-01T02:00", "2026-02-28"), ("2027-01-01T02:00", "2026-12-31")],
)
def test_the_schedule_requests_the_day_before_at_two_oclock_utc(now: str, bizdate: str) -> None:
    schedule = defs.get_repository_def().get_schedule_def("daily_schedule")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "UTC")
    at = dt.datetime.fromisoformat(now).replace(tzinfo=dt.UTC)
    (request,) = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at)).run_requests or []
    assert (request.partition_key, request.run_key) == (bizdate, bizdate)


SENSOR = {**REPOSITORY, "sensorName": "new_data_sensor"}
SCHEDULE = {**REPOSITORY, "scheduleName": "daily_schedule"}


@contextlib.contextmanager
def sensor_on(dev: DagsterDev) -> Iterator[None]:
    """The sensor, turned on as in the UI, after its first tick."""
    before = ticks(dev)
    started = dev.ask(
        """mutation ($selector: SensorSelector!) { startSensor(sensorSelector: $selector) {
            ... on Sensor { sensorState { id status } } } }""",
        selector=SENSOR,
    )["sensorState"]
    assert started["status"] == "RUNNING"
    try:
        next_tick(dev, before)
        yield
    finally:
        dev.ask("mutation ($id: String) { stopSensor(id: $id) { __typename } }", id=started["id"])


def ticks(dev: DagsterDev) -> list[dict[str, Any]]:
    """Ended ticks of the sensor, newest first."""
    state = dev.ask(
        """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
            sensorState { ticks(limit: 50) { tickId status runIds runKeys error { message } } } } } }""",
        selector=SENSOR,
    )["sensorState"]
    return [tick for tick in state["ticks"] if tick["status"] != "STARTED"]


def next_tick(dev: DagsterDev, before: list[dict[str, Any]]) -> dict[str, Any]:
    """The first tick after those."""
    known = {tick["tickId"] for tick in before}
    new = dev.until(
        "the sensor ticks", 90, lambda: [tick for tick in ticks(dev) if tick["tickId"] not in known] or None
    )
    assert new[-1]["error"] is None, new[-1]
    return new[-1]


def sensor_runs(dev: DagsterDev) -> list[dict[str, Any]]:
    return dev.runs("dagster/sensor_name", "new_data_sensor")


def made_at(dev: DagsterDev, day: str) -> int:
    """When the day's `interactions` were published, in nanoseconds."""
    return (dev.lake.read("interactions", day).folder / MANIFEST).stat().st_mtime_ns


@contextlib.contextmanager
def being_written(file: Path) -> Iterator[None]:
    """Change the file's time again and again, as a slow writer would."""
    done = threading.Event()

    def write() -> None:
        while not done.wait(1):
            os.utime(file)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_a_new_day_starts_one_run_of_just_that_day_once_its_files_are_whole(platform: Backfilled) -> None:
    dev, day = platform.dev, platform.coming[0]
    with sensor_on(dev):
        before = len(sensor_runs(dev))
        dev.land(day, day)
        (file,) = landing_files(dev.profile, "interactions", day)
        with being_written(file):
            meanwhile = next_tick(dev, ticks(dev))
        launching = next_tick(dev, ticks(dev))
        afterwards = next_tick(dev, ticks(dev))
        assert [len(tick["runIds"]) for tick in (meanwhile, launching, afterwards)] == [0, 1, 0]
        key = launching["runKeys"][0]
        (run,) = dev.until("the day's run ends", 900, lambda: dev.runs_ended("dagster/run_key", key))
        assert [found["runId"] for found in sensor_runs(dev)[before:]] == launching["runIds"] == [run["runId"]]
    assert (run["status"], run["jobName"], run["days"]) == ("SUCCESS", "everything", [day])
    missing = [asset for asset in dev.assets() if day not in dev.lake.bizdates(asset)]
    assert {asset.partition("_")[0] for asset in missing} == {"tune"}, "what runs only when it is named"


def test_changed_days_are_run_again_one_after_another_oldest_first(platform: Backfilled) -> None:
    dev, days = platform.dev, platform.ingested[-2:]
    with sensor_on(dev):
        before, made = sensor_runs(dev), made_at(dev, days[0])
        for day in reversed(days):
            (file,) = landing_files(dev.profile, "interactions", day)
            file.touch()
        dev.until("the older day is made again", 180, lambda: made_at(dev, days[0]) != made or None)
        runs = sensor_runs(dev)[len(before) :]
    dev.cancel(runs[::-1])
    assert [(run["days"], run["status"]) for run in runs] == [([days[0]], "STARTED"), ([days[1]], "QUEUED")]


def test_the_schedule_catches_up_on_the_night_in_which_the_machine_was_off(
    platform: Backfilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = platform.dev
    missed = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)).replace(hour=2, minute=0, second=0, microsecond=0)
    monkeypatch.setenv("DAGSTER_HOME", str(dev.home))
    with schedule_on(dev, since=missed - dt.timedelta(minutes=1)):
        (run,) = dev.until("the missed night is made up for", 120, lambda: started(dev))
    dev.cancel([run])
    bizdate = (missed - dt.timedelta(days=1)).date().isoformat()
    assert (run["jobName"], run["days"]) == ("everything", [bizdate])


@contextlib.contextmanager
def schedule_on(dev: DagsterDev, since: dt.datetime) -> Iterator[None]:
    """The schedule, turned on as in the UI, but as if that had been `since` then and the daemon off in between."""
    # The daemon looks at schedules as each minute begins: not while the state is being set up.
    dev.until("the minute is neither new nor over", 30, lambda: 5 < time.time() % 60 < 50 or None)
    state = dev.ask(
        """mutation ($selector: ScheduleSelector!) { startSchedule(scheduleSelector: $selector) {
            ... on ScheduleStateResult { scheduleState { id status } } } }""",
        selector=SCHEDULE,
    )["scheduleState"]
    assert state["status"] == "RUNNING"
    with dg.DagsterInstance.get() as instance:
        (on,) = instance.all_instigator_state(instigator_type=InstigatorType.SCHEDULE)
        assert isinstance(on.instigator_data, ScheduleInstigatorData)
        earlier = ScheduleInstigatorData(on.instigator_data.cron_schedule, since.timestamp())
        instance.update_instigator_state(on.with_data(earlier))
    try:
        yield
    finally:
        dev.ask("mutation ($id: String) { stopRunningSchedule(id: $id) { __typename } }", id=state["id"])


def started(dev: DagsterDev) -> list[dict[str, Any]] | None:
    """The schedule's runs, once one of them is executed."""
    runs = dev.runs("dagster/schedule_name", "daily_schedule")
    return runs if any(run["status"] == "STARTED" for run in runs) else None
