"""Sensors: what runs when something changed."""

import datetime as dt
import time

import dagster as dg

from recsys_assets.datasets.landing import fingerprint, landed_bizdates, newest_change
from recsys_assets.datasets.profile import Profile
from recsys_assets.jobs import champion, everything
from recsys_assets.resources import Dataset, LakeStore

# A file that changed less than this many seconds ago may still be being written.
SETTLED_SECONDS = 5.0


@dg.sensor(
    job=everything,
    minimum_interval_seconds=30,
    description="Starts the bizdate whose landing files are new or changed, once they have stopped changing.",
)
def new_data_sensor(context: dg.SensorEvaluationContext, dataset: Dataset, lake: LakeStore) -> dg.SensorResult:
    """One run for each bizdate whose landing files came or changed after the cursor.

    The cursor is the time of the newest change that was seen. On the first tick there is none: the days that
    `interactions` lacks are new then, so that turning the sensor on does not run the whole past again. The
    run key carries the files' fingerprint: Dagster never starts the same state of a day twice.
    """
    profile = dataset.load()
    news = {day: _became_news(profile, day) for day in landed_bizdates(profile)}
    settled = {day: when for day, when in news.items() if when <= time.time() - SETTLED_SECONDS}
    if context.cursor:
        due = [day for day, when in settled.items() if when > float(context.cursor)]
    else:
        due = sorted(settled.keys() - set(lake.lake.bizdates("interactions")))
    requests = [dg.RunRequest(partition_key=day, run_key=f"{day}:{fingerprint(profile, day)}") for day in due]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "no landing file is new, or the new ones are still being written",
        cursor=repr(max(settled.values(), default=0.0)),
    )


@dg.run_failure_sensor(
    monitored_jobs=[everything],
    request_job=champion,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="After a failed run, chooses the champion among the models that were built, and publishes.",
)
def champion_sensor(context: dg.RunFailureSensorContext) -> dg.RunRequest:
    """A run of `rank_champion` and what follows it, for the bizdate of a run that failed.

    Dagster skips what is downstream of a failed step. One model that fails must not keep the others from being served,
    nor pass in silence: the champion is made and says why the model was not eligible, or fails and says what it lacks.
    What else failed keeps its own collections from being published, and the release that would need them.
    """
    run = context.dagster_run
    return dg.RunRequest(partition_key=run.tags["dagster/partition"], run_key=run.run_id)


def _became_news(profile: Profile, day: str) -> float:
    """When a file of the day last changed, but not before the day was over (UTC): only then is it a partition."""
    over = dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC) + dt.timedelta(days=1)
    return max(newest_change(profile, day), over.timestamp())
