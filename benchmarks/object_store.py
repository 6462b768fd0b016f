"""Tries a lake in an object store: killed writers, two writers at once, failing requests, and what listing costs.

    python benchmarks/object_store.py [--kills 20] [--rounds 20] [--trips 200] [--partitions 1000]

The store is SeaweedFS, which runs here. Every file of a partition has the number of its publication. Processes that
read compare the numbers of all files, while

1. a process publishes and is killed by SIGKILL at a random moment, again and again;
2. two processes publish the same partition at once.

A read is torn if it has two numbers, and failed if there is an error. A publication is lost if it was reported, and
what is there after the kill is older; if nothing is there, the script ends with that error. Then

3. a share of the requests (`--share`) fails on its way through a proxy: as an error 500 or 503, or by a reset before
   the store has the request, after it has done it, or in the middle of the answer;
4. the proxy counts the requests that questions about many partitions take, and those of a listing by partition, which
   the lake used before.

The exit status is 1 if anything was torn, failed or lost.
"""

import argparse
import datetime as dt
import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, cast
from unittest import mock

from recsys_assets.lake import Lake
from recsys_assets.lake_place import LakeUnavailable
from recsys_assets.manifest import PartitionDamaged, PartitionMissing, PartitionReplaced
from recsys_assets.processes import end_with
from recsys_assets_tests.helpers.failing_proxy import FailingProxy, failing_proxy
from recsys_assets_tests.helpers.object_store import BUCKET, KEY, SECRET, object_store

ASSET, DAY, FIRST_DAY = "users", "2026-01-05", "2020-01-01"
FILES, LINES = 4, 2_000
READERS = 2
WRONG = ("torn", "failed", "lost")
FAILURES = (LakeUnavailable, PartitionDamaged, PartitionMissing, PartitionReplaced)
Worker = subprocess.Popen[str]


def open_lake(name: str) -> Lake:
    """A lake in the store."""
    return Lake(f"s3://{BUCKET}/{name}", "shop")


def publish(lake: Lake, number: int, day: str = DAY) -> None:
    """Publish a partition whose files have a number."""
    with lake.draft(ASSET, day) as draft:
        for file in range(FILES):
            draft.path(f"part-{file}.txt").write_text(f"{number}\n" * LINES)


def numbers(lake: Lake) -> set[int]:
    """The numbers in all files of the partition; one, unless the read is torn."""
    partition = lake.read(ASSET, DAY)
    found = {int(line) for file in partition.manifest.files for line in partition.path(file).read_text().split()}
    shutil.rmtree(partition.folder)  # the next read fetches the files again
    return found


def write_on(lake: Lake) -> None:
    """Publish the numbers that come from the parent process, and print each when it is published."""
    for line in sys.stdin:
        publish(lake, int(line))
        print(line, end="", flush=True)


def read_on(lake: Lake) -> None:
    """Read until the parent process closes the pipe; print how many reads were whole, torn and failed."""
    seen = Counter[str]()
    print(min(numbers(lake)), flush=True)  # it is ready
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            seen["whole" if len(numbers(lake)) == 1 else "torn"] += 1
        except FAILURES as error:
            seen["failed"] += 1
            print(f"a read failed: {error}", file=sys.stderr)
    print(json.dumps(seen))


ROLES = {"write": write_on, "read": read_on}


