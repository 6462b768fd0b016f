"""`recsys materialize`: ingest missing days, run the selected assets, summarise the results."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console
    from rich.table import Table

    from recsys_assets.cli.progress import Outcome
    from recsys_assets.cli.running import Run
    from recsys_assets.lake import Lake

SUMMARY_METRICS = 6


class MaterializeFailed(RuntimeError):
    """A run that failed; the message holds the errors of its steps and checks."""


@click.command()
@click.argument("selection")
@click.option("--bizdate", type=Day(), help="Which day (default: the latest complete one).")
def materialize(selection: str, bizdate: dt.date | None) -> None:
    """Build the assets of SELECTION for a bizdate; landed days that are missing are ingested first.

    SELECTION has Dagster's syntax: rank_widedeep, '+rank_report' (with all it needs), 'group:rank', '*'.
    The tune_* assets run only when they are named.
    """
    run(selection, bizdate.isoformat() if bizdate else None)


def run(selection: str, bizdate: str | None = None) -> None:
    """Materialize a selection with progress on stderr and a summary on stdout.

    Raises:
        MaterializeFailed: a step or a blocking check failed.
        NothingLanded: the bizdate has not landed, or none was given and no day has landed.
        PartitionOutdated: an asset that the selection reads and does not build was built from something older.
    """
    from rich.console import Console

    from recsys_assets.cli import running
    from recsys_assets.cli import selection as assets
    from recsys_assets.cli.days import check_landed, complete_bizdates, latest_bizdate
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    keys, day = assets.select(selection), bizdate or latest_bizdate(profile)
    assets.check_bizdate(day)
    lake = Lake.of(settings().lake, profile)
    check_landed(profile, lake, day)
    seconds = execute(running.missing_days(keys, complete_bizdates(profile), lake, day))
    running.refuse_outdated(keys, lake, day)
    seconds |= execute([running.Run(keys, day, day)])
    names = [name for name in assets.asset_names() if name in {key.to_user_string() for key in keys}]
    Console().print(summary(lake, names, day, seconds))


def execute(runs: "Sequence[Run]") -> dict[str, float]:
    """Execute runs one after another, with progress on stderr; returns the seconds of each step.

    Raises:
        MaterializeFailed: a step or a blocking check failed.
    """
    from rich.console import Console

    from recsys_assets.cli.running import open_instance

    seconds: dict[str, float] = {}
    with open_instance() as instance:
        for each in runs:
            seconds |= _execute(instance, each, Console(stderr=True))
    return seconds


def _execute(instance: "dg.DagsterInstance", run: "Run", console: "Console") -> dict[str, float]:
    """Execute one run; returns the seconds of each step.

    Raises:
        MaterializeFailed: with the errors of the failed steps, and where their logs are.
    """
    from recsys_assets.cli.progress import Follower
    from recsys_assets.cli.running import start
    from recsys_assets.settings import settings

    span = run.first if run.first == run.last else f"{run.first} to {run.last}"
    what = next(iter(run.keys)).to_user_string() if len(run.keys) == 1 else f"{len(run.keys)} assets"
    console.print(f"[bold]{what}[/] of {span}", highlight=False)
    made, events = start(instance, run)
    outcome = Follower(console, instance, made).follow(events)
    if outcome.failures:
        unbuilt = [f"not built: {', '.join(outcome.unbuilt)}"] if outcome.unbuilt else []
        log = f"for the whole log: make ui, then {settings().dagster_ui}/runs/{made.run_id}"
        raise MaterializeFailed("\n".join([*outcome.failures.values(), *unbuilt, *_way_on(outcome, run.last), log]))
    return outcome.seconds


def _way_on(outcome: "Outcome", bizdate: str) -> list[str]:
    """The command that builds what can do without failed rankers, if nothing else failed; see `champion_sensor`."""
    from recsys_assets.models.catalogue import RANKERS

    spared = {f"{stage}_{model}" for model in RANKERS for stage in ("rank", "onnx")}
    if "rank_champion" not in outcome.unbuilt or not outcome.failures.keys() <= spared:
        return []
    return [f"to go on without what failed: recsys materialize 'rank_champion+' --bizdate {bizdate}"]


def summary(lake: "Lake", names: Sequence[str], bizdate: str, seconds: Mapping[str, float]) -> "Table":
    """A table with one row per asset: rows, metrics, seconds (if it was just built); the caption is the path."""
    from rich.markup import escape
    from rich.table import Table

    from recsys_assets.cli.data import figure

    table = Table("asset", "rows", "metrics", "seconds", title=f"{lake.profile} {bizdate}", title_justify="left")
    table.columns[1].justify = table.columns[3].justify = "right"
    for name in names:
        manifest = lake.manifest(name, bizdate)
        shown = sorted(manifest.metrics, key=lambda metric: (not metric.startswith("test_"), metric))[:SUMMARY_METRICS]
        metrics = ", ".join(f"{metric} {figure(manifest.metrics[metric])}" for metric in shown)
        if manifest.declined:
            metrics = escape(f"cannot be built: {manifest.declined}")
        if manifest.below_floor:
            metrics = f"[red]{escape(manifest.below_floor)}[/]: nothing is built on it; {metrics}"
        rows = "" if manifest.rows is None else f"{manifest.rows:,}"
        table.add_row(name, rows, metrics, f"{seconds[name]:,.1f}" if name in seconds else "")
    table.caption = lake.location("<asset>", bizdate)
    return table
