"""Faults of rows in themselves: typed values, reasons to reject a row, and a column that is of another type."""

from pathlib import Path

import duckdb
import pyarrow as pa

from recsys_assets.datasets import event_kinds, sessions
from recsys_assets.datasets.duck import only_row, quote, quote_name
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import Column, TableName
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.datasets.values import WRITE_AS, is_missing, typed_value


def raw(column: str) -> str:
    """The name, in `landed`, of a column's original values that could not be read."""
    return quote_name(f"raw_{column}")


def row_reasons(profile: Profile, table: TableName) -> list[str]:
    """SQL CASE branches of the reasons that depend on the row alone."""
    columns = profile.tables[table]
    unfit = [
        f"WHEN {raw(c)} IS NOT NULL THEN {quote(f'{c} is not of type {spec.type}')}" for c, spec in columns.items()
    ]
    missing = {f"{key} is missing": f"{quote_name(key)} IS NULL" for key in KEYS[table] if key in columns}
    missing |= sessions.rejections(profile, table)
    gone = [f"WHEN {condition} THEN {quote(reason)}" for reason, condition in missing.items()]
    bounds = [
        f"WHEN {quote_name(c)} {sign} {bound} THEN {quote(f'{c} is out of bounds')}"
        for c, spec in columns.items()
        for sign, bound in (("<", spec.min), (">", spec.max))
        if bound is not None
    ]
    return unfit + gone + bounds


def typed_rows(profile: Profile, table: TableName, landed: pa.Schema, place: str, rows: str = "coming") -> str:
    """SQL for landed rows with typed values, the original ones that could not be read, and the `reason` to reject them.

    `landed` has the types of the columns of `rows`; `place` is the SQL of further columns.
    """
    values, form = "", profile.files.of(table)
    for column, spec in profile.tables[table].items():
        kind, name = landed.field(column).type, quote_name(column)
        value = typed_value(column, spec, kind, form)
        unfit = f"NOT ({is_missing(column, kind)}) AND ({value}) IS NULL"
        values += f", {value} AS {name}, CASE WHEN {unfit} THEN CAST({name} AS VARCHAR) END AS {raw(column)}"
    return f"""
        SELECT * {sessions.own_or_session(profile, table)}, CASE {" ".join(row_reasons(profile, table))} END AS reason
        FROM (SELECT {place}, row{values} FROM {rows}) AS read
    """


def event_reasons(profile: Profile, table: TableName) -> dict[str, str]:
    """Reasons to reject an event because of its kind or of the label rule, with the SQL of each."""
    if table != "interactions":
        return {}
    no_label = {"the label rule gives no answer": f"({label_rule(profile).sql}) IS NULL"}
    return event_kinds.rejections(profile.events) | no_label


def repeat_reason(profile: Profile, table: TableName) -> str:
    """The reason to reject a row that repeats the keys of an earlier one of its day."""
    has_kinds = profile.events and table == "interactions"
    return "repeats user, item, time and kind" if has_kinds else "repeats user, item and time"


def refuse_wrong_type(connection: duckdb.DuckDBPyConnection, columns: dict[str, Column], file: Path, seq: int) -> None:
    """Refuse a file with a column that is filled in more than half of the rows, and in which no value can be read."""
    found = "".join(f", count({raw(c)}), min({raw(c)}), count({raw(c)}) + count({quote_name(c)})" for c in columns)
    rows, *counts = only_row(connection, f"SELECT count(*){found} FROM landed WHERE seq >= {seq}")
    each = zip(columns.items(), counts[::3], counts[1::3], counts[2::3], strict=True)
    for (column, spec), unfit, example, filled in each:
        if unfit == filled and filled > 1 and filled * 2 > rows:
            raise LandedFileError(
                f"{file}: column '{spec.column or column}' is not of type {spec.type} in any row (it holds "
                f"{example!r}): {WRITE_AS[spec.type]}, or change the profile"
            )
