"""The YAML form of a search space: that of MetaSpore's tuner, extended with ranges.

A setting in `hyper_param` is a list (of values to try), a mapping `{low, high}` with `log` or `step` (a number in
between, whole if both ends are), or a single value; `common_param` holds values that no trial changes. MetaSpore's
own names are understood: see `metaspore.py`.
"""

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    ValidationError,
    model_validator,
)

from recsys_assets.models.config import missing
from recsys_assets.tuning.metaspore import SHORTENED, unused_among

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from pydantic_core import ErrorDetails


class SpaceError(ValueError):
    """A search space cannot be used; the message names the file and the key, and says what to do."""


class Range(BaseModel):
    """Numbers from `low` to `high`, both included; whole numbers if both ends are whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="draw on a logarithmic scale")
    step: int | float | None = Field(default=None, gt=0, description="only low, low + step, …")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a log scale needs low above 0 and no step")
        return self

    @property
    def whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return not any(isinstance(number, float) for number in (self.low, self.high, self.step))

    @property
    def size(self) -> float:
        """The number of values; infinite if any number between the ends may be drawn."""
        step = self.step or (1 if self.whole else 0)
        return math.floor((self.high - self.low) / step) + 1 if step else math.inf

    def distribution(self) -> "BaseDistribution":
        """The range as an Optuna distribution."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)


def _no_code(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("eval@"):
        raise ValueError("code is not run: write a range, as {low: 0.0001, high: 0.01, log: true}")
    return value


def _kind(value: Any) -> str:
    """The name of the form below that a value has."""
    if isinstance(value, dict | Range):
        return "range"
    return "list" if isinstance(value, list) else "value"


# An indented line of dots, with which documents mark omitted lines; dots at a line's start belong to YAML itself.
_ELISION = re.compile(r"(?m)^[ \t]+\.\.\.[ \t]*$")
Searched = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[list[Annotated[Any, AfterValidator(_no_code)]], Field(min_length=1), Tag("list")]
    | Annotated[Any, AfterValidator(_no_code), Tag("value")],
    Discriminator(_kind),
]


class Form(BaseModel):
    """The content of a file, without the keys that mean nothing here.

    Attributes:
        unused: the reason for each key of the file that is not used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    num_experiment: PositiveInt = Field(default=20, description="trials")
    model_name: str
    result_path: str | None = Field(default=None, description="a folder that the results are written to as well")
    common_param: dict[str, Any] = {}
    hyper_param: dict[str, Searched]
    unused: dict[str, str] = Field(default={}, exclude=True)


def read(path: Path) -> Form:
    """Read a file.

    Raises:
        SpaceError: the file is missing or not YAML, or has an unknown key or an invalid value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        whole = _ELISION.sub("", text)
        content = yaml.safe_load(whole)
    except (FileNotFoundError, IsADirectoryError):
        raise SpaceError(f"there is no search space {path}: give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SpaceError(f"{path} is not a mapping of keys to values, as in `model_name: widedeep`")
    unused = unused_among(map(str, content)) | ({SHORTENED: "lines that were left out"} if whole != text else {})
    try:
        used = {str(key): value for key, value in content.items() if key not in unused}
        return Form.model_validate({**used, "unused": unused})
    except ValidationError as error:
        raise SpaceError(f"{path}: " + "; ".join(map(_fault, error.errors()))) from error


def _fault(error: "ErrorDetails") -> str:
    """The message for one invalid key."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{key} {missing(key, Form.model_fields.keys() - {'unused'})}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"
