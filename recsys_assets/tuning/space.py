"""The space of a study, from a YAML form: MetaSpore's names are replaced by ours, and every value is checked."""

import json
import math
from collections.abc import Container, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from pydantic import BaseModel, TypeAdapter, ValidationError

from recsys_assets.models.config import explain_unknown
from recsys_assets.tuning.form import Form, Range, SpaceError
from recsys_assets.tuning.metaspore import RENAMED, unused_names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

# A model's settings: classes with defaults for all, by their section in the asset's config ("" for no section).
Sections = Mapping[str, type[Any]]


@dataclass(frozen=True)
class Space:
    """The settings that a trial may have.

    Attributes:
        constants: settings that are the same in all trials.
        choices: settings that take one of several values, each value by a label that Optuna can store.
        ranges: settings that are drawn from a range.
    """

    constants: dict[str, Any]
    choices: dict[str, dict[Any, Any]]
    ranges: dict[str, Range]

    @property
    def size(self) -> float:
        """The number of different trials that are possible."""
        return math.prod([*map(len, self.choices.values()), *(each.size for each in self.ranges.values())])

    def distributions(self) -> "dict[str, BaseDistribution]":
        """The distributions that Optuna draws a trial from."""
        from optuna.distributions import CategoricalDistribution

        choices = {name: CategoricalDistribution(list(labels)) for name, labels in self.choices.items()}
        return {**choices, **{name: each.distribution() for name, each in self.ranges.items()}}

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of a trial, from the drawn values."""
        chosen = {name: self.choices[name][value] if name in self.choices else value for name, value in drawn.items()}
        return {**self.constants, **chosen}


def space(form: Form, model: str, sections: Sections) -> Space:
    """The model's search space from a file.

    Raises:
        SpaceError: the file is for a different model, or has settings that do not exist (all are named), a setting
            twice, or a value that a setting cannot have.
    """
    if form.model_name != model:
        raise SpaceError(f"this search space is of model_name '{form.model_name}', not '{model}'")
    kinds = {name: kind for section in sections.values() for name, kind in _kinds(section).items()}
    left_out = unused_keys(form, sections)
    written = {name: value for name, value in _settings(form).items() if name not in left_out}
    names = {name: _own_name(name, kinds) for name in written}
    if unknown := [name for name in written if names[name] not in kinds]:
        raise SpaceError(f"{model}: " + "; ".join(f"{name} {explain_unknown(name, kinds)}" for name in unknown))
    if twice := {own for own in names.values() if [*names.values()].count(own) > 1}:
        same = ", ".join(f"{name} ({own})" for name, own in names.items() if own in twice)
        raise SpaceError(f"{model}: a setting is given twice: {same}: keep one")
    found = Space({}, {}, {})
    for name, value in written.items():
        _add(found, name, names[name], kinds[names[name]], value, searched=name in form.hyper_param)
    return found


def unused_keys(form: Form, sections: Sections) -> dict[str, str]:
    """The parts of the file that are not used, with the reasons: keys, and MetaSpore's names that mean nothing here."""
    own = {name for section in sections.values() for name in _kinds(section)}
    return form.unused | unused_names(name for name in _settings(form) if name not in own)


def sections_of(settings: Mapping[str, Any], sections: Sections) -> dict[str, Any]:
    """The settings in the shape of the asset's config."""
    parts = {
        section: {name: settings[name] for name in _kinds(kind) if name in settings}
        for section, kind in sections.items()
    }
    return parts.get("", parts)


def _settings(form: Form) -> dict[str, Any]:
    """All settings of the file; one that is in both of its parts is refused."""
    if twice := form.common_param.keys() & form.hyper_param.keys():
        raise SpaceError(
            f"{form.model_name}: {', '.join(sorted(twice))} is given twice, in common_param and hyper_param"
        )
    return {**form.common_param, **form.hyper_param}


def _kinds(section: type[Any]) -> dict[str, TypeAdapter[Any]]:
    """The settings of a class, and the values that each setting may have."""
    if issubclass(section, BaseModel):
        fields = section.model_fields.items()
        return {name: TypeAdapter[Any](Annotated[field.annotation, field]) for name, field in fields}  # type: ignore[arg-type]
    hints = get_type_hints(section, include_extras=True)
    return {setting.name: TypeAdapter(hints[setting.name]) for setting in fields_of(section)}


def _own_name(name: str, known: Container[str]) -> str:
    """Our name of a setting, which may be written under MetaSpore's."""
    others = RENAMED[name].own if name in RENAMED else ()
    return next((own for own in (name, *others) if own in known), name)


def _add(found: Space, written: str, name: str, kind: TypeAdapter[Any], value: Any, *, searched: bool) -> None:
    """Add a setting under our name, with its values converted if it was written under another."""
    if written != name:
        value = _convert(written, value, searched)
    if searched and isinstance(value, Range):
        found.ranges[name] = _range(kind, written, value)
    elif searched and isinstance(value, list):
        values = [_value(kind, written, each) for each in value]
        found.choices[name] = {_label(each): each for each in values}
    else:
        found.constants[name] = _value(kind, written, value)


def _convert(name: str, value: Any, searched: bool) -> Any:
    """A value of MetaSpore's setting converted to ours; in a list that is searched, each value."""
    convert = RENAMED[name].convert
    return [convert(each) for each in value] if searched and isinstance(value, list) else convert(value)


def _value(kind: TypeAdapter[Any], name: str, value: Any) -> Any:
    """The value in the setting's type: a list becomes a tuple, and 1e-5, which YAML reads as text, a number."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise SpaceError(f"{name}: {value!r}: {said}") from error


def _range(kind: TypeAdapter[Any], name: str, value: Range) -> Range:
    ends = [_value(kind, name, end) for end in (value.low, value.high)]
    if isinstance(ends[0], int) and not value.whole:
        raise SpaceError(f"{name} is a whole number: write low, high and step without a point")
    if not isinstance(ends[0], int | float):
        raise SpaceError(f"{name} is not a number: write a list of the values to try")
    return value


def _label(value: Any) -> Any:
    """The value if Optuna can store it, otherwise its JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value
