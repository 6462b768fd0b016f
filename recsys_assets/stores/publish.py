"""Publishing: a version is written beside the live one, looked at, and only then shown to readers.

One way for all stores. The gate is asked twice, before anything is written and just before the switch: it may have
closed meanwhile. Nothing here deletes what a reader may still have pinned but the versions that are no longer kept.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_assets.stores.compare import differing
from recsys_assets.stores.release import pinned
from recsys_assets.stores.store import KEY, Store, StoreError, VersionMissing

SAMPLE = 100  # rows that are read back and compared


class VerificationFailed(StoreError):
    """What the store holds is not what was written; the version was removed."""


class NothingToRollBackTo(StoreError):
    """No kept version fits what was asked for; the message lists those that are kept."""


@dataclass(frozen=True)
class Publication:
    """What came of publishing a version.

    Attributes:
        collection, version: what was published.
        rows: of the version.
        live: the version that readers see now; another one, if it is of a later bizdate.
        dropped: versions that are no longer kept.
    """

    collection: str
    version: str
    rows: int
    live: str
    dropped: list[str]


def version_name(bizdate: str, *parts: str) -> str:
    """The name of the version that is made of these parts (fingerprints): the same parts give the same name."""
    return f"{bizdate}.{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:12]}"


def bizdate_of(version: str) -> str:
    """The bizdate in a version's name."""
    return version.partition(".")[0]


def publish(
    store: Store, collection: str, version: str, table: pa.Table, gate: Callable[[], None], keep: int
) -> Publication:
    """Publish a table as a version of a collection; doing so again changes nothing.

    A version of an earlier bizdate than the live one's is written and kept, but does not go live.

    Args:
        store: where to.
        collection: its name.
        version: from `version_name`.
        table: (N rows) with the column `KEY` first.
        gate: raises when the version must not be shown.
        keep: how many versions stay, the newest ones; so do the live one and the one that the current release names.

    Raises:
        VerificationFailed: the store does not give back what was written.
        StoreError: see `Store.write`. And whatever the gate raises: then readers see what they saw before.
    """
    gate()
    store.write(collection, version, table)
    verify(store, collection, version, table)
    gate()
    live = store.live(collection)
    if live is None or bizdate_of(version) >= bizdate_of(live):
        store.go_live(collection, version)
        live = version
    needed = {live, version, pinned(store).get(collection)}
    return Publication(collection, version, len(table), live, _prune(store, collection, needed, keep))


def verify(store: Store, collection: str, version: str, table: pa.Table) -> None:
    """Compare the number of rows, and `SAMPLE` of them spread over the table, with what the store holds.

    Raises:
        VerificationFailed: they differ; the version is gone.
    """
    counted = store.count(collection, version)
    places = np.unique(np.linspace(0, len(table) - 1, min(SAMPLE, len(table))).astype(np.int64))
    sample = table.take(pa.array(places))
    if counted != len(table):
        found = f"holds {counted} rows of {len(table)}"
    elif differing(sample, store.read(collection, sample[KEY].to_pylist(), version)):
        found = f"holds other rows than the {len(sample)} that were compared"
    else:
        return
    store.drop(collection, version)
    raise VerificationFailed(f"{collection} {version}: the store {found}: publish it again")


def roll_back(store: Store, collection: str, to: str | None = None) -> str:
    """Show readers the version before the live one, or the newest one of the bizdate `to`; its name.

    Raises:
        NothingToRollBackTo: it is not among those that are kept.
    """
    version = _earlier(store, collection, to)
    store.go_live(collection, version)
    return version


def roll_back_all(store: Store, to: str | None = None) -> dict[str, str]:
    """Show readers of every collection the version of one bizdate, or of none if one lacks it; the versions' names.

    Args:
        store: where.
        to: the bizdate; by default the newest before the live ones that every collection has.

    Raises:
        NothingToRollBackTo: a collection has no version of it. Then nothing was changed.
    """
    live = {name: version for name in store.collections() if (version := store.live(name))}
    if to is None:
        days = [{bizdate_of(each) for each in store.versions(name)} for name in live]
        earlier = [day for day in set.intersection(*days) if day < min(map(bizdate_of, live.values()))] if days else []
        if not earlier:
            raise NothingToRollBackTo("no earlier bizdate is kept of every collection: name one with --to")
        to = max(earlier)
    versions = {name: _earlier(store, name, to) for name in live}
    for name, version in versions.items():
        store.go_live(name, version)
    return versions


def _earlier(store: Store, collection: str, to: str | None) -> str:
    live, kept = store.live(collection), store.versions(collection)
    if live is None:
        raise VersionMissing(f"{collection} was never published")
    fitting = [each for each in kept if (bizdate_of(each) == to if to else each < live)]
    if not fitting:
        wanted = f"of {to}" if to else f"before {live}"
        raise NothingToRollBackTo(f"{collection} has no version {wanted}: it has {', '.join(kept) or 'none'}")
    return fitting[-1]


def _prune(store: Store, collection: str, needed: set[str | None], keep: int) -> list[str]:
    """Drop all versions but the newest `keep` and those that are needed; their names."""
    kept: Sequence[str] = store.versions(collection)
    dropped = [each for each in kept[: max(len(kept) - keep, 0)] if each not in needed]
    for version in dropped:
        store.drop(collection, version)
    return dropped
