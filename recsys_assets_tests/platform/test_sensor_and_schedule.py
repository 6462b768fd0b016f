"""The sensor and the schedule, as functions and under the real daemon."""

import contextlib
import datetime as dt
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pyarrow.parquet as pq
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import ScheduleInstigatorData
from dagster._core.test_utils import create_run_for_test

from recsys_assets import sensors
from recsys_assets.datasets.landing import hashes, landed_bizdates, landing_files
from recsys_assets.datasets.profile import load_profile
from recsys_assets.definitions import defs
from recsys_assets.lake import Lake
from recsys_assets.manifest import MANIFEST
from recsys_assets.partitions import days
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.sensors import new_data_sensor
from recsys_assets_tests.helpers.dagster_dev import REPOSITORY, Backfilled, DagsterDev

DAYS = ["2026-01-05", "2026-01-06", "2026-01-07"]
CLOCK = 0.02  # seconds; file times are as coarse as the kernel's clock, 1 to 10 ms


class Watched:
    """A landing folder and a lake that the sensor reads, and an instance that queues its runs."""

    def __init__(self, folder: Path, instance: dg.DagsterInstance) -> None:
        self.landing, self.lake = folder / "landing" / "sample", Lake(str(folder / "lake"), "sample")
        self.instance, self.cursor = instance, ""
        self._resources = {
            "dataset": Dataset(profile="sample"),
            "lake": LakeStore(profile="sample"),
        }

    def put(self, day: str, text: str = "user_id", table: str = "interactions", name: str = "a.csv") -> Path:
        time.sleep(CLOCK)
        path = self.landing / table / f"bizdate={day}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def tick(self) -> list[tuple[str, str]]:
        """Evaluate the sensor and queue its runs; returns the job and day, or first and last day, of each."""
        with dg.build_sensor_context(self.instance, self.cursor, resources=self._resources) as context:
            result = new_data_sensor(context)
        assert isinstance(result, dg.SensorResult)
        assert bool(result.run_requests) is (result.skip_reason is None)
        self.cursor = result.cursor or ""
        return [self._queue(request) for request in result.run_requests or []]

    def _queue(self, request: dg.RunRequest) -> tuple[str, str]:
        span = [
            request.tags[f"dagster/asset_partition_range_{end}"]
            for end in ("start", "end")
            if not request.partition_key
        ]
        days = request.partition_key or " to ".join(span)
        tags = {**request.tags, "days": days, "dagster/run_key": str(request.run_key)}
        create_run_for_test(self.instance, job_name=str(request.job_name), tags=tags)
        return str(request.job_name), days

    def end(self, *, killed: bool = False) -> list[str]:
        """End the queued runs and ingest their days; if they were killed instead, they wait for a retry."""
        runs = self.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.NOT_STARTED]))
        for run in runs:
            self.instance.handle_run_event(run.run_id, ended(run, killed), dt.datetime.now(dt.UTC))
            if killed:
                self.instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
            else:
                first, _, last = run.tags["days"].partition(" to ")
                for day in days(*map(dt.date.fromisoformat, (first, last or first))):
                    self.ingest(day)
        return sorted(run.tags["days"] for run in runs)

    def ingest(self, day: str) -> None:
        """Write a partition built from the present landing files."""
        with self.lake.draft("interactions", day) as draft:
            draft.manifest.config = {"landed": hashes(load_profile("sample"), day)}


def ended(run: dg.DagsterRun, killed: bool) -> dg.DagsterEvent:
    kind = dg.DagsterEventType.RUN_FAILURE if killed else dg.DagsterEventType.RUN_SUCCESS
    return dg.DagsterEvent(kind.value, run.job_name, message="")


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setenv("RECSYS_LANDING", str(tmp_path / "landing"))
    monkeypatch.setenv("RECSYS_LAKE", str(tmp_path / "lake"))
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 0.0)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Watched(tmp_path, instance)


def everything(*days: str) -> list[tuple[str, str]]:
    return [("everything", day) for day in days]


def test_older_days_are_ingested_then_the_newest_is_built_then_the_older_ones_latest_first(watched: Watched) -> None:
    for day in reversed(DAYS):
        watched.put(day)
    assert watched.tick() == [("ingest", f"{DAYS[0]} to {DAYS[1]}")]
    assert watched.tick() == []
    watched.end()
    assert watched.tick() == everything(DAYS[2])
    assert watched.tick() == []
    watched.end()
    assert watched.tick() == everything(DAYS[1], DAYS[0])
    assert watched.tick() == []
    watched.end()
    assert watched.tick() == []


