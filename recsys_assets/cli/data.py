"""`recsys land`, `recsys bizdate`, `recsys show`: landing data, and looking at what is in the lake."""

import datetime as dt
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from recsys_assets.cli.days import Day, NothingLanded, check_landed, latest_bizdate
from recsys_assets.cli.names import NameOrPath

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.datasets.profile_parts import TableName
    from recsys_assets.lake import Lake
    from recsys_assets.manifest import Manifest

LISTED_FILES = 20


@click.command()
@click.argument("profile", type=NameOrPath())
@click.option(
    "--source",
    envvar="RECSYS_SOURCE",
    help="movielens: GroupLens's zip, its folder or a URL (the default); criteo: train.txt; your own profile: one file "
    "of all events, a pattern of Parquet files, sqlite:///FILE or postgresql://USER@HOST/DATABASE. A URL with a "
    "password is better given as RECSYS_SOURCE: every user of a machine sees the arguments of its processes.",
)
@click.option(
    "--query",
    help="Databases and Parquet files: the SELECT that gives the events, under the names of the profile; the table of "
    "Parquet files is `source`.",
)
@click.option("--users-file", type=click.Path(path_type=Path), help="Your own profile: one file of all users.")
@click.option("--items-file", type=click.Path(path_type=Path), help="Your own profile: one file of all items.")
@click.option("--links", type=click.Path(path_type=Path), help="movielens: a links.csv with the IMDB ids.")
@click.option("--from", "first", type=Day(), help="Bundled data sets: first day to land.")
@click.option("--to", "last", type=Day(), help="Bundled data sets: last day to land (sample: yesterday, UTC).")
@click.option("--users", type=int, help="sample: number of users seen in --days days.")
@click.option("--items", type=int, help="sample: number of items seen in --days days.")
@click.option("--events", type=int, help="sample: number of events in --days days.")
@click.option("--days", type=int, help="sample: number of days, the last of them --to.")
@click.option("--seed", type=int, help="sample: seed of everything generated.")
def land(
    profile: str,
    source: str | None,
    query: str | None,
    users_file: Path | None,
    items_file: Path | None,
    links: Path | None,
    first: dt.date | None,
    last: dt.date | None,
    **world: Any,
) -> None:
    """Turn the source of PROFILE (a name or a YAML file) into landing files, one folder per day."""
    from recsys_assets.datasets import landing
    from recsys_assets.datasets.profile import load_profile

    files: dict[TableName, Path | None] = {"users": users_file, "items": items_file}
    loaded = load_profile(profile)
    report = landing.land(loaded, source, first, last, links=links, query=query, files=files, **world)
    days = report.bizdates
    span = f"{days[0]} to {days[-1]}" if days else "none"
    click.echo(f"{report.profile}: {report.rows:,} events of {days_text(len(days))} ({span}) in {report.folder}")
    for reason, count in report.rejected.items():
        click.echo(f"{count:,} rows were rejected: {reason} (see {report.rejected_file})")
    are = "is" if len(report.changed) == 1 else "are"
    click.echo(
        f"{days_text(len(report.changed))} {are} new or changed; next: recsys --profile {profile} materialize '*'"
    )


@click.command()
def bizdate() -> None:
    """Print the latest complete business date: the last landed day that has ended."""
    from recsys_assets.datasets.profile import load_profile

    click.echo(latest_bizdate(load_profile()))


@click.command()
@click.argument("asset")
@click.argument("day", metavar="[BIZDATE]", type=Day(), required=False)
@click.option("--bizdate", "named", type=Day(), help="The same as BIZDATE.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def show(asset: str, day: dt.date | None, named: dt.date | None, as_json: bool) -> None:
    """Show the contents of a partition of ASSET (default: the latest): rows, schema, metrics, files."""
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.manifest import describe_outdated
    from recsys_assets.settings import settings

    if day and named and day != named:
        raise click.UsageError(f"BIZDATE is {day} and --bizdate is {named}: give only one of them")
    profile, day = load_profile(), day or named
    lake = Lake.of(settings().lake, profile)
    when = day.isoformat() if day else latest_partition(lake, asset)
    manifest = _manifest(lake, profile, asset, when)
    path = lake.location(asset, when)
    if as_json:
        content = {key: getattr(manifest, key) for key in ("asset", "profile", "bizdate")}
        content |= {"path": path, "rows": manifest.rows, "metrics": manifest.metrics, "manifest": manifest.content()}
        content["outdated"] = lake.outdated_inputs(manifest)
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
    else:
        _print(manifest, path)
        if outdated := lake.outdated_inputs(manifest):
            click.secho(describe_outdated(manifest, outdated), fg="yellow")


def _manifest(lake: "Lake", profile: "Profile", asset: str, day: str) -> "Manifest":
    """The partition's manifest; if there is none, an error that says whether asset and day can have one."""
    from recsys_assets.manifest import PartitionMissing

    try:
        return lake.manifest(asset, day)
    except PartitionMissing:
        from recsys_assets.cli.selection import check_asset, check_bizdate

        check_asset(asset)
        check_bizdate(day)
        check_landed(profile, lake, day)
        raise


def latest_partition(lake: "Lake", asset: str) -> str:
    """The asset's last bizdate in the lake; if there is none, an error that suggests an asset's name or a command."""
    days = lake.bizdates(asset)
    if days:
        return days[-1]
    from recsys_assets.cli.selection import check_asset

    check_asset(asset)
    raise NothingLanded(f"{asset} was never materialized for '{lake.profile}': recsys materialize '+{asset}'")


def _print(manifest: "Manifest", path: str) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    console.print(f"[bold]{manifest.asset}[/] {manifest.bizdate} of {manifest.profile}", highlight=False)
    facts = Table.grid(padding=(0, 2))
    if manifest.rows is not None:
        facts.add_row("rows", f"{manifest.rows:,}")
    for name, value in manifest.metrics.items():
        facts.add_row(name, figure(value))
    if manifest.declined:
        facts.add_row("[yellow]cannot be built[/]", escape(manifest.declined))
    if manifest.below_floor:
        facts.add_row("[red]nothing is built on it[/]", escape(manifest.below_floor))
    for check in manifest.failed_checks:
        facts.add_row("[red]failed check[/]", escape(check))
    if manifest.mlflow_run_id:
        facts.add_row("MLflow run", manifest.mlflow_run_id)
    console.print(facts)
    console.print(f"[bold]path[/]: {escape(path)}", highlight=False, soft_wrap=True)
    for file, columns in manifest.schema.items():
        listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        console.print(f"[bold]{file}[/]: {listed}", highlight=False, soft_wrap=True)
    others = [file for file in manifest.files if file not in manifest.schema]
    if others:
        more = f" and {len(others) - LISTED_FILES} more" if len(others) > LISTED_FILES else ""
        console.print(f"[bold]other files[/]: {', '.join(others[:LISTED_FILES])}{more}", highlight=False)


def days_text(days: int) -> str:
    """A number of days in words."""
    return "1 day" if days == 1 else f"{days:,} days"


def figure(value: float) -> str:
    """A metric as text: whole numbers without decimals, tiny ones with an exponent, others with four decimals."""
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.1e}" if abs(value) < 0.001 else f"{value:.4f}"
