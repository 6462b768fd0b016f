"""Dagster: the asset definitions, in a module or folder per stage, and the groups in which the UI shows them.

Put a new asset into the module of its stage and into its group here, and its method into a package on a lower floor.
An asset of a model needs no line here.
"""

from dataclasses import replace

import dagster as dg

from recsys_assets.assets import rank, refit, tuning, warm_start
from recsys_assets.assets.cold_start import report as cold_start
from recsys_assets.assets.cold_start import samples as cold_samples
from recsys_assets.assets.data import event_features, features, ingest, labelled_rows, log_entities, negatives, samples
from recsys_assets.assets.funnel import model as funnel
from recsys_assets.assets.lake_asset import LakeAsset
from recsys_assets.assets.publish import champion, collections, feast, onnx, release, triton
from recsys_assets.assets.publish.deadline import add_deadline
from recsys_assets.assets.publish.serving_parity import REPORT as PARITY_REPORT
from recsys_assets.assets.publish.serving_parity import serving_parity
from recsys_assets.assets.recall import embeddings, i2i, index, term, towers
from recsys_assets.assets.reports import daily, funnel_report, hitrate, rank_report, recall_report
from recsys_assets.datasets.profile import Profile
from recsys_assets.funnel.inputs import TOUCH_ASSETS
from recsys_assets.jobs import ON_DEMAND
from recsys_assets.partitions import daily_partitions
from recsys_assets.reports.day import REPORT
from recsys_assets.stores.registry import stores_in_use


def groups(profile: Profile) -> dict[str, list[LakeAsset]]:
    """The assets by group; some of them may depend on assets that a dataset of labelled rows does not have."""
    return {
        **(_entity_groups(profile) if profile.has_entities else _labelled_row_groups()),
        "features": [
            features.feature_schema,
            cold_samples.feature_boundaries,
            features.factors,
            event_features.event_features,
            features.user_features,
            features.item_features,
        ],
        "i2i": i2i.i2i_assets,
        "recall": [term.recall_term, *towers.recall_assets],
        "embeddings": [*embeddings.embedding_assets, *index.index_assets],
        "rank": [*rank.rank_assets, champion.rank_champion],
        "onnx": onnx.onnx_assets,
        "funnel": [rank.touch_model, funnel.funnel_model],
        "tuning": tuning.tuning_assets,
        "publish": [
            *collections.publish_assets(profile),
            *release.release_assets(profile),
            *triton.triton_assets(),
            *feast.feast_assets(profile),
        ],
        "evaluation": [
            *hitrate.hitrate_assets,
            recall_report.recall_report,
            cold_start.cold_start_report,
            rank_report.rank_report,
            funnel_report.funnel_report,
            daily.daily_report,
        ],
    }


def _entity_groups(profile: Profile) -> dict[str, list[LakeAsset]]:
    """The groups of tables for a dataset of events between users and items."""
    return {
        "ingest": [
            ingest.interactions,
            log_entities.users if profile.needs_log("users") else ingest.users,
            log_entities.items if profile.needs_log("items") else ingest.items,
        ],
        "samples": [
            samples.splits,
            samples.rank_samples,
            *([samples.touch_samples] if profile.touch else []),
            samples.recall_samples,
            cold_samples.cold_start_samples,
            negatives.negative_items,
        ],
    }


def _labelled_row_groups() -> dict[str, list[LakeAsset]]:
    """The groups of tables for a dataset that has no users and items."""
    return {
        "ingest": [ingest.interactions],
        "samples": [labelled_rows.splits, labelled_rows.rank_samples],
    }


def assets_of(profile: Profile) -> list[dg.AssetsDefinition]:
    """The assets of the profile's graph.

    Assets that depend on one that the dataset does not have, directly or through others, are left out. Stores that are
    not configured are left out too, and the funnel if no rows are kept for its evaluation.
    """
    tuning.refuse_untunable(profile)
    warm_start.refuse_unknown(profile)
    bizdate = daily_partitions(profile)
    assets = {
        each.key: add_deadline(_with_own_days(_wanted(each, profile), profile), profile).define(bizdate, group)
        for group, made in groups(profile).items()
        for each in made
    }
    if not profile.split.has_online:
        del assets["funnel_report"]
    while orphans := [name for name, asset in assets.items() if _inputs(asset) - assets.keys()]:
        for name in orphans:
            del assets[name]
    regular = [name for name, asset in assets.items() if asset.group_names_by_key[asset.key] != ON_DEMAND]
    report = daily.of_graph(daily.daily_report, set(regular) - {REPORT})
    assets[REPORT] = report.define(bizdate, "evaluation")
    return list(assets.values())


def _wanted(asset: LakeAsset, profile: Profile) -> LakeAsset:
    """The asset, without a dependency on the touch model if the profile has none: whatever may read it can do without.

    Otherwise the asset would be left out.
    """
    deps = [each for each in asset.settings.get("deps", ()) if profile.touch or each not in TOUCH_ASSETS]
    return replace(asset, settings={**asset.settings, "deps": deps})


def _with_own_days(asset: LakeAsset, profile: Profile) -> LakeAsset:
    """The asset; one whose model continues, or is kept, depends on its earlier days."""
    return refit.add_own_days(warm_start.add_own_days(asset, profile), profile)


def checks_of(assets: list[dg.AssetsDefinition]) -> list[dg.AssetChecksDefinition]:
    """The checks that are steps of their own, and can be run again alone: see `serving_parity.py`."""
    keys = {key.to_user_string() for asset in assets for key in asset.keys}
    reads = [PARITY_REPORT] if PARITY_REPORT in keys else []
    bizdate = assets[0].partitions_def
    stores = [store for store in stores_in_use() if f"{store}_release" in keys]
    return [serving_parity(store, bizdate, reads) for store in stores] if bizdate else []


def _inputs(asset: dg.AssetsDefinition) -> set[str]:
    return {key.to_user_string() for key in asset.dependency_keys}
