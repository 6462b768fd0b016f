"""Told events of several machines: those that one was told reach the others through a stream in Redis.

Each machine keeps what it knows in its own database, so no request ever waits for Redis. A thread of one process per
machine puts the machine's own events into the stream, and takes those of others out of it. Both remember how far they
came: after a failure of Redis, or of the machine, they go on from there. Events of others do not land here.
"""

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from recsys_assets.datasets.disk import writing_to
from recsys_assets.serving.background import Background
from recsys_assets.serving.log import say
from recsys_assets.serving.told_database import ELSEWHERE, INSERT, Database
from recsys_assets.stores.base import importing
from recsys_assets.uris import safe_message, safe_uri

if TYPE_CHECKING:
    import redis

PAUSE = 0.1  # seconds between two looks
MOST_KEPT = 100_000  # events in the stream: what a machine can catch up with
_AT_ONCE = 1_000
_PATIENCE = 5.0  # seconds for an answer of Redis
_SENT, _TAKEN = "sent", "taken"  # in `about`: the last own event in the stream, and the last entry that was taken
_COLUMNS = "source, event_id, digest, user_id, item_id, moment, day, kind, label, weight, line, told"
_OWN = f"SELECT seq, {_COLUMNS} FROM events WHERE seq > ? AND file IS NOT {ELSEWHERE} ORDER BY seq LIMIT {_AT_ONCE}"
_NOTE = "INSERT INTO about VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"


class Sharing(Background):
    """Shares events as long as its block runs.

    Args:
        profile: the name of the data set.
        database: of this machine.
        uri: of Redis, as for the store `redis`.
    """

    def __init__(self, profile: str, database: Database, uri: str) -> None:
        super().__init__("told events of other machines")
        self._stream, self._database, self._uri = f"recsys:told:{profile}", database, uri
        self._trouble = ""

    def share(self, server: "redis.Redis", connection: sqlite3.Connection) -> int:
        """Put own events into the stream, and take those of others out of it; returns how many there were."""
        return self._send(server, connection) + self._take(server, connection)

    def _run(self) -> None:
        while not self._stop.wait(PAUSE):
            try:
                with contextlib.suppress(Timeout), FileLock(self._database.sharing_lock, timeout=0):
                    self._go_on()
            except Exception as error:  # whatever it is may be gone the next time
                self._note(f"told events are not shared: {safe_message(error, self._uri)}")

    def _go_on(self) -> None:
        """Share until the block ends, or until Redis fails."""
        with _server(self._uri) as server, contextlib.closing(self._database.connect()) as connection:
            while not self._stop.is_set():
                with writing_to(self._database.place):
                    done = self.share(server, connection)
                self._note("")
                self._stop.wait(0 if done else PAUSE)

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            say(trouble or f"told events are shared through {safe_uri(self._uri)}")
        self._trouble = trouble

    def _send(self, server: "redis.Redis", connection: sqlite3.Connection) -> int:
        rows = connection.execute(_OWN, (int(self._known(connection, _SENT, "0")),)).fetchall()
        if rows:
            with server.pipeline(transaction=False) as pipeline:
                for _, *row in rows:
                    fields: dict[Any, Any] = {"from": self._database.name, "row": json.dumps(row)}
                    pipeline.xadd(self._stream, fields, maxlen=MOST_KEPT, approximate=True)
                pipeline.execute()
            with self._database.writing(connection):
                connection.execute(_NOTE, (_SENT, str(rows[-1][0])))
        return len(rows)

    def _take(self, server: "redis.Redis", connection: sqlite3.Connection) -> int:
        last = self._known(connection, _TAKEN, "0")
        found: Any = server.xrange(self._stream, min=f"({last}" if last != "0" else "-", count=_AT_ONCE)
        if not found:
            return 0
        rows = [json.loads(entry["row"]) for _, entry in found if entry["from"] != self._database.name]
        with self._database.writing(connection):
            connection.executemany(INSERT, [(*row, ELSEWHERE) for row in rows])
            connection.execute(_NOTE, (_TAKEN, found[-1][0]))
        return len(found)

    @staticmethod
    def _known(connection: sqlite3.Connection, name: str, otherwise: str) -> str:
        found = connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchall()
        return str(found[0][0]) if found else otherwise


@contextlib.contextmanager
def _server(uri: str) -> Iterator["redis.Redis"]:
    with importing("redis"):
        import redis
    with redis.Redis.from_url(
        uri, decode_responses=True, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
    ) as server:
        yield server
