"""The YAML form of a search space: that of MetaSpore's tuner, and ranges beside its lists.

`hyper_param` holds a list (one of these), a mapping `{low, high}` with `log` or `step` (a number between, a whole one
where both ends are), or a single value; `common_param` holds values that no trial changes. MetaSpore's own names are
understood: see `metaspore.py`.
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

from recsys_assets.training.config import missing
from recsys_assets.tuning.metaspore import SHORTENED, unused_among

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from pydantic_core import ErrorDetails


class SpaceError(ValueError):
    """A search space that cannot be used; the message names the file, the key and what to do."""


class Range(BaseModel):
    """Numbers from `low` to `high`, both included; whole ones where both ends are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low: int | float
    high: int | float
    log: bool = Field(default=False, description="drawn evenly over magnitudes")
    step: int | float | None = Field(default=None, gt=0, description="only low, low + step, …")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not -math.inf < self.low < self.high < math.inf:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a log scale has low above 0 and no step")
        return self

    @property
    def whole(self) -> bool:
        """Whether it is of whole numbers."""
        return not any(isinstance(number, float) for number in (self.low, self.high, self.step))

    @property
    def size(self) -> float:
        """How many numbers there are; infinite where any between the ends may be drawn."""
        step = self.step or (1 if self.whole else 0)
        return math.floor((self.high - self.low) / step) + 1 if step else math.inf

    def distribution(self) -> "BaseDistribution":
        """The range as Optuna knows it."""
        from optuna.distributions import FloatDistribution, IntDistribution

        if self.whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(self.low, self.high, self.log, self.step)


def _no_code(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("eval@"):
        raise ValueError("code is not run: write a range, as {low: 0.0001, high: 0.01, log: true}")
    return value


def _kind(value: Any) -> str:
    """Which of the forms below a value has."""
    if isinstance(value, dict | Range):
        return "range"
    return "list" if isinstance(value, list) else "value"


# A line of dots among others, as documents print it where they leave lines out; alone at a line's start it is YAML's.
_ELISION = re.compile(r"(?m)^[ \t]+\.\.\.[ \t]*$")
Searched = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[list[Annotated[Any, AfterValidator(_no_code)]], Field(min_length=1), Tag("list")]
    | Annotated[Any, AfterValidator(_no_code), Tag("value")],
    Discriminator(_kind),
]


class Form(BaseModel):
    """A file as it is written, but for what is said once and means nothing here.

    Attributes:
        unused: why each key of the file that is not used is not.
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
        SpaceError: no such file, not YAML, an unknown key, a value that says nothing.
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
    """What is wrong with one key."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{key} {missing(key, Form.model_fields.keys() - {'unused'})}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"
