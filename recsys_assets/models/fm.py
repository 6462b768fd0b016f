"""Factorisation machine as two towers (Rendle 2010), trained on labels as in recsys_pipeline's vector recall.

The score of a user and an item is the whole FM: the weights of all features, and the inner products of all
pairs of feature vectors. Pairs across the sides are the product of the two sums; the terms of one side alone
are a bias in that side's vector, so that the inner product of the two vectors is the model's logit.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import rows_of_values
from recsys_assets.models.config import Count
from recsys_assets.models.layers import Table
from recsys_assets.models.towers import Batch, TwoTower


@dataclass(frozen=True)
class FmConfig:
    """Hyper-parameters of the network."""

    # Width of the vectors that are served: two floats are the biases, the others the factors.
    width: Annotated[Count, Field(ge=3)] = 16
    history: Count = 1  # items of the history that the tower is given; a factorisation machine does not read them


SPACE = {
    "hyper_param": {
        "width": [8, 16, 32, 64],
        "batch": [2048, 4096, 8192],
        "learning_rate": {"low": 0.002, "high": 0.03, "log": True},
        "l2": {"low": 1e-06, "high": 0.0001, "log": True},
    },
}


class Fm(TwoTower):
    """Logits <user, item> of width-float vectors."""

    labelled = True

    def __init__(self, schema: FeatureSchema, config: FmConfig) -> None:
        super().__init__(schema, config.history)
        self.own = self.user_schema.index_columns - config.history
        factors = config.width - 2
        self.user_factors = Table(rows_of_values(self.user_schema.sparse), factors, std=0.01)
        self.item_factors = Table(rows_of_values(self.item_schema.sparse), factors, std=0.01)
        self.user_weights = Table(rows_of_values(self.user_schema.sparse))
        self.item_weights = Table(rows_of_values(self.item_schema.sparse))
        self.bias = nn.Parameter(torch.zeros(1))

    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, width): factors, 1, bias of the user."""
        factors, bias = _one_side(self.user_factors, self.user_weights, indices[:, : self.own])
        return torch.cat([factors, torch.ones_like(bias), bias], 1)

    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, width): factors, bias of the item, 1."""
        factors, bias = _one_side(self.item_factors, self.item_weights, indices)
        return torch.cat([factors, bias + self.bias, torch.ones_like(bias)], 1)

    def loss(self, batch: Batch) -> Tensor:
        """Log loss of the labels."""
        logits = (self.user(batch.users) * self.item(batch.catalogue[batch.targets - 1])).sum(1)
        return nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)


def _one_side(factors: Table, weights: Table, indices: Tensor) -> tuple[Tensor, Tensor]:
    """(N, F) the sum of the factors, and (N, 1) the sum of the weights and of all pairs' inner products of one side."""
    vectors = factors(indices)
    total = vectors.sum(1)
    pairs = (total.square() - vectors.square().sum(1)).sum(1, keepdim=True) / 2
    return total, weights(indices).sum(1, keepdim=True) + pairs
