"""Warm start: an untrained model gets the weights of an earlier checkpoint, so that its training continues from them.

Whatever a vocabulary decides goes with its value: the row of an item, the weight of a cross, the input of a genre's
share. A value that the checkpoint did not know has initial weights, and one that is gone is left out. Statistics of
numbers are those of the new train rows. A hashed cross begins again when one of its vocabularies has changed. All else
must be the same: features and weights that differ are refused by name, and names can be mapped, as by TorchEasyRec's
`fine_tune_ckpt_param_map`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from recsys_assets.features.schema import Feature, FeatureSchema
from recsys_assets.models.axes import Axis, AxisMisfit, places_in, size_of
from recsys_assets.models.catalogue import DESCRIPTION, configure, entry
from recsys_assets.models.layers import NamedLinear, Normalise, Table
from recsys_assets.models.towers import TwoTower
from recsys_assets.training.checkpoint import CHOSEN, CheckpointMismatch, read_description
from recsys_assets.training.loop import Fitted

_SAME = ("kind", "type", "side", "group", "transform", "terms_of", "values_of")  # of a feature in both schemas
Axes = dict[str, tuple[int, Axis]]  # of each weight with an axis that vocabularies decide: its number, and the axis


@dataclass(frozen=True)
class Start:
    """A checkpoint that a training continues from.

    Attributes:
        name: how manifests and MLflow name it.
        description: the content of its `model.json`.
        weights: its weights before the pass over the validation rows.
        names: names that differ, of features and of weights or modules: the name now, and that in the checkpoint.
    """

    name: str
    description: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, name: str, names: Mapping[str, str]) -> "Start":
        """Read the checkpoint in a folder.

        Raises:
            CheckpointMismatch: the folder has none, or none that a training can continue from.
        """
        missing = [file for file in (DESCRIPTION, CHOSEN) if not (folder / file).is_file()]
        if missing:
            raise CheckpointMismatch(
                f"no training can continue from {name}: it has no {' and no '.join(missing)}. Name the folder of a "
                "torch model's checkpoint; one of an older version of this project must be trained again"
            )
        try:
            return cls(name, read_description(folder), load_file(folder / CHOSEN), names)
        except (ValueError, SafetensorError) as error:
            raise CheckpointMismatch(f"no training can continue from {name}: it cannot be read: {error}") from error


def continue_from(fitted: Fitted, start: Start) -> None:
    """Set an untrained model to the weights of a checkpoint.

    Raises:
        CheckpointMismatch: the checkpoint does not fit; the message names every feature and weight that differs.
    """
    told = start.description
    if told["model"] != fitted.model_name:
        raise CheckpointMismatch(f"{start.name} is a {told['model']}: {fitted.model_name} cannot continue from it")
    features, weights, faults = _split_names(fitted, start)
    before, schema = _model_of(start, features)
    if told["schema_fingerprint"] != fitted.schema.fingerprint or features:
        faults += _differing_features(fitted, before, schema)
    if faults:  # without a common meaning of the features, no weight can be compared
        _refuse(start, faults)
    values, faults = _values(fitted.model, before, {weights.get(name, name): w for name, w in start.weights.items()})
    if faults:
        _refuse(start, faults + _differing_settings(fitted, told["config"]))
    with torch.no_grad():
        for name, weight in fitted.model.state_dict().items():
            if name in values:
                weight.copy_(values[name])
    fitted.started_from = start.name


def _refuse(start: Start, faults: list[str]) -> NoReturn:
    raise CheckpointMismatch(
        f"{start.name} does not fit: {'; '.join(faults)}. Map names that changed with `warm_names`, or train once with "
        "`warm_start: nothing`"
    )


def _split_names(fitted: Fitted, start: Start) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """The new names of the checkpoint's features and weights, by their old ones, and the names that are unknown."""
    now = {feature.name for feature in fitted.schema.features}
    then = {feature["name"] for feature in start.description["schema"]["features"]}
    features: dict[str, str] = {}
    weights: dict[str, str] = {}
    faults = []
    for new, old in start.names.items():
        moved = {w: new + w.removeprefix(old) for w in start.weights if w == old or w.startswith(f"{old}.")}
        if new in now and old in then:
            features[old] = new
        elif moved and set(moved.values()) <= fitted.model.state_dict().keys():
            weights |= moved
        else:
            faults.append(f"`{new}: {old}` names neither a feature nor a weight of both")
    return features, weights, faults


