"""Gram matrices: the products of all pairs of columns of a sparse matrix, as a dense matrix."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.sparse import csr_array

from recsys_assets.arrays import Floats
from recsys_assets.parallel import cost_blocks, map_blocks

# A column is multiplied by BLAS if it has at least this share of the rows. On MovieLens 1M, 3 % and 8 % are as fast.
_DENSE_COLUMN = 0.05


def is_dense_enough(matrix: csr_array, cells: int, memory: int) -> bool:
    """Whether to treat a matrix as dense: more than 1 % of it is filled, and `cells` floats fit into memory."""
    rows, width = matrix.shape
    return bool(matrix.nnz > 0.01 * rows * width and 4 * cells <= memory)


def gram(matrix: csr_array) -> Floats:
    """(C, C) `matrix.T @ matrix` of a matrix (R, C): well-filled columns by BLAS, the others as sparse ones."""
    rows, width = matrix.shape
    columns = matrix.T.tocsr()
    sizes = np.diff(columns.indptr)
    order = np.argsort(-sizes, kind="stable")
    full = int((sizes > _DENSE_COLUMN * rows).sum())
    head, tail = order[:full], order[full:]
    dense, sparse = np.ascontiguousarray(columns[head].toarray().T), columns[tail]
    product = np.empty((width, width), np.float32)

    def fill_head() -> None:
        product[np.ix_(head, head)] = dense.T @ dense

    def fill(block: slice) -> None:
        """Fill in the products of a block of the tail with the head, and with the tail up to the block."""
        own, upto = sparse[block], slice(0, block.stop)
        for others, found in ((head, own @ dense), (tail[upto], (sparse[upto] @ own.T.tocsr()).toarray().T)):
            product[np.ix_(tail[block], others)] = found
            product[np.ix_(others, tail[block])] = found.T

    blocks = cost_blocks(np.ones(len(tail), np.int64), 1 + len(tail) // 16)
    tasks: list[Callable[[], None]] = [fill_head, *(partial(fill, block) for block in blocks)]
    map_blocks(lambda task: task(), tasks)
    return product
