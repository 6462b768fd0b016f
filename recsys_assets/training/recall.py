"""Training of any two-tower model of the catalogue, and the vectors that it gives.

It learns from the train rows, stops early on validation queries (one per user: the history is all train rows, the
right answers are the validation positives), and then takes one pass over the validation rows. With the same seed,
device and number of threads, a run repeats bit by bit on a CPU.

Inside `distributed.process_group` all processes train one model together: each has all events, draws the same batches
and negatives, and computes the loss of its rows of every batch.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from recsys_assets.arrays import Bools, Ints, Vectors
from recsys_assets.datasets.splits import PARTS
from recsys_assets.declined import NothingToLearn
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.metrics import auc, defined_metrics
from recsys_assets.models.catalogue import TOWERS, build_towers, entry, features_for
from recsys_assets.models.config import ConfigError, NoSettings, RecallTraining
from recsys_assets.models.towers import Batch, TwoTower
from recsys_assets.retrieval.interactions import Interactions, Queries, queries
from recsys_assets.retrieval.lists import Lists, evaluate, recommend
from recsys_assets.retrieval.weighted_items import WeightedItems
from recsys_assets.training import tower_data
from recsys_assets.training.distributed import device_of_choice, make_parallel, processes, rank
from recsys_assets.training.draws import Draws
from recsys_assets.training.loop import Fitted, Judge, Losses, OnEpoch, run, run_last_pass, seeding
from recsys_assets.training.tower_data import TowerData, event_batches, load, targets_of, window_batches
from recsys_assets.training.warm_start import Start, continue_from

VALIDATION_K = 20
LOSS = "train_loss"


@dataclass(frozen=True)
class Source:
    """The training data of two-tower models.

    Attributes:
        interactions: the events, with the parts that say which of them train and validate.
        users, items: tables with the keys and the schema's features.
        filter_seen: whether validation lists leave out the items of the history.
        weights: `negative_items`, from which negatives are drawn if the setting `negatives` says so.
        preferences: the items' ids and vectors (I, D) that another model gave, for one that is to start from them.
    """

    interactions: Interactions
    users: pa.Table
    items: pa.Table
    filter_seen: bool = True
    weights: WeightedItems | None = None
    preferences: tuple[pa.Array, Vectors] | None = None


def fit(
    model_name: str,
    schema: FeatureSchema,
    source: Source,
    config: Any,
    training: RecallTraining | NoSettings,
    seed: int,
    on_epoch: OnEpoch | None = None,
    start: Start | None = None,
) -> Fitted:
    """Train until the validation metric no longer rises, keep the best epoch and train it on the validation rows once.

    The metric is NDCG@20 of the validation queries; for a model that learns labels, it is the AUC of the validation
    rows if these have both classes. `config` and `training` come from `configure`; `on_epoch` is called after each
    epoch with its number from 0 and its metrics; training continues from `start`, a checkpoint, if it is given. A model
    with a `solver` has one epoch, in which its weights are computed.

    Raises:
        CheckpointMismatch: the checkpoint does not fit.
        NothingToLearn, SchemaError, UnknownModel: the input cannot be trained on.
        ConfigError: the settings want preference vectors that the source lacks, or that have another width.
        TrainingDiverged: the loss became NaN or infinite.
    """
    schema, solve = features_for(model_name, schema), entry(model_name, TOWERS).solve
    if solve:
        schema = _with_items(schema, source.interactions.before("test"))
    with seeding(seed):
        model = build_towers(model_name, schema, config).to(device_of_choice())
        data = load(model, source.interactions, source.users, source.items)
        asked = queries(source.interactions, "validation", source.filter_seen)
        if not len(asked):
            raise NothingToLearn("no user has a new positive in the validation part: land more days, or widen it")
        fitted = Fitted(model_name, model, config, schema, training, seed)
        fitted.metric = metric_of(model, source.interactions)
        judge = partial(_validation_metrics, data=data, asked=asked, filter_seen=source.filter_seen)
        if start:
            continue_from(fitted, start)
        learn = solve or _train
        learn(fitted, source, data, judge, on_epoch)
    return fitted


def _with_items(schema: FeatureSchema, log: Interactions) -> FeatureSchema:
    """The schema with the ids of all items that have an event in a log: a solver gives vectors to them all.

    The vocabulary is of train rows alone. By ColdRec's protocol on MovieLens 1M, 14 of 2,957 items have events in
    validation rows only. With the raised vectors of cold items, the NDCG@20 on warm items was .2494 instead of .2762.
    """
    touched = log.item_ids[log.item_counts > 0].tolist()
    return schema.with_vocabulary("item_id", lambda feature: sorted({*feature.vocabulary, *touched}))


def _train(fitted: Fitted, source: Source, data: TowerData, judge: Judge, on_epoch: OnEpoch | None) -> None:
    """Train in steps, and keep the best epoch."""
    model, training = two_tower(fitted), fitted.training
    train, validation = (targets_of(data, part, model.labelled) for part in ("train", "validation"))
    give_preferences(fitted, source)
    objective = make_parallel(Objective(model), same_weights=False)
    losses = partial(_losses, fitted, data, Draws(training, data, source.weights), objective)
    run(fitted, partial(losses, train), judge, fitted.metric, LOSS, on_epoch)
    if training.last_rate:
        run_last_pass(fitted, losses(validation, epoch=0))


def give_preferences(fitted: Fitted, source: Source) -> None:
    """Give a model whose settings name `preferences` the source's vectors; an item without one gets zeros.

    Raises:
        ConfigError: the source has none, or they have another width than the model's.
    """
    if not (wanted := getattr(fitted.config, "preferences", "")):
        return
    if source.preferences is None:
        name = fitted.model_name
        raise ConfigError(f"{name}: model.preferences = {wanted!r}: only `recall_{name}` reads them")
    (ids, vectors), model = source.preferences, two_tower(fitted)
    vocabulary = pa.array(tower_data.item_vocabulary(model))
    place = pc.fill_null(pc.index_in(vocabulary, value_set=ids.cast(vocabulary.type)), -1).to_numpy()
    found = np.where(place[:, None] >= 0, vectors[place], 0).astype(np.float32)  # (V, D)
    model.take_preferences(torch.from_numpy(np.concatenate([np.zeros((1, found.shape[1]), np.float32), found])))


def two_tower(fitted: Fitted) -> TwoTower:
    """The model in the result of `fit` or `checkpoint.load`.

    Raises:
        TypeError: it is a ranking model.
    """
    if not isinstance(fitted.model, TwoTower):
        raise TypeError(f"{fitted.model_name} is not a two-tower model")
    return fitted.model


def kept_metrics(fitted: Fitted, source: Source) -> dict[str, float]:
    """Metrics of the kept epoch; with the test AUC if the model learns labels and the rows have both classes."""
    model = two_tower(fitted)
    found = {name: value for name, value in fitted.best.items() if name != LOSS}
    if not model.labelled:
        return found
    data = load(model, source.interactions, source.users, source.items)
    return found | defined_metrics({"test_auc": lambda: auc_of(model, data, "test")})[0]


def metric_of(model: TwoTower, interactions: Interactions) -> str:
    """The validation metric that decides which epoch is kept."""
    labels = interactions.labels[interactions.parts == PARTS.index("validation")]
    by_labels = model.labelled and 0 < labels.sum() < len(labels)
    return "validation_auc" if by_labels else f"validation_ndcg@{VALIDATION_K}"


def user_vectors(model: TwoTower, data: TowerData, users: Ints, starts: Ints, ends: Ints, batch: int = 64) -> Vectors:
    """Vectors (N, D) of users (by number) whose histories are the events `[start, end)`."""
    model.eval()
    # Users with histories of similar length share a batch; otherwise all are padded to the longest one.
    order = np.argsort(ends - starts, kind="stable")
    parts = []
    with torch.inference_mode():
        for first in range(0, len(order), batch):
            rows = order[first : first + batch]
            indices = data.user_indices(users[rows], starts[rows], ends[rows], model.history)
            parts.append(model.user(indices).cpu().numpy())
    found: Vectors = np.concatenate(parts)
    return found[np.argsort(order, kind="stable")]  # (N, D), in the order of `users`


def item_vectors(model: TwoTower, indices: Tensor) -> Vectors:
    """Vectors (N, D) of items, from their features' indices."""
    model.eval()
    with torch.inference_mode():
        found: Vectors = torch.cat([model.item(part) for part in torch.split(indices, 16384)]).cpu().numpy()
    return found


