"""The common base of two-tower models: the features of each tower, and the content of a training batch.

A two-tower model gives users and items vectors of the same width; their inner product is the score in training, in the
index and in serving. A model whose similarity is the cosine normalises inside its towers; one with biases keeps them
in the vectors.

The input of a tower is `Encoded.indices` of its own schema; of a tower with numbers, `Encoded.numeric` and then these,
as float64, which holds every index exactly. A token is an item's position in the schema's vocabulary of
V items, from 1; 0 is padding and an unknown item.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_assets.datasets.names import HISTORY
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.axes import Axis, Block


@dataclass(frozen=True)
class Negatives:
    """Negative samples of a batch: C drawn items, which all its rows share.

    Attributes:
        tokens: (C,) tokens of the items; they may repeat.
        log_q: (V + 1,) by token, the log of its expected number among the C, which `sampled_softmax` subtracts.
    """

    tokens: Tensor
    log_q: Tensor


@dataclass(frozen=True)
class Batch:
    """B training rows.

    Attributes:
        users: (B, user columns) indices of the user tower's features, with the history last; it may be cut to the
            longest history of the batch.
        targets: next tokens: (B,) after the history, or if `sequential` (B, T) after each of T places; 0 is none.
        labels: the same shape, 1.0 for a positive and 0.0 for a negative.
        catalogue: (V, item columns) indices of every item of the vocabulary; row t - 1 is the item of token t.
        negatives: the sampled negatives; None if the whole catalogue is used.
    """

    users: Tensor
    targets: Tensor
    labels: Tensor
    catalogue: Tensor
    negatives: Negatives | None = None

    @property
    def size(self) -> int:
        """The number of targets."""
        return int((self.targets > 0).sum())


class TwoTower(nn.Module, ABC):
    """A user tower and an item tower over the sparse features of a schema.

    Attributes:
        token_rows: what the rows of a table of tokens stand for.
        sequential: whether a training row is a window of a history with a target at each place (True), or one
            event with the history before it.
        labelled: whether it learns labels, from positives and negatives, and not the next touched item.
        cold: whether it gives vectors to items that its vocabulary lacks, from their columns, numbers among them.
    """

    sequential = False
    labelled = False
    cold = False

    def __init__(self, schema: FeatureSchema, history: int) -> None:
        super().__init__()
        self.user_schema, self.item_schema = tower_schemas(schema, history, numbers=self.cold)
        self.history = history
        self.item_count = len(_item_id(schema).vocabulary)
        self.token_rows: Axis = (Block(1), Block(self.item_count, _item_id(schema).keys))

    @abstractmethod
    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, D) of users, from their features' indices (N, user columns)."""

    @abstractmethod
    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, D) of items, from their features' indices (N, item columns)."""

    @abstractmethod
    def loss(self, batch: Batch) -> Tensor:
        """Mean loss of a batch, a scalar."""

    def take_preferences(self, _: Tensor) -> None:
        """Take vectors of items (V + 1, D) by token, which another model learned.

        Raises:
            TypeError: the model takes none.
            ConfigError: its settings want vectors of another width, or none.
        """
        raise TypeError(f"{type(self).__name__} takes no preference vectors")

    def past(self, indices: Tensor) -> Tensor:
        """Tokens (N, T) of the histories, oldest first, from indices of the user tower; row `first` is token 1."""
        first = self.user_schema.first_row[HISTORY]
        start = self.user_schema.floats + self.user_schema.columns[HISTORY].start
        return (indices[:, start:].long() - (first - 1)).clamp(min=0)

    def token(self, indices: Tensor) -> Tensor:
        """Tokens (N,) of items, from indices of the item tower, whose first row of `item_id` is the unknown item."""
        place = self.item_schema.floats + self.item_schema.columns["item_id"].start
        return indices[:, place].long() - self.item_schema.first_row["item_id"]


def tower_schemas(schema: FeatureSchema, history: int, *, numbers: bool = False) -> tuple[FeatureSchema, FeatureSchema]:
    """The features of the user tower and of the item tower: those of their side that are not numeric.

    Statistics are left out: they change with every event, and a vector must be valid for the whole day. With `numbers`
    the towers take the numeric columns of the tables too. The user tower also takes the newest `history` items, as a
    feature `history` with the vocabulary of `item_id`.
    """
    item_id = _item_id(schema)
    past = Feature(HISTORY, "multi_valued", "user", item_id.type, "id", item_id.vocabulary, length=history)
    taken = [*schema.sparse, *(schema.fixed_numbers if numbers else [])]
    sides = {side: [f for f in taken if f.side == side] for side in ("user", "item")}
    return FeatureSchema([*sides["user"], past]), FeatureSchema(sides["item"])


def mean_of(vectors: Tensor, tokens: Tensor) -> Tensor:
    """(N, D) means of vectors (N, T, D) over the places whose token (N, T) is not 0; zeros if there are none.

    The vectors of the other places must be zeros, as a `Table` gives them.
    """
    return vectors.sum(1) / (tokens > 0).sum(1, keepdim=True).clamp(min=1)


def newest_of(values: Tensor, tokens: Tensor) -> Tensor:
    """(N, …) values (N, T, …) at the last place whose token (N, T) is not 0; at the first place if all are 0."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    last = (places * (tokens > 0)).amax(1).view(-1, *[1] * (values.dim() - 1))
    return values.gather(1, last.expand(-1, 1, *values.shape[2:])).squeeze(1)


def _item_id(schema: FeatureSchema) -> Feature:
    return next(feature for feature in schema.features if feature.name == "item_id")
