"""Measures the speed of the item-to-item methods, and how time and memory grow with the events.

    python benchmarks/i2i_speed.py --source FOLDER [--events 100000 1000000 10000000] [--json]

* ItemCF, top 20, on 754,233 ratings of MovieLens 1M (each user's first 80 % without the last 10), compared with the
  cosine of the library `implicit` if it is installed: they take turns, and the median counts.
* Exact Swing on the ratings above 3, compared with its plain formulation as dense matrix products, item by item.
* Both on generated events over 100,000 items, 50 events per user on average: user activity is lognormal (sigma 1), and
  the popularity of the item of rank r is proportional to (r + 10)^-0.8. Each run is its own process, so that peak
  memory is measured per run.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from ml1m import arguments, finish, read, show
from scipy.sparse import csr_matrix

from recsys_assets.arrays import Ints
from recsys_assets.i2i import itemcf, swing
from recsys_assets.i2i.baskets import baskets
from recsys_assets.i2i.neighbours import Neighbours
from recsys_assets.retrieval.interactions import Interactions

METHODS: dict[str, Callable[[Interactions], Neighbours]] = {
    "itemcf": lambda events: itemcf.itemcf(events, itemcf.ItemCF()),
    "itemcf, whole histories": lambda events: itemcf.itemcf(events, itemcf.ItemCF(activity=0.5, window=0, top_n=20)),
    "swing": lambda events: swing.swing(events, swing.Swing()),
}
ITEMS, PER_USER = 100_000, 50
Figures = dict[str, dict[str, float]]


def interactions_of(users: Ints, items: Ints, number_of_items: int) -> Interactions:
    """Events, ordered by user, all of them positive."""
    ones, zeros = np.ones(len(users), np.int8), np.zeros(len(users), np.int8)
    return Interactions(np.arange(users[-1] + 1), np.arange(number_of_items), users, items, ones, zeros)


def generated(events: int, seed: int = 1) -> Interactions:
    """Events without preferences: users and items are drawn independently."""
    rng = np.random.default_rng(seed)
    activity = rng.lognormal(size=events // PER_USER)
    users = np.repeat(np.arange(len(activity)), rng.multinomial(events, activity / activity.sum()))
    popularity = (np.arange(ITEMS) + 11) ** -0.8
    items = np.searchsorted(np.cumsum(popularity / popularity.sum()), rng.random(events))
    return interactions_of(users, np.minimum(items, ITEMS - 1), ITEMS)


def seconds(task: Callable[[], object]) -> float:
    """Wall time of one run."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def plain_swing(interactions: Interactions) -> None:
    """MetaSpore's Swing as the formula says: for each item, all pairs of its users, over all items."""
    held = baskets(interactions, len(interactions.item_ids)).matrix.toarray()  # (users, items)
    weights = np.maximum(held.sum(axis=1), 1) ** -0.5
    kernel = np.outer(weights, weights) / (1 + held @ held.T)  # (users, users)
    np.fill_diagonal(kernel, 0)
    scores = np.zeros((held.shape[1],) * 2, np.float32)  # (items, items)
    for item in range(held.shape[1]):
        users = np.flatnonzero(held[:, item])
        own = held[users]
        scores[item] = ((kernel[np.ix_(users, users)] @ own) * own).sum(axis=0) / 2


def beside_implicit(train: Interactions, rounds: int) -> Figures:
    """ItemCF and the library's cosine, in turn."""
    runs: dict[str, Callable[[], object]] = {
        "itemcf, whole histories": lambda: METHODS["itemcf, whole histories"](train)
    }
    if find_spec("implicit"):
        from implicit.nearest_neighbours import CosineRecommender

        matrix = csr_matrix((np.ones(len(train)), (train.users, train.items)))
        runs["implicit, cosine"] = lambda: CosineRecommender(K=20).fit(matrix, show_progress=False)
    else:
        print("implicit is not installed: only ItemCF is measured")
    runs["itemcf, window of 50"] = lambda: METHODS["itemcf"](train)
    times = [{name: seconds(run) for name, run in runs.items()} for _ in range(rounds + 1)][1:]
    return {name: {"seconds": statistics.median(each[name] for each in times)} for name in runs}


def positives_of(events: Interactions) -> Interactions:
    """The positive events; users and items keep their numbers."""
    kept = events.labels > 0
    columns = (each[kept] for each in (events.users, events.items, events.labels, events.parts))
    return Interactions(events.user_ids, events.item_ids, *columns)


def beside_plain(positives: Interactions) -> Figures:
    """Swing and its plain formulation."""
    ours = seconds(lambda: swing.swing(positives, swing.Swing(activity=0.5, popularity=0, top_n=20)))
    return {"swing": {"seconds": ours}, "swing, plain dense": {"seconds": seconds(lambda: plain_swing(positives))}}


def grown(method: str, events: int) -> dict[str, float]:
    """Run one method on that many generated events, in this process."""
    interactions = generated(events)
    found: list[Neighbours] = []
    took = seconds(lambda: found.append(METHODS[method](interactions)))
    # getrusage would give at least the peak of the process that started this one.
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    length = float((found[0].lists.items >= 0).sum(axis=1).mean())
    return {"seconds": took, "peak_gb": int(peak) / 2**20, "mean_list": length, **found[0].cuts}


def growth(sizes: list[int]) -> Figures:
    """Run each method on each number of events, one process per run."""
    figures = {}
    for events in sizes:
        for method in METHODS:
            command = [sys.executable, __file__, "--source", ".", "--only", method, "--events", str(events)]
            figures[f"{method}, {events:,} events"] = json.loads(subprocess.check_output(command, text=True))
    return figures


def main() -> None:
    """Read the command line and run the comparisons."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "--events", type=int, nargs="*", default=[10**5, 10**6, 10**7], help="sizes of the growth table"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of ItemCF and implicit")
    parser.add_argument("--only", choices=METHODS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(grown(given.only, given.events[0])))
        return
    ratings = read(given.source)
    everything = ratings.samples(validation=0, test=0, least_rating=4)
    offline = np.bincount(everything.users)[everything.users] - 10
    place = np.arange(len(everything)) - np.searchsorted(everything.users, everything.users)
    first = place < np.ceil(0.8 * offline)
    train = interactions_of(everything.users[first], everything.items[first], len(everything.item_ids))
    figures = beside_implicit(train, given.rounds) | beside_plain(positives_of(everything))
    show(f"MovieLens 1M: {len(train):,} ratings, Swing on {everything.labels.sum():,} positives", figures)
    grew = growth(given.events)
    if grew:
        show(f"Growth over {ITEMS:,} items", grew)
    finish(figures | grew, as_json=given.json)


if __name__ == "__main__":
    main()
