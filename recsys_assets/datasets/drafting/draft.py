"""The text of a drafted profile: every choice with its reason, and what could not be decided as questions."""

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from recsys_assets.datasets.drafting.bounds import bounds_text
from recsys_assets.datasets.drafting.columns import (
    column_text,
    column_type,
    feature_kinds,
    flow,
    hint,
    note,
    number,
)
from recsys_assets.datasets.drafting.log import Log, look_at
from recsys_assets.datasets.drafting.survey import Facts
from recsys_assets.datasets.moments import TIME_PARTS

_LIVE_DAYS = 14  # a log whose newest event is no older is still growing
_FEWEST = 3  # events of a user that can be split by the order of the user's events: one each to learn, test and judge
_FEW = 16  # events of a user below which a tenth of the train rows may be none
_REPEATED = 0.1  # share of events that repeat a pair of user and item from which on people come back to items


def draft_profile(
    connection: duckdb.DuckDBPyConnection, name: str, log: Path, others: Mapping[str, Path], today: dt.date
) -> str:
    """The text of a profile for a log, and for the files of users and items if there are any (by table).

    Raises:
        SurveyError: a file cannot be read, or its columns cannot be told apart.
    """
    found = look_at(connection, log, others, today)
    parts = [_head(name, found, today), _files(found), _tables(found), _label(found), _features(found)]
    parts += [_session(found), _split(found, today), _recall(found), bounds_text(connection, found), _questions(found)]
    return "\n".join(filter(None, parts)) + "\n"


