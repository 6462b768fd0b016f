"""A dataset is one profile: a YAML file that says what the tables hold and how they are used.

Put here what describes the data of one recommender: tables, columns, types, the label rule, the
features, the split, the first bizdate. Keep out places (settings) and hyper-parameters (assets' config).
"""

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationError, field_validator

from recsys_assets import uris
from recsys_assets.datasets.files import Files
from recsys_assets.datasets.fresh_rules import Fresh
from recsys_assets.datasets.label import EVERY_EVENT
from recsys_assets.datasets.landing_store import SCHEME, LandingStore, landing_store
from recsys_assets.datasets.names import suggest
from recsys_assets.datasets.profile_parts import (
    Bounds,
    Column,
    Daily,
    EventKinds,
    Features,
    FunnelRule,
    Impressions,
    Negatives,
    Part,
    Publishing,
    Recall,
    Refit,
    Retention,
    Right,
    Session,
    Split,
    TableName,
    WarmStart,
)
from recsys_assets.datasets.profile_rules import KEYS, LabelFault, faults
from recsys_assets.datasets.profile_yaml import Content, Fault, environment, fault_text, form_faults, quote_text, read
from recsys_assets.settings import Settings, settings
from recsys_assets.uris import is_folder

__all__ = ["KEYS", "Profile", "ProfileError", "bundled_profiles", "load_profile"]

Day = Annotated[dt.date, Field(ge=dt.date(1970, 1, 1), lt=dt.date(2200, 1, 1))]
_SHOWN = 5  # one message names at most this many faults


class ProfileError(ValueError):
    """A profile that cannot be used; the message names the file, the key and what to do."""


