"""`POST /events` on the served world: the next answer follows, and what is not an event is explained."""

import datetime as dt
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.helpers.told_events import Event, telling
from recsys_assets_tests.helpers.worlds import DAY, World


@pytest.fixture
def told_client(world: World, engine: Engine) -> Iterator[TestClient]:
    with telling(world.profile) as tell:
        service = Service(Opened(7, engine, Book()), tell.told)
        yield TestClient(create_app(service))


def listed(client: TestClient, user: int, **more: object) -> list[int]:
    answer = client.post("/recommend", json={"user_id": user, "size": 10, **more}).json()
    return [row["item_id"] for row in answer["items"]]


def test_a_told_event_changes_the_next_answer_as_the_same_history_would(
    told_client: TestClient, engine: Engine
) -> None:
    changed = 0
    for user in engine.log.user_ids[:20].tolist():
        before = listed(told_client, user)
        history = [{"item_id": before[0], "label": 1}, {"item_id": before[1], "label": 0}]
        expected = listed(told_client, user, history=history)
        told = [{"user_id": user, "item_id": item, "rating": 5 - 4 * n} for n, item in enumerate(before[:2])]
        answer = told_client.post("/events", json={"events": told})
        assert (answer.status_code, answer.json()["new"]) == (200, 2)
        after = listed(told_client, user)
        assert after == expected
        assert not set(before[:2]) & set(after)
        assert listed(told_client, user, judged=True) == listed(told_client, user, judged=True, history=[])
        changed += after[:8] != before[2:]
    assert changed > 10
    assert "recsys_told_events_total 40.0\n" in told_client.get("/metrics").text


def test_events_of_days_that_the_release_knows_are_not_applied_again(told_client: TestClient, engine: Engine) -> None:
    user = engine.log.user_ids[[30]].tolist()[0]
    before = listed(told_client, user)
    event = {"user_id": user, "item_id": before[0], "rating": 5, "timestamp": f"{DAY}T23:59:59Z"}
    assert told_client.post("/events", json={"events": [event]}).status_code == 200
    assert listed(told_client, user) == before
    event["timestamp"] = str(dt.date.fromisoformat(DAY) + dt.timedelta(days=1))
    assert told_client.post("/events", json={"events": [event]}).status_code == 200
    assert before[0] not in listed(told_client, user)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"events": []}', "send 1 to 1,000 events"),
        (b"{}", "send 1 to 1,000 events"),
        (b'{"events": [%s]}' % b",".join([b"{}"] * 1001), "at most 1000 items"),
        (b'{"events": [[1]]}', "events.0: Input should be a valid dictionary"),
        (b'{"events": [{"user_id": 1}], "table": "users"}', "table: Extra inputs are not permitted"),
        (b'{"impressions": [{"user_id": 1}]}', "impressions: this data set has no table of impressions"),
        (b'{"events": [{"user_id": 123456789, "item_id": 1, "rating": 5}]}', "events.0: user_id is unknown"),
        (b'{"events": [{"user_id": 1, "item_id": NaN, "rating": 5}]}', "events.0: a value is not one"),
        (b'{"events": [{"user_id": %s}]}' % (b"9" * 1_000_000), ""),
        (b'{"events": [{"user_id": "%s"}]}' % (b"9" * 1_000_000), "user_id is not of type int64"),
        (b'{"events": [{"user_id": %s}]}' % (b"[" * 100_000 + b"]" * 100_000), ""),
        (b'{"events": [{"user_id": "\\u0000\\u0001\\r\\n", "item_id": 1}]}', "NUL"),
        (b'{"events": [{"user_id": "\\u0001\\r\\n", "item_id": 1}]}', "user_id is not of type int64"),
        (b'{"events": [{"user_id": 1, "item_id": "\\ud800"}]}', "events.0: a value is not one"),
        (b'{"events": [{"user_id": 1, "__proto__": 1}]}', "events.0: there is no column '__proto__'"),
    ],
)
def test_hostile_events_are_explained(told_client: TestClient, body: bytes, said: str) -> None:
    answer = told_client.post("/events", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in answer.json()["detail"]


def test_a_newcomer_who_may_be_kept_gets_a_personal_list(world: World, engine: Engine) -> None:
    keeping = world.profile.model_copy(update={"name": "keeping", "unknown_ids": "keep"})
    item: Event = {"user_id": 10**9, "item_id": engine.log.item_ids[[5]].tolist()[0], "rating": 5}
    with telling(keeping) as tell:
        service = Service(Opened(7, engine, Book()), tell.told)
        client = TestClient(create_app(service))
        assert client.post("/recommend", json={"user_id": 10**9}).json()["served_by"] == "popular"
        tell(item, {**item, "item_id": 10**9})
        assert client.post("/recommend", json={"user_id": 10**9}).json()["served_by"] == "history"
