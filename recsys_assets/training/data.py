"""Rows for training: whole columns in the memory of the device, batches by index, no loop over rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys_assets.arrays import Floats
from recsys_assets.datasets.row_files import RowFiles, RowSource, files_of
from recsys_assets.features.schema import Encoded, FeatureSchema, encode
from recsys_assets.training.distributed import processes, rank

BATCH = 2**18  # rows encoded at a time


class LabelError(ValueError):
    """No model can be trained on these labels; the message says why."""


@dataclass(frozen=True)
class Rows:
    """N encoded rows on one device: indices (N, K) int32, numeric (N, F) float32, labels (N,) float32."""

    indices: Tensor
    numeric: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: Tensor) -> "Rows":
        """The rows at the given places."""
        return Rows(*(column.index_select(0, places) for column in (self.indices, self.numeric, self.labels)))


def load(schema: FeatureSchema, source: RowSource, device: torch.device) -> Rows:
    """Encode a table or Parquet files with `encode_rows` and move all of it to the device.

    Raises:
        LabelError, SchemaError: see `encode_rows`.
    """
    rows, labels = encode_rows(schema, source)
    return Rows(*(torch.from_numpy(array).to(device) for array in (rows.indices, rows.numeric, labels)))


def encode_rows(schema: FeatureSchema, source: RowSource) -> tuple[Encoded, Floats]:
    """Encode a table, or only the needed columns of Parquet files; the labels (N,) are the second result.

    Rows are encoded `BATCH` at a time: at most the encoded rows and one raw batch are in memory.

    Raises:
        LabelError: the source has no rows, or labels other than 0 and 1.
        SchemaError: a column is absent or does not have the feature's type or length.
    """
    count, parts = _read(source, [*(feature.name for feature in schema.features), "label"])
    if count == 0:
        raise LabelError("there are no rows to train or validate on: widen the range of bizdates")
    rows = Encoded(np.empty((count, schema.index_columns), np.int32), np.empty((count, schema.floats), np.float32))
    labels = np.empty(count, np.float32)
    start = 0
    for part in parts:
        place = slice(start, start := start + part.num_rows)
        found = encode(schema, part)
        rows.indices[place], rows.numeric[place], labels[place] = found.indices, found.numeric, _labels(part["label"])
    return rows, labels


def _read(source: RowSource, columns: list[str]) -> tuple[int, Iterator[pa.Table]]:
    """The number of rows, and the rows in tables of at most `BATCH`."""
    if isinstance(source, pa.Table):
        slices = (source.slice(start, BATCH) for start in range(0, source.num_rows, BATCH))
        return source.num_rows, slices
    return sum(pq.read_metadata(file).num_rows for file in files_of(source)), _read_parquet(source, columns)


def _read_parquet(source: RowFiles, columns: list[str]) -> Iterator[pa.Table]:
    for file in files_of(source):
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(BATCH, columns=columns):
                yield pa.Table.from_batches([batch])


def _labels(column: pa.ChunkedArray) -> Floats:
    if column.null_count or not pc.all(pc.is_in(column, pa.array([0, 1], column.type))).as_py():
        raise LabelError("column 'label' must hold 0 and 1 only")
    labels: Floats = column.to_numpy().astype(np.float32)
    return labels


def batches(rows: Rows, size: int, generator: torch.Generator) -> Iterator[tuple[Rows, int]]:
    """All rows once in a new random order, in batches of `size`: this process's share of each, and its size.

    The last batch may be smaller. One that would leave a process fewer than two rows, from which batch normalisation
    cannot compute a variance, joins the batch before.
    """
    order = torch.randperm(len(rows), generator=generator).to(rows.labels.device)
    parts = list(torch.split(order, size))
    if len(parts) > 1 and len(parts[-1]) < 2 * processes():
        parts[-2:] = [torch.cat(parts[-2:])]
    for places in parts:
        yield rows.take(places.tensor_split(processes())[rank()]), len(places)
