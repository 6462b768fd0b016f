"""Recall: the two-tower models of a bizdate, one asset and one MLflow run each.

A new two-tower model is a file and a record in `models/` (see `models/catalogue.py`).
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from recsys_assets.arrays import Vectors
from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.data.negatives import NEGATIVE_ITEMS
from recsys_assets.assets.lake_asset import FIRST, Check, LakeAsset, lake_asset
from recsys_assets.assets.model_asset import (
    ModelConfig,
    log_epochs,
    log_training,
    report_unmeasured,
    with_tuned_settings,
)
from recsys_assets.assets.refit import find_kept, take
from recsys_assets.assets.reports import show
from recsys_assets.assets.warm_start import compare, find_start, note_no_comparison
from recsys_assets.checks import check_floor
from recsys_assets.coldstart.boundaries import read_boundaries, with_boundaries
from recsys_assets.datasets.classes import one_class
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import TOWERS, configure, entry
from recsys_assets.models.config import ConfigError
from recsys_assets.ranking.sample_parts import RANKED_PARTS
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.retrieval import embeddings, weighted_items
from recsys_assets.retrieval.interactions import read
from recsys_assets.tracking import Tracking

if TYPE_CHECKING:
    from recsys_assets.training.loop import Fitted, OnEpoch
    from recsys_assets.training.recall import Source
    from recsys_assets.training.warm_start import Start

FLOOR = Check("recall_floor", "the validation recall@20 reaches bounds.min_recall", blocking=False)
INPUTS = ("feature_schema", "negative_items", "users", "items")
BINS = "feature_boundaries"


def recaller(model: str, description: str) -> LakeAsset:
    """The asset of one two-tower model."""

    @lake_asset(
        name=f"recall_{model}",
        description=f"{description} Chosen on validation rows; `hitrate_{model}` judges it on test rows.",
        ins={name: dg.AssetIn(name) for name in inputs_of(model)},
        kinds={"pytorch", "mlflow"},
        pool="training",
        op_tags=FIRST,
        code_version="4.1" if entry(model, TOWERS).solver else "4",  # its vocabulary has all items that it solves for
        checks=[FLOOR],
    )
    def recall(
        context: dg.AssetExecutionContext,
        output: Output,
        config: ModelConfig,
        lake: LakeStore,
        dataset: Dataset,
        tracking: Tracking,
        **inputs: Partition,
    ) -> None:
        profile = dataset.load()
        config = with_tuned_settings(output, lake, profile, model, config)
        settings = configure(model, config.model, config.training)
        data = replace(source(model, profile, inputs), preferences=_preferences(output, lake, model, settings[0]))
        if kept := find_kept(output, lake.lake, profile, {"name": model, **config.model_dump()}):
            _judge(context, output, profile, _take(output, kept), data, inputs[entry(model).samples])
            note_no_comparison(output, profile, model)
            return
        config, start = find_start(output, lake.lake, profile, model, config)
        with log_training(context, output, tracking, model, config):
            train = partial(_train, model, settings, config.seed, data, inputs)
            fitted = train(log_epochs(context, tracking), start)
            _write(output, fitted)
            _judge(context, output, profile, fitted, data, inputs[entry(model).samples])
            compare(output, profile, model, fitted, lambda: train(None, None))
            tracking.log(output.manifest.metrics, output.draft.folder, {})

    return recall


def _train(
    model: str,
    settings: tuple[Any, Any],
    seed: int,
    data: "Source",
    inputs: Mapping[str, Partition],
    on_epoch: "OnEpoch | None",
    start: "Start | None",
) -> "Fitted":
    """Fit on train and validation rows."""
    from recsys_assets.training import recall

    return recall.fit(model, features_of(inputs), data, *settings, seed, on_epoch, start)


def _take(output: Output, kept: Partition) -> "Fitted":
    """Take a kept model."""
    from recsys_assets.training import checkpoint

    take(output, kept)
    return checkpoint.load(output.draft.folder)


def _write(output: Output, fitted: "Fitted") -> None:
    """Write the checkpoint, and show the epochs."""
    from recsys_assets.training import checkpoint, recall

    checkpoint.save(output.draft.folder, fitted)
    # The loss is on a different scale; it is in the log and in MLflow.
    judged = [{name: value for name, value in epoch.items() if name != recall.LOSS} for epoch in fitted.history]
    output.metadata["training"] = show.lines("on validation rows", "epoch", judged)


def _judge(  # noqa: PLR0913, PLR0917 (what is judged, and on what)
    context: dg.AssetExecutionContext,
    output: Output,
    profile: Profile,
    fitted: "Fitted",
    data: "Source",
    samples: Partition,
) -> None:
    """Record the metrics of the epoch that was kept, and check the floor.

    For a model that learns labels, report parts of a single class.
    """
    from recsys_assets.training import recall

    output.manifest.metrics = recall.kept_metrics(fitted, data)
    if recall.two_tower(fitted).labelled:
        rows = pq.read_table(samples.path(ROWS), columns=["label", "timestamp", "part"])
        parts = {part: one_class(rows.filter(pc.equal(rows["part"], part))) for part in RANKED_PARTS}
        report_unmeasured(context, output, {f"{part}_auc": said for part, said in parts.items() if said})
    check_floor(output, FLOOR.name, fitted.best["validation_recall@20"], profile.bounds.min_recall)


def inputs_of(model: str) -> tuple[str, ...]:
    """The assets that a two-tower model is trained on."""
    return (entry(model).samples, *INPUTS, *([BINS] if entry(model).cold else []))


def features_of(inputs: Mapping[str, Partition]) -> FeatureSchema:
    """The feature schema, with the edges of bins if they are among the inputs."""
    schema = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
    return with_boundaries(schema, read_boundaries(inputs[BINS].path(ROWS))) if BINS in inputs else schema


def _preferences(output: Output, lake: LakeStore, model: str, config: Any) -> "tuple[pa.Array, Vectors] | None":
    """The items' vectors of the model that the setting `preferences` names, of the same bizdate; None if it does not.

    Dagster does not know about this input, as it depends on the run's configuration.

    Raises:
        ConfigError: the setting names no other two-tower model.
    """
    wanted = getattr(config, "preferences", "")
    if not wanted:
        return None
    if wanted == model or wanted not in TOWERS:
        others = ", ".join(name for name in TOWERS if name != model)
        raise ConfigError(f"{model}: model.preferences = {wanted!r}: name one of {others}")
    partition = lake.read(f"emb_{wanted}_item", output.manifest.bizdate)
    output.add_inputs([partition])
    return embeddings.read(partition.path(ROWS))


def source(model: str, profile: Profile, inputs: Mapping[str, Partition]) -> "Source":
    """The training data of a two-tower model, from the partitions of `inputs_of`."""
    from recsys_assets.training.recall import Source

    return Source(
        read(inputs[entry(model).samples].path(ROWS)),
        pq.read_table(inputs["users"].path(ROWS)),
        pq.read_table(inputs["items"].path(ROWS)),
        profile.recall.filter_seen,
        weighted_items.read(inputs["negative_items"].path(NEGATIVE_ITEMS), pa.schema([])),
    )


recall_assets = [recaller(name, model.description) for name, model in TOWERS.items()]
