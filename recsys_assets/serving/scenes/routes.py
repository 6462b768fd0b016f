"""The route that says which scenes, filters and experiments there are."""

from typing import Any

from fastapi import APIRouter, Response

from recsys_assets.serving.answers import answer
from recsys_assets.serving.interface import DIRECTORY, answers_of
from recsys_assets.serving.scenes.form import Rules
from recsys_assets.serving.service import Service


def scenes_routes(service: Service) -> APIRouter:
    """The route over a service."""
    routes = APIRouter(tags=[DIRECTORY])

    @routes.get("/scenes", responses=answers_of(Rules))
    async def scenes() -> Response:
        """The scenes, the columns that `restrict` may filter by, and the layers of experiments with their variants."""
        return answer(_described(service.opened.book.rules))

    return routes


def _described(rules: Rules) -> dict[str, Any]:
    """The rules as their file has them, without defaults."""
    content = rules.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {key: content.get(key, empty) for key, empty in (("filters", []), ("scenes", {}), ("layers", {}))}
