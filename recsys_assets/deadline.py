"""The sensor that looks, once the deadline of the profile has passed, whether yesterday's bizdate is released."""

import datetime as dt

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.instance import RUNLESS_RUN_ID

from recsys_assets.assets.publish.deadline import due_assets, why_late
from recsys_assets.io_managers import IN_TIME
from recsys_assets.resources import Dataset, LakeStore

MOST_RESULTS = 1000  # of a check of one day, of its runs and of this sensor


@dg.sensor(
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="After the deadline of the profile, fails `published_in_time` if yesterday's bizdate is not released.",
)
def deadline_sensor(
    context: dg.SensorEvaluationContext, dataset: Dataset, lake: LakeStore
) -> dg.SensorResult | dg.SkipReason:
    """Report each asset that is late, once per bizdate; when it is built after all, its own run lets the check pass.

    The cursor is the last bizdate that was looked at.
    """
    profile = dataset.load()
    now, deadline = profile.files.now(), profile.daily.deadline
    day = (now.date() - dt.timedelta(days=1)).isoformat()
    if deadline is None or now.hour < deadline:
        return dg.SkipReason(f"{day} is not due yet")
    if context.cursor == day:
        return dg.SkipReason(f"{day} was looked at")
    late = {asset: said for asset in due_assets(profile) if (said := why_late(lake.lake, asset, day))}
    new = [_failed(asset, day, said) for asset, said in late.items() if not _is_reported(context.instance, asset, day)]
    return dg.SensorResult(skip_reason=None if late else f"{day} is released", asset_events=new, cursor=day)


def _is_reported(instance: dg.DagsterInstance, asset: str, day: str) -> bool:
    """Whether a sensor failed the check of the day before, and its cursor was lost.

    Dagster takes one result for each day outside of runs, and fails with an `IntegrityError` at the next one.
    """
    key = dg.AssetCheckKey(dg.AssetKey(asset), IN_TIME)
    storage, of_day = instance.event_log_storage, PartitionKeyFilter(key=day)
    return any(
        each.run_id == RUNLESS_RUN_ID
        for each in storage.get_asset_check_execution_history(key, limit=MOST_RESULTS, partition_filter=of_day)
    )


def _failed(asset: str, day: str, because: str) -> dg.AssetCheckEvaluation:
    """The failed check of an asset that is late."""
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(asset),
        check_name=IN_TIME,
        passed=False,
        metadata={"because": because},
        blocking=False,
        partition=day,
    )
