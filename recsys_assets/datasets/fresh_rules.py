"""The profile's rules of fresh items: how long an item is one, its side tables, and the columns joined from these."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, model_validator

from recsys_assets.datasets.profile_parts import Part
from recsys_assets.datasets.profile_yaml import Fault, quote_text

if TYPE_CHECKING:
    from recsys_assets.datasets.profile import Profile

OWN = "items"  # as the table of a place: the item's own columns
_PLACE = r"^[a-z][a-z0-9_]*\.\w+$"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"  # of a schema, a table or a column: PostgreSQL cuts longer ones off
_RESERVED = (OWN, "users", "interactions", "impressions")
Place = Annotated[str, Field(pattern=_PLACE, description="table.column")]


class SideTable(Part):
    """A table whose rows arrive next to those of items, such as their authors, or the vectors of their titles.

    `by`: the column of an item whose value finds its row. `key`: the key of the table's rows, by default of that name.
    """

    by: str
    key: str | None = None

    @property
    def key_name(self) -> str:
        """The key of the table's rows."""
        return self.key or self.by


class Joined(Part):
    """A column of `items` that is joined as an item arrives: one of three rules, and what holds without a value.

    `first`: the first value that is there. `days_since`: whole days since a time. `entry`, `under`: the entry of a map
    under the value of another column.
    """

    first: list[Place] = []
    days_since: Place | None = None
    entry: Place | None = None
    under: Place | None = None
    default: int | float | str | list[int | float | str] | None = None

    @model_validator(mode="after")
    def _has_one_rule(self) -> "Joined":
        if [bool(self.first), self.days_since is not None, self.entry is not None].count(True) != 1:
            raise ValueError("give exactly one of first, days_since and entry")
        if (self.entry is None) != (self.under is None):
            raise ValueError("entry and under belong together, as in {entry: authors.rates, under: items.category}")
        return self

    @property
    def places(self) -> list[str]:
        """The places that it reads."""
        return [each for each in (*self.first, self.days_since, self.entry, self.under) if each]


class Sql(Part):
    """A table or view of PostgreSQL with pgvector, in which one statement finds the items for the share of a list.

    It asks for the `count` rows whose `vector` has the highest inner product with that of the user, and has so many
    milliseconds. `uri` is the environment variable with the address of the database, which may hold a password.
    """

    table: str = Field(pattern=rf"^{_NAME}(\.{_NAME})?$", description="table or view, or schema.table")
    key: str = Field(default="queryid", pattern=f"^{_NAME}$", description="the column with the ids of items")
    vector: str = Field(default="vector", pattern=f"^{_NAME}$", description="the column with their vectors")
    count: int = Field(default=200, ge=1, le=1000)
    milliseconds: int = Field(default=200, ge=1, le=60_000)
    uri: str = Field(default="RECSYS_POSTGRES_URI", pattern=r"^RECSYS_[A-Z0-9_]+_URI$")


class Fresh(Part):
    """Items between their first row and the release that holds them.

    `created` is the timestamp of items that says when one was made; without it, its first row counts. `share` of the
    places of a list is for fresh items.
    """

    model: str | None = Field(
        default=None,
        description="the two-tower model whose towers give the vectors; by default the winner of `cold_start_report`",
    )
    within: str = Field(
        default="24h", pattern=r"^[1-9][0-9]{0,4}(min|h|d)$", description="for how long an item is fresh"
    )
    created: str | None = None
    share: float = Field(default=0.1, ge=0, le=1)
    sides: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,47}$")], SideTable] = {}
    joined: dict[str, Joined] = {}
    sql: Sql | None = None

    @property
    def seconds(self) -> int:
        """For how long an item is fresh."""
        number, unit = re.fullmatch(r"(\d+)(\w+)", self.within).groups()  # type: ignore[union-attr]
        return int(number) * {"min": 60, "h": 3600, "d": 86_400}[unit]


def faults(profile: "Profile") -> Iterator[Fault]:
    """The rules of fresh items that the profile breaks."""
    rule, items = profile.fresh, profile.tables.get("items", {})
    if (rule.sides or rule.joined or rule.sql) and not items:
        yield Fault(("fresh",), "needs a table of items that lands: add tables.items, or remove sides, joined and sql")
        return
    if rule.sql and rule.model is None:
        yield Fault(("fresh", "sql"), "needs `model` next to it, which names the model whose vectors the table holds")
    if rule.created is not None and (rule.created not in items or items[rule.created].type != "timestamp"):
        yield Fault(("fresh", "created"), f"{quote_text(rule.created)} is no timestamp of items")
    for name, side in rule.sides.items():
        if name in _RESERVED:
            yield Fault(("fresh", "sides", name), f"{quote_text(name)} is the name of another table")
        if side.by not in items:
            yield Fault(("fresh", "sides", name, "by"), f"{quote_text(side.by)} is no column of items")
    for name, joined in rule.joined.items():
        yield from _join_faults(rule, items, name, joined)


def _join_faults(rule: Fresh, items: dict[str, Any], name: str, joined: Joined) -> Iterator[Fault]:
    where = ("fresh", "joined", name)
    if name not in items or name == "item_id":
        yield Fault(where, f"{quote_text(name)} is no column of items besides their key")
    for place in joined.places:
        table, _, column = place.partition(".")
        if table != OWN and table not in rule.sides:
            yield Fault(where, f"{quote_text(place)}: there is no side table {quote_text(table)}")
        if table == OWN and (column not in items or (column in rule.joined and column != name)):
            yield Fault(where, f"{quote_text(place)} is no column that an item brings")
