"""Channels: the list of each recall method, from its partitions in the lake alone.

Every function takes the interactions, the queries, the length of the lists and whether seen items are left out, and
then the partitions that the method reads. `Queries.part` says whether the queries are about the test or the online
part. Histories run up to that part; models are trained on rows before the test part only. The catalogue holds the items
that had an event before the queries' part.
"""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Ids, Scores, find
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.splits import PARTS
from recsys_assets.i2i import neighbours
from recsys_assets.i2i.triggers import Triggers, trigger_scores
from recsys_assets.manifest import Partition
from recsys_assets.retrieval import embeddings, lists, term
from recsys_assets.retrieval.interactions import Interactions, Queries
from recsys_assets.retrieval.lists import Lists
from recsys_assets.retrieval.scored_lists import to_matrix

BEFORE_TEST = "before_test.parquet"
TERM_ITEMS, USER_TERMS = "term_items.parquet", "user_terms.parquet"
# For each part, the file of the users' state before it.
TERM_FILES = {"test": BEFORE_TEST, "online": USER_TERMS}
VECTOR_FILES = {"test": BEFORE_TEST, "online": ROWS}
WEEK = 7  # days
_RANDOM_SEED = 1


def catalogue(interactions: Interactions, part: str = "test") -> Bools:
    """(I,) whether the item had an event before the part."""
    return interactions.before(part).item_counts > 0


def popularity(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
    """The items with the most positives, by their weights, for everyone."""
    known = interactions.before(queries.part)
    positives = np.bincount(known.items, known.gains, minlength=len(known.item_ids))
    scores = np.where(catalogue(interactions, queries.part), positives, -np.inf).astype(np.float32)

    def score(block: slice) -> Scores:
        return np.tile(scores, (block.stop - block.start, 1))

    return lists.recommend(score, interactions, queries, k, filter_seen)


def popularity_week(
    interactions: Interactions, queries: Queries, k: int, filter_seen: bool, samples: Partition
) -> Lists:
    """The items with the most positives in the 7 days before the query's moment, then those with the most of all.

    The moment is that of the user's first event in the queries' part; counted are the events of all users in the parts
    before it. `samples` is the partition of `recall_samples` that the interactions were read from.
    """
    times = pq.read_table(samples.path(ROWS), columns=["timestamp"])["timestamp"].cast(pa.timestamp("s"), safe=False)
    days = times.cast(pa.int64()).to_numpy() // 86_400  # (M,)
    of_part = interactions.parts < PARTS.index(queries.part)
    order = np.flatnonzero(of_part)[np.argsort(days[of_part], kind="stable")]
    positives = np.bincount(interactions.items[order], interactions.gains[order], len(interactions.item_ids))
    overall = positives / (1 + positives.max(initial=0))  # below 1: it orders items with equal counts
    absent, asked = ~catalogue(interactions, queries.part), days[queries.ends]

    def recent(day: int) -> Scores:
        rows = order[slice(*np.searchsorted(days[order], (day - WEEK, day)))]
        counts = np.bincount(interactions.items[rows], interactions.gains[rows], len(absent))
        return np.where(absent, -np.inf, counts + overall).astype(np.float32)

    def score(block: slice) -> Scores:
        found, of = np.unique(asked[block], return_inverse=True)
        scores: Scores = np.stack([recent(int(day)) for day in found])[of]
        return scores

    return lists.recommend(score, interactions, queries, k, filter_seen)


def random(interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
    """Items drawn at random, without replacement; the same draws each time."""
    generator, absent = np.random.default_rng(_RANDOM_SEED), ~catalogue(interactions, queries.part)

    def score(block: slice) -> Scores:
        scores: Scores = generator.random((block.stop - block.start, len(absent)), dtype=np.float32)
        scores[:, absent] = -np.inf
        return scores

    return lists.recommend(score, interactions, queries, k, filter_seen)


def by_item(interactions: Interactions, queries: Queries, k: int, filter_seen: bool, alike: Partition) -> Lists:
    """The neighbours of the items that the user touched last, from a partition of `i2i_<method>`."""
    found = neighbours.read(alike.path(ROWS), interactions.item_ids)
    settings = alike.manifest.config
    asking = {name: settings[name] for name in Triggers.model_fields if name in settings}
    score = trigger_scores(found, interactions, queries, **asking)
    return lists.recommend(score, interactions, queries, k, filter_seen)


def by_term(interactions: Interactions, queries: Queries, k: int, filter_seen: bool, recalled: Partition) -> Lists:
    """The items of the users' terms, from a partition of `recall_term`."""
    inverted = pq.read_table(recalled.path(TERM_ITEMS))
    preferred = pq.read_table(recalled.path(TERM_FILES[queries.part]))
    items = to_matrix(inverted["items"], "item_id", interactions.item_ids).T.tocsr()
    users = to_matrix(preferred["terms"], "term", inverted["term"].to_numpy())
    users.resize(len(preferred) + 1, users.shape[1])  # an empty last row, for the -1 of an unknown user
    rows = find(preferred["user_id"].to_numpy(), _users(interactions, queries))
    return term.match(users[rows], items, interactions, queries, k, filter_seen)


def by_vector(
    interactions: Interactions, queries: Queries, k: int, filter_seen: bool, users: Partition, items: Partition
) -> Lists:
    """The items whose vectors have the highest inner product with the user's: exact, over all items."""
    user_ids, user_vectors = embeddings.read(users.path(VECTOR_FILES[queries.part]))
    item_ids, item_vectors = embeddings.read(items.path(ROWS))
    rows = find(user_ids.to_numpy(zero_copy_only=False), _users(interactions, queries))
    columns = find(item_ids.to_numpy(zero_copy_only=False), interactions.item_ids)
    wanted = item_vectors[columns].T

    def score(block: slice) -> Scores:
        scores: Scores = user_vectors[rows[block]] @ wanted
        scores[rows[block] < 0] = -np.inf
        scores[:, columns < 0] = -np.inf
        return scores

    return lists.recommend(score, interactions, queries, k, filter_seen)


def _users(interactions: Interactions, queries: Queries) -> Ids:
    """(N,) the id of each query's user."""
    return interactions.user_ids[queries.users]
