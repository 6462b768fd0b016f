"""Fitting of the feature schema: vocabularies and normalisation statistics, from train rows only.

DuckDB counts the vocabularies and spills to disk; statistics are summed batch by batch. So memory does not grow with
the rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import duckdb
import numpy as np
import pyarrow.parquet as pq

from recsys_assets.arrays import Doubles
from recsys_assets.datasets.duck import only_row, scan
from recsys_assets.datasets.duck import quote_name as identifier
from recsys_assets.datasets.moments import TIME_PARTS
from recsys_assets.datasets.names import TERM_STATISTICS
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.row_files import RowFiles, files_of
from recsys_assets.features.history import item_columns, user_columns
from recsys_assets.features.pair_features import MODEL_INPUTS
from recsys_assets.features.schema import MISSING, Feature, FeatureSchema, Side, floats

TABLE_OF: dict[Side, TableName] = {"user": "users", "item": "items", "row": "interactions", "moment": "interactions"}
BATCH_ROWS = 2**18  # rows


@dataclass(frozen=True)
class Train:
    """The Parquet files of the train rows, and a connection to count in them."""

    connection: duckdb.DuckDBPyConnection
    files: RowFiles

    @property
    def relation(self) -> str:
        """SQL for the rows."""
        return scan(files_of(self.files))

    def vocabulary(self, column: str, min_count: int) -> list[int] | list[str]:
        """Values that occur at least `min_count` times, in ascending order; those in lists are counted one by one."""
        found = self.connection.execute(
            f"SELECT value FROM (SELECT {column} AS value FROM {self.relation}) WHERE value IS NOT NULL "
            f"GROUP BY value HAVING count(*) >= {min_count} ORDER BY value"
        ).fetchall()
        return [value for (value,) in found if value not in MISSING.values()]

    def longest(self, column: str) -> int:
        """Length of the longest list, at least 1."""
        (length,) = only_row(self.connection, f"SELECT max(len({identifier(column)})) FROM {self.relation}")
        return int(length or 1)

    def moments(self, feature: Feature) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each float as the model sees it, without missing ones.

        The deviation of a constant is 1. Batches are summed in their order, so that the result is reproducible.
        """
        known, total = np.zeros(feature.length), np.zeros(feature.length)
        for values in self._floats(feature):
            known += (~np.isnan(values)).sum(axis=0)
            total += np.nansum(values, axis=0)
        mean = total / np.maximum(known, 1)
        squares = sum((np.nansum((values - mean) ** 2, axis=0) for values in self._floats(feature)), np.zeros(1))
        std = np.sqrt(squares / np.maximum(known, 1))
        std[std == 0] = 1.0
        return mean.tolist(), std.tolist()

    def _floats(self, feature: Feature) -> Iterator[Doubles]:
        """(rows, length) floats, batch by batch."""
        for each in files_of(self.files):
            with pq.ParquetFile(each) as file:
                for batch in file.iter_batches(BATCH_ROWS, columns=[feature.name]):
                    values = floats(feature, batch.column(0)).astype(np.float64)
                    yield np.sign(values) * np.log1p(np.abs(values)) if feature.transform == "log" else values


def fit_schema(
    connection: duckdb.DuckDBPyConnection, profile: Profile, train: RowFiles, terms: list[str]
) -> FeatureSchema:
    """Schema of the columns of `rank_samples`, fitted on the rows of its train part (without validation).

    `terms` are the counted terms, in the order of the term counts, and the vocabulary of their column. If no item has
    a term, the schema has no term statistics.
    """
    rows = Train(connection, train)
    columns = [(name, side) for name, side in _columns(profile) if terms or name not in TERM_STATISTICS]
    features = [_feature(profile, name, side, rows, terms) for name, side in columns]
    return FeatureSchema(features, profile.features.crosses)


def fit_tower_schema(connection: duckdb.DuckDBPyConnection, profile: Profile, train: RowFiles) -> FeatureSchema:
    """Schema of the features that two-tower models read: the ids, and the sets of values of users and items.

    It is what these models take of `fit_schema`, from rows that lack the other columns of `rank_samples`.
    """
    rows = Train(connection, train)
    wanted = {"user_id", "item_id", *profile.features.categorical, *profile.features.multi_valued}
    return FeatureSchema(
        [_feature(profile, name, side, rows, []) for name, side in _columns(profile) if name in wanted]
    )


def _columns(profile: Profile) -> list[tuple[str, Side]]:
    """The columns of `rank_samples` that feed models, and the side that serves each."""
    if not profile.has_entities:
        return [(column, "row") for column in profile.features.columns]
    return [
        ("user_id", "user"),
        ("item_id", "item"),
        *((column, "user") for column in user_columns(profile)),
        *((column, "item") for column in item_columns(profile)),
        *((feature.name, feature.side) for feature in MODEL_INPUTS),
        *((column, "moment") for column in profile.features.moment),
    ]


def _feature(profile: Profile, name: str, side: Side, train: Train, terms: list[str]) -> Feature:
    if name in {feature.name for feature in MODEL_INPUTS if not feature.serve}:
        kind = _type(profile, "item_id", "item")
        return Feature(name, "sequence", side, kind, length=profile.features.affinity.recent, values_of="item_id")
    if name in ("user_id", "item_id", *profile.features.categorical, *profile.features.moment):
        return _categorical_feature(profile, name, side, train)
    counted = profile.features.terms.column if profile.features.terms else ""
    if name in profile.features.multi_valued:
        return _multi_valued_feature(profile, name, side, train, terms if name == counted else None)
    return _numeric_feature(profile, name, side, train, counted if name in TERM_STATISTICS else "")


def _type(profile: Profile, name: str, side: Side) -> Literal["int64", "string"]:
    whole = name in TIME_PARTS or profile.columns_of(TABLE_OF[side])[name].type in ("int64", "int32", "bool")
    return "int64" if whole else "string"


def _categorical_feature(profile: Profile, name: str, side: Side, train: Train) -> Feature:
    group: Literal["id", "side"] = "id" if name in ("user_id", "item_id") else "side"
    kind = _type(profile, name, side)
    column = f"{identifier(name)}::BIGINT" if kind == "int64" else identifier(name)
    return Feature(name, "categorical", side, kind, group, train.vocabulary(column, profile.features.min_count))


def _multi_valued_feature(profile: Profile, name: str, side: Side, train: Train, terms: list[str] | None) -> Feature:
    vocabulary = train.vocabulary(f"unnest({identifier(name)})", profile.features.min_count) if terms is None else terms
    return Feature(name, "multi_valued", side, "string", "side", vocabulary, length=train.longest(name))


def _numeric_feature(profile: Profile, name: str, side: Side, train: Train, terms_of: str) -> Feature:
    feature = Feature(
        name,
        "numeric",
        side,
        "float32",
        length=train.longest(name) if side == "pair" or name in TERM_STATISTICS else _width(profile, name),
        transform="log" if name in profile.features.log else "",
        terms_of=terms_of,
        product_of=[column for pair in MODEL_INPUTS if pair.name == name for column in pair.product_of],
    )
    mean, std = train.moments(feature)
    return replace(feature, mean=mean, std=std)


def _width(profile: Profile, name: str) -> int:
    """The numbers of a vector; 1 for all else."""
    specs = [
        spec for table in profile.feature_tables for each, spec in profile.columns_of(table).items() if each == name
    ]
    return (specs[0].width or 1) if specs else 1
