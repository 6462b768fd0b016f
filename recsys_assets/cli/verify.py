"""`recsys verify`: build a bizdate again from landing files, and compare every sum and state with the lake's."""

import datetime as dt
from typing import TYPE_CHECKING

import click

from recsys_assets.cli.days import Day, newest_built

if TYPE_CHECKING:
    from rich.table import Table

    from recsys_assets.lake import Lake
    from recsys_assets.verify.rebuild import Verification


_OF_PROCESSOR = {"i2i_swing", "negative_items"}  # the last digit of a power depends on it


class VerifyFailed(RuntimeError):
    """The lake holds something else than its landing files give; the message says which files, and what to do."""


@click.command()
@click.option("--bizdate", "day", type=Day(), help="Which day (default: the newest one in the lake).")
def verify(day: dt.date | None) -> None:
    """Build a bizdate again, from all landing files and without earlier states, and compare it with the lake.

    All that is counted is compared by hash: events of all days, users, items, splits, event features, samples,
    snapshots, terms, negatives and item-to-item tables. What is trained, such as `factors`, is taken from the lake. The
    lake is not changed; the rebuild goes to the temporary folder (TMPDIR), with the events of all days.
    """
    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.lake import Lake
    from recsys_assets.settings import settings

    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    check(lake, day.isoformat() if day else newest_bizdate(lake))


def check(lake: "Lake", bizdate: str) -> None:
    """Verify a bizdate, and print the result.

    Raises:
        VerifyFailed: something differs.
    """
    from rich.console import Console

    from recsys_assets.datasets.profile import load_profile
    from recsys_assets.verify import rebuild

    done = rebuild.verify(load_profile(), lake, bizdate)
    Console().print(_table(done, f"{lake.profile} {bizdate}"))
    if done.taken:
        click.echo(f"taken from the lake as it is: {', '.join(name.replace('/', ' ') for name in done.taken)}")
    if done.failed:
        click.echo(f"not compared, as they cannot be built from rows that differ from the lake's: {done.failed}")
    if done.differences:
        raise VerifyFailed(_advice(lake, done, bizdate))


def newest_bizdate(lake: "Lake") -> str:
    """The newest bizdate of which the lake has more than events.

    Raises:
        VerifyFailed: there is none.
    """
    if not (newest := newest_built(lake)):
        raise VerifyFailed(f"the lake of '{lake.profile}' has no bizdate yet: run `recsys materialize` first")
    return newest


def _table(done: "Verification", title: str) -> "Table":
    """A table with one row per asset, and per file that differs."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("asset", "rows", "against a rebuild", title=title, title_justify="left")
    table.columns[1].justify = "right"
    table.columns[2].overflow = "fold"
    for each in done.found:
        said = [f"[red]{escape(one.name)}[/]: {escape(one.how)}" for one in each.differences]
        table.add_row(each.asset, f"{each.rows:,}", "\n".join(said) or "equal")
    return table


def _advice(lake: "Lake", done: "Verification", bizdate: str) -> str:
    """The message on differences: what they may come from, and what to do about each."""
    from recsys_assets.cli.changes import ingestion_runs, outdated_assets
    from recsys_assets.datasets.profile import load_profile

    profile = load_profile()
    names = sorted({one.name.rpartition("/")[0] for one in done.differences}, key=lambda name: name.partition("/")[2])
    some = "; ".join(f"{one.name} ({one.how})" for one in done.differences[:5])
    more = f"; and {len(done.differences) - 5} more" if len(done.differences) > 5 else ""
    if ingestion_runs(profile, lake, bizdate) or outdated_assets(profile, lake, bizdate):
        advice = (
            f"it has changed since {bizdate} was built: run `recsys refresh --bizdate {bizdate}`, then verify again"
        )
    else:
        again = "; ".join("recsys materialize {} --bizdate {}".format(*name.split("/")) for name in names[:3])
        advice = f"build them again, the first one first ({again}), then `recsys refresh --bizdate {bizdate}`"
    if {name.partition("/")[0] for name in names} <= _OF_PROCESSOR:
        advice = f"if the lake was built on another kind of processor, the last digit may differ; or else {advice}"
    return f"{len(done.differences)} files are not what the landing files give: {some}{more}: {advice}"
