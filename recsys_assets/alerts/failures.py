"""Failures that Dagster's instance knows of: of runs, of checks in runs that succeeded, and of ticks.

Each is told with its first cause: that of the first step that failed, in the first of a run's attempts.
"""

import datetime as dt
from collections.abc import Iterable, Iterator

import dagster as dg
from dagster._core.scheduler.instigation import TickStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.tags import RETRY_NUMBER_TAG

from recsys_assets.alerts.alert import Alert
from recsys_assets.run_events import check_text, failure_reason, first_line
from recsys_assets.sensors import will_be_retried

ENDED = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS]
TICKS = 200  # of one sensor or schedule that are looked at: more than there are between two looks
Type = dg.DagsterEventType


def of_runs(instance: dg.DagsterInstance, since: float, ui: str) -> Iterator[Alert]:
    """Runs that failed and will not be retried, and runs that succeeded although checks failed."""
    after = dt.datetime.fromtimestamp(since - 1, dt.UTC)  # Dagster's tables hold whole seconds; `end_time` is exact
    for record in instance.get_run_records(dg.RunsFilter(statuses=ENDED, updated_after=after)):
        run, ended = record.dagster_run, record.end_time or 0.0
        if ended <= since:  # something else about it has changed
            continue
        failed = run.status == dg.DagsterRunStatus.FAILURE
        if failed and will_be_retried(instance, run):
            continue
        cause = _first_cause(instance, run) if failed else "\n".join(_failed_checks(instance, run))
        if cause:
            how = "failed" if failed else "succeeded, but checks failed"
            yield Alert(f"run {run.run_id}", ended, f"{_name(run)} {how}", cause, f"{ui}/runs/{run.run_id}")


def of_checks(instance: dg.DagsterInstance, keys: Iterable[dg.AssetCheckKey], since: float, ui: str) -> Iterator[Alert]:
    """Failures of these checks that a sensor reported, outside of any run."""
    failed = {AssetCheckExecutionRecordStatus.FAILED}
    for key in keys:
        name = key.asset_key.to_user_string()
        for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=10, status=failed):
            event = record.event.dagster_event if record.event else None
            when = record.event.timestamp if record.event else 0.0  # the record's own time is in whole seconds
            if when > since and not record.run_id and event:
                text = check_text(event.asset_check_evaluation_data)
                title, link = f"{name} {record.partition}: {key.name} failed", f"{ui}/assets/{name}?view=checks"
                yield Alert(f"check {record.id}", when, title, text, link)


def of_ticks(instance: dg.DagsterInstance, since: float, failing: dict[str, str], ui: str) -> Iterator[Alert]:
    """Ticks of sensors and schedules that failed, except for the error of the tick before; updates `failing`."""
    for state in instance.all_instigator_state():
        name = state.instigator_name
        ticks = instance.get_ticks(state.instigator_origin_id, state.selector_id, after=since, limit=TICKS)
        for tick in reversed(ticks):  # oldest first
            if tick.status in (TickStatus.SUCCESS, TickStatus.SKIPPED):
                failing.pop(name, None)
            if tick.status != TickStatus.FAILURE:
                continue
            cause = first_line(tick.error.message if tick.error else "the tick failed")
            if failing.get(name) != cause:
                kind = state.instigator_type.value.lower()
                yield Alert(f"tick {tick.tick_id}", tick.timestamp, f"{kind} {name} failed", cause, f"{ui}/automation")
            failing[name] = cause


def _first_cause(instance: dg.DagsterInstance, run: dg.DagsterRun) -> str:
    """Why the first step failed; for a run that Dagster retried, in its first attempt."""
    first = (run.root_run_id if RETRY_NUMBER_TAG in run.tags else None) or run.run_id
    logs = instance.all_logs(first, of_type={Type.STEP_FAILURE, Type.ASSET_CHECK_EVALUATION, Type.RUN_FAILURE})
    events = [entry.dagster_event for entry in logs if entry.dagster_event]
    for event in events:
        if event.event_type == Type.STEP_FAILURE:
            blocked = [text for text in _texts(events, event.step_key) if text]
            return f"{event.step_key}: {'; '.join(blocked) or failure_reason(event)}"
    ends = [event.message for event in events if event.event_type == Type.RUN_FAILURE]
    return first_line(ends[0] if ends and ends[0] else "the run failed before its first step")


def _texts(events: Iterable[dg.DagsterEvent], step: str | None) -> Iterator[str]:
    """The blocking checks of a step that failed."""
    for event in events:
        if event.event_type == Type.ASSET_CHECK_EVALUATION and event.step_key == step:
            found = event.asset_check_evaluation_data
            if found.blocking and not found.passed:
                yield check_text(found)


def _failed_checks(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[str]:
    """The failed checks of a run's own steps, a line each; it may report what became outdated, too."""
    for entry in instance.all_logs(run.run_id, of_type=Type.ASSET_CHECK_EVALUATION):
        event = entry.dagster_event
        if event and event.step_key and not (found := event.asset_check_evaluation_data).passed:
            yield f"{found.asset_key.to_user_string()}: {check_text(found)}"


def _name(run: dg.DagsterRun) -> str:
    """The job and the days of a run."""
    span = [run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end")]
    days = run.tags.get("dagster/partition") or " to ".join(filter(None, span))
    job = "a run of assets" if run.job_name.startswith("__") else run.job_name
    return f"{job} {days}".strip()
