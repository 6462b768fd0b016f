"""The shared parts of the routes: bytes that orjson made, problem documents, and the limits on parameters."""

from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Annotated, Any

import orjson
from fastapi import Query, Response

from recsys_assets.serving.interface import TITLES
from recsys_assets.serving.requests import MOST_ITEMS

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")  # of the request that is being answered
WAITED: ContextVar[float] = ContextVar("waited", default=0.0)  # seconds that it waited before it began
Many = Annotated[str, Query(max_length=100_000, description="ids or names, separated by commas")]
Size = Annotated[int, Query(ge=1, le=MOST_ITEMS, description="the most items")]
Scene = Annotated[str | None, Query(max_length=48, description="where the list is shown")]


def answer(content: dict[str, Any]) -> Response:
    """A response of JSON."""
    return Response(orjson.dumps(content), media_type="application/json")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """A problem document (RFC 9457)."""
    said = detail.encode(errors="replace").decode()  # it may repeat a text of the request that UTF-8 cannot hold
    title = TITLES.get(status, HTTPStatus(status).phrase)
    content = orjson.dumps({"type": "about:blank", "title": title, "status": status, "detail": said})
    return Response(content, status, headers, "application/problem+json")


def split(text: str) -> list[Any]:
    """The parts of a parameter that are separated by commas."""
    return [each for each in text.split(",") if each]
