"""SimpleX (Mao et al. 2021): a user vector and the mean of the history, under the cosine contrastive loss."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import rows_of_values
from recsys_assets.models.config import Count, NotNegative, Share
from recsys_assets.models.layers import Table
from recsys_assets.models.losses import margin_loss
from recsys_assets.models.towers import Batch, TwoTower, mean_of


@dataclass(frozen=True)
class SimplexConfig:
    """Hyper-parameters of the network and its loss."""

    width: Count = 64  # width of all vectors
    history: Count = 10  # newest items that the user tower takes the mean of
    user_share: Share = 0.5  # g: weight of the user's own vector; the history's is 1 - g
    margin: Annotated[float, Field(ge=-1, le=1)] = 0.4  # m: a negative whose cosine is below it costs nothing
    negative_weight: NotNegative = 10.0  # w: weight of the mean over the negatives; the positive's is 1


SPACE = {
    "hyper_param": {
        "width": [32, 64, 128],
        "history": {"low": 5, "high": 50, "log": True},
        "user_share": {"low": 0.2, "high": 0.9},
        "margin": {"low": 0.0, "high": 0.9},
        "negative_weight": {"low": 1.0, "high": 100.0, "log": True},
        "learning_rate": {"low": 0.001, "high": 0.01, "log": True},
    },
}


class Simplex(TwoTower):
    """Cosine of the two towers' vectors, as the inner product of vectors of length 1."""

    def __init__(self, schema: FeatureSchema, config: SimplexConfig) -> None:
        super().__init__(schema, config.history)
        self.config = config
        self.place = self.user_schema.columns["user_id"].start
        self.users = Table(rows_of_values(self.user_schema.sparse), config.width, std=0.1)
        self.items = Table(self.token_rows, config.width, std=0.1)
        self.mix = nn.Linear(config.width, config.width, bias=False)

    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) of length 1."""
        past = self.past(indices)
        of_history = self.mix(mean_of(self.items(past), past))
        share = self.config.user_share
        return nn.functional.normalize(share * self.users(indices[:, self.place]) + (1 - share) * of_history, dim=1)

    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) of length 1; zeros for an unknown item."""
        return nn.functional.normalize(self.items(self.token(indices)), dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """1 - cosine of the positive, plus w times the mean by which negatives exceed the margin."""
        users, items = self.user(batch.users), self.item(batch.catalogue)
        positive = (users * items[batch.targets - 1]).sum(1)
        tokens = batch.negatives.tokens if batch.negatives else torch.arange(1, len(items) + 1, device=items.device)
        above = margin_loss(users, items[tokens - 1], batch.targets[:, None] == tokens, self.config.margin)
        return (1 - positive).mean() + self.config.negative_weight * above
