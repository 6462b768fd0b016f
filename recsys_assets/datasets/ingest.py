"""Ingest: landing files become valid rows, and rejected rows with their reasons.

Rows keep the order of the landing files; `seq`, a row's position in its day, is the tie-break for equal times.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import duckdb
import pyarrow as pa

from recsys_assets.datasets import sessions
from recsys_assets.datasets.duck import quote, quote_name, write_parquet
from recsys_assets.datasets.label import SQL_TYPES
from recsys_assets.datasets.landed_parts import part_column
from recsys_assets.datasets.landing import contents, day_place, hashes, landed_bizdates, landing_files
from recsys_assets.datasets.log_entities import entity_query
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.row_faults import event_reasons, raw, refuse_wrong_type, repeat_reason, typed_rows
from recsys_assets.datasets.tables import Landed, read_landed, refuse_units
from recsys_assets.datasets.text_vectors import register_text_vector, written_columns

ROWS, REJECTED = "data.parquet", "rejected.parquet"
SHOWN = "shown_"  # begins the names of the files of impressions, which are among those of the day's events
ARRIVALS = "arrivals.parquet"  # of items: the day of the first dated row, which draws of negatives need
EVENTS_OF_DAYS: dict[TableName, str] = {"interactions": "events", "impressions": "impressions"}  # one folder per day
_FIRST_YEAR = 1970  # in a profile with events of this year, small numbers may well be seconds
_MALFORMED = pa.schema({"row": pa.int64(), "reason": pa.string(), "text": pa.string()})


class NotLanded(FileNotFoundError):
    """A day or table that has no landing files; the message says where they belong."""


def ingest_events(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    bizdate: str,
    folder: Path,
    table: TableName = "interactions",
    empty_until: str = "",
) -> dict[str, int]:
    """Validate a day's events and write `data.parquet` and, if there are any, `rejected.parquet`.

    `load_known_ids` must have run on the connection. A row is rejected if a value is missing, unreadable or out
    of bounds, if its timestamp is outside the day, if the users or items that land do not have its id by that day
    (unless the profile keeps unknown ids), if its kind is missing or unknown, if the label rule gives no answer, or if
    it repeats user, item, time and kind. In a dataset of labelled rows, equal rows are still different rows. Where the
    profile has sessions, a row without a user is kept under its session's id: see `sessions.py`. Impressions of a day
    are validated in the same way, without kinds and labels; the names of their files begin with `shown_`. A day without
    files had no events if it is before `empty_until` (see `landing.py`).

    Returns:
        Rows kept, and rows rejected by reason.

    Raises:
        NotLanded: the day has no landing file.
        LandedFileError: a file cannot be used.
    """
    found = contents(profile, table, bizdate)
    if not found.files and (found.left_out or bizdate >= empty_until):
        where = day_place(profile, table, bizdate)
        others = "".join(f"; {path.name} {why}" for path, why in list(found.left_out.items())[:3])
        raise NotLanded(
            f"{bizdate} has not landed: put its {EVENTS_OF_DAYS[table]} under {where} (a file with no rows, if it had "
            f"none){others}"
        )
    part = part_column(profile, bizdate, found.files) if table == "interactions" else ""
    _load(connection, profile, table, [(bizdate, file) for file in found.files])
    _reject_events(connection, profile, bizdate, table)
    return _write(connection, profile, table, folder, part=part)


def _reject_events(connection: duckdb.DuckDBPyConnection, profile: Profile, bizdate: str, table: TableName) -> None:
    """Reject rows because of other tables, other rows or the label rule; `_load` has rejected those with own faults."""
    reasons = {}
    if "timestamp" in profile.tables[table]:
        outside = f"timestamp is outside {bizdate} ({profile.files.timezone})"
        reasons[outside] = f"{profile.files.day_sql()} <> DATE {quote(bizdate)}"
    reasons |= {
        f"{side[:-1]}_id is unknown": _is_unknown(profile, side[:-1], bizdate) for side in checked_tables(profile)
    }
    reasons |= event_reasons(profile, table)
    cases = " ".join(f"WHEN {condition} THEN {quote(reason)}" for reason, condition in reasons.items())
    connection.execute(  # updates only rejected rows: an update of all rows would hold them all in memory
        f"UPDATE landed SET reason = found.why FROM (SELECT seq AS place, CASE {cases} END AS why FROM landed "
        "WHERE reason IS NULL) AS found WHERE landed.seq = found.place AND found.why IS NOT NULL"
    )
    if profile.has_entities:
        keys = ", ".join(map(quote_name, profile.keys(table)))
        connection.execute(
            f"UPDATE landed SET reason = {quote(repeat_reason(profile, table))} WHERE reason IS NULL AND seq NOT IN "
            f"(SELECT min(seq) FROM landed WHERE reason IS NULL GROUP BY {keys})"
        )


def ingest_entities(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    table: TableName,
    bizdate: str,
    folder: Path,
    events: Sequence[Path] = (),
) -> dict[str, int]:
    """Write the users or items as of the end of `bizdate`: the newest row of each id, ordered by id.

    Undated files are known from the start; a file in a dated folder replaces rows as of its day, and the replaced ones
    are not rejected rows. If an id occurs several times on one day, all its rows but the last are rejected. `events`
    are the ingested days up to `bizdate`, for a profile whose `needs_log` says so.

    Returns:
        Rows kept, and rows rejected by reason.

    Raises:
        NotLanded: the table has no landing file.
        LandedFileError: a file cannot be used.
    """
    if table not in profile.tables:
        return {"rows": write_parquet(connection, entity_query(profile, table, events), folder / ROWS)}
    files = _entity_files(profile, table, bizdate)
    if not files:
        raise NotLanded(f"no {table} have landed by {bizdate}: put the table under {profile.landing_place}/{table}")
    _load(connection, profile, table, files)
    if table == "items" and profile.draws_any:
        dated = "SELECT item_id, min(day)::DATE AS day FROM landed WHERE reason IS NULL AND day <> '' GROUP BY item_id"
        write_parquet(connection, f"{dated} ORDER BY item_id", folder / ARRIVALS)
    _keep_newest_rows(connection, KEYS[table][0])
    return _write(connection, profile, table, folder, events)


def _keep_newest_rows(connection: duckdb.DuckDBPyConnection, key: str) -> None:
    """Reject rows that are repeated on their day, and remove from `landed` those that a later day replaces."""
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE ranked AS
        SELECT seq, row_number() OVER (PARTITION BY {key}, day ORDER BY seq DESC) AS of_day,
            row_number() OVER (PARTITION BY {key} ORDER BY day DESC, seq DESC) AS of_all
        FROM landed WHERE reason IS NULL
    """)
    connection.execute(
        f"UPDATE landed SET reason = 'repeats {key}' WHERE seq IN (SELECT seq FROM ranked WHERE of_day > 1)"
    )
    connection.execute("DELETE FROM landed WHERE seq IN (SELECT seq FROM ranked WHERE of_day = 1 AND of_all > 1)")


