"""`POST /items` and `POST /users`: new and changed rows, which count at once and land for the next day."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from recsys_assets.datasets.disk import PlaceUnwritable
from recsys_assets.fresh.step import FreshRow
from recsys_assets.serving.answer_forms import FreshAnswer
from recsys_assets.serving.answers import answer
from recsys_assets.serving.events import line_of
from recsys_assets.serving.fresh.writer import TooManyRows
from recsys_assets.serving.interface import FRESH, answers_of
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.requests import MOST_EVENTS, Body, Problem
from recsys_assets.serving.service import Service


class ItemsBody(Body):
    """Rows of items and of their side tables, of which all are kept, or none.

    Attributes:
        items: rows of the table `items`, with the names that columns have in landing files. `update_time` is by default
            the present one: a column keeps the value of the newest, also if a row leaves it out.
            `withdrawn: true` takes an item out of all answers.
        sides: rows of the side tables that the profile names, by table.
    """

    items: list[dict[str, Any]] = Field(default=[], max_length=MOST_EVENTS)
    sides: dict[str, list[dict[str, Any]]] = Field(default={}, max_length=50)

    @model_validator(mode="after")
    def _has_some(self) -> "ItemsBody":
        if not 1 <= len(self.items) + sum(map(len, self.sides.values())) <= MOST_EVENTS:
            raise ValueError(f"send 1 to {MOST_EVENTS:,} rows")
        return self


class UsersBody(Body):
    """Rows of users, of which all are kept, or none.

    Attributes:
        users: rows of the table `users`, as rows of items are sent.
    """

    users: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_EVENTS)


def fresh_routes(service: Service, metrics: Metrics) -> APIRouter:
    """The routes over a service, whose new rows are counted."""
    routes = APIRouter(tags=[FRESH])

    @routes.post("/items", responses=answers_of(FreshAnswer))
    async def tell_items(body: ItemsBody) -> Response:
        """Keep rows of items and side tables: lists hold the items from the next request on."""
        named = {"items": ("items", body.items)}
        return await _tell(named | {f"sides.{name}": (name, rows) for name, rows in body.sides.items()})

    @routes.post("/users", responses=answers_of(FreshAnswer))
    async def tell_users(body: UsersBody) -> Response:
        """Keep rows of users, who get lists by what is known of them."""
        return await _tell({"users": ("users", body.users)})

    async def _tell(named: Mapping[str, tuple[str, Sequence[dict[str, Any]]]]) -> Response:
        placed = [
            (f"{place}.{number}", source, row)
            for place, (source, rows) in named.items()
            for number, row in enumerate(rows)
        ]
        rows = [FreshRow(source, line_of(row, place)) for place, source, row in placed]
        if nul := next((at for (at, *_), row in zip(placed, rows, strict=True) if "\\u0000" in row.line), None):
            raise Problem(422, f"{nul}: no text has the sign NUL")
        try:
            taken = await asyncio.wrap_future(service.fresh.writer.tell(rows))
        except (TooManyRows, PlaceUnwritable) as error:
            raise Problem(503, str(error)) from None
        if refused := [(each[0], reason) for each, reason in zip(placed, taken.reasons, strict=True) if reason]:
            raise Problem(422, ": ".join(refused[0]))
        metrics.told_rows(taken.changed)
        return answer({"rows": len(rows), "changed": taken.changed})

    return routes
