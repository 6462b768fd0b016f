"""Hit rate of vectors: how many of the right items are among the nearest of each request (TorchEasyRec's measure).

The total is hits over right items, both summed over all requests first (a micro average). A request may have several
vectors, one for each interest; an item that any of them finds counts once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Bools, Ints, Scores, Vectors, list_array
from recsys_assets.retrieval.lists import Lists
from recsys_assets.tzrec.exact_search import Flat, Metric

UNKNOWN = -2  # number of an id that no item has; the end of a list has -1
_PAIR_BLOCK = 1 << 14  # pairs that are looked up at once


class NoTruth(ValueError):
    """None of the requests has a right item."""


class Searcher(Protocol):
    """The interface of vector search: an `exact_search.Flat` or an `index.VectorIndex`."""

    def search(self, queries: Vectors, k: int) -> Lists:
        """The k best items of each query."""
        ...


@dataclass(frozen=True)
class Requests:
    """N requests, up to M vectors each.

    Attributes:
        ids: (N,) of any type.
        truth: (N,) lists of the ids (text) of the right items; an id that is there twice counts once.
        vectors: (N, M, D).
        used: (N, M) which vectors are searched for; the others are padding and find nothing.
    """

    ids: pa.Array
    truth: pa.ListArray
    vectors: Vectors
    used: Bools

    def rows(self, block: slice) -> "Requests":
        """Some consecutive requests."""
        return Requests(self.ids[block], self.truth[block], self.vectors[block], self.used[block])


@dataclass(frozen=True)
class Found:
    """The results of a block of requests, from row `first` on.

    Attributes:
        items: (n, L, K) rows in the table of items, best first, padded with -1.
        scores: (n, L, K) their scores. L is the number of interests, or 1 if these were merged.
        hits: (P,) which of `Evaluation.pairs` are hits in this block.
    """

    first: int
    items: Ints
    scores: Scores
    hits: Bools


@dataclass(frozen=True)
class Evaluation:
    """Requests, and the ids (I,) (text) of the items that are searched; an id may be there several times."""

    requests: Requests
    item_ids: pa.Array

    @cached_property
    def pairs(self) -> tuple[Ints, pa.Array]:
        """(P,) pairs of a request's row and a right item: distinct, ascending by row."""
        items = self.requests.truth.flatten().dictionary_encode()
        row = pc.list_parent_indices(self.requests.truth).to_numpy()
        keys = np.sort(row * max(1, len(items.dictionary)) + items.indices.to_numpy())
        keys = keys[np.diff(keys, prepend=-1) > 0]
        row, item = np.divmod(keys, max(1, len(items.dictionary)))
        return row, items.dictionary.take(pa.array(item))

    @cached_property
    def sizes(self) -> Ints:
        """(N,) right items of each request."""
        return np.bincount(self.pairs[0], minlength=len(self.requests.ids))

    @cached_property
    def _item_codes(self) -> pa.DictionaryArray:
        """The items' ids, numbered in order of first occurrence."""
        return self.item_ids.dictionary_encode()

    @cached_property
    def truth_codes(self) -> Ints:
        """(P,) numbers of the right items' ids, `UNKNOWN` where they are not among the items."""
        found = pc.index_in(self.pairs[1], value_set=self._item_codes.dictionary)
        numbers: Ints = pc.fill_null(found, UNKNOWN).to_numpy(zero_copy_only=False)
        return numbers

    def within_reach(self, flat: Flat, k: int) -> "Evaluation":
        """The same evaluation without the vectors of requests that cannot have a hit: faster, with the same hits."""
        if len(self._item_codes.dictionary) < len(self.item_ids):
            return self  # with repeated ids, an id's number is not its vector's row
        row, hopeful = self.pairs[0], np.zeros(len(self.requests.ids), bool)
        for vectors, used in zip(self.requests.vectors.swapaxes(0, 1), self.requests.used.T, strict=True):
            place = np.cumsum(used) - 1  # (N,) row among the used vectors
            asked = np.flatnonzero(used[row] & (self.truth_codes != UNKNOWN))
            far = flat.unreachable_pairs(vectors[used], place[row[asked]], self.truth_codes[asked], k)
            hopeful[row[asked[~far]]] = True
        return replace(self, requests=replace(self.requests, used=self.requests.used & hopeful[:, None]))

    def search(self, searcher: Searcher, k: int, size: int, across: bool = False) -> Iterator[Found]:
        """Search for the requests.

        Args:
            searcher: what finds the items.
            k: items that each vector finds.
            size: requests per block.
            across: keep the k best of all interests of a request together, not the k best of each.
        """
        row, codes = self.pairs[0], self._item_codes.indices.to_numpy()
        for first in range(0, len(self.requests.ids), size):
            items, scores = self._best(slice(first, first + size), searcher, k)
            if across:
                items, scores = merge(items, scores)
            listed = np.where(items < 0, -1, codes[items]).reshape(len(items), -1)
            start, end = np.searchsorted(row, (first, first + len(items)))
            hits = np.zeros(len(row), bool)
            for some in range(start, end, _PAIR_BLOCK):
                block = slice(some, min(some + _PAIR_BLOCK, end))
                hits[block] = (listed[row[block] - first] == self.truth_codes[block, None]).any(axis=1)
            yield Found(first, items, scores, hits)

    def _best(self, block: slice, searcher: Searcher, k: int) -> tuple[Ints, Scores]:
        """(n, M, k) items and scores, -1 and -inf for a vector that is not used."""
        used = self.requests.used[block]
        items, scores = np.full((*used.shape, k), -1, np.int64), np.full((*used.shape, k), -np.inf, np.float32)
        if used.any():
            lists = searcher.search(self.requests.vectors[block][used], k)
            items[used], scores[used] = lists.items, lists.scores
        return items, scores

    def details(self, found: Found, metric: Metric) -> pa.Table:
        """A row for each request: id, topk_ids, topk_dists, hitrate, hit_ids.

        The two `topk` columns have a list for each interest; distances are inner products, or with L2 squared
        distances. The hit rate of a request without right items is null.
        """
        block = slice(found.first, found.first + len(found.items))
        row, names = self.pairs
        sizes, listed = self.sizes[block], found.items >= 0
        counts = np.bincount(row[found.hits] - found.first, minlength=len(sizes))
        distances = found.scores[listed] if metric == "IP" else -found.scores[listed]
        return pa.table(
            {
                "id": self.requests.ids[block],
                "topk_ids": _lists_of_lists(self.item_ids.take(pa.array(found.items[listed])), listed),
                "topk_dists": _lists_of_lists(pa.array(distances), listed),
                "hitrate": pa.array(counts / np.maximum(sizes, 1), mask=sizes == 0),
                "hit_ids": list_array(names.filter(pa.array(found.hits)), counts),
            }
        )


