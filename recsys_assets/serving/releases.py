"""The look-out: which release the store names now, asked again and again without ever stopping the service."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from recsys_assets.datasets.profile import Profile
from recsys_assets.lake import Lake
from recsys_assets.serving.order import Release
from recsys_assets.stores.registry import STORES, open_owned_store, stores_in_use
from recsys_assets.stores.store import ReleaseStore, StoreError, StoreUnavailable

POLL = 0.5  # seconds between two looks
PAUSE = 2.0  # seconds before a store that did not answer is opened again
LAST_LOOK = 5.0  # seconds that a look may take when the service ends
ANSWERS = "answers"


class NoReleases(StoreError):
    """No store is in use that keeps releases."""


@contextlib.contextmanager
def release_store(profile: Profile, lake: Lake) -> Iterator[ReleaseStore]:
    """The first store in use that has releases.

    Raises:
        NoReleases: no store in use has releases.
        OtherDataset: it holds another data set's.
        StoreError: it cannot be opened.
    """
    kept = [name for name in stores_in_use() if STORES[name].has_releases]
    if not kept:
        raise NoReleases("no store in use keeps releases: set MONGO_URI, or install the extra `mongo-server`")
    with open_owned_store(kept[0], profile.name, lake.owner) as store:
        if not isinstance(store, ReleaseStore):
            raise TypeError(f"{store} has no releases")
        yield store


class Lookout:
    """Looks at a store in a thread of its own, so that a store that is away or slow delays nothing else.

    Args:
        open_store: opens the store.
        say: takes sentences for the log.

    Attributes:
        newest: the current release, as of the last look; None if there was none.
        store: `ANSWERS`, or why the store does not.
        looks: how often the store answered.
        error: what keeps the store from ever being used.
    """

    def __init__(
        self, open_store: Callable[[], AbstractContextManager[ReleaseStore]], say: Callable[[str], None]
    ) -> None:
        self._open, self._say = open_store, say
        self.newest: Release | None = None
        self.store, self.looks = "was not asked yet", 0
        self.error: Exception | None = None
        self._stop, self._first = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="look-out", daemon=True)

    def start(self, seconds: float) -> None:
        """Begin, and wait up to so many seconds for the first look.

        Raises:
            Exception: whatever keeps the store from ever being used, such as another data set's collections.
        """
        self._thread.start()
        self._first.wait(seconds)
        if self.error:
            raise self.error

    def close(self) -> None:
        """Stop looking, and close the store unless it does not answer."""
        self._stop.set()
        self._thread.join(LAST_LOOK)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with self._open() as store:
                    self._watch(store)
            except Exception as error:
                if not self.looks and not isinstance(error, StoreUnavailable):
                    self.error = error
                    self._first.set()
                    return
                self._note(str(error))
            self._first.set()
            self._stop.wait(PAUSE)

    def _watch(self, store: ReleaseStore) -> None:
        """Look until the store does not answer."""
        while not self._stop.is_set():
            record = store.release()
            self.newest = Release.of(record) if record else None
            if record is None and not self.looks:
                self._say("there is no release yet: `recsys materialize '*'` makes one, and it is served then")
            self.looks += 1
            self._note(ANSWERS)
            self._first.set()
            self._stop.wait(POLL)

    def _note(self, store: str) -> None:
        if store != self.store:
            self._say(f"the store {store}" if store == ANSWERS else f"no release can be looked up: {store}")
        self.store = store
