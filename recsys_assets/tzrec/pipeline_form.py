"""The form of a pipeline file: its sections and their keys.

Columns, label and features are described as in a profile (`docs/columns.md`); the settings of model and training are
those of the assets' run configuration.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from recsys_assets.datasets.profile_parts import Count, Part


class TableFeatures(Part):
    """The features among the columns, as in a profile."""

    categorical: list[str] = []
    multi_valued: list[str] = []
    numeric: list[str] = []
    log: list[str] = []
    crosses: list[list[str]] = []
    min_count: Count = 2


class NegativeSampler(Part):
    """The items that negatives are drawn from: a table as `negative_items` and TorchEasyRec's sampler have it."""

    input_path: str


class DataConfig(Part):
    """The tables.

    Attributes:
        columns: those of all tables. A two-tower model needs `user_id` and `item_id`, and `of` says to whom a feature
            belongs; a `timestamp` orders the rows, which otherwise are in the order of the files.
        label: the condition that makes a row a positive; without it, every row is one.
        validation_ratio: the share of the train rows, the last ones of each user or of all rows, that decide when
            training stops; not used with `validation_input_path`.
        filter_seen: whether lists leave out what the user has touched before, when models are validated and evaluated.
        negative_sampler: with it, `train_config.negatives` is `table` unless the file says otherwise.
    """

    columns: dict[str, Any]
    label: str | bool = True
    features: TableFeatures = TableFeatures()
    validation_ratio: float = Field(default=0.1, gt=0, lt=1)
    filter_seen: bool = False
    negative_sampler: NegativeSampler | None = None


class ModelSection(Part):
    """A model of the catalogue and its settings."""

    name: str
    settings: dict[str, Any] = {}


class Form(Part):
    """The whole file; paths are files, folders or patterns, and several are joined by commas."""

    train_input_path: str
    eval_input_path: str
    model_dir: Path
    validation_input_path: str | None = None
    seed: int = Field(default=1, ge=0)
    data_config: DataConfig
    model: ModelSection = Field(alias="model_config")
    train_config: dict[str, Any] = {}

    @field_validator("model", mode="before")
    @classmethod
    def _name_and_settings(cls, given: Any) -> Any:
        """In the file, the settings are next to the name."""
        if not isinstance(given, dict):
            return given
        settings = {name: value for name, value in given.items() if name != "name"}
        return {"settings": settings, **({"name": given["name"]} if "name" in given else {})}

    @property
    def training(self) -> dict[str, Any]:
        """The settings of the training; a sampler's table is used if there is one."""
        return {**({"negatives": "table"} if self.data_config.negative_sampler else {}), **self.train_config}
