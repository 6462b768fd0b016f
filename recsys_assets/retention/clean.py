"""The cleaning itself, for the command `recsys clean` and for the schedule of the profile."""

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from recsys_assets.datasets.profile import Profile
from recsys_assets.lake import Lake
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retention.plan import Old, find_old
from recsys_assets.tracking import Tracking

CLEAN = "clean"


@dataclass(frozen=True)
class Cleaning:
    """The things that go.

    Attributes:
        old: partitions.
        sizes: their bytes by asset.
        runs: of Dagster.
        tracked: failed or deleted runs of MLflow.
        unneeded: files of replaced partitions, and of killed uploads, in an object store.
    """

    old: Old
    sizes: Mapping[str, int]
    runs: list[dg.DagsterRun]
    tracked: list[str]
    unneeded: list[str]


def look(instance: dg.DagsterInstance, lake: Lake, tracking: Tracking, keep_days: int) -> Cleaning:
    """Find out what can go, and change nothing."""
    from recsys_assets.retention.history import busy_days, old_runs  # with it comes SQLAlchemy, which few steps need

    old, sizes = find_old(lake, keep_days, busy_days(instance)), Counter[str]()
    for asset, day in old.partitions:
        sizes[asset] += lake.size(asset, day)
    before = dt.datetime.now(dt.UTC) - dt.timedelta(days=keep_days)
    return Cleaning(old, sizes, old_runs(instance, before), tracking.left_over(before), lake.unneeded())


def apply(instance: dg.DagsterInstance, lake: Lake, tracking: Tracking, found: Cleaning) -> None:
    """Remove it: files first, so that an interruption leaves no partition that only looks removed."""
    from recsys_assets.retention.history import forget, remove_runs

    for asset, day in found.old.partitions:
        lake.remove(asset, day)
    lake.remove_unneeded(found.unneeded)
    for asset in sorted(found.sizes):
        forget(instance, asset, [day for name, day in found.old.partitions if name == asset])
    remove_runs(instance, lake, found.runs)
    tracking.remove(found.tracked)


@dg.op(description="Removes partitions of old bizdates and old runs that nothing needs.")
def remove_old(context: dg.OpExecutionContext, dataset: Dataset, lake: LakeStore, tracking: Tracking) -> None:
    """Remove what is older than `retention.days` of the profile."""
    if (keep := dataset.load().retention.days) is None:
        raise dg.Failure("the profile has no `retention: {days: …}`: add it, or use `recsys clean --keep-days`")
    found = look(context.instance, lake.lake, tracking, keep)
    apply(context.instance, lake.lake, tracking, found)
    for asset, size in sorted(found.sizes.items()):
        context.log.info(f"{asset}: {size / 1e6:,.1f} MB")
    removed = {"partitions": len(found.old.partitions), "megabytes": sum(found.sizes.values()) / 1e6}
    others = {"runs": len(found.runs), "runs of MLflow": len(found.tracked), "unneeded files": len(found.unneeded)}
    context.add_output_metadata({**removed, **others})


@dg.job(name=CLEAN, description="Removes partitions of old bizdates and old runs that nothing needs.")
def clean() -> None:
    """See `remove_old`."""
    remove_old()


def clean_schedule(profile: Profile) -> dg.ScheduleDefinition:
    """Once a day, an hour before the daily run, so that there is room for it."""
    return dg.ScheduleDefinition(
        name="clean_schedule",
        job=clean,
        cron_schedule=f"0 {(profile.daily.hour - 1) % 24} * * *",
        execution_timezone=profile.files.timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=f"Removes what is older than {profile.retention.days} days and not needed.",
    )
