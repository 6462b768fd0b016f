"""Rows that a service is told, one JSON object each: judged as ingest judges landed rows, and made into landing files.

A told row is what a line of a JSON-lines landing file would be. Its timestamp may be left out: it is then the present
one. The landing files hold the texts of the rows, which ingest reads by the same rules again, and their times as
moments, so that no unit and no form of dates can be misread.
"""

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.event_kinds import kind_columns
from recsys_assets.datasets.json_lines import object_texts
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.names import KIND, RECALL_LABEL, WEIGHT
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.row_faults import event_reasons, typed_rows
from recsys_assets.datasets.tables import RAW
from recsys_assets.datasets.text_files import landed_names

_OBJECTS = pa.schema({"row": pa.int64(), "line": pa.string()})


class Judged(NamedTuple):
    """A told row, judged.

    Attributes:
        user_id: of the profile's type; of a row without a user the id of its session.
        item_id: of the profile's type.
        moment: microseconds since 1970, UTC.
        day: of the moment, in the profile's time zone.
        kind: of the event; empty without kinds.
        label: 1 for a positive of recall methods, 0 for a negative; None for an impression.
        weight: what the event is worth, by its kind.
        reason: why the row cannot be kept, or None; the others may be None then.
    """

    user_id: int | str
    item_id: int | str
    moment: int
    day: str
    kind: str
    label: int | None
    weight: float
    reason: str | None


class Judge:
    """Types the rows of a table, and says why those that ingest would reject cannot be kept.

    Whether their users and items are known, and whether they repeat others, is for the caller to find out. The
    statement is prepared once, because it takes DuckDB 30 ms to plan, and 3 ms to run it.

    Args:
        connection: as `duck.connect` gives it; for one thread at a time.
        profile: of the data set.
        table: `interactions`, or `impressions`.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName) -> None:
        self._connection, self._profile, self._table = connection, profile, table
        connection.execute(f"CREATE TEMP TABLE told_{table} (row BIGINT, line VARCHAR)")
        connection.execute(f"PREPARE judge_{table} AS {_judged(profile, table)}")

    def __call__(self, rows: Sequence[str], now: dt.datetime) -> list[Judged]:
        """Judge N rows.

        Args:
            rows: JSON objects with the names that columns have in landing files.
            now: the present time; no event is of a later day.

        Returns:
            One answer per row, in their order.
        """
        objects = pa.table([np.arange(len(rows)), pa.array(rows, pa.string())], schema=_OBJECTS)
        self._connection.execute(f"TRUNCATE told_{self._table}")
        self._connection.register("objects", objects)
        self._connection.execute(f"INSERT INTO told_{self._table} SELECT row, line FROM objects")
        self._connection.unregister("objects")
        today = now.astimezone(self._profile.files.zone).date()
        present = quote(_time_text(self._connection, self._profile, self._table, now))
        self._connection.execute(f"EXECUTE judge_{self._table}({present}, '{today}')")
        return [Judged._make(row) for row in self._connection.fetchall()]


def landing_table(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    table: TableName,
    rows: Sequence[str],
    moments: Sequence[int],
) -> pa.Table:
    """The content of a landing file with N judged rows; `moments` are those that a `Judge` found."""
    columns = profile.tables[table]
    objects = pa.table([np.arange(len(rows)), pa.array(rows, pa.string())], schema=_OBJECTS)
    connection.register("objects", objects)
    texts = connection.sql(f"{object_texts(columns, 'objects')} ORDER BY row").to_arrow_table()
    connection.unregister("objects")
    times = pa.array(moments, pa.timestamp("us", "UTC"))
    found = {
        said: times if name == "timestamp" else texts[name]
        for name, said in zip(columns, landed_names(columns), strict=True)
    }
    return pa.table(found).replace_schema_metadata(RAW)


def _time_text(connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, now: dt.datetime) -> str:
    """The present time as the profile's landing files write times."""
    form = profile.files.of(table).date_format
    if not form:
        return now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    local = now.astimezone(profile.files.zone).replace(tzinfo=None)
    ((said,),) = connection.execute("SELECT strftime($1::TIMESTAMP, $2)", [local, form]).fetchall()
    return str(said)


def _judged(profile: Profile, table: TableName) -> str:
    """SQL for the answers of a `Judge`, with the present time and the present day as parameters."""
    columns, events = profile.tables[table], profile.events if table == "interactions" else None
    landed = pa.schema(dict.fromkeys(columns, pa.string()))
    present = "coalesce(nullif(timestamp, ''), $1::VARCHAR) AS timestamp"
    objects = f"(SELECT * REPLACE ({present}) FROM ({object_texts(columns, f'told_{table}')}))"
    label = f"({label_rule(profile).sql})::TINYINT" if table == "interactions" else "NULL::TINYINT"
    kind, recalled, weight = (KIND, RECALL_LABEL, WEIGHT) if events else ("''", "label", "1::DOUBLE")
    reasons = event_reasons(profile, table) | _part_reasons(profile, table)
    cases = " ".join(f"WHEN {condition} THEN {quote(reason)}" for reason, condition in reasons.items())
    outside = f"day NOT BETWEEN DATE '{profile.first_bizdate}' AND $2::DATE"
    said = f"'the day is not within {profile.first_bizdate} to ' || $2::VARCHAR"
    return f"""
        SELECT user_id, item_id, epoch_us(timestamp) AS moment, strftime(day, '%Y-%m-%d') AS day, {kind} AS kind,
            {recalled} AS label, {weight} AS weight, CASE WHEN reason IS NOT NULL THEN reason
                WHEN {outside} THEN {said} {cases} END AS reason
        FROM (SELECT *, {label} AS label{kind_columns(events)}, {profile.files.day_sql()} AS day
            FROM ({typed_rows(profile, table, landed, "row AS seq", objects)})) ORDER BY row
    """


def _part_reasons(profile: Profile, table: TableName) -> dict[str, str]:
    """Reasons to refuse an event that no part of the split would take, with the SQL of each."""
    rule = profile.split
    if table != "interactions" or rule.strategy != "given":
        return {}
    if rule.parts:
        return {"the parts of the split are files, so it would belong to none": "true"}
    listed = ", ".join(quote(str(value)) for values in rule.values.values() for value in values)
    named = f"{quote_name(rule.column or '')}::VARCHAR IN ({listed})"
    return {f"{rule.column} names no part of the split": f"NOT coalesce({named}, false)"}
