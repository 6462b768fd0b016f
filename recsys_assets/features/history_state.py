"""The state that described rows leave to those that come later: sums of users and items, and the newest rows.

The statement of `sql/history.sql` adds these sums to its own, and takes the newest rows into its frames, so that new
rows get the statistics that they would have if all rows were described again. Sums are of whole numbers, and so the
state is the same however the rows were divided among the runs.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from recsys_assets.datasets.duck import scan, write_parquet
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Term
from recsys_assets.engines.engine import Engine

USER_SUMS, ITEM_SUMS, NEWEST = "user_sums", "item_sums", "newest_rows"  # tables, and the files that hold them
_SIDES: dict[str, Literal["user", "item"]] = {USER_SUMS: "user", ITEM_SUMS: "item"}
# The longest frames of the statement over a user's and an item's newest rows, in rows.
NEWEST_OF_USER, NEWEST_OF_ITEM = 30, 100
# Columns of the table `rated` that a kept row has from its own run.
_KEPT = ("label", "above_item", "above_user", "rate_of_item")
_DESCRIBED = "label IS NOT NULL"  # of `rated`: the others are rows of a user or an item alone


def open_state(connection: Engine, profile: Profile, terms: int, folder: Path | None) -> None:
    """Create the tables of a state from its files; without a folder, those of a state before any row.

    Args:
        connection: has the view `new_rows`, from which the tables of an empty state take the types of the ids.
        profile: of the data set.
        terms: how many terms are counted.
        folder: where `write_state` put the state.
    """
    for table in (USER_SUMS, ITEM_SUMS, NEWEST):
        if folder:
            exact = " REPLACE (squares::HUGEINT AS squares)" if table != NEWEST else ""
            query = f"SELECT *{exact} FROM {scan([folder / f'{table}.parquet'])}"
        else:
            query = _nothing(profile, terms, table)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {query}")


def keep_rows(connection: Engine, window: int) -> None:
    """Create the tables of kept rows: those of the state that the frames of the users and items of `events` reach.

    The longest frame of a user's terms is `window` rows.
    """
    kept = ", ".join(f"rows.{column} AS newest_{column}" for column in _KEPT)
    for table, side in _SIDES.items():
        connection.execute(f"""
            CREATE OR REPLACE TEMP TABLE kept_of_{side}s AS
            SELECT rows.user_id, rows.item_id, timestamp, seq, {kept}
            FROM {NEWEST} AS rows SEMI JOIN events USING ({side}_id)
            JOIN {table} AS of_{side} USING ({side}_id) WHERE {_is_newest(side, window)}
        """)


def _is_newest(side: Literal["user", "item"], window: int) -> str:
    """SQL for whether a frame over the newest of all `rows` of a user or an item reaches a row."""
    longest = max(NEWEST_OF_USER, window) if side == "user" else NEWEST_OF_ITEM
    return f"of_{side}.n - rows.{side}_n <= {longest}"


def write_state(connection: Engine, profile: Profile, terms: int, window: int, folder: Path) -> None:
    """Write the state that is open plus the rows of the table `rated`; the same rows give the same tables.

    The longest frame of a user's terms is `window` rows.
    """
    for table, side in _SIDES.items():
        query = _sums_of(profile, side, terms)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE ending_{table} AS {query}")
        stored = f"SELECT * REPLACE (squares::DECIMAL(38, 0) AS squares) FROM ending_{table} ORDER BY {side}_id"
        write_parquet(connection, stored, folder / f"{table}.parquet")
    names = ["user_id", "item_id", "timestamp", "seq", *_KEPT, "user_n", "item_n"]
    columns, of_rows = ", ".join(names), ", ".join(f"rows.{name}" for name in names)
    newest = f"""
        SELECT {of_rows} FROM (
            SELECT {columns} FROM {NEWEST} UNION ALL SELECT {columns} FROM rated WHERE {_DESCRIBED}
        ) AS rows
        JOIN ending_{USER_SUMS} AS of_user USING (user_id) JOIN ending_{ITEM_SUMS} AS of_item USING (item_id)
        WHERE {_is_newest("user", window)} OR {_is_newest("item", window)}
        ORDER BY timestamp, seq, user_id, item_id
    """
    write_parquet(connection, newest, folder / f"{NEWEST}.parquet")
    connection.execute(f"DROP TABLE ending_{USER_SUMS}; DROP TABLE ending_{ITEM_SUMS}")


def longest_window(rule: Term | None) -> int:
    """How many of a user's newest rows the statistics of terms are over; 1 without terms, as nothing uses it."""
    return rule.window if rule else 1


def carried_places(profile: Profile, side: str) -> Iterator[int]:
    """The places of the carried features that belong to a side."""
    return (place for place, spec in enumerate(profile.carried_features.values()) if spec.of == side)


def _sums(side: Literal["user", "item"], terms: int) -> dict[str, str]:
    """The sums of a user or an item, and what a described row adds to each."""
    other = "item" if side == "user" else "user"
    sums = {
        "n": "1",
        "rated": "(value IS NOT NULL)::BIGINT",
        "positives": "label",
        "above": f"above_{other}",
        "rates": f"rate_of_{other}",
        "counts": f"count_of_{other}",
        "value": "coalesce(value, 0)",
        "squares": "coalesce(value::HUGEINT * value, 0)",
    }
    for place in range(terms if side == "user" else 0):
        term = f"coalesce(t{place}, 0)"
        sums |= {f"imp_{place}": term, f"clk_{place}": f"{term} * label", f"bias_{place}": f"{term} * above_item"}
    return sums


def _type_of(name: str) -> str:
    """128 bits hold the sum of squares; all others have 62 at most."""
    return "HUGEINT" if name == "squares" else "BIGINT"


def _sums_of(profile: Profile, side: Literal["user", "item"], terms: int) -> str:
    """SQL for the sums of all users or items after the described rows, and the newest known values that they carry."""
    sums, carried = _sums(side, terms), [f"carried_{place}" for place in carried_places(profile, side)]
    added = ", ".join(f"{value} AS {name}" for name, value in sums.items())
    total = ", ".join(f"sum({name})::{_type_of(name)} AS {name}" for name in sums)
    newest = "".join(
        f", arg_max({each}, {{'time': timestamp, 'place': seq}}) FILTER ({each} IS NOT NULL) AS {each}"
        for each in carried
    )
    moment = "".join(f", {each}" for each in ["timestamp", "seq", *carried])
    return f"""
        SELECT {side}_id, {total}{newest} FROM (
            SELECT *, '-infinity'::TIMESTAMP AS timestamp, 0 AS seq FROM {side}_sums
            UNION ALL BY NAME
            SELECT {side}_id, {added}{moment} FROM rated LEFT JOIN item_terms USING (item_id) WHERE {_DESCRIBED}
        ) GROUP BY {side}_id
    """


def _nothing(profile: Profile, terms: int, table: str) -> str:
    """SQL for an empty table of a state."""
    if table == NEWEST:
        kept = ", ".join(f"0::{'TINYINT' if column == 'label' else 'BIGINT'} AS {column}" for column in _KEPT)
        columns = f"user_id, item_id, timestamp, seq, {kept}, 0::BIGINT AS user_n, 0::BIGINT AS item_n"
    else:
        side = _SIDES[table]
        numbers = ", ".join(f"0::{_type_of(name)} AS {name}" for name in _sums(side, terms))
        columns = f"{side}_id, {numbers}" + "".join(f", carried_{place}" for place in carried_places(profile, side))
    return f"SELECT {columns} FROM new_rows LIMIT 0"
