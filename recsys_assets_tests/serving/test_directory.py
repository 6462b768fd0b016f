"""Looking users and items up: what is found is what the tables hold, in a stated order."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from recsys_assets.serving.engine import Engine
from recsys_assets_tests.helpers.worlds import DAY, World


def test_a_user_s_history_is_that_of_the_log_newest_first(world: World, engine: Engine, client: TestClient) -> None:
    user = engine.log.user_ids[[4]].tolist()[0]
    rows = [row for row in world.table("splits").to_pylist() if row["user_id"] == user]
    newest = sorted(rows, key=lambda row: -row["position"])
    titles = {row["item_id"]: row["title"] for row in world.table("items").to_pylist()}
    found = client.get(f"/users/{user}?size=7&fields=title").json()
    assert (found["release"], found["bizdate"], found["user_id"], found["known"]) == (7, DAY, user, True)
    assert found["events"] == len(rows)
    assert [(each["item_id"], each["label"]) for each in found["history"]] == [
        (row["item_id"], row["label"]) for row in newest[:7]
    ]
    assert all(each["title"] == titles[each["item_id"]] for each in found["history"])


def test_an_unknown_user_is_said_to_be_unknown(client: TestClient) -> None:
    found = client.get("/users/987654321").json()
    assert (found["known"], found["events"], found["history"]) == (False, 0, [])


def test_a_sample_of_users_depends_on_its_seed_alone(engine: Engine, client: TestClient) -> None:
    def drawn(seed: int) -> list[int]:
        users: list[int] = client.get(f"/users?sample=5&seed={seed}").json()["users"]
        return users

    assert drawn(1) == drawn(1) != drawn(2)
    assert len(set(drawn(1))) == 5
    assert set(drawn(1)) <= set(engine.log.user_ids.tolist())


def test_items_are_found_by_a_part_of_their_title_and_by_their_id(world: World, client: TestClient) -> None:
    titles = {row["item_id"]: row["title"] for row in world.table("items").to_pylist()}
    item, title = next(iter(titles.items()))
    part = title[1:4].swapcase()
    found = client.get("/items", params={"query": part, "size": 200, "fields": "title"}).json()["items"]
    assert {each["item_id"] for each in found} == {id_ for id_, text in titles.items() if part.lower() in text.lower()}

    def order(each: dict[str, Any]) -> tuple[bool, int, int]:
        text = each["title"]
        return not text.lower().startswith(part.lower()), len(text), each["item_id"]

    assert found == sorted(found, key=order)
    assert client.get("/items", params={"query": title, "size": 1}).json()["items"] == [{"item_id": item}]
    assert client.get("/items", params={"query": str(item)}).json()["items"][0] == {"item_id": item}
    assert client.get("/items", params={"query": "no such title"}).json()["items"] == []
    assert len(client.get("/items", params={"query": "e", "size": 3}).json()["items"]) == 3


def test_the_release_says_what_it_holds(engine: Engine, client: TestClient) -> None:
    found = client.get("/release").json()
    assert (found["release"], found["bizdate"], found["model"]) == (7, DAY, f"lgbm/{DAY}")
    assert (found["users"], found["items"]) == (len(engine.log.user_ids), len(engine.log.item_ids))
    assert found["fields"]["title"] == "string"
    assert "popularity" in found["channels"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/users/x", "user_id: ids are whole numbers"),
        ("/users/1?fields=secret", "no column 'secret'"),
        ("/users?sample=101", "less than or equal to 100"),
        ("/users?seed=-1", "greater than or equal to 0"),
        ("/items", "query: Field required"),
        ("/items?query=", "at least 1 character"),
        ("/items?query=e&size=0", "greater than or equal to 1"),
    ],
)
def test_a_look_up_that_cannot_be_answered_is_explained(client: TestClient, path: str, said: str) -> None:
    found = client.get(path)
    assert found.status_code == 422
    assert said in found.json()["detail"]
