"""The check `serving_parity`, asked of a real server: it finds a service that does not answer as the report says."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from recsys_assets.assets.publish import serving_parity
from recsys_assets.assets.publish.serving_parity import (
    Running,
    ask_users,
    difference,
    drawn,
    hidden_items,
    online_items,
    running_service,
)
from recsys_assets.assets.reports.funnel_report import RECOMMENDATIONS
from recsys_assets.datasets.ingest import ROWS
from recsys_assets.datasets.profile import load_profile
from recsys_assets.own_service import NotServed
from recsys_assets.serving.app import create_app
from recsys_assets.serving.engine import Engine
from recsys_assets.serving.scenes.book import Book
from recsys_assets.serving.service import Opened, Service
from recsys_assets_tests.helpers.worlds import World


@pytest.fixture(scope="module")
def running(engine: Engine) -> Iterator[Running]:
    service = Service(Opened(7, engine, Book()))
    server = uvicorn.Server(uvicorn.Config(create_app(service), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield Running(server.servers[0].sockets[0].getsockname()[1], "")
    server.should_exit = True
    thread.join()


@pytest.mark.fails_check("mongo_release:serving_parity")
def test_the_service_is_compared_with_the_report_and_with_the_online_rows(
    world: World, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving_parity, "MOST_USERS", 30)
    rows, online = drawn(world.table("funnel_report", RECOMMENDATIONS)), online_items(world.read("splits").path(ROWS))
    assert len(rows) == 30
    assert all(len(online[row["user_id"]]) for row in rows)
    found = ask_users(running, rows, online)
    assert (found.users, found.different, found.seen, len(found.seconds)) == (30, 0, 0, 60)
    swapped: list[dict[str, Any]] = [
        {**row, "items": [row["items"][1], row["items"][0], *row["items"][2:]]} for row in rows
    ]
    shown = {row["user_id"]: {each["item_id"] for each in row["items"]} for row in rows}
    found = ask_users(running, swapped, shown)
    assert found.different > 25
    assert found.seen > 25
    assert f"user {swapped[0]['user_id']}: place 1 has item" in found.metadata()["examples"]


def test_where_people_come_back_a_live_list_may_hold_what_was_seen(world: World) -> None:
    splits, profile = world.read("splits").path(ROWS), load_profile()
    assert hidden_items(profile, splits) == online_items(splits) != {}
    back = profile.model_copy(update={"recall": profile.recall.model_copy(update={"filter_seen": False})})
    assert hidden_items(back, splits) == {}


def test_only_items_of_equal_scores_may_change_places() -> None:
    before = [{"item_id": item, "score": score} for item, score in ((5, 0.9), (3, 0.5), (4, 0.5 - 1e-7), (9, 0.1))]
    order = [before[place] for place in (0, 2, 1, 3)]
    assert difference(before, order) == ""
    assert difference(before, [before[place] for place in (1, 0, 2, 3)]) == "place 1 has item 3 instead of 5"
    assert difference(before, before[:3]) == "3 items instead of 4"
    assert difference(before, [*before[:3], before[2]]) == "3 items instead of 4"
    assert difference(before, [*before[:3], {"item_id": 9, "score": 0.2}]).startswith("item 9 has the score 0.2")


def test_a_service_that_does_not_start_says_why() -> None:
    with pytest.raises(NotServed, match="no profile"), running_service("no_such_profile"):
        pass
