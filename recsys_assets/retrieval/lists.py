"""Lists of candidates: the best items of each query, and how good they are."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recsys_assets.retrieval.interactions import Interactions, Ints, Queries

Scores = npt.NDArray[np.float32]
CUTOFFS = (20, 50, 200)
_BLOCK = 1 << 24  # scores held at once: 64 MB


@dataclass(frozen=True)
class Lists:
    """The top K items of N queries, best first; ties in ascending order of the item's number.

    Attributes:
        items: (N, K) numbers of items, -1 where a query has fewer.
        scores: (N, K) their scores, -inf where a query has fewer.
    """

    items: Ints
    scores: Scores


def top_k(scores: Scores, k: int) -> Lists:
    """The k highest of each row of scores (N, I); -inf is no candidate."""
    rows, width = scores.shape
    kth = np.partition(scores, max(width - k, 0), axis=1)[:, max(width - k, 0)]
    row, item = np.nonzero((scores >= kth[:, None]) & (scores > -np.inf))
    found = scores[row, item]
    order = np.lexsort((item, -found, row))
    row, item, found = row[order], item[order], found[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    lists = Lists(np.full((rows, k), -1, np.int64), np.full((rows, k), -np.inf, np.float32))
    lists.items[row[kept], place[kept]] = item[kept]
    lists.scores[row[kept], place[kept]] = found[kept]
    return lists


def recommend(
    score: Callable[[slice], Scores], interactions: Interactions, queries: Queries, k: int, filter_seen: bool
) -> Lists:
    """The k best items of every query, block by block; with `filter_seen` without those of its history.

    `score(block)` gives scores (n, I) of the queries in a slice, in an array of its own; -inf is no candidate.
    """
    size = max(1, _BLOCK // len(interactions.item_ids))
    parts = []
    for first in range(0, len(queries), size):
        block = slice(first, min(first + size, len(queries)))
        scores = score(block)
        if filter_seen:
            row, item = history(interactions, queries, block)
            scores[row, item] = -np.inf
        parts.append(top_k(scores, k))
    if not parts:
        return Lists(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    return Lists(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]))


def history(interactions: Interactions, queries: Queries, block: slice) -> tuple[Ints, Ints]:
    """(query's place in the block, item) of every event in the histories of a block, oldest first."""
    starts, ends = queries.starts[block], queries.ends[block]
    lengths = ends - starts
    row = np.repeat(np.arange(len(starts)), lengths)
    offset = np.arange(len(row)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return row, interactions.items[starts[row] + offset]


def hits(items: Ints, queries: Queries) -> npt.NDArray[np.bool_]:
    """(N, K) whether each item of the lists (N, K) is a right answer of its query."""
    width = 1 + max(int(items.max(initial=0)), int(queries.truth.max(initial=0)))
    wanted = np.repeat(np.arange(len(queries)), queries.truth_sizes) * width + queries.truth
    asked = np.arange(len(queries))[:, None] * width + items
    return np.isin(asked, wanted) & (items >= 0)


def evaluate(items: Ints, queries: Queries, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Metrics of lists (N, K) at each cutoff, as `recall@20` and so on.

    * hitrate: hits over right answers, summed over all queries first (micro average; TorchEasyRec).
    * recall, precision: hits over right answers, and over the cutoff, of each query; then the mean.
    * map: mean over queries of the average precision, divided by min(right answers, cutoff) (Spark mllib).
    * ndcg: binary gains, log2 discount, ideal over min(right answers, cutoff).

    With one right answer a query, hitrate and recall are the same.
    """
    found = hits(items, queries)
    sizes = queries.truth_sizes
    ranks = np.arange(1, found.shape[1] + 1)
    gains = found / np.log2(ranks + 1)
    precisions = found * np.cumsum(found, axis=1) / ranks
    ideal = np.cumsum(1 / np.log2(np.arange(1, max(cutoffs) + 1) + 1))
    metrics: dict[str, float] = {}
    for k in cutoffs:
        count, best = found[:, :k].sum(1), np.minimum(sizes, k)
        metrics |= {
            f"hitrate@{k}": float(count.sum() / sizes.sum()),
            f"recall@{k}": float(np.mean(count / sizes)),
            f"precision@{k}": float(np.mean(count / k)),
            f"map@{k}": float(np.mean(precisions[:, :k].sum(1) / best)),
            f"ndcg@{k}": float(np.mean(gains[:, :k].sum(1) / ideal[best - 1])),
        }
    return metrics
