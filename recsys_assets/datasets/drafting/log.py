"""A log and the tables that came with it, surveyed: what a profile is drafted from."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from recsys_assets.datasets.drafting.columns import column_names
from recsys_assets.datasets.drafting.roles import Roles, find_roles, words_of
from recsys_assets.datasets.drafting.survey import PER_SECOND, SAMPLE, Survey, SurveyError, survey
from recsys_assets.datasets.duck import only_row, quote, quote_name


@dataclass(frozen=True)
class Log:
    """A log and the tables that came with it, surveyed, and when its events happened."""

    events: Survey
    roles: Roles
    names: Mapping[tuple[str, str], str]  # of columns in the profile, by table and by name in the file
    tables: Mapping[str, tuple[Survey, str]]  # by name: the file, and the column that is its key
    first: dt.date
    last: dt.date
    outside: int  # events without a time since 1980 and up to today, which do not land
    days: int  # with events
    hours: int  # of the day in which events happened
    events_per_user: float  # the median
    repeated: float  # share of events that repeat a pair of user and item
    liked: float | None  # the rating above which an event is a positive; None without ratings

    def of_event(self, column: str) -> str:
        """The name of a column of the log in the profile."""
        return self.names["interactions", column]

    @property
    def day(self) -> str:
        """SQL of the day (UTC) of an event; null for those that do not land."""
        day = f"({_time_of(self.events, self.roles.time)})::DATE"
        return f"(CASE WHEN {day} BETWEEN DATE '{self.first}' AND DATE '{self.last}' THEN {day} END)"

    @property
    def positive(self) -> str:
        """SQL of whether an event is a positive, by its columns in the file; empty if all are."""
        roles = self.roles
        if roles.kind:
            best = [quote(kind) for kind, worth in roles.kinds.items() if worth == max(roles.kinds.values())]
            return f"CAST({quote_name(roles.kind)} AS VARCHAR) IN ({', '.join(best)})"
        if roles.label:
            return f"CAST({quote_name(roles.label)} AS DOUBLE) = 1"
        return f"try_cast({quote_name(roles.rating)} AS DOUBLE) > {self.liked}" if roles.rating else ""

    @property
    def has_visitors(self) -> bool:
        """Whether there are rows without a user that belong to a visit."""
        filled = self.events.columns[self.roles.user].filled
        return self.roles.session is not None and filled < min(self.events.rows, SAMPLE)


def look_at(connection: duckdb.DuckDBPyConnection, log: Path, others: Mapping[str, Path], today: dt.date) -> Log:
    """Survey all files.

    Raises:
        SurveyError: a file cannot be read, its columns cannot be told apart, or no event is of today or before.
    """
    events = survey(connection, log, "surveyed_interactions")
    roles = find_roles(connection, events)
    tables = {}
    for table, path in others.items():
        side = survey(connection, path, f"surveyed_{table}")
        tables[table] = (side, _key_of(connection, events, side, roles.user if table == "users" else roles.item))
    first, last, outside, days, hours = _span(connection, events, roles.time, today)
    user, item = quote_name(roles.user), quote_name(roles.item)
    of_users = (
        f"SELECT count(*) AS n, count(DISTINCT CAST({item} AS VARCHAR)) AS pairs FROM {events.sample} "
        f"WHERE {user} IS NOT NULL GROUP BY {user}"
    )
    median, pairs, rows = only_row(connection, f"SELECT median(n), sum(pairs), sum(n) FROM ({of_users})")
    names = column_names(connection, _columns(events, roles, tables))
    liked = _liked_level(connection, events, roles.rating) if roles.rating else None
    repeated = 1 - float(pairs / rows)
    return Log(events, roles, names, tables, first, last, outside, days, hours, float(median), repeated, liked)


def _columns(
    events: Survey, roles: Roles, tables: Mapping[str, tuple[Survey, str]]
) -> dict[tuple[str, str], str | None]:
    """All columns by table and name in the file, with the names of keys and None for the others."""
    own = {roles.user: "user_id", roles.item: "item_id", roles.time: "timestamp"}
    found: dict[tuple[str, str], str | None] = {("interactions", name): own.get(name) for name in events.columns}
    for table, (side, key) in tables.items():
        found |= {(table, name): f"{table[:-1]}_id" if name == key else None for name in side.columns}
    return found


def _key_of(connection: duckdb.DuckDBPyConnection, events: Survey, side: Survey, id_column: str) -> str:
    """The column of a table that holds the ids of the log's column."""
    shares = {}
    for name in side.columns:
        ids = f"SELECT DISTINCT CAST({quote_name(id_column)} AS VARCHAR) AS id FROM {events.sample}"
        known = f"SELECT CAST({quote_name(name)} AS VARCHAR) FROM {side.sample} WHERE {quote_name(name)} IS NOT NULL"
        (shares[name],) = only_row(connection, f"SELECT coalesce(avg((id IN ({known}))::INT), 0) FROM ({ids})")
    best = max(shares, key=lambda name: (shares[name], words_of(name) == words_of(id_column)))
    if shares[best] < 0.1:
        raise SurveyError(f"{side.path}: no column holds the ids of {id_column}: give the table of these ids")
    return best


def _time_of(events: Survey, name: str) -> str:
    """SQL of the moments (UTC) of a column of times."""
    facts, text = events.columns[name], f"CAST({quote_name(name)} AS VARCHAR)"
    if unit := facts.time_unit:
        time = f"to_timestamp(try_cast({text} AS DOUBLE) / {PER_SECOND[unit]})::TIMESTAMP"
    elif pattern := events.form.get("date_format"):
        time = f"try_strptime({text}, {quote(str(pattern))})"
    else:
        time = f"try_cast({text} AS TIMESTAMPTZ)::TIMESTAMP"  # a cast to TIMESTAMP alone would drop an offset
    return time


def _span(
    connection: duckdb.DuckDBPyConnection, events: Survey, name: str, today: dt.date
) -> tuple[dt.date, dt.date, int, int, int]:
    """The first and the last day (UTC) of the whole log, the events outside of it, and days and hours with events.

    Times before 1980 and after today are faults: a single one would stretch the log by years.
    """
    first, last, inside, days, hours = only_row(
        connection,
        "SELECT min(time::DATE), max(time::DATE), count(*), count(DISTINCT time::DATE), count(DISTINCT hour(time)) "
        f"FROM (SELECT {_time_of(events, name)} AS time FROM {events.relation}) "
        f"WHERE time::DATE BETWEEN DATE '1980-01-01' AND DATE '{today}'",
    )
    if not inside:
        raise SurveyError(f"{events.path}: no time in {name} is between 1980 and today: correct them")
    return first, last, events.rows - int(inside), int(days), int(hours)


def _liked_level(connection: duckdb.DuckDBPyConnection, events: Survey, name: str) -> float:
    """The rating above which the share of ratings is nearest to one half."""
    value = f"try_cast({quote_name(name)} AS DOUBLE)"
    (level,) = only_row(
        connection,
        f"SELECT value FROM (SELECT DISTINCT value, cume_dist() OVER (ORDER BY value) AS up_to "
        f"FROM (SELECT {value} AS value FROM {events.sample}) WHERE isfinite(value)) "
        "ORDER BY abs(up_to - 0.5), value LIMIT 1",
    )
    return float(level)
