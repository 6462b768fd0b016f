"""Rules across the parts of a profile: each broken rule is a fault with its place and what to do."""

import contextlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from recsys_assets.datasets import event_kinds, fresh_rules, impression_rules, moments, names, sessions
from recsys_assets.datasets.expressions import ExpressionError
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.log_rules import carried_columns
from recsys_assets.datasets.profile_parts import NUMBERS, ColumnType, TableName
from recsys_assets.datasets.profile_yaml import Fault, Place, quote_text

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile

KEYS: dict[TableName, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "timestamp"),
    "users": ("user_id",),
    "items": ("item_id",),
    "impressions": ("user_id", "item_id", "timestamp"),
}
_IDS: tuple[tuple[TableName, str], ...] = (("users", "user_id"), ("items", "item_id"))
_KINDS: dict[str, tuple[ColumnType, ...]] = {
    "categorical": ("int64", "int32", "string", "bool"),
    "multi_valued": ("strings", "path"),
    "numeric": (*NUMBERS, "bool", "date", "vector", "text"),
}
_IDS_AND_TIME = "user_id, item_id and timestamp in tables.interactions: add what is missing, or leave it out"
_LONGEST = 64  # letters of a column's name


def faults(profile: "Profile") -> Iterator[Fault]:
    """All rules that the profile breaks; label and features are checked only if its tables are in order."""
    found = [*_places(profile), *_tables(profile)]
    found = found or list(carried_columns(profile))
    yield from found
    if not found:
        yield from _roles(profile)
        yield from _split(profile)
        yield from event_kinds.faults(profile)
        yield from sessions.faults(profile)
        yield from impression_rules.faults(profile)
        yield from _label(profile)
        yield from _features(profile)
        yield from fresh_rules.faults(profile)
        yield from moments.faults(profile)


def _places(profile: "Profile") -> Iterator[Fault]:
    if profile.last_bizdate and profile.last_bizdate < profile.first_bizdate:
        yield Fault(("last_bizdate",), "is before first_bizdate: correct one of them, or remove last_bizdate")
    landing = str(profile.landing)
    if "://" in landing or ":/" in landing or landing == ".":
        yield Fault(("landing",), "give a folder of this machine")
    if profile.source and profile.files != Files():
        yield Fault(
            ("files",), f"the files of the source {profile.source} have a form of their own: remove one of both"
        )
    if re.search(r"\$[A-Za-z_]", landing):
        yield Fault(("landing",), "a variable is written ${VAR}, or ${VAR:-default}: put the brackets around its name")
    with contextlib.suppress(RuntimeError):
        profile.landing.expanduser()
        return
    yield Fault(("landing",), f"there is no user {quote_text(profile.landing.parts[0])}")


def _tables(profile: "Profile") -> Iterator[Fault]:
    for table, keys in KEYS.items():
        columns = profile.tables.get(table, {})
        needed = keys if profile.has_entities and (columns or table == "interactions") else ()
        if missing := [key for key in needed if key not in columns]:
            how = "add it with its type, as in `user_id: string`; `column` says what the landing files call it"
            yield Fault(("tables", table), f"lacks {', '.join(missing)}: {how}")
        yield from _names(profile, table)
    events = profile.tables.get("interactions", {})
    if "timestamp" in events and events["timestamp"].type != "timestamp":
        what = f"is {events['timestamp'].type}, not timestamp: write `timestamp: timestamp`, which reads numbers too"
        yield Fault(("tables", "interactions", "timestamp"), what)
    if not events:
        yield Fault(("tables", "interactions"), "lacks columns: name those of the log, as in `user_id: string`")
    for table, key in _IDS if profile.has_entities else ():
        sides = [profile.tables[name] for name in ("interactions", table) if name in profile.tables]
        types = {columns[key].type for columns in sides if key in columns}
        if len(types) > 1 or not types <= {"int64", "string"}:
            what = f"must be int64, or string, in both tables.interactions and tables.{table}: give both the same type"
            yield Fault(("tables", table, key), what)


