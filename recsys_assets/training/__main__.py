"""`python -m recsys_assets.training`: train a ranking model on Parquet files, in one process or under torchrun.

    python -m recsys_assets.training --model widedeep --schema schema.json \
        --train train.parquet --validation validation.parquet --test test.parquet --out model
    torchrun --standalone --nproc-per-node=2 -m recsys_assets.training --model widedeep …

Both train the same model on the same batches. A training that was killed continues from its last whole epoch when
the same command is run again.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pyarrow.parquet as pq
import yaml
from torch.distributed.elastic.multiprocessing.errors import record

from recsys_assets.arrays import number_values
from recsys_assets.datasets.classes import require_both_classes
from recsys_assets.features.schema import FeatureSchema
from recsys_assets.metrics import ranker_metrics
from recsys_assets.models.catalogue import RANKERS, configure
from recsys_assets.models.config import ConfigError
from recsys_assets.training import checkpoint, trainer
from recsys_assets.training.data import Rows, load
from recsys_assets.training.distributed import device_of_choice, process_group, processes, rank
from recsys_assets.training.loop import Fitted
from recsys_assets.training.progress import bar
from recsys_assets.training.resume import Resume
from recsys_assets.training.warm_start import Start

Metrics = dict[str, float]
NETWORKS = [name for name, model in RANKERS.items() if model.library == "pytorch"]
INPUT_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Flags:
    """The command line."""

    model: str
    schema: Path
    train: Path
    validation: Path
    test: Path | None
    out: Path
    continue_from: Path | None
    seed: int
    config: Path | None
    settings: tuple[str, ...]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", required=True, type=click.Choice(NETWORKS))
@click.option("--schema", required=True, type=INPUT_FILE, help="The feature schema, schema.json.")
@click.option("--train", required=True, type=INPUT_FILE, help="Parquet: the schema's columns and label.")
@click.option("--validation", required=True, type=INPUT_FILE, help="Decides when to stop; trained on once at the end.")
@click.option("--test", type=INPUT_FILE, help="Scored once, after all choices.")
@click.option("--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder of the model.")
@click.option(
    "--continue-from",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of a checkpoint of the same model, whose weights training begins with.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True)
@click.option("--config", type=INPUT_FILE, help="YAML or JSON: model: {hidden: [128]}, training: {epochs: 3}.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="model.hidden='[128]', training.epochs=3.")
def main(**given: Any) -> None:
    """Train a ranking model. `checkpoint.load` reads its folder; the last line of output is JSON."""
    try:
        run(Flags(**given))
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "recsys_assets":
            raise
        raise click.ClickException(str(error)) from error


@record  # reports an error to torchrun
def run(flags: Flags) -> None:
    """Train, write the model, print its metrics."""
    given = read_settings(flags)
    parts = {"train": flags.train, "validation": flags.validation, "test": flags.test}
    require_both_classes({part: file for part, file in parts.items() if file})
    schema = FeatureSchema.read(flags.schema)
    settings = configure(flags.model, given["model"], given["training"])
    start = Start.read(flags.continue_from, str(flags.continue_from), {}) if flags.continue_from else None
    with process_group(), trainer.initial_model(flags.model, schema, *settings, flags.seed, start) as fitted:
        device = device_of_choice()
        train, validation = (load(fitted.schema, file, device) for file in (flags.train, flags.validation))
        resume = Resume(flags.out, fitted, train=train, validation=validation)
        with bar() as on_step:
            trainer.learn(fitted, train, validation, print_epoch, on_step, resume)
        if not rank():
            checkpoint.save(flags.out, fitted)
            resume.done()
            metrics = {"validation": fitted.best} | ({"test": score(fitted, flags.test)} if flags.test else {})
            print_metrics(metrics, processes())


def read_settings(flags: Flags) -> dict[str, dict[str, Any]]:
    """The settings of `--config`, then those of `--set`, under `model` and `training`.

    Raises:
        ConfigError: a setting belongs to neither, or cannot be read.
    """
    given = _read(flags.config) if flags.config else {}
    found = {part: dict(given.get(part) or {}) for part in ("model", "training")}
    if others := given.keys() - found.keys():
        raise ConfigError(f"{flags.config} has {sorted(map(str, others))}: it may have model and training")
    for text in flags.settings:
        part, dot, name = text.partition("=")[0].partition(".")
        if part not in found or not dot or "=" not in text:
            raise ConfigError(f"--set {text}: write model.NAME=VALUE or training.NAME=VALUE")
        found[part][name] = yaml.safe_load(text.partition("=")[2])
    return found


def _read(file: Path) -> Mapping[str, Mapping[str, Any]]:
    """The file of `--config`.

    Raises:
        ConfigError: it is not YAML, or not a mapping of mappings.
    """
    try:
        given = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(given, dict) or not all(isinstance(each or {}, dict) for each in given.values()):
        raise ConfigError(f"{file} is not of the form `model: {{hidden: [128]}}`, `training: {{epochs: 3}}`")
    return given


def print_epoch(epoch: int, metrics: Metrics) -> None:
    """Print one line per epoch."""
    if not rank():
        click.echo(f"epoch {epoch}: " + ", ".join(f"{name} {value:.4f}" for name, value in metrics.items()), err=True)


def score(fitted: Fitted, file: Path) -> Metrics:
    """Metrics of the trained model on labelled rows, with the GAUC if they have users."""
    rows: Rows = load(fitted.schema, file, device_of_choice())
    labels, scores = rows.labels.cpu().numpy(), trainer.predict(fitted.model, rows)
    users = None
    if "user_id" in pq.read_schema(file).names:
        users = number_values(pq.read_table(file, columns=["user_id"])["user_id"])[1]
    found, absent = ranker_metrics(labels, scores, users)
    for metric, reason in absent.items():
        click.echo(f"no {metric}: {reason}", err=True)
    return found


def print_metrics(metrics: dict[str, Metrics], number: int) -> None:
    """Print the metrics as a table, and as one line of JSON."""
    for part, found in metrics.items():
        for name, value in found.items():
            click.echo(f"{part:12}{name.removeprefix('validation_'):20}{value:.4f}", err=True)
    click.echo(json.dumps({"processes": number, **metrics}))


if __name__ == "__main__":
    main()
