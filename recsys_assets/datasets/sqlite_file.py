"""An SQLite file that several processes share: what was committed survives SIGKILL and power cuts.

The write-ahead log is synced with every commit (`synchronous = FULL`), and one process writes at a time.
"""

import contextlib
import fcntl
import sqlite3
from collections.abc import Iterator
from typing import ClassVar

from recsys_assets.datasets.disk import Place, private_folder, sync_all, writing_to

_WAIT = 30.0  # seconds


class SqliteFile:
    """The file in a folder, which is made with its tables if it is not there.

    Attributes:
        NAME: of the file, without its ending.
        TABLES: statements that make the tables, each ended by a semicolon.
        place: the folder, for errors.

    Raises:
        PlaceUnwritable: the folder cannot be written.
    """

    NAME: ClassVar[str]
    TABLES: ClassVar[str]

    def __init__(self, place: Place) -> None:
        self.place = place
        self._file, self._lock = place.folder / f"{self.NAME}.db", place.folder / f"{self.NAME}.lock"
        with writing_to(place):
            created = private_folder(place.folder)
            for file in (self._file, self._lock):
                file.touch(mode=0o600)
            with contextlib.closing(self.connect()) as connection, self.writing(connection):
                for statement in self.TABLES.split(";")[:-1]:
                    connection.execute(statement)
            sync_all([place.folder, *created])

    def connect(self) -> sqlite3.Connection:
        """A connection for one thread."""
        connection = sqlite3.connect(self._file, timeout=_WAIT, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    @contextlib.contextmanager
    def writing(self, connection: sqlite3.Connection) -> Iterator[None]:
        """A transaction, which is committed and on the disk when the block ends without an error.

        Writers queue for a lock of the system's, which wakes the next one at once; SQLite's own waiting sleeps.
        """
        with self._lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):  # the first error is the one to tell of
                    connection.execute("ROLLBACK")
                raise
