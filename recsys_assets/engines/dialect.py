"""DuckDB's SQL as Spark's: sqlglot translates, and what it leaves wrong is corrected or refused here.

Each correction is of something that Spark would refuse, or would compute otherwise without a word:

- DuckDB rounds a fraction that becomes an integer, half to even; Spark cuts it off.
- DuckDB divides in floating point, Spark divides decimals as decimals. A division by zero is an error in Spark, and
  infinite in DuckDB.
- DuckDB has integers of 128 bits; in Spark they are decimals of 38 digits, which hold 126 bits.
- DuckDB has infinite moments; in Parquet, and so here, they are the first and the last microsecond of 64 bits.
- DuckDB passes over the nulls of a list, when it looks for a value or for the distinct ones.
- DuckDB's numbers of rows and parts of a time have 64 bits, Spark's 32. sqlglot begins Spark's week with a Saturday.
- Spark has no `isfinite`.
- Spark has neither `UNION ALL BY NAME` nor `* REPLACE`. Both are written out with the names of the columns.
- What sqlglot would leave out, or Spark would count otherwise, is refused: the order within an aggregate, as in
  `last(x ORDER BY y)` (`arg_max(x, y)` says the same), `EXCLUDE` in a frame, `date_diff`, `ASOF JOIN`, `TRY`, and a
  local time that becomes UTC.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from sqlglot import exp
from sqlglot.optimizer.annotate_types import annotate_types

_FOREVER = {
    "infinity": "+294247-01-10 04:00:54.775807",  # 2**63 - 1 microseconds after 1970
    "-infinity": "-290308-12-21 19:59:05.224193",
}
_MOMENTS = {exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPNTZ}
_INTEGERS = exp.DataType.SIGNED_INTEGER_TYPES - {exp.DataType.Type.INT128}
_EXACT = exp.DataType.INTEGER_TYPES | {exp.DataType.Type.BOOLEAN, exp.DataType.Type.NULL}
_ELSEWHERE = "build this asset on DuckDB, without RECSYS_ENGINE"
Columns = Callable[[str], Sequence[str]]
Files = Callable[[Sequence[str]], str]


class Untranslatable(ValueError):
    """A statement that Spark cannot run as it is meant."""


def to_spark(query: exp.Expr, columns: Columns, files: Files) -> str:
    """Translate a query.

    Args:
        query: parsed from DuckDB's dialect.
        columns: gives the names of the columns of a query in Spark's dialect.
        files: gives the name of a table with the rows of Parquet files.

    Raises:
        Untranslatable: Spark has no such thing.
    """
    whole = exp.Paren(this=annotate_types(query.copy(), dialect="duckdb"))
    refusals: dict[type[exp.Expr], Callable[[Any], None]] = {
        exp.Order: _refuse_order_in_aggregate,
        exp.WindowSpec: _refuse_excluded_rows,
        exp.DateDiff: _refuse_date_diff,
        exp.Join: _refuse_asof,
        exp.Try: _refuse_try,
        exp.AtTimeZone: _refuse_local_time,
    }
    corrections: dict[type[exp.Expr], Callable[[Any], None]] = {
        exp.Cast: _cast,
        exp.Div: _divide,
        exp.Window: _number_of_row,
        exp.Hour: _as_bigint,
        exp.DayOfWeekIso: _weekday,
        exp.ArrayContains: _without_nulls,
        exp.ArrayDistinct: _without_nulls,
        exp.Anonymous: _call,
        exp.ReadParquet: partial(_read, files),
        exp.Select: partial(_select, columns),
        exp.Union: partial(_union, columns),
    }
    for rules in (refusals, corrections):  # a correction may ask Spark, which would refuse it in other words
        for node in reversed(list(whole.walk())):  # what is inside comes first
            if rule := rules.get(type(node)):
                rule(node)
    return str(whole.this.sql("spark"))


def _cast(node: exp.Cast) -> None:
    kind, value = node.to.this, node.this
    if kind == exp.DataType.Type.INT128:
        node.set("to", exp.DataType.build("DECIMAL(38, 0)"))
    elif kind in _MOMENTS and value.name in _FOREVER and value.is_string:
        node.set("this", exp.Literal.string(_FOREVER[value.name]))
    elif kind in _INTEGERS and value.type.this not in _EXACT:
        node.set("this", exp.func("bround", value.copy(), exp.Literal.number(0)))  # integers stay as they are


def _divide(node: exp.Div) -> None:
    for side in ("this", "expression"):
        node.set(side, exp.cast(node.args[side].copy(), "DOUBLE"))


def _number_of_row(node: exp.Window) -> None:
    if isinstance(node.this, exp.RowNumber):
        _as_bigint(node)


def _as_bigint(node: exp.Expr) -> None:
    node.replace(exp.cast(node.copy(), "BIGINT"))


def _weekday(node: exp.DayOfWeekIso) -> None:
    node.replace(exp.cast(exp.func("weekday", node.this.copy(), dialect="spark") + 1, "BIGINT"))  # Monday is 0 there


def _without_nulls(node: exp.ArrayContains | exp.ArrayDistinct) -> None:
    node.set("this", exp.func("array_compact", node.this.copy(), dialect="spark"))


def _refuse_order_in_aggregate(node: exp.Order) -> None:
    if isinstance(node.parent, exp.Func):
        raise Untranslatable(f"{node.parent.sql('duckdb')}: Spark would ignore the order; write it with arg_max")


def _refuse_excluded_rows(node: exp.WindowSpec) -> None:
    if node.args.get("exclude"):
        raise Untranslatable(f"{node.sql('duckdb')}: Spark has no EXCLUDE in a frame; end the frame a row earlier")


def _refuse_date_diff(node: exp.DateDiff) -> None:
    raise Untranslatable(f"{node.sql('duckdb')}: Spark counts whole days, DuckDB midnights; subtract dates instead")


def _refuse_asof(node: exp.Join) -> None:
    if node.args.get("method") == "ASOF":
        raise Untranslatable(f"{node.sql('duckdb')}: Spark has no ASOF JOIN; {_ELSEWHERE}")


def _refuse_try(node: exp.Try) -> None:
    raise Untranslatable(f"{node.sql('duckdb')}: Spark has no TRY; {_ELSEWHERE}")


def _refuse_local_time(node: exp.AtTimeZone) -> None:
    utc = exp.Literal.string("UTC")
    if node.args["zone"] != utc and not (isinstance(node.this, exp.AtTimeZone) and node.this.args["zone"] == utc):
        raise Untranslatable(f"{node.sql('duckdb')}: Spark would take this time for one of UTC; {_ELSEWHERE}")


def _call(node: exp.Anonymous) -> None:
    """Correct the call of a function that sqlglot does not know."""
    match node.name.lower():
        case "hash":
            _hash(node)
        case "isfinite":
            node.replace(exp.func("abs", node.expressions[0].copy()) < exp.cast(exp.Literal.string("inf"), "DOUBLE"))
        case _:
            raise Untranslatable(
                f"{node.sql('duckdb')}: this function has no translation into Spark's SQL; {_ELSEWHERE}"
            )


def _hash(node: exp.Anonymous) -> None:
    select = node.find_ancestor(exp.Select)
    tables = {each.alias_or_name for each in select.find_all(exp.Table)} if select else set()
    values = [_as_text(each) if each.name in tables else each.copy() for each in node.expressions]
    node.replace(exp.func("xxhash64", *values, dialect="spark"))


def _as_text(table: exp.Expr) -> exp.Expr:
    """A row as text. Spark's own hash of a row passes over nulls, wherever they are."""
    row = exp.Column(this=exp.Star(), table=exp.to_identifier(table.name))
    return exp.func("to_json", exp.func("struct", row, dialect="spark"), dialect="spark")


