"""The two input tables of a hit rate, from files: items with vectors, and requests with vectors and right items."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Vectors
from recsys_assets.tzrec import table_files, vector_tables
from recsys_assets.tzrec.evaluation import Requests, searched_vectors
from recsys_assets.tzrec.exact_search import Metric
from recsys_assets.tzrec.table_files import Format, UnreadableTable


def items(place: str, kind: Format | None, id_column: str, vector_column: str) -> tuple[pa.Array, Vectors]:
    """(I,) ids as text and (I, D) vectors of the files at a path.

    Raises:
        UnreadableTable: there are no files or no rows, or a value is wrong.
    """
    found, kind = table_files.files(place, kind)
    ids, vectors = [], []
    for file in found:
        table = table_files.read(file, kind, [id_column, vector_column])
        ids.append(vector_tables.ids(file, table, id_column))
        vectors.append(vector_tables.vectors(file, table, vector_column))
    return pa.concat_arrays(ids), _stack(found, vectors)[:, 0]


def requests(
    place: str, kind: Format | None, columns: tuple[str, str, str], interests: int, count: str | None, metric: Metric
) -> Requests:
    """The requests in the files at a path.

    Args:
        place: file, folder or pattern.
        kind: their format, by default that of their names.
        columns: names of the columns of the request's id, the right items and the vectors.
        interests: number of vectors of each request.
        count: name of the column with the number of vectors that count; without it, all count.
        metric: see `evaluation.searched_vectors`.

    Raises:
        UnreadableTable: there are no files or no rows, or a value is wrong.
    """
    found, kind = table_files.files(place, kind)
    id_column, truth_column, vector_column = columns
    ids, truth, vectors, counts = [], [], [], []
    for file in found:
        table = table_files.read(file, kind, [*columns, *([count] if count else [])])
        ids.append(table[id_column].combine_chunks())
        truth.append(vector_tables.id_lists(file, table, truth_column))
        vectors.append(vector_tables.vectors(file, table, vector_column, interests))
        counts.append(vector_tables.integers(file, table, count) if count else np.full(len(table), interests))
    stacked, number = _stack(found, vectors), np.concatenate(counts)
    if len({each.type for each in ids}) > 1:
        ids = [vector_tables.text(file, id_column, each) for file, each in zip(found, ids, strict=True)]
    return Requests(pa.concat_arrays(ids), pa.concat_arrays(truth), stacked, searched_vectors(stacked, number, metric))


def _stack(files: list[Path], vectors: list[Vectors]) -> Vectors:
    """The vectors (N, M, D) of all files, which must have the same length."""
    filled = [(file, each) for file, each in zip(files, vectors, strict=True) if len(each)]
    if not filled:
        raise UnreadableTable(f"there are no rows in {files[0]}" + (" and the files next to it" if files[1:] else ""))
    first, width = filled[0][0], filled[0][1].shape[2]
    for file, each in filled:
        if each.shape[2] != width:
            raise UnreadableTable(f"{file}: vectors of {each.shape[2]} numbers, while {first} has {width}")
    return np.concatenate([each for _, each in filled])
