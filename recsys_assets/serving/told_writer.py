"""The writer of told events: a thread that judges and keeps all calls that wait, in one commit."""

import datetime as dt
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np

from recsys_assets.arrays import Ids, find
from recsys_assets.datasets.disk import writing_to
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.ingest import EVENTS_OF_DAYS
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.row_faults import repeat_reason
from recsys_assets.datasets.sessions import LOWEST_USER, TEXT_PREFIX
from recsys_assets.datasets.told_rows import Judge, Judged
from recsys_assets.serving.told_database import INSERT, Database

MOST_WAITING = 20_000  # events of calls that were not answered yet
_AT_ONCE = 5_000  # events in one commit, unless a single call has more
# The first of some events that is not in the database, or of whose id the database has another event.
_OTHERS = """
SELECT wanted.key, events.digest IS NOT NULL FROM json_each(?) AS wanted LEFT JOIN events
ON events.source = wanted.value ->> 0 AND events.event_id = wanted.value ->> 1
WHERE events.digest IS NOT wanted.value ->> 2 ORDER BY wanted.key LIMIT 1
"""


class Refused(ValueError):
    """An event that ingest would reject, or that cannot be told apart from another one.

    Attributes:
        place: of the event, as in `events.3`.
        reason: in words.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place, self.reason = place, reason


class TooMany(RuntimeError):
    """More events are waiting than the writer takes; they can be told again later."""


@dataclass(frozen=True)
class Row:
    """An event as it was told.

    Attributes:
        source: the table that it belongs to.
        place: in the request, as in `events.3`.
        line: the event as JSON, without its id unless that is a column.
        digest: a hash of the line.
        event_id: the id that the client gave; empty for one that is made.
        timed: whether the line has a timestamp.
    """

    source: TableName
    place: str
    line: str
    digest: str
    event_id: str
    timed: bool


@dataclass(frozen=True)
class Kept:
    """The answer for one event: its id, and its user, which is a made one for an event of an anonymous session."""

    event_id: str
    user_id: int | str


@dataclass(frozen=True)
class Answer:
    """The answer to a call: one answer per event, and how many of them were not known before."""

    events: list[Kept]
    new: int


@dataclass(frozen=True)
class Call:
    """Events that are kept or refused together; `known` has the ids, ascending, that their users and items may have."""

    rows: Sequence[Row]
    known: Mapping[str, Ids] = field(default_factory=dict)
    future: "Future[Answer]" = field(default_factory=Future)


class Writer:
    """Keeps events as long as its block runs.

    Args:
        profile: of the data set; its rules judge the events.
        database: that keeps them.
    """

    def __init__(self, profile: Profile, database: Database) -> None:
        self._profile, self._database = profile, database
        self._calls: queue.Queue[Call | None] = queue.Queue()
        self._waiting, self._lock = 0, threading.Lock()
        self._thread = threading.Thread(target=self._run, name="told events", daemon=True)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._calls.put(None)
        self._thread.join()

    def tell(self, call: Call) -> "Future[Answer]":
        """Keep the events of a call, all or none; the future is done when they are on the disk.

        The future raises `Refused`, naming the first event that cannot be kept, or `PlaceUnwritable`.

        Raises:
            TooMany: too many events are waiting.
        """
        with self._lock:
            if self._waiting + len(call.rows) > MOST_WAITING:
                raise TooMany(f"more than {MOST_WAITING:,} events are waiting to be written")
            self._waiting += len(call.rows)
        self._calls.put(call)
        return call.future

    def _run(self) -> None:
        with connect_without_lake() as duck:
            tables = [table for table in EVENTS_OF_DAYS if table in self._profile.tables]
            judges = {table: Judge(duck, self._profile, table) for table in tables}
            connection = self._database.connect()
            while calls := self._next_calls():
                self._answer(connection, judges, calls)
            connection.close()

    def _next_calls(self) -> list[Call]:
        """The calls that wait, at least one; none when the block has ended."""
        found, rows = list[Call](), 0
        while not found or (rows < _AT_ONCE and not self._calls.empty()):
            call = self._calls.get()
            if call is None:
                if found:
                    self._calls.put(None)  # for the next time
                break
            found.append(call)
            rows += len(call.rows)
        with self._lock:
            self._waiting -= rows
        return found

    def _answer(self, connection: sqlite3.Connection, judges: Mapping[TableName, Judge], calls: list[Call]) -> None:
        """Keep the events of some calls in one commit, and answer them then."""
        answers, told = list[Answer | Refused](), time.time()
        try:
            judged = iter(_judged(judges, [row for call in calls for row in call.rows]))
            with writing_to(self._database.place), self._database.writing(connection):
                for call in calls:
                    rows = [next(judged) for _ in call.rows]
                    answers.append(self._keep(connection, call, rows, told))
        except Exception as error:  # whatever it is, those who wait must learn of it
            for call in calls:
                call.future.set_exception(error)
            return
        for call, answer in zip(calls, answers, strict=True):
            if isinstance(answer, Refused):
                call.future.set_exception(answer)
            else:
                call.future.set_result(answer)

    def _keep(
        self, connection: sqlite3.Connection, call: Call, judged: Sequence[Judged], told: float
    ) -> Answer | Refused:
        """Write the events of one call, told at that time, or none of them."""
        if (refusal := self._refusal(call, judged)) is not None:
            return refusal
        ids = [_event_id(row, each) for row, each in zip(call.rows, judged, strict=True)]
        before = connection.total_changes
        connection.execute("SAVEPOINT call")
        connection.executemany(
            INSERT,
            [
                (row.source, event_id, row.digest, *each[:-1], row.line, told, None)
                for row, event_id, each in zip(call.rows, ids, judged, strict=True)
            ],
        )
        new = connection.total_changes - before
        if new < len(ids) and (refusal := self._other(connection, call, ids)) is not None:
            connection.execute("ROLLBACK TO call")
            connection.execute("RELEASE call")
            return refusal
        connection.execute("RELEASE call")
        return Answer([Kept(event_id, each.user_id) for event_id, each in zip(ids, judged, strict=True)], new)

    def _refusal(self, call: Call, judged: Sequence[Judged]) -> Refused | None:
        """The first event that ingest would reject because of itself, or of its user or item."""
        for row, each in zip(call.rows, judged, strict=True):
            if each.reason is not None:
                return Refused(row.place, each.reason)
        for side, ids in call.known.items():
            values: list[int | str] = [each.user_id if side == "user" else each.item_id for each in judged]
            for place in np.flatnonzero(find(ids, np.array(values, ids.dtype)) < 0).tolist():
                if side == "item" or not self._is_anonymous(values[place]):
                    return Refused(call.rows[place].place, f"{side}_id is unknown")
        return None

    def _is_anonymous(self, user_id: int | str) -> bool:
        if not self._profile.session:
            return False
        return user_id.startswith(TEXT_PREFIX) if isinstance(user_id, str) else user_id < LOWEST_USER

    def _other(self, connection: sqlite3.Connection, call: Call, ids: Sequence[str]) -> Refused | None:
        """The first event that another one is in the way of."""
        wanted = [(row.source, event_id, row.digest) for row, event_id in zip(call.rows, ids, strict=True)]
        for place, taken in connection.execute(_OTHERS, [json.dumps(wanted)]):
            row = call.rows[place]
            return Refused(
                row.place, "another event has this event_id" if taken else repeat_reason(self._profile, row.source)
            )
        return None


def _judged(judges: Mapping[TableName, Judge], rows: Sequence[Row]) -> list[Judged]:
    """Each row, judged; all rows of a table are judged at once."""
    now, found = dt.datetime.now(dt.UTC), dict[int, Judged]()
    order = sorted(range(len(rows)), key=lambda place: rows[place].source)
    for source, group in groupby(order, key=lambda place: rows[place].source):
        places = list(group)
        found |= zip(places, judges[source]([rows[place].line for place in places], now), strict=True)
    return [found[place] for place in range(len(rows))]


def _event_id(row: Row, judged: Judged) -> str:
    """The id of an event: the client's, or one that is made of the content and, if it says no time, of the moment."""
    if row.event_id:
        return row.event_id
    return row.digest if row.timed else f"{row.digest[:32]}-{judged.moment:x}"
