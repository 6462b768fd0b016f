"""Ingest: from landing files to valid rows and rejected rows, each rejected one with its reason.

Rows keep the order of the landing files; `seq` is a row's place in its day, which breaks ties in time.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from recsys_assets.datasets.duck import name, one, quoted, write_parquet
from recsys_assets.datasets.landing import landed_bizdates, landing_files
from recsys_assets.datasets.profile import KEYS, Column, Profile, ProfileError, TableName
from recsys_assets.datasets.tables import LandedFileError, missing, read_landed, typed

ROWS, REJECTED = "data.parquet", "rejected.parquet"


class NotLanded(FileNotFoundError):
    """A day or table that has no landing files; the message says where they belong."""


def ingest_events(
    connection: duckdb.DuckDBPyConnection, profile: Profile, bizdate: str, folder: Path
) -> dict[str, int]:
    """Validate a day's events and write `data.parquet` and, if there are any, `rejected.parquet`.

    `load_known_ids` must have run on the connection. Rejected are rows with a missing or unreadable value,
    a timestamp outside the (UTC) day, a value out of bounds, an id that the users or items table does not
    know by that day, no answer to the label rule, and repeats of user, item and time.

    Returns:
        Rows kept, and rows rejected by reason.

    Raises:
        NotLanded: the day has no landing file.
        LandedFileError: a file cannot be used.
    """
    files = landing_files(profile, "interactions", bizdate)
    if not files:
        where = profile.landing / "interactions" / f"bizdate={bizdate}"
        raise NotLanded(f"{bizdate} has not landed: put its events under {where} (a file with no rows, if it had none)")
    reasons = {
        f"outside {bizdate}": f"timestamp::DATE <> DATE {quoted(bizdate)}",
        **{f"unknown {key}_id": _unknown(key, bizdate) for key in ("user", "item")},
        "the label rule gives no answer": f"({profile.label}) IS NULL",
    }
    _load(connection, profile, "interactions", files, reasons)
    connection.execute(
        "UPDATE landed SET reason = 'repeats user, item and time' WHERE reason IS NULL AND seq NOT IN "
        "(SELECT min(seq) FROM landed WHERE reason IS NULL GROUP BY user_id, item_id, timestamp)"
    )
    return _write(connection, profile, "interactions", folder, "ORDER BY seq")


def ingest_entities(
    connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, bizdate: str, folder: Path
) -> dict[str, int]:
    """Write the users or items as of the end of `bizdate`: of each id the newest row, ordered by id.

    Undated files are known from the start; a file in a dated folder replaces rows as of its day. The same
    id twice on one day is rejected but for its last row.
    """
    files = _entity_files(profile, table, bizdate)
    if not files:
        raise NotLanded(f"no {table} have landed by {bizdate}: put the table under {profile.landing / table}")
    key = KEYS[table][0]
    _load(connection, profile, table, [file for _, file in files], {})
    days = ", ".join(f"({quoted(file)}, {quoted(day)})" for day, file in files)
    connection.execute(f"""
        CREATE OR REPLACE TEMP TABLE ranked AS
        SELECT seq, row_number() OVER (PARTITION BY {key}, day ORDER BY seq DESC) AS of_day,
            row_number() OVER (PARTITION BY {key} ORDER BY day DESC, seq DESC) AS of_all
        FROM landed JOIN (VALUES {days}) AS days(file, day) USING (file) WHERE reason IS NULL
    """)
    connection.execute(
        f"UPDATE landed SET reason = 'repeats {key}' WHERE seq IN (SELECT seq FROM ranked WHERE of_day > 1)"
    )
    connection.execute("DELETE FROM landed WHERE seq IN (SELECT seq FROM ranked WHERE of_day = 1 AND of_all > 1)")
    return _write(connection, profile, table, folder, f"ORDER BY {key}")


def load_known_ids(connection: duckdb.DuckDBPyConnection, profile: Profile, last: str) -> None:
    """Create `known_user` and `known_item`: each id and the first day it is known, for days up to `last`."""
    for table in ("users", "items"):
        key = KEYS[table][0]
        spec = {key: profile.tables[table][key]}
        connection.execute(f"CREATE OR REPLACE TEMP TABLE known_{table[:-1]} (id {_sql(spec[key])}, since VARCHAR)")
        for day, file in _entity_files(profile, table, last):
            landed = read_landed(file, spec).table
            connection.register("coming", landed)
            connection.execute(
                f"INSERT INTO known_{table[:-1]} SELECT {typed(key, spec[key], landed[key].type)}, {quoted(day)} FROM coming"
            )
            connection.unregister("coming")
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE known_{table[:-1]} AS "
            f"SELECT id, min(since) AS since FROM known_{table[:-1]} WHERE id IS NOT NULL GROUP BY id"
        )


def _entity_files(profile: Profile, table: TableName, bizdate: str) -> list[tuple[str, Path]]:
    """(day, file) of the table's files that are known by `bizdate`, oldest first; undated ones have day ''."""
    undated = [("", file) for file in landing_files(profile, table, None)]
    dated = [day for day in landed_bizdates(profile, table) if day <= bizdate]
    return undated + [(day, file) for day in dated for file in landing_files(profile, table, day)]


