"""How good each list of the funnel is for the same users, how sure that is, and where the right answers are lost."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.metrics import UndefinedMetric
from recsys_assets.ranking.bootstrap import DRAWS, Interval, draws, interval
from recsys_assets.ranking.slices import by_count
from recsys_assets.retrieval.interactions import Interactions, Ints, Queries
from recsys_assets.retrieval.lists import Bools, among, by_query, history, reached

Floats = npt.NDArray[np.float64]
METRICS = ("ndcg", "recall", "hitrate")
CUTOFFS = (10, 20, 50)
MADE = ("final", "candidates")  # the lists that are no channel's
MAIN = "ndcg@50"
NAMES = tuple(f"{metric}@{k}" for metric in METRICS for k in CUTOFFS)


@dataclass(frozen=True)
class Judged:
    """Figures of one list of each of N queries: a figure is the sum of `parts` over the sum of `wholes`.

    Attributes:
        parts, wholes: (N, 9) a column for each of `NAMES`; of the hit rate hits and right answers, as that is a ratio
            of sums, and of the others the query's own figure and 1.
    """

    parts: Floats
    wholes: Floats

    def figures(self) -> dict[str, float]:
        """Each metric over all queries: those of `retrieval.lists.evaluate`."""
        return dict(zip(NAMES, (self.parts.sum(axis=0) / self.wholes.sum(axis=0)).tolist(), strict=True))

    def resampled(self, seed: int) -> Floats:
        """(DRAWS, 9) the figures on queries drawn with replacement: of one seed the same ones for all lists."""
        drawn = draws(len(self.parts), DRAWS, seed)
        return np.array([(weights @ self.parts) / (weights @ self.wholes) for weights in drawn])


def judge(items: Ints, queries: Queries) -> Judged:
    """Judge lists (N, K) by the right answers of their queries.

    Raises:
        UndefinedMetric: there is no query.
    """
    if not len(queries):
        raise UndefinedMetric(f"no query to judge: no user has a new item in the {queries.part} part")
    found, places = by_query(items, queries, max(CUTOFFS)), np.array(CUTOFFS) - 1
    parts = {"ndcg": found["ndcg"], "recall": found["recall"], "hitrate": found["hits"]}
    ones = np.ones((len(queries), 1))
    wholes = {"ndcg": ones, "recall": ones, "hitrate": queries.truth_sizes[:, None]}
    return Judged(
        np.concatenate([parts[metric][:, places] for metric in METRICS], axis=1),
        np.concatenate([np.repeat(wholes[metric], len(CUTOFFS), axis=1) for metric in METRICS], axis=1),
    )


@dataclass(frozen=True)
class Compared:
    """Figures by list and metric: as they are, how sure they are, and how far one of the lists is above each other."""

    figures: dict[str, dict[str, float]]
    intervals: dict[str, dict[str, Interval]]
    differences: dict[str, dict[str, Interval]]


def compare(judged: Mapping[str, Judged], best: str, seed: int) -> Compared:
    """Hold the lists of the same queries against one of them, all on the same draws."""
    drawn = {name: each.resampled(seed) for name, each in judged.items()}
    return Compared(
        {name: each.figures() for name, each in judged.items()},
        {name: _intervals(each) for name, each in drawn.items()},
        {name: _intervals(drawn[best] - each) for name, each in drawn.items() if name != best},
    )


def _intervals(resampled: Floats) -> dict[str, Interval]:
    """The interval of each metric, of its figures on the draws (DRAWS, 9)."""
    return {name: interval(column) for name, column in zip(NAMES, resampled.T, strict=True)}


def slices(interactions: Interactions, queries: Queries, liked: Queries) -> dict[str, Queries]:
    """Parts of the right answers, where there are any: the liked ones, and by earlier rows of users and of items."""
    known = interactions.before(queries.part)
    of_users = np.bincount(known.users, minlength=len(interactions.user_ids))
    counts = {
        "user": np.repeat(of_users[queries.users], queries.truth_sizes),
        "item": known.item_counts[queries.truth],
    }
    chosen = {name: kept for what, each in counts.items() for name, kept in by_count(what, each).items()}
    parts = {"liked": liked, **{name: only(queries, kept) for name, kept in chosen.items()}}
    return {name: part for name, part in parts.items() if len(part)}


def only(queries: Queries, kept: Bools) -> Queries:
    """The queries with the kept right answers (T,) alone, without those that have none left."""
    sizes = np.add.reduceat(kept.astype(np.int64), queries.truth_starts[:-1])
    left = sizes > 0
    columns = (queries.users[left], queries.starts[left], queries.ends[left], queries.truth[kept])
    return Queries(*columns, np.append(0, np.cumsum(sizes[left])), queries.part)


def losses(
    interactions: Interactions, queries: Queries, catalogue: Bools, items: Mapping[str, Ints], filter_seen: bool
) -> dict[str, int]:
    """How many right answers end at each step, in the order of the funnel; together they are all.

    Args:
        interactions: the events.
        queries: what is right, seen items too.
        catalogue: (I,) the items that were known.
        items: (N, K) the lists of each channel, of `candidates` and of `final`.
        filter_seen: whether seen items are left out.
    """
    width = len(interactions.item_ids)
    row, item = history(interactions, queries, slice(0, len(queries)))
    of = np.repeat(np.arange(len(queries)), queries.truth_sizes)
    seen = among(of * width + queries.truth, row * width + item) & filter_seen
    held = {name: reached(listed, queries) for name, listed in items.items()}
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
