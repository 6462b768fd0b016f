"""A request as its answer depends on it, and the answer: a pure function of it and of the release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_assets.datasets.moments import TIME_PARTS
from recsys_assets.serving.engine import Engine, Found, Row, Wish
from recsys_assets.serving.people import History
from recsys_assets.serving.requests import Id, Problem, RecommendBody


@dataclass(frozen=True)
class Asked:
    """A request, read: ids have the profile's type, and the moment is filled in.

    Attributes:
        body: as it was sent.
        user: the user; None for somebody of whom only `told` is known.
        told: the events that follow those of the release, the request's own included.
        wish: the rest of the request.
    """

    body: RecommendBody
    user: object | None
    told: History
    wish: Wish


@dataclass(frozen=True)
class Answer:
    """An answer, and what it was made from.

    Attributes:
        number: of the release.
        engine: the release.
        asked: the request.
        found: the lists of each step; None if the answer is not personal.
        content: all that the caller gets, besides the id of the request.
    """

    number: int
    engine: Engine
    asked: Asked
    found: Found | None
    content: dict[str, Any]


def asked_of(engine: Engine, body: RecommendBody, told: History) -> Asked:
    """Read a request.

    Raises:
        Problem: a feature of the moment does not exist, or an id is not of the profile's type.
    """
    ids = engine.log.item_ids
    user = None if body.user_id is None else typed(engine.log.user_ids, [body.user_id], "user_id")[0]
    hidden = typed(ids, body.exclude, "exclude")
    only = None if body.restrict is None else typed(ids, body.restrict, "restrict")
    context = _context(engine, body.context)
    return Asked(body, user, told, Wish(body.size, hidden, only, context, judged=body.judged))


def respond(number: int, engine: Engine, asked: Asked) -> Answer:
    """The answer of a release to a request for a list.

    Raises:
        Problem: a field does not exist.
    """
    user, told, wish = asked.user, asked.told, asked.wish
    known, found = user is not None and engine.people.number(user) >= 0, None
    if known or len(told):
        found, served_by = engine.find(user, told, wish), "full" if known else "history"
        rows = engine.rows(found)[: wish.size]
    else:
        rows, served_by = engine.popular(told, wish), "popular"
    head = {"release": number, "bizdate": engine.bizdate, "model": engine.model, "served_by": served_by}
    content = {**head, "user_id": user, "items": with_fields(engine, rows, asked.body.fields)}
    return Answer(number, engine, asked, found, content)


def typed(ids: NDArray[Any], given: Sequence[Id], name: str) -> list[Any]:
    """Ids as the release has them.

    Raises:
        Problem: one is not of the type.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        return [str(each) for each in given]
    try:
        found = [int(each) for each in given]
    except ValueError:
        raise Problem(422, f"{name}: ids are whole numbers in this data set") from None
    bounds = np.iinfo(ids.dtype)
    if any(not bounds.min <= each <= bounds.max for each in found):
        raise Problem(422, f"{name}: an id is beyond {bounds.max}")
    return found


def _context(engine: Engine, given: Mapping[str, Any]) -> dict[str, Any]:
    """The features of the moment; parts of the time are those of now, unless the request says otherwise.

    Raises:
        Problem: the profile has no such feature, or a value is not a number or a text.
    """
    known = engine.profile.features.moment
    if unknown := sorted(given.keys() - set(known)):
        has = f"has {', '.join(known)}" if known else "has none"
        raise Problem(422, f"context: '{unknown[0]}' is no feature of the moment; this data set {has}")
    if wrong := [name for name, value in given.items() if not isinstance(value, str | int | None)]:
        raise Problem(422, f"context: '{wrong[0]}' must be a text or a whole number")
    now = engine.now()
    parts = {"hour": now.hour, "weekday": now.isoweekday()}
    return {name: parts[name] for name in known if name in TIME_PARTS} | dict(given)


def with_fields(engine: Engine, rows: list[Row], fields: Sequence[str]) -> list[Row]:
    """The rows with columns of the items' table.

    Raises:
        Problem: there is no such column.
    """
    if unknown := [name for name in fields if name not in engine.items.column_names]:
        raise Problem(422, f"fields: items have no column '{unknown[0]}': {', '.join(engine.items.column_names)}")
    return engine.describe(rows, fields) if fields and rows else rows