def _load(
    connection: duckdb.DuckDBPyConnection,
    profile: Profile,
    table: TableName,
    files: Sequence[Path],
    reasons: dict[str, str],
) -> None:
    """Create `landed`: typed columns, seq, file, row, raw text of each column (`raw_…`), and the first reason to reject."""
    columns = profile.tables[table]
    shape = ", ".join(f"{name(c)} {_sql(spec)}, {name('raw_' + c)} VARCHAR" for c, spec in columns.items())
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE landed (seq BIGINT, file VARCHAR, row BIGINT, reason VARCHAR, {shape})"
    )
    seq = 0
    for file in files:
        landed = read_landed(file, columns)
        seq = _insert(connection, profile, table, landed.table, file, seq)
        for reason, text in landed.malformed:
            connection.execute(
                f"INSERT INTO landed (seq, file, reason, {name('raw_' + next(iter(columns)))}) VALUES (?, ?, ?, ?)",
                [seq, str(file), reason, text],
            )
            seq += 1
    cases = " ".join(f"WHEN {condition} THEN {quoted(reason)}" for reason, condition in reasons.items())
    if cases:
        connection.execute(f"UPDATE landed SET reason = CASE {cases} END WHERE reason IS NULL")


def _insert(
    connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, rows: pa.Table, file: Path, seq: int
) -> int:
    """Append a file's rows to `landed`; returns the next free `seq`."""
    columns = profile.tables[table]
    kinds = {column: rows[column].type for column in columns}
    values = ", ".join(
        f"{typed(c, spec, kinds[c])} AS {name(c)}, CAST({name(c)} AS VARCHAR) AS {name('raw_' + c)}"
        for c, spec in columns.items()
    )
    unfit = ", ".join(f"({_unreadable(c, spec, kinds[c])}) AS {name('unfit_' + c)}" for c, spec in columns.items())
    cases = " ".join(_row_reasons(table, columns))
    connection.register("coming", rows)
    connection.execute(f"""
        INSERT INTO landed SELECT {seq} + row - 1, {quoted(file)}, row, CASE {cases} END,
            {", ".join(f"{name(c)}, {name('raw_' + c)}" for c in columns)}
        FROM (SELECT row, {values}, {unfit} FROM coming ORDER BY row)
    """)
    connection.unregister("coming")
    _refuse_wrong_type(connection, columns, file, rows.num_rows)
    return seq + rows.num_rows


def _row_reasons(table: TableName, columns: dict[str, Column]) -> list[str]:
    """SQL CASE branches that need only the row itself."""
    unfit = [f"WHEN {name('unfit_' + c)} THEN {quoted(f'{c} is no {spec.type}')}" for c, spec in columns.items()]
    gone = [f"WHEN {name(key)} IS NULL THEN {quoted(f'{key} is missing')}" for key in KEYS[table]]
    bounds = [
        f"WHEN {name(c)} {sign} {bound} THEN {quoted(f'{c} is out of bounds')}"
        for c, spec in columns.items()
        for sign, bound in (("<", spec.min), (">", spec.max))
        if bound is not None
    ]
    return unfit + gone + bounds


def _refuse_wrong_type(
    connection: duckdb.DuckDBPyConnection, columns: dict[str, Column], file: Path, rows: int
) -> None:
    """A column of which no value at all can be read is of another type: the file fails, not each row."""
    for column, spec in columns.items():
        unfit, example = one(
            connection,
            f"SELECT count(*), min({name('raw_' + column)}) FROM landed WHERE file = ? AND reason = ?",
            [str(file), f"{column} is no {spec.type}"],
        )
        if unfit == rows > 1:
            raise LandedFileError(
                f"{file}: column '{spec.column or column}' is no {spec.type} in any row (it holds {example!r})"
            )


def _write(
    connection: duckdb.DuckDBPyConnection, profile: Profile, table: TableName, folder: Path, order: str
) -> dict[str, int]:
    columns = profile.tables[table]
    place = ", seq" if table == "interactions" else ""
    good = f"SELECT {', '.join(map(name, columns))}{place} FROM landed WHERE reason IS NULL {order}"
    counts = {"rows": write_parquet(connection, good, folder / ROWS)}
    found = connection.execute(
        "SELECT reason, count(*) FROM landed WHERE reason IS NOT NULL GROUP BY reason ORDER BY reason"
    ).fetchall()
    if found:
        raw = ", ".join(f"{name('raw_' + c)} AS {name(c)}" for c in columns)
        bad = (
            f"SELECT parse_filename(file) AS file, row, reason, {raw} FROM landed WHERE reason IS NOT NULL ORDER BY seq"
        )
        write_parquet(connection, bad, folder / REJECTED)
    return counts | {str(reason): int(count) for reason, count in found}


def _unknown(key: str, bizdate: str) -> str:
    return f"NOT EXISTS (FROM known_{key} AS k WHERE k.id = landed.{key}_id AND k.since <= {quoted(bizdate)})"


def _unreadable(column: str, spec: Column, landed: pa.DataType) -> str:
    return f"NOT ({missing(column, landed)}) AND ({typed(column, spec, landed)}) IS NULL"


def _sql(spec: Column) -> str:
    """DuckDB's name of a column type."""
    return {
        "int64": "BIGINT",
        "float32": "FLOAT",
        "string": "VARCHAR",
        "strings": "VARCHAR[]",
        "timestamp": "TIMESTAMP",
    }[spec.type]


def check_label_rule(profile: Profile) -> None:
    """Refuse a label rule that DuckDB cannot evaluate over the columns of `interactions`.

    Raises:
        ProfileError: the rule is no condition over these columns.
    """
    shape = ", ".join(f"{name(c)} {_sql(spec)}" for c, spec in profile.tables["interactions"].items())
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE interactions ({shape})")
        try:
            connection.execute(f"SELECT ({profile.label})::BOOLEAN FROM interactions")
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise ProfileError(f"label: '{profile.label}' is no condition over tables.interactions: {first}") from error
