"""Told events as the service sees them: the events of a user after a release, and the way in for new ones."""

import contextlib
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

from recsys_assets.datasets.profile import Profile
from recsys_assets.serving.told_database import Database, told_folder
from recsys_assets.serving.told_landing import Landing
from recsys_assets.serving.told_sharing import Sharing
from recsys_assets.serving.told_writer import Answer, Call, Writer
from recsys_assets.settings import settings
from recsys_assets.stores.registry import STORES

_OF_USER = """
SELECT item_id, label, weight FROM events
WHERE source = 'interactions' AND user_id = ? AND day > ? ORDER BY day, moment, seq
"""


@dataclass(frozen=True)
class ToldEvents:
    """M events of one user, oldest first: ids of the items, labels, and weights by kind."""

    items: list[int | str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


class OnlyRead(RuntimeError):
    """Events are told to something that only reads them."""


class Told:
    """Events that the service was told. Any thread may use it.

    Args:
        database: shared by all processes of the service.
        writer: takes new events; None: they are only read.
    """

    def __init__(self, database: Database, writer: Writer | None) -> None:
        self._database, self._writer, self._local = database, writer, threading.local()

    def of(self, user_id: int | str, after: str) -> ToldEvents:
        """The events of a user whose day is after a bizdate, oldest first; of the same moment, in the order of arrival.

        They are found in the database with every call, so that a process sees at once what another one was told.
        """
        found = self._connection.execute(_OF_USER, (user_id, after)).fetchall()
        return ToldEvents(*map(list, zip(*found, strict=True))) if found else ToldEvents()

    def tell(self, call: Call) -> "Future[Answer]":
        """Keep events; see `Writer.tell`.

        Raises:
            OnlyRead: there is no writer.
        """
        if self._writer is None:
            raise OnlyRead("these told events are only read")
        return self._writer.tell(call)

    @property
    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            self._local.connection = self._database.connect()
        connection: sqlite3.Connection = self._local.connection
        return connection


@contextlib.contextmanager
def open_told(profile: Profile) -> Iterator[Told]:
    """The told events of a profile; new ones are taken, and written as landing files, until the block ends.

    They are shared with other machines if the store Redis is in use.

    Raises:
        PlaceUnwritable: the data folder cannot be written.
    """
    database = Database(told_folder(profile.name))
    uri = settings().stores.get(STORES["redis"].variable)
    sharing = Sharing(profile.name, database, uri) if uri else contextlib.nullcontext()
    with Writer(profile, database) as writer, Landing(profile, database), sharing:
        yield Told(database, writer)
