"""Resources: the dataset, the lake, the stores and the tracking server, as Dagster sees them.

Put here what an asset reaches outside itself. Keep out hyper-parameters (assets' config) and the bizdate
(a partition).
"""

import datetime as dt
import logging
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import dagster as dg
from filelock import FileLock

from recsys_assets.datasets.disk import Place, PlaceUnwritable, private_folder, written_to
from recsys_assets.datasets.profile import Profile, load_profile
from recsys_assets.lake import Lake, days
from recsys_assets.manifest import (
    GateNotPassed,
    Partition,
    PartitionMissing,
    PartitionOutdated,
    PartitionReplaced,
    describe_outdated,
)
from recsys_assets.settings import settings, sqlite_file
from recsys_assets.uris import naming, shown

if TYPE_CHECKING:
    from types import ModuleType

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
    """The lake's partitions of one dataset.

    The lake's URL, like those of the stores and of MLflow, may hold a password: it is read from the settings when it is
    used, and is no configuration, which Dagster's UI and history would show.
    """

    profile: str

    @cached_property
    def lake(self) -> Lake:
        """The lake itself, opened once: a look at all days of events asks for it for each of them.

        Raises:
            OtherDataset: it holds another data set of that name.
        """
        return Lake.of(settings().lake, load_profile(self.profile))

    def read(self, asset: str, bizdate: str) -> Partition:
        """A partition to build on.

        Raises:
            PartitionMissing: it was never materialized.
            GateNotPassed: it failed a blocking check, in this run or an earlier one.
            PartitionOutdated: something that it was made from has been materialized again since.
        """
        partition = self.lake.read(asset, bizdate)
        if partition.manifest.failed_checks:
            raise GateNotPassed(
                f"{asset} {bizdate} failed {', '.join(partition.manifest.failed_checks)}: see the check in the UI, "
                f"fix its cause and materialize {asset} again"
            )
        if outdated := self.lake.outdated(partition.manifest):
            raise PartitionOutdated(describe_outdated(partition.manifest, outdated))
        return partition

    def check_unchanged(self, partitions: Iterable[Partition]) -> None:
        """Make sure, after reading, that the partitions belong together and were not replaced meanwhile.

        Raises:
            PartitionReplaced: one of them, or something that it was made from, was materialized again.
        """
        if replaced := [each.manifest.name for each in partitions if not self.lake.is_current(each)]:
            raise PartitionReplaced(f"{', '.join(replaced)} changed while it was being read: run the command again")

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
    """The stores that services read."""

    profile: str

    def open(self, name: str) -> AbstractContextManager["Store"]:
        """A store by its name in the registry, for the collections of the profile."""
        from recsys_assets.stores.registry import opened

        return opened(name, self.profile)


class TrackingError(RuntimeError):
    """MLflow cannot be used; the message names its place without credentials."""