def load_known_ids(connection: duckdb.DuckDBPyConnection, profile: Profile, last: str) -> None:
    """Create `known_user` and `known_item`: the ids with a valid row by `last`, and the day of their first one.

    There is none for a table that does not land, or if the profile keeps unknown ids.

    Raises:
        LandedFileError: a file cannot be used.
    """
    for table in checked_tables(profile):
        _load(connection, profile, table, _entity_files(profile, table, last))
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE known_{table[:-1]} AS "
            f"SELECT {KEYS[table][0]} AS id, min(day) AS since FROM landed WHERE reason IS NULL GROUP BY ALL"
        )


def checked_tables(profile: Profile) -> list[TableName]:
    """The tables that must have the ids of events."""
    tables: tuple[TableName, ...] = ("users", "items")
    return [table for table in tables if table in profile.tables and profile.unknown_ids == "reject"]


def allowed_rejection_rate(bound: float, landed: int) -> float:
    """The share of a day's rows that may be rejected: the bound and three standard errors.

    Two bad rows in a day of ten are not a reason to refuse the others.
    """
    return bound + 3 * math.sqrt(bound * (1 - bound) / landed)


def landed_content(profile: Profile, table: TableName, bizdate: str) -> dict[str, str]:
    """SHA-256 by path of all landing files that determine a partition: if they change, the partition does.

    For `interactions` these are all files of the day, including those of users and items: their ids are known
    from then on.
    """
    if table in EVENTS_OF_DAYS:
        return hashes(profile, bizdate)
    found = (hashes(profile, day, [table]) for day in (None, *_days(profile, table, bizdate)))
    return {path: content for each in found for path, content in each.items()}


def unread_files(profile: Profile, table: TableName, bizdate: str) -> dict[str, str]:
    """Files among a day's events, or among the users or items known by then, that are not read: their paths and why."""
    days = [bizdate] if table in EVENTS_OF_DAYS else [None, *_days(profile, table, bizdate)]
    found = [contents(profile, table, day).left_out for day in days]
    return {str(path.relative_to(profile.landing)): why for each in found for path, why in each.items()}


