"""A trained model on disk: safetensors weights and a `model.json` that describes them. No pickle.

`model.safetensors` is what is served; `chosen.safetensors` is what a later training continues from (`Fitted.chosen`).
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.catalogue import DESCRIPTION, configure, entry, features_for
from recsys_assets.training.loop import Fitted

WEIGHTS, CHOSEN = "model.safetensors", "chosen.safetensors"


class CheckpointMismatch(ValueError):
    """The checkpoint does not fit: its schema is not the required one, or its files contradict each other."""


def save(folder: Path, fitted: Fitted) -> None:
    """Write the weights and `model.json`; the same model gives the same bytes."""
    write_description(folder, fitted)
    for file, weights in ((WEIGHTS, fitted.model.state_dict()), (CHOSEN, fitted.chosen)):
        if weights:  # a model that was read from a checkpoint has no second ones
            save_file({name: tensor.cpu().contiguous() for name, tensor in weights.items()}, folder / file)


def write_description(folder: Path, fitted: Fitted) -> None:
    """Write `model.json`: everything but the weights."""
    content = {
        "model": fitted.model_name,
        "config": asdict(fitted.config),
        "training": asdict(fitted.training),
        "seed": fitted.seed,
        "history": fitted.history,
        "best_epoch": fitted.best_epoch,
        **({"started_from": fitted.started_from} if fitted.started_from else {}),
        "schema_fingerprint": fitted.schema.fingerprint,
        "schema": json.loads(fitted.schema.to_json()),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def load(folder: Path, schema: FeatureSchema | None = None) -> Fitted:
    """Read a checkpoint; the model is on the CPU, in evaluation mode.

    Args:
        folder: where `save` wrote.
        schema: the schema of the rows that are to be scored; the model's own must be the same.

    Raises:
        CheckpointMismatch: the schema differs, or the weights do not fit the description.
        UnknownModel: this version has no such model.
    """
    fitted = build(folder, schema)
    try:
        fitted.model.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, SafetensorError) as error:
        raise CheckpointMismatch(f"{folder / WEIGHTS} does not fit {DESCRIPTION}: {error}") from error
    return fitted


def read_description(folder: Path) -> dict[str, Any]:
    """The content of `model.json`."""
    content: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    return content


def build(folder: Path, schema: FeatureSchema | None = None) -> Fitted:
    """The model that `model.json` describes, in evaluation mode, without its trained weights.

    Raises:
        CheckpointMismatch: the schema is not the required one.
        UnknownModel: this version has no such model.
    """
    content = read_description(folder)
    own = FeatureSchema.from_json(json.dumps(content["schema"]))
    _check_schema(folder / DESCRIPTION, "its own schema", content["schema_fingerprint"], own.fingerprint)
    if schema is not None:
        read = features_for(content["model"], schema)
        _check_schema(folder / DESCRIPTION, "the feature schema of these rows", own.fingerprint, read.fingerprint)
    config, training = configure(content["model"], content["config"], content["training"])
    model = entry(content["model"]).build(own, config).eval()
    history, best = content["history"], content["best_epoch"]
    told = {"seed": content["seed"], "started_from": content.get("started_from", "")}
    return Fitted(content["model"], model, config, own, training, history=history, best_epoch=best, **told)


def _check_schema(path: Path, what: str, trained: str, given: str) -> None:
    if trained != given:
        raise CheckpointMismatch(
            f"{path} was trained under feature schema {trained[:12]}, but {what} is {given[:12]}: "
            "materialize the model again"
        )
