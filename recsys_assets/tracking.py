"""The MLflow resource: one run per training, the model registry, and the data set that an experiment belongs to.

All calls of MLflow belong here, and those for a model in its own format in `mlflow_model.py`. There is no
dagster-mlflow for the versions in use.
"""

import datetime as dt
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from filelock import FileLock

from recsys_assets import mlflow_model
from recsys_assets.datasets.disk import Place, PlaceUnwritable, private_folder, writing_to
from recsys_assets.datasets.identity import refuse_other
from recsys_assets.datasets.profile import load_profile
from recsys_assets.declined import CannotBeBuilt
from recsys_assets.lake import Lake
from recsys_assets.settings import settings, sqlite_file
from recsys_assets.uris import name_errors, safe_uri

if TYPE_CHECKING:
    from types import ModuleType

    import mlflow
    from matplotlib.figure import Figure

    from recsys_assets.tuning.study import Trial

OWNER_TAG = "recsys.dataset"  # the experiment's tag that names its data set


class TrackingError(RuntimeError):
    """MLflow cannot be used; the message names its place without credentials."""


class Tracking(dg.ConfigurableResource[None]):
    """MLflow: one run per training, tagged with the bizdate and the Dagster run.

    The experiment has the profile's name and belongs to one data set. Every method raises `TrackingError` when MLflow
    cannot be used, and `OtherDataset` when the experiment belongs to a different data set.
    """

    profile: str

    @property
    def experiment(self) -> str:
        """The experiment's name."""
        return load_profile(self.profile).name

    @contextmanager
    def run(self, context: dg.AssetExecutionContext, params: Mapping[str, Any]) -> Iterator["mlflow.ActiveRun"]:
        """Start an MLflow run for a training; an error in the block ends it as FAILED, `CannotBeBuilt` as KILLED.

        Raises:
            PlaceUnwritable: the disk has no room for MLflow's database.
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
        except CannotBeBuilt:  # no failure: the data lack something
            status = "KILLED"
            raise
        finally:
            with _mlflow() as mlflow:
                mlflow.end_run(status)

    def log(self, metrics: Mapping[str, float], folder: Path, plots: Mapping[str, "Figure"]) -> None:
        """Log final metrics, the model's folder and plots in the current run.

        Final metrics other than test metrics are logged as `best_…`, apart from the values per epoch.

        Raises:
            PlaceUnwritable: the disk has no room; no part of the model and the plots is kept.
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
            from urllib.parse import urlsplit
            from urllib.request import url2pathname

            if _is_local():
                shutil.rmtree(url2pathname(urlsplit(mlflow.get_artifact_uri()).path), ignore_errors=True)
            raise

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch's metrics in the current run."""
        with _mlflow() as mlflow:
            mlflow.log_metrics(_metric_names(metrics), step=epoch)

    def log_trial(self, parent: str, trial: "Trial", metric: str) -> None:
        """Log a trial that has ended as a run nested in another, with its start and end times.

        A trial that was pruned ends as KILLED.
        """
        from mlflow.entities import Metric, Param

        tags = {"mlflow.parentRunId": parent, "mlflow.runName": f"trial {trial.number}", "reason": trial.reason}
        began, ended = int(trial.began * 1000), int(trial.ended * 1000)
        (name,) = _metric_names({metric: 0.0})
        course = [Metric(name, value, ended, step) for step, value in enumerate(trial.course)]
        reached = trial.value if trial.state == "complete" else None
        best = [] if reached is None else [Metric(f"best_{name}", reached, ended, 0)]
        settings = [Param(key, str(value)) for key, value in trial.settings.items()]
        status = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}[trial.state]
        with _mlflow() as mlflow:
            client = mlflow.MlflowClient()
            experiment = client.get_run(parent).info.experiment_id
            run = client.create_run(experiment, began, tags).info.run_id
            client.log_batch(run, [*course, *best], settings)
            client.set_terminated(run, status, ended)

    def promote(self, run_id: str, kind: str, alias: str, tags: Mapping[str, str], file: Path) -> str:
        """Register the ONNX file of a run as a version of `<experiment>-<kind>` and give that version an alias.

        The version is a model in MLflow's own format. A file has one version, however often it is promoted. Returns the
        version's URL in MLflow's UI.
        """
        with _mlflow() as mlflow:
            self._prepare()
            client, name = mlflow.MlflowClient(), f"{self.experiment}-{kind}"
            with FileLock(settings().data / ".mlflow.lock"):
                if not client.search_registered_models(f"name = '{name}'"):
                    client.create_registered_model(name)
                version = mlflow_model.version_of(client, name, run_id, file)
            for key, value in tags.items():
                client.set_model_version_tag(name, version, key, value)
            client.set_registered_model_alias(name, alias, version)
        return f"{settings().tracking_ui}/#/models/{name}/versions/{version}"

    def add_card(self, run_id: str, kind: str, sha256: str, tags: Mapping[str, str], card: Path) -> None:
        """Keep a model card with a run, and put its tags on the versions of `<experiment>-<kind>` that are the file."""
        with _mlflow() as mlflow:
            client, name = mlflow.MlflowClient(), f"{self.experiment}-{kind}"
            client.log_artifact(run_id, str(card))
            for version in client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'"):
                if version.tags.get(mlflow_model.FILE_TAG) == sha256:
                    for key, value in tags.items():
                        client.set_model_version_tag(name, version.version, key, value)

    def url(self, run: "mlflow.ActiveRun") -> str:
        """The run's URL in MLflow's UI."""
        return f"{settings().tracking_ui}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"

    def adopt(self, owner: str) -> None:
        """Mark the experiment, if there is one, as belonging to this data set."""
        with _mlflow() as mlflow:
            if found := mlflow.get_experiment_by_name(self.experiment):
                mlflow.MlflowClient().set_experiment_tag(found.experiment_id, OWNER_TAG, owner)

    def left_over(self, before: dt.datetime) -> list[str]:
        """Ids of the experiment's runs that were deleted, or that began before a moment and never succeeded.

        Runs that succeeded stay for ever, because they have the figures. KILLED ones are pruned trials of a search.
        These are at most 1,000 of each kind, as many as MLflow lists at once.
        """
        from mlflow.entities import ViewType

        with _mlflow() as mlflow:
            client = mlflow.MlflowClient()
            if not (found := client.get_experiment_by_name(self.experiment)):
                return []
            ids, began = [found.experiment_id], int(before.timestamp() * 1000)
            runs = list(client.search_runs(ids, "", ViewType.DELETED_ONLY))
            for status in ("FAILED", "RUNNING"):
                which = f"attributes.status = '{status}' AND attributes.start_time < {began}"
                runs += client.search_runs(ids, which)
            return [run.info.run_id for run in runs]

    def remove(self, run_ids: Sequence[str]) -> None:
        """Delete runs; in the project's own database for good, with their files, as `mlflow gc` does."""
        from urllib.parse import urlsplit
        from urllib.request import url2pathname

        with _mlflow() as mlflow:
            client = mlflow.MlflowClient()
            for run_id in run_ids:
                run = client.get_run(run_id).info
                if run.lifecycle_stage == "active":
                    client.delete_run(run_id)
                if _is_local():
                    folder = Path(url2pathname(urlsplit(run.artifact_uri).path)).parent  # of <run id>/artifacts
                    if folder.name == run_id and folder.exists():
                        shutil.rmtree(folder)
                    client._tracking_client.store._hard_delete_run(run_id)

    def _prepare(self) -> None:
        """Create database and experiment once: two processes that create them at the same time break the database."""
        import mlflow

        for chatty in ("mlflow.store.db.utils", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)

        place = settings()
        private_folder(place.data)
        with FileLock(place.data / ".mlflow.lock"):
            lake = Lake.of(place.lake, load_profile(self.profile))
            found = mlflow.get_experiment_by_name(lake.profile)
            if found is None:
                artifacts = Path(place.data / "mlflow").absolute().as_uri() if _is_local() else None
                # Without the tag MLflow 3 shows the experiment as one about language models.
                tags = {"mlflow.experimentKind": "custom_model_development", OWNER_TAG: lake.owner}
                mlflow.create_experiment(lake.profile, artifact_location=artifacts, tags=tags)
            else:
                refuse_other(f"MLflow's experiment '{lake.profile}'", found.tags.get(OWNER_TAG), lake.owner)


@contextmanager
def _mlflow(place: Place | None = None) -> "Iterator[ModuleType]":
    """MLflow with the settings' URI, for a block that writes to its database or to another place.

    If the block fails, the error names the place without its secrets.
    """
    import mlflow

    uri = settings().tracking_uri
    what = f"MLflow at {safe_uri(uri)} cannot be used (MLFLOW_TRACKING_URI)"
    with name_errors(TrackingError, what, uri), writing_to(place or _database()):
        mlflow.set_tracking_uri(uri)
        yield mlflow


def _database() -> Place:
    file = sqlite_file(settings().tracking_uri)
    return Place("MLflow's database", file.parent if file else settings().data, "MLFLOW_TRACKING_URI")


def _is_local() -> bool:
    return sqlite_file(settings().tracking_uri) is not None


def _metric_names(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics under names that MLflow accepts: it refuses the `@` in `recall@20`."""
    return {name.replace("@", "_at_"): value for name, value in metrics.items()}
