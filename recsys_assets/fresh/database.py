"""The SQLite file of fresh rows: what every column was last told, and the joined rows with their vectors.

A column of a row keeps the value of the newest `update_time`, and of equal times the greater text. So rows may come
late, twice, in any order and from several writers at once: the state depends on the set of rows alone (a
last-writer-wins map, Shapiro et al. 2011). All rows of a call are taken in one transaction, together with the joined
rows and vectors that follow from them.
"""

from pathlib import Path

from recsys_assets.datasets.disk import Place
from recsys_assets.datasets.sqlite_file import SqliteFile
from recsys_assets.settings import settings

WITHDRAWN, UPDATE_TIME = "withdrawn", "update_time"  # keys of a row besides its columns


class Database(SqliteFile):
    """The fresh rows of a profile.

    `cells` has the newest value of each column as JSON; `born` and `time` of `rows` are the least and the greatest
    update time of a row, in microseconds since 1970; `links` says which value of a side table's key an item has.
    `entities` has the joined rows: `seq` grows with every change, `line` is the row as JSON, `created` and `updated`
    are in microseconds, `tower` is the hash of the file that made the vector, `arrived` is the time of the change in
    seconds, and `file` is the landing file that holds this state of the row. `taken` has the files whose rows were
    taken, and `rejected` those of their rows that could not be.
    """

    NAME = "fresh"
    TABLES = """
CREATE TABLE IF NOT EXISTS cells (
    source TEXT, key TEXT, name TEXT, value TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (source, key, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    source TEXT, key TEXT, born INTEGER NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (source, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS links (item TEXT, name TEXT, value TEXT, PRIMARY KEY (item, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_value ON links (name, value);
CREATE TABLE IF NOT EXISTS entities (
    side TEXT, key TEXT, seq INTEGER NOT NULL, line TEXT NOT NULL, created INTEGER NOT NULL, updated INTEGER NOT NULL,
    withdrawn INTEGER NOT NULL, tower TEXT, vector BLOB, arrived INTEGER NOT NULL, file INTEGER, PRIMARY KEY (side, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_seq ON entities (seq);
CREATE INDEX IF NOT EXISTS not_landed ON entities (side) WHERE file IS NULL;
CREATE TABLE IF NOT EXISTS files (number INTEGER PRIMARY KEY AUTOINCREMENT, side TEXT, day TEXT, written INTEGER);
CREATE TABLE IF NOT EXISTS taken (file TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS rejected (file TEXT, row INTEGER, reason TEXT, line TEXT, PRIMARY KEY (file, row));
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value);
INSERT OR IGNORE INTO about VALUES ('seq', 0), ('name', lower(hex(randomblob(4))));
"""

    def __init__(self, profile: str) -> None:
        super().__init__(Place("the folder of fresh rows", fresh_folder(profile), "RECSYS_DATA"))

    @property
    def watch_lock(self) -> Path:
        """The lock of the process that takes files and lands rows."""
        return self.place.folder / "fresh_files.lock"


def fresh_folder(profile: str) -> Path:
    """The folder of a profile's fresh rows."""
    return settings().data / "serving" / profile
