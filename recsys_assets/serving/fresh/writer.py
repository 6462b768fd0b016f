"""The writer of fresh rows in a service: a thread that takes the rows of one call after another."""

import contextlib
import datetime as dt
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.step import FreshRow, Step, Taken
from recsys_assets.fresh.towers import Tower

MOST_WAITING = 20_000  # rows of calls that were not answered yet


class TooManyRows(RuntimeError):
    """More rows are waiting than the writer takes; they can be told again later."""


class Writer:
    """Takes rows as long as its block runs.

    Args:
        profile: of the data set.
        database: that keeps the rows.
        towers: by side.
    """

    def __init__(self, profile: Profile, database: Database, towers: Mapping[str, Tower]) -> None:
        self._profile, self._database, self._towers = profile, database, towers
        self._waiting, self._lock, self._opened = 0, threading.Lock(), contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(1, "fresh rows")

    def __enter__(self) -> "Writer":
        self._step = self._thread.submit(self._open)
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._opened.close)
        self._thread.shutdown()

    def tell(self, rows: Sequence[FreshRow]) -> "Future[Taken]":
        """Take the rows of a call, all or none; the future is done when they and their vectors are on the disk.

        Raises:
            TooManyRows: too many rows are waiting.
        """
        with self._lock:
            if self._waiting + len(rows) > MOST_WAITING:
                raise TooManyRows(f"more than {MOST_WAITING:,} rows are waiting to be written")
            self._waiting += len(rows)
        return self._thread.submit(self._take, rows)

    def _open(self) -> Step:
        duck = self._opened.enter_context(connect_without_lake())
        return Step(self._profile, self._database, duck, self._towers)

    def _take(self, rows: Sequence[FreshRow]) -> Taken:
        try:
            return self._step.result().take(rows, dt.datetime.now(dt.UTC), all_or_none=True)
        finally:
            with self._lock:
                self._waiting -= len(rows)
