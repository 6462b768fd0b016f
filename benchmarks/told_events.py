"""Measures told events: whether SIGKILL loses or doubles any, how many are kept a second, and how long one takes.

    python benchmarks/told_events.py [--kills 20] [--seconds 5]

A process tells events from four threads, and lands them all the time; it is killed at random moments, and started
again. Every event has an item of its own, so the ingested days show which events are there, and how often. Then the
times of telling and of reading are measured without HTTP. `--folder` decides which disk is measured (default: that of
the temporary folder).
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, cast
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import connect
from recsys_assets.datasets.ingest import ROWS, ingest_events, load_known_ids
from recsys_assets.datasets.landing import landed_bizdates
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.processes import end_with
from recsys_assets.serving import told_landing
from recsys_assets.serving.events import EventsBody, rows_of
from recsys_assets.serving.told import Told, open_told
from recsys_assets.serving.told_writer import Answer, Call

PROFILE = """
name: told
first_bizdate: 2026-01-01
landing: ${RECSYS_LANDING}/told
tables: {interactions: {user_id: int64, item_id: int64, rating: float32, timestamp: timestamp}}
label: rating > 3
split: {strategy: by_day}
"""
USERS, THREADS = 1_000, 4


def main() -> None:
    """Kill, count, measure, and print what was found."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=20)
    flags.add_argument("--seconds", type=float, default=5, help="of each measurement of the rate")
    flags.add_argument("--folder", type=Path)
    flags.add_argument("--tell", type=int, help="the number of the first item: tell events until killed")
    options = flags.parse_args()
    if options.tell is not None:
        tell_until_killed(options.tell)
    with tempfile.TemporaryDirectory(dir=options.folder) as home:
        places = {"DATA": home, "LANDING": f"{home}/landing", "LAKE": f"{home}/lake", "PROFILE": f"{home}/told.yaml"}
        Path(places["PROFILE"]).write_text(PROFILE)
        with mock.patch.dict(os.environ, {f"RECSYS_{name}": place for name, place in places.items()}):
            profile = load_profile()
            print(kill_and_count(profile, options.kills))
            with open_told(profile) as told:
                measure(profile, told, options.seconds)


def tell(profile: Profile, told: Told, items: range) -> Answer:
    """Tell events of these items."""
    body = EventsBody(events=[{"user_id": item % USERS, "item_id": item, "rating": 4} for item in items])
    return told.tell(Call(list(rows_of(profile, body)))).result()


def tell_until_killed(first: int) -> None:
    """Tell one to twenty events at a time, and print the items of those that were acknowledged; land all the time."""
    end_with(os.getppid())
    told_landing.TICK = told_landing.LONGEST_WAIT = 0.02
    profile, chance = load_profile(), random.Random(first)
    lock, place = threading.Lock(), first

    def run(told: Told) -> None:
        nonlocal place
        while True:
            with lock:
                items = range(place, place := place + chance.randint(1, 20))
            tell(profile, told, items)
            os.write(1, f"{items.start} {items.stop}\n".encode())

    with open_told(profile) as told, ThreadPoolExecutor(THREADS) as pool:
        for done in [pool.submit(run, told) for _ in range(THREADS)]:
            done.result()


def kill_and_count(profile: Profile, kills: int) -> str:
    """Kill a process that tells events so many times, land the rest, and compare what is ingested."""
    chance, acknowledged = random.Random(1), set[int]()
    for number in range(kills):
        command = [sys.executable, __file__, "--tell", str(number * 1_000_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            said = cast(IO[str], process.stdout)
            acknowledged |= items_in(said.readline())
            time.sleep(chance.uniform(0, 1))
            process.kill()
            acknowledged = acknowledged.union(*map(items_in, said))
    with open_told(profile):
        pass  # what is left lands at the end
    found = Counter(ingested_items(profile))
    doubled = sum(count > 1 for count in found.values())
    files = len(list(profile.landing.rglob("told-*")))
    return (
        f"{kills} kills: {len(acknowledged):,} events acknowledged, {len(found):,} ingested from {files} files, "
        f"{len(acknowledged - found.keys())} lost, {doubled} doubled"
    )


def items_in(line: str) -> set[int]:
    """The items of a whole line of a killed process."""
    return set(range(*map(int, line.split()))) if line.endswith("\n") else set()


def ingested_items(profile: Profile) -> Iterator[int]:
    """The items of all ingested rows and, so that they are counted too, of rejected ones."""
    for day in landed_bizdates(profile):
        folder = profile.landing.parents[1] / "ingested" / day
        folder.mkdir(parents=True)
        with connect(folder) as connection:
            load_known_ids(connection, profile, day)
            counts = ingest_events(connection, profile, day, folder)
        if counts.keys() != {"rows"}:
            raise RuntimeError(f"acknowledged events of {day} were rejected: {counts}")
        yield from pq.read_table(folder / ROWS)["item_id"].to_pylist()


def measure(profile: Profile, told: Told, seconds: float) -> None:
    """Print the times and rates of telling and of reading."""
    first = 10**9
    print(f"{'telling':<40}{'events/s':>10}{'p50 ms':>10}{'p99 ms':>10}")
    for threads, events in ((1, 1), (64, 1), (8, 100), (4, 1000)):
        took, since, cpu = list[float](), time.perf_counter(), time.process_time()

        def run(begin: int, events: int = events, until: float = since + seconds, took: list[float] = took) -> None:
            while time.perf_counter() < until:
                start = time.perf_counter()
                tell(profile, told, range(begin, begin := begin + events))
                took.append(time.perf_counter() - start)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, [first + 10**7 * thread for thread in range(threads)]))
        first += 10**9
        spent, share = time.perf_counter() - since, (time.process_time() - cpu) / (time.perf_counter() - since)
        p50, p99 = np.percentile(took, (50, 99)) * 1000
        named = f"{threads} at once, {events} each, {share:.1f} cores"
        print(f"{named:<40}{len(took) * events / spent:>10,.0f}{p50:>10.1f}{p99:>10.1f}")
    read = [timed(told, user) for user in range(USERS) for _ in range(5)]
    p50, p99 = np.percentile([took for took, _ in read], (50, 99)) * 1e6
    events = np.median([count for _, count in read])
    print(f"reading a user's events (median {events:.0f}): p50 {p50:.0f} us, p99 {p99:.0f} us")
    nobody = np.median([timed(told, -1)[0] for _ in range(1000)]) * 1e6
    print(f"reading those of a user without any: p50 {nobody:.0f} us")


def timed(told: Told, user: int) -> tuple[float, int]:
    """The seconds of reading the events of a user, and their number."""
    start = time.perf_counter()
    found = told.of(user, "2026-01-01")
    return time.perf_counter() - start, len(found.items)


if __name__ == "__main__":
    main()
