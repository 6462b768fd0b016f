"""Dagster: the asset definitions, one module per group.

Put a new asset into the module of its stage, and its method into a package on a lower layer. `GROUPS` is the registry:
the group's name in the UI, and the modules that define its assets. `assets_of` says which of them a profile has.
"""

from types import ModuleType

import dagster as dg

from recsys_assets.assets import (
    champion,
    embeddings,
    evaluation,
    features,
    funnel,
    hitrate,
    i2i,
    index,
    ingest,
    negatives,
    onnx,
    publish,
    rank,
    recall,
    recall_report,
    release,
    rows,
    samples,
    term,
    tuning,
)
from recsys_assets.datasets.profile import Profile

GROUPS: dict[str, tuple[ModuleType, ...]] = {
    "ingest": (ingest,),
    "samples": (samples, negatives),
    "features": (features,),
    "i2i": (i2i,),
    "recall": (term, recall),
    "embeddings": (embeddings, index),
    "rank": (rank, champion),
    "onnx": (onnx,),
    "tuning": (tuning,),
    "publish": (publish, release),
    "evaluation": (hitrate, recall_report, evaluation, funnel),
}


def assets_of(profile: Profile) -> list[dg.AssetsDefinition]:
    """The assets of the profile's graph.

    A dataset of labelled rows has no `users` and `items`, and its own samples (`rows.py`): assets that depend on a
    missing one, directly or through others, are left out. Stores that are not configured are left out too, and the
    funnel if no rows are kept for its evaluation.
    """
    groups = GROUPS if profile.has_entities else {**GROUPS, "samples": (rows,)}
    loaded = [dg.load_assets_from_modules(modules, group_name=group) for group, modules in groups.items()]
    assets = {asset.key: asset for group in loaded for asset in group if isinstance(asset, dg.AssetsDefinition)}
    if not profile.has_entities:
        del assets[dg.AssetKey("users")], assets[dg.AssetKey("items")]
    for key in publish.unused():
        assets.pop(key, None)
    if not profile.split.has_online:
        del assets[dg.AssetKey("funnel_report")], assets[dg.AssetKey("tune_funnel")]
    while orphans := [key for key, asset in assets.items() if set(asset.dependency_keys) - assets.keys()]:
        for key in orphans:
            del assets[key]
    return list(assets.values())
