"""Layers that more than one model uses, among them those that depend on the feature schema.

These take the arrays of `Encoded`: indices (N, K), rows of the schema's shared index space, and numeric (N, F), raw
floats, NaN where missing.
"""

import math
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from recsys_assets.bfloat16 import bfloat16_is_fast
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.axes import Axis, Block, Pairs, as_axis, rows_of_values, size_of

_PRIME = 2_147_483_647  # for `Crosses`: 2^31 - 1, as a smaller number times _SPREAD still fits in 63 bits
_SPREAD = 2_654_435_761  # 2^32 / golden ratio (Knuth, The Art of Computer Programming 3, 6.4)
LARGE = 1 << 23  # from this many numbers in a table on, updating all of them in a step costs more than single rows


def bfloat16_in_training(layer: nn.Module, x: Tensor) -> torch.autocast:
    """Inside this context matrices are multiplied in bfloat16 if the layer is in training and that is fast."""
    return torch.autocast(x.device.type, torch.bfloat16, enabled=layer.training and bfloat16_is_fast(x.device))


class NamedLinear(nn.Linear):
    """A linear layer that knows what its inputs stand for: an axis, or a number if no vocabulary decides it."""

    def __init__(self, taken: int | Axis, given: int) -> None:
        axis = as_axis(taken)
        super().__init__(size_of(axis), given)
        self.axis = axis


class Hidden(nn.Sequential):
    """(N, taken) floats to (N, the last width): linear layers, each with ReLU.

    In training they multiply in bfloat16 where that is fast: a step of 4,096 rows takes 4.8 ms instead of 22 ms on one
    AVX-512 core, at the same validation AUC. Evaluation is float32 throughout.
    There is no dropout: drawing its mask took 8 ms of that step and did not raise the validation AUC.
    """

    def __init__(self, taken: int | Axis, widths: tuple[int, ...]) -> None:
        pairs = zip([taken, *widths][:-1], widths, strict=True)
        super().__init__(*(part for a, b in pairs for part in (NamedLinear(a, b), nn.ReLU(inplace=True))))

    def forward(self, x: Tensor) -> Tensor:
        """Floats (N, the last width), as bfloat16 if they were multiplied so."""
        with bfloat16_in_training(self, x):
            found: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return found


class Mlp(nn.Module):
    """(N, taken) floats to (N, given): hidden layers, then one linear layer."""

    def __init__(self, taken: int | Axis, hidden: tuple[int, ...], given: int = 1) -> None:
        super().__init__()
        self.hidden = Hidden(taken, hidden)
        self.last = NamedLinear(hidden[-1] if hidden else taken, given)

    def forward(self, x: Tensor) -> Tensor:
        """Floats (N, given)."""
        x = self.hidden(x)
        with torch.autocast(x.device.type, enabled=False):  # on a GPU the whole training step may be in autocast
            last: Tensor = self.last(x.float())
        return last


class Dropout(nn.Module):
    """Dropout with shares rounded to 1/256, from random bytes: an eighth of `nn.Dropout`'s time on a CPU."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.dropped = round(256 * share)

    def forward(self, x: Tensor) -> Tensor:
        """The same shape: zeros where dropped, the rest scaled up."""
        if not self.training or not self.dropped:
            return x
        words = torch.randint(-(2**63), 2**63 - 1, (-(-x.numel() // 8),), device=x.device)
        kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= self.dropped
        scaled: Tensor = x * (kept.to(x.dtype) * (256 / (256 - self.dropped)))
        return scaled


class Normalise(nn.Module):
    """(N, F) raw floats, transformed by the schema, to z-scores over the train rows, clipped to +-5; missing is 0."""

    mean: Tensor
    std: Tensor
    log: Tensor

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        numeric = schema.of_kind("numeric")
        mean = [value for f in numeric for value in f.mean]
        std = [value or 1.0 for f in numeric for value in f.std]  # 0: constant
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        log = [f.transform == "log" for f in numeric for _ in range(f.length)]
        self.register_buffer("log", torch.tensor(log), persistent=False)
        self.transforms = any(log)

    def forward(self, numeric: Tensor) -> Tensor:
        """Normalised floats (N, F)."""
        if self.transforms:
            numeric = torch.where(self.log, numeric.sign() * numeric.abs().log1p(), numeric)
        scores = (numeric - self.mean) / self.std
        return torch.where(torch.isnan(scores), 0.0, scores).clamp(-5.0, 5.0)


class _Rows(torch.autograd.Function):
    """Rows (N, …) of a weight, zeros for row 0, which has no gradient; the gradient is sparse if `sparse`.

    A product with a mask that autograd records would take 2.7 times as long as this one in place.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: Tensor, sparse: bool) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape, ctx.sparse = weight.shape, sparse
        found = weight.index_select(0, rows)
        return found.mul_(_there(rows, found))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (rows,), gradient = ctx.saved_tensors, gradients[0]
        if ctx.sparse:
            values = gradient * _there(rows, gradient)
            return torch.sparse_coo_tensor(rows[None], values, ctx.shape, check_invariants=False), None, None
        summed = gradient.new_zeros(ctx.shape).index_add_(0, rows, gradient)
        summed[0] = 0.0
        return summed, None, None


