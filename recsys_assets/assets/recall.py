"""Recall: the two-tower models of a bizdate, one asset and one MLflow run each."""

from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from recsys_assets.assets import show
from recsys_assets.assets.features import SCHEMA
from recsys_assets.assets.negatives import TABLE
from recsys_assets.checks import Check, check_floor, lake_asset
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output, writing
from recsys_assets.lake import Partition
from recsys_assets.resources import Dataset, LakeStore, Tracking, metric_names
from recsys_assets.retrieval import weighted_items
from recsys_assets.retrieval.interactions import read

RECALLERS = {
    "fm": "A factorisation machine in two towers (Rendle 2010), trained on labels like recsys_pipeline's.",
    "simplex": "SimpleX (Mao et al. 2021): user vector and mean history under the cosine contrastive loss.",
    "dssm": "DSSM (Huang et al. 2013): an MLP a tower, softmax over the catalogue or a weighted sample of it.",
    "sasrec": "SASRec (Kang & McAuley 2018) with cross-entropy: a causal transformer over the history.",
}
INPUTS = ("recall_samples", "feature_schema", "negative_items", "users", "items")


class RecallConfig(dg.Config):
    """How a two-tower model is trained; what is not set is the model's own default."""

    seed: int = Field(default=1, description="of initial weights, dropout, negatives and the order of rows")
    model: dict[str, Any] = Field(default={}, description="hyper-parameters of the network that differ")
    training: dict[str, Any] = Field(default={}, description="settings of the trainer that differ")


def recaller(model: str, description: str) -> dg.AssetsDefinition:
    """The asset of one two-tower model."""

    @lake_asset(
        name=f"recall_{model}",
        description=f"{description} Chosen on validation rows; `hitrate_{model}` judges it on test rows.",
        ins={name: dg.AssetIn(name) for name in INPUTS},
        kinds={"pytorch", "mlflow"},
        pool="training",
        checks=[Check("recall_floor", "the validation recall@20 reaches bounds.min_recall")],
    )
    def recall(
        context: dg.AssetExecutionContext,
        config: RecallConfig,
        lake: LakeStore,
        dataset: Dataset,
        tracking: Tracking,
        **inputs: Partition,
    ) -> dg.MaterializeResult:
        settings = {"name": model, **config.model_dump()}
        with (
            writing(context, lake, list(inputs.values()), settings, config.seed) as output,
            tracking.run(context, settings) as run,
        ):
            output.manifest.mlflow_run_id = run.info.run_id
            _train(context, config, model, dataset.load(), output, inputs)
            tracking.log(output.manifest.metrics, output.draft.folder, {})
            output.metadata["mlflow run"] = dg.MetadataValue.url(tracking.url(run))
        return output.result()

    return recall


def _train(
    context: dg.AssetExecutionContext,
    config: RecallConfig,
    model: str,
    profile: Profile,
    output: Output,
    inputs: dict[str, Partition],
) -> None:
    """Fit on train and validation rows, write the checkpoint, and the metrics of the epoch that was kept."""
    import mlflow

    from recsys_assets.models.registry import configured
    from recsys_assets.training import checkpoint, recall

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        mlflow.log_metrics(metric_names(metrics), step=epoch)
        context.log.info(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    source = recall.Source(
        read(inputs["recall_samples"].path(ROWS)),
        pq.read_table(inputs["users"].path(ROWS)),
        pq.read_table(inputs["items"].path(ROWS)),
        profile.recall.filter_seen,
        weighted_items.read(inputs["negative_items"].path(TABLE), pa.schema([])),
    )
    network, training = configured(model, config.model, config.training)
    features = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
    fitted = recall.fit(model, features, source, network, training, config.seed, on_epoch)
    checkpoint.save(output.draft.folder, fitted)
    # The loss has a scale of its own: it is in the log and in MLflow.
    judged = [{name: value for name, value in epoch.items() if name != recall.LOSS} for epoch in fitted.history]
    output.metadata["training"] = show.lines("on validation rows", "epoch", judged)
    output.manifest.metrics = recall.judged(fitted, source)
    check_floor(output, "recall_floor", fitted.best["validation_recall@20"], profile.bounds.min_recall)


recall_assets = [recaller(model, description) for model, description in RECALLERS.items()]