def test_runs_of_older_days_never_take_the_turn_or_the_place_of_the_newest(watched: Watched) -> None:
    for day in DAYS:
        watched.put(day)
    for _ in range(3):
        watched.tick()
        watched.end()
    runs = watched.instance.get_runs()
    turns = {run.tags["days"]: run.tags["recsys/turn"] for run in runs if run.job_name == "everything"}
    assert turns == {DAYS[2]: "now", DAYS[1]: "later", DAYS[0]: "later"}
    by_priority = sorted(
        (run for run in runs if run.job_name == "everything"), key=lambda run: int(run.tags["dagster/priority"])
    )
    assert [run.tags["days"] for run in by_priority] == DAYS


@pytest.mark.parametrize("killed", [1, 2])
def test_older_days_wait_for_the_retry_of_a_run_that_was_killed(watched: Watched, killed: int) -> None:
    for day in DAYS:
        watched.put(day)
    for nth in (1, 2):
        watched.tick()
        watched.end(killed=nth == killed)
        if nth == killed:
            assert watched.tick() == []
            (run,) = watched.instance.get_runs(limit=1)
            watched.instance.add_run_tags(run.run_id, {"dagster/auto_retry_run_id": "the retry"})
    assert watched.tick() == everything(DAYS[1], DAYS[0]) if killed == 2 else everything(DAYS[2])


def test_on_the_first_tick_days_that_the_lake_has_are_not_run_again(watched: Watched) -> None:
    for day in DAYS:
        watched.put(day)
    watched.ingest(DAYS[0])
    watched.ingest(DAYS[1])
    assert watched.tick() == everything(DAYS[2])


def test_with_nothing_landed_the_next_file_is_seen(watched: Watched) -> None:
    assert watched.tick() == []
    watched.put(DAYS[0])
    assert watched.tick() == everything(DAYS[0])


@pytest.fixture
def built(watched: Watched) -> Watched:
    """A state in which all days have landed and are built."""
    for day in DAYS:
        watched.put(day)
        watched.ingest(day)
    assert watched.tick() == []
    return watched


@pytest.mark.parametrize(("table", "name"), [("interactions", "a.csv"), ("interactions", "b.csv"), ("users", "a.csv")])
def test_a_changed_or_further_file_of_an_older_day_builds_the_newest_and_then_it(
    built: Watched, table: str, name: str
) -> None:
    built.put(DAYS[1], "changed", table, name)
    assert built.tick() == [("ingest", DAYS[1])]
    built.end()
    assert built.tick() == everything(DAYS[2])
    built.end()
    assert built.tick() == everything(DAYS[1])


@pytest.mark.parametrize("again", ["touched", "copied over", "replaced by a copy", "its mode changed"])
def test_the_same_bytes_again_are_no_news(built: Watched, tmp_path: Path, again: str) -> None:
    file = built.put(DAYS[2], "user_id")
    if again == "touched":
        file.touch()
    elif again == "copied over":
        shutil.copy(shutil.copy(file, tmp_path / "copy"), file)
    elif again == "replaced by a copy":
        Path(shutil.copy(file, tmp_path / "copy")).replace(file)
    else:
        file.chmod(0o600)
    assert built.tick() == []


def test_a_day_that_changed_back_is_news_only_if_the_lake_was_made_of_the_other_content(built: Watched) -> None:
    keys = set()
    for text, news in (("other", True), ("other", False), ("user_id", True), ("other", True), ("user_id", True)):
        built.put(DAYS[2], text)
        assert built.tick() == (everything(DAYS[2]) if news else []), text
        keys |= {run.tags["dagster/run_key"] for run in built.instance.get_runs()}
        built.end()
    assert len(keys) == 4  # Dagster starts only one run per key
    built.put(DAYS[2], "other")
    built.put(DAYS[2], "user_id")
    assert built.tick() == []


def test_a_day_that_changed_back_while_its_run_read_it_is_run_again(built: Watched) -> None:
    built.put(DAYS[2], "other")
    read = hashes(load_profile("sample"), DAYS[2])
    assert built.tick() == everything(DAYS[2])
    built.put(DAYS[2], "user_id")
    assert built.tick() == []
    built.end()
    with built.lake.draft("interactions", DAYS[2]) as draft:
        draft.manifest.config = {"landed": read}
    assert built.tick() == everything(DAYS[2])