def _there(rows: Tensor, like: Tensor) -> Tensor:
    """1 for each row that is not padding, else 0, of the type and the number of dimensions of `like`."""
    return (rows > 0).to(like.dtype).view(-1, *[1] * (like.dim() - 1))


class Table(nn.Module):
    """Vectors (..., width), or weights (...), of indices (...); index 0, padding, gives zeros and learns nothing.

    It uses `index_select` instead of `nn.Embedding`: on one core its gradient takes 0.6 instead of 2.1 ms for
    45,000 vectors of 16 floats, and 0.2 instead of 5.2 ms for 106,000 single weights.

    Attributes:
        axis: what the rows stand for. A number of rows is only for those that no vocabulary decides: where a training
            continues, the rows of an axis go with their values, and numbered rows stay in their places.
        by_rows: whether a training step updates only the rows that it touched (`RowwiseAdam`).
    """

    def __init__(self, rows: int | Axis, *width: int, std: float = 0.0) -> None:
        super().__init__()
        self.axis = as_axis(rows)
        self.weight = nn.Parameter(torch.randn(size_of(self.axis), *width) * std)
        self.by_rows = self.weight.numel() >= LARGE

    def forward(self, indices: Tensor) -> Tensor:
        """Vectors (..., width), or weights (...)."""
        flat = indices.flatten().long()  # with int32 indices the gradient takes four times as long
        if self.training:
            found: Tensor = _Rows.apply(self.weight, flat, self.by_rows)  # type: ignore[no-untyped-call]
        else:
            found = self.weight.index_select(0, flat)
            found = found * _there(flat, found)
        return found.view(*indices.shape, *found.shape[1:])


class DropIds(nn.Module):
    """(N, K) indices to (N, K): in training a share of the ids becomes unknown, so that new ids score well.

    So does a share of the features of the moment, for requests that do not say them: no row of a log lacks its hour.
    """

    unknown: Tensor
    droppable: Tensor

    def __init__(self, schema: FeatureSchema, share: float) -> None:
        super().__init__()
        self.share = share
        unknown = [schema.first_row[f.name] * (f.kind == "categorical") for f in schema.sparse for _ in range(f.length)]
        ids = [f.group == "id" or f.side == "moment" for f in schema.sparse for _ in range(f.length)]
        self.register_buffer("unknown", torch.tensor(unknown, dtype=torch.int32), persistent=False)
        self.register_buffer("droppable", torch.tensor(ids) * share, persistent=False)

    def forward(self, indices: Tensor) -> Tensor:
        """Indices (N, K)."""
        if not self.training or not self.share:
            return indices
        dropped = torch.rand(indices.shape, device=indices.device) < self.droppable
        return torch.where(dropped, self.unknown, indices)


