"""Boundaries of numeric features: the edges of bins that hold about equally many train rows.

A model that asks for bins gets them in its schema, and sees a number as the edges that it reaches; so it can treat the
middle of a range differently from both ends, which a single weight cannot.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.row_files import RowFiles, files_of
from recsys_assets.features.schema import Feature, FeatureSchema

BINS = 10


def fit_boundaries(
    connection: duckdb.DuckDBPyConnection, schema: FeatureSchema, train: RowFiles, bins: int
) -> dict[str, list[float]]:
    """The edges between at most `bins` bins of each feature that is one number, from the train rows' known values.

    Edges are values of the rows, distinct and ascending; a value belongs to the bin above an edge that it equals. The
    lowest value is no edge, as every row reaches it.
    """
    found, rows = {}, scan(files_of(train))
    for feature in schema.of_kind("numeric"):
        if feature.length > 1:
            continue
        column = f"{quote_name(feature.name)}::FLOAT"
        shares = [place / bins for place in range(1, bins)]
        (row,) = connection.execute(
            f"SELECT quantile_disc({column}, {shares}), min({column}) FROM {rows} WHERE isfinite({column})"
        ).fetchall()
        edges, lowest = row
        found[feature.name] = sorted({float(edge) for edge in edges or [] if edge > lowest})
    return found


def with_boundaries(schema: FeatureSchema, edges: Mapping[str, list[float]]) -> FeatureSchema:
    """The schema with the edges of its numeric features."""

    def binned(feature: Feature) -> Feature:
        return replace(feature, boundaries=edges[feature.name]) if edges.get(feature.name) else feature

    return FeatureSchema([binned(feature) for feature in schema.features], schema.crosses)


def read_boundaries(path: Path) -> dict[str, list[float]]:
    """The edges by feature of a file of `feature_boundaries`."""
    table = pq.read_table(path)
    return dict(zip(table["feature"].to_pylist(), table["boundaries"].to_pylist(), strict=True))
