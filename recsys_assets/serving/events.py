"""`POST /events`: what happened, told by the service's clients, kept at once and landed for the next partition."""

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from recsys_assets.datasets.disk import PlaceUnwritable
from recsys_assets.datasets.profile import Profile
from recsys_assets.datasets.profile_parts import TableName
from recsys_assets.datasets.text_files import landed_names
from recsys_assets.serving.answer_forms import ToldAnswer
from recsys_assets.serving.answers import answer
from recsys_assets.serving.interface import EVENTS, answers_of
from recsys_assets.serving.metrics import Metrics
from recsys_assets.serving.requests import MOST_EVENTS, Body, Problem
from recsys_assets.serving.service import Service
from recsys_assets.serving.told_writer import Call, Refused, Row, TooMany

EVENT_ID, LONGEST_ID = "event_id", 200  # letters
_SOURCES: dict[str, TableName] = {"events": "interactions", "impressions": "impressions"}
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True).encode


class EventsBody(Body):
    """Rows of events and impressions, of which all are kept, or none.

    Attributes:
        events: rows of the table `interactions`, with the names that columns have in landing files. `event_id` makes
            it safe to send an event again; a timestamp that is left out is the present one.
        impressions: in the same way, rows of the table `impressions`, if the profile has one.
    """

    events: list[dict[str, Any]] = Field(default=[], max_length=MOST_EVENTS)
    impressions: list[dict[str, Any]] = Field(default=[], max_length=MOST_EVENTS)

    @model_validator(mode="after")
    def _has_some(self) -> "EventsBody":
        if not 1 <= len(self.events) + len(self.impressions) <= MOST_EVENTS:
            raise ValueError(f"send 1 to {MOST_EVENTS:,} events and impressions")
        return self


def events_routes(service: Service, metrics: Metrics) -> APIRouter:
    """The route over a service, whose new events are counted."""
    routes = APIRouter(tags=[EVENTS])

    @routes.post("/events", responses=answers_of(ToldAnswer))
    async def tell(body: EventsBody) -> Response:
        """Keep events: they count from the next request on, and land in the files of their day."""
        engine = service.opened.engine
        call = Call(list(rows_of(engine.profile, body)), service.known_ids(engine))
        try:
            found = await asyncio.wrap_future(service.told.tell(call))
        except Refused as refusal:
            raise Problem(422, str(refusal)) from None
        except (TooMany, PlaceUnwritable) as error:
            raise Problem(503, str(error)) from None
        ids = [{"event_id": each.event_id, "user_id": each.user_id} for each in found.events]
        events = len(body.events)
        metrics.told(found.new)
        return answer({"new": found.new, "events": ids[:events], "impressions": ids[events:]})

    return routes


def rows_of(profile: Profile, body: EventsBody) -> Iterator[Row]:
    """The events of a request, as the writer takes them.

    Raises:
        Problem: an event has a key that the profile does not have, an unfit id, or a value that is not text.
    """
    for key, source in _SOURCES.items():
        events: list[dict[str, Any]] = getattr(body, key)
        if events and source not in profile.tables:
            raise Problem(422, f"{key}: this data set has no table of impressions")
        columns = profile.tables.get(source, {})
        known = dict(zip(columns, landed_names(columns), strict=True))
        for place, event in enumerate(events):
            yield _row(source, f"{key}.{place}", known, event)


def _row(source: TableName, place: str, known: Mapping[str, str], event: dict[str, Any]) -> Row:
    """One event; `known` has the names of the profile's columns in landing files."""
    content = event.copy()
    given = content.get(EVENT_ID, "") if EVENT_ID in known.values() else content.pop(EVENT_ID, "")
    if not content.keys() <= set(known.values()):
        first, names = min(content.keys() - known.values()), ", ".join(known.values())
        raise Problem(422, f"{place}: there is no column {first[:100]!r}; there are {names}")
    line = line_of(content, place)
    try:
        event_id = _event_id(given)
    except ValueError:
        raise Problem(422, f"{place}: a value is not one that can be kept as JSON") from None
    if len(event_id) > LONGEST_ID or "\0" in event_id or "\\u0000" in line:
        raise Problem(422, f"{place}: event_id has at most {LONGEST_ID} letters, and no text has the sign NUL")
    digest = hashlib.sha256(line.encode()).hexdigest()
    return Row(source, place, line, digest, event_id, content.get(known["timestamp"]) not in (None, ""))


def line_of(content: Mapping[str, Any], place: str) -> str:
    """A row of a request as one line of JSON.

    Raises:
        Problem: it holds NaN, half a surrogate pair, an integer of thousands of digits, or deep lists.
    """
    try:
        line = _encode(content)
        line.encode()
    except (ValueError, RecursionError):
        raise Problem(422, f"{place}: a value is not one that can be kept as JSON") from None
    return line


def _event_id(given: object) -> str:
    """The id of an event as text.

    Raises:
        ValueError: it is neither a text nor a whole number.
    """
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise ValueError("an id is a text or a whole number")
    return given.encode().decode() if isinstance(given, str) else str(given)
