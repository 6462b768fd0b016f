"""Evaluation of the funnel's lists for the same users: metrics, intervals, and where right answers are lost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recsys_assets.arrays import Bools, Doubles, Ints, is_among
from recsys_assets.metrics import UndefinedMetric
from recsys_assets.ranking.bootstrap import DRAWS, SEED, Comparison, compare_draws, draws
from recsys_assets.ranking.slices import count_slices
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import by_query, history, truth_hits

METRICS = ("ndcg", "recall", "hitrate")
FINAL_CUTOFFS = (10, 20, 50)
MADE = ("final", "candidates", "equal_weights")  # the lists that do not come from one channel
MAIN = "ndcg@50"
NAMES = tuple(f"{metric}@{k}" for metric in METRICS for k in FINAL_CUTOFFS)


@dataclass(frozen=True)
class Judgement:
    """Figures of one list for each of N queries: a figure is the sum of `parts` divided by the sum of `wholes`.

    Attributes:
        parts, wholes: (N, 9) one column for each of `NAMES`. The hit rate is a ratio of sums, so it has hits and right
            answers; the others have the query's own figure and 1.
    """

    parts: Doubles
    wholes: Doubles

    def figures(self) -> dict[str, float]:
        """Each metric over all queries, as in `retrieval.lists.evaluate`."""
        return dict(zip(NAMES, (self.parts.sum(axis=0) / self.wholes.sum(axis=0)).tolist(), strict=True))

    def bootstrap_figures(self) -> dict[str, Doubles]:
        """(DRAWS,) each metric on queries drawn with replacement, the same queries for all lists."""
        drawn = draws(len(self.parts), DRAWS, SEED)
        figures = np.array([(weights @ self.parts) / (weights @ self.wholes) for weights in drawn])
        return dict(zip(NAMES, figures.T, strict=True))


def judge(items: Ints, queries: Queries) -> Judgement:
    """Judge lists (N, K) by the right answers of their queries.

    Raises:
        UndefinedMetric: there is no query.
    """
    if not len(queries):
        raise UndefinedMetric(f"no query to judge: no user has a new item in the {queries.part} part")
    found, places = by_query(items, queries, max(FINAL_CUTOFFS)), np.array(FINAL_CUTOFFS) - 1
    parts = {"ndcg": found["ndcg"], "recall": found["recall"], "hitrate": found["hits"]}
    ones = np.ones((len(queries), 1))
    wholes = {"ndcg": ones, "recall": ones, "hitrate": queries.truth_sizes[:, None]}
    return Judgement(
        np.concatenate([parts[metric][:, places] for metric in METRICS], axis=1),
        np.concatenate([np.repeat(wholes[metric], len(FINAL_CUTOFFS), axis=1) for metric in METRICS], axis=1),
    )


def compare(judgements: Mapping[str, Judgement], best: str) -> Comparison:
    """Intervals of the lists of the same queries, and of the lead of the list `best` over each other list."""
    return compare_draws({name: each.bootstrap_figures() for name, each in judgements.items()}, best, sign=-1)


def slices(interactions: Interactions, queries: Queries, others: Mapping[str, Queries]) -> dict[str, Queries]:
    """Right answers of other kinds, and slices of those of the queries by earlier rows of users and of items.

    A slice without a right answer is left out.
    """
    known = interactions.before(queries.part)
    of_users = np.bincount(known.users, minlength=len(interactions.user_ids))
    counts = {
        "user": np.repeat(of_users[queries.users], queries.truth_sizes),  # (T,)
        "item": known.item_counts[queries.truth],  # (T,)
    }
    chosen = {name: kept for what, each in counts.items() for name, kept in count_slices(what, each).items()}
    parts = {**others, **{name: queries.restrict(kept) for name, kept in chosen.items()}}
    return {name: part for name, part in parts.items() if len(part)}


def losses(
    interactions: Interactions, queries: Queries, catalogue: Bools, items: Mapping[str, Ints], filter_seen: bool
) -> dict[str, int]:
    """The number of right answers lost at each step, in the order of the funnel, and of those recommended.

    Args:
        interactions: the events.
        queries: the right answers, seen items included.
        catalogue: (I,) whether an item was known.
        items: (N, K) the lists of each channel, of `candidates` and of `final`.
        filter_seen: whether seen items are left out.
    """
    width = len(interactions.item_ids)
    row, item = history(interactions, queries, slice(0, len(queries)))
    of = queries.truth_queries
    seen = is_among(of * width + queries.truth, row * width + item) & filter_seen  # (T,)
    held = {name: truth_hits(listed, queries) for name, listed in items.items()}
    passed = {
        "seen before": ~seen,
        "not in the catalogue": catalogue[queries.truth],
        "in no channel": np.any([each for name, each in held.items() if name not in MADE], axis=0),
        "cut in the merge": held["candidates"],
        "cut by the ranking": held["final"],
    }
    left, found = np.ones(len(of), bool), {}
    for step, kept in passed.items():
        found[step] = int((left & ~kept).sum())
        left &= kept
    return {**found, "recommended": int(left.sum())}
