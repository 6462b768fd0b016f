"""Releases of MongoDB's collections: what the current one names, and the next one after a way back."""

from collections.abc import Mapping
from typing import Any

from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.store import Store


def pinned(store: Store, collection: str) -> set[str]:
    """The version that services which keep to the current release read; none in a store without releases."""
    release = store.release() if isinstance(store, MongoStore) else None
    entry = release["collections"].get(collection) if release else None
    return {entry["version"]} if entry else set()


def release_anew(store: MongoStore, versions: Mapping[str, str]) -> int | None:
    """Make a release of the current one's versions, some of them replaced; its number, None if there was no release.

    Where an earlier release had just these versions its champion and bizdate are taken too; else those of the current
    one stay. Numbers only grow: a reader that goes by them never returns to an older release by chance.

    Args:
        store: the store.
        versions: the versions that replace others, by collection.
    """
    current = store.release()
    if current is None:
        return None
    wanted = {name: each["version"] for name, each in current["collections"].items()} | dict(versions)
    found = _with_versions(store, wanted, int(current["number"]))
    if found is None:
        rows = {name: {"version": each, "rows": store.count(name, each)} for name, each in versions.items()}
        found = {**current, "collections": current["collections"] | rows}
    return store.put_release({key: value for key, value in found.items() if key not in ("_id", "number")})


def _with_versions(store: MongoStore, wanted: Mapping[str, str], newest: int) -> dict[str, Any] | None:
    """The newest release that names just these versions."""
    for number in range(newest, 0, -1):
        release = store.release(number)
        if release and {name: each["version"] for name, each in release["collections"].items()} == wanted:
            return release
    return None
