"""The routes by which a service is watched: whether it lives, whether it can answer, and its counters."""

from fastapi import APIRouter, Response

from recsys_assets.serving.answers import REFUSED, answer
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.service import Service


def health_routes(service: Service, metrics: Metrics) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter()

    @routes.get("/health/live")
    async def live() -> Response:
        """Whether the process answers."""
        return answer({"status": "live"})

    @routes.get("/health/ready", responses=REFUSED)
    async def ready() -> Response:
        """Whether a release is open; false until then."""
        number, engine = service.opened
        return answer({"status": "ready", "release": number, "bizdate": engine.bizdate})

    @routes.get("/metrics")
    async def prometheus() -> Response:
        """Counters and latencies in Prometheus' text form."""
        number = service.opened[0] if service.is_ready else 0
        return Response(metrics.text(number), media_type="text/plain; version=0.0.4")

    return routes
