"""Runs writers and readers on the same partitions for a while: no accepted read may mix two versions.

    python benchmarks/mixed_reads.py [--seconds 600]

Each writer publishes the partition `source` again and again, as one of a few recurring versions, and derives `made`
from it as assets do: read, compute, ask `is_current`, publish. Readers read both, one file at a time. A read that
`is_current` confirmed must be of one version, and so must the derived partition. A read that it did not confirm counts
as refused. The last line is the number of mixed reads that were accepted; the exit status is 1 if there is one.
"""

import argparse
import contextlib
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.queues import Queue
from pathlib import Path

from recsys_assets.lake import Lake
from recsys_assets.manifest import Partition

DAY, SOURCE, MADE = "2026-01-05", "source", "made"
FILES = [f"part-{number}.txt" for number in range(4)]
VERSIONS = 3  # so few that a version recurs during a read
LINES = 2_000


def publish(lake: Lake, chance: random.Random, seen: Counter[str]) -> None:
    """Publish the source as one of the versions."""
    version = chance.randrange(VERSIONS)
    with lake.draft(SOURCE, DAY) as draft:
        for file in FILES:
            draft.path(file).write_text(f"{version}\n" * LINES)
    seen["published"] += 1


def derive(lake: Lake, chance: random.Random, seen: Counter[str]) -> None:
    """Publish what was read from the source, unless it was replaced in the meantime."""
    source = lake.read(SOURCE, DAY)
    found = versions(source, chance)
    with lake.draft(MADE, DAY) as draft:
        for file in FILES:
            draft.path(file).write_text("".join(sorted(found)) * LINES)
        draft.manifest.upstream = {f"{SOURCE}/{DAY}": source.manifest.fingerprint}
        if not lake.is_current(source):
            seen["refused"] += 1
            raise Replaced
        seen["accepted"] += 1
        seen["mixed"] += len(found) != 1
    seen["derived"] += 1


class Replaced(Exception):
    """The source was replaced while it was being read; the draft is dropped."""


def read(lake: Lake, chance: random.Random, seen: Counter[str]) -> None:
    """Read one of the two partitions."""
    partition = lake.read(chance.choice([SOURCE, MADE]), DAY)
    found = versions(partition, chance)
    if lake.is_current(partition):
        seen["accepted"] += 1
        seen["mixed"] += len(found) != 1
    else:
        seen["refused"] += 1


def versions(partition: Partition, chance: random.Random) -> set[str]:
    """The versions found in the partition's files; somebody may replace it between two files."""
    found: set[str] = set()
    for file in partition.manifest.files:
        with contextlib.suppress(FileNotFoundError):
            found |= set(partition.path(file).read_text().split())
        time.sleep(chance.choice([0, 0, 0.001, 0.01]))
    return found


def work(root: str, seed: int, seconds: float, steps: list[Callable[..., None]], told: "Queue[Counter[str]]") -> None:
    """Take the steps in turn until the time is over, then put the counts into the queue."""
    lake, chance, seen = Lake(root, "shop"), random.Random(seed), Counter[str]()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for step in steps:
            with contextlib.suppress(Replaced):
                step(lake, chance, seen)
    told.put(seen)


def run(root: str, seconds: float, writers: int, readers: int) -> Counter[str]:
    """Run all writers and readers; returns the sum of their counts."""
    start, chance = Lake(root, "shop"), random.Random(0)
    publish(start, chance, Counter())
    derive(start, chance, Counter())
    told: Queue[Counter[str]] = multiprocessing.Queue()
    steps = [[publish, derive]] * writers + [[read]] * readers
    processes = [
        multiprocessing.Process(target=work, args=(root, seed, seconds, step, told)) for seed, step in enumerate(steps)
    ]
    for process in processes:
        process.start()
    seen = sum((told.get() for _ in processes), Counter[str]())
    for process in processes:
        process.join()
    seen["left over"] = len(list(Path(root).rglob(".*")))
    return seen


def main() -> None:
    """Run and print the counts."""
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--seconds", type=float, default=600)
    flags.add_argument("--writers", type=int, default=2)
    flags.add_argument("--readers", type=int, default=3)
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory() as root:
        seen = run(root, asked.seconds, asked.writers, asked.readers)
    for name in ("published", "derived", "refused", "accepted", "left over", "mixed"):
        print(f"{name:>10} {seen[name]:>10,}")
    if seen["mixed"]:
        sys.exit("reads that mix two states of a partition were accepted")


if __name__ == "__main__":
    main()
