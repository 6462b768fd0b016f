"""DIN-like ranker: attention from the candidate to the items that the user liked and disliked recently (Zhou 2018).

It has the parts of Wide & Deep, and also reads the sequences of the schema. The items of a sequence are weighted by
their closeness to the candidate; the weighted mean, and its product with the candidate, are further inputs of the deep
part. Two lists, of liked and of disliked items, replace DIN's list of clicks: dislikes are as informative as likes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.widedeep import SPACE as WIDE_DEEP_SPACE
from recsys_assets.models.widedeep import WideDeep, WideDeepConfig


@dataclass(frozen=True)
class DinConfig(WideDeepConfig):
    """Hyper-parameters of the network: those of Wide & Deep."""


SPACE = WIDE_DEEP_SPACE


class Attention(nn.Module):
    """(N, 2 width) for a sequence: the mean of its vectors, weighted by closeness to a query, and mean times query.

    The query may attend to nothing: one more place, with a zero vector, has a learned bias as its closeness.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.closeness = nn.Linear(width, width, bias=False)
        self.nothing = nn.Parameter(torch.zeros(()))

    def forward(self, query: Tensor, vectors: Tensor, there: Tensor) -> Tensor:
        """Attend from queries (N, width) to vectors (N, L, width); `there` (N, L) marks those that are not padding."""
        scores = torch.einsum("nw,nlw->nl", self.closeness(query), vectors)
        scores = torch.where(there, scores, float("-inf"))
        weights = torch.cat([scores, self.nothing.expand(query.shape[0], 1)], 1).softmax(1)[:, :-1]
        mean = torch.einsum("nl,nlw->nw", weights, vectors)
        return torch.cat([mean, mean * query], 1)


class Din(WideDeep):
    """Logits (N,) of indices (N, K) and numeric (N, F), the `Encoded` tensors of N rows."""

    def __init__(self, schema: FeatureSchema, config: DinConfig) -> None:
        sets, sequences = schema.without_sequences(), schema.of_kind("sequence")
        super().__init__(sets, config, more=2 * config.embedding * len(sequences))
        self.sets = sets.index_columns
        self.places = [(schema.columns[f.name], schema.columns[f.values_of].start) for f in sequences]
        self.attend = nn.ModuleList(Attention(config.embedding) for _ in sequences)

    def forward(self, indices: Tensor, numeric: Tensor, *more: Tensor) -> Tensor:
        """Logits (N,)."""
        attended = [
            attend(self.embed.table(indices[:, query]), self.embed.table(indices[:, place]), indices[:, place] > 0)
            for attend, (place, query) in zip(self.attend, self.places, strict=True)
        ]
        return super().forward(indices[:, : self.sets], numeric, *attended, *more)
