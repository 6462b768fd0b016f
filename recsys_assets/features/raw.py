"""Raw columns as the inputs of an ONNX file: missing values and padding filled in (`training/onnx_export.py`)."""

import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Array
from recsys_assets.features.schema import MISSING, Encoded, Feature, FeatureSchema, column_of, flat_values, floats

INPUTS = "inputs"  # the key of a file's metadata
_OF_INPUTS = ("name", "kind", "side", "type", "length")


def rows_of(table: pa.Table, key: str, ids: pa.Array) -> pa.Table:
    """The table's rows of the given ids, in their order; for a missing id, a row of nulls with the id as key."""
    places = pc.index_in(ids.cast(table[key].type), value_set=table[key].combine_chunks())
    found = table.take(places)
    return found.set_column(found.schema.get_field_index(key), key, ids)


def raw_inputs(schema: FeatureSchema, table: pa.Table) -> dict[str, Array]:
    """The feed of the ONNX file for the rows of a table of raw columns; one of the moment that is absent is unknown."""
    return raw_columns(schema.features, table)


def raw_columns(features: Iterable[Feature], table: pa.Table) -> dict[str, Array]:
    """The same for some features."""
    return {feature.name: _raw_input(feature, column_of(feature, table)) for feature in features}


def inputs_text(schema: FeatureSchema) -> str:
    """Metadata of a file on its inputs, so that a service can make them: no vocabularies, which are inside."""
    return json.dumps([{name: getattr(each, name) for name in _OF_INPUTS} for each in schema.features])


def read_inputs(text: str) -> list[Feature]:
    """The features that `inputs_text` describes, without vocabularies."""
    return [Feature(**content) for content in json.loads(text)]


def widths(feature: Feature) -> list[int]:
    """Shape of a raw feature, without the batch dimension."""
    flat = feature.kind == "categorical" or (feature.kind == "numeric" and feature.length == 1)
    return [] if flat else [feature.length]


def _raw_input(feature: Feature, values: pa.Array) -> Array:
    """A column as the ONNX input takes it: missing values and padding filled in."""
    if feature.kind == "numeric":
        return floats(feature, values).reshape(len(values), *widths(feature))
    missing = MISSING[feature.type]
    kind = pa.int64() if feature.type == "int64" else pa.string()
    dtype = np.int64 if feature.type == "int64" else np.object_
    if feature.kind == "categorical":
        found: Array = pc.fill_null(values.cast(kind), missing).to_numpy(zero_copy_only=False)
        return found.astype(dtype)
    row, place, flat = flat_values(feature, values)
    out = np.full((len(values), feature.length), missing, dtype)
    out[row, place] = pc.fill_null(flat.cast(kind), missing).to_numpy(zero_copy_only=False)
    return out


class Decoder:
    """Raw features that `encode` turns into given encoded rows: for a model elsewhere, whose look-ups are inside.

    A value that the vocabulary lacks becomes some value that it lacks, because the rows do not say which it was.
    """

    def __init__(self, schema: FeatureSchema) -> None:
        self._schema = schema
        self._values = {each.name: _values_by_row(schema, each) for each in schema.index_features}

    def __call__(self, rows: Encoded) -> dict[str, Array]:
        """The feed of an ONNX file (`training/onnx_export.py`) for N rows."""
        return {each.name: self._column(each, rows) for each in self._schema.features}

    def _column(self, feature: Feature, rows: Encoded) -> Array:
        columns, shape = self._schema.columns[feature.name], (len(rows), *widths(feature))
        if feature.kind == "numeric":
            return rows.numeric[:, columns].reshape(shape)
        indices, (known, _) = rows.indices[:, columns], self._schema.rows_of(feature)
        return self._values[feature.name][np.where(indices == 0, 0, indices - known + 2)].reshape(shape)


def _values_by_row(schema: FeatureSchema, feature: Feature) -> Array:
    """The values that stand for padding, for an unknown value, and for each value of the vocabulary."""
    keys, missing = schema.keys(feature).to_pylist(), MISSING[feature.type]
    candidates = (
        f"unknown {number}" if feature.type == "string" else number for number in range(-1, -len(keys) - 2, -1)
    )
    known = set(keys)
    unknown = next(value for value in candidates if value not in known)
    return np.array([missing, unknown, *keys], np.object_ if feature.type == "string" else np.int64)
