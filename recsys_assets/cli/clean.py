"""`recsys clean`: remove partitions of old bizdates, and old runs, that nothing needs."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.table import Table

    from recsys_assets.retention.clean import Cleaning


@click.command()
@click.option("--keep-days", type=click.IntRange(min=1), required=True, help="Days up to the newest bizdate that stay.")
@click.option("--yes", is_flag=True, help="Remove it; without this, only say what would go.")
def clean(keep_days: int, yes: bool) -> None:
    """Remove partitions of bizdates before the newest days, and runs that are as old, unless something needs them.

    Days of events stay for ever, and so do the figures: the manifests of removed partitions are kept in the lake's
    folder `.removed`. What a store can serve or roll back to stays, with all that it was made from.
    """
    from rich.console import Console

    from recsys_assets.cli.running import open_instance
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.retention.clean import apply, look
    from recsys_assets.settings import settings
    from recsys_assets.tracking import Tracking

    lake, tracking = Lake.of(settings().lake, load_profile()), Tracking(profile=settings().profile)
    with open_instance() as instance:
        found = look(instance, lake, tracking, keep_days)
        if found.old.partitions:
            Console().print(_table(found))
        click.echo(
            f"runs of Dagster: {len(found.runs)}; failed, unfinished and deleted runs of MLflow: {len(found.tracked)}"
        )
        if found.unneeded:
            click.echo(f"files of replaced partitions and of killed uploads: {len(found.unneeded):,}")
        if not yes:
            click.echo("nothing was removed: add --yes to remove it")
            return
        apply(instance, lake, tracking, found)
    click.echo("removed")


def _table(found: "Cleaning") -> "Table":
    """A table with one row per asset: its partitions, their first and last bizdate, and megabytes."""
    from rich.table import Table

    title = f"before {found.old.before}"
    table = Table("asset", "partitions", "from", "to", "MB", title=title, title_justify="left", show_footer=True)
    table.columns[1].justify = table.columns[4].justify = "right"
    for asset, size in sorted(found.sizes.items()):
        days = [day for name, day in found.old.partitions if name == asset]
        table.add_row(asset, str(len(days)), min(days), max(days), f"{size / 1e6:,.1f}")
    table.columns[0].footer, table.columns[1].footer = "all", str(len(found.old.partitions))
    table.columns[4].footer = f"{sum(found.sizes.values()) / 1e6:,.1f}"
    return table
