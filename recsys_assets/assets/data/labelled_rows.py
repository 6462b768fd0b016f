"""Samples of labelled rows: these assets replace those of `samples.py` for a dataset without users and items.

A row is its own sample: its features came with it, and no user's history is needed.
"""

from recsys_assets.assets.data.sample_files import (
    BOTH_CLASSES,
    describe_parts,
    rows_and_positives,
    write_parts,
)
from recsys_assets.assets.data.samples import write_splits
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.datasets.duck import connect, only_row, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.splits import sample_rows, split_rows
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.ranking.sample_parts import RANKED_PARTS
from recsys_assets.resources import Dataset, LakeStore


@lake_asset(
    backfill_policy=BY_MONTH,
    # It reads earlier days too; with a partition mapping for that, a backfill of one day would run all later days.
    deps=["interactions"],
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key, label or part is null"),
        Check("parts_in_order", "where parts go by time, none begins before the previous one ends"),
        Check("label_rate_is_steady", "the day's label rate is within bounds of the day before"),
    ],
)
def splits(output: Output, lake: LakeStore, dataset: Dataset) -> None:
    """Every row up to the bizdate with its label and its part: train, validation or test.

    The rule is the profile's `split`: whole days, parts that came with the rows, or a draw. The validation part is used
    for every choice; `train_rows` includes it.
    """
    profile, day = dataset.load(), output.manifest.bizdate
    events = lake.history("interactions", day)
    output.add_inputs(events)
    output.manifest.config = {"split": profile.split.model_dump(), "label": profile.label}
    with connect() as connection:
        split_rows(connection, profile, [partition.path(ROWS) for partition in events], day)
        write_splits(output, connection, profile, "FROM splits", ["timestamp", "seq"])
        date = profile.files.day_sql()
        days = f"SELECT part, min({date}) AS first, max({date}) AS last FROM splits GROUP BY part"
        order = f"list_position({list(RANKED_PARTS)}, part)"
        late = f"SELECT first, lag(last) OVER (ORDER BY {order}) AS before FROM ({days}) QUALIFY first <= before"
        (found,) = only_row(connection, f"SELECT count(*) FROM ({late})")
        rule = profile.split.strategy  # rows whose part was drawn or given mean nothing by their order
        output.check("parts_in_order", found == 0 or rule != "by_day", strategy=rule, parts_out_of_order=int(found))


@lake_asset(
    deps=["interactions"],
    kinds={"duckdb", "parquet"},
    checks=[
        Check("no_nulls", "no key or label is null"),
        Check("rows_match_splits", "each part has the rows and positives of `splits`"),
        BOTH_CLASSES,
    ],
)
def rank_samples(output: Output, lake: LakeStore, dataset: Dataset, splits: Partition) -> None:
    """Rows for ranking models, one file per part: the features as they came; `feature_schema` says how to read them."""
    profile, day = dataset.load(), output.manifest.bizdate
    events = lake.history("interactions", day)
    output.add_inputs(events)
    output.manifest.config = {"features": profile.features.model_dump(), "terms": []}
    with connect() as connection:
        sources = [partition.path(ROWS) for partition in events]
        queries = {part: sample_rows(profile, sources, day, part) for part in RANKED_PARTS}
        written = write_parts(output, connection, queries)
        describe_parts(output, connection, written, ["timestamp", "seq"])
        marked = scan([splits.path(ROWS)])
        expected = [rows_and_positives(connection, f"{marked} WHERE part = '{part}'") for part in RANKED_PARTS]
        found = [rows_and_positives(connection, scan([file])) for file in written]
        output.check("rows_match_splits", found == expected, expected=str(expected), found=str(found))
