"""SASRec with cross-entropy: a causal transformer over the history (Kang & McAuley 2018; Klenitskiy & Vasilev 2023).

The user's vector is the transformer's output at the newest item, the item's vector its embedding. Each place of
a history is a training row, whose target is the next item, against the whole catalogue or a sample of it.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.config import ConfigError, Count, Dropped
from recsys_assets.models.layers import Dropout, Table, bfloat16_in_training
from recsys_assets.models.losses import softmax_loss
from recsys_assets.models.towers import Batch, TwoTower, newest_of


@dataclass(frozen=True)
class SasRecConfig:
    """Hyper-parameters of the network."""

    width: Count = 128  # width of all vectors
    history: Count = 200  # newest items that are read
    blocks: Count = 2
    heads: Count = 4
    dropout: Dropped = 0.2

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(
                f"width {self.width} is not a multiple of heads {self.heads}: all heads have the same width"
            )


# Widths that 2 and 4 attention heads divide evenly.
SPACE = {
    "num_experiment": 12,
    "hyper_param": {
        "width": [64, 128, 192],
        "history": [50, 100, 200],
        "blocks": [1, 2, 3],
        "heads": [2, 4],
        "dropout": {"low": 0.1, "high": 0.5},
        "batch": [8, 16, 32],
        "learning_rate": {"low": 0.0005, "high": 0.005, "log": True},
    },
}


class SasRec(TwoTower):
    """Inner product of the transformer's output and the item's embedding."""

    sequential = True

    def __init__(self, schema: FeatureSchema, config: SasRecConfig) -> None:
        super().__init__(schema, config.history)
        self.items = Table(self.token_rows, config.width, std=0.02)
        self.places = nn.Parameter(torch.randn(config.history, config.width) * 0.02)  # oldest item first
        self.drop = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config.width, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)

    def embed(self, past: Tensor) -> Tensor:
        """Vectors (N, T, width) of histories before the blocks: tokens (N, T), without gaps before the padding."""
        embedded: Tensor = self.drop(self.items(past) + self.places[: past.shape[1]])
        return embedded

    def read(self, past: Tensor) -> Tensor:
        """Vectors (N, T, width) at each place of histories."""
        x = self.embed(past)
        with bfloat16_in_training(self, x):
            for block in self.blocks:
                x = block(x)
        vectors: Tensor = self.norm(x.float())
        return vectors

    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) at the newest item; all empty histories have the same vector."""
        past = self.past(indices)
        *blocks, last = cast(list[Block], list(self.blocks))
        x = self.embed(past)
        for block in blocks:
            x = block(x)
        vectors: Tensor = self.norm(last.newest(x, past))
        return vectors

    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, width); zeros for an unknown item."""
        vectors: Tensor = self.items(self.token(indices))
        return vectors

    def loss(self, batch: Batch) -> Tensor:
        """Softmax cross-entropy of the next item at each place."""
        wanted = batch.targets > 0
        vectors = self.read(self.past(batch.users))[wanted]
        return softmax_loss(vectors, batch.targets[wanted], batch, self.item)


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each on normalised input and added to it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mixing = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.mix = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, width) to (N, T, width); no place sees a later one."""
        return self._mixed(x + self.drop(self._attention(self.before_attention(x))))

    def newest(self, x: Tensor, tokens: Tensor) -> Tensor:
        """(N, T, width) to (N, width): `forward` at the newest place alone, which is all that a user's vector needs.

        Two blocks over 200 places take half the time, because the last one then only projects keys and values.
        """
        seen, (_, count, width) = self.before_attention(x), x.shape
        places, each = torch.arange(count, device=x.device), width // self.heads
        later = places > newest_of(places.expand_as(tokens), tokens)[:, None]  # (N, T)
        query = functional.linear(newest_of(seen, tokens), self.attend.weight[:width], self.attend.bias[:width])
        pairs = functional.linear(seen, self.attend.weight[width:], self.attend.bias[width:])
        key, value = pairs.view(-1, count, 2, self.heads, each).unbind(2)  # (N, T, heads, width of a head)
        scores = torch.einsum("nhd,nthd->nht", query.view(-1, self.heads, each), key) * each**-0.5
        shares = scores.masked_fill(later[:, None], -1e4).softmax(-1)
        joined = self.joined(torch.einsum("nht,nthd->nhd", shares, value).flatten(1))
        return self._mixed(newest_of(x, tokens) + self.drop(joined))

    def _mixed(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.drop(self.mix(self.before_mixing(x)))
        return x + mixed

    def _attention(self, x: Tensor) -> Tensor:
        """Attention of each place to itself and those before it, (N, T, width) to (N, T, width).

        It is written out in training: with 200 places in bfloat16 that takes half the time of torch's function, which
        in float32 and without gradients takes a third of the time of the written one.
        """
        rows, places, width = x.shape
        query, key, value = self.attend(x).view(rows, places, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if self.training:
            scores = (query * (width // self.heads) ** -0.5) @ key.transpose(-1, -2)  # (N, heads, T, T)
            later = torch.full((places, places), -1e4, dtype=scores.dtype, device=x.device).triu(1)
            read = scores.add_(later).softmax(-1) @ value
        else:
            read = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        joined: Tensor = self.joined(read.transpose(1, 2).reshape(rows, places, width))
        return joined
