"""Wide & Deep: a linear model that memorises plus a deep one that generalises (Cheng et al. 2016).

The wide part has one weight for each sparse value, each cross of two and each number; the deep part is an
MLP over embeddings and normalised numbers. The sum of both is the logit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Block, columns_of_floats, rows_of_values
from recsys_assets.models.config import Count, Dropped
from recsys_assets.models.layers import Crosses, DropIds, Embed, Mlp, NamedLinear, Normalise, OwnTerms, Table


@dataclass(frozen=True)
class WideDeepConfig:
    """Hyper-parameters of the network."""

    embedding: Count = 16  # width of every embedding
    hidden: tuple[Count, ...] = (256, 128)  # widths of the deep part's layers
    id_dropout: Dropped = 0.1  # share of ids shown as unknown in training, so that new users and items score well
    buckets: Count = 1 << 18  # most rows that one cross may take in the wide part


SPACE = {
    "hyper_param": {
        "embedding": [8, 16, 32],
        "hidden": [[128, 64], [256, 128], [512, 256]],
        "id_dropout": {"low": 0.0, "high": 0.3},
        "batch": [2048, 4096, 8192],
        "learning_rate": {"low": 0.001, "high": 0.01, "log": True},
        "l2": {"low": 3e-06, "high": 0.0003, "log": True},
    },
}


class WideDeep(nn.Module):
    """Logits (N,) of indices (N, K) and numeric (N, F), the `Encoded` tensors of N rows.

    `more` is the number of further floats per row that the deep part takes.
    """

    def __init__(self, schema: FeatureSchema, config: WideDeepConfig, more: int = 0) -> None:
        super().__init__()
        self.drop_ids = DropIds(schema, config.id_dropout)
        self.normalise = Normalise(schema)
        self.own_terms = OwnTerms(schema)
        self.crosses = Crosses(schema, config.buckets)
        self.embed = Embed(schema, config.embedding)
        numbers = (*columns_of_floats(schema), Block(self.own_terms.width))
        self.wide_values = Table(rows_of_values(schema.sparse))
        self.wide_crosses = Table(self.crosses.axis)
        self.wide_numbers = NamedLinear(numbers, 1)
        self.deep = Mlp((Block(self.embed.width), *numbers, Block(more)), config.hidden)

    def forward(self, indices: Tensor, numeric: Tensor, *more: Tensor) -> Tensor:
        """Logits (N,); `more` are floats (N, …) for the deep part."""
        indices = self.drop_ids(indices)
        numbers = self.normalise(numeric)
        numbers = torch.cat([numbers, self.own_terms(indices, numbers)], 1)
        wide = self.wide_values(indices).sum(1)
        if self.crosses.pairs:
            wide = wide + self.wide_crosses(self.crosses(indices)).sum(1)
        deep = self.deep(torch.cat([self.embed(indices), numbers, *more], 1))
        logits: Tensor = wide + (self.wide_numbers(numbers) + deep).squeeze(1)
        return logits
