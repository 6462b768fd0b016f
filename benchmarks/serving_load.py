"""Measures the online service under load: an open loop at several rates, memory, and changes of the release.

    python benchmarks/serving_load.py [--rates 1 50 100 250 500] [--seconds 20] [--processes 2] [--releases 20]
                                      [--history 5]

It starts `recsys serve` on the current release of this installation, asks for the lists of its users, and prints for
each rate the percentiles of the time from when a request was due to the end of its answer; a service that has too much
to do refuses requests with 503. At the highest rate that
was still kept up with, it makes the current release again and again, and then rolls back: no request may fail, and no
answer may be of an old release two seconds after the first one of the new release. With `--history` each request tells
so many events that the release does not know, so that all towers that read a history encode the user's new one.
"""

import argparse
import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
from open_loop import Answer, Load, answers, begin, milliseconds

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.releases import release_store
from recsys_assets.settings import settings
from recsys_assets.stores.live_sets import content_of

GONE = 30.0  # seconds that a service has to be ready
OPENED_SECONDS = 600  # a release of 10^6 users and items took 164 s to open
USERS = 2000  # that requests are about
KEPT_UP = 0.1  # seconds of the 99th percentile at a rate that the service keeps up with


@contextlib.contextmanager
def service(processes: int, port: int = 0) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The URL and the process of a service that is ready.

    Raises:
        RuntimeError: it ended, or no release answered in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "recsys_assets.cli", "serve", f"--port={port}", f"--processes={processes}"]
    began, url = time.monotonic(), f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not is_ready(url):
            if process.poll() is not None:
                raise RuntimeError(f"the service ended with status {process.returncode} before it could answer")
            if time.monotonic() - began > OPENED_SECONDS:
                raise RuntimeError(f"no release answered within {OPENED_SECONDS} s: see {url}/health/ready")
            time.sleep(0.05)
        print(f"ready after {time.monotonic() - began:.1f} s")
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def is_ready(url: str) -> bool:
    """Whether a release answers."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/health/ready", timeout=5).status_code == 200
    return False


def users_of_current_release() -> list[str]:
    """Paths of requests for the lists of some users."""
    return [f"/recommend/{each}" for each in _ids("user_id")]


def told_requests(events: int, seed: int = 1) -> list[str]:
    """Bodies of requests for the lists of some users, who have just touched so many items that were drawn."""
    items, rng = _ids("item_id"), np.random.default_rng(seed)
    told = [[{"item_id": items[place]} for place in rng.choice(len(items), events)] for _ in range(USERS)]
    return [json.dumps({"user_id": user, "history": each}) for user, each in zip(_ids("user_id"), told, strict=False)]


def _ids(key: str) -> list[Any]:
    """The ids of some users or items of the current release."""
    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    with release_store(profile, lake) as store:
        record = store.release() or {}
    ids = pq.read_table(lake.read(f"{key[:4]}s", record["bizdate"]).path(ROWS), columns=[key])[key]
    found: list[Any] = ids.to_pylist()[:: max(1, len(ids) // USERS)]
    return found


def row(name: str, found: Sequence[Answer], seconds: float) -> str:
    """A line of the table."""
    failed = [each.error or str(each.status) for each in found if each.status != 200]
    done = sum(each.status == 200 for each in found) / max(seconds, *(each.due + each.seconds for each in found))
    late = max(each.late for each in found) * 1000
    shed = max((each.seconds - each.late for each in found if each.status == 503), default=0.0) * 1000
    times = " | ".join(f"{each:g}" for each in milliseconds(found).values())
    failures = f"{len(failed)} {' '.join(sorted(set(failed)))}"
    return f"| {name} | {done:.0f} | {times} | {failures} | {shed:.0f} | {late:.0f} |"


def memories(process: "subprocess.Popen[bytes]") -> list[Any]:
    """The memory of each process of the service that lives, without its store: psutil's figures, in bytes."""
    found = []
    for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
            if "embedded" not in " ".join(each.cmdline()):
                found.append(each.memory_full_info())
    return found


def memory(process: "subprocess.Popen[bytes]") -> str:
    """The memory of every process of the service: its equal share of what several hold, and what it holds alone."""
    infos = memories(process)
    return ", ".join(f"{each.pss / 2**20:.0f} ({each.uss / 2**20:.0f}) of {each.rss / 2**20:.0f}" for each in infos)


def change_releases(releases: int, rollbacks: int, pause: float) -> None:
    """Make the current release again, so many times, as a new release and as a rollback does."""
    profile = load_profile()
    with release_store(profile, Lake.of(settings().lake, profile)) as store:
        for _ in range(releases + rollbacks):
            current = store.release() or {}
            store.put_release(content_of(current), current)
            time.sleep(pause)


def oldest(found: Sequence[Answer]) -> float:
    """Seconds after the first answer of a newer release at which a request was still answered from an older one."""
    first: dict[int, float] = {}
    for each in found:
        if each.release:
            first[each.release] = min(first.get(each.release, float("inf")), each.due + each.seconds)
    newer = {number: min(when for other, when in first.items() if other > number) for number in sorted(first)[:-1]}
    return max((each.due - newer[each.release] for each in found if each.release in newer), default=0.0)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 50, 100, 250, 500])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--releases", type=int, default=20)
    parser.add_argument("--rollbacks", type=int, default=5)
    parser.add_argument("--pause", type=float, default=6, help="seconds between two releases")
    parser.add_argument("--history", type=int, default=0, help="events that each request tells")
    given = parser.parse_args()
    bodies = told_requests(given.history) if given.history else []
    paths, kept_up = ["/recommend"] * len(bodies) or users_of_current_release(), given.rates[0]
    with service(given.processes) as (url, process):
        answers(begin(Load(url, paths, 20, 3, bodies=bodies)))
        print("| a second | answered | p50 | p90 | p99 | p99.9 | max, ms | failed | longest 503, ms | sent late, ms |")
        for rate in given.rates:
            found = answers(begin(Load(url, paths, rate, given.seconds, bodies=bodies)))
            print(row(f"{rate:g}", found, given.seconds), flush=True)
            all_answered = all(each.status == 200 for each in found)
            kept_up = rate if all_answered and milliseconds(found)["p99"] < KEPT_UP * 1000 else kept_up
        print(f"memory, MB: {memory(process)}")
        changes = given.releases + given.rollbacks
        if not changes:
            return
        seconds = changes * given.pause + 10
        load = begin(Load(url, paths, kept_up, seconds, bodies=bodies))
        change_releases(given.releases, given.rollbacks, given.pause)
        found = answers(load)
        print(row(f"{kept_up:g}, {changes} changes", found, seconds))
        seen = len({each.release for each in found if each.release})
        print(f"{seen} releases answered; the oldest answer was {oldest(found):.2f} s behind")
        print(f"memory, MB: {memory(process)}")


if __name__ == "__main__":
    main()
