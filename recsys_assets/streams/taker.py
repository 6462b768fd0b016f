"""The part of a stream's job that is the same for every engine: what to do with the files of a micro-batch.

Their rows go through the step of `fresh/`, with vectors of a deployed service, and what changed goes to the stores. An
engine that is killed between this and its own checkpoint gives the same files again. That changes nothing: values are
set by their `update_time` and never added, and a row that says none has the time at which its file was written.
"""

import contextlib
import datetime as dt
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from filelock import FileLock, Timeout

from recsys_assets.client import Client, ServiceError
from recsys_assets.coldstart.choice import newest_serving_model
from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.deployed import DeployedTower, TowerChanged, deployed_towers
from recsys_assets.fresh.files import FilesTaken, FreshFile, Unread, take_file
from recsys_assets.fresh.landing import land
from recsys_assets.fresh.step import Step
from recsys_assets.lake import Lake
from recsys_assets.own_service import TOKEN
from recsys_assets.stores.fresh_push import Pusher

FOLDER = "stream"  # in the landing folder; the files in `fresh` are taken by the service itself
PATIENCE = 60.0  # seconds that the deployed service has to answer again: a restart takes 3 s, on a busy machine 30 s
PAUSE = 0.5  # seconds between two tries
_TOO_MANY_REQUESTS = 429


class Taker:
    """Takes the files of micro-batches as long as its block runs, all in one thread, whichever threads ask.

    Args:
        profile: of the data set.
        lake: of the profile.
        url: of the deployed service.
    """

    def __init__(self, profile: Profile, lake: Lake, url: str) -> None:
        self._profile, self._lake, self._database = profile, lake, Database(profile.name)
        self._client, self._opened = Client(url, os.environ.get(TOKEN), timeout=10.0), contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(1, "fresh rows")

    def __enter__(self) -> "Taker":
        self._thread.submit(self._open).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._opened.close).result()
        self._thread.shutdown()

    def take(self, files: Sequence[tuple[FreshFile, Iterable[str | Unread]]]) -> FilesTaken:
        """Take the rows of files, and push what changed to the stores.

        Raises:
            ServiceError: the deployed service refuses the rows, or does not answer within `PATIENCE`.
            OtherModel: it has the towers of another model.
            PlaceUnwritable: the folder of fresh rows cannot be written.
            StoreError: a store does not answer. The rows are kept, and pushed with the next files.
        """
        return self._thread.submit(self._take, files).result()

    def land(self, *, everything: bool = False) -> None:
        """Land the rows that are due, unless a service does that."""
        self._thread.submit(self._land, everything).result()

    def _open(self) -> None:
        enter = self._opened.enter_context
        enter(self._client)
        self._duck = enter(connect_without_lake())
        self._connection = enter(contextlib.closing(self._database.connect()))
        self._step = Step(self._profile, self._database, self._duck, {})
        self._step.towers = self._deployed_towers()
        self._pusher = Pusher(self._profile, self._lake, self._database, enter(connect_without_lake()))

    def _deployed_towers(self) -> dict[str, DeployedTower]:
        return deployed_towers(self._client, newest_serving_model(self._profile, self._lake).model)

    def _take(self, files: Sequence[tuple[FreshFile, Iterable[str | Unread]]]) -> FilesTaken:
        done = FilesTaken()
        for file, lines in files:
            done += self._take_file(file, list(lines))
        self._pusher.push()
        return done

    def _take_file(self, file: FreshFile, lines: Sequence[str | Unread]) -> FilesTaken:
        """Take a file. The service may restart or be updated meanwhile; no lock is held while it is waited for."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return take_file(self._step, self._connection, file, lines, dt.datetime.now(dt.UTC))
            except (ServiceError, TowerChanged) as error:
                if time.monotonic() > end or _is_final(error):
                    raise
            time.sleep(PAUSE)
            with contextlib.suppress(ServiceError):
                self._step.towers = self._deployed_towers()

    def _land(self, everything: bool) -> None:
        with contextlib.suppress(Timeout), FileLock(self._database.watch_lock, timeout=0):
            now = dt.datetime.now(dt.UTC)
            land(self._profile, self._database, self._duck, self._connection, now, everything=everything)


def _is_final(error: Exception) -> bool:
    """Whether the service would refuse the same request again."""
    return isinstance(error, ServiceError) and 400 <= error.status < 500 and error.status != _TOO_MANY_REQUESTS
