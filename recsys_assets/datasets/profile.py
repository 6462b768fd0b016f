"""A dataset is one profile: a YAML file that says what the tables hold and how they are used.

Put here what describes the data of one recommender: tables, columns, types, the label rule, the
features, the split, the first bizdate. Keep out places (settings) and hyper-parameters (assets' config).
"""

import datetime as dt
import difflib
import os
import re
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from recsys_assets.datasets.profile_parts import (
    Bounds,
    Column,
    Features,
    Part,
    Publishing,
    Recall,
    Split,
    TableName,
)
from recsys_assets.settings import Settings, settings
from recsys_assets.uris import NotAFolder, check_folder, shown

KEYS: dict[TableName, tuple[str, ...]] = {
    "interactions": ("user_id", "item_id", "timestamp"),
    "users": ("user_id",),
    "items": ("item_id",),
}
# Columns that ingest adds (`datasets/ingest.py`).
RESERVED = {"row", "seq", "day", "file", "reason"}


class ProfileError(ValueError):
    """A profile that cannot be used; the message names the file, the key and what to do."""


class Profile(Part):
    """One dataset: see the bundled profiles for commented examples.

    `tables` holds `interactions` and, together, `users` and `items`. A dataset of labelled rows has
    `interactions` alone, with the features among its columns: no ids are needed then, and rows without a
    `timestamp` are of the start of the day they landed on, in the order of the landing files.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str = ""
    source: Literal["sample", "movielens", "criteo"] | None = None
    first_bizdate: dt.date
    last_bizdate: dt.date | None = None
    landing: Path
    tables: dict[TableName, dict[str, Column]]
    label: str = Field(description="SQL condition over the columns of `interactions`, true for a positive")
    rating: str | None = Field(default=None, description="numeric column of `interactions` averaged as a feature")
    oracle: str | None = Field(default=None, description="true probability of a positive, where the data is generated")
    features: Features = Features()
    split: Split
    recall: Recall = Recall()
    publishing: Publishing = Publishing()
    bounds: Bounds = Bounds()
    tuned: list[str] = Field(default=[], description="models trained with the best settings of their `tune_<model>`")

    @field_validator("tables", mode="before")
    @classmethod
    def _short_columns(cls, tables: Any) -> Any:
        """`gender: string` is short for `gender: {type: string}`."""
        if not isinstance(tables, dict) or not all(isinstance(columns, dict) for columns in tables.values()):
            return tables
        return {
            table: {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in columns.items()}
            for table, columns in tables.items()
        }

    @model_validator(mode="after")
    def _consistent(self) -> "Profile":
        self._keys_fit()
        if self.last_bizdate and self.last_bizdate < self.first_bizdate:
            raise ValueError("last_bizdate is before first_bizdate")
        for name in (self.rating, self.oracle):
            if name and self.tables["interactions"].get(name, Column(type="string")).type not in ("float32", "int64"):
                raise ValueError(f"'{name}' is not a numeric column of tables.interactions")
        self._features_exist()
        return self

    def _keys_fit(self) -> None:
        for table, keys in KEYS.items():
            columns = self.tables.get(table, {})
            if missing := [key for key in keys if self.has_entities and key not in columns]:
                raise ValueError(f"tables.{table} lacks {', '.join(missing)}")
            if taken := sorted(RESERVED & columns.keys()):
                raise ValueError(
                    f"tables.{table}: '{taken[0]}' is a name of the platform's own: use another and give this one as "
                    f"`column`, as in `my_{taken[0]}: {{type: …, column: {taken[0]}}}`"
                )
        events = self.tables.get("interactions", {})
        if "timestamp" in events and events["timestamp"].type != "timestamp":
            raise ValueError(f"tables.interactions.timestamp is {events['timestamp'].type}, not timestamp")
        if not self.has_entities:
            self._rows_suffice()
            return
        for table, key in (("users", "user_id"), ("items", "item_id")):
            types = {self.tables[table][key].type, events[key].type}
            if len(types) > 1 or not types <= {"int64", "string"}:
                raise ValueError(f"{key} must be int64, or string, in both tables.interactions and tables.{table}")

    def _rows_suffice(self) -> None:
        """Without users and items: nothing in the profile asks for them, and no feature tells the label."""
        if not self.tables.get("interactions"):
            raise ValueError("tables.interactions lacks columns")
        needy = {f"split.strategy {self.split.strategy}": self.split.strategy != "by_day", "rating": self.rating}
        if asking := [name for name, needs in needy.items() if needs]:
            raise ValueError(f"{asking[0]} needs tables.users and tables.items: add them or leave it out")
        for name in self.features.columns:
            if name == "label" or re.search(rf"\b{re.escape(name)}\b", self.label):
                raise ValueError(f"features: '{name}' is what the label is made of, which nobody knows beforehand")

    def _features_exist(self) -> None:
        sides = {name: spec for table in self.feature_tables for name, spec in self.tables[table].items()}
        wanted = {
            "categorical": ("int64", "string"),
            "multi_valued": ("strings",),
            "numeric": ("int64", "float32"),
        }
        for kind, types in wanted.items():
            for name in getattr(self.features, kind):
                if name not in sides:
                    raise ValueError(f"features.{kind}: '{name}' is no column of {' or '.join(self.feature_tables)}")
                if sum(name in self.tables[table] for table in self.feature_tables) > 1:
                    raise ValueError(f"features.{kind}: '{name}' is a column of both users and items: rename one")
                if sides[name].type not in types:
                    raise ValueError(f"features.{kind}: '{name}' is {sides[name].type}, not {' or '.join(types)}")
        if unknown := sorted(set(self.features.log) - set(self.features.numeric)):
            raise ValueError(f"features.log: '{unknown[0]}' is not among features.numeric")
        terms = self.features.terms
        if terms and not (terms.column in self.features.multi_valued and terms.column in self.tables.get("items", {})):
            raise ValueError(f"features.terms: '{terms.column}' is no column of items among features.multi_valued")
        known = {*self.features.categorical, *self.features.multi_valued}
        for cross in self.features.crosses:
            if len(cross) != 2 or not set(cross) <= known:
                raise ValueError(f"features.crosses: {cross} is no pair of categorical or multi-valued features")

    @property
    def has_entities(self) -> bool:
        """Whether users and items have tables; without them the dataset is labelled rows and nothing else."""
        return "users" in self.tables or "items" in self.tables

    @property
    def feature_tables(self) -> tuple[TableName, ...]:
        """The tables whose columns feed the models."""
        return ("users", "items") if self.has_entities else ("interactions",)

    def keys(self, table: TableName) -> tuple[str, ...]:
        """Columns of an ingested table that tell its rows apart."""
        return KEYS[table] if self.has_entities else ("timestamp", "seq")

    def columns(self, table: TableName) -> dict[str, Column]:
        """Columns of a landed table by the platform's names."""
        return self.tables[table]


