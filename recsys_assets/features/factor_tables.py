"""The features of user and item together in files: of each offline event, and of every user and item for serving."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import name, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.affinity import pairs
from recsys_assets.features.factors import Events, Floats, Ints
from recsys_assets.features.nearby import SHARPNESS, Past

AFFINITY, NEARBY = "user_item_affinity", "user_item_nearby"
LIKED, DISLIKED = "recent_liked", "recent_disliked"
USER_FACTORS, ITEM_FACTORS = "user_factors", "item_factors"
KEYS = ("user_id", "item_id", "timestamp")
USERS, ITEMS = "users.parquet", "items.parquet"
BATCH = 2**17  # rows: 100 MB of recent items at a length of 50


def write_factors(
    connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path, users: Path, items: Path, folder: Path
) -> dict[str, int]:
    """Write the features of the events, and the factors of users and of items; returns the rows of each file.

    Values are the profile's rating, or without one the label; online rows are left out, items are fitted on train rows.
    """
    ids = {side: _ids(connection, side, path) for side, path in {"user": users, "item": items}.items()}
    rows = _offline(connection, profile, splits)
    events, labels, rule = _events(rows, ids), rows["label"].to_numpy(), profile.features.affinity
    past = Past(events.users, events.items, labels, rule.recent)
    found = pairs(events, past, (len(ids["user"]), len(ids["item"])), rule.width, rule.folds)
    with pq.ParquetWriter(folder / ROWS, _schema(rows), compression="zstd") as file:
        for start in range(0, rows.num_rows, BATCH):
            block = np.arange(start, min(start + BATCH, rows.num_rows))
            features = {AFFINITY: found.affinity[block], NEARBY: vectors(found.nearby[block])}
            features |= _recent(ids["item"], past.before(block))
            file.write_table(pa.table({**{key: rows[key].take(block) for key in KEYS}, **features}, file.schema))
    last = _recent(ids["item"], past.latest(np.arange(len(ids["user"]))))
    tables = {
        USERS: pa.table({"user_id": ids["user"], USER_FACTORS: vectors(found.users), **last}),
        ITEMS: pa.table({"item_id": ids["item"], ITEM_FACTORS: vectors(found.items)}),
    }
    for file_name, table in tables.items():
        pq.write_table(table, folder / file_name, compression="zstd")
    return {ROWS: rows.num_rows, **{file_name: table.num_rows for file_name, table in tables.items()}}


def vectors(matrix: Floats) -> pa.Array:
    """The rows of a matrix as lists of a fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])


def _ids(connection: duckdb.DuckDBPyConnection, side: str, path: Path) -> pa.Array:
    """The ids of a table in ascending order: what the model's numbers stand for."""
    query = f"SELECT {side}_id FROM {scan([path])} ORDER BY {side}_id"
    return connection.sql(query).to_arrow_table()[f"{side}_id"].combine_chunks()


def _offline(connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path) -> pa.Table:
    value = name(profile.rating) if profile.rating else "label"
    return connection.sql(
        f"SELECT user_id, item_id, timestamp, label, {value}::DOUBLE AS value, part = 'train' AS train "
        f"FROM {scan([splits])} WHERE part <> 'online' ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()


def _events(rows: pa.Table, ids: dict[str, pa.Array]) -> Events:
    values, train = rows["value"].to_numpy(), rows["train"].to_numpy()
    user, item = (pc.index_in(rows[f"{side}_id"], value_set=known).to_numpy() for side, known in ids.items())
    centred = (values - values[train].mean()) / (values[train].std() or 1.0)
    return Events(user.astype(np.int64), item.astype(np.int64), centred.astype(np.float32), train)


def _schema(rows: pa.Table) -> pa.Schema:
    item = rows.schema.field("item_id").type
    features = {
        AFFINITY: pa.float32(),
        NEARBY: pa.list_(pa.float32(), len(SHARPNESS)),
        LIKED: pa.list_(item),
        DISLIKED: pa.list_(item),
    }
    return pa.schema([*(rows.schema.field(key) for key in KEYS), *features.items()])


def _recent(ids: pa.Array, past: tuple[Ints, Ints]) -> dict[str, pa.Array]:
    """Numbers of items, -1 where there are no more, as lists of ids."""
    lists = {}
    for column, numbers in zip((LIKED, DISLIKED), past, strict=True):
        there = numbers >= 0
        ends = np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32)
        lists[column] = pa.ListArray.from_arrays(ends, ids.take(pa.array(numbers[there])))
    return lists
