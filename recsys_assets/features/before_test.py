"""Snapshots of users and items as of the end of the validation part: what a service would have known before the test.

The snapshots of the assets `user_features` and `item_features` describe the time after the test rows. Whatever learns
from these rows needs the same figures, by the same statement, with nothing of them.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.profile import Profile
from recsys_assets.features.history import item_query, user_query
from recsys_assets.features.history_table import build_history
from recsys_assets.features.pair_feature_files import USER_FILE, Sources, users_before_test


@dataclass(frozen=True)
class Snapshots:
    """`user_features` and `item_features` of one moment, in ascending order of the ids."""

    users: pa.Table
    items: pa.Table


def snapshots_before_test(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    splits: Path,
    users: Path,
    items: Path,
    item_factors: Path,
    scratch: Path,
    arrivals: Path | None = None,
) -> Snapshots:
    """Make both snapshots.

    Args:
        connection: may read the lake and `scratch`.
        profile: of the data set.
        splits: the table of the asset of that name.
        users: likewise.
        items: likewise.
        item_factors: the file of items that `factors` wrote.
        scratch: a folder for a temporary file.
        arrivals: the days of dated items, if there are any.
    """
    of_users = scratch / USER_FILE
    table = users_before_test(connection, profile, Sources(splits, users, items, arrivals), item_factors)
    pq.write_table(table, of_users, compression="zstd")
    build_history(connection, profile, splits, users, items, until="test")
    made = (
        connection.sql(query).to_arrow_table()
        for query in (user_query(profile, users, of_users), item_query(profile, items, item_factors))
    )
    found = Snapshots(*made)
    of_users.unlink()
    return found
