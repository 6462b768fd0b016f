"""Rows for ranking models from the two snapshots, as serving builds them for any pair of a user and an item."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Floats, Ints
from recsys_assets.datasets.names import (
    AFFINITY,
    ITEM_FACTORS,
    NEARBY,
    RECENT_ITEMS,
    RECENT_LABELS,
    RECENT_VALUES,
    USER_FACTORS,
)
from recsys_assets.datasets.profile_parts import Affinity
from recsys_assets.features.affinity import served
from recsys_assets.features.factor_tables import vectors
from recsys_assets.features.nearby import Recent


def candidate_rows(users: pa.Table, items: pa.Table, user: Ints, item: Ints, rule: Affinity) -> pa.Table:
    """The raw features of N pairs, as `rank_samples` would have them for the users' next events.

    Args:
        users: `user_features`.
        items: `item_features`, of all items.
        user: (N,) row numbers in `users`.
        item: (N,) row numbers in `items`.
        rule: the profile's `features.affinity`.
    """
    of_users, of_items = _factors(users[USER_FACTORS], rule), _factors(items[ITEM_FACTORS], rule)
    affinity, nearby = served(of_users, of_items, user, item, _recent(users, items["item_id"]))
    of_user = users.drop([USER_FACTORS, RECENT_ITEMS, RECENT_VALUES, RECENT_LABELS]).take(pa.array(user))
    of_item = items.drop([ITEM_FACTORS]).take(pa.array(item))
    columns = {name: table[name] for table in (of_user, of_item) for name in table.column_names}
    return pa.table({**columns, AFFINITY: vectors(affinity), NEARBY: vectors(nearby)})


def _factors(column: pa.ChunkedArray, rule: Affinity) -> Floats:
    """(N, V, folds, D) the factors in a snapshot's column."""
    flat: Floats = pc.list_flatten(column.combine_chunks()).to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1, rule.folds, rule.width + 2)


def _recent(users: pa.Table, ids: pa.ChunkedArray) -> Recent:
    """The newest events of all users of the snapshot."""
    counts = pc.list_value_length(users[RECENT_ITEMS]).to_numpy()
    there = np.arange(counts.max(initial=1))[None] < counts[:, None]
    recent = Recent(np.full(there.shape, -1), np.zeros(there.shape, np.float32), np.zeros(there.shape, np.float32))
    listed = pc.list_flatten(users[RECENT_ITEMS])
    recent.items[there] = pc.index_in(listed, value_set=ids.combine_chunks()).to_numpy()
    for column, numbers in {RECENT_VALUES: recent.values, RECENT_LABELS: recent.labels}.items():
        numbers[there] = pc.list_flatten(users[column]).to_numpy()
    return recent
