"""Sensors: jobs that start when landing files change or a run fails."""

import dataclasses
import datetime as dt
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from recsys_assets.assets.data.ingest import has_new_files
from recsys_assets.assets.publish.collections import missing_inputs
from recsys_assets.datasets.landing import fingerprint, landed_bizdates, landing_files, newest_change
from recsys_assets.datasets.profile import Profile
from recsys_assets.jobs import PRIORITY, TURN, champion, everything, in_turn, ingest
from recsys_assets.lake import Lake
from recsys_assets.partitions import span_tags, stretches
from recsys_assets.resources import Dataset, LakeStore

# A file that changed more recently than this may still be being written.
SETTLED_SECONDS = 5.0
WILL_RETRY, FAILURE_REASON = "dagster/will_retry", "dagster/failure_reason"
RECENT = 20  # failed runs that are checked: those that wait for a retry are among the newest


@dataclass
class Seen:
    """The cursor of `new_data_sensor`.

    Attributes:
        until: time of the newest change that was examined.
        asked: for each day the fingerprint of the content for which a run was requested; removed once the lake has it.
        waiting: days for which a run is still to be requested.
    """

    until: float = 0.0
    asked: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, cursor: str | None) -> "Seen":
        """Read the cursor, or make that of the first tick; an older version of this project stored only the time."""
        content = json.loads(cursor or "{}")
        return cls(**content) if isinstance(content, dict) else cls(until=float(content))


@dg.sensor(
    jobs=[everything, ingest],
    minimum_interval_seconds=30,
    description="Builds the bizdates whose landing files are new or have changed content, the newest first.",
)
def new_data_sensor(context: dg.SensorEvaluationContext, dataset: Dataset, lake: LakeStore) -> dg.SensorResult:
    """Request a run of `everything` for each day whose landed content differs from that in `interactions`.

    Files count once they have stopped changing; a copy or a touch without new content is ignored. A day is built from
    the events of all days before it. So older days are ingested first, each unbroken stretch as one run; then the
    newest day is built from them; when that has ended, the older days are built, the latest first, or in their order if
    trainings continue from earlier days. The first tick examines the whole past and does not run again what the lake
    already has.
    """
    profile, seen = dataset.load(), Seen.read(context.cursor)
    changed, empty = _times_of_news(profile)
    settled = {day: when for day, when in changed.items() if when <= time.time() - SETTLED_SECONDS}
    news, asked = _look(profile, lake.lake, seen, settled)
    newest, until = max(settled, default=""), max([seen.until, *settled.values()])
    waiting = sorted({*seen.waiting, *news, *([newest] if news else [])} & changed.keys() - empty, reverse=True)
    older = [day for day in news if day < newest]
    if older:
        requests = [
            _ingest_request(*stretch, until) for stretch in stretches([dt.date.fromisoformat(day) for day in older])
        ]
    else:
        due = [day for day in _due_bizdates(context.instance, waiting, newest) if day in settled]
        requests = [_build_request(profile, day, newest, until) for day in due]
        waiting = [day for day in waiting if day not in due]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else _why_not(waiting),
        cursor=json.dumps(dataclasses.asdict(Seen(until, asked, waiting))),
    )


@dg.run_failure_sensor(
    monitored_jobs=[everything],
    request_job=champion,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="After a failed run, chooses the champion among the models that were built, and publishes that day.",
)
def champion_sensor(
    context: dg.RunFailureSensorContext, dataset: Dataset, lake: LakeStore
) -> dg.RunRequest | dg.SkipReason:
    """Request `rank_champion` and its downstream assets for the bizdate of a run that failed and will not be retried.

    Dagster skips everything downstream of a failed step. One model that fails must not keep the others from being
    served, and its failure must not go unnoticed: the champion records why that model was not eligible, or it fails and
    names what it lacks. If an asset that collections are built from is missing, only the champion is built: a tag of
    the run names what is missing, and the sets of the day before stay live.
    """
    run = context.dagster_run
    if will_be_retried(context.instance, run):
        return dg.SkipReason(f"run {run.run_id} is about to be retried")
    day, tags = run.tags["dagster/partition"], {name: run.tags[name] for name in (TURN, PRIORITY) if name in run.tags}
    profile = dataset.load()
    missing = missing_inputs(profile, lake.lake, day) if profile.has_entities else []
    if not missing:
        return dg.RunRequest(partition_key=day, run_key=run.run_id, tags=tags)
    tags["recsys/not_published_for_lack_of"] = ", ".join(missing)
    return dg.RunRequest(
        partition_key=day, run_key=run.run_id, tags=tags, asset_selection=[dg.AssetKey("rank_champion")]
    )


