"""The YAML form of a search space: that of MetaSpore's tuner, and ranges beside its lists.

`hyper_param` holds a list (one of these), a mapping `{low, high}` with `log` or `step` (a number between, a whole one
where both ends are), or a single value; `common_param` holds values that no trial changes.
"""

import math
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

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


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


Searched = Annotated[
    Annotated[Range, Tag("range")]
    | Annotated[list[Annotated[Any, AfterValidator(_no_code)]], Field(min_length=1), Tag("list")]
    | Annotated[Any, AfterValidator(_no_code), Tag("value")],
    Discriminator(_kind),
]


class Form(BaseModel):
    """A file as it is written. What is in `UNUSED` is read and not used: the asset knows its data and its place."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    app_name: str = ""
    num_experiment: PositiveInt = Field(default=20, description="trials")
    model_name: str
    result_path: str | None = None
    local_result_path: str | None = None
    py_files: str | None = None
    dataset: dict[str, str] = {}
    common_param: dict[str, Any] = {}
    hyper_param: dict[str, Searched]


UNUSED = ("app_name", "result_path", "local_result_path", "py_files", "dataset")


def read(path: Path) -> Form:
    """Read a file.

    Raises:
        SpaceError: no such file, not YAML, an unknown key, a value that says nothing.
    """
    try:
        return Form.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise SpaceError(f"there is no search space {path}: give the path of a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
        raise SpaceError(f"{path}: " + "; ".join(lines)) from error
