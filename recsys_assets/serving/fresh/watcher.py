"""The watcher of fresh files in a service: of all its processes, one takes files as they come, and lands rows."""

import contextlib
import datetime as dt
from collections.abc import Mapping

from filelock import FileLock, Timeout

from recsys_assets.datasets.duck import connect_without_lake
from recsys_assets.datasets.profile import Profile
from recsys_assets.fresh.database import Database
from recsys_assets.fresh.files import take_files
from recsys_assets.fresh.landing import land
from recsys_assets.fresh.step import Step
from recsys_assets.fresh.towers import Tower
from recsys_assets.serving.background import Background
from recsys_assets.serving.log import say

TICK = 0.5  # seconds between two looks


class Watcher(Background):
    """Takes files and lands rows as long as its block runs.

    Args:
        profile: of the data set.
        database: that keeps the rows.
        towers: by side.
    """

    def __init__(self, profile: Profile, database: Database, towers: Mapping[str, Tower]) -> None:
        super().__init__("fresh files")
        self._profile, self._database, self._towers, self._trouble = profile, database, towers, ""

    def _run(self) -> None:
        while not self._stop.wait(TICK):
            try:
                with contextlib.suppress(Timeout), FileLock(self._database.watch_lock, timeout=0):
                    self._watch()
            except Exception as error:  # whatever it is may be gone the next time
                self._note(f"fresh rows cannot be taken from files, or land, yet: {error}")

    def _watch(self) -> None:
        """Look until the block ends, or until something fails."""
        with (
            connect_without_lake() as duck,
            contextlib.closing(self._database.connect()) as connection,
        ):
            step = Step(self._profile, self._database, duck, self._towers)
            while not self._stop.wait(TICK):
                now = dt.datetime.now(dt.UTC)
                taken = take_files(step, duck, connection, now)
                if taken.rejected:
                    say(f"{taken.rejected:,} of {taken.rows:,} rows of {taken.files} fresh files cannot be kept")
                land(self._profile, self._database, duck, connection, now)
                self._note("")
            land(self._profile, self._database, duck, connection, dt.datetime.now(dt.UTC), everything=True)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            say(trouble)
        self._trouble = trouble
