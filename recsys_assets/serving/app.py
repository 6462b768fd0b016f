"""The HTTP interface of the service. Hot endpoints return bytes that orjson made, without response models."""

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.requests import MOST_ITEMS, BatchBody, Problem, RecommendBody
from recsys_assets.serving.service import Service

MOST_BYTES = 1 << 20  # of a body
Many = Annotated[str, Query(max_length=100_000)]
Size = Annotated[int, Query(ge=1, le=MOST_ITEMS)]
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


def create_app(service: Service) -> FastAPI:
    """The application over a service; `/docs` describes its interface."""
    app, metrics = FastAPI(title="recsys_assets", version="1", redoc_url=None), Metrics()
    _add_errors(app)
    _count(app, metrics)

    @app.get("/recommend/{user_id}", responses=REFUSED)
    async def recommend_user(
        user_id: str, size: Size = 50, exclude: Many = "", fields: Many = "", judged: bool = False
    ) -> Response:
        """The list of a user; `exclude` and `fields` are separated by commas."""
        body = RecommendBody(user_id=user_id, size=size, exclude=_split(exclude), fields=_split(fields), judged=judged)
        return _answer(_measured(service, metrics, body))

    @app.post("/recommend", responses=REFUSED)
    async def recommend(body: RecommendBody) -> Response:
        """The list of a user, or of somebody of whom only a history is known."""
        return _answer(_measured(service, metrics, body))

    @app.post("/recommend/batch", responses=REFUSED)
    async def recommend_batch(body: BatchBody) -> Response:
        """The answers to several requests, in their order."""
        return _answer({"answers": [_measured(service, metrics, each) for each in body.requests]})

    @app.get("/similar/{item_id}", responses=REFUSED)
    async def similar(item_id: str, size: Size = 20, fields: Many = "") -> Response:
        """Items that are alike, by the item-to-item tables."""
        return _answer(service.similar(item_id, size, _split(fields)))

    @app.get("/health/live")
    async def live() -> Response:
        """Whether the process answers."""
        return _answer({"status": "live"})

    @app.get("/health/ready", responses=REFUSED)
    async def ready() -> Response:
        """Whether a release is open; false until then."""
        number, engine = service.opened
        return _answer({"status": "ready", "release": number, "bizdate": engine.bizdate})

    @app.get("/metrics")
    async def prometheus() -> Response:
        """Counters and latencies in Prometheus' text form."""
        number = service.opened[0] if service.is_ready else 0
        return Response(metrics.text(number), media_type="text/plain; version=0.0.4")

    return app


def _measured(service: Service, metrics: Metrics, body: RecommendBody) -> dict[str, Any]:
    """An answer with its id, which is counted."""
    start = time.perf_counter()
    answer = service.recommend(body)
    metrics.answered(answer["served_by"], len(answer["items"]), body.size, time.perf_counter() - start)
    return {"request_id": uuid.uuid4().hex, **answer}


def _answer(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _split(text: str) -> list[Any]:
    return [each for each in text.split(",") if each]


def _problem(status: int, detail: str) -> Response:
    content = {"type": "about:blank", "title": REFUSED.get(status, {}).get("description", ""), "status": status}
    return Response(orjson.dumps({**content, "detail": detail}), status, media_type="application/problem+json")


def _add_errors(app: FastAPI) -> None:
    """Every error becomes a problem document (RFC 9457)."""

    @app.exception_handler(Problem)
    async def refuse(_: Request, problem: Problem) -> Response:
        return _problem(problem.status, problem.detail)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"][1:])
        return _problem(422, f"{place}: {first['msg']}" if place else str(first["msg"]))

    @app.exception_handler(HTTPException)
    async def pass_on(_: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, str(error.detail))


def _count(app: FastAPI, metrics: Metrics) -> None:
    """Count every request, and refuse large bodies before they are read."""

    @app.middleware("http")
    async def count(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        small = length.isdecimal() and int(length) <= MOST_BYTES and "transfer-encoding" not in request.headers
        refused = _problem(413, f"send a body of at most {MOST_BYTES:,} bytes, with its Content-Length")
        response = await proceed(request) if small else refused
        metrics.request(request.method, response.status_code)
        return response
