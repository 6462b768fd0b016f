"""FINAL: layers whose outputs contain products of their inputs, so that each layer doubles the order (Zhu et al. 2023).

Three definitions have this name; `definition` picks the layer. With a, b, c linear maps of the layer's input:

* fuxictr (FuxiCTR's FinalNet, behind the published figures): [a, a * b] (`residual` concat, with as many parameters
  as a plain linear layer) or a + a * b (sum), then batch normalisation.
* paper: a + a * sigmoid(b).
* mindspore: a * (1 + tanh(b)) * (1 + tanh(c)).

With a second branch, the logit is the mean of the two, and each branch also learns the mean's probability, which is
held constant.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Axis, Block, columns_of_floats
from recsys_assets.models.config import ConfigError, Count, Dropped
from recsys_assets.models.layers import (
    DropIds,
    Dropout,
    Embed,
    NamedLinear,
    Normalise,
    OwnTerms,
    bfloat16_in_training,
)

Definition = Literal["fuxictr", "paper", "mindspore"]
Residual = Literal["concat", "sum"]


@dataclass(frozen=True)
class FinalConfig:
    """Hyper-parameters of the network.

    Validation AUC on MovieLens 1M: 0.8252 with dropout and gating, 0.8230 with neither.
    """

    embedding: Count = 16  # width of every embedding
    branch1: Annotated[tuple[Count, ...], Field(min_length=1)] = (256, 128)  # widths of the first branch's layers
    branch2: tuple[Count, ...] = (256, 128)  # widths of the second branch's layers; empty: no second branch
    dropout1: Dropped | tuple[Dropped, ...] = 0.2  # share dropped in the first branch: of all layers, or of each
    dropout2: Dropped | tuple[Dropped, ...] = 0.2  # share dropped in the second branch
    definition: Definition = "fuxictr"
    residual: Residual = "concat"  # for the definition fuxictr
    relu: bool = False  # ReLU after each layer of the definition fuxictr, as in its published runs
    gating: bool = True  # the first branch also takes the embeddings times gates, a linear map over the fields
    id_dropout: Dropped = 0.1  # share of ids shown as unknown in training, so that new users and items score well

    def __post_init__(self) -> None:
        if self.definition not in get_args(Definition) or self.residual not in get_args(Residual):
            known = f"definition of {get_args(Definition)}, residual of {get_args(Residual)}"
            raise ConfigError(f"FINAL has {known}: no '{self.definition}' with '{self.residual}'")
        for widths, shares in ((self.branch1, self.dropout1), (self.branch2, self.dropout2)):
            if isinstance(shares, tuple) and len(shares) != len(widths):
                raise ConfigError(f"dropout {shares} does not have one share for each of the layers {widths}")
            if self.definition == "fuxictr" and self.residual == "concat" and any(width % 2 for width in widths):
                raise ConfigError(f"layers {widths}: residual 'concat' halves a layer, so its width must be even")


SPACE = {
    "hyper_param": {
        "embedding": [8, 16, 32],
        "branch1": [[128, 64], [256, 128], [256, 128, 64]],
        "branch2": [[], [128], [256, 128]],
        "relu": [True, False],
        "id_dropout": {"low": 0.0, "high": 0.3},
        "batch": [2048, 4096, 8192],
        "learning_rate": {"low": 0.001, "high": 0.01, "log": True},
        "l2": {"low": 3e-06, "high": 0.0003, "log": True},
    },
}


class Final(nn.Module):
    """Logits (N,) of indices (N, K) and numeric (N, F); in training (N, 2) if it has two branches."""

    def __init__(self, schema: FeatureSchema, config: FinalConfig) -> None:
        super().__init__()
        self.drop_ids = DropIds(schema, config.id_dropout)
        self.normalise = Normalise(schema)
        self.own_terms = OwnTerms(schema)
        self.embed = Embed(schema, config.embedding, std=1e-4)
        self.gate = Gate(len(schema.sparse)) if config.gating else None
        taken = (Block(self.embed.width), *columns_of_floats(schema), Block(self.own_terms.width))
        gated = (*taken, Block(self.embed.width)) if config.gating else taken
        self.branches = nn.ModuleList([Branch(gated, config.branch1, config.dropout1, config)])
        if config.branch2:
            self.branches.append(Branch(taken, config.branch2, config.dropout2, config))

    def forward(self, indices: Tensor, numeric: Tensor) -> Tensor:
        """Logits (N,); in training, those of both branches (N, 2) if there are two."""
        indices = self.drop_ids(indices)
        numbers = self.normalise(numeric)
        embedded = self.embed(indices)
        plain = torch.cat([embedded, numbers, self.own_terms(indices, numbers)], 1)
        gated = torch.cat([plain, self.gate(embedded)], 1) if self.gate else plain
        inputs = [gated, plain]
        logits = torch.cat([branch(x) for branch, x in zip(self.branches, inputs, strict=False)], 1)
        return logits if self.training and len(self.branches) > 1 else logits.mean(1)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Log loss of the labels (N,); with two branches, plus that of each branch against the mean's probability."""
        log_loss = nn.functional.binary_cross_entropy_with_logits
        if logits.dim() == 1:
            return log_loss(logits, labels)
        together = logits.mean(1)
        teacher = torch.sigmoid(together.detach()).unsqueeze(1).expand_as(logits)
        return log_loss(together, labels) + logits.shape[1] * log_loss(logits, teacher)  # a sum over the branches


