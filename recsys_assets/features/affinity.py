"""Affinities in files: of each offline event, and the vectors that give that of any user and item.

Beside what `history.py` counts of a user and of an item, this is the one feature of the two together. Serving computes
it as the inner product of `user_factors` and `item_factors`, the columns of the two snapshots.
"""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.datasets.duck import name, scan
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.factors import Affinities, Events, Floats, affinities

AFFINITY = "user_item_affinity"
USERS, ITEMS = "users.parquet", "items.parquet"
USER_FACTORS, ITEM_FACTORS = "user_factors", "item_factors"


def write_affinities(
    connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path, users: Path, items: Path, folder: Path
) -> dict[str, int]:
    """Write the events' affinities, and the factors of users and of items; returns the rows of each file.

    Values are the profile's rating, or without one the label; online rows are left out, items are fitted on train rows.
    """
    ids = {side: _ids(connection, side, path) for side, path in {"user": users, "item": items}.items()}
    rows = _offline(connection, profile, splits)
    events = _events(rows, ids)
    settings = profile.features.affinity
    found = affinities(events, len(ids["user"]), len(ids["item"]), settings.width, settings.folds)
    tables = _tables(rows, ids, found)
    for file, table in tables.items():
        pq.write_table(table, folder / file, compression="zstd")
    return {file: table.num_rows for file, table in tables.items()}


def _ids(connection: duckdb.DuckDBPyConnection, side: str, path: Path) -> pa.Array:
    """The ids of a table in ascending order: what the model's numbers stand for."""
    query = f"SELECT {side}_id FROM {scan([path])} ORDER BY {side}_id"
    return connection.sql(query).to_arrow_table()[f"{side}_id"].combine_chunks()


def _offline(connection: duckdb.DuckDBPyConnection, profile: Profile, splits: Path) -> pa.Table:
    value = name(profile.rating) if profile.rating else "label"
    return connection.sql(
        f"SELECT user_id, item_id, timestamp, {value}::DOUBLE AS value, part = 'train' AS train FROM {scan([splits])} "
        "WHERE part <> 'online' ORDER BY user_id, timestamp, seq"
    ).to_arrow_table()


def _events(rows: pa.Table, ids: dict[str, pa.Array]) -> Events:
    values, train = rows["value"].to_numpy(), rows["train"].to_numpy()
    spread = values[train].std() or 1.0
    numbers = {side: pc.index_in(rows[f"{side}_id"], value_set=known) for side, known in ids.items()}
    return Events(
        numbers["user"].to_numpy().astype(np.int64),
        numbers["item"].to_numpy().astype(np.int64),
        ((values - values[train].mean()) / spread).astype(np.float32),
        train,
    )


def _tables(rows: pa.Table, ids: dict[str, pa.Array], found: Affinities) -> dict[str, pa.Table]:
    return {
        ROWS: rows.select(["user_id", "item_id", "timestamp"]).append_column(AFFINITY, pa.array(found.rows)),
        USERS: pa.table({"user_id": ids["user"], USER_FACTORS: _vectors(found.users)}),
        ITEMS: pa.table({"item_id": ids["item"], ITEM_FACTORS: _vectors(found.items)}),
    }


def _vectors(matrix: Floats) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.ravel()), matrix.shape[1])
