"""Hyper-parameters of trainings, with the defaults that held on MovieLens 1M."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

NegativesKind = Literal["auto", "all", "in_batch", "uniform", "popularity", "table"]
C = TypeVar("C")


class ConfigError(ValueError):
    """A hyper-parameter that does not exist."""


@dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of the training, the same for every model."""

    batch: int = 4096  # rows a step
    epochs: int = 20  # at most
    patience: int = 2  # epochs without a better validation metric before it stops
    learning_rate: float = 4e-3  # of Adam, reached after `warmup`
    warmup: int = 50  # steps from 0 to the full learning rate
    recency: float = 8.0  # eta of the weights' average: the larger, the more the newest steps count
    l2: float = 3e-5  # added to the gradient of embedding tables, times the weight
    clip: float = 10.0  # largest norm of the gradient
    last_rate: float = 1.0  # of the learning rate, in the last pass over the validation rows


@dataclass(frozen=True)
class RecallTraining(TrainingConfig):
    """Those of two-tower models.

    `negatives`: what the positives are set against. `all` is the whole catalogue; `in_batch` the other rows'
    positives; `uniform`, `popularity` (events^0.75) and `table` (the weights of `negative_items`) are draws;
    `auto` is `all` up to `whole_catalogue` items and `table` above.
    """

    negatives: NegativesKind = "auto"
    sampled: int = 4096  # negatives drawn a step, shared by its rows
    whole_catalogue: int = 30_000  # items up to which a softmax over all costs less than the rest of a step


def filled(defaults: C, values: Mapping[str, Any]) -> C:
    """A config dataclass with some values set; lists become tuples, which JSON and YAML lack.

    Raises:
        ConfigError: it has no such setting.
    """
    known = {setting.name for setting in fields(defaults)}  # type: ignore[arg-type]
    if unknown := values.keys() - known:
        raise ConfigError(f"{type(defaults).__name__} has no {sorted(unknown)}: its settings are {sorted(known)}")
    changed = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return replace(defaults, **changed)  # type: ignore[type-var]
