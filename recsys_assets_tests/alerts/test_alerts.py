"""Alerts of real runs, checks and ticks, and the fate of an alert that nobody takes."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.remote_origin import (
    ManagedGrpcPythonEnvCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from recsys_assets.alerts.alert import Alert
from recsys_assets.alerts.channels import AlertNotDelivered, channels
from recsys_assets.alerts.sensor import alert_sensor
from recsys_assets.resources import Dataset
from recsys_assets_tests.helpers.receivers import mail_server, web_server
from recsys_assets_tests.helpers.worlds import write_profile

LATE = dg.AssetKey("mongo_release")
ALERT = Alert(
    "run 1", 0.0, "everything 2026-01-05 failed", "splits: ValueError: no rows", "http://127.0.0.1:3000/runs/1"
)


@dg.asset
def broken() -> None:
    raise ValueError("no rows\nand more lines")


@dg.asset(deps=[broken])
def after_broken() -> None:
    pass


@dg.asset(check_specs=[dg.AssetCheckSpec("auc_floor", asset="weak"), dg.AssetCheckSpec("fine", asset="weak")])
def weak() -> dg.MaterializeResult:  # type: ignore[type-arg]
    failed = dg.AssetCheckResult(check_name="auc_floor", passed=False, metadata={"value": 0.51234, "floor": 0.55})
    return dg.MaterializeResult(check_results=[failed, dg.AssetCheckResult(check_name="fine", passed=True)])


@dg.asset(check_specs=[dg.AssetCheckSpec("keys", asset="blocked", blocking=True)])
def blocked() -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(check_name="keys", passed=False)])


class Watched:
    """An instance, the cursor of its sensor, and the file to which alerts are written."""

    def __init__(self, instance: dg.DagsterInstance, file: Path) -> None:
        self.instance, self.file, self.cursor, self.profile = instance, file, "", "sample"
        self.tick()

    def tick(self) -> list[tuple[str, str]]:
        """The titles and causes that this tick wrote to the file."""
        before = len(self.written())
        resources = {"dataset": Dataset(profile=self.profile)}
        with dg.build_sensor_context(self.instance, self.cursor, resources=resources) as context:
            result = alert_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor or ""
        return [(alert["title"], alert["cause"]) for alert in self.written()[before:]]

    def written(self) -> list[dict[str, str]]:
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        return [json.loads(line) for line in lines]

    def run(self, *assets: dg.AssetsDefinition, tags: dict[str, str] | None = None) -> str:
        return dg.materialize(assets, instance=self.instance, raise_on_error=False, tags=tags).run_id


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setenv("RECSYS_ALERT_FILE", str(tmp_path / "new" / "alerts.jsonl"))
    with dg.instance_for_test() as instance:
        yield Watched(instance, tmp_path / "new" / "alerts.jsonl")


def test_a_failed_run_is_reported_once_with_its_first_cause(watched: Watched) -> None:
    run = watched.run(broken, after_broken)
    assert watched.tick() == [("a run of assets failed", "broken: ValueError: no rows")]
    assert watched.written()[0]["link"].endswith(f"/runs/{run}")
    assert watched.tick() == watched.tick() == []


def test_failures_from_before_the_first_tick_are_no_news(watched: Watched) -> None:
    watched.run(broken)
    watched.cursor = ""
    assert watched.tick() == watched.tick() == []


def test_failed_checks_of_a_run_that_succeeded_are_one_alert(watched: Watched) -> None:
    watched.run(weak)
    title = "a run of assets succeeded, but checks failed"
    assert watched.tick() == [(title, "weak: check auc_floor failed (floor 0.55, value 0.5123)")]
    assert watched.tick() == []


def test_a_blocking_check_is_the_cause_of_the_run_that_it_failed(watched: Watched) -> None:
    watched.run(blocked)
    assert watched.tick() == [("a run of assets failed", "blocked: check keys failed")]


def test_a_run_that_is_retried_is_reported_at_the_end_with_the_cause_of_its_first_attempt(watched: Watched) -> None:
    first = watched.run(broken, tags={"dagster/will_retry": "true"})
    assert watched.tick() == []
    tags = {"dagster/retry_number": "1", "dagster/root_run_id": first, "dagster/parent_run_id": first}
    job = dg.define_asset_job("retry", selection=[blocked]).resolve(
        asset_graph=dg.Definitions([blocked]).resolve_asset_graph()
    )
    made = watched.instance.create_run_for_job(job, root_run_id=first, parent_run_id=first, tags=tags)
    watched.instance.report_run_failed(made, "the process is gone")
    assert watched.tick() == [("retry failed", "broken: ValueError: no rows")]


def test_a_sensor_that_fails_again_and_again_is_reported_once_until_it_works_or_fails_otherwise(
    watched: Watched,
) -> None:
    for said, reported in (("a", True), ("a", False), ("b", True), (None, False), ("b", True)):
        add_tick(watched.instance, said)
        expected = [("sensor new_data_sensor failed", f"LakeUnavailable: {said}")] if reported else []
        assert watched.tick() == expected, said


def add_tick(instance: dg.DagsterInstance, error: str | None) -> None:
    """Store a tick of a sensor as the daemon does."""
    place = ManagedGrpcPythonEnvCodeLocationOrigin(LoadableTargetOrigin(module_name="recsys_assets"), "recsys_assets")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(place, "__repository__"), "new_data_sensor")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING, SensorInstigatorData())
    if not instance.all_instigator_state():
        instance.add_instigator_state(state)
    name, selector = origin.instigator_name, state.selector_id
    status = TickStatus.FAILURE if error else TickStatus.SKIPPED
    found = SerializableErrorInfo(f"recsys_assets.lake_place.LakeUnavailable: {error}\n", [], None) if error else None
    data = TickData(
        origin.get_id(), name, InstigatorType.SENSOR, status, time.time(), selector_id=selector, error=found
    )
    instance.create_tick(data)


def test_a_late_release_is_reported_once(watched: Watched, tmp_path: Path) -> None:
    watched.profile = write_profile(tmp_path / "own.yaml", {"daily": {"deadline": 8}})
    late = dg.AssetCheckEvaluation(
        asset_key=LATE, check_name="published_in_time", passed=False, metadata={"because": "it was not built"},
        blocking=False, partition="2026-01-05",
    )  # fmt: skip
    watched.instance.report_runless_asset_event(late)
    text = "check published_in_time failed (because it was not built)"
    assert watched.tick() == [("mongo_release 2026-01-05: published_in_time failed", text)]
    assert watched.tick() == []


def test_an_alert_that_nobody_takes_is_logged_and_sent_once_somebody_does(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with web_server() as server:
        monkeypatch.setenv("RECSYS_ALERT_WEBHOOK", f"http://127.0.0.1:{server.port}/hooks/sesame")
        server.status = 503
        watched.run(broken)
        assert len(watched.tick()) == 1
        logged = capfd.readouterr().err
        assert "RECSYS_ALERT_WEBHOOK: 127.0.0.1 answered 503" in logged and "ValueError: no rows" in logged
        assert "sesame" not in logged + watched.cursor
        watched.run(blocked)
        watched.tick()
        server.status = 200
        assert watched.tick() == []
        assert [sent["cause"] for sent in server.content] == [
            "broken: ValueError: no rows",
            "blocked: check keys failed",
        ]
        watched.tick()
    assert len(server.content) == 2
    assert json.loads(watched.cursor)["waiting"] == []


def test_a_mail_has_the_title_as_its_subject() -> None:
    with mail_server() as server:
        places = {
            "RECSYS_ALERT_SMTP": f"smtp://127.0.0.1:{server.port}/?from=a@example.com&to=b@example.com,c@example.com"
        }
        channels(places)["RECSYS_ALERT_SMTP"](ALERT)
    (mail,) = server.content
    assert "Subject: everything 2026-01-05 failed" in mail and "To: b@example.com,c@example.com" in mail.replace(
        ", ", ","
    )
    assert "splits: ValueError: no rows" in mail


@pytest.mark.parametrize(
    ("variable", "place", "said"),
    [
        ("RECSYS_ALERT_WEBHOOK", "ftp://host/sesame", "is not an address that begins with https://"),
        ("RECSYS_ALERT_WEBHOOK", "http://127.0.0.1:1/sesame", "127.0.0.1 cannot be reached: ConnectionError"),
        ("RECSYS_ALERT_WEBHOOK", "http://127.0.0.1:sesame/", "is not an address"),
        ("RECSYS_ALERT_SMTP", "smtp://me:sesame@127.0.0.1:1/?from=a@b.c&to=a@b.c", "127.0.0.1 did not take the mail"),
        ("RECSYS_ALERT_SMTP", "smtp://me:sesame@127.0.0.1:1/", "add ?from=ADDRESS&to=ADDRESS"),
        ("RECSYS_ALERT_FILE", "/proc/alerts", "RECSYS_ALERT_FILE: /proc/alerts cannot be written"),
    ],
)
def test_a_place_that_takes_nothing_is_named_without_its_secret(variable: str, place: str, said: str) -> None:
    with pytest.raises(AlertNotDelivered, match=variable) as error:
        channels({variable: place})[variable](ALERT)
    assert said in str(error.value) and "sesame" not in str(error.value)
