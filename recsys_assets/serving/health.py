"""The routes by which a service is watched: whether it lives, whether it can answer, and its counters."""

import datetime as dt
from typing import Any, Protocol

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from recsys_assets.serving.answer_forms import LiveAnswer, ReadyAnswer
from recsys_assets.serving.answers import answer
from recsys_assets.serving.interface import HEALTH, REFUSALS, answers_of
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.place import Place


class Dated(Protocol):
    """Something of a bizdate that a service answers from."""

    @property
    def bizdate(self) -> str:
        """The day whose state it holds."""

    def now(self) -> dt.datetime:
        """The present time in the time zone of the data."""


class Open(Protocol):
    """A version that is open: its number, and what answers from it."""

    @property
    def number(self) -> int:
        """The number of the version."""

    @property
    def engine(self) -> Dated:
        """Answers from it."""


class Watched(Protocol):
    """A service that can be watched."""

    @property
    def is_ready(self) -> bool:
        """Whether it has opened something."""

    @property
    def opened(self) -> Open:
        """The version that answers."""


def health_routes(service: Watched, metrics: Metrics, place: Place) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=[HEALTH])

    @routes.get("/health/live", responses=answers_of(LiveAnswer))
    async def live() -> Response:
        """Whether the process answers."""
        return answer({"status": "live"})

    @routes.get("/health/ready", responses=answers_of(ReadyAnswer))
    async def ready() -> Response:
        """Whether a release is open; false until then."""
        number, engine = service.opened.number, service.opened.engine
        content: dict[str, Any] = {"status": "ready", "release": number, "bizdate": engine.bizdate}
        if place.status:
            said = place.said()
            content |= {"store": "answers" if said.store_answers else "away", "refused": said.refused}
        return answer(content)

    @routes.get("/metrics", response_class=PlainTextResponse, responses=REFUSALS)
    async def prometheus() -> Response:
        """Counters and latencies in Prometheus' text form."""
        return Response(metrics.text(_moment(service, place)), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    return routes


def _moment(service: Watched, place: Place) -> dict[tuple[str, str], float]:
    """Numbers of the moment, by name and meaning."""
    said, memory = place.said(), list(place.memory())
    found: dict[tuple[str, str], float] = {
        ("recsys_release", "The release that answers; 0: none."): 0,
        ("recsys_store_answers", "Whether the store of releases answers."): said.store_answers,
        ("recsys_release_refused", "The newest release, if it cannot be served; otherwise 0."): said.refused or 0,
        ("recsys_processes", "Processes of the release, with the one that they share memory with."): len(memory),
        ("recsys_memory_bytes", "Memory of these processes; what they share counts once."): sum(memory),
    }
    if service.is_ready:
        number, engine = service.opened.number, service.opened.engine
        age = engine.now().date() - dt.date.fromisoformat(engine.bizdate)
        found["recsys_release", "The release that answers; 0: none."] = number
        found["recsys_release_age_days", "Days since the bizdate of the release."] = age.days
    return found
