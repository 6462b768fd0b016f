"""Features of the moment of a request (`features.moment`): their rules in a profile, and the SQL of their values.

They are parts of the time, and columns of the log that are known before anything is shown, such as the device. They
belong neither to the user nor to the item: a row has those of its own event, or of its own impression.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys_assets.datasets import names
from recsys_assets.datasets.duck import quote_name
from recsys_assets.datasets.expressions import ExpressionError
from recsys_assets.datasets.label import label_rule
from recsys_assets.datasets.profile_parts import ColumnType
from recsys_assets.datasets.profile_yaml import Fault, quote_text

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile

TIME_PARTS = {"hour": "hour", "weekday": "isodow"}  # DuckDB's functions of a local time; a week begins with Monday, 1
_ROLES = ("user_id", "item_id", "timestamp")
_TYPES: tuple[ColumnType, ...] = ("string", "int64", "int32", "bool")


def columns_of_log(profile: "Profile") -> list[str]:
    """The features of the moment that are columns of the log, in the profile's order."""
    return [name for name in profile.features.moment if name not in TIME_PARTS]


def moment_columns(profile: "Profile", rows: str) -> str:
    """SQL for the features of the moment of rows: a table with `timestamp` and the columns of the log."""
    time = profile.files.local_sql(f"{rows}.timestamp")
    values = {name: f"{function}({time})" for name, function in TIME_PARTS.items()}
    return "".join(
        f", {values.get(name, f'{rows}.{quote_name(name)}')} AS {quote_name(name)}" for name in profile.features.moment
    )


def faults(profile: "Profile") -> Iterator[Fault]:
    """The rules on features of the moment that the profile breaks."""
    if profile.features.moment and not profile.has_entities:
        what = "needs user_id, item_id and timestamp: without them every column is of the row, so name it elsewhere"
        yield Fault(("features", "moment"), what)
        return
    for place, name in enumerate(profile.features.moment):
        if what := _why_unfit(profile, name):
            yield Fault(("features", "moment", place), f"{quote_text(name)} {what}")


def _why_unfit(profile: "Profile", name: str) -> str:
    """Why a name cannot be a feature of the moment; empty if it can."""
    spec = profile.tables["interactions"].get(name)
    if name in TIME_PARTS:
        return _why_no_time_part(profile, name)
    if spec is None:
        return f"is neither {' nor '.join(TIME_PARTS)} nor a column of tables.interactions"
    shown = profile.tables.get("impressions", {name: spec})
    reasons = {
        f"is of the {spec.of or 'event'}, not of the moment: name it elsewhere": name in _ROLES or bool(spec.of),
        "is what the label or its part follows from, so as a feature it would be leakage": name in _outcome(profile),
        f"is {spec.type}, not {' or '.join(_TYPES)}": spec.type not in _TYPES,
        f"is also a column of users, items or the platform: {_rename_advice(name)}": name.casefold() in _taken(profile),
        f"must be a column of tables.impressions too, of the type {spec.type}, because impressions are ranked": (
            name not in shown or shown[name].type != spec.type
        ),
    }
    return next((what for what, applies in reasons.items() if applies), "")


def _why_no_time_part(profile: "Profile", name: str) -> str:
    """Why a part of the time cannot be a feature; empty if it can."""
    if "timestamp" in _outcome(profile):
        return "is made of timestamp, which the label is computed from, so as a feature it would be leakage"
    tables = [table for table, columns in profile.tables.items() if name in map(str.casefold, columns)]
    return f"is a part of the time, and also a column of {tables[0]}: {_rename_advice(name)}" if tables else ""


def _rename_advice(name: str) -> str:
    return f"give the column another name, as in `my_{name}: {{type: …, column: {name}}}`"


def _outcome(profile: "Profile") -> set[str | None]:
    """The columns of the log that tell how an event turned out, or which part of the split it is in."""
    kind = profile.events.column if profile.events else None
    try:
        read = label_rule(profile).columns
    except ExpressionError:  # which is a fault of its own
        read = frozenset()
    return {*read, kind, profile.rating, profile.oracle, profile.split.column}


def _taken(profile: "Profile") -> set[str]:
    """Names, in lower case, of other columns of the rows that ranking models learn from."""
    sides = {name.casefold() for table in ("users", "items") for name in profile.columns_of(table)}
    return {*sides, *names.OF_ENTITIES, *names.OF_HISTORY}