def bundled_profiles() -> dict[str, Path]:
    """The profiles that come with the package, by name."""
    return {path.stem: path for path in sorted((Path(__file__).parent / "profiles").glob("*.yaml"))}


def load_profile(name_or_path: str | None = None, place: Settings | None = None) -> Profile:
    """Read a bundled profile by name or a user's own by path (default: what `RECSYS_PROFILE` says).

    Raises:
        ProfileError: no such profile, not YAML, an unset `${VAR}`, an unknown key, a wrong value.
    """
    place = place or settings()
    wanted = name_or_path or place.profile
    path = bundled_profiles().get(wanted, place.home / wanted)
    if not path.is_file():
        near = difflib.get_close_matches(wanted, bundled_profiles(), n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        names = ", ".join(bundled_profiles())
        raise ProfileError(f"no profile '{shown(wanted)}': {hint}give one of {names}, or the path of a YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{path} is no mapping of keys to values: see the bundled profiles for the form")
    try:
        content = _substituted(content, {"RECSYS_LANDING": str(place.landing), **os.environ})
    except KeyError as error:
        raise ProfileError(f"{path} uses ${{{error.args[0]}}}, which is not set in the environment") from error
    try:
        profile = Profile.model_validate(content)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'profile'}: {e['msg']}" for e in error.errors()]
        raise ProfileError(f"{path}: " + "; ".join(lines)) from error
    try:
        check_folder(f"{path}: landing", str(profile.landing))
    except NotAFolder as error:
        raise ProfileError(str(error)) from None
    return profile.model_copy(update={"landing": place.home / profile.landing})


def _substituted(value: Any, variables: dict[str, str]) -> Any:
    """The value with `${VAR}` replaced in its texts; KeyError where one is not set."""
    match value:
        case dict():
            return {key: _substituted(each, variables) for key, each in value.items()}
        case list():
            return [_substituted(each, variables) for each in value]
        case str():
            return re.sub(r"\$\{(\w+)\}", lambda found: variables[found[1]], value)
    return value
