"""Lists of candidates: the best items of each query, and the metrics of such lists."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from recsys_assets.arrays import Bools, Doubles, Ints, Scores, distinct, find, is_among, place_in_group, spread
from recsys_assets.metrics import UndefinedMetric
from recsys_assets.retrieval.entries import Entries
from recsys_assets.retrieval.interactions import Interactions, Queries

CUTOFFS = (20, 50, 200)
_NOT_NUMBERS = "{} scores are not numbers (NaN): look at the vectors they come from"
_LOWEST = np.finfo(np.float32).min  # of the candidates, whose scores are above -inf
_BLOCK_SCORES = 1 << 24  # scores held at once: 64 MB


@dataclass(frozen=True)
class Lists:
    """The top K items of N queries, best first; the tie-break is the lower item number.

    Attributes:
        items: (N, K) numbers of items, padded with -1.
        scores: (N, K) their scores, padded with -inf.
    """

    items: Ints
    scores: Scores

    def take(self, rows: Ints | slice) -> "Lists":
        """The lists of the queries at the given positions."""
        return Lists(self.items[rows], self.scores[rows])


def empty_lists(rows: int, k: int) -> Lists:
    """Lists without items, to be filled."""
    return Lists(np.full((rows, k), -1, np.int64), np.full((rows, k), -np.inf, np.float32))


def top_k(scores: Scores, k: int) -> Lists:
    """The k highest of each row of scores (N, I); an item with -inf is not a candidate.

    Raises:
        ValueError: a score is not a number (NaN).
    """
    rows, width = scores.shape
    if np.isnan(scores.max(initial=-np.inf)):
        raise ValueError(_NOT_NUMBERS.format(np.isnan(scores).sum()))
    lists, kth = empty_lists(rows, k), max(width - k, 0)
    # One row at a time stays in the processor's cache: 4,500 rows of 3,706 items take 0.25 s, and 0.54 s all at once.
    for row, found in enumerate(scores):
        least = max(np.partition(found, kth)[kth], _LOWEST)
        item = np.flatnonzero(found >= least)
        order = np.argsort(-found[item], kind="stable")[:k]  # items are ascending
        lists.items[row, : len(order)] = item[order]
        lists.scores[row, : len(order)] = found[item[order]]
    return lists


def recommend(
    score: Callable[[slice], Scores | Entries], interactions: Interactions, queries: Queries, k: int, filter_seen: bool
) -> Lists:
    """The k best items of every query, block by block, without hidden ones; with `filter_seen` without seen ones.

    `score(block)` gives scores (n, I) of the queries in a slice, in a new array; an item with -inf is not a candidate.
    In a wide catalogue it may give entries instead, `enough` of the best ones of each query.
    """
    size = max(1, _BLOCK_SCORES // len(interactions.item_ids))
    parts = []
    for first in range(0, len(queries), size):
        block = slice(first, min(first + size, len(queries)))
        scores, hidden = score(block), None if queries.hidden is None else queries.hidden[block]
        seen = history(interactions, queries, block) if filter_seen else None
        if isinstance(scores, Entries):
            parts.append(_top_entries(scores, seen, hidden, block.stop - block.start, k))
            continue
        if seen is not None:
            scores[seen] = -np.inf
        if hidden is not None:
            scores[hidden] = -np.inf
        parts.append(top_k(scores, k))
    if len(parts) <= 1:
        return parts[0] if parts else empty_lists(0, k)
    return Lists(np.concatenate([p.items for p in parts]), np.concatenate([p.scores for p in parts]))


def enough(queries: Queries, block: slice, k: int, filter_seen: bool) -> int:
    """How many items of each query in a slice leave k when those are left out that `recommend` leaves out."""
    seen = (queries.ends[block] - queries.starts[block]).max(initial=0) if filter_seen else 0
    hidden = 0 if queries.hidden is None else queries.hidden[block].sum(axis=1).max(initial=0)
    return int(k + seen + hidden)


def _top_entries(entries: Entries, seen: tuple[Ints, Ints] | None, hidden: Bools | None, rows: int, k: int) -> Lists:
    """The k highest entries of each of some rows, without seen items (rows, items) and hidden ones (rows, I)."""
    if np.isnan(entries.score).any():
        raise ValueError(_NOT_NUMBERS.format(np.isnan(entries.score).sum()))
    left = entries if hidden is None else entries.where(~hidden[entries.row, entries.item])
    found, place = (left if seen is None else left.without(*seen)).best(k)
    lists = empty_lists(rows, k)
    lists.items[found.row, place], lists.scores[found.row, place] = found.item, found.score
    return lists


def history(interactions: Interactions, queries: Queries, block: slice) -> tuple[Ints, Ints]:
    """(query's index in the block, item) of every event in the histories of a block, oldest first."""
    row, event = spread(queries.starts[block], queries.ends[block])
    return row, interactions.items[event]


def hits(items: Ints, queries: Queries) -> Bools:
    """(N, K) whether each item of the lists (N, K) is a right answer of its query."""
    listed, right = _pairs(items, queries)
    return is_among(listed, right) & (items >= 0)


def truth_hits(items: Ints, queries: Queries) -> Bools:
    """(T,) whether each right answer is in the list (N, K) of its query."""
    listed, right = _pairs(items, queries)
    return is_among(right, listed[items >= 0])


def by_query(items: Ints, queries: Queries, longest: int) -> dict[str, Doubles]:
    """Metrics of each query's list (N, K) at every cutoff from 1 to `longest`, each (N, longest): see `curves`.

    Instead of the hit rate, which is a ratio of sums, it has the hits.
    """
    gains = np.zeros((len(items), longest))
    gains[:, : items.shape[1]] = gains_of(items[:, :longest], queries)
    hit, sizes, ranks = gains > 0, queries.truth_sizes[:, None], np.arange(1, longest + 1)
    count, best = np.cumsum(hit, axis=1, dtype=np.float64), np.minimum(sizes, ranks)
    return {
        "hits": count,
        "recall": count / sizes,
        "precision": count / ranks,
        "map": np.cumsum(hit * count / ranks, axis=1) / best,
        "ndcg": _discounted(gains) / _discounted(_ideal(queries, longest)),
    }


def gains_of(items: Ints, queries: Queries) -> Doubles:
    """(N, K) what each item of the lists (N, K) is worth as an answer to its query, 0 if it is not right."""
    listed, right = _pairs(items, queries)
    place = find(right, listed.ravel())
    gains = np.append(queries.gains, 0.0)[place].reshape(items.shape)
    return np.where(items >= 0, gains, 0.0)


def _discounted(gains: Doubles) -> Doubles:
    """(N, K) the sums of the gains (N, K) down to each place, each divided by log2(place + 1)."""
    sums: Doubles = np.cumsum(gains / np.log2(np.arange(2, gains.shape[1] + 2)), axis=1)
    return sums


def _ideal(queries: Queries, longest: int) -> Doubles:
    """(N, longest) the gains of each query's right items, highest first, then 0."""
    of = queries.truth_queries
    order = np.lexsort((-queries.gains, of))
    place, gains = place_in_group(of[order]), np.zeros((len(queries), longest))
    kept = place < longest
    gains[of[order][kept], place[kept]] = queries.gains[order][kept]
    return gains


@dataclass
class Tally:
    """Metrics of lists at every cutoff from 1 to `longest`, counted block by block of their queries.

    * hitrate: hits over right answers, summed over all queries first (micro average; TorchEasyRec).
    * recall, precision: hits of each query over its right answers, and over the cutoff; then the mean.
    * map: mean over queries of the average precision, divided by min(right answers, cutoff) (Spark mllib).
    * ndcg: the gains of the queries, log2 discount, ideal over min(right answers, cutoff).

    With one right answer per query, hitrate and recall are the same.
    """

    longest: int
    queries: int = 0
    truths: int = 0
    sums: dict[str, Doubles] = field(default_factory=dict)

    def add(self, items: Ints, queries: Queries) -> None:
        """Count the lists (N, K) of some more queries."""
        for metric, each in by_query(items, queries, self.longest).items():
            self.sums[metric] = self.sums.get(metric, 0.0) + each.sum(axis=0)
        self.queries += len(queries)
        self.truths += len(queries.truth)

    def curves(self) -> dict[str, Doubles]:
        """Each metric, (longest,); there must be a query."""
        hits = self.sums["hits"] / self.truths
        return {"hitrate": hits, **{name: each / self.queries for name, each in self.sums.items() if name != "hits"}}

    def at(self, cutoffs: Sequence[int]) -> dict[str, float]:
        """Each metric at some cutoffs, as `recall@20` and so on."""
        return {f"{name}@{k}": float(curve[k - 1]) for k in cutoffs for name, curve in self.curves().items()}


def tallied(items: Ints, queries: Queries, longest: int) -> Tally:
    """The metrics of lists (N, K) of all queries.

    Raises:
        UndefinedMetric: there is no query.
    """
    if not len(queries):
        raise UndefinedMetric(f"no query to evaluate: no user has a new positive in the {queries.part} part")
    tally = Tally(longest)
    tally.add(items, queries)
    return tally


def evaluate(items: Ints, queries: Queries, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """Metrics of lists (N, K) at some cutoffs, as `recall@20` and so on; see `Tally`, and `tallied` for errors."""
    return tallied(items, queries, max(cutoffs)).at(cutoffs)


def judge_among(
    recall: Callable[[Queries], Lists], candidates: Bools, blocks: Iterable[Queries], cutoffs: Sequence[int]
) -> dict[str, float]:
    """Recall and NDCG of lists that hold only some items (I,), judged by the right answers among these.

    Queries, of which `recall` is asked a block at a time, do not count without such an answer; without any, there are
    no figures.
    """
    tally = Tally(max(cutoffs))
    for queries in blocks:
        if not (right := candidates[queries.truth]).any():
            continue
        rows = distinct(queries.truth_queries[right])
        hidden = np.broadcast_to(~candidates, (len(queries), len(candidates)))
        tally.add(recall(replace(queries, hidden=hidden)).items[rows], queries.restrict(right))
    found = tally.at(cutoffs) if tally.queries else {}
    return {name: value for name, value in found.items() if name.startswith(("recall@", "ndcg@"))}


def ndcg_of_items(items: Ints, queries: Queries, width: int) -> Doubles:
    """(I,) what each of `width` items, where it is right, adds to the mean NDCG of lists (N, K)."""
    longest = items.shape[1]
    each = gains_of(items, queries) / np.log2(np.arange(2, longest + 2)) / _discounted(_ideal(queries, longest))[:, -1:]
    right = each > 0
    found: Doubles = np.bincount(items[right], each[right], width) / len(queries)
    return found


def _pairs(items: Ints, queries: Queries) -> tuple[Ints, Ints]:
    """(N, K) and (T,): a number for each pair of query and listed item, and for each pair of query and right answer."""
    width = 1 + max(int(items.max(initial=0)), int(queries.truth.max(initial=0)))
    return np.arange(len(queries))[:, None] * width + items, queries.truth_queries * width + queries.truth


def chance_recall(
    interactions: Interactions, blocks: Iterable[Queries], catalogue: Bools, k: int, filter_seen: bool
) -> float:
    """The expected recall@k of lists drawn at random from the catalogue (I,): what a method must exceed."""
    total, count = 0.0, 0
    for queries in blocks:
        row, item = history(interactions, queries, slice(0, len(queries)))
        known = distinct((row * len(catalogue) + item)[catalogue[item]])
        seen = np.bincount(known // len(catalogue), minlength=len(queries)) if filter_seen else 0
        drawn = np.minimum(k / np.maximum(catalogue.sum() - seen, 1), 1)
        total += float(np.sum(drawn * _shares(catalogue[queries.truth], queries)))
        count += len(queries)
    return total / count


def additions(
    methods: Sequence[str], blocks: Iterable[tuple[Sequence[Ints], Queries]]
) -> tuple[float, dict[str, float]]:
    """The recall of several methods' lists together, and how much of it comes from each method alone.

    Args:
        methods: their names; there is at least one.
        blocks: of queries, each with the lists (N, K) of every method.
    """
    found, count = np.zeros(1 + len(methods)), 0
    for items, queries in blocks:
        answers = [truth_hits(listed, queries) for listed in items]
        times = np.sum(answers, axis=0)
        right = [times > 0, *(answer & (times == 1) for answer in answers)]
        found += [_shares(each, queries).sum() for each in right]
        count += len(queries)
    union, *alone = (found / count).tolist()
    return union, dict(zip(methods, alone, strict=True))


def _shares(chosen: Bools, queries: Queries) -> Doubles:
    """(N,) share of each query's right answers, at least one, that are marked in `chosen` (T,)."""
    return np.add.reduceat(chosen.astype(np.int64), queries.truth_starts[:-1]) / queries.truth_sizes