class Tracking(dg.ConfigurableResource[None]):
    """MLflow: one run for each training, tagged with the bizdate and the Dagster run."""

    experiment: str

    @contextmanager
    def run(self, context: dg.AssetExecutionContext, params: Mapping[str, Any]) -> Iterator["mlflow.ActiveRun"]:
        """An MLflow run around a training; it ends FAILED when the block raises.

        Raises:
            PlaceUnwritable: there is no room for MLflow's database.
            TrackingError: MLflow cannot be used.
        """
        asset = context.asset_key.to_user_string()
        tags = {
            "bizdate": context.partition_key,
            "dagster.asset": asset,
            "dagster.run_id": context.run.run_id,
            "dagster.run_url": f"{settings().dagster_ui}/runs/{context.run.run_id}",
        }
        with _mlflow() as mlflow:
            self._prepare()
            mlflow.set_experiment(self.experiment)
            active = mlflow.start_run(run_name=f"{asset}/{context.partition_key}", tags=tags)
        status = "FAILED"
        try:
            with _mlflow() as mlflow:
                mlflow.log_params(dict(params))
            yield active
            status = "FINISHED"
        finally:
            with _mlflow() as mlflow:
                mlflow.end_run(status)

    def log(self, metrics: Mapping[str, float], folder: Path, plots: Mapping[str, "Figure"]) -> None:
        """Log final metrics, the model's folder and plots in the current run.

        Metrics that were logged by epoch keep their course: of these the final one is logged as `best_…`.

        Raises:
            PlaceUnwritable: there is no room; no part of the model and the plots is kept.
        """
        final = {name if name.startswith("test_") else f"best_{name}": value for name, value in metrics.items()}
        with _mlflow() as mlflow:
            mlflow.log_metrics(_metric_names(final))
        artifacts = Place("the folder of MLflow's artifacts", settings().data / "mlflow", "RECSYS_DATA")
        try:
            with _mlflow(artifacts) as mlflow:
                mlflow.log_artifacts(str(folder), "model")
                for name, figure in plots.items():
                    mlflow.log_figure(figure, f"{name}.png")
        except PlaceUnwritable:
            if _is_local():
                shutil.rmtree(url2pathname(urlsplit(mlflow.get_artifact_uri()).path), ignore_errors=True)
            raise

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's metrics in the current run."""
        with _mlflow() as mlflow:
            mlflow.log_metrics(_metric_names(metrics), step=epoch)

    def log_trial(self, parent: str, trial: "Trial", metric: str) -> None:
        """Log a trial that has ended as a run nested in another, with the times at which it ran.

        One that was pruned ends KILLED.
        """
        from mlflow.entities import Metric, Param

        tags = {"mlflow.parentRunId": parent, "mlflow.runName": f"trial {trial.number}", "reason": trial.reason}
        began, ended = int(trial.began * 1000), int(trial.ended * 1000)
        (name,) = _metric_names({metric: 0.0})
        course = [Metric(name, value, ended, step) for step, value in enumerate(trial.course)]
        measured = trial.state == "complete" and trial.value is not None
        best = [Metric(f"best_{name}", trial.value, ended, 0)] if measured else []
        settings = [Param(key, str(value)) for key, value in trial.settings.items()]
        status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[trial.state]
        with _mlflow() as mlflow:
            client = mlflow.MlflowClient()
            experiment = client.get_run(parent).info.experiment_id
            run = client.create_run(experiment, began, tags).info.run_id
            client.log_batch(run, [*course, *best], settings)
            client.set_terminated(run, status, ended)

    def promote(self, run_id: str, kind: str, alias: str, tags: Mapping[str, str]) -> str:
        """Give an alias to the model of a run, as a version of the registered model `<experiment>-<kind>`.

        A run has one version, however often it is promoted. Returns where people see it.
        """
        with _mlflow() as mlflow:
            self._prepare()
            client, name = mlflow.MlflowClient(), f"{self.experiment}-{kind}"
            with FileLock(settings().data / ".mlflow.lock"):
                if not client.search_registered_models(f"name = '{name}'"):
                    client.create_registered_model(name)
                known = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
                source = f"{client.get_run(run_id).info.artifact_uri}/model"
                version = (known[0] if known else client.create_model_version(name, source, run_id)).version
            for key, value in tags.items():
                client.set_model_version_tag(name, version, key, value)
            client.set_registered_model_alias(name, alias, version)
        return f"{settings().tracking_ui}/#/models/{name}/versions/{version}"

    def url(self, run: "mlflow.ActiveRun") -> str:
        """Where people see the run."""
        return f"{settings().tracking_ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"

    def _prepare(self) -> None:
        """Create database and experiment once: two processes that do it at once break the database."""
        import mlflow

        for chatty in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)

        place = settings()
        private_folder(place.data)
        with FileLock(place.data / ".mlflow.lock"):
            if mlflow.get_experiment_by_name(self.experiment) is None:
                artifacts = Path(place.data / "mlflow").absolute().as_uri() if _is_local() else None
                # Without the tag MLflow 3 opens the experiment as one of language models.
                kind = {"mlflow.experimentKind": "custom_model_development"}
                mlflow.create_experiment(self.experiment, artifact_location=artifacts, tags=kind)


@contextmanager
def _mlflow(place: Place | None = None) -> "Iterator[ModuleType]":
    """MLflow as the settings have it, for a block that writes to its database, or to another place.

    When it fails the error names the place, and none of its secrets.
    """
    import mlflow

    uri = settings().tracking_uri
    what = f"MLflow at {shown(uri)} cannot be used (MLFLOW_TRACKING_URI)"
    with naming(TrackingError, what, uri), written_to(place or _database()):
        mlflow.set_tracking_uri(uri)
        yield mlflow


def _database() -> Place:
    file = sqlite_file(settings().tracking_uri)
    return Place("MLflow's database", file.parent if file else settings().data, "MLFLOW_TRACKING_URI")


def _is_local() -> bool:
    return sqlite_file(settings().tracking_uri) is not None


def _metric_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics under names that MLflow takes: it refuses the `@` of `recall@20`."""
    return {name.replace("@", "_at_"): value for name, value in metrics.items()}


def resources() -> dict[str, Any]:
    """The resources of this code location, from the settings."""
    place = settings()
    profile = load_profile(place=place)
    return {
        "dataset": Dataset(profile=place.profile),
        "lake": LakeStore(profile=place.profile),
        "stores": Stores(profile=profile.name),
        "tracking": Tracking(experiment=profile.name),
    }
