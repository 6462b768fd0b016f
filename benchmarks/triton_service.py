"""Compares the service that ranks through Triton with the one that ranks by its own file: lists, and time.

    RECSYS_PROFILE=movielens-1m RECSYS_DATA=… python benchmarks/triton_service.py 2003-02-28 --users 500

`recsys triton serve` must run at RECSYS_TRITON_URI, and `triton_champion` must be published. Two lists are alike if
they have the same items up to swaps among scores that are closer than 1e-5.
"""

import argparse
import os
import time

import numpy as np

from recsys_assets.arrays import Doubles
from recsys_assets.datasets.profile import load_profile
from recsys_assets.lake import Lake
from recsys_assets.serving.by_triton import LIMIT, rank_by_triton
from recsys_assets.serving.engine import Engine, Row, Wish
from recsys_assets.serving.people import NOTHING
from recsys_assets.settings import settings

CLOSE = 1e-5
OWN, BY_TRITON = "by its own file", "through Triton"


def measure(engine: Engine, users: list[object]) -> dict[str, tuple[list[list[Row]], Doubles]]:
    """For both ways the list of each user, and (U, 2) the milliseconds and those of this process's processor.

    Each user is asked for in both ways, one after the other, so that other work on the machine slows both alike.
    """
    ranker = engine.funnel.known.ranker
    if ranker is None:
        raise SystemExit("the release has no ranking model")
    ways = {OWN: None, BY_TRITON: ranker.elsewhere}
    lists: dict[str, list[list[Row]]] = {name: [] for name in ways}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for user in users:
        for name, ranker.elsewhere in ways.items():
            began, used = time.perf_counter(), time.process_time()
            lists[name].append(engine.recommend(user, NOTHING, Wish()))
            times[name].append((time.perf_counter() - began, time.process_time() - used))
    return {name: (lists[name], 1000 * np.array(times[name])) for name in ways}


def alike(one: list[Row], other: list[Row]) -> bool:
    """Whether two lists are the same up to swaps among scores that are close.

    Each place must have nearly the same score in both; an item that only one of them has must have the last score.
    """
    scores = [np.array([row["score"] for row in rows]) for rows in (one, other)]
    if len(one) != len(other) or np.abs(scores[0] - scores[1]).max(initial=0) > CLOSE:
        return False
    found = [{row["item_id"]: row["score"] for row in rows} for rows in (one, other)]
    last = min(each.min(initial=np.inf) for each in scores)
    only = [found[side][item] for side in (0, 1) for item in found[side].keys() - found[1 - side].keys()]
    both = found[0].keys() & found[1].keys()
    return all(abs(found[0][item] - found[1][item]) <= CLOSE for item in both) and all(
        score - last <= CLOSE for score in only
    )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bizdate", help="of the release")
    parser.add_argument("--users", type=int, default=500, help="how many are drawn")
    asked = parser.parse_args()
    os.environ.setdefault(LIMIT, "1000")
    profile = load_profile()
    engine = Engine(profile, Lake.of(settings().lake, profile), asked.bizdate)
    engine.warm_up()
    ids = engine.log.user_ids
    users = np.random.default_rng(0).choice(ids, min(asked.users, len(ids)), replace=False).tolist()
    rank_by_triton(engine)
    engine.warm_up()
    found = measure(engine, users)
    same = sum(alike(one, other) for one, other in zip(found[OWN][0], found[BY_TRITON][0], strict=True))
    print(f"{engine.model}: {same} of {len(users)} lists alike")
    for name, (_, times) in found.items():
        (middle, used), late = np.median(times, axis=0), np.quantile(times[:, 0], 0.99)
        print(f"{name:16} p50 {middle:.2f} ms, p99 {late:.2f} ms; processor, p50 {used:.2f} ms")


if __name__ == "__main__":
    main()
