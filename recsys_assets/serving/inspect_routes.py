"""The routes that show the steps of the funnel: candidates by channel, and scores of the caller's candidates."""

from fastapi import APIRouter, Response

from recsys_assets.serving.answer_forms import OrderedAnswer, ProbabilitiesAnswer, RecallAnswer
from recsys_assets.serving.answers import answer
from recsys_assets.serving.inspect import recalled, scored
from recsys_assets.serving.interface import STEPS, answers_of
from recsys_assets.serving.requests import RecallBody, ScoreBody
from recsys_assets.serving.service import Service


def inspect_routes(service: Service) -> APIRouter:
    """The routes over a service."""
    routes = APIRouter(tags=[STEPS])

    @routes.post("/recall", responses=answers_of(RecallAnswer))
    async def recall(body: RecallBody) -> Response:
        """The candidates of each channel for a user, best first."""
        number, engine, book = service.opened
        told, withdrawn = service.since(engine, body), service.withdrawn(engine)
        return answer(recalled(number, engine, book, body, told, withdrawn))

    @routes.post("/score", responses=answers_of(OrderedAnswer | ProbabilitiesAnswer))
    async def score(body: ScoreBody) -> Response:
        """The caller's candidates in the order of a user's list, or the ranker's probabilities for rows of features."""
        number, engine, book = service.opened
        return answer(scored(number, engine, book, body, service.since(engine, body)))

    return routes
