"""The routes that answer with items: a user's list, several at once, and what is like an item."""

import time
import uuid
from typing import Any

from fastapi import APIRouter, Response

from recsys_assets.serving.answers import REFUSED, Many, Scene, Size, answer, split
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.request_log import RequestLog
from recsys_assets.serving.requests import BatchBody, RecommendBody
from recsys_assets.serving.service import Service


def items_routes(service: Service, metrics: Metrics, log: RequestLog | None) -> APIRouter:
    """The routes over a service, whose answers a log keeps."""
    routes = APIRouter()

    @routes.get("/recommend/{user_id}", responses=REFUSED)
    async def recommend_user(
        user_id: str,
        size: Size | None = None,
        exclude: Many = "",
        fields: Many = "",
        judged: bool = False,
        scene: Scene = None,
    ) -> Response:
        """The list of a user; `exclude` and `fields` are separated by commas."""
        lists = {"exclude": split(exclude), "fields": split(fields)}
        body = RecommendBody(user_id=user_id, size=size, judged=judged, scene=scene, **lists)
        return answer(_measured(service, metrics, log, body))

    @routes.post("/recommend", responses=REFUSED)
    async def recommend(body: RecommendBody) -> Response:
        """The list of a user, or of somebody of whom only a history is known."""
        return answer(_measured(service, metrics, log, body))

    @routes.post("/recommend/batch", responses=REFUSED)
    async def recommend_batch(body: BatchBody) -> Response:
        """The answers to several requests, in their order."""
        return answer({"answers": [_measured(service, metrics, log, each) for each in body.requests]})

    @routes.get("/similar/{item_id}", responses=REFUSED)
    async def similar(item_id: str, size: Size = 20, fields: Many = "") -> Response:
        """Items that are alike, by the item-to-item tables."""
        return answer(service.similar(item_id, size, split(fields)))

    return routes


def _measured(service: Service, metrics: Metrics, log: RequestLog | None, body: RecommendBody) -> dict[str, Any]:
    """An answer with its id, which is counted and logged."""
    start, request_id = time.perf_counter(), uuid.uuid4().hex
    answered = service.answer(body)
    found, wanted = answered.content, answered.asked.wish.size
    metrics.answered(found["served_by"], len(found["items"]), wanted, time.perf_counter() - start)
    if log:
        log.put(request_id, answered)
    return {"request_id": request_id, **found}
