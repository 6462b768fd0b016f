"""Schedules: jobs that start at a fixed time."""

import dagster as dg

from recsys_assets.jobs import FIRST, everything, in_turn

# 02:00 in the time zone of the bizdates (UTC by default): the day ended two hours ago, which leaves time for late
# landing files of a nightly export.
daily_schedule = dg.build_schedule_from_partitioned_job(
    everything,
    name="daily_schedule",
    hour_of_day=2,
    tags=in_turn("now", FIRST),
    description="At 02:00 in the time zone of the bizdates, every asset of yesterday's bizdate.",
)
