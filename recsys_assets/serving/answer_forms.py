"""The forms of the answers, for the OpenAPI document alone: routes send bytes that these classes never see.

A key that may be absent has a default; one that may be null says so. Items also have the columns that `fields` names.
Examples are without null, which FastAPI would leave out of them.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from recsys_assets.serving.requests import Id

RELEASE = {"release": 7, "bizdate": "2026-01-31"}
HEAD = {**RELEASE, "model": "lgbm/2026-01-31"}
LISTED = {"item_id": 17, "score": 0.83, "channels": ["itemcf", "sasrec"], "probability": 0.71, "title": "Alien (1979)"}
LIST = {
    "request_id": "5f0c",
    **HEAD,
    "served_by": "full",
    "scene": "home",
    "variants": {},
    "user_id": 42,
    "items": [LISTED],
}


def example(**content: Any) -> ConfigDict:
    """The settings of a form that has no other keys than its own, with an example."""
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [content]})


class OfRelease(BaseModel):
    """An answer of a release."""

    model_config = ConfigDict(extra="forbid")

    release: int = Field(description="the number of the release")
    bizdate: str = Field(description="the day whose state it holds, as 2026-01-31")


class OfModel(OfRelease):
    """An answer of a release and its ranking model."""

    model: str | None = Field(description="the ranking model and its bizdate; null: nothing was ranked")


class Item(BaseModel):
    """An item, with the columns that `fields` names."""

    model_config = ConfigDict(extra="allow")

    item_id: Id


class ChannelEntry(BaseModel):
    """The entry of an item in the list of a channel."""

    model_config = ConfigDict(extra="forbid")

    place: int = Field(ge=1, description="in the channel's list")
    score: float = Field(description="that the channel gave")
    items: list[Id] = Field(default=[], description="touched items that brought it, the strongest first")
    terms: list[Id] = Field(default=[], description="the user's terms that brought it, the strongest first")


class Explanation(BaseModel):
    """Where an item of a list comes from."""

    model_config = ConfigDict(extra="forbid")

    fused: float | None = Field(description="the score of the merge; null for an item that it did not see")
    channels: dict[str, ChannelEntry]


class ListedItem(Item):
    """An item of a list, with the columns that `fields` names."""

    score: float | None = Field(description="orders the list; null for an item that is only pinned")
    channels: list[str] = Field(description="that listed it")
    probability: float | None = Field(default=None, description="of the ranking model; absent if nothing was ranked")
    explain: Explanation | None = Field(default=None, description="if the request asks for it")


class ListAnswer(OfModel):
    """A user's list."""

    model_config = example(**LIST)

    request_id: str
    served_by: Literal["full", "history", "features", "popular", "degraded"]
    left_out: list[str] = Field(default=[], description="of a degraded answer: the steps, and why")
    scene: str | None
    variants: dict[str, str] = Field(description="of experiments, by layer")
    user_id: Id | None
    items: list[ListedItem] = Field(description="best first")
    steps: dict[str, float] = Field(default={}, description="milliseconds, if the request asks for explanations")


class BatchAnswer(BaseModel):
    """The answers to several requests, in their order."""

    model_config = example(answers=[LIST])

    answers: list[ListAnswer]


class SimilarAnswer(OfRelease):
    """Items that are alike."""

    model_config = example(**RELEASE, items=[{"item_id": 23, "score": 0.5, "channels": ["swing"]}])

    items: list[ListedItem] = Field(description="the most alike first")


class Scored(BaseModel):
    """A candidate and its score."""

    model_config = ConfigDict(extra="forbid")

    item_id: Id
    score: float


class RecallAnswer(OfModel):
    """The candidates of each channel."""

    model_config = example(**HEAD, user_id=42, channels={"itemcf": [{"item_id": 17, "score": 2.5}]})

    user_id: Id | None
    channels: dict[str, list[Scored]] = Field(description="by channel, best first")


class Ranked(Scored):
    """A candidate with its score and the ranker's probability."""

    probability: float | None


class OrderedAnswer(OfModel):
    """The caller's candidates, ordered."""

    model_config = example(
        **HEAD,
        user_id=42,
        ordered_by="ranker",
        items=[{"item_id": 17, "score": 0.71, "probability": 0.71}],
        unknown=[99],
    )

    user_id: Id | None
    ordered_by: Literal["learned order", "merge", "ranker"]
    items: list[Ranked] = Field(description="best first")
    unknown: list[Id] = Field(description="ids that the release does not know")


