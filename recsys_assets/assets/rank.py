"""Ranking models: one asset per model, trained on `rank_samples` under `feature_schema`.

A new ranker is a file and a record in `models/` (see `models/catalogue.py`). `touch_model` learns something else, from
`touch_samples`, in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from recsys_assets.arrays import number_values
from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
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
from recsys_assets.datasets.classes import require_both_classes
from recsys_assets.datasets.names import DRAW_LOG_RATE, DRAWN
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.row_files import read_columns
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.metrics import calibration, ranker_metrics
from recsys_assets.models.catalogue import RANKERS, configure
from recsys_assets.ranking.correction import CORRECTION, fit_correction, undrawn
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.resources import Dataset, LakeStore
from recsys_assets.tracking import Tracking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recsys_assets.training.loop import OnEpoch
    from recsys_assets.training.rankers import Ranker
    from recsys_assets.training.warm_start import Start

PREDICTIONS = "test_predictions.parquet"
IMPORTANCE = "importance.parquet"
# Columns that the scored rows keep, if they exist.
SCORED_KEYS = ("user_id", "item_id", "timestamp", "seq", "label", DRAWN, DRAW_LOG_RATE)


@dataclass(frozen=True)
class Task:
    """A training: of a model of the catalogue, on the samples whose label it learns.

    Attributes:
        name: of the model in settings and in MLflow.
        asset: its key.
        samples: the key of the asset whose rows it reads.
        model: its name in the catalogue.
    """

    name: str
    asset: str
    samples: str
    model: str


# DeepFM, because the interest is in pairs of ids. On MovieLens 1M it ordered 1,812,000 candidates with an AUC of 0.748,
# and LightGBM, of 400,000 rows, with 0.721.
TOUCH_TASK = Task("touch", "touch_model", "touch_samples", "deepfm")
TOUCH_TEXT = """The probability that a user touches an item, learned from events and drawn items by DeepFM.

Ranking models of such a log learn what is liked among what was touched. The learned order of the funnel reads both."""


def ranker(task: Task, description: str) -> LakeAsset:
    """The asset of one ranking model."""

    @lake_asset(
        name=task.asset,
        description=f"{description} Chosen on validation rows; test rows are scored once, at the end.",
        ins={"samples": dg.AssetIn(task.samples)},
        kinds={RANKERS[task.model].library, "mlflow"},
        code_version="5",
        pool="training",
        checks=[Check("auc_floor", "the validation AUC reaches bounds.min_auc", blocking=False)],
    )
    def rank(
        context: dg.AssetExecutionContext,
        output: Output,
        config: ModelConfig,
        lake: LakeStore,
        dataset: Dataset,
        tracking: Tracking,
        samples: Partition,
        feature_schema: Partition,
    ) -> None:
        profile = dataset.load()
        config = with_tuned_settings(output, lake, profile, task.name, config)
        settings = configure(task.model, config.model, config.training)
        require_both_classes({part: part_files(samples, part) for part in RANKED_PARTS})
        if kept := find_kept(output, lake.lake, profile, {"name": task.name, **config.model_dump()}):
            _judge(context, output, profile, task, _take(output, kept), samples)
            note_no_comparison(output, profile, task.name)
            return
        config, start = find_start(output, lake.lake, profile, task.name, config)
        train = partial(_train, task.model, settings, config.seed, samples, feature_schema)
        with log_training(context, output, tracking, task.name, config):
            ranker = train(log_epochs(context, tracking), start)
            _write(output, ranker)
            plots = _judge(context, output, profile, task, ranker, samples)
            compare(output, profile, task.name, ranker.fitted, lambda: train(None, None).fitted)
            tracking.log(output.manifest.metrics, output.draft.folder, plots)

    return rank


def _train(
    model: str,
    settings: tuple[Any, Any],
    seed: int,
    samples: Partition,
    feature_schema: Partition,
    on_epoch: "OnEpoch | None",
    start: "Start | None",
) -> "Ranker":
    """Fit on train and validation rows."""
    from recsys_assets.training import rankers

    schema = FeatureSchema.read(feature_schema.path(SCHEMA))
    train, validation = (part_files(samples, part) for part in RANKED_PARTS[:2])
    return rankers.fit(model, schema, train, validation, *settings, seed, on_epoch, start)


def _take(output: Output, kept: Partition) -> "Ranker":
    """Take a kept model, without what the day makes of its own test rows."""
    from recsys_assets.training import rankers

    take(output, kept, without=(PREDICTIONS, CORRECTION))
    return rankers.load(output.draft.folder)


def _write(output: Output, ranker: "Ranker") -> None:
    """Write a trained model."""
    ranker.save(output.draft.folder)
    if (importance := ranker.importance()) is not None:
        pq.write_table(importance, output.path(IMPORTANCE))
    output.metadata["training"] = show.lines("training", "epoch", ranker.fitted.history)


def _judge(  # noqa: PLR0913, PLR0917 (what is judged, and on what)
    context: dg.AssetExecutionContext,
    output: Output,
    profile: Profile,
    task: Task,
    ranker: "Ranker",
    samples: Partition,
) -> "dict[str, Figure]":
    """Judge a model on the day's test rows, and correct its probabilities if all negatives are drawn; returns plots."""
    output.manifest.metrics["validation_auc"] = ranker.fitted.best["validation_auc"]
    scored = _score(output, ranker, part_files(samples, RANKED_PARTS[2]))
    plots = _evaluate(context, output, profile, scored)
    drawn = profile.touch if task is TOUCH_TASK else None
    output.metadata["negatives"] = drawn.text if drawn else profile.negatives_text
    if profile.draws_all:
        _correct(output, scored)
    return plots


