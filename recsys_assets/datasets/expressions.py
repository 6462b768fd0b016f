"""Expressions that people write into a profile: parsed, held against a list of what they may use, and written again.

What runs in DuckDB is made from the parsed tree, never the text itself. Everything on the list gives the same value for
the same row, today and tomorrow, and reads nothing but the row. What is not on the list is refused, whatever it is.
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

# The kinds of nodes that an expression over one row may be made of, by sqlglot's names.
SCALARS = frozenset(
    """
    Column Identifier Literal Boolean Null Paren
    And Or Not EQ NEQ GT GTE LT LTE Is NullSafeEQ NullSafeNEQ Between In
    Add Sub Mul Div IntDiv Mod Neg Abs Sign Round Floor Ceil Sqrt Exp Ln Log Pow Greatest Least
    Case If Coalesce Nullif Cast TryCast DataType
    DPipe Lower Upper Trim Length Substring Left Right StartsWith EndsWith Contains Like ILike RegexpLike
    ArrayContains ArraySize
    Year Month Day Hour Minute DayOfWeek
    """.split()  # noqa: SIM905 (a word a line would be fifty lines)
)
# The types of casts. sqlglot has another name for DuckDB's TIMESTAMP, which knows no time zone.
TYPES = frozenset({"BOOLEAN", "INT", "BIGINT", "FLOAT", "DOUBLE", "VARCHAR", "TEXT", "DATE", "TIMESTAMP"})
_TYPES = TYPES | {"TIMESTAMPNTZ"}
_PATTERNS = frozenset({"Like", "ILike", "RegexpLike"})  # whose pattern has to be known beforehand
LONGEST, DEEPEST = 4000, 60  # characters, and levels of nesting


class ExpressionError(ValueError):
    """An expression that is not one of those that are allowed.

    The message says what is wrong in general, then, after a colon, quotes what it is about.
    """

    @property
    def general(self) -> str:
        """The message without anything that the expression holds, which may come from a secret variable."""
        return str(self).partition(":")[0]


@dataclass(frozen=True)
class Expression:
    """An expression that may be run: its SQL for DuckDB, and the columns that it reads."""

    sql: str
    columns: frozenset[str]


def parse(text: str, columns: Collection[str], allowed: frozenset[str] = SCALARS) -> Expression:
    """Parse one expression over columns, whose names may be written in any case, as in SQL.

    Args:
        text: what somebody wrote.
        columns: those that there are.
        allowed: the kinds of nodes that it may be made of; the ones for rows by default.

    Raises:
        ExpressionError: it is anything else than one expression of allowed nodes over these columns.
    """
    if len(text) > LONGEST:
        raise ExpressionError(f"it has {len(text):,} characters: at most {LONGEST:,} are read")
    try:
        tree = _tree(text)
        known = {column.lower(): column for column in columns}
        for node in tree.walk():
            _refuse(node, known, allowed)
        sql = _generated(tree)
        if _generated(_tree(sql)) != sql:
            raise ExpressionError("it has no single meaning: write it in a simpler way, with brackets")
    except RecursionError:
        raise ExpressionError("it is nested too deeply") from None
    return Expression(sql, frozenset(node.name for node in tree.walk() if type(node).__name__ == "Column"))


@cache
def _dialect() -> "Dialect":
    from sqlglot import Dialect

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what is refused here in any case
    return Dialect.get_or_raise("duckdb")


def _tree(text: str) -> "Tree":
    """The tree of a text that is one expression and nothing more."""
    from sqlglot import ErrorLevel
    from sqlglot.errors import ParseError, TokenError
    from sqlglot.expressions import Condition

    try:
        tokens = _dialect().tokenize(text)
        if any(token.comments for token in tokens) or "--" in text or "/*" in text:
            raise ExpressionError("it holds a comment, or the signs of one (-- or /*): leave it out")
        parser = _dialect().parser(error_level=ErrorLevel.IMMEDIATE)
        trees = parser.parse_into(Condition, tokens, text)
    except TokenError:
        raise ExpressionError("a quotation mark is left open, or a sign in it is none of SQL's") from None
    except ParseError as error:
        raise ExpressionError(f"it is not one SQL expression{_where(error)}") from None
    tree = trees[0] if len(trees) == 1 else None
    if tree is None:
        raise ExpressionError("it is empty, or has a semicolon too many")
    if _depth(tree) > DEEPEST:
        raise ExpressionError("it is nested too deeply")
    return tree


def _where(error: Exception) -> str:
    """Where parsing stopped: the place alone, for the text may hold what nobody is to see."""
    found = getattr(error, "errors", None) or [{}]
    return f": see character {found[0]['col']}" if found[0].get("col") else ""


def _depth(tree: "Tree") -> int:
    """Levels of a tree, without recursion."""
    levels, row = 0, [tree]
    while row and levels <= DEEPEST:
        levels, row = levels + 1, [child for node in row for child in node.iter_expressions()]
    return levels


def _refuse(node: "Tree", known: dict[str, str], allowed: frozenset[str]) -> None:
    """Refuse a node that is not allowed; a column gets its own name, in quotation marks."""
    from sqlglot.expressions import Column

    kind = type(node).__name__
    if kind not in allowed:
        raise ExpressionError(f"it uses what is not allowed: {_shown(node)}; there are comparisons and plain functions")
    if isinstance(node, Column):
        _resolve(node, known)
    if kind == "DataType" and (node.this.name not in _TYPES or node.expressions):
        plain = ", ".join(sorted(TYPES))
        raise ExpressionError(f"a cast is not to a plain type: {node.this.name}; there are {plain}")
    if kind in _PATTERNS and type(node.expression).__name__ != "Literal":
        raise ExpressionError("a pattern (LIKE, regexp_matches) must be a text in single quotes")


def _resolve(column: "Column", known: dict[str, str]) -> None:
    if len(column.parts) > 1:
        raise ExpressionError(f"a name has a dot: {column.sql()}; columns are named without a table")
    name = column.name.lower()
    if name not in known:
        there = ", ".join(known.values())
        raise ExpressionError(f"it names a column that is not there: {column.name}; there are {there}")
    column.this.set("this", known[name])
    column.this.set("quoted", True)


def _shown(node: "Tree") -> str:
    """How a node is called in a message."""
    kind = type(node).__name__
    if kind == "Anonymous":
        return f"the function {node.name}"
    return "a query" if kind in ("Select", "Subquery") else kind


def _generated(tree: "Tree") -> str:
    return _dialect().generate(tree, comments=False, identify=True)
