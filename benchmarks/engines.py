"""Compares DuckDB with Spark on event features and on the snapshots of users and items, and counts differing rows.

    python benchmarks/engines.py                           # generated logs of 10^6 and 10^7 events
    python benchmarks/engines.py --sizes --source FOLDER   # MovieLens 1M, from its unpacked folder
    python benchmarks/engines.py --engines duckdb local[2] --sizes 100000

Each engine runs in its own process. `start` is the seconds until a session is open; the other columns are of the work
after it. `processor` are the seconds that the process and its children (Spark's driver and executors) computed: other
programs change them less. The memory is the largest that they held together, looked at 10 times a second, without what
is shared. Neither is seen of a cluster that runs elsewhere. All rows are described at once.

The first engine is the one that the others are compared with: a row differs if any of its values does, to the last bit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from ml1m import read
from ml1m_rows import LAST_DAY, write_tables
from splits_to_samples import prepare

from recsys_assets.datasets.duck import connect, only_row, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.landing import landed_bizdates
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.splits import split
from recsys_assets.engines.chosen import open_engine
from recsys_assets.features.history import item_query, user_query
from recsys_assets.features.history_state import ITEM_SUMS, NEWEST, USER_SUMS
from recsys_assets.features.history_table import (
    SNAPSHOTS,
    extend_history,
    known_rows,
    offer_rows,
    open_history,
    read_rule,
)
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, write_pair_features
from recsys_assets.settings import DUCKDB

CLUSTER = "local-cluster[2,1,1024]"
SNAPSHOT_FILES = ("user_features.parquet", "item_features.parquet")
FILES = (ROWS, SNAPSHOTS, *(f"{table}.parquet" for table in (USER_SUMS, ITEM_SUMS, NEWEST)), *SNAPSHOT_FILES)


class Watch:
    """Memory and processor seconds of this process and its children together, while the block runs.

    Attributes:
        peak: the largest memory, in bytes.
    """

    def __enter__(self) -> "Watch":
        self.peak, self._processor, self._ended = 0, dict[int, float](), threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def processor(self) -> float:
        """The processor seconds of all of them, until now."""
        return sum(self._processor.values())

    def _look(self) -> None:
        own = psutil.Process()
        while not self._ended.wait(0.1):
            self.peak = max(self.peak, sum(map(self._look_at, [own, *own.children(recursive=True)])))

    def _look_at(self, process: psutil.Process) -> int:
        """Note the processor seconds of a process; returns the bytes that it holds."""
        try:
            memory, times = process.memory_info(), process.cpu_times()
        except psutil.NoSuchProcess:  # it has just ended
            return 0
        self._processor[process.pid] = times.user + times.system
        return int(memory.rss - memory.shared)


def make_inputs(profile: Profile, given: argparse.Namespace) -> int:
    """Make the splits, users, items and factors of a log in `home`; returns the number of events."""
    home: Path = given.home
    files, last = write_movielens(given) if given.source else write_sample(profile, given)
    users, items, splits = (home / f"{table}.parquet" for table in ("users", "items", "splits"))
    with connect(home) as connection:
        split(connection, profile, files, last)
        rows = write_parquet(connection, "SELECT * FROM splits ORDER BY user_id, position", splits)
        (home / "factors").mkdir()
        write_pair_features(connection, profile, Sources(splits, users, items), home / "factors")
    return rows


def write_movielens(given: argparse.Namespace) -> tuple[list[Path], str]:
    """Write MovieLens 1M without its days; returns the file of events, and the last day."""
    write_tables(read(Path(given.source)), given.home)
    return [given.home / "events.parquet"], LAST_DAY


def write_sample(profile: Profile, given: argparse.Namespace) -> tuple[list[Path], str]:
    """Generate a log, land it and ingest it; returns the files of events, and the last day."""
    prepare(profile, None, given.sizes[0], given.days, given.home)
    for table in ("users", "items"):
        (given.home / table / ROWS).rename(given.home / f"{table}.parquet")
    days = landed_bizdates(profile)
    return [given.home / day / ROWS for day in days], days[-1]


def describe(profile: Profile, home: Path, out: Path) -> dict[str, float]:
    """Describe all events and both snapshots on the chosen engine; returns seconds by step and gigabytes."""
    out.mkdir()
    users, items, splits = (home / f"{table}.parquet" for table in ("users", "items", "splits"))
    factors = home / "factors"
    start = time.perf_counter()
    with Watch() as watch, open_engine() as engine:
        opened, before = time.perf_counter(), watch.processor()
        rule = read_rule(engine, profile, splits, items)
        offer_rows(engine, profile, rule, items, known_rows(splits))
        extend_history(engine, profile, rule, users, items, None, out)
        described = time.perf_counter()
        engine.execute("DROP TABLE history")
        open_history(engine, [], out / SNAPSHOTS)
        queries = user_query(profile, users, factors / USER_FILE), item_query(profile, items, factors / ITEM_FILE)
        for file, query in zip(SNAPSHOT_FILES, queries, strict=True):
            write_parquet(engine, query, out / file)
        done, processor = time.perf_counter(), watch.processor() - before
    return {
        "start": opened - start,
        "event_features": described - opened,
        "snapshots": done - described,
        "processor": processor,
        "peak GB": watch.peak / 2**30,
    }


def differing_rows(one: Path, other: Path) -> int:
    """Rows of all files that one engine wrote and another did not, or the other way round."""
    with connect(one, other) as connection:
        return sum(
            int(
                only_row(
                    connection, f"SELECT count(*) FROM (FROM {scan([a / file])} EXCEPT ALL FROM {scan([b / file])})"
                )[0]
            )
            for file in FILES
            for a, b in ((one, other), (other, one))
        )


def in_a_process(
    given: argparse.Namespace, events: int, home: Path, step: str, engine: str = DUCKDB
) -> dict[str, float]:
    """Run one step in its own process, in which `home` is the lake."""
    command = [sys.executable, __file__, "--step", step, "--home", str(home), "--sizes", str(events)]
    command += ["--days", str(given.days), *(["--source", given.source] if given.source else [])]
    environment = {**os.environ, "RECSYS_ENGINE": engine, "RECSYS_LAKE": str(home)}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return dict(json.loads(printed.stdout.splitlines()[-1]))


def run_step(given: argparse.Namespace) -> dict[str, float]:
    """Run the step that this process was started for."""
    profile = load_profile("movielens-1m" if given.source else "sample")
    profile = profile.model_copy(update={"landing": given.home / "landing"})
    if given.step == "prepare":
        return {"events": make_inputs(profile, given)}
    return describe(profile, given.home, given.home / given.step)


def main() -> None:
    """Compare the engines on every log and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", help="unpacked MovieLens 1M folder")
    arguments.add_argument("--sizes", type=int, nargs="*", default=[10**6, 10**7])
    arguments.add_argument("--days", type=int, default=30, help="days of a generated log")
    arguments.add_argument("--engines", nargs="+", default=[DUCKDB, CLUSTER], help="values of RECSYS_ENGINE")
    arguments.add_argument("--step", help=argparse.SUPPRESS)
    arguments.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.step:
        print(json.dumps(run_step(given)))
        return
    columns = ["start", "event_features", "snapshots", "processor", "peak GB"]
    print(
        "events".rjust(12) + "  engine".ljust(28) + "".join(column.rjust(16) for column in [*columns, "differing rows"])
    )
    for events in [0] if given.source else given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            rows = in_a_process(given, events, home, "prepare")["events"]
            for place, engine in enumerate(given.engines):
                row = in_a_process(given, events, home, f"engine-{place}", engine)
                differing = differing_rows(home / "engine-0", home / f"engine-{place}") if place else 0
                figures = "".join(f"{row[column]:16.2f}" for column in columns)
                print(f"{rows:12,.0f}  {engine:26}{figures}{differing:16,}", flush=True)


if __name__ == "__main__":
    main()
