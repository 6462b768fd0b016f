"""The settings of a deployment, `deploy.yaml`: the model, and how many processes serve it with how much memory."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from recsys_assets.coldstart.choice import WITHOUT
from recsys_assets.datasets.profile_parts import Part
from recsys_assets.datasets.profile_yaml import Fault, fault_text, form_faults, read
from recsys_assets.models.catalogue import TOWERS
from recsys_assets.models.config import explain_unknown


class DeployConfigError(ValueError):
    """A `deploy.yaml` that cannot be used; the message names the file, the line and the key."""


class DeployConfig(Part):
    """The settings of a version, which are those of EasyRec's `eas_config.json` for this machine.

    `memory` is the most MiB of data of each process. A process that wants more ends, and another takes its place.
    """

    name: str | None = Field(default=None, description="of the deployment, if the file is for one alone")
    model: str = Field(
        default=WITHOUT,
        description="the two-tower model whose `onnx_<model>` answers; `create` takes the one that serves fresh items",
    )
    processes: int = Field(default=1, ge=1, le=64)
    memory: int = Field(default=2048, ge=512, le=1 << 20, description="MiB of each process")
    port: int = Field(default=8100, ge=1, le=65535, description="of 127.0.0.1; it stays as it was created")

    @field_validator("model")
    @classmethod
    def _is_a_tower(cls, model: Any) -> Any:
        if model not in TOWERS:
            raise ValueError(f"'{model}' {explain_unknown(str(model), TOWERS)}")
        return model


def read_config(path: Path) -> DeployConfig:
    """The settings of a file.

    Raises:
        DeployConfigError: it has faults, each named by its line and key.
    """
    try:
        content = read(path, {})
    except Fault as fault:
        raise DeployConfigError(f"{path}{fault_text(fault.place, str(fault), fault.line)}") from None
    try:
        return DeployConfig.model_validate(content.values)
    except ValidationError as error:
        faults = form_faults(content, error, "files of deployments")
        texts = [fault_text(each.place, str(each), content.line(each.place)[1]) for each in faults]
        raise DeployConfigError(f"{path}, {'; '.join(text.removeprefix(', ') for text in texts)}") from None
