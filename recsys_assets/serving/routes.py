"""The routes that answer with items: a user's list, several at once, and what is like an item."""

import time
from typing import Any

from fastapi import APIRouter, Response

from recsys_assets.serving.answer_forms import BatchAnswer, ListAnswer, SimilarAnswer
from recsys_assets.serving.answers import REQUEST_ID, WAITED, Many, Scene, Size, answer, split
from recsys_assets.serving.interface import LISTS, answers_of
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.request_log import RequestLog
from recsys_assets.serving.requests import BatchBody, RecommendBody
from recsys_assets.serving.service import Service


def items_routes(service: Service, metrics: Metrics, log: RequestLog | None) -> APIRouter:
    """The routes over a service, whose answers a log keeps."""
    routes = APIRouter(tags=[LISTS])

    @routes.get("/recommend/{user_id:path}", responses=answers_of(ListAnswer))
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

    @routes.post("/recommend", responses=answers_of(ListAnswer))
    async def recommend(body: RecommendBody) -> Response:
        """The list of a user, or of somebody of whom only a history is known."""
        return answer(_measured(service, metrics, log, body))

    @routes.post("/recommend/batch", responses=answers_of(BatchAnswer))
    async def recommend_batch(body: BatchBody) -> Response:
        """The answers to several requests, in their order."""
        each_of = enumerate(body.requests)
        return answer({"answers": [_measured(service, metrics, log, each, f"-{place}") for place, each in each_of]})

    @routes.get("/similar/{item_id:path}", responses=answers_of(SimilarAnswer))
    async def similar(item_id: str, size: Size = 20, fields: Many = "") -> Response:
        """Items that are alike, by the item-to-item tables and the vectors of two-tower models."""
        return answer(service.similar(item_id, size, split(fields)))

    return routes


def _measured(
    service: Service, metrics: Metrics, log: RequestLog | None, body: RecommendBody, place: str = ""
) -> dict[str, Any]:
    """An answer with its id, which is counted and logged; `place` tells it from others to the same request."""
    start, request_id, waited = time.perf_counter(), REQUEST_ID.get() + place, WAITED.get()
    answered = service.answer(body, waited)
    seconds = time.perf_counter() - start
    metrics.answered(answered, service.opened.book.ages(answered.engine), seconds)
    if log:
        log.put(request_id, answered, waited + seconds)
    return {"request_id": request_id, **answered.content}
