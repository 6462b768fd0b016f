"""The models by name, one line per model; trainer, checkpoint and ONNX export take any of them.

A ranking model is an nn.Module built from (schema, config). It gives logits (N,) for indices (N, K) and numeric
(N, F), or for LightGBM the columns of its trees. A two-tower model is a `TwoTower` built from the same arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Literal, NamedTuple, cast

from torch import nn

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.config import RecallTraining, TrainingConfig, filled
from recsys_assets.models.deepfm import DeepFm, DeepFmConfig
from recsys_assets.models.din import Din, DinConfig
from recsys_assets.models.dssm import Dssm, DssmConfig
from recsys_assets.models.final import Final, FinalConfig
from recsys_assets.models.fm import Fm, FmConfig
from recsys_assets.models.lgbm import LgbmConfig, LgbmInputs, NoSettings
from recsys_assets.models.sasrec import SasRec, SasRecConfig
from recsys_assets.models.simplex import Simplex, SimplexConfig
from recsys_assets.models.towers import TwoTower
from recsys_assets.models.widedeep import WideDeep, WideDeepConfig

Library = Literal["torch", "lightgbm"]


class UnknownModel(KeyError):
    """A model name that is not in the registry."""

    def __str__(self) -> str:
        return f"no model '{self.args[0]}': one of {', '.join(MODELS | TOWERS)}"


class Entry(NamedTuple):
    """One model: its factory, called with (schema, config), hyper-parameter class, training defaults, and library."""

    model: Callable[[FeatureSchema, Any], nn.Module]
    config: type[Any]
    training: Any
    library: Library = "torch"
    sequences: bool = False  # whether it reads sequences; other models are not given any


MODELS: dict[str, Entry] = {
    "widedeep": Entry(WideDeep, WideDeepConfig, TrainingConfig()),
    "deepfm": Entry(DeepFm, DeepFmConfig, TrainingConfig()),
    "final": Entry(Final, FinalConfig, TrainingConfig()),
    "din": Entry(Din, DinConfig, TrainingConfig(), sequences=True),
    "lgbm": Entry(LgbmInputs, LgbmConfig, NoSettings(), "lightgbm"),
}
TOWERS: dict[str, Entry] = {
    "fm": Entry(Fm, FmConfig, RecallTraining(epochs=40, learning_rate=0.01, l2=1e-5)),
    "simplex": Entry(
        Simplex, SimplexConfig, RecallTraining(batch=1024, patience=3, l2=0.0, negatives="uniform", sampled=1000)
    ),
    "dssm": Entry(Dssm, DssmConfig, RecallTraining(batch=1024, patience=3, learning_rate=1e-3, l2=0.0)),
    "sasrec": Entry(
        SasRec,
        SasRecConfig,
        RecallTraining(batch=64, epochs=24, patience=4, learning_rate=2e-3, warmup=200, l2=0.0, clip=1.0),
    ),
}


def entry(name: str) -> Entry:
    """The registry's entry of a model.

    Raises:
        UnknownModel: there is no model of this name.
    """
    if name not in MODELS | TOWERS:
        raise UnknownModel(name)
    return (MODELS | TOWERS)[name]


def read_by(name: str, schema: FeatureSchema) -> FeatureSchema:
    """The features of a schema that a model reads.

    Raises:
        UnknownModel: there is no model of this name.
    """
    return schema if entry(name).sequences else schema.without_sequences()


def towers(name: str) -> Callable[[FeatureSchema, Any], TwoTower]:
    """The factory of a two-tower model, called with (schema, config).

    Raises:
        UnknownModel: there is no two-tower model of this name.
    """
    if name not in TOWERS:
        raise UnknownModel(name)
    return cast(Callable[[FeatureSchema, Any], TwoTower], TOWERS[name].model)


def configured(name: str, network: Mapping[str, Any], training: Mapping[str, Any]) -> tuple[Any, Any]:
    """A model's hyper-parameters and training settings: the defaults, updated with the given values.

    Raises:
        UnknownModel: there is no model of this name.
        ConfigError: a setting does not exist, or cannot have the given value.
    """
    defaults = {"model": entry(name).config(), "training": entry(name).training}
    homes = {setting.name: part for part, made in defaults.items() for setting in fields(made)}
    return (
        filled(defaults["model"], network, f"{name}: model", homes),
        filled(defaults["training"], training, f"{name}: training", homes),
    )
