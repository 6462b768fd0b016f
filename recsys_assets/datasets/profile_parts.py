"""The parts of a dataset's profile: columns, features, split, recall, publishing and bounds. See `profile.py`."""

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from recsys_assets.datasets.names import LANDED_PART

ColumnType = Literal[
    "int64",
    "float32",
    "string",
    "strings",
    "timestamp",
    "int32",
    "float64",
    "bool",
    "date",
    "path",
    "vector",
    "text",
]
NUMBERS: tuple[ColumnType, ...] = ("int64", "int32", "float32", "float64")
LISTS: tuple[ColumnType, ...] = ("strings", "path", "vector", "text")
TableName = Literal["interactions", "users", "items", "impressions"]
PartName = Literal["train", "validation", "test", "online"]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
_OWN_DEFAULTS: dict[str, dict[str, Any]] = {"path": {"separator": "."}, "text": {"width": 64}}
_ADDED = frozenset({"of", "width"})  # settings of columns that the manifests of older versions do not have
Bound = Annotated[int | float, Field(ge=-1e38, le=1e38)]  # what a float32 holds


class Part(BaseModel):
    """Immutable settings; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Column(Part):
    """One column of a landed table, under the name that the platform gives it.

    `type`: `timestamp` is read from a timestamp or from seconds since 1970 (UTC); `strings` is a
    list, or text split at `separator`; `path` is a category such as `phone.smart`, and holds each of its prefixes;
    `vector` is a list of `width` numbers, and `text` becomes one (`text_vectors.py`). `min` and `max` bound the
    values; rows outside are rejected. A column of `interactions` that is `of` a user or item, such as the price on the
    day, also becomes a column of that table.
    """

    type: ColumnType
    column: str | None = Field(default=None, min_length=1, description="its name in the landing file, if different")
    separator: str = Field(default="|", min_length=1, description="of `strings` and `vector`; for a `path` it is a dot")
    width: int | None = Field(default=None, ge=1, le=4096, description="numbers of a `vector` or `text`")
    min: Bound | None = None
    max: Bound | None = None
    of: Literal["user", "item"] | None = None
    description: str = Field(default="", max_length=300, description="what it holds, for Dagster's catalogue")

    @property
    def is_list(self) -> bool:
        """Whether a value is a list."""
        return self.type in LISTS

    @model_validator(mode="before")
    @classmethod
    def _own_defaults(cls, given: Any) -> Any:
        """The defaults of a type: a path is written with dots, and a text has 64 numbers."""
        if not isinstance(given, dict):
            return given
        if given.get("type") == "decimal":
            raise ValueError("decimals are read as float64 (or int64), so write that: models and stores hold no others")
        return _OWN_DEFAULTS.get(str(given.get("type")), {}) | given

    @model_validator(mode="after")
    def _width_is_of_vectors(self) -> "Column":
        if (self.width is None) == (self.type in ("vector", "text")):
            raise ValueError("a vector needs a width, as in {type: vector, width: 384}; other types have none")
        return self

    @model_validator(mode="after")
    def _bounds_are_of_numbers(self) -> "Column":
        if (self.min, self.max) != (None, None) and self.type not in NUMBERS:
            raise ValueError(f"min and max are for numbers, not {self.type}: remove them")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}: no row could satisfy both")
        return self

    def deciding_settings(self) -> dict[str, object]:
        """The settings for a manifest; those that are not used are left out, except the ones that older ones have."""
        return self.model_dump(exclude={"description", *(name for name in _ADDED if getattr(self, name) is None)})


class Term(Part):
    """The multi-valued item column whose terms (genres, tags) are counted over a user's recent rows."""

    column: str
    window: Count = Field(default=10, description="how many of the user's rows before a row count")
    max_terms: Count = Field(default=64, description="how many of the most frequent terms are kept")


class Negatives(Part):
    """Items that are drawn as negatives of the ranking models, for each positive of a ranked part.

    `draw`: by the number of the item's events before the moment, to the power `power`, or `uniform` among the items
    known then; `impressions`: no item is drawn, because shown items that were not touched are the negatives.
    """

    rate: int = Field(default=4, ge=0, le=1000, description="items drawn for each positive; 0 draws none")
    draw: Literal["popularity", "uniform", "impressions"] = "popularity"
    power: float = Field(default=0.75, ge=0, le=2, description="exponent of an item's number of events")

    @property
    def exponent(self) -> float:
        """The power of an item's count that its chance to be drawn is proportional to."""
        return self.power if self.draw == "popularity" else 0.0

    @property
    def text(self) -> str:
        """The rule in words, for reports."""
        how = "uniformly" if self.draw == "uniform" else f"by popularity^{self.power:g}"
        return f"{self.rate} items per positive, drawn {how} as of the moment of the event"


