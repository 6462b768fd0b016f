"""Splits: whether an event is for training, validation or test, or is kept for the online evaluation."""

import datetime as dt
import math
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from recsys_assets.datasets.duck import only_row, quote, quote_name, scan
from recsys_assets.datasets.event_kinds import kind_columns
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.moments import columns_of_log
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Split
from recsys_assets.datasets.sessions import SESSION, is_anonymous, whole_sessions
from recsys_assets.engines.engine import Engine

PARTS = ("train", "validation", "test", "online")  # in the order of time in a user's history
ONLINE = PARTS[-1]
# No column of a profile has blanks in its name.
_USER_ROWS, _GIVEN = quote_name("rows of the user"), quote_name("part as given")
_UNLISTED = "not listed in split.values: "


class SplitError(ValueError):
    """The events cannot be split as the profile asks."""


def split(connection: Engine, profile: Profile, events: Sequence[Path], bizdate: str) -> None:
    """Create the table `splits` from ingested events up to `bizdate`.

    Time order is (timestamp, seq): `seq` is the row's position in its day's landing files, so events of
    the same second keep the order in which they arrived. Columns: user_id, item_id, timestamp, seq, label
    (0 or 1), position (of the row in its user's history, from 0), part, the profile's `rating` and `oracle` columns,
    if it names them, the features that events carry and the columns of their moment; with kinds of events, kind_name,
    kind_weight and recall_label (0 or 1). Rows are ordered by user_id and position.

    Where the profile has sessions, `anonymous` is the table of their rows, which `splits` does not have: nobody is
    asked about a session, so the strategies that go by a user's own rows put all of them into train.

    Raises:
        SplitError: a part that the models need is empty.
    """
    if profile.split.strategy == "successive":
        _create_cuts(connection, profile.split, events)
    if profile.session:
        _create_splits(connection, profile, _split_query(profile, events, bizdate, is_anonymous(profile)), "anonymous")
        _create_splits(connection, profile, _split_query(profile, events, bizdate, f"NOT {is_anonymous(profile)}"))
    else:
        _create_splits(connection, profile, _split_query(profile, events, bizdate))
    _refuse_empty_parts(connection, profile, bizdate)


def _create_cuts(connection: Engine, rule: Split, events: Sequence[Path]) -> None:
    """Create the table `cuts` with one row: `ends`, the last moments of all parts but the newest, ascending.

    Rows of the same moment are never in two parts: they are all in that of the first of them.
    """
    shares = [sum(rule.shares[: place + 1]) / sum(rule.shares) for place in range(len(rule.shares) - 1)]
    rows = scan(list(events))
    dates = f"(SELECT timestamp::DATE AS day FROM {rows})"
    days = connection.execute(f"SELECT day, count(*) FROM {dates} GROUP BY day ORDER BY day").fetchall()
    moments = [f"TIMESTAMP '{_moment_at(connection, rows, days, share)}'" for share in shares]
    connection.execute(f"CREATE OR REPLACE TEMP TABLE cuts AS SELECT [{', '.join(moments)}] AS ends")


def _moment_at(connection: Engine, rows: str, days: Sequence[tuple[dt.date, int]], share: float) -> dt.datetime:
    """The moment of the row up to which there is this share of all rows, in order of time.

    Only the rows of its day are sorted: `days` has the number of rows of each, in order.
    """
    place = math.ceil(sum(count for _, count in days) * Decimal(str(share))) - 1
    for day, count in days:  # noqa: B007 (that day is used below)
        if place < count:
            break
        place -= count
    of_day = f"SELECT timestamp FROM {rows} WHERE timestamp::DATE = DATE '{day}'"
    found: dt.datetime = only_row(connection, f"{of_day} ORDER BY timestamp LIMIT 1 OFFSET {place}")[0]
    return found


