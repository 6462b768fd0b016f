"""Imports and lookups of every step. Dagster's fork server does them before it forks, which saves each step 2 s."""

from functools import cache
from inspect import getfile
from types import SimpleNamespace

import pyarrow.dataset  # noqa: F401 -- reading any Parquet file loads it, and pandas with it
from alembic.script import ScriptDirectory
from dagster._core.storage import sql
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.runs import SqliteRunStorage
from dagster._core.storage.schedules import SqliteScheduleStorage

from recsys_assets.definitions import defs


def keep_migrations() -> None:
    """Read the 90 migrations of Dagster's history once; a step would read them for each of its four databases."""
    read = cache(ScriptDirectory.from_config)
    sql.ScriptDirectory = SimpleNamespace(from_config=read)  # type: ignore[assignment, attr-defined]
    for storage in (SqliteRunStorage, SqliteEventLogStorage, SqliteScheduleStorage):
        read(sql.get_alembic_config(getfile(storage))).as_revision_number("head")


keep_migrations()
defs.get_repository_def()  # resolves the jobs and caches them
