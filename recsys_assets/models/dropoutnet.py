"""DropoutNet (Volkovs et al. 2017; EasyRec): a content part and a preference part per side, trained with dropped rows.

The preference part is what was learned from events: vectors of the item, of the user, and of the user's history. In
training it is dropped, as a whole, from a share of the rows, so that content alone suffices for what is new. At serving
a cold item is one that the vocabulary lacks, and a cold user one that it lacks and that has no history: their
preference part is absent. Content is never dropped.

EasyRec scales the rows that keep their preference part by 1 / (1 - rate), which serving never sees; here they stay as
they are, as in the paper.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize, softplus

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Block, as_axis, size_of
from recsys_assets.models.config import ConfigError, Count, NotNegative, Positive, Share
from recsys_assets.models.layers import Embed, Hidden, Mlp, Table
from recsys_assets.models.losses import are_in, mined_softmax, softmax_loss
from recsys_assets.models.numbers import Numbers
from recsys_assets.models.towers import Batch, TwoTower, mean_of, newest_of

Loss = Literal["softmax", "classification", "pairwise", "match"]
GROUP = "side"  # of the features that are content


@dataclass(frozen=True)
class DropoutNetConfig:
    """Hyper-parameters of the network and its losses.

    `losses`, which are added up: `softmax` contrasts a positive with the negatives that the training draws, or with the
    whole catalogue; `classification` (cross-entropy of the scaled cosine) and `pairwise` (softplus of differences) are
    EasyRec's and learn labels; `match` is the paper's, the squared difference from the scores that the vectors of
    `preferences` give.
    """

    width: Count = 64  # width of the vectors that are served
    embedding: Count = 32  # width of every content embedding
    preference: Count = 64  # width of the preference vectors
    content: Count = 128  # width of the layer on top of the content
    hidden: Count = 128  # widths of the layers on top of the preference part and of both parts
    history: Count = 50  # newest items that the user tower takes the mean of
    user_dropout: Share = 0.5  # share of users whose preference part is dropped
    item_dropout: Share = 0.5  # share of items whose preference part is dropped
    losses: tuple[Loss, ...] = ("softmax",)
    temperature: Positive = 0.05  # cosines are divided by it
    margin: NotNegative = 0.0  # that the cosine of a positive is lowered by, against sampled negatives
    hard: Positive = 1.0  # t of Support Vector Guided Softmax: above 1, sampled negatives above the positive weigh more
    preferences: str = ""  # the model whose `emb_<model>_item` are the items' vectors; empty: they are learned

    def __post_init__(self) -> None:
        if not self.losses:
            raise ValueError("losses is empty: name at least one")
        if "match" in self.losses and not self.preferences:
            raise ValueError("losses: match needs `preferences`, the model whose scores are to be matched")


SPACE = {
    "hyper_param": {
        "width": [32, 64, 128],
        "embedding": [16, 32, 64],
        "hidden": [64, 128, 256],
        "user_dropout": {"low": 0.1, "high": 0.9},
        "item_dropout": {"low": 0.1, "high": 0.9},
        "temperature": {"low": 0.02, "high": 0.2, "log": True},
        "learning_rate": {"low": 0.0003, "high": 0.003, "log": True},
    },
}


class DropoutNet(TwoTower):
    """Cosine of the two towers' vectors, as the inner product of vectors of length 1."""

    cold = True

    def __init__(self, schema: FeatureSchema, config: DropoutNetConfig) -> None:
        super().__init__(schema, config.history)
        self.config = config
        self.labelled = bool({"classification", "pairwise"} & set(config.losses))
        place = self.user_schema.columns["user_id"].start
        self.user_place = self.user_schema.floats + place
        self.user_rows = self.user_schema.first_row["user_id"]
        users = next(f for f in self.user_schema.features if f.name == "user_id")
        self.items = Table(self.token_rows, config.preference, std=0.05)
        self.items.weight.requires_grad_(not config.preferences)
        self.users = Table((Block(1), Block(len(users.vocabulary), users.keys)), config.preference, std=0.05)
        self.user_side = Side(self.user_schema, config, 3 * config.preference, config.user_dropout)
        self.item_side = Side(self.item_schema, config, config.preference, config.item_dropout)

    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) of length 1."""
        past, number = self.past(indices), indices[:, self.user_place].long() - self.user_rows
        vectors = self.items(past)
        history = [mean_of(vectors, past), newest_of(vectors, past)]
        found: Tensor = self.user_side(indices, torch.cat([self.users(number), *history], 1))
        return found

    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) of length 1; from content alone for an item that the vocabulary lacks."""
        found: Tensor = self.item_side(indices, self.items(self.token(indices)))
        return found

    def take_preferences(self, vectors: Tensor) -> None:
        """Take the vectors of items; see the base class. They stay as they are."""
        if not self.config.preferences:
            raise ConfigError("dropoutnet: model.preferences is empty, so the vectors of items are learned")
        width = self.config.preference
        if vectors.shape[1] != width:
            raise ConfigError(f"dropoutnet: model.preference = {width}: given vectors have {vectors.shape[1]} numbers")
        self.items.weight.data.copy_(vectors)

    def loss(self, batch: Batch) -> Tensor:
        """The sum of the losses of the config."""
        users = self.user(batch.users)
        parts = {"softmax": self._softmax, "match": self._match}
        total = sum((parts[name](users, batch) for name in self.config.losses if name in parts), users.new_zeros(()))
        if self.labelled:
            total = total + self._labels(users, batch)
        return total

    def _softmax(self, users: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of the positives among the catalogue or the sampled negatives, without false ones."""
        liked = batch.labels > 0
        if not bool(liked.any()):
            return users.sum() * 0
        users, targets = users[liked], batch.targets[liked]
        if batch.negatives is None:
            return softmax_loss(users, targets, batch, self.item, self.config.temperature)
        positive = (users * self.item(batch.catalogue[targets - 1])).sum(1)
        others = users @ self.item(batch.catalogue[batch.negatives.tokens - 1]).T
        others = others.masked_fill(are_in(batch.negatives.tokens, self.past(batch.users)[liked]), -torch.inf)
        config = self.config
        return mined_softmax(positive, others, targets, batch.negatives, config.temperature, config.margin, config.hard)

    def _labels(self, users: Tensor, batch: Batch) -> Tensor:
        """EasyRec's losses on the labels, of the cosine divided by the temperature."""
        logits = (users * self.item(batch.catalogue[batch.targets - 1])).sum(1) / self.config.temperature
        total = logits.new_zeros(())
        if "classification" in self.config.losses:
            total = total + binary_cross_entropy_with_logits(logits, batch.labels)
        if "pairwise" in self.config.losses:
            better = batch.labels[:, None] > batch.labels
            costs = softplus(logits - logits[:, None]) * better
            total = total + costs.sum() / better.sum().clamp(min=1)
        return total

    def _match(self, users: Tensor, batch: Batch) -> Tensor:
        """Mean squared difference from the preference scores, of each user and the items of the batch's targets.

        A preference score is the inner product of an item's vector with the mean vector of the history.
        """
        rows = batch.catalogue[batch.targets - 1]
        past = self.past(batch.users)
        wanted = mean_of(self.items(past), past) @ self.items(batch.targets).T
        found = users @ self.item(rows).T / self.config.temperature
        cost: Tensor = (found - wanted).square().mean()
        return cost


class Side(nn.Module):
    """One tower on top of a side's content and its preference vectors."""

    def __init__(self, schema: FeatureSchema, config: DropoutNetConfig, preference: int, rate: float) -> None:
        super().__init__()
        self.rate, self.floats = rate, schema.floats
        self.sparse = Embed(schema, config.embedding, GROUP) if _has_content(schema) else None
        self.numbers = Numbers(schema) if schema.floats else None
        taken = (*as_axis(self.sparse.width if self.sparse else 0), *(self.numbers.axis if self.numbers else ()))
        has_content = size_of(taken) > 0
        self.content = Hidden(taken, (config.content,)) if has_content else None
        self.preference = Hidden(preference, (config.hidden,))
        self.both = Mlp(config.hidden + (config.content if has_content else 0), (config.hidden,), config.width)

    def forward(self, indices: Tensor, preference: Tensor) -> Tensor:
        """Vectors (N, width) of length 1, from the tower's input (N, columns) and preference vectors (N, P)."""
        if self.training and self.rate:
            preference = preference * (torch.rand(len(preference), 1, device=preference.device) >= self.rate)
        parts = [self.preference(preference)]
        if self.content:
            content = [self.sparse(indices[:, self.floats :].long())] if self.sparse else []
            content += [self.numbers(indices[:, : self.floats].float())] if self.numbers else []
            parts.append(self.content(torch.cat(content, 1)))
        return normalize(self.both(torch.cat(parts, 1)), dim=1)


def _has_content(schema: FeatureSchema) -> bool:
    """Whether a side has categorical or multi-valued content."""
    return any(feature.group == GROUP for feature in schema.sparse)
