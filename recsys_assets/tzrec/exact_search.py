"""Exact vector search: the k best of I items for each of N queries; the tie-break is the lower item number.

An exact result needs all N x I products, but few of them in full precision: a `Screen` finds in low precision those
that could reach a threshold, and only they are scored in double precision. The threshold is the score at about the
right rank in a sample of the items. A list whose last score reaches it is exact; otherwise the threshold was too high,
and the query is searched again with a lower one.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from recsys_assets.arrays import Bools, Doubles, Ints, Scores, Vectors, find, place_in_group, slices
from recsys_assets.retrieval.lists import Lists, empty_lists
from recsys_assets.tzrec.screen import EVERYTHING, QUERY_BLOCK, SAMPLE_SIZE, Screen

Metric = Literal["IP", "L2"]
Candidates = tuple[Ints, Ints, Scores]  # query's row, item, score
Answer = TypeVar("Answer")
_KEPT, _HELD = 1 << 19, 1 << 20  # candidates of a block of queries after and before they are thinned out: see `_best`
_MAX_NORM = 1e9  # largest norm of a vector, so that everything computed from two vectors fits into float32


class UnusableVectors(ValueError):
    """Vectors that cannot be searched; the message names the first."""


@dataclass(frozen=True)
class _Prepared:
    """N queries (N, D), ready to be multiplied with items; a score is factor x product + the query's offset (N,)."""

    queries: Vectors
    factor: int
    offsets: Doubles

    def scores(self, products: Doubles, rows: Ints) -> Scores:
        """(P,) scores from the products with the queries in `rows`."""
        return (self.factor * products + self.offsets[rows]).astype(np.float32)

    def least_products(self, scores: Scores, rows: Ints) -> Doubles:
        """(P,) slightly less than the products that have these scores, because float32 has rounded the scores."""
        exact = scores.astype(np.float64)
        return (exact - np.abs(exact) * 2**-22 - self.offsets[rows]) / self.factor


class Flat:
    """I items that can be searched exactly, on all cores that torch may use."""

    def __init__(self, items: Vectors, metric: Metric = "IP") -> None:
        """Prepare a search.

        Args:
            items: (I, D) vectors; an item's number is its row.
            metric: IP, the highest inner product is the best; L2, the least Euclidean distance.

        Raises:
            UnusableVectors: there are no vectors, or one is not finite.
        """
        if items.ndim != 2 or not items.size:
            raise UnusableVectors(f"the items' vectors are an array of shape {items.shape}: there is nothing to search")
        self.metric, self._dimensions = metric, items.shape[1]
        self._items = _lift(_usable_vectors(items, "item"), metric)
        self._screen = Screen(self._items)

    def search(self, queries: Vectors, k: int, seen: tuple[Ints, Ints] | None = None) -> Lists:
        """The k best items of each query.

        Args:
            queries: (N, D) vectors.
            k: length of the lists.
            seen: (query's row, item) pairs that no list may hold, in any order.

        Returns:
            Lists; scores are inner products, or with L2 squared distances times -1.

        Raises:
            UnusableVectors: a query is not finite, or does not have the items' number of dimensions.
            ValueError: k is above 524,288.
        """
        if k > _KEPT:
            raise ValueError(f"lists of {k:,} items: {_KEPT:,} is the longest")
        asked, count, width = self._prepare(queries), len(queries), len(self._items)
        rows, items = seen or (np.empty(0, np.int64), np.empty(0, np.int64))
        hidden = np.sort(rows * width + items)
        lists = empty_lists(count, k)
        expected = (k + np.bincount(hidden // width, minlength=count)) * min(1.0, SAMPLE_SIZE / width)
        spread = np.sqrt(expected * max(0.0, 1 - SAMPLE_SIZE / width))
        ranks = np.ceil(expected + 2.5 * spread + 2).astype(np.int64)  # threshold too high for 3 queries in 1,000
        rows = np.arange(count)
        while len(rows):
            again = _map_blocks(lambda block: self._fill(asked, block, ranks[block], hidden, lists), rows, k)
            rows = np.concatenate(again)
            ranks[rows] *= 8
        return lists

    def unreachable_pairs(self, queries: Vectors, row: Ints, item: Ints, k: int) -> Bools:
        """(P,) which pairs of a query's row and an item are certainly in no list of k, by a quick bound.

        The other pairs need not be in the lists either.
        """
        asked, rows = self._prepare(queries), np.arange(len(queries))
        floors = np.concatenate(_map_blocks(lambda block: self._screen.floors(asked.queries[block], k), rows, 1))
        least = asked.scores(floors, rows)
        pieces = slices(len(row), QUERY_BLOCK)
        beyond = [self._scores(asked, row[some], item[some]) < least[row[some]] for some in pieces]
        return np.concatenate([*beyond, np.empty(0, bool)])

    def _fill(self, asked: _Prepared, rows: Ints, ranks: Ints, hidden: Ints, lists: Lists) -> Ints:
        """Fill in the lists of some queries; returns the rows whose thresholds were too high.

        `hidden` has, in ascending order, query's row x I + item of the pairs that no list may hold.
        """
        k, width = lists.items.shape[1], len(self._items)
        thresholds = self._screen.thresholds(asked.queries[rows], ranks)
        least = asked.scores(thresholds, rows)
        found, held = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))], 0
        for row, item in self._screen.passing_pairs(asked.queries[rows], asked.least_products(least, rows)):
            scores = self._scores(asked, rows[row], item)
            kept = (scores >= least[row]) & (find(hidden, rows[row] * width + item) < 0)
            found.append((row[kept], item[kept], scores[kept]))
            held += len(found[-1][0])
            if held > _HELD:
                found = [_best(found, k)[:3]]
                held = len(found[0][0])
        row, item, scores, place = _best(found, k)
        lists.items[rows[row], place] = item
        lists.scores[rows[row], place] = scores
        too_high: Bools = (lists.scores[rows, -1] < least) & (thresholds > EVERYTHING)
        return rows[too_high]

    def _scores(self, asked: _Prepared, row: Ints, item: Ints) -> Scores:
        """(P,) scores of pairs, computed in double precision: a score does not depend on the pair's place."""
        products = np.multiply(asked.queries.take(row, 0), self._items.take(item, 0), dtype=np.float64)
        return asked.scores(products.sum(1), row)

    def _prepare(self, queries: Vectors) -> _Prepared:
        if queries.ndim != 2 or queries.shape[1] != self._dimensions:
            raise UnusableVectors(f"queries of shape {queries.shape} among items of {self._dimensions} dimensions")
        checked = _usable_vectors(queries, "query")
        if self.metric == "IP":
            return _Prepared(checked, 1, np.zeros(len(queries)))
        return _Prepared(np.pad(checked, ((0, 0), (0, 2)), constant_values=1), 2, -_squares(checked))


