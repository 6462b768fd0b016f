"""Channels: the lists of each recall method, from its partitions in the lake alone.

Every function opens a method once: it takes the log, the part that the queries are about (test or online), and then the
partitions that the method reads. What it returns may be asked as often as wanted, about histories that the log does not
hold too: those of a service's users. Histories run up to the part, those of successive queries into it; models are
trained on rows before the test part only. The catalogue holds the items that had an event before the queries' part.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import diags_array

from recsys_assets.arrays import Bools, Ids, Ints, Scores, find
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.splits import PARTS
from recsys_assets.i2i import neighbours
from recsys_assets.i2i.triggers import Triggers, asked_neighbours, triggers_of
from recsys_assets.manifest import Partition
from recsys_assets.retrieval import lists, term
from recsys_assets.retrieval.entries import WIDE, Entries
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets.retrieval.row_sums import summed_scores
from recsys_assets.retrieval.scored_lists import to_matrix

TERM_ITEMS, USER_TERMS = "term_items.parquet", "user_terms.parquet"
WEEK = 7  # days
_RANDOM_SEED = 1
REASONS = 3  # touched items, or terms, that explain why an item is listed

# Interactions, queries about their users, the length of the lists, and whether seen items are left out.
Recall = Callable[[Interactions, Queries, int, bool], Lists]


def catalogue(interactions: Interactions, part: str = "test") -> Bools:
    """(I,) whether the item had an event before the part."""
    return interactions.before(part).item_counts > 0


def popularity(log: Interactions, part: str) -> Recall:
    """The items with the most positives, by their weights, for everyone."""
    known = log.before(part)
    positives = np.bincount(known.items, known.gains, minlength=len(known.item_ids))
    scores = np.where(known.item_counts > 0, positives, -np.inf).astype(np.float32)
    best = np.argsort(-scores, kind="stable")[: np.count_nonzero(known.item_counts)]

    def recall(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        def score(block: slice) -> Scores | Entries:
            rows = block.stop - block.start
            if len(scores) < WIDE:
                return np.tile(scores, (rows, 1))
            items = best[: lists.enough(queries, block, k, filter_seen)]
            return Entries(np.repeat(np.arange(rows), len(items)), np.tile(items, rows), np.tile(scores[items], rows))

        return lists.recommend(score, interactions, queries, k, filter_seen)

    return recall


def popularity_week(log: Interactions, part: str, samples: Partition) -> Recall:
    """The items with the most positives in the 7 days before the query's moment, then those with the most of all.

    The moment is that of the user's first event in the queries' part; counted are the events of all users in the parts
    before it. `samples` is the partition of `recall_samples` that the log was read from; no other log can be asked.
    """
    times = pq.read_table(samples.path(ROWS), columns=["timestamp"])["timestamp"].cast(pa.timestamp("s"), safe=False)
    days = times.cast(pa.int64()).to_numpy() // 86_400  # (M,)
    before = log.parts < PARTS.index(part)
    order = np.flatnonzero(before)[np.argsort(days[before], kind="stable")]
    positives = np.bincount(log.items[order], log.gains[order], len(log.item_ids))
    overall = positives / (1 + positives.max(initial=0))  # below 1: it orders items with equal counts
    absent = ~catalogue(log, part)

    def recent(day: int) -> Scores:
        rows = order[slice(*np.searchsorted(days[order], (day - WEEK, day)))]
        counts = np.bincount(log.items[rows], log.gains[rows], len(absent))
        return np.where(absent, -np.inf, counts + overall).astype(np.float32)

    def recall(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        asked = days[queries.ends]

        def score(block: slice) -> Scores:
            found, of = np.unique(asked[block], return_inverse=True)
            scores: Scores = np.stack([recent(int(day)) for day in found])[of]
            return scores

        return lists.recommend(score, interactions, queries, k, filter_seen)

    return recall


def random(log: Interactions, part: str) -> Recall:
    """Items drawn at random, without replacement; the same draws each time it is opened."""
    absent, generator = ~catalogue(log, part), np.random.default_rng(_RANDOM_SEED)

    def recall(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        def score(block: slice) -> Scores:
            scores: Scores = generator.random((block.stop - block.start, len(absent)), dtype=np.float32)
            scores[:, absent] = -np.inf
            return scores

        return lists.recommend(score, interactions, queries, k, filter_seen)

    return recall


class ByItem:
    """The neighbours of the items that the user touched last, from a partition of `i2i_<method>`."""

    reasons = "items"

    def __init__(self, log: Interactions, _: str, alike: Partition) -> None:
        settings = alike.manifest.config
        self._asking = {name: settings[name] for name in Triggers.model_fields if name in settings}
        listed = neighbours.read(alike.path(ROWS), log.item_ids)
        self._neighbours = asked_neighbours(listed, len(log.item_ids), self._asking.pop("own", 0.0))

    def __call__(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        """The k best items of every query."""

        def score(block: slice) -> Scores | Entries:
            asked = triggers_of(interactions, queries, block, **self._asking)
            return summed_scores(self._neighbours, *asked, len(queries.ends[block]))

        return lists.recommend(score, interactions, queries, k, filter_seen)

    def because(self, interactions: Interactions, queries: Queries, items: Ints) -> list[list[object]]:
        """For each of some items (n,), ids of the touched items that gave it most, for the one query."""
        _, asking, weights = triggers_of(interactions, queries, slice(0, 1), **self._asking)
        given = diags_array(weights) @ self._neighbours[asking][:, items]
        return _strongest(given.toarray(), interactions.item_ids[asking])


class ByTerm:
    """The items of the terms that the user liked recently, from a partition of `recall_term` and the items' table."""

    reasons = "terms"

    def __init__(self, log: Interactions, _: str, recalled: Partition, items: Partition) -> None:
        inverted, rule = pq.read_table(recalled.path(TERM_ITEMS)), dict(recalled.manifest.config)
        carried = term.item_terms(pq.read_table(items.path(ROWS)), rule.pop("column"), log.item_ids)
        self._tastes = term.Tastes.learn(log.before("test"), carried, term.Taste(**rule))
        scores = to_matrix(inverted["items"], "item_id", log.item_ids)
        scores.resize(len(inverted) + 1, scores.shape[1])  # an empty last row, for the -1 of a term without positives
        self._of_terms = scores[find(inverted["term"].to_numpy(), carried.terms)]

    def __call__(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        """The k best items of every query."""
        users, _ = self._tastes.scores(interactions, queries.starts, queries.ends)
        return term.match(users, self._of_terms, interactions, queries, k, filter_seen)

    def because(self, interactions: Interactions, queries: Queries, items: Ints) -> list[list[object]]:
        """For each of some items (n,), the user's terms that gave it most, for the one query."""
        liked, _ = self._tastes.scores(interactions, queries.starts, queries.ends)  # (1, T)
        given = diags_array(liked.data) @ self._of_terms[liked.indices][:, items]
        return _strongest(given.toarray(), self._tastes.carried.terms[liked.indices])


def _strongest(given: npt.NDArray[np.floating], names: Ids) -> list[list[object]]:
    """The names (T,) that gave most to each of n items, given (T, n), up to `REASONS`; ties in the order of names."""
    order = np.argsort(-given, axis=0, kind="stable")[:REASONS]
    chosen, there = names[order], np.take_along_axis(given, order, axis=0) > 0
    return [column[kept].tolist() for column, kept in zip(chosen.T, there.T, strict=True)]
