"""SQL expressions of a profile: parsed, checked against an allow-list, and generated again for DuckDB.

DuckDB runs SQL generated from the parsed tree, never the text itself. Everything on the allow-list gives the same value
for the same row on any day, and reads nothing but the row. Anything else is refused.
"""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # sqlglot takes 0.2 s to import, so only a text that needs it pays for it
    from sqlglot import Dialect
    from sqlglot.expressions import Column
    from sqlglot.expressions import Expr as Tree

# Kinds of nodes, by sqlglot's names, that an expression over one row may contain.
SCALARS = frozenset(
    """
    Column Identifier Literal Boolean Null Paren
    And Or Not EQ NEQ GT GTE LT LTE Is NullSafeEQ NullSafeNEQ Between In
    Add Sub Mul Div IntDiv Mod Neg Abs Sign Round Floor Ceil Sqrt Exp Ln Log Pow Greatest Least
    Case If Coalesce Nullif Cast TryCast DataType
    DPipe Lower Upper Trim Length Substring Left Right StartsWith EndsWith Contains Like ILike RegexpLike
    ArrayContains ArraySize
    Year Month Day Hour Minute DayOfWeek
    """.split()  # noqa: SIM905 (one word per line would be fifty lines)
)
# Types to which a value may be cast. sqlglot has a different name for DuckDB's TIMESTAMP, which has no time zone.
TYPES = frozenset({"BOOLEAN", "INT", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR", "TEXT", "DATE", "TIMESTAMP"})
_CAST_TYPES = TYPES | {"TIMESTAMPNTZ"}
_PATTERNS = frozenset({"Like", "ILike", "RegexpLike"})  # their pattern must be a literal
_DUCKDB = "duckdb"
MAX_CHARACTERS, MAX_DEPTH = 4000, 60  # characters, and levels of nesting


class ExpressionError(ValueError):
    """An expression that is not allowed.

    The message says in general what is wrong and, after a colon, quotes the part that is.
    """

    @property
    def general(self) -> str:
        """The message without any part of the expression, which may come from a secret variable."""
        return str(self).partition(":")[0]


@dataclass(frozen=True)
class Expression:
    """An expression that may be run: its SQL for DuckDB, and the columns that it reads."""

    sql: str
    columns: frozenset[str]


def parse(text: str, columns: Collection[str], allowed: frozenset[str] = SCALARS, dialect: str = _DUCKDB) -> Expression:
    """Parse one expression over columns, whose names may be written in any case, as in SQL.

    Args:
        text: the expression as written.
        columns: the columns that exist.
        allowed: the kinds of nodes that it may contain; by default those for single rows.
        dialect: the SQL in which it is written, by sqlglot's name.

    Raises:
        ExpressionError: it is not one expression of allowed nodes over these columns.
    """
    if len(text) > MAX_CHARACTERS:
        raise ExpressionError(f"it has {len(text):,} characters: at most {MAX_CHARACTERS:,} are read")
    try:
        tree = _tree(text, dialect)
        known = {column.lower(): column for column in columns}
        for node in tree.walk():
            _refuse(node, known, allowed)
        sql = _to_sql(tree)
        if _to_sql(_tree(sql)) != sql:
            raise ExpressionError("it has no single meaning: write it in a simpler way, with brackets")
    except RecursionError:
        raise ExpressionError("it is nested too deeply") from None
    return Expression(sql, frozenset(node.name for node in tree.walk() if type(node).__name__ == "Column"))


@cache
def _dialect(name: str = _DUCKDB) -> "Dialect":
    from sqlglot import Dialect

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of nodes that are refused here anyway
    return Dialect.get_or_raise(name)


def _tree(text: str, dialect: str = _DUCKDB) -> "Tree":
    """Parse a text that is one expression and nothing more."""
    from sqlglot import ErrorLevel
    from sqlglot.errors import ParseError, TokenError
    from sqlglot.expressions import Condition

    try:
        tokens = _dialect(dialect).tokenize(text)
        if any(token.comments for token in tokens) or "--" in text or "/*" in text:
            raise ExpressionError("it holds a comment, or the signs of one (-- or /*): leave it out")
        parser = _dialect(dialect).parser(error_level=ErrorLevel.IMMEDIATE)
        trees = parser.parse_into(Condition, tokens, text)
    except TokenError:
        raise ExpressionError("a quotation mark is left open, or a character in it is not part of SQL") from None
    except ParseError as error:
        raise ExpressionError(f"it is not one SQL expression{_position(error)}") from None
    tree = trees[0] if len(trees) == 1 else None
    if tree is None:
        raise ExpressionError("it is empty, or has a semicolon too many")
    if _depth(tree) > MAX_DEPTH:
        raise ExpressionError("it is nested too deeply")
    return tree


def _position(error: Exception) -> str:
    """Where parsing stopped: the position alone, as the text may hold a secret."""
    found = getattr(error, "errors", None) or [{}]
    return f": see character {found[0]['col']}" if found[0].get("col") else ""


def _depth(tree: "Tree") -> int:
    """The depth of a tree, without recursion."""
    levels, row = 0, [tree]
    while row and levels <= MAX_DEPTH:
        levels, row = levels + 1, [child for node in row for child in node.iter_expressions()]
    return levels


def _refuse(node: "Tree", known: dict[str, str], allowed: frozenset[str]) -> None:
    """Refuse a node that is not allowed; otherwise spell a column's name as the table does, in quotation marks."""
    from sqlglot.expressions import Column

    kind = type(node).__name__
    if kind not in allowed:
        raise ExpressionError(f"it uses what is not allowed: {_node_name(node)}; use comparisons and plain functions")
    if isinstance(node, Column):
        _resolve(node, known)
    if kind == "DataType" and (node.this.name not in _CAST_TYPES or node.expressions):
        plain = ", ".join(sorted(TYPES))
        raise ExpressionError(f"a cast is not to a plain type: {node.this.name}; the plain types are {plain}")
    if kind in _PATTERNS and type(node.expression).__name__ != "Literal":
        raise ExpressionError("a pattern (LIKE, regexp_matches) must be a text in single quotes")


def _resolve(column: "Column", known: dict[str, str]) -> None:
    if len(column.parts) > 1:
        raise ExpressionError(f"a name has a dot: {column.sql()}; columns are named without a table")
    name = column.name.lower()
    if name not in known:
        there = ", ".join(known.values())
        raise ExpressionError(f"it names a column that does not exist: {column.name}; the columns are {there}")
    column.this.set("this", known[name])
    column.this.set("quoted", True)


def _node_name(node: "Tree") -> str:
    """The name of a node in a message."""
    kind = type(node).__name__
    if kind == "Anonymous":
        return f"the function {node.name}"
    return "a query" if kind in ("Select", "Subquery") else kind


def _to_sql(tree: "Tree") -> str:
    return _dialect().generate(tree, comments=False, identify=True)
