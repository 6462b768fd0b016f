"""The HTTP interface of deployed towers: `POST /vectors`, what they take, and the routes by which they are watched."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel, Field

from recsys_assets.funnel.tower_file import TowerFile, UnfitRow
from recsys_assets.serving.answer_forms import example
from recsys_assets.serving.answers import answer
from recsys_assets.serving.app import add_errors
from recsys_assets.serving.front import Front
from recsys_assets.serving.health import health_routes
from recsys_assets.serving.interface import GROUPS, HEALTH, VECTORS, Interface, answers_of
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.place import Place
from recsys_assets.serving.requests import Body, Problem
from recsys_assets.serving.turns import Turns

if TYPE_CHECKING:
    from recsys_assets.serving.deployed.towers import Held

MOST_ROWS = 1_000
_HEAD = {"deployment": "items", "model": "dssm", "version": 3, "bizdate": "2026-01-31"}


class VectorsBody(Body):
    """Rows of features, of which each becomes a vector.

    Attributes:
        side: `item` or `user`: whose tower is asked.
        rows: features by name, as the users' or the items' table has them; one that is left out is missing.
    """

    side: Literal["item", "user"] = "item"
    rows: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_ROWS)


class OfVersion(BaseModel):
    """An answer of a version."""

    deployment: str
    model: str
    version: int
    bizdate: str = Field(description="the day whose model answers")


class VectorsAnswer(OfVersion):
    """Vectors, all of one version."""

    model_config = example(**_HEAD, file="9f86d081…", vectors=[[0.1, -0.2]])

    file: str = Field(description="the SHA-256 hash of the tower's file")
    vectors: list[list[float]] = Field(description="one for each row, in their order")


class InputsAnswer(OfVersion):
    """The features that the towers of a version read."""

    model_config = example(
        **_HEAD, files={"item": "9f86d081…"}, inputs={"item": {"item_id": "int64", "genres": "list<item: string>"}}
    )

    files: dict[str, str] = Field(description="by side, the SHA-256 hash of the tower's file")
    inputs: dict[str, dict[str, str]] = Field(description="by side, the type of each feature")


def create_towers_app(held: "Held", place: Place) -> FastAPI:
    """The application over what a process answers from."""
    groups = {VECTORS: "Features in, vectors out.", HEALTH: GROUPS[HEALTH]}
    app, metrics = Interface("deployed towers", groups), Metrics()
    add_errors(app)
    app.add_middleware(Front, metrics=metrics, limits=place.limits, turns=Turns(place.limits.queue), rates=place.rates)
    app.include_router(vectors_routes(held))
    app.include_router(health_routes(held, metrics, place))
    return app


def vectors_routes(held: "Held") -> APIRouter:
    """The routes that answer from the towers."""
    routes = APIRouter(tags=[VECTORS])

    @routes.post("/vectors", responses=answers_of(VectorsAnswer))
    async def vectors(body: VectorsBody) -> Response:
        """The vectors of rows of features; the inner product of a user's and an item's is the score."""
        _, towers = held.opened
        found = _vectors(towers.towers[body.side], body.rows)
        return answer({**towers.head, "file": towers.files[body.side], "vectors": found})

    @routes.get("/inputs", responses=answers_of(InputsAnswer))
    async def inputs() -> Response:
        """The features that the towers read."""
        _, towers = held.opened
        return answer({**towers.head, "files": towers.files, "inputs": _types(towers.towers)})

    return routes


def _types(towers: Mapping[str, TowerFile]) -> dict[str, dict[str, str]]:
    """By side, the type of each input in words."""
    return {side: {name: str(kind) for name, kind in each.types.items()} for side, each in towers.items()}


def _vectors(tower: TowerFile, rows: list[dict[str, Any]]) -> list[list[float]]:
    """The vectors of rows.

    Raises:
        Problem: a row is not one of the tower's features.
    """
    try:
        table = tower.table(rows)
    except UnfitRow as unfit:
        raise Problem(422, f"rows.{unfit.row}: {unfit.reason}") from None
    found: list[list[float]] = tower(table).tolist()
    return found
