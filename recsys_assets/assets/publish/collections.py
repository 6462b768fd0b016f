"""Publish: collections that services read, one asset for each store and collection.

An asset writes a version, which readers do not see yet. The collections of a store go live together, when all of a
bizdate are there: MongoDB's with `mongo_release`, those of any other store with the last of them.

Only what passed the gate is published: the blocking checks of everything that it was built from, and the champion's.
They are read again here, because Dagster enforces a check only in its own run.
"""

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import pyarrow as pa
from filelock import FileLock

from recsys_assets.assets.lake_asset import LakeAsset, lake_asset
from recsys_assets.assets.reports import show
from recsys_assets.datasets.profile import Profile, ProfileError
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.io_managers import Output
from recsys_assets.lake import Lake
from recsys_assets.manifest import GateNotPassed, Partition, PartitionDamaged, PartitionMissing
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.resources import Dataset, LakeStore, Stores
from recsys_assets.settings import settings
from recsys_assets.stores.collections import Collection
from recsys_assets.stores.gate import CHAMPION_ASSET, pass_gate
from recsys_assets.stores.publish import Publication, show_set, stage, version_name
from recsys_assets.stores.registry import STORES, stores_in_use
from recsys_assets.stores.store import Store, bizdate_of

PUBLICATION = "publication.json"
ROWS_FORM = "2"  # of the rows' layout: raise it to make new versions from the same partitions
PREVIEW_LENGTH = 400  # characters of a value in the preview


def collection_asset(store: str, name: str, family: Mapping[str, Collection]) -> LakeAsset:
    """The asset of one collection; the family is all collections of its store, which go live together."""
    collection = family[name]

    @lake_asset(
        name=f"{store}_{name}",
        description=f"{collection.description} Verified after writing; it goes live with its set.",
        ins={asset: dg.AssetIn() for asset in collection.reads},
        deps=[CHAMPION_ASSET],
        kinds={STORES[store].kind},
        tolerates_declined=True,
    )
    def publish(output: Output, lake: LakeStore, dataset: Dataset, stores: Stores, **read: Partition) -> None:
        profile, day = dataset.load(), output.manifest.bizdate
        if needed := [reason for asset, reason in output.without.items() if asset not in collection.optional]:
            raise CannotBeBuilt("; ".join(dict.fromkeys(needed)))
        sources = [partition.manifest for partition in read.values()]
        version = version_name(day, ROWS_FORM, *profile.publishing.entries, *(each.fingerprint for each in sources))
        with stores.open(store) as opened:
            table, start = collection.table(profile, read), time.perf_counter()

            def gate() -> None:
                pass_gate(lake.lake, day, sources)

            done = stage(opened, name, version, table, gate, profile.publishing.keep)
            _record(output, store, done)
            output.metadata |= {
                "rows per second": len(table) / (time.perf_counter() - start),
                "first row": _preview(table),
            }
            output.publish()
            output.metadata["live"] = _show_whole_set(lake.lake, store, family, opened, done)

    return publish


def _record(output: Output, store: str, done: Publication) -> None:
    """Write what was published to `publication.json`; the live version, which depends on the store, is only shown."""
    content = {"store": store, "collection": done.collection, "version": done.version, "rows": done.rows}
    output.write_json(PUBLICATION, content)
    output.manifest.rows = done.rows
    output.metadata |= {"version": done.version, "dropped": done.dropped}


def publication(partition: Partition) -> dict[str, Any]:
    """Version and rows of a published collection."""
    content = json.loads(partition.path(PUBLICATION).read_text(encoding="utf-8"))
    return {key: content[key] for key in ("version", "rows")}


def _show_whole_set(lake: Lake, store: str, family: Iterable[str], opened: Store, done: Publication) -> str:
    """Show the day's set if it is whole and the store has no releases; return whether the version is live.

    Collections of one store are published at the same time. This is called when the lake has this one, so that the
    last call finds all of them.
    """
    day = bizdate_of(done.version)
    if STORES[store].has_releases:
        again = f"`recsys materialize {store}_{done.collection}+ --bizdate {day}`"
        return "yes" if done.live == done.version else f"not before {store}_release shows the whole set: {again}"
    assets = [f"{store}_{name}" for name in family]
    if missing := [asset for asset in assets if not _is_sound(lake, asset, day)]:
        return f"not before its set is whole: {', '.join(missing)} missing"
    read = {name: lake.read(asset, day) for name, asset in zip(family, assets, strict=True)}
    made = {name: each for name, each in read.items() if not each.manifest.declined}
    try:
        pass_gate(lake, day, [partition.manifest for partition in made.values()])
    except GateNotPassed as error:  # one of them is of an earlier run, and about to be published again
        return f"not before its set is whole: {error}"
    versions = {name: publication(each)["version"] for name, each in made.items()}
    with FileLock(settings().data / f".{store}.lock"):  # another day's set may be about to go live
        newest = show_set(opened, versions)
    return "yes" if newest == day else f"no: {newest} is live"


def _preview(table: pa.Table) -> dg.MarkdownMetadataValue:
    rows = [
        (name, str(table.schema.field(name).type), _shorten(table[name][:1].to_pylist())) for name in table.column_names
    ]
    return show.table(["field", "type", "first row"], rows)


def _shorten(first: list[Any]) -> str:
    text = str(*first)
    return text if len(text) <= PREVIEW_LENGTH else f"{text[:PREVIEW_LENGTH]}…"


def families(profile: Profile) -> dict[str, Mapping[str, Collection]]:
    """The collections of every store that is in use.

    Raises:
        ProfileError: the profile names the vectors of a model that does not exist.
    """
    vectors = profile.publishing.vectors
    if vectors not in TOWERS:
        raise ProfileError(f"publishing.vectors: no two-tower model '{vectors}': one of {', '.join(TOWERS)}")
    return {store: STORES[store].collections(list(TOWERS), vectors) for store in stores_in_use()}


def publish_assets(profile: Profile) -> list[LakeAsset]:
    """The assets of all collections of a profile."""
    return [collection_asset(store, name, family) for store, family in families(profile).items() for name in family]


def missing_inputs(profile: Profile, lake: Lake, day: str) -> list[str]:
    """Assets that collections are built from and that the bizdate lacks or failed; their sets stay incomplete."""
    reads = {asset for family in families(profile).values() for made in family.values() for asset in made.reads}
    return sorted(asset for asset in reads if not _is_sound(lake, asset, day))


def _is_sound(lake: Lake, asset: str, day: str) -> bool:
    try:
        return not lake.manifest(asset, day).failed_checks
    except (PartitionMissing, PartitionDamaged):
        return False
