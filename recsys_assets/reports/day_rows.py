"""The rows of a day whose drift is watched: its events, with the columns of their users and items as of that day."""

from collections.abc import Mapping
from pathlib import Path

import duckdb
import pyarrow as pa

from recsys_assets.datasets.duck import only_row, quote_name, scan
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import Column, TableName

MOST_ROWS = 300_000  # of a day; of more events, each n-th one is taken
LABEL = "label"
KEY_COLUMNS = ("interactions.user_id", "interactions.item_id")
_UNWATCHED = ("vector", "text", "path")


def read_day(
    connection: duckdb.DuckDBPyConnection, profile: Profile, events: Path, entities: Mapping[TableName, Path]
) -> pa.Table:
    """The watched columns of a day's events, named `table.column`, and `label` if the profile has a rule for it.

    A time of an event is its hour in the profile's time zone, a date the days since 1970. The true probability of
    generated data is left out, as are vectors, texts and sessions.

    Args:
        connection: a connection that may read the files.
        profile: of the data set.
        events: the file of the day's events.
        entities: the files of users and items as of that day; the columns of a table that is not there are absent.
    """
    rows = scan([events])
    (count,) = only_row(connection, f"SELECT count(*) FROM {rows}")
    step = -(-int(count) // MOST_ROWS)
    chosen = [
        f"{_sql(profile, name, spec)} AS {quote_name(f'interactions.{name}')}"
        for name, spec in watched(profile, "interactions").items()
    ]
    if profile.has_label_rule:
        chosen.append(f"({label_rule(profile).sql})::INT AS {LABEL}")
    joins = ""
    for table, file in entities.items():
        key = KEYS[table][0]
        own = {name: spec for name, spec in watched(profile, table).items() if name != key}
        values = ", ".join(
            f"{_sql(profile, name, spec)} AS {quote_name(f'{table}.{name}')}" for name, spec in own.items()
        )
        if own:
            joins += f" LEFT JOIN (SELECT {key} AS {table}_key, {values} FROM {scan([file])}) ON {key} = {table}_key"
            chosen += [quote_name(f"{table}.{name}") for name in own]
    part = f"(FROM {rows} WHERE seq % {step} = 0)" if step > 1 else rows
    query = f"SELECT * EXCLUDE (seq) FROM (SELECT {', '.join(chosen)}, seq FROM {part}{joins}) ORDER BY seq"
    return connection.sql(query).to_arrow_table()


def watched(profile: Profile, table: TableName) -> dict[str, Column]:
    """The columns of a table that are watched."""
    if table not in profile.tables and table != "interactions" and not profile.carried(table):
        return {}
    left_out = {profile.oracle, profile.session.column if profile.session else None}
    columns = profile.columns_of(table)
    return {name: spec for name, spec in columns.items() if spec.type not in _UNWATCHED and name not in left_out}


def _sql(profile: Profile, name: str, spec: Column) -> str:
    quoted = quote_name(name)
    if name == "timestamp":
        return f"hour({profile.files.local_sql(quoted)})"
    if spec.type in ("timestamp", "date"):
        return f"date_diff('day', DATE '1970-01-01', {quoted}::DATE)"
    return quoted
