"""The catalogue of models: one record per model, from which assets, tuners and the funnel's channels are derived.

It does not import torch: a model's module is loaded when the model is built or configured. To add a model, write a file
in this folder, with its search space, and a record here; docs/extending.md lists the tests.

A ranking model is an nn.Module built from (schema, config). From the arrays of `features.schema.Encoded` it computes
logits (N,), or for LightGBM the columns of its trees. A two-tower model is a `TwoTower` built from the same arguments.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, Literal, cast, get_type_hints

from recsys_assets.features.schema import FeatureSchema
from recsys_assets.models.config import NoSettings, RecallTraining, TrainingConfig, fill

if TYPE_CHECKING:
    from torch import nn

    from recsys_assets.models.towers import TwoTower

Library = Literal["pytorch", "lightgbm"]
DESCRIPTION = "model.json"  # the file that describes a trained model, next to its weights or trees


class UnknownModel(KeyError):
    """A model name that is not in the catalogue."""

    def __str__(self) -> str:
        return f"no model '{self.args[0]}': one of {', '.join(MODELS)}"


@dataclass(frozen=True)
class Model:
    """One model.

    Attributes:
        place: the module in this folder and its class, as `module:Class`.
        description: a sentence for the descriptions of its assets.
        training: the defaults of its training; those of a two-tower model that is trained are a `RecallTraining`.
        library: the library that trains it, which the UI shows as a kind of its asset.
        sequences: whether it reads the schema's sequences, to which the history of a two-tower model does not belong.
        cold: whether a two-tower model gives vectors to items without events: it learns from `cold_start_samples`, with
            the bins of `feature_boundaries`, and its class has `cold` set.
        solver: the function that computes the weights of a two-tower model in closed form, as `module:function` of this
            package, in place of a training in steps; see `training.recall.fit`.
    """

    place: str
    description: str
    training: Any = TrainingConfig()
    library: Library = "pytorch"
    sequences: bool = False
    cold: bool = False
    solver: str = ""

    @property
    def samples(self) -> str:
        """The asset of the events that a two-tower model learns from."""
        return "cold_start_samples" if self.cold else "recall_samples"

    @property
    def config(self) -> type[Any]:
        """The dataclass of its hyper-parameters: the type of the class's argument `config`."""
        hints: dict[str, type[Any]] = get_type_hints(self._class().__init__)
        return hints["config"]

    @property
    def space(self) -> Mapping[str, Any]:
        """Its search space: the constant `SPACE` of its module, in the form of `tuning/form.py`."""
        found: Mapping[str, Any] = resolve_name(f"{__package__}.{self.place.partition(':')[0]}:SPACE")
        return found

    @property
    def solve(self) -> Callable[..., None] | None:
        """The function that `solver` names, if any."""
        found: Callable[..., None] | None = resolve_name(f"recsys_assets.{self.solver}") if self.solver else None
        return found

    def build(self, schema: FeatureSchema, config: Any) -> "nn.Module":
        """The model with initial weights."""
        return cast("nn.Module", self._class()(schema, config))

    def _class(self) -> Any:
        return resolve_name(f"{__package__}.{self.place}")


MODELS = {
    "widedeep": Model(
        "widedeep:WideDeep", "Wide & Deep (Cheng et al. 2016): crosses that memorise and an MLP that generalises."
    ),
    "deepfm": Model("deepfm:DeepFm", "DeepFM (Guo et al. 2017): inner products of all pairs of fields and an MLP."),
    "final": Model(
        "final:Final",
        "FINAL (Zhu et al. 2023): product layers that double the order, in two branches that teach each other.",
    ),
    "din": Model(
        "din:Din",
        "DIN (Zhou et al. 2018): attention from the candidate to what the user recently liked and did not like.",
        sequences=True,
    ),
    "lgbm": Model(
        "lgbm:LgbmInputs",
        "LightGBM (Ke et al. 2017): boosted trees on the features of a row, without ids.",
        NoSettings(),
        library="lightgbm",
    ),
    "fm": Model(
        "fm:Fm",
        "A factorisation machine in two towers (Rendle 2010), trained on labels like recsys_pipeline's.",
        RecallTraining(epochs=40, learning_rate=0.01, l2=1e-5),
    ),
    "simplex": Model(
        "simplex:Simplex",
        "SimpleX (Mao et al. 2021): user vector and mean history, trained with the cosine contrastive loss.",
        RecallTraining(batch=1024, epochs=12, learning_rate=8e-3, l2=0.0, negatives="uniform", sampled=1000),
    ),
    "dssm": Model(
        "dssm:Dssm",
        "DSSM (Huang et al. 2013): one MLP per tower, softmax over the catalogue or a weighted sample of it.",
        RecallTraining(batch=1024, learning_rate=2e-3, l2=0.0),
    ),
    "sasrec": Model(
        "sasrec:SasRec",
        "SASRec (Kang & McAuley 2018) with cross-entropy: a causal transformer over the history.",
        RecallTraining(batch=16, epochs=10, learning_rate=1.5e-3, warmup=200, l2=0.0, clip=1.0, last_rate=0.1),
    ),
    "dropoutnet": Model(
        "dropoutnet:DropoutNet",
        "DropoutNet (Volkovs et al. 2017): towers that need no events, trained with dropped preferences.",
        RecallTraining(batch=512, epochs=30, patience=4, learning_rate=6e-3, l2=0.0),
        cold=True,
    ),
    "ridge": Model(
        "ridge:Ridge",
        "Implicit ALS, and ridge regression from content to its vectors (van den Oord et al. 2013), in closed form.",
        NoSettings(),
        cold=True,
        solver="coldstart.solve:solve",
    ),
}
TOWERS = {name: model for name, model in MODELS.items() if isinstance(model.training, RecallTraining) or model.solver}
TRAINED_TOWERS = {name: model for name, model in TOWERS.items() if not model.solver}  # step by step
RANKERS = {name: model for name, model in MODELS.items() if name not in TOWERS}


def entry(name: str, among: Mapping[str, Model] = MODELS) -> Model:
    """The record of a model.

    Raises:
        UnknownModel: there is no model of this name.
    """
    if name not in among:
        raise UnknownModel(name)
    return among[name]


def features_for(name: str, schema: FeatureSchema) -> FeatureSchema:
    """The features of a schema that a model reads.

    Raises:
        UnknownModel: there is no model of this name.
    """
    return schema if entry(name).sequences else schema.without_sequences()


def build_towers(name: str, schema: FeatureSchema, config: Any) -> "TwoTower":
    """A two-tower model with initial weights.

    Raises:
        UnknownModel: there is no two-tower model of this name.
    """
    return cast("TwoTower", entry(name, TOWERS).build(schema, config))


def configure(name: str, network: Mapping[str, Any], training: Mapping[str, Any]) -> tuple[Any, Any]:
    """A model's hyper-parameters and training settings: the defaults, updated with the given values.

    Raises:
        UnknownModel: there is no model of this name.
        ConfigError: a setting does not exist, or cannot have the given value.
    """
    defaults = {"model": entry(name).config(), "training": entry(name).training}
    sections = {setting.name: part for part, made in defaults.items() for setting in fields(made)}
    return (
        fill(defaults["model"], network, f"{name}: model", sections),
        fill(defaults["training"], training, f"{name}: training", sections),
    )
