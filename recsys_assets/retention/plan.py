"""Which partitions of old bizdates nothing needs any more.

Days of events stay for ever, because every later bizdate is built from them. Besides the newest bizdates there stay the
newest sound partition of every asset, from which trainings continue and settings are taken; what the kept versions of
every store were made from, so that each can be served or rolled back to; and whatever a partition that stays was made
from. Earlier partitions that it extends (`Manifest.extended`) stay alone, without what they were made from.
"""

import datetime as dt
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from recsys_assets.lake import Lake
from recsys_assets.manifest import DAILY, Manifest
from recsys_assets.stores.live_sets import versions_of
from recsys_assets.stores.registry import open_store, stores_in_use
from recsys_assets.stores.store import ReleaseStore, Store, bizdate_of


@dataclass(frozen=True)
class Old:
    """Partitions that can go.

    Attributes:
        before: the first bizdate that is kept whatever it holds; empty if the lake is empty.
        partitions: asset and bizdate of each partition that can go, in order.
    """

    before: str
    partitions: list[tuple[str, str]]


def find_old(lake: Lake, keep_days: int, busy: Set[str]) -> Old:
    """Partitions of bizdates before the newest `keep_days` calendar days of the lake that nothing needs.

    Args:
        lake: the lake.
        keep_days: how many days up to the newest bizdate are kept whole.
        busy: bizdates that runs are working on.
    """
    there = lake.partitions()
    if not there:
        return Old("", [])
    newest = dt.date.fromisoformat(max(day for _, day in there))
    before = (newest - dt.timedelta(days=keep_days - 1)).isoformat()
    manifests = lake.manifests(f"{asset}/{day}" for asset, day in there)
    kept = {name for name, each in manifests.items() if each.bizdate >= before or each.bizdate in busy}
    kept |= _newest_sound(manifests.values()) | _served(lake, manifests.keys())
    kept |= {
        name
        for made in kept
        if made in manifests
        for name in manifests[made].upstream.keys() - manifests[made].extended
    }
    kept = _with_inputs(kept, manifests)
    kept |= {name for made in kept if made in manifests for name in manifests[made].extended}
    old = [(asset, day) for asset, day in there if day < before and day not in busy and asset not in DAILY]
    return Old(before, [(asset, day) for asset, day in old if f"{asset}/{day}" not in kept])


def _newest_sound(manifests: Iterable[Manifest]) -> set[str]:
    """The newest partition of each asset that others may be built on."""
    newest: dict[str, Manifest] = {}
    for each in manifests:
        if each.is_usable and (each.asset not in newest or newest[each.asset].bizdate < each.bizdate):
            newest[each.asset] = each
    return {each.name for each in newest.values()}


def _with_inputs(kept: set[str], manifests: dict[str, Manifest]) -> set[str]:
    """The partitions and all their inputs, near and far, without which they would be outdated."""
    due = set(kept)
    while due:
        inputs = {
            name
            for each in due
            if each in manifests
            for name in manifests[each].inputs.keys() - manifests[each].extended
        }
        due = inputs - kept
        kept = kept | due
    return kept


def _served(lake: Lake, there: Set[str]) -> set[str]:
    """The partitions of which the versions in the stores were made, and those that their releases name.

    Raises:
        StoreError: a store cannot be asked. Nothing may be removed then.
    """
    found: set[str] = set()
    for name in stores_in_use():
        with open_store(name, lake.profile) as store:
            kept = {each: set(store.versions(each)) for each in store.collections()}
            found |= {f"{name}_{each}/{bizdate_of(version)}" for each, found in kept.items() for version in found}
            found |= set(_released(name, store, kept))
    return found & there


def _released(name: str, store: Store, kept: dict[str, set[str]]) -> Iterator[str]:
    """The partitions that the releases of kept versions name."""
    releases = store.releases() if isinstance(store, ReleaseStore) else []
    current = store.release() if isinstance(store, ReleaseStore) else None
    for release in releases:
        versions = versions_of(release)
        whole = all(version in kept.get(each, ()) for each, version in versions.items())
        if not whole and release != current:
            continue
        yield from (f"{asset}/{release['bizdate']}" for asset in (f"{name}_release", "rank_champion"))
        yield from (each["partition"] for each in release.get("served", {}).get("partitions", ()))
        if champion := release.get("champion"):
            yield from (f"{stage}_{champion['model']}/{champion['bizdate']}" for stage in ("onnx", "rank"))
