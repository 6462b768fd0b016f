"""Judging of fresh rows: which of them can be kept, of whom they are, and since when; and typing of joined rows.

Rows of users and items are read by the rules of their landing files, so that whatever is kept here can also land. What
a side table says of a joined column must fit that column.
"""

import contextlib
import datetime as dt
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import duckdb
import numpy as np
import pyarrow as pa

from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.fresh_rules import OWN
from recsys_assets.datasets.json_lines import object_texts
from recsys_assets.datasets.profile import KEYS, Profile
from recsys_assets.datasets.profile_parts import Column, TableName
from recsys_assets.datasets.row_faults import typed_rows
from recsys_assets.datasets.text_files import landed_names
from recsys_assets.datasets.text_vectors import register_text_vector, written_columns
from recsys_assets.datasets.values import typed_value
from recsys_assets.fresh.database import UPDATE_TIME, WITHDRAWN

SIDES: tuple[TableName, TableName] = ("items", "users")
AHEAD = dt.timedelta(minutes=5)  # that an update time may be after the present: clocks differ
LONGEST_KEY = 200  # letters
NO_OBJECT = "it is not an object in JSON, which has no NaN and no half of a character"
_UNFIT = {"strings": "OBJECT", "vector": "OBJECT", "string": "ARRAY"}  # what JSON has in place of a value, by type
_LINES = pa.schema({"row": pa.int64(), "line": pa.string()})


class Judged(NamedTuple):
    """A row, judged: its key, its update time in microseconds since 1970, and why it cannot be kept, or None."""

    key: str
    time: int
    reason: str | None


class Judge:
    """Judges and types rows of one profile. The statements are prepared once, because planning takes DuckDB 30 ms.

    Args:
        connection: as `duck.connect` gives it; for one thread at a time.
        profile: of the data set.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, profile: Profile) -> None:
        self._connection, self._profile = connection, profile
        self.sources = [*(side for side in SIDES if side in profile.tables), *profile.fresh.sides]
        connection.execute("CREATE TEMP TABLE fresh_lines (row BIGINT, line VARCHAR)")
        register_text_vector(connection)
        for source in self.sources:
            connection.execute(f"PREPARE judge_{source} AS {_judged(profile, source)}")
        for side in SIDES:
            if side in profile.tables:
                connection.execute(f"PREPARE type_{side} AS {_typed(profile, side)}")

    def __call__(self, source: str, lines: Sequence[str], now: dt.datetime, told: dt.datetime) -> list[Judged]:
        """Judge N rows of a table.

        Args:
            source: `items`, `users`, or a side table.
            lines: JSON objects with the names that columns have in landing files.
            now: the present time.
            told: the time of a row that says none.
        """
        default, latest = (int(each.timestamp() * 1e6) for each in (told, now + AHEAD))
        sound = self._are_objects(lines)
        with self._holding([line if is_sound else "{}" for line, is_sound in zip(lines, sound, strict=True)]):
            self._connection.execute(f"EXECUTE judge_{source}({default}, {latest})")
            found = [Judged._make(row) for row in self._connection.fetchall()]
        return [
            each if is_sound else Judged("", default, NO_OBJECT) for each, is_sound in zip(found, sound, strict=True)
        ]

    def typed(self, side: TableName, lines: Sequence[str]) -> pa.Table:
        """N rows as the table of `side` would hold them: its columns of the landing files, in the profile's types."""
        with self._holding(lines):
            return self._connection.sql(f"EXECUTE type_{side}").to_arrow_table()

    def _are_objects(self, lines: Sequence[str]) -> list[bool]:
        """Whether each line is a JSON object. One that is not would fail the statements for all lines."""
        with self._holding(lines):
            kind = "CASE WHEN json_valid(line) THEN json_type(line) END"
            self._connection.execute(f"SELECT coalesce({kind} = 'OBJECT', false) FROM fresh_lines ORDER BY row")
            return [is_object for (is_object,) in self._connection.fetchall()]

    @contextlib.contextmanager
    def _holding(self, lines: Sequence[str]) -> Iterator[None]:
        objects = pa.table([np.arange(len(lines)), pa.array(lines, pa.string())], schema=_LINES)
        self._connection.register("objects", objects)
        self._connection.execute("INSERT INTO fresh_lines SELECT row, line FROM objects")
        self._connection.unregister("objects")
        try:
            yield
        finally:
            self._connection.execute("TRUNCATE fresh_lines")


def row_names(profile: Profile, source: str) -> dict[str, Column]:
    """The columns that the rows of a source may have, by their landed names; those of a side table are its rules'."""
    if source in SIDES:
        columns = profile.tables[source]
        return dict(zip(landed_names(columns), columns.values(), strict=True))
    read = {name for rule in profile.fresh.joined.values() for name in rule.places if name.startswith(f"{source}.")}
    return {each.partition(".")[2]: Column(type="string") for each in sorted(read)}


