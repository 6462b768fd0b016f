"""The shared parts of the routes: bytes that orjson made, problem documents, and the limits on parameters."""

from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Query, Response

from recsys_assets.serving.requests import MOST_ITEMS

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")  # of the request that is being answered
Many = Annotated[str, Query(max_length=100_000)]  # ids or names, separated by commas
Size = Annotated[int, Query(ge=1, le=MOST_ITEMS)]
Scene = Annotated[str | None, Query(max_length=48)]
REFUSED: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": {"application/problem+json": {}}}
    for status, what in {
        400: "The request cannot be read.",
        404: "There is no such item.",
        408: "The body did not arrive in time.",
        413: "The body is too large.",
        422: "A value is not what it should be.",
        429: "There are too many requests.",
        503: "No release is open yet.",
    }.items()
}


def answer(content: dict[str, Any]) -> Response:
    """A response of JSON."""
    return Response(orjson.dumps(content), media_type="application/json")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem document (RFC 9457)."""
    said = detail.encode(errors="replace").decode()  # it may repeat a text of the request that UTF-8 cannot hold
    title = REFUSED.get(status, {}).get("description", HTTPStatus(status).phrase)
    content = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": said})
    return Response(content, status, headers, "application/problem+json")


def split(text: str) -> list[Any]:
    """The parts of a parameter that are separated by commas."""
    return [each for each in text.split(",") if each]
