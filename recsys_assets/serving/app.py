"""The HTTP interface of the service: its front, its routes, and problem documents for errors."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from recsys_assets.serving.answers import problem
from recsys_assets.serving.directory_routes import directory_routes
from recsys_assets.serving.events import events_routes
from recsys_assets.serving.fresh.routes import fresh_routes
from recsys_assets.serving.front import Front
from recsys_assets.serving.health import health_routes
from recsys_assets.serving.inspect_routes import inspect_routes
from recsys_assets.serving.interface import Interface
from recsys_assets.serving.kept_routes import kept_routes
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.page import page_routes
from recsys_assets.serving.place import ALONE, Place
from recsys_assets.serving.request_log import RequestLog
from recsys_assets.serving.requests import Problem
from recsys_assets.serving.routes import items_routes
from recsys_assets.serving.scenes.routes import scenes_routes
from recsys_assets.serving.service import Service
from recsys_assets.serving.turns import Turns


def create_app(service: Service, log: RequestLog | None = None, place: Place = ALONE) -> FastAPI:
    """The application over a service, which keeps its answers in a log; `/docs` describes its interface.

    Args:
        service: gives the answers.
        log: keeps them.
        place: of the application among the processes of the service.
    """
    app, metrics = Interface(), Metrics()
    add_errors(app)
    app.add_middleware(Front, metrics=metrics, limits=place.limits, turns=Turns(place.limits.queue), rates=place.rates)
    app.include_router(items_routes(service, metrics, log))
    app.include_router(scenes_routes(service))
    app.include_router(health_routes(service, metrics, place))
    app.include_router(directory_routes(service))
    app.include_router(inspect_routes(service))
    app.include_router(kept_routes(service, place))
    app.include_router(page_routes())
    app.include_router(events_routes(service, metrics))
    app.include_router(fresh_routes(service, metrics))
    return app


def add_errors(app: FastAPI) -> None:
    """Every error becomes a problem document (RFC 9457)."""

    @app.exception_handler(Problem)
    async def refuse(_: Request, refusal: Problem) -> Response:
        return problem(refusal.status, refusal.detail)

    @app.exception_handler(RequestValidationError)
    async def explain(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"][1:])
        what = str(first["msg"]).removeprefix("Value error, ")
        return problem(422, f"{place}: {what}" if place else what)

    @app.exception_handler(HTTPException)
    async def pass_on(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Exception)
    async def fail(_: Request, error: Exception) -> Response:
        return problem(500, f"this is a fault of the service ({type(error).__name__}): see its log")
