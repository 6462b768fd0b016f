"""Shared by the stores: reading a version that may be dropped meanwhile, and the error for a missing version."""

from collections.abc import Callable
from typing import TypeVar

from recsys_assets.stores.store import Store, VersionMissing

T = TypeVar("T")


def find_in(store: Store, collection: str, version: str | None, find: Callable[[str], T]) -> T:
    """The result of `find(version)`, by default for the live version.

    `find` raises `VersionMissing` when the version is not there, or is dropped before all of it is found. A reader of
    the live version then starts again with the version that replaced it.

    Raises:
        VersionMissing: the version is not there, or none is live.
    """
    while True:
        wanted = version or store.live(collection)
        if wanted is None:
            raise VersionMissing(f"{collection} has no live version in {store}: publish it")
        try:
            return find(wanted)
        except VersionMissing:
            if version or store.live(collection) == wanted:
                raise


def missing(store: Store, collection: str, version: str) -> VersionMissing:
    """The error for a missing version; it lists the versions that are kept."""
    kept = ", ".join(store.versions(collection)) or "none"
    return VersionMissing(f"{collection} has no version {version} in {store}: it has {kept}")
