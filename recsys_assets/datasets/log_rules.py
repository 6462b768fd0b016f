"""Rules for the columns of the log that belong to a user or an item (`of`), which become columns of that table."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from recsys_assets.datasets import names
from recsys_assets.datasets.profile_parts import Column, TableName
from recsys_assets.datasets.profile_yaml import Fault, quote_text

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile

_ROLES = ("user_id", "item_id", "timestamp")


def carried_columns(profile: "Profile") -> Iterator[Fault]:
    """Check every column that is `of` a user or an item; the tables must be in order."""
    for table, columns in profile.tables.items():
        for name, spec in columns.items():
            if spec.of and (what := _why_unfit(profile, table, name, spec)):
                yield Fault(("tables", table, name, "of"), f"{quote_text(name)} {what}")


def _why_unfit(profile: "Profile", table: TableName, name: str, spec: Column) -> str:
    """Why a column cannot belong to the user or the item; empty if it can."""
    if table != "interactions":
        return f"is a column of {table} already: leave `of` out"
    if not profile.has_entities:
        return "cannot belong to users or items: tables.interactions lacks user_id, item_id or timestamp"
    if name in _ROLES or name == profile.oracle:
        return "has a role of its own, so it belongs to the event: leave `of` out"
    owner: TableName = "users" if spec.of == "user" else "items"
    there = {column.casefold() for column in profile.tables.get(owner, ())}
    if name.casefold() in there | _taken(profile, owner):
        whose = f"a column that {owner} have" if name.casefold() in there else "a name of the platform's own"
        return f"is {whose}: give it another name, as in `log_{name}: {{type: …, column: {name}, of: {spec.of}}}`"
    return ""


def _taken(profile: "Profile", owner: TableName) -> set[str]:
    """Names that the platform gives to columns of users or items."""
    made = set() if owner in profile.tables else {names.FIRST_SEEN, names.LAST_SEEN, names.EVENTS}
    return {*names.OF_ENTITIES, *made}
