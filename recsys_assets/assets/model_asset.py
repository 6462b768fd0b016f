"""Shared by the assets of trained models: configuration, tuned settings, and a partition written in one MLflow run."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import dagster as dg
import yaml
from pydantic import Field

from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import Output
from recsys_assets.parallel import one_of_several_trainings
from recsys_assets.resources import LakeStore
from recsys_assets.tracking import Tracking

BEST_SETTINGS = "best.yaml"
C = TypeVar("C", bound=dg.Config)


class NotTuned(LookupError):
    """The profile asks for tuned settings that are not there; the message says how to make them."""


class Seeded(dg.Config):
    """The setting that the configurations of all trained models share."""

    seed: int = Field(default=1, ge=0, description="of initial weights, dropout, negatives and the order of rows")


class ModelConfig(Seeded):
    """How a model is trained; settings that are not given have the model's own defaults."""

    model: dict[str, Any] = Field(
        default={}, description="hyper-parameters of the network that differ from the defaults"
    )
    training: dict[str, Any] = Field(default={}, description="settings of the trainer that differ from the defaults")
    warm_start: str | None = Field(
        default=None,
        description="what the training continues from: `newest` is the newest checkpoint before the bizdate, `nothing` "
        "means initial weights, other text is the path or URL of a checkpoint's folder; by default the profile decides",
    )
    warm_names: dict[str, str] = Field(
        default={}, description="features, weights and modules with another name in the checkpoint: new name, old name"
    )


@contextmanager
def log_training(
    context: dg.AssetExecutionContext, output: Output, tracking: Tracking, model: str, config: Seeded
) -> Iterator[None]:
    """Run the block in an MLflow run with these settings; the partition names the run, and the run the partition.

    The training has its share of the cores: see `one_of_several_trainings`. Check the settings and the rows before the
    block, so that a mistake in them leaves no failed run in MLflow.
    """
    output.manifest.config, output.manifest.seed = {"name": model, **config.model_dump()}, config.seed
    with one_of_several_trainings(), tracking.run(context, output.manifest.config) as run:
        output.manifest.mlflow_run_id = run.info.run_id
        yield
        output.metadata["mlflow run"] = dg.MetadataValue.url(tracking.url(run))


def log_epochs(context: dg.AssetExecutionContext, tracking: Tracking) -> Callable[[int, dict[str, float]], None]:
    """A trainer's `on_epoch` that logs each epoch to MLflow and to the run's log."""

    def on_epoch(epoch: int, metrics: dict[str, float]) -> None:
        tracking.log_epoch(epoch, metrics)
        context.log.info(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()))

    return on_epoch


def report_unmeasured(context: dg.AssetExecutionContext, output: Output, absent: Mapping[str, str]) -> None:
    """Report in the run's log and in the metadata which metrics the rows do not define, and why."""
    if absent:
        said = "; ".join(f"{metric}: {reason}" for metric, reason in absent.items())
        context.log.warning(f"not measured: {said}")
        output.metadata["not measured"] = said


def with_tuned_settings(output: Output, lake: LakeStore, profile: Profile, model: str, config: C) -> C:
    """Fill settings that the config leaves unset with the best tuned ones, if the profile lists the model in `tuned`.

    They come from the newest partition of `tune_<model>` up to the bizdate that passed its checks, which becomes an
    input of the output. Dagster does not know about it, as it may be of an earlier day.

    Raises:
        NotTuned: there is no such partition.
    """
    if model not in profile.tuned:
        return config
    asset, bizdate = f"tune_{model}", output.manifest.bizdate
    days = [day for day in lake.lake.bizdates(asset) if day <= bizdate]
    passed = [day for day in days if lake.lake.manifest(asset, day).is_usable]
    if not passed:
        raise NotTuned(
            f"profile {profile.name} has {model} in `tuned`, but no {asset} up to {bizdate} has passed its checks: "
            f"run `recsys materialize {asset} --bizdate {bizdate}`, or take {model} out of `tuned`"
        )
    partition = lake.lake.read(asset, passed[-1])  # its settings stay usable when the events of that day change
    output.add_inputs([partition])
    best = yaml.safe_load(partition.path(BEST_SETTINGS).read_text(encoding="utf-8"))
    given = config.model_dump(exclude_unset=True)
    sections = {name: {**best[name], **given.get(name, {})} for name in best if isinstance(best[name], dict)}
    return type(config)(**{**best, **given, **sections})
