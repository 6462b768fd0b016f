"""Fresh and cold items in a list: those nearest to the user take a share of its places, next to the other items.

Fresh ones come first. Cold items of the release, which nobody has touched, take what they leave of the share. If the
profile names a table (`fresh.sql`), the items that it answers with take the share in place of both.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Vectors, list_array
from recsys_assets.datasets.names import HISTORY
from recsys_assets.fresh.step import vectors_of
from recsys_assets.fresh.towers import Tower
from recsys_assets.funnel.by_vector import ByVector
from recsys_assets.retrieval.interactions import Interactions, Queries, State
from recsys_assets.serving.budget import Budget
from recsys_assets.serving.engine import Engine, Row, Wish
from recsys_assets.serving.fresh.layer import Layer, ids_of
from recsys_assets.serving.fresh.sql import STEP as SQL_STEP
from recsys_assets.serving.fresh.sql import SqlRecall
from recsys_assets.serving.fresh.writer import Writer
from recsys_assets.serving.people import Person
from recsys_assets.serving.respond import Answer, with_fields
from recsys_assets.serving.scenes.faults import columns_of
from recsys_assets.serving.scenes.listing import listing
from recsys_assets.serving.scenes.shelf import passing

FRESH, COLD, SQL, STEP = "fresh", "cold", "sql", "recall fresh"
MOST_ASKED = 200  # fresh items of which a condition is asked: more than any list has places for them
_ROUND = 1e-9  # a share of 0.29 of 100 places is 29 of them


@dataclass(frozen=True)
class Fresh:
    """The fresh rows of a service.

    Attributes:
        layer: the rows as this process sees them.
        writer: takes new ones.
        towers: of the release, by side.
        sql: asks the table that the profile names; None: it names none.
    """

    layer: Layer
    writer: Writer
    towers: Mapping[str, Tower]
    sql: SqlRecall | None = None

    def blended(self, answer: Answer, told: Sequence[object]) -> Answer:
        """The answer with fresh items in their share of its places.

        Args:
            answer: of the release.
            told: ids of items that the user touched since.
        """
        content, is_told = answer.content, str(answer.asked.user) in self.layer.users
        if not self.layer.has_items and not is_told and not self.sql:
            return answer
        budget = Budget(answer.engine.usual)
        made = budget.make(STEP, lambda: self._made(answer, told, budget)) or content
        if budget.left_out:
            left_out = [*content.get("left_out", ()), *(f"{step}: {why}" for step, why in budget.left_out.items())]
            made = {**made, "served_by": "degraded", "left_out": left_out}
        return answer if made == content else replace(answer, content=made, before_fresh=content)

    def _made(self, answer: Answer, told: Sequence[object], budget: Budget) -> dict[str, Any]:
        """The content with fresh items; that of a told user of whom the release knows nothing is by their features."""
        count = math.floor(share_of(answer) * answer.asked.wish.size + _ROUND)
        by_row = answer.content["served_by"] == "popular" and str(answer.asked.user) in self.layer.users
        vector = self._vector(answer) if count or by_row else None
        if vector is None:
            return answer.content
        if by_row:
            by_features = {"served_by": "features", "items": _by_features(answer, vector)}
            answer = replace(answer, content=answer.content | by_features)
        rows, barred = list[Row](), _barred(answer, told)
        for channel, nearest in self._nearest(vector, barred, budget) if count else ():
            keys, scores = self._allowed(answer, *nearest)
            rows += self._described(answer, channel, keys[: count - len(rows)], scores)
            if len(rows) == count:
                break
        listed = placed(answer.content["items"], rows, share_of(answer), answer.asked.wish.size)
        return answer.content | {"items": listed}

    def _nearest(
        self, vector: Vectors, barred: set[str], budget: Budget
    ) -> Iterator[tuple[str, tuple[list[str], list[float]]]]:
        """Channels, the first one first, with the keys of their items and the products with a vector (D,)."""
        found = budget.make(SQL_STEP, partial(self.sql, vector)) if self.sql else None
        if found is None:
            yield FRESH, self.layer.nearest(vector, MOST_ASKED, barred)
            yield COLD, self.layer.nearest_cold(vector, MOST_ASKED, barred)
            return
        keys = [key for key in found if key not in barred and not self.layer.is_withdrawn(key)]
        yield SQL, (keys, [found[key] for key in keys])

    def _vector(self, answer: Answer) -> Vectors | None:
        """(D,) the vector of the user, from all that is known of them; None without the model's towers."""
        engine, asked = answer.engine, answer.asked
        channel = engine.funnel.channels.get(engine.fresh_model)
        if not isinstance(channel, ByVector) or channel.encode is None:
            return None
        if answer.found:
            events, queries = answer.found.events, answer.found.asked
        else:
            events, queries = engine.ask(None, Person(engine.people.newcomer, asked.told, State.BEYOND), asked.wish)
        line = self.layer.users.get(str(asked.user))
        if line is not None and "users" in self.towers:
            return self._told_user(line, events, queries)
        found: Vectors = channel.encode(events, queries)[0]
        return found

    def _told_user(self, line: str, events: Interactions, queries: Queries) -> Vectors:
        """(D,) the vector of a told user: the features of the told row, and the history."""
        tower = self.towers["users"].encode
        length = next(each.length for each in tower.inputs if each.name == HISTORY)
        past = events.item_ids[events.items[queries.starts[0] : queries.ends[0]]][-length:]
        table = self.layer.typed("users", [line]).append_column(
            HISTORY, list_array(pa.array(past), np.array([len(past)]))
        )
        found: Vectors = vectors_of(tower, table)[0]
        return found

    def _allowed(self, answer: Answer, keys: list[str], scores: list[float]) -> tuple[list[str], list[float]]:
        """The items that meet the conditions of the scene and of the request, and its list of ids."""
        stage, restrict = answer.asked.stage, answer.asked.body.restrict
        kept = np.ones(len(keys), bool)
        if isinstance(restrict, list):
            only = set(map(str, restrict))
            kept &= np.array([key in only for key in keys], bool)
        conditions = [stage.scene.filter if stage else None, restrict if isinstance(restrict, str) else None]
        for condition in filter(None, conditions if len(keys) else []):
            kept &= passing(self._table(answer.engine, keys), condition, columns_of(answer.engine.profile))
        places = np.flatnonzero(kept).tolist()
        return [keys[each] for each in places], [scores[each] for each in places]

    def _table(self, engine: Engine, keys: Sequence[str]) -> pa.Table:
        """The rows of items, told, cold or of the release; what is not known of one is a missing value."""
        ours = [key for key in keys if self.layer.knows(key)]
        others = [key for key in keys if not self.layer.knows(key)]
        numbers = engine.numbers(ids_of(others, engine.log.item_ids).tolist())
        of_release = [key for key, number in zip(others, numbers, strict=True) if number >= 0]
        tables = [self.layer.rows(ours), engine.items.take(pa.array(numbers[numbers >= 0]))]
        place = {key: number for number, key in enumerate([*ours, *of_release])}
        rows = pa.concat_tables(tables, promote_options="permissive")
        return rows.take(pa.array([place.get(key) for key in keys], pa.int64()))

    def _described(self, answer: Answer, channel: str, keys: list[str], scores: list[float]) -> list[Row]:
        """The items of a channel as rows of a list, with the columns that the request asks for."""
        engine, body = answer.engine, answer.asked.body
        rows: list[Row] = [
            {"item_id": item_id, "score": score, "channels": [channel], "probability": None}
            for item_id, score in zip(ids_of(keys, engine.log.item_ids).tolist(), scores, strict=False)
        ]
        if body.explain:
            for place, row in enumerate(rows, 1):
                row["explain"] = {"fused": None, "channels": {channel: {"place": place, "score": row["score"]}}}
        if not body.fields or not rows:
            return rows
        more = self._table(engine, keys).select(body.fields).to_pylist()
        return [{**row, **each} for row, each in zip(rows, more, strict=True)]