def test_a_day_whose_run_failed_is_not_asked_for_again_until_its_content_changes(watched: Watched) -> None:
    file = watched.put(DAYS[0])
    assert watched.tick() == everything(DAYS[0])
    watched.end(killed=True)
    file.touch()
    assert watched.tick() == []
    watched.put(DAYS[0], "corrected")
    assert watched.tick() == everything(DAYS[0])


def test_the_cursor_of_an_older_version_is_the_time_of_the_newest_change(built: Watched) -> None:
    built.cursor = repr(json.loads(built.cursor)["until"])
    assert built.tick() == []
    built.put(DAYS[2], "changed")
    assert built.tick() == everything(DAYS[2])


def test_a_file_moved_in_with_an_old_time_is_seen(watched: Watched, tmp_path: Path) -> None:
    watched.put(DAYS[1])
    watched.tick()
    watched.end()
    watched.put(DAYS[0]).rename(tmp_path / "elsewhere.csv")
    os.utime(tmp_path / "elsewhere.csv", (0, 0))
    assert watched.tick() == []
    (tmp_path / "elsewhere.csv").rename(watched.landing / "interactions" / f"bizdate={DAYS[0]}" / "a.csv")
    assert watched.tick() == [("ingest", DAYS[0])]


def test_hidden_and_temporary_files_are_left_alone(watched: Watched) -> None:
    for name in (".a.csv.tmp", "_a.csv", "a.csv.tmp", ".a.csv"):
        watched.put(DAYS[0], name=name)
    assert watched.tick() == []


