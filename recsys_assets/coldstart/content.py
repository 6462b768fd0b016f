"""The content of items and of users as numbers: what is known of them before anything happens."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Doubles, Ids, Ints
from recsys_assets.features.raw import rows_of
from recsys_assets.features.schema import Feature, FeatureSchema, encode_feature


@dataclass(frozen=True)
class Content:
    """F numbers of each of I items, or users.

    Attributes:
        values: (I, F) 1 for each value that the item has of a categorical or multi-valued feature, z-scores of numbers
            and vectors; 0 where a value is missing or unknown.
        fields: (F,) the feature that each number belongs to, from 0.
        names: the features.
    """

    values: Doubles
    fields: Ints
    names: list[str]

    def field(self, number: int) -> Doubles:
        """(I, F') the numbers of one feature."""
        return self.values[:, self.fields == number]


def content_of(schema: FeatureSchema, table: pa.Table, ids: Ids, side: Literal["user", "item"] = "item") -> Content:
    """The content of the items or users with these ids, from their table and the features of their side but the id."""
    features = content_features(schema, side)
    rows = rows_of(table, f"{side}_id", pa.array(ids))
    parts = [_numbers(schema, f, rows) if f.kind == "numeric" else _values(schema, f, rows) for f in features]
    fields = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    values = np.concatenate([np.zeros((len(ids), 0)), *parts], axis=1)
    return Content(values, fields, [feature.name for feature in features])


def content_features(schema: FeatureSchema, side: Literal["user", "item"]) -> list[Feature]:
    """The features of a side that are content: sets of values, and then numbers."""
    sparse = [f for f in schema.sparse if f.side == side and f.group != "id"]
    return [*sparse, *(f for f in schema.fixed_numbers if f.side == side)]


def _values(schema: FeatureSchema, feature: Feature, rows: pa.Table) -> Doubles:
    """(I, values) 1 where an item has a value of the vocabulary."""
    first, _ = schema.rows_of(feature)
    places = encode_feature(schema, feature, rows).astype(np.int64) - first  # (I, length), below 0 for none
    found = np.zeros((rows.num_rows, len(feature.vocabulary)))
    item, place = np.nonzero((places >= 0) & (places < len(feature.vocabulary)))
    found[item, places[item, place]] = 1.0
    return found


def _numbers(schema: FeatureSchema, feature: Feature, rows: pa.Table) -> Doubles:
    """(I, length + edges) z-scores clipped to +-5, 0 for a missing one, and which edges of the bins are reached."""
    raw = encode_feature(schema, feature, rows).astype(np.float64)
    shaped = np.sign(raw) * np.log1p(np.abs(raw)) if feature.transform == "log" else raw
    scores = np.nan_to_num((shaped - feature.mean) / feature.std).clip(-5, 5)
    return np.concatenate([scores, raw[:, :1] >= np.array(feature.boundaries)], axis=1)


def cosines(values: Doubles) -> Doubles:
    """(I, I) cosines of the rows of (I, F); 0 for a row of zeros."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values / np.where(lengths > 0, lengths, 1.0)
    found: Doubles = unit @ unit.T
    return found
