"""The raw columns of a user tower: the features of users, and their newest items."""

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Ints, list_array, spread
from recsys_assets.datasets.names import HISTORY
from recsys_assets.features.raw import rows_of
from recsys_assets.retrieval.interactions import Interactions


def raw_users(length: int, events: Interactions, table: pa.Table, users: Ints, starts: Ints, ends: Ints) -> pa.Table:
    """A row for each of N users: the columns of the users' table, and `history` as a list of item ids.

    Args:
        length: the most items of a history that the tower reads, the newest ones.
        events: the log that the histories are of.
        table: the users' table.
        users: (N,) numbers of the users in the log.
        starts: (N,) the first event of each history.
        ends: (N,) the event after its last one.
    """
    starts = np.maximum(starts, ends - length)
    _, places = spread(starts, ends)  # (events of all histories,)
    past = list_array(pa.array(events.item_ids[events.items[places]]), ends - starts)
    return rows_of(table, "user_id", pa.array(events.user_ids[users])).append_column(HISTORY, past)
