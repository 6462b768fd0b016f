"""Measures what one more day costs: its event features on top of the day before, compared with all rows at once.

    python benchmarks/day.py                        # generated logs of 10^6 and 10^7 events in 100 days
    python benchmarks/day.py --sizes 100000

Each way runs in its own process, so that peak memory is its own. The day is the newest offline one; both ways end with
its rows, the state and the snapshots of users and items. `seconds` are those of the clock, and `processor` are those
that all threads computed: other programs change them less. The tables of both ways are compared, and must be the same.
`bare` reads the day's rows and the state that they need, and runs the statement; it finds nothing out and writes
nothing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from splits_to_samples import prepare

from recsys_assets.datasets.duck import connect, only_row, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.landing import landed_bizdates
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.splits import split
from recsys_assets.features.history_state import ITEM_SUMS, NEWEST, USER_SUMS
from recsys_assets.features.history_table import (
    SNAPSHOTS,
    extend_history,
    gather_rows,
    known_rows,
    offer_rows,
    read_rule,
    statement,
)
from recsys_assets.features.known_rows import count_known, newest_moment, only_after

# The state of the day before, both ways to the day's own, and the statement of the day alone.
BEFORE, DAY, ALL, BARE = "before", "day", "all", "bare"


def describe(profile: Profile, home: Path, way: str) -> dict[str, float]:
    """Describe rows in one of the ways; returns the rows, the seconds and the peak memory in GB."""
    folder, place = home / way, 1 if way == BEFORE else 0
    splits, users, items = home / f"splits-{place}.parquet", home / "users" / ROWS, home / "items" / ROWS
    folder.mkdir()
    start, processor = time.perf_counter(), time.process_time()
    with connect(home) as connection:
        # The rule of the newest day also for the day before: it changes where the ratings reach a power of ten.
        rule = read_rule(connection, profile, home / "splits-0.parquet", items)
        offer_rows(connection, profile, rule, items, known_rows(splits))
        newest, state, rows = newest_moment(connection), None, known_rows(splits)
        if way in (DAY, BARE):
            state, until = home / BEFORE, json.loads((home / BEFORE / "until.json").read_text())
            count_known(connection, [until, newest])
            rows += f" AND {only_after(until)}"
        offer_rows(connection, profile, rule, items, rows)
        if way == BARE:
            start, processor = time.perf_counter(), time.process_time()
            gather_rows(connection, profile, rule, users, items, state)
            connection.execute(statement(profile, rule))
            described = only_row(connection, "SELECT count(*) FROM history WHERE label IS NOT NULL")[0]
        else:
            described = extend_history(connection, profile, rule, users, items, state, folder)
    (folder / "until.json").write_text(json.dumps(newest))
    return {
        "rows": float(described),
        "seconds": time.perf_counter() - start,
        "processor": time.process_time() - processor,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def write_log(profile: Profile, home: Path, events: int, days: int) -> None:
    """Land and ingest a log, and write its splits as of the newest day, and of the day before."""
    prepare(profile, None, events, days, home)
    landed = landed_bizdates(profile)
    with connect(home) as connection:
        for place, day in enumerate((landed[-1], landed[-2])):
            split(connection, profile, [home / each / ROWS for each in landed if each <= day], day)
            write_parquet(connection, "FROM splits ORDER BY user_id, position", home / f"splits-{place}.parquet")


def differing(home: Path) -> int:
    """Rows, snapshots, sums and kept rows that only one of the two ways has."""
    with connect(home) as connection:

        def only_one(ours: Sequence[Path], theirs: Path) -> int:
            a, b = f"FROM {scan(ours)}", f"FROM {scan([theirs])}"
            return int(only_row(connection, f"SELECT count(*) FROM (({a} EXCEPT {b}) UNION ALL ({b} EXCEPT {a}))")[0])

        states = [SNAPSHOTS, *(f"{table}.parquet" for table in (USER_SUMS, ITEM_SUMS, NEWEST))]
        return only_one([home / BEFORE / ROWS, home / DAY / ROWS], home / ALL / ROWS) + sum(
            only_one([home / DAY / state], home / ALL / state) for state in states
        )


def main() -> None:
    """Measure every size and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="*", default=[10**6, 10**7])
    arguments.add_argument("--days", type=int, default=100, help="days of the log")
    arguments.add_argument("--way", choices=[BEFORE, DAY, ALL, BARE], help=argparse.SUPPRESS)
    arguments.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    profile = load_profile("sample")
    if given.way:
        print(json.dumps(describe(profile, given.home, given.way)))
        return
    columns = ["rows", "seconds", "processor", "peak GB"]
    print("events".rjust(12) + "  way" + "".join(column.rjust(16) for column in columns) + "")
    for events in given.sizes:
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            write_log(profile.model_copy(update={"landing": home / "landing"}), home, events, given.days)
            for way in (BEFORE, DAY, BARE, ALL):
                command = [sys.executable, __file__, "--way", way, "--home", folder]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
                row = dict(json.loads(printed.splitlines()[-1]))
                figures = f"{row['rows']:16,.0f}" + "".join(f"{row[column]:16,.2f}" for column in columns[1:])
                print(f"{events:12,}  {way:6}{figures}", flush=True)
            print(f"{differing(home)} rows of the day's tables differ from those of all rows at once")


if __name__ == "__main__":
    main()
