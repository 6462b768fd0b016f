"""Rows for training: whole columns in the memory of the device, batches by index, no loop over rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from recsys_assets.features.schema import FeatureSchema, encode


class LabelError(ValueError):
    """Labels that no model can be trained on; the message says which."""


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


def load(schema: FeatureSchema, source: pa.Table | Path, device: torch.device) -> Rows:
    """Encode a table, or only the needed columns of a Parquet file, and move it to the device whole.

    Raises:
        LabelError: the source has no rows, or labels other than 0 and 1.
    """
    if isinstance(source, Path):
        source = pq.read_table(source, columns=[*(feature.name for feature in schema.features), "label"])
    if source.num_rows == 0:
        raise LabelError("there are no rows to train or validate on: widen the range of bizdates")
    labels = source["label"].combine_chunks()
    if labels.null_count or not pc.all(pc.is_in(labels, pa.array([0, 1], labels.type))).as_py():
        raise LabelError("column 'label' must hold 0 and 1 only")
    encoded = encode(schema, source)
    tensors = (encoded.indices, encoded.numeric, labels.to_numpy(zero_copy_only=False).astype(np.float32))
    return Rows(*(torch.from_numpy(array).to(device) for array in tensors))


def batches(rows: Rows, size: int, generator: torch.Generator) -> Iterator[Rows]:
    """All rows once in a new random order, in batches of `size` (the last may be smaller)."""
    order = torch.randperm(len(rows), generator=generator).to(rows.labels.device)
    for places in torch.split(order, size):
        yield rows.take(places)
