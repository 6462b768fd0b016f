"""The average of a model's weights over the steps of a training; this average is judged and kept."""

import copy
import math

import torch
from torch import Tensor, nn

from recsys_assets.models.layers import Table


class Average:
    """The average of the parameters over all steps, newer ones weighted more: polynomial decay (Shamir, Zhang 2013).

    Unlike a moving average of fixed width, it fits runs of any length, from tens of steps to many thousands.
    After step k it is mean + (w - mean) (eta + 1) / (k + eta). While w does not change from step i to step k, that
    multiplies (mean - w) by the product of (j - 1) / (j + eta) for j from i + 1 to k, which is D(k) / D(i) with
    D(k) = Gamma(k) / Gamma(k + eta + 1). The rows of a table that is trained by rows are therefore brought up to
    date just before they change, and all rows when the average is needed: the result is the same, without a pass
    over the whole table in each step.

    Attributes:
        steps: the number of averaged steps.
        due: for each table that is trained by rows, ln D of the step (rows,) up to which each row is averaged.
    """

    def __init__(self, model: nn.Module, recency: float) -> None:
        self.model, self.recency, self.steps = model, recency, 0
        self.mean = copy.deepcopy(model).requires_grad_(False)
        self.tables = list(zip(_row_weights(model), _row_weights(self.mean), strict=True))
        self.due = [torch.full(weight.shape[:1], math.inf, device=weight.device) for weight, _ in self.tables]
        known = {id(weight) for weight, _ in self.tables}
        pairs = zip(model.parameters(), self.mean.parameters(), strict=True)
        self.dense = [(new.detach(), old) for new, old in pairs if id(new) not in known]

    @torch.no_grad()
    def before_step(self) -> None:
        """Bring the rows that the next step will change up to date."""
        for (new, old), due in zip(self.tables, self.due, strict=True):
            if self.steps and new.grad is not None:
                rows = new.grad._indices()[0]
                parts = (values.index_select(0, rows) for values in (old, new, due))  # 3x faster than values[rows]
                old.index_copy_(0, rows, self._catch_up(*parts))
                due.index_fill_(0, rows, self._log_d())

    @torch.no_grad()
    def after_step(self) -> None:
        """Add the weights of this step to the average."""
        self.steps += 1
        share = (self.recency + 1) / (self.steps + self.recency)
        for new, old in self.dense:
            old.lerp_(new, share)

    @torch.no_grad()
    def averaged_model(self) -> nn.Module:
        """The model with the averaged weights; buffers are those of the model."""
        for (new, old), due in zip(self.tables, self.due, strict=True):
            old.copy_(self._catch_up(old, new, due))
            due.fill_(self._log_d())
        for source, target in zip(self.model.buffers(), self.mean.buffers(), strict=True):
            target.copy_(source)
        return self.mean

    def _log_d(self) -> float:
        return math.lgamma(self.steps) - math.lgamma(self.steps + self.recency + 1)

    def _catch_up(self, mean: Tensor, weight: Tensor, due: Tensor) -> Tensor:
        share = 1 - torch.exp(self._log_d() - due)
        return mean.lerp(weight, share.view(-1, *[1] * (mean.dim() - 1)))


def _row_weights(model: nn.Module) -> list[nn.Parameter]:
    return [part.weight for part in model.modules() if isinstance(part, Table) and part.by_rows]
