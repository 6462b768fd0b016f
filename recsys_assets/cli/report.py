"""`recsys report`: where a day's report is, and what differs between the figures of two days."""

import datetime as dt
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from rich.table import Table

    from recsys_assets.lake import Lake

SHOWN = 40
Figures = dict[tuple[str, str, str], float]  # by section, name and metric


@click.command()
@click.argument("day", metavar="[BIZDATE]", type=Day(), required=False)
@click.argument("other", metavar="[BIZDATE]", type=Day(), required=False)
@click.option("--build", is_flag=True, help="Make the report of the first day again, as far as the day has been built.")
def report(day: dt.date | None, other: dt.date | None, build: bool) -> None:
    """Print where the report of a bizdate is (default: the latest); with two bizdates, what differs between them."""
    from rich.console import Console

    from recsys_assets.cli.data import latest_partition
    from recsys_assets.cli.materialize import run
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.reports.day import PAGE, REPORT
    from recsys_assets.settings import settings

    lake = Lake.of(settings().lake, load_profile())
    if build:
        run(REPORT, day.isoformat() if day else None)
    when = day.isoformat() if day else latest_partition(lake, REPORT)
    if other:
        Console().print(comparison(lake, when, other.isoformat()))
        return
    made = lake.read(REPORT, when)
    things = int(made.manifest.metrics["things_to_look_at"])
    click.echo("all is well" if not things else f"{things} things to look at" if things > 1 else "1 thing to look at")
    click.echo(str(made.path(PAGE)))


def comparison(lake: "Lake", one: str, other: str) -> "Table":
    """The figures of two days' reports that differ most, relative to their size."""
    from rich.table import Table

    from recsys_assets.cli.data import figure

    first, second = (_figures(lake, day) for day in (one, other))
    both = [key for key in first if key in second and first[key] != second[key]]
    order = sorted(both, key=lambda key: -abs(second[key] - first[key]) / max(abs(first[key]), abs(second[key])))
    table = Table("section", "of", "figure", one, other, title_justify="left")
    table.title = f"{len(both)} of {len(first.keys() & second.keys())} figures differ; the largest differences"
    for key in order[:SHOWN]:
        table.add_row(*key, figure(first[key]), figure(second[key]))
    return table


def _figures(lake: "Lake", day: str) -> Figures:
    """The figures of a day's report."""
    import pyarrow.parquet as pq

    from recsys_assets.reports.day import REPORT, TABLE

    rows = pq.read_table(lake.read(REPORT, day).path(TABLE)).to_pylist()
    return {(each["section"], each["name"], each["metric"]): each["value"] for each in rows if each["bizdate"] == day}
