"""The text of a drafted profile: every choice with its reason, and what could not be decided as questions."""

import datetime as dt
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import yaml

from recsys_assets.datasets.drafting.roles import Roles, find_roles, words_of
from recsys_assets.datasets.drafting.survey import Facts, Survey, SurveyError, survey
from recsys_assets.datasets.duck import only_row, quote, quote_name

_FEW = 100  # an integer with at most as many different values is a category: an age group, a profession
_MANY = 0.5  # a text whose values are more often unique than this is a name or an address, not a category
_LISTED = 0.2  # share of values with a separator from which on a text is a list
_LIVE_DAYS = 14  # a log whose newest event is no older is still growing
_SKEWED = 100  # a number whose highest value is this many times its lowest, or 1, is taken as its logarithm


@dataclass(frozen=True)
class Log:
    """A log and the tables that came with it, surveyed, and when its events happened."""

    events: Survey
    roles: Roles
    tables: Mapping[str, tuple[Survey, str]]  # by name: the file, and the column that is its key
    first: dt.date
    last: dt.date
    days: int  # with events
    events_per_user: float  # the median


def draft_profile(
    connection: duckdb.DuckDBPyConnection, name: str, log: Path, others: Mapping[str, Path], today: dt.date
) -> str:
    """The text of a profile for a log, and for the files of users and items if there are any (by table).

    Raises:
        SurveyError: a file cannot be read, or its columns cannot be told apart.
    """
    found = _look_at(connection, log, others)
    parts = [_head(name, found, today), _files(found), _tables(found), _label(connection, found), _features(found)]
    return "\n".join(filter(None, [*parts, _split(found, today), _questions(found)])) + "\n"


def _look_at(connection: duckdb.DuckDBPyConnection, log: Path, others: Mapping[str, Path]) -> Log:
    """Survey all files."""
    events = survey(connection, log, "surveyed_interactions")
    roles = find_roles(connection, events)
    tables = {}
    for table, path in others.items():
        side = survey(connection, path, f"surveyed_{table}")
        tables[table] = (side, _key_of(connection, events, side, roles.user if table == "users" else roles.item))
    first, last, days = _span(connection, events, roles.time)
    (median,) = only_row(
        connection,
        f"SELECT median(n) FROM (SELECT count(*) AS n FROM {events.sample} GROUP BY {quote_name(roles.user)})",
    )
    return Log(events, roles, tables, first, last, days, float(median))


def _key_of(connection: duckdb.DuckDBPyConnection, events: Survey, side: Survey, id_column: str) -> str:
    """The column of a table that holds the ids of the log's column."""
    shares = {}
    for name in side.columns:
        ids = f"SELECT DISTINCT CAST({quote_name(id_column)} AS VARCHAR) AS id FROM {events.sample}"
        known = f"SELECT CAST({quote_name(name)} AS VARCHAR) FROM {side.sample}"
        (shares[name],) = only_row(connection, f"SELECT avg((id IN ({known}))::INT) FROM ({ids})")
    best = max(shares, key=lambda name: (shares[name], words_of(name) == words_of(id_column)))
    if shares[best] < 0.1:
        raise SurveyError(f"{side.path}: no column holds the ids of {id_column}: give the table of these ids")
    return best


def _span(connection: duckdb.DuckDBPyConnection, events: Survey, name: str) -> tuple[dt.date, dt.date, int]:
    """The first and the last day of the whole log (UTC), and the number of days with events."""
    facts, text = events.columns[name], f"CAST({quote_name(name)} AS VARCHAR)"
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
    if unit := facts.time_unit:
        time = f"to_timestamp(try_cast({text} AS DOUBLE) / {per_second[unit]})::TIMESTAMP"
    elif pattern := events.form.get("date_format"):
        time = f"try_strptime({text}, {quote(str(pattern))})"
    else:
        time = f"try_cast({text} AS TIMESTAMP)"
    first, last, days = only_row(
        connection,
        f"SELECT min(day), max(day), count(DISTINCT day) FROM (SELECT {time}::DATE AS day FROM {events.relation})",
    )
    return first, last, int(days)


