"""Channels: the lists of each recall method, from its partitions in the lake alone.

Every function opens a method once: it takes the log, the part that the queries are about (test or online), and then the
partitions that the method reads. What it returns may be asked as often as wanted, about histories that the log does not
hold too: those of a service's users. Histories run up to the part, those of successive queries into it; models are
trained on rows before the test part only. The catalogue holds the items that had an event before the queries' part.
"""

from collections.abc import Callable
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import diags_array

from recsys_assets.arrays import Bools, Ids, Ints, Scores, Vectors, find
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.splits import PARTS
from recsys_assets.i2i import neighbours
from recsys_assets.i2i.triggers import Triggers, asked_neighbours, neighbour_scores, triggers_of
from recsys_assets.manifest import Partition
from recsys_assets.retrieval import embeddings, lists, term
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets.retrieval.scored_lists import to_matrix

BEFORE_TEST = "before_test.parquet"
BEFORE_EACH = "before_each.parquet"  # with the split `successive`: as of just before each event that is asked about
TERM_ITEMS, USER_TERMS = "term_items.parquet", "user_terms.parquet"
# For each part, the file of the users' vectors before it.
VECTOR_FILES = {"test": BEFORE_TEST, "online": ROWS}
WEEK = 7  # days
_RANDOM_SEED = 1
_SHORTEST = 1e-12  # length of a vector that has a direction
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

    def recall(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        def score(block: slice) -> Scores:
            return np.tile(scores, (block.stop - block.start, 1))

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
    """Items drawn at random, without replacement; the same draws each time."""
    absent = ~catalogue(log, part)

    def recall(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        generator = np.random.default_rng(_RANDOM_SEED)

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
        score = neighbour_scores(self._neighbours, interactions, queries, **self._asking)
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


class ByVector:
    """The items whose vectors have the highest inner product with the user's: exact, over all items.

    Attributes:
        encode: gives the vectors (n, D) of the queries at some positions (n,). A service sets it, for histories that go
            on after those of which vectors are kept.
    """

    encode: Callable[[Interactions, Queries, Ints], Vectors] | None = None

    def __init__(self, log: Interactions, part: str, users: Partition, items: Partition) -> None:
        self._users = users
        user_ids, self._vectors = embeddings.read(users.path(VECTOR_FILES[part]))
        item_ids, item_vectors = embeddings.read(items.path(ROWS))
        self._user_ids = user_ids.to_numpy(zero_copy_only=False)
        columns = find(item_ids.to_numpy(zero_copy_only=False), log.item_ids)
        self._items, self._absent = item_vectors[columns].T, np.flatnonzero(columns < 0)

    def __call__(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        """The k best items of every query."""
        vectors, known = self._vectors_of(interactions, queries)

        def score(block: slice) -> Scores:
            # Row by row, the sums are the same to the last bit for one user and for all of them. As one product of
            # matrices they were not: 2 of the 6,040 final lists of MovieLens 1M differed between service and report.
            scores: Scores = np.stack([vector @ self._items for vector in vectors[block]])
            scores[~known[block]] = -np.inf
            scores[:, self._absent] = -np.inf
            return scores

        return lists.recommend(score, interactions, queries, k, filter_seen)

    def alike(self, item: int, k: int) -> Lists:
        """The k other items whose vectors have the highest cosine with that of an item; empty if it has none."""
        if item in self._absent:
            return lists.empty_lists(1, k)
        cosines: Scores = self._directions[:, item] @ self._directions
        cosines[self._absent] = -np.inf
        cosines[item] = -np.inf
        return lists.top_k(cosines[None], k)

    @cached_property
    def _directions(self) -> Vectors:
        """(D, I) the vectors of the items, at length 1."""
        directions: Vectors = self._items / np.maximum(np.linalg.norm(self._items, axis=0), _SHORTEST)
        return directions

    def _vectors_of(self, interactions: Interactions, queries: Queries) -> tuple[Vectors, Bools]:
        """(N, D) the vectors of the queries, and (N,) whether there is one."""
        asked = interactions.user_ids[queries.users]
        if queries.successive:
            return _vectors_before_each(self._users, asked), np.ones(len(asked), bool)
        rows = find(self._user_ids, asked)
        vectors, known = self._vectors[rows], rows >= 0
        if self.encode and queries.changed is not None and queries.changed.any():
            changed = np.flatnonzero(queries.changed)
            vectors[changed], known[changed] = self.encode(interactions, queries, changed), True
        return vectors, known


def _vectors_before_each(users: Partition, asked: Ids) -> Vectors:
    """(N, D) the vectors of successive queries, whose users' ids are (N,).

    Raises:
        ValueError: the file's rows are not those of the queries.
    """
    user_ids, vectors = embeddings.read(users.path(BEFORE_EACH))
    if not np.array_equal(user_ids.to_numpy(zero_copy_only=False), asked):
        raise ValueError(f"{BEFORE_EACH} belongs to other queries: materialize it again")
    return vectors
