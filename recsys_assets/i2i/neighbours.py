"""Neighbours of items: the best of each item's scores, and the Parquet file that holds them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.sparse import csr_array

from recsys_assets.arrays import Bools, Ids, Ints, Scores, find, offsets, slices
from recsys_assets.parallel import map_blocks, threads
from recsys_assets.retrieval.lists import Lists, empty_lists
from recsys_assets.retrieval.scored_lists import to_lists, to_matrix

Number = TypeVar("Number", bound=np.generic)
_BLOCK_BYTES = 1 << 25  # bytes: larger blocks leave the processor's cache; 10^6 events took 2.9 s, and 4.3 s with 1 GB


@dataclass(frozen=True)
class Neighbours:
    """The result of an item-to-item method.

    Attributes:
        lists: (I, N) the neighbours of each item by number, never the item itself; all scores are above 0.
        cuts: how much each cap cut off, by name; 0 if it did not act.
    """

    lists: Lists
    cuts: dict[str, int]


def best_by_block(rows: Callable[[Ints], csr_array], costs: Ints, memory: int, n: int) -> Lists:
    """The n best of each item's scores, block by block.

    Args:
        rows: gives the scores (B, I) of some items: an entry for each neighbour, none for the item itself.
        costs: (I,) bytes that an item needs while its row is computed.
        memory: bytes that all running blocks together may need; an item that needs more has a block of its own.
        n: neighbours per item.
    """
    costs = np.maximum(costs, 64 * n)
    order = np.argsort(-costs, kind="stable")
    lists = empty_lists(len(costs), n)

    def fill(block: slice) -> None:
        _enter(lists, order[block], _candidates(rows(order[block]), n))

    # Rows are padded to the longest of their block, so each costs as much as the first.
    map_blocks(fill, _blocks(costs[order], min(_BLOCK_BYTES, memory // threads())))
    return lists


def best_of_dense(scores: Scores, n: int) -> Lists:
    """The n best of each item's scores (I, I), those above 0; an item's score with itself is overwritten."""
    np.fill_diagonal(scores, 0)
    lists = empty_lists(len(scores), n)

    def fill(block: slice) -> None:
        rows = scores[block]
        flat = np.flatnonzero(rows >= _least(rows, n)[:, None])
        row, item = np.divmod(flat, rows.shape[1])
        ends = offsets(np.bincount(row, minlength=len(rows)))
        _enter(lists, block, csr_array((rows.ravel()[flat], item, ends), rows.shape))

    map_blocks(fill, slices(len(scores), 128))
    return lists


def _blocks(costs: Ints, limit: int) -> Iterator[slice]:
    """Blocks of descending costs; all items of a block are charged as much as its first."""
    first = 0
    while first < len(costs):
        size = max(1, limit // int(costs[first]))
        yield slice(first, first + size)
        first += size


def _enter(lists: Lists, items: Ints | slice, scores: csr_array) -> None:
    """Enter the best of sparse scores (B, I) into the lists of B items; they hold few more entries than that."""
    n = lists.items.shape[1]
    scores.sort_indices()
    strength: Scores = _padded(scores, scores.data, -np.inf)
    column: Ints = _padded(scores, scores.indices, -1)
    best = np.argsort(-strength, axis=1, kind="stable")[:, :n]  # one sort for each row: they are short
    lists.items[items, : best.shape[1]] = np.take_along_axis(column, best, axis=1)
    lists.scores[items, : best.shape[1]] = np.take_along_axis(strength, best, axis=1)


def _padded(matrix: csr_array, data: NDArray[Number], rest: float) -> NDArray[Number]:
    """(B, longest row) the data of each row's entries, and the rest."""
    sizes = np.diff(matrix.indptr)
    padded: NDArray[Number] = np.full((len(sizes), sizes.max(initial=0)), rest, data.dtype)
    padded[np.arange(padded.shape[1]) < sizes[:, None]] = data
    return padded


def _candidates(scores: csr_array, n: int) -> csr_array:
    """The entries of each row of scores that are no lower than its n-th highest."""
    padded: Scores = _padded(scores, scores.data, 0)
    least = _least(padded, n)
    return keep(scores, scores.data >= np.repeat(least, np.diff(scores.indptr)))


def _least(scores: Scores, n: int) -> Scores:
    """(B,) the n-th highest of each row, at least the smallest normal number (denormals may be flushed)."""
    width = scores.shape[1]
    nth = np.partition(scores, width - n, axis=1)[:, width - n] if width > n else np.zeros(len(scores), np.float32)
    return np.maximum(nth, np.finfo(np.float32).tiny)


def keep(matrix: csr_array, kept: Bools) -> csr_array:
    """The matrix without the entries that are not kept."""
    ends = offsets(kept)[matrix.indptr]
    return csr_array((matrix.data[kept], matrix.indices[kept], ends), matrix.shape)


def from_sparse(matrix: csr_array, n: int) -> Lists:
    """Lists (I, n) of a matrix that holds at most n entries in a row, best first."""
    taken = np.arange(n) < np.diff(matrix.indptr)[:, None]
    lists = empty_lists(*taken.shape)
    lists.items[taken], lists.scores[taken] = matrix.indices, matrix.data
    return lists


def to_sparse(lists: Lists, width: int) -> csr_array:
    """(I, width) the lists as a matrix whose rows keep their entries in the order of the lists."""
    taken = lists.items >= 0
    return csr_array((lists.scores[taken], lists.items[taken], offsets(taken.sum(axis=1))), shape=(len(taken), width))


def write(path: Path, item_ids: Ids, lists: Lists) -> int:
    """Write a row for each item that has neighbours: item_id, and neighbours (item_id, score), best first.

    Returns:
        The number of rows.
    """
    matrix = to_sparse(lists, len(item_ids))
    listed = np.diff(matrix.indptr) > 0
    neighbours = to_lists(matrix, "item_id", item_ids).filter(pa.array(listed))
    table = pa.table({"item_id": item_ids[listed], "neighbours": neighbours})
    pq.write_table(table, path, compression="zstd")
    return int(table.num_rows)


def read(path: Path, item_ids: Ids) -> Lists:
    """The lists of a file, (I, N) for the ascending `item_ids`; items and neighbours with other ids are left out."""
    table = pq.read_table(path)
    matrix = to_matrix(table["neighbours"], "item_id", item_ids)
    matrix.resize(len(table) + 1, len(item_ids))  # an empty last row for items that are not in the file
    matrix = matrix[find(table["item_id"].to_numpy(), item_ids)]
    return from_sparse(matrix, int(np.diff(matrix.indptr).max(initial=0)))


def faults(lists: Lists) -> dict[str, int]:
    """How many pairs of item and neighbour break a rule, by the rule's name."""
    listed = lists.items >= 0
    falls = lists.scores[:, 1:] < lists.scores[:, :-1]
    tied = (lists.scores[:, 1:] == lists.scores[:, :-1]) & (lists.items[:, 1:] > lists.items[:, :-1])
    return {
        "lists_are_sorted": int((listed[:, 1:] & ~falls & ~tied).sum()),
        "no_own_neighbour": int((lists.items == np.arange(len(lists.items))[:, None]).sum()),
        "scores_are_positive": int((listed & ~((lists.scores > 0) & np.isfinite(lists.scores))).sum()),
    }
