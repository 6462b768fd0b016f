"""What LightGBM learns from: the columns that trees take of encoded features (Ke et al. 2017).

Trees compare one number with a threshold, so everything becomes a number: floats as they are, NaN where
missing; what the floats of a vocabulary say of the row's own values; the place of a categorical value in its
sorted vocabulary, 0 for an unknown one; a 1 for each value of a multi-valued feature. Ids are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.layers import OwnTerms
from recsys_assets.training.config import Count, CountOrNone, NotNegative, Positive


@dataclass(frozen=True)
class LgbmConfig:
    """Hyper-parameters of the trees and of their training.

    On MovieLens 1M little depends on them: validation AUCs lay between 0.8093 (leaves of 200 rows, 255 bins) and
    0.8099 (3,000 rows, 63 bins). On a third of its users the item's id as a column added nothing, 0.8069 instead of
    0.8067, and cost 0.003 as a LightGBM category.
    """

    learning_rate: Positive = 0.1  # share of each tree that is added
    leaves: Annotated[Count, Field(ge=2, le=131072)] = 31  # at most, of a tree
    min_rows: Count = 500  # rows in a leaf, at least
    l2: NotNegative = 10.0  # added to the sum of second derivatives in a leaf
    feature_fraction: Annotated[Positive, Field(le=1)] = 0.3  # of the columns, drawn for each tree
    multi_hot: CountOrNone = 256  # values of a multi-valued feature, at most, for it to be used
    bins: Annotated[Count, Field(ge=2)] = 63  # distinct values of a column that a split can tell apart
    step: Count = 20  # trees between two looks at the validation rows: an epoch
    epochs: Count = 100  # at most
    patience: CountOrNone = 3  # epochs without a better validation AUC before it stops


@dataclass(frozen=True)
class NoSettings:
    """Of a trainer that has none beside the model's hyper-parameters."""


class LgbmInputs(nn.Module):
    """Columns (N, F) float32 of indices (N, K) and numeric (N, F'), the `Encoded` tensors; `names` are theirs."""

    def __init__(self, schema: FeatureSchema, config: LgbmConfig) -> None:
        super().__init__()
        self.own_terms = OwnTerms(schema)
        side = [feature for feature in schema.sparse if feature.group == "side"]
        single = [feature for feature in side if feature.kind == "categorical"]
        many = [f for f in side if f.kind == "multi_valued" and len(f.vocabulary) <= config.multi_hot]
        self.single = [(schema.columns[f.name], schema.first_row[f.name]) for f in single]
        self.many = [(schema.columns[f.name], schema.first_row[f.name], len(f.vocabulary)) for f in many]
        numeric, terms = schema.of_kind("numeric"), {f.name: f.vocabulary for f in schema.sparse}
        self.names = [
            *(name for f in numeric for name in _named(f.name, terms.get(f.terms_of, range(f.length)))),
            *(f"{f.name}:own" for f in numeric if f.terms_of),
            *(f.name for f in single),
            *(name for f in many for name in _named(f.name, f.vocabulary)),
        ]

    def forward(self, indices: Tensor, numeric: Tensor) -> Tensor:
        """Columns (N, F) float32, in the order of `names`."""
        known = torch.where(torch.isnan(numeric), 0.0, numeric)  # a missing float counts as 0 in a mean over terms
        columns = [numeric, self.own_terms(indices, known)]
        columns += [(indices[:, place] - first).float() for place, first in self.single]
        for place, first, size in self.many:
            there = indices[:, place, None] == torch.arange(first, first + size, device=indices.device)
            columns.append(there.any(1).float())
        return torch.cat(columns, 1)


def _named(feature: str, values: Sequence[int | str]) -> list[str]:
    """Names of a feature's columns: its own if it has but one."""
    return [feature] if len(values) == 1 else [f"{feature}:{value}" for value in values]
