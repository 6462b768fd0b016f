"""Inputs of LightGBM: the columns for its trees, from encoded features (Ke et al. 2017).

Trees compare one number with a threshold, so everything becomes a number: floats unchanged, NaN where missing; the mean
of a vocabulary's floats at the row's own values; the position of a categorical value in its sorted vocabulary, 0 for
an unknown one; a 0/1 column for each value of a multi-valued feature. Ids are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.config import Count, CountOrNone, NotNegative, Positive
from recsys_assets.models.layers import OwnTerms


@dataclass(frozen=True)
class LgbmConfig:
    """Hyper-parameters of the trees and of their training.

    They matter little on MovieLens 1M: validation AUCs were between 0.8093 (leaves of 200 rows, 255 bins) and 0.8099
    (3,000 rows, 63 bins). On a third of its users, the item id as a column added nothing, 0.8069 instead of 0.8067,
    and as a LightGBM category it cost 0.003.
    """

    learning_rate: Positive = 0.1  # share of each tree that is added
    leaves: Annotated[Count, Field(ge=2, le=131072)] = 31  # most leaves of a tree
    min_rows: Count = 500  # least rows in a leaf
    l2: NotNegative = 10.0  # added to the sum of second derivatives in a leaf
    feature_fraction: Annotated[Positive, Field(le=1)] = 0.3  # share of the columns that is drawn for each tree
    multi_hot: CountOrNone = 256  # a multi-valued feature with more values is not used
    bins: Annotated[Count, Field(ge=2)] = 63  # distinct values of a column that a split can distinguish
    step: Count = 20  # trees between two evaluations on the validation rows: an epoch
    epochs: Count = 100  # most epochs
    patience: CountOrNone = 3  # epochs without a better validation AUC before training stops


# Without the learning rate: with as many trees a low one is behind at first, and its trials would be pruned for that.
SPACE = {
    "hyper_param": {
        "leaves": {"low": 15, "high": 255, "log": True},
        "min_rows": {"low": 20, "high": 1000, "log": True},
        "l2": {"low": 0.1, "high": 100.0, "log": True},
        "feature_fraction": {"low": 0.2, "high": 1.0},
    },
}


class LgbmInputs(nn.Module):
    """Columns (N, F) float32, called `names`, from the `Encoded` tensors: indices (N, K) and numeric (N, F')."""

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
            *(name for f in numeric for name in _column_names(f.name, terms.get(f.terms_of, range(f.length)))),
            *(f"{f.name}:own" for f in numeric if f.terms_of),
            *(f.name for f in single),
            *(name for f in many for name in _column_names(f.name, f.vocabulary)),
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


def _column_names(feature: str, values: Sequence[int | str]) -> list[str]:
    """Names of a feature's columns: the feature's own name if it has only one."""
    return [feature] if len(values) == 1 else [f"{feature}:{value}" for value in values]
