"""The service without HTTP: it turns requests into answers of the release that is open."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from recsys_assets.arrays import Bools, Ids
from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.fresh.blend import Fresh
from recsys_assets.serving.people import History
from recsys_assets.serving.requests import Id, Problem, RecommendBody, UserBody
from recsys_assets.serving.respond import Answer, asked_of, respond, typed, with_fields
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.told import Told, ToldEvents


class Opened(NamedTuple):
    """A release that is open: its number, the engine that answers from it, and the rules of scenes."""

    number: int
    engine: Engine
    book: Book

    def __str__(self) -> str:
        engine = self.engine
        left_out = f"; without {', '.join(engine.without)}" if engine.without else ""
        return (
            f"release {self.number} of {engine.bizdate} answers: {len(engine.log.user_ids):,} users, "
            f"{len(engine.log.item_ids):,} items{left_out}"
        )


class Service:
    """Answers from one release.

    Args:
        opened: the release; None: none is open yet.
        told: what the service was told since the release; None: it cannot be told anything.
        deadline_ms: of requests that name none; None: there is none.
        fresh: rows that are fresher than the release; None: there are none, and none are taken.
    """

    def __init__(
        self,
        opened: Opened | None,
        told: Told | None = None,
        deadline_ms: float | None = None,
        fresh: Fresh | None = None,
    ) -> None:
        self._opened, self._told, self.deadline_ms, self._fresh = opened, told, deadline_ms, fresh

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
    def told(self) -> Told:
        """Events that the service was told.

        Raises:
            Problem: it cannot be told anything.
        """
        if self._told is None:
            raise Problem(503, "this service keeps no events")
        return self._told

    @property
    def fresh(self) -> Fresh:
        """Rows that are fresher than the release.

        Raises:
            Problem: none are taken.
        """
        if self._fresh is None:
            why = "the items of this data set do not land" if self.is_ready else "no release is open yet"
            raise Problem(503, f"this service takes no rows: {why}")
        return self._fresh

    def withdrawn(self, engine: Engine) -> Bools | None:
        """(I,) the items of a release that were withdrawn since; None: none was."""
        if self._fresh is None:
            return None
        self._fresh.layer.look()
        return self._fresh.layer.withdrawn(engine.log.item_ids)

    def known_ids(self, engine: Engine) -> Mapping[str, Ids]:
        """The ids, ascending, that users and items of events may have: those of the release, and those told since."""
        if self._fresh is None:
            return engine.known_ids
        self._fresh.layer.look()
        return self._fresh.layer.known_ids(engine.known_ids)

    @property
    def keeps_events(self) -> bool:
        """Whether it can be told events."""
        return self._told is not None

    @property
    def is_ready(self) -> bool:
        """Whether a release is open."""
        return self._opened is not None

    def warm_up(self) -> None:
        """Answer some users, so that the process has touched what it shares with others and opened its own.

        The first answer with fresh rows took 0.1 s, because it prepares the statements that type them.
        """
        engine = self.opened.engine
        engine.warm_up()
        for user_id in engine.log.user_ids[:1].tolist():
            self.answer(RecommendBody(user_id=user_id))

    def answer(self, body: RecommendBody, waited: float = 0.0) -> Answer:
        """The answer to a request for a list, which waited for some seconds before: they count towards its deadline.

        Raises:
            Problem: a scene, a variant, a field or a feature of the moment does not exist, a condition is not one, or
                an id is not of the profile's type.
        """
        number, engine, book = self.opened
        withdrawn = None if body.judged else self.withdrawn(engine)
        asked = asked_of(engine, book, body, self.since(engine, body), withdrawn)
        answer = respond(number, engine, asked, self.deadline_ms, waited)
        if self._fresh is None or body.judged:
            return answer
        return self._fresh.blended(answer, [each.item_id for each in body.history] + self._told_items(engine, body))

    def similar(self, item_id: Id, size: int, fields: Sequence[str]) -> dict[str, Any]:
        """Items that are alike.

        Raises:
            Problem: there is no such item.
        """
        number, engine, _ = self.opened
        (item,) = typed(engine.log.item_ids, [item_id], "item_id")
        if engine.numbers([item])[0] < 0:
            raise Problem(404, f"release {number} has no item {item_id!r}")
        gone = self.withdrawn(engine)
        more = 0 if gone is None else int(gone.sum())
        found = engine.similar(item, Wish(size=size + more))
        numbers = engine.numbers([row["item_id"] for row in found])
        rows = [row for row, number in zip(found, numbers, strict=True) if gone is None or not gone[number]][:size]
        return {"release": number, "bizdate": engine.bizdate, "items": with_fields(engine, rows, fields)}

    def since(self, engine: Engine, body: UserBody) -> History:
        """The events that follow those of the release: those that were told, and then those that the request brings.

        Raises:
            Problem: an id is not of the profile's type.
        """
        items = typed(engine.log.item_ids, [event.item_id for event in body.history], "history.item_id")
        brought = engine.history(items, [event.label for event in body.history])
        if self._told is None or body.user_id is None or body.judged:
            return brought
        told = self._told_of(engine, body.user_id)
        return engine.history(told.items, told.labels, told.weights) + brought if told.items else brought

    def _told_of(self, engine: Engine, user_id: Id) -> ToldEvents:
        (user,) = typed(engine.log.user_ids, [user_id], "user_id")
        return self.told.of(user, engine.bizdate)

    def _told_items(self, engine: Engine, body: UserBody) -> list[object]:
        """Ids of the items of the user's told events, those that the release does not know among them."""
        if self._told is None or body.user_id is None:
            return []
        return list(self._told_of(engine, body.user_id).items)
