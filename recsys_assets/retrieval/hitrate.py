"""Hit rate of vectors: how many of the right items are among the nearest of each request (TorchEasyRec's measure).

The total is hits over right items, both summed over all requests first (a micro average). A request may have
several vectors, one for each interest; what any of them finds counts, and counts once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.retrieval.embeddings import Vectors
from recsys_assets.retrieval.interactions import Ints
from recsys_assets.retrieval.lists import Bools, Lists
from recsys_assets.retrieval.search import Metric

_UNKNOWN = -2  # code of a right item that is not among the items; a list's end has -1
_PAIRS = 1 << 14  # looked up at once


class NoTruth(ValueError):
    """Requests without a single right item."""


class Searcher(Protocol):
    """What finds vectors: a `search.Flat` or an `index.VectorIndex`."""

    def search(self, queries: Vectors, k: int) -> Lists:
        """The k best items of each query."""
        ...


@dataclass(frozen=True)
class Requests:
    """N requests, up to M vectors each.

    Attributes:
        ids: (N,) of any type.
        truth: (N,) lists of the ids (text) of the right items; what is there twice counts once.
        vectors: (N, M, D).
        used: (N, M) which vectors are searched for; the others are padding and find nothing.
    """

    ids: pa.Array
    truth: pa.ListArray
    vectors: Vectors
    used: Bools

    @cached_property
    def pairs(self) -> tuple[Ints, pa.Array]:
        """(row, right item) of all requests, distinct, ascending by row."""
        items = self.truth.flatten().dictionary_encode()
        row = pc.list_parent_indices(self.truth).to_numpy()
        keys = np.sort(row * max(1, len(items.dictionary)) + items.indices.to_numpy())
        keys = keys[np.diff(keys, prepend=-1) > 0]
        row, item = np.divmod(keys, max(1, len(items.dictionary)))
        return row, items.dictionary.take(pa.array(item))

    @property
    def sizes(self) -> Ints:
        """(N,) right items."""
        return np.bincount(self.pairs[0], minlength=len(self.ids))


@dataclass(frozen=True)
class Found:
    """What was found for the requests from row `first` on.

    Attributes:
        items: (n, L, K) places in the table of items, best first, -1 where a list is shorter.
        scores: (n, L, K) their scores. L is the number of interests, or 1 where these were merged.
        hits: (P,) which of the pairs of all requests are hits here.
    """

    first: int
    items: Ints
    scores: npt.NDArray[np.float32]
    hits: Bools


def used(vectors: Vectors, interests: Ints, metric: Metric) -> Bools:
    """(N, M) which vectors of requests (N, M, D) to search for: the first `interests` (N,) that are not zero.

    A vector of zeros pads interests, and its inner product with every item is the same. It stands for a place
    only where it is the one vector of a request and distances are measured.
    """
    count = vectors.shape[1]
    zeros = ~vectors.any(axis=2) if metric == "IP" or count > 1 else False
    chosen: Bools = (np.arange(count) < interests[:, None]) & ~np.asarray(zeros)
    return chosen


def search(
    requests: Requests, item_ids: pa.Array, searcher: Searcher, k: int, size: int, across: bool = False
) -> Iterator[Found]:
    """Search for the requests, `size` at a time.

    Args:
        requests: whose vectors are searched for.
        item_ids: (I,) id (text) of each item of the searcher; an id may be there several times.
        searcher: what finds the items.
        k: items that each vector finds.
        size: requests at a time.
        across: keep the k best of all interests of a request together, not those of each.

    Raises:
        NoTruth: no request has a right item, so there is no rate.
    """
    if not len(requests.pairs[0]):
        raise NoTruth("no request has a right item: there is nothing to hit")
    coded = item_ids.dictionary_encode()
    row, names = requests.pairs
    wanted = pc.fill_null(pc.index_in(names, value_set=coded.dictionary), _UNKNOWN).to_numpy(zero_copy_only=False)
    for first in range(0, len(requests.ids), size):
        items, scores = _best(requests, slice(first, first + size), searcher, k)
        if across:
            items, scores = merge(items, scores)
        listed = np.where(items < 0, -1, coded.indices.to_numpy()[items]).reshape(len(items), -1)
        start, end = np.searchsorted(row, (first, first + len(items)))
        hits = np.zeros(len(row), bool)
        for some in range(start, end, _PAIRS):
            block = slice(some, min(some + _PAIRS, end))
            hits[block] = (listed[row[block] - first] == wanted[block, None]).any(axis=1)
        yield Found(first, items, scores, hits)


def _best(requests: Requests, block: slice, searcher: Searcher, k: int) -> tuple[Ints, npt.NDArray[np.float32]]:
    """(n, M, k) items and scores; -1 and -inf for a vector that is not used."""
    used = requests.used[block]
    items, scores = np.full((*used.shape, k), -1, np.int64), np.full((*used.shape, k), -np.inf, np.float32)
    if used.any():
        lists = searcher.search(requests.vectors[block][used], k)
        items[used], scores[used] = lists.items, lists.scores
    return items, scores


def merge(items: Ints, scores: npt.NDArray[np.float32]) -> tuple[Ints, npt.NDArray[np.float32]]:
    """(n, 1, K) best of (n, M, K): by score, then by item; the same item with the same score counts once.

    An item that two interests find with different scores takes two places, as it does in TorchEasyRec. There
    different items of one score are taken for the same one too; here they are not.
    """
    rows, _, k = items.shape
    items, scores = items.reshape(rows, -1), scores.reshape(rows, -1)

    def ordered() -> tuple[Ints, npt.NDArray[np.float32]]:
        order = np.lexsort((items, -scores), axis=1)
        return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)

    items, scores = ordered()
    again = np.zeros(items.shape, bool)
    again[:, 1:] = (items[:, 1:] == items[:, :-1]) & (scores[:, 1:] == scores[:, :-1])
    items, scores = np.where(again, -1, items), np.where(again, -np.inf, scores)
    items, scores = ordered()
    return items[:, None, :k], scores[:, None, :k]


def details(requests: Requests, item_ids: pa.Array, found: Found, metric: Metric) -> pa.Table:
    """A row for each request: id, topk_ids, topk_dists, hitrate, hit_ids.

    The two `topk` columns have a list for each interest; distances are inner products, or with L2 squared
    distances. The hit rate of a request without right items is null.
    """
    block = slice(found.first, found.first + len(found.items))
    row, wanted = requests.pairs
    sizes = requests.sizes[block]
    counts = np.bincount(row[found.hits] - found.first, minlength=len(sizes))
    listed = found.items >= 0
    rates = pa.array(counts / np.maximum(sizes, 1), mask=sizes == 0)
    distances = found.scores[listed] if metric == "IP" else -found.scores[listed]
    return pa.table(
        {
            "id": requests.ids[block],
            "topk_ids": _nested(item_ids.take(pa.array(found.items[listed])), listed),
            "topk_dists": _nested(pa.array(distances), listed),
            "hitrate": rates,
            "hit_ids": _lists(wanted.filter(pa.array(found.hits)), counts),
        }
    )


def _nested(values: pa.Array, listed: Bools) -> pa.ListArray:
    """(n,) lists of L lists of the values, in the places (n, L, K) that are listed."""
    inner = _lists(values, listed.sum(axis=2).reshape(-1))
    return _lists(inner, np.full(len(listed), listed.shape[1]))


def _lists(values: pa.Array, lengths: Ints) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), values)