def _entity_files(profile: Profile, table: TableName, bizdate: str) -> list[tuple[str, Path]]:
    """(day, file) of the table's files that are known by `bizdate`, oldest first; undated ones have day ''."""
    undated = [("", file) for file in landing_files(profile, table, None)]
    dated = _days(profile, table, bizdate)
    return undated + [(day, file) for day in dated for file in landing_files(profile, table, day)]


def _days(profile: Profile, table: TableName, bizdate: str) -> list[str]:
    """Days up to `bizdate` on which rows of the table were new or changed."""
    return [day for day in landed_bizdates(profile, table) if day <= bizdate]


def _load(
    connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, files: Sequence[tuple[str, Path]]
) -> None:
    """Create `landed` from (day, file): typed columns, each row's origin, and the first reason to reject it.

    `raw_…` is the original value of a column where it could not be read, and a malformed line in the first column;
    `file` is relative to the landing folder.
    """
    columns = profile.tables[table]
    shape = "".join(f", {quote_name(c)} {SQL_TYPES[spec.type]}, {raw(c)} VARCHAR" for c, spec in columns.items())
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE landed (seq BIGINT, day VARCHAR, file VARCHAR, row BIGINT, reason VARCHAR"
        f"{shape})"
    )
    seq, form = 0, profile.files.of(table)
    for day, file in files:
        landed = read_landed(file, columns, form)
        refuse_units(file, columns, landed.table, form, days=profile.first_bizdate.year > _FIRST_YEAR)
        place = f"{quote(day)} AS day, {quote(file.relative_to(profile.landing))} AS file"
        _insert_rows(connection, profile, table, landed, f"{seq} + row - 1 AS seq, {place}")
        refuse_wrong_type(connection, columns, file, seq)
        lines = pa.Table.from_pylist([asdict(line) for line in landed.malformed], _MALFORMED)
        connection.register("malformed", lines)
        connection.execute(
            f"INSERT INTO landed BY NAME SELECT {seq} + row - 1 AS seq, {place}, row, reason, "
            f"text AS {raw(next(iter(columns)))} FROM malformed"
        )
        connection.unregister("malformed")
        seq += landed.table.num_rows + len(landed.malformed)


def _insert_rows(
    connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, landed: Landed, place: str
) -> None:
    """Append a file's rows to `landed`."""
    connection.register("coming", landed.table)
    connection.execute(f"INSERT INTO landed BY NAME {typed_rows(profile, table, landed.table.schema, place)}")
    connection.unregister("coming")


def _write(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    table: TableName,
    folder: Path,
    events: Sequence[Path] = (),
    part: str = "",
) -> dict[str, int]:
    """Write good rows in order and rejected rows as they came; returns rows kept, and rows rejected by reason.

    `part` is the SQL of `part_column`.
    """
    columns = profile.tables[table]
    written = written_columns(columns)
    good = f"SELECT {written} FROM landed WHERE reason IS NULL ORDER BY {KEYS[table][0]}"
    if table in EVENTS_OF_DAYS:  # good rows are in order in `landed`: a sort would hold a whole day in memory
        start = profile.files.utc_sql("CAST(day AS TIMESTAMP)")
        time = "" if "timestamp" in columns else f", {start} AS timestamp"
        good = f"SELECT {written}{time}{part}, seq FROM landed WHERE reason IS NULL"
    elif profile.needs_log(table):
        good = entity_query(profile, table, events)
    if any(spec.type == "text" for spec in columns.values()):
        register_text_vector(connection)
    prefix = "" if table != "impressions" else SHOWN
    counts = {"rows": write_parquet(connection, good, folder / f"{prefix}{ROWS}")}
    found = connection.execute(
        "SELECT reason, count(*) FROM landed WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason"
    ).fetchall()
    if found:
        names = {c: quote_name(c) for c in columns}
        original = ", ".join(f"coalesce({raw(c)}, CAST({name} AS VARCHAR)) AS {name}" for c, name in names.items())
        bad = f"SELECT file, row, reason, {original} FROM landed WHERE reason IS NOT NULL ORDER BY seq"
        write_parquet(connection, bad, folder / f"{prefix}{REJECTED}")
    return counts | {str(reason): int(count) for reason, count in found}


def _is_unknown(profile: Profile, key: str, bizdate: str) -> str:
    unknown = f"NOT EXISTS (FROM known_{key} AS k WHERE k.id = landed.{key}_id AND k.since <= {quote(bizdate)})"
    return f"NOT {sessions.is_anonymous(profile)} AND {unknown}" if key == "user" and profile.session else unknown
