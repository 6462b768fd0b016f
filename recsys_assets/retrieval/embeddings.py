"""Vectors on disk: a Parquet file of ids and lists of float32, ordered by id.

The lists are Arrow's large lists: 10^8 users with 64 floats have more than 2^31 numbers.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Array, Vectors


def write(path: Path, key: str, ids: Array, vectors: Vectors) -> None:
    """Write vectors (N, D) with the ids (N,) in the column `key`, as a column `vector`."""
    order = np.argsort(ids, kind="stable")
    offsets = np.arange(len(ids) + 1, dtype=np.int64) * vectors.shape[1]
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(vectors[order].reshape(-1)))
    pq.write_table(pa.table({key: pa.array(ids[order]), "vector": lists}), path, compression="zstd")


def read(path: Path) -> tuple[pa.Array, Vectors]:
    """The ids and the vectors (N, D) of a file.

    Raises:
        ValueError: the vectors differ in width.
    """
    table = pq.read_table(path)
    lists = table["vector"].combine_chunks()
    widths = pc.unique(pc.list_value_length(lists))
    if len(widths) > 1:
        raise ValueError(f"{path}: vectors of {sorted(widths.to_pylist())} floats in one file")
    width = widths[0].as_py() if len(widths) else 0
    return table[0].combine_chunks(), lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), width)
