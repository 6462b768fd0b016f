"""The channel of a two-tower model: the items whose vectors have the highest inner product with the user's.

All items are compared with the user, which is exact, up to `EXACT_ITEMS` of them; a larger catalogue is searched
through the model's index, the asset `index_<model>`. Vectors of users after all events are mapped from their file.
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Ids, Ints, Scores, Vectors, find
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.manifest import Partition
from recsys_assets.retrieval import embeddings, index, lists
from recsys_assets.retrieval.entries import Entries
from recsys_assets.retrieval.interactions import Interactions, Queries, State
from recsys_assets.retrieval.lists import Lists

BEFORE_TEST = "before_test.parquet"
BEFORE_EACH = "before_each.parquet"  # with the split `successive`: as of just before each event that is asked about
AFTER_ALL = "after_all.npy"  # of the users of `ROWS`, in their order
# For each part, the file of the users' vectors before it.
VECTOR_FILES = {"test": BEFORE_TEST, "online": ROWS}
EXACT_ITEMS = 1 << 17
MOST_SEARCHED = 4096  # items that an index is asked for; when more are left out, all items are compared
_SHORTEST = 1e-12  # length of a vector that has a direction


class ByVector:
    """The items whose vectors have the highest inner product with the user's.

    Args:
        log: the events, which number the items.
        part: that the queries are about.
        users, items: the vectors.
        searched: the index of the items, if the catalogue is large.

    Attributes:
        encode: gives the vectors (N, D) of queries. A service sets it, for histories of which no vectors are kept.

    Raises:
        UnusableIndex: the index is of other items.
    """

    encode: Callable[[Interactions, Queries], Vectors] | None = None

    def __init__(
        self, log: Interactions, part: str, users: Partition, items: Partition, searched: Partition | None = None
    ) -> None:
        self._users, self._before = users, users.path(VECTOR_FILES[part])
        self._user_ids = pq.read_table(self._before, columns=["user_id"])["user_id"].to_numpy()
        # A partition of an older version does not have the vectors after all events.
        there = part == "online" and AFTER_ALL in users.manifest.files
        self._latest: Vectors | None = np.load(users.path(AFTER_ALL), mmap_mode="r") if there else None
        item_ids, item_vectors = embeddings.read(items.path(ROWS))
        ids = item_ids.to_numpy(zero_copy_only=False)
        columns = find(ids, log.item_ids)
        self._items, self._absent = item_vectors[columns].T, np.flatnonzero(columns < 0)
        self._search = _Search(searched.folder, item_ids, find(log.item_ids, ids)) if searched else None

    @property
    def is_indexed(self) -> bool:
        """Whether an index is searched, because the catalogue is large."""
        return self._search is not None

    def __call__(self, interactions: Interactions, queries: Queries, k: int, filter_seen: bool) -> Lists:
        """The k best items of every query."""
        vectors, known = self._vectors_of(interactions, queries)
        return self.of_vectors(vectors, known, interactions, queries, k, filter_seen)

    def of_vectors(
        self, vectors: Vectors, known: Bools, interactions: Interactions, queries: Queries, k: int, filter_seen: bool
    ) -> Lists:
        """The k best items of every query whose vector (N, D) is known (N,)."""

        def score(block: slice) -> Scores | Entries:
            most = lists.enough(queries, block, k, filter_seen)
            if self._search and most <= MOST_SEARCHED:
                return self._search(vectors[block], known[block], most)
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

    @cached_property
    def _vectors_before(self) -> Vectors:
        """(U, D) the users' vectors before the part. A service needs them in the judged state alone."""
        return embeddings.read(self._before)[1]

    def _vectors_of(self, interactions: Interactions, queries: Queries) -> tuple[Vectors, Bools]:
        """(N, D) the vectors of the queries, and (N,) whether there is one."""
        asked = interactions.user_ids[queries.users]
        if queries.successive:
            return _vectors_before_each(self._users, asked), np.ones(len(asked), bool)
        is_kept = queries.state is State.BEFORE or (queries.state is State.LATEST and self._latest is not None)
        if self.encode and not is_kept:
            return self.encode(interactions, queries), np.ones(len(asked), bool)
        kept = self._vectors_before if queries.state is State.BEFORE or self._latest is None else self._latest
        rows = find(self._user_ids, asked)
        return kept[rows], rows >= 0


class _Search:
    """Searches the index of some items.

    Args:
        folder: of the index.
        ids: (V,) of the items whose vectors were indexed.
        numbers: (V,) their numbers; -1 for an item that is in no event.

    Raises:
        UnusableIndex: it is of other items.
    """

    def __init__(self, folder: Path, ids: pa.Array, numbers: Ints) -> None:
        self._index, self._numbers = index.read(folder, mapped=True), np.append(numbers, -1)
        self._how = self._index.among(numbers >= 0)
        if not self._index.ids.equals(ids.cast(self._index.ids.type)):
            raise index.UnusableIndex(f"{folder} is of other items than the vectors: materialize it again")

    def __call__(self, vectors: Vectors, known: Bools, most: int) -> Entries:
        """The `most` best items of each query (n,) whose vector is known."""
        asked = np.flatnonzero(known)
        found = [
            self._index.search(vector[None], most, self._how) for vector in vectors[asked]
        ]  # row by row: see `ByVector`
        places = np.concatenate([np.zeros(0, np.int64), *(each.items[0] for each in found)])
        scores = np.concatenate([np.zeros(0, np.float32), *(each.scores[0] for each in found)])
        items = self._numbers[places]
        return Entries(np.repeat(asked, most), items, scores).where(items >= 0)


def _vectors_before_each(users: Partition, asked: Ids) -> Vectors:
    """(N, D) the vectors of successive queries, whose users' ids are (N,).

    Raises:
        ValueError: the file's rows are not those of the queries.
    """
    user_ids, vectors = embeddings.read(users.path(BEFORE_EACH))
    if not np.array_equal(user_ids.to_numpy(zero_copy_only=False), asked):
        raise ValueError(f"{BEFORE_EACH} belongs to other queries: materialize it again")
    return vectors
