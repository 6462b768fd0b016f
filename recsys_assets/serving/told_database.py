"""The SQLite file of told events, which all processes of a service share."""

import contextlib
import secrets
from pathlib import Path

from recsys_assets.datasets.disk import Place, writing_to
from recsys_assets.datasets.sqlite_file import SqliteFile
from recsys_assets.settings import settings

ELSEWHERE = -1  # the number of the landing file, for an event that another machine was told and lands
INSERT = f"INSERT INTO events VALUES (NULL{', ?' * 13}) ON CONFLICT DO NOTHING"


class Database(SqliteFile):
    """The told events in a folder.

    In `events`, `line` is the row as it was told, `digest` its hash, `told` the seconds since 1970 at which it was, and
    `file` the number of the landing file that holds it. A file is `written` once it is whole in its place.

    Attributes:
        name: tells it apart from all others, in the names of landing files.

    Raises:
        PlaceUnwritable: the folder cannot be written.
    """

    NAME = "told"
    TABLES = """
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

    def __init__(self, folder: Path) -> None:
        super().__init__(Place("the folder of told events", folder, "RECSYS_DATA"))
        made = ("name", secrets.token_hex(4))
        with writing_to(self.place), contextlib.closing(self.connect()) as connection, self.writing(connection):
            connection.execute("INSERT INTO about VALUES (?, ?) ON CONFLICT DO NOTHING", made)
            ((self.name,),) = connection.execute("SELECT value FROM about WHERE name = 'name'")

    @property
    def landing_lock(self) -> Path:
        """The lock of the process that writes landing files."""
        return self.place.folder / "landing.lock"

    @property
    def sharing_lock(self) -> Path:
        """The lock of the process that shares events with other machines."""
        return self.place.folder / "sharing.lock"


def told_folder(profile: str) -> Path:
    """The folder of a profile's told events."""
    return settings().data / "serving" / profile