def _head(name: str, log: Log, today: dt.date) -> str:
    """Name, days and landing folder."""
    lines = [
        f"# Drafted from {log.events.path.name}: {log.events.rows:,} events of {log.days:,} days. Read each line once.",
        f"name: {name}",
        f"first_bizdate: {log.first}",
    ]
    if (today - log.last).days > _LIVE_DAYS:
        lines.append(f"last_bizdate: {log.last}  # remove this line if the log still grows")
    return "\n".join([*lines, f"landing: ${{RECSYS_LANDING}}/{name}"])


def _files(log: Log) -> str:
    """How the files are written, where that differs from a CSV in UTF-8."""
    own = dict(log.events.form)
    unit = log.events.columns[log.roles.time].time_unit
    if unit and unit != "s":
        own["time_unit"] = unit
    if any(facts.commas == 1 for facts in log.events.columns.values()):
        own["decimal"] = ","
    if log.days < (log.last - log.first).days + 1:
        own["missing_days"] = "empty"
    for table, (side, _) in log.tables.items():
        if differs := {key: value for key, value in side.form.items() if value != own.get(key)}:
            own[table] = differs
    return f"files: {_flow(own)}" if own else ""


def _tables(log: Log) -> str:
    """The columns of each table with their types; columns that nothing uses are comments."""
    roles = log.roles
    lines = ["tables:", "  interactions:"]
    for facts in log.events.columns.values():
        lines.append("    " + _event_column(log, facts))
    for table, (side, key) in log.tables.items():
        lines.append(f"  {table}:")
        own = "user_id" if table == "users" else "item_id"
        kind = _id_type(log, roles.user if table == "users" else roles.item)
        for facts in side.columns.values():
            name, of_type = (own, kind) if facts.name == key else (_plain(facts.name), _type(facts))
            lines.append("    " + _column(name, facts, of_type))
    return "\n".join(lines)


def _event_column(log: Log, facts: Facts) -> str:
    """One column of the log, with the reason in a comment."""
    roles = log.roles
    why = roles.reasons.get(facts.name, "")
    own = {roles.user: "user_id", roles.item: "item_id", roles.time: "timestamp"}.get(facts.name)
    if own:
        kind = "timestamp" if own == "timestamp" else _id_type(log, facts.name)
        return f"{_column(own, facts, kind)}  # {why}"
    if facts.name in roles.named and facts.name != roles.session:
        bounds = {"min": _number(facts.low), "max": _number(facts.high)} if facts.name == roles.rating else {}
        kind = "float32" if facts.name == roles.rating else _type(facts)
        return f"{_column(_plain(facts.name), facts, kind, **bounds)}  # {why}"
    if side := roles.owned.get(facts.name):
        return f"{_column(_plain(facts.name), facts, _type(facts), of=side)}  # one value for each {side}"
    return f"# {facts.name}: it differs from event to event, and nothing uses it"


def _column(name: str, facts: Facts, kind: str, **settings: object) -> str:
    """A column in YAML, as short as it can be."""
    own = {"type": kind, **({"column": facts.name} if facts.name != name else {}), **settings}
    separator = max((mark for mark in facts.listed if mark != "["), key=lambda mark: facts.listed[mark])
    if kind == "strings" and not facts.listed["["] and separator != "|":
        own["separator"] = separator
    return f"{name}: {kind if len(own) == 1 else _flow(own)}"


def _plain(name: str) -> str:
    """A name of letters, digits and underscores."""
    return re.sub(r"\W", "_", name).strip("_").lower() or "column"


def _id_type(log: Log, name: str) -> str:
    return "int64" if log.events.columns[name].is_integer else "string"


def _type(facts: Facts) -> str:
    """The type of a column by its values."""
    if facts.kind.endswith("[]") or facts.listed["["] == 1 or _is_list(facts):
        return "strings"
    if facts.is_integer:
        return "int64"
    if facts.is_number or facts.commas == 1:
        return "float32"
    return "timestamp" if facts.is_time else "string"


def _is_list(facts: Facts) -> bool:
    """Whether a text holds several values: sentences have commas too, but followed by blanks."""
    marks = {mark: share for mark, share in facts.listed.items() if mark != "["}
    return facts.words < 2 and max(marks.values()) >= _LISTED and facts.commas < 1 and not facts.is_number


