"""Tuning: a search for a model's best settings, one asset per model, which has its search space next to its settings.

These assets cost as much as all their trials: they run only when they are named, and are not part of the daily job.
`TUNABLE` has the models: for each kind, what its tuners read and how the best trial is judged.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import Field

from recsys_assets.assets.data.features import SCHEMA
from recsys_assets.assets.lake_asset import Check, LakeAsset, lake_asset
from recsys_assets.assets.model_asset import BEST_SETTINGS, Seeded, log_training
from recsys_assets.assets.recall import i2i, towers
from recsys_assets.assets.reports import show
from recsys_assets.checks import check_floor
from recsys_assets.datasets.classes import require_both_classes
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import Profile, ProfileError
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.io_managers import Output
from recsys_assets.manifest import Partition
from recsys_assets.models.catalogue import MODELS, RANKERS, TOWERS
from recsys_assets.ranking.sample_parts import RANKED_PARTS, part_files
from recsys_assets.resources import Dataset
from recsys_assets.retrieval.interactions import read
from recsys_assets.settings import settings
from recsys_assets.tracking import Tracking
from recsys_assets.tuning import form, study
from recsys_assets.tuning.form import Form
from recsys_assets.tuning.metaspore import describe_unused
from recsys_assets.tuning.objectives import ItemToItem, Objective, Ranking, TwoTowers
from recsys_assets.tuning.space import Sections, Space, sections_of, space, unused_keys
from recsys_assets.tuning.study import Trial, rank_trials

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUMMARY, SPACE, TRIALS = "summary.yaml", "space.yaml", "trials.parquet"
FILES = (SUMMARY, BEST_SETTINGS, SPACE, TRIALS)
TRIALS_SHOWN = 10
_WHOLE, _TEXT = pa.int64(), pa.string()
_TRIAL_COLUMNS = pa.schema(
    {"number": _WHOLE, "state": _TEXT, "value": pa.float64(), "reports": _WHOLE, "reason": _TEXT, "settings": _TEXT}
)
Inputs = Mapping[str, Partition]


@dataclass(frozen=True)
class Tunable:
    """A kind of model that can be tuned.

    Attributes:
        inputs: the assets that its tuners read.
        floor: the check of the best trial's metric on validation rows.
        bound: the value that this metric must reach.
        objective: makes the objective from (model, profile, seed, inputs).
    """

    inputs: tuple[str, ...]
    floor: Check
    bound: Callable[[Profile], float]
    objective: Callable[[str, Profile, int, Inputs], Objective]


class TuneConfig(Seeded):
    """How a model is tuned."""

    trials: int | None = Field(default=None, ge=1, description="how many (default: the space's num_experiment)")
    space: str | None = Field(default=None, description="path of a YAML file (default: the model's own space)")


def tuner(model: str, kind: Tunable) -> LakeAsset:
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
        read_form = form.read(settings().home / config.space) if config.space else bundled_form(model)
        objective = kind.objective(model, profile, config.seed, inputs)
        searched, copied_to = space(read_form, model, objective.sections), _copy_place(context, profile, read_form)
        if unused := _unused_parts(read_form, objective.sections):
            context.log.info(f"not used from the search space: {describe_unused(unused)}")
        with log_training(context, output, tracking, model, config):
            storage, name = _storage(output, searched), f"validation_{objective.metric}"

            def on_trial(trial: Trial) -> None:
                tracking.log_trial(output.manifest.mlflow_run_id or "", trial, name)
                context.log.info(f"trial {trial.number}: {trial.state}, {trial.value}, {trial.drawn} {trial.reason}")

            wanted = config.trials or read_form.num_experiment
            trials = rank_trials(study.run(searched, objective.judge, storage, wanted, config.seed, on_trial))
            metrics = _measure(output, trials, objective)
            _write_settings(output, trials, objective, read_form)
            _write_trials(output, trials)
            plots = {"settings": _show(output, trials, searched, unused, objective.metric)}
            check_floor(output, kind.floor.name, metrics[name], kind.bound(profile))
            tracking.log(metrics, output.draft.folder, plots)
            if copied_to:
                form.copy_results(map(output.path, FILES), copied_to)
                output.metadata["results"] = dg.MetadataValue.path(str(copied_to))
        output.publish()
        shutil.rmtree(storage.parent)  # the partition has all of it

    return tune


def _copy_place(context: dg.AssetExecutionContext, profile: Profile, read_form: Form) -> Path | None:
    """The folder that results are copied to, if the space names one and its variables are set."""
    if not read_form.result_path or form.unset_variables(read_form.result_path, os.environ):
        return None
    below = f"{profile.name}/{context.asset_key.to_user_string()}/bizdate={context.partition_key}"
    return form.result_place(read_form.result_path, below, settings(), os.environ)


def _unused_parts(read_form: Form, sections: Sections) -> dict[str, str]:
    """The parts of the space that are not used, with the reasons."""
    names = form.unset_variables(read_form.result_path or "", os.environ)
    why = {"result_path": f"{', '.join(names)} is not set, so the results are in the lake only"} if names else {}
    return unused_keys(read_form, sections) | why


def _storage(output: Output, searched: Space) -> Path:
    """The study's file until the partition is published; other inputs, seed, code or space give a different file."""
    manifest = output.manifest
    decides = json.dumps([repr(searched), manifest.seed, manifest.upstream, manifest.code_version])
    folder = settings().data / "tuning" / manifest.profile / manifest.asset / f"bizdate={manifest.bizdate}"
    return folder / f"{hashlib.sha256(decides.encode()).hexdigest()[:16]}.journal"


