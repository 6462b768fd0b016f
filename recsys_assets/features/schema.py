"""The feature schema: the one contract that training, the ONNX file and serving share.

It lists the raw columns that a ranking model takes, with the vocabularies and normalisation statistics that were
fitted on train rows, and turns raw columns into the two arrays that a model computes with.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Floats, Ints, place_in_group
from recsys_assets.datasets.names import ITEM_STATISTICS, TERM_STATISTICS, USER_STATISTICS

Kind = Literal["categorical", "multi_valued", "sequence", "numeric"]
Side = Literal["user", "item", "pair", "row", "moment"]
# Replaces a missing value, and pads lists, where there is no null (the ONNX file's inputs).
MISSING = {"int64": -(2**63), "string": ""}


class SchemaError(ValueError):
    """A schema that cannot be used, or a table that does not fit it; the message names the feature."""


@dataclass(frozen=True)
class Feature:
    """One raw column.

    Attributes:
        name: column of `rank_samples`, and input of the ONNX file.
        kind: categorical (one value per row), multi_valued (a set of values per row), sequence (values of another
            feature in order, newest first), numeric (`length` floats per row: a number, or a fixed-size list).
        side: the snapshot that serves it, `user_features` or `item_features`; `pair`: both together;
            `moment`: the request, whose value is the same for all items; or the row itself.
        type: float32 for numeric, int64 or string for the values of the other kinds.
        group: `id` for user_id and item_id, `side` for the rest (models may treat them differently).
        vocabulary: known values in ascending order.
        length: floats per row (numeric), or the most values a row may have (multi_valued, sequence).
        mean, std: over train rows, one for each float, after the transformation (numeric only).
        transform: `log` is sign(x) ln(1 + |x|), which the model applies to the raw floats (numeric only).
        terms_of: the multi-valued feature whose vocabulary the floats follow, one float per value, so that
            a model can pick those of the row's own values (numeric only; empty for all others).
        values_of: the categorical feature whose vocabulary and rows the values have (sequence only).
        product_of: see `PairFeature` in `pair_data.py`.
        boundaries: edges of the bins of one float, ascending, for models that ask for them (`feature_boundaries`).
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
    transform: Literal["", "log"] = ""
    terms_of: str = ""
    values_of: str = ""
    product_of: list[str] = field(default_factory=list)
    boundaries: list[float] = field(default_factory=list)

    @cached_property
    def keys(self) -> pa.Array:
        """The vocabulary as an Arrow array, for look-ups."""
        return pa.array(self.vocabulary, pa.int64() if self.type == "int64" else pa.string())

    @property
    def index_rows(self) -> int:
        """Rows of the shared index space that it takes, including that of a categorical's unknown values."""
        return len(self.vocabulary) + (self.kind == "categorical")


