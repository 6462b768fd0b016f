"""Which release is to be served, and how it is opened: the store's current one, from the lake's partitions."""

import contextlib
from collections.abc import Iterator

from recsys_assets.datasets.profile import Profile
from recsys_assets.lake import Lake
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.service import Service
from recsys_assets.stores.registry import STORES, open_owned_store, stores_in_use
from recsys_assets.stores.store import ReleaseStore, StoreError


class NoReleases(StoreError):
    """No store is in use that keeps releases."""


@contextlib.contextmanager
def following(profile: Profile, lake: Lake) -> Iterator[Service]:
    """A service that follows the releases of the first store that has them, as long as the block runs.

    Raises:
        NoReleases: no store in use has releases.
        StoreError: the store cannot be opened.
    """
    kept = [name for name in stores_in_use() if STORES[name].has_releases]
    if not kept:
        raise NoReleases("no store in use keeps releases: set MONGO_URI, or install the extra `mongo-server`")
    with open_owned_store(kept[0], lake.profile, lake.owner) as store:
        if not isinstance(store, ReleaseStore):
            raise TypeError(f"{store} has no releases")

        def newest() -> tuple[int, str] | None:
            found = store.release()
            return (int(found["number"]), str(found["bizdate"])) if found else None

        def open_release(bizdate: str) -> Engine:
            lake.read_sound(f"{kept[0]}_release", bizdate)  # nothing that it was made from has been made again since
            return Engine(profile, lake, bizdate)

        service = Service(newest, open_release, _say)
        service.look()
        service.follow()
        try:
            yield service
        finally:
            service.close()


def _say(sentence: str) -> None:
    print(sentence, flush=True)  # noqa: T201  # the service's log is its output
