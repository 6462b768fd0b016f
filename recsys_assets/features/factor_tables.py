"""Files of user-item features: one row per offline event, and the factors of every user and item for serving."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools, Floats, Ints
from recsys_assets.datasets.duck import name, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.names import (
    AFFINITY,
    DISLIKED,
    ITEM_FACTORS,
    LIKED,
    NEARBY,
    RECENT_ITEMS,
    RECENT_LABELS,
    RECENT_VALUES,
    USER_FACTORS,
)
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.affinity import pairs
from recsys_assets.features.factors import Events
from recsys_assets.features.nearby import NUMBERS, History, Past, Recent

USERS, ITEMS = "users.parquet", "items.parquet"
KEYS = ("user_id", "item_id", "timestamp")
BATCH = 2**17  # rows: 100 MB of recent items at a length of 50


def write_factors(
    connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path, users: Path, items: Path, folder: Path
) -> dict[str, int]:
    """Write the features of the events, and the factors of users and of items; returns the rows of each file.

    Values are the profile's rating, if it has one, and the label. Online rows are left out; items are fitted on train
    rows. A row without a rating has no value of that kind; it is NaN among the recent values.
    """
    ids = {side: _ids(connection, side, path) for side, path in {"user": users, "item": items}.items()}
    rows, rule = _offline(connection, profile, splits), profile.features.affinity
    valued, labels = _events(rows, ids), rows["label"].to_numpy()
    users_of, items_of = valued[0].users, valued[0].items
    history = History(Past(users_of, labels >= 0, 2 * rule.recent), items_of, valued[0].values, labels)
    kinds = {LIKED: Past(users_of, labels == 1, rule.recent), DISLIKED: Past(users_of, labels == 0, rule.recent)}
    found = pairs(valued, history, (len(ids["user"]), len(ids["item"])), rule.width, rule.folds)

    def listed(numbers: dict[str, Ints]) -> dict[str, pa.Array]:
        """The events of each kind as lists of item ids."""
        return {column: _lists(ids["item"].take(items_of[n[n >= 0]]), n >= 0) for column, n in numbers.items()}

    with pq.ParquetWriter(folder / ROWS, _schema(rows, len(valued)), compression="zstd") as file:
        for start in range(0, rows.num_rows, BATCH):
            block = np.arange(start, min(start + BATCH, rows.num_rows))
            features = {AFFINITY: vectors(found.affinity[block]), NEARBY: vectors(found.nearby[block])}
            features |= listed({column: past.before(block) for column, past in kinds.items()})
            file.write_table(pa.table({**{key: rows[key].take(block) for key in KEYS}, **features}, file.schema))
    everyone = np.arange(len(ids["user"]))
    last = listed({column: past.latest(everyone) for column, past in kinds.items()})
    last |= _recent(ids["item"], history.latest(everyone))
    tables = {
        USERS: pa.table({"user_id": ids["user"], USER_FACTORS: vectors(found.users), **last}),
        ITEMS: pa.table({"item_id": ids["item"], ITEM_FACTORS: vectors(found.items)}),
    }
    for file_name, table in tables.items():
        pq.write_table(table, folder / file_name, compression="zstd")
    return {ROWS: rows.num_rows, **{file_name: table.num_rows for file_name, table in tables.items()}}


def vectors(numbers: Floats) -> pa.Array:
    """(N, …) numbers as N lists of a fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), int(np.prod(numbers.shape[1:])))


def _ids(connection: duckdb.DuckDBPyConnection, side: str, path: Path) -> pa.Array:
    """The ids of a table in ascending order; the model's numbers are positions in it."""
    query = f"SELECT {side}_id FROM {scan([path])} ORDER BY {side}_id"
    return connection.sql(query).to_arrow_table()[f"{side}_id"].combine_chunks()


def _offline(connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path) -> pa.Table:
    """The offline events in order, with a column for each kind of values."""
    values = [*([name(profile.rating)] if profile.rating else []), "label"]
    columns = ", ".join(f"{value}::DOUBLE AS value_{place}" for place, value in enumerate(values))
    return connection.sql(
        f"SELECT user_id, item_id, timestamp, label, part = 'train' AS train, {columns} "
        f"FROM {scan([splits])} WHERE part <> 'online' ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()


def _events(rows: pa.Table, ids: dict[str, pa.Array]) -> list[Events]:
    """The events, once for each kind of values; values are centred and scaled by the train rows' mean and deviation."""
    user, item = (pc.index_in(rows[f"{side}_id"], value_set=known).to_numpy() for side, known in ids.items())
    train, valued = rows["train"].to_numpy(), []
    for column in [column for column in rows.column_names if column.startswith("value_")]:
        values = rows[column].to_numpy()
        known = values[train & ~np.isnan(values)]
        mean, deviation = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
        centred = ((values - mean) / deviation).astype(np.float32)
        valued.append(Events(user.astype(np.int64), item.astype(np.int64), centred, train))
    return valued


def _schema(rows: pa.Table, kinds: int) -> pa.Schema:
    item = rows.schema.field("item_id").type
    sizes = {AFFINITY: pa.list_(pa.float32(), kinds), NEARBY: pa.list_(pa.float32(), NUMBERS)}
    lists = {LIKED: pa.list_(item), DISLIKED: pa.list_(item)}
    return pa.schema([*(rows.schema.field(key) for key in KEYS), *(sizes | lists).items()])


def _recent(ids: pa.Array, recent: Recent) -> dict[str, pa.Array]:
    """The newest events of users as lists of item ids, of values and of labels."""
    there = recent.items >= 0
    parts = {RECENT_ITEMS: ids.take(recent.items[there])}
    parts |= {RECENT_VALUES: pa.array(recent.values[there]), RECENT_LABELS: pa.array(recent.labels[there])}
    return {column: _lists(flat, there) for column, flat in parts.items()}


def _lists(flat: pa.Array, there: Bools) -> pa.Array:
    """N lists of the flat values, row by row; `there` (N, L) marks how many a row has."""
    return pa.ListArray.from_arrays(np.append(0, np.cumsum(there.sum(axis=1))).astype(np.int32), flat)
