"""Measures the memory of what is made for all users, as the users grow: it should be that of a block of users.

    python benchmarks/user_memory.py                         # 10^5 and 10^6 generated users
    python benchmarks/user_memory.py --users 1000 --items 500

Each user has ten events, a vector of 64 floats and a list of 200 items. Every step runs in its own process, and its
memory is the peak above what the process held before: the log, and the vectors and terms of the items. The steps are
lists that are made, written and judged (`hitrate_<method>`), vectors that are written (`emb_<model>_user`), and liked
terms (`recall_term`).
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil
from scipy.sparse import csr_array

from recsys_assets.arrays import Ints, Scores, Vectors
from recsys_assets.assets.recall.embeddings import vectors_before
from recsys_assets.assets.recall.term import write_user_terms
from recsys_assets.datasets.splits import PARTS
from recsys_assets.retrieval import embeddings, lists
from recsys_assets.retrieval.interactions import Interactions, Queries, queries
from recsys_assets.retrieval.judging import judge
from recsys_assets.retrieval.lists import CUTOFFS, Lists
from recsys_assets.retrieval.term import ItemTerms, Taste, Tastes

EVENTS, WIDTH = 10, 64  # of a user
TERMS, CARRIED = 40, 2  # terms in all, and those of an item


def log_of(users: int, items: int) -> Interactions:
    """The events of some users, of whom each has one validation, one test and one online row at the end."""
    rng = np.random.default_rng(1)
    parts = np.full((users, EVENTS), PARTS.index("train"), np.int8)
    parts[:, -3:] = [PARTS.index(part) for part in ("validation", "test", "online")]
    count = users * EVENTS
    numbers = np.repeat(np.arange(users), EVENTS), rng.integers(0, items, count)
    return Interactions(np.arange(users), np.arange(items), *numbers, np.ones(count, np.int8), parts.ravel())


def vectors_of(users: Ints) -> Vectors:
    """(N, 64) random vectors; the same for the same first user."""
    return np.random.default_rng([2, *users[:1]]).standard_normal((len(users), WIDTH), np.float32)


def make_lists(log: Interactions, folder: Path) -> Callable[[], object]:
    """Lists of 200 items by the products of vectors."""
    catalogue, asked = vectors_of(np.arange(len(log.item_ids))).T, queries(log, "test", True)

    def recall(block: Queries) -> Lists:
        vectors = vectors_of(block.users)

        def score(rows: slice) -> Scores:
            return vectors[rows] @ catalogue

        return lists.recommend(score, log, block, max(CUTOFFS), True)

    return lambda: judge(recall, log, asked, CUTOFFS, True, folder / "details.parquet")


def make_vectors(log: Interactions, folder: Path) -> Callable[[], object]:
    """Vectors of users."""
    parts = vectors_before(log, "online", lambda users, *_: vectors_of(users))
    return lambda: embeddings.write_blocks(folder / "vectors.parquet", "user_id", parts)


def make_terms(log: Interactions, folder: Path) -> Callable[[], object]:
    """Liked terms of users."""
    items = len(log.item_ids)
    terms = np.random.default_rng(3).integers(0, TERMS, items * CARRIED)
    weights = csr_array((np.ones(len(terms)), terms, np.arange(items + 1) * CARRIED), (items, TERMS))
    weights.sum_duplicates()
    names = np.array([f"term {number:02}" for number in range(TERMS)], object)
    tastes = Tastes.learn(log, ItemTerms(names, weights), Taste())
    return lambda: write_user_terms(log, tastes, folder / "terms.parquet")


STEPS = {"lists": make_lists, "vectors": make_vectors, "terms": make_terms}


def measure(step: str, users: int, items: int) -> dict[str, float]:
    """Run a step in this process; returns seconds of all processors, seconds, and MB above what was there before."""
    with tempfile.TemporaryDirectory() as folder:
        work = STEPS[step](log_of(users, items), Path(folder))
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak so far
        before, started, used = psutil.Process().memory_info().rss, time.perf_counter(), time.process_time()
        work()
        written = sum(file.stat().st_size for file in Path(folder).iterdir())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "processor seconds": time.process_time() - used,
            "seconds": time.perf_counter() - started,
            "MB written": written / 2**20,
            "MB above": (peak - before) / 2**20,
        }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object")
    given = parser.parse_args()
    figures = {}
    for step in given.steps:
        for users in given.users:
            with ProcessPoolExecutor(1, mp_context=get_context("forkserver")) as alone:
                figures[f"{step}, {users:,} users"] = found = alone.submit(measure, step, users, given.items).result()
            print(f"{step:10}{users:12,}  " + ", ".join(f"{value:,.1f} {name}" for name, value in found.items()))
    if given.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
