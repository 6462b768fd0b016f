"""The users and items of a release as somebody looks for them: what the release holds, whom it knows, what is where."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recsys_assets.arrays import Ints
from recsys_assets.serving.engine import Engine, Row
from recsys_assets.serving.event_looks import event_looks
from recsys_assets.serving.requests import Id, Problem
from recsys_assets.serving.respond import typed, with_fields
from recsys_assets.serving.service import Service

TITLE = "title"  # the column of the items' table that is searched if there is one


class Directory:
    """Answers of the release that a service holds; every one names this release.

    Args:
        service: holds the release.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def release(self) -> dict[str, Any]:
        """Describes the release: size, columns of the items, channels, what it does without, and how events look."""
        head, engine = self._opened()
        return {
            **head,
            "model": engine.model,
            "users": len(engine.log.user_ids),
            "items": len(engine.log.item_ids),
            "fields": {field.name: str(field.type) for field in engine.items.schema},
            "channels": list(engine.funnel.channels),
            "without": list(engine.without),
            "moment": list(engine.profile.features.moment),
            "events": self._looks if self._service.keeps_events else None,
        }

    @cached_property
    def _looks(self) -> dict[str, Any]:
        return event_looks(self._service.opened.engine.profile)

    def sample(self, size: int, seed: int) -> dict[str, Any]:
        """Users drawn at random without replacement; the same seed draws the same ones."""
        head, engine = self._opened()
        ids = engine.log.user_ids
        drawn = np.random.default_rng(seed).choice(len(ids), min(size, len(ids)), replace=False)
        return {**head, "users": ids[drawn].tolist()}

    def user(self, user_id: Id, size: int, fields: Sequence[str]) -> dict[str, Any]:
        """A user's newest events in the release, newest first; `known` is false for a user whom it does not know.

        Raises:
            Problem: the id is not of the profile's type, or items have no such column.
        """
        head, engine = self._opened()
        (user,) = typed(engine.log.user_ids, [user_id], "user_id")
        known = engine.people.number(user) >= 0
        history = engine.people(user).history
        items, labels = history.items[::-1][:size], history.labels[::-1][:size]
        columns = zip(engine.log.item_ids[items].tolist(), labels.tolist(), strict=True)
        rows: list[Row] = [{"item_id": item_id, "label": label} for item_id, label in columns]
        about = {"user_id": user, "known": known, "events": len(history)}
        return {**head, **about, "history": with_fields(engine, rows, fields)}

    def items(self, query: str, size: int, fields: Sequence[str]) -> dict[str, Any]:
        """The items whose id is the query, then those whose text holds it.

        Raises:
            Problem: items have no such column.
        """
        head, engine = self._opened()
        found = np.concatenate([_by_id(engine, query), _by_text(engine, query)])
        _, first = np.unique(found, return_index=True)
        numbers = found[np.sort(first)[:size]]
        rows: list[Row] = [{"item_id": item_id} for item_id in engine.log.item_ids[numbers].tolist()]
        return {**head, "items": with_fields(engine, rows, fields)}

    def _opened(self) -> tuple[dict[str, Any], Engine]:
        number, engine, _ = self._service.opened
        return {"release": number, "bizdate": engine.bizdate}, engine


def _by_id(engine: Engine, query: str) -> Ints:
    """(0 or 1,) the number of the item with this id."""
    try:
        numbers = engine.numbers(typed(engine.log.item_ids, [query], "query"))
    except Problem:
        return np.zeros(0, np.int64)
    return numbers[numbers >= 0]


def _by_text(engine: Engine, query: str) -> Ints:
    """Numbers of the items whose text holds the query in upper or lower case.

    Those that begin with it come first, then the shorter ones, then those of the lower id.
    """
    column = text_column(engine.items.schema)
    if column is None or not query:
        return np.zeros(0, np.int64)
    texts = engine.items[column]
    numbers = np.flatnonzero(pc.match_substring(texts, query, ignore_case=True).fill_null(False).to_numpy())
    held = texts.take(pa.array(numbers))
    later = ~pc.starts_with(held, query, ignore_case=True).to_numpy()
    found: Ints = numbers[np.lexsort((numbers, pc.utf8_length(held).to_numpy(), later))]
    return found


def text_column(schema: pa.Schema) -> str | None:
    """The column that is searched: the title, or the first column of texts; None without one."""
    texts = [field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)]
    return TITLE if TITLE in texts else next((name for name in texts if name != "item_id"), None)
