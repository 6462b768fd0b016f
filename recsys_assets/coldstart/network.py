"""DropoutNet in the comparison of methods: trained without the items that are held out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Doubles
from recsys_assets.coldstart.merge import Score
from recsys_assets.coldstart.stages import Stage
from recsys_assets.datasets.splits import PARTS
from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.catalogue import configure

if TYPE_CHECKING:
    from recsys_assets.training.recall import Source

MODEL = "dropoutnet"


def train(
    schema: FeatureSchema,
    source: "Source",
    stage: Stage,
    network: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
) -> Any:
    """A fitted model that learned from the events of the validation stage; it takes no pass over the validation rows.

    Args:
        schema: the features; of the items' vocabulary only those with a train event are kept.
        source: the tables.
        stage: of validation.
        network: settings of the network that differ from the defaults.
        training: settings of the training that differ from the defaults.
        seed: of the training.
    """
    from recsys_assets.training import recall

    given = replace(source, interactions=stage.log)
    settings = configure(MODEL, network, {**training, "last_rate": 0.0})
    return recall.fit(MODEL, of_warm_items(schema, stage), given, *settings, seed)


def epochs_of(stage: Stage, steps: int) -> int:
    """The epochs of a training of at most so many steps, but two; no more than the model's own."""
    _, training = configure(MODEL, {}, {})
    log = stage.log
    positives = int(log.labels[log.parts == PARTS.index("train")].sum())
    epochs: int = min(training.epochs, max(2, steps * training.batch // max(1, positives)))
    return epochs


def score_of(fitted: Any, source: "Source", stage: Stage) -> Score:
    """The inner products of the vectors of a stage's queries and of all items."""
    from recsys_assets.training import recall, tower_data

    model, asked = recall.two_tower(fitted), stage.asked
    data = tower_data.load(model, stage.log, source.users, source.items)
    users = recall.user_vectors(model, data, asked.users, asked.starts, asked.ends)
    items = recall.item_vectors(model, data.items).T

    def score(block: slice) -> Doubles:
        found: Doubles = (users[block] @ items).astype(np.float64)
        return found

    return score


def of_warm_items(schema: FeatureSchema, stage: Stage) -> FeatureSchema:
    """The schema without ids of items that have no event before the stage."""
    log = stage.known
    there = pa.array(log.item_ids[log.item_counts > 0])

    def known(feature: Feature) -> list[Any]:
        kept = pc.is_in(feature.keys, value_set=there.cast(feature.keys.type))
        found: list[Any] = feature.keys.filter(kept).to_pylist()
        return found

    return schema.with_vocabulary("item_id", known)