def lists(model: TwoTower, data: TowerData, asked: Queries, k: int, filter_seen: bool) -> Lists:
    """The k best items for each query by the inner product of the towers, among the items that it gives vectors to."""
    users = user_vectors(model, data, asked.users, asked.starts, asked.ends)
    items = item_vectors(model, data.items)
    known = (data.token_of > 0) | model.cold

    def score(block: slice) -> Vectors:
        scores = np.full((len(users[block]), len(known)), -np.inf, np.float32)
        scores[:, known] = users[block] @ items[known].T
        return scores

    return recommend(score, data.interactions, asked, k, filter_seen)


def auc_of(model: TwoTower, data: TowerData, part: str) -> float:
    """AUC of the inner products over all rows of a part, each with the history before it.

    Raises:
        OnlyOneClass: the part has one class only.
    """
    events = data.interactions
    rows = np.flatnonzero(events.parts == PARTS.index(part))
    users = user_vectors(model, data, events.users[rows], np.searchsorted(events.users, events.users[rows]), rows)
    scores = np.einsum("nd,nd->n", users, item_vectors(model, data.items)[events.items[rows]])
    return auc(events.labels[rows], scores)


class Objective(nn.Module):
    """The loss of a two-tower model as a module's output, from which processes that train together start."""

    def __init__(self, model: TwoTower) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss of a batch, a scalar."""
        return self.model.loss(batch)


def _losses(fitted: Fitted, data: TowerData, draws: Draws, objective: nn.Module, wanted: Bools, epoch: int) -> Losses:
    """Loss and number of targets of each batch of one pass over the wanted events, in the epoch's own order.

    With several processes, each gives the loss of its share, scaled so that the mean over the processes is the mean
    over the targets of the batch.
    """
    model, rng = two_tower(fitted), np.random.default_rng([fitted.seed, epoch])
    batches = window_batches if model.sequential else event_batches
    for batch in batches(data, wanted, model.history, fitted.training.batch, rng):
        own, weight = _share(replace(batch, negatives=draws.negatives(batch, rng)))
        yield objective(own) * weight, batch.size


def _share(batch: Batch) -> tuple[Batch, float]:
    """This process's rows of a batch, and the factor of their loss; of fewer rows than processes, each takes all."""
    if processes() == 1 or len(batch.users) < processes():
        return batch, 1.0
    columns = (batch.users, batch.targets, batch.labels)
    users, targets, labels = (column.tensor_split(processes())[rank()] for column in columns)
    own = replace(batch, users=users, targets=targets, labels=labels)
    return own, own.size * processes() / batch.size


def _validation_metrics(model: TwoTower, data: TowerData, asked: Queries, filter_seen: bool) -> dict[str, float]:
    """Validation metrics: those of the lists, and the AUC of a model that learns labels."""
    found = evaluate(lists(model, data, asked, VALIDATION_K, filter_seen).items, asked, [VALIDATION_K])
    metrics = {f"validation_{name}": found[name] for name in (f"ndcg@{VALIDATION_K}", f"recall@{VALIDATION_K}")}
    if not model.labelled:
        return metrics
    return metrics | defined_metrics({"validation_auc": lambda: auc_of(model, data, "validation")})[0]
