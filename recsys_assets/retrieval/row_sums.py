"""Sums of weighted rows of a sparse matrix: what the triggers or the terms of a user give to each item.

For one user a product of scipy's sparse matrices takes 0.2 ms, most of it checks of the matrices that it makes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from recsys_assets.arrays import Ints, Scores, offsets
from recsys_assets.parallel import cost_blocks
from recsys_assets.retrieval.entries import WIDE, Entries

ENTRIES_AT_ONCE = 1 << 20  # bounds the memory of what is added: 40 MB
Weights = npt.NDArray[Any]


def summed_scores(matrix: csr_array, row: Ints, asked: Ints, weight: Weights, rows: int) -> Scores | Entries:
    """The sums of `sum_rows` as scores for `lists.recommend`: an item whose sum is 0 is not a candidate."""
    if matrix.shape[1] >= WIDE:
        return sum_entries(matrix, row, asked, weight)
    return dense_scores(matrix, row, asked, weight, rows)


def dense_scores(matrix: csr_array, row: Ints, asked: Ints, weight: Weights, rows: int) -> Scores:
    """The same for a catalogue of any width: (rows, I), -inf where the sum is 0."""
    scores: Scores = sum_rows(matrix, row, asked, weight, rows)
    scores[scores == 0] = -np.inf
    return scores


def sum_rows(matrix: csr_array, row: Ints, asked: Ints, weight: Weights, rows: int) -> Weights:
    """(rows, I) for each of some rows the sum of weighted rows of the matrix (T, I), in the weights' type.

    Args:
        matrix: the rows that are asked for.
        row: (M,) the row of the result that each summand belongs to; summands are added in their order.
        asked: (M,) the row of the matrix.
        weight: (M,) what it counts.
        rows: of the result.
    """
    found = np.zeros((rows, matrix.shape[1]), weight.dtype)
    for cell, values in _summands(matrix, row, asked, weight):
        np.add.at(found.reshape(-1), cell, values)
    return found


def sum_entries(matrix: csr_array, row: Ints, asked: Ints, weight: Weights) -> Entries:
    """The same sums, to the last bit, without those that are 0."""
    parts = list(_summands(matrix, row, asked, weight))
    cells, of = np.unique(np.concatenate([np.zeros(0, np.int64), *(cell for cell, _ in parts)]), return_inverse=True)
    found = np.zeros(len(cells), weight.dtype)
    np.add.at(found, of, np.concatenate([np.zeros(0, weight.dtype), *(values for _, values in parts)]))
    return Entries(*np.divmod(cells, matrix.shape[1]), found).where(found != 0)


def _summands(matrix: csr_array, row: Ints, asked: Ints, weight: Weights) -> Iterator[tuple[Ints, Weights]]:
    """The cell of the result, counted row by row, and the value of each summand, in blocks."""
    width = matrix.shape[1]
    sizes = matrix.indptr[asked + 1] - matrix.indptr[asked]
    for part in cost_blocks(sizes, ENTRIES_AT_ONCE):
        size, begin = sizes[part], matrix.indptr[asked[part]]
        ends = offsets(size)
        place = np.arange(ends[-1]) + np.repeat(begin - ends[:-1], size)
        cell = np.repeat(row[part] * width, size) + matrix.indices[place]
        yield cell, np.repeat(weight[part], size) * matrix.data[place]
