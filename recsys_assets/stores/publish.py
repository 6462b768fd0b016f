"""Publishing: versions are written next to the live ones and verified; a whole set of them is then shown to readers.

All stores publish in this way. The gate (`gate.py`) is checked before anything is written, and again before a set is
shown, as it may have closed meanwhile. A reader's pinned version is deleted only once it is no longer to be kept.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from recsys_assets.stores.compare import count_differing
from recsys_assets.stores.live_sets import live_set, sets
from recsys_assets.stores.store import KEY, Store, StoreError, VersionMissing, bizdate_of

ROWS_READ_BACK = 100  # rows that are read back and compared


class VerificationFailed(StoreError):
    """The store does not hold what was written; the version was removed unless it is live."""


class NothingToRollBackTo(StoreError):
    """No kept version fits what was asked for; the message lists those that are kept."""


@dataclass(frozen=True)
class Publication:
    """The result of publishing a version.

    Attributes:
        collection, version: what was published.
        rows: the number of rows of the version.
        live: the version that readers see now; None if they see none.
        dropped: versions that are no longer kept.
    """

    collection: str
    version: str
    rows: int
    live: str | None
    dropped: list[str]


def version_name(bizdate: str, *parts: str) -> str:
    """The name of the version that is built from these parts (fingerprints): the same parts give the same name."""
    return f"{bizdate}.{hashlib.sha256('/'.join(parts).encode()).hexdigest()[:12]}"


def stage(
    store: Store, collection: str, version: str, table: pa.Table, gate: Callable[[], None], keep: int
) -> Publication:
    """Write a table as a version of a collection and verify it; readers see what they saw before.

    A second call changes nothing.

    Args:
        store: the store to write to.
        collection: its name.
        version: from `version_name`.
        table: (N rows) with the column `KEY` first.
        gate: raises when the version must not be written.
        keep: how many of the newest versions stay; the live one and this one always stay.

    Raises:
        VerificationFailed: the store does not give back what was written.
        StoreError: see `Store.write`. Errors that the gate raises pass through.
    """
    gate()
    store.write(collection, version, table)
    verify(store, collection, version, table)
    live = store.live_version(collection)
    return Publication(collection, version, len(table), live, _prune(store, collection, {live, version}, keep))


def show_set(store: Store, versions: Mapping[str, str]) -> str:
    """Show readers a set of versions, unless the live version of one of its collections is of a later bizdate.

    Args:
        store: the store.
        versions: of one bizdate, by collection.

    Returns:
        The newest bizdate that is live now: that of the set, or the later one that stays.
    """
    live = [version for name in versions if (version := store.live_version(name))]
    newest = max(map(bizdate_of, [*live, *versions.values()]))
    if newest in map(bizdate_of, versions.values()):
        store.switch(versions)
    return newest


def verify(store: Store, collection: str, version: str, table: pa.Table) -> None:
    """Compare the number of rows, and `ROWS_READ_BACK` of them spread over the table, with what the store holds.

    Raises:
        VerificationFailed: they differ. The version is gone, unless readers see it.
    """
    counted = store.count(collection, version)
    places = np.unique(np.linspace(0, len(table) - 1, min(ROWS_READ_BACK, len(table))).astype(np.int64))
    sample = table.take(pa.array(places))
    if counted != len(table):
        found = f"holds {counted} rows of {len(table)}"
    elif count_differing(sample, store.read(collection, sample[KEY].to_pylist(), version)):
        found = f"differs in the {len(sample)} rows that were compared"
    else:
        return
    if store.live_version(collection) == version:
        raise VerificationFailed(
            f"{collection} {version} is live, and the store {found}: `recsys rollback --all`, then publish it again"
        )
    store.drop(collection, version)
    raise VerificationFailed(f"{collection} {version}: the store {found}: publish it again")


def roll_back(store: Store, collection: str, to: str | None = None) -> str:
    """Show readers the version before the live one, or the newest one of the bizdate `to`; return its name.

    The other collections stay as they are: if they are of a different bizdate, the live set is then a mixture.

    Raises:
        NothingToRollBackTo: there is no such version among those that are kept.
    """
    live, kept = store.live_version(collection), store.versions(collection)
    if live is None:
        raise VersionMissing(f"{collection} was never published")
    fitting = [each for each in kept if (bizdate_of(each) == to if to else each < live)]
    if not fitting:
        raise _no_version(collection, kept, f"of {to}" if to else f"before {live}")
    store.go_live(collection, fitting[-1])
    return fitting[-1]


def roll_back_all(stores: Sequence[Store], to: str | None = None) -> list[dict[str, str]]:
    """Show readers of all stores the set of one bizdate; return the versions' names, store by store.

    Args:
        stores: the stores in use; one in which nothing is live is left alone.
        to: the bizdate; by default the newest one, earlier than all live ones, for which every store has a set.

    Raises:
        NothingToRollBackTo: a store has no set of it. Then nothing is changed.
    """
    used = [store for store in stores if live_set(store)]
    if to is None:
        before = min((bizdate_of(each) for store in used for each in live_set(store).values()), default="")
        days = set.intersection(*(set(sets(store)) for store in used)) if used else set()
        to = max((day for day in days if day < before), default=None)
        if to is None:
            raise NothingToRollBackTo("no earlier bizdate is kept for every collection: name one with --to")
    wanted = [_set_of(store, to) for store in used]
    for store, versions in zip(used, wanted, strict=True):
        store.switch(versions)
    found = iter(wanted)
    return [next(found) if store in used else {} for store in stores]


def _set_of(store: Store, bizdate: str) -> dict[str, str]:
    """The set of a bizdate; the error, if there is none, says what is missing."""
    found = sets(store)
    if bizdate in found:
        return found[bizdate]
    for name in live_set(store):
        kept = store.versions(name)
        if bizdate not in map(bizdate_of, kept):
            raise _no_version(name, kept, f"of {bizdate}")
    raise NothingToRollBackTo(
        f"no set of {bizdate} was released: released sets are of {', '.join(found) or 'no bizdate'}"
    )


def _no_version(collection: str, kept: Sequence[str], wanted: str) -> NothingToRollBackTo:
    return NothingToRollBackTo(f"{collection} has no version {wanted}: it has {', '.join(kept) or 'none'}")


def _prune(store: Store, collection: str, needed: set[str | None], keep: int) -> list[str]:
    """Drop all versions but the newest `keep` and those that are needed; return the dropped ones' names."""
    kept: Sequence[str] = store.versions(collection)
    dropped = [each for each in kept[: max(len(kept) - keep, 0)] if each not in needed]
    for version in dropped:
        store.drop(collection, version)
    return dropped