class Profile(Part):
    """One dataset: see the bundled profiles for commented examples.

    `tables` holds `interactions` and, if they land, `users` and `items`; a table that does not land is made from the
    log. If no such table lands and the log lacks user_id, item_id or timestamp, the dataset is labelled rows, with the
    features among the columns of `interactions`: it needs no ids, and rows without a `timestamp` get the start of the
    day on which they landed, in the order of the landing files.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=48, description="the folder of its partitions")
    title: str = Field(default="", description="for people")
    source: Literal["sample", "movielens", "criteo"] | None = Field(
        default=None, description="what `recsys land` makes or downloads; without it, files land by themselves"
    )
    first_bizdate: Day = Field(description="the first day with landing files")
    last_bizdate: Day | None = Field(default=None, description="of a finished data set; otherwise days are being added")
    landing: Path = Field(description="where landing files arrive: a folder, or an address in an object store")
    files: Files = Files()
    tables: dict[TableName, dict[str, Column]] = Field(description="the columns of each table, by name")
    unknown_ids: Literal["reject", "keep"] = Field(
        default="reject", description="events whose user or item is in no landed table by their day"
    )
    label: str = Field(
        default=EVERY_EVENT,
        description="SQL condition over the columns of `interactions`, true for a positive; `true`: every event is one",
    )
    events: EventKinds | None = Field(default=None, description="kinds of events, such as views and orders")
    negatives: Negatives | None = Field(default=None, description="drawn if given, or if no event is a negative")
    session: Session | None = Field(default=None, description="the column of sessions, if rows may lack a user")
    impressions: Impressions | None = Field(default=None, description="how shown items are matched with events")
    rating: str | None = Field(default=None, description="numeric column of `interactions` averaged as a feature")
    oracle: str | None = Field(default=None, description="true probability of a positive, where the data is generated")
    features: Features = Features()
    split: Split
    recall: Recall = Recall()
    funnel: FunnelRule = FunnelRule()
    fresh: Fresh = Fresh()
    publishing: Publishing = Publishing()
    bounds: Bounds = Bounds()
    tuned: list[str] = Field(default=[], description="models trained with the best settings of their `tune_<model>`")
    warm_start: WarmStart = WarmStart()
    refit: Refit = Refit()
    daily: Daily = Daily()
    retention: Retention = Retention()

    _store: LandingStore | None = PrivateAttr(default=None)  # set by `load_profile`

    @field_validator("label", mode="before")
    @classmethod
    def _label_of_every_event(cls, label: Any) -> Any:
        """YAML reads `label: true` as a truth value."""
        return EVERY_EVENT if label is True else label

    @field_validator("tables", mode="before")
    @classmethod
    def _short_columns(cls, tables: Any) -> Any:
        """`gender: string` is short for `gender: {type: string}`."""
        if not isinstance(tables, dict):
            return tables
        return {table: cls._expand_columns(columns) for table, columns in tables.items()}

    @staticmethod
    def _expand_columns(columns: Any) -> Any:
        if not isinstance(columns, dict):
            return columns
        return {name: {"type": spec} if isinstance(spec, str) else spec for name, spec in columns.items()}

    @property
    def store(self) -> LandingStore | None:
        """The object store of the landing folder; `landing` is then its copy on this machine."""
        return self._store

    @property
    def landing_place(self) -> str:
        """The landing folder in messages: its path, or its address in an object store."""
        return self._store.address if self._store else str(self.landing)

    @property
    def has_entities(self) -> bool:
        """Whether the events are of users and items, the entities; without them the dataset is only labelled rows."""
        log = self.tables.get("interactions", {})
        return bool({"users", "items"} & self.tables.keys()) or set(KEYS["interactions"]) <= log.keys()

    @property
    def feature_tables(self) -> tuple[TableName, ...]:
        """The tables whose columns feed the models."""
        return ("users", "items") if self.has_entities else ("interactions",)

    def columns_of(self, table: TableName) -> dict[str, Column]:
        """The columns of an ingested table that the profile describes: its own, its key, and those `carried` for it."""
        log = self.tables["interactions"]
        keys = () if table == "interactions" else KEYS[table]
        return {key: log[key] for key in keys} | self.tables.get(table, {}) | self.carried(table)

    def carried(self, table: TableName) -> dict[str, Column]:
        """The columns of `interactions` that belong to the users, or the items."""
        return {name: spec for name, spec in self.tables["interactions"].items() if f"{spec.of}s" == table}

    @property
    def carried_features(self) -> dict[str, Column]:
        """The features among the columns of `interactions` that belong to a user or an item, in the profile's order."""
        carried = self.carried("users") | self.carried("items")
        return {name: carried[name] for name in self.features.columns if name in carried}

    def needs_log(self, table: TableName) -> bool:
        """Whether users, or items, are made from the log, or from the log and what landed."""
        return table not in self.tables or self.unknown_ids == "keep" or bool(self.carried(table))

    @property
    def has_label_rule(self) -> bool:
        """Whether the label is a condition of the profile's own."""
        return self.label != EVERY_EVENT

    @property
    def draws(self) -> Negatives | None:
        """The rule of drawn negatives: the profile's own, or the default if no event is a negative; None for none."""
        if not self.has_entities or self.impressions:
            return None
        rule = self.negatives or (Negatives() if self._has_positives_only else None)
        return rule if rule and rule.rate else None

    @property
    def draws_all(self) -> bool:
        """Whether all negatives are drawn, so that probabilities can be corrected for the draw."""
        return bool(self.draws) and self._has_positives_only

    @property
    def touch(self) -> Negatives | None:
        """The negatives of the touch model, one for each event; None for no such model.

        There is one where ranking models tell events from one another, and learn nothing of what is touched at all.
        """
        needless = not self.has_entities or self.impressions or self.negatives or self.draws
        return None if needless else Negatives(rate=1)

    @property
    def draws_any(self) -> Negatives | None:
        """The negatives that are drawn, for whichever model."""
        return self.draws or self.touch

    @property
    def _has_positives_only(self) -> bool:
        """Whether no event is a negative for ranking."""
        return not self.has_label_rule and (not self.events or set(self.events.ranked) == set(self.events.weights))

    @property
    def rights(self) -> tuple[Right, ...]:
        """The kinds of right items in this log: see `FunnelRule`; `liked` only if not all touched ones are liked."""
        some = set(self.events.recalled) < set(self.events.weights) if self.events else self.has_label_rule
        found: dict[Right, bool] = {"touched": True, "liked": some, "weighted": bool(self.events)}
        return tuple(right for right, there in found.items() if there or right == self.funnel.right)

    @property
    def negatives_text(self) -> str:
        """Which rows ranking models and their figures take as negatives, in words."""
        if self.impressions:
            return f"shown items that were not touched within {self.impressions.window}"
        given = "" if self._has_positives_only else "rows of the log that are not positives"
        return " and ".join(filter(None, [given, self.draws.text if self.draws else ""])) or "none"

    def keys(self, table: TableName) -> tuple[str, ...]:
        """Columns that identify the rows of an ingested table."""
        if not self.has_entities:
            return ("timestamp", "seq")
        return (*KEYS[table], self.events.column) if self.events and table == "interactions" else KEYS[table]

    @property
    def event_keys(self) -> tuple[str, ...]:
        """Columns that identify the rows of samples; `seq` is needed where user, item and time may repeat."""
        if self.impressions:
            return KEYS["impressions"]
        return (*KEYS["interactions"], "seq") if self.events or self.draws else KEYS["interactions"]

    @property
    def pair_keys(self) -> tuple[str, ...]:
        """Columns that identify the rows of user-item features: those of samples, and `seq` for drawn rows."""
        return tuple(dict.fromkeys([*self.event_keys, *(["seq"] if self.draws_any else [])]))