class EventKinds(Part):
    """The kinds of events in one table, by the values of a column, and what each is worth.

    `recall` lists the kinds that recall methods should find (default: all), `rank` those that ranking models should
    find (default: those with the highest weight); a profile with a `label` needs no `rank`.
    """

    column: str
    weights: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(min_length=1)
    recall: list[str] = Field(default=[], description="kinds that are positives for recall; empty: all")
    rank: list[str] = Field(default=[], description="kinds that are positives for ranking; empty: the highest weight")

    @field_validator("weights", mode="before")
    @classmethod
    def _kinds_are_texts(cls, weights: object) -> object:
        """A kind may be a number in the log, as in `{0: 1, 1: 3}`."""
        return {str(kind): weight for kind, weight in weights.items()} if isinstance(weights, dict) else weights

    @property
    def recalled(self) -> list[str]:
        """The kinds that are positives for recall."""
        return self.recall or list(self.weights)

    @property
    def ranked(self) -> list[str]:
        """The kinds that are positives for ranking, unless the profile has a label rule."""
        highest = max(self.weights.values())
        return self.rank or [kind for kind, weight in self.weights.items() if weight == highest]


class Session(Part):
    """The visits of the log: rows without a user are kept, and belong to their session.

    `split`: a session is wholly in one part of the split, in that of its last row.
    """

    column: str
    split: bool = False


class Impressions(Part):
    """How what was shown, the table `impressions`, is matched with the events that answered it.

    `match`: by the `request_id` that both tables have, or by user and item alone. Either way an answer counts within
    `window` after the impression. Where impressions have a `position`, it is a feature of ranking models; when they
    serve, every item has the position `served_position`.
    """

    match: Literal["request", "window"] = "window"
    window: str = Field(default="30min", pattern=r"^[1-9][0-9]{0,4}(s|min|h)$")
    served_position: int = Field(default=1, ge=0, le=1_000_000)

    @property
    def seconds(self) -> int:
        """The window in seconds."""
        number, unit = re.fullmatch(r"(\d+)(\w+)", self.window).groups()  # type: ignore[union-attr]
        return int(number) * {"s": 1, "min": 60, "h": 3600}[unit]


class Affinity(Part):
    """User-item features, from a factor model and from the items that the user touched last."""

    width: Count = Field(default=16, description="dimensions of the factor model")
    folds: Count = Field(default=5, ge=2, description="folds of users; items are fitted without the user's fold")
    recent: Count = Field(default=50, description="how many of a user's latest liked, and disliked, items are kept")


class Features(Part):
    """Which columns of `users` and `items`, or without these of `interactions`, feed the models, and how."""

    categorical: list[str] = Field(default=[], description="columns each of whose values is a category")
    multi_valued: list[str] = Field(default=[], description="columns that hold lists of categories")
    numeric: list[str] = Field(default=[], description="columns of numbers, dates, vectors or texts")
    log: list[str] = Field(default=[], description="numeric features taken as sign(x) ln(1 + |x|): counts, prices")
    terms: Term | None = None
    affinity: Affinity = Affinity()
    crosses: list[list[str]] = Field(default=[], description="for the wide part: pairs of the features above")
    min_count: Count = Field(default=2, description="a value of fewer train rows than this is treated as unknown")
    moment: list[str] = Field(
        default=[],
        description="categorical features of a request: hour, weekday, and columns of `interactions`",
        exclude_if=lambda moment: not moment,  # the manifests of older versions do not have it
    )

    @property
    def columns(self) -> list[str]:
        """All columns of users and items, or of rows, that are named as features."""
        return [*self.categorical, *self.multi_valued, *self.numeric]


class Split(Part):
    """How events are split into train, validation, test and online parts.

    * `per_user_tail` (recsys_pipeline): each user's last `online_last_n` rows are online; the first
      `1 - test_ratio` of the rest are train, the others test.
    * `leave_last_n`: each user's last `online_last_n` rows are online, the `test_last_n` before them test.
    * `by_day`: the last `online_days` days are online, the `test_days` days before them test.
    * `given`: the column `column` of `interactions` names the part of each row, as a table of TorchEasyRec, EasyRec or
      FuxiCTR is handed over. `values` lists the column's values for each part, by default the part's own name. Or each
      part has files of its own: `parts` has the name of a file or folder for each part.
    * `successive`: three or four moments cut the rows of all users in the ratio of `shares` (train, validation, test
      and, if it is to be, online). Recall methods are then asked about each test event, given all earlier events of its
      user, instead of once per user.
    * `random`: a hash of the row's day and place draws its part, with chances in the ratio of `shares` (train,
      validation, test): for labelled rows without users and items, whose order means nothing.

    Where nothing else says so, the validation part is the tail of train: the last `validation_ratio` of each user's
    train rows, or with `by_day` the `validation_days` days before the test days.
    """

    strategy: Literal["per_user_tail", "leave_last_n", "by_day", "given", "successive", "random"]
    online_last_n: int = Field(default=0, ge=0, le=1_000_000)
    test_ratio: float = Field(default=0.2, gt=0, lt=1)
    test_last_n: Count = 1
    test_days: Count = 1
    validation_ratio: float = Field(default=0.1, gt=0, lt=1)
    validation_days: Count = 1
    online_days: int = Field(default=0, ge=0, le=1_000_000)
    column: str | None = None
    values: dict[PartName, list[str | int]] = {"train": ["train"], "validation": ["validation"], "test": ["test"]}
    parts: dict[PartName, str] = {}
    shares: tuple[Count, Count, Count] | tuple[Count, Count, Count, Count] = (8, 1, 1)

    @property
    def given_column(self) -> str | None:
        """The column of ingested events that names the part of each row, if one does."""
        return LANDED_PART if self.parts else self.column

    @property
    def listed(self) -> dict[PartName, list[str | int]]:
        """The values of `given_column` for each part."""
        return {part: [part] for part in self.parts} if self.parts else self.values

    @property
    def has_online(self) -> bool:
        """Whether there is an online part."""
        if self.strategy == "given":
            return "online" in self.listed
        if self.strategy == "successive":
            return len(self.shares) == 4
        return (self.online_days if self.strategy == "by_day" else self.online_last_n) > 0