def searched_vectors(vectors: Vectors, interests: Ints, metric: Metric) -> Bools:
    """(N, M) which vectors of requests (N, M, D) to search for: the first `interests` (N,) that are not zero.

    A vector of zeros is padding: its inner product with every item is the same. It is searched for only if it is
    the single vector of a request and distances are measured.
    """
    count = vectors.shape[1]
    zeros = ~vectors.any(axis=2) if metric == "IP" or count > 1 else False
    chosen: Bools = (np.arange(count) < interests[:, None]) & ~np.asarray(zeros)
    return chosen


def merge(items: Ints, scores: Scores) -> tuple[Ints, Scores]:
    """(n, 1, K) best of (n, M, K): by score, then by item; the same item with the same score counts once.

    An item that two interests find with different scores takes two places, as in TorchEasyRec. TorchEasyRec also
    takes different items with the same score for one item; this function does not.
    """
    rows, _, k = items.shape
    items, scores = items.reshape(rows, -1), scores.reshape(rows, -1)

    def sort() -> tuple[Ints, Scores]:
        order = np.lexsort((items, -scores), axis=1)
        return np.take_along_axis(items, order, 1), np.take_along_axis(scores, order, 1)

    items, scores = sort()
    again = np.zeros(items.shape, bool)
    again[:, 1:] = (items[:, 1:] == items[:, :-1]) & (scores[:, 1:] == scores[:, :-1])
    items, scores = np.where(again, -1, items), np.where(again, -np.inf, scores)
    items, scores = sort()
    return items[:, None, :k], scores[:, None, :k]


def _lists_of_lists(values: pa.Array, listed: Bools) -> pa.ListArray:
    """(n,) lists of L lists of the values, in the places that `listed` (n, L, K) marks."""
    inner = list_array(values, listed.sum(axis=2).reshape(-1))
    return list_array(inner, np.full(len(listed), listed.shape[1]))