def start(role: str, lake: str, home: Path) -> Worker:
    """Start a process of this script, with a temporary folder of its own."""
    own = Path(tempfile.mkdtemp(dir=home))
    command = [sys.executable, __file__, "--role", role, lake]
    environment = {**os.environ, "TMPDIR": str(own), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def ask(writer: Worker, *wanted: int) -> None:
    """Let a writer publish these numbers."""
    with suppress(BrokenPipeError):
        print(*wanted, sep="\n", file=writer.stdin, flush=True)


def told(writer: Worker) -> int:
    """The next number that a process tells; 0 when it has ended."""
    return int(cast(IO[str], writer.stdout).readline() or 0)


@contextmanager
def readers(lake: str, home: Path, seen: Counter[str]) -> Iterator[None]:
    """Processes that read during the block; afterwards their counts are added to `seen`."""
    with ExitStack() as stack:
        working = [stack.enter_context(start("read", lake, home)) for _ in range(READERS)]
        for each in working:
            told(each)
        yield
        for each in working:
            output, _ = each.communicate("")
            seen.update(json.loads(output))


def kill_and_count(home: Path, kills: int) -> dict[str, int]:
    """Kill a writer at random moments, and compare what is there with what it had reported."""
    chance, lake, seen, last = random.Random(20260105), open_lake("kills"), Counter[str](), 1
    publish(lake, last)
    with readers("kills", home, seen):
        for _ in range(kills):
            reported = killed(home, last + 1, chance.uniform(0, 0.1))
            last = min(numbers(lake))
            seen["lost"] += last < reported
    cut = uploads(lake) - last  # every number up to this one was published once
    return {"kills": kills, "kills during an upload": cut, "publications": last, **counted(seen)}


def killed(home: Path, first: int, seconds: float) -> int:
    """Kill a process that publishes numbers from the first on; returns the last that it reported."""
    with start("write", "kills", home) as writer:
        ask(writer, *range(first, first + 200))
        reported = told(writer)
        time.sleep(seconds)
        writer.kill()
        return max([reported, *iter(lambda: told(writer), 0)])


def uploads(lake: Lake) -> int:
    """The number of uploads of the partition, including those that were killed."""
    import s3fs

    return len(s3fs.S3FileSystem(use_listings_cache=False).ls(lake.location(ASSET, DAY))) - 1  # without the manifest


def write_at_once(home: Path, rounds: int) -> dict[str, int]:
    """Let two writers publish the same partition at once, and look at what is there afterwards."""
    lake, seen = open_lake("at-once"), Counter[str]()
    publish(lake, 1)
    one, other = (start("write", "at-once", home) for _ in range(2))
    with one, other, readers("at-once", home, seen):
        for number in range(2, 2 * rounds + 2, 2):
            ask(one, number)
            ask(other, number + 1)
            published = {told(one), told(other)}
            there = numbers(lake)
            seen["lost"] += not there <= published
            seen["torn"] += len(there) > 1
    return {"rounds": rounds, **counted(seen)}


def counted(seen: Counter[str]) -> dict[str, int]:
    """The counts of whole reads, and of what may not happen."""
    return {"whole reads": seen["whole"], **{name: seen[name] for name in WRONG}}


def fail_requests(proxy: FailingProxy, trips: int, share: float) -> dict[str, int | float]:
    """Publish, read and list again and again while a share of the requests fails."""
    lake, seen, began = open_lake("faults"), Counter[str](), time.perf_counter()
    proxy.clear()
    proxy.share = share
    for number in range(trips):
        try:
            publish(lake, number)
            there = numbers(lake)
            seen["torn"] += len(there) > 1
            seen["lost"] += number not in there or lake.bizdates(ASSET) != [DAY]
        except FAILURES as error:
            seen["failed"] += 1
            print(f"a request failed for good: {error}", file=sys.stderr)
    proxy.share = 0
    faults = {f"failed as {kind}": count for kind, count in sorted(proxy.faults.items())}
    requests = {"requests": proxy.requests.total(), **faults, "sent again by botocore": proxy.again}
    seconds = round(time.perf_counter() - began, 1)
    return {"publications and reads": trips, **requests, "seconds": seconds, **{name: seen[name] for name in WRONG}}


def count_requests(proxy: FailingProxy, partitions: int) -> list[tuple[str, int, int, float]]:
    """The cost of questions about many partitions of one asset: name, results, requests and seconds of each."""
    lake = open_lake("listing")
    bizdates = days_from(partitions)
    for number, day in enumerate(bizdates):
        publish(lake, number, day)
    questions: dict[str, Callable[[], int]] = {
        "bizdates": lambda: len(lake.bizdates(ASSET)),
        "bizdates, by partition as before": lambda: by_partition(f"{BUCKET}/listing/shop/{ASSET}"),
        "partitions": lambda: len(lake.partitions()),
        "manifests": lambda: len(lake.manifests(f"{ASSET}/{day}" for day in bizdates)),
        "one manifest": lambda: len([lake.manifest(ASSET, bizdates[0])]),
        "size of a partition": lambda: lake.size(ASSET, bizdates[0]) and 1,
        "unneeded": lambda: len(lake.unneeded()),
    }
    return [(name, *measured(proxy, question)) for name, question in questions.items()]


def days_from(count: int) -> list[str]:
    """That many bizdates from the first day on."""
    first = dt.date.fromisoformat(FIRST_DAY)
    return [(first + dt.timedelta(number)).isoformat() for number in range(count)]


def by_partition(folder: str) -> int:
    """The number of manifests, found as the lake did before: each partition is listed in a request of its own."""
    import s3fs

    store = s3fs.S3FileSystem(use_listings_cache=False)
    return sum(path.endswith("/manifest.json") for path in store.find(folder, maxdepth=2))


def measured(proxy: FailingProxy, question: Callable[[], int]) -> tuple[int, int, float]:
    """The answer, its requests, and its seconds."""
    proxy.clear()
    began = time.perf_counter()
    answer = question()
    return answer, proxy.requests.total(), time.perf_counter() - began


def show(title: str, found: Mapping[str, int | float]) -> int:
    """Print a table; returns how many things happened that may not."""
    print(f"\n{title}")
    for name, value in found.items():
        print(f"    {name:32}{value:>10,}", flush=True)
    return sum(int(found[name]) for name in WRONG)


def run(options: argparse.Namespace, home: Path, proxy: FailingProxy) -> int:
    """Print all tables; returns how many things happened that may not."""
    wrong = show("a writer is killed", kill_and_count(home, options.kills))
    wrong += show("two writers at once", write_at_once(home, options.rounds))
    wrong += show(f"{options.share:.0%} of requests fail", fail_requests(proxy, options.trips, options.share))
    print(
        f"\n{options.partitions:,} partitions of {FILES} files\n    {'':32}{'found':>10}{'requests':>10}{'seconds':>10}"
    )
    for name, answer, requests, seconds in count_requests(proxy, options.partitions):
        print(f"    {name:32}{answer:>10,}{requests:>10,}{seconds:>10.2f}", flush=True)
    return wrong


def main() -> None:
    """Read the command line, start the store, and print what was found."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--kills", type=int, default=20)
    flags.add_argument("--rounds", type=int, default=20, help="of two writers at once")
    flags.add_argument("--trips", type=int, default=200, help="publications and reads while requests fail")
    flags.add_argument("--share", type=float, default=0.05, help="of requests that fail")
    flags.add_argument("--partitions", type=int, default=1_000)
    flags.add_argument("--role", nargs=2, help=argparse.SUPPRESS)
    options = flags.parse_args()
    if options.role:
        end_with(os.getppid())
        ROLES[options.role[0]](open_lake(options.role[1]))
        return
    with tempfile.TemporaryDirectory() as folder, object_store(Path(folder)) as store, failing_proxy(store) as proxy:
        home = Path(tempfile.mkdtemp(dir=folder))
        keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": proxy.address}
        with mock.patch.dict(os.environ, keys), mock.patch("tempfile.tempdir", str(home)):
            wrong = run(options, home, proxy)
    if wrong:
        sys.exit(f"{wrong} reads or publications were torn, lost or failed")


if __name__ == "__main__":
    main()
