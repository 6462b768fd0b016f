"""Training and evaluation of one model on the samples of a pipeline, with the trainers of the assets."""

from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import number_values
from recsys_assets.metrics import ranker_metrics
from recsys_assets.retrieval import weighted_items
from recsys_assets.retrieval.interactions import Interactions, histories, queries
from recsys_assets.retrieval.lists import CUTOFFS, evaluate
from recsys_assets.retrieval.negatives import popularity
from recsys_assets.retrieval.raw_users import raw_users
from recsys_assets.retrieval.weighted_items import WeightedItems, integer_ids
from recsys_assets.tzrec.model_folder import HISTORIES, new_checkpoint
from recsys_assets.tzrec.pipeline import Pipeline
from recsys_assets.tzrec.samples import rank_samples, recall_samples
from recsys_assets.tzrec.shares import Share

if TYPE_CHECKING:
    from recsys_assets.training.loop import Fitted, OnEpoch
    from recsys_assets.training.recall import Source

Metrics = dict[str, dict[str, float]]  # of the validation rows and of the eval rows


def train_ranker(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, place: Path, share: Share) -> Metrics:
    """Train a ranking model and save it; `place` is a folder for the samples.

    Processes train a network together, on the same batches as one process.

    Raises:
        LabelError, OneClass, SchemaError, UnusableTables: the rows cannot be trained on.
        TrainingDiverged: the loss became NaN or infinite.
    """
    from recsys_assets.training import data, rankers

    samples = rank_samples(connection, pipeline, place, share.say)
    train, validation, test = samples.parts.values()
    seed, on_epoch = pipeline.form.seed, _on_epoch(share)
    ranker = rankers.fit(pipeline.model, samples.schema, train, validation, *pipeline.settings, seed, on_epoch)
    if not share.is_first:
        return {}
    with new_checkpoint(pipeline) as folder:
        ranker.save(folder)
    rows, labels = data.encode_rows(ranker.fitted.schema, test)
    has_users = "user_id" in pq.read_schema(test).names
    users = number_values(pq.read_table(test, columns=["user_id"])["user_id"])[1] if has_users else None
    found, absent = ranker_metrics(labels, ranker.predict(rows), users)
    for metric, reason in absent.items():
        share.say(f"no {metric}: {reason}")
    return {"validation": ranker.fitted.best, "eval": found}


def train_towers(connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, place: Path, share: Share) -> Metrics:
    """Train a two-tower model and save it with the users' histories; `place` is a folder for the samples.

    Processes train it together, on the same batches as one process.

    Raises:
        NothingToLearn, SchemaError, UnusableTables: the rows cannot be trained on.
        TrainingDiverged: the loss became NaN or infinite.
    """
    from recsys_assets.training import checkpoint, recall

    samples = recall_samples(connection, pipeline, place, share.say)
    filter_seen = pipeline.form.data_config.filter_seen
    weights = _weights(pipeline, samples.interactions)
    source = recall.Source(samples.interactions, samples.users, samples.items, filter_seen, weights)
    seed, on_epoch = pipeline.form.seed, _on_epoch(share)
    fitted = recall.fit(pipeline.model, samples.schema, source, *pipeline.settings, seed, on_epoch)
    if not share.is_first:
        return {}
    with new_checkpoint(pipeline) as folder:
        checkpoint.save(folder, fitted)
        pq.write_table(_histories(fitted, source), folder / HISTORIES, compression="zstd")
    return {"validation": fitted.best, "eval": _evaluate(fitted, source, share)}


def _weights(pipeline: Pipeline, interactions: Interactions) -> WeightedItems:
    """The weights by which negatives are drawn: those of the sampler's table, or by the items' events, as the asset."""
    if sampler := pipeline.form.data_config.negative_sampler:
        return weighted_items.read(Path(sampler.input_path), pa.schema([]))
    counts = interactions.before("test").item_counts
    return WeightedItems(integer_ids(pa.array(interactions.item_ids), True), popularity(counts), pa.table({}))


def _histories(fitted: "Fitted", source: "Source") -> pa.Table:
    """`user_id`, and as `history` the newest items of the rows before the eval rows, oldest first."""
    from recsys_assets.training.recall import two_tower

    events = source.interactions
    starts, ends = histories(events, "test")
    touched = np.flatnonzero(ends > starts)
    length = two_tower(fitted).history
    return raw_users(length, events, source.users.select(["user_id"]), touched, starts[touched], ends[touched])


def _evaluate(fitted: "Fitted", source: "Source", share: Share) -> dict[str, float]:
    """Metrics of the lists for the users of the eval rows, whose right items are their positives there."""
    from recsys_assets.training import recall, tower_data

    model, kept = recall.two_tower(fitted), recall.kept_metrics(fitted, source)
    of_labels = {"auc": kept["test_auc"]} if "test_auc" in kept else {}
    asked = queries(source.interactions, "test", source.filter_seen)
    if not len(asked):
        share.say("no user of the eval rows has a positive: there is no hit rate")
        return of_labels
    data = tower_data.load(model, source.interactions, source.users, source.items)
    lists = recall.lists(model, data, asked, max(CUTOFFS), source.filter_seen)
    return of_labels | evaluate(lists.items, asked)


def _on_epoch(share: Share) -> "OnEpoch":
    """Prints a line for each epoch."""

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        share.say(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    return on_epoch
