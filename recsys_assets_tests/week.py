"""Replays an operator's week with the real servers: `python -m recsys_assets_tests.week FOLDER` (an empty folder).

Forty days land, a day is added, one is corrected and copied, the daemon is killed, an earlier day is released,
services are rolled back, and a partition is damaged. Meanwhile the live set of MongoDB is read five times per second:
it must be of one bizdate at every moment. The run takes about half an hour on two idle cores.
"""

import contextlib
import datetime as dt
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

from recsys_assets.lake import Lake
from recsys_assets.lineage import Lineage
from recsys_assets.stores.mongo.embedded import run_server
from recsys_assets_tests.conftest import PROJECT
from recsys_assets_tests.helpers.dagster_dev import ENDED, free_port
from recsys_assets_tests.helpers.leftovers import Family, command

TODAY = dt.datetime.now(dt.UTC).date()
FIRST, CORRECTED, START, ADDED, LAST = (str(TODAY - dt.timedelta(days=n)) for n in (42, 7, 3, 2, 1))
WORLD = ["--users", "200", "--items", "150", "--events", "12000"]
PATIENCE = 3600.0  # seconds


class Week:
    """The platform under `folder`, and what was observed."""

    patience = PATIENCE

    def __init__(self, folder: Path) -> None:
        """Prepare the folder without starting anything."""
        self.home, self.data = folder / "home", folder / "data"
        self.home.mkdir(parents=True)
        shutil.copy(PROJECT / "dagster.yaml", self.home)
        ports = {each: str(free_port()) for each in ("SERVE_PORT", "DAGSTER_PORT", "MLFLOW_PORT")}
        # as in the activated shell: the UI's own code location
        place = {"DAGSTER_CLI_SENSOR_START_WORKSPACE": str(PROJECT / "workspace.yaml"), "RECSYS_HOME": str(PROJECT)}
        self.family = Family(DAGSTER_HOME=str(self.home), RECSYS_DATA=str(self.data), **ports, **place)
        os.environ["DAGSTER_HOME"] = str(self.home)  # where `runs` finds the history
        self.lake = Lake(str(self.data / "lake"), "sample")
        self.faults: list[str] = []

    def run(self, *arguments: str, fails: bool = False) -> str:
        """Run a command that must succeed, or must fail; returns its output."""
        done = subprocess.run(arguments, env=self.family.environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, f"{arguments}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def recsys(self, *arguments: str, fails: bool = False) -> str:
        """Run `recsys`; returns its output."""
        return self.run("recsys", *arguments, fails=fails)

    @contextmanager
    def ui(self) -> Iterator[None]:
        """Run `make ui` during the block."""
        with (self.home / "terminal").open("wb") as terminal:
            started = [sys.executable, "-m", "recsys_assets.ui"]
            process = subprocess.Popen(started, env=self.family.environment, stdout=terminal, stderr=terminal)
        try:
            yield
        finally:
            process.terminate()  # background commands of a shell ignore Ctrl-C
            process.wait(120)

    def runs(self, **filters: Any) -> list[Any]:
        """Dagster's runs, newest first."""
        import dagster as dg

        with dg.DagsterInstance.get() as instance:
            return list(instance.get_runs(dg.RunsFilter(**filters)))

    def quiet(self) -> bool:
        """Whether no run is waiting or running."""
        return all(run.status.value in ENDED for run in self.runs())

    def kill_daemon_and_steps(self) -> None:
        """Kill the daemon and all steps that run."""
        for process in self.family.alive():
            if "dagster._daemon" in command(process) or process in self.family.steps():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        say("the daemon and all steps were killed")

    def live(self) -> str | None:
        """The bizdate that services see; a mixture is an error."""
        days = live_days(self.data)
        if len(days) > 1:
            self.faults.append(f"a mixture of {days}")
        return days[0] if days else None

    def until(self, what: str, found: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        began = time.monotonic()
        while not found():
            assert time.monotonic() - began < self.patience, f"not within {self.patience:.0f} s: {what}"
            time.sleep(2)
        say(f"{what}, after {time.monotonic() - began:.0f} s")

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Read the live set five times per second during the block."""
        with repeated(self.live, 0.2):
            yield


@contextmanager
def repeated(look: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call a function again and again during the block, with a pause of so many seconds."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(seconds):
            look()

    watcher = threading.Thread(target=repeat, daemon=True)
    watcher.start()
    yield
    done.set()
    watcher.join()


def live_days(data: Path) -> list[str]:
    """Bizdates of the versions that are live in MongoDB, in order."""
    from pymongo import MongoClient

    with run_server(data / "mongo") as uri, MongoClient[Any](uri) as client:
        current = client["sample"]["_releases"].find_one({"_id": "current"}) or {}
    named = current.get("collections", {}).values()
    return sorted({each["version"].partition(".")[0] for each in named})


def say(text: str) -> None:
    """Print one line of the report."""
    print(f"{dt.datetime.now(dt.UTC):%H:%M:%S}  {text}", flush=True)  # noqa: T201


def correct(week: Week, day: str) -> None:
    """Land a day again with three rows fewer."""
    (file,) = (week.data / "landing" / "sample" / "interactions" / f"bizdate={day}").glob("*.parquet")
    rows = pq.read_table(file).slice(3)
    pq.write_table(rows, file.with_name(".coming"))
    file.with_name(".coming").rename(file)


def replay(week: Week) -> None:
    """Replay the week, and check the state after every event."""
    week.recsys("land", "sample", *WORLD, "--from", FIRST, "--to", START)
    week.recsys("materialize", "*", "--bizdate", START)
    assert week.live() == START
    say(f"40 days landed, {START} built and released")
    with week.ui(), week.watched():
        week.run("dagster", "sensor", "start", "new_data_sensor")
        added(week)
        corrected(week)
        touched(week)
        killed(week)
    rolled_back(week)
    damaged(week)
    assert not week.faults, week.faults
    say("no mixture was seen at any moment")


def added(week: Week) -> None:
    """A day lands; the UI's sensor is the one that the command started."""
    week.recsys("land", "sample", *WORLD, "--from", ADDED, "--to", ADDED)
    week.until(f"{ADDED} is live", lambda: week.live() == ADDED)
    week.until("all runs have ended", week.quiet)


def corrected(week: Week) -> None:
    """An earlier day is corrected: the newest day is outdated until it is rebuilt, and stays live all the time."""
    correct(week, CORRECTED)
    week.until("the newest day is outdated", lambda: "splits" in Lineage(week.lake).outdated_assets(ADDED))
    shown = week.recsys("show", "splits", "--bizdate", ADDED)
    assert f"recsys refresh --bizdate {ADDED}" in shown, shown
    assert f"recsys refresh --bizdate {ADDED}" in week.recsys("doctor", fails=True)
    week.until("the newest day is up to date", lambda: not Lineage(week.lake).outdated_assets(ADDED))
    week.until(f"{CORRECTED} was built too", lambda: "mongo_release" in built(week, CORRECTED) and week.quiet())
    assert week.live() == ADDED


def built(week: Week, day: str) -> set[str]:
    """Assets that have a partition of the day."""
    return {asset for asset, each in week.lake.partitions() if each == day}


def touched(week: Week) -> None:
    """A copy of the same bytes starts no run, whatever its file time."""
    before = len(week.runs())
    for file in (week.data / "landing" / "sample" / "interactions" / f"bizdate={CORRECTED}").glob("*.parquet"):
        shutil.copyfile(file, file.with_name(".copy"))
        file.with_name(".copy").rename(file)
        os.utime(file)
    time.sleep(100)
    assert len(week.runs()) == before
    say("touched and copied files started nothing in three ticks")


def killed(week: Week) -> None:
    """The daemon and the run are killed while the newest day is built; it is still built and released."""
    week.recsys("land", "sample", *WORLD, "--from", LAST, "--to", LAST)
    week.until("the run has begun to train", lambda: "rank_samples" in built(week, LAST))
    week.kill_daemon_and_steps()
    week.until(f"{LAST} is live", lambda: week.live() == LAST)
    week.until("all runs have ended", week.quiet)
    assert "daemon was killed by SIGKILL" in (week.home / "terminal").read_text(encoding="utf-8")
    assert not Lineage(week.lake).outdated_assets(LAST)


def rolled_back(week: Week) -> None:
    """All stores go back and forth as sets; a single collection that goes back is reported as a mixture."""
    week.recsys("rollback", "--all", "--to", ADDED)
    assert week.live() == ADDED
    week.recsys("rollback", "--all", "--to", LAST)
    assert week.live() == LAST
    said = week.recsys("rollback", "mongo_item", "--to", ADDED)
    assert "mixture" in said and "mixture" in week.recsys("published"), said
    assert live_days(week.data) == [ADDED, LAST]
    week.recsys("rollback", "--all", "--to", LAST)
    assert week.live() == LAST
    assert "mixture" not in week.recsys("published")
    say("rollbacks: whole sets, and a mixture is named")


def damaged(week: Week) -> None:
    """A flipped byte is found by `--verify`, refused by every reader, and gone after the command that is suggested."""
    file = Path(week.lake.location("splits", LAST)) / "data.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    rebuild = f"recsys materialize splits --bizdate {LAST}"
    assert rebuild in week.recsys("doctor", "--verify", fails=True)
    assert rebuild in week.recsys("materialize", "recall_samples", "--bizdate", LAST, fails=True)
    week.run(*rebuild.split())
    week.recsys("materialize", "recall_samples", "--bizdate", LAST)
    say("damage: found, refused, repaired by the command that was named")


if __name__ == "__main__":
    replay(Week(Path(sys.argv[1]).resolve()))
