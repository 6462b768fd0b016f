"""Ridge regression from content to preference vectors, in two towers (DeepMusic, van den Oord et al. 2013).

Both towers are in closed form: `coldstart/solve.py` computes their weights. Items have the vectors of implicit ALS if
enough events taught them, and those that their content predicts otherwise. A user is folded in: the vector is the exact
ALS solution for the items of the history, so a user needs no event of the day before. A user without a history has the
vector that the user's own content predicts.

With S = V^T V + l2 I of the items' vectors V, and S = L L^T, the towers hold L^-1 v instead of v. A user's normal
equations are then (I + alpha W^T W) y = (1 + alpha) W^T 1 over the rows W of the history, and the products of vectors
are those of ALS. W^T W is at most I, so all eigenvalues lie between 1 and 1 + alpha: a geometric series of a fixed
length solves the equations, and an ONNX file needs no solver.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Block
from recsys_assets.models.config import Count, Positive
from recsys_assets.models.layers import Table
from recsys_assets.models.numbers import Numbers
from recsys_assets.models.towers import Batch, TwoTower

_ERROR = 1e-9  # of the series, relative to its sum; a float32 has 6e-8


@dataclass(frozen=True)
class RidgeConfig:
    """Settings of implicit ALS, and the newest items that a user is folded in by.

    Every training chooses all other settings on validation rows: see `coldstart/solve.py`.
    """

    width: Count = 32
    alpha: Positive = 10.0  # a touched pair weighs 1 + alpha, every other pair 1
    l2: Positive = 10.0
    rounds: Count = 8
    history: Count = 500


SPACE = {
    "hyper_param": {
        "width": [16, 32, 64, 128],
        "alpha": {"low": 1.0, "high": 40.0, "log": True},
        "l2": {"low": 1.0, "high": 300.0, "log": True},
    },
}


class Ridge(TwoTower):
    """Inner product of a folded-in user and an item's own or predicted vector.

    Attributes:
        known: vectors of items by token, that histories are read with; zeros for an item that nobody liked.
        keeps: (V + 1, 1) by token, 1 for an item whose own vector serves, and 0 for one that its content serves.
        user_content, item_content: predict vectors from content.
    """

    cold = True
    keeps: Tensor

    def __init__(self, schema: FeatureSchema, config: RidgeConfig) -> None:
        super().__init__(schema, config.history)
        self.alpha, width = config.alpha, config.width
        self.known = Table(self.token_rows, width)
        self.register_buffer("keeps", torch.zeros(self.item_count + 1, 1))
        self.user_content = LinearContent(self.user_schema, width)
        self.item_content = LinearContent(self.item_schema, width)

    def user(self, indices: Tensor) -> Tensor:
        """Vectors (N, width): the ALS solution for the history, or without one what the content predicts."""
        # In float32, the order of the sums would show in the fifth decimal.
        past = self.known(_distinct(self.past(indices))).double()  # (N, T, width)
        there = (past != 0).flatten(1).any(1, keepdim=True)
        folded = _solve(past.transpose(1, 2) @ past, past.sum(1), self.alpha)
        return torch.where(there, folded.float(), self.user_content(indices))

    def item(self, indices: Tensor) -> Tensor:
        """Vectors (N, width): the item's own, or what its content predicts."""
        token = self.token(indices)
        keeps = self.keeps.index_select(0, token)
        found: Tensor = keeps * self.known(token) + (1 - keeps) * self.item_content(indices)
        return found

    def loss(self, batch: Batch) -> Tensor:
        """Raise `TypeError`: the weights are computed, not learned in steps."""
        raise TypeError(f"ridge has no loss to learn {len(batch.targets)} rows by: `coldstart.solve` computes it")


class LinearContent(nn.Module):
    """A linear function of the content of one side: of the values that are there, the numbers, and the bins' edges."""

    def __init__(self, schema: FeatureSchema, width: int) -> None:
        super().__init__()
        self.floats = schema.floats
        fields = [feature for feature in schema.sparse if feature.group != "id"]
        self.values = Table((Block(1), *(Block(len(each.vocabulary), each.keys) for each in fields)), width)
        self.shift = nn.Parameter(torch.zeros(width))
        self.numbers = Numbers(schema) if schema.floats else None
        self.slopes = nn.Parameter(torch.zeros(self.numbers.width if self.numbers else 0, width))
        # For each field: its columns of indices, the row of its first value, the values before it, and its values.
        self.places, before = list[tuple[slice, int, int, int]](), 1
        for each in fields:
            first, _ = schema.rows_of(each)
            self.places.append((schema.columns[each.name], first, before, len(each.vocabulary)))
            before += len(each.vocabulary)
        binned = [(0,) * f.length + (1,) * len(f.boundaries) for f in schema.of_kind("numeric")]
        # `Numbers` gives all scores and then all edges; content has the edges of a feature after its scores.
        is_edge = torch.tensor([each for feature in binned for each in feature], dtype=torch.int64)
        self.order = torch.argsort(is_edge, stable=True)

    def forward(self, indices: Tensor) -> Tensor:
        """Vectors (N, width) from the tower's input (N, columns), or one for all (width,) if there is no content.

        A value that a row has twice counts once.
        """
        found: Tensor = self.shift
        if self.places:
            found = found + self.values(_distinct(self._rows(indices[:, self.floats :].long()))).sum(1)
        if self.numbers:
            found = found + self.numbers(indices[:, : self.floats].float()).float() @ self.slopes
        return found

    def _rows(self, indices: Tensor) -> Tensor:
        """(N, K) rows of the table of values; 0 for one that is missing or unknown."""
        rows = []
        for columns, first, before, count in self.places:
            place = indices[:, columns] - first
            rows.append(torch.where((place >= 0) & (place < count), place + before, 0))
        return torch.cat(rows, 1)

    def take(self, weights: Tensor, shift: Tensor) -> None:
        """Take weights (F, width) of the numbers of `coldstart.content`, in their order, and the shift (width,)."""
        values = len(self.values.weight) - 1
        with torch.no_grad():
            self.values.weight[1:] = weights[:values]
            self.slopes.copy_(weights[values:][self.order])
            self.shift.copy_(shift)


def _distinct(rows: Tensor) -> Tensor:
    """(N, K) the same numbers of each row in ascending order, with 0 in place of repetitions."""
    ordered = rows.sort(1).values
    is_same = torch.cat([ordered[:, :1] < 0, ordered[:, 1:] == ordered[:, :-1]], 1)
    return ordered.masked_fill(is_same, 0)


def _solve(squares: Tensor, sums: Tensor, alpha: float) -> Tensor:
    """(N, D) y of (I + alpha squares) y = (1 + alpha) sums, for squares (N, D, D) with eigenvalues from 0 to 1.

    With a step of 2 / (2 + alpha), the matrices R = I - step (I + alpha squares) shrink every vector at least by
    alpha / (2 + alpha), and y is the sum of R^n step (1 + alpha) sums. Each turn doubles the number of its terms.
    """
    step, shrinks = 2 / (2 + alpha), alpha / (2 + alpha)
    turns = math.ceil(math.log2(max(2.0, math.log(_ERROR) / math.log(shrinks))))
    powers = (1 - step) * torch.eye(squares.shape[1]).to(squares) - step * alpha * squares
    found = (step * (1 + alpha)) * sums.unsqueeze(2)
    for turn in range(turns):
        found = found + powers @ found
        if turn < turns - 1:
            powers = powers @ powers
    return found.squeeze(2)
