"""What every route of the service shares: bytes that orjson made, problem documents, and the limits on parameters."""

from typing import Annotated, Any

import orjson
from fastapi import Query, Response

from recsys_assets.serving.requests import MOST_ITEMS

Many = Annotated[str, Query(max_length=100_000)]  # ids or names, separated by commas
Size = Annotated[int, Query(ge=1, le=MOST_ITEMS)]
Scene = Annotated[str | None, Query(max_length=48)]
REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": {"application/problem+json": {}}}
    for status, what in {
        400: "The request cannot be read.",
        404: "There is no such item.",
        413: "The body is too large.",
        422: "A value is not what it should be.",
        503: "No release is open yet.",
    }.items()
}


def answer(content: dict[str, Any]) -> Response:
    """A response of JSON."""
    return Response(orjson.dumps(content), media_type="application/json")


def problem(status: int, detail: str) -> Response:
    """A problem document (RFC 9457)."""
    content = {"type": "about:blank", "title": REFUSED.get(status, {}).get("description", ""), "status": status}
    return Response(orjson.dumps({**content, "detail": detail}), status, media_type="application/problem+json")


def split(text: str) -> list[Any]:
    """The parts of a parameter that are separated by commas."""
    return [each for each in text.split(",") if each]
