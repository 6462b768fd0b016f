"""Vectors on disk: a Parquet file of ids and lists of float32, ordered by id.

The lists are Arrow's large lists: 10^8 users with 64 floats have more than 2^31 numbers. Row groups are small enough
that a reader of blocks holds little more than a block.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Array, Vectors
from recsys_assets.datasets.blocks import table_blocks

GROUP = 1 << 16  # rows of a row group: 16 MB with 64 floats


def write(path: Path, key: str, ids: Array, vectors: Vectors) -> None:
    """Write vectors (N, D) with the ids (N,) in the column `key`, as a column `vector`."""
    order = np.argsort(ids, kind="stable")
    write_blocks(path, key, [(ids[order], vectors[order])])


def write_blocks(path: Path, key: str, parts: Iterable[tuple[Array, Vectors]]) -> None:
    """Write blocks of ids (N,), ascending from block to block, and vectors (N, D); at least one block."""
    with ExitStack() as opened:
        writer = None
        for ids, vectors in parts:
            offsets = np.arange(len(ids) + 1, dtype=np.int64) * vectors.shape[1]
            lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1)))
            table = pa.table({key: pa.array(ids), "vector": lists})
            writer = writer or opened.enter_context(pq.ParquetWriter(path, table.schema, compression="zstd"))
            writer.write_table(table, row_group_size=GROUP)


def read(path: Path) -> tuple[pa.Array, Vectors]:
    """The ids and the vectors (N, D) of a file.

    Raises:
        ValueError: the vectors differ in width.
    """
    return _arrays(path, pq.read_table(path))


def blocks(path: Path, rows: int) -> Iterator[tuple[pa.Array, Vectors]]:
    """The same in blocks of `rows` rows, of which the last one may have fewer; no block if there are no rows."""
    return (_arrays(path, block) for block in table_blocks(path, rows))


def shape(path: Path) -> tuple[int, int]:
    """The number of vectors and their width, without reading them all; (0, 0) for an empty file."""
    first = next(blocks(path, 1), None)
    return (pq.read_metadata(path).num_rows, first[1].shape[1]) if first else (0, 0)


def _arrays(path: Path, table: pa.Table) -> tuple[pa.Array, Vectors]:
    lists = table["vector"].combine_chunks()
    widths = pc.unique(pc.list_value_length(lists))
    if len(widths) > 1:
        raise ValueError(f"{path}: vectors of {sorted(widths.to_pylist())} floats in one file")
    width = widths[0].as_py() if len(widths) else 0
    return table[0].combine_chunks(), lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), width)
