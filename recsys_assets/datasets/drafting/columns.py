"""The columns of a drafted profile: their names, types and lines, and the kinds of features that they make."""

import re
from collections.abc import Mapping, Sequence
from itertools import chain, count

import duckdb
import yaml

from recsys_assets.datasets import names
from recsys_assets.datasets.drafting.survey import Facts
from recsys_assets.datasets.moments import TIME_PARTS

_FEW = 100  # an integer with at most as many different values is a category: an age group, a profession
_MANY = 0.5  # a text whose values are more often unique than this is a name or an address, not a category
_LISTED = 0.2  # share of values with a separator from which on a text is a list
_SKEWED = 100  # a number whose highest value is this many times its lowest, or 1, is taken as its logarithm
_WORDS = 2  # a text with as many words on average says more than a category does
_LONGEST = 48  # letters of a name


def column_names(
    connection: duckdb.DuckDBPyConnection, columns: Mapping[tuple[str, str], str | None]
) -> dict[tuple[str, str], str]:
    """A name for each column, by its table and its name in the file: letters, digits and underscores, each name once.

    Columns that are keys have their names already; no other column may have the name of a key, of a column that the
    platform adds, or of a word of SQL.
    """
    words = connection.execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'")
    taken = {word for (word,) in words.fetchall()} | names.OF_EVENTS | names.OF_MODELS | names.OF_ENTITIES
    taken |= {"user_id", "item_id", "timestamp", *TIME_PARTS}
    found: dict[tuple[str, str], str] = {}
    for place, own in columns.items():
        plain = re.sub(r"\W", "_", place[1]).strip("_").lower()[:_LONGEST] or "column"
        if plain in taken or plain.startswith("raw_") or plain[0].isdigit():
            plain = f"my_{plain}"
        free = (name for name in chain([plain], (f"{plain}_{n}" for n in count(2))) if name not in found.values())
        found[place] = own or next(free)
    return found


def hint(name: str, facts: Facts) -> str:
    """A comment on a column of sentences: its words could be a feature."""
    if column_type(facts) != "string" or facts.words < _WORDS:
        return ""
    words = flow({f"{name}_words": {"type": "text", "column": facts.name}})[1:-1]
    return note(f"{words} would make numbers of its words")


def note(text: str) -> str:
    """A comment at the end of a line; what came from a file cannot end it."""
    return "  # " + "".join(letter if letter.isprintable() else " " for letter in text)


def column_text(name: str, facts: Facts, kind: str, **settings: object) -> str:
    """A column in YAML, as short as it can be."""
    own = {"type": kind, **({"column": facts.name} if facts.name != name else {}), **settings}
    separator = max((mark for mark in facts.listed if mark != "["), key=lambda mark: facts.listed[mark])
    if kind == "strings" and not facts.listed["["] and separator != "|":
        own["separator"] = separator
    return flow({name: kind if len(own) == 1 else own})[1:-1]


def column_type(facts: Facts) -> str:
    """The type of a column by its values."""
    if facts.kind.endswith("[]") or facts.listed["["] == 1 or _is_list(facts):
        return "strings"
    if facts.kind == "BOOLEAN" or facts.truths == 1:
        return "bool"
    if facts.is_integer:
        return "int64"
    if facts.is_number:
        return "float32"
    return "timestamp" if facts.is_time else "string"


def _is_list(facts: Facts) -> bool:
    """Whether a text holds several values: sentences have commas too, but followed by blanks."""
    marks = {mark: share for mark, share in facts.listed.items() if mark != "["}
    return facts.words < 2 and max(marks.values()) >= _LISTED and not facts.is_number


def feature_kinds(facts: Facts) -> Sequence[str]:
    """The lists of features that a column belongs to; none for names, addresses and constants."""
    kind = column_type(facts)
    if facts.distinct < 2:
        return ()
    if kind == "strings":
        return ("multi_valued",)
    if kind == "bool":
        return ("categorical",)
    if kind == "string" or (kind == "int64" and facts.distinct <= _FEW):
        return ("categorical",) if facts.distinct <= _MANY * facts.filled else ()
    if kind not in ("int64", "float32"):
        return ()
    low, high = facts.low or 0, facts.high or 0
    return ("numeric", "log") if low >= 0 and high > _SKEWED * max(1, low) else ("numeric",)


def number(value: float | None) -> float | int | None:
    """A number without needless decimals."""
    return int(value) if value is not None and float(value).is_integer() else value


def flow(values: Mapping[str, object] | Sequence[str]) -> str:
    """A mapping or a list on one line of YAML."""
    plain = dict(values) if isinstance(values, Mapping) else list(values)
    return yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10**6).strip()