class Gate(nn.Module):
    """(N, fields x width) embeddings times gates, which a linear map over the fields gives; all gates start at 1."""

    def __init__(self, fields: int) -> None:
        super().__init__()
        self.fields = fields
        self.linear = nn.Linear(fields, fields)
        nn.init.zeros_(self.linear.weight)
        nn.init.ones_(self.linear.bias)

    def forward(self, embedded: Tensor) -> Tensor:
        """Gated embeddings, of the same shape."""
        vectors = embedded.view(-1, self.fields, embedded.shape[1] // self.fields)
        gates: Tensor = self.linear(vectors.transpose(1, 2)).transpose(1, 2)
        return (vectors * gates).flatten(1)


class Branch(nn.Module):
    """(N, taken) floats to logits (N, 1): factorised interaction layers and one linear layer.

    In training the layers multiply in bfloat16 where that is fast, as in `Mlp`.
    """

    def __init__(
        self, taken: int | Axis, widths: tuple[int, ...], dropout: float | tuple[float, ...], config: FinalConfig
    ) -> None:
        super().__init__()
        shares = dropout if isinstance(dropout, tuple) else (dropout,) * len(widths)
        inputs: list[int | Axis] = [taken, *widths[:-1]]
        ends = zip(inputs, widths, shares, strict=True)
        self.layers = nn.ModuleList(Interaction(a, b, config, share) for a, b, share in ends)
        self.last = nn.Linear(widths[-1], 1)
        nn.init.xavier_normal_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 1)."""
        with bfloat16_in_training(self, x):
            for layer in self.layers:
                x = layer(x)
        with torch.autocast(x.device.type, enabled=False):
            logits: Tensor = self.last(x.float())
        return logits


class _WithProduct(torch.autograd.Function):
    """(N, 2 width) floats [a, b] to [a, a * b]: with its gradient, two thirds of the time of a concatenation."""

    @staticmethod
    def forward(ctx: Any, mapped: Tensor) -> Tensor:
        ctx.save_for_backward(mapped)
        (a, b), found = mapped.chunk(2, 1), torch.empty_like(mapped)
        first, second = found.chunk(2, 1)
        first.copy_(a)
        torch.mul(a, b, out=second)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (mapped,), found = ctx.saved_tensors, torch.empty_like(gradients[0])
        (a, b), (of_a, of_product) = mapped.chunk(2, 1), gradients[0].chunk(2, 1)
        first, second = found.chunk(2, 1)
        torch.addcmul(of_a, of_product, b, out=first)
        torch.mul(of_product, a, out=second)
        return found


class Interaction(nn.Module):
    """(N, taken) floats to (N, given), which include products of linear maps."""

    def __init__(self, taken: int | Axis, given: int, config: FinalConfig, dropout: float) -> None:
        super().__init__()
        self.kind = config.residual if config.definition == "fuxictr" else config.definition
        maps = {"concat": given, "sum": 2 * given, "paper": 2 * given, "mindspore": 3 * given}
        self.linear = NamedLinear(taken, maps[self.kind])
        nn.init.xavier_normal_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        after = [nn.BatchNorm1d(given), *([nn.ReLU()] * config.relu)] if config.definition == "fuxictr" else []
        self.after = nn.Sequential(*after, Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Floats (N, given)."""
        mapped = self.linear(x)
        a, b, *more = mapped.chunk(3 if self.kind == "mindspore" else 2, 1)
        if self.kind == "concat":
            x = _WithProduct.apply(mapped) if self.training else torch.cat([a, a * b], 1)  # type: ignore[no-untyped-call]
        elif self.kind == "sum":
            x = a + a * b
        elif self.kind == "paper":
            x = a + a * torch.sigmoid(b)
        else:
            x = a * (1 + torch.tanh(b)) * (1 + torch.tanh(more[0]))
        after: Tensor = self.after(x)
        return after
