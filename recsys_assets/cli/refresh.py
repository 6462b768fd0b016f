"""`recsys refresh`: rebuild what is outdated, so that a bizdate holds the events as they are now."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from recsys_assets.lake import Lake


@click.command()
@click.option("--bizdate", "day", type=Day(), help="Which day (default: the latest complete one).")
def refresh(day: dt.date | None) -> None:
    """Bring a bizdate up to date after landing files or partitions have changed.

    Days whose landing files are new or changed are ingested; then every partition of the bizdate that was made from
    something older is rebuilt. What was never built for the bizdate stays unbuilt.
    """
    from recsys_assets.cli.days import complete_bizdates, latest_bizdate
    from recsys_assets.cli.materialize import run
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    when = day.isoformat() if day else latest_bizdate(profile)
    lake = Lake.of(settings().lake, profile)
    for changed in changed_days(lake, [each for each in complete_bizdates(profile) if each <= when]):
        run("interactions", changed)
    if names := outdated_assets(lake, when):
        run(",".join(names), when)
    else:
        click.echo(f"{profile.name} {when} is up to date")


def changed_days(lake: "Lake", landed: Sequence[str]) -> list[str]:
    """Landed days whose partition of `interactions` is missing, damaged or of other landing files."""
    return [day for day in landed if needs_rebuild(lake, "interactions", day)]


def outdated_assets(lake: "Lake", bizdate: str) -> list[str]:
    """Assets of the graph whose partition is outdated or damaged, and what they need and is missing; by name."""
    from recsys_assets.cli.selection import ancestors, select

    daily = {key.to_user_string() for key in select("*")}
    there = {asset for asset in daily if bizdate in lake.bizdates(asset)}
    outdated = {asset for asset in there if needs_rebuild(lake, asset, bizdate)}
    return sorted(outdated | ((ancestors(outdated) & daily) - there))


def needs_rebuild(lake: "Lake", asset: str, bizdate: str) -> bool:
    """Whether the partition's manifest is missing or damaged, or an input changed since it was made."""
    from recsys_assets.manifest import PartitionDamaged, PartitionMissing

    try:
        return bool(lake.outdated(lake.manifest(asset, bizdate)))
    except (PartitionMissing, PartitionDamaged):
        return True
