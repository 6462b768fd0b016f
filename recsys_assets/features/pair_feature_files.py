"""Files of the user-item features: a row for each offline event, and the columns of users and items for serving."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints, blocks
from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.factor_model import Events
from recsys_assets.features.pair_data import Fitted, Log
from recsys_assets.features.pair_features import ITEM_COLUMNS, MODEL_INPUTS, USER_COLUMNS

USER_FILE, ITEM_FILE = "users.parquet", "items.parquet"
EVENT_KEYS = ("user_id", "item_id", "timestamp")
EVENT_BLOCK = 2**17  # rows: 100 MB of recent items at a length of 50


def write_pair_features(
    connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path, users: Path, items: Path, folder: Path
) -> dict[str, int]:
    """Write the features of the events, and the columns of users and of items; returns the rows of each file.

    Values are the profile's rating, if it has one, and the label. Online rows are left out; items are fitted on train
    rows. A row without a rating has no value of that kind; it is NaN among the recent values.
    """
    ids = {side: _ids(connection, side, path) for side, path in {"user": users, "item": items}.items()}
    rows = _offline(connection, profile, splits)
    log = Log(_kinds(rows, ids), rows["label"].to_numpy(), ids["user"], ids["item"], profile.features.affinity)
    fitted = {feature.name: feature.fit(log) for feature in MODEL_INPUTS}
    of_user = {column: values for each in fitted.values() for column, values in each.of_user.items()}
    of_item = {column: values for each in fitted.values() for column, values in each.of_item.items()}
    _write_events(folder / ROWS, rows, fitted)
    tables = {
        USER_FILE: pa.table({"user_id": log.user_ids, **{column: of_user[column] for column in USER_COLUMNS}}),
        ITEM_FILE: pa.table({"item_id": log.item_ids, **{column: of_item[column] for column in ITEM_COLUMNS}}),
    }
    for file_name, table in tables.items():
        pq.write_table(table, folder / file_name, compression="zstd")
    return {ROWS: rows.num_rows, **{file_name: table.num_rows for file_name, table in tables.items()}}


def _write_events(path: Path, rows: pa.Table, fitted: Mapping[str, Fitted]) -> None:
    """Write the keys and features of the events, block by block."""

    def table(block: Ints) -> pa.Table:
        keys = {key: rows[key].take(pa.array(block)) for key in EVENT_KEYS}
        return pa.table({**keys, **{feature: each.column(block) for feature, each in fitted.items()}})

    everything = np.arange(rows.num_rows)
    with pq.ParquetWriter(path, table(everything[:0]).schema, compression="zstd") as file:
        for block in blocks(everything, EVENT_BLOCK):
            file.write_table(table(block))


def _ids(connection: duckdb.DuckDBPyConnection, side: str, path: Path) -> pa.Array:
    """The ids of a table in ascending order; the model's numbers are positions in it."""
    query = f"SELECT {side}_id FROM {scan([path])} ORDER BY {side}_id"
    return connection.sql(query).to_arrow_table()[f"{side}_id"].combine_chunks()


def _offline(connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path) -> pa.Table:
    """The offline events in order, with a column for each kind of values."""
    values = [*([quote_name(profile.rating)] if profile.rating else []), "label"]
    columns = ", ".join(f"{value}::DOUBLE AS value_{place}" for place, value in enumerate(values))
    return connection.sql(
        f"SELECT user_id, item_id, timestamp, label, part = 'train' AS train, {columns} "
        f"FROM {scan([splits])} WHERE part <> 'online' ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()


def _kinds(rows: pa.Table, ids: Mapping[str, pa.Array]) -> list[Events]:
    """The events, once for each kind of values; values are centred and scaled by the train rows' mean and deviation."""
    user, item = (pc.index_in(rows[f"{side}_id"], value_set=known).to_numpy() for side, known in ids.items())
    train, kinds = rows["train"].to_numpy(), []
    for column in [column for column in rows.column_names if column.startswith("value_")]:
        values = rows[column].to_numpy()
        known = values[train & ~np.isnan(values)]
        mean, deviation = (known.mean(), known.std() or 1.0) if len(known) else (0.0, 1.0)
        centred = ((values - mean) / deviation).astype(np.float32)
        kinds.append(Events(user.astype(np.int64), item.astype(np.int64), centred, train))
    return kinds