def _score(output: Output, ranker: "Ranker", test: Sequence[Path]) -> pa.Table:
    """Score the test rows and write them; returns them."""
    from recsys_assets.training import data

    scores = ranker.predict(data.encode_rows(ranker.fitted.schema, test)[0])
    scored = read_columns(test, SCORED_KEYS).append_column("score", pa.array(scores))
    pq.write_table(scored, output.path(PREDICTIONS), compression="zstd")
    output.manifest.rows = scored.num_rows
    return scored


def _evaluate(
    context: dg.AssetExecutionContext, output: Output, profile: Profile, scored: pa.Table
) -> "dict[str, Figure]":
    """Test metrics, the floor and the calibration plot, from the scored test rows; returns the plots."""
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy()
    users = number_values(scored["user_id"])[1] if profile.has_entities else None
    found, absent = ranker_metrics(labels, scores, users)
    output.manifest.metrics |= {f"test_{name}": value for name, value in found.items()}
    report_unmeasured(context, output, {f"test_{name}": reason for name, reason in absent.items()})
    check_floor(output, "auc_floor", output.manifest.metrics["validation_auc"], profile.bounds.min_auc)
    plots = {"calibration": show.calibration(calibration(labels, scores))}
    if output.path(IMPORTANCE).exists():
        first = pq.read_table(output.path(IMPORTANCE)).slice(0, 25).to_pydict()
        plots["importance"] = show.bars("feature importance", "gain", first["column"], first["gain"])
    output.metadata |= {name: show.picture(figure) for name, figure in plots.items()}
    return plots


def _correct(output: Output, scored: pa.Table) -> None:
    """Fit the correction of probabilities for drawn negatives on the scored test rows, and write it."""
    labels, scores, rates = (scored[name].to_numpy() for name in ("label", "score", DRAW_LOG_RATE))
    users, items = (number_values(scored[name])[1] for name in ("user_id", "item_id"))
    correction = fit_correction(labels, scores, rates, undrawn(users, items, labels, rates))
    correction.save(output.draft.folder)
    output.manifest.metrics |= {"correction_shift": correction.shift, "correction_slope": correction.slope}


RANK_TASKS = [Task(name, f"rank_{name}", "rank_samples", name) for name in RANKERS]
rank_assets = [ranker(task, RANKERS[task.model].description) for task in RANK_TASKS]
touch_model = ranker(TOUCH_TASK, TOUCH_TEXT)
