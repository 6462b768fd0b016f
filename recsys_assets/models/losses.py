"""Losses of two-tower models: softmax over the whole catalogue or a sample of it, and the margin of SimpleX."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recsys_assets.arrays import slices
from recsys_assets.bfloat16 import bfloat16_is_fast
from recsys_assets.models.towers import Batch, Negatives

# Takes the scores (chunk, C) of the rows `part`, which it may change; gives their summed cost and its gradient.
Costs = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
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
        kind = torch.bfloat16 if bfloat16_is_fast(vectors.device) else vectors.dtype
        items, costs = item(batch.catalogue), _costs_of_softmax(targets - 1)
        total: Tensor = _SumOfCosts.apply(vectors, items, kind, costs)  # type: ignore[no-untyped-call]
        return total / len(vectors)
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


def mined_softmax(
    positive: Tensor,
    others: Tensor,
    targets: Tensor,
    negatives: Negatives,
    temperature: float,
    margin: float = 0.0,
    hard: float = 1.0,
) -> Tensor:
    """`sampled_softmax` of cosines that emphasises hard negatives (Wang et al. 2018, arXiv 1812.11317; EasyRec).

    Args:
        positive: (N,) cosines of the positives.
        others: (N, C) cosines of the sampled negatives; -inf for those that are false.
        targets: (N,) tokens of the positives.
        negatives: the C sampled items.
        temperature: cosines are divided by it.
        margin: the cosine of a positive is lowered by it.
        hard: t; a negative s above the lowered positive, a support vector, counts as t s + t - 1.
    """
    positive = positive - margin
    if hard != 1.0:
        others = torch.where(others > positive[:, None], hard * others + (hard - 1), others)
    return sampled_softmax(positive / temperature, others / temperature, targets, negatives)


def are_in(tokens: Tensor, histories: Tensor) -> Tensor:
    """(N, C) whether each of the tokens (C,) is in each of the histories (N, T), padded with 0.

    The memory is that of the result: comparing each with each would take T times as much.
    """
    known, place = torch.unique(tokens, return_inverse=True)
    found = torch.searchsorted(known, histories).clamp(max=len(known) - 1)
    marked = torch.zeros(len(histories), len(known) + 1, dtype=torch.bool, device=tokens.device)
    marked.scatter_(1, torch.where(known[found] == histories, found, len(known)), True)
    return marked[:, place]


def margin_loss(vectors: Tensor, negatives: Tensor, own: Tensor, margin: float) -> Tensor:
    """Mean amount by which the cosines of users and negatives exceed a margin (Mao et al. 2021), a scalar.

    Args:
        vectors: (N, D) vectors of users, of length 1.
        negatives: (C, D) vectors of the negatives, of length 1.
        own: (N, C) where a negative is the row's own target, which costs nothing.
        margin: the cosine above which a negative costs something.
    """
    costs = _costs_of_margin(own, margin)
    total: Tensor = _SumOfCosts.apply(vectors, negatives, vectors.dtype, costs)  # type: ignore[no-untyped-call]
    return total / own.numel()


def _costs_of_softmax(targets: Tensor) -> Costs:
    """The costs of `softmax_loss`: targets (N,) are columns of the scores."""

    def costs(scores: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        shares, places = scores.softmax(1), (torch.arange(len(scores), device=scores.device), targets[part])
        right = shares[places]
        shares[places] = right - 1  # 9 us for 512 rows of 3,500; `scatter_` copies all shares, which takes 240 us
        return -right.float().clamp(min=1e-30).log().sum(), shares

    return costs


def _costs_of_margin(own: Tensor, margin: float) -> Costs:
    """The costs of `margin_loss`."""

    def costs(scores: Tensor, part: slice) -> tuple[Tensor, Tensor]:
        above = scores.sub_(margin).masked_fill_(own[part], 0.0).clamp_(min=0.0)
        return above.sum(), above.sign_()

    return costs


class _SumOfCosts(torch.autograd.Function):
    """The sum of what the scores vectors (N, D) @ items (C, D)^T cost, multiplied in the type `kind`.

    The gradients are computed with the loss, chunk by chunk, so that the (N, C) scores are never held in full and stay
    in the cache: a softmax over 12,800 places and 3,706 items takes half the time and a tenth of the memory of the
    plain form.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, items: Tensor, kind: torch.dtype, costs: Costs) -> Tensor:
        rows, table = vectors.to(kind), items.to(kind)
        to_rows, to_table = torch.empty_like(rows), torch.zeros_like(items)
        total = torch.zeros((), device=rows.device)
        for part in slices(len(rows), _CHUNK):
            cost, slopes = costs(rows[part] @ table.T, part)
            total += cost
            to_rows[part] = slopes @ table
            to_table += slopes.T @ rows[part]
        ctx.save_for_backward(to_rows.to(vectors.dtype), to_table)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_rows, to_table = ctx.saved_tensors
        return to_rows * gradients[0], to_table * gradients[0], None, None
