"""Fit the feature schema: vocabularies and normalisation statistics, from train rows only."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.datasets.profile import Column, Profile
from recsys_assets.features.history import TERM_STATISTICS, item_columns, user_columns
from recsys_assets.features.schema import MISSING, Feature, FeatureSchema, Side


def fit_schema(profile: Profile, train: pa.Table, terms: list[str]) -> FeatureSchema:
    """Schema of the columns of `rank_samples`, fitted on the rows of its train part (validation left out).

    `terms` are the counted terms, in the order of the term counts: they are their column's vocabulary.
    """
    features = [
        _categorical(profile, "user_id", "user", train),
        _categorical(profile, "item_id", "item", train),
        *(_feature(profile, name, "user", train, terms) for name in user_columns(profile)),
        *(_feature(profile, name, "item", train, terms) for name in item_columns(profile)),
    ]
    return FeatureSchema(features, profile.features.crosses)


def _feature(profile: Profile, name: str, side: Side, train: pa.Table, terms: list[str]) -> Feature:
    if name in profile.features.categorical:
        return _categorical(profile, name, side, train)
    counted = profile.features.terms.column if profile.features.terms else ""
    if name in profile.features.multi_valued:
        return _multi_valued(profile, name, side, train, terms if name == counted else None)
    return _numeric(name, side, train, counted if name in TERM_STATISTICS else "")


def _type(profile: Profile, name: str, side: Side) -> Literal["int64", "string"]:
    table: dict[str, Column] = profile.tables["users"] if side == "user" else profile.tables["items"]
    return "int64" if table[name].type == "int64" else "string"


def _categorical(profile: Profile, name: str, side: Side, train: pa.Table) -> Feature:
    group: Literal["id", "side"] = "id" if name in ("user_id", "item_id") else "side"
    vocabulary = _vocabulary(train[name], profile.features.min_count)
    return Feature(name, "categorical", side, _type(profile, name, side), group, vocabulary)


def _multi_valued(profile: Profile, name: str, side: Side, train: pa.Table, terms: list[str] | None) -> Feature:
    longest = pc.max(pc.list_value_length(train[name])).as_py() or 1
    vocabulary = _vocabulary(pc.list_flatten(train[name]), profile.features.min_count) if terms is None else terms
    return Feature(name, "multi_valued", side, "string", "side", vocabulary, length=int(longest))


def _numeric(name: str, side: Side, train: pa.Table, terms_of: str) -> Feature:
    """Mean and standard deviation of each float, missing ones left out; a constant one gets 1."""
    column = train[name].combine_chunks()
    nested = pa.types.is_nested(column.type)
    flat = (pc.list_flatten(column) if nested else column).cast(pa.float64())
    values = flat.to_numpy(zero_copy_only=False).reshape(train.num_rows, -1)
    known = np.maximum((~np.isnan(values)).sum(axis=0), 1)
    mean = np.nansum(values, axis=0) / known
    std = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / known)
    std[std == 0] = 1.0
    return Feature(
        name,
        "numeric",
        side,
        "float32",
        length=values.shape[1],
        mean=mean.tolist(),
        std=std.tolist(),
        terms_of=terms_of,
    )


def _vocabulary(values: pa.ChunkedArray | pa.Array, min_count: int) -> list[int] | list[str]:
    """Values of at least `min_count` rows, in ascending order."""
    counts = pc.value_counts(values)
    kept = counts.filter(pc.greater_equal(counts.field("counts"), min_count)).field("values")
    return sorted(value for value in kept.to_pylist() if value is not None and value not in MISSING.values())
