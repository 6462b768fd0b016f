"""The service without HTTP: it holds one release at a time, and turns requests into answers."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recsys_assets.datasets.moments import TIME_PARTS
from recsys_assets.serving.engine import Engine, Row, Wish
from recsys_assets.serving.people import History
from recsys_assets.serving.requests import Id, Problem, RecommendBody

POLL = 1.0  # seconds between two looks for a new release

Opened = tuple[int, Engine]  # the number of a release, and its engine


class Service:
    """Answers from one release, and goes over to a newer one when that is open and warm.

    Args:
        newest: gives the number and the bizdate of the release to serve; None if there is none.
        open_release: opens the engine of a bizdate.
        say: takes sentences for the log.
    """

    def __init__(
        self,
        newest: Callable[[], tuple[int, str] | None],
        open_release: Callable[[str], Engine],
        say: Callable[[str], None],
    ) -> None:
        self._newest, self._open, self._say = newest, open_release, say
        self._opened: Opened | None = None
        self._refused: tuple[int, str] | None = None
        self._stop = threading.Event()

    @property
    def opened(self) -> Opened:
        """The release that answers.

        Raises:
            Problem: there is none yet.
        """
        if self._opened is None:
            raise Problem(503, "no release is open yet: publish one with `recsys materialize '*'`, and see the log")
        return self._opened

    @property
    def is_ready(self) -> bool:
        """Whether a release is open."""
        return self._opened is not None

    def look(self) -> None:
        """Go over to the newest release, if it can be opened; otherwise the old one stays, and the log says why."""
        found = self._newest()
        if found is None or found == self._refused or (self._opened and self._opened[0] == found[0]):
            return
        number, bizdate = found
        try:
            engine = self._open(bizdate)
            engine.warm_up()
        except Exception as error:  # whatever is wrong with a release, the one that works must stay
            self._refused = found
            self._say(f"release {number} of {bizdate} cannot be served, the one before stays: {error}")
            return
        self._opened, self._refused = (number, engine), None
        left_out = f"; without {', '.join(engine.without)}" if engine.without else ""
        self._say(
            f"release {number} of {bizdate} answers: {len(engine.log.user_ids):,} users, "
            f"{len(engine.log.item_ids):,} items{left_out}"
        )

    def follow(self) -> threading.Thread:
        """Look for new releases until `close`."""

        def run() -> None:
            while not self._stop.wait(POLL):
                try:
                    self.look()
                except Exception as error:  # a store that does not answer: the open release goes on
                    self._say(f"no release can be looked up: {error}")

        thread = threading.Thread(target=run, name="releases", daemon=True)
        thread.start()
        return thread

    def close(self) -> None:
        """Stop looking for releases."""
        self._stop.set()

    def recommend(self, body: RecommendBody) -> dict[str, Any]:
        """The answer to a request for a list.

        Raises:
            Problem: a field or a feature of the moment does not exist, or an id is not of the profile's type.
        """
        number, engine = self.opened
        told, wish = self._told(engine, body), self._wish(engine, body)
        user = None if body.user_id is None else _typed(engine.log.user_ids, [body.user_id], "user_id")[0]
        known = user is not None and engine.people.number(user) >= 0
        if known or len(told):
            rows, served_by = engine.recommend(user, told, wish), "full" if known else "history"
        else:
            rows, served_by = engine.popular(told, wish), "popular"
        answer = {"release": number, "bizdate": engine.bizdate, "model": engine.model, "served_by": served_by}
        return {**answer, "user_id": user, "items": _with_fields(engine, rows, body.fields)}

    def similar(self, item_id: Id, size: int, fields: Sequence[str]) -> dict[str, Any]:
        """Items that are alike.

        Raises:
            Problem: there is no such item.
        """
        number, engine = self.opened
        (item,) = _typed(engine.log.item_ids, [item_id], "item_id")
        if engine.numbers([item])[0] < 0:
            raise Problem(404, f"release {number} has no item {item_id!r}")
        rows = engine.similar(item, Wish(size=size))
        return {"release": number, "bizdate": engine.bizdate, "items": _with_fields(engine, rows, fields)}

    def _told(self, engine: Engine, body: RecommendBody) -> History:
        items = _typed(engine.log.item_ids, [event.item_id for event in body.history], "history.item_id")
        return engine.history(items, [event.label for event in body.history])

    def _wish(self, engine: Engine, body: RecommendBody) -> Wish:
        ids = engine.log.item_ids
        hidden = _typed(ids, body.exclude, "exclude")
        only = None if body.restrict is None else _typed(ids, body.restrict, "restrict")
        return Wish(body.size, hidden, only, _context(engine, body.context), judged=body.judged)


def _typed(ids: NDArray[Any], given: Sequence[Id], name: str) -> list[Any]:
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


def _with_fields(engine: Engine, rows: list[Row], fields: Sequence[str]) -> list[Row]:
    """The rows with columns of the items' table.

    Raises:
        Problem: there is no such column.
    """
    if unknown := [name for name in fields if name not in engine.items.column_names]:
        raise Problem(422, f"fields: items have no column '{unknown[0]}': {', '.join(engine.items.column_names)}")
    return engine.describe(rows, fields) if fields and rows else rows