def bundled_profiles() -> dict[str, Path]:
    """The profiles that come with the package, by name; `<profile>.scenes.yaml` is not one."""
    return {
        path.stem: path for path in sorted((Path(__file__).parent / "profiles").glob("*.yaml")) if "." not in path.stem
    }


def load_profile(name_or_path: str | None = None, place: Settings | None = None) -> Profile:
    """Read a bundled profile by name or a user's own by path (default: `RECSYS_PROFILE`), for the settings in `place`.

    Raises:
        ProfileError: there is no such profile, or it has faults, each named by its line and key.
    """
    place = place or settings()
    path = profile_path(name_or_path or place.profile, place.home)
    try:
        content = read(path, environment(place.landing))
    except Fault as fault:
        raise ProfileError(f"{path}{fault_text(fault.place, str(fault), fault.line)}") from None
    store = _landing_store(path, content, place)
    try:
        profile = Profile.model_validate(content.values | ({"landing": str(store.copy)} if store else {}))
    except ValidationError as error:
        raise _error(path, content, form_faults(content, error, "profiles")) from None
    if found := list(faults(profile)):
        raise _error(path, content, found)
    if not is_folder(str(profile.landing)):
        written = content.written.get(("landing",), uris.safe_uri(str(profile.landing)))
        what = f"{quote_text(written)} is an address: give the path of a folder of this machine"
        raise _error(path, content, [Fault(("landing",), what)])
    placed = profile.model_copy(update={"landing": place.home / profile.landing.expanduser()})
    placed._store = store
    return placed


def profile_path(wanted: str, home: Path) -> Path:
    """The file of a profile, given a bundled one's name or a path that may be relative to `home`.

    Raises:
        ProfileError: there is no such profile.
    """
    try:
        path = bundled_profiles().get(wanted) or home / Path(wanted).expanduser()
        if path.is_file():
            return path
    except (RuntimeError, ValueError, OSError):  # no such ~user; a NUL in the name, or too long a one
        pass
    name, hint = quote_text(uris.safe_uri(wanted)), suggest(wanted, bundled_profiles())
    known = ", ".join(bundled_profiles())
    raise ProfileError(f"no profile {name}: {hint}give one of {known}, or the path of a YAML file")


def _landing_store(path: Path, content: Content, place: Settings) -> LandingStore | None:
    """The object store of the landing folder, if its address is that of one."""
    landing = str(content.values.get("landing"))
    try:
        return landing_store(landing, place.data) if landing.startswith(SCHEME) else None
    except ValueError as error:
        raise _error(path, content, [Fault(("landing",), str(error))]) from None


def _error(path: Path, content: Content, found: Sequence[Fault]) -> ProfileError:
    """One error for all faults, in one line; if they are many, it names the first ones."""
    lines = []
    for fault in found[:_SHOWN]:
        _, line = content.line(fault.place)
        what = _label_text(content, fault) if isinstance(fault, LabelFault) else content.mask(str(fault))
        lines.append(fault_text(fault.place, what, line).removeprefix(", "))
    more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ProfileError(f"{path}, {'; '.join(lines)}{more}")


def _label_text(content: Content, fault: LabelFault) -> str:
    """The fault of a label rule; if the rule has variables, without any text that they may have filled in."""
    written = content.written.get(fault.place)
    return f"{quote_text(written or content.values['label'])}: {fault.general if written else fault}"