class Recall(Part):
    """How candidate lists are evaluated: the positives of the test rows are relevant, all rows before are history.

    `filter_seen`: no list holds an item of the user's history. Turn it off if people come back to items.
    """

    filter_seen: bool = True


Right = Literal["touched", "liked", "weighted"]


class FunnelRule(Part):
    """The rule by which the funnel is learned and judged.

    `right`: the right items are those that a user touched next, or those of them that they liked (positives).
    `weighted` are all that they touched, and an item is worth the highest weight of the user's events with it.
    """

    right: Right = "touched"


class Publishing(Part):
    """How collections are written for services.

    `entries`: the field names of item and score in lists of items; MetaSpore's first release reads `_1` and `_2`.
    """

    entries: tuple[str, str] = ("item_id", "score")
    vectors: str = Field(default="sasrec", description="two-tower model of stores with one vector per entity")
    keep: Count = Field(default=3, description="versions of a collection that are kept")
    feast: str = Field(default="", pattern=r"^([a-z]\w*)?$", description="project in Feast (default: the name)")

    @field_validator("entries")
    @classmethod
    def _two_names(cls, entries: tuple[str, str]) -> tuple[str, str]:
        if entries[0] == entries[1] or not all(re.fullmatch(r"\w+", name) for name in entries):
            raise ValueError(f"{list(entries)}: give two names of letters, digits and underscores")
        return entries


class Daily(Part):
    """When the daily run starts and when its results must be there: hours of the day in the time zone of `files`."""

    hour: int = Field(default=2, ge=0, le=23, description="when the daily schedule builds yesterday's bizdate")
    deadline: int | None = Field(default=None, ge=1, le=23, description="when yesterday's bizdate must be released")

    @model_validator(mode="after")
    def _deadline_is_later(self) -> "Daily":
        if self.deadline is not None and self.deadline <= self.hour:
            what = f"the deadline {self.deadline} is not after the hour {self.hour} at which the run starts"
            raise ValueError(f"{what}: give a later deadline, or an earlier hour")
        return self


class Retention(Part):
    """How long heavy artefacts are kept: see `retention/plan.py` for what always stays."""

    days: Count | None = Field(default=None, description="days up to the newest bizdate; None: for ever")


class WarmStart(Part):
    """Trainings that continue from the model's newest checkpoint before the bizdate, instead of from nothing."""

    models: list[str] = Field(default=[], description="torch models whose training continues")
    days: Count = Field(default=7, description="by how many days the checkpoint may at most be older than the bizdate")
    compare: int = Field(
        default=0, ge=0, description="every so many days also train from nothing and compare; 0: never"
    )
    margin: float = Field(
        default=0.01, ge=0, lt=1, description="share of the metric of a training from nothing that may be lacking"
    )


class Refit(Part):
    """When models are fitted again, and choices made again; until then a bizdate keeps those of the bizdate before.

    Models are those for ranking, recall and touches; choices are the settings of item to item, the comparison of cold
    start, and the funnel. The champion is chosen each day, and everything is judged each day.
    """

    days: Count = Field(default=1, description="age of a fit, in days, at which it is made again; 1: every day")
    share: float = Field(
        default=0.02, gt=0, description="or when so large a share of the events known then has come since"
    )


class Bounds(Part):
    """Limits that a day's artefacts must meet before anything is built on them."""

    max_rejected_rate: float = Field(default=0.05, ge=0, le=1, description="of a day's landed rows")
    max_label_rate_change: float = Field(default=0.10, gt=0, le=1, description="against the day before")
    min_auc: float = Field(default=0.55, ge=0, le=1, description="of a ranking model on validation rows")
    min_recall: float = Field(default=0.0, ge=0, le=1, description="recall@20 of a two-tower model on validation rows")
