"""Remarks on the live set of a store: that it is a mixture of bizdates, or that a later set is waiting."""

from collections.abc import Iterator

from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.release import live_set
from recsys_assets.stores.store import Store, bizdate_of


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
    shown = store.shown() if isinstance(store, MongoStore) else live
    if behind := sorted(each for each in live.keys() | shown.keys() if live.get(each) != shown.get(each)):
        said = ", ".join(f"{each} ({shown.get(each, 'nothing')})" for each in behind)
        how = f": `recsys rollback --all --to {days[0]}` completes it" if days else ""
        yield f"{name}: a switch was interrupted, and some plain names do not show what is live: {said}{how}"
    yield from _waiting(name, store, days[-1] if days else "")


def _waiting(name: str, store: Store, newest: str) -> Iterator[str]:
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
            whole = f"+{name}_release" if isinstance(store, MongoStore) else " ".join(f"+{each}" for each in missing)
            how = f": `recsys materialize '{whole}' --bizdate {day}` shows it" if whole else ""
            yield f"{name}: {day} is written but not live, {what}{how}"