def _judged(profile: Profile, source: str) -> str:
    """SQL for the answers of a `Judge`, with the time of rows that say none, and the latest time, as parameters."""
    key, reasons = _own_reasons(profile, source) if source in SIDES else _side_reasons(profile, source)
    given = f"json_extract(line, '$.{UPDATE_TIME}')"
    text = f"json_extract_string(line, '$.{UPDATE_TIME}')"
    number = f"TRY_CAST(TRY_CAST({text} AS DOUBLE) * 1e6 AS BIGINT)"
    time = f"CASE json_type({given}) WHEN 'VARCHAR' THEN epoch_us(TRY_CAST({text} AS TIMESTAMPTZ)) ELSE {number} END"
    is_given = f"coalesce(json_type({given}), 'NULL') <> 'NULL'"
    withdrawn = f"json_type(json_extract(line, '$.{WITHDRAWN}'))"
    cases = {
        f"{UPDATE_TIME} is neither a time such as 2026-01-31T12:00:00Z nor seconds since 1970": f"{is_given} "
        f"AND ({time}) IS NULL",
        f"{UPDATE_TIME} is in the future": f"({time}) > $2::BIGINT",
        f"{WITHDRAWN} is neither true nor false": f"{withdrawn} NOT IN ('BOOLEAN', 'NULL')",
        f"the key is longer than {LONGEST_KEY} letters": f"len({key}) > {LONGEST_KEY}",
    }
    branches = " ".join(f"WHEN {condition} THEN {quote(reason)}" for reason, condition in cases.items())
    return f"""
        SELECT {key}, coalesce({time}, $1::BIGINT), CASE {reasons} {branches} END
        FROM {_rows_of(profile, source)} ORDER BY row
    """


def _own_reasons(profile: Profile, side: TableName) -> tuple[str, str]:
    """SQL for the key of a row of users or items, and branches of why it cannot be kept."""
    known = ", ".join(map(quote, [*row_names(profile, side), UPDATE_TIME, WITHDRAWN]))
    unknown = f"list_filter(json_keys(line), lambda name: name NOT IN ({known}))[1]"
    named = f"WHEN {unknown} IS NOT NULL THEN 'there is no column ' || {unknown}[:100]"
    for name, spec in row_names(profile, side).items():
        if spec.type in _UNFIT:
            kind = f"json_type(json_extract(line, {quote(f'$.{quote_name(name)}')}))"
            named += f" WHEN {kind} = '{_UNFIT[spec.type]}' THEN {quote(f'{name} is not of type {spec.type}')}"
    return f"{quote_name(KEYS[side][0])}::VARCHAR", f"{named} WHEN reason IS NOT NULL THEN reason"


def _side_reasons(profile: Profile, source: str) -> tuple[str, str]:
    """The same for a row of a side table: it has its key, and its values fit the columns that are joined from them."""
    side, form = profile.fresh.sides[source], profile.files.of("items")
    key = f"json_extract_string(line, {quote(f'$.{side.key_name}')})"
    kind = f"coalesce(json_type(json_extract(line, {quote(f'$.{side.key_name}')})), 'NULL')"
    branches = f"WHEN {kind} IN ('NULL', 'OBJECT', 'ARRAY', 'BOOLEAN') THEN {quote(f'{side.key_name} is missing')} "
    for name, rule in profile.fresh.joined.items():
        spec = profile.tables["items"][name]
        for place in rule.first:
            table, _, column = place.partition(".")
            if table == source:
                value = typed_value("value", spec, pa.string(), form)
                text = f"(SELECT {value} FROM (SELECT json_extract_string(line, {quote(f'$.{column}')}) AS value))"
                is_given = f"coalesce(json_type(json_extract(line, {quote(f'$.{column}')})), 'NULL') <> 'NULL'"
                branches += f"WHEN {is_given} AND {text} IS NULL THEN {quote(f'{column} is not of type {spec.type}')} "
    return key, branches


def _rows_of(profile: Profile, source: str) -> str:
    """The rows that are held: those of users and items with typed values, and why ingest would reject them."""
    if source not in SIDES:
        return "fresh_lines"
    columns = profile.tables[source]
    landed = pa.schema(dict.fromkeys(columns, pa.string()))
    objects = f"({object_texts(columns, 'fresh_lines')})"
    typed = typed_rows(profile, source, landed, "row AS seq", objects)
    return f"(SELECT typed.*, held.line FROM ({typed}) AS typed JOIN fresh_lines AS held USING (row))"


def _typed(profile: Profile, side: TableName) -> str:
    """SQL for the rows that are held as the table would have them, in their order."""
    return f"SELECT {written_columns(profile.tables[side])} FROM {_rows_of(profile, side)} ORDER BY row"


def own_column(place: str) -> str | None:
    """The column of a place among the item's own, or None."""
    table, _, column = place.partition(".")
    return column if table == OWN else None
