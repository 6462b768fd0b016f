"""Losses of two-tower models: softmax over the whole catalogue or a sample of it, and the margin of SimpleX."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recsys_assets.bfloat16 import bfloat16_is_fast
from recsys_assets.models.towers import Batch, Negatives

_CHUNK = 512  # rows whose scores are held at once: 512 x 4,000 bfloat16 numbers are 4 MB, which fit in the cache


def softmax_loss(
    vectors: Tensor, targets: Tensor, batch: Batch, item: Callable[[Tensor], Tensor], temperature: float = 1.0
) -> Tensor:
    """Mean cross-entropy of the targets among the catalogue, or among the batch's negatives.

    Args:
        vectors: (N, D) vectors of users at the moment of the query.
        targets: (N,) tokens of the items that they touched next, none of them 0.
        batch: gives the catalogue and the negatives.
        item: the item tower.
        temperature: scores are divided by it.
    """
    vectors = vectors / temperature
    if batch.negatives is None:
        loss: Tensor = _FullSoftmax.apply(vectors, item(batch.catalogue), targets - 1)  # type: ignore[no-untyped-call]
        return loss
    positive = (vectors * item(batch.catalogue[targets - 1])).sum(1)
    others = vectors @ item(batch.catalogue[batch.negatives.tokens - 1]).T
    return sampled_softmax(positive, others, targets, batch.negatives)


def sampled_softmax(positive: Tensor, others: Tensor, targets: Tensor, negatives: Negatives) -> Tensor:
    """Mean cross-entropy of positives (N,) among sampled scores (N, C), with logQ correction for the sampling.

    Each score is lowered by the log of its item's expected number in the sample (Bengio & Senecal 2008; Yi et al.
    2019); without this, popular items are scored too low. A sample that is the row's own target is masked.
    """
    positive = positive - negatives.log_q[targets]
    others = others - negatives.log_q[negatives.tokens]
    others = others.masked_fill(targets[:, None] == negatives.tokens, -torch.inf)
    everything = torch.cat([positive[:, None], others], 1)
    return (everything.logsumexp(1) - positive).mean()


def margin_loss(vectors: Tensor, negatives: Tensor, own: Tensor, margin: float) -> Tensor:
    """Mean amount by which the cosines of users and negatives exceed a margin (Mao et al. 2021), a scalar.

    Args:
        vectors: (N, D) vectors of users, of length 1.
        negatives: (C, D) vectors of the negatives, of length 1.
        own: (N, C) where a negative is the row's own target, which costs nothing.
        margin: the cosine above which a negative costs something.
    """
    loss: Tensor = _Margin.apply(vectors, negatives, own, margin)  # type: ignore[no-untyped-call]
    return loss


class _Margin(torch.autograd.Function):
    """The loss of `margin_loss`, with the gradients computed chunk by chunk, so that scores stay in the cache."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, negatives: Tensor, own: Tensor, margin: float) -> Tensor:
        to_rows, to_negatives = torch.empty_like(vectors), torch.zeros_like(negatives)
        total = torch.zeros((), device=vectors.device)
        for first in range(0, len(vectors), _CHUNK):
            part = slice(first, first + _CHUNK)
            above = (vectors[part] @ negatives.T).sub_(margin).masked_fill_(own[part], 0.0).clamp_(min=0.0)
            total += above.sum()
            costs = above.sign_()  # (chunk, C) 1 where a negative costs something
            to_rows[part] = costs @ negatives
            to_negatives.addmm_(costs.T, vectors[part])
        ctx.save_for_backward(to_rows, to_negatives)
        return total / own.numel()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_rows, to_negatives = ctx.saved_tensors
        share = gradients[0] / (len(to_rows) * len(to_negatives))
        return to_rows * share, to_negatives * share, None, None


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy of targets (N,) under the scores vectors (N, D) @ items (V, D)^T.

    The gradients are computed with the loss, chunk by chunk, so that the (N, V) scores are never held in full:
    a step over 12,800 places and 3,706 items takes half the time and a tenth of the memory of the plain form.
    Scores are bfloat16 where that is fast.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, items: Tensor, targets: Tensor) -> Tensor:
        kind = torch.bfloat16 if bfloat16_is_fast(vectors.device) else vectors.dtype
        rows, table = vectors.to(kind), items.to(kind)
        to_rows, to_table = torch.empty_like(rows), torch.zeros_like(items)
        total = torch.zeros((), device=rows.device)
        for first in range(0, len(rows), _CHUNK):
            part = slice(first, first + _CHUNK)
            wanted = targets[part, None]
            shares = (rows[part] @ table.T).softmax(1)  # (chunk, V)
            right = shares.gather(1, wanted)
            total -= right.float().clamp(min=1e-30).log().sum()
            shares.scatter_(1, wanted, right - 1)
            to_rows[part] = shares @ table
            to_table += shares.T @ rows[part]
        ctx.save_for_backward(to_rows.to(vectors.dtype), to_table)
        return total / len(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        to_rows, to_table = ctx.saved_tensors
        share = gradients[0] / len(to_rows)
        return to_rows * share, to_table * share, None
