"""Answers that show the steps of the funnel: the candidates of each channel, and scores of the caller's candidates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from recsys_assets.arrays import Bools, Floats, Ints, find
from recsys_assets.features.raw import widths
from recsys_assets.features.schema import Feature
from recsys_assets.funnel.candidates import Candidates
from recsys_assets.funnel.funnel import describer
from recsys_assets.funnel.known import PROBABILITY
from recsys_assets.serving.engine import Engine, Found, Row
from recsys_assets.serving.people import History
from recsys_assets.serving.requests import Problem, RecallBody, ScoreBody
from recsys_assets.serving.respond import head, typed, user_of, wish_of
from recsys_assets.serving.scenes.book import Book

LEARNED, MERGE, RANKER = "learned order", "merge", "ranker"  # what ordered the caller's candidates
TYPES = {"int64": pa.int64(), "string": pa.string(), "float32": pa.float32()}


def recalled(
    number: int, engine: Engine, book: Book, body: RecallBody, told: History, withdrawn: Bools | None
) -> dict[str, Any]:
    """The candidates of each channel for a user, with the channel's scores, without withdrawn items (I,).

    Raises:
        Problem: the release has no such channel, or as in `wish_of`.
    """
    there = tuple(engine.funnel.channels)
    names = there if body.channels is None else tuple(dict.fromkeys(body.channels))
    if unknown := [name for name in names if name not in there]:
        raise Problem(422, f"channels: this release has no channel '{unknown[0]}': {', '.join(there)}")
    user = user_of(engine, body)
    found = engine.recall(user, told, wish_of(engine, book, body, body.k, withdrawn), names)
    lists = {name: engine.listed(each) for name, each in found.items()}
    return {**head(number, engine), "user_id": user, "channels": lists}


def scored(number: int, engine: Engine, book: Book, body: ScoreBody, told: History) -> dict[str, Any]:
    """Scores of the caller's candidates, which are either items or rows of features.

    Raises:
        Problem: there are neither, or both; there is no ranker; or as in `wish_of`.
    """
    if (body.item_ids is None) == (body.features is None):
        raise Problem(422, "name either `item_ids` or `features`")
    if body.features is not None:
        return {**head(number, engine), "probabilities": _probabilities(engine, body.features)}
    user, wish = user_of(engine, body), wish_of(engine, book, body, 0)
    ids = typed(engine.log.item_ids, body.item_ids or [], "item_ids")
    numbers = engine.numbers(ids)
    unknown = list(dict.fromkeys(each for each, place in zip(ids, numbers, strict=True) if place < 0))
    found = engine.find(user, told, wish)
    by, rows = _ordered(engine, found, np.unique(numbers[numbers >= 0]))
    return {**head(number, engine), "user_id": user, "ordered_by": by, "items": rows, "unknown": unknown}


def _ordered(engine: Engine, found: Found, items: Ints) -> tuple[str, list[Row]]:
    """The name of the order, and the items (n,) in it.

    The learned order knows an item by its places in the channels: it is asked if every item is a candidate.
    """
    known = found.lists.scored
    place = find(known.candidates.item, items)
    if (place >= 0).all():
        by = LEARNED if engine.funnel.model.order else MERGE
        return by, _sorted(engine, items, known.scores[place], known.probabilities[place])
    if engine.funnel.known.ranker is None:
        raise Problem(422, "item_ids: some are no candidates of the user, and this release has no ranker to order them")
    describe = describer(engine.funnel.known, found.users, found.events, found.asked, found.moments)
    none = np.empty((len(items), 0), np.float32)
    likely = describe(Candidates(np.zeros(len(items), np.int64), items, none, none))[PROBABILITY]
    return RANKER, _sorted(engine, items, likely, likely)


def _sorted(engine: Engine, items: Ints, scores: Floats, likely: Floats) -> list[Row]:
    """Rows of items, the highest score first; ties by the item's number."""
    order = np.lexsort((items, -scores))
    shown = [None if np.isnan(each) else each for each in likely[order].tolist()]
    columns = (engine.log.item_ids[items[order]].tolist(), scores[order].tolist(), shown)
    return [dict(zip(("item_id", "score", "probability"), row, strict=True)) for row in zip(*columns, strict=True)]


def _probabilities(engine: Engine, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Probabilities by the champion's ONNX file for rows of raw features, uncorrected."""
    ranker = engine.funnel.known.ranker
    if ranker is None:
        raise Problem(422, "features: this release has no ranker")
    table = pa.table({each.name: _column(each, rows) for each in ranker.schema.features})
    found: list[float] = ranker.at_once(table).tolist()
    return found


def _column(feature: Feature, rows: Sequence[Mapping[str, Any]]) -> pa.Array:
    """A column of the rows; what is absent of the moment is unknown.

    Raises:
        Problem: a row lacks it, or a value is not of its type.
    """
    name, kind = feature.name, TYPES[feature.type]
    if feature.kind in ("multi_valued", "sequence"):
        kind = pa.list_(kind)
    elif widths(feature):
        kind = pa.list_(kind, feature.length)
    if feature.side != "moment" and (lacking := [place for place, row in enumerate(rows) if name not in row]):
        raise Problem(422, f"features: row {lacking[0]} has no '{name}'")
    try:
        return pa.array([row.get(name) for row in rows], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise Problem(422, f"features: a value of '{name}' is not {kind}: {error}") from None
