"""The bodies of the service's endpoints, and the refusal of a request."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MOST_ITEMS, MOST_IDS, MOST_EVENTS, MOST_REQUESTS = 200, 10_000, 1_000, 100


def _whole(value: object) -> object:
    """A number as it is written in JSON: pydantic would also take `true` and `"5"` for numbers."""
    if isinstance(value, bool | str):
        raise ValueError("write a number")
    return value


Size = Annotated[int, BeforeValidator(_whole), Field(ge=1, le=MOST_ITEMS)]
Id = int | str


class Body(BaseModel):
    """A body, in which a misspelled key is refused."""

    model_config = ConfigDict(extra="forbid", strict=False)


class Event(Body):
    """Something that the user did after the release's last row."""

    item_id: Id
    label: Annotated[int, BeforeValidator(_whole), Field(ge=0, le=1)] = 1


class RecommendBody(Body):
    """A request for a user's list.

    Attributes:
        user_id: the user; None for somebody of whom only `history` is known.
        size: the most items.
        exclude: ids of items that must not be listed.
        restrict: ids of the items of which alone the list may be.
        fields: columns of the items' table that each item is returned with.
        history: what the user did since the release, oldest first.
        context: features of the moment, as the profile names them.
        judged: answer from the state before the online rows, as `funnel_report` does.
    """

    user_id: Id | None = None
    size: Size = 50
    exclude: list[Id] = Field(default=[], max_length=MOST_IDS)
    restrict: list[Id] | None = Field(default=None, max_length=MOST_IDS)
    fields: list[str] = Field(default=[], max_length=50)
    history: list[Event] = Field(default=[], max_length=MOST_EVENTS)
    context: dict[str, Any] = Field(default={}, max_length=50)
    judged: bool = False


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
