"""Impressions as rows of user-item features: each is placed among its user's events, at its own moment.

A row is written for each impression of a ranked part whose user and item the tables have. An event that the user never
had ends the history of each user, so that also the impressions after the last event have a next one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Bools
from recsys_assets.datasets.names import USER_EVENTS
from recsys_assets.features.draws import RANKED, Drawn

ENDS = "end"  # the part of the events that end the users' histories


@dataclass(frozen=True)
class ShownRows:
    """K impressions next to M events.

    Attributes:
        table: what is known of the impressions, ordered by user, time and item; it is written next to the features.
        events: the M events: those of the log, and the end of each user.
        drawn: the place of the impressions among the events: each comes just before the user's next event.
        negative: (K,) whether it is a train row that nobody answered: factors learn from these.
    """

    table: pa.Table
    events: pa.Table
    drawn: Drawn
    negative: Bools


def place_impressions(file: Path, events: pa.Table, ids: Mapping[str, pa.Array]) -> ShownRows:
    """Place the impressions of a file (`datasets/impressions.py`) among the offline events.

    Args:
        file: the labelled impressions.
        events: ordered by user and time.
        ids: the ids of users and items in ascending order; impressions of others are left out.
    """
    table = pq.read_table(file)
    user, item = (pc.index_in(table[f"{side}_id"], value_set=ids[side]) for side in ("user", "item"))
    kept = pc.and_(pc.and_(user.is_valid(), item.is_valid()), pc.is_in(table["part"], pa.array(RANKED)))
    table, user, item = (each.filter(kept) for each in (table, user, item))
    of_event = pc.index_in(events["user_id"], value_set=ids["user"]).to_numpy()
    everyone = np.arange(len(ids["user"]))
    order = np.argsort(np.concatenate([of_event, everyone]), kind="stable")  # a user's end comes after their events
    starts = np.searchsorted(of_event, everyone) + everyone  # each user before has an end, too
    places = starts[user.to_numpy()] + table[USER_EVENTS].to_numpy()
    negative = pc.and_(pc.equal(table["part"], "train"), pc.equal(table["label"], 0))
    return ShownRows(
        table,
        pa.concat_tables([events, _ends(events, ids)]).take(pa.array(order)),
        Drawn(places, item.to_numpy().astype(np.int64)),
        negative.to_numpy().astype(bool),
    )


def _ends(events: pa.Table, ids: Mapping[str, pa.Array]) -> pa.Table:
    """An event without a value for each user; its item means nothing."""
    count = len(ids["user"])
    known = {
        "user_id": ids["user"],
        "item_id": ids["item"].take(pa.array(np.zeros(count, np.int64))),
        "label": pa.array(np.full(count, -1)),
        "part": pa.array([ENDS] * count),
    }
    columns = {field.name: known.get(field.name, pa.nulls(count)).cast(field.type) for field in events.schema}
    return pa.table(columns, schema=events.schema)