def test_a_day_that_is_being_written_waits_and_holds_nobody_up(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(file: Path, seconds: float) -> None:
        now = file.stat().st_ctime + seconds
        monkeypatch.setattr("recsys_assets.sensors.time.time", lambda: now)

    # A file counts as settled this long after its change, which is longer than the time between this test's files.
    monkeypatch.setattr(sensors, "SETTLED_SECONDS", 3_600.0)
    settled = watched.put(DAYS[0])
    watched.put(DAYS[1])
    at(settled, 3_600 + CLOCK / 2)
    assert watched.tick() == everything(DAYS[0])
    watched.end()
    file = watched.put(DAYS[1], "still being written")
    at(file, 3_600 - CLOCK / 2)
    assert watched.tick() == []
    at(file, 3_600 + CLOCK / 2)
    assert watched.tick() == everything(DAYS[1])


def test_a_day_that_is_not_over_is_requested_once_it_is(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    today = dt.datetime.now(dt.UTC).date()
    watched.put(today.isoformat())
    watched.put("2999-01-01")
    watched.put(DAYS[0])
    assert watched.tick() == everything(DAYS[0])
    watched.end()
    tomorrow = time.time() + 86_400
    monkeypatch.setattr("recsys_assets.sensors.time.time", lambda: tomorrow)
    assert watched.tick() == everything(today.isoformat())


def test_a_tick_over_three_hundred_days_is_quick(watched: Watched) -> None:
    first = load_profile("sample").first_bizdate
    known = days(first, first + dt.timedelta(days=299))
    folder = watched.landing / "interactions"
    for day in known:
        (folder / f"bizdate={day}").mkdir(parents=True)
        (folder / f"bizdate={day}" / "a.csv").write_text(day)
        watched.ingest(day)
    start = time.process_time()
    assert watched.tick() == []
    assert time.process_time() - start < 10
    start = time.process_time()
    assert watched.tick() == []
    assert time.process_time() - start < 3


def test_ten_thousand_files_in_one_tick_are_one_run_and_no_day_is_lost(watched: Watched) -> None:
    first = load_profile("sample").first_bizdate
    known = days(first, first + dt.timedelta(days=249))
    for day in known:
        folder = watched.landing / "interactions" / f"bizdate={day}"
        folder.mkdir(parents=True)
        for number in range(40):
            (folder / f"{number}.csv").write_text(f"{day} {number}")
    start = time.process_time()
    assert watched.tick() == [("ingest", f"{known[0]} to {known[-2]}")]
    assert time.process_time() - start < 30
    watched.end()
    assert watched.tick() == everything(known[-1])
    watched.end()
    assert sorted(watched.tick()) == everything(*known[:-1])


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
    """Turn the sensor on as in the UI, and wait for its first tick."""
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


def ticks(dev: DagsterDev, sensor: str = "new_data_sensor") -> list[dict[str, Any]]:
    """The ended ticks of a sensor, newest first."""
    state = dev.ask(
        """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
            sensorState { ticks(limit: 50) { tickId status runIds runKeys error { message } } } } } }""",
        selector={**REPOSITORY, "sensorName": sensor},
    )["sensorState"]
    return [tick for tick in state["ticks"] if tick["status"] != "STARTED"]


def next_tick(dev: DagsterDev, before: list[dict[str, Any]], sensor: str = "new_data_sensor") -> dict[str, Any]:
    """Wait for the first tick after those."""
    known = {tick["tickId"] for tick in before}
    new = dev.until(
        "the sensor ticks", 90, lambda: [tick for tick in ticks(dev, sensor) if tick["tickId"] not in known] or None
    )
    assert new[-1]["error"] is None, new[-1]
    return new[-1]


def sensor_runs(dev: DagsterDev) -> list[dict[str, Any]]:
    return dev.runs("dagster/sensor_name", "new_data_sensor")


def made_at(dev: DagsterDev, day: str) -> int:
    """The time when the day's `interactions` were published, in nanoseconds."""
    return (dev.lake.read("interactions", day).folder / MANIFEST).stat().st_mtime_ns


@contextlib.contextmanager
def being_written(file: Path) -> Iterator[None]:
    """Change the file's time again and again, like a slow writer."""
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
    assert {asset.partition("_")[0] for asset in missing} == {"tune"}, "assets that run only when they are named"


def test_corrected_days_wait_for_the_newest_whose_run_is_retried_when_it_is_killed(
    platform: Backfilled, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev, corrected, newest = platform.dev, platform.ingested[-2:], landed_bizdates(platform.dev.profile)[-1]
    monkeypatch.setenv("DAGSTER_HOME", str(dev.home))
    with sensor_on(dev):
        known, made = len(sensor_runs(dev)), made_at(dev, corrected[0])
        for day in corrected:
            (file,) = landing_files(dev.profile, "interactions", day)
            pq.write_table(pq.read_table(file).slice(1), file)
        (run,) = dev.until("the newest day is built", 240, lambda: in_progress(dev, known, newest))
        assert made_at(dev, corrected[0]) != made
        kill(run["runId"])
        (retry,) = dev.until("the run is retried", 120, lambda: in_progress(dev, known, newest, run["runId"]))
        dev.cancel([retry])
        older = dev.until("the older days follow", 120, lambda: all_of(dev, known, corrected))
        before = ticks(dev, "champion_sensor")
        next_tick(dev, before, "champion_sensor")
    dev.cancel(older[::-1])
    assert [run["days"] for run in older] == [[day] for day in reversed(corrected)]
    assert {run["tags"]["recsys/turn"] for run in older} == {"later"}
    assert dev.runs("dagster/sensor_name", "champion_sensor") == []


def in_progress(dev: DagsterDev, known: int, day: str, retried: str | None = None) -> list[dict[str, Any]] | None:
    """Wait until the sensor's run of `everything` for a day is executing; with `retried`, the run that retries it."""
    new = [run for run in sensor_runs(dev)[known:] if (run["jobName"], run["status"]) == ("everything", "STARTED")]
    return [run for run in new if run["days"] == [day] and run["tags"].get("dagster/parent_run_id") == retried] or None


def all_of(dev: DagsterDev, known: int, days: list[str]) -> list[dict[str, Any]] | None:
    """Wait until the sensor has a run of `everything` for all of the days; returns these."""
    new = [run for run in sensor_runs(dev)[known:] if run["jobName"] == "everything" and run["days"][0] in days]
    return new if len(new) == len(days) and all(run["status"] in ("QUEUED", "STARTED") for run in new) else None


def kill(run_id: str) -> None:
    """Send SIGKILL to the process that executes a run, and to its steps."""
    with dg.DagsterInstance.get() as instance:
        events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    told = [event.dagster_event.engine_event_data.metadata for event in events if event.dagster_event]
    process = psutil.Process(next(int(str(each["pid"].value)) for each in told if "pid" in each))
    for each in (*process.children(recursive=True), process):
        each.kill()


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
    """Turn the schedule on as in the UI, but as if that had been at `since` and the daemon had been off in between."""
    # The daemon reads schedules when a minute begins; it must not do so while the state is being set up.
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
    """Wait until one of the schedule's runs is executing; returns all of them."""
    runs = dev.runs("dagster/schedule_name", "daily_schedule")
    return runs if any(run["status"] == "STARTED" for run in runs) else None
