"""Rows of the request log: answers and all that they were made from, as a table of typed columns.

docs/request_log.md describes the columns.
"""

import datetime as dt
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from recsys_assets.arrays import Ids, list_array
from recsys_assets.funnel.model import Scored
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.respond import Answer

OF_THE_MOMENT = ("request_id", "steps")  # keys of an answer that differ from one time to the next

_OF_CHANNELS = "candidates.list.element.channels.list.element"
# The columns whose values repeat. A dictionary of the others costs a third of the time, and makes files larger.
REPEATED = [
    *("release", "bizdate", "fingerprint", "model", "served_by", "scene", "rules", "context"),
    *(f"{_OF_CHANNELS}.{name}" for name in ("channel", "place", "score")),
]


@dataclass(frozen=True)
class Logged:
    """An answer, the id that the caller got with it, when (UTC), and the seconds that it took with its wait."""

    request_id: str
    time: dt.datetime
    answer: Answer
    seconds: float


def digest(content: Mapping[str, Any]) -> str:
    """A hash of the bytes of an answer, without what is of the moment."""
    lasting = {key: value for key, value in content.items() if key not in OF_THE_MOMENT}
    return hashlib.blake2b(orjson.dumps(lasting), digest_size=16).hexdigest()


def log_table(engine: Engine, logged: Sequence[Logged]) -> pa.Table:
    """One row for each answer (N,) of a release."""
    answers = [each.answer for each in logged]
    contents = [each.content for each in answers]
    of_release = [each.before_fresh or each.content for each in answers]  # which can be answered again
    columns = {
        "request_id": pa.array([each.request_id for each in logged], pa.string()),
        "time": pa.array([each.time for each in logged], pa.timestamp("us", "UTC")),
        "milliseconds": pa.array([1000 * each.seconds for each in logged], pa.float32()),
        "release": pa.array([each.number for each in answers], pa.int64()),
        "bizdate": _texts([engine.bizdate] * len(answers)),
        "fingerprint": _texts([engine.fingerprint] * len(answers)),
        "model": _texts([each["model"] for each in contents]),
        "served_by": _texts([each["served_by"] for each in contents]),
        "scene": _texts([each["scene"] for each in contents]),
        "variants": pa.array([list(each["variants"].items()) for each in contents], pa.map_(pa.string(), pa.string())),
        "chances": pa.array([list(each.asked.chances.items()) for each in answers], pa.map_(pa.string(), pa.float64())),
        "rules": _texts([each.asked.rules for each in answers]),
        "left_out": pa.array([each.get("left_out", []) for each in of_release], pa.list_(pa.string())),
        "user_id": pa.array([each.asked.user for each in answers], _type_of(engine.log.user_ids)),
        "request": _texts([_canonical(each.asked.body.model_dump(exclude_defaults=True)) for each in answers]),
        "context": _texts([_canonical(each.asked.wish.context) for each in answers]),
        "told": _told(engine, answers),
        "candidates": _candidates(engine, answers),
        "items": _items(engine, contents, [math.prod(each.asked.chances.values()) for each in answers]),
        "answer": _texts([digest(each) for each in of_release]),
    }
    return pa.table(columns)


def _told(engine: Engine, answers: Sequence[Answer]) -> pa.ListArray:
    """The events of each request that follow those of the release, oldest first."""
    told = [each.asked.told for each in answers]
    items, labels, weights = (
        np.concatenate([getattr(each, name) for each in told]) for name in ("items", "labels", "weights")
    )
    events = {"item_id": pa.array(engine.log.item_ids[items]), "label": labels, "weight": weights}
    return list_array(pa.StructArray.from_arrays(list(events.values()), names=list(events)), _sizes(told))


def _candidates(engine: Engine, answers: Sequence[Answer]) -> pa.ListArray:
    """The candidates of each answer, ascending by the item's number; none for one that is not personal."""
    scored = [each.found.lists.scored for each in answers if each.found]
    items = np.concatenate([np.empty(0, np.int64), *(each.candidates.item for each in scored)])
    numbers = {
        name: np.concatenate([np.empty(0, np.float32), *(getattr(each, source) for each in scored)])
        for name, source in (("fused", "fused"), ("probability", "probabilities"), ("score", "scores"))
    }
    columns = {
        "item_id": pa.array(engine.log.item_ids[items]),
        **{name: pa.array(each, pa.float32(), from_pandas=True) for name, each in numbers.items()},
        "channels": _channels(scored),
    }
    sizes = np.array([len(each.found.lists.scored.candidates) if each.found else 0 for each in answers])
    return list_array(pa.StructArray.from_arrays(list(columns.values()), names=list(columns)), sizes)


def _channels(scored: Sequence[Scored]) -> pa.ListArray:
    """The channels that list each candidate, with its place, from 1, and its scaled score there."""
    names: list[pa.Array] = [pa.array([], pa.string())]
    places, scores, sizes = [np.empty(0, np.float32)], [np.empty(0, np.float32)], [np.empty(0, np.int64)]
    for each in scored:
        there = ~np.isnan(each.candidates.places)
        names.append(pa.array(each.channels, pa.string()).take(pa.array(np.nonzero(there)[1])))
        places.append(each.candidates.places[there])
        scores.append(each.candidates.scores[there])
        sizes.append(there.sum(axis=1))
    columns = {
        "channel": pa.concat_arrays(names),
        "place": pa.array(np.concatenate(places).astype(np.uint16)),
        "score": pa.array(np.concatenate(scores)),
    }
    entries = pa.StructArray.from_arrays(list(columns.values()), names=list(columns))
    return list_array(entries, np.concatenate(sizes))


def _items(engine: Engine, contents: Sequence[Mapping[str, Any]], propensities: Sequence[float]) -> pa.ListArray:
    """The list that each caller got, in its order, and the probability (N,) of the draws that made it."""
    lists = [each["items"] for each in contents]
    sizes = _sizes(lists)
    rows = [row for each in lists for row in each]
    positions = [np.empty(0, np.uint16), *(np.arange(1, 1 + len(each), dtype=np.uint16) for each in lists)]
    columns = {
        "position": pa.array(np.concatenate(positions)),
        "item_id": pa.array([row["item_id"] for row in rows], _type_of(engine.log.item_ids)),
        "score": pa.array([row["score"] for row in rows], pa.float32()),
        "probability": pa.array([row.get("probability") for row in rows], pa.float32()),
        "propensity": pa.array(np.repeat(np.asarray(propensities, np.float32), sizes)),
    }
    return list_array(pa.StructArray.from_arrays(list(columns.values()), names=list(columns)), sizes)


def _type_of(ids: Ids) -> pa.DataType:
    return pa.array(ids[:0]).type if ids.dtype != object else pa.string()


def _texts(values: Sequence[str | None]) -> pa.Array:
    return pa.array(values, pa.string())


def _sizes(lists: Sequence[Any]) -> Any:
    return np.array([len(each) for each in lists])


def _canonical(content: Mapping[str, Any]) -> str:
    """JSON with sorted keys and without spaces."""
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()