def _names(profile: "Profile", table: TableName) -> Iterator[Fault]:
    """Names of a table's columns that cannot be used, or not together; names in landing files are free."""
    columns = profile.tables.get(table, {})
    taken = reserved_names(profile, table) | {f"raw_{name.casefold()}" for name in columns}
    first: dict[str, str] = {}
    for name in columns:
        folded = unicodedata.normalize("NFKC", name).casefold()
        what = ""
        if not re.fullmatch(r"\w+", name) or len(name) > _LONGEST:
            what = f"is not a name of letters, digits and underscores, up to {_LONGEST}"
        elif folded in taken:
            what = "is a name of the platform's own"
        elif folded in first:
            what = f"and {quote_text(first[folded])} differ by case only, which SQL does not see"
        if what:
            yield Fault(("tables", table, name), f"{quote_text(name)} {what}: {_rename_advice(name)}")
        first.setdefault(folded, name)
    # A text may be read twice: once as words, and once as a vector.
    landed = Counter((spec.column or name, spec.type == "text") for name, spec in columns.items())
    for name, spec in columns.items():
        if landed[spec.column or name, spec.type == "text"] > 1:
            what = f"{quote_text(spec.column or name)} of the landing file is read as several columns: keep one of them"
            yield Fault(("tables", table, name), what)
            return


def _rename_advice(name: str) -> str:
    """Advice on how to give a landed column a different name."""
    mine = re.sub(r"\W", "_", name)[:40] or "name"
    return f"give it another, as in `my_{mine}: {{type: …, column: {quote_text(name)}}}`"


def reserved_names(profile: "Profile", table: TableName) -> frozenset[str]:
    """Names that no column of a table may have, in lower case."""
    if table == "interactions":
        return names.OF_EVENTS if profile.has_entities else names.OF_EVENTS | names.OF_MODELS
    if table == "impressions":
        return frozenset(names.INGESTED)
    return names.OF_ENTITIES | {"item_id" if table == "users" else "user_id"}


def _roles(profile: "Profile") -> Iterator[Fault]:
    """Check the columns of `interactions` that have a role, and the keys that need users and items."""
    columns = profile.tables["interactions"]
    for role, name in (("rating", profile.rating), ("oracle", profile.oracle)):
        if name is not None and (name not in columns or columns[name].type not in NUMBERS):
            what = f"{quote_text(name)} is not a numeric column of tables.interactions: name one, or remove the key"
            yield Fault((role,), what)
    for key, used in (("rating", profile.rating is not None), ("unknown_ids", profile.unknown_ids == "keep")):
        if used and not profile.has_entities:
            yield Fault((key,), f"{key} needs {_IDS_AND_TIME}")


def _split(profile: "Profile") -> Iterator[Fault]:
    """Check that the rows have what the strategy needs."""
    rule, said = profile.split, f"split.strategy {profile.split.strategy}"
    if rule.strategy in ("per_user_tail", "leave_last_n", "successive") and not profile.has_entities:
        yield Fault(("split",), f"{said} needs {_IDS_AND_TIME}")
    if rule.strategy == "random" and profile.has_entities:
        yield Fault(("split",), f"{said} would mix the past and the future of users: it is for rows without users")
    if rule.strategy == "random" and len(rule.shares) > 3:
        yield Fault(("split", "shares"), f"{said} has no online part: give three numbers")
    if rule.parts and rule.strategy != "given":
        yield Fault(("split", "parts"), f"is for split.strategy given, not {rule.strategy}: remove one of both")
    if rule.strategy == "given":
        yield from _given_parts(profile)


def _given_parts(profile: "Profile") -> Iterator[Fault]:
    """Check that each part has a file, or values of a column, of its own."""
    rule, columns, said = profile.split, profile.tables["interactions"], "split.strategy given"
    if bool(rule.parts) == bool(rule.column):
        yield Fault(
            ("split",), f"{said} needs either column, which names each row's part, or parts: files of each part"
        )
    if rule.column and (rule.column not in columns or columns[rule.column].type not in ("int64", "string")):
        what = f"{said} needs split.column, an int64 or string column of tables.interactions that names each row's part"
        yield Fault(("split",), what)
    if missing := [part for part in ("train", "validation", "test") if not rule.listed.get(part)]:
        where = "parts" if rule.parts else "values"
        yield Fault(("split", where), f"lacks {'' if rule.parts else 'values for '}{', '.join(missing)}")
    if len(set(rule.parts.values())) < len(rule.parts):
        yield Fault(("split", "parts"), "names a file or folder twice: each belongs to one part")
    for value, count in Counter(each for listed in rule.values.values() for each in listed).items():
        if count > 1:
            yield Fault(("split", "values"), f"{quote_text(str(value))} is listed {count} times: a row has one part")
    if rule.column in profile.features.columns:
        yield Fault(("features",), f"{quote_text(rule.column)} is the split's column, so it cannot be a feature")


