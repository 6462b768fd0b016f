"""`recsys backfill`: build assets for a range of days, by Dagster's daemon or, where none runs, in this process."""

import datetime as dt
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    from rich.table import Table

    from recsys_assets.backfills import Backfill
    from recsys_assets.cli.running import Run

SHOWN = 10  # days that a message names


class BackfillFailed(RuntimeError):
    """Some days of a backfill failed; the message names them and the first error of each."""


@click.command()
@click.argument("selection", default="*")
@click.option("--from", "first", type=Day(), required=True, help="The first bizdate.")
@click.option("--to", "last", type=Day(), required=True, help="The last bizdate.")
@click.option("--missing", "only_missing", is_flag=True, help="Only partitions that are not in the lake.")
@click.option("--dry-run", is_flag=True, help="Say what would be built, and build nothing.")
def backfill(selection: str, first: dt.date, last: dt.date, only_missing: bool, dry_run: bool) -> None:
    """Build the assets of SELECTION (default: all) for the bizdates of a range; days that have not landed are named.

    Where Dagster's daemon runs (`make ui`), this makes a backfill that the UI shows and can cancel, one run per day
    after all other runs; otherwise the days are built here, one after another. Landed days of events that are missing
    are ingested first, as one run per unbroken stretch.
    """
    from rich.console import Console

    from recsys_assets import backfills
    from recsys_assets.cli.materialize import execute
    from recsys_assets.cli.running import open_instance

    planned, before = _plan(selection, first, last, only_missing)
    if dry_run or not planned.days_of:
        Console().print(_table(planned) if planned.days_of else "nothing is missing")
        return
    with open_instance() as instance:
        if found := backfills.at_work(instance, planned):
            click.echo(f"{found} is building these assets for {planned.first} to {planned.last} already: nothing to do")
            return
        has_daemon = backfills.daemon_runs(instance)
    execute(before)
    if has_daemon:
        _hand_over(planned)
    else:
        _build_here(planned)


def _plan(selection: str, first: dt.date, last: dt.date, only_missing: bool) -> "tuple[Backfill, list[Run]]":
    """The partitions to build, and the runs that ingest the events before; names the days that cannot be built.

    Raises:
        NothingLanded: no day of the range has landed.
    """
    from recsys_assets.backfills import plan
    from recsys_assets.cli import running
    from recsys_assets.cli import selection as assets
    from recsys_assets.cli.days import check_landed, complete_bizdates
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.partitions import days
    from recsys_assets.settings import settings

    if first > last:
        raise click.UsageError(f"--from {first} is after --to {last}: exchange them")
    profile, keys, wanted = load_profile(), assets.select(selection), days(first, last)
    for day in (wanted[0], wanted[-1]):
        assets.check_bizdate(day)
    lake, landed = Lake.of(settings().lake, profile), complete_bizdates(profile)
    usable = {*landed, *lake.bizdates("interactions")}
    absent = [day for day in wanted if day not in usable]
    if len(absent) == len(wanted):
        check_landed(profile, lake, wanted[0])
    if absent:
        more = f" and {len(absent) - SHOWN} more" if len(absent) > SHOWN else ""
        click.echo(f"have not landed, and are left out: {', '.join(absent[:SHOWN])}{more}", err=True)
    there = [day for day in wanted if day in usable]
    planned = plan(keys, there, lake, (wanted[0], wanted[-1]), only_missing=only_missing)
    own = set(planned.days_of.get(running.INTERACTIONS, ()))
    before = running.missing_days(keys, [day for day in landed if day not in own], lake, wanted[-1])
    return planned, before if planned.days_of else []


def _hand_over(planned: "Backfill") -> None:
    """Ask the daemon for it."""
    from recsys_assets import backfills
    from recsys_assets.cli.running import open_instance
    from recsys_assets.definitions import defs
    from recsys_assets.settings import settings

    title = f"recsys backfill: {len(planned.days_of)} assets, {planned.first} to {planned.last}"
    with open_instance() as instance:
        made = backfills.request(instance, defs.resolve_asset_graph(), planned, title)
    click.echo(
        f"backfill {made} of {len(planned.days)} days: {settings().dagster_ui}/runs/b/{made} shows and cancels it"
    )


def _build_here(planned: "Backfill") -> None:
    """Build the days one after another; a day that fails does not keep the others from being built.

    Raises:
        BackfillFailed: some days failed.
    """
    from recsys_assets.cli.materialize import MaterializeFailed, execute

    failed: dict[str, str] = {}
    for run in _runs(planned):
        try:
            execute([run])
        except MaterializeFailed as error:
            failed[run.last] = str(error).splitlines()[0]
    click.echo(f"{len(planned.days) - len(failed)} of {len(planned.days)} days are built")
    if failed:
        said = "\n".join(f"{day}: {error}" for day, error in failed.items())
        raise BackfillFailed(f"{len(failed)} runs failed; correct the cause, then run it again with --missing:\n{said}")


def _runs(planned: "Backfill") -> "list[Run]":
    """Events by ranges of days, then every other asset by day, the oldest day first, as warm starts need it."""
    from recsys_assets.backfills import spans
    from recsys_assets.cli.running import INTERACTIONS, Run

    events = spans(planned.days_of.get(INTERACTIONS, ()))
    others = {key: set(days) for key, days in planned.days_of.items() if key != INTERACTIONS}
    by_day = [(frozenset(key for key, days in others.items() if day in days), day) for day in planned.days]
    return [
        *(Run(frozenset({INTERACTIONS}), *span, planned.tags) for span in events),
        *(Run(keys, day, day, planned.tags) for keys, day in by_day if keys),
    ]


def _table(planned: "Backfill") -> "Table":
    """A table with one row per asset: how many days of it would be built, and which."""
    from rich.table import Table

    from recsys_assets.backfills import spans
    from recsys_assets.cli.selection import asset_names

    table = Table("asset", "days", "which", title=f"{planned.first} to {planned.last}", title_justify="left")
    names = {key.to_user_string(): days for key, days in planned.days_of.items()}
    for name in asset_names():
        if days := names.get(name):
            which = ", ".join(first if first == last else f"{first} to {last}" for first, last in spans(days))
            table.add_row(name, str(len(days)), which)
    return table
