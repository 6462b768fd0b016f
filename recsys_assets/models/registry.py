"""The ranking models by name: one line a model; trainer, checkpoint and ONNX export take any of them.

A model is an nn.Module made of (schema, config) that gives logits (N,) for indices (N, K) and numeric (N, F).
"""

from typing import Any, NamedTuple

from torch import nn

from recsys_assets.models.widedeep import WideDeep, WideDeepConfig


class UnknownModel(KeyError):
    """A model name that is not in the registry."""

    def __str__(self) -> str:
        return f"no ranking model '{self.args[0]}': one of {', '.join(MODELS)}"


class Entry(NamedTuple):
    """A model and the dataclass of its hyper-parameters."""

    model: type[nn.Module]
    config: type[Any]


MODELS: dict[str, Entry] = {
    "widedeep": Entry(WideDeep, WideDeepConfig),
}


def entry(name: str) -> Entry:
    """The registry's line of a model.

    Raises:
        UnknownModel: there is none of this name.
    """
    if name not in MODELS:
        raise UnknownModel(name)
    return MODELS[name]
