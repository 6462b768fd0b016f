"""The routes by which a list is compared with that of another release whose files are kept."""

from typing import Annotated

from fastapi import APIRouter, Path, Response

from recsys_assets.serving.answer_forms import KeptAnswer, ListAnswer
from recsys_assets.serving.answers import REQUEST_ID, answer
from recsys_assets.serving.interface import DIRECTORY, answers_of
from recsys_assets.serving.kept import KeptReleases
from recsys_assets.serving.place import Place
from recsys_assets.serving.requests import RecommendBody
from recsys_assets.serving.service import Service

Number = Annotated[int, Path(ge=1, lt=2**31, description="of a release")]


def kept_routes(service: Service, place: Place) -> APIRouter:
    """The routes over a service. They are plain functions, so that opening a release holds no answer up."""
    routes, kept = APIRouter(tags=[DIRECTORY]), KeptReleases(service, place.copies)

    @routes.get("/releases", responses=answers_of(KeptAnswer))
    def releases() -> Response:
        """The release that is served, and the others whose files are kept, with which lists can be compared."""
        number, engine, _ = service.opened
        others = [{"release": each.number, "bizdate": each.bizdate} for each in kept.listed()]
        return answer({"release": number, "bizdate": engine.bizdate, "others": others})

    @routes.post("/releases/{number}/recommend", responses=answers_of(ListAnswer))
    def recommend_before(number: Number, body: RecommendBody) -> Response:
        """The list as another kept release would answer, for comparisons; it is neither counted nor logged."""
        return answer({"request_id": REQUEST_ID.get(), **kept.answer(number, body)})

    return routes
