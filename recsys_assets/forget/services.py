"""The state of services without a user: told events, fresh rows of users, and the request log."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from filelock import FileLock

from recsys_assets.arrays import Bools
from recsys_assets.datasets.folders import replacing
from recsys_assets.datasets.landed_user import USER, parquet_without
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.sqlite_file import SqliteFile
from recsys_assets.datasets.text_files import landed_names
from recsys_assets.fresh.database import Database as FreshDatabase
from recsys_assets.fresh.database import fresh_folder
from recsys_assets.serving.request_log import log_folder
from recsys_assets.serving.told_database import Database as ToldDatabase
from recsys_assets.serving.told_database import told_folder

_WAIT = 60.0  # seconds for the process that lands told events
_TOLD = ("DELETE FROM events WHERE user_id = ?",)
# A file that was recorded and not written yet, and that has no event any more, is not to be written.
_TOLD_FILES = "DELETE FROM files WHERE NOT written AND number NOT IN (SELECT file FROM events WHERE file IS NOT NULL)"
_FRESH = (
    "DELETE FROM cells WHERE source = 'users' AND key = ?",
    "DELETE FROM rows WHERE source = 'users' AND key = ?",
    "DELETE FROM entities WHERE side = 'users' AND key = ?",
)


@dataclass(frozen=True)
class InServices:
    """The rows of a user in services of this machine: told events, fresh rows, and answers by file of the log."""

    told: int = 0
    fresh: int = 0
    answers: dict[Path, int] = field(default_factory=dict)


def find(profile: Profile, user: int | str) -> InServices:
    """Count the rows of a user."""
    told, fresh = 0, 0
    if (told_folder(profile.name) / f"{ToldDatabase.NAME}.db").exists():
        told = _count(ToldDatabase(told_folder(profile.name)), "SELECT count(*) FROM events WHERE user_id = ?", user)
    if (fresh_folder(profile.name) / f"{FreshDatabase.NAME}.db").exists():
        database = FreshDatabase(profile.name)
        fresh = _count(database, "SELECT count(*) FROM rows WHERE source = 'users' AND key = ?", str(user))
        fresh += len(_rejected(profile, database, user))
    files = sorted(log_folder(profile.name).glob("date=*/hour=*/*.parquet"))
    answers = {path: count for path in files if (count := int(_asked_by(path, user).sum()))}
    return InServices(told, fresh, answers)


def remove(profile: Profile, user: int | str, found: InServices) -> None:
    """Remove the rows of a user.

    Raises:
        filelock.Timeout: another process has been landing told events for a minute.
        PlaceUnwritable: the folder cannot be written.
    """
    if found.told:
        told = ToldDatabase(told_folder(profile.name))
        with FileLock(told.landing_lock, timeout=_WAIT):
            _delete(told, [*((each, (user,)) for each in _TOLD), (_TOLD_FILES, ())])
    if found.fresh:
        fresh = FreshDatabase(profile.name)
        lines = [("DELETE FROM rejected WHERE file = ? AND row = ?", key) for key in _rejected(profile, fresh, user)]
        _delete(fresh, [*((each, (str(user),)) for each in _FRESH), *lines])
    for path in found.answers:
        content = parquet_without(path, _asked_by(path, user))
        with replacing(path) as hidden:
            hidden.write_bytes(content)


def _count(database: SqliteFile, query: str, user: int | str) -> int:
    with contextlib.closing(database.connect()) as connection:
        ((count,),) = connection.execute(query, (user,)).fetchall()
    return int(count)


def _delete(database: SqliteFile, statements: Sequence[tuple[str, tuple[object, ...]]]) -> None:
    """Execute statements in one transaction; what they delete is overwritten in the file."""
    with contextlib.closing(database.connect()) as connection:
        connection.execute("PRAGMA secure_delete = ON")
        with database.writing(connection):
            for statement, values in statements:
                connection.execute(statement, values)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _rejected(profile: Profile, database: FreshDatabase, user: int | str) -> list[tuple[str, int]]:
    """The file and number of rejected fresh rows that are of the user."""
    if "users" not in profile.tables:
        return []
    columns = profile.tables["users"]
    key = dict(zip(columns, landed_names(columns), strict=True))[USER]
    with contextlib.closing(database.connect()) as connection:
        rows = connection.execute("SELECT file, row, line FROM rejected WHERE file LIKE 'fresh/users/%'").fetchall()
    return [(file, row) for file, row, line in rows if _value(line, key) == str(user)]


def _value(line: str, key: str) -> str | None:
    """The value of a key of a JSON object as text; None if there is none."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    return str(content[key]) if isinstance(content, dict) and key in content else None


def _asked_by(path: Path, user: int | str) -> Bools:
    """(N,) which answers of a file of the log were for the user."""
    asked = pq.read_table(path, columns=[USER])[USER].to_pylist()
    return np.array([str(each) == str(user) for each in asked], bool)
