"""Sets of versions: what is live now, what a release of it says, and remarks when it is not one set.

A set holds a version of every collection, all of one bizdate. It goes live as a whole, and replaces a set of a later
bizdate only when somebody rolls back. A mixture of bizdates is live only after somebody has rolled back a single
collection, or while a switch is under way or interrupted: `remarks` reports it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recsys_assets.stores.store import ReleaseStore, Store, bizdate_of


def release_of(
    collections: Mapping[str, Mapping[str, Any]],
    champion: Mapping[str, Any] | None,
    served: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The content of a release of these versions: its bizdate is their newest one, and a mixture lists all of them.

    Args:
        collections: version and rows of each collection, by name.
        champion: the ranking model that belongs to them.
        served: the partitions of the lake that an online service reads, from `funnel.served.describe_served`.
    """
    days = sorted({bizdate_of(each["version"]) for each in collections.values()})
    content = {"bizdate": days[-1] if days else None, "collections": dict(collections), "champion": champion}
    return content | ({"mixture": days} if len(days) > 1 else {}) | ({"served": dict(served)} if served else {})


def content_of(release: Mapping[str, Any]) -> dict[str, Any]:
    """A release without its number."""
    return {key: value for key, value in release.items() if key != "number"}


def versions_of(release: Mapping[str, Any] | None) -> dict[str, str]:
    """The version of each collection that a release names."""
    return {name: each["version"] for name, each in (release or {}).get("collections", {}).items()}


def current_release(store: Store) -> dict[str, Any] | None:
    """The release that services follow; None if there is none, and for a store without releases."""
    return store.release() if isinstance(store, ReleaseStore) else None


def live_set(store: Store) -> dict[str, str]:
    """The live version of each collection that has one."""
    if isinstance(store, ReleaseStore):
        return versions_of(store.release())
    return {name: version for name in store.collections() if (version := store.live_version(name))}


def release_set(store: ReleaseStore, content: Mapping[str, Any]) -> tuple[int, bool]:
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

    In a store with releases these are released sets; in a store without releases, the last versions of the collections.
    """
    live, kept = live_set(store), {name: store.versions(name) for name in store.collections()}
    if isinstance(store, ReleaseStore):
        found = [versions_of(each) for each in reversed(store.releases()) if "mixture" not in each]
    else:
        days = sorted({bizdate_of(version) for versions in kept.values() for version in versions})
        found = [{name: each for name in live for each in kept[name] if bizdate_of(each) == day} for day in days]
    whole = [each for each in found if each.keys() >= live.keys() and _is_kept(each, kept)]
    return {bizdate_of(next(iter(each.values()))): each for each in whole}


def remarks(name: str, store: Store) -> Iterator[str]:
    """Sentences on what services see in a store, if it is not one set of one bizdate, or a later set is waiting.

    Args:
        name: the store's name, with which its assets' names begin.
        store: the store.
    """
    live = live_set(store)
    days = sorted({bizdate_of(version) for version in live.values()})
    if len(days) > 1:
        odd = [f"{each} of {bizdate_of(version)}" for each, version in sorted(live.items()) if days[-1] not in version]
        yield (
            f"{name}: the live set is a mixture of bizdates, {', '.join(odd)} and the rest of {days[-1]}: "
            f"`recsys rollback --all --to {days[0]}` makes it one"
        )
    shown = store.shown_versions() if isinstance(store, ReleaseStore) else live
    if behind := sorted(each for each in live.keys() | shown.keys() if live.get(each) != shown.get(each)):
        said = ", ".join(f"{each} ({shown.get(each, 'nothing')})" for each in behind)
        how = f": `recsys rollback --all --to {days[0]}` completes it" if days else ""
        yield f"{name}: a switch was interrupted, and some plain names do not show what is live: {said}{how}"
    yield from _remarks_on_waiting(name, store, days[-1] if days else "")


def _is_kept(versions: Mapping[str, str], kept: Mapping[str, Sequence[str]]) -> bool:
    return bool(versions) and all(version in kept.get(name, ()) for name, version in versions.items())


def _remarks_on_waiting(name: str, store: Store, newest: str) -> Iterator[str]:
    """Remarks on the bizdates after the newest live one for which something is written."""
    days: dict[str, set[str]] = {}
    collections = store.collections()
    for collection in collections:
        for version in store.versions(collection):
            days.setdefault(bizdate_of(version), set()).add(collection)
    for day, written in sorted(days.items()):
        if day > newest:
            missing = [f"{name}_{each}" for each in collections if each not in written]
            lacks = f"{len(written)} of {len(collections)} collections; {', '.join(missing)} are missing"
            what = lacks if missing else "every collection"
            whole = f"+{name}_release" if isinstance(store, ReleaseStore) else " ".join(f"+{each}" for each in missing)
            how = f": `recsys materialize '{whole}' --bizdate {day}` shows it" if whole else ""
            yield f"{name}: {day} is written but not live, {what}{how}"
