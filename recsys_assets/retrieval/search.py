"""Exact vector search: the k best of I items for each of N queries, ties in ascending order of the item's number.

To be sure all N x I products are needed, but hardly any in full: a `Screen` finds in low precision those that
could reach a threshold, and only they are scored in double precision. The threshold is that of about the right
rank in a sample of the items. A list whose last score reaches it is the true one; where it was too high, the
query is asked again with a lower one.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recsys_assets.retrieval.embeddings import Vectors
from recsys_assets.retrieval.interactions import Ints
from recsys_assets.retrieval.lists import Bools, Lists
from recsys_assets.retrieval.screen import EVERYTHING, QUERIES, SAMPLE, Doubles, Screen

Metric = Literal["IP", "L2"]
_PENDING = 1 << 22  # candidates of a block of queries that are held before they are thinned out
_LONGEST = 1e9  # norm of a vector, so that all that is computed of two stays among the float32


class UnusableVectors(ValueError):
    """Vectors that cannot be searched; the message names the first."""


@dataclass(frozen=True)
class _Search:
    """Queries (N, D), what their lists must not hold, and the lists (N, k) that are being filled in."""

    queries: Vectors
    hidden: Ints  # query's row x I + item, ascending
    hidden_counts: Ints
    items: Ints
    scores: Doubles


class Flat:
    """I items that can be searched exactly."""

    def __init__(self, items: Vectors, metric: Metric = "IP") -> None:
        """Prepare a search.

        Args:
            items: (I, D) vectors; an item's number is its row.
            metric: IP, the highest inner product is the best; L2, the least Euclidean distance.

        Raises:
            UnusableVectors: there are none, or one is not finite.
        """
        if items.ndim != 2 or not items.size:
            raise UnusableVectors(f"the items' vectors are an array of shape {items.shape}: there is nothing to search")
        self.metric, self._dimensions = metric, items.shape[1]
        self._items = _lifted_items(_checked(items, "item"), metric)
        self._screen = Screen(self._items)

    def search(self, queries: Vectors, k: int, seen: tuple[Ints, Ints] | None = None) -> Lists:
        """The k best items of each query, on all cores that torch may use.

        Args:
            queries: (N, D) vectors.
            k: length of the lists.
            seen: (query's row, item) pairs that no list may hold, in any order.

        Returns:
            Lists; scores are inner products, or with L2 squared distances times -1.

        Raises:
            UnusableVectors: a query is not finite, or has not the items' number of dimensions.
        """
        if queries.ndim != 2 or queries.shape[1] != self._dimensions:
            raise UnusableVectors(f"queries of shape {queries.shape} among items of {self._dimensions} dimensions")
        count, (rows, items) = len(queries), seen or (np.empty(0, np.int64),) * 2
        hidden = np.sort(rows * len(self._items) + items)
        search = _Search(
            queries=_lifted_queries(_checked(queries, "query"), self.metric),
            hidden=hidden,
            hidden_counts=np.bincount(hidden // len(self._items), minlength=count),
            items=np.full((count, k), -1, np.int64),
            scores=np.full((count, k), -np.inf),
        )
        self._on_all_cores(search)
        scores = search.scores
        if self.metric == "L2":
            scores = np.minimum(2 * scores - np.square(queries, dtype=np.float64).sum(1)[:, None], 0)
        return Lists(search.items, scores.astype(np.float32))

    def _on_all_cores(self, search: _Search) -> None:
        """Each core takes blocks of queries, so that its products stay in its own cache."""
        import torch

        threads, count = torch.get_num_threads(), len(search.queries)
        size = max(1, min(QUERIES, -(-count // threads)))
        blocks = [np.arange(first, min(first + size, count)) for first in range(0, count, size)]
        try:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                list(pool.map(lambda rows: self._fill(search, rows), blocks))
        finally:
            torch.set_num_threads(threads)

    def _fill(self, search: _Search, rows: Ints) -> None:
        """Fill in the lists of some queries, again and again with lower thresholds until all are certain."""
        share, k = min(1.0, SAMPLE / len(self._items)), search.items.shape[1]
        expected = (k + search.hidden_counts[rows]) * share
        ranks = np.ceil(expected + 4 * np.sqrt(expected) + 4).astype(np.int64)  # too high for one query in 10^5
        while len(rows):
            thresholds = self._screen.thresholds(search.queries[rows], ranks)
            self._fill_above(search, rows, thresholds)
            uncertain = (search.scores[rows, -1] < thresholds) & (thresholds > EVERYTHING)
            rows, ranks = rows[uncertain], 8 * ranks[uncertain]

    def _fill_above(self, search: _Search, rows: Ints, thresholds: Doubles) -> None:
        """Fill in the lists of some queries with the best items that reach the queries' thresholds."""
        queries, k = search.queries[rows], search.items.shape[1]
        found, held = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))], 0
        for row, item in self._screen.passing(queries, thresholds):
            scores = np.multiply(queries[row], self._items[item], dtype=np.float64).sum(1)
            kept = (scores >= thresholds[row]) & ~_among(rows[row] * len(self._items) + item, search.hidden)
            found.append((row[kept], item[kept], scores[kept]))
            held += len(found[-1][0])
            if held > _PENDING:
                found = [_best(found, k)[:3]]
                held = len(found[0][0])
        row, item, scores, place = _best(found, k)
        search.items[rows[row], place] = item
        search.scores[rows[row], place] = scores


def _best(found: list[tuple[Ints, Ints, Doubles]], k: int) -> tuple[Ints, Ints, Doubles, Ints]:
    """(row, item, score, place in the list) of each row's k best; of equal scores the first found come first."""
    row, item, score = (np.concatenate(columns) for columns in zip(*found, strict=True))
    order = np.argsort(-score, kind="stable")
    order = order[np.argsort(row[order].astype(np.uint16), kind="stable")]  # 16 bits: a radix sort
    row, item, score = row[order], item[order], score[order]
    place = np.arange(len(row)) - np.searchsorted(row, row)
    kept = place < k
    return row[kept], item[kept], score[kept], place[kept]


def _among(keys: Ints, known: Ints) -> Bools:
    """Whether each key is among the known ones, which ascend."""
    if not len(known):
        return np.zeros(len(keys), bool)
    found: Bools = known[np.minimum(np.searchsorted(known, keys), len(known) - 1)] == keys
    return found


def _lifted_items(items: Vectors, metric: Metric) -> Vectors:
    """With L2 two more columns, so that the least distance is the highest product.

    |q - x|^2 = |q|^2 - 2 (q x - |x|^2 / 2), and the bracket is the product of (q, 1, 1) with (x, a, b) where
    a + b = -|x|^2 / 2. As bfloat16 holds a, only b is rounded by the screen, and it is small.
    """
    if metric == "IP":
        return items
    halves = np.square(items, dtype=np.float64).sum(1) / -2
    large = (halves.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    return np.column_stack([items, large, halves - large]).astype(np.float32)


def _lifted_queries(queries: Vectors, metric: Metric) -> Vectors:
    return queries if metric == "IP" else np.pad(queries, ((0, 0), (0, 2)), constant_values=1)


def _checked(vectors: Vectors, what: str) -> Vectors:
    """The vectors as contiguous float32, all finite and of a usable length."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    if (wrong := np.flatnonzero(~(squares < _LONGEST**2))).size:
        raise UnusableVectors(f"the vector of {what} {wrong[0]} is not finite, or longer than {_LONGEST:g}")
    return np.ascontiguousarray(vectors, np.float32)
