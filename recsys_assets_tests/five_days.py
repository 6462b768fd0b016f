"""Five days under a moved clock with the real servers: `python -m recsys_assets_tests.five_days FOLDER` (an empty one).

Twenty days land and the last one is built; then the sensor and the schedule are started, and nothing else is typed.
Each day the clock of all servers moves to two minutes before the schedule's hour, and that day's files land. On the
third day the daemon and all steps are killed while the day is built. Every day must be built whole, from its own
files, and be live. The clock is moved by `helpers/moved_clock.c`, which gcc compiles.
"""

import contextlib
import datetime as dt
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.leftovers import command
from recsys_assets_tests.week import TODAY, WORLD, Week, built, say

DAYS = [TODAY - dt.timedelta(days=n) for n in range(6, 1, -1)]
FIRST, START = (str(DAYS[0] - dt.timedelta(days=n)) for n in (20, 1))
KILLED = DAYS[2]
BEFORE = dt.time(1, 58, tzinfo=dt.UTC)  # two minutes before the profile's hour


class Moved(Week):
    """The platform under a folder whose programs have a clock of their own."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.clock = folder / "clock"
        library = folder / "moved_clock.so"
        source = PROJECT / "recsys_assets_tests" / "helpers" / "moved_clock.c"
        subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
        self.family.environment |= {"LD_PRELOAD": str(library), "MOVED_CLOCK": str(self.clock)}

    def move_to(self, moment: dt.datetime) -> None:
        """Move the clock; it goes on from there at its usual speed."""
        ahead = (moment - dt.datetime.now(dt.UTC)).total_seconds()
        (coming := self.clock.with_suffix(".coming")).write_text(f"{ahead:+.0f}", encoding="utf-8")
        coming.rename(self.clock)
        time.sleep(2)

    def land(self, first: str, last: str) -> None:
        """Land days, as the system that writes the log does."""
        self.recsys("land", "sample", *WORLD, "--from", first, "--to", last)

    def memory(self) -> str:
        """Megabytes of the servers that run all the time."""
        found: Counter[str] = Counter()
        for process in self.family.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                for name in ("dagster._daemon", "recsys_assets.ui.webserver", "recsys_assets.cli serve"):
                    found[name] += name in command(process) and process.memory_info().rss >> 20
        return ", ".join(f"{name} {size} MB" for name, size in sorted(found.items()))


def replay(week: Moved) -> None:
    """Let the days pass, and check each of them."""
    week.move_to(dt.datetime.combine(DAYS[0], dt.time(12, tzinfo=dt.UTC)))
    week.land(FIRST, START)
    week.recsys("materialize", "*", "--bizdate", START)
    everything = built(week, START)
    say(f"twenty days landed, {START} built: {len(everything)} assets")
    with week.ui(), week.watched():
        week.run("dagster", "sensor", "start", "new_data_sensor")
        week.run("dagster", "schedule", "start", "daily_schedule")
        for day in DAYS:
            passes(week, day)
            assert built(week, str(day)) == everything, everything ^ built(week, str(day))
            rows = landed(week, str(day))
            assert rows == week.lake.manifest("interactions", str(day)).rows
            say(f"{day} whole, {rows} rows of its own; {week.memory()}")
    assert not week.faults, week.faults
    statuses = Counter(run.status.value for run in week.runs())
    say(f"runs: {dict(statuses)}; no mixture was seen at any moment")


def passes(week: Moved, day: dt.date) -> None:
    """A day ends, its files land, and in the night that follows it is built and released."""
    week.move_to(dt.datetime.combine(day + dt.timedelta(days=1), BEFORE))
    week.land(str(day), str(day))
    if day == KILLED:
        week.until("the day has begun to train", lambda: "rank_samples" in built(week, str(day)))
        week.kill_daemon_and_steps()
    week.until(f"{day} is live", lambda: week.live() == str(day))
    week.until("all runs have ended", week.quiet)
    time.sleep(180)  # the schedule's hour passes
    week.until("all runs have ended", week.quiet)


def landed(week: Moved, day: str) -> int:
    """The rows of a day's own landing files."""
    files = (week.data / "landing" / "sample" / "interactions" / f"bizdate={day}").glob("*.parquet")
    return sum(int(pq.read_metadata(file).num_rows) for file in files)


if __name__ == "__main__":
    replay(Moved(Path(sys.argv[1]).resolve()))
