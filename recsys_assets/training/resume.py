"""The state of a training after its last whole epoch, in one file, so that a killed training can continue.

The file holds everything that decides the next steps, including random states: in one process on a CPU, a training
that was killed and continued ends with the same bits as one that was not.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from recsys_assets.datasets.folders import replacing
from recsys_assets.training.data import Rows
from recsys_assets.training.distributed import device_of_choice, rank
from recsys_assets.training.loop import Course, Fitted

STATE_FILE = "resume.safetensors"


class ResumeMismatch(ValueError):
    """A folder holds the state of a different training."""


class Resume:
    """Keeps the state of one training in a folder.

    Args:
        folder: where `resume.safetensors` is while the training is not done.
        fitted: the training, not yet begun.
        rows: its data by name.
    """

    def __init__(self, folder: Path, fitted: Fitted, **rows: Rows) -> None:
        self.path = folder / STATE_FILE
        self.identity = {
            "model": fitted.model_name,
            "model's settings": json.dumps(asdict(fitted.config)),
            "training's settings": json.dumps(asdict(fitted.training)),
            "seed": str(fitted.seed),
            "feature schema": fitted.schema.fingerprint,
            "checkpoint to continue from": fitted.started_from,
            **{f"{part} rows": _hash(found) for part, found in rows.items()},
        }

    def save(self, fitted: Fitted, course: Course) -> None:
        """Replace the old state by the new one in one step; the first process does it for all."""
        if rank():
            return
        numbers = {"steps": course.average.steps, "warm": course.warm, "best_epoch": fitted.best_epoch}
        told = {"identity": self.identity, "history": fitted.history, "numbers": numbers}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as hidden:
            save_file(_tensors(fitted, course), hidden, {name: json.dumps(value) for name, value in told.items()})

    def restore(self, fitted: Fitted, course: Course) -> None:
        """Set the training to the state in the file; without a file, leave it at its beginning.

        Raises:
            ResumeMismatch: the file is of a different training.
        """
        if not self.path.is_file():
            return
        with safe_open(self.path, "pt", device=str(device_of_choice())) as file:
            told = {name: json.loads(text) for name, text in file.metadata().items()}
            self._check(told["identity"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        fitted.history, fitted.best_epoch = told["history"], told["numbers"]["best_epoch"]
        course.average.steps, course.warm = told["numbers"]["steps"], told["numbers"]["warm"]
        _restore_state(fitted, course, tensors)

    def done(self) -> None:
        """Remove the file: its content is in the model now."""
        if not rank():
            self.path.unlink(missing_ok=True)

    def _check(self, kept: dict[str, str]) -> None:
        others = sorted(part for part in kept.keys() | self.identity if kept.get(part) != self.identity.get(part))
        if others:
            raise ResumeMismatch(
                f"{self.path} is the state of an unfinished training with another {', another '.join(others)}: "
                "run that one to its end, or delete the file to start again"
            )


def _hash(rows: Rows) -> str:
    found = hashlib.sha256()
    for column in (rows.indices, rows.numeric, rows.labels):
        found.update(column.cpu().numpy().data)
    return found.hexdigest()


def _tensors(fitted: Fitted, course: Course) -> dict[str, Tensor]:
    """The state by name."""
    parts = {"model": fitted.model.state_dict(), "mean": course.average.mean.state_dict(), "best": course.best}
    found = {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}
    found |= {f"due.{place}": due for place, due in enumerate(course.average.due)}
    for place, weight in enumerate(_weights(course)):
        found |= {f"adam.{place}.{name}": tensor for name, tensor in course.adam.state[weight].items()}
    return found | {"chance": _chance()}


def _restore_state(fitted: Fitted, course: Course, tensors: dict[str, Tensor]) -> None:
    """Restore the state that `_tensors` made."""
    fitted.model.load_state_dict(_part(tensors, "model."))
    course.average.mean.load_state_dict(_part(tensors, "mean."))
    course.average.due = [tensors[f"due.{place}"] for place in range(len(course.average.due))]
    course.best = _part(tensors, "best.")
    for place, weight in enumerate(_weights(course)):
        course.adam.state[weight] = _part(tensors, f"adam.{place}.")
    _set_chance(tensors["chance"].cpu())


def _weights(course: Course) -> list[Tensor]:
    return [weight for group in course.adam.param_groups for weight in group["params"]]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _chance() -> Tensor:
    """The state of the random numbers of the training device."""
    device = device_of_choice()
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_chance(state: Tensor) -> None:
    device = device_of_choice()
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
