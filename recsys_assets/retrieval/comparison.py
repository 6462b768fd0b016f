"""Comparison of recall methods with chance and with one another: the recall of random lists, and unique hits."""

from collections.abc import Mapping

import numpy as np

from recsys_assets.arrays import Bools, Ints
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import history, reached


def by_chance(interactions: Interactions, queries: Queries, catalogue: Bools, k: int, filter_seen: bool) -> float:
    """The expected recall@k of lists drawn at random from the catalogue (I,)."""
    row, item = history(interactions, queries, slice(0, len(queries)))
    known = np.unique((row * len(catalogue) + item)[catalogue[item]])
    seen = np.bincount(known // len(catalogue), minlength=len(queries)) if filter_seen else 0
    drawn = np.minimum(k / np.maximum(catalogue.sum() - seen, 1), 1)
    return float(np.mean(drawn * _shares(catalogue[queries.truth], queries)))


def additions(items: Mapping[str, Ints], queries: Queries) -> tuple[float, dict[str, float]]:
    """The recall of several methods' lists (N, K) together, and how much of it comes from each method alone."""
    answers = {method: reached(listed, queries) for method, listed in items.items()}
    count = np.sum(list(answers.values()), axis=0)
    lacked = {method: float(_shares(answer & (count == 1), queries).mean()) for method, answer in answers.items()}
    return float(_shares(count > 0, queries).mean()), lacked


def _shares(chosen: Bools, queries: Queries) -> np.ndarray:
    """(N,) share of each query's right answers that are marked in `chosen` (T,)."""
    return np.add.reduceat(chosen.astype(np.int64), queries.truth_starts[:-1]) / queries.truth_sizes