def _label(profile: "Profile") -> Iterator[Fault]:
    try:
        rule = label_rule(profile)
    except ExpressionError as error:
        yield LabelFault(error)
        return
    if not profile.has_entities:
        for name in profile.features.columns:
            if name in rule.columns:
                what = f"{quote_text(name)} is part of the label, so as a feature it would be leakage"
                yield Fault(("features",), what)


class LabelFault(Fault):
    """A label rule that is not allowed; `general` says why without quoting it."""

    def __init__(self, error: ExpressionError) -> None:
        super().__init__(("label",), str(error))
        self.general = error.general


def _features(profile: "Profile") -> Iterator[Fault]:
    features = profile.features
    for kind, types in _KINDS.items():
        for number, name in enumerate(getattr(features, kind)):
            if what := _why_unfit(profile, name, types):
                yield Fault(("features", kind, number), f"{quote_text(name)} {what}")
    yield from _repetitions(("features",), [*features.columns, *features.moment])
    yield from _repetitions(("features", "log"), features.log)
    if unknown := sorted(set(features.log) - set(features.numeric)):
        yield Fault(("features", "log"), f"{quote_text(unknown[0])} is not among features.numeric: name it there too")
    for name in features.log:
        if any(name in of and of[name].type not in NUMBERS for of in map(profile.columns_of, profile.feature_tables)):
            yield Fault(("features", "log"), f"{quote_text(name)} is not a column of numbers: name it only elsewhere")
    terms = features.terms
    if terms and not (terms.column in features.multi_valued and terms.column in profile.columns_of("items")):
        what = f"{quote_text(terms.column)} is not a column of items among features.multi_valued: name it there too"
        yield Fault(("features", "terms", "column"), what)
    yield from _crosses(profile)


def _why_unfit(profile: "Profile", name: str, types: Sequence[ColumnType]) -> str:
    """Why a column cannot be a feature of a kind that takes these types; empty if it can."""
    sides = [profile.columns_of(table) for table in profile.feature_tables]
    found = [columns[name] for columns in sides if name in columns]
    if not found:
        of_log = (
            f": say whose it is, as in `{name}: {{type: …, of: item}}`, or name it under features.moment"
            if name in profile.tables["interactions"]
            else ""
        )
        return f"is not a column of {' or '.join(profile.feature_tables)}{of_log}"
    if sum(other.casefold() == name.casefold() for columns in sides for other in columns) > 1:
        return "is a column of both users and items: rename one"
    if name == "timestamp" or (name in ("user_id", "item_id") and "string" not in types):
        return f"is a name of the platform's own: {_rename_advice(name)}"
    of_type = found[0].type
    return "" if of_type in types else f"is {of_type}, not {' or '.join(types)}: {_kind_advice(of_type)}"


def _kind_advice(of_type: ColumnType) -> str:
    """Advice on where a column of this type can be a feature."""
    kinds = [f"features.{kind}" for kind, types in _KINDS.items() if of_type in types]
    return f"name it under {' or '.join(kinds)}" if kinds else "leave it out, or give the column another type"


def _repetitions(place: Place, listed: Sequence[str]) -> Iterator[Fault]:
    for name, count in Counter(listed).items():
        if count > 1:
            yield Fault(place, f"{quote_text(name)} is named {count} times: name a feature once")


def _crosses(profile: "Profile") -> Iterator[Fault]:
    known = {*profile.features.categorical, *profile.features.multi_valued, *profile.features.moment}
    seen: set[frozenset[str]] = set()
    for number, cross in enumerate(profile.features.crosses):
        place = ("features", "crosses", number)
        if len(set(cross)) != 2 or len(cross) != 2 or not set(cross) <= known:
            listed = ", ".join(map(quote_text, cross))
            what = "is not a pair of categorical or multi-valued features: name two that are in their lists"
            yield Fault(place, f"[{listed}] {what}")
        elif frozenset(cross) in seen:
            yield Fault(place, f"{' and '.join(map(quote_text, cross))} are crossed twice: keep one")
        seen.add(frozenset(cross))
