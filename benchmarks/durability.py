"""Measures the cost of surviving a power cut: median times with and without syncing, measured in turn.

    python benchmarks/durability.py [--rounds 5] [--days 400] [--assets interactions splits …]

Without syncing, `os.fsync` does nothing and all else is the same. Dagster's and MLflow's databases sync in both cases.
`--folder` decides which disk is measured (default: that of the temporary folder).
"""

import argparse
import dataclasses
import datetime as dt
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import dagster as dg

from recsys_assets.datasets.landing import land
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.definitions import build_defs
from recsys_assets.lake import Lake
from recsys_assets.partitions import days
from recsys_assets.settings import settings

FIRST = dt.date(2026, 1, 1)
ASSETS = ["interactions", "users", "items", "splits", "recall_samples", "i2i_itemcf", "i2i_swing", "recall_term"]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def partitions(folder: Path, files: int, size: int) -> float:
    """Seconds to write a partition of that many files, each of that many bytes."""
    lake, content = Lake(str(folder / "lake"), "shop"), os.urandom(size)
    start = time.perf_counter()
    with lake.draft("users", "2026-01-05") as draft:
        for number in range(files):
            draft.path(str(number)).write_bytes(content)
    return time.perf_counter() - start


def landing(folder: Path, count: int) -> float:
    """Seconds to land that many days of a small generated data set."""
    start = time.perf_counter()
    land(
        profile(folder / f"landing-{time.monotonic_ns()}"), None, FIRST, FIRST + dt.timedelta(count - 1), events=30_000
    )
    return time.perf_counter() - start


def profile(folder: Path) -> Profile:
    """The profile of the sample, with its landing folder in `folder`."""
    return load_profile("sample", dataclasses.replace(settings(), landing=folder))


def materialization(folder: Path, assets: list[str]) -> float:
    """Seconds to ingest ten days and build the assets of the last day, in this process and in a new lake."""
    os.environ["RECSYS_DATA"] = str(folder / f"data-{time.monotonic_ns()}")
    land(load_profile("sample"), None, FIRST, FIRST + dt.timedelta(9), events=20_000)
    defs = build_defs()
    every = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition)]
    bizdates = days(FIRST, FIRST + dt.timedelta(9))
    start = time.perf_counter()
    span = {"dagster/asset_partition_range_start": bizdates[0], "dagster/asset_partition_range_end": bizdates[-1]}
    dg.materialize(every, selection=["interactions"], resources=defs.resources, tags=span, run_config=QUIET)
    others = [asset for asset in assets if asset != "interactions"]
    dg.materialize(every, selection=others, resources=defs.resources, partition_key=bizdates[-1], run_config=QUIET)
    return time.perf_counter() - start


def measure(what: Callable[[], float], rounds: int) -> tuple[float, float, int]:
    """Median seconds with and without syncing, measured in turn, and the number of syncs."""
    synced, unsynced, count = [], [], 0
    for _ in range(rounds):
        with mock.patch.object(os, "fsync", side_effect=os.fsync) as counted:
            synced.append(what())
        with mock.patch.object(os, "fsync"):
            unsynced.append(what())
        count = counted.call_count
    return statistics.median(synced), statistics.median(unsynced), count


def main() -> None:
    """Measure and print a table."""
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--rounds", type=int, default=5)
    flags.add_argument("--days", type=int, default=400)
    flags.add_argument("--assets", nargs="*", default=ASSETS)
    flags.add_argument("--folder", type=Path)
    asked = flags.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        contenders: dict[str, Callable[[], float]] = {
            "a partition of 2 files of 10 kB": lambda: partitions(folder, 2, 10_000),
            "a partition of 100 files of 10 kB": lambda: partitions(folder, 100, 10_000),
            "a partition of 1 file of 200 MB": lambda: partitions(folder, 1, 200_000_000),
            f"landing of {asked.days} days": lambda: landing(folder, asked.days),
            f"ten days and {len(asked.assets)} assets": lambda: materialization(folder, asked.assets),
        }
        print(f"{'seconds, medians':36}{'synced':>10}{'not synced':>12}{'difference':>12}{'syncs':>8}")
        for what, run in contenders.items():
            synced, unsynced, count = measure(run, asked.rounds)
            print(f"{what:36}{synced:10.3f}{unsynced:12.3f}{synced - unsynced:+12.3f}{count:8}", flush=True)


if __name__ == "__main__":
    main()
