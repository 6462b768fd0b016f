"""Resources: the dataset, the lake, the stores and the tracking server, as Dagster sees them.

Put here what an asset reaches outside itself. Keep out hyper-parameters (assets' config) and the bizdate
(a partition).
"""

import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from filelock import FileLock

from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import GateNotPassed, Lake, Partition, PartitionMissing, days
from recsys_assets.settings import settings

if TYPE_CHECKING:
    import mlflow
    from matplotlib.figure import Figure

    from recsys_assets.stores.store import Store
    from recsys_assets.tuning.trial import Trial


class Dataset(dg.ConfigurableResource[Profile]):
    """The dataset profile that this code location serves."""

    profile: str

    def load(self) -> Profile:
        """The profile, read and checked."""
        return load_profile(self.profile)


class LakeStore(dg.ConfigurableResource[Lake]):
    """The lake's partitions of one dataset."""

    root: str
    profile: str

    @property
    def lake(self) -> Lake:
        """The lake itself."""
        return Lake(self.root, self.profile)

    def read(self, asset: str, bizdate: str) -> Partition:
        """A partition to build on.

        Raises:
            PartitionMissing: it was never materialized.
            GateNotPassed: it failed a blocking check, in this run or an earlier one.
        """
        partition = self.lake.read(asset, bizdate)
        if partition.manifest.failed_checks:
            raise GateNotPassed(
                f"{asset} {bizdate} failed {', '.join(partition.manifest.failed_checks)}: see the check in the UI, "
                f"mend its cause and materialize {asset} again"
            )
        return partition

    def history(self, asset: str, bizdate: str) -> list[Partition]:
        """Partitions of every day from the first one in the lake up to `bizdate`.

        Raises:
            PartitionMissing: none is there, or a day among them is not.
        """
        found = [day for day in self.lake.bizdates(asset) if day <= bizdate]
        first = dt.date.fromisoformat(found[0] if found else bizdate)
        missing = sorted(set(days(first, dt.date.fromisoformat(bizdate))) - set(found))
        if missing:
            raise PartitionMissing(
                f"{asset} lacks {len(missing)} of the days up to {bizdate} ({', '.join(missing[:3])}…): land them if "
                f"they have not landed, then run `recsys materialize {asset} --bizdate {bizdate}`"
            )
        return [self.read(asset, day) for day in found]


class Stores(dg.ConfigurableResource[None]):
    """The stores that services read. Their URIs may hold passwords: they are no configuration that a UI could show."""

    profile: str

    def open(self, name: str) -> AbstractContextManager["Store"]:
        """A store by its name in the registry, for the collections of the profile."""
        from recsys_assets.stores.registry import opened

        return opened(name, self.profile)


class Tracking(dg.ConfigurableResource[None]):
    """MLflow: one run for each training, tagged with the bizdate and the Dagster run."""

    uri: str
    ui: str
    dagster_ui: str
    experiment: str

    @contextmanager
    def run(self, context: dg.AssetExecutionContext, params: Mapping[str, Any]) -> Iterator["mlflow.ActiveRun"]:
        """An MLflow run around a training; it ends FAILED when the block raises."""
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        self._prepare()
        asset = context.asset_key.to_user_string()
        tags = {
            "bizdate": context.partition_key,
            "dagster.asset": asset,
            "dagster.run_id": context.run.run_id,
            "dagster.run_url": f"{self.dagster_ui}/runs/{context.run.run_id}",
        }
        mlflow.set_experiment(self.experiment)
        with mlflow.start_run(run_name=f"{asset}/{context.partition_key}", tags=tags) as active:
            mlflow.log_params(dict(params))
            yield active

    def log(self, metrics: Mapping[str, float], folder: Path, plots: Mapping[str, "Figure"]) -> None:
        """Log final metrics, the model's folder and plots in the current run.

        Metrics that were logged by epoch keep their course: of these the final one is logged as `best_…`.
        """
        import mlflow

        final = {name if name.startswith("test_") else f"best_{name}": value for name, value in metrics.items()}
        mlflow.log_metrics(_metric_names(final))
        mlflow.log_artifacts(str(folder), "model")
        for name, figure in plots.items():
            mlflow.log_figure(figure, f"{name}.png")

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's metrics in the current run."""
        import mlflow

        mlflow.log_metrics(_metric_names(metrics), step=epoch)

    def log_trial(self, parent: str, trial: "Trial", metric: str) -> None:
        """Log a trial that has ended as a run nested in another, with the times at which it ran.

        One that was pruned ends KILLED.
        """
        import mlflow
        from mlflow.entities import Metric, Param

        client = mlflow.MlflowClient(self.uri)
        experiment = client.get_run(parent).info.experiment_id
        tags = {"mlflow.parentRunId": parent, "mlflow.runName": f"trial {trial.number}", "reason": trial.reason}
        began, ended = int(trial.began * 1000), int(trial.ended * 1000)
        run = client.create_run(experiment, began, tags).info.run_id
        (name,) = _metric_names({metric: 0.0})
        course = [Metric(name, value, ended, step) for step, value in enumerate(trial.course)]
        reached = trial.value if trial.state == "complete" else None
        best = [] if reached is None else [Metric(f"best_{name}", reached, ended, 0)]
        client.log_batch(run, [*course, *best], [Param(key, str(value)) for key, value in trial.settings.items()])
        client.set_terminated(run, {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[trial.state], ended)

    def promote(self, run_id: str, kind: str, alias: str, tags: Mapping[str, str]) -> str:
        """Give an alias to the model of a run, as a version of the registered model `<experiment>-<kind>`.

        A run has one version, however often it is promoted. Returns where people see it.
        """
        import mlflow

        mlflow.set_tracking_uri(self.uri)
        self._prepare()
        client, name = mlflow.MlflowClient(self.uri), f"{self.experiment}-{kind}"
        with FileLock(settings().data / ".mlflow.lock"):
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
            source = f"{client.get_run(run_id).info.artifact_uri}/model"
            version = (known[0] if known else client.create_model_version(name, source, run_id)).version
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
        client.set_registered_model_alias(name, alias, version)
        return f"{self.ui}/#/models/{name}/versions/{version}"

    def url(self, run: "mlflow.ActiveRun") -> str:
        """Where people see the run."""
        return f"{self.ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"

    def _prepare(self) -> None:
        """Create database and experiment once: two processes that do it at once break the database."""
        import mlflow

        for chatty in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)

        with FileLock(settings().data / ".mlflow.lock"):
            if mlflow.get_experiment_by_name(self.experiment) is None:
                artifacts = Path(settings().data / "mlflow").absolute().as_uri() if self._is_local else None
                # Without the tag MLflow 3 opens the experiment as one of language models.
                kind = {"mlflow.experimentKind": "custom_model_development"}
                mlflow.create_experiment(self.experiment, artifact_location=artifacts, tags=kind)

    @property
    def _is_local(self) -> bool:
        return self.uri.startswith("sqlite:")


def _metric_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics under names that MLflow takes: it refuses the `@` of `recall@20`."""
    return {name.replace("@", "_at_"): value for name, value in metrics.items()}


def resources() -> dict[str, Any]:
    """The resources of this code location, from the settings."""
    place = settings()
    profile = load_profile(place=place)
    return {
        "dataset": Dataset(profile=place.profile),
        "lake": LakeStore(root=place.lake, profile=profile.name),
        "stores": Stores(profile=profile.name),
        "tracking": Tracking(
            uri=place.tracking_uri, ui=place.tracking_ui, dagster_ui=place.dagster_ui, experiment=profile.name
        ),
    }
