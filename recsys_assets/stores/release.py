"""Releases of MongoDB's collections: what the current one names, and the next one after a way back."""

from collections.abc import Mapping
from typing import Any

from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.store import Store


def current_release(store: Store) -> dict[str, Any] | None:
    """The release that services keep to; None where there is none, and in a store without releases."""
    return store.release() if isinstance(store, MongoStore) else None


def pinned(store: Store) -> dict[str, str]:
    """The version of each collection that the current release names."""
    release = current_release(store)
    return _versions(release) if release else {}


def release_set(store: MongoStore, content: Mapping[str, Any]) -> tuple[int, bool]:
    """Record a set of versions, once; its number, and whether it is the one that services read.

    It is, and its versions are live, unless that of a later bizdate is: then it is kept, to be gone back to.

    Args:
        store: the store.
        content: bizdate, collections (version and rows of each, by name), champion.
    """
    current = store.release()
    if current and _content(current) == content:
        return int(current["number"]), True
    if current and current["bizdate"] > content["bizdate"]:
        known = [each["number"] for each in store.releases() if _content(each) == content]
        return known[0] if known else store.add_release(content), False
    for name, version in _versions(content).items():
        if store.live(name) != version:  # somebody had gone back
            store.go_live(name, version)
    return store.put_release(content), True


def release_anew(store: Store, versions: Mapping[str, str]) -> int | None:
    """Make a release of the current one's versions, some of them replaced; its number, None if there was no release.

    Where a recorded set has just these versions its champion and bizdate are taken too; else those of the current
    one stay. Numbers only grow: a reader that goes by them never returns to an older release by chance.

    Args:
        store: the store.
        versions: the versions that replace others, by collection.
    """
    current = current_release(store)
    if current is None or not isinstance(store, MongoStore):
        return None
    wanted = _versions(current) | dict(versions)
    known = next((each for each in store.releases() if _versions(each) == wanted), None)
    if known:
        return store.put_release(_content(known))
    rows = {name: {"version": each, "rows": store.count(name, each)} for name, each in versions.items()}
    return store.put_release({**_content(current), "collections": current["collections"] | rows})


def _content(release: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in release.items() if key != "number"}


def _versions(release: Mapping[str, Any]) -> dict[str, str]:
    return {name: each["version"] for name, each in release["collections"].items()}
