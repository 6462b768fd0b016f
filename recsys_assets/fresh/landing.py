"""The landing of fresh rows: each state of a joined row becomes a row of a landing file of the day on which it arrived.

So the next day's tables and the next release hold them. First the database records which rows a file holds, then the
file is written, and marked as written when it is whole in its place: a crash leaves nothing out. A row that changes
in the meantime is in the next file, and the newest file wins.
"""

import datetime as dt
import sqlite3

import duckdb

from recsys_assets.datasets.disk import writing_to
from recsys_assets.datasets.landing_put import put_parquet
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.told_rows import landing_table
from recsys_assets.fresh.database import Database

LONGEST_WAIT = 900.0  # seconds until a row is in a file, unless its day ends earlier
AFTER_DAY = 2.0  # seconds after the end of a day at which its rows become a file; the sensor waits for 5
_WAITING = "SELECT side, arrived FROM entities WHERE file IS NULL"
_NUMBER = "UPDATE entities SET file = ? WHERE file IS NULL AND side = ? AND arrived >= ? AND arrived < ?"


def land(
    profile: Profile,
    database: Database,
    duck: duckdb.DuckDBPyConnection,
    connection: sqlite3.Connection,
    now: dt.datetime,
    *,
    everything: bool = False,
) -> int:
    """Write the files that are due, those that a crash kept from being written among them; returns how many.

    Args:
        profile: of the data set, which says where its files land.
        database: that keeps the rows.
        duck: any connection.
        connection: to the database.
        now: the present time.
        everything: whether all rows are due.

    Raises:
        LandingError: another process has locked the landing folder, or its store cannot be written.
        PlaceUnwritable: the landing folder, or the data folder, cannot be written.
    """
    with writing_to(database.place):
        for side, day in _due(profile, connection, now.timestamp(), everything):
            _number(profile, database, connection, side, day)
        waiting = connection.execute("SELECT number, side, day FROM files WHERE NOT written ORDER BY number").fetchall()
        ((name,),) = connection.execute("SELECT value FROM about WHERE name = 'name'").fetchall()
        for number, side, day in waiting:
            lines = _lines(connection, number)
            if lines:
                table = landing_table(duck, profile, side, lines, [])
                put_parquet(profile, side, dt.date.fromisoformat(day), f"fresh-{name}-{number:06}.parquet", table)
            with database.writing(connection):
                connection.execute("UPDATE files SET written = 1 WHERE number = ?", (number,))
    return len(waiting)


def _due(
    profile: Profile, connection: sqlite3.Connection, now: float, everything: bool
) -> list[tuple[TableName, dt.date]]:
    """The sides and days whose rows become a file now."""
    first: dict[tuple[TableName, dt.date], float] = {}
    for side, arrived in connection.execute(_WAITING):
        key = side, dt.datetime.fromtimestamp(arrived, profile.files.zone).date()
        first[key] = min(first.get(key, now), arrived)
    return [
        (side, day)
        for (side, day), since in sorted(first.items())
        if everything
        or now - since >= LONGEST_WAIT
        or profile.files.end_of(day.isoformat()).timestamp() + AFTER_DAY <= now
    ]


def _number(
    profile: Profile, database: Database, connection: sqlite3.Connection, side: TableName, day: dt.date
) -> None:
    """Record the file of the rows of a side that arrived on a day."""
    end = profile.files.end_of(day.isoformat()).timestamp()
    start = profile.files.end_of((day - dt.timedelta(days=1)).isoformat()).timestamp()
    with database.writing(connection):
        made = connection.execute("INSERT INTO files VALUES (NULL, ?, ?, 0)", (side, day.isoformat()))
        connection.execute(_NUMBER, (made.lastrowid, side, start, end))


def _lines(connection: sqlite3.Connection, number: int) -> list[str]:
    rows = connection.execute("SELECT line FROM entities WHERE file = ? ORDER BY key", (number,)).fetchall()
    return [line for (line,) in rows]
