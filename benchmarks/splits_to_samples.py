"""Measures time and memory from ingested events to `rank_samples`, as the log grows.

    python benchmarks/splits_to_samples.py                       # generated logs of 10^5, 10^6 and 10^7 events
    python benchmarks/splits_to_samples.py --source FOLDER       # the same, and MovieLens 1M from its unpacked folder

Each size runs in its own process, so that peak memory is measured per size. Landing and ingest are shown as well, but
the peak covers only splits, event_features, rank_samples, user_features and item_features. All rows are described at
once, as on the first day of a lake; `day.py` measures the days after it.
"""

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recsys_assets.datasets.duck import connect, write_parquet
from recsys_assets.datasets.ingest import ROWS, ingest_entities, ingest_events, load_known_ids
from recsys_assets.datasets.landing import land, landed_bizdates
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.datasets.splits import split
from recsys_assets.features.history import item_query, sample_query, user_query
from recsys_assets.features.history_table import (
    SNAPSHOTS,
    extend_history,
    known_rows,
    offer_rows,
    open_history,
    read_rule,
)
from recsys_assets.features.pair_feature_files import ITEM_FILE, USER_FILE, Sources, write_pair_features

SAMPLE_LAST = dt.date(2026, 6, 30)


def timed(done: dict[str, float], step: str, work: Callable[[], Any]) -> None:
    """Run `work` and record its seconds in `done`."""
    start = time.perf_counter()
    work()
    done[step] = time.perf_counter() - start


def prepare(profile: Profile, source: str | None, events: int, days: int, home: Path) -> dict[str, float]:
    """Land and ingest a log under `home`; returns seconds by step."""
    done: dict[str, float] = {}
    sizes = {"events": events, "users": max(600, events // 150), "items": max(400, events // 1000), "days": days}
    world = {} if source else sizes
    last = None if source else SAMPLE_LAST
    timed(done, "land", lambda: land(profile, source, last=last, **world))
    timed(done, "ingest", lambda: ingest(profile, home))
    return done


def ingest(profile: Profile, home: Path) -> None:
    """Ingest all landed days, users and items, without Dagster."""
    days = landed_bizdates(profile)
    with connect(home) as connection:
        load_known_ids(connection, profile, days[-1])
        for day in days:
            (home / day).mkdir()
            ingest_events(connection, profile, day, home / day)
        for table in ("users", "items"):
            (home / table).mkdir()
            ingest_entities(connection, profile, table, days[-1], home / table)


def measure(profile: Profile, home: Path) -> dict[str, float]:
    """Build splits, samples and snapshots from ingested files; returns seconds by step and the peak memory in GB."""
    done: dict[str, float] = {}
    users, items, splits = home / "users" / ROWS, home / "items" / ROWS, home / "splits.parquet"
    days = landed_bizdates(profile)

    def make_splits() -> None:
        with connect(home) as connection:
            split(connection, profile, [home / day / ROWS for day in days], days[-1])
            done["events"] = write_parquet(connection, "SELECT * FROM splits ORDER BY user_id, position", splits)

    def make_factors() -> None:
        with connect(home) as connection:
            (home / "factors").mkdir(exist_ok=True)
            write_pair_features(connection, profile, Sources(splits, users, items), home / "factors")

    def make_event_features() -> None:
        with connect(home) as connection:
            rule = read_rule(connection, profile, splits, items)
            offer_rows(connection, profile, rule, items, known_rows(splits))
            (home / "events").mkdir(exist_ok=True)
            extend_history(connection, profile, rule, users, items, None, home / "events")

    def make_samples() -> None:
        with connect(home) as connection:
            open_history(connection, [home / "events" / ROWS], home / "events" / SNAPSHOTS)
            for part in ("train", "validation", "test"):
                write_parquet(
                    connection,
                    sample_query(profile, users, items, home / "factors" / ROWS, part),
                    home / f"{part}.parquet",
                )

    def make_snapshots() -> None:
        factors = home / "factors"
        queries = {
            "user": user_query(profile, users, factors / USER_FILE),
            "item": item_query(profile, items, factors / ITEM_FILE),
        }
        for path, query in queries.items():
            with connect(home) as connection:
                open_history(connection, [], home / "events" / SNAPSHOTS)
                write_parquet(connection, query, home / f"{path}_features.parquet")

    timed(done, "splits", make_splits)
    timed(done, "factors", make_factors)
    timed(done, "event_features", make_event_features)
    timed(done, "rank_samples", make_samples)
    timed(done, "snapshots", make_snapshots)
    done["peak GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return done


def in_a_process(source: str | None, events: int, days: int, home: Path, step: str) -> dict[str, float]:
    """Run one step in its own process."""
    command = [sys.executable, __file__, "--step", step, "--home", str(home)]
    command += ["--sizes", str(events), "--days", str(days)]
    printed = subprocess.run([*command, *(["--source", source] if source else [])], check=True, stdout=subprocess.PIPE)
    return dict(json.loads(printed.stdout.splitlines()[-1]))


def main() -> None:
    """Measure every size and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--source", help="unpacked MovieLens 1M folder")
    arguments.add_argument("--sizes", type=int, nargs="*", default=[10**5, 10**6, 10**7])
    arguments.add_argument("--days", type=int, default=30, help="days of a generated log")
    arguments.add_argument("--step", choices=["prepare", "measure"], help=argparse.SUPPRESS)
    arguments.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.step:
        profile = load_profile("movielens-1m" if given.source else "sample")
        profile = profile.model_copy(update={"landing": given.home / "landing"})
        prepared = given.step == "prepare"
        work = prepare(profile, given.source, given.sizes[0], given.days, given.home) if prepared else {}
        print(json.dumps(work or measure(profile, given.home)))
        return
    columns = ["events", "land", "ingest", "splits", "event_features", "rank_samples", "snapshots", "peak GB"]
    print("log".ljust(14) + "".join(column.rjust(16) for column in columns) + "   (seconds)")
    for source, events in [*([(given.source, 0)] if given.source else []), *((None, size) for size in given.sizes)]:
        with tempfile.TemporaryDirectory() as home:
            row = in_a_process(source, events, given.days, Path(home), "prepare")
            row |= in_a_process(source, events, given.days, Path(home), "measure")
        figures = "".join(f"{row[column]:16,.2f}" for column in columns[1:])
        print(f"{'ML-1M' if source else 'sample':14}{row['events']:14,.0f}{figures}", flush=True)


if __name__ == "__main__":
    main()
