"""The request log: a thread writes what was answered as Parquet files by hour, without holding up an answer.

Answers wait in a queue of bounded length; while it is full, further ones are left out and counted. A file appears under
its name when it is whole: after a minute, at the end of an hour, of a release or of the service, or when it is large.
A process that is killed loses the file that it was writing.
"""

import contextlib
import datetime as dt
import itertools
import os
import queue
import re
import shutil
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.datasets.disk import private_folder, sync
from recsys_assets.processes import give_way
from recsys_assets.serving.request_rows import REPEATED, Logged, log_table
from recsys_assets.serving.respond import Answer
from recsys_assets.settings import settings

SHARE, DAYS = "RECSYS_SERVE_LOG_SHARE", "RECSYS_SERVE_LOG_DAYS"
KEPT_DAYS = 14
MOST_WAITING = 500  # answers in the queue: about 40 MB
MOST_ROWS = 500  # in a row group: about 15 MB before they are encoded
MOST_BYTES = 64 << 20  # in a file
LONGEST = 60.0  # seconds that a file is written to
PAUSE = 0.5  # seconds between two looks at the queue
LOW = 10  # added to the niceness of the thread that writes: answers go first


class BadSetting(ValueError):
    """A setting of the log is not what it should be."""


class RequestLog:
    """Takes answers, and writes them in a thread of its own until `close`.

    Args:
        folder: of the log.
        say: takes sentences for the service's log.
        share: the share of requests that are kept, by a hash of their id.
        days: how many days files are kept.

    Attributes:
        written, dropped: rows in whole files, and answers that were left out because the queue was full, or because
            they could not be written.
    """

    def __init__(self, folder: Path, say: Callable[[str], None], share: float = 1.0, days: int = KEPT_DAYS) -> None:
        self._folder, self._say, self._share, self._days = folder, say, share, days
        self._queue: queue.Queue[Logged] = queue.Queue(MOST_WAITING)
        self._closing = threading.Event()
        self._file: _File | None = None
        self.written, self.dropped = 0, 0
        self._thread = threading.Thread(target=self._run, name="request log", daemon=True)
        self._thread.start()

    def put(self, request_id: str, answer: Answer, seconds: float) -> None:
        """Keep an answer that took some seconds, unless it is not in the sample or the queue is full; never waits."""
        if zlib.crc32(request_id.encode()) >= self._share * 2**32:
            return
        try:
            self._queue.put_nowait(Logged(request_id, dt.datetime.now(dt.UTC), answer, seconds))
        except queue.Full:
            self.dropped += 1

    def close(self) -> None:
        """Write what waits, and finish the file."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        give_way(LOW)
        self._remove_old()
        while not self._closing.is_set() or not self._queue.empty():
            self._closing.wait(PAUSE)
            for rows in self._waiting():
                self._guarded(partial(self._write, rows), len(rows))
            if self._file and self._file.is_over:
                self._guarded(self._finish)
        self._guarded(self._finish)

    def _waiting(self) -> list[list[Logged]]:
        """The answers that wait, up to a row group of them, by the file that they belong to."""
        found: list[Logged] = []
        with contextlib.suppress(queue.Empty):
            while len(found) < MOST_ROWS:
                found.append(self._queue.get_nowait())
        return [list(rows) for _, rows in itertools.groupby(found, _file_key)]

    def _write(self, rows: list[Logged]) -> None:
        if self._file and self._file.key != _file_key(rows[0]):
            self._finish()
        if self._file is None:
            self._file = _File(self._folder, rows[0])
        self._file.add(rows)

    def _finish(self) -> None:
        """Give the file its name."""
        if self._file:
            self._file.finish()
            self.written, self._file = self.written + self._file.rows, None
            self._remove_old()

    def _guarded(self, step: Callable[[], None], rows: int = 0) -> None:
        """Do a step; if it fails, as on a full disk, its rows and the file are lost, and the service goes on."""
        try:
            step()
        except Exception as error:
            file, self._file = self._file, None
            self.dropped += rows + (file.give_up() if file else 0)
            self._say(f"the request log cannot be written, and rows of it are lost: {error}")

    def _remove_old(self) -> None:
        oldest = (dt.datetime.now(dt.UTC) - dt.timedelta(days=self._days)).date().isoformat()
        for day in self._folder.glob("date=*"):
            if day.name.removeprefix("date=") < oldest:
                shutil.rmtree(day, ignore_errors=True)


def _file_key(logged: Logged) -> tuple[int, int, dt.datetime]:
    """The release, opened once, and the hour: a file is of one of each."""
    hour = logged.time.replace(minute=0, second=0, microsecond=0)
    return logged.answer.number, id(logged.answer.engine), hour


class _File:
    """A file that is written under a hidden name until it is finished; its first row says what it is of."""

    def __init__(self, folder: Path, first: Logged) -> None:
        self.key, self.rows, self._engine = _file_key(first), 0, first.answer.engine
        self._place = folder / f"date={first.time:%Y-%m-%d}" / f"hour={first.time:%H}"
        private_folder(self._place)
        self._name = f"requests-{first.time:%H%M%S}-{uuid.uuid4().hex[:8]}.parquet"
        self._hidden = self._place / f".{self._name}.tmp"
        self._tables: list[pa.Table] = []
        self._writer: pq.ParquetWriter | None = None
        self._begun = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it is old or large enough."""
        return time.monotonic() - self._begun > LONGEST or self._size() > MOST_BYTES

    def _size(self) -> int:
        return self._hidden.stat().st_size if self._writer else 0

    def add(self, logged: list[Logged]) -> None:
        """Add rows; they are encoded at once, and written when there are enough for a row group."""
        self._tables.append(log_table(self._engine, logged))
        self.rows += len(logged)
        if sum(map(len, self._tables)) >= MOST_ROWS:
            self._write()

    def _write(self) -> None:
        table, self._tables = pa.concat_tables(self._tables), []
        if self._writer is None:
            how: dict[str, Any] = {"compression": "zstd", "use_dictionary": REPEATED, "store_schema": False}
            self._writer = pq.ParquetWriter(self._hidden, table.schema, **how)
        self._writer.write_table(table)

    def finish(self) -> None:
        """Put the whole file in its place, so that it survives a power cut."""
        if self._tables:
            self._write()
        if self._writer:
            self._writer.close()
        sync(self._hidden)
        self._hidden.rename(self._place / self._name)
        sync(self._place)

    def give_up(self) -> int:
        """Remove what was written; returns how many rows are lost."""
        with contextlib.suppress(OSError):
            if self._writer:
                self._writer.close()
            self._hidden.unlink(missing_ok=True)
        return self.rows


def log_folder(profile: str) -> Path:
    """The folder of a profile's request log."""
    return settings().requests(profile)


@contextlib.contextmanager
def logging(profile: str, say: Callable[[str], None]) -> Iterator[RequestLog | None]:
    """The log as the environment says, as long as the block runs; None if it is to keep nothing.

    Raises:
        BadSetting: a variable is not a share, or not a number of days.
    """
    share, days = os.environ.get(SHARE) or "1", os.environ.get(DAYS) or str(KEPT_DAYS)
    if not re.fullmatch(r"0|1|[01]?\.\d+|1\.0+", share) or float(share) > 1:
        raise BadSetting(f"{SHARE}={share} is not a share: give a number from 0 to 1")
    if not days.isdecimal() or not 0 < int(days) < 10_000:
        raise BadSetting(f"{DAYS}={days} is not a number of days: give one from 1 to 9999")
    log = RequestLog(log_folder(profile), say, float(share), int(days)) if float(share) else None
    try:
        yield log
    finally:
        if log:
            log.close()
