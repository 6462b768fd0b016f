"""A pipeline file: which tables a model is trained on, what their columns are, and how it is trained.

It is YAML with the sections of TorchEasyRec's pipeline files. Columns, label and features are described as in a
profile (`docs/columns.md`), the settings of model and training are those of the assets' run configuration.

    train_input_path: data/train/*.parquet
    eval_input_path: data/eval/*.parquet
    model_dir: experiments/dssm
    data_config:
      columns:
        user_id: int64
        item_id: {type: int64, column: adgroup_id}
        age_level: {type: int64, of: user}
        cate_id: {type: int64, of: item}
      features: {categorical: [age_level, cate_id]}
    model_config: {name: dssm, width: 32}
    train_config: {epochs: 8}
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import Features
from recsys_assets.datasets.profile_rules import faults
from recsys_assets.datasets.profile_yaml import Content, Fault, Place, fault_text, form_faults, read
from recsys_assets.models.catalogue import TOWERS, configure, entry
from recsys_assets.tzrec.pipeline_form import Form

FILE = "pipeline.config"  # TorchEasyRec's name of the file in a model's folder
TIME = "timestamp"
_DATA = "data_config"
_PARTS = ("train", "validation", "test")


class PipelineError(ValueError):
    """A pipeline file that cannot be used; the message names the file, the key and what to do."""


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that can be run.

    Attributes:
        form: the file's content.
        profile: what the columns mean. The parts of the rows are given; for a ranking model the rows have no entities.
        settings: the model's hyper-parameters and training settings.
        text: the file with all edits, for the folders of trained and exported models.
    """

    form: Form
    profile: Profile
    settings: tuple[Any, Any]
    text: str

    @property
    def model(self) -> str:
        """The name of the model."""
        return self.form.model.name

    @property
    def is_tower(self) -> bool:
        """Whether it is a two-tower model."""
        return self.model in TOWERS

    @property
    def is_shared(self) -> bool:
        """Whether several processes train it together; another model is trained by the first one."""
        return entry(self.model).library == "pytorch"


def read_pipeline(path: Path, edits: str | None = None, **flags: str | None) -> Pipeline:
    """Read a pipeline file.

    Args:
        path: the file.
        edits: JSON of dotted keys and values that replace those of the file: `{"train_config.epochs": 3}`.
        flags: values of keys that a command line gives.

    Raises:
        PipelineError: the file, an edit or a setting has faults.
        ConfigError, UnknownModel: the model, or a setting of it, does not exist.
    """
    try:
        content = read(path, os.environ)
    except Fault as fault:
        raise PipelineError(f"{path}{fault_text(fault.place, str(fault), fault.line)}") from None
    for key, value in {**_edits(edits), **{name: value for name, value in flags.items() if value}}.items():
        _set(content, key, value)
    try:
        form = Form.model_validate(content.values)
    except ValidationError as error:
        raise _error(path, content, form_faults(content, error, "pipeline files")) from None
    settings = configure(form.model.name, form.model.settings, form.training)
    text = yaml.safe_dump(content.values, sort_keys=False, allow_unicode=True)
    return Pipeline(form, _profile(path, content, form), settings, text)


def _edits(text: str | None) -> Mapping[str, Any]:
    """The edits of the command line.

    Raises:
        PipelineError: they are not a JSON object.
    """
    try:
        found = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise PipelineError(f"--edit_config_json is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise PipelineError('--edit_config_json is not of the form {"train_config.epochs": 3}')
    return found


def _set(content: Content, key: str, value: Any) -> None:
    """Set the value at a dotted key, which then has no line in the file.

    Raises:
        PipelineError: the key leads through something that is not a section.
    """
    *sections, last = place = key.split(".")
    values = content.values
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise PipelineError(f"--edit_config_json: {key} cannot be set: {section} is not a section of the file")
    values[last], content.lines[tuple(place)] = value, 0


def _profile(path: Path, content: Content, form: Form) -> Profile:
    """The meaning of the columns, as a profile.

    Raises:
        PipelineError: the columns, the label or the features have faults.
    """
    data = form.data_config
    values = {
        "name": "tables",
        "first_bizdate": "1970-01-01",
        "landing": "tables",  # nothing lands: the tables are read where they are
        "tables": {"interactions": _columns(data.columns, form.model.name in TOWERS)},
        "label": data.label,
        "features": Features(**data.features.model_dump()).model_dump(),
        "split": {"strategy": "given", "parts": {part: part for part in _PARTS}},
        "recall": {"filter_seen": data.filter_seen},
    }
    try:
        profile = Profile.model_validate(values)
        found = list(faults(profile))
    except ValidationError as error:
        found = [Fault(each["loc"], each["msg"].removeprefix("Value error, ")) for each in error.errors()]
    if found:
        raise _error(path, content, [Fault(_in_file(fault.place), str(fault)) for fault in found])
    return profile


def _columns(columns: Mapping[str, Any], has_entities: bool) -> dict[str, Any]:
    """The columns of `interactions`: for a ranking model, all of them belong to the row, and none is its time."""
    specs = {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in columns.items()}
    if has_entities:
        return {TIME: {"type": TIME}, **specs}
    return {
        name: {key: value for key, value in spec.items() if key != "of"} if isinstance(spec, dict) else spec
        for name, spec in specs.items()
        if name != TIME
    }


def _in_file(place: Place) -> Place:
    """The place in the file of what is at a place of the profile."""
    return (_DATA, "columns", *place[2:]) if place[:2] == ("tables", "interactions") else (_DATA, *place)


def _error(path: Path, content: Content, found: Sequence[Fault]) -> PipelineError:
    """One error for all faults, in one line."""
    lines = []
    for fault in found:
        _, line = content.line(fault.place)
        lines.append(fault_text(fault.place, content.mask(str(fault)), line).removeprefix(",").strip())
    return PipelineError(f"{path}, {'; '.join(lines)}")