def _head(name: str, log: Log, today: dt.date) -> str:
    """Name, days and landing folder."""
    told = f"Drafted from {log.events.path.name}: {log.events.rows - log.outside:,} events of {log.days:,} days."
    if log.outside:
        told += f" {log.outside:,} more have no time between 1980 and today, and do not land."
    lines = [
        note(told).lstrip(),
        flow({"name": name})[1:-1],  # quoted if it looks like a number or a date
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
    if any(facts.has_decimal_comma for facts in log.events.columns.values()):
        own["decimal"] = ","
    if log.days < (log.last - log.first).days + 1:
        own["missing_days"] = "empty"
    for table, (side, _) in log.tables.items():
        if differs := {key: value for key, value in side.form.items() if value != own.get(key)}:
            own[table] = differs
    return f"files: {flow(own)}" if own else ""


def _tables(log: Log) -> str:
    """The columns of each table with their types; columns that nothing uses are comments."""
    roles = log.roles
    lines = ["tables:", "  interactions:"]
    for facts in log.events.columns.values():
        lines.append("    " + _event_column(log, facts))
    for table, (side, key) in log.tables.items():
        lines.append(f"  {table}:")
        kind = _id_type(log, roles.user if table == "users" else roles.item)
        for facts in side.columns.values():
            name, of_type = log.names[table, facts.name], kind if facts.name == key else column_type(facts)
            lines.append(f"    {column_text(name, facts, of_type)}{hint(name, facts) if facts.name != key else ''}")
    return "\n".join(lines)


def _event_column(log: Log, facts: Facts) -> str:
    """One column of the log, with the reason in a comment."""
    roles, name = log.roles, log.of_event(facts.name)
    why = note(roles.reasons.get(facts.name, ""))
    if facts.name in (roles.user, roles.item, roles.time):
        kind = "timestamp" if facts.name == roles.time else _id_type(log, facts.name)
        return column_text(name, facts, kind) + why
    if facts.name in roles.named and (facts.name != roles.session or log.has_visitors):
        bounds = {"min": number(facts.low), "max": number(facts.high)} if facts.name == roles.rating else {}
        kind = "float32" if facts.name == roles.rating else column_type(facts)
        kind = _id_type(log, facts.name) if facts.name == roles.session else kind
        return column_text(name, facts, kind, **bounds) + why
    if side := roles.owned.get(facts.name):
        return column_text(name, facts, column_type(facts), of=side) + note(f"one value for each {side}")
    if not log.events.has_names:
        return column_text(name, facts, column_type(facts)) + note("nothing uses it, but it keeps the others in place")
    if _may_be_of_moment(log, facts):
        return note(f"{column_text(name, facts, column_type(facts))}  # it differs from event to event").lstrip()
    return note(f"{facts.name}: it differs from event to event, and nothing uses it").lstrip()


def _may_be_of_moment(log: Log, facts: Facts) -> bool:
    """Whether a column of the log may tell the moment of a request: a category that nothing else uses."""
    return facts.name not in log.roles.named | log.roles.owned.keys() and "categorical" in feature_kinds(facts)


def _id_type(log: Log, name: str) -> str:
    return "int64" if log.events.columns[name].is_integer else "string"


def _label(log: Log) -> str:
    """The rule of a positive: a high rating, a label of the log's own, a kind of event, or every event."""
    roles = log.roles
    if roles.kind:
        weights = flow({kind: number(worth) for kind, worth in roles.kinds.items()})
        rule = f"events: {{column: {log.of_event(roles.kind)}, weights: {weights}}}"
        return rule + note("what an event is worth, by its kind")
    if roles.label:
        return f"label: {log.of_event(roles.label)} = 1"
    if roles.rating:
        name = log.of_event(roles.rating)
        return f"label: {name} > {number(log.liked)}  # nearest to half of the ratings\nrating: {name}"
    return "label: true  # every event is a positive; ranking models get drawn negatives"


def _features(log: Log) -> str:
    """The columns that feed models."""
    kinds: dict[str, list[str]] = {"categorical": ["user_id", "item_id"], "multi_valued": [], "numeric": [], "log": []}
    for name, facts in _describing(log):
        for kind in feature_kinds(facts):
            kinds[kind].append(name)
    lines = [f"  {kind}: {flow(names)}" for kind, names in kinds.items() if names]
    lists = [name for name, _ in _describing(log, "items") if name in kinds["multi_valued"]]
    if lists:
        lines.append(f"  terms: {{column: {lists[0]}}}")
    return "\n".join(["features:", *lines, *_moment(log)])


def _moment(log: Log) -> list[str]:
    """A comment that proposes features of the moment; none if there are none to propose."""
    columns = [log.of_event(facts.name) for facts in log.events.columns.values() if _may_be_of_moment(log, facts)]
    found = [*(TIME_PARTS if log.hours > 1 else ()), *columns]
    why = f"known when a request comes{'; then the columns are declared above, too' if columns else ''}"
    return [note(f"moment: {flow(found)}  # if they are {why}")] if found else []


def _describing(log: Log, only: str | None = None) -> Iterator[tuple[str, Facts]]:
    """The columns that describe users and items, by name, without their keys."""
    for table in ("users", "items"):
        if only not in (None, table):
            continue
        if table in log.tables:
            side, key = log.tables[table]
            yield from ((log.names[table, name], facts) for name, facts in side.columns.items() if name != key)
        for name, owner in log.roles.owned.items():
            if f"{owner}s" == table:
                yield log.of_event(name), log.events.columns[name]


def _split(log: Log, today: dt.date) -> str:
    """A split with an online part: by day for a growing log or few events, otherwise by the users' newest events."""
    span = (log.last - log.first).days + 1
    days = max(1, span // 10)
    rule = {"strategy": "by_day", "validation_days": days, "test_days": days, "online_days": max(1, days // 2)}
    if (today - log.last).days <= _LIVE_DAYS and span >= 10:
        return f"split: {flow(rule)}  # a log that grows is tested on its newest days"
    if log.events_per_user < _FEWEST and log.days >= 4:
        return f"split: {flow(rule)}  # a user has {log.events_per_user:g} events (median): too few to part them"
    if log.events_per_user >= 10:
        rule = {"strategy": "per_user_tail", "online_last_n": min(10, round(log.events_per_user / 10))}
        if log.events_per_user < _FEW:  # a tenth of fewer than ten train rows is none
            rule["validation_ratio"] = 0.2
    else:
        rule = {"strategy": "leave_last_n", "online_last_n": 1, "test_last_n": 1, "validation_ratio": 0.2}
    return f"split: {flow(rule)}  # a user has {log.events_per_user:g} events (median)"


def _session(log: Log) -> str:
    """The column of the visit, where rows lack a user."""
    if not log.has_visitors:
        return ""
    return f"session: {{column: {log.of_event(str(log.roles.session))}}}  # rows without a user belong to their visit"


def _recall(log: Log) -> str:
    """Whether lists hold what somebody has seen."""
    if log.repeated < _REPEATED:
        return ""
    return f"recall: {{filter_seen: false}}  # people come back to items: {log.repeated:.0%} of events repeat a pair"


def _questions(log: Log) -> str:
    return "\n".join(note(f"Question: {question}").lstrip() for question in log.roles.questions)