def _split_query(profile: Profile, events: Sequence[Path], bizdate: str, chosen: str = "true") -> str:
    """SQL for the chosen events with their labels and parts."""
    wanted = (profile.rating, profile.oracle, *profile.carried_features, *columns_of_log(profile))
    extra = "".join(f", {quote_name(column)}" for column in dict.fromkeys(wanted) if column)
    kinds = kind_columns(profile.events)
    given = f", {quote_name(profile.split.given_column)} AS {_GIVEN}" if profile.split.given_column else ""
    not_kept = f"{_USER_ROWS}, {_GIVEN}" if given else _USER_ROWS
    whole = profile.session if profile.session and profile.session.split else None
    session = f", {quote_name(whole.column)} AS {SESSION}" if whole else ""
    rows = f"""
        WITH placed AS (
            SELECT user_id, item_id, timestamp, seq, ({label_rule(profile).sql})::TINYINT AS label{extra}{kinds}{given},
                row_number() OVER (PARTITION BY user_id ORDER BY timestamp, seq) - 1 AS position,
                count(*) OVER (PARTITION BY user_id) AS {_USER_ROWS}{session}
            FROM {scan(list(events))} WHERE {chosen}
        )
        SELECT * EXCLUDE ({not_kept}), {_part(profile, bizdate, _GIVEN)} AS part FROM placed
    """
    return f"{whole_sessions(rows) if whole else rows} ORDER BY user_id, position"


def split_rows(connection: Engine, profile: Profile, rows: Sequence[Path], bizdate: str) -> None:
    """Create the table `splits` from ingested rows that have no users, which are split by day.

    Columns: timestamp, seq, label (0 or 1) and part; rows are in the order of the files.

    Raises:
        SplitError: a part that the models need is empty.
    """
    _create_splits(
        connection,
        profile,
        f"SELECT timestamp, seq, ({label_rule(profile).sql})::TINYINT AS label, "
        f"{_part_of_row(profile, bizdate)} AS part FROM {scan(list(rows))}",
    )
    _refuse_empty_parts(connection, profile, bizdate)


def sample_rows(profile: Profile, rows: Sequence[Path], bizdate: str, part: str) -> str:
    """SQL for the rows of one part of a dataset without users: timestamp, seq, label and the features' columns."""
    extra = [*profile.features.columns, *([profile.oracle] if profile.oracle else [])]
    columns = "".join(f", {quote_name(column)}" for column in extra)
    return (
        f"SELECT timestamp, seq, ({label_rule(profile).sql})::TINYINT AS label{columns} FROM {scan(list(rows))} "
        f"WHERE {_part_of_row(profile, bizdate)} = '{part}'"
    )


def _create_splits(connection: Engine, profile: Profile, query: str, table: str = "splits") -> None:
    """Create a table of rows and their parts from a query.

    Raises:
        SplitError: a row names a part that the profile does not list.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")
    if profile.split.strategy != "given":
        return
    (found,) = only_row(connection, f"SELECT min(part) FROM {table} WHERE starts_with(part, {quote(_UNLISTED)})")
    if found:
        raise SplitError(
            f"a row's part is {found.removeprefix(_UNLISTED)!r}, which split.values does not have: list it there, or "
            "correct the row"
        )


def before(part: str) -> str:
    """SQL for whether a row is of a part before this one."""
    known = ", ".join(quote(each) for each in PARTS[: PARTS.index(part)])
    return f"part IN ({known})"


def _refuse_empty_parts(connection: Engine, profile: Profile, bizdate: str) -> None:
    sizes = split_sizes(connection)
    sizes["train_rows"] -= sizes["validation_rows"]  # `split_sizes` counts validation as train
    empty = [part for part in ("train", "validation", "test") if not sizes[f"{part}_rows"]]
    if empty:
        raise SplitError(
            f"the {' and '.join(empty)} part is empty at {bizdate} under split.strategy "
            f"{profile.split.strategy}: land more days before it, or change `split` in the profile"
        )


def split_sizes(connection: Engine) -> dict[str, float]:
    """Rows of each part of the table `splits`, and its positives and negatives; train includes validation."""
    rows = dict(connection.execute("SELECT part, count(*) FROM splits GROUP BY part").fetchall())
    labels = dict(connection.execute("SELECT label, count(*) FROM splits GROUP BY label").fetchall())
    sizes = {f"{part}_rows": float(rows.get(part, 0)) for part in PARTS}
    sizes["train_rows"] += sizes["validation_rows"]
    return sizes | {"positives": float(labels.get(1, 0)), "negatives": float(labels.get(0, 0))}


def _part_of_row(profile: Profile, bizdate: str) -> str:
    """SQL for the part of a labelled row, in a query over the profile's own columns."""
    return _part(profile, bizdate, quote_name(profile.split.given_column or ""))


