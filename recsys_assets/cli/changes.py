"""`recsys refresh` and `recsys adopt`: after a change of landing files or partitions, or of the profile."""

import datetime as dt
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from recsys_assets.cli.running import Run
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.lake import Lake


@click.command()
@click.option("--bizdate", "day", type=Day(), help="Which day (default: the latest complete one).")
def refresh(day: dt.date | None) -> None:
    """Bring a bizdate up to date after landing files or partitions have changed.

    Days whose landing files are new or changed are ingested; then every partition of the bizdate that was built from
    something older is rebuilt. Assets that were never built for the bizdate stay unbuilt.
    """
    from recsys_assets.cli.days import latest_bizdate
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    bring_up_to_date(profile, Lake.of(settings().lake, profile), day.isoformat() if day else latest_bizdate(profile))


def bring_up_to_date(profile: "Profile", lake: "Lake", bizdate: str) -> None:
    """Ingest the days up to a bizdate that are new or changed, and rebuild what is outdated of the bizdate.

    Raises:
        MaterializeFailed: a step or a blocking check failed.
    """
    from recsys_assets.cli.materialize import execute, run

    execute(ingestion_runs(profile, lake, bizdate))
    if names := outdated_assets(profile, lake, bizdate):
        run(",".join(names), bizdate)
    else:
        click.echo(f"{profile.name} {bizdate} is up to date")


@click.command()
def adopt() -> None:
    """Accept the profile as a new description of the data set that is already there.

    Use it for a profile that gained a column or whose landing folder moved. For a different data set, give the profile
    a different name instead.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings
    from recsys_assets.stores.registry import open_store, stores_in_use
    from recsys_assets.tracking import Tracking
    from recsys_assets.uris import safe_uri

    profile = load_profile()
    lake = Lake(settings().lake, profile.name)
    lake.adopt(profile)
    for name in stores_in_use():
        with open_store(name, profile.name) as store:
            if store.collections():
                store.claim(lake.owner)
    Tracking(profile=settings().profile).adopt(lake.owner)
    click.echo(
        f"{safe_uri(lake.folder)}, stores and tracking hold the data set that the profile '{profile.name}' describes"
    )


def ingestion_runs(profile: "Profile", lake: "Lake", bizdate: str) -> "list[Run]":
    """Runs that ingest the landed days up to the bizdate that are missing, damaged, or older than their files."""
    from recsys_assets.assets.data.ingest import has_new_files
    from recsys_assets.cli.days import complete_bizdates
    from recsys_assets.cli.running import INTERACTIONS, Run
    from recsys_assets.partitions import stretches

    landed = [day for day in complete_bizdates(profile) if day <= bizdate]
    changed = [dt.date.fromisoformat(day) for day in landed if has_new_files(profile, lake, "interactions", day)]
    return [Run(frozenset({INTERACTIONS}), first.isoformat(), last.isoformat()) for first, last in stretches(changed)]


def outdated_assets(profile: "Profile", lake: "Lake", bizdate: str) -> list[str]:
    """Names of the bizdate's assets to rebuild: the changed ones, what was built from them, and missing inputs of both.

    An asset that was never built for the bizdate and that no other needs stays unbuilt; searches of hyper-parameters
    are never rebuilt.
    """
    from recsys_assets.assets.data.ingest import has_new_files
    from recsys_assets.cli.selection import ancestors, descendants, select
    from recsys_assets.datasets.profile import KEYS
    from recsys_assets.lineage import Lineage

    daily = {key.to_user_string() for key in select("*")}
    there = {asset for asset, day in lake.partitions() if day == bizdate} & daily
    changed: set[str] = {table for table in KEYS if table in there and has_new_files(profile, lake, table, bizdate)}
    changed |= there & set(Lineage(lake).outdated_assets(bizdate))
    changed |= {asset for asset in there if not lake.fingerprints(asset, [bizdate])}  # their manifests are damaged
    again = changed | (descendants(changed) & there)
    return sorted(again | ((ancestors(again) & daily) - there))
