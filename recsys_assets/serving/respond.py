"""A request as its answer depends on it, and the answer: a pure function of it and of the release."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_assets.arrays import Bools, Ints
from recsys_assets.datasets.moments import TIME_PARTS
from recsys_assets.serving.budget import ASKED, PERSONAL, Budget
from recsys_assets.serving.engine import Engine, Found, Row, Wish
from recsys_assets.serving.explain import explained
from recsys_assets.serving.people import History
from recsys_assets.serving.requests import Id, Problem, RecommendBody, UserBody, whole_text
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.scenes.form import NO_RANKER
from recsys_assets.serving.scenes.listing import Stage, listing

_WHOLE = re.compile(r"[+-]?[0-9]{1,40}")
SIZE = 50  # of a list, if neither the request nor a scene says so


@dataclass(frozen=True)
class Asked:
    """A request, read: ids have the profile's type, and the moment is filled in.

    Attributes:
        body: as it was sent.
        user: the user; None for somebody of whom only `told` is known.
        told: the events that follow those of the release, the request's own included.
        wish: the rest of the request.
        stage: the scene that arranges the list; None: no scene.
        rules: the fingerprint of the rules of scenes, if the answer depends on them.
        chances: the probability of the variant of each layer of experiments.
    """

    body: RecommendBody
    user: object | None
    told: History
    wish: Wish
    stage: Stage | None
    rules: str
    chances: Mapping[str, float]


@dataclass(frozen=True)
class Answer:
    """An answer, and what it was made from.

    Attributes:
        number: of the release.
        engine: the release.
        asked: the request.
        found: the lists of each step, before a scene arranges them; None if the answer is not personal.
        content: all that the caller gets, besides the id of the request.
        before_fresh: the content as the release alone gives it, if fresh items were put into it; None: it is the same.
    """

    number: int
    engine: Engine
    asked: Asked
    found: Found | None
    content: dict[str, Any]
    before_fresh: dict[str, Any] | None = None


def asked_of(engine: Engine, book: Book, body: RecommendBody, told: History, withdrawn: Bools | None = None) -> Asked:
    """Read a request for a list; `withdrawn` (I,) are the items that no answer may hold.

    Raises:
        Problem: a scene or a variant does not exist, or as in `wish_of`.
    """
    user = user_of(engine, body)
    stage, chances = book.stage(engine, body.scene, body.visitor if user is None else user, body.variants)
    wish = wish_of(engine, book, body, body.size or (stage.scene.size if stage else SIZE), withdrawn)
    has_rules = stage is not None or wish.allowed is not None
    return Asked(body, user, told, wish, stage, book.experiments.fingerprint if has_rules else "", chances)


def user_of(engine: Engine, body: UserBody) -> object | None:
    """The user whom a request is about, if it names one.

    Raises:
        Problem: the id is not of the profile's type.
    """
    return None if body.user_id is None else typed(engine.log.user_ids, [body.user_id], "user_id")[0]


def wish_of(engine: Engine, book: Book, body: UserBody, size: int, withdrawn: Bools | None = None) -> Wish:
    """The rest of a request for lists of up to `size` items.

    Raises:
        Problem: a feature of the moment does not exist, a condition is not one, or an id is not of the profile's type.
    """
    hidden = typed(engine.log.item_ids, body.exclude, "exclude")
    only = typed(engine.log.item_ids, body.restrict, "restrict") if isinstance(body.restrict, list) else None
    allowed = book.passing(engine, body.restrict) if isinstance(body.restrict, str) else None
    context = _context(engine, body.context)
    return Wish(size, hidden, only, allowed, context=context, judged=body.judged, withdrawn=withdrawn)


def respond(number: int, engine: Engine, asked: Asked, deadline_ms: float | None = None, waited: float = 0.0) -> Answer:
    """The answer of a release to a request for a list.

    Args:
        number: of the release.
        engine: the release.
        asked: the request.
        deadline_ms: of requests that name none; None: there is none.
        waited: seconds that the request waited before it began.

    Raises:
        Problem: a field does not exist, or a step that is to be left out.
    """
    user, told, stage, steps = asked.user, asked.told, asked.stage, list[Found]()
    budget = _budget(engine, asked.body, deadline_ms, waited)
    known = user is not None and engine.people.number(user) >= 0
    served_by = "full" if known else "history" if len(told) else "popular"
    ranking = stage.engine if stage else engine

    def ask(wish: Wish) -> list[Row]:
        if served_by == "popular":
            return engine.popular(told, wish)
        found = budget.attempt(PERSONAL, lambda: ranking.find(user, told, wish))
        if found is None:
            return engine.popular(told, wish)
        steps.append(found)
        rows = engine.rows(found)[: wish.size]
        return rows or engine.popular(found.history, wish) if budget.left_out else rows

    wish = replace(asked.wish, budget=budget)
    rows = listing(engine, stage, wish, lambda: _seen(engine, asked), ask) if stage else ask(wish)
    rows = explained(engine, steps, rows) if steps and asked.body.explain else rows
    without_ranker = {"model": None} if stage and stage.scene.ranker == NO_RANKER else {}
    left_out = [f"{step}: {why}" for step, why in budget.left_out.items()]
    served_by, degraded = ("degraded", {"left_out": left_out}) if left_out else (served_by, {})
    of_scene = {"scene": stage and stage.name, "variants": dict(stage.variants) if stage else {}}
    content = {**head(number, ranking), **without_ranker, "served_by": served_by, **degraded, **of_scene}
    content |= {"user_id": user, "items": with_fields(engine, rows, asked.body.fields)}
    if steps and asked.body.explain:
        content["steps"] = {step: round(1000 * seconds, 3) for step, seconds in steps[0].seconds.items()}
    return Answer(number, engine, asked, steps[0] if steps else None, content)


def _budget(engine: Engine, body: RecommendBody, deadline_ms: float | None, waited: float) -> Budget:
    """The budget that makes the steps of an answer.

    Raises:
        Problem: a step that is to be left out does not exist.
    """
    if body.left_out is None:
        milliseconds = body.deadline_ms or deadline_ms
        return Budget(engine.usual, milliseconds and milliseconds / 1000 - waited)
    given = dict(each.partition(": ")[::2] for each in body.left_out)
    if unknown := sorted(given.keys() - engine.steps):
        raise Problem(422, f"left_out: there is no step '{unknown[0]}': {', '.join(sorted(engine.steps))}")
    return Budget(engine.usual, given={step: why or ASKED for step, why in given.items()})


def _seen(engine: Engine, asked: Asked) -> Ints:
    """The numbers of the items that the user must not be shown because they were seen."""
    if not engine.funnel.filter_seen:
        return asked.told.items[:0]
    user = asked.user
    if user is None or engine.people.number(user) < 0:
        return asked.told.items
    return engine.people(user, asked.told, judged=asked.wish.judged).history.items


def head(number: int, engine: Engine) -> dict[str, Any]:
    """The keys with which the answers of a release begin."""
    return {"release": number, "bizdate": engine.bizdate, "model": engine.model}


def typed(ids: NDArray[Any], given: Sequence[Id], name: str) -> list[Any]:
    """Ids as the release has them.

    Raises:
        Problem: one is not of the type.
    """
    if not np.issubdtype(ids.dtype, np.integer):
        return _texts(given, name)
    # As in landing files: `int` would also read 7_0 as the id of another user, and digits of other scripts.
    if any(isinstance(each, str) and not _WHOLE.fullmatch(each) for each in given):
        raise Problem(422, f"{name}: ids are whole numbers in this data set")
    found = [int(each) for each in given]
    bounds = np.iinfo(ids.dtype)
    if any(not bounds.min <= each <= bounds.max for each in found):
        raise Problem(422, f"{name}: an id is beyond {bounds.max}")
    return found


def _texts(given: Sequence[Id], name: str) -> list[str]:
    try:
        return [whole_text(str(each)) for each in given]
    except ValueError as error:
        raise Problem(422, f"{name}: {error}") from None


def _is_value(given: object) -> bool:
    """Whether it can be a feature of the moment: a text, a whole number of 64 bits, or nothing.

    Raises:
        Problem: a text is half of a surrogate pair.
    """
    if isinstance(given, int):
        return -(2**63) <= given < 2**63
    return given is None or (isinstance(given, str) and bool(_texts([given], "context")))


def _context(engine: Engine, given: Mapping[str, Any]) -> dict[str, Any]:
    """The features of the moment; parts of the time are those of now, unless the request says otherwise.

    Raises:
        Problem: the profile has no such feature, or a value is not a number or a text.
    """
    known = engine.profile.features.moment
    if unknown := sorted(given.keys() - set(known)):
        has = f"has {', '.join(known)}" if known else "has none"
        raise Problem(422, f"context: '{unknown[0]}' is no feature of the moment; this data set {has}")
    if wrong := [name for name, value in given.items() if not _is_value(value)]:
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
