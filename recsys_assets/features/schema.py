"""The feature schema: the one contract that training, the ONNX file and serving share.

It lists the raw columns a ranking model takes, with the vocabularies and the normalisation statistics
that were fitted on train rows, and turns raw columns into the arrays a model computes on.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Kind = Literal["categorical", "multi_valued", "numeric"]
Side = Literal["user", "item"]


@dataclass(frozen=True)
class Feature:
    """One raw column.

    Attributes:
        name: column of `rank_samples`, and input of the ONNX file.
        kind: categorical (one value a row), multi_valued (a list of values a row), numeric
            (`length` floats a row: a number, or a fixed-size list).
        side: the snapshot that serves it, `user_features` or `item_features`.
        type: int64 or string for the values of categorical and multi_valued, float32 for numeric.
        group: `id` for user_id and item_id, `side` for the rest (models give them other widths).
        vocabulary: known values in ascending order; the value at place i is index i + 1, unknown,
            missing and padding are index 0.
        length: floats a row (numeric), or the most values a row may have (multi_valued).
        mean, std: of train rows, one for each float (numeric only).
    """

    name: str
    kind: Kind
    side: Side
    type: Literal["int64", "string", "float32"]
    group: Literal["id", "side"] = "side"
    vocabulary: list[int] | list[str] = field(default_factory=list)
    length: int = 1
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    @property
    def cardinality(self) -> int:
        """Number of indices, the unknown one counted in."""
        return len(self.vocabulary) + 1


@dataclass(frozen=True)
class FeatureSchema:
    """The features of a model in their order, and the crosses of its wide part."""

    features: list[Feature]
    crosses: list[list[str]] = field(default_factory=list)

    def of_kind(self, kind: Kind) -> list[Feature]:
        """Features of one kind, in order."""
        return [feature for feature in self.features if feature.kind == kind]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the schema: a model refuses samples that were made under another."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `schema.json`."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)

    @staticmethod
    def read(path: Path) -> "FeatureSchema":
        """Read a `schema.json`."""
        content = json.loads(path.read_text(encoding="utf-8"))
        return FeatureSchema([Feature(**feature) for feature in content["features"]], content["crosses"])


@dataclass(frozen=True)
class Encoded:
    """Model inputs of N rows.

    Attributes:
        categorical: (N, number of categorical features) int32 indices.
        multi_valued: by feature name, (N, length) int32 indices, padded with 0.
        numeric: (N, floats of all numeric features) float32, raw: the model normalises.
    """

    categorical: npt.NDArray[np.int32]
    multi_valued: dict[str, npt.NDArray[np.int32]]
    numeric: npt.NDArray[np.float32]


def encode(schema: FeatureSchema, table: pa.Table) -> Encoded:
    """Turn raw columns into indices and floats; missing numbers become the train mean."""
    rows = table.num_rows
    categorical = [_indices(f, table[f.name].combine_chunks()) for f in schema.of_kind("categorical")]
    numeric = [_floats(f, table[f.name].combine_chunks()) for f in schema.of_kind("numeric")]
    return Encoded(
        np.stack(categorical, axis=1) if categorical else np.zeros((rows, 0), np.int32),
        {f.name: _padded(f, table[f.name].combine_chunks()) for f in schema.of_kind("multi_valued")},
        np.concatenate(numeric, axis=1) if numeric else np.zeros((rows, 0), np.float32),
    )


def _indices(feature: Feature, values: pa.Array) -> npt.NDArray[np.int32]:
    """Index of each value, 0 where it is unknown or missing."""
    kind = pa.int64() if feature.type == "int64" else pa.string()
    found = pc.index_in(values.cast(kind), value_set=pa.array(feature.vocabulary, kind))
    return pc.fill_null(pc.add(found, 1), 0).to_numpy(zero_copy_only=False).astype(np.int32)


def _padded(feature: Feature, lists: pa.ListArray) -> npt.NDArray[np.int32]:
    """(N, length) indices; values past `length` are dropped."""
    lists = pc.fill_null(lists, pa.scalar([], lists.type))
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    row = np.repeat(np.arange(len(lists)), counts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    out = np.zeros((len(lists), feature.length), np.int32)
    kept = place < feature.length
    out[row[kept], place[kept]] = _indices(feature, pc.list_flatten(lists))[kept]
    return out


def _floats(feature: Feature, values: pa.Array) -> npt.NDArray[np.float32]:
    """(N, length) floats, the train mean where one is missing."""
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        flat = pc.list_flatten(values)
    else:
        flat = values
    out = flat.cast(pa.float32()).to_numpy(zero_copy_only=False).reshape(-1, feature.length)
    return np.where(np.isnan(out), np.asarray(feature.mean, np.float32), out)
