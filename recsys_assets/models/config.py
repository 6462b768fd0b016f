"""Hyper-parameters: the values they may have, and those of training, with defaults that were chosen on MovieLens 1M."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from recsys_assets.datasets.names import suggest

NegativesKind = Literal["auto", "all", "in_batch", "uniform", "popularity", "table"]
C = TypeVar("C")


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is not a number")
    return value


# The kinds of numbers that settings can be. YAML reads 1e-5 as text; it counts as the number that it shows.
Count = Annotated[int, BeforeValidator(_number), Field(ge=1)]
CountOrNone = Annotated[int, BeforeValidator(_number), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(_number), Field(ge=0, le=1)]
Dropped = Annotated[float, BeforeValidator(_number), Field(ge=0, lt=1)]


class ConfigError(ValueError):
    """A hyper-parameter does not exist, or cannot have its value; the message names it and its model."""


@dataclass(frozen=True)
class TrainingConfig:
    """Hyper-parameters of the training, the same for every model."""

    batch: Count = 4096  # rows per step
    epochs: Count = 20  # at most
    patience: CountOrNone = 2  # epochs without a better validation metric before training stops
    learning_rate: Positive = 4e-3  # of Adam, reached after `warmup` steps
    warmup: Count = 50  # steps from 0 to the full learning rate, at most those of two epochs
    recency: NotNegative = 8.0  # eta of the weights' average: the larger, the more the newest steps count
    l2: NotNegative = 3e-5  # added to the gradient of embedding tables, times the weight
    clip: Positive = 10.0  # largest norm of the gradient
    last_rate: NotNegative = 1.0  # of the learning rate, in the last pass over the validation rows


@dataclass(frozen=True)
class RecallTraining(TrainingConfig):
    """Hyper-parameters of the training of two-tower models.

    `negatives`: the items that positives are contrasted with. `all` is the whole catalogue; `in_batch` the other rows'
    positives; `uniform`, `popularity` (events^0.75) and `table` (the weights of `negative_items`) are drawn;
    `auto` is `all` up to `whole_catalogue` items and `table` above that.
    """

    negatives: NegativesKind = "auto"
    sampled: Count = 4096  # negatives drawn per step, shared by its rows
    whole_catalogue: CountOrNone = 30_000  # items up to which a softmax over all costs less than the rest of a step


@dataclass(frozen=True)
class NoSettings:
    """The settings of a trainer that has none apart from the model's hyper-parameters."""


def fill(defaults: C, values: Mapping[str, Any], owner: str, elsewhere: Mapping[str, str] | None = None) -> C:
    """A config dataclass with some values set; lists become tuples, which JSON and YAML lack.

    Args:
        defaults: the settings that hold where nothing is set.
        values: the settings that differ.
        owner: whose settings they are, for messages: "sasrec: model".
        elsewhere: the settings of the same model that belong to another section, by name.

    Raises:
        ConfigError: settings do not exist, or cannot have their values; all of them are named in one line.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{owner}: {values!r} is not a mapping of settings to values")
    own = {setting.name: getattr(defaults, setting.name) for setting in fields(defaults)}  # type: ignore[arg-type]
    if unknown := [str(name) for name in values if name not in own]:
        raise ConfigError("; ".join(f"{owner}.{name} {explain_unknown(name, own, elsewhere)}" for name in unknown))
    try:
        made: C = TypeAdapter(type(defaults)).validate_python({**own, **values})
    except ValidationError as error:
        raise ConfigError("; ".join(f"{owner}{fault}" for fault in faults(error))) from error
    return made


def faults(error: ValidationError) -> list[str]:
    """The faults that a validation found, one text per setting: `.width = 'wide': it must be a valid integer`."""
    found: dict[str, str] = {}
    for each in error.errors():
        name, *places = each["loc"] or ("",)
        place = "".join(f"[{part}]" for part in places if isinstance(part, int))
        said = each["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
        found.setdefault(str(name), f".{name}{place} = {each['input']!r}: {said}" if name else f": {said}")
    return list(found.values())


def explain_unknown(name: str, known: Collection[str], elsewhere: Mapping[str, str] | None = None) -> str:
    """Why a setting of this name cannot be set: it belongs elsewhere, or does not exist; similar names are listed."""
    if elsewhere and name in elsewhere:
        return f"does not exist: {name} is a setting of `{elsewhere[name]}`"
    hint = suggest(name, known, cutoff=0.5, mark="'")
    return f"does not exist: {hint}there are {', '.join(sorted(known))}" if known else "does not exist: there are none"
