"""Faults of landed rows in themselves: reasons to reject a row, and a column that is of another type."""

from pathlib import Path

import duckdb

from recsys_assets.datasets import sessions
from recsys_assets.datasets.duck import only_row, quote, quote_name
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import Column, TableName
from recsys_assets.datasets.tables import LandedFileError
from recsys_assets.datasets.values import WRITE_AS


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
