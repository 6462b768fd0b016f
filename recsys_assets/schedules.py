"""Schedules: jobs that start at a fixed time."""

import dagster as dg
from dagster._core.definitions.partitions.partitioned_schedule import (
    UnresolvedPartitionedAssetScheduleDefinition as UnresolvedSchedule,
)

from recsys_assets.datasets.profile import Profile
from recsys_assets.jobs import FIRST, everything, in_turn


def daily_schedule(profile: Profile) -> dg.ScheduleDefinition | UnresolvedSchedule:
    """Every asset of yesterday, at an hour of the profile (02:00 by default) in the time zone of the bizdates.

    The day has ended some hours before, which leaves time for late landing files of a nightly export.
    """
    hour = profile.daily.hour
    return dg.build_schedule_from_partitioned_job(
        everything,
        name="daily_schedule",
        hour_of_day=hour,
        tags=in_turn("now", FIRST),
        description=f"At {hour:02}:00 in the time zone of the bizdates, every asset of yesterday's bizdate.",
    )
