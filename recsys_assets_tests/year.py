"""Backfills with the real daemon: `python -m recsys_assets_tests.year FOLDER` (an empty one), for an hour or two.

A year of cheap assets, and then a month of the whole graph, are handed over by `recsys backfill`. In the middle of each
the daemon and all steps are killed by SIGKILL. In the end every partition must be there once, whole and up to date.
`python -m recsys_assets_tests.year FOLDER 365 0` leaves the month out.
"""

import contextlib
import datetime as dt
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import psutil

from recsys_assets.backfills import daemon_runs
from recsys_assets.lineage import Lineage
from recsys_assets_tests.assets.test_ranges import CHEAP
from recsys_assets_tests.helpers.worlds import write_profile
from recsys_assets_tests.week import PATIENCE, Week, built, repeated, say

YEAR, MONTH = 365, 30
BEFORE = 30  # days before the first one, so that each part of its split has rows
WORLD = ["--users", "100", "--items", "150", "--events", "6000"]
FIRST = "2020-01-01"  # of the profile's days: that of the sample is later than a year ago
LAST = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)


class Watched(Week):
    """The platform, and the most memory that its processes had together."""

    patience = 2 * PATIENCE

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.profile = write_profile(folder / "profile.yaml", {"first_bizdate": FIRST})
        self.family.environment["RECSYS_PROFILE"] = self.profile
        self.most_memory = 0

    def read_memory(self) -> None:
        """Add up the memory of all processes; what processes share counts once."""
        self.most_memory = max(self.most_memory, sum(map(_own_bytes, self.family.alive())))


def _own_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_full_info().pss)
    return 0


def replay(week: Watched, year: int, month: int) -> None:
    """Land the days, and backfill them."""
    days = [str(LAST - dt.timedelta(days=n)) for n in reversed(range(year))]
    before = str(LAST - dt.timedelta(days=year + BEFORE - 1))
    week.recsys("land", week.profile, *WORLD, "--from", before, "--to", str(LAST))
    with week.ui(), repeated(week.read_memory, 2):
        week.until("the daemon runs", _daemon_runs)
        backfill(week, " or ".join(f'key:"{asset}"' for asset in CHEAP), days, set(CHEAP))
        if month:
            backfill(week, "*", days[-month:], {"daily_report"})
    say(f"all processes together had at most {week.most_memory / 1e9:.1f} GB")


def _daemon_runs() -> bool:
    with dg.DagsterInstance.get() as instance:
        return daemon_runs(instance)


def backfill(week: Watched, selection: str, days: list[str], last: set[str]) -> None:
    """Hand a range over, kill the daemon when a third of the days are there, wait, and check all partitions.

    A day is there when it has the `last` assets.
    """
    said = week.recsys("backfill", selection, "--from", days[0], "--to", days[-1])
    assert "shows and cancels it" in said, said
    third = days[len(days) // 3]
    week.until(f"{third} is there", lambda: last <= built(week, third))
    week.kill_daemon_and_steps()
    week.until("every day is there", lambda: all(last <= built(week, day) for day in days))
    week.until("all runs have ended", week.quiet)
    check(week, days)


def check(week: Watched, days: list[str]) -> None:
    """Every partition of the days is whole and up to date, and all days have the same assets."""
    lake, wanted = week.lake, built(week, days[-1])
    different = {day: found ^ wanted for day in days if (found := built(week, day)) != wanted}
    outdated = {day: late for day in days if (late := Lineage(lake).outdated_assets(day))}
    assert not different and not outdated, (different, outdated)
    for asset, day in lake.partitions():
        lake.read(asset, day)  # raises an error if a file is not the one that the manifest names
    runs = Counter(run.status.value for run in week.runs())
    say(f"{len(days)} days with {len(wanted)} assets each: all whole, none outdated; runs so far: {dict(runs)}")


if __name__ == "__main__":
    folder, *sizes = sys.argv[1:]
    replay(Watched(Path(folder).resolve()), *map(int, sizes or (YEAR, MONTH)))