def _read(files: Files, node: exp.ReadParquet) -> None:
    named = [each.this for each in node.expressions[0].expressions]
    node.replace(exp.to_identifier(files(named)))


def _select(columns: Columns, node: exp.Select) -> None:
    """Write out the columns of a star with replaced ones, and filter by `QUALIFY` in a query around this one."""
    node.set("expressions", [each for given in node.expressions for each in _written_out(columns, node, given)])
    if condition := node.args.get("qualify"):
        inside = node.copy()
        after = {name: inside.args.get(name) for name in ("order", "limit", "offset")}
        inside.args.update(dict.fromkeys([*after, "qualify"]))
        around = exp.select("*").from_(inside.subquery("qualified")).where(condition.this.copy())
        for name, clause in after.items():
            around.set(name, clause)
        node.replace(around)


def _written_out(columns: Columns, select: exp.Select, given: exp.Expr) -> list[exp.Expr]:
    star = given.this if isinstance(given, exp.Column) else given
    if not (isinstance(star, exp.Star) and star.args.get("replace")):
        return [given]
    replaced = {each.alias: each for each in star.args["replace"]}
    plain = given.copy()
    (plain.this if isinstance(plain, exp.Column) else plain).set("replace", None)
    rows = exp.Select(expressions=[plain], **{name: select.args.get(name) for name in ("with_", "from_", "joins")})
    table = given.table if isinstance(given, exp.Column) else None
    return [replaced.get(name) or exp.column(name, table, quoted=True) for name in columns(rows.sql("spark"))]


def _union(columns: Columns, node: exp.Union) -> None:
    """Write out a union by name: columns that a side lacks are null."""
    if not node.args.get("by_name"):
        return
    sides = {side: columns(node.args[side].sql("spark")) for side in ("this", "expression")}
    for side, own in sides.items():
        chosen = [
            exp.column(name, quoted=True) if name in own else exp.alias_(exp.Null(), name, quoted=True)
            for name in dict.fromkeys([*sides["this"], *sides["expression"]])
        ]
        node.set(side, exp.select(*chosen).from_(node.args[side].copy().subquery("named")))
    node.set("by_name", None)
