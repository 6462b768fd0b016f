"""Sessions: rows of the log without a user belong to their session, whose id takes the place of the user's.

Put here the rules on sessions in a profile, the ids of anonymous sessions, and the SQL for both.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys_assets.datasets.duck import quote, quote_name
from recsys_assets.datasets.profile_yaml import Fault, quote_text

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile
    from recsys_assets.datasets.profile_parts import TableName

# No user has such an id: a row with one is rejected. So sessions and users never meet, whatever lands later.
TEXT_PREFIX = "session:"  # an anonymous session's id begins with it where ids are texts
LOWEST_USER = -(2**62)  # where ids are numbers, those of anonymous sessions are below
# No column of a profile has blanks in its name.
SESSION, _LAST, _BEFORE, _VISIT = map(quote_name, ("session of the row", "its last row", "last so far", "the visit"))
_EVERYTHING = "BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"
IS_RESERVED = "user_id is one of those that anonymous sessions get"


def own_or_session(profile: "Profile", table: "TableName") -> str:
    """SQL to follow the `*` of a select list: an event without a user gets the id of its session; empty if none does.

    A number is made from 62 bits of the session's MD5 hash: that any two of 10^8 sessions share one has a probability
    of 0.001.
    """
    rule = profile.session
    if not rule or not _has_sessions(profile, table):
        return ""
    session = f"CAST({quote_name(rule.column)} AS VARCHAR)"
    if profile.tables["interactions"]["user_id"].type == "string":
        made = f"{quote(TEXT_PREFIX)} || {session}"
    else:
        made = f"{LOWEST_USER - 1} - (md5_number_lower({session}) >> 2)::BIGINT"
    return f"REPLACE (coalesce(user_id, {made}) AS user_id)"


def is_anonymous(profile: "Profile") -> str:
    """SQL for whether a row's `user_id` is the id of an anonymous session."""
    if not profile.session:
        return "false"
    if profile.tables["interactions"]["user_id"].type == "string":
        return f"starts_with(user_id, {quote(TEXT_PREFIX)})"
    return f"(user_id < {LOWEST_USER})"


def rejections(profile: "Profile", table: "TableName") -> dict[str, str]:
    """Reasons to reject a landed row because of its user's id or its session, with the SQL of each."""
    rule, found = profile.session, {}
    if rule and table != "items":
        found[IS_RESERVED] = is_anonymous(profile)
    if rule and _has_sessions(profile, table):
        found["user_id is missing"] = f"user_id IS NULL AND {quote_name(rule.column)} IS NULL"  # neither is there
    return found


def _has_sessions(profile: "Profile", table: "TableName") -> bool:
    """Whether rows of a table may belong to a session instead of a user."""
    of_days = table in ("interactions", "impressions")
    return of_days and profile.session is not None and profile.session.column in profile.tables[table]


def faults(profile: "Profile") -> Iterator[Fault]:
    """The rules on sessions that the profile breaks."""
    rule = profile.session
    if not rule:
        return
    if not profile.has_entities:
        yield Fault(
            ("session",), "needs user_id, item_id and timestamp in tables.interactions: add them or leave it out"
        )
        return
    column = profile.tables["interactions"].get(rule.column)
    if column is None or column.type not in ("string", "int64") or rule.column in ("user_id", "item_id"):
        what = f"{quote_text(rule.column)} is not a column of tables.interactions of type string or int64: add it"
        yield Fault(("session", "column"), what)
    if rule.split and profile.split.strategy == "given":
        yield Fault(("session", "split"), "and split.strategy given both say which part a row belongs to: keep one")


def whole_sessions(rows: str) -> str:
    """SQL for the rows of a query (user_id, position, part and `SESSION`) with the part of their session's last row.

    Sessions of a user that overlap in time count as one, a visit: otherwise a part could begin before the previous one
    ends. A row without a session is a session of its own.
    """
    of_user = "PARTITION BY user_id ORDER BY position"
    last = f"max(position) OVER (PARTITION BY user_id, {SESSION})"
    ends = f"SELECT *, CASE WHEN {SESSION} IS NULL THEN position ELSE {last} END AS {_LAST} FROM ({rows})"
    before = f"max({_LAST}) OVER ({of_user} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
    visits = f"SELECT *, count(CASE WHEN position > {_BEFORE} THEN 1 END) OVER ({of_user}) AS {_VISIT} FROM"
    whole = f"last_value(part) OVER (PARTITION BY user_id, {_VISIT} ORDER BY position ROWS {_EVERYTHING})"
    return (
        f"SELECT * EXCLUDE ({SESSION}, {_LAST}, {_BEFORE}, {_VISIT}) REPLACE ({whole} AS part) "
        f"FROM ({visits} (SELECT *, {before} AS {_BEFORE} FROM ({ends})))"
    )
