"""The label rule of a profile as SQL: true for a positive, false for a negative, NULL where a row gives no answer."""

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from recsys_assets.datasets.event_kinds import of_kinds
from recsys_assets.datasets.expressions import Expression, ExpressionError, parse
from recsys_assets.datasets.profile_parts import NUMBERS, ColumnType

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile

SQL_TYPES: dict[ColumnType, str] = {
    "int64": "BIGINT",
    "float32": "FLOAT",
    "string": "VARCHAR",
    "strings": "VARCHAR[]",
    "timestamp": "TIMESTAMP",
    "int32": "INTEGER",
    "float64": "DOUBLE",
    "bool": "BOOLEAN",
    "date": "DATE",
    "path": "VARCHAR[]",
    "vector": "FLOAT[]",
    "text": "VARCHAR",  # until it is written, as a vector
}
EVERY_EVENT = "true"  # the rule by which every event is a positive
# A rule like `rating > 3` is plainly safe: no parser is needed to check it.
_COMPARISON = re.compile(r"([a-z]\w*) (=|<>|<|<=|>|>=) (-?\d{1,15}(?:\.\d{1,15})?)", re.ASCII)


def label_rule(profile: "Profile") -> Expression:
    """The label rule over the columns of `interactions` as it runs in DuckDB; texts are not among them.

    Without a rule of its own, a profile with kinds of events has those that its `events` rank as positives.

    Raises:
        ExpressionError: the rule is not one condition that gives the same answer for the same row.
    """
    if profile.label == EVERY_EVENT:
        return of_kinds(profile.events, profile.events.ranked) if profile.events else Expression("true", frozenset())
    columns = profile.tables["interactions"].items()
    return condition(profile.label, tuple((name, spec.type) for name, spec in columns if spec.type != "text"))


@lru_cache(256)  # requests to the service bring conditions too
def condition(text: str, columns: tuple[tuple[str, ColumnType], ...]) -> Expression:
    """A condition over columns of these types; a row on which its evaluation fails gets no answer.

    Raises:
        ExpressionError: it is not a condition over the columns.
    """
    found = _COMPARISON.fullmatch(text)
    kind = dict(columns).get(found[1]) if found else None
    if found and kind in NUMBERS:
        number = f"{found[3]}::FLOAT" if kind == "float32" else found[3]  # as DuckDB does; Spark would take doubles
        return Expression(f'"{found[1]}" {found[2]} {number}', frozenset({found[1]}))
    rule = parse(text, dict(columns))
    _refuse_types(rule.sql, columns)
    return Expression(f"TRY({rule.sql})", rule.columns)


def _refuse_types(sql: str, columns: tuple[tuple[str, ColumnType], ...]) -> None:
    """Refuse SQL that DuckDB cannot compute from such columns, or that is not true or false."""
    import duckdb

    from recsys_assets.datasets.duck import connect, quote_name

    nulls = ", ".join(f"NULL::{SQL_TYPES[kind]} AS {quote_name(column)}" for column, kind in columns)
    with connect() as connection:
        connection.execute(f"CREATE TEMP TABLE interactions AS SELECT {nulls}")
        try:  # on a row, because a cast of a constant may fail only then
            found = connection.sql(f"SELECT {sql} FROM interactions")
            kind = found.types[0]
            found.fetchall()
            connection.execute(f"SELECT TRY({sql}) FROM interactions").fetchall()
        except duckdb.Error as error:
            raise ExpressionError(f"its values do not fit together: {str(error).splitlines()[0]}") from None
    if kind != "BOOLEAN":
        raise ExpressionError(f"it gives {kind}, not true or false: write a condition, like `rating > 3`")
