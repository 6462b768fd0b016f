"""Sparse matrices of scores as Parquet columns of lists, and back.

A row of the matrix becomes a list of {id, score} in descending order of the score; the tie-break is the lower id.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_array

from recsys_assets.arrays import Ids, Ints, find, offsets, place_in_group


def keep_strongest(matrix: csr_array, most: int) -> csr_array:
    """The `most` highest scores of each row as float32, highest first; the tie-break is the lower column."""
    found = matrix.tocoo()
    return strongest(found.row, found.col, found.data, matrix.shape, most)


def strongest(row: Ints, column: Ints, score: npt.NDArray[np.floating], shape: tuple[int, int], most: int) -> csr_array:
    """The same for a matrix of this shape, whose entries are given."""
    score = score.astype(np.float32)
    order = np.lexsort((column, -score, row))
    row, column, score = row[order], column[order], score[order]
    kept = place_in_group(row) < most
    sizes = np.bincount(row[kept], minlength=shape[0])
    return csr_array((score[kept], column[kept], offsets(sizes)), shape=shape)


def to_lists(matrix: csr_array, key: str, ids: Ids) -> pa.ListArray:
    """A list<struct<key, score>> for each row, in the order in which the matrix holds its entries."""
    scores = pa.array(matrix.data, pa.float32())
    entries = pa.StructArray.from_arrays([pa.array(ids[matrix.indices]), scores], names=[key, "score"])
    return pa.ListArray.from_arrays(pa.array(matrix.indptr, pa.int32()), entries)


def to_matrix(lists: pa.ChunkedArray, key: str, ids: Ids) -> csr_array:
    """(N, ids) scores of N lists, with a column for each of the ascending ids; entries of unknown ids are left out.

    A row of the matrix keeps its entries in the order of the list.
    """
    lists = lists.combine_chunks()
    entries = pc.list_flatten(lists)
    column = find(ids, entries.field(key).to_numpy(zero_copy_only=False))
    score, known = entries.field("score").to_numpy(), column >= 0
    sizes = np.bincount(pc.list_parent_indices(lists).to_numpy()[known], minlength=len(lists))
    return csr_array((score[known], column[known], offsets(sizes)), shape=(len(lists), len(ids)))
