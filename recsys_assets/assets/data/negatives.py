"""Negative items: the table that two-tower models draw negatives from, in TorchEasyRec's format."""

from pathlib import Path

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from recsys_assets.arrays import Ints
from recsys_assets.assets.lake_asset import Check, lake_asset
from recsys_assets.assets.ranges import BY_MONTH
from recsys_assets.assets.reports import show
from recsys_assets.datasets.duck import scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.splits import before
from recsys_assets.engines.chosen import open_engine
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset
from recsys_assets.retrieval import negatives, weighted_items
from recsys_assets.retrieval.weighted_items import WeightedItems

NEGATIVE_ITEMS = "negative_items.tsv"


class NegativesConfig(dg.Config):
    """How negatives are weighted, and how ids that are text are treated."""

    power: float = Field(
        default=negatives.POWER, ge=0, description="exponent of an item's number of events; 0 weights all items alike"
    )
    hash_ids: bool = Field(default=True, description="hash ids that are text to 64 bits; off, they are refused")


@lake_asset(
    backfill_policy=BY_MONTH,
    kinds={"duckdb"},
    checks=[
        Check("unique_ids", "no id occurs twice, hashed ids included"),
        Check("weights_are_positive", "every weight is finite and above zero"),
        Check("reads_back", "the file, read again, is what was written"),
    ],
)
def negative_items(
    output: Output, config: NegativesConfig, dataset: Dataset, recall_samples: Partition, items: Partition
) -> None:
    """Items with an event before the test rows, weighted by the number of these events to the power 0.75.

    It is a tab-separated table of id, weight and attributes (the profile's item features, in its order), as
    TorchEasyRec's `negative_sampler` reads it; the metadata shows its `attr_fields` and their types.
    """
    output.manifest.config = config.model_dump()
    ids, counts = _count_events(recall_samples.path(ROWS))
    found = WeightedItems(
        ids=weighted_items.integer_ids(ids, config.hash_ids),
        weights=negatives.popularity(counts, config.power),
        attributes=_attributes(dataset.load(), pq.read_table(items.path(ROWS)), ids),
    )
    output.manifest.rows = len(ids)
    output.manifest.metrics = {"total_weight": float(found.weights.sum())}
    _check(output, found)
    _show(output, found)


def _count_events(samples: Path) -> tuple[pa.Array, Ints]:
    """The items with an event before the test rows, in ascending order, and their numbers of these events."""
    with open_engine() as engine:
        counted = engine.execute(
            f"SELECT item_id, count(*) FROM {scan([samples])} WHERE {before('test')} GROUP BY item_id ORDER BY item_id"
        ).fetchall()
    ids, counts = zip(*counted, strict=True)
    return pa.array(ids, pq.read_schema(samples).field("item_id").type), np.array(counts)


def _attributes(profile: Profile, table: pa.Table, ids: pa.Array) -> pa.Table:
    """The item features of the profile, in its order, of the items with these ids; an empty list becomes null."""
    features = profile.features
    names = [*features.categorical, *features.multi_valued, *features.numeric]
    row = pc.index_in(ids, value_set=table["item_id"].combine_chunks())
    columns = {name: table[name].combine_chunks().take(row) for name in names if name in table.column_names}
    for name, values in columns.items():
        if pa.types.is_list(values.type):
            columns[name] = pc.if_else(pc.equal(pc.list_value_length(values), 0), None, values)
    return pa.table(columns)


def _check(output: Output, found: WeightedItems) -> None:
    """The checks; only a table that passes the first two can be written."""
    again = len(found.ids) - len(np.unique(found.ids))
    output.check("unique_ids", again == 0, there_twice=again)
    light = int((~np.isfinite(found.weights) | (found.weights <= 0)).sum())
    output.check("weights_are_positive", light == 0, items=light)
    same = {} if again or light else _write(output, found)
    output.check("reads_back", bool(same) and all(same.values()), **same)


def _write(output: Output, found: WeightedItems) -> dict[str, bool]:
    """Write the table and read it again; return which of its parts are the same."""
    weighted_items.write(output.path(NEGATIVE_ITEMS), found)
    written = weighted_items.read(output.path(NEGATIVE_ITEMS), found.attributes.schema)
    return {
        "ids": np.array_equal(written.ids, found.ids),
        "weights": np.array_equal(written.weights, found.weights),
        "attributes": written.attributes.equals(found.attributes),
    }


def _show(output: Output, found: WeightedItems) -> None:
    """Show the attributes as a sampler's settings need them, and the items that are drawn most."""
    schema = found.attributes.schema
    output.metadata["attr_fields"] = show.table(["attribute", "type"], [(field.name, field.type) for field in schema])
    heaviest = np.argsort(-found.weights, kind="stable")[:8]
    columns = [found.ids, found.weights, *(column.to_pylist() for column in found.attributes.columns)]
    rows = [tuple(column[place] for column in columns) for place in heaviest.tolist()]
    output.metadata["heaviest items"] = show.table(["id", "weight", *schema.names], rows)
