"""The code location: every asset, check, job, schedule and sensor of one dataset profile.

Only the assembly belongs here. `RECSYS_PROFILE` picks the profile, which is read in `build_defs` and nowhere before.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from recsys_assets.alerts.sensor import alert_sensor
from recsys_assets.assets import assets_of, checks_of
from recsys_assets.datasets.disk import keep_private
from recsys_assets.datasets.profile import load_profile
from recsys_assets.deadline import deadline_sensor
from recsys_assets.executor import step_executor
from recsys_assets.fresh_job import fresh_items, fresh_items_sensor
from recsys_assets.io_managers import LakeIOManager
from recsys_assets.jobs import champion, everything, ingest
from recsys_assets.processes import end_with_parent
from recsys_assets.resources import resources
from recsys_assets.retention.clean import clean, clean_schedule
from recsys_assets.schedules import daily_schedule
from recsys_assets.sensors import champion_sensor, new_data_sensor
from recsys_assets.uris import guard_logs


def build_defs(overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """The definitions; tests can replace some resources."""
    provided = {**resources(), **(overrides or {})}
    profile = load_profile()
    assets = assets_of(profile)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks_of(assets),
        jobs=[everything, ingest, champion, fresh_items, clean],
        schedules=[daily_schedule(profile), *([clean_schedule(profile)] if profile.retention.days else [])],
        sensors=[
            new_data_sensor,
            champion_sensor,
            fresh_items_sensor,
            alert_sensor,
            *([deadline_sensor] if profile.daily.deadline else []),
        ],
        resources={**provided, "io_manager": LakeIOManager(store=provided["lake"])},
        executor=step_executor,
    )


# These calls are here because every Dagster process that runs our code imports this module.
keep_private()
guard_logs()
end_with_parent()  # for runs; step_processes.py does the same for their steps
defs = build_defs()
