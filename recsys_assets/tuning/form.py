"""The YAML form of a search space: that of MetaSpore's tuner, extended with ranges.

A setting in `hyper_param` is a list (of values to try), a mapping `{low, high}` with `log` or `step` (a number in
between, whole if both ends are), or a single value; `common_param` holds values that no trial changes. MetaSpore's
own names are understood: see `metaspore.py`.

`result_path` is a folder for a copy of the results, in addition to the partition in the lake. A file may come from
anywhere, so it must not decide freely where files are written. A relative path starts at the project's home; after
links are followed, the folder must be in the home or in the data folder, but not in the lake or the landing folder,
which have their own rules. `${VAR}` is an environment variable; a path with one that is not set is not used. Below the
folder the layout is the lake's, so that no two results share a path.
"""

import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
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

from recsys_assets.models.config import explain_unknown
from recsys_assets.settings import Settings
from recsys_assets.tuning.metaspore import SHORTENED, unused_names

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from pydantic_core import ErrorDetails


_ENVIRONMENT_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")
_RESULT_PATH_ADVICE = (
    "write a path such as data/tuner, or leave result_path out: the results are always in the lake too"
)


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
    def _check_consistent(self) -> Self:
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
    unused = unused_names(map(str, content)) | ({SHORTENED: "lines that were left out"} if whole != text else {})
    try:
        used = {str(key): value for key, value in content.items() if key not in unused}
        return Form.model_validate({**used, "unused": unused})
    except ValidationError as error:
        raise SpaceError(f"{path}: " + "; ".join(map(_fault, error.errors()))) from error


def unset_variables(written: str, environment: Mapping[str, str]) -> list[str]:
    """The variables in a path that are not set in the environment."""
    return [name for found in _ENVIRONMENT_VARIABLE.findall(written) if (name := "".join(found)) not in environment]


def result_place(written: str, below: str, settings: Settings, environment: Mapping[str, str]) -> Path:
    """The folder `below` under a written path, whose variables are all set.

    Raises:
        SpaceError: it is not in a folder that results may be written to.
    """
    path = _ENVIRONMENT_VARIABLE.sub(lambda found: environment[found[1] or found[2]], written)
    if "://" in path:
        raise SpaceError(f"result_path {written} is not a folder of this machine: {_RESULT_PATH_ADVICE}")
    folder = (settings.home / path / below).resolve()
    allowed = [root.resolve() for root in (settings.home, settings.data)]
    taken = [Path(root).resolve() for root in (settings.landing, settings.lake) if "://" not in str(root)]
    if not any(folder.is_relative_to(root) for root in allowed):
        raise SpaceError(
            f"result_path {written} is outside of {' and '.join(map(str, allowed))}: {_RESULT_PATH_ADVICE}"
        )
    if any(folder.is_relative_to(root) for root in taken):
        raise SpaceError(f"result_path {written} is in the lake or the landing folder: {_RESULT_PATH_ADVICE}")
    return folder


def copy_results(files: Iterable[Path], folder: Path) -> None:
    """Copy files into a folder, each in one step; a file or link of the same name is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=folder)
        os.close(handle)
        shutil.copyfile(file, name)
        Path(name).replace(folder / file.name)


def _fault(error: "ErrorDetails") -> str:
    """The message for one invalid key."""
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden" and len(error["loc"]) == 1:
        return f"{key} {explain_unknown(key, Form.model_fields.keys() - {'unused'})}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}"
