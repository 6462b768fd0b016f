"""Parquet files in blocks of rows: what is read so needs memory for a block, and not for the file."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_BATCH = 1 << 16  # rows that are decoded at once


def table_blocks(path: Path, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a file in blocks of `rows` rows, of which the last one may have fewer; no block if there are none."""
    with pq.ParquetFile(path) as file:
        waiting: list[pa.RecordBatch] = []
        count = 0
        for batch in file.iter_batches(min(rows, _BATCH), columns=columns):
            while count + len(batch) >= rows:
                block = pa.Table.from_batches([*waiting, batch.slice(0, rows - count)])
                waiting, count, batch = [], 0, batch.slice(rows - count)  # noqa: PLW2901
                yield block
            waiting, count = [*waiting, batch], count + len(batch)
        if count:
            yield pa.Table.from_batches(waiting)
