"""Told events: each is judged as ingest judges rows, found at once, and landed in exactly one file."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from recsys_assets.datasets.profile import Profile
from recsys_assets.serving.requests import Problem
from recsys_assets.serving.told import ToldEvents
from recsys_assets.serving.told_writer import Refused
from recsys_assets_tests.helpers.shop import DAY, GOOD, HEADER, T, csv, put, shop
from recsys_assets_tests.helpers.told_events import Event, Teller, ingested, telling

__all__ = ["shop"]  # a fixture
EVENTS: list[Event] = [dict(zip(HEADER.split(","), row, strict=True)) for row in GOOD]


@pytest.fixture
def tell(shop: Profile) -> Iterator[Teller]:
    with telling(shop) as teller:
        yield teller


def test_the_partition_of_a_day_holds_what_was_told_as_if_the_log_had_had_it_from_the_start(
    shop: Profile, tell: Teller, tmp_path: Path
) -> None:
    put(shop, f"interactions/bizdate={DAY}/events.csv", csv(*(",".join(map(str, row)) for row in GOOD)))
    expected = ingested(shop, tmp_path, DAY)
    (shop.landing / f"interactions/bizdate={DAY}/events.csv").unlink()
    for event in EVENTS[:4]:
        tell(event)
    tell(*EVENTS[4:])
    files = tell.land()
    assert [file.parent.name for file in files] == [f"bizdate={DAY}"]
    assert ingested(shop, tmp_path, DAY) == expected
    assert tell.land() == files
    assert ingested(shop, tmp_path, DAY) == expected


def test_the_events_of_a_user_are_found_by_other_processes_as_soon_as_they_are_acknowledged(tell: Teller) -> None:
    tell({"user_id": 2, "item_id": 11, "rating": 5, "timestamp": T + 9})
    tell({"user_id": 2, "item_id": 12, "rating": 1, "timestamp": T}, {"user_id": 3, "item_id": 13, "rating": 2})
    found = ToldEvents([12, 11], [0, 1], [1.0, 1.0])  # by their moments
    assert tell.told.of(2, "2026-01-04") == found
    assert tell.told.of(2, DAY) == tell.told.of(1, "2026-01-04") == ToldEvents()
    code = (
        "from recsys_assets.datasets.profile import load_profile; from recsys_assets.serving.told import open_told\n"
        "with open_told(load_profile()) as told: print(told.of(2, '2026-01-04'))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == str(found)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"user_id": None}, "user_id is missing"),
        ({"user_id": 10**40}, "user_id is not of type int64"),
        ({"item_id": 2.5}, "item_id is not of type int64"),
        ({"item_id": True}, "item_id is not of type int64"),
        ({"item_id": {"a": [1]}}, "item_id is not of type int64"),
        ({"item_id": "10; DROP TABLE events"}, "item_id is not of type int64"),
        ({"rating": 1e300}, "rating is not of type float32"),
        ({"rating": 7}, "rating is out of bounds"),
        ({"rating": None}, "the label rule gives no answer"),
        ({"timestamp": 5}, "the day is not within 2026-01-01 to "),
        ({"timestamp": 10**15}, "timestamp is not of type timestamp"),
        ({"timestamp": "9999-01-01"}, "the day is not within 2026-01-01 to "),
        ({"user_id": 4}, "user_id is unknown"),
        ({"item_id": 99}, "item_id is unknown"),
        ({"timestamp": T}, "repeats user, item and time"),
        ({"event_id": "first"}, "another event has this event_id"),
    ],
)
def test_what_ingest_would_reject_is_refused_with_its_place_and_nothing_of_the_call_is_kept(
    tell: Teller, bad: Event, reason: str
) -> None:
    first = {"user_id": 1, "item_id": 10, "rating": 5, "timestamp": T}
    known = {"user": np.arange(1, 4), "item": np.arange(10, 14)}
    tell({**first, "event_id": "first"}, known=known)
    with pytest.raises(Refused) as refused:
        tell({**first, "item_id": 11}, {**first, "timestamp": T + 1, **bad}, known=known)
    assert (refused.value.place, refused.value.reason[: len(reason)]) == ("events.1", reason)
    assert tell.told.of(1, "2026-01-04").items == [10]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"colour": "red"}, "events.0: there is no column 'colour'; there are user_id, item_id, rating, timestamp"),
        ({"rating": float("nan")}, "events.0: a value is not one that can be kept as JSON"),
        ({"rating": float("inf")}, "events.0: a value is not one that can be kept as JSON"),
        ({"item_id": "\ud800"}, "events.0: a value is not one that can be kept as JSON"),
        ({"item_id": "\0"}, "events.0: event_id has at most 200 letters, and no text has the sign NUL"),
        ({"event_id": "x" * 201}, "events.0: event_id has at most 200 letters, and no text has the sign NUL"),
        ({"event_id": None}, "events.0: a value is not one that can be kept as JSON"),
        ({"event_id": [1]}, "events.0: a value is not one that can be kept as JSON"),
    ],
)
def test_what_is_not_an_event_is_refused(tell: Teller, event: Event, said: str) -> None:
    with pytest.raises(Problem) as problem:
        tell(event)
    assert (problem.value.status, problem.value.detail) == (422, said)


def test_an_event_that_is_sent_again_is_kept_once(tell: Teller) -> None:
    mine: Event = {"event_id": "a", "user_id": 1, "item_id": 10, "rating": 4}  # its time is that of the first sending
    given: Event = {"user_id": 1, "item_id": 11, "rating": 4, "timestamp": T}
    first = tell(mine, given)
    again = tell(mine, given, {**mine, "event_id": "b"})
    assert (first.new, again.new) == (2, 1)
    assert [each.event_id for each in again.events][:2] == [each.event_id for each in first.events]
    assert first.events[0].event_id == "a"
    assert sorted(tell.told.of(1, "2026-01-01").items) == [10, 10, 11]  # touched twice, and so is the log's view of it


def test_calls_that_come_at_once_are_kept_in_few_commits(tell: Teller) -> None:
    events = [{"user_id": user, "item_id": 10, "rating": 4} for user in range(200)]
    with ThreadPoolExecutor(50) as pool:
        assert sum(answer.new for answer in pool.map(tell, events)) == 200
    with contextlib.closing(tell.database.connect()) as connection:
        ((commits,),) = connection.execute("SELECT count(DISTINCT told) FROM events")
    assert commits < 200