class Embed(nn.Module):
    """(N, K) indices to (N, fields x width): one table for all fields; a multi-valued feature becomes its mean.

    The fields are all categorical and multi-valued features, or those of one group; the table has no other rows.
    """

    columns: Tensor
    shift: Tensor

    def __init__(self, schema: FeatureSchema, width: int, group: str = "", std: float = 0.01) -> None:
        super().__init__()
        fields = [feature for feature in schema.sparse if group in ("", feature.group)]
        first = list(accumulate((field.index_rows for field in fields), initial=1))
        shift = [schema.first_row[f.name] - row for f, row in zip(fields, first, strict=False) for _ in range(f.length)]
        columns = [torch.arange(schema.index_columns)[schema.columns[field.name]] for field in fields]
        self.register_buffer("shift", torch.tensor(shift, dtype=torch.int32), persistent=False)
        self.register_buffer("columns", torch.cat(columns), persistent=False)
        self.group = group
        self.table = Table(rows_of_values(fields), width, std=std)
        single = sum(field.kind == "categorical" for field in fields)
        self.parts = [single, *(field.length for field in fields[single:])]
        self.width = len(fields) * width

    def forward(self, indices: Tensor) -> Tensor:
        """Embeddings (N, width); the last field may have fewer columns than its length: a batch cuts the history."""
        if self.group:
            indices = (indices.index_select(1, self.columns) - self.shift).clamp(min=0)  # padding stays 0
        parts = [*self.parts[:-1], indices.shape[1] - sum(self.parts[:-1])]
        single, *lists = torch.split(self.table(indices), parts, 1)
        _, *values = torch.split(indices, parts, 1)
        means = [v.sum(1) / (rows > 0).sum(1, keepdim=True).clamp(min=1) for v, rows in zip(lists, values, strict=True)]
        return torch.cat([single.flatten(1), *means], 1)


class OwnTerms(nn.Module):
    """(N, numeric features with `terms_of`): the mean of a vector's floats at the row's own values.

    With a user's positives by genre and the candidate's genres, it is how much the user has liked exactly these
    genres: an interaction that a sum of per-genre weights cannot express.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        super().__init__()
        self.places = [
            (schema.columns[f.name], schema.columns[f.terms_of], schema.first_row[f.terms_of])
            for f in schema.of_kind("numeric")
            if f.terms_of
        ]
        self.width = len(self.places)

    def forward(self, indices: Tensor, numeric: Tensor) -> Tensor:
        """Means (N, width)."""
        picked = []
        for floats, values, first_row in self.places:
            rows = indices[:, values].long()
            there = (rows > 0).to(numeric.dtype)
            own = numeric[:, floats].gather(1, (rows - first_row).clamp(min=0)) * there
            picked.append(own.sum(1) / there.sum(1).clamp(min=1.0))
        return torch.stack(picked, 1) if picked else numeric[:, :0]


class Crosses(nn.Module):
    """(N, pairs of values) indices of the crosses in a table of `rows` rows; 0 where a value is padding.

    A cross takes as many rows as it has pairs of values, but at most `buckets`, rounded down to a power of 2: beyond
    that, pairs are hashed, by arithmetic that cannot overflow 63 bits, so that an ONNX runtime computes the same.
    """

    def __init__(self, schema: FeatureSchema, buckets: int) -> None:
        super().__init__()
        blocks = {feature.name: Block(feature.index_rows, feature.keys) for feature in schema.sparse}
        self.pairs = []
        self.axis: Axis = (Block(1),)
        for one, other in schema.crosses:
            cardinality = blocks[other].size
            size = blocks[one].size * cardinality
            first = (schema.first_row[one], schema.first_row[other])
            kept = min(size, 1 << int(math.log2(buckets)))
            place = (schema.columns[one], schema.columns[other])
            self.pairs.append((*place, first, cardinality, size, kept, self.rows))
            self.axis += (Pairs(blocks[one], blocks[other], kept),)

    @property
    def rows(self) -> int:
        """Rows of the table of crosses."""
        return size_of(self.axis)

    def forward(self, indices: Tensor) -> Tensor:
        """Rows of the table of crosses (N, pairs)."""
        indices = indices.long()
        crossed = [indices[:, :0]]
        for one, other, first, cardinality, size, kept, start in self.pairs:
            a, b = indices[:, one, None], indices[:, None, other]
            pair = (a - first[0]) * cardinality + (b - first[1])
            if kept < size:
                pair = (pair % _PRIME * _SPREAD % (1 << 32)) // ((1 << 32) // kept)
            crossed.append(torch.where((a > 0) & (b > 0), pair + start, 0).flatten(1))
        return torch.cat(crossed, 1)
