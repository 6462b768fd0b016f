"""The HTTP interface of the service: its routes, problem documents for errors, and limits on bodies."""

from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from recsys_assets.serving.answers import problem
from recsys_assets.serving.directory_routes import directory_routes
from recsys_assets.serving.health import health_routes
from recsys_assets.serving.inspect_routes import inspect_routes
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.page import page_routes
from recsys_assets.serving.request_log import RequestLog
from recsys_assets.serving.requests import Problem
from recsys_assets.serving.routes import items_routes
from recsys_assets.serving.scenes.routes import scenes_routes
from recsys_assets.serving.service import Service

MOST_BYTES = 1 << 20  # of a body


def create_app(service: Service, log: RequestLog | None = None) -> FastAPI:
    """The application over a service, which keeps its answers in a log; `/docs` describes its interface."""
    app, metrics = FastAPI(title="recsys_assets", version="1", redoc_url=None), Metrics()
    _add_errors(app)
    _count(app, metrics)
    app.include_router(items_routes(service, metrics, log))
    app.include_router(scenes_routes(service))
    app.include_router(health_routes(service, metrics))
    app.include_router(directory_routes(service))
    app.include_router(inspect_routes(service))
    app.include_router(page_routes())
    return app


def _add_errors(app: FastAPI) -> None:
    """Every error becomes a problem document (RFC 9457)."""

    @app.exception_handler(Problem)
    async def refuse(_: Request, refusal: Problem) -> Response:
        return problem(refusal.status, refusal.detail)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"][1:])
        return problem(422, f"{place}: {first['msg']}" if place else str(first["msg"]))

    @app.exception_handler(HTTPException)
    async def pass_on(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail))


def _count(app: FastAPI, metrics: Metrics) -> None:
    """Count every request, and refuse large bodies before they are read."""

    @app.middleware("http")
    async def count(request: Request, proceed: Callable[[Request], Awaitable[Response]]) -> Response:
        length = request.headers.get("content-length", "0")
        small = length.isdecimal() and int(length) <= MOST_BYTES and "transfer-encoding" not in request.headers
        refused = problem(413, f"send a body of at most {MOST_BYTES:,} bytes, with its Content-Length")
        response = await proceed(request) if small else refused
        metrics.request(request.method, response.status_code)
        return response
