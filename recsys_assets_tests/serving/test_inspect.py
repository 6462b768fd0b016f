"""Routes that show the steps of the funnel agree with it: /recall, /score, and the explanations of a list."""

import math
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from recsys_assets.serving.engine import Engine, Wish
from recsys_assets.serving.explain import explained
from recsys_assets_tests.helpers.worlds import World

Answer = dict[str, Any]


def ids(rows: list[Answer]) -> list[int]:
    return [row["item_id"] for row in rows]


@pytest.fixture(scope="module")
def user(engine: Engine) -> int:
    (found,) = engine.log.user_ids[[4]].tolist()
    return int(found)


def post(client: TestClient, path: str, **body: Any) -> Answer:
    found = client.post(path, json=body)
    assert found.status_code == 200, found.text
    answer: Answer = found.json()
    return answer


def test_the_candidates_are_those_that_the_report_judges(engine: Engine, client: TestClient) -> None:
    users = np.array([3, 40, 71])
    _, lists = engine.funnel.lists_of(users)
    for row, user in enumerate(engine.log.user_ids[users].tolist()):
        found = post(client, "/recall", user_id=user, judged=True)["channels"]
        assert list(found) == list(engine.funnel.channels)
        for name, listed in lists.channels.items():
            there = listed.items[row] >= 0
            assert ids(found[name]) == engine.log.item_ids[listed.items[row][there]].tolist()
            assert [each["score"] for each in found[name]] == pytest.approx(
                listed.scores[row][there].tolist(), abs=1e-5
            )
    some = post(client, "/recall", user_id=user, k=5, channels=["swing", "term"], exclude=ids(found["term"])[:2])
    assert {name: len(each) for name, each in some["channels"].items()} == {"swing": 5, "term": 5}
    assert not set(ids(found["term"])[:2]) & set(ids(some["channels"]["term"]))


def test_the_users_own_list_keeps_its_order_and_scores(engine: Engine, client: TestClient, user: int) -> None:
    told = [{"item_id": int(item)} for item in engine.log.item_ids[:2]]
    for asked in ({"user_id": user}, {"user_id": user, "judged": True}, {"history": told}):
        final = post(client, "/recommend", **asked)["items"]
        found = post(client, "/score", **asked, item_ids=sorted(ids(final)))
        assert found["ordered_by"] == ("learned order" if engine.funnel.model.order else "merge")
        assert ids(found["items"]) == ids(final)
        assert [each["score"] for each in found["items"]] == [each["score"] for each in final]
        assert [each["probability"] for each in found["items"]] == [each["probability"] for each in final]


def test_items_that_are_no_candidates_are_ordered_by_the_ranker(engine: Engine, client: TestClient, user: int) -> None:
    final = post(client, "/recommend", user_id=user)["items"]
    (seen,) = engine.log.item_ids[engine.people(user).history.items[:1]].tolist()
    found = post(client, "/score", user_id=user, item_ids=[seen, *ids(final), 10**6])
    assert (found["ordered_by"], found["unknown"]) == ("ranker", [10**6])
    assert set(ids(found["items"])) == {seen, *ids(final)}
    scores = [each["score"] for each in found["items"]]
    assert scores == sorted(scores, reverse=True)
    likely = {each["item_id"]: each["probability"] for each in found["items"]}
    assert [likely[each["item_id"]] for each in final] == pytest.approx(
        [each["probability"] for each in final], abs=1e-6
    )


def test_rows_of_features_get_what_the_onnx_file_gives(world: World, engine: Engine, client: TestClient) -> None:
    ranker = engine.funnel.known.ranker
    assert ranker
    table = world.part("rank_samples", "test").slice(0, 100)
    names = [feature.name for feature in ranker.schema.features]
    rows = [{name: plain(row[name]) for name in names} for row in table.to_pylist()]
    found = post(client, "/score", features=rows)["probabilities"]
    assert found == ranker.at_once(table).tolist()
    assert len(set(found)) > 10


def plain(value: Any) -> Any:
    """The value as JSON has it: null for what is not a number."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def test_an_explanation_names_what_the_user_touched_and_the_terms(
    engine: Engine, client: TestClient, user: int
) -> None:
    asked = {"user_id": user, "size": 30, "fields": ["genres"]}
    lean, found = post(client, "/recommend", **asked), post(client, "/recommend", **asked, explain=True)
    touched = set(engine.log.item_ids[engine.people(user).history.items].tolist())
    assert [{name: value for name, value in row.items() if name != "explain"} for row in found["items"]] == lean[
        "items"
    ]
    assert {"recall popularity", "features and scores"} <= found["steps"].keys()
    recalled = post(client, "/recall", user_id=user)["channels"]
    for row in found["items"]:
        channels = row["explain"]["channels"]
        assert set(channels) == set(row["channels"])
        for name, entry in channels.items():
            there = recalled[name][entry["place"] - 1]
            assert (there["item_id"], there["score"]) == (row["item_id"], entry["score"])
        for name in {"itemcf", "swing"} & channels.keys():
            assert 1 <= len(channels[name]["items"]) <= 3
            assert set(channels[name]["items"]) <= touched
        if "term" in channels:
            assert channels["term"]["terms"]
            assert set(channels["term"]["terms"]) <= set(row["genres"])
        assert 0 < row["explain"]["fused"] <= len(channels)
    assert "steps" not in lean


def test_the_touched_item_that_gave_most_comes_first(engine: Engine) -> None:
    item = int(engine.log.item_ids[7])
    found = engine.find(None, engine.history([item], [1]), Wish())
    rows = [row for row in explained(engine, [found], engine.rows(found)) if "swing" in row["explain"]["channels"]]
    assert {tuple(row["explain"]["channels"]["swing"]["items"]) for row in rows} == {(item,)}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/recall", {"channels": ["magic"]}, "no channel 'magic'"),
        ("/recall", {"k": 1001}, "less than or equal to 1000"),
        ("/score", {"user_id": 1}, "either `item_ids` or `features`"),
        ("/score", {"user_id": 1, "item_ids": []}, "at least 1 item"),
        ("/score", {"item_ids": ["x"]}, "item_ids: ids are whole numbers"),
        ("/score", {"features": [{}]}, "features: row 0 has no"),
        ("/score", {"features": [{"user_id": "a" * 9}]}, "features: "),
        ("/score", {"features": [{}] * 1001}, "at most 1000 items"),
    ],
)
def test_a_wrong_request_is_explained(client: TestClient, path: str, body: Answer, said: str) -> None:
    found = client.post(path, json=body)
    assert found.status_code == 422
    assert said in found.json()["detail"]
