"""Samples of cold-start models: one row for a user, an item and a bizdate, with the label of a template."""

from collections.abc import Sequence
from pathlib import Path

from recsys_assets.coldstart.template import EVENT, LABEL, Template, selection_sql
from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.splits import ONLINE, PARTS

# No column of a profile has blanks in its name.
_PLACE, _DAY = quote_name("place of the part"), quote_name("day of the row")


def sample_query(profile: Profile, template: Template, events: Sequence[Path], splits: Path) -> str:
    """SQL for the samples, ordered by user, part and time.

    Columns: user_id, item_id, bizdate (a date of the profile's time zone), timestamp (of the group's last event), the
    template's own label, label (1 if that is above 0, else 0), part. A group is in the last part of its events, so no
    train row counts an event that validates or tests. Online events are left out. Train rows older than the template's
    days, counted back from the newest day with a train row, are left out too.

    Args:
        profile: the dataset.
        template: the label, and the days.
        events: the files of `interactions`, which have the columns that selections read.
        splits: the file of `splits`, which has the part of each event.

    Raises:
        TemplateError: the selection is not allowed.
    """
    kinds = ""
    if profile.events and EVENT not in profile.tables["interactions"]:
        kinds = f", CAST(i.{quote_name(profile.events.column)} AS VARCHAR) AS {EVENT}"
    order, name = f"[{', '.join(repr(part) for part in PARTS)}]", quote_name(template.label.name)
    days = f"train_until - {template.days}" if template.days else "DATE '0001-01-01'"
    # No event is twice in a log: see the check `unique_keys` of `splits`.
    return f"""
        WITH rows AS (
            SELECT i.*{kinds}, s.{LABEL}, list_position({order}, s.part) AS {_PLACE},
                {profile.files.day_sql("i.timestamp")} AS {_DAY}
            FROM {scan([*events])} AS i
            JOIN {scan([splits])} AS s USING (user_id, item_id, timestamp, seq)
            WHERE s.part <> '{ONLINE}'
        ), groups AS (
            SELECT user_id, item_id, {_DAY} AS bizdate, max(timestamp) AS timestamp,
                {selection_sql(template, profile)} AS {name}, max({_PLACE}) AS place
            FROM rows GROUP BY user_id, item_id, {_DAY}
        ), limits AS (SELECT max(bizdate) FILTER (WHERE place = 1) AS train_until FROM groups)
        SELECT user_id, item_id, bizdate, timestamp, {name}, coalesce({name}::DOUBLE > 0, false)::TINYINT AS {LABEL},
            {order}[place] AS part
        FROM groups, limits WHERE place > 1 OR bizdate > {days}
        ORDER BY user_id, place, timestamp, item_id
    """
