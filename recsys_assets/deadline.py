"""The sensor that looks, once the deadline of the profile has passed, whether yesterday's bizdate is released."""

import datetime as dt

import dagster as dg

from recsys_assets.assets.publish.deadline import due_assets, why_late
from recsys_assets.io_managers import IN_TIME
from recsys_assets.resources import Dataset, LakeStore


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
    return dg.SensorResult(
        skip_reason=None if late else f"{day} is released",
        asset_events=[_failed(asset, day, said) for asset, said in late.items()],
        cursor=day,
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
