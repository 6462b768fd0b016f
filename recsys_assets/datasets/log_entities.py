"""Users and items from the log: those that no table has, and the columns of events that belong to a user or an item."""

from collections.abc import Sequence
from pathlib import Path

from recsys_assets.datasets.duck import quote_name, scan
from recsys_assets.datasets.names import EVENTS, FIRST_SEEN, LAST_SEEN
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import Column, TableName
from recsys_assets.datasets.sessions import is_anonymous
from recsys_assets.datasets.text_vectors import written_columns


def entity_query(profile: Profile, table: TableName, events: Sequence[Path]) -> str:
    """SQL for the users or items of a profile whose `needs_log` says so, ordered by id.

    A table that lands is read from DuckDB's table `landed`: its rows, with the columns that the log carries and, if the
    profile keeps unknown ids, a row without own columns for each other id of the log. A table that does not land has
    the ids of the log, the times of their first and last event, the number of their events, and the carried columns.
    """
    key = KEYS[table][0]
    log = _log_query(profile, table, events)
    if table not in profile.tables:
        return f"{log} ORDER BY {key}"
    columns, written = ", ".join(map(quote_name, profile.tables[table])), written_columns(profile.tables[table])
    more = "".join(f", {quote_name(name)}" for name in profile.carried(table))
    side = "FULL" if profile.unknown_ids == "keep" else "LEFT"
    return (
        f"SELECT {columns}{more} FROM (SELECT {written} FROM landed WHERE reason IS NULL) "
        f"{side} JOIN ({log}) USING ({key}) ORDER BY {key}"
    )


def known_value(name: str, spec: Column) -> str:
    """SQL for a value of an event's column, null if it says nothing: an empty list is as good as none."""
    column = quote_name(name)
    return f"CASE WHEN array_length({column}) > 0 THEN {column} END" if spec.is_list else column


def _log_query(profile: Profile, table: TableName, events: Sequence[Path]) -> str:
    """SQL for what the log says of each user or item; the newest value is the last one by (timestamp, seq)."""
    key, made = KEYS[table][0], ""
    if table not in profile.tables:
        made = f", min(timestamp) AS {FIRST_SEEN}, max(timestamp) AS {LAST_SEEN}, count(*) AS {EVENTS}"
    newest = "".join(_newest(name, spec) for name, spec in profile.carried(table).items())
    theirs = f" WHERE NOT {is_anonymous(profile)}" if table == "users" and profile.session else ""
    return f"SELECT {key}{made}{newest} FROM {scan(events)}{theirs} GROUP BY {key}"


def _newest(name: str, spec: Column) -> str:
    value = known_value(name, spec)
    return (
        f", arg_max({value}, {{'time': timestamp, 'place': seq}}) FILTER (({value}) IS NOT NULL) AS {quote_name(name)}"
    )
