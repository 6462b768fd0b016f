"""Measures a service over a long time: told events, processes that are killed, and the growth of memory.

    python benchmarks/serving_endurance.py [--told 1000] [--kills 20] [--requests 1000000] [--processes 2]

It starts `recsys serve` on the current release of this installation, which it tells events for good: run it on a copy.
A told event must change the next answer over the same connection, and those of all processes within a second. While
processes that answer are killed, every event that was acknowledged must be in the landing files once. The memory of all
processes is measured after each tenth of the requests. The exit status is 1 if an event was lost, doubled, or late.
"""

import argparse
import contextlib
import itertools
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from serving_load import memories, service

from recsys_assets.datasets.profile import load_profile
from recsys_assets_tests.helpers.leftovers import command

CONNECTIONS = 8  # each stays with one process: together they reach all
SOON = 1.0  # seconds within which all processes must know an event
THREADS = 4
EVENTS = 10  # that are acknowledged between two kills
GONE_SECONDS = 60  # without an answer: kills are over within 2 s


class Caller:
    """A connection to the service, which is opened again when it breaks."""

    def __init__(self, url: str) -> None:
        self._host = url.removeprefix("http://")
        self._connection = HTTPConnection(self._host, timeout=60)

    def __call__(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and content of an answer; raises what a broken connection raises."""
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = self._connection.getresponse()
            return response.status, json.loads(response.read())
        except (OSError, HTTPException):
            self._connection.close()
            raise

    def until_answered(self, method: str, path: str, body: Any = None) -> Any:
        """The content of an answer; a request whose connection broke, or that found the service full, is sent again.

        Raises:
            RuntimeError: another answer came, or none in time.
        """
        until = time.monotonic() + GONE_SECONDS
        while time.monotonic() < until:
            try:
                status, content = self(method, path, body)
            except (OSError, HTTPException):
                time.sleep(0.01)
                continue
            if status == 200:
                return content
            if status != 503:
                raise RuntimeError(f"{method} {path}: {status} {content}")
            time.sleep(0.1)
        raise RuntimeError(f"{method} {path}: no answer for {GONE_SECONDS} s: has the service ended?")

    def items(self, user: Any) -> list[Any]:
        """The list of a user."""
        return [each["item_id"] for each in self.until_answered("GET", f"/recommend/{user}?size=20")["items"]]


def users_of(caller: Caller) -> list[Any]:
    """Users of the release, drawn at random."""
    drawn = (caller.until_answered("GET", f"/users?sample=100&seed={seed}")["users"] for seed in range(40))
    return list(dict.fromkeys(itertools.chain.from_iterable(drawn)))


def tell(caller: Caller, looks: dict[str, Any], user: Any, item: Any, run: str) -> None:
    """Tell a positive event until it is acknowledged, always under the same id."""
    event = {looks["user"]: user, looks["item"]: item, **looks["positive"], "event_id": f"{run}-{user}-{item}"}
    caller.until_answered("POST", "/events", {"events": [event]})


def tell_and_look(url: str, looks: dict[str, Any], told: int, users: list[Any]) -> int:
    """Tell events one by one, and look how soon the lists of all connections follow; returns how many were late."""
    first, *others = [Caller(url) for _ in range(CONNECTIONS)]
    here, late, longest, run = 0, 0, 0.0, f"{time.time_ns():x}"
    for user in itertools.islice(itertools.cycle(users), told):
        item = first.items(user)[0]
        tell(first, looks, user, item, run)
        began = time.monotonic()
        here += item in first.items(user)
        for other in others:
            asked = time.monotonic()
            while item in other.items(user):
                late += asked - began > SOON
                longest, asked = max(longest, asked - began), time.monotonic()
    print(f"{told:,} told events: {here} still listed by the next answer over the same connection, ", end="")
    print(f"{late} by one that was asked {SOON:g} s later, none by one after {longest:.2f} s", flush=True)
    return here + late


def pairs_of(caller: Caller, users: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Pairs of a user and an item, none of them twice."""
    popular = caller.until_answered("POST", "/recommend", {"size": 200})["items"]
    return ((user, each["item_id"]) for each in popular for user in users)


def kill_under_load(
    url: str, looks: dict[str, Any], process: Any, kills: int, users: list[Any]
) -> set[tuple[Any, Any]]:
    """Kill a process that answers after every few events; returns the pairs of the acknowledged events."""
    callers, lock, stop = [Caller(url) for _ in range(THREADS)], threading.Lock(), threading.Event()
    pairs, acknowledged, run = pairs_of(callers[0], users), set[tuple[Any, Any]](), f"{time.time_ns():x}"

    def go_on(caller: Caller) -> None:
        while not stop.is_set():
            with lock:
                user, item = next(pairs)
            tell(caller, looks, user, item, run)
            acknowledged.add((user, item))
            caller.items(user)

    with ThreadPoolExecutor(THREADS) as pool:
        telling = [pool.submit(go_on, caller) for caller in callers]
        for _ in range(kills):
            enough = len(acknowledged) + EVENTS
            while len(acknowledged) < enough and not any(each.done() for each in telling):
                time.sleep(0.02)
            workers(process)[0].kill()
        stop.set()
        for each in telling:
            each.result()
    return acknowledged


def workers(process: Any) -> list[psutil.Process]:
    """The processes that answer, once there are any."""
    while True:
        with contextlib.suppress(psutil.Error):  # one may end while it is looked at
            family = psutil.Process(process.pid).children(recursive=True)
            generation = [each for each in family if "serving.generation" in command(each)]
            if found := [each for each in generation if each.ppid() != process.pid]:
                return random.sample(found, len(found))
        time.sleep(0.1)


def told_files() -> set[Path]:
    """The landing files of told events."""
    return set(load_profile().landing.rglob("told-*.parquet"))


def landed(looks: dict[str, Any], acknowledged: set[tuple[Any, Any]], files: Iterable[Path]) -> tuple[int, int]:
    """How many acknowledged events are not in landing files, and how many are there more than once."""
    names, found = [looks["user"], looks["item"]], Counter[tuple[str, str]]()
    wanted = {(str(user), str(item)) for user, item in acknowledged}  # the files have values as they were told: text
    for file in files:
        rows = pq.read_table(file, columns=names).to_pylist()
        found.update(pair for row in rows if (pair := (row[names[0]], row[names[1]])) in wanted)
    return len(wanted - found.keys()), sum(count > 1 for count in found.values())


def memory(process: Any) -> float:
    """MB of all processes of the service; what they share counts once."""
    return sum(float(each.pss) for each in memories(process)) / 2**20


def ask_often(url: str, process: Any, requests: int, users: list[Any]) -> None:
    """Ask so often, and print the memory after each tenth."""

    def ask(caller: Caller) -> None:
        for user in random.choices(users, k=requests // 10 // THREADS):
            caller.items(user)

    callers, measured = [Caller(url) for _ in range(THREADS)], list[float]()
    for tenth in range(1, 11):
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(ask, callers))
        measured.append(memory(process))
        growth = f"{measured[-1] / measured[0] - 1:+.1%} since the first tenth"
        print(f"{tenth * requests // 10:>12,} requests: {measured[-1]:,.0f} MB, {growth}", flush=True)


def main() -> int:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--told", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    before = told_files()
    with service(given.processes) as (url, process):
        users, looks = users_of(Caller(url)), Caller(url).until_answered("GET", "/release")["events"]
        half = len(users) // 2
        late = tell_and_look(url, looks, given.told, users[:half])
        acknowledged = kill_under_load(url, looks, process, given.kills, users[half:])
        ask_often(url, process, given.requests, users)
    lost, doubled = landed(looks, acknowledged, told_files() - before)  # it lands at its end
    print(f"{given.kills} kills: {len(acknowledged):,} events acknowledged, {lost} lost, {doubled} doubled")
    return int(bool(late or lost or doubled))


if __name__ == "__main__":
    sys.exit(main())
