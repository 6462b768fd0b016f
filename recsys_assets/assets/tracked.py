"""What all assets of trained models share: their configuration, and a partition written inside one MLflow run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg
from pydantic import Field

from recsys_assets.io_managers import Output, writing
from recsys_assets.lake import Partition
from recsys_assets.resources import LakeStore, Tracking


class ModelConfig(dg.Config):
    """How a model is trained; what is not set is the model's own default."""

    seed: int = Field(default=1, description="of initial weights, dropout, negatives and the order of rows")
    model: dict[str, Any] = Field(default={}, description="hyper-parameters of the network that differ")
    training: dict[str, Any] = Field(default={}, description="settings of the trainer that differ")


@contextmanager
def trained(
    context: dg.AssetExecutionContext,
    lake: LakeStore,
    tracking: Tracking,
    model: str,
    config: ModelConfig,
    upstream: Sequence[Partition],
) -> Iterator[Output]:
    """Write the asset's partition inside an MLflow run, each of them naming the other."""
    settings = {"name": model, **config.model_dump()}
    with writing(context, lake, upstream, settings, config.seed) as output, tracking.run(context, settings) as run:
        output.manifest.mlflow_run_id = run.info.run_id
        yield output
        output.metadata["mlflow run"] = dg.MetadataValue.url(tracking.url(run))


def reported(context: dg.AssetExecutionContext, tracking: Tracking) -> Callable[[int, dict[str, float]], None]:
    """Tells MLflow and the run's log of each epoch, as a trainer's `on_epoch`."""

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        tracking.log_epoch(epoch, metrics)
        context.log.info(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    return on_epoch
