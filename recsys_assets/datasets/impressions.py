"""Impressions: what was shown, next to what was touched; their labels and their parts.

An event answers the newest impression of its user and item that was not after it; with `match: request` it must also
have the impression's request id. The answer counts if it came within the window. So the label of an impression is known
when its window has passed: impressions whose window reaches beyond the end of the bizdate wait for the next one.
"""

from collections.abc import Sequence
from pathlib import Path

from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.impression_rules import POSITION, REQUEST
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.moments import columns_of_log
from recsys_assets.datasets.names import ITEM_EVENTS, SHOWN_POSITION, USER_EVENTS
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Impressions
from recsys_assets.datasets.splits import part_by_day, part_by_moment
from recsys_assets.engines.engine import Engine


def label_impressions(
    connection: Engine,
    profile: Profile,
    rule: Impressions,
    events: Sequence[Path],
    impressions: Sequence[Path],
    bizdate: str,
) -> None:
    """Create the table `shown` from ingested impressions and events up to `bizdate`; `split` must have run.

    Columns: user_id, item_id, timestamp, label (1 if a positive answered it), part, shown_position (null if unknown),
    user_events and item_events (offline events of the user, and of the item, before the moment), base_rate (the
    positive rate of all offline events before the moment, as in `features/sql/history.sql`), and the columns that are
    features of the moment. An impression is in the part of the day on which its window ends under `by_day`, in
    that of the moment at which it ends under `successive`, and otherwise in that of the user's last event by then, so
    that no label is known in an earlier part than its event. Rows are ordered by user_id, timestamp and item_id.
    """
    wait, end = f"INTERVAL {rule.seconds} SECOND", profile.files.utc_sql(f"(DATE '{bizdate}' + 1)::TIMESTAMP")
    request = f", {REQUEST}" if rule.match == "request" else ""
    same_request = f" AND e.{REQUEST} = s.{REQUEST}" if request else ""
    place = POSITION if POSITION in profile.tables["impressions"] else "NULL"
    moment = "".join(f", {quote_name(name)}" for name in columns_of_log(profile))
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE shown AS
        WITH due AS (
            SELECT user_id, item_id, timestamp, timestamp + {wait} AS until,
                {place}::FLOAT AS {SHOWN_POSITION}{request}{moment}
            FROM {scan(list(impressions))} WHERE timestamp + {wait} <= {end}
        ),
        touched AS (
            SELECT user_id, item_id, timestamp, ({label_rule(profile).sql})::TINYINT AS label{request}
            FROM {scan(list(events))}
        ),
        answered AS (
            SELECT s.user_id, s.item_id, s.timestamp, max(e.label) AS label FROM touched AS e ASOF JOIN due AS s
            ON e.user_id = s.user_id AND e.item_id = s.item_id{same_request} AND e.timestamp >= s.timestamp
            WHERE e.timestamp <= s.until GROUP BY ALL
        ),
        placed AS ({_with_parts(profile, bizdate)}),
        moments AS (
            SELECT user_id, item_id, timestamp, label, NULL AS until, NULL AS part, NULL AS {SHOWN_POSITION}, 1 AS touch
            FROM splits WHERE part <> 'online'
            UNION ALL BY NAME
            SELECT user_id, item_id, timestamp, NULL AS label, until, part, {SHOWN_POSITION}, 0 AS touch{moment}
            FROM placed
        ),
        counted AS (
            SELECT * EXCLUDE (label),
                count(label) OVER of_user AS {USER_EVENTS}, count(label) OVER of_item AS {ITEM_EVENTS},
                (coalesce(sum(label) OVER everyone, 0) + 1) / (count(label) OVER everyone + 2) AS base_rate
            FROM moments
            WINDOW everyone AS (ORDER BY timestamp, touch ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
                of_user AS (PARTITION BY user_id ORDER BY timestamp, touch
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING),
                of_item AS (PARTITION BY item_id ORDER BY timestamp, touch
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        )
        SELECT user_id, item_id, timestamp, coalesce(answered.label, 0)::TINYINT AS label, part, {SHOWN_POSITION},
            {USER_EVENTS}, {ITEM_EVENTS}, base_rate{moment}
        FROM counted LEFT JOIN answered USING (user_id, item_id, timestamp)
        WHERE touch = 0 ORDER BY user_id, timestamp, item_id
    """)


def _with_parts(profile: Profile, bizdate: str) -> str:
    """SQL for the rows of `due` with their parts."""
    if profile.split.strategy == "by_day":
        return f"SELECT *, {part_by_day(profile.split, profile.files.day_sql('until'), bizdate)} AS part FROM due"
    if profile.split.strategy == "successive":
        return f"SELECT *, {part_by_moment(profile.split, 'until')} AS part FROM due"
    return """
        SELECT due.*, coalesce(newest.part, oldest.part, 'train') AS part FROM due ASOF LEFT JOIN (
            SELECT user_id, timestamp, arg_max(part, position) AS part FROM splits GROUP BY ALL
        ) AS newest ON due.user_id = newest.user_id AND due.until >= newest.timestamp LEFT JOIN (
            SELECT user_id, arg_min(part, position) AS part FROM splits GROUP BY user_id
        ) AS oldest ON due.user_id = oldest.user_id
    """
