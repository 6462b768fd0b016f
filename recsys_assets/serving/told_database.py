"""The SQLite database of told events: its tables, its connections, and one writer at a time.

All processes of a service share the file. What was committed survives SIGKILL and power cuts, because the write-ahead
log is synced with every commit (`synchronous = FULL`).
"""

import contextlib
import fcntl
import secrets
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from recsys_assets.datasets.disk import Place, private_folder, sync_all, writing_to
from recsys_assets.settings import settings

FILE, LOCK = "told.db", "told.lock"
ELSEWHERE = -1  # the number of the landing file, for an event that another machine was told and lands
INSERT = f"INSERT INTO events VALUES (NULL{', ?' * 13}) ON CONFLICT DO NOTHING"
_WAIT = 30.0  # seconds
# `line` is the row as it was told, `digest` its hash, `told` the seconds since 1970 at which it was, and `file` the
# number of the landing file that holds it. A file is `written` once it is whole in its place.
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, event_id TEXT NOT NULL, digest TEXT NOT NULL,
    user_id NOT NULL, item_id NOT NULL, moment INTEGER NOT NULL, day TEXT NOT NULL, kind TEXT NOT NULL,
    label INTEGER, weight REAL NOT NULL, line TEXT NOT NULL, told REAL NOT NULL, file INTEGER,
    UNIQUE (source, event_id), UNIQUE (source, user_id, item_id, moment, kind)
);
CREATE INDEX IF NOT EXISTS of_user ON events (user_id, day, moment, seq) WHERE source = 'interactions';
CREATE INDEX IF NOT EXISTS waiting ON events (source, day, told) WHERE file IS NULL;
CREATE INDEX IF NOT EXISTS of_file ON events (file, seq) WHERE file IS NOT NULL;
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, day TEXT NOT NULL, written INTEGER NOT NULL
);
"""


class Database:
    """The database in a folder, which is made if it is not there.

    Attributes:
        name: tells it apart from all others, in the names of landing files.

    Raises:
        PlaceUnwritable: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with writing_to(self.place):
            created = private_folder(folder)
            for file in (FILE, LOCK):
                (folder / file).touch(mode=0o600)
            with contextlib.closing(self.connect()) as connection, self.writing(connection):
                for statement in _TABLES.split(";")[:-1]:
                    connection.execute(statement)
                made = ("name", secrets.token_hex(4))
                connection.execute("INSERT INTO about VALUES (?, ?) ON CONFLICT DO NOTHING", made)
                ((self.name,),) = connection.execute("SELECT value FROM about WHERE name = 'name'")
            sync_all([folder, *created])

    @property
    def place(self) -> Place:
        """The folder, for errors."""
        return Place("the folder of told events", self._folder, "RECSYS_DATA")

    @property
    def landing_lock(self) -> Path:
        """The lock of the process that writes landing files."""
        return self._folder / "landing.lock"

    @property
    def sharing_lock(self) -> Path:
        """The lock of the process that shares events with other machines."""
        return self._folder / "sharing.lock"

    def connect(self) -> sqlite3.Connection:
        """A connection for one thread."""
        connection = sqlite3.connect(self._folder / FILE, timeout=_WAIT, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextlib.contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A transaction, which is committed and on the disk when the block ends without an error.

        Writers queue for a lock of the system's, which wakes the next one at once; SQLite's own waiting sleeps.
        """
        with (self._folder / LOCK).open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell of
                    connection.execute("ROLLBACK")
                raise


def told_folder(profile: str) -> Path:
    """The folder of a profile's told events."""
    return settings().data / "serving" / profile
