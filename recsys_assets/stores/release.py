"""Releases of MongoDB's collections after one of them went back to an earlier version."""

from collections.abc import Mapping
from typing import Any

from recsys_assets.stores.mongo import MongoStore


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
