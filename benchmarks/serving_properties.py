"""Asks a release for lists at random, and counts what no list may hold: seen, told, excluded and blocked items.

    python benchmarks/serving_properties.py [--requests 100000] [--seed 1]

It opens the newest bizdate of the lake that has a `funnel_model`, with scenes that block and pin items, and answers in
this process. Users are known, unknown or not named; requests bring histories, exclude items and restrict the list. The
exit status is 1 if a list breaks a rule.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets.settings import settings
from recsys_assets_tests.helpers.random_requests import Trial, read_seen, write_scenes


def main() -> int:
    """Ask, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    profile = load_profile()
    lake = Lake.of(settings().lake, profile)
    day = lake.bizdates("funnel_model")[-1]
    engine = Engine(profile, lake, day)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "scenes.yaml"
        blocked = write_scenes(file, engine.log.item_ids)
        service = Service(Opened(1, engine, Book(file, profile)))
        seen = read_seen(lake.read("splits", day).path(ROWS))
        trial, begun = Trial(service, seen, blocked, np.random.default_rng(given.seed)), time.perf_counter()
        trial.run(given.requests)
    print(f"{given.requests:,} requests in {time.perf_counter() - begun:,.0f} s")
    for what, count in sorted(trial.counts.items()):
        print(f"{what:>20} {count:>9,}")
    print(*trial.examples[:5], sep="\n")
    print(f"{len(trial.examples)} lists hold something that they must not")
    return int(bool(trial.examples))


if __name__ == "__main__":
    sys.exit(main())
