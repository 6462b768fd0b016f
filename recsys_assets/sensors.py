"""Sensors: what runs when something changed."""

import time

import dagster as dg

from recsys_assets.datasets.landing import fingerprint, landed_bizdates, newest_change
from recsys_assets.jobs import everything
from recsys_assets.partitions import bizdate
from recsys_assets.resources import Dataset

# A file that changed less than this many seconds ago may still be being written.
SETTLED_SECONDS = 5.0


@dg.sensor(
    job=everything,
    minimum_interval_seconds=30,
    description="Starts the bizdate whose landing files are new or changed, once they have stopped changing.",
)
def new_data_sensor(context: dg.SensorEvaluationContext, dataset: Dataset) -> dg.SensorResult | dg.SkipReason:
    """One run for each bizdate with landing files newer than the cursor.

    The cursor is the time of the newest change that was acted upon. The run key carries the files'
    fingerprint: Dagster never starts the same key twice, so a day is rerun when, and only when, it changed.
    """
    profile = dataset.load()
    acted_upon = float(context.cursor or 0.0)
    changes = {day: newest_change(profile, day) for day in landed_bizdates(profile)}
    # A day still being written holds back the days that changed after it: the cursor must not pass it.
    unsettled = min((c for c in changes.values() if c > time.time() - SETTLED_SECONDS), default=float("inf"))
    ready = {day: c for day, c in changes.items() if acted_upon < c < unsettled and bizdate.has_partition_key(day)}
    if not ready:
        return dg.SkipReason("no landing file is new, or the new ones are still being written")
    requests = [
        dg.RunRequest(partition_key=day, run_key=f"{day}:{fingerprint(profile, day)}") for day in sorted(ready)
    ]
    return dg.SensorResult(run_requests=requests, cursor=repr(max(ready.values())))
