"""How long an answer takes in process, step by step: the median and the 99th percentile over drawn users.

    RECSYS_PROFILE=movielens-1m RECSYS_DATA=… python benchmarks/serving_latency.py 2003-02-28 --users 500

`RECSYS_PROFILE` and `RECSYS_DATA` name the data set and its lake. Measure on a machine that does nothing else.
`--told 5` gives every request five told events, so that all user towers encode a new history.
"""

import argparse
import time

import numpy as np

from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.people import NOTHING, History
from recsys_assets.settings import settings

ALL = "an answer"


def measure(engine: Engine, users: list[object], told: int, *, judged: bool) -> dict[str, list[float]]:
    """Milliseconds of each step, and of the whole answer, for every user."""
    rng, seconds = np.random.default_rng(1), dict[str, list[float]]()
    for user in users:
        events = rng.choice(len(engine.log.item_ids), told, replace=False)
        history = History(events, np.ones(told, np.int8), np.ones(told)) if told else NOTHING
        start = time.perf_counter()
        found = engine.find(user, history, Wish(judged=judged))
        engine.rows(found)
        for step, each in {**found.seconds, ALL: time.perf_counter() - start}.items():
            seconds.setdefault(step, []).append(1000 * each)
    return seconds


def table_of(found: dict[str, list[float]]) -> str:
    """The table of the milliseconds of each step."""
    rows = [f"{'':22}{'p50 ms':>9}{'p99 ms':>9}"]
    for step, times in sorted(found.items(), key=lambda each: np.median(each[1])):
        rows.append(f"{step:22}{np.median(times):9.2f}{np.quantile(times, 0.99):9.2f}")
    return "\n".join(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bizdate", help="of the release")
    parser.add_argument("--users", type=int, default=500, help="how many are drawn")
    parser.add_argument("--told", type=int, default=0, help="events that each request brings")
    parser.add_argument("--judged", action="store_true", help="answer from the state before the online rows")
    asked = parser.parse_args()
    profile, start = load_profile(), time.perf_counter()
    engine = Engine(profile, Lake.of(settings().lake, profile), asked.bizdate)
    opened, ids = time.perf_counter() - start, engine.log.user_ids
    engine.warm_up()
    drawn = np.random.default_rng(0).choice(ids, min(asked.users, len(ids)), replace=False).tolist()
    found = measure(engine, drawn, asked.told, judged=asked.judged)
    print(f"{engine.model}: {len(ids):,} users, {len(engine.log.item_ids):,} items; opened in {opened:.1f} s")
    print(table_of(found))


if __name__ == "__main__":
    main()
