"""DSSM (Huang et al. 2013; TorchEasyRec, MetaSpore): one MLP per tower, softmax over sampled negatives."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.config import Count, Positive
from recsys_assets.models.layers import Embed, Mlp, Table
from recsys_assets.models.losses import softmax_loss
from recsys_assets.models.towers import Batch, TwoTower, newest_of


@dataclass(frozen=True)
class DssmConfig:
    """Hyper-parameters of the network."""

    width: Count = 64  # width of the vectors that are served
    embedding: Count = 64  # width of every embedding
    hidden: tuple[Count, ...] = (256, 128)  # widths of each tower's layers
    history: Count = 20  # newest items that the user tower takes the mean of
    temperature: Positive = 0.05  # cosines are divided by it


SPACE = {
    "hyper_param": {
        "width": [32, 64, 128],
        "embedding": [32, 64],
        "hidden": [[128], [256, 128], [512, 256]],
        "history": {"low": 5, "high": 50, "log": True},
        "temperature": {"low": 0.02, "high": 0.2, "log": True},
        "learning_rate": {"low": 0.0003, "high": 0.003, "log": True},
    },
}


class Dssm(TwoTower):
    """Cosine of the two towers' vectors, as the inner product of vectors of length 1."""

    def __init__(self, schema: FeatureSchema, config: DssmConfig) -> None:
        super().__init__(schema, config.history)
        self.temperature = config.temperature
        self.user_features = Embed(self.user_schema, config.embedding)
        self.item_features = Embed(self.item_schema, config.embedding)
        self.items = Table(self.token_rows, config.embedding, std=0.05)
        self.user_mlp = Mlp(self.user_features.width + config.embedding, config.hidden, config.width)
        self.item_mlp = Mlp(self.item_features.width + config.embedding, config.hidden, config.width)

    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) of length 1, from the user's features, the history's mean and its newest item."""
        past = self.past(indices)
        taken = torch.cat([self.user_features(indices), self.items(newest_of(past, past))], 1)
        return nn.functional.normalize(self.user_mlp(taken), dim=1)

    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) of length 1."""
        taken = torch.cat([self.item_features(indices), self.items(self.token(indices))], 1)
        return nn.functional.normalize(self.item_mlp(taken), dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """Softmax cross-entropy of the touched items."""
        return softmax_loss(self.user(batch.users), batch.targets, batch, self.item, self.temperature)
