"""The bodies of the service's endpoints, and the refusal of a request."""

import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictInt,
    StrictStr,
    Tag,
)

MOST_ITEMS, MOST_IDS, MOST_EVENTS, MOST_REQUESTS = 200, 10_000, 1_000, 100
MOST_RECALLED, MOST_SCORED = 1_000, 1_000
MOST_CHARACTERS = 500  # of a condition
_ATTRIBUTE = re.compile(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", re.MULTILINE)  # of a docstring
MOST_MILLISECONDS = 60_000  # of a deadline


def _whole(value: object) -> object:
    """A number as it is written in JSON: pydantic would also take `true` and `"5"` for numbers."""
    if isinstance(value, bool | str):
        raise ValueError("write a number")
    return value


def whole_text(value: str) -> str:
    """A text: JSON also allows half of a surrogate pair, which no UTF-8 can hold.

    Raises:
        ValueError: it is half of a pair.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("a text holds half of a surrogate pair") from None
    return value


Size = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MOST_ITEMS)]
Id = StrictInt | StrictStr  # `true` is no id, as it would be where pydantic converts
Restriction = Annotated[
    Annotated[list[Id], Field(max_length=MOST_IDS), Tag("ids")]
    | Annotated[str, Field(min_length=1, max_length=MOST_CHARACTERS), Tag("condition")],
    Discriminator(lambda given: "condition" if isinstance(given, str) else "ids"),
]


def _describe(schema: dict[str, Any], form: type[Any]) -> None:
    """Give the keys of a schema the meanings that docstrings say, and leave these out of its own description."""
    keys = schema.get("properties", {})
    schema["description"] = (form.__doc__ or "").partition("\n\n")[0]
    for each in form.__mro__:
        for name, meaning in _ATTRIBUTE.findall(each.__doc__ or ""):
            if name in keys:
                keys[name].setdefault("description", " ".join(meaning.split()))


class Body(BaseModel):
    """A body, in which a misspelled key is refused."""

    model_config = ConfigDict(extra="forbid", strict=False, json_schema_extra=_describe)


class Event(Body):
    """Something that the user did after the release's last row."""

    item_id: Id
    label: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1)] = 1


class UserBody(Body):
    """A request about a user.

    Attributes:
        user_id: the user; None for somebody of whom only `history` is known.
        exclude: ids of items that must not be listed.
        restrict: ids of the items of which alone the list may be, or a condition over the columns that the profile's
            file of scenes names as filters.
        history: what the user did since the release, oldest first.
        context: features of the moment, as the profile names them.
        judged: answer from the state before the online rows, as `funnel_report` does.
    """

    user_id: Id | None = None
    exclude: list[Id] = Field(default=[], max_length=MOST_IDS)
    restrict: Restriction | None = None
    history: list[Event] = Field(default=[], max_length=MOST_EVENTS)
    context: dict[str, Any] = Field(default={}, max_length=50)
    judged: bool = False


class RecommendBody(UserBody):
    """A request for a user's list.

    Attributes:
        size: the most items; by default what the scene says, or 50.
        fields: columns of the items' table that each item is returned with.
        scene: where the list is shown, by its name in the file of scenes.
        visitor: puts somebody without a `user_id` into the variants of experiments.
        variants: the variant of some layers of experiments, for previews.
        explain: say for each item where it comes from, and how long each step took.
        deadline_ms: how long the answer may take; what does not fit is left out.
        left_out: the steps to leave out, as an answer names them, and no others, however long they take.
    """

    size: Size | None = None
    fields: list[str] = Field(default=[], max_length=50)
    scene: str | None = Field(default=None, max_length=48)
    visitor: Annotated[str, AfterValidator(whole_text)] | None = Field(default=None, min_length=1, max_length=200)
    variants: dict[str, str] = Field(default={}, max_length=20)
    explain: bool = False
    deadline_ms: Annotated[float, BeforeValidator(_whole), Field(gt=0, le=MOST_MILLISECONDS)] | None = None
    left_out: list[str] | None = Field(default=None, max_length=50)


class RecallBody(UserBody):
    """A request for the candidates of each channel.

    Attributes:
        channels: their names; None for all that there are.
        k: the most items of each.
    """

    channels: list[str] | None = Field(default=None, max_length=50)
    k: Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MOST_RECALLED)] = 200


class ScoreBody(UserBody):
    """A request for scores of the caller's candidates: of items for a user, or of rows of raw features.

    Attributes:
        item_ids: the candidates.
        features: rows as in `rank_samples`; the user and everything else in the body does not matter to them.
    """

    item_ids: list[Id] | None = Field(default=None, min_length=1, max_length=MOST_SCORED)
    features: list[dict[str, Any]] | None = Field(default=None, min_length=1, max_length=MOST_SCORED)


class BatchBody(Body):
    """Several requests at once."""

    requests: list[RecommendBody] = Field(min_length=1, max_length=MOST_REQUESTS)


class Problem(ValueError):
    """A request that cannot be answered; becomes a problem document (RFC 9457).

    Args:
        status: of HTTP.
        detail: a sentence that says what to change.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
