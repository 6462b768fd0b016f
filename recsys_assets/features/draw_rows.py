"""The drawn negatives of a table of offline events, and the columns that tell drawn rows and their chances."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Ints
from recsys_assets.datasets.names import DRAW_LOG_LEFT, DRAW_LOG_RATE, DRAWN, ITEM_EVENTS, KIND
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.draws import NONE_DRAWN, RANKED, Drawn, Mentions, Moments, draw, share_left, share_unseen

_SEED, _DAY = "seed", "day"


@dataclass(frozen=True)
class DrawRows:
    """The drawn rows of M events, and columns of what was drawn.

    Attributes:
        drawn: the K drawn rows; none if the profile draws none.
        columns: of the M events and the K drawn rows: `drawn`; `item_events`, the item's offline events before the
            moment; `draw_log_rate`, the log of how many times a pair is drawn as a negative for each positive of its
            user at that moment, -inf for an item that was not known.
        of_item: `draw_log_rate` of each item after the last event, for a user who has touched nothing; only if
            ranking models learn from drawn rows.
        of_user: `draw_log_left` of each user: the log of the share of draws that is left without seen items, if lists
            leave these out. A pair's own rate is that of the item, divided by this share.
    """

    drawn: Drawn = NONE_DRAWN
    columns: dict[str, pa.Array] = field(default_factory=dict)
    of_item: dict[str, pa.Array] = field(default_factory=dict)
    of_user: dict[str, pa.Array] = field(default_factory=dict)


def draw_columns(profile: Profile) -> str:
    """SQL for the day of an event, and the hash that its draws begin from: of user, item, time and kind alone."""
    if not profile.draws_any:
        return ""
    kind = f", '/', {KIND}" if profile.events else ""
    content = f"concat(user_id, '/', item_id, '/', epoch_us(timestamp){kind})"
    return f", md5_number_lower({content}) AS {_SEED}, {profile.files.day_sql()} AS {_DAY}"


def draw_rows(profile: Profile, rows: pa.Table, ids: Mapping[str, pa.Array], arrivals: Path | None) -> DrawRows:
    """Draw the profile's negatives for offline events, which are ordered by user and time.

    Ranking models get some for each positive, the touch model for each event.

    Args:
        profile: its `draws`, or its `touch`, say how many and how.
        rows: user_id, item_id, timestamp, seq, label, part and the columns of `draw_columns`.
        ids: the ids of users and items in ascending order.
        arrivals: item_id and `day` of the first dated row of items that have one; None: no item has one.
    """
    rule = profile.draws_any
    if not rule:
        return DrawRows()
    moments = _moments(rows, ids, arrivals)
    if profile.touch:
        moments = replace(moments, labels=np.ones_like(moments.labels))
    mentions = Mentions(moments, rule.exponent)
    without_seen, users = profile.recall.filter_seen, len(ids["user"])
    drawn = draw(moments, mentions, rule.rate, without_seen)
    events = np.concatenate([np.arange(rows.num_rows), drawn.events])
    items, places = np.concatenate([moments.items, drawn.items]), mentions.of_event[events]
    left = share_left(moments, mentions, without_seen)[events]
    rates = mentions.log_share(items, places) + np.log(rule.rate) - np.log(left)
    columns = {
        DRAWN: pa.array(np.arange(len(events)) >= rows.num_rows),
        ITEM_EVENTS: pa.array(mentions.events(items, places)),
        DRAW_LOG_RATE: pa.array(rates),
    }
    if not profile.draws:  # nothing is corrected by these rates, and their last bits depend on the processor
        return DrawRows(drawn, columns | {DRAW_LOG_RATE: pa.array(rates.astype(np.float32))})
    everything = np.arange(len(ids["item"]))
    at_the_end = mentions.log_share(everything, np.full(len(everything), len(mentions.items)))
    unseen = share_unseen(moments, mentions, users) if without_seen else np.ones(users)
    of_item = {DRAW_LOG_RATE: pa.array(at_the_end + np.log(rule.rate))}
    return DrawRows(drawn, columns, of_item, {DRAW_LOG_LEFT: pa.array(np.log(unseen))})


def _moments(rows: pa.Table, ids: Mapping[str, pa.Array], arrivals: Path | None) -> Moments:
    user, item = (pc.index_in(rows[f"{side}_id"], value_set=known).to_numpy() for side, known in ids.items())
    order = np.empty(rows.num_rows, np.int64)
    order[np.lexsort((rows["seq"].to_numpy(), rows["timestamp"].to_numpy()))] = np.arange(rows.num_rows)
    return Moments(
        order,
        days=rows[_DAY].cast(pa.int32()).to_numpy().astype(np.int64),
        users=user.astype(np.int64),
        items=item.astype(np.int64),
        parts=pc.index_in(rows["part"], value_set=pa.array(RANKED)).to_numpy().astype(np.int64),
        labels=rows["label"].to_numpy(),
        seeds=rows[_SEED].to_numpy(),
        arrivals=_arrivals(ids["item"], arrivals),
    )


def _arrivals(ids: pa.Array, file: Path | None) -> Ints:
    """(I,) the day of each item's first dated row, -1 for none."""
    found = np.full(len(ids), -1)
    if file:
        table = pq.read_table(file)
        places = pc.index_in(table["item_id"], value_set=ids)
        known = table.filter(places.is_valid())
        found[places.drop_null().to_numpy()] = known["day"].cast(pa.int32()).to_numpy()
    return found
