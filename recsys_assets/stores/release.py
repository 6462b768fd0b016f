"""Sets of versions: what is live now, and MongoDB's releases.

A set holds a version of every collection, all of one bizdate. It goes live as a whole, and replaces a set of a later
bizdate only when somebody rolls back. A mixture of bizdates is live only after somebody has rolled back a single
collection, or while a switch is under way or interrupted: `remarks.py` reports it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.mongo_releases import content_of, versions_of
from recsys_assets.stores.store import Store, bizdate_of


def current_release(store: Store) -> dict[str, Any] | None:
    """The release that services follow; None if there is none, and for a store without releases."""
    return store.release() if isinstance(store, MongoStore) else None


def live_set(store: Store) -> dict[str, str]:
    """The live version of each collection that has one."""
    if isinstance(store, MongoStore):
        return versions_of(store.release())
    return {name: version for name in store.collections() if (version := store.live(name))}


def release_set(store: MongoStore, content: Mapping[str, Any]) -> tuple[int, bool]:
    """Record a set of versions, once, and show it; return its number, and whether services see it.

    They see it unless a version of a later bizdate is live: the set is then only kept, for a rollback.

    Args:
        store: the store.
        content: from `release_of`.
    """
    while True:
        current = store.release()
        if current and content_of(current) == content:
            store.follow()  # a switch may have been interrupted
            return int(current["number"]), True
        if any(bizdate_of(version) > content["bizdate"] for version in versions_of(current).values()):
            store.follow()
            known = [each["number"] for each in store.releases() if content_of(each) == content]
            return known[0] if known else store.add_release(content), False
        if number := store.put_release(content, current):
            return number, True


def sets(store: Store) -> dict[str, dict[str, str]]:
    """The newest set of each bizdate that is wholly kept and has a version of every live collection, by bizdate.

    In MongoDB these are released sets; in a store without releases, the last versions of the collections.
    """
    live, kept = live_set(store), {name: store.versions(name) for name in store.collections()}
    if isinstance(store, MongoStore):
        found = [versions_of(each) for each in reversed(store.releases()) if "mixture" not in each]
    else:
        days = sorted({bizdate_of(version) for versions in kept.values() for version in versions})
        found = [{name: each for name in live for each in kept[name] if bizdate_of(each) == day} for day in days]
    whole = [each for each in found if each.keys() >= live.keys() and _all_kept(each, kept)]
    return {bizdate_of(next(iter(each.values()))): each for each in whole}


def _all_kept(versions: Mapping[str, str], kept: Mapping[str, Sequence[str]]) -> bool:
    return bool(versions) and all(version in kept.get(name, ()) for name, version in versions.items())
