"""Joined rows as SQL over the cells: the newest values of side tables, at the time at which an item is processed.

A value is JSON text, NULL where there is none. In the statements, `wanted.key` is the item that is joined, `own` is its
row of `rows`, `changed` has the rows that changed, and `:now` is the present time in seconds since 1970.
"""

import json

from recsys_assets.datasets.duck import quote
from recsys_assets.datasets.fresh_rules import OWN, Joined
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.fresh.database import WITHDRAWN

_DAY = 86_400


def joined_rows(profile: Profile, side: TableName) -> str:
    """SQL for key, joined row, creation, update time and withdrawal of each row of a side that changed.

    A row of a side table that changed changes the items that it belongs to.
    """
    joined = _joined_columns(profile) if side == OWN else {}
    left_out = ", ".join(map(quote, [*joined, WITHDRAWN]))
    of_key = f"source = '{side}' AND key = wanted.key"
    cells = f"SELECT name, value FROM cells WHERE {of_key} AND name NOT IN ({left_out})"
    cells += "".join(f" UNION ALL SELECT {quote(name)}, {value}" for name, value in joined.items())
    created = _created(profile, side)
    wanted, time = f"SELECT key FROM changed WHERE source = '{side}'", "own.time"
    for table in profile.fresh.sides if side == OWN else ():
        wanted += f" UNION {_items_of_changed(profile, table)}"
        theirs = f"SELECT time FROM rows WHERE source = {quote(table)} AND key = {_link(profile, table)}"
        time = f"max({time}, coalesce(({theirs}), 0))"
    return f"""
        SELECT wanted.key, (SELECT json_group_object(name, json(value)) FROM ({cells})), {created}, {time},
            EXISTS (SELECT 1 FROM cells WHERE {of_key} AND name = '{WITHDRAWN}' AND value = 'true')
        FROM ({wanted}) AS wanted JOIN rows AS own ON own.source = '{side}' AND own.key = wanted.key
        ORDER BY wanted.key
    """


def link_columns(profile: Profile) -> dict[str, str]:
    """The landed names of the items' columns by which side tables are found, by side table."""
    items = profile.tables.get("items", {})
    return {name: items[side.by].column or side.by for name, side in profile.fresh.sides.items()}


def _joined_columns(profile: Profile) -> dict[str, str]:
    """The values of the joined columns by their landed names."""
    items, found = profile.tables["items"], {}
    for name, rule in profile.fresh.joined.items():
        found[items[name].column or name] = f"coalesce({_value(profile, rule)}, {quote(json.dumps(rule.default))})"
    return found


def _value(profile: Profile, rule: Joined) -> str:
    if rule.first:
        return f"coalesce({', '.join(_cell(profile, place) for place in rule.first)}, NULL)"
    if rule.days_since:
        cell = _cell(profile, rule.days_since)
        since = f"CASE json_type({cell}) WHEN 'text' THEN unixepoch(json_extract({cell}, '$')) ELSE {cell} + 0 END"
        return f"CAST(CAST(max(:now - {since}, 0) / {_DAY} AS INTEGER) AS TEXT)"
    under = f"CAST(json_extract({_cell(profile, str(rule.under))}, '$') AS TEXT)"
    entry = f"SELECT json_quote(entry.value) FROM json_each({_cell(profile, str(rule.entry))}) AS entry"
    return f"({entry} WHERE CAST(entry.key AS TEXT) = {under} AND entry.type <> 'null')"


def _cell(profile: Profile, place: str) -> str:
    """The newest value at a place such as `authors.level`."""
    table, _, column = place.partition(".")
    key = "wanted.key" if table == OWN else _link(profile, table)
    if table == OWN:
        column = profile.tables["items"][column].column or column
    named = f"source = {quote(table)} AND key = {key} AND name = {quote(column)}"
    return f"(SELECT nullif(value, 'null') FROM cells WHERE {named})"


def _link(profile: Profile, table: str) -> str:
    """The key of the side table's row that belongs to the item."""
    if profile.fresh.sides[table].by == "item_id":
        return "wanted.key"
    return f"(SELECT value FROM links WHERE item = wanted.key AND name = {quote(link_columns(profile)[table])})"


def _items_of_changed(profile: Profile, table: str) -> str:
    """The keys of the items to which changed rows of a side table belong."""
    if profile.fresh.sides[table].by == "item_id":
        return f"SELECT key FROM changed WHERE source = {quote(table)}"
    link = quote(link_columns(profile)[table])
    return f"SELECT item FROM links JOIN changed ON source = {quote(table)} AND key = value WHERE name = {link}"


def _created(profile: Profile, side: TableName) -> str:
    """The creation of a row in microseconds: the profile's timestamp, or the time of the first row."""
    if profile.fresh.created is None or side != OWN:
        return "own.born"
    cell = _cell(profile, f"{OWN}.{profile.fresh.created}")
    text, number = f"unixepoch(json_extract({cell}, '$')) * 1000000", f"CAST({cell} * 1000000 AS INTEGER)"
    return f"coalesce(CASE json_type({cell}) WHEN 'text' THEN {text} ELSE {number} END, own.born)"
