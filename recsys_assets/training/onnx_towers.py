"""Two-tower models as two ONNX files on raw features: `user.onnx` and `item.onnx`.

Inputs are as in `onnx_export`. The user tower takes `history` too, (N, T) item ids, oldest first, padded at the end
with `MISSING`; T is any number from 1 to the length that the model reads. Output `vector`: (N, D). The inner product of
a user's and an item's vector is the score.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from recsys_assets.features.raw import INPUTS, inputs_text, raw_inputs
from recsys_assets.features.schema import FeatureSchema, encode
from recsys_assets.models.towers import TwoTower
from recsys_assets.training.checkpoint import load
from recsys_assets.training.onnx_export import export_network, file_metadata, open_session, write
from recsys_assets.training.recall import two_tower

Side = Literal["user", "item"]
SIDES: tuple[Side, Side] = ("user", "item")


class Tower(nn.Module):
    """One tower of a two-tower model: vectors (N, D) from encoded features (N, columns)."""

    def __init__(self, model: TwoTower, side: Side) -> None:
        super().__init__()
        self.model, self.side = model, side

    @property
    def schema(self) -> FeatureSchema:
        """The features that it takes."""
        return self.model.user_schema if self.side == "user" else self.model.item_schema

    def forward(self, indices: Tensor, numeric: Tensor | None = None) -> Tensor:
        """Vectors (N, D)."""
        rows = indices if numeric is None else torch.cat([numeric.double(), indices.double()], 1)
        return self.model.user(rows) if self.side == "user" else self.model.item(rows)


def export(checkpoint: Path, folder: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write both files of a checkpoint; the same checkpoint gives the same bytes.

    Raises:
        CheckpointMismatch: the checkpoint contradicts itself.
    """
    fitted = load(checkpoint)
    for side in SIDES:
        tower = Tower(two_tower(fitted), side)
        model = export_network(tower, tower.schema, "vector")
        about = {**(metadata or {}), INPUTS: inputs_text(tower.schema)}
        write(model, tower.schema, folder / f"{side}.onnx", file_metadata(fitted, about))


def parity(checkpoint: Path, path: Path, side: Side, table: pa.Table, batch: int = 64) -> float:
    """The largest absolute difference between onnxruntime's and torch's vectors, over all rows of a table.

    Both start from the raw columns of the tower's features.
    """
    tower, runtime = Tower(two_tower(load(checkpoint)), side).eval(), open_session(path)
    largest = 0.0
    for first in range(0, table.num_rows, batch):
        rows = table.slice(first, batch)
        (vectors,) = runtime.run(["vector"], raw_inputs(tower.schema, rows))
        with torch.inference_mode():
            encoded = encode(tower.schema, rows)
            numbers = [torch.from_numpy(encoded.numeric)] if tower.schema.floats else []
            expected = tower(torch.from_numpy(encoded.indices), *numbers).numpy()
        largest = max(largest, float(np.abs(vectors - expected).max()))
    return largest