def _measure(output: Output, trials: Sequence[Trial], objective: Objective) -> dict[str, float]:
    """Record the number of trials by state, and the best trial's metric on validation and test rows (returned)."""
    best = trials[0].value
    if best is None:
        raise ValueError("the best trial has no value")  # `study.run` returns at least one complete trial
    counts = {state: float(sum(each.state == state for each in trials)) for state in ("complete", "pruned", "failed")}
    metrics = {
        f"validation_{objective.metric}": best,
        f"test_{objective.metric}": objective.test(trials[0].settings),
    }
    output.manifest.rows = len(trials)
    output.manifest.metrics = {**metrics, **counts}
    return metrics


def _write_settings(output: Output, trials: Sequence[Trial], objective: Objective, read_form: Form) -> None:
    """Write the settings of all trials, best first, to `summary.yaml`; the best ones; and the search space."""
    summary = [
        {
            "hyper_param": trial.settings,
            "result": {
                objective.metric: trial.value,
                "trial": trial.number,
                "state": trial.state,
                "reason": trial.reason,
            },
        }
        for trial in trials
    ]
    best = sections_of(trials[0].settings, objective.sections)
    for file, content in ((SUMMARY, summary), (BEST_SETTINGS, best), (SPACE, read_form.model_dump())):
        plain = json.loads(json.dumps(content))  # with lists instead of tuples
        output.path(file).write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")


def _write_trials(output: Output, trials: Iterable[Trial]) -> None:
    """Write `trials.parquet`, one row per trial."""
    rows = [
        {
            "number": trial.number,
            "state": trial.state,
            "value": trial.value,
            "reports": len(trial.course),
            "reason": trial.reason,
            "settings": json.dumps(trial.settings),
        }
        for trial in trials
    ]
    pq.write_table(pa.Table.from_pylist(rows, _TRIAL_COLUMNS), output.path(TRIALS), compression="zstd")


def _show(output: Output, trials: Sequence[Trial], searched: Space, unused: Mapping[str, str], metric: str) -> "Figure":
    """Show the best trials, a plot of settings against the metric (returned), and unused parts of the space."""
    names = list(searched.distributions())
    rows = [
        (trial.number, trial.state, "" if trial.value is None else trial.value, *(trial.drawn[name] for name in names))
        for trial in trials
    ]
    output.metadata["best trials"] = show.table(["trial", "state", metric, *names], rows[:TRIALS_SHOWN])
    complete = [trial for trial in trials if trial.state == "complete"]
    columns: dict[str, list[Any]] = {name: [trial.drawn[name] for trial in complete] for name in names}
    log = {name for name, each in searched.ranges.items() if each.log}
    figure = show.parallel_lines("complete trials", {**columns, metric: [trial.value for trial in complete]}, log)
    output.metadata["settings"] = show.picture(figure)
    if unused:
        output.metadata["not used"] = describe_unused(unused)
    return figure


def _ranking(model: str, _: Profile, seed: int, inputs: Inputs) -> Objective:
    schema = FeatureSchema.read(inputs["feature_schema"].path(SCHEMA))
    parts = {part: part_files(inputs["rank_samples"], part) for part in RANKED_PARTS}
    require_both_classes(parts)
    train, validation, test = parts.values()
    return Ranking(model, schema, train, validation, test, seed)


def _two_towers(model: str, profile: Profile, seed: int, inputs: Inputs) -> Objective:
    return TwoTowers(model, towers.features_of(inputs), towers.source(model, profile, inputs), seed)


def _item_to_item(model: str, profile: Profile, _: int, inputs: Inputs) -> Objective:
    method, interactions = i2i.I2I_METHODS[model], read(inputs["recall_samples"].path(ROWS))
    return ItemToItem(method.find, method.config, interactions, profile.recall.filter_seen)


_AUC_FLOOR = Check("auc_floor", "the best trial's validation AUC reaches bounds.min_auc", blocking=False)
_RECALL_FLOOR = Check("recall_floor", "the best trial's validation recall@20 reaches bounds.min_recall", blocking=False)
_RANKER_KIND = Tunable(("rank_samples", "feature_schema"), _AUC_FLOOR, lambda profile: profile.bounds.min_auc, _ranking)
_I2I_KIND = Tunable(("recall_samples",), _RECALL_FLOOR, lambda profile: profile.bounds.min_recall, _item_to_item)
TUNABLE: dict[str, Tunable] = {
    **dict.fromkeys(RANKERS, _RANKER_KIND),
    **{
        model: Tunable(towers.inputs_of(model), _RECALL_FLOOR, lambda profile: profile.bounds.min_recall, _two_towers)
        for model in TOWERS
    },
    **dict.fromkeys(i2i.I2I_METHODS, _I2I_KIND),
}


def bundled_form(model: str) -> Form:
    """The search space that a model has by default."""
    spaces = {name: method.space for name, method in i2i.I2I_METHODS.items()}
    return Form(model_name=model, **(spaces[model] if model in spaces else MODELS[model].space))


def refuse_untunable(profile: Profile) -> None:
    """Refuse a profile that lists a model in `tuned` that no asset tunes.

    Raises:
        ProfileError: it names these.
    """
    if unknown := sorted(set(profile.tuned) - TUNABLE.keys()):
        raise ProfileError(f"profile {profile.name}: tuned: no asset tunes {unknown}, only {sorted(TUNABLE)}")


tuning_assets = [tuner(model, kind) for model, kind in TUNABLE.items()]
