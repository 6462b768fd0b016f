"""Collections: what the stores hold, each a table built from partitions of the lake.

Put here what a service reads. MetaSpore's demo looks its collections up by the text `queryid` (`dump/write_mongo.py`);
recsys_pipeline has Redis keys and an item index.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import find
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.channels import TERM_ITEMS, USER_TERMS
from recsys_assets.manifest import Partition
from recsys_assets.retrieval.interactions import histories, read
from recsys_assets.stores.store import KEY

Inputs = Mapping[str, Partition]


@dataclass(frozen=True)
class Collection:
    """A table for services.

    Attributes:
        description: what a row holds.
        reads: the assets whose partitions it is built from.
        rows: builds it from the profile and these partitions; its first column identifies a row.
        optional: those of the assets that it does without when they are declined.
    """

    description: str
    reads: tuple[str, ...]
    rows: Callable[[Profile, Inputs], pa.Table]
    optional: tuple[str, ...] = ()

    def table(self, profile: Profile, inputs: Inputs) -> pa.Table:
        """The rows, with their key as text in front and times in milliseconds, the finest that MongoDB holds.

        Other partitions than those of `reads` may be among the inputs, and optional ones may be absent.
        """
        needed = [asset for asset in self.reads if asset in inputs or asset not in self.optional]
        rows = _cut_to_milliseconds(self.rows(profile, {asset: inputs[asset] for asset in needed}))
        return rows.add_column(0, KEY, rows[0].cast(pa.string()))


def users(_: Profile, inputs: Inputs) -> pa.Table:
    """For each user, the columns of `users`, the features that rankers read, liked terms, and all items seen.

    `seen_items` are in the order in which the user touched them; the last ones are the triggers of item-to-item recall.
    """
    table = _read_entities(inputs["users"], "user_id")
    for other in (_read_rows(inputs["user_features"]), _liked_terms(inputs), _seen_items(inputs)):
        table = _join(table, other)
    return table


def items(_: Profile, inputs: Inputs) -> pa.Table:
    """The columns of `items` for each item: what people are shown."""
    return _read_entities(inputs["items"], "item_id")


def item_features(_: Profile, inputs: Inputs) -> pa.Table:
    """The features of each item that rankers read."""
    return _read_rows(inputs["item_features"])


def neighbours(profile: Profile, inputs: Inputs) -> pa.Table:
    """The neighbours `value` of each item `key`, best first."""
    (alike,) = inputs.values()
    return _keyed_lists(profile, _read_rows(alike))


def terms(profile: Profile, inputs: Inputs) -> pa.Table:
    """The best items `value` of each term `key`, best first."""
    return _keyed_lists(profile, pq.read_table(inputs["recall_term"].path(TERM_ITEMS)))


def vectors(_: Profile, inputs: Inputs) -> pa.Table:
    """The vector of each user, or item, for serving."""
    (embedded,) = inputs.values()
    return _read_rows(embedded)


def recall_state(profile: Profile, inputs: Inputs) -> pa.Table:
    """For each user, what recall needs (recsys_pipeline): liked terms, best first, the vector, and what to leave out.

    `filter` has the items seen; it is empty where lists hold seen items.
    """
    table = _read_rows(inputs[f"emb_{profile.publishing.vectors}_user"])
    for other in (_term_names(_liked_terms(inputs)), _seen_items(inputs)):
        table = _join(table, other)
    if not profile.recall.filter_seen:
        seen = table["seen_items"]
        nothing = pa.array([[]] * len(table), seen.type)
        table = table.set_column(table.column_names.index("seen_items"), "seen_items", nothing)
    return table.select(["user_id", "terms", "vector", "seen_items"]).rename_columns(
        ["user_id", "term", "vector", "filter"]
    )


def term_vectors(profile: Profile, inputs: Inputs) -> pa.Table:
    """For each item with a vector, its terms and the vector: what recsys_pipeline keeps in its item index."""
    table = _join(_read_rows(inputs[f"emb_{profile.publishing.vectors}_item"]), _read_rows(inputs["items"]))
    rule = profile.features.terms
    carried = table[rule.column] if rule else pa.array([[]] * len(table), pa.list_(pa.string()))
    return pa.table({"item_id": table["item_id"], "terms": carried, "vector": table["vector"]})


def _read_rows(partition: Partition) -> pa.Table:
    return pq.read_table(partition.path(ROWS))


def _read_entities(partition: Partition, key: str) -> pa.Table:
    """The rows of users or items with their key in front, wherever the profile names it."""
    table = _read_rows(partition)
    return table.select([key, *(name for name in table.column_names if name != key)])


def _cut_to_milliseconds(table: pa.Table) -> pa.Table:
    """The table with its times cut off at milliseconds, and its dates as the times at which they begin."""
    zones = [field.type.tz if pa.types.is_timestamp(field.type) else None for field in table.schema]
    fields = [
        field.with_type(pa.timestamp("ms", zone)) if pa.types.is_temporal(field.type) else field
        for field, zone in zip(table.schema, zones, strict=True)
    ]
    return table.cast(pa.schema(fields), safe=False)


def _join(table: pa.Table, other: pa.Table) -> pa.Table:
    """The table joined with those columns of the other table that it lacks; both begin with the same key.

    Raises:
        ValueError: the other table lacks a row.
    """
    key = table.column_names[0]
    order = np.argsort(other[key].to_numpy())
    places = find(other[key].to_numpy()[order], table[key].to_numpy())
    if (places < 0).any():
        raise ValueError(f"{key} {table[key][int(np.argmin(places))]} is missing in one table: materialize both again")
    found = other.take(pa.array(order[places]))
    for name in found.column_names:
        if name not in table.column_names:
            table = table.append_column(name, found[name])
    return table


def _liked_terms(inputs: Inputs) -> pa.Table:
    """user_id and terms, {term, score}, of every user; the lists are empty if the items have no terms."""
    if "recall_term" not in inputs:
        ids = _read_rows(inputs["users"])["user_id"]
        entry = pa.struct({"term": pa.string(), "score": pa.float32()})
        return pa.table({"user_id": ids, "terms": pa.array([[]] * len(ids), pa.list_(entry))})
    return pq.read_table(inputs["recall_term"].path(USER_TERMS), columns=["user_id", "terms"])


def _term_names(liked: pa.Table) -> pa.Table:
    """The table of `_liked_terms` without the scores."""
    lists = liked["terms"].combine_chunks()
    return liked.set_column(1, "terms", pa.ListArray.from_arrays(lists.offsets, lists.values.field("term")))


def _seen_items(inputs: Inputs) -> pa.Table:
    """user_id and seen_items of every user, oldest first, without the online part."""
    ids = np.sort(_read_rows(inputs["users"])["user_id"].to_numpy())
    events = read(inputs["recall_samples"].path(ROWS)).with_users(ids)
    starts, ends = histories(events, "online")
    offsets = pa.array(np.append(starts, ends[-1:]), pa.int32())
    return pa.table(
        {"user_id": ids, "seen_items": pa.ListArray.from_arrays(offsets, pa.array(events.item_ids[events.items]))}
    )


def _keyed_lists(profile: Profile, table: pa.Table) -> pa.Table:
    """A key and a list of {item_id, score} as `key` and `value`; the profile gives the names of an entry's fields."""
    lists = table[1].combine_chunks()
    entries = lists.values.flatten()
    named = pa.StructArray.from_arrays(entries, names=list(profile.publishing.entries))
    return pa.table({"key": table[0], "value": pa.ListArray.from_arrays(lists.offsets, named)})