def _model_of(start: Start, names: Mapping[str, str]) -> tuple[nn.Module, FeatureSchema]:
    """The checkpoint's model, without weights but with its axes, and its schema; features have their new names."""
    told = start.description
    schema = FeatureSchema.from_json(json.dumps(told["schema"]))
    crosses = [[names.get(name, name) for name in cross] for cross in schema.crosses]
    renamed = FeatureSchema([_rename(feature, names) for feature in schema.features], crosses)
    config, _ = configure(told["model"], told["config"], {})
    with torch.device("meta"):
        return entry(told["model"]).build(renamed, config), renamed


def _rename(feature: Feature, names: Mapping[str, str]) -> Feature:
    linked = {part: names.get(name := getattr(feature, part), name) for part in ("name", "terms_of", "values_of")}
    return replace(feature, **linked)


def _schemas(model: nn.Module, schema: FeatureSchema) -> list[FeatureSchema]:
    """The parts of a schema that the model reads."""
    return [model.user_schema, model.item_schema] if isinstance(model, TwoTower) else [schema]


def _differing_features(fitted: Fitted, before: nn.Module, old: FeatureSchema) -> list[str]:
    """Differences of the features that the model reads, apart from vocabularies, statistics and lengths of lists."""
    pairs = zip(_schemas(fitted.model, fitted.schema), _schemas(before, old), strict=True)
    return [fault for one, other in pairs for fault in _differences(one, other)]


def _differences(schema: FeatureSchema, old: FeatureSchema) -> Iterator[str]:
    now, then = ({feature.name: feature for feature in each.features} for each in (schema, old))
    yield from (f"feature {name} is not in the checkpoint" for name in now if name not in then)
    yield from (f"feature {name} is only in the checkpoint" for name in then if name not in now)
    for name in (each for each in now if each in then):
        numbers = now[name].kind == "numeric" and not now[name].terms_of
        for part in (*_SAME, "length") if numbers else _SAME:
            one, other = getattr(now[name], part), getattr(then[name], part)
            if one != other:
                yield f"the {part} of feature {name} is {one!r}, in the checkpoint {other!r}"
    if now.keys() == then.keys() and list(now) != list(then):
        yield f"the order of the features is {', '.join(now)}, in the checkpoint {', '.join(then)}"
    if schema.crosses != old.crosses:
        yield f"the crosses are {schema.crosses}, in the checkpoint {old.crosses}"


def _differing_settings(fitted: Fitted, then: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(asdict(fitted.config)))
    return [
        f"model.{name} is {now[name]}, in the checkpoint {then.get(name)}"
        for name in now
        if now[name] != then.get(name)
    ]


def _values(model: nn.Module, before: nn.Module, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The values of the model's weights, by name, and what does not fit."""
    own, axes, old_axes, statistics = model.state_dict(), _axes(model), _axes(before), _statistics(model)
    faults = [f"weight {name} is only in the checkpoint" for name in weights if name not in own]
    values = {}
    for name in own.keys() - statistics:
        try:
            if name not in weights:
                raise AxisMisfit("it is not in the checkpoint")
            values[name] = _value(own[name], weights[name], axes.get(name), old_axes.get(name))
        except AxisMisfit as error:
            faults.append(f"weight {name}: {error}")
    return values, sorted(faults)


def _value(weight: Tensor, before: Tensor, axis: tuple[int, Axis] | None, old: tuple[int, Axis] | None) -> Tensor:
    """The weight with the checkpoint's values where there are any.

    Raises:
        AxisMisfit: its shape differs in more than the vocabularies.
    """
    shape = list(weight.shape)
    if axis and old:
        shape[axis[0]] = size_of(old[1])
    if list(before.shape) != shape:
        raise AxisMisfit(f"its shape is {list(weight.shape)}, in the checkpoint {list(before.shape)}")
    if not axis or not old:
        return before
    places = places_in(axis[1], old[1])
    kept, taken = (torch.from_numpy(each) for each in (np.flatnonzero(places >= 0), places[places >= 0]))
    return weight.cpu().index_copy(axis[0], kept, before.index_select(axis[0], taken))


def _axes(model: nn.Module) -> Axes:
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, Table | NamedLinear)]
    return {f"{name}.weight": (int(isinstance(part, NamedLinear)), part.axis) for name, part in parts}


def _statistics(model: nn.Module) -> set[str]:
    """The names of the statistics of numbers, which come from the schema."""
    parts = [(name, part) for name, part in model.named_modules() if isinstance(part, Normalise)]
    return {f"{name}.{each}" for name, part in parts for each in part.state_dict()}