def _by_features(answer: Answer, vector: Vectors) -> list[Row]:
    """The items of the release that are nearest to a user, as the scene arranges them."""
    engine, asked = answer.engine, answer.asked
    wish, model = replace(asked.wish, budget=None), engine.fresh_model

    def ask(each: Wish) -> list[Row]:
        return engine.nearest(model, vector, asked.told, each)

    rows = listing(engine, asked.stage, wish, lambda: asked.told.items, ask) if asked.stage else ask(wish)
    return with_fields(engine, rows, asked.body.fields)


def share_of(answer: Answer) -> float:
    """The share of the places of a list that is for fresh items."""
    stage = answer.asked.stage
    if stage and stage.scene.fresh is not None:
        return stage.scene.fresh
    return answer.engine.profile.fresh.share


def placed(rows: Sequence[Row], fresh: Sequence[Row], share: float, size: int) -> list[Row]:
    """A list with fresh items: one takes the next place when fewer are listed than the share of the places so far.

    Pinned items keep their places; the others move back. Where these end, the rest of the fresh items follow.
    """
    pinned = {place: row for place, row in enumerate(rows) if "pinned" in row["channels"]}
    coming, others = iter(fresh), iter([row for place, row in enumerate(rows) if place not in pinned])
    listed, taken = list[Row](), 0
    for place in range(size):
        is_due = place not in pinned and math.floor(share * (place + 1) + _ROUND) > taken
        found = pinned.get(place) or (is_due and next(coming, None)) or next(others, None) or next(coming, None)
        if not found:
            break
        taken += bool({FRESH, COLD, SQL} & set(found["channels"]))
        listed.append(found)
    return listed


def _barred(answer: Answer, told: Sequence[object]) -> set[str]:
    """Keys of the items that must not be listed: those that are listed already, hidden, blocked, or seen."""
    asked = answer.asked
    seen: Iterator[object] = iter(told if answer.engine.funnel.filter_seen else ())
    blocked = asked.stage.scene.blocked if asked.stage else ()
    listed = (row["item_id"] for row in answer.content["items"])
    history = answer.found.history.items if answer.found and answer.engine.funnel.filter_seen else asked.told.items
    before = answer.engine.log.item_ids[history].tolist()
    return {str(each) for part in (seen, blocked, listed, asked.body.exclude, before) for each in part}
