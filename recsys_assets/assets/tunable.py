"""The models that can be tuned: for each kind, what its tuners read and how the best trial is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from recsys_assets.assets import funnel_lists, i2i, recall
from recsys_assets.assets.features import SCHEMA
from recsys_assets.assets.lake_asset import Check
from recsys_assets.assets.samples import RANKED_PARTS
from recsys_assets.datasets.classes import require_both_classes
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.funnel.stopwatch import Stopwatch
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import RANKERS, TOWERS
from recsys_assets.retrieval.interactions import queries, read
from recsys_assets.retrieval.lists import Lists
from recsys_assets.tuning.merging import Merging
from recsys_assets.tuning.model_objectives import Ranking, TwoTowers
from recsys_assets.tuning.objectives import ItemToItem, Tuned

Inputs = Mapping[str, Partition]


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        inputs: the assets that its tuners read.
        floor: the check of the best trial's metric on validation rows.
        bound: the value that this metric must reach.
        make: makes the objective from (model, profile, seed, inputs).
    """

    inputs: tuple[str, ...]
    floor: Check
    bound: Callable[[Profile], float]
    make: Callable[[str, Profile, int, Inputs], Tuned]


def _ranking(model: str, _: Profile, seed: int, inputs: Inputs) -> Tuned:
    schema = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
    parts = {part: inputs["rank_samples"].path(f"{part}.parquet") for part in RANKED_PARTS}
    require_both_classes(parts)
    train, validation, test = parts.values()
    return Ranking(model, schema, train, validation, test, seed)


def _two_towers(model: str, profile: Profile, seed: int, inputs: Inputs) -> Tuned:
    schema = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
    return TwoTowers(model, schema, recall.source(profile, inputs), seed)


def _item_to_item(model: str, profile: Profile, _: int, inputs: Inputs) -> Tuned:
    method, interactions = i2i.METHODS[model], read(inputs["recall_samples"].path(ROWS))
    return ItemToItem(method.find, method.config, interactions, profile.recall.filter_seen)


def _merging(_: str, profile: Profile, __: int, inputs: Inputs) -> Tuned:
    events, filter_seen = funnel_lists.events_of(inputs), profile.recall.filter_seen

    @cache  # recall would take most of each trial; lists of 200 items for 6,040 users are 120 MB
    def channels(part: str, k: int) -> dict[str, Lists]:
        asked = queries(events, part, filter_seen, liked=False)
        return funnel_lists.recall(profile, inputs, events, asked, k, Stopwatch())

    return Merging(channels, events, filter_seen)


_AUC_FLOOR = Check("auc_floor", "the best trial's validation AUC reaches bounds.min_auc")
_RECALL_FLOOR = Check("recall_floor", "the best trial's validation recall@20 reaches bounds.min_recall")
_RANK = Kind(("rank_samples", "feature_schema"), _AUC_FLOOR, lambda profile: profile.bounds.min_auc, _ranking)
_RECALL = Kind(recall.INPUTS, _RECALL_FLOOR, lambda profile: profile.bounds.min_recall, _two_towers)
_I2I = Kind(("recall_samples",), _RECALL_FLOOR, lambda profile: profile.bounds.min_recall, _item_to_item)
_NDCG_FLOOR = Check("ndcg_floor", "the best trial's NDCG@50 on test rows reaches bounds.min_recall")
_FUNNEL = Kind(funnel_lists.RECALL_READS, _NDCG_FLOOR, lambda profile: profile.bounds.min_recall, _merging)
MODELS = {
    model: kind
    for models, kind in (
        (RANKERS, _RANK),
        (TOWERS, _RECALL),
        (i2i.METHODS, _I2I),
        (("funnel",), _FUNNEL),
    )
    for model in models
}
