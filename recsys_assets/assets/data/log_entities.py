"""Users and items that need the log: these assets replace those of `ingest.py` where a profile's `needs_log` says so.

A table that does not land is made from the log; to one that lands, columns of the log or unknown ids are added.
"""

from recsys_assets.assets.data.ingest import LANDED_CHECKS, NO_NULLS, UNIQUE_KEYS, write_entities
from recsys_assets.assets.lake_asset import INPUTS_UNCHANGED, LakeAsset, lake_asset
from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.io_managers import Output
from recsys_assets.resources import Dataset, LakeStore


def _entities(table: TableName, what: str) -> LakeAsset:
    """The asset of the users, or of the items."""

    @lake_asset(
        name=table,
        description=f"Every {what} that landed or is in the log by the end of the bizdate, ordered by `{what}_id`, "
        "with the newest values of the columns that the log carries.",
        # It reads earlier days too; with a partition mapping for that, a backfill of one day would run all later days.
        backfill_policy=BY_MONTH,
        deps=["interactions"],
        kinds={"duckdb", "parquet"},
        checks=[NO_NULLS, UNIQUE_KEYS, *LANDED_CHECKS, INPUTS_UNCHANGED],
    )
    def entities(output: Output, lake: LakeStore, dataset: Dataset) -> None:
        events = lake.history("interactions", output.manifest.bizdate)
        output.add_inputs(events)
        write_entities(output, dataset.load(), table, events)

    return entities


users, items = _entities("users", "user"), _entities("items", "item")
