"""Release: one set of versions of all MongoDB collections, verified against the lake, that a service can pin."""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import dagster as dg
import pyarrow as pa

from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.publish.collections import families, publication
from recsys_assets.assets.reports import show
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.scoring import open_champion
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset, LakeStore, Stores
from recsys_assets.stores.collections import Collection
from recsys_assets.stores.consistency import TOLERANCE, USERS, Pinned, differences
from recsys_assets.stores.gate import CHAMPION, pass_gate
from recsys_assets.stores.mongo import MongoStore
from recsys_assets.stores.mongo_releases import release_of
from recsys_assets.stores.release import release_set

RELEASE = "release.json"
MATCHES = Check(
    "store_matches_lake",
    f"for {USERS} users and all items, the store gives back what was computed, and the champion's scores "
    f"are the same, within {TOLERANCE}",
)


def release_asset(profile: Profile) -> LakeAsset:
    """The asset `mongo_release` of a profile: it reads all collections, and all that they were made from."""
    collections = families(profile)["mongo"]
    sources = sorted({asset for collection in collections.values() for asset in collection.reads})
    ins = {asset: dg.AssetIn() for asset in (*(f"mongo_{name}" for name in collections), *sources)}
    return lake_asset(ins=ins, deps=[CHAMPION], kinds={"mongodb", "onnx"}, checks=[MATCHES])(mongo_release)


def mongo_release(output: Output, lake: LakeStore, dataset: Dataset, stores: Stores, **read: Partition) -> None:
    """The day's versions of all MongoDB collections and the champion: the set that services see from now on.

    It is first compared with the lake: features, vectors, lists, and the champion's scores of pairs. Then the record
    `current` in the collection `_releases` names it, in one step, and the plain names follow; no collection goes live
    in any other way. While a set of a later bizdate is live, this one is only kept, for `recsys rollback`.
    """
    profile, day = dataset.load(), output.manifest.bizdate
    collections = families(profile)["mongo"]
    published = {name: publication(read[f"mongo_{name}"]) for name in collections}
    sources = [partition.manifest for partition in read.values()]
    champion = pass_gate(lake.lake, day, sources)
    scorer, models = open_champion(lake.lake, champion)
    output.add_inputs(models)
    with stores.open("mongo") as store:
        versions = {name: each["version"] for name, each in published.items()}
        tables = _tables(profile, collections, read)
        _compare(output, collections, *differences(Pinned(store, versions), tables, scorer, profile.features.affinity))
        model = {name: getattr(champion, name) for name in ("model", "bizdate", "path", "sha256")}
        content = release_of(published, model)
        output.write_json(RELEASE, content)
        output.publish()
        pass_gate(lake.lake, day, sources)
        output.metadata["release"] = _released(output, cast(MongoStore, store), content)


def _tables(
    profile: Profile, collections: Mapping[str, Collection], read: Mapping[str, Partition]
) -> dict[str, pa.Table]:
    """The rows of every collection, computed again."""
    return {
        name: collection.table(profile, {asset: read[asset] for asset in collection.reads})
        for name, collection in collections.items()
    }


def _compare(
    output: Output, collections: Iterable[str], counts: Mapping[str, int], scores: Mapping[str, float]
) -> None:
    """Record the check, the metrics, and one row per collection for the UI."""
    compared = sum(counts[f"{name}.rows"] for name in collections)
    differing = sum(counts[f"{name}.differing"] for name in collections)
    passed = differing == 0 and scores["max_score_difference"] <= TOLERANCE
    output.manifest.metrics = {"rows_compared": float(compared), "rows_differing": float(differing), **scores}
    output.check(MATCHES.name, passed, rows=compared, differing=differing, **scores)
    rows = [(name, counts[f"{name}.rows"], counts[f"{name}.differing"]) for name in collections]
    output.metadata["compared with the lake"] = show.table(["collection", "rows", "differing"], rows)


def _released(output: Output, store: MongoStore, content: Mapping[str, Any]) -> str:
    """Show the set if it equals the lake; return the outcome."""
    if output.manifest.failed_checks:
        return "not released: the store does not hold what the lake does"
    number, is_live = release_set(store, content)
    return f"{number}, of {content['bizdate']}" + ("" if is_live else ": kept, because a later bizdate is live")