class ProbabilitiesAnswer(OfModel):
    """The ranker's probabilities for rows of features, in their order."""

    model_config = example(**HEAD, probabilities=[0.71, 0.2])

    probabilities: list[float]


class KeptRow(BaseModel):
    """A row that was kept."""

    model_config = ConfigDict(extra="forbid")

    event_id: str = Field(description="the client's, or a made one")
    user_id: Id = Field(description="of an event without a user: the id that its session has")


class ToldAnswer(BaseModel):
    """The rows that were kept: they are on the disk."""

    model_config = example(new=1, events=[{"event_id": "a7", "user_id": 42}], impressions=[])

    new: int = Field(description="rows that were not told before")
    events: list[KeptRow]
    impressions: list[KeptRow]


class FreshAnswer(BaseModel):
    """The rows that were taken: they and their vectors are on the disk."""

    model_config = example(rows=1, changed=1)

    rows: int = Field(description="that were sent")
    changed: int = Field(description="items and users that are different now; none if all rows were known or late")


class KeptAnswer(OfRelease):
    """The release that is served, and the others whose files are kept."""

    model_config = example(**RELEASE, others=[{"release": 6, "bizdate": "2026-01-30"}])

    others: list[OfRelease] = Field(description="the one that was served last first")


class UsersAnswer(OfRelease):
    """Users drawn at random."""

    model_config = example(**RELEASE, users=[42, 7])

    users: list[Id]


class Touched(Item):
    """An event of a user."""

    label: Literal[0, 1] = Field(description="1: a positive")


class UserAnswer(OfRelease):
    """A user of the release."""

    model_config = example(**RELEASE, user_id=42, known=True, events=1, history=[{"item_id": 17, "label": 1}])

    user_id: Id
    known: bool = Field(description="whether the release knows the user")
    events: int = Field(description="how many it has of the user")
    history: list[Touched] = Field(description="the newest, newest first")


class ItemsAnswer(OfRelease):
    """Items that were found."""

    model_config = example(**RELEASE, items=[{"item_id": 17, "title": "Alien (1979)"}])

    items: list[Item]


class EventLooks(BaseModel):
    """The looks of the events of this data set."""

    model_config = ConfigDict(extra="forbid")

    columns: dict[str, str] = Field(description="columns of an event, with their types")
    user: str | None = Field(description="the column of the user's id; null if the data set has no users")
    item: str | None = Field(description="the column of the item's id; null if the data set has no items")
    positive: dict[str, Any] | None = Field(description="values with which an event is a positive; null: unknown")
    negative: dict[str, Any] | None = Field(description="values with which an event is a negative; null: unknown")


class ReleaseAnswer(OfModel):
    """The contents of the release."""

    model_config = example(
        **HEAD,
        users=6040,
        items=3706,
        fields={"item_id": "int64", "title": "string"},
        channels=["popularity", "itemcf"],
        without=[],
        moment=["hour"],
        events={
            "columns": {"user_id": "int64", "item_id": "int64", "rating": "float32", "timestamp": "timestamp"},
            "user": "user_id",
            "item": "item_id",
            "positive": {"rating": 5},
            "negative": {"rating": 1},
        },
    )

    users: int
    items: int
    fields: dict[str, str] = Field(description="columns of the items, with their types")
    channels: list[str]
    without: list[str] = Field(description="what it does without")
    moment: list[str] = Field(description="features of the moment, which `context` may give")
    events: EventLooks | None = Field(description="what `POST /events` takes; null if this service keeps no events")


class LiveAnswer(BaseModel):
    """The process answers."""

    model_config = example(status="live")

    status: Literal["live"]


class ReadyAnswer(OfRelease):
    """A release is open."""

    model_config = example(status="ready", **RELEASE, store="answers")

    status: Literal["ready"]
    store: Literal["answers", "away"] = Field(default="answers", description="the store of releases")
    refused: int | None = Field(default=None, description="the newest release, if it cannot be served")


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457)."""

    model_config = example(
        type="about:blank",
        title="A value is not what it should be.",
        status=422,
        detail="size: Input should be less than or equal to 200",
    )

    type: Literal["about:blank"]
    title: str = Field(description="of the status")
    status: int = Field(ge=400, lt=600, description="of HTTP")
    detail: str = Field(min_length=1, description="a sentence that says what to change")
