"""The routes by which users and items are looked up: what the release is, whom it knows, and what a text finds."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from recsys_assets.serving.answer_forms import ItemsAnswer, ReleaseAnswer, UserAnswer, UsersAnswer
from recsys_assets.serving.answers import Many, Size, answer, split
from recsys_assets.serving.directory import Directory
from recsys_assets.serving.interface import DIRECTORY, answers_of
from recsys_assets.serving.service import Service

Sample = Annotated[int, Query(ge=1, le=100)]
Seed = Annotated[int, Query(ge=0, lt=2**32)]
Text = Annotated[str, Query(min_length=1, max_length=200)]


def directory_routes(service: Service) -> APIRouter:
    """The routes over a service. They are plain functions, so that a long search holds no other answer up."""
    routes, directory = APIRouter(tags=[DIRECTORY]), Directory(service)

    @routes.get("/release", responses=answers_of(ReleaseAnswer))
    def release() -> Response:
        """The contents of the release: how many users and items, the columns of items, the channels."""
        return answer(directory.release())

    @routes.get("/users", responses=answers_of(UsersAnswer))
    def users(sample: Sample = 5, seed: Seed = 0) -> Response:
        """Users drawn at random; the same seed draws the same ones from the same release."""
        return answer(directory.sample(sample, seed))

    @routes.get("/users/{user_id:path}", responses=answers_of(UserAnswer))
    def user(user_id: str, size: Size = 20, fields: Many = "") -> Response:
        """Whether a user is known, and their newest events, newest first."""
        return answer(directory.user(user_id, size, split(fields)))

    @routes.get("/items", responses=answers_of(ItemsAnswer))
    def items(query: Text, size: Size = 20, fields: Many = "") -> Response:
        """The items with this id or this text in their title; those that begin with it first, then shorter titles."""
        return answer(directory.items(query, size, split(fields)))

    return routes
