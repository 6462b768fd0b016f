"""Samples of cold-start models from the template next to the profile, and the edges of bins of numeric features."""

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_no_nulls, check_unique
from recsys_assets.coldstart.boundaries import BINS, fit_boundaries
from recsys_assets.coldstart.samples import sample_query
from recsys_assets.coldstart.template import template_of
from recsys_assets.datasets.duck import connect, scan, write_parquet
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.ranking.sample_parts import part_files
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.settings import settings


@lake_asset(
    # Like `splits`, it reads earlier days too.
    deps=["interactions"],
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key, label or part is null"),
        Check("unique_keys", "one row per user, item and bizdate"),
    ],
)
def cold_start_samples(output: Output, lake: LakeStore, dataset: Dataset, splits: Partition) -> None:
    """One row per user, item and bizdate with the label of the template `<profile>.cold_start.json`, ordered by user.

    Without a template, the label is the profile's own, and all days train. The parts are those of `splits`: the newest
    days evaluate, and the template's `train_days` before them train.
    """
    profile, place = dataset.load(), settings()
    template = template_of(place.profile, place.home)
    output.manifest.config = {"template": template.model_dump()}
    events = lake.history("interactions", output.manifest.bizdate)
    output.add_inputs(events)
    query = sample_query(profile, template, [each.path(ROWS) for each in events], splits.path(ROWS))
    with connect() as connection:
        output.manifest.rows = write_parquet(connection, query, output.path(ROWS))
        written = scan([output.path(ROWS)])
        counts = connection.execute(
            f"SELECT part, count(*), sum(label), count(DISTINCT bizdate) FROM {written} GROUP BY part ORDER BY part"
        ).fetchall()
        for part, rows, positives, days in counts:
            figures = {"rows": rows, "positives": positives, "days": days}
            output.manifest.metrics |= {f"{part}_{name}": float(value) for name, value in figures.items()}
        check_no_nulls(output, connection, written, ["user_id", "item_id", "bizdate", "label", "part"])
        check_unique(output, connection, written, ["user_id", "item_id", "bizdate"])
        output.metadata["preview"] = show.preview(connection, f"FROM {written}", 5)


class BoundariesConfig(dg.Config):
    """How fine the bins are."""

    bins: int = Field(default=BINS, ge=2, le=1000, description="bins of a feature, at most")


@lake_asset(kinds={"duckdb", "parquet"}, checks=[Check("boundaries_ascend", "each edge is above the last")])
def feature_boundaries(
    output: Output, config: BoundariesConfig, rank_samples: Partition, feature_schema: Partition
) -> None:
    """The edges of the bins of each numeric feature, which hold about equally many train rows: `feature`, `boundaries`.

    Models for cold start read them. A feature of several numbers has none.
    """
    output.manifest.config = config.model_dump()
    schema = FeatureSchema.read(feature_schema.path(SCHEMA))
    with connect() as connection:
        edges = fit_boundaries(connection, schema, part_files(rank_samples, "train"), config.bins)
    kinds = [("feature", pa.string()), ("boundaries", pa.list_(pa.float64()))]
    table = pa.table({"feature": list(edges), "boundaries": list(edges.values())}, pa.schema(kinds))
    pq.write_table(table, output.path(ROWS), compression="zstd")
    output.manifest.rows = table.num_rows
    sound = all(low < high for each in edges.values() for low, high in zip(each, each[1:], strict=False))
    output.check("boundaries_ascend", sound, features=len(edges))
    output.metadata["boundaries"] = show.table(["feature", "edges"], [(f, str(each)) for f, each in edges.items()])
