"""Tuning: a search for a model's best settings, one asset per model that has a search space in `tuning/spaces/`.

These assets cost as much as all their trials: they run only when they are named, and are not part of the daily job.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import dagster as dg
from pydantic import Field

from recsys_assets.assets import trials
from recsys_assets.assets.lake_asset import lake_asset
from recsys_assets.assets.tracked import Seeded, log_training
from recsys_assets.assets.tunable import MODELS, Kind
from recsys_assets.checks import check_floor
from recsys_assets.datasets.profile import Profile
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.resources import Dataset
from recsys_assets.settings import settings
from recsys_assets.tracking import Tracking
from recsys_assets.tuning import form, results, study
from recsys_assets.tuning.form import Form
from recsys_assets.tuning.metaspore import told
from recsys_assets.tuning.space import Sections, Space, bundled_spaces, space, unused
from recsys_assets.tuning.trial import Trial, ranked


class TuneConfig(Seeded):
    """How a model is tuned."""

    trials: int | None = Field(default=None, ge=1, description="how many (default: the space's num_experiment)")
    space: str | None = Field(default=None, description="path of a YAML file (default: the bundled space of the model)")


def tuner(model: str, kind: Kind) -> dg.AssetsDefinition:
    """The asset that tunes one model."""

    @lake_asset(
        name=f"tune_{model}",
        description=(
            "A search for the best settings on validation rows: each trial is drawn from the results of the earlier "
            "ones, and ends early if it is below their median. The best trial is scored on test rows, once. The asset "
            f"of {model} trains with `best.yaml` if the profile lists it in `tuned`; `summary.yaml` has all trials."
        ),
        ins={name: dg.AssetIn(name) for name in kind.inputs},
        kinds={"optuna", "mlflow"},
        pool="training",
        checks=[kind.floor],
    )
    def tune(
        context: dg.AssetExecutionContext,
        output: Output,
        config: TuneConfig,
        dataset: Dataset,
        tracking: Tracking,
        **inputs: Partition,
    ) -> None:
        profile = dataset.load()
        read = form.read(settings().home / config.space if config.space else bundled_spaces()[model])
        tuned = kind.make(model, profile, config.seed, inputs)
        searched, copied_to = space(read, model, tuned.sections), _copy_place(context, profile, read)
        left_out = _left_out(read, tuned.sections)
        if left_out:
            context.log.info(f"not used from the search space: {told(left_out)}")
        with log_training(context, output, tracking, model, config):
            storage, name = _storage(output, searched), f"validation_{tuned.metric}"

            def on_trial(trial: Trial) -> None:
                tracking.log_trial(output.manifest.mlflow_run_id or "", trial, name)
                context.log.info(f"trial {trial.number}: {trial.state}, {trial.value}, {trial.drawn} {trial.reason}")

            wanted = config.trials or read.num_experiment
            found = ranked(study.run(searched, tuned.judge, storage, wanted, config.seed, on_trial))
            judged = trials.measure(output, found, tuned)
            trials.write(output, found, tuned, read)
            plots = {"settings": trials.describe(output, found, searched, left_out, tuned.metric)}
            check_floor(output, kind.floor.name, judged[name], kind.bound(profile))
            tracking.log(judged, output.draft.folder, plots)
            if copied_to:
                results.copy(map(output.path, trials.FILES), copied_to)
                output.metadata["results"] = dg.MetadataValue.path(str(copied_to))
        output.publish()
        shutil.rmtree(storage.parent)  # the partition has all of it

    return tune


def _copy_place(context: dg.AssetExecutionContext, profile: Profile, read: Form) -> Path | None:
    """The folder that results are copied to, if the space names one and its variables are set."""
    if not read.result_path or results.unset(read.result_path, os.environ):
        return None
    below = f"{profile.name}/{context.asset_key.to_user_string()}/bizdate={context.partition_key}"
    return results.place(read.result_path, below, settings(), os.environ)


def _left_out(read: Form, sections: Sections) -> dict[str, str]:
    """The parts of the space that are not used, with the reasons."""
    names = results.unset(read.result_path or "", os.environ)
    why = {"result_path": f"{', '.join(names)} is not set, so the results are in the lake only"} if names else {}
    return unused(read, sections) | why


def _storage(output: Output, searched: Space) -> Path:
    """The study's file until the partition is published; other inputs, seed, code or space give a different file."""
    manifest = output.manifest
    decides = json.dumps([repr(searched), manifest.seed, manifest.upstream, manifest.code_version])
    folder = settings().data / "tuning" / manifest.profile / manifest.asset / f"bizdate={manifest.bizdate}"
    return folder / f"{hashlib.sha256(decides.encode()).hexdigest()[:16]}.journal"


tuning_assets = [tuner(model, kind) for model, kind in MODELS.items()]
