"""DeepFM: a factorisation machine plus an MLP (Guo et al. 2017), with widths by group as in recsys_pipeline.

The logit is the sum of the weights of all values and numbers, of the inner products of all pairs of fields of the
same width, and of an MLP. With `side_embedding` equal to `embedding` all fields interact, as in Guo et al.; with a
different width, ids interact only with ids, and side fields only with side fields. recsys_pipeline has 16 and 2, and
an MLP over the numbers alone (`deep_embeddings` False).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Block, columns_of_floats, rows_of_values
from recsys_assets.models.config import Count, Dropped
from recsys_assets.models.layers import DropIds, Embed, Mlp, NamedLinear, Normalise, OwnTerms, Table


@dataclass(frozen=True)
class DeepFmConfig:
    """Hyper-parameters of the network."""

    embedding: Count = 16  # width of the embeddings of ids
    side_embedding: Count = 16  # width of those of all other fields
    hidden: tuple[Count, ...] = (256, 128)  # widths of the deep part's layers
    deep_embeddings: bool = True  # whether the MLP takes the embeddings as well as the numbers
    id_dropout: Dropped = 0.1  # share of ids shown as unknown in training, so that new users and items score well


SPACE = {
    "hyper_param": {
        "embedding": [8, 16, 32],
        "side_embedding": [4, 8, 16],
        "hidden": [[128, 64], [256, 128], [512, 256]],
        "id_dropout": {"low": 0.0, "high": 0.3},
        "batch": [2048, 4096, 8192],
        "learning_rate": {"low": 0.001, "high": 0.01, "log": True},
        "l2": {"low": 3e-06, "high": 0.0003, "log": True},
    },
}


class DeepFm(nn.Module):
    """Logits (N,) of indices (N, K) and numeric (N, F), the `Encoded` tensors of N rows."""

    def __init__(self, schema: FeatureSchema, config: DeepFmConfig) -> None:
        super().__init__()
        self.deep_embeddings = config.deep_embeddings
        self.drop_ids = DropIds(schema, config.id_dropout)
        self.normalise = Normalise(schema)
        self.own_terms = OwnTerms(schema)
        widths = _widths(schema, config)
        self.widths = list(widths.values())
        embeds = [Embed(schema, width, group) for group, width in widths.items()]
        self.embed = nn.ModuleList(embeds)
        embedded = sum(embed.width for embed in embeds)
        numbers = (*columns_of_floats(schema), Block(self.own_terms.width))
        self.value_weights = Table(rows_of_values(schema.sparse))
        self.number_weights = NamedLinear(numbers, 1)
        self.deep = Mlp((Block(config.deep_embeddings * embedded), *numbers), config.hidden)

    def forward(self, indices: Tensor, numeric: Tensor) -> Tensor:
        """Logits (N,)."""
        indices = self.drop_ids(indices)
        numbers = self.normalise(numeric)
        numbers = torch.cat([numbers, self.own_terms(indices, numbers)], 1)
        embedded = [embed(indices) for embed in self.embed]
        logits: Tensor = self.value_weights(indices).sum(1) + self.number_weights(numbers).squeeze(1)
        for vectors, width in zip(embedded, self.widths, strict=True):
            logits = logits + pairs(vectors.view(-1, vectors.shape[1] // width, width))
        deep: Tensor = self.deep(torch.cat([*embedded, numbers], 1) if self.deep_embeddings else numbers)
        return logits + deep.squeeze(1)


def pairs(vectors: Tensor) -> Tensor:
    """Sums (N,) of the inner products of all pairs of vectors (N, fields, width), in time linear in the fields."""
    return (vectors.sum(1).square() - vectors.square().sum(1)).sum(1) / 2


def _widths(schema: FeatureSchema, config: DeepFmConfig) -> dict[str, int]:
    """Width of the embeddings of each group of fields in the schema; the group "" is all fields."""
    if config.embedding == config.side_embedding:
        return {"": config.embedding}
    there = {feature.group for feature in schema.sparse}
    widths = {"id": config.embedding, "side": config.side_embedding}
    return {group: width for group, width in widths.items() if group in there}