def _map_blocks(work: Callable[[Ints], Answer], rows: Ints, k: int) -> list[Answer]:
    """Results of the work on blocks of rows, on all cores: each core has its own block, in its own cache."""
    import torch

    threads = torch.get_num_threads()
    size = max(1, min(QUERY_BLOCK, _KEPT // k, -(-len(rows) // threads)))
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, [rows[first : first + size] for first in range(0, len(rows), size)]))
    finally:
        torch.set_num_threads(threads)


def _best(found: list[Candidates], k: int) -> tuple[Ints, Ints, Scores, Ints]:
    """(row, item, score, place in the list) of each row's k best; among equal scores the first in `found` come first.

    The sort keys are 64-bit integers of row (11 bits), score (32) and place in `found` (21): numpy sorts them ten
    times as fast as two separate keys.
    """
    row, item, score = (np.concatenate(columns) for columns in zip(*found, strict=True))
    bits = (score + 0).view(np.uint32)  # in the scores' order, once negative ones are reversed; -0 becomes 0
    falling = np.where(score < 0, bits, 0x7FFFFFFF - bits)
    keys = row.astype(np.uint64) << 53 | falling.astype(np.uint64) << 21 | np.arange(len(row), dtype=np.uint64)
    keys.sort()
    order = (keys & (2**21 - 1)).astype(np.int64)
    row = row[order]
    place = place_in_group(row)
    kept = place < k
    order = order[kept]
    return row[kept], item[order], score[order], place[kept]


def _lift(items: Vectors, metric: Metric) -> Vectors:
    """The items; with L2 they get two more columns, so that the least distance is the highest product.

    |q - x|^2 = |q|^2 - 2 (q x - |x|^2 / 2), and the bracket is the product of (q, 1, 1) with (x, a, b) where
    a + b = -|x|^2 / 2. bfloat16 holds a exactly, so the screen rounds only b, which is small.
    """
    if metric == "IP":
        return items
    halves = _squares(items) / -2
    large = (halves.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
    return np.column_stack([items, large, halves - large]).astype(np.float32)


def _squares(vectors: Vectors) -> Doubles:
    """(N,) squared lengths."""
    squares: Doubles = np.square(vectors, dtype=np.float64).sum(1)
    return squares


def _usable_vectors(vectors: Vectors, what: str) -> Vectors:
    """The vectors as contiguous float32, all finite and of a usable length."""
    squares = np.einsum("nd,nd->n", vectors, vectors)
    if (wrong := np.flatnonzero(~(squares < _MAX_NORM**2))).size:
        raise UnusableVectors(f"the vector of {what} {wrong[0]} is not finite, or longer than {_MAX_NORM:g}")
    return np.ascontiguousarray(vectors, np.float32)
