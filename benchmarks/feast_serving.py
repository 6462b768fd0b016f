"""Measures a service that reads users' features from Feast: latency next to the default, and faults under load.

    python benchmarks/feast_serving.py [--users 500] [--rate 20] [--seconds 6] [--processes 2] [--limit 50]

`RECSYS_PROFILE`, `RECSYS_DATA` and `RECSYS_FEAST_URI` name a data set that has a release and is in Feast. First the
lists of drawn users are made in this process with and without Feast, and compared: the same items, but for scores
closer than 1e-5. Then `recsys serve` reads from Feast through a proxy, which causes faults during the middle half of
each load. A table has the answers, the longest one, and how many were made with the release's own features.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import httpx
import numpy as np
import psutil
from open_loop import Load, answers, begin, milliseconds
from serving_faults import STALL, Proxy, row, store
from serving_load import service, users_of_current_release

from recsys_assets.assets.publish.serving_parity import difference
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.budget import ONLINE
from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.online_features import LIMIT, SERVER, online_features
from recsys_assets.serving.people import NOTHING
from recsys_assets.serving.releases import release_store
from recsys_assets.settings import settings

STARTS = 300.0  # seconds that the feature server has


def is_up(port: int) -> bool:
    """Whether the feature server answers."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
    return False


@contextlib.contextmanager
def feature_server(port: int) -> Iterator[psutil.Process]:
    """The process of `recsys feast serve`, once it answers; prints how long that took and its memory."""
    begun, command = time.monotonic(), [sys.executable, "-m", "recsys_assets.cli", "feast", "serve", f"--port={port}"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            while not is_up(port):
                if process.poll() is not None or time.monotonic() - begun > STARTS:
                    raise SystemExit("the feature server does not start")
                time.sleep(0.05)
            family = psutil.Process(process.pid)
            memory = family.memory_info().rss / 2**20
            print(f"the feature server is ready after {time.monotonic() - begun:.1f} s and has {memory:.0f} MB")
            yield family
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def current_engine() -> Engine:
    """The engine of the current release."""
    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    with release_store(profile, lake) as opened:
        record = opened.release() or {}
    return Engine(profile, lake, record["bizdate"])


def compare(engine: Engine, address: str, users: int) -> None:
    """Print the times of answers without and with Feast, and how many lists differ."""
    drawn = np.random.default_rng(0).choice(engine.log.user_ids, min(users, len(engine.log.user_ids)), replace=False)
    with_feast = online_features(engine, {SERVER: address, LIMIT: "10000"})
    times: dict[str, list[float]] = {"default": [], "with Feast": [], ONLINE: []}
    different = 0
    for user in drawn.tolist():
        lists = []
        for name, online in (("default", None), ("with Feast", with_feast)):
            engine.online, begun = online, time.perf_counter()
            found = engine.find(user, NOTHING, Wish())
            lists.append(engine.rows(found))
            times[name].append(1000 * (time.perf_counter() - begun))
            times[ONLINE] += [1000 * found.seconds[ONLINE]] if online else []
        different += bool(difference(*lists))
    print(f"{len(drawn)} users: {different} lists differ")
    print("| answers | p50, ms | p99, ms |")
    for name, each in times.items():
        print(f"| {name} | {np.median(each):.2f} | {np.quantile(each, 0.99):.2f} |")


def fallbacks(url: str) -> float:
    """The answers so far that were made with the release's own features."""
    lines = httpx.get(f"{url}/metrics", timeout=30).text.splitlines()
    return sum(float(each.rpartition(" ")[2]) for each in lines if "degraded" in each and f'"{ONLINE}"' in each)


@contextlib.contextmanager
def paused(process: psutil.Process) -> Iterator[None]:
    """The process is stopped during the block, and its connections stay open."""
    process.suspend()
    try:
        yield
    finally:
        process.resume()


@contextlib.contextmanager
def killed(process: psutil.Process) -> Iterator[None]:
    """The process is killed when the block begins."""
    process.kill()
    yield


def faults(process: psutil.Process, proxy: Proxy, paths: list[str], given: argparse.Namespace) -> None:
    """Print the table of faults, and the times under the same load without Feast."""
    with service(given.processes) as (url, _):
        found = answers(begin(Load(url, paths, given.rate, 2 * given.seconds)))
        print(f"under load, ms, default: {milliseconds(found)}")
    os.environ |= {SERVER: f"http://127.0.0.1:{proxy.port}", LIMIT: str(given.limit)}
    with service(given.processes) as (url, _):
        load = Load(url, paths, given.rate, 2 * given.seconds)
        print(f"under load, ms, with Feast: {milliseconds(answers(begin(load)))}")
        kinds = {
            "none": contextlib.nullcontext(),
            "Feast refuses connections": store(proxy, "refuse"),
            f"Feast is slow: {STALL:g} s for whatever it says": store(proxy, "stall"),
            "Feast does not answer": paused(process),
            "Feast is killed": killed(process),
        }
        print("| fault | answers | longest, ms | well again after, s | with the release's features |")
        for name, each in kinds.items():
            before = fallbacks(url)
            print(f"{row(name, url, each, load)} {fallbacks(url) - before:.0f} |", flush=True)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=500, help="whose lists are compared")
    parser.add_argument("--rate", type=float, default=20)
    parser.add_argument("--seconds", type=float, default=6, help="that a fault lasts")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--port", type=int, default=6566, help="of the feature server")
    parser.add_argument("--limit", type=float, default=50, help="milliseconds that Feast has")
    given = parser.parse_args()
    proxy = Proxy("127.0.0.1", given.port)
    os.environ["RECSYS_SERVE_HOSTS"] = f"127.0.0.1:{proxy.port}"
    engine = current_engine()
    engine.warm_up()
    with feature_server(given.port) as process:
        compare(engine, f"http://127.0.0.1:{given.port}", given.users)
        faults(process, proxy, users_of_current_release(), given)


if __name__ == "__main__":
    main()