def _part(profile: Profile, bizdate: str, given: str) -> str:
    """SQL for a row's part, by the profile's rule; `given` is the column that names it, where the rule has one."""
    rule = profile.split
    match rule.strategy:
        case "given":
            return _given_part(rule, given)
        case "random":
            return _drawn_part(rule)
        case "by_day":
            return part_by_day(rule, profile.files.day_sql(), bizdate)
        case "successive":
            return part_by_moment(rule, "timestamp")
        case _:
            by_place = _part_by_place(rule)
            return (
                f"CASE WHEN {is_anonymous(profile)} THEN 'train' ELSE {by_place} END" if profile.session else by_place
            )


def part_by_day(rule: Split, day: str, bizdate: str) -> str:
    """SQL for a part by the age of the row's day, given as SQL."""
    test = rule.online_days + rule.test_days
    begins = {"online": rule.online_days, "test": test, "validation": test + rule.validation_days}
    cases = " ".join(f"WHEN {day} > DATE '{bizdate}' - {days} THEN '{part}'" for part, days in begins.items())
    return f"CASE {cases} ELSE 'train' END"


def part_by_moment(rule: Split, moment: str) -> str:
    """SQL for a part by a moment, given as SQL, and the table `cuts`."""
    *earlier, newest = PARTS[: len(rule.shares)]
    cases = " ".join(
        f"WHEN {moment} <= (SELECT ends[{place}] FROM cuts) THEN '{part}'"
        for place, part in enumerate(earlier, start=1)
    )
    return f"CASE {cases} ELSE '{newest}' END"


def _part_by_place(rule: Split) -> str:
    """SQL for a part by the row's position among its user's rows."""
    offline = f"({_USER_ROWS} - {rule.online_last_n})"
    if rule.strategy == "per_user_tail":
        train = f"ceil({offline} * {1 - rule.test_ratio})"
    else:
        train = f"({offline} - {rule.test_last_n})"
    return (
        f"CASE WHEN position >= {offline} THEN 'online' WHEN position >= {train} THEN 'test' "
        f"WHEN position >= {train} - floor({train} * {rule.validation_ratio}) THEN 'validation' ELSE 'train' END"
    )


def _given_part(rule: Split, given: str) -> str:
    """SQL for the part that a column of the row names; a value that the profile does not list is marked as such."""
    cases = " ".join(
        f"WHEN {given}::VARCHAR IN ({', '.join(quote(str(each)) for each in listed)}) THEN {quote(part)}"
        for part, listed in rule.listed.items()
        if listed
    )
    return f"CASE {cases} ELSE {quote(_UNLISTED)} || coalesce({given}::VARCHAR, 'missing') END"


def _drawn_part(rule: Split) -> str:
    """SQL for a part drawn by the MD5 hash of the row's day and of its place in that day's files."""
    train, validation, test, *_ = rule.shares
    draw = f"md5_number_lower(timestamp::DATE || '/' || seq) % {train + validation + test}"
    return (
        f"CASE WHEN {draw} < {train} THEN 'train' WHEN {draw} < {train + validation} THEN 'validation' ELSE 'test' END"
    )
