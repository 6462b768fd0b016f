"""Release: one set of versions of all collections of a store, verified against the lake, that a service can pin."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.publish.collections import families, publication
from recsys_assets.assets.reports import show
from recsys_assets.coldstart.choice import serving_model
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.scoring import open_champion
from recsys_assets.funnel.served import SERVED, describe_served, served_partitions
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset, LakeStore, Stores
from recsys_assets.stores.collections import Collection
from recsys_assets.stores.consistency import COMPARED_USERS, STORE_TOLERANCE, Pinned, compare_with_lake
from recsys_assets.stores.gate import CHAMPION_ASSET, pass_gate
from recsys_assets.stores.live_sets import release_of, release_set
from recsys_assets.stores.registry import STORES
from recsys_assets.stores.store import ReleaseStore, Store

RELEASE = "release.json"
MATCHES = Check(
    "store_matches_lake",
    f"for {COMPARED_USERS} users and all items, the store gives back what was computed, and the champion's scores "
    f"are the same, within {STORE_TOLERANCE}",
)


RELEASE_TEXT = """The day's versions of all {title} collections and the champion: the set that services see from now on.

It is first compared with the lake: features, vectors, lists, and the champion's scores of pairs. Then the record
`current` in the collection `_releases` names it, in one step, and the plain names follow; no collection goes live
in any other way. It also names every file of the lake that the online service reads, with its hash, and the
model of fresh items. While a set of a
later bizdate is live, this one is only kept, for `recsys rollback`."""


def release_asset(store: str, family: Mapping[str, Collection]) -> LakeAsset:
    """The asset of the releases of a store, which hold the collections of its family."""
    reads = sorted({asset for collection in family.values() for asset in collection.reads})

    @lake_asset(
        name=f"{store}_release",
        description=RELEASE_TEXT.format(title=STORES[store].title),
        ins={asset: dg.AssetIn() for asset in (*(f"{store}_{name}" for name in family), *reads)},
        # The service's own partitions are only named, whichever are there.
        deps=[CHAMPION_ASSET, *(asset for asset in SERVED if asset not in {*reads, CHAMPION_ASSET})],
        kinds={STORES[store].kind, "onnx"},
        checks=[MATCHES],
        tolerates_declined=True,
    )
    def release(output: Output, lake: LakeStore, dataset: Dataset, stores: Stores, **read: Partition) -> None:
        profile, day = dataset.load(), output.manifest.bizdate
        made = {name: collection for name, collection in family.items() if f"{store}_{name}" in read}
        published = {name: publication(read[f"{store}_{name}"]) for name in made}
        sources = [partition.manifest for partition in read.values()]
        champion = pass_gate(lake.lake, day, sources)
        scorer, models = open_champion(lake.lake, champion) if champion else (None, [])
        served = served_partitions(lake.lake, day)
        output.add_inputs([*models, *served])
        with stores.open(store) as opened:
            pinned = Pinned(opened, {name: each["version"] for name, each in published.items()})
            tables = {name: collection.table(profile, read) for name, collection in made.items()}
            _record_comparison(output, *compare_with_lake(pinned, tables, scorer, profile.features.affinity))
            named = ("model", "bizdate", "path", "sha256")
            chosen = {name: getattr(champion, name) for name in named} if champion else None
            fresh = serving_model(profile, lake.lake, day)
            content = release_of(published, chosen, describe_served(served)) | {"fresh": asdict(fresh)}
            output.write_json(RELEASE, content)
            output.publish()
            pass_gate(lake.lake, day, sources)
            output.metadata["release"] = _release(output, opened, content)
            output.metadata["fresh items"] = f"{fresh.model}, because {fresh.because}"

    return release


def _record_comparison(output: Output, counts: Mapping[str, tuple[int, int]], scores: Mapping[str, float]) -> None:
    """Record the check, the metrics, and one row per collection for the UI."""
    compared, differing = map(sum, zip(*counts.values(), strict=True))
    passed = differing == 0 and scores["max_score_difference"] <= STORE_TOLERANCE
    output.manifest.metrics = {"rows_compared": float(compared), "rows_differing": float(differing), **scores}
    output.check(MATCHES.name, passed, rows=compared, differing=differing, **scores)
    rows = [(name, *each) for name, each in counts.items()]
    output.metadata["compared with the lake"] = show.table(["collection", "rows", "differing"], rows)


def _release(output: Output, store: Store, content: Mapping[str, Any]) -> str:
    """Release the set if it equals the lake; return the outcome."""
    if output.manifest.failed_checks:
        return "not released: the store does not hold what the lake does"
    if not isinstance(store, ReleaseStore):
        raise TypeError(f"{store} has no releases")
    number, is_live = release_set(store, content)
    return f"{number}, of {content['bizdate']}" + ("" if is_live else ": kept, because a later bizdate is live")


def release_assets(profile: Profile) -> list[LakeAsset]:
    """The assets of releases of every store that is in use and has them."""
    return [release_asset(store, family) for store, family in families(profile).items() if STORES[store].has_releases]