@dataclass(frozen=True)
class FeatureSchema:
    """The features of a model in their order, and the crosses of its wide part.

    All categorical and multi-valued features share one index space, so that a model needs one embedding
    table and one look-up: row 0 is padding (and an unknown value of a multi-valued feature), and each
    feature has a range of rows of its own. A categorical's range starts with its unknown or missing value; a
    sequence has the rows of the categorical whose values it holds.
    """

    features: list[Feature]
    crosses: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        sparse = {feature.name: feature for feature in self.sparse}
        if not self.of_kind("categorical"):
            raise SchemaError("a schema needs at least one categorical feature")
        for feature in self.of_kind("sequence"):
            if feature.values_of not in {known.name for known in self.of_kind("categorical")}:
                raise SchemaError(f"the values of sequence '{feature.name}' do not belong to a categorical feature")
        for feature in self.features:
            terms = sparse.get(feature.terms_of)
            if feature.terms_of and (terms is None or len(terms.vocabulary) != feature.length):
                raise SchemaError(
                    f"'{feature.name}' has {feature.length} floats: not one per value of '{feature.terms_of}'"
                )
            if MISSING.get(feature.type) in feature.vocabulary:
                raise SchemaError(f"'{feature.name}' has the placeholder of missing values in its vocabulary")
            if feature.kind == "numeric" and not len(feature.mean) == len(feature.std) == feature.length:
                raise SchemaError(f"'{feature.name}' needs {feature.length} means and standard deviations")
        for cross in self.crosses:
            if len(cross) != 2 or not set(cross) <= sparse.keys():
                raise SchemaError(f"cross {cross} is not a pair of categorical or multi-valued features of this schema")

    def of_kind(self, kind: Kind) -> list[Feature]:
        """Features of one kind, in order."""
        return [feature for feature in self.features if feature.kind == kind]

    def with_vocabulary(self, name: str, change: Callable[[Feature], list[int] | list[str]]) -> "FeatureSchema":
        """The schema in which the feature of this name, if there is one, has the vocabulary that `change` gives."""
        features = [replace(each, vocabulary=change(each)) if each.name == name else each for each in self.features]
        return FeatureSchema(features, self.crosses)

    @cached_property
    def sparse(self) -> list[Feature]:
        """The features of sets of values: the categorical ones, then the multi-valued ones."""
        return self.of_kind("categorical") + self.of_kind("multi_valued")

    @cached_property
    def fixed_numbers(self) -> list[Feature]:
        """The numeric features that are columns of users or items, and do not change with their events."""
        statistics = {*USER_STATISTICS, *ITEM_STATISTICS, *TERM_STATISTICS}
        return [f for f in self.of_kind("numeric") if f.side in ("user", "item") and f.name not in statistics]

    @cached_property
    def index_features(self) -> list[Feature]:
        """The features behind `Encoded.indices`: the sparse ones, then the sequences."""
        return self.sparse + self.of_kind("sequence")

    def without_sequences(self) -> "FeatureSchema":
        """The schema of a model that does not use sequences."""
        return FeatureSchema([feature for feature in self.features if feature.kind != "sequence"], self.crosses)

    @cached_property
    def columns(self) -> dict[str, slice]:
        """Columns of each feature in `Encoded.indices` or `Encoded.numeric`."""
        places: dict[str, slice] = {}
        for group in (self.index_features, self.of_kind("numeric")):
            ends = list(accumulate(feature.length for feature in group))
            places |= {f.name: slice(end - f.length, end) for f, end in zip(group, ends, strict=True)}
        return places

    @cached_property
    def first_row(self) -> dict[str, int]:
        """The start of the range of each feature, except numeric ones, in the shared index space."""
        ends = list(accumulate((feature.index_rows for feature in self.sparse), initial=1))
        first = {feature.name: start for feature, start in zip(self.sparse, ends[:-1], strict=True)}
        return first | {feature.name: first[feature.values_of] for feature in self.of_kind("sequence")}

    def keys(self, feature: Feature) -> pa.Array:
        """The vocabulary of a feature that is not numeric, as an Arrow array for look-ups."""
        if feature.kind == "sequence":
            feature = next(known for known in self.sparse if known.name == feature.values_of)
        return feature.keys

    def rows_of(self, feature: Feature) -> tuple[int, int]:
        """The row of the first value of a feature's vocabulary, and the row of values that are not in it."""
        first = self.first_row[feature.name]
        return (first, 0) if feature.kind == "multi_valued" else (first + 1, first)

    @property
    def index_rows(self) -> int:
        """Size of the shared index space."""
        return 1 + sum(feature.index_rows for feature in self.sparse)

    @property
    def index_columns(self) -> int:
        """Width of `Encoded.indices`."""
        return sum(feature.length for feature in self.index_features)

    @property
    def floats(self) -> int:
        """Width of `Encoded.numeric`."""
        return sum(feature.length for feature in self.of_kind("numeric"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the schema: a model refuses samples that were made under another."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `schema.json`."""
        content = asdict(self)
        for feature in content["features"]:
            if not feature["boundaries"]:  # the schemas of older versions do not have it
                del feature["boundaries"]
        return json.dumps(content, sort_keys=True, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> "FeatureSchema":
        """The schema that `to_json` wrote."""
        content = json.loads(text)
        return FeatureSchema([Feature(**feature) for feature in content["features"]], content["crosses"])

    @staticmethod
    def read(path: Path) -> "FeatureSchema":
        """Read a `schema.json`."""
        return FeatureSchema.from_json(path.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Encoded:
    """Model inputs of N rows.

    Attributes:
        indices: (N, index_columns) rows of the schema's shared index space: one column per categorical, `length`
            columns per multi-valued feature or sequence; see `FeatureSchema.columns`.
        numeric: (N, floats of all numeric features) float32, raw, and NaN where missing; the model normalises.
    """

    indices: npt.NDArray[np.int32] | Ints
    numeric: Floats

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, rows: Ints | slice) -> "Encoded":
        """The chosen rows."""
        return Encoded(self.indices[rows], self.numeric[rows])


def encode(schema: FeatureSchema, table: pa.Table) -> Encoded:
    """Turn raw columns into indices and floats.

    Raises:
        SchemaError: a column is absent or does not have the feature's type or length.
    """
    encoded = Encoded(
        np.empty((table.num_rows, schema.index_columns), np.int32),
        np.empty((table.num_rows, schema.floats), np.float32),
    )
    for feature in schema.features:
        values = encode_feature(schema, feature, table)
        (encoded.numeric if feature.kind == "numeric" else encoded.indices)[:, schema.columns[feature.name]] = values
    return encoded


def encode_feature(schema: FeatureSchema, feature: Feature, table: pa.Table) -> npt.NDArray[np.int32] | Floats:
    """(N, length) the columns that `Encoded` has for one feature.

    Raises:
        SchemaError: its column is absent or does not have its type or length.
    """
    try:
        values = column_of(feature, table)
        return floats(feature, values) if feature.kind == "numeric" else _rows(schema, feature, values)
    except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise SchemaError(f"column '{feature.name}' does not fit the feature schema: {error}") from error


def column_of(feature: Feature, table: pa.Table) -> pa.Array:
    """The values of a feature; a request need not say everything about its moment.

    Raises:
        KeyError: the column is absent, and not a feature of the moment.
    """
    if feature.side == "moment" and feature.name not in table.column_names:
        return pa.nulls(table.num_rows)
    return table[feature.name].combine_chunks()


def _rows(schema: FeatureSchema, feature: Feature, values: pa.Array) -> npt.NDArray[np.int32]:
    """(N, length) rows of the shared index space."""
    if feature.kind == "categorical":
        return _look_up(schema, feature, values)[:, None]
    row, place, flat = flat_values(feature, values)
    out = np.zeros((len(values), feature.length), np.int32)
    out[row, place] = _look_up(schema, feature, flat)
    return out


def flat_values(feature: Feature, lists: pa.Array) -> tuple[Ints, Ints, pa.Array]:
    """(row, position in the list, value) of each value of N lists; values past the feature's length are dropped."""
    lists = pc.fill_null(lists, pa.scalar([], lists.type))
    counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    row = np.repeat(np.arange(len(lists)), counts)
    place = place_in_group(row)
    kept = place < feature.length
    return row[kept], place[kept], pc.list_flatten(lists).filter(pa.array(kept))


def _look_up(schema: FeatureSchema, feature: Feature, values: pa.Array) -> npt.NDArray[np.int32]:
    """(N,) the row of each value in the shared index space."""
    keys, (known, unknown) = schema.keys(feature), schema.rows_of(feature)
    found = pc.index_in(values.cast(keys.type), value_set=keys)
    rows: npt.NDArray[np.int32] = pc.fill_null(pc.add(found, known), unknown).to_numpy(zero_copy_only=False)
    return rows.astype(np.int32)


def floats(feature: Feature, values: pa.Array) -> Floats:
    """(N, length) floats, NaN where one is missing; a date is the days since 1970."""
    rows = len(values)
    if pa.types.is_date32(values.type):
        values = values.cast(pa.int32())
    if pa.types.is_list(values.type):
        values = values.cast(pa.list_(values.type.value_type, feature.length))  # fails on a different length
    if pa.types.is_fixed_size_list(values.type):
        missing = pa.scalar([None] * feature.length, values.type)
        values = pc.list_flatten(pc.fill_null(values, missing) if values.null_count else values)
    # Unsafe, as a safe cast refuses integers past 2^24, which float32 rounds.
    flat: Floats = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return flat.reshape(rows, feature.length)
