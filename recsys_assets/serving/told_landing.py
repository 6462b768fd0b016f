"""The landing of told events: they become landing files of their day, each event in exactly one.

First the database records which events are in which file; then the file is written, and marked as written when it is
whole in its place. Its name and content follow from the record alone, so a file that a crash kept from its place, or
from its mark, is written again as the same file.
"""

import contextlib
import datetime as dt
import sqlite3

from filelock import FileLock, Timeout

from recsys_assets.datasets.disk import writing_to
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.landing_put import put_parquet
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.told_rows import landing_table
from recsys_assets.serving.background import Background
from recsys_assets.serving.log import say
from recsys_assets.serving.told_database import ELSEWHERE, Database

TICK = 1.0  # seconds between two looks for events that are due
MOST_ROWS = 100_000  # of a file: at the end of a day, at most as many wait
LONGEST_WAIT = 900.0  # seconds until events are in a file, unless their day ends earlier
AFTER_DAY = 2.0  # seconds after the end of a day at which its events become a file; the sensor waits for 5
KEPT_DAYS = 30  # for which landed events stay in the database, so that they are not taken twice

_WAITING = "SELECT source, day, count(*), min(told) FROM events WHERE file IS NULL GROUP BY source, day"
_NUMBER = """
UPDATE events SET file = ? WHERE seq IN (
    SELECT seq FROM events WHERE file IS NULL AND source = ? AND day = ? ORDER BY seq LIMIT ?
)
"""
_OLDEST = "SELECT told FROM events ORDER BY seq LIMIT 1"
_FORGET = f"""
DELETE FROM events WHERE told < ? AND (file = {ELSEWHERE} OR file IN (SELECT number FROM files WHERE written))
"""


class Landing(Background):
    """Writes landing files as long as its block runs; of all processes of a service, one does.

    Args:
        profile: of the data set, which says where its files land.
        database: that keeps the events.
    """

    def __init__(self, profile: Profile, database: Database) -> None:
        super().__init__("landing of told events")
        self._profile, self._database = profile, database

    def land(self, now: dt.datetime, *, everything: bool = False) -> None:
        """Write the files that are due, those that a crash kept from being written among them.

        Does nothing if another process lands events of this database.

        Args:
            now: the present time.
            everything: whether all events are due.

        Raises:
            LandingError: another process has locked the landing folder, or its store cannot be written.
            PlaceUnwritable: the landing folder, or the data folder, cannot be written.
        """
        with (
            contextlib.suppress(Timeout),
            FileLock(self._database.landing_lock, timeout=0),
            contextlib.closing(self._database.connect()) as connection,
            writing_to(self._database.place),
        ):
            self._number(connection, now, everything)
            self._write_files(connection)
            self._forget(connection, now)

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            self._land_or_say()
        self._land_or_say(everything=True)

    def _land_or_say(self, *, everything: bool = False) -> None:
        """Land what is due; whatever is in the way now may be gone the next time."""
        try:
            self.land(dt.datetime.now(dt.UTC), everything=everything)
        except Exception as error:
            say(f"told events cannot land yet: {error}")

    def _number(self, connection: sqlite3.Connection, now: dt.datetime, everything: bool) -> None:
        """Record files of the events that are due."""
        for source, day, count, since in connection.execute(_WAITING).fetchall():
            for _ in range(self._files_due(day, count, since, now.timestamp(), everything)):
                with self._database.writing(connection):
                    made = connection.execute("INSERT INTO files VALUES (NULL, ?, ?, 0)", (source, day))
                    connection.execute(_NUMBER, (made.lastrowid, source, day, MOST_ROWS))

    def _files_due(self, day: str, count: int, since: float, now: float, everything: bool) -> int:
        """How many files are to be made of so many events of a day, the first of which was told at `since`."""
        end = self._profile.files.end_of(day).timestamp() + AFTER_DAY
        has_ended = since < end <= now
        return -(-count // MOST_ROWS) if everything or has_ended or now - since >= LONGEST_WAIT else count // MOST_ROWS

    def _write_files(self, connection: sqlite3.Connection) -> None:
        """Write the recorded files that are not written: impressions first, so that events find what they answer."""
        waiting = "SELECT number, source, day FROM files WHERE NOT written ORDER BY day, source, number"
        for number, source, day in connection.execute(waiting).fetchall():
            events = connection.execute("SELECT line, moment FROM events WHERE file = ? ORDER BY seq", (number,))
            self._write(source, day, f"told-{self._database.name}-{number:06}.parquet", events.fetchall())
            self._mark(connection, number)

    def _mark(self, connection: sqlite3.Connection, number: int) -> None:
        """Record that a file is in its place."""
        with self._database.writing(connection):
            connection.execute("UPDATE files SET written = 1 WHERE number = ?", (number,))

    def _write(self, source: TableName, day: str, name: str, rows: list[tuple[str, int]]) -> None:
        """Write one file, whole, to its place in the landing folder, or in its object store."""
        with connect_without_lake() as duck:
            lines, moments = zip(*rows, strict=True)
            table = landing_table(duck, self._profile, source, lines, moments)
        put_parquet(self._profile, source, dt.date.fromisoformat(day), name, table)

    def _forget(self, connection: sqlite3.Connection, now: dt.datetime) -> None:
        """Remove landed events that were told long ago."""
        until = now.timestamp() - KEPT_DAYS * 86_400
        if any(told < until for (told,) in connection.execute(_OLDEST).fetchall()):
            with self._database.writing(connection):
                connection.execute(_FORGET, (until,))
