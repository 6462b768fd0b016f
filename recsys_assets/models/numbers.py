"""The numbers of content as towers for cold start read them: scores, and the bins that a number reaches."""

import pyarrow as pa
import torch
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Axis, Block, size_of
from recsys_assets.models.layers import Normalise


class Numbers(nn.Module):
    """(N, F) raw floats to (N, width): their z-scores, and for each edge of a feature's bins whether it is reached."""

    edges: Tensor
    columns: Tensor

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        self.normalise = Normalise(schema)
        binned = [(schema.columns[f.name].start, edge) for f in schema.of_kind("numeric") for edge in f.boundaries]
        self.register_buffer("columns", torch.tensor([place for place, _ in binned], dtype=torch.int64), False)
        self.register_buffer("edges", torch.tensor([edge for _, edge in binned], dtype=torch.float32), False)
        # Where a training continues with other bins, an edge with the same value keeps its weights.
        edges = [Block(len(f.boundaries), pa.array(f.boundaries, pa.float64())) for f in schema.of_kind("numeric")]
        self.axis: Axis = (Block(schema.floats), *edges)
        self.width = size_of(self.axis)

    def forward(self, numeric: Tensor) -> Tensor:
        """Floats (N, width); a missing number reaches no edge."""
        scores: Tensor = self.normalise(numeric)
        if not len(self.edges):
            return scores
        return torch.cat([scores, (numeric.index_select(1, self.columns) >= self.edges).float()], 1)