def _label(connection: duckdb.DuckDBPyConnection, log: Log) -> str:
    """The rule of a positive: a high rating, a label of the log's own, a kind of event, or every event."""
    roles = log.roles
    if roles.kind:
        weights = _flow({kind: _number(worth) for kind, worth in roles.kinds.items()})
        return f"events: {{column: {_plain(roles.kind)}, weights: {weights}}}  # what an event is worth, by its kind"
    if roles.label:
        return f"label: {_plain(roles.label)} = 1"
    if roles.rating:
        name, level = _plain(roles.rating), _liked_level(connection, log, roles.rating)
        return f"label: {name} > {_number(level)}  # nearest to half of the ratings\nrating: {name}"
    return "label: true  # every event is a positive; ranking models get drawn negatives"


def _liked_level(connection: duckdb.DuckDBPyConnection, log: Log, name: str) -> float:
    """The rating above which the share of ratings is nearest to one half."""
    value = f"CAST({quote_name(name)} AS DOUBLE)"
    (level,) = only_row(
        connection,
        f"SELECT value FROM (SELECT DISTINCT value, cume_dist() OVER (ORDER BY value) AS up_to "
        f"FROM (SELECT {value} AS value FROM {log.events.sample})) ORDER BY abs(up_to - 0.5), value LIMIT 1",
    )
    return float(level)


def _features(log: Log) -> str:
    """The columns that feed models."""
    kinds: dict[str, list[str]] = {"categorical": ["user_id", "item_id"], "multi_valued": [], "numeric": [], "log": []}
    for facts in _describing(log):
        for kind in _feature_kinds(facts):
            kinds[kind].append(_plain(facts.name))
    lines = [f"  {kind}: [{', '.join(names)}]" for kind, names in kinds.items() if names]
    items = [facts for facts in _describing(log, "items") if _type(facts) == "strings"]
    if items:
        lines.append(f"  terms: {{column: {_plain(items[0].name)}}}")
    return "\n".join(["features:", *lines])


def _describing(log: Log, only: str | None = None) -> Iterator[Facts]:
    """The columns that describe users and items, without their keys."""
    for table in ("users", "items"):
        if only not in (None, table):
            continue
        if table in log.tables:
            side, key = log.tables[table]
            yield from (facts for facts in side.columns.values() if facts.name != key)
        for name, owner in log.roles.owned.items():
            if f"{owner}s" == table:
                yield log.events.columns[name]


def _feature_kinds(facts: Facts) -> Sequence[str]:
    """The lists of features that a column belongs to; none for names, addresses and constants."""
    kind = _type(facts)
    if facts.distinct < 2:
        return ()
    if kind == "strings":
        return ("multi_valued",)
    if kind == "string" or (kind == "int64" and facts.distinct <= _FEW):
        return ("categorical",) if facts.distinct <= _MANY * facts.filled else ()
    if kind not in ("int64", "float32"):
        return ()
    skewed = (
        facts.low is not None and facts.high is not None and facts.low >= 0 and facts.high > _SKEWED * max(1, facts.low)
    )
    return ("numeric", "log") if skewed else ("numeric",)


def _split(log: Log, today: dt.date) -> str:
    """A split with an online part: by day for a growing log, otherwise by the users' newest events."""
    span = (log.last - log.first).days + 1
    if (today - log.last).days <= _LIVE_DAYS and span >= 10:
        days = max(1, span // 10)
        rule = {"strategy": "by_day", "validation_days": days, "test_days": days, "online_days": max(1, days // 2)}
        return f"split: {_flow(rule)}  # a log that grows is tested on its newest days"
    if log.events_per_user >= 10:
        rule = {"strategy": "per_user_tail", "online_last_n": min(10, round(log.events_per_user / 10))}
    else:
        rule = {"strategy": "leave_last_n", "online_last_n": 1, "test_last_n": 1, "validation_ratio": 0.2}
    return f"split: {_flow(rule)}  # a user has {log.events_per_user:g} events (median)"


def _questions(log: Log) -> str:
    return "\n".join(f"# Question: {question}" for question in log.roles.questions)


def _number(value: float | None) -> float | int | None:
    """A number without needless decimals."""
    return int(value) if value is not None and float(value).is_integer() else value


def _flow(values: Mapping[str, object]) -> str:
    """A mapping on one line of YAML."""
    return yaml.safe_dump(dict(values), default_flow_style=True, sort_keys=False, width=10**6).strip()
