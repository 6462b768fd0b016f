"""Measures negative draws per second from the alias table, numpy's own weighted choice and a binary search.

    python benchmarks/negative_sampling.py             # 10^4 to 10^7 items, half a minute
    python benchmarks/negative_sampling.py --json      # the last line is one JSON object

Weights are popularity^0.75 of counts with a long tail. One core; the best of three rounds.
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from recsys_assets.arrays import Doubles, Ints
from recsys_assets.retrieval.negatives import alias_table, popularity

Draw = Callable[[np.random.Generator, int], Ints]


def alias(weights: Doubles) -> Draw:
    """The project's alias table."""
    return alias_table(weights).draw


def binary_search(weights: Doubles) -> Draw:
    """Binary search of uniform numbers in the cumulative weights."""
    edges = np.cumsum(weights / weights.sum())
    return lambda generator, draws: np.searchsorted(edges, generator.random(draws))


def choice(weights: Doubles) -> Draw:
    """`numpy.random.Generator.choice`, which sums the weights at every call."""
    shares = weights / weights.sum()
    return lambda generator, draws: generator.choice(len(shares), draws, p=shares)


CONTENDERS = {"alias table": alias, "binary search": binary_search, "numpy's choice": choice}


def best(work: Callable[[], object], rounds: int = 3) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--draws", type=int, default=4_000_000, help="draws per call")
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    args = parser.parse_args()
    generator, found = np.random.default_rng(1), []
    print(f"{'items':>12}{'':4}{'':18}{'seconds to build':>18}{'million draws/s':>17}")
    for items in args.items:
        weights = popularity(generator.zipf(1.5, items))
        for contender, make in CONTENDERS.items():
            build = best(partial(make, weights))
            rate = args.draws / best(partial(make(weights), generator, args.draws))
            found.append({"sampler": contender, "items": items, "build_seconds": build, "draws_per_second": rate})
            print(f"{items:12,}{'':4}{contender:18}{build:18.3f}{rate / 1e6:17.1f}")
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