def _times_of_news(profile: Profile) -> tuple[dict[str, float], set[str]]:
    """When a file of each landed day last changed, at the earliest when the day ended and so became a partition.

    Days without events' files became empty days when the next one landed; they are also returned on their own: they are
    ingested together with others, and no run builds their assets.
    """
    times, empty, later = dict[str, float](), set[str](), 0.0
    for day in reversed(landed_bizdates(profile)):
        changed = newest_change(profile, day)
        if profile.files.missing_days == "empty" and not landing_files(profile, "interactions", day):
            empty.add(day)
            changed = max(changed, later)
        later = times[day] = max(changed, profile.files.end_of(day).timestamp())
    return dict(reversed(times.items())), empty


def _look(
    profile: Profile, lake: Lake, seen: Seen, settled: Mapping[str, float]
) -> tuple[dict[str, str], dict[str, str]]:
    """Days whose content differs from the lake's and for which no run was requested yet; and all requested days.

    A day for which a run was requested is examined again until the lake has its content: the run may have read the
    files before they changed back.
    """
    news, asked = {}, dict(seen.asked)
    for day, when in settled.items():
        if when <= seen.until and day not in seen.asked:
            continue
        content, last = fingerprint(profile, day), seen.asked.get(day)
        if not has_new_files(profile, lake, "interactions", day):
            if last == content:
                del asked[day]
        elif last != content:
            news[day] = asked[day] = content
    return news, asked


def _due_bizdates(instance: dg.DagsterInstance, waiting: Sequence[str], newest: str) -> Sequence[str]:
    """The waiting days to build now: the newest day once the days before it are ingested, then all others."""
    from recsys_assets.instance import end_dead_runs  # imports libraries that only the daemon needs

    if not waiting:
        return []
    end_dead_runs(instance)
    if _is_busy(instance, job_name=ingest.name):
        return []
    if newest in waiting:
        return [newest]
    return [] if _is_busy(instance, tags={TURN: "now"}) else waiting


def _is_busy(instance: dg.DagsterInstance, **which: Any) -> bool:
    """Whether such a run is waiting, is running, or has failed and is about to be retried."""
    if instance.get_runs(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, **which), limit=1):
        return True
    failed = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], **which), limit=RECENT)
    return any(run.is_complete_and_waiting_to_retry for run in failed)


def will_be_retried(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether Dagster will start the run again itself. It says so in a tag, which it sets shortly after the failure."""
    said = run.tags.get(WILL_RETRY)
    if said is None and instance.run_retries_enabled:
        reason = run.tags.get(FAILURE_REASON)
        return bool(auto_reexecution_should_retry_run(instance, run, RunFailureReason(reason) if reason else None))
    return said == "true"


def _ingest_request(first: dt.date, last: dt.date, until: float) -> dg.RunRequest:
    """Request one run that ingests the events of a stretch of days."""
    span = first.isoformat(), last.isoformat()
    tags = in_turn("now", span[1])
    key = f"{ingest.name}:{':'.join(span)}:{until!r}"
    if first == last:
        return dg.RunRequest(partition_key=span[0], job_name=ingest.name, run_key=key, tags=tags)
    return dg.RunRequest(job_name=ingest.name, run_key=key, tags=tags | span_tags(*span))


def _build_request(profile: Profile, day: str, newest: str, until: float) -> dg.RunRequest:
    """Request a run of every asset of a day. The key contains the time, so that content that came back runs again."""
    key = f"{day}:{fingerprint(profile, day)}:{until!r}"
    in_order = day != newest and (bool(profile.warm_start.models) or profile.refit.days > 1)
    tags = in_turn("now" if day == newest else "later", day, oldest_first=in_order)
    return dg.RunRequest(partition_key=day, job_name=everything.name, run_key=key, tags=tags)


def _why_not(waiting: Sequence[str]) -> str:
    if waiting:
        return f"{len(waiting)} bizdates, {waiting[0]} first, wait until runs of newer bizdates or of ingest have ended"
    return "no landing file has new content, or the new files are still being written"
