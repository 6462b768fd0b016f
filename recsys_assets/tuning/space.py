"""What a study may try: a file's settings under the names they have here, each known to exist and of the right kind."""

import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from recsys_assets.tuning.form import Form, Range, SpaceError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# A model's settings: classes with defaults for all, by the section of the asset's config ("" where it has none).
Sections = Mapping[str, type[Any]]
# MetaSpore's names of settings that mean the same here.
RENAMED = {
    "batch_size": ("batch",),
    "embedding_size": ("embedding", "width"),
    "adam_learning_rate": ("learning_rate",),
    "training_epoches": ("epochs",),
    "_negative_sample_count": ("sampled",),
    "_w": ("negative_weight",),
    "_m": ("margin",),
    "gamma": ("user_share",),
    "smoothing_coefficient": ("alpha",),
    "max_recommendation_count": ("top_n",),
}


@dataclass(frozen=True)
class Space:
    """Which settings a trial may have.

    Attributes:
        constants: those that are the same in all trials.
        choices: those that take one of some values, these by a label that Optuna can store.
        ranges: those that are drawn from a range.
    """

    constants: dict[str, Any]
    choices: dict[str, dict[Any, Any]]
    ranges: dict[str, Range]

    @property
    def size(self) -> float:
        """How many different trials there can be."""
        return math.prod([*map(len, self.choices.values()), *(each.size for each in self.ranges.values())])

    def distributions(self) -> "dict[str, BaseDistribution]":
        """What Optuna draws for a trial."""
        from optuna.distributions import CategoricalDistribution

        choices = {name: CategoricalDistribution(list(labels)) for name, labels in self.choices.items()}
        return {**choices, **{name: each.distribution() for name, each in self.ranges.items()}}

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a trial, from what was drawn for it."""
        chosen = {name: self.choices[name][value] if name in self.choices else value for name, value in drawn.items()}
        return {**self.constants, **chosen}


def bundled_spaces() -> dict[str, Path]:
    """The files that come with the package, by model; the models that have one can be tuned."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "spaces").glob("*.yaml"))}


def space(form: Form, model: str, sections: Sections) -> Space:
    """The space of a file that is for the model.

    Raises:
        SpaceError: it is for another; it has settings that do not exist (all are named), one of them twice, or a value
            of the wrong kind.
    """
    if form.model_name != model:
        raise SpaceError(f"this search space is of model_name '{form.model_name}', not '{model}'")
    owners = {name: section for section in sections.values() for name in _defaults(section)}
    names = {name: _own_name(name, owners) for name in [*form.common_param, *form.hyper_param]}
    if dead := [name for name in names if names[name] not in owners]:
        raise SpaceError(f"{form.model_name} has no {dead}: its settings are {sorted(owners)}")
    if len({*names.values()}) < len(form.common_param) + len(form.hyper_param):
        raise SpaceError(f"a setting stands twice among {[*form.common_param, *form.hyper_param]}: keep one")
    found = Space({}, {}, {})
    for written, value in (form.common_param | form.hyper_param).items():
        name, section = names[written], owners[names[written]]
        if written in form.hyper_param and isinstance(value, Range):
            found.ranges[name] = _range(section, name, value)
        elif written in form.hyper_param and isinstance(value, list):
            values = [_value(section, name, each) for each in value]
            found.choices[name] = {_label(each): each for each in values}
        else:
            found.constants[name] = _value(section, name, value)
    return found


def arranged(settings: Mapping[str, Any], sections: Sections) -> dict[str, Any]:
    """The settings in the shape of the asset's config."""
    parts = {
        section: {name: settings[name] for name in _defaults(kind) if name in settings}
        for section, kind in sections.items()
    }
    return parts.get("", parts)


def _defaults(section: type[Any]) -> dict[str, Any]:
    """The names of a class's settings, with their defaults."""
    found: dict[str, Any] = TypeAdapter(section).dump_python(section())
    return found


def _own_name(name: str, known: Container[str]) -> str:
    """The name that a setting has here."""
    return next((own for own in (name, *RENAMED.get(name, ())) if own in known), name)


def _value(section: type[Any], name: str, value: Any) -> Any:
    """The value as the setting's type has it: a list as a tuple, the text that YAML makes of 1e-5 as a number."""
    try:
        return getattr(TypeAdapter(section).validate_python({name: value}), name)
    except ValidationError as error:
        raise SpaceError(f"{name}: {value!r}: {error.errors()[0]['msg']}") from error


def _range(section: type[Any], name: str, value: Range) -> Range:
    ends = [_value(section, name, end) for end in (value.low, value.high)]
    if isinstance(ends[0], int) and not value.whole:
        raise SpaceError(f"{name} is a whole number: write low, high and step without a point")
    return value


def _label(value: Any) -> Any:
    """The value where Optuna can store it, else its JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
