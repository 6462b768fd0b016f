"""The deadline: by an hour of the profile, yesterday's bizdate is released in every store that has releases.

The check `published_in_time` of the release says so in Dagster. It is the sensor of `deadline.py` that fails it,
because a run that never started cannot. The freshness policy is for the UI alone: it is content with any partition that
was materialized lately, and a backfill of an old day would do.
"""

import datetime as dt
from dataclasses import replace

import dagster as dg

from recsys_assets.assets.lake_asset import Check, LakeAsset
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import IN_TIME
from recsys_assets.lake import Lake
from recsys_assets.manifest import PartitionDamaged, PartitionMissing
from recsys_assets.stores.gate import CHAMPION_ASSET
from recsys_assets.stores.registry import STORES, open_store, stores_in_use
from recsys_assets.stores.store import ReleaseStore, StoreError


def due_assets(profile: Profile) -> list[str]:
    """The assets that must be there by the deadline: all releases, or where nothing is released the champion."""
    stores = stores_in_use() if profile.has_entities else []
    return [f"{store}_release" for store in stores if STORES[store].has_releases] or [CHAMPION_ASSET]


def add_deadline(asset: LakeAsset, profile: Profile) -> LakeAsset:
    """The asset; if it is due by a deadline of the profile, it has the check `published_in_time`."""
    daily = profile.daily
    if daily.deadline is None or asset.key not in due_assets(profile):
        return asset
    check = Check(IN_TIME, f"yesterday's partition is released by {daily.deadline:02}:00", blocking=False)
    policy = dg.FreshnessPolicy.cron(
        deadline_cron=f"0 {daily.deadline} * * *",
        lower_bound_delta=dt.timedelta(hours=daily.deadline - daily.hour),
        timezone=profile.files.timezone,
    )
    return replace(asset, checks=[*asset.checks, check], settings={**asset.settings, "freshness_policy": policy})


def why_late(lake: Lake, asset: str, bizdate: str) -> str:
    """Why an asset of `due_assets` is not there for a bizdate, in a sentence; empty if it is."""
    try:
        made = lake.manifest(asset, bizdate)
    except (PartitionMissing, PartitionDamaged) as error:
        return str(error)
    if made.failed_checks:
        return f"{asset} {bizdate} failed {', '.join(made.failed_checks)}: see the check in the UI"
    if made.why_not:
        return f"{asset} {bizdate} was declined: {made.why_not}"
    store = asset.removesuffix("_release")
    return _why_not_released(store, lake, bizdate) if store != asset else ""


def _why_not_released(store: str, lake: Lake, bizdate: str) -> str:
    """Why the store has no release of a bizdate; one that was rolled back since counts as released."""
    try:
        with open_store(store, lake.profile) as opened:
            found = opened.releases() if isinstance(opened, ReleaseStore) else []
    except StoreError as error:
        return str(error)
    if any(each["bizdate"] == bizdate for each in found):
        return ""
    newest = max((str(each["bizdate"]) for each in found), default="none")
    return f"{STORES[store].title} has no release of {bizdate}, the newest is {newest}"
